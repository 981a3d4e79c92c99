"""Names of the directories of a run's steps, and looking for steps by them.

>>> import sealwax as ocp
>>> run = getfixture("tmp_path")
>>> names = ocp.path.step.standard_name_format(step_prefix="step", step_format_fixed_length=6)
>>> ocp.save(run / names.build_name(100), {"w": 1.0})
>>> (run / names.build_name(200)).mkdir()  # An empty directory is no step.
>>> [found.step for found in names.find_all(run)]
[100]
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence, Set
from typing import Any, Protocol, TypeAlias, TypeVar, cast, runtime_checkable

from sealwax.context import resolve
from sealwax.effects import Call
from sealwax.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    OptionUnavailableError,
    StepNotFoundError,
)
from sealwax.options import DEFAULTS, AtomicityOptions
from sealwax.path.types import Path, PathLike
from sealwax.planning import names
from sealwax.planning.steps import Naming, as_step
from sealwax.runtime import background
from sealwax.runtime.observe import Perform
from sealwax.runtime.observe_steps import finished, listed
from sealwax.runtime.operation import Operation, looking
from sealwax.verbs.paths import absolute

__all__ = [
    "CompositeNameFormat",
    "FoundStep",
    "NameFormat",
    "PathClass",
    "StandardNameFormat",
    "all_steps",
    "composite_name_format",
    "one_step",
    "standard_name_format",
]


def __dir__() -> list[str]:
    return __all__


_SHOWN = 5
PathClass: TypeAlias = Callable[[str], Path]
T = TypeVar("T")
FoundT_co = TypeVar("FoundT_co", covariant=True)


@runtime_checkable
class NameFormat(Protocol[FoundT_co]):
    """How the directories of steps are named, and how they are found again.

    What is found has the attributes ``step`` and ``path``.
    """

    def build_name(self, step: int) -> str:
        """The name of the directory of a step that is saved."""
        ...

    def find_all(self, base_path: PathLike) -> Iterator[FoundT_co]:
        """The finished steps in a directory."""
        ...

    def find_step(self, base_path: PathLike, step: int) -> FoundT_co:
        """One finished step in a directory; raises ``ValueError`` where there is none."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FoundStep:
    """A finished step, and the directory that it was found in.

    Attributes:
      step: Its number.
      path: Its directory, whatever format the name is in.
    """

    step: int
    path: Path


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Findable:
    """A format of this module: what it does to find steps, it does through effects."""

    def find_all(self, base_path: PathLike) -> Iterator[FoundStep]:
        """The finished steps in a directory, ascending; none where there is no directory.

        Raises:
          StorageError: A directory could not be read.
        """
        return iter(_run(all_steps, self, base_path))

    def find_step(self, base_path: PathLike, step: int) -> FoundStep:
        """One finished step in a directory.

        Raises:
          StepNotFoundError: There is no such step, or it was not finished. Also a ``ValueError``.
        """
        return _run(functools.partial(one_step, step=as_step(step)), self, base_path)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StandardNameFormat(_Findable):
    """``5``, ``00005``, ``step_5``: see ``standard_name_format``."""

    naming: Naming
    single_host_load_and_broadcast: bool = False

    def build_name(self, step: int) -> str:
        """The name of a step's directory.

        Raises:
          ArgumentTypeError: ``step`` is not an integer.
          ArgumentValueError: ``step`` is negative.
        """
        return self.naming.build(step)

    def parse_name(self, name: str) -> int | None:
        """The step that a directory of this name is of, or ``None`` if it is of none."""
        return self.naming.parse(name)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CompositeNameFormat(_Findable):
    """One format to write with and several to read: see ``composite_name_format``."""

    write_name_format: NameFormat[Any]
    read_name_formats: tuple[NameFormat[Any], ...]

    def build_name(self, step: int) -> str:
        """The name of a step's directory, in the format that writes."""
        return self.write_name_format.build_name(step)


def standard_name_format(
    *,
    step_prefix: str | None = None,
    step_format_fixed_length: int | None = None,
    single_host_load_and_broadcast: bool = False,
) -> StandardNameFormat:
    """Names of a prefix, an underscore and the step, such as ``step_00100``.

    Args:
      step_prefix: What is before the underscore; without it, names are digits alone.
      step_format_fixed_length: The least number of digits, filled up with zeros.
      single_host_load_and_broadcast: With several processes, whether one looks for all of them.

    Raises:
      ArgumentTypeError: The prefix is not a string, or the length not an integer.
      ArgumentValueError: No directory can have such a name, or the length is negative.

    >>> standard_name_format(step_prefix="step", step_format_fixed_length=5).build_name(100)
    'step_00100'
    """
    width = 0 if step_format_fixed_length is None else step_format_fixed_length
    return StandardNameFormat(
        naming=Naming(prefix=step_prefix, width=width),
        single_host_load_and_broadcast=single_host_load_and_broadcast,
    )


def composite_name_format(
    write_name_format: NameFormat[Any], read_name_formats: Sequence[NameFormat[Any]]
) -> CompositeNameFormat:
    """Writes one format and reads several, such as those of earlier runs.

    Args:
      write_name_format: Names what is saved.
      read_name_formats: Where to look, in this order: of a step that is there under two names,
        the first counts. One of them equals ``write_name_format``.

    Raises:
      ArgumentTypeError: One of them is no format.
      ArgumentValueError: What would be written would not be read.

    >>> old, new = standard_name_format(), standard_name_format(step_format_fixed_length=8)
    >>> composite_name_format(new, [new, old]).build_name(5)
    '00000005'
    """
    formats = tuple(read_name_formats)
    for each in cast("tuple[object, ...]", (write_name_format, *formats)):
        if not isinstance(each, NameFormat):
            raise ArgumentTypeError(
                "This is not a format of names",
                expected="an object with build_name, find_all and find_step",
                found=repr(each),
            )
    if write_name_format not in formats:
        raise ArgumentValueError(
            "What is written in this format would not be found again",
            expected="the format that writes among those that read",
            found=repr(write_name_format),
            hint="Put it into read_name_formats, first if its steps are to win.",
        )
    return CompositeNameFormat(write_name_format=write_name_format, read_name_formats=formats)


async def all_steps(
    perform: Perform,
    base: str,
    name_format: NameFormat[Any],
    path_class: PathClass = Path,
    atomicity: AtomicityOptions = DEFAULTS.atomicity,
    *,
    known: Set[str] = frozenset(),
) -> tuple[FoundStep, ...]:
    """The finished steps in the directory ``base``, ascending, each once.

    Directories whose names are ``known`` to be finished are not looked into.
    """

    def found_at(step: int, path: str) -> FoundStep:
        return FoundStep(step=step, path=path_class(path))

    match name_format:
        case StandardNameFormat(naming=naming):
            _check_processes(name_format)
            steps = {naming.parse(name): name for name in await listed(perform, base) or ()}
            named = {name: step for step, name in steps.items() if step is not None}
            new = frozenset(await finished(perform, base, named.keys() - known, atomicity))
            there = [name for name in named if name in known or name in new]
            found = [found_at(named[name], names.join(base, name)) for name in there]
        case CompositeNameFormat(read_name_formats=formats):
            by_step: dict[int, FoundStep] = {}
            for each in formats:
                for step in await all_steps(
                    perform, base, each, path_class, atomicity, known=known
                ):
                    by_step.setdefault(step.step, step)
            found = list(by_step.values())
        case _:
            call = Call(name="find_all", function=_every(name_format), inputs=(base,))
            found = [found_at(step.step, str(step.path)) for step in await perform(call)]
    return tuple(sorted(found, key=lambda each: each.step))


async def one_step(
    perform: Perform,
    base: str,
    name_format: NameFormat[Any],
    path_class: PathClass = Path,
    atomicity: AtomicityOptions = DEFAULTS.atomicity,
    *,
    step: int,
) -> FoundStep:
    """One finished step in the directory ``base``, under the first of its names.

    Raises:
      StepNotFoundError: It is not there.
    """
    match name_format:
        case StandardNameFormat(naming=naming):
            _check_processes(name_format)
            name = naming.build(step)
            if await finished(perform, base, (name,), atomicity):
                return FoundStep(step=step, path=path_class(names.join(base, name)))
        case CompositeNameFormat(read_name_formats=formats):
            for each in formats:
                try:
                    return await one_step(perform, base, each, path_class, atomicity, step=step)
                except StepNotFoundError:
                    continue
        case _:
            found = await all_steps(perform, base, name_format, path_class, atomicity)
            by_step = {each.step: each for each in found}
            if step in by_step:
                return by_step[step]
    raise await _not_found(perform, base, name_format, step)


async def _not_found(
    perform: Perform, base: str, name_format: NameFormat[Any], step: int
) -> StepNotFoundError:
    steps = [each.step for each in await all_steps(perform, base, name_format)]
    shown = ", ".join(map(str, steps[-_SHOWN:]))
    more = f", and {len(steps) - _SHOWN} before these" if len(steps) > _SHOWN else ""
    name = name_format.build_name(step)
    unfinished = name in (await listed(functools.partial(looking, perform), base) or ())
    return StepNotFoundError(
        f"There is no finished checkpoint of step {step}",
        step=step,
        path=base,
        found=f"steps {shown}{more}" if steps else "no step at all",
        hint=f"{name!r} is there, but it was not finished, or is no checkpoint."
        if unfinished
        else None,
    )


def _every(name_format: NameFormat[Any]) -> Callable[[str], tuple[Any, ...]]:
    def find(base: str) -> tuple[Any, ...]:
        return tuple(cast("Iterable[Any]", name_format.find_all(base)))

    return find


def _run(
    find: Callable[[Perform, str, NameFormat[Any], PathClass, AtomicityOptions], Awaitable[T]],
    name_format: _Findable,
    base_path: PathLike,
) -> T:
    options = resolve(None)
    operation = Operation(title="search", path=absolute(base_path), options=options)
    written = cast("NameFormat[Any]", name_format)

    async def look() -> T:
        async with operation.performing() as perform:
            return await find(
                perform, operation.path, written, options.file.path_class, options.atomicity
            )

    return background.run(look, "find_steps", operation.watch)


def _check_processes(name_format: StandardNameFormat) -> None:
    if not name_format.single_host_load_and_broadcast:
        return
    import jax as _jax

    jax: Any = _jax
    if jax.distributed.is_initialized() and jax.process_count() > 1:
        raise OptionUnavailableError(
            "That one process looks for steps and tells the others is not there yet",
            found=f"{jax.process_count()} processes",
            hint="Without single_host_load_and_broadcast, each process looks for itself.",
        )
