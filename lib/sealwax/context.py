"""The copy-on-write handle on one snapshot of the settings, and which snapshot is current.

A ``Context`` behaves like one variable that holds a snapshot, an ``Options``. Assigning through it
moves it to a new snapshot; nothing ever changes inside one. In detail:

Base. A handle has a *base*: what is seen through it where no block of it is open, by every thread
and task. Each assignment, made anywhere, moves the base, by compare-and-swap, so none is lost.

Blocks. ``with ctx:`` opens a block *in this thread and task* (in this ``contextvars.Context``). The
innermost open block is the current one, and operations use its snapshot. A block starts at what is
seen through the handle where it is opened.

Bound. While blocks of a handle are open here, the handle is *bound* here: reading through it shows
what operations inside its blocks use, and not what others assign. Assigning through it moves the
base, and the snapshot of all its blocks here, for whatever is called afterwards; it moves no
other thread's or task's blocks. So a thread or task always reads back what it assigned itself.

Leaving. Leaving a block takes that block away, and no other: afterwards the context that was
current before is current again. Blocks may be left in any order, as generators do. When its last
block here is left, a handle shows its base again, with everybody's assignments.

Inheriting. A task or ``copy_context()`` starts with the blocks that are open where it is made, and
from then on they are its own: neither side sees the other assign, or leave, again. Raw threads and
executors start with no block; ``run``, ``bind`` and ``context=`` carry a snapshot over.

Leaving elsewhere. Python may leave a block in another task or thread than it was opened in: a
generator that is closed or collected there. The block is then taken away there, and where it was
opened as soon as that place looks again. Who inherited it keeps it, as always.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    ParamSpec,
    Self,
    TypeVar,
    cast,
    final,
    overload,
)

from sealwax.errors import OptionTypeError
from sealwax.options import (
    DEFAULTS,
    ArrayOptions,
    AsyncOptions,
    AtomicityOptions,
    CheckpointablesOptions,
    CheckpointLayout,
    DeletionOptions,
    FileOptions,
    MemoryOptions,
    MultiprocessingOptions,
    Options,
    PathwaysOptions,
    PyTreeOptions,
    SafetensorsOptions,
)
from sealwax.settings.blocks import OpenBlocks, calling_frame, stack
from sealwax.settings.frozen import Group, Path, unknown, update
from sealwax.settings.lens import At, changes, diff, from_dict, to_dict, view

P = ParamSpec("P")
R = TypeVar("R")
Got = TypeVar("Got")
Given = TypeVar("Given")


class _Member(Generic[Got, Given]):
    """A group of the root, read as a view of it and assigned as a whole."""

    def __init__(self, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, context: None, owner: type[Context]) -> Self: ...
    @overload
    def __get__(self, context: Context, owner: type[Context]) -> Got: ...
    def __get__(self, context: Context | None, owner: type[Context]) -> Self | Got:
        if context is None:
            return self

        def read() -> Any:
            return getattr(context.options, self._name)

        def write(path: Path, value: object) -> None:
            context.assign({".".join((self._name, *path)): value})

        value: Any = read()
        return cast(Got, view(value.__kind__, read, write)) if isinstance(value, Group) else value

    def __set__(self, context: Context, value: Given) -> None:
        context.assign({self._name: value})


@final
class Context:
    """A handle on one snapshot of the settings, for reading, assigning and using them.

    Args:
      context: Where to start: another context or a snapshot. Afterwards neither sees the other
        change.
      pytree_options: A whole group in place of the parent's; likewise all that follow.

    Raises:
      OptionError: A name, type or value is wrong.

    >>> ctx = Context()
    >>> ctx.array.saving.use_zarr3 = False
    >>> with ctx:
    ...     current_options().array.saving.use_zarr3
    False
    >>> ctx.at.array.saving.use_zarr3.set(True)
    Context()
    """

    __slots__ = ("__weakref__", "_base", "_blocks", "_lock")

    pytree = _Member[PyTreeOptions, PyTreeOptions]("pytree")
    array = _Member[ArrayOptions, ArrayOptions]("array")
    asynchronous = _Member[AsyncOptions, AsyncOptions]("asynchronous")
    multiprocessing = _Member[MultiprocessingOptions, MultiprocessingOptions]("multiprocessing")
    file = _Member[FileOptions, FileOptions]("file")
    checkpointables = _Member[CheckpointablesOptions, CheckpointablesOptions]("checkpointables")
    pathways = _Member[PathwaysOptions, PathwaysOptions]("pathways")
    checkpoint_layout = _Member[CheckpointLayout, CheckpointLayout | str]("checkpoint_layout")
    deletion = _Member[DeletionOptions, DeletionOptions]("deletion")
    memory = _Member[MemoryOptions, MemoryOptions]("memory")
    safetensors = _Member[SafetensorsOptions, SafetensorsOptions]("safetensors")
    atomicity = _Member[AtomicityOptions, AtomicityOptions]("atomicity")

    # The names that the constructor has, for code that reads or assigns under them.
    pytree_options = pytree
    array_options = array
    async_options = asynchronous
    multiprocessing_options = multiprocessing
    file_options = file
    checkpointables_options = checkpointables
    pathways_options = pathways
    deletion_options = deletion
    memory_options = memory
    safetensors_options = safetensors
    atomicity_options = atomicity

    def __init__(
        self,
        context: Context | Options | None = None,
        *,
        pytree_options: PyTreeOptions | None = None,
        array_options: ArrayOptions | None = None,
        async_options: AsyncOptions | None = None,
        multiprocessing_options: MultiprocessingOptions | None = None,
        file_options: FileOptions | None = None,
        checkpointables_options: CheckpointablesOptions | None = None,
        pathways_options: PathwaysOptions | None = None,
        checkpoint_layout: CheckpointLayout | str | None = None,
        deletion_options: DeletionOptions | None = None,
        memory_options: MemoryOptions | None = None,
        safetensors_options: SafetensorsOptions | None = None,
        atomicity_options: AtomicityOptions | None = None,
    ) -> None:
        whole: dict[str, object] = {
            "pytree": pytree_options,
            "array": array_options,
            "asynchronous": async_options,
            "multiprocessing": multiprocessing_options,
            "file": file_options,
            "checkpointables": checkpointables_options,
            "pathways": pathways_options,
            "checkpoint_layout": checkpoint_layout,
            "deletion": deletion_options,
            "memory": memory_options,
            "safetensors": safetensors_options,
            "atomicity": atomicity_options,
        }
        given = {(name,): value for name, value in whole.items() if value is not None}
        start = DEFAULTS if context is None else _snapshot_of(context)
        self._base = update(start, given) if given else start
        self._blocks = OpenBlocks()
        # Reentrant: a collector that leaves a block may come in between.
        self._lock = threading.RLock()

    @property
    def options(self) -> Options:
        """The snapshot that operations use which are called here with this context."""
        bound = self._blocks.bound()
        return self._base if bound is None else bound

    @property
    def at(self) -> At[Context]:
        """The functional way: ``ctx.at.file.durability.set("atomic")`` is a new context."""
        options = self.options
        return At(options, lambda changed: Context(update(options, changed)))

    def replace(self, values: Mapping[str, object] | None = None, /, **whole: object) -> Context:
        """Returns a new context with several changes, and leaves this one alone.

        Args:
          values: New values by dotted name.
          **whole: New values of whole groups.

        Raises:
          OptionError: A name, type or value is wrong.

        >>> Context().replace({"array.saving.use_zarr3": False}, checkpoint_layout="auto")
        Context().replace({'array.saving.use_zarr3': False, 'checkpoint_layout': 'auto'})
        """
        return Context(update(self.options, changes(values, whole)))

    def diff(self, other: Context | Options) -> dict[str, tuple[Any, Any]]:
        """Lists what differs from another context, as (here, there) by dotted name.

        >>> Context().diff(Context().at.file.durability.set("atomic"))
        {'file.durability': ('durable', 'atomic')}
        """
        return diff(self.options, _snapshot_of(other))

    def to_dict(self) -> dict[str, Any]:
        """Returns the plain data of the snapshot: what JSON can hold.

        Callables and other objects are left out where they are the default, and otherwise their
        names are listed under ``"not_plain"``.
        """
        return to_dict(self.options)

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], held: Mapping[str, object] | None = None
    ) -> Context:
        """Makes a context of what ``to_dict`` returned, or of a checkpoint's recorded settings.

        Args:
          data: The plain data; settings that are not in it have their defaults.
          held: Values by dotted name for those that ``data`` lists as not plain.

        Raises:
          OptionError: A name, type or value is wrong, or one that is not plain is not given.

        >>> Context.from_dict({"file": {"durability": "atomic"}})
        Context().replace({'file.durability': 'atomic'})
        """
        return Context(from_dict(data, held))

    def assign(self, values: Mapping[str, object] | None = None, /, **whole: object) -> None:
        """Makes several changes to this context at once: all of them, or none if one is wrong.

        Takes what ``replace`` takes, and raises what it raises.
        """
        changed = changes(values, whole)
        bound = self._blocks.bound()
        while True:
            base = self._base
            moved = update(base, changed)
            here = moved if bound is None or bound is base else update(bound, changed)
            with self._lock:
                if self._base is base:
                    self._base = moved
                    break
        if bound is not None:
            self._blocks.rebind(here)

    def __enter__(self) -> Self:
        self._blocks.enter(self.options, calling_frame())
        return self

    def __exit__(self, *raised: object) -> None:
        entry = self._blocks.to_leave(calling_frame())
        if entry is not None:
            self._blocks.leave(entry)

    def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls ``function`` inside a block of this context, in whatever thread this runs.

        ``executor.submit(ctx.run, work)`` uses what is seen through ``ctx`` when the work starts,
        in the thread where it runs; ``executor.submit(ctx.bind(work))`` what is seen here and now.
        """
        return self.bind(function)(*args, **kwargs)

    def bind(self, function: Callable[P, R], /) -> Callable[P, R]:
        """Returns ``function`` tied to the snapshot seen here and now, for any thread or task.

        Each call runs inside a block of this context that starts at that snapshot. Functions that
        are declared ``async`` stay so.

        Raises:
          OptionTypeError: It is a generator function, whose body would run outside the block.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise OptionTypeError(
                "A generator function cannot be tied to a context",
                found=getattr(function, "__qualname__", None),
                hint="Open the block inside it: with ctx: ...",
            )
        options = self.options
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def bound_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self._block(options):
                    return await function(*args, **kwargs)

            return cast(Callable[P, R], bound_async)

        @functools.wraps(function)
        def bound(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._block(options):
                return function(*args, **kwargs)

        return bound

    @contextmanager
    def _block(self, options: Options) -> Generator[None, None, None]:
        entry = self._blocks.enter(options, 0)
        try:
            yield
        finally:
            self._blocks.leave(entry)

    def __reduce__(self) -> tuple[object, ...]:
        return Context, (self.options,)

    def __repr__(self) -> str:
        changed = {name: new for name, (_, new) in diff(DEFAULTS, self.options).items()}
        words = (f"{name!r}: {getattr(new, 'value', new)!r}" for name, new in changed.items())
        return f"Context().replace({{{', '.join(words)}}})" if changed else "Context()"

    if not TYPE_CHECKING:  # a checker that saw these would accept every name

        def __getattr__(self, name: str) -> Any:
            raise unknown(Options, name)

        def __setattr__(self, name: str, value: object) -> None:
            if not hasattr(type(self), name):
                raise unknown(Options, name)
            object.__setattr__(self, name, value)


def current_options() -> Options:
    """The current snapshot: that of the innermost block open here, or the defaults."""
    blocks = stack()
    return blocks[-1].snapshot if blocks else DEFAULTS


def get_context(default: Context | None = None) -> Context:
    """Returns a context on the current snapshot; it is new, so assigning to it disturbs nobody.

    Args:
      default: What to return where no block is open, in place of a context with every default.
    """
    return default if default is not None and not stack() else Context(current_options())


def resolve(context: Context | Options | None = None) -> Options:
    """The snapshot for an operation: that of ``context`` if one is given, else the current one."""
    return current_options() if context is None else _snapshot_of(context)


def _snapshot_of(source: object) -> Options:
    match source:
        case Context():
            return source.options
        case Options():
            return source
        case _:
            raise OptionTypeError(
                "A context was asked for", expected="a Context", found=repr(type(source).__name__)
            )
