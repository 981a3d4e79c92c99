"""What a process really takes: its peak, as the kernel knows it, beside what the plan foretells.

Each measurement runs in a process of its own, after a small operation of the same kind: what the
first one brings in for good, such as threads and code, is no part of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc"),
]
ROOT = Path(__file__).parents[2]
MIB = 1 << 20
SLACK = 8 * MIB
"""What is not arrays: stacks and arenas of threads, and records of leaves."""

PROGRAM = """
import ctypes, gc, json, sys
import jax, numpy as np
import sealwax as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

path, kind, verb, leaves, mib, options = json.loads(sys.argv[1])
context = ocp.Context().replace(options)

def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))

def state(mib, leaves):
    rows = max(8, mib * 256 // leaves // 8 * 8)
    return {str(n): leaf(rows, n) for n in range(leaves)}

def leaf(rows, seed):
    data = np.random.default_rng(seed).random((rows, 1024), np.float32)
    if kind == "numpy":
        return data
    if kind == "strided":
        return np.asfortranarray(data)
    devices = {"jax": 1, "rows": 8, "columns": 8}[kind]
    mesh = Mesh(np.array(jax.devices()[:devices]), ("x",))
    spec = P(None, "x") if kind == "columns" else P("x")
    return jax.device_put(data, NamedSharding(mesh, spec)).block_until_ready()

def run(path, tree):
    if verb == "save":
        ocp.save(path, tree, context=context)
    elif verb == "save_async":
        response = ocp.save_async(path, tree, context=context)
        response.result()
        return response.progress.peak_host_bytes
    else:
        response = ocp.load_async(path, context=context)
        kept.append(response.result())
        return response.progress.peak_host_bytes

kept = []
small = state(1, 1)
if verb == "load":
    ocp.save(path + "-small", small, context=context)
run(path + "-small", small)
tree = state(mib, leaves)
if verb == "load":
    ocp.save(path, tree, context=context)
    del tree
    plan = ocp.plan_load(path, context=context).peak_host_bytes
    tree = None
else:
    later = verb == "save_async"
    plan = ocp.plan_save(path, tree, background=later, context=context).peak_host_bytes
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
before = status("VmRSS")
# Begins the kernel's record of the peak anew, which would hide a smaller one.
open("/proc/self/clear_refs", "w").write("5")
with ocp.effect_handlers.record() as trace:
    run(path, tree)
print(json.dumps([plan, trace.peak_host_bytes, status("VmHWM") - before]))
"""


def measure(
    tmp_path: Path, kind: str, verb: str, leaves: int, mib: int, **options: Any
) -> tuple[int, int, int]:
    """Bytes of host memory: as the plan tells, as the operation reports, and as measured."""
    given = {key.replace("__", "."): value for key, value in options.items()}
    argument = json.dumps([str(tmp_path / "c"), kind, verb, leaves, mib, given])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, argument],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT / "lib"),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        },
    )
    assert done.returncode == 0, done.stderr
    plan, report, measured = json.loads(done.stdout)
    return plan, report, measured


BUDGET = 16 * MIB
BUDGETS = {
    "memory__write_concurrent_bytes": BUDGET,
    "memory__read_concurrent_bytes": BUDGET,
    "memory__transfer_concurrent_bytes": BUDGET,
}


@pytest.mark.parametrize(
    ("kind", "verb", "ocdbt", "zarr3"),
    [
        ("numpy", "save_async", True, True),
        ("numpy", "save_async", False, False),
        ("strided", "save", True, False),
        ("strided", "save_async", False, True),
        ("columns", "save_async", True, True),
    ],
)
def test_a_save_of_one_huge_array_stays_within_its_budget(tmp_path, kind, verb, ocdbt, zarr3):
    formats = {"array__saving__use_ocdbt": ocdbt, "array__saving__use_zarr3": zarr3}
    plan, report, measured = measure(tmp_path, kind, verb, 1, 192, **BUDGETS, **formats)
    assert max(plan, report) <= BUDGET
    assert measured < BUDGET + SLACK


@pytest.mark.parametrize(("kind", "ocdbt"), [("numpy", True), ("rows", False)])
def test_a_load_of_one_huge_array_takes_the_array_and_no_more_than_its_budget(
    tmp_path, kind, ocdbt
):
    formats = {"array__saving__use_ocdbt": ocdbt}
    plan, report, measured = measure(tmp_path, kind, "load", 1, 192, **BUDGETS, **formats)
    assert plan == report == 192 * MIB
    assert measured < 192 * MIB + BUDGET + SLACK


@pytest.mark.parametrize(
    ("kind", "verb", "leaves", "budget"),
    [
        ("strided", "save", 1, None),
        ("strided", "save", 12, 64 * MIB),
        ("numpy", "save_async", 300, None),
        ("numpy", "load", 12, None),
        ("jax", "load", 300, None),
    ],
)
def test_plan_report_and_process_agree_within_a_tenth(tmp_path, kind, verb, leaves, budget):
    options = {"memory__transfer_concurrent_bytes": budget}
    plan, report, measured = measure(tmp_path, kind, verb, leaves, 300, **options)
    assert report == pytest.approx(plan, rel=0.1)
    assert measured == pytest.approx(report, rel=0.1, abs=SLACK)


@pytest.mark.parametrize(("kind", "verb"), [("jax", "save_async"), ("numpy", "save")])
def test_what_can_be_written_from_where_it_lies_takes_nothing(tmp_path, kind, verb):
    plan, report, measured = measure(tmp_path, kind, verb, 4, 192)
    assert plan == report == 0
    assert measured < SLACK
