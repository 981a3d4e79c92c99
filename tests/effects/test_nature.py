"""Which effects may be repeated, and how many bytes they move."""

from __future__ import annotations

import dataclasses

import pytest

from sealwax import effects as e
from sealwax.effects.nature import obstacle, repeatable, traffic
from tests.effects.test_effects import EXAMPLES

EVERY = [effect for effect, _ in EXAMPLES]
ACTING = {
    "MakeDirectory", "WriteFile", "WriteFiles", "WriteBatch", "WriteChunks", "SyncDirectory",
    "SyncTree", "Rename", "Exchange", "Replace", "Retract", "Call", "DigestTree", "BeginSave",
    "FinishSave", "RunLoad", "RunMetadata", "LinkFiles", "MergeDatabases",
}  # fmt: skip
"""Those that must not be repeated."""


@pytest.mark.parametrize("effect", EVERY, ids=lambda effect: type(effect).__name__)
class TestEvery:
    def test_is_known_to_be_repeatable_or_has_a_reason_not_to_be(self, effect):
        assert repeatable(effect) == (obstacle(effect) is None)
        assert repeatable(effect) == (type(effect).__name__ not in ACTING)

    def test_what_syncs_is_never_repeated(self, effect):
        if "sync" in {field.name for field in dataclasses.fields(effect)}:
            assert not repeatable(dataclasses.replace(effect, sync=True))

    def test_moves_no_negative_number_of_bytes_and_only_one_way(self, effect):
        read, written = traffic(effect)
        assert read >= 0
        assert written >= 0
        assert not (read and written)


def test_what_is_content_to_find_its_work_done_may_be_repeated():
    assert repeatable(e.MakeDirectory(path="/p", parents=True))
    assert not repeatable(e.MakeDirectory(path="/p", lease=True))
    assert repeatable(e.RemoveTree(path="/p", abandoned=True))
    assert not repeatable(e.RemoveTree(path="/p", replaced=True))


@pytest.mark.parametrize(
    ("effect", "bytes_"),
    [
        (e.WriteFile(path="/p", content=b"abc"), (0, 3)),
        (e.WriteFile(path="/p", content=e.From(step=1)), (0, 0)),
        (e.WriteFiles(directory="/p", contents={"a": b"abc", "b": b"d"}), (0, 4)),
        (next(x for x in EVERY if isinstance(x, e.WriteBatch)), (0, 8)),
        (next(x for x in EVERY if isinstance(x, e.ReadBatch)), (12, 0)),
        (e.Look(path="/p"), (0, 0)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_bytes(effect, bytes_):
    assert traffic(effect) == bytes_
