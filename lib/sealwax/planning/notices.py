"""Telling a status callback what happens to each array: steps that call it, between the others.

What the callback raises is an answer like any other. It disturbs nothing, and is raised when the
checkpoint is complete.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from sealwax.effects import Call, Effect
from sealwax.options import SerializationStatusCallback
from sealwax.planning.batches import Batch
from sealwax.planning.builder import Builder, result
from sealwax.planning.priorities import CALLBACK, KeyPath

Failures: TypeAlias = tuple[Exception, ...]


class Notices:
    """Adds the steps that tell a callback of the arrays in batches, each array once.

    An array in several batches has begun with the first of them and ended with all.

    Args:
      build: Takes the steps.
      callback: What is told; ``None`` for nobody.
      key_paths: JAX's key path of each array.
      cut: The batches, in their order.
    """

    def __init__(
        self,
        build: Builder,
        callback: SerializationStatusCallback | None,
        key_paths: Sequence[KeyPath],
        cut: Sequence[Batch],
    ) -> None:
        self._build = build
        self._callback = callback
        self._key_paths = key_paths
        self._begins: list[list[int]] = [[] for _ in cut]
        self._ends: list[list[int]] = [[] for _ in cut]
        self._steps: dict[str, dict[int, list[int]]] = collections.defaultdict(
            lambda: collections.defaultdict(list)
        )
        self._calls: list[int] = []
        if callback is not None:
            self._look(cut)

    def begin(self, event: str, number: int, batch: Batch, after: Iterable[int] = ()) -> list[int]:
        """Tells that something begins for a batch; returns the steps that have told it."""
        if self._callback is None:
            return []
        told = self._steps[f"on_{event}_start"]
        for leaf, call in self._tell(f"on_{event}_start", self._begins[number], after):
            told[leaf].append(call)
        return sorted({call for leaf in _leaves(batch) for call in told[leaf]})

    def end(self, event: str, number: int, batch: Batch, step: int) -> list[int]:
        """Tells that something has ended with ``step``; returns the steps that tell it."""
        if self._callback is None:
            return []
        steps = self._steps[event]
        for leaf in _leaves(batch):
            steps[leaf].append(step)
        after = sorted({n for leaf in self._ends[number] for n in steps[leaf]})
        return sorted(
            {call for _, call in self._tell(f"on_{event}_end", self._ends[number], after)}
        )

    def complaints(self) -> tuple[Effect, ...]:
        """The effect that raises what the callback raised, if it did."""
        if not self._calls:
            return ()
        inputs = tuple(map(result, self._calls))
        return (Call(name=CALLBACK, function=_complain, inputs=inputs),)

    def _look(self, cut: Sequence[Batch]) -> None:
        last: dict[int, int] = {}
        for number, batch in enumerate(cut):
            for leaf in _leaves(batch):
                if leaf not in last:
                    self._begins[number].append(leaf)
                last[leaf] = number
        for leaf, number in last.items():
            self._ends[number].append(leaf)

    def _tell(
        self, name: str, leaves: Sequence[int], after: Iterable[int]
    ) -> Iterator[tuple[int, int]]:
        method = getattr(self._callback, name, None)
        if method is None or not leaves:
            return
        told = functools.partial(_call, method, tuple([self._key_paths[leaf] for leaf in leaves]))
        call = self._build.add(Call(name=f"{CALLBACK}.{name}", function=told), after=after)
        self._calls.append(call)
        for leaf in leaves:
            yield leaf, call


def _leaves(batch: Batch) -> Iterable[int]:
    return dict.fromkeys(slab.leaf for slab in batch.slabs)


def _call(method: Callable[[Any], object], key_paths: Sequence[KeyPath]) -> Failures:
    failures: list[Exception] = []
    for key_path in key_paths:
        try:
            method(key_path)
        except Exception as error:
            failures.append(error)
    return tuple(failures)


def _complain(*answers: Failures) -> None:
    failures = [failure for answer in answers for failure in answer]
    if not failures:
        return
    first, *others = failures
    if others:
        first.add_note(f"It raised {len(others)} more times; the last was {others[-1]!r}.")
    raise first
