"""Tools for the tests of OCDBT databases: to write, open and read them with either side."""

from collections.abc import Callable, Iterator
from pathlib import Path

import tensorstore as ts

from sealwax.layouts import ocdbt, ocdbt_decode
from sealwax.layouts.ocdbt_format import Database, DataRef, Manifest, Value, Version

NODES = "d/nodes"
UUID = bytes(range(16))
TIME = 1_700_000_000_000_000_000
CONTEXT = ts.Context()  # a merge needs one, and caches nothing unless it is told to


def encode(entries: dict[bytes, Value], **options: int) -> Database:
    return ocdbt.encode(
        list(entries.items()), nodes_file=NODES, uuid=UUID, commit_time_ns=TIME, **options
    )


def reader(nodes: bytes) -> Callable[[DataRef], bytes]:
    return lambda ref: nodes[ref.offset : ref.offset + ref.length]


def latest(manifest: bytes) -> Version:
    decoded = ocdbt_decode.decode_manifest(manifest)
    assert isinstance(decoded, Manifest)
    return decoded.versions[-1]


def decode(made: Database) -> list[tuple[bytes, Value]]:
    return list(ocdbt_decode.entries(latest(made.manifest), reader(made.nodes)))


def write(root: Path, made: Database) -> None:
    (root / NODES).parent.mkdir(parents=True, exist_ok=True)
    (root / NODES).write_bytes(made.nodes)
    (root / "manifest.ocdbt").write_bytes(made.manifest)


def store(root: Path, **spec: object) -> ts.KvStore:
    base = {"driver": "file", "path": f"{root}/"}
    return ts.KvStore.open({"driver": "ocdbt", "base": base, **spec}, context=CONTEXT).result()


def contents(opened: ts.KvStore) -> dict[bytes, bytes]:
    listed = opened.list().result()
    return {key: bytes(opened.read(key).result().value) for key in listed}


def dump_tree(root: Path) -> Iterator[dict[str, object]]:
    """Yields every node as TensorStore's own dump shows it."""
    base = ts.KvStore.open(f"file://{root}/").result()
    manifest = ts.ocdbt.dump(base).result()
    pending = [manifest["versions"][-1]["root"]["location"]]
    while pending:
        node = ts.ocdbt.dump(base, node=pending.pop()).result()
        yield node
        if node["height"]:
            pending += [entry["location"] for entry in reversed(node["entries"])]


def files_below(root: Path) -> Callable[[DataRef], bytes]:
    def read(ref: DataRef) -> bytes:
        return (root / ref.path).read_bytes()[ref.offset : ref.offset + ref.length]

    return read
