"""The examples in docstrings and in the README run, and print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import sealwax

README = Path(__file__).parent.parent / "README.md"
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(sealwax.__path__, "sealwax.")
    if not module.name.endswith("__main__")
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets examples write to relative paths."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["sealwax", *MODULES])
def test_docstrings(name: str, request: pytest.FixtureRequest) -> None:
    failed, _ = doctest.testmod(
        importlib.import_module(name),
        extraglobs={"getfixture": request.getfixturevalue},
        optionflags=FLAGS,
    )
    assert failed == 0


def test_readme() -> None:
    failed, tried = doctest.testfile(str(README), module_relative=False, optionflags=FLAGS)
    assert failed == 0
    assert tried > 0
