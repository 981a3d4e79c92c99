"""Keeping the newest training state in the memory of the hosts, once for each replica."""

from __future__ import annotations

import functools
import logging
import operator
import threading
from collections.abc import Callable, Sequence
from typing import Any

from sealwax.context import current_options
from sealwax.effects import Now
from sealwax.errors import ArgumentTypeError, SnapshotError
from sealwax.runtime.asking import ask
from sealwax.runtime.background import Job
from sealwax.runtime.threads import in_thread
from sealwax.training.metadata import CheckpointMetadata
from sealwax.training.pathways.replicas import answers, replicas_of
from sealwax.training.pathways.snapshots import Snapshot, matched, restored, take, targets
from sealwax.training.run_directory import number_of
from sealwax.trees.structure import PyTree

_log = logging.getLogger("sealwax")


class Snapshotter:
    """Keeps a snapshot of the training state, so that a run that loses slices goes on.

    Every replica of the state has a copy in the pinned memory of its own hosts. What is restored
    comes from the replicas that are left, onto whatever devices there are then. It works on any
    backend of one process; on Pathways it needs the package ``pathwaysutils``.

    Any number of threads may use one.

    Args:
      replica_axis_index: Which axis of the mesh counts the replicas. No array may be split along
        it.
      is_live: Tells of the devices of one replica whether all of them are there still; by default
        each of them is sent a number.

    >>> import jax, numpy as np, sealwax as ocp
    >>> mesh = jax.make_mesh((1, 1), ("replica", "data"))
    >>> sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    >>> state = {"w": jax.device_put(np.ones(4, np.float32), sharding), "epoch": 3}
    >>> snapshotter = ocp.training.pathways.Snapshotter()
    >>> snapshotter.save(5, state)
    >>> snapshotter.join()
    >>> restored = snapshotter.load(jax.tree.map(ocp.arrays.to_shape_dtype_struct, state))
    >>> snapshotter.latest.step, restored["epoch"], restored["w"].sharding == sharding
    (5, 3, True)
    """

    def __init__(
        self,
        *,
        replica_axis_index: int = 0,
        is_live: Callable[[Sequence[Any]], bool] = answers,
    ) -> None:
        try:
            self._axis = operator.index(replica_axis_index)
        except TypeError:
            raise ArgumentTypeError(
                "Argument 'replica_axis_index' is of the wrong type",
                expected="an int",
                found=repr(replica_axis_index),
            ) from None
        self._is_live = is_live
        # A signal's handler may come back here in the thread that it interrupts.
        self._lock = threading.RLock()
        self._newest: Snapshot | None = None
        self._job: Job[None] | None = None

    @property
    def latest(self) -> CheckpointMetadata[None] | None:
        """The newest snapshot that is complete, which has a step and a time; ``None`` before."""
        newest = self._newest
        if newest is None:
            return None
        return CheckpointMetadata(
            path=current_options().file.path_class(""),
            step=newest.step,
            metadata=None,
            commit_timestamp_nsecs=newest.time,
        )

    def save(self, step: int, state: PyTree) -> None:
        """Takes a snapshot, and returns once all copies to the host are under way.

        The state may be donated to the next step at once. A snapshot that is asked for while
        another one is still being taken is skipped, and a warning is logged.

        Args:
          step: The step.
          state: Any tree. Its JAX arrays all have the same number of replicas. NumPy arrays are
            copied, and other leaves are kept as they are.

        Raises:
          ReplicaError: An array has no replicas, or not as many as the others.
          UnsupportedLeafError: A leaf has no value.
          MissingPackageError: This is a Pathways backend, and ``pathwaysutils`` is not there.
          SnapshotError: The snapshot before failed, and nobody was told yet. This one was not
            begun.
        """
        number = number_of(step)
        with self._lock:
            job = self._job
            if job is not None and not job.finished.is_set():
                _log.warning(
                    "The snapshot of step %d is skipped: the %s is not done", number, job.name
                )
                return
            self._settle()
            taken = take(number, self._now(), state, self._axis)
            finish = functools.partial(self._finish, taken)
            # It is in memory only: at exit nobody would miss it.
            self._job = Job(finish, f"snapshot of step {number}", owed=False)
            self._job.start()

    def load(self, abstract_state: PyTree, *, reset_snapshot_state: bool = True) -> PyTree:
        """Makes the state of the newest snapshot, from the replicas that live.

        Args:
          abstract_state: The tree, with leaves that have a shape, a dtype and a sharding in place
            of JAX arrays; ``...`` stands for what is not wanted.
          reset_snapshot_state: Take a snapshot of what was made, at the same step, so that it has
            as many replicas as the new devices allow. A state that was not wanted as a whole
            does not take the place of one that is whole.

        Returns:
          The state, with its arrays where ``abstract_state`` wants them.

        Raises:
          SnapshotError: There is no snapshot, or none of its replicas lives.
          TreeMismatchError: The trees do not fit.
          LeafMismatchError: A leaf does not fit, or has no sharding.
          ReplicaError: What is wanted does not have the same number of replicas everywhere.
        """
        with self._lock:
            self._wait()
            try:
                self._settle()
            except SnapshotError as error:
                _log.warning("%s", error)
            newest = self._newest
            if newest is None:
                raise SnapshotError(
                    "There is no snapshot", hint="Call save first, or go on from a checkpoint."
                )
            matching = matched(newest, abstract_state)
            placed = targets(newest, matching)
            reset = reset_snapshot_state and not matching.skipped
            if reset:
                replicas_of(list(placed.items()), self._axis)
            state = restored(newest, matching, placed, newest.living(self._is_live))
            if reset:
                self._reset(newest, state)
        return state

    def join(self) -> None:
        """Waits until no snapshot is being taken any more.

        Raises:
          SnapshotError: The last one failed, and nobody was told yet.
        """
        self._wait()
        with self._lock:
            self._settle()

    def _wait(self) -> None:
        job = self._job
        if job is not None:
            job.finished.wait()

    def _settle(self) -> None:
        """Raises the failure of the last snapshot, once."""
        job = self._job
        if job is not None and job.finished.is_set():
            self._job = None
            job.value()

    async def _finish(self, taken: Snapshot) -> None:
        self._newest = await in_thread(taken.awaited, brief=True)

    def _reset(self, newest: Snapshot, state: PyTree) -> None:
        try:
            self._newest = take(newest.step, newest.time, state, self._axis).awaited()
        except SnapshotError as error:
            _log.warning("The snapshot of step %d stays as it was: %s", newest.step, error)

    def _now(self) -> int:
        return ask(Now(), current_options())
