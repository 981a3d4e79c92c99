"""One error for everything in which a template and a checkpoint differ."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from sealwax.errors import (
    Difference,
    LeafError,
    LeafMismatchError,
    TreeMismatchError,
    UnsupportedLeafError,
)

LIMIT = 10
"""Lines shown of each list."""

_CANDIDATES = 300
_EMPTY = frozenset({"None", "nothing", "an empty dict", "an empty list", "an empty tuple"})
_LENGTHS = re.compile(r"a (list|tuple) of \d+, (a list of \d+|an empty (list|tuple))")
_PARTIAL = "ctx.pytree.loading.partial_load = True"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """What two trees are called when they are compared.

    Attributes:
      first: The one that asks.
      second: The one that has.
      headline: What it means that they differ.
    """

    first: str
    second: str
    headline: str


LOAD = Sides(
    first="the template",
    second="the checkpoint",
    headline="the template does not fit the checkpoint",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Gap:
    """A subtree, or one leaf, that only one side has.

    Attributes:
      name: Name of the subtree; empty for the root.
      leaves: Names of its leaves.
    """

    name: str
    leaves: tuple[str, ...]


def difference(
    missing: Sequence[Gap],
    unexpected: Sequence[Gap],
    different: Sequence[Difference],
    *,
    near: Sequence[str] = (),
    sides: Sides = LOAD,
    hint: str | None = None,
) -> TreeMismatchError:
    """Makes the error that lists all differences.

    Args:
      missing: What the first asks for and the second has not.
      unexpected: What the second has and the first does not ask for.
      different: What both have, in ways that do not fit.
      near: Further names in the second that a missing one may have been meant for.
      sides: What the two are called.
      hint: What to do; by default what helps a load.

    >>> print(difference([Gap("kernl", ("kernl",))], [Gap("kernel", ("kernel",))], []))
    The template does not fit the checkpoint: 1 missing, 1 unexpected
      missing (in the template, not in the checkpoint):
        kernl; the checkpoint has 'kernel'
      unexpected (in the checkpoint, not in the template):
        kernel
    Rename what is missing to what the checkpoint has.
    """
    candidates = [gap.name for gap in unexpected] + list(near)
    named = {gap.name: _nearest(gap.name, candidates) for gap in missing[:LIMIT]}
    if hint is None:
        hint = _hint(missing, unexpected, different, renamed=any(named.values()))
    return TreeMismatchError(
        f"{sides.headline}: {counted(missing, unexpected, different)}",
        missing=leaves_of(missing),
        unexpected=leaves_of(unexpected),
        different=tuple(different),
        lines=listed(missing, unexpected, different, sides, named),
        hint=hint,
    )


def counted(
    missing: Sequence[Gap], unexpected: Sequence[Gap], different: Sequence[Difference]
) -> str:
    """How many leaves each list has."""
    counts = {
        "missing": len(leaves_of(missing)),
        "unexpected": len(leaves_of(unexpected)),
        "different": len(different),
    }
    return ", ".join([f"{count} {kind}" for kind, count in counts.items() if count])


def listed(
    missing: Sequence[Gap],
    unexpected: Sequence[Gap],
    different: Sequence[Difference],
    sides: Sides,
    named: Mapping[str, str | None],
) -> tuple[str, ...]:
    """The lines of the three lists; ``named`` has what a missing name may have been meant for."""
    first, second = sides.first, sides.second
    return (
        *section(
            f"missing (in {first}, not in {second}):",
            [_show(gap) + _suggest(named.get(gap.name), second) for gap in missing],
        ),
        *section(f"unexpected (in {second}, not in {first}):", [_show(gap) for gap in unexpected]),
        *section(
            "different:",
            [f"{_called(d.name)}: {first} has {d.expected}, {second} {d.found}" for d in different],
        ),
    )


def unfit(failures: Sequence[LeafError]) -> LeafError:
    """One error for all leaves that do not fit what a template asks of them.

    >>> one = LeafError("too long", leaf="a")
    >>> unfit([one]) is one
    True
    """
    if len(failures) == 1:
        return failures[0]
    unsupported = all(isinstance(failure, UnsupportedLeafError) for failure in failures)
    kind = UnsupportedLeafError if unsupported else LeafMismatchError
    advice = dict.fromkeys(failure.hint for failure in failures if failure.hint)
    error = kind(
        f"{len(failures)} leaves do not fit the template",
        hint="\n".join(list(advice)[:2]) or None,
    )
    error.different = tuple(map(_as_difference, failures))
    error.lines = tuple(
        section("different:", [f"{_called(f.leaf or '')}: {_detail(f)}" for f in failures])
    )
    return error


def _as_difference(failure: LeafError) -> Difference:
    return Difference(
        name=failure.leaf or "",
        expected=failure.expected or failure.what,
        found=failure.found or "something else",
    )


def _detail(failure: LeafError) -> str:
    if failure.expected is None or failure.found is None:
        return failure.what
    return f"expected {failure.expected}, found {failure.found}"


def leaves_of(gaps: Iterable[Gap]) -> tuple[str, ...]:
    """The names of all leaves in these subtrees."""
    return tuple([name for gap in gaps for name in gap.leaves])


def _called(name: str) -> str:
    return name or "the root"


def _show(gap: Gap) -> str:
    if gap.leaves == (gap.name,):
        return _called(gap.name)
    return f"{_called(gap.name)} ({_count(len(gap.leaves))})"


def _count(leaves: int) -> str:
    return "1 leaf" if leaves == 1 else f"{leaves} leaves"


def _suggest(near: str | None, second: str) -> str:
    return "" if near is None else f"; {second} has {near!r}"


def _nearest(name: str, candidates: list[str]) -> str | None:
    # Beside one another, names differ in their last part only, and a long common start must not
    # make them look alike.
    parent, dot, last = name.rpartition(".")
    start = parent + dot
    siblings = [c[len(start) :] for c in candidates if c.startswith(start)]
    near = difflib.get_close_matches(last, siblings[:_CANDIDATES], n=1, cutoff=0.7)
    if near:
        return start + near[0]
    near = difflib.get_close_matches(name, candidates[:_CANDIDATES], n=1, cutoff=0.7)
    return near[0] if near and not near[0].startswith(start) else None


def section(title: str, items: Sequence[str]) -> list[str]:
    """Gives the lines of a list, of which the first ``LIMIT`` items are shown."""
    if not items:
        return []
    lines = _alike(items) if len(items) > LIMIT else list(items)
    rest = len(lines) - LIMIT
    shown = [f"    {line}" for line in lines[:LIMIT]]
    return [f"  {title}", *shown, *([f"    and {rest} more"] if rest > 0 else [])]


def _alike(items: Sequence[str]) -> list[str]:
    """Puts lines that differ in a number only, such as one per layer, into one."""
    groups: dict[str, list[str]] = {}
    for item in items:
        name, space, rest = item.partition(" ")
        groups.setdefault(re.sub(r"\d+", "*", name) + space + rest, []).append(item)
    return [
        group[0] if len(group) == 1 else f"{pattern}, {len(group)} of them"
        for pattern, group in groups.items()
    ]


def _hint(
    missing: Sequence[Gap],
    unexpected: Sequence[Gap],
    different: Sequence[Difference],
    *,
    renamed: bool,
) -> str:
    names = [gap.name for gap in (*missing, *unexpected)] + [each.name for each in different]
    only_empty = all(each.expected in _EMPTY for each in different)
    if only_empty and not missing and not unexpected:
        return (
            "Put PLACEHOLDER (...) where a leaf is to be skipped, or leave its key out and "
            f"set {_PARTIAL}."
        )
    if all("opt_state" in name.split(".") for name in names):
        return (
            "Make the template with the optimizer that was used when saving, or leave opt_state "
            f"out of it and set {_PARTIAL}."
        )
    if any(_LENGTHS.fullmatch(f"{each.expected}, {each.found}") for each in different):
        return "Lists must be of one length: put PLACEHOLDER (...) for items to be skipped."
    if not missing and not different:
        return f"Set {_PARTIAL} to load only what the template asks for."
    if renamed:
        return "Rename what is missing to what the checkpoint has."
    if not unexpected and not different:
        return "Leave out what is missing, and add it after loading with tree.merge."
    return "Compare the template with sealwax.metadata(path)."
