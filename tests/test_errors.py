"""The errors that users see: natural builtins, messages of known parts, values that travel."""

from __future__ import annotations

import copy
import dataclasses
import errno
import inspect
import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sealwax as ocp
from sealwax import errors
from sealwax.effect_handlers import inject
from sealwax.effects import Exchange, Rename, WriteBatch
from sealwax.errors import SealError, SealwaxError, StorageError

EVERY = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, SealwaxError)
]
GROUPS = {"SealwaxError", "OptionError", "LeafError", "HandlerError"}
PARTS = {"leaf": "params.w", "path": "/runs/1", "expected": "a", "found": "b", "hint": "Do c."}
NATURAL = {
    errno.EACCES: PermissionError,
    errno.EPERM: PermissionError,
    errno.ENOENT: FileNotFoundError,
    errno.EEXIST: FileExistsError,
    errno.ENOTDIR: NotADirectoryError,
    errno.EISDIR: IsADirectoryError,
    errno.ETIMEDOUT: TimeoutError,
    errno.EINTR: InterruptedError,
    errno.EAGAIN: BlockingIOError,
    errno.ECONNRESET: ConnectionResetError,
    errno.EPIPE: BrokenPipeError,
}
COPIES = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def made(kind: type[SealwaxError], **parts: str) -> SealwaxError:
    """An error of a class, with those parts that it takes when it is made, and the others."""
    takes = inspect.signature(kind.__init__).parameters
    error = kind("something is wrong", **{k: v for k, v in parts.items() if k in takes})
    for name in parts.keys() - takes.keys():
        setattr(error, name, parts[name])
    return error


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
class TestEveryError:
    def test_is_also_a_natural_builtin_unless_it_is_a_group(self, kind):
        builtin = [
            base
            for base in kind.__mro__
            if base.__module__ == "builtins" and base not in (object, Exception, BaseException)
        ]
        builtin += [dataclasses.FrozenInstanceError] * (kind is errors.FrozenOptionError)
        assert bool(builtin) == (kind.__name__ not in GROUPS)

    def test_tells_its_parts_in_their_order(self, kind):
        error = made(kind, **PARTS).located(item="state")
        text = str(error)
        places = [text.index(word) for word in (
            "Something is wrong", "'state'", "'params.w'", "'/runs/1'", "xpected a", "found b",
            "Do c.",
        )]  # fmt: skip
        assert places == sorted(places)
        assert "None" not in text

    def test_tells_no_part_that_it_does_not_have(self, kind):
        assert str(made(kind)) == "Something is wrong."

    @pytest.mark.parametrize("how", COPIES)
    def test_travels(self, kind, how):
        error = made(kind, **PARTS).located(item="state")
        error.add_note("seen on Monday")
        found = COPIES[how](error)
        assert type(found) is kind
        assert str(found) == str(error)
        assert vars(found) == vars(error)
        assert found.__notes__ == ["seen on Monday"]

    def test_is_in_the_table(self, kind):
        assert f" {kind.__name__} " in f"{errors.__doc__} ".replace("\n", " ")

    def test_keeps_what_is_known_already_of_where(self, kind):
        error = made(kind, **PARTS)
        assert error.located(leaf="other", path="/other") is error
        assert (error.leaf, error.path) == ("params.w", "/runs/1")


@pytest.mark.parametrize("kind", [StorageError, SealError])
class TestStorage:
    @pytest.mark.parametrize("number", NATURAL, ids=errno.errorcode.get)
    def test_is_what_python_has_for_the_number(self, kind, number):
        error = kind.from_os_error(OSError(number, os.strerror(number), "/f"), "could not look")
        assert isinstance(error, NATURAL[number])
        assert isinstance(error, kind)
        assert (error.errno, error.strerror, error.filename) == (
            number,
            os.strerror(number),
            "/f",
        )
        assert not isinstance(error, tuple({*NATURAL.values()} - {*NATURAL[number].__mro__}))

    @given(number=st.sampled_from([*errno.errorcode, None]))
    def test_travels_with_its_number(self, kind, number):
        cause = OSError("broken") if number is None else OSError(number, os.strerror(number), "/f")
        cause.add_note("of the disk")
        error = kind.from_os_error(cause, "could not write", leaf="w", path="/p")
        for how in COPIES.values():
            found = how(error)
            assert type(found) is type(error)
            assert (found.errno, found.strerror, found.filename) == (
                error.errno,
                error.strerror,
                error.filename,
            )
            assert str(found) == str(error)
            assert vars(found) == vars(error)
            assert found.__notes__ == ["of the disk"]

    def test_is_one_class_for_one_number(self, kind):
        first, second = (
            kind.from_os_error(OSError(errno.EACCES, "no"), "could not look") for _ in range(2)
        )
        assert type(first) is type(second)
        assert type(first).__name__ == f"Permission{kind.__name__}"

    def test_without_a_number_it_is_what_was_raised(self, kind):
        error = kind.from_os_error(TimeoutError("too late"), "could not look")
        assert isinstance(error, TimeoutError)
        assert "too late" in str(error)

    def test_what_python_has_no_name_for_is_the_class_itself(self, kind):
        assert type(kind.from_os_error(OSError(errno.ENOSPC, "full"), "could not")) is kind


class TestRaised:
    @pytest.mark.parametrize(
        ("effect", "overwrite", "kind"),
        [
            (WriteBatch, False, StorageError),
            (Rename, False, SealError),
            (Exchange, True, SealError),
        ],
    )
    def test_the_builtin_catches_it_with_cause_and_notes(self, tmp_path, effect, overwrite, kind):
        cause = PermissionError(errno.EACCES, "not allowed")
        cause.add_note("said the server")
        ocp.save(tmp_path / "c", {"step": 1})
        path = tmp_path / "c" if overwrite else tmp_path / "d"
        with inject(effect, error=cause), pytest.raises(PermissionError) as caught:
            ocp.save(path, {"w": np.ones(3)}, overwrite=overwrite)
        assert isinstance(caught.value, kind)
        assert caught.value.__cause__ is cause
        assert caught.value.__notes__ == ["said the server"]
