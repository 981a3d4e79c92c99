"""One small program, run on Orbax's ``Context`` and on ours: do settings leak into a running task?

A task is started inside a ``with`` block, to save later. Meanwhile the block is left and the
context is given other settings, as code that shares one context does. Then, in another block,
another thread assigns to the context while it is in use. The program asks which array format an
operation of each would write.

Run it:  python examples/orbax_context_leak.py
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import tempfile
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

os.environ.setdefault("JAX_PLATFORMS", "cpu")


async def program(make_context: Callable[[], Any], writes_zarr3: Callable[[], bool]) -> list[bool]:
    """Returns whether Zarr v3 is used by the task, and by the block that a thread assigns to.

    Both started with a context that asks for Zarr v3, so both are ``True`` if nothing leaks.
    """
    ctx = make_context()
    left = asyncio.Event()

    async def save_later() -> bool:
        await left.wait()
        return writes_zarr3()

    with ctx:
        task = asyncio.create_task(save_later())
    ctx.array.saving.use_zarr3 = False
    left.set()
    in_the_task = await task

    ctx = make_context()
    with ctx:
        thread = threading.Thread(target=setattr, args=(ctx.array.saving, "use_zarr3", False))
        thread.start()
        thread.join()
        in_the_block = writes_zarr3()
    return [in_the_task, in_the_block]


def found_with(library: Any) -> list[bool]:
    """Runs the program on a library: each operation is a real save, read off its own metadata."""

    def writes_zarr3() -> bool:
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "checkpoint"
            library.save(path, {"a": np.ones(2)})
            metadata = json.loads((path / "state" / "_METADATA").read_text())
        return bool(metadata["use_zarr3"])

    return asyncio.run(program(library.Context, writes_zarr3))


def main() -> None:
    """Runs both, prints what they found, and asserts the difference."""
    import orbax.checkpoint as orbax

    import sealwax

    names = ("the task keeps its settings", "the block keeps its settings")
    results = {"orbax": found_with(orbax.v1), "sealwax": found_with(sealwax)}
    for library, kept in results.items():
        for name, holds in zip(names, kept, strict=True):
            print(f"{library:8} {name}: {'yes' if holds else 'NO, they leaked'}")
    assert results["orbax"] == [False, False], "Orbax no longer leaks: retire this example"
    assert results["sealwax"] == [True, True]


if __name__ == "__main__":
    main()
