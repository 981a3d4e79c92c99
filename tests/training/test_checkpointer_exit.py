"""How a process ends whose checkpointer was not closed."""

from __future__ import annotations

from pathlib import Path

import sealwax as ocp
from tests.scripts import FAILED, run


def test_a_save_in_the_background_is_finished(tmp_path: Path) -> None:
    status, _, err = run(
        """
        c = ocp.training.Checkpointer(
            PATH, preservation_policy=ocp.training.preservation_policies.LatestN(1)
        )
        c.save(0, STATE)
        with UntilExit(e.WriteBatch):
            response = c.save_async(1, STATE)
        assert not response.done()
        """,
        tmp_path / "run",
    )
    assert (status, err) == (0, "")
    with ocp.training.Checkpointer(tmp_path / "run") as made:
        assert [each.step for each in made.checkpoints] == [1]
        assert made.load()["step"] == 1


def test_one_that_failed_and_nobody_asked_for_is_told(tmp_path: Path) -> None:
    status, _, err = run(
        """
        c = ocp.training.Checkpointer(PATH)
        with inject(e.Rename, error=FULL):
            c.save_async(1, STATE)
        """,
        tmp_path / "run",
    )
    assert status == FAILED
    assert "save_checkpointables_async to" in err or "save_async to" in err
    assert "No space left on device" in err
    assert list((tmp_path / "run").iterdir()) == []


def test_one_that_was_raised_by_close_is_not_told_again(tmp_path: Path) -> None:
    status, _, err = run(
        """
        c = ocp.training.Checkpointer(PATH)
        with inject(e.Rename, error=FULL):
            c.save_async(1, STATE)
        try:
            c.close()
        except OSError:
            pass
        """,
        tmp_path / "run",
    )
    assert (status, err) == (0, "")
