"""Who a process is, and waiting for one another, in a job of two real processes."""

from __future__ import annotations

from pathlib import Path

from tests.distributed.jobs import run


def test_each_knows_who_it_is_without_starting_a_backend() -> None:
    seen = run("""
        from jax._src import xla_bridge
        m = ocp.multihost
        print(m.process_index(), m.process_count(), m.is_primary_host(0), m.is_primary_host(None))
        print(xla_bridge.backends_are_initialized())
    """)
    assert seen == [["0 2 True True", "False"], ["1 2 False True", "False"]]


def test_nobody_goes_on_before_everybody_has_come(tmp_path: Path) -> None:
    """One writes before the barrier, the other reads after it, several times under one key."""
    seen = run(f"""
        import pathlib
        meet = ocp.multihost.sync_global_processes
        async def main():
            for turn in range(5):
                at = pathlib.Path({str(tmp_path)!r}, str(turn))
                if INDEX == turn % 2:
                    at.write_text(str(turn))
                await meet("written")
                print(at.read_text())
                await meet("read", operation_id=ocp.multihost.next_operation_id())
        asyncio.run(main())
    """)
    assert seen == [["0", "1", "2", "3", "4"]] * 2


def test_other_tasks_go_on_meanwhile() -> None:
    seen = run("""
        meet = ocp.multihost.sync_global_processes
        async def main():
            arrived = asyncio.Event()
            async def other():
                arrived.set()
                await meet("inner", operation_id="7")
            async with asyncio.TaskGroup() as tasks:
                if INDEX == 0:
                    tasks.create_task(meet("outer"))
                    await asyncio.sleep(0)
                await other()
                if INDEX == 1:
                    await meet("outer")
        asyncio.run(main())
        print("met")
    """)
    assert seen == [["met"], ["met"]]


def test_who_does_not_come_is_told_by_name_and_time() -> None:
    seen = run("""
        meet = ocp.multihost.sync_global_processes
        if INDEX == 0:
            try:
                asyncio.run(meet("lonely", timeout=0.5))
            except ocp.errors.OperationTimeoutError as error:
                print(error)
        asyncio.run(meet("end", timeout=60))
    """)
    said = (
        "Not every process came to the barrier 'sealwax/lonely/all/1' within 0.5 s. Every "
        "process of the job must make the same calls in the same order; look for one that is "
        "slower, ended, or took another way."
    )
    assert seen == [[said], []]


def test_some_meet_without_the_others() -> None:
    seen = run("""
        meet = ocp.multihost.sync_global_processes
        asyncio.run(meet("one", processes=[INDEX], timeout=60))
        with ocp.Context() as ctx:
            ctx.multiprocessing.barrier_sync_key_prefix = "mine"
            asyncio.run(meet("both", processes={0, 1}))
        try:
            asyncio.run(meet("one", processes=[1 - INDEX]))
        except ValueError as error:
            print(error.what, error.found)
        try:
            asyncio.run(meet("none", processes=[INDEX, 9]))
        except ValueError as error:
            print(error.what, error.expected)
    """)
    refused = "This process is not among those that are to meet"
    unknown = "Argument 'processes' names processes that the job does not have indices from 0 to 1"
    assert seen == [[f"{refused} [1]", unknown], [f"{refused} [0]", unknown]]
