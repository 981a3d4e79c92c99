"""Every difference that docs/differences.md lists names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "differences.md").read_text()
ITEMS = re.findall(r"^- (.*?)(?=^- |^## |\Z)", PAGE, re.M | re.S)


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: " ".join(item.split()[:6]))
def test_it_names_a_test(item: str) -> None:
    (pointer,) = re.findall(r"\(`(tests/[^`]+)`\)\s*$", item.strip())
    file, _, name = pointer.partition("::")
    source = (ROOT / file).read_text()
    assert not name or re.search(rf"^\s*(?:async )?(?:def|class) {name}\b", source, re.M), pointer


def test_the_page_has_a_list() -> None:
    assert len(ITEMS) > 30
