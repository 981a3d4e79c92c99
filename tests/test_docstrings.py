"""The examples in docstrings and in the pages run, and print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import sealwax

ROOT = Path(__file__).parent.parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def docstrings() -> list[doctest.DocTest]:
    """Finds every docstring of the package that holds an example."""
    found = pkgutil.walk_packages(sealwax.__path__, "sealwax.")
    names = ["sealwax", *(module.name for module in found)]
    modules = [importlib.import_module(n) for n in names if not n.endswith("__main__")]
    finder = doctest.DocTestFinder()
    return [test for module in modules for test in finder.find(module) if test.examples]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets examples write to relative paths."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("example", docstrings(), ids=lambda example: example.name)
def test_docstring(example: doctest.DocTest, request: pytest.FixtureRequest) -> None:
    example.globs["getfixture"] = request.getfixturevalue  # as under `pytest --doctest-modules`
    assert doctest.DocTestRunner(optionflags=FLAGS).run(example).failed == 0


PAGES = [
    "README.md",
    "docs/handlers.md",
    "docs/hooks.md",
    "docs/checkpointables.md",
    "docs/clients.md",
    "docs/power-loss.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_page(page: str) -> None:
    failed, tried = doctest.testfile(str(ROOT / page), module_relative=False, optionflags=FLAGS)
    assert failed == 0
    assert tried > 0
