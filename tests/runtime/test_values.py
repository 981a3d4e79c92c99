"""Large values of a database are found in its files, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sealwax.effects import ReadRegions
from sealwax.layouts import ocdbt
from sealwax.layouts.ocdbt_format import DataRef, Value
from sealwax.runtime.filesystem import LOCAL, Readable
from sealwax.runtime.values import EndOfValue, Values
from tests.layouts import ocdbt_tools

LARGE = {b"w%d/c/0" % n: bytes([n]) * (3000 + n) for n in range(20)}
SMALL = {b"w%d/zarr.json" % n: b"{}" for n in range(20)}


def effect(directory: Path, *, database: bool = True) -> ReadRegions:
    return ReadRegions(
        directory=str(directory), database=database, driver="zarr3", leaves=(), regions=(),
        targets=(), buffers=(), fill_missing=False, nbytes=0,
    )  # fmt: skip


def read(values: Values, directory: Path, key: str, *, database: bool = True) -> bytes | None:
    value = values.open(effect(directory, database=database), key)
    if value is None:
        return None
    into = bytearray(value.length)
    value.read_into(memoryview(into), 0)
    assert b"".join(_pieces(value)) == into
    value.close()
    return bytes(into)


def _pieces(value) -> Iterator[bytes]:
    at = 0
    while piece := value.take(777, at):
        yield piece
        at += len(piece)


def fill(directory: Path, **config: object) -> None:
    opened = ocdbt_tools.store(directory, config=config)
    for key, value in (LARGE | SMALL).items():
        opened[key] = value


@pytest.mark.parametrize("compression", [None, {"id": "zstd"}])
@pytest.mark.parametrize("nodes", [500, 8 << 20])
def test_large_values_are_found_and_those_in_nodes_are_not(tmp_path, compression, nodes):
    fill(tmp_path, compression=compression, max_decoded_node_bytes=nodes)
    values = Values()
    assert {key: read(values, tmp_path, key.decode()) for key in LARGE} == LARGE
    assert {read(values, tmp_path, key.decode()) for key in SMALL} == {None}
    assert read(values, tmp_path, "other") is None


def test_values_of_a_merged_database_lie_in_its_parts(tmp_path):
    fill(tmp_path / "ocdbt.process_0")
    part = ocdbt_tools.store(tmp_path / "ocdbt.process_0")
    part.experimental_copy_range_to(ocdbt_tools.store(tmp_path)).result()
    assert {key: read(Values(), tmp_path, key.decode()) for key in LARGE} == LARGE


def test_without_a_database_a_value_is_a_file(tmp_path):
    (tmp_path / "w").write_bytes(b"value")
    assert read(Values(), tmp_path, "w", database=False) == b"value"
    with pytest.raises(FileNotFoundError):
        read(Values(), tmp_path, "v", database=False)


def test_a_database_is_looked_through_once(tmp_path):
    fill(tmp_path)
    opened: list[str] = []

    class Counting:
        def open(self, path: str) -> Readable:
            opened.append(path)
            return LOCAL.open(path)

    values = Values(Counting())
    for key in [*LARGE, *LARGE]:
        assert read(values, tmp_path, key.decode()) == LARGE[key]
    assert opened.count(str(tmp_path / "manifest.ocdbt")) == 1


class TestWhatIsLeftToTensorStore:
    KEY = next(iter(LARGE)).decode()

    def test_numbered_manifests(self, tmp_path):
        fill(tmp_path, manifest_kind="numbered")
        assert read(Values(), tmp_path, self.KEY) is None

    def test_no_database(self, tmp_path):
        assert read(Values(), tmp_path, self.KEY) is None

    @pytest.mark.parametrize("at", [0, 20, -1])
    def test_a_damaged_manifest(self, tmp_path, at):
        fill(tmp_path)
        file = tmp_path / "manifest.ocdbt"
        data = bytearray(file.read_bytes())
        data[at] ^= 1
        file.write_bytes(data)
        assert read(Values(), tmp_path, self.KEY) is None

    def test_missing_nodes(self, tmp_path):
        fill(tmp_path)
        for file in (tmp_path / "d").iterdir():
            file.write_bytes(b"")
        assert read(Values(), tmp_path, self.KEY) is None

    @pytest.mark.parametrize(
        "ref",
        [
            DataRef("../secret", 0, 5),
            DataRef("d/values", 3, 3),
            DataRef("d/values", 1 << 62, 1),
            DataRef("d/values", 0, (1 << 63) - 1),
        ],
    )
    def test_a_reference_that_leads_nowhere(self, tmp_path, monkeypatch, ref):
        monkeypatch.setattr(ocdbt, "_check_path", lambda path: None)
        (tmp_path / "secret").write_bytes(b"a secret")
        entries: dict[bytes, Value] = {b"w": ref}
        ocdbt_tools.write(tmp_path / "item", ocdbt_tools.encode(entries))
        (tmp_path / "item" / "d" / "values").write_bytes(b"value")
        assert read(Values(), tmp_path / "item", "w") is None


def test_a_file_that_becomes_shorter_is_told(tmp_path):
    (tmp_path / "w").write_bytes(bytes(100))
    value = Values().open(effect(tmp_path, database=False), "w")
    (tmp_path / "w").write_bytes(bytes(10))
    with pytest.raises(EndOfValue):
        value.read_into(memoryview(bytearray(100)), 0)
    with pytest.raises(EndOfValue):
        value.take(10, 50)
    value.close()
