"""The system calls of real saves, as the kernel saw them: what is synced, and in which order.

``test_durable.py`` asks the same of the effects, and of what Python calls, on every system.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
CALLS = (
    "openat,link,linkat,mkdir,mkdirat,write,writev,pwrite64,pwritev,rename,renameat,renameat2,"
    "fsync,fdatasync,unlink,unlinkat,rmdir"
)
LINE = re.compile(r"(\d+\.\d+) (\w+)\((.*)\) += (-?\d+)(?:<(.*?)>)?(?: \w+ \(.*\))? <(\d+\.\d+)>")
NAMES = ("save", "files", "zarr2", "items", "parts", "async", "overwrite", "overwrite-files")
OPEN = re.compile(r"\d+<(.*?)>")

PROGRAM = """
    import sys
    import numpy as np, sealwax
    from sealwax.context import Context
    from tests.planned import PlannedPoint
    from tests.points import Counter, Point
    base, first, second = sys.argv[1], {"w": np.arange(9.0), "s": "a"}, {"w": np.ones(9), "s": "b"}
    files = Context().at.array.saving.use_ocdbt.set(False)
    zarr2 = files.at.array.saving.use_zarr3.set(False)
    atomic = Context().at.file.durability.set("atomic")

    sealwax.save(base + "/save/new/c", first)
    sealwax.save(base + "/files/new/c", first, context=files)
    sealwax.save(base + "/zarr2/new/c", first, context=zarr2)
    registry = sealwax.handlers.local_registry()
    registry.add(PlannedPoint)
    handled = Context().at.checkpointables.registry.set(registry)
    items = {"state": first, "planned": Point(1, 2), "stateful": Counter(3)}
    sealwax.save_checkpointables(base + "/items/new/c", items, context=handled)
    sealwax.partial.save(base + "/parts/new/c", first)
    sealwax.partial.save(base + "/parts/new/c", {"deep": {"er": second["w"]}})
    sealwax.partial.finalize(base + "/parts/new/c")
    sealwax.save_async(base + "/async/new/c", first).result()
    for name, context in ("overwrite", None), ("overwrite-files", files):
        sealwax.save(f"{base}/{name}/new/d", first)
        sealwax.save(f"{base}/{name}/new/c", first, context=atomic)
        sealwax.save(f"{base}/{name}/new/c", second, context=context, overwrite=True)
    sealwax.save(base + "/atomic/new/c", first, context=atomic)
"""


class Call(NamedTuple):
    """A system call that succeeded, with the path that it acts on; of a rename, the new one."""

    start: float
    end: float
    name: str
    path: str
    text: str


def calls(directory: Path) -> list[Call]:
    """The calls of all threads, by the time when they began."""
    found: list[Call] = []
    for file in directory.iterdir():
        for line in file.read_text(errors="replace").splitlines():
            match = LINE.fullmatch(line)
            if match is None or match[4].startswith("-"):
                continue
            start, name, text, _, opened, duration = match.groups()
            if name == "openat":
                path = opened if "O_CREAT" in text else None
            elif name in ("fsync", "fdatasync", "write", "writev", "pwrite64", "pwritev"):
                path = OPEN.match(text)[1]
            else:
                path = re.findall(r'"(.*?)"', text)[-1]
            if path is not None:
                begun = float(start)
                found.append(Call(begun, begun + float(duration), name, path, text))
    return sorted(found)


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Call]]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    base, traces = tmp_path_factory.mktemp("saves"), tmp_path_factory.mktemp("traces")
    for name in (*NAMES, "atomic"):
        (base / name).mkdir()
    strace = ["strace", "-ff", "-y", "-ttt", "-T", "-s", "4", "-e", f"trace={CALLS}"]
    done = subprocess.run(
        [*strace, "-o", str(traces / "t"), sys.executable, "-c", textwrap.dedent(PROGRAM), base],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "lib"), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    return base, calls(traces)


def problems(trace: list[Call], root: Path) -> Iterator[str]:
    """What is not on stable storage when it must be, in the last save to ``root/new/c``."""
    above = str(root / "new")
    seal = [c for c in trace if c.name.startswith("rename") and c.path == f"{above}/c"][-1]
    temporary = re.findall(r'"(.*?)"', seal.text)[0]
    inside = [c for c in trace if c.path.startswith(f"{temporary}/") or c.path == temporary]
    synced = [c for c in trace if c.name in ("fsync", "fdatasync")]

    def is_synced(path: str, after: float, before: float) -> bool:
        return any(c.path == path and after <= c.start and c.end <= before for c in synced)

    made = [c for c in inside if c.name in ("openat", "link", "linkat", "mkdir", "mkdirat")]
    if len(made) < 10:
        yield f"only {len(made)} files and directories were seen"
    for call in made:
        if "mkdir" not in call.name:
            writes = [c.end for c in inside if c.path == call.path and "write" in c.name]
            if not is_synced(call.path, max(writes, default=call.end), seal.start):
                yield f"{call.path} was not synced between its last write and the seal"
        directory = os.path.dirname(call.path)
        if call.path != temporary and not is_synced(directory, call.end, seal.start):
            yield f"{directory} was not synced after {call.path} was made"
        if "mkdir" in call.name and call.path != temporary:
            below = [c.end for c in synced if os.path.dirname(c.path) == call.path]
            if not is_synced(call.path, max(below, default=call.end), seal.start):
                yield f"{call.path} was synced before what is in it"
    after = [c for c in synced if c.path == above and c.start >= seal.end]
    if not after:
        yield f"{above} was not synced after the seal"
    removed = [c for c in trace if c.name in ("unlink", "unlinkat", "rmdir")]
    removed = [c for c in removed if temporary in f"{c.path} {c.text}" and c.start > seal.start]
    if any(c.start < after[0].end for c in removed if after):
        yield "the old checkpoint was removed before the new one was on stable storage"
    if "EXCHANGE" in seal.text and not removed:
        yield "the old checkpoint was not removed"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
class TestEverySave:
    def test_syncs_all_that_it_made_before_the_seal_and_the_seal_after_it(self, traced, name):
        base, trace = traced
        assert list(problems(trace, base / name)) == []

    def test_syncs_the_directory_above_the_one_it_made(self, traced, name):
        base, trace = traced
        (made,) = (c for c in trace if c.name == "mkdir" and c.path == str(base / name / "new"))
        assert any(c.name == "fsync" and c.path == str(base / name) for c in trace if c > made)

    def test_replaces_in_one_step(self, traced, name):
        base, trace = traced
        flag = "RENAME_EXCHANGE" if "overwrite" in name else "RENAME_NOREPLACE"
        seals = [c for c in trace if c.path == str(base / name / "new" / "c")]
        assert flag in [c for c in seals if c.name == "renameat2"][-1].text


@pytest.mark.slow
def test_the_search_finds_what_is_not_synced(traced):
    base, trace = traced
    found = list(problems(trace, base / "atomic"))
    assert sum("was not synced between" in each for each in found) > 5
    assert any("after the seal" in each for each in found)
