"""A snapshot: a training state whose arrays lie in the memory of hosts, once for each replica."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax as _jax
import numpy as np

from sealwax.arrays import unsupported
from sealwax.errors import SnapshotError
from sealwax.planning.pipeline import raised
from sealwax.runtime.processes import on_pathways
from sealwax.training.pathways.forms import Form, target_of
from sealwax.training.pathways.host_copies import HostCopies
from sealwax.training.pathways.replicas import Replicas, replicas_of, together
from sealwax.training.pathways.split_copies import SplitCopies
from sealwax.trees.flatten import Flat, flatten
from sealwax.trees.match import Matching, Wanted, match
from sealwax.trees.records import Entry, empty_entry
from sealwax.trees.report import Sides
from sealwax.trees.structure import EmptyKind, PyTree

jax: Any = _jax
_log = logging.getLogger("sealwax")
_ARRAY, _OTHER = "jax.Array", "scalar"
_SIDES = Sides(
    first="the template",
    second="the snapshot",
    headline="the template does not fit the snapshot",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A training state at some step.

    Attributes:
      step: The step.
      time: When it was asked for, in nanoseconds since the epoch.
      entries: The leaves and empty containers of the state.
      kept: Leaves that are no JAX arrays, by name.
      names: The names of those that are.
      replicas: The devices of each replica.
      complete: Which replicas have all of the arrays.
      copies: The arrays.
    """

    step: int
    time: int
    entries: tuple[Entry, ...]
    kept: dict[str, object]
    names: tuple[str, ...]
    replicas: Replicas
    complete: tuple[int, ...] = ()
    copies: HostCopies | SplitCopies

    def awaited(self) -> Snapshot:
        """Waits for the copies, and knows which replicas have them all.

        Raises:
          SnapshotError: None has.
        """
        complete: list[int] = []
        errors: list[Exception] = []
        for number in range(len(self.replicas)):
            try:
                jax.block_until_ready(self.copies.of_replica(number))
                complete.append(number)
            except Exception as error:  # However a backend says that a copy failed.
                errors.append(error)
        if self.replicas and not complete:
            raise SnapshotError(
                f"The snapshot of step {self.step} failed: no replica could be copied to the host",
                found=str(errors[0]).partition("\n")[0],
                hint="The snapshot before it is still there; see the cause.",
            ) from errors[0]
        for error in errors:
            _log.warning("The snapshot of step %d lacks a replica: %s", self.step, error)
        return dataclasses.replace(self, complete=tuple(complete))

    def living(self, is_live: Callable[[Sequence[Any]], bool]) -> list[int]:
        """The replicas that can be restored from.

        Raises:
          SnapshotError: There is none.
        """
        living = [number for number in self.complete if is_live(self.replicas[number])]
        if self.replicas and not living:
            raise SnapshotError(
                f"No replica of the snapshot of step {self.step} is left",
                expected=f"one of {len(self.replicas)} on devices that answer",
                found="none",
                hint="Go on from a checkpoint.",
            )
        return living


def take(step: int, time: int, state: PyTree, axis: int) -> Snapshot:
    """Has all arrays of a state copied to the host, and does not wait for that.

    Raises:
      ReplicaError: The arrays do not have replicas, or not equally many.
      UnsupportedLeafError: A leaf has no value.
    """
    flat: Flat = raised(flatten(state))
    arrays = {leaf.name: leaf.value for leaf in flat.leaves if _is_array(leaf.name, leaf.value)}
    found = replicas_of([(name, cast("Any", a).sharding) for name, a in arrays.items()], axis)
    kind = SplitCopies if arrays and on_pathways() else HostCopies
    return Snapshot(
        step=step,
        time=time,
        entries=tuple([_entry(leaf.path, leaf.value) for leaf in flat.leaves]),
        kept={leaf.name: owned(leaf.value) for leaf in flat.leaves if leaf.name not in arrays},
        names=tuple(arrays),
        replicas=together(found),
        copies=kind.take(list(arrays.values()), found, axis),
    )


def matched(snapshot: Snapshot, template: PyTree) -> Matching:
    """What of a snapshot a template asks for.

    Raises:
      TreeMismatchError: They do not fit.
    """
    hint = "A snapshot comes back whole: put ... in the place of what is not wanted."
    return raised(match(template, snapshot.entries, sides=_SIDES, hint=hint))


def targets(snapshot: Snapshot, matching: Matching) -> dict[str, Any]:
    """Where the template wants each array.

    Raises:
      LeafMismatchError: A leaf does not fit, or does not say where the array is to be.
    """
    forms = dict(zip(snapshot.names, snapshot.copies.forms, strict=True))
    templates = {each.name: each.template for each in matching.wanted if each.name in forms}
    return {name: target_of(name, forms[name], each) for name, each in templates.items()}


def restored(
    snapshot: Snapshot, matching: Matching, placed: dict[str, Any], living: Sequence[int]
) -> PyTree:
    """Makes the state that a template asks for, from the replicas that live."""
    numbers = [number for number, name in enumerate(snapshot.names) if name in placed]
    copies = snapshot.copies.only(numbers)
    made = copies.restore([placed[snapshot.names[number]] for number in numbers], living)
    arrays = dict(zip([snapshot.names[number] for number in numbers], made, strict=True))
    return matching.fill([_value(snapshot, each, arrays) for each in matching.wanted])


def owned(value: object) -> object:
    """A leaf that its giver cannot change any more, if it is a NumPy array."""
    return cast("Any", value).copy() if isinstance(value, np.ndarray) else value


def _value(snapshot: Snapshot, wanted: Wanted, arrays: dict[str, Any]) -> object:
    if wanted.name in arrays:
        return arrays[wanted.name]
    value, template = owned(snapshot.kept[wanted.name]), wanted.template
    if isinstance(value, np.ndarray) and hasattr(template, "shape"):
        form = Form.of(value)
        form.check(wanted.name, template)
        if getattr(template, "sharding", None) is not None:
            return jax.device_put(value, target_of(wanted.name, form, template))
    return cast("object", value)


def _entry(path: Any, value: object) -> Entry:
    if isinstance(value, EmptyKind):
        return empty_entry(path, value)
    return Entry(path, _ARRAY if isinstance(value, jax.Array) else _OTHER)


def _is_array(name: str, value: object) -> bool:
    """Whether a leaf is a JAX array.

    Raises:
      UnsupportedLeafError: It has no value: it is abstract, or was donated.
    """
    abstract = isinstance(value, (jax.ShapeDtypeStruct, jax.core.Tracer))
    is_array = isinstance(value, jax.Array)
    if abstract or (is_array and cast("Any", value).is_deleted()):
        raise unsupported.explain(value).located(leaf=name)
    return is_array
