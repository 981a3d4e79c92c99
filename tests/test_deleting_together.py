"""Several deletions in one checkpoint at once, by threads and by processes."""

from __future__ import annotations

import concurrent.futures
import threading
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

import sealwax as ocp
from sealwax import effects as e
from sealwax import errors
from sealwax.effect_handlers import Forward, Handler
from tests.clocks import put_forward
from tests.gates import eventually, gate, names
from tests.scripts import launch

COUNT = 5
ITEMS = [f"item_{number}" for number in range(COUNT)]


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    path = tmp_path / "ckpt"
    ocp.save_checkpointables(path, {name: {"w": np.arange(3)} for name in [*ITEMS, "kept"]})
    return path


def only_kept_is_left(path: Path) -> None:
    assert set(ocp.load_checkpointables(path)) == {"kept"}
    assert ocp.verify(path)
    assert names(path.parent) == [path.name]


def test_threads_wait_for_each_other(ckpt: Path) -> None:
    together = threading.Barrier(COUNT)

    def delete(item: str) -> bool:
        together.wait()
        return ocp.delete(ckpt, checkpointable_name=item)

    with concurrent.futures.ThreadPoolExecutor(COUNT) as pool:
        assert all(pool.map(delete, ITEMS))
    only_kept_is_left(ckpt)


def test_processes_wait_for_each_other(ckpt: Path) -> None:
    script = """
        item, go = sys.argv[1].rpartition("@")[2], sys.argv[1].rpartition("@")[0]
        print("ready", flush=True)
        while not os.path.exists(go + ".go"):
            time.sleep(0.001)
        print(ocp.delete(go, checkpointable_name=item), flush=True)
    """
    processes = [launch(script, Path(f"{ckpt}@{item}")) for item in ITEMS]
    for process in processes:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "ready":
            pass
    go = Path(f"{ckpt}.go")
    go.touch()
    ended = [(*process.communicate(timeout=100), process.returncode) for process in processes]
    go.unlink()
    assert [(out.splitlines()[0], err, code) for out, err, code in ended] == [
        ("True", "", 0)
    ] * COUNT
    only_kept_is_left(ckpt)


def test_the_second_does_nothing_until_the_first_is_done(ckpt: Path) -> None:
    assert ocp.delete(ckpt, checkpointable_name=ITEMS[0])
    done: list[bool] = []
    with gate(e.Replace) as between:
        first = ocp.delete_async(ckpt, checkpointable_name=ITEMS[1])
        eventually(between.arrived.is_set)
        second = threading.Thread(
            target=lambda: done.append(ocp.delete(ckpt, checkpointable_name=ITEMS[2]))
        )
        second.start()
        second.join(0.1)
        assert second.is_alive()
        assert (ckpt / ITEMS[2]).is_dir()
    second.join()
    assert done == [True]
    assert first.result()
    assert set(ocp.load_checkpointables(ckpt)) == {"kept", *ITEMS[3:]}


def test_it_waits_no_longer_than_the_settings_allow(ckpt: Path) -> None:
    class Longer(Handler):
        async def perform(self, effect: e.Effect, forward: Forward) -> Any:
            if not isinstance(effect, e.Hold):
                return await forward(effect)
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                return await forward(effect)

    async def wait() -> None:
        await anyio.wait_all_tasks_blocked()
        put_forward(100)

    soon = ocp.Context().at.asynchronous.timeout_secs.set(100)
    with gate(e.Replace) as between:
        first = ocp.delete_async(ckpt, checkpointable_name=ITEMS[0])
        eventually(between.arrived.is_set)
        refused = pytest.raises(errors.OperationTimeoutError, match="wait until nobody else uses")
        with Longer(), refused:
            ocp.delete(ckpt, checkpointable_name=ITEMS[1], context=soon)
    assert first.result()
    assert ocp.delete(ckpt, checkpointable_name=ITEMS[1])


def test_of_two_who_delete_the_same_item_one_does_it(ckpt: Path) -> None:
    with gate(e.Replace) as between:
        first = ocp.delete_async(ckpt, checkpointable_name=ITEMS[0])
        eventually(between.arrived.is_set)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            second = pool.submit(ocp.delete, ckpt, checkpointable_name=ITEMS[0], missing_ok=True)
            between.open()
            assert second.result() is False
    assert first.result()


def test_what_a_deletion_that_died_left_is_told_at_once(ckpt: Path) -> None:
    script = """
        from sealwax.effects import Replace
        with inject(Replace, kill=True):
            ocp.delete(PATH, checkpointable_name="item_0")
    """
    process = launch(script, ckpt)
    process.communicate(timeout=100)
    assert process.returncode != 0
    with pytest.raises(errors.DeletionRecoveryError, match="'item_0', is not finished"):
        ocp.delete(ckpt, checkpointable_name="item_1")
    assert ocp.delete(ckpt, checkpointable_name="item_0")
    assert ocp.delete(ckpt, checkpointable_name="item_1")


def test_the_whole_may_go_while_an_item_is_going(ckpt: Path) -> None:
    with gate(e.Replace) as between:
        first = ocp.delete_async(ckpt, checkpointable_name=ITEMS[0])
        eventually(between.arrived.is_set)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            whole = pool.submit(ocp.delete, ckpt)
            assert whole.result() is True
    with pytest.raises(errors.CheckpointNotFoundError):
        first.result()
    assert names(ckpt.parent) == []


@pytest.mark.parametrize("until", [e.Replace, e.RemoveFile])
def test_whoever_verifies_meanwhile_takes_the_item_for_gone_and_not_for_damaged(
    ckpt: Path, until: type
) -> None:
    """What was seen before the deletion began is looked at again."""
    with gate(e.CheckExtents) as verifying:
        report = ocp.verify_async(ckpt)
        eventually(verifying.arrived.is_set)
        with gate(until) as deleting:
            deletion = ocp.delete_async(ckpt, checkpointable_name=ITEMS[0])
            eventually(deleting.arrived.is_set)
            verifying.open()
            found = report.result()
        assert deletion.result()
    assert found, found
    only = set(ocp.load_checkpointables(ckpt))
    assert only == {"kept", *ITEMS[1:]}
