"""Every error that a user of sealwax can see, in one tree.

::

    SealwaxError
    ├── OptionError                  a setting is wrong
    │   ├── UnknownOptionError       also AttributeError
    │   ├── OptionTypeError          also TypeError
    │   ├── OptionValueError         also ValueError
    │   ├── FrozenOptionError        also dataclasses.FrozenInstanceError
    │   └── OptionUnavailableError   also RuntimeError
    ├── LeafError                    a leaf cannot be stored or restored
    │   ├── UnsupportedLeafError     also TypeError and ValueError
    │   ├── UnregisteredLeafError    also TypeError and ValueError
    │   ├── NameCollisionError       also ValueError
    │   ├── LeafRangeError           also ValueError
    │   ├── LeafMismatchError        also ValueError; lists several in ``different``
    │   └── ReplicaError             also ValueError
    ├── TreeMismatchError            also ValueError
    ├── HandlerError                 a checkpointable and its handler do not get on
    │   ├── NoEntryError             also KeyError
    │   ├── AlreadyExistsError       also ValueError
    │   ├── InvalidHandlerError      also TypeError and ValueError
    │   └── InvalidCheckpointableError  also TypeError and ValueError
    ├── CheckpointNotFoundError      also FileNotFoundError
    │   └── StepNotFoundError        also ValueError
    ├── CheckpointExistsError        also FileExistsError and ValueError
    │   └── StepAlreadyExistsError
    ├── InvalidLayoutError           also ValueError
    │   ├── CheckpointableNotFoundError  also KeyError
    │   └── NotADirectoryLayoutError also NotADirectoryError
    ├── InvalidPathError             also ValueError
    ├── InvalidMetadataError         also TypeError and ValueError
    ├── ArgumentTypeError            also TypeError
    ├── ArgumentValueError           also ValueError
    ├── PartialSaveReplacementError  also ValueError
    ├── DeletionInProgressError      also RuntimeError
    ├── DeletionRecoveryError        also RuntimeError
    ├── CorruptionError              also OSError
    ├── StorageError                 also OSError, with the original errno, and whichever of
    │   │                            PermissionError, FileNotFoundError, FileExistsError,
    │   │                            NotADirectoryError, TimeoutError, ... Python has for it
    │   └── SealError                the one step that commits the operation failed
    ├── OperationTimeoutError        also TimeoutError
    ├── OperationCancelledError      also RuntimeError
    ├── DeadlockError                also RuntimeError
    ├── ClosedError                  also RuntimeError
    ├── ProcessesError               also RuntimeError
    ├── SnapshotError                also RuntimeError; see ``sealwax.training.pathways``
    ├── MissingPackageError          also ImportError
    ├── HookError                    also RuntimeError; see ``sealwax.hooks``
    ├── RunFailedError               also RuntimeError; see ``sealwax.testing``
    └── InternalError                also RuntimeError; a bug in sealwax

Every error carries what happened, the leaf, the path, what was expected and found, and what to
do. Its text is those parts in that order, and never the internals of a storage layer: those are
kept as ``__cause__``.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Self, TypeVar, cast


def __dir__() -> list[str]:
    defined = [name for name, value in globals().items() if isinstance(value, type)]
    return [name for name in defined if globals()[name].__module__ == __name__]


class SealwaxError(Exception):
    """The root of every error that sealwax raises on purpose.

    Attributes:
      what: What happened, as one clause.
      item: Name of the checkpointable concerned, or ``None``.
      leaf: Name of the leaf concerned, or ``None``.
      path: Path concerned, or ``None``.
      expected: What would have been right, or ``None``.
      found: What was there instead, or ``None``.
      hint: What to do about it, or ``None``.
    """

    what: str
    item: str | None
    leaf: str | None
    path: str | None
    expected: str | None
    found: str | None
    hint: str | None

    def __init__(
        self,
        what: str,
        *,
        leaf: str | None = None,
        path: object = None,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.item = None
        self.leaf = leaf
        self.path = None if path is None else str(path)
        self.expected = expected
        self.found = found
        self.hint = hint

    def __str__(self) -> str:
        text = self.headline
        text = text if text.endswith((".", "!", "?")) else text + "."
        difference = [f"expected {self.expected}"] if self.expected is not None else []
        difference += [f"found {self.found}"] if self.found is not None else []
        if difference:
            text += f" {_capital(', '.join(difference))}."
        return text if self.hint is None else f"{text} {self.hint}"

    @property
    def headline(self) -> str:
        """What happened, and where."""
        where = [f"checkpointable {self.item!r}"] if self.item is not None else []
        if self.leaf is not None:
            where.append(f"leaf {self.leaf!r}" if self.leaf else "the root")
        where += [f"path {self.path!r}"] if self.path is not None else []
        return _capital(self.what) + (f" ({', '.join(where)})" if where else "")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.__dict__.copy())

    def located(
        self, *, item: str | None = None, leaf: str | None = None, path: object = None
    ) -> Self:
        """Fills in what is not known yet of where it happened, and returns the error."""
        self.item = item if self.item is None else self.item
        self.leaf = leaf if self.leaf is None else self.leaf
        self.path = str(path) if self.path is None and path is not None else self.path
        return self


def _listing(error: SealwaxError, lines: tuple[str, ...]) -> str:
    """A headline, a list, and what to do."""
    last = () if error.hint is None else (error.hint,)
    return "\n".join((error.headline, *lines, *last))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_E = TypeVar("_E", bound=SealwaxError)
_S = TypeVar("_S", bound="StorageError")


def _rebuild(kind: type[_E], what: str, state: dict[str, object]) -> _E:
    error = kind(what)
    error.__dict__.update(state)
    return error


class OptionError(SealwaxError):
    """A setting is wrong, or was changed in a way that settings do not allow."""


class UnknownOptionError(OptionError, AttributeError):
    """No option has this name."""


class OptionTypeError(OptionError, TypeError):
    """An option was given a value of the wrong type."""


class OptionValueError(OptionError, ValueError):
    """An option was given a value outside its range."""


class FrozenOptionError(OptionError, dataclasses.FrozenInstanceError):
    """A field of an option group that belongs to no context was assigned to."""


class OptionUnavailableError(OptionError, RuntimeError):
    """An option asks for something that this version, machine or backend cannot do."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One place where two trees have something, but not the same kind of thing.

    Attributes:
      name: Name of the leaf or subtree; empty for the root.
      expected: What the template has there.
      found: What the checkpoint has there.
    """

    name: str
    expected: str
    found: str


class LeafError(SealwaxError):
    """A leaf cannot be stored or restored; or several, which ``different`` then lists.

    Attributes:
      different: Where there are several of them: each, with what was expected and found.
      lines: That list, shortened, as it is shown.
    """

    different: tuple[Difference, ...] = ()
    lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        return _listing(self, self.lines) if self.lines else super().__str__()


class UnsupportedLeafError(LeafError, TypeError, ValueError):
    """No checkpoint can hold a leaf of this type or dtype."""


class UnregisteredLeafError(LeafError, TypeError, ValueError):
    """A stored leaf is of a type that takes a leaf handler, and none is registered for it."""


class NameCollisionError(LeafError, ValueError):
    """Two leaves would be stored under one name."""


class LeafRangeError(LeafError, ValueError):
    """A leaf has values that the dtype in which it is to be stored cannot hold."""


class LeafMismatchError(LeafError, ValueError):
    """A stored leaf does not fit what the template asks for."""


class ReplicaError(LeafError, ValueError):
    """An array of a training state has no replicas, or not as many as the others."""


class TreeMismatchError(SealwaxError, ValueError):
    """Two trees do not fit together, such as a template and a checkpoint.

    Attributes:
      missing: Names of leaves that the template has and the checkpoint has not.
      unexpected: Names of leaves that the checkpoint has and the template has not.
      different: Places at which both have something, but of different kinds.
      lines: The three lists, shortened, as they are shown.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    different: tuple[Difference, ...]
    lines: tuple[str, ...]

    def __init__(
        self,
        what: str,
        *,
        missing: tuple[str, ...] = (),
        unexpected: tuple[str, ...] = (),
        different: tuple[Difference, ...] = (),
        lines: tuple[str, ...] = (),
        leaf: str | None = None,
        path: object = None,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what, leaf=leaf, path=path, expected=expected, found=found, hint=hint)
        self.missing = missing
        self.unexpected = unexpected
        self.different = different
        self.lines = lines

    def __str__(self) -> str:
        return _listing(self, self.lines) if self.lines else super().__str__()


class HandlerError(SealwaxError):
    """A checkpointable and the handler that is to save or load it do not get on."""


class NoEntryError(HandlerError, KeyError):
    """No registered handler is for this name or object."""


class AlreadyExistsError(HandlerError, ValueError):
    """A registry has a handler for this name, or this handler, already."""


class InvalidHandlerError(HandlerError, TypeError, ValueError):
    """A class cannot serve as a handler, or broke the protocol when it did."""


class InvalidCheckpointableError(HandlerError, TypeError, ValueError):
    """A handler cannot save this object, or cannot load from this abstract form."""


class CheckpointNotFoundError(SealwaxError, FileNotFoundError):
    """There is nothing at the path."""


class CheckpointExistsError(SealwaxError, FileExistsError, ValueError):
    """Something is at the path already."""


class StepNotFoundError(CheckpointNotFoundError, ValueError):
    """A run has no finished checkpoint of this step; or none at all, where ``step`` is ``None``.

    Attributes:
      step: The step that was asked for.
    """

    def __init__(
        self,
        what: str,
        *,
        step: int | None = None,
        path: object = None,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what, path=path, expected=expected, found=found, hint=hint)
        self.step = step


class StepAlreadyExistsError(CheckpointExistsError):
    """A run has a checkpoint of this step already.

    Attributes:
      step: The step that was to be saved.
    """

    def __init__(
        self,
        what: str,
        *,
        step: int | None = None,
        path: object = None,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what, path=path, expected=expected, found=found, hint=hint)
        self.step = step


class InvalidLayoutError(SealwaxError, ValueError):
    """What is at the path is not a checkpoint, or not the one that was asked for."""


class NotADirectoryLayoutError(InvalidLayoutError, NotADirectoryError):
    """A file is at the path, and a checkpoint is a directory."""


class CheckpointableNotFoundError(InvalidLayoutError, KeyError):
    """The checkpoint has no checkpointable of this name."""


class InvalidPathError(SealwaxError, ValueError):
    """The path cannot hold a checkpoint."""


class InvalidMetadataError(SealwaxError, TypeError, ValueError):
    """Custom metadata cannot be stored."""


class ArgumentTypeError(SealwaxError, TypeError):
    """An argument is of the wrong type."""


class ArgumentValueError(SealwaxError, ValueError):
    """An argument is outside its range."""


class PartialSaveReplacementError(SealwaxError, ValueError):
    """A part of a checkpoint has a leaf where an earlier part has something already."""


class DeletionInProgressError(SealwaxError, RuntimeError):
    """A deletion of a part of the checkpoint was begun and is not finished."""


class DeletionRecoveryError(SealwaxError, RuntimeError):
    """An unfinished deletion stands in the way, and cannot be finished like this."""


class CorruptionError(SealwaxError, OSError):
    """Stored bytes are not those that were written."""


class StorageError(SealwaxError, OSError):
    """The file system or store refused an operation; ``errno`` is the original one.

    It is caught as what Python has for that number, too: ``except PermissionError`` catches it.
    """

    @classmethod
    def from_os_error(
        cls, error: OSError, what: str, *, leaf: str | None = None, path: object = None
    ) -> Self:
        """Makes a storage error that keeps ``error``'s number, text, file name and notes."""
        reason = error.strerror or str(error) or type(error).__name__
        kind = _also(cls, error)
        made = kind(f"{what}: {reason}", leaf=leaf, path=path, hint=_ADVICE.get(error.errno or 0))
        made.errno, made.strerror, made.filename = error.errno, reason, error.filename
        for note in getattr(error, "__notes__", ()):
            made.add_note(note)
        return made

    def __reduce__(self) -> tuple[object, ...]:
        made = type(self)
        kind: type[StorageError] = getattr(made, "_of", made)
        natural = made.__bases__[1] if kind is not made else OSError
        facts = (self.errno, self.strerror, self.filename)
        return _rebuild_storage, (kind, natural, self.what, facts, self.__dict__.copy())


@functools.cache
def _joined(kind: type[_S], natural: type[OSError]) -> type[_S]:
    """The class of errors that are of both kinds; one for each pair, named after both."""
    name = natural.__name__.removesuffix("Error") + kind.__name__
    body = {"__module__": kind.__module__, "__doc__": kind.__doc__, "_of": kind}
    return cast("type[_S]", type(name, (kind, natural), body))


def _also(kind: type[_S], error: OSError) -> type[_S]:
    """The kind of error, also the builtin that Python has for the number, if it has one."""
    # Python looks a number up only where it makes an OSError itself.
    natural = type(OSError(error.errno, "")) if error.errno is not None else OSError
    for made in (natural, type(error)):
        if made is not OSError and made.__module__ == "builtins":
            return _joined(kind, made)
    return kind


def _rebuild_storage(
    kind: type[_S],
    natural: type[OSError],
    what: str,
    facts: tuple[int | None, str | None, object],
    state: dict[str, object],
) -> _S:
    error = _rebuild(kind if natural is OSError else _joined(kind, natural), what, state)
    error.errno, error.strerror, error.filename = cast("Any", facts)
    return error


class SealError(StorageError):
    """The one step that commits the operation failed: makes a checkpoint visible, or ends it."""


class OperationTimeoutError(SealwaxError, TimeoutError):
    """A deadline passed."""


class OperationCancelledError(SealwaxError, RuntimeError):
    """The operation was cancelled before it was committed."""


class DeadlockError(SealwaxError, RuntimeError):
    """What an operation itself called waits for the end of that operation."""


class ProcessesError(SealwaxError, RuntimeError):
    """The processes of a job could not meet: one failed, or they have no coordinator."""


class ClosedError(SealwaxError, RuntimeError):
    """A checkpointer was used after it was closed."""


class SnapshotError(SealwaxError, RuntimeError):
    """A snapshot of the training state failed, or there is none that could be restored."""


class MissingPackageError(SealwaxError, ImportError):
    """What was asked for needs a package that is not there."""

    path: str | None = None  # ImportError has one of its own, which would not be copied.


class HookError(SealwaxError, RuntimeError):
    """A hook cannot act where it was called in a compiled program, or could not finish."""


class RunFailedError(SealwaxError, RuntimeError):
    """A run under ``sealwax.testing`` ended otherwise than the test asked for."""


class InternalError(SealwaxError, RuntimeError):
    """Something that cannot happen did: please report it, with the traceback."""


_ADVICE: dict[int, str] = {
    1: "Check the attributes of the directory, and what this user may do.",
    2: "It is gone: something removed it meanwhile. Make sure that nothing else does, and call it "
    "again.",
    5: "The disk or the way to it is failing: see the system's log, and save somewhere else.",
    13: "Check the permissions of the directory.",
    18: "A rename does not lead from one file system to another: choose a place on the same one.",
    24: "Too many files are open: raise the limit (ulimit -n).",
    27: "Files may not be so large here: raise the limit (ulimit -f), or lower "
    "array.saving.ocdbt_target_data_file_size.",
    28: "Free some space, or save to another disk; nothing was left behind.",
    30: "The file system is mounted read-only: save somewhere else.",
    36: "Choose a shorter name: while it is written, a checkpoint's is 62 bytes longer.",
    116: "The network file system lost it: call it again.",
    122: "The disk quota is used up: free some space, or save somewhere else.",
}
