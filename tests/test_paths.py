"""Which paths are taken, and what they mean."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sealwax
from sealwax.errors import InvalidPathError
from sealwax.verbs.paths import absolute

PARTS = st.lists(st.sampled_from(["a", "b c", ".", "..", "é", "~x"]), max_size=5)


@given(parts=PARTS)
def test_the_result_is_absolute_and_normal(parts: list[str]) -> None:
    made = absolute("/root-of-all/" + "/".join(parts) + "/x")
    assert made == os.path.normpath(made)
    assert absolute(f"//{made}/") == made
    assert os.path.isabs(made)
    assert absolute(made) == made


@given(parts=PARTS)
def test_strings_and_path_objects_mean_the_same(parts: list[str]) -> None:
    text = "/y/z/" + "/".join([*parts, "x"])
    assert absolute(PurePosixPath(text)) == absolute(text)


def test_a_relative_path_starts_where_the_call_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    sealwax.save("ckpt", {"x": 1})
    sealwax.save(Path("../b/ckpt"), {"x": 2})
    response = sealwax.save_async("later", {"x": 3})
    monkeypatch.chdir(tmp_path)
    response.result()
    assert sorted(os.listdir("a")) == ["ckpt", "later"]
    assert sealwax.load("a/ckpt") == {"x": 1}
    assert sealwax.load("b/ckpt/") == {"x": 2}
    assert sealwax.load("./a/later") == {"x": 3}
    assert sealwax.metadata("a/ckpt").path == tmp_path / "a" / "ckpt"


def test_above_a_link_is_above_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "inner")
    sealwax.save(f"{tmp_path}/link/../ckpt", {"x": 1})
    assert os.listdir(f"{tmp_path}/link/../ckpt")
    assert sealwax.load(tmp_path / "real" / "ckpt") == {"x": 1}


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(InvalidPathError, match="link' is not a directory"):
        sealwax.save(tmp_path / "link" / "ckpt", {"x": 1})
    (tmp_path / "nothing").mkdir()
    sealwax.save(tmp_path / "link" / "ckpt", {"x": 1})
    assert sealwax.load(tmp_path / "nothing" / "ckpt") == {"x": 1}


def test_a_name_need_not_be_text(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "\udcff", {"x": 1})
    assert os.listdir(os.fsencode(tmp_path)) == [b"\xff"]
    assert sealwax.load(tmp_path / "\udcff") == {"x": 1}


def test_a_name_that_is_too_long_while_it_is_written_says_so(tmp_path: Path) -> None:
    sealwax.save(tmp_path / ("n" * 193), {"x": 1})
    with pytest.raises(OSError, match="62 bytes longer"):
        sealwax.save(tmp_path / ("n" * 194), {"x": 1})


def test_a_working_directory_that_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for path in ("ckpt", "../ckpt"):
        with pytest.raises(InvalidPathError, match="which was removed"):
            sealwax.save(path, {"x": 1})
    sealwax.save(tmp_path / "ckpt", {"x": 1})


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    sealwax.save("~/ckpt", {"x": 1})
    assert sealwax.load(tmp_path / "ckpt") == {"x": 1}
    assert sealwax.load("~/ckpt") == {"x": 1}
    assert sealwax.is_orbax_checkpoint("~/ckpt")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "The path is empty"),
        ("/", "The root of the file system"),
        ("//..", "The root of the file system"),
        (None, "This is not a path.*found None"),
        (3, "This is not a path.*found 3"),
        (b"/x", "This is not a path.*found b'/x'"),
        ("a\0b", "null character"),
        ("/\ud800", "characters that file names cannot"),
        ("~nobody-of-this-name/x", "no such user"),
        ("s3://bucket/x", "local file system"),
    ],
)
def test_what_is_no_path_is_refused_by_every_verb(path: object, message: str) -> None:
    for call in (
        lambda: sealwax.save(path, {"x": 1}),
        lambda: sealwax.save_async(path, {"x": 1}),
        lambda: sealwax.plan_save(path, {"x": 1}),
        lambda: sealwax.load(path),
        lambda: sealwax.load_async(path),
        lambda: sealwax.plan_load(path),
        lambda: sealwax.metadata(path),
        lambda: sealwax.is_orbax_checkpoint(path),
    ):
        with pytest.raises(InvalidPathError, match=message):
            call()
