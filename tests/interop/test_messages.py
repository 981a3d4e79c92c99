"""Every mistake gives an error that says what is wrong, where, and what to do.

The messages are kept in ``golden/messages.txt``, with Orbax's for the same mistakes in
``golden/orbax.txt`` to be read beside them. ``SEALWAX_WRITE_GOLDEN=1`` writes the first anew,
``SEALWAX_WRITE_GOLDEN=orbax`` both; after some of these mistakes Orbax takes minutes to exit.
"""

from __future__ import annotations

import difflib
import os
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from orbax.checkpoint import v1 as orbax

import sealwax
from sealwax.errors import SealwaxError
from tests.interop.damages import MISTAKES
from tests.interop.mistakes import Mistake

GOLDEN = Path(__file__).parent / "golden"
WRITING = "SEALWAX_WRITE_GOLDEN" in os.environ
INTERNAL = re.compile(r"tensorstore|ocdbt|NOT_FOUND|json_pointer|Traceback|0x[0-9a-f]{6}", re.I)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.title)
def test_the_error_is_clear(tmp_path: Path, mistake: Mistake) -> None:
    with pytest.raises(mistake.raises[0]) as caught:
        mistake.make(sealwax, tmp_path)
    error = caught.value
    assert isinstance(error, SealwaxError)
    assert all(isinstance(error, kind) for kind in mistake.raises)
    assert error.leaf == mistake.leaf or mistake.leaf is None
    assert mistake.leaf is None or repr(mistake.leaf) in str(error)
    if mistake.path is not None:
        assert error.path == str(tmp_path / mistake.path)
        assert repr(error.path) in str(error)
    assert not INTERNAL.search(str(error)), str(error)
    assert len(str(error)) < 600
    assert_tidy(tmp_path)


def assert_tidy(here: Path) -> None:
    """Fails where something was left behind, or something precious was lost."""
    found = list(here.rglob("*"))
    assert [path for path in found if "sealwax-" in path.name] == []
    kept = [path.read_text() for path in found if path.name in ("file", "thesis.tex")]
    assert set(kept) <= {"precious", "x"}


def message(ocp: Any, mistake: Mistake, here: Path) -> str:
    here.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            outcome = f"no error; {type(mistake.make(ocp, here)).__name__} returned"
        except Exception as error:
            kind, text = type(error).__name__, str(error)
            chain = [f"{kind}: {text}"]
            while error.__cause__ is not None and not isinstance(error, SealwaxError):
                error = error.__cause__
                chain.append(f"<- {type(error).__name__}: {error}")
            outcome = "\n".join(chain)
    return outcome.replace(str(here), "<p>")


def shortened(text: str) -> str:
    lines = (line if len(line) <= 400 else f"{line[:400]}..." for line in text.splitlines())
    return "\n".join(f"    {line}" for line in lines)


def all_messages(ocp: Any, root: Path) -> str:
    parts = [
        f"{each.title}\n{shortened(message(ocp, each, root / str(number)))}\n"
        for number, each in enumerate(MISTAKES)
    ]
    return "\n".join(parts)


def test_the_messages_are_those_of_the_golden_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = all_messages(sealwax, tmp_path)
    if WRITING:
        (GOLDEN / "messages.txt").write_text(found)
    wanted = (GOLDEN / "messages.txt").read_text()
    diff = difflib.unified_diff(
        wanted.splitlines(), found.splitlines(), "golden", "now", lineterm=""
    )
    assert found == wanted, "\n".join(["SEALWAX_WRITE_GOLDEN=1 accepts these changes:", *diff])


@pytest.mark.skipif(
    os.environ.get("SEALWAX_WRITE_GOLDEN") != "orbax", reason="only to write the golden file"
)
@pytest.mark.filterwarnings("ignore")
def test_orbax_messages_are_written_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (GOLDEN / "orbax.txt").write_text(all_messages(orbax, tmp_path))
