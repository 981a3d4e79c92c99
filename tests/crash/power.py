"""Power loss at every moment of a scenario, and the judgement of what is found afterwards.

A scenario runs in a file system in memory, of which every single change gives a *cut*: what was
certain at that moment and what was on its way. From each cut states are drawn that a loss of
power may leave, and each is held against the promises:

P1 At the path is what was there before an operation or what is there after it, byte for byte, and
   it loads to the bit.
P2 What an operation that has returned left there is found after any loss of power.
P3 Until an operation is over, nothing of what was there before is missing.
P8 What sealwax did not write is never touched.

and the next save goes through, from whatever was found, and leaves nothing but itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sealwax
from sealwax.effect_handlers import Handler, Memory, memory
from sealwax.effect_handlers.crashes import Disk, Tree
from sealwax.layouts.detect import has_marker
from tests.crash.states import MARK, same, state

RUN = "/run"
FOREIGN: Tree = {
    "notes.txt": b"mine",
    f"c{MARK}": {"theirs": b"looks temporary"},
    f"c{MARK}-sealwax-0123": {"theirs": b"looks like ours"},
    "empty": {},
}
"""What lies beside the checkpoint, and is not sealwax's."""


def write(path: str, number: int) -> None:
    sealwax.save(path, state(number))


def load(path: str, number: int | None) -> str | None:
    """What is wrong with what loads from a path."""
    try:
        found = sealwax.load(path)
    except FileNotFoundError as error:
        return None if number is None else f"nothing was found: {error}"
    except Exception as error:
        return f"it does not load: {error!r}"
    return None if same(found, state(number or 0)) else "what loads is not what was saved"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Operations on one path, each of which ends in a state that is acknowledged.

    Attributes:
      acts: The operations; each takes the path.
      leaves: The number of the state that each leaves at the path; ``None`` for nothing.
      path: The checkpoint, below the run's directory.
      old: The number of the state that is there before, or ``None``.
      beside: What else is there.
      write: How a state is saved that is there before.
      load: What is wrong with what loads, which must be the state of this number.
      between: For an operation with states between before and after: what is wrong with one.
      recover: What is called before the next save, to finish what was begun.
      kept: A directory in the run to which what was at the path may have gone instead.
      least: The number of different states that must be found at least.
    """

    acts: tuple[Callable[[str], object], ...]
    leaves: tuple[int | None, ...]
    path: str = "c"
    old: int | None = None
    beside: Callable[[], Tree] = dict
    write: Callable[[str, int], object] = write
    load: Callable[[str, int | None], str | None] = load
    between: Callable[[str, Tree], str | None] | None = None
    recover: Callable[[str], object] | None = None
    kept: str | None = None
    least: int


@dataclasses.dataclass(slots=True)
class Verdict:
    """What was found.

    Attributes:
      cuts: How many moments were looked at.
      states: The different states that were found, by fingerprint.
      broken: The promises that were broken, and how.
    """

    cuts: int = 0
    states: set[int] = dataclasses.field(default_factory=set)
    broken: list[str] = dataclasses.field(default_factory=list)


def explore(
    name: str,
    scenario: Scenario,
    *handlers: Handler,
    limit: int = 400,
    first: bool = False,
    next_save: bool = True,
) -> Verdict:
    """Runs a scenario, with handlers inside the file system, and judges what may be left of it.

    ``limit`` is how many states are drawn at each cut. With ``first`` it ends with the first
    promise found broken, and starts where that is likeliest: at the end. Without ``next_save`` it
    is not tried whether the next save goes through.
    """
    verdict = Verdict()
    history, broken = _run(scenario, handlers)
    if broken:
        verdict.broken.append(broken)
        return verdict
    judge, judged = _Judge(scenario, history, next_save), set[object]()
    numbered = list(enumerate(history.cuts))
    for number, (disk, done, over) in reversed(numbered) if first else numbered:
        verdict.cuts += 1
        for crash in disk.crashes(limit=limit, seed=number, block=64):
            found = disk.after(crash)
            state_found = fingerprint(found)
            verdict.states.add(state_found)
            if (state_found, done, over) in judged:
                continue
            judged.add((state_found, done, over))
            problem = judge(found, done, over)
            if problem is not None:
                when = f"{name}, cut {number} of {len(history.cuts)}, after {done} acts"
                verdict.broken.append(f"{when}: {problem}")
                if first:
                    return verdict
    return verdict


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _History:
    """What happened: the disk at every cut, how many acts were done, and whether none went on."""

    cuts: list[tuple[Disk, int, bool]]
    values: list[Tree | None]


def _run(scenario: Scenario, handlers: tuple[Handler, ...]) -> tuple[_History, str | None]:
    run: dict[str, Any] = {**FOREIGN, **scenario.beside()}
    old = None if scenario.old is None else written(scenario.old, scenario.write)
    if old is not None:
        run[scenario.path] = old
    history = _History(cuts=[], values=[old])

    def watch() -> None:
        history.cuts.append((fs.disk(), len(history.values) - 1, False))

    fs = memory({"run": run}, watch=watch)
    path = f"{RUN}/{scenario.path}"
    with contextlib.ExitStack() as stack:
        for handler in (fs, *handlers):
            stack.enter_context(handler)
        for act in scenario.acts:
            try:
                act(path)
            except Exception as error:
                return history, f"the operation itself failed: {error!r}"
            history.values.append(at(fs.tree(), path))
            history.cuts.append((fs.disk(), len(history.values) - 1, True))
    return history, None


class _Judge:
    """Holds what was found against the promises."""

    def __init__(self, scenario: Scenario, history: _History, next_save: bool) -> None:
        self.next_save = next_save
        self.scenario = scenario
        self.values = history.values
        self.path = f"{RUN}/{scenario.path}"
        self.numbers = (scenario.old, *scenario.leaves)
        self.loads: dict[int, str | None] = {}
        self.halves: dict[int, str | None] = {}
        self.saves: dict[object, str | None] = {}

    def __call__(self, found: Tree, done: int, over: bool) -> str | None:
        content = at(found, self.path)
        if content is not None and self.scenario.between:
            # What is written in the checkpoint itself has a name that no reader takes for its own.
            content = {name: below for name, below in content.items() if MARK not in name}
        last = done if over else min(done + 1, len(self.values) - 1)
        allowed = range(done, last + 1)
        number = next((n for n in allowed if content == self.values[n]), None)
        if number is None:
            problem = self.halfway(found, content, over)
        else:
            problem = self.loaded(found, number) or self.lost(found, content)
        return problem or self.foreign(found) or self.saved(found)

    def halfway(self, found: Tree, content: Tree | None, over: bool) -> str | None:
        """What is there is neither of before nor of after the operation that was under way."""
        between = self.scenario.between
        if between is None or over or content is None:
            return f"at the path is {describe(content)}, which is none of what may be there"
        seen = fingerprint(content)
        if seen not in self.halves:
            with Memory(found):
                try:
                    self.halves[seen] = between(self.path, content)
                except Exception as error:
                    self.halves[seen] = f"it does not load: {error!r}"
        return self.halves[seen]

    def lost(self, found: Tree, content: Tree | None) -> str | None:
        """What is to be kept elsewhere is there as soon as it is no longer at the path."""
        if self.scenario.kept is None or content is not None:
            return None
        kept = at(found, f"{RUN}/{self.scenario.kept}") or {}
        return (
            None if [*kept.values()] == [self.values[0]] else f"{kept.keys()} is not what was kept"
        )

    def foreign(self, found: Tree) -> str | None:
        run = at(found, RUN)
        assert isinstance(run, Mapping)
        gone = [name for name, mine in FOREIGN.items() if run.get(name) != mine]
        return f"foreign {gone} was touched" if gone else None

    def loaded(self, found: Tree, number: int) -> str | None:
        """What loads is to the bit what was saved; one load for each content."""
        if number not in self.loads:
            self.loads[number] = None
            with Memory(found):
                self.loads[number] = self.scenario.load(self.path, self.numbers[number])
        return self.loads[number]

    def saved(self, found: Tree) -> str | None:
        """The next save goes through and clears up; one save for each set of leftovers."""
        if not self.next_save:
            return None
        # Of what lies beside the path only the name can matter, and whether it is a checkpoint.
        beside = at(found, self.path.rpartition("/")[0]) or {}
        seen = frozenset(
            (name, isinstance(below, Mapping) and (bool(below), has_marker(below)))
            for name, below in beside.items()
        ) | {fingerprint(at(found, self.path) or {}) if self.scenario.between else 0}
        if seen not in self.saves:
            self.saves[seen] = self._save(found)
        return self.saves[seen]

    def _finish(self) -> str | None:
        """What was begun can be finished, and then is as if it had never been interrupted."""
        if self.scenario.recover is None:
            return None
        self.scenario.recover(self.path)
        return self.scenario.load(self.path, self.numbers[-1])

    def _save(self, found: Tree) -> str | None:
        fs = Memory(found)
        with fs:
            try:
                problem = self._finish()
                sealwax.save(self.path, state(9), overwrite=True)
            except Exception as error:
                return f"the next save failed: {error!r}"
            problem = problem or load(self.path, 9)
        above, _, name = self.path.rpartition("/")
        more = {*fs.tree(above)} - {name, self.scenario.kept}
        more -= FOREIGN.keys() if above == RUN else set()
        return problem or self.foreign(fs.tree()) or (f"{sorted(more)} stays" if more else None)


def at(tree: Tree, path: str) -> Any:
    """What a tree holds at a path, or ``None``."""
    found: Any = tree
    for part in path.strip("/").split("/"):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


_written: dict[object, Tree] = {}


def written(number: int, write: Callable[[str, int], object] = write) -> Tree:
    """The files of a checkpoint of a state."""
    if (number, write) not in _written:
        with memory() as fs:
            write("/c", number)
        _written[number, write] = fs.tree("/c")
    return _written[number, write]


def flat(tree: Tree, prefix: str = "") -> Iterator[tuple[str, bytes | None]]:
    for name, below in tree.items():
        if isinstance(below, bytes):
            yield prefix + name, below
        else:
            yield f"{prefix}{name}/", None
            yield from flat(below, f"{prefix}{name}/")


def fingerprint(tree: Tree) -> int:
    return hash(frozenset(flat(tree)))


def describe(content: Tree | None) -> str:
    if content is None:
        return "nothing"
    return "{" + ", ".join(f"{n}: {'-' if x is None else len(x)}" for n, x in flat(content)) + "}"
