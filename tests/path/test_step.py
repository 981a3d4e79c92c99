"""Names of steps, and finding steps by them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sealwax as ocp
from sealwax.path.step import composite_name_format, standard_name_format
from sealwax.planning.steps import Naming

PREFIXES = st.none() | st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=12
).filter(lambda text: ".orbax-checkpoint-tmp" not in text)
WIDTHS = st.none() | st.integers(0, 20)
FORMATS = st.builds(standard_name_format, step_prefix=PREFIXES, step_format_fixed_length=WIDTHS)
STEPS = st.integers(0, 2**64)


def fill(path: Path) -> None:
    """Makes a directory that is a finished checkpoint by its markers."""
    path.mkdir(parents=True)
    (path / "_CHECKPOINT_METADATA").write_text("{}")


def numbers(name_format: Any, base: Path) -> list[int]:
    return [found.step for found in name_format.find_all(base)]


class TestLaws:
    @given(FORMATS, STEPS)
    def test_a_name_says_its_step(self, name_format: Any, step: int) -> None:
        assert name_format.parse_name(name_format.build_name(step)) == step

    @given(FORMATS, st.text("0123456789_-. a٣") | st.text())
    def test_a_step_has_one_name(self, name_format: Any, name: str) -> None:
        step = name_format.parse_name(name)
        assert step is None or name_format.build_name(step) == name

    @given(st.integers(0, 9), st.text("0123456789", min_size=1))
    def test_digits_are_a_name_if_they_are_just_as_long_as_they_must(
        self, width: int, digits: str
    ) -> None:
        shortest = str(int(digits)).zfill(width)
        assert (Naming(width=width).parse(digits) is not None) == (digits == shortest)

    @given(FORMATS, STEPS, STEPS)
    def test_two_steps_have_two_names(self, name_format: Any, a: int, b: int) -> None:
        assert (name_format.build_name(a) == name_format.build_name(b)) == (a == b)

    @given(FORMATS)
    def test_formats_are_values(self, name_format: Any) -> None:
        copy = pickle.loads(pickle.dumps(name_format))
        assert copy == name_format
        assert hash(copy) == hash(name_format)
        assert composite_name_format(copy, [name_format]) == composite_name_format(
            name_format, (copy,)
        )


class TestNames:
    @pytest.mark.parametrize(
        ("options", "name"),
        [
            ({}, "12"),
            ({"step_prefix": "ckpt"}, "ckpt_12"),
            ({"step_prefix": ""}, "_12"),
            ({"step_format_fixed_length": 5}, "00012"),
            ({"step_format_fixed_length": 1}, "12"),
            ({"step_prefix": "a.b", "step_format_fixed_length": 3}, "a.b_012"),
        ],
    )
    def test_they_are_those_of_orbax(self, options: dict[str, Any], name: str) -> None:
        assert standard_name_format(**options).build_name(12) == name

    @pytest.mark.parametrize("step", [np.int64(7), np.array(7), jnp.int32(7), jnp.array(7)])
    def test_integers_of_arrays_are_steps(self, step: Any) -> None:
        assert standard_name_format().build_name(step) == "7"

    @pytest.mark.parametrize("step", ["7", 7.0, True, None, np.float32(7), np.array([7, 8])])
    def test_what_is_no_integer_is_no_step(self, step: Any) -> None:
        with pytest.raises(TypeError, match="A step is an integer"):
            standard_name_format().build_name(step)

    def test_a_negative_step_is_refused(self) -> None:
        with pytest.raises(
            ValueError, match="A step is not negative. Expected 0 or more, found -1"
        ):
            standard_name_format().build_name(-1)

    @pytest.mark.parametrize(
        ("prefix", "message"),
        [
            ("runs/ckpt", "make it a part of the run's path"),
            ("a\0b", "the name of a directory cannot"),
            ("\udc80", "file names cannot"),
            ("x.orbax-checkpoint-tmp", "taken for an unfinished one"),
        ],
    )
    def test_a_prefix_that_no_directory_can_have_is_refused(
        self, prefix: str, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            standard_name_format(step_prefix=prefix)

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"step_prefix": 5}, TypeError),
            ({"step_format_fixed_length": "5"}, TypeError),
            ({"step_format_fixed_length": True}, TypeError),
            ({"step_format_fixed_length": -1}, ValueError),
        ],
    )
    def test_other_options_are_refused(self, options: Any, error: type[Exception]) -> None:
        with pytest.raises(error):
            standard_name_format(**options)


class TestFinding:
    def test_only_finished_checkpoints_are_steps(self, tmp_path: Path) -> None:
        names = standard_name_format()
        ocp.save(tmp_path / "10", {"a": 1})
        ocp.save(tmp_path / "9", {"a": 1})
        (tmp_path / "11").mkdir()
        (tmp_path / "12").mkdir()
        (tmp_path / "12" / "notes.txt").write_text("no checkpoint")
        (tmp_path / "13").write_text("a file")
        fill(tmp_path / "14.orbax-checkpoint-tmp")
        fill(tmp_path / "14.orbax-checkpoint-tmp-15")
        fill(tmp_path / "016")
        fill(tmp_path / "metadata")
        (tmp_path / "17" / "default").mkdir(parents=True)  # As old versions wrote it.
        (tmp_path / "17" / "default" / "_METADATA").write_text("{}")
        (tmp_path / "18").symlink_to(tmp_path / "9")
        (tmp_path / "19").symlink_to(tmp_path / "nowhere")
        (tmp_path / "20").symlink_to(tmp_path / "13")
        assert numbers(names, tmp_path) == [9, 10, 17, 18]
        assert names.find_step(tmp_path, 10).path == tmp_path / "10"
        assert ocp.load(names.find_step(tmp_path, 10).path) == {"a": 1}

    def test_an_item_of_a_checkpoint_is_no_step(self, tmp_path: Path) -> None:
        ocp.save_checkpointables(tmp_path / "ckpt", {"5": {"a": 1}})
        assert numbers(standard_name_format(), tmp_path / "ckpt") == []

    def test_a_run_that_is_not_there_has_no_steps(self, tmp_path: Path) -> None:
        assert numbers(standard_name_format(), tmp_path / "run") == []

    def test_a_step_that_is_not_there(self, tmp_path: Path) -> None:
        for step in range(7):
            fill(tmp_path / f"{step}")
        (tmp_path / "9").mkdir()
        with pytest.raises(ocp.errors.StepNotFoundError) as caught:
            standard_name_format().find_step(tmp_path, 9)
        assert str(caught.value) == (
            f"There is no finished checkpoint of step 9 (path '{tmp_path}'). Found steps "
            "2, 3, 4, 5, 6, and 2 before these. '9' is there, but it was not finished, or is no "
            "checkpoint."
        )
        assert (caught.value.step, caught.value.path) == (9, str(tmp_path))
        assert isinstance(caught.value, (FileNotFoundError, ValueError))
        assert pickle.loads(pickle.dumps(caught.value)).step == 9

    def test_looking_is_done_through_effects(self) -> None:
        with ocp.effect_handlers.memory():
            ocp.save("/run/step_5", {"a": 1})
            names = standard_name_format(step_prefix="step")
            assert numbers(names, Path("/run")) == [5]
            assert names.find_step("/run", 5).step == 5

    def test_a_step_deleted_meanwhile_is_none(self, tmp_path: Path) -> None:
        fill(tmp_path / "5")

        def gone(effect: Any) -> bool:
            return isinstance(effect, ocp.effects.ListDirectory) and effect.path.endswith("/5")

        with ocp.effect_handlers.inject(at=gone, error=FileNotFoundError(2, "gone")):
            assert numbers(standard_name_format(), tmp_path) == []

    def test_what_cannot_be_read_is_an_error(self, tmp_path: Path) -> None:
        fill(tmp_path / "5")
        with (
            ocp.effect_handlers.inject(at=ocp.effects.ListDirectory, error=OSError(5, "bad")),
            pytest.raises(ocp.errors.StorageError, match="Could not list"),
        ):
            numbers(standard_name_format(), tmp_path)


class TestComposites:
    OLD, NEW = standard_name_format(), standard_name_format(step_format_fixed_length=4)

    def test_old_steps_are_loaded_from_where_they_are(self, tmp_path: Path) -> None:
        ocp.save(tmp_path / "5", {"a": "old"})
        names = composite_name_format(self.NEW, [self.NEW, self.OLD])
        ocp.save(tmp_path / names.build_name(6), {"a": "new"})
        assert [found.path.name for found in names.find_all(tmp_path)] == ["5", "0006"]
        assert ocp.load(names.find_step(tmp_path, 5).path) == {"a": "old"}

    @pytest.mark.parametrize("first", [0, 1])
    def test_the_first_format_wins(self, tmp_path: Path, first: int) -> None:
        fill(tmp_path / "5")
        fill(tmp_path / "0005")
        formats = [self.OLD, self.NEW] if first == 0 else [self.NEW, self.OLD]
        names = composite_name_format(self.NEW, formats)
        expected = ["5", "0005"][first]
        assert [found.path.name for found in names.find_all(tmp_path)] == [expected]
        assert names.find_step(tmp_path, 5).path.name == expected

    def test_an_unfinished_one_does_not_win(self, tmp_path: Path) -> None:
        (tmp_path / "0005").mkdir()
        fill(tmp_path / "5")
        names = composite_name_format(self.NEW, [self.NEW, self.OLD])
        assert names.find_step(tmp_path, 5).path.name == "5"

    def test_an_equal_format_is_as_good_as_the_same(self) -> None:
        composite_name_format(standard_name_format(), [standard_name_format()])

    def test_what_is_written_must_be_read(self) -> None:
        with pytest.raises(ValueError, match="would not be found again"):
            composite_name_format(self.NEW, [self.OLD])

    def test_what_is_no_format_is_refused(self) -> None:
        with pytest.raises(TypeError, match="not a format of names"):
            composite_name_format(self.NEW, [self.NEW, "5"])  # type: ignore[list-item]

    def test_formats_of_users_take_part(self, tmp_path: Path) -> None:
        fill(tmp_path / "five")
        words = Words()
        names = composite_name_format(words, [words, self.OLD])
        fill(tmp_path / "7")
        assert names.build_name(5) == "five"
        assert numbers(names, tmp_path) == [5, 7]
        assert names.find_step(tmp_path, 5).path == tmp_path / "five"
        with pytest.raises(ocp.errors.StepNotFoundError):
            names.find_step(tmp_path, 6)


class Words:
    """A format of a user's."""

    def build_name(self, step: int) -> str:
        return ["one", "two", "three", "four", "five", "six"][step - 1]

    def find_all(self, base_path: Any) -> Iterator[ocp.path.step.FoundStep]:
        for step in range(1, 7):
            path = Path(base_path) / self.build_name(step)
            if path.is_dir():
                yield ocp.path.step.FoundStep(step=step, path=path)

    def find_step(self, base_path: Any, step: int) -> ocp.path.step.FoundStep:
        return next(found for found in self.find_all(base_path) if found.step == step)
