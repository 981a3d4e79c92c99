"""Jobs of several processes on this machine, each a script under ``jax.distributed``."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]

_HEADER = """
import asyncio, sys
import jax
ADDRESS, INDEX, COUNT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
jax.distributed.initialize(ADDRESS, COUNT, INDEX, initialization_timeout=90)
import sealwax as ocp

"""


def run(script: str, count: int = 2) -> list[list[str]]:
    """Runs a script as a job and returns the lines that each process printed.

    It has ``jax``, ``asyncio``, ``ocp``, and its ``INDEX``. What it writes to the standard error
    is shown where it fails.
    """
    with socket.socket() as reserved:
        # It stays bound, so that nobody else is given it; the job shares it, as gRPC always asks.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        return _run(script, count, f"127.0.0.1:{reserved.getsockname()[1]}")


def _run(script: str, count: int, address: str) -> list[list[str]]:
    where = os.pathsep.join((str(ROOT / "lib"), str(ROOT)))
    program = _HEADER + textwrap.dedent(script)
    job = [
        subprocess.Popen(
            [sys.executable, "-c", program, address, str(index), str(count)],
            env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": where},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]
    try:
        outputs = [process.communicate(timeout=100) for process in job]
    finally:
        for process in job:
            process.kill()
            process.wait()
    for process, (out, err) in zip(job, outputs, strict=True):
        assert process.returncode == 0, out + err
    return [out.splitlines() for out, _ in outputs]
