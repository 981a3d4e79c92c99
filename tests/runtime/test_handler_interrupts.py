"""What ends a program, raised by a handler: it comes out once, and its thread prints nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gates import names
from tests.scripts import run

SCRIPT = """
    import asyncio
    where, kind = {where!r}, {kind}

    def end():
        raise kind(3)

    class Ending:
        async def save(self, directory):
            if where == "first":
                end()
            return self.write(directory)

        async def write(self, directory):
            path = await directory.await_creation()
            (path / "half").write_text("x")
            if where == "rest":
                end()
            if where == "worker":
                await asyncio.to_thread(end)
            if where == "task":
                await asyncio.create_task(asyncio.to_thread(end))

        async def load(self, directory):
            return self.read()

        async def read(self):
            end()

    items = {{"loop": Ending(), "params": STATE}}
    try:
        if {background}:
            ocp.save_checkpointables_async(PATH, items).result()
        else:
            ocp.save_checkpointables(PATH, items)
        ocp.load_checkpointables(PATH, items)
    except BaseException as error:
        print(type(error).__name__, error.args)
    while any("handler" in t.name for t in threading.enumerate()):
        time.sleep(0.001)
"""


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "SystemExit"])
def test_it_comes_out_once_and_nothing_is_printed(
    tmp_path: Path, kind: str, background: bool
) -> None:
    for where in ("first", "rest", "worker", "task"):
        script = SCRIPT.format(where=where, kind=kind, background=background)
        code, lines, complaints = run(script, tmp_path / "ckpt")
        assert lines == [f"{kind} (3,)", "registered before sealwax"], (where, lines)
        assert complaints == "", where
        assert code == 0
        assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "SystemExit"])
def test_from_a_load_too(tmp_path: Path, kind: str) -> None:
    script = SCRIPT.format(where="load", kind=kind, background=False)
    code, lines, complaints = run(script, tmp_path / "ckpt")
    assert (code, lines, complaints) == (0, [f"{kind} (3,)", "registered before sealwax"], "")
    assert names(tmp_path) == ["ckpt"]
