"""The plan that the README shows is the one that the demo's state gets."""

from __future__ import annotations

import pathlib
import re
import sys

import pytest

import sealwax

ROOT = pathlib.Path(__file__).parents[1]
TOKEN = "0123456789abcdef0123456789abcdef"


def shown(directory: pathlib.Path) -> str:
    """The printed plan, with the directory and the random digits replaced."""
    train = pytest.importorskip("train")
    plan = sealwax.plan_save(directory / "step_10", train.initial_state(0))
    text = str(plan).replace(str(directory), "/run")
    text = re.sub(r"sealwax-[0-9a-f]{32}", f"sealwax-{TOKEN}", text)
    # The table is as wide as its longest line, which the path may be.
    return re.sub(r" {2,}", "  ", re.sub(r"-{2,}", "--", text))


def test_the_readme_shows_the_plan_of_the_demo(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "examples" / "digits"), *sys.path])
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"```text\n(save .*?)\n```", readme, re.DOTALL)
    assert block is not None
    written = re.sub(r" {2,}", "  ", re.sub(r"-{2,}", "--", block.group(1)))
    assert written == shown(tmp_path)
