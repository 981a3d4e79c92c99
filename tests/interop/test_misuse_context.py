"""Wrong uses of contexts and options, as section 11 of the list of misuses has them: all clear.

The number in each test's name is that of its row. Where Orbax accepts, ignores or misreports, here
the first line of an error names the option and what it allows, or the use is simply right.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import subprocess
import sys
import threading

import jax.numpy as jnp
import numpy as np
import pytest

import sealwax
import sealwax.options as o
from sealwax.context import Context, current_options, resolve
from sealwax.effects import Stage
from sealwax.errors import (
    OptionTypeError,
    OptionUnavailableError,
    OptionValueError,
    UnknownOptionError,
)

ROOT = pathlib.Path(__file__).parents[2]


def in_thread(function, *args):
    found = []
    thread = threading.Thread(target=lambda: found.append(function(*args)))
    thread.start()
    thread.join()
    return found[0]


def test_175_a_wrong_type_is_refused_where_it_is_assigned():
    ctx = Context()
    with pytest.raises(OptionTypeError, match=r"'array.saving.use_ocdbt' .* found 'no' \(str\)"):
        ctx.array.saving.use_ocdbt = "no"
    with pytest.raises(OptionTypeError, match=r"'asynchronous.timeout_secs' .* found 'x' \(str\)"):
        ctx.asynchronous.timeout_secs = "x"
    assert ctx.options == o.Options()


def test_176_a_whole_group_can_be_assigned():
    ctx = Context()
    ctx.array = o.ArrayOptions(saving=o.ArrayOptions.Saving(use_zarr3=False))
    ctx.array_options = ctx.array
    assert not ctx.array.saving.use_zarr3


def test_177_a_name_that_does_not_exist_is_refused():
    ctx = Context()
    with pytest.raises(UnknownOptionError, match=r"no option 'arry'.*Did you mean 'array'"):
        ctx.arry = o.ArrayOptions()
    with pytest.raises(UnknownOptionError, match=r"'array.saving' has no option 'foo'"):
        ctx.array.saving.foo = 1


def test_178_what_runs_is_not_changed_from_another_thread():
    ctx = Context()
    with ctx:
        in_thread(setattr, ctx.array.saving, "use_zarr3", False)
        assert current_options().array.saving.use_zarr3


def test_178_what_runs_is_not_changed_after_the_block_was_left():
    ctx = Context()

    async def main() -> bool:
        left = asyncio.Event()

        async def save_later() -> bool:
            await left.wait()
            return resolve().array.saving.use_zarr3

        with ctx:
            task = asyncio.create_task(save_later())
        ctx.array.saving.use_zarr3 = False
        left.set()
        return await task

    assert asyncio.run(main())


def test_179_a_wrong_layout_lists_the_right_ones():
    with pytest.raises(OptionValueError, match=r"'orbax', 'safetensors', 'auto', found 'zip'"):
        Context().checkpoint_layout = "zip"
    with pytest.raises(OptionValueError, match="'checkpoint_layout'"):
        Context(checkpoint_layout="zip")


def test_181_a_child_holds_a_callback_that_cannot_be_copied():
    class Callback:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def __call__(self) -> None:
            return None

    parent, callback = Context(), Callback()
    parent.asynchronous.post_finalization_callback = callback
    assert Context(parent).asynchronous.post_finalization_callback is callback


def test_182_a_new_thread_gets_the_context_that_is_carried_over():
    ctx = Context().at.file.durability.set("atomic")
    with ctx:
        assert in_thread(current_options) == o.Options()
        for carried in (ctx.bind(current_options), lambda: ctx.run(current_options)):
            assert in_thread(carried) == ctx.options
        assert in_thread(resolve, ctx) == ctx.options


def test_184_a_transfer_budget_acts_on_its_own(tmp_path):
    tree = {f"w{number}": jnp.ones((256, 256)) for number in range(8)}

    def stages(ctx: Context) -> list[int]:
        planned = sealwax.plan_save(tmp_path / "checkpoint", tree, context=ctx)
        return [step.effect.nbytes for step in planned.steps if isinstance(step.effect, Stage)]

    budget = 256 * 256 * 4
    ctx = Context().at.memory.transfer_concurrent_bytes.set(budget)
    assert max(stages(ctx)) <= budget < max(stages(Context()))
    with pytest.raises(OptionValueError, match=r"transfer_concurrent_bytes.*at least 1"):
        ctx.memory.transfer_concurrent_bytes = 0


def test_188_a_chunk_below_one_element_names_the_option_and_the_leaf(tmp_path):
    name = "array.saving.storage_options.chunk_byte_size"
    with pytest.raises(OptionValueError, match=f"'{name}'.*'w'.*at least 8, found 1"):
        sealwax.save(tmp_path / "c", {"w": np.ones(2)}, context=Context().replace({name: 1}))
    assert list(tmp_path.iterdir()) == []


def test_185_an_option_that_cannot_act_says_so_when_it_is_used(tmp_path):
    name = "multiprocessing.barrier_sync_key_prefix"
    ctx = Context().replace({name: "mine"})
    with pytest.raises(OptionUnavailableError) as caught:
        sealwax.save(tmp_path / "checkpoint", {"w": np.ones(2)}, context=ctx)
    assert str(caught.value).startswith(f"Option {name!r} cannot act on a save yet")
    assert list(tmp_path.iterdir()) == []


def test_187_path_class_takes_pathlib():
    ctx = Context()
    ctx.file.path_class = pathlib.Path
    assert ctx.file.path_class("a") == pathlib.Path("a")
    with pytest.raises(OptionTypeError, match=r"'file.path_class'.*a class"):
        ctx.file.path_class = "pathlib.Path"


def test_188_a_chunk_size_is_reported_under_its_own_name():
    ctx = Context()
    with pytest.raises(OptionValueError, match=r"storage_options.chunk_byte_size'.*at least 1"):
        ctx.array.saving.storage_options.chunk_byte_size = 0


def test_a_context_is_made_from_a_context():
    with pytest.raises(OptionTypeError, match="Expected a Context, found 'int'"):
        Context(5)


def test_an_option_value_that_is_a_set_cannot_be_changed_behind_the_context():
    ctx = Context()
    ctx.multiprocessing.active_processes = {0}
    with ctx, pytest.raises(AttributeError):
        ctx.multiprocessing.active_processes.add(1)


def test_one_group_in_two_contexts_is_not_shared_by_them():
    group = o.ArrayOptions()
    one, two = Context(array_options=group), Context(array_options=group)
    with one:
        two.array.saving.use_zarr3 = False
    assert one.array.saving.use_zarr3


def test_the_example_shows_orbax_leaking_and_sealwax_not():
    env = {**os.environ, "PYTHONPATH": str(ROOT / "lib"), "JAX_PLATFORMS": "cpu"}
    script = ROOT / "examples" / "orbax_context_leak.py"
    done = subprocess.run(
        [sys.executable, str(script)], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith("orbax") and "leaked" in line for line in lines) == 2
    assert sum(line.startswith("sealwax") and line.endswith("yes") for line in lines) == 2
