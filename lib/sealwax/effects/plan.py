"""A plan: an immutable graph of effects, in the order in which they may happen."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import cast

from sealwax.effects.vocabulary import (
    Derive,
    Effect,
    From,
    Place,
    Probe,
    ReadBatch,
    ReadRegions,
    RemoveTree,
    Stage,
    WriteBatch,
    WriteChunks,
)
from sealwax.effects.wording import count, sentence, size

SOURCES = -1
"""The step number that stands for what the operation was called with."""

_MANY = 4096


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One effect of a plan.

    Attributes:
      number: Position in the plan; a step only ever depends on smaller numbers.
      effect: What is to happen.
      after: Steps that must have happened before, besides those whose results are used.
      writes: Bytes that reach storage.
      reads: Bytes that are read from storage.
      holds: Bytes of host memory that the result keeps until its last user is done.
      keeps: Bytes of host memory that become part of what the operation returns.
      staging: Whether the caller must wait for this step before it may go on.
      item: The checkpointable that it is for, where the operation has several.
      leaves: The names of the leaves that its slabs count, where they are not the plan's.
    """

    number: int
    effect: Effect
    after: tuple[int, ...] = ()
    writes: int = 0
    reads: int = 0
    holds: int = 0
    keeps: int = 0
    staging: bool = False
    item: str | None = None
    leaves: tuple[str, ...] = ()

    @property
    def needs(self) -> frozenset[int]:
        """The steps that must be done before this one starts."""
        return frozenset(self.after) | {n for n in uses(self.effect) if n != SOURCES}


@functools.cache
def later_fields(kind: type) -> tuple[str, ...]:
    """The fields of an effect that may hold results of earlier steps.

    The others, some of which have an item for each leaf, need not be looked through.
    """
    fields = dataclasses.fields(kind)
    return tuple([f.name for f in fields if not isinstance(f.type, str) or "Later[" in f.type])


def uses(effect: Effect) -> Iterator[int]:
    """The numbers of the steps whose results an effect contains."""
    for name in later_fields(type(effect)):
        value: object = getattr(effect, name)
        items = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
        for item in items:
            if isinstance(item, From):
                yield item.step


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an operation will do, before it does it.

    A plan is a value: it can be printed, compared, counted and asserted on. ``steps`` make the
    operation; ``undo`` clears up when a step before ``seal`` fails; ``sealed`` says what is true
    after it, where the operation is not complete with it; ``result`` numbers the step whose result
    the operation returns, and ``names`` are the leaves that slabs count.

    >>> from sealwax.effects import MakeDirectory, Plan, Step
    >>> plan = Plan(
    ...     title="example",
    ...     path="/ckpt",
    ...     steps=(Step(number=0, effect=MakeDirectory(path="/ckpt")),),
    ... )
    >>> plan.effects, plan.bytes
    (1, 0)
    """

    title: str
    path: str
    steps: tuple[Step, ...]
    undo: tuple[Effect, ...] = ()
    seal: int | None = None
    result: int | None = None
    names: tuple[str, ...] = ()
    host_budget: int | None = None
    sealed: str | None = None

    @property
    def effects(self) -> int:
        """The number of effects that will be performed; pure steps do not count."""
        return sum(not isinstance(step.effect, Derive) for step in self.steps)

    @property
    def bytes(self) -> int:
        """Bytes that will be written or read, before compression."""
        return sum(step.writes + step.reads for step in self.steps)

    @property
    def peak_host_bytes(self) -> int:
        """The most host memory that the operation will hold, beside what it was given.

        Results are held from the step that makes them to the last one that uses them; within a
        byte budget the rest waits. What a load returns in host memory is part of it. Up to four
        threads work on one chunk each beside it; compressing one takes about three times its size.
        """
        kept = sum(step.keeps for step in self.steps)
        sizes = [step.holds for step in self.steps if step.holds]
        if self.host_budget is None:
            return sum(sizes) + kept
        # What is larger than the budget is held alone.
        largest = max(sizes, default=0)
        return max(largest, _most_within(sizes, self.host_budget)) + kept

    def sentence(self, step: Step) -> str:
        """What a step does, in a few words."""
        return sentence(step.effect, step.leaves or self.names)

    def leaves_of(self, step: Step) -> tuple[str, ...]:
        """The names of the leaves whose data a step moves."""
        match step.effect:
            case (
                Stage(slabs=slabs)
                | Probe(slabs=slabs)
                | WriteBatch(slabs=slabs)
                | WriteChunks(slabs=slabs)
            ):
                known = step.leaves or self.names
                return tuple(dict.fromkeys(known[slab.leaf] for slab in slabs))
            case ReadBatch(leaves=leaves) | ReadRegions(leaves=leaves):
                return leaves
            case Place(arrays=arrays):
                return tuple(array.leaf for array in arrays)
            case _:
                return ()

    def __str__(self) -> str:
        return table(self)


def _most_within(sizes: Sequence[int], budget: int) -> int:
    """The most bytes of some of these sizes together that a budget allows."""
    if sum(sizes) <= budget:
        return sum(sizes)
    sums = {0}
    for nbytes in sizes:
        sums |= {total + nbytes for total in sums if total + nbytes <= budget}
        if len(sums) > _MANY:
            return budget  # Of so many some come close.
    return max(sums)


def table(plan: Plan, limit: int = 40) -> str:
    """Draws a plan as a table; long plans are cut in the middle."""
    temporary = next((u.path for u in plan.undo if isinstance(u, RemoveTree)), None)
    rows = [_row(step, plan, temporary) for step in plan.steps]
    if len(rows) > limit:
        half = limit // 2
        gap = ("", f"... {len(rows) - 2 * half} more steps ...", "", "")
        rows = [*rows[:half], gap, *rows[-half:]]
    head = ("#", "effect", "bytes", "after")
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(4)]
    amounts = (
        f"{count(len(plan.names), 'leaf')}, {count(plan.effects, 'effect')}, {size(plan.bytes)}, "
        f"at most {size(plan.peak_host_bytes)} of host memory besides what is there"
    )
    where = [f"{_SHORT} is {temporary}"] if temporary else []
    lines = [f"{plan.title} {plan.path}", amounts, *where, ""]
    for number, what, amount, after in (head, tuple("-" * width for width in widths), *rows):
        row = f"{number:>{widths[0]}}  {what:<{widths[1]}}  {amount:>{widths[2]}}  {after}"
        lines.append(row.rstrip())
    return "\n".join(lines)


_SHORT = "[tmp]"


def _row(step: Step, plan: Plan, temporary: str | None) -> tuple[str, str, str, str]:
    amount = step.writes + step.reads
    sealing = "seal: " if temporary and step.number == plan.seal else ""
    what = sealing + plan.sentence(step)
    return (
        str(step.number),
        what.replace(temporary, _SHORT) if temporary else what,
        size(amount) if amount else "",
        _ranges(sorted(step.needs)),
    )


def _ranges(numbers: list[int]) -> str:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)
