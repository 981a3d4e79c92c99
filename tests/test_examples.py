"""The examples run, resume to the bit, and are what the pages show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
CLIENTS = {
    "linen_trainstate": ("flax.linen", 1),
    "nnx_module": ("flax.nnx", 2),
    "optax_masks": ("optax", 1),
    "equinox_module": ("equinox", 1),
    "grain_loader": ("grain", 2),
}
"""The library that each example needs, and how many resumptions it shows."""


@pytest.mark.parametrize("name", CLIENTS)
def test_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    library, resumptions = CLIENTS[name]
    pytest.importorskip(library)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), str(tmp_path)],
        env={k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
        | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT / "lib")},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2 * resumptions
    assert done.stdout.count("bit for bit") == resumptions
    assert len(list(tmp_path.rglob("commit_success.txt"))) == resumptions


def shown(example: Path) -> list[str]:
    """What lies between the marks of an example."""
    found = re.findall(r"^ *# \[docs\]\n(.*?)^ *# \[/docs\]\n", example.read_text(), re.S | re.M)
    return [textwrap.dedent(block) for block in found]


def test_the_page_shows_what_runs() -> None:
    page = (ROOT / "docs" / "clients.md").read_text()
    sections = re.findall(r"\(\.\./examples/(\w+)\.py\)(.*?)(?=^## |\Z)", page, re.S | re.M)
    assert {name for name, _ in sections} == set(CLIENTS)
    for name, section in sections:
        assert re.findall(r"```python\n(.*?)```", section, re.S) == shown(EXAMPLES / f"{name}.py")


def test_every_example_fits_a_page() -> None:
    for name in CLIENTS:
        assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 100, name
