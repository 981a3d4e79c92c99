"""The part of purity that import contracts cannot see: built-in I/O and paths that do I/O.

The contracts in pyproject.toml keep `os`, `time`, threads and event loops out of the packages
that decide. `open` needs no import, though, and `pathlib` has both pure paths and others.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
IO_BUILTINS = {"open", "print", "input", "breakpoint", "exec", "eval", "__import__"}
IO_METHODS = {
    "exists", "glob", "is_dir", "is_file", "iterdir", "lstat", "mkdir", "read_bytes", "read_text",
    "resolve", "rglob", "rmdir", "stat", "symlink_to", "touch", "unlink", "write_bytes",
    "write_text",
}  # fmt: skip


def pure_files() -> list[Path]:
    """Lists the sources of the modules that the contract in pyproject.toml names."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (pure,) = (c for c in contracts["contracts"] if c["name"] == "deciding is pure")
    places = [ROOT / "lib" / Path(*name.split(".")) for name in pure["source_modules"]]
    return sorted(
        file
        for place in places
        for file in (place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")])
    )


def doings(source: str) -> Iterator[str]:
    """Finds the calls that would touch the world."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in IO_BUILTINS:
                yield f"line {node.lineno}: {name}()"
            case ast.Call(func=ast.Attribute(attr=name)) if name in IO_METHODS:
                yield f"line {node.lineno}: .{name}()"


@pytest.mark.parametrize("file", pure_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_what_decides_does_nothing(file: Path) -> None:
    assert list(doings(file.read_text())) == []


@pytest.mark.parametrize("source", ["open('x')", "path.exists()", "print(1)", "x = [p.stat()]"])
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert list(doings(source))
