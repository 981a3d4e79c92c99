"""Metrics come to the host in the order of the steps, and ``Best`` follows the least."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import sealwax
from sealwax.errors import HookError
from sealwax.hooks import Best, Recorder, Row
from tests.hooks.states import MESH, put


class TestRecorder:
    """Rows are what the program computed, each once."""

    def test_rows_of_a_scan_and_their_sink(self) -> None:
        told: list[Row] = []
        record = Recorder(every=3, sink=told.append)

        def body(loss: Any, number: Any) -> tuple[Any, None]:
            record({"loss": loss, "twice": jnp.stack([loss, loss])}, step=number)
            return loss + 1, None

        jax.jit(lambda x: jax.lax.scan(body, x, jnp.arange(7)))(jnp.float32(0))
        rows = record.rows()
        assert rows == tuple(
            Row(step=n, metrics={"loss": float(n), "twice": [float(n)] * 2}) for n in (0, 3, 6)
        )
        assert told == list(rows)

    def test_on_several_devices_once(self) -> None:
        record = Recorder()

        @jax.jit
        def program(x: Any) -> Any:
            record({"sum": x.sum()}, step=1)
            return x

        program(put(jnp.arange(8.0), "x"))
        assert record.rows() == (Row(step=1, metrics={"sum": 28.0}),)

    def test_under_shard_map_those_of_the_first(self) -> None:
        record = Recorder()

        def local(x: Any) -> Any:
            record({"own": x.sum(), "all": jax.lax.psum(x.sum(), "x")}, step=1)
            return x

        jax.jit(jax.shard_map(local, mesh=MESH, in_specs=P("x"), out_specs=P("x")))(jnp.arange(8.0))
        assert record.rows() == (Row(step=1, metrics={"own": 1.0, "all": 28.0}),)

    def test_inside_what_is_differentiated(self) -> None:
        record = Recorder()

        def loss(w: Any) -> Any:
            def body(w: Any, number: Any) -> tuple[Any, None]:
                record({"w": w}, step=number)
                return w * 2, None

            return jax.lax.scan(body, w, jnp.arange(3))[0]

        assert float(jax.jit(jax.grad(loss))(1.0)) == 8.0
        assert [row.metrics["w"] for row in record.rows()] == [1.0, 2.0, 4.0]

    def test_what_the_sink_raises(self) -> None:
        def sink(row: Row) -> None:
            raise KeyError(row.step)

        record = Recorder(sink=sink)
        jax.jit(lambda: record({"x": 1}, step=5))()
        with pytest.raises(KeyError) as failure:
            record.rows()
        assert "given step 5" in failure.value.__notes__[0]
        assert len(record.rows()) == 1

    def test_what_is_too_large(self) -> None:
        with pytest.raises(HookError, match="'x' is too large"):
            jax.jit(lambda: Recorder()({"x": jnp.zeros(10**5)}, step=0))()


class TestBest:
    """It is a fold: the least so far, the first of equals, never NaN."""

    @hypothesis.given(st.lists(st.floats(width=32, allow_subnormal=False), max_size=12))
    def test_it_is_the_least(self, values: list[float]) -> None:
        best, better = Best.start(), []
        for number, value in enumerate(values):
            best, new = best.update(np.float32(value), step=number)
            better.append(bool(new))
        least = math.inf
        for number, value in enumerate(values):
            assert better[number] == (value < least)
            least = value if value < least else least
        assert float(best.value) == least
        assert int(best.step) == max((n for n, b in enumerate(better) if b), default=-1)

    def test_it_can_be_saved_with_the_state(self, tmp_path: Path) -> None:
        best, _ = Best.start().update(2.5, step=4)
        sealwax.save(tmp_path / "1", {"best": best})
        back = sealwax.load(tmp_path / "1", {"best": Best.start()})["best"]
        assert (float(back.value), int(back.step)) == (2.5, 4)
