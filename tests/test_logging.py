"""What the logger ``sealwax`` says of operations, and that nothing is printed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import sealwax as ocp
from sealwax.effect_handlers import inject
from sealwax.effects import Rename

STATE = {"w": np.random.default_rng(0).normal(size=(512, 256)), "step": 3}
NUMBERS = ("operation", "path", "bytes", "outcome")


def numbers(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[tuple[Any, ...]]:
    records = [record for record in caplog.records if record.levelno == level]
    assert all(record.name == "sealwax" for record in records)
    return [tuple(getattr(record, name) for name in NUMBERS) for record in records]


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


class TestInfo:
    """One line for each operation that writes or reads, when it ends."""

    VERBS: ClassVar[dict[str, Callable[[Path], object]]] = {
        "save": lambda path: ocp.save(path, STATE),
        "save_async": lambda path: ocp.save_async(path, STATE).result(),
        "save_checkpointables": lambda path: ocp.save_checkpointables(path, {"state": STATE}),
    }

    @pytest.mark.parametrize("verb", VERBS)
    def test_of_a_save(self, verb, ckpt, caplog):
        with caplog.at_level(logging.INFO, "sealwax"):
            self.VERBS[verb](ckpt)
        (told,) = numbers(caplog)
        assert told == (verb, str(ckpt), ocp.plan_save(ckpt.parent / "x", STATE).bytes, "done")
        assert caplog.records[0].getMessage().startswith(f"{verb} of '{ckpt}' took 0.")
        assert caplog.records[0].getMessage().endswith("s for 1.0 MiB")

    def test_of_a_load_and_a_deletion(self, ckpt, caplog):
        ocp.save(ckpt, STATE)
        with caplog.at_level(logging.INFO, "sealwax"):
            ocp.load(ckpt)
            ocp.delete(ckpt)
        load, delete = numbers(caplog)
        assert (load[0], load[3]) == ("load", "done")
        assert load[2] >= STATE["w"].nbytes
        assert delete == ("delete", str(ckpt), 0, "done")

    def test_of_a_failure(self, ckpt, caplog):
        fault = inject(Rename, error=OSError(28, "full"))
        with caplog.at_level(logging.INFO, "sealwax"), fault, pytest.raises(OSError, match="full"):
            ocp.save(ckpt, STATE)
        ((operation, _, _, outcome),) = numbers(caplog)
        assert (operation, outcome) == ("save", "failed")
        assert " failed after 0." in caplog.text

    def test_seconds_count_from_the_call(self, ckpt, caplog):
        with caplog.at_level(logging.INFO, "sealwax"):
            ocp.save(ckpt, STATE)
        record: Any = caplog.records[0]
        assert 0 < record.seconds < 60
        assert json.loads(json.dumps({name: getattr(record, name) for name in NUMBERS}))


class TestDebug:
    def test_every_effect_is_a_line(self, ckpt, caplog):
        with caplog.at_level(logging.DEBUG, "sealwax"), ocp.effect_handlers.record() as trace:
            ocp.save(ckpt, STATE)
        lines = [record for record in caplog.records if record.levelno == logging.DEBUG]
        assert len(lines) == len(trace.effects)
        assert f"save of '{ckpt}': sync directory" in caplog.text

    def test_below_it_there_is_none(self, ckpt, caplog):
        with caplog.at_level(logging.INFO, "sealwax"):
            ocp.save(ckpt, STATE)
        assert len(caplog.records) == 1


def test_nothing_is_printed(ckpt, capfd):
    ocp.save(ckpt, STATE)
    ocp.load(ckpt)
    ocp.metadata(ckpt)
    assert capfd.readouterr() == ("", "")
