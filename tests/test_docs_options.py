"""The table in docs/options.md has every option, with its default, and tests that exist."""

from __future__ import annotations

import dataclasses
import pathlib
import re

import pytest

from sealwax.settings.availability import LATER
from sealwax.settings.frozen import GROUPS, dotted, fields, inner_group

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "options.md").read_text()
ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in TEXT.splitlines()
    if line.startswith("| `")
    for cells in [[cell.strip() for cell in line.strip("|").split(" | ")]]
}
FIELDS = {
    dotted(kind, field.name): field
    for kind in GROUPS
    for field in fields(kind)
    if inner_group(field) is not field.type
}


def default(field: dataclasses.Field[object]) -> str:
    """The default as the table writes it."""
    value = field.default
    if value is dataclasses.MISSING:
        return "required"
    if isinstance(value, type):
        return f"`{value.__module__.split('.')[0]}.{value.__qualname__}`"
    return f"`{getattr(value, 'value', value)!r}`"


def problem(shown_by: str) -> str | None:
    """What is wrong with a cell that names a test, or ``None``."""
    named = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`", shown_by)
    if named is None:
        return "is neither `tests/<file>.py::<test>` nor 'later: <what it needs>'"
    path = ROOT / named[1]
    found = path.is_file() and re.search(rf"\bdef {named[2]}\(", path.read_text())
    return None if found else "names a test that does not exist"


def test_the_table_has_exactly_the_options_there_are():
    assert set(ROWS) == set(FIELDS)
    assert TEXT.count("\n| `") == len(ROWS)


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_row_says_the_default_and_what_the_option_does(name):
    assert len(ROWS[name]) == 3
    written, does, _ = ROWS[name]
    assert written == default(FIELDS[name])
    assert re.fullmatch(r"[A-Z`].*\.", does)


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_row_names_a_test_or_what_the_option_waits_for(name):
    shown_by = ROWS[name][2]
    listed = [later for entry, later in LATER.items() if f"{name}.".startswith(f"{entry}.")]
    if listed and listed[0].values is None:
        assert shown_by == f"later: {listed[0].needs}"
    elif not listed or not re.fullmatch(r"later: \S.*", shown_by):
        assert problem(shown_by) is None, f"{name}: {shown_by} {problem(shown_by)}"


def test_a_test_that_does_not_exist_is_noticed():
    here = "tests/test_docs_options.py"
    assert problem(f"`{here}::test_a_test_that_does_not_exist_is_noticed`") is None
    assert problem(f"`{here}::test_a_test`") is not None
    assert problem("`tests/test_nothing.py::test_a_test`") is not None
    assert problem("sometime") is not None
