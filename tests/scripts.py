"""Scripts that tests run in processes of their own, with every warning an error.

At their exit they wait in silence, however slow the machine is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np

import sealwax as ocp
from tests.gates import names

ROOT = Path(__file__).parent.parent
FAILED = 74

HEADER = """
import atexit, errno, logging, os, signal, sys, threading, time
atexit.register(print, "registered before sealwax")
import numpy as np
import sealwax as ocp
from sealwax import effects as e
from sealwax.effect_handlers import inject
from tests.gates import Gate, UntilExit, gate

ocp.runtime.exits._PATIENCE = ocp.runtime.exits._wait._silence = 600.0
PATH = sys.argv[1]
STATE = {"w": np.arange(1000), "step": 1}
FULL = OSError(errno.ENOSPC, "No space left on device")

"""


def launch(script: str, path: Path) -> subprocess.Popen[str]:
    """Starts a script that has the names of ``HEADER``, with its output in pipes."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HEADER + textwrap.dedent(script), str(path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / "lib"), str(ROOT)))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(script: str, path: Path) -> tuple[int, list[str], str]:
    """Runs a script to its end: its exit status, lines of output, and what it complained of."""
    process = launch(script, path)
    out, err = process.communicate(timeout=100)
    return process.returncode, out.splitlines(), err


def interrupt(script: str, path: Path, number: int) -> tuple[int, list[str], str]:
    """Runs a script and sends it a signal as soon as it has written a line."""
    process = launch(script, path)
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=100)
    return process.returncode, [first.strip(), *out.splitlines()], err


def holds(path: Path, step: int = 1) -> bool:
    """Whether the whole of ``STATE`` is there, and nothing beside it."""
    loaded = ocp.load(path)
    np.testing.assert_array_equal(loaded["w"], np.arange(1000))
    return loaded["step"] == step and names(path.parent) == [path.name]
