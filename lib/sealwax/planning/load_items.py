"""Planning a load of several items: what each adds to the plan, and how they come together."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

from sealwax.effects import Plan
from sealwax.options import Options
from sealwax.planning.builder import Builder, result
from sealwax.planning.load_steps import load_budget


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How an item is loaded.

    Attributes:
      name: Its name.
      leaves: The names of the leaves that are read.
      add: Adds the steps, and returns the one whose result is the item.
    """

    name: str
    leaves: tuple[str, ...] = ()
    add: Callable[[Builder], int]


def keep(name: str, value: object) -> Loading:
    """Stands for an item of which nothing is read, and that has this value."""
    return Loading(name=name, add=lambda build: build.derive("nothing", lambda: value))


def plan_items(title: str, path: str, options: Options, items: Sequence[Loading]) -> Plan:
    """Plans a load of several items side by side, whose result is a dict of them."""
    build = Builder()
    steps = [item.add(build.within(item.name)) for item in items]
    together = functools.partial(_together, [item.name for item in items])
    final = build.derive("the checkpointables", together, *map(result, steps))
    return Plan(
        title=title,
        path=path,
        steps=tuple(build.steps),
        result=final,
        names=tuple([f"{item.name}/{leaf}" for item in items for leaf in item.leaves]),
        host_budget=load_budget(options),
    )


def plan_item(title: str, path: str, options: Options, item: Loading) -> Plan:
    """Plans a load of the one item that is in a directory."""
    build = Builder()
    final = item.add(build)
    return Plan(
        title=title,
        path=path,
        steps=tuple(build.steps),
        result=final,
        names=item.leaves,
        host_budget=load_budget(options),
    )


def _together(known: Sequence[str], *values: object) -> dict[str, object]:
    return dict(zip(known, values, strict=True))
