"""Which test shows what becomes of each misuse of a checkpointer in the catalogue of misuses.

Those are the rows of its section 9, and those about checkpointers in the sections before it. In
each, what Orbax does wrongly or in silence is an error that names the step, or simply right.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

import sealwax as ocp
from sealwax.training import Checkpointer
from sealwax.training import preservation_policies as keep
from sealwax.training import save_decision_policies as when

ROOT = Path(__file__).parents[2]
_SPEC = "tests/training/test_checkpointer.py::"
_SURPRISES = "tests/training/test_checkpointer_surprises.py::"

ROWS = {
    98: "tests/interop/test_misuse_training.py::test_098_a_root_that_cannot_be_written",
    103: _SPEC + "test_one_in_the_background_is_raised_at_the_next_call_and_once",
    107: _SPEC + "test_threads",
    122: "tests/training/test_checkpointer_exit.py::test_a_save_in_the_background_is_finished",
    125: "tests/training/test_checkpointer_crash.py::test_killed_at_every_effect",
    130: _SURPRISES + "test_without_it_a_step_is_refused_whoever_wrote_it",
    131: _SURPRISES + "test_when_the_policy_declines_the_old_step_stays",
    133: _SURPRISES + "test_an_earlier_step_is_declined_with_a_word",
    134: _SURPRISES + "test_only_integers_are_steps",
    136: _SURPRISES + "test_a_step_that_another_program_removed",
    137: _SURPRISES + "test_an_empty_run_has_no_latest_to_load",
    139: _SURPRISES + "test_an_item_of_another_name",
    140: _SPEC + "test_in_the_background",
    142: _SPEC + "test_scalars_of_a_training_loop_are_numbers",
    143: _SURPRISES + "test_without_it_a_step_is_refused_whoever_wrote_it",
    145: _SURPRISES + "test_lightweight_initialization_can_be_used",
    146: _SURPRISES + "test_steps_under_an_older_name_can_be_used",
    148: _SURPRISES + "test_a_save_that_is_cancelled_leaves_nothing",
    149: _SURPRISES + "test_a_sealed_step_stays",
    151: _SURPRISES + "test_keeping_none_keeps_the_newest_unless_asked",
    152: "tests/interop/test_misuse_training.py::test_152_an_interval_of_nothing",
    154: "tests/interop/test_misuse_training.py::test_154_a_metric_that_some_steps_lack",
    155: _SPEC + "test_after_it_was_closed",
    157: _SPEC + "test_a_relative_directory",
    158: _SURPRISES + "test_a_step_that_another_program_removed",
    160: _SURPRISES + "test_those_of_the_checkpointer_win_over_a_block",
    161: _SURPRISES + "test_only_integers_are_steps",
}


@pytest.mark.parametrize("row", ROWS)
def test_the_test_of_a_row_exists(row: int) -> None:
    file, _, name = ROWS[row].partition("::")
    assert re.search(rf"^\s*def {name}\b", (ROOT / file).read_text(), re.M)


def test_098_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    denied = OSError(errno.EACCES, os.strerror(errno.EACCES))
    with (
        ocp.effect_handlers.inject(ocp.effects.MakeDirectory, error=denied),
        pytest.raises(ocp.errors.StorageError, match=r"Permission denied.*Check the permissions"),
    ):
        Checkpointer(tmp_path / "run")


def test_152_an_interval_of_nothing() -> None:
    with pytest.raises(ocp.errors.ArgumentValueError, match="at least 1"):
        when.FixedIntervalPolicy(0)


def test_154_a_metric_that_some_steps_lack(tmp_path: Path) -> None:
    with Checkpointer(tmp_path, preservation_policy=keep.best("loss")) as made:
        made.save(0, {"a": 1}, metrics={"accuracy": 1})
        made.save(1, {"a": 1}, metrics={"loss": 2})
        made.save(2, {"a": 1}, metrics={"loss": 1})
        assert [each.step for each in made.checkpoints] == [0, 1, 2]
