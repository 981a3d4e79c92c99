"""One load of several items, or one look at them: captured, observed item by item, planned once."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from sealwax.context import Context, resolve
from sealwax.effects import Plan, ReadFile
from sealwax.errors import HandlerError, InvalidCheckpointableError, SealwaxError
from sealwax.layouts import manifest, orbax
from sealwax.options import Options
from sealwax.planning import names
from sealwax.planning.load_items import Loading, keep, plan_items
from sealwax.planning.load_steps import LoadRequest
from sealwax.planning.pipeline import first
from sealwax.planning.planners import loading_by, metadata_by, planner_of
from sealwax.planning.stock import Stock, choose, handler_for, has_items, take_stock
from sealwax.runtime.observe import Perform, find, raised, read_manifest, undisturbed
from sealwax.runtime.observe_item import observed
from sealwax.runtime.operation import Operation, looking, raise_unavailable
from sealwax.verbs.checkpoint_metadata import CheckpointMetadata
from sealwax.verbs.loading import request_for
from sealwax.verbs.paths import absolute
from sealwax.verbs.registration import registry_of

_log = logging.getLogger("sealwax")


class Items:
    """A checkpoint of several items, captured for looking at it or for loading."""

    def __init__(self, title: str, path: object, context: Context | Options | None) -> None:
        self.options = resolve(context)
        raise_unavailable(self.options, "load")
        self.operation = Operation(title=title, path=absolute(path), options=self.options)
        self.registry = registry_of(self.options)

    async def stock(self, perform: Perform) -> tuple[Stock, orbax.Facts]:
        """What the checkpoint has."""
        look = functools.partial(looking, perform)
        path = self.operation.path
        found = await find(perform, path, self.options)
        where = names.join(path, orbax.CHECKPOINT_METADATA)
        raised(has_items(found))
        known = orbax.CHECKPOINT_METADATA in found.names
        data = await look(ReadFile(path=where)) if known else None
        facts = orbax.read_checkpoint_metadata(data, where)
        sealed = await read_manifest(look, path) if manifest.NAME in found.names else None
        return take_stock(found, facts, sealed), facts

    def choose(self, stock: Stock, wanted: dict[str, Any] | None) -> tuple[str, ...]:
        """The names of the items; directories that are none are told to the log."""
        bound = [name for _, name in self.registry.get_all_entries() if name is not None]
        chosen, strays = raised(choose(stock, wanted, bound))
        if strays:
            _log.warning(
                "Passed over in %s, since nothing says that they are checkpointables: %s",
                self.operation.path,
                ", ".join(strays),
            )
        return chosen

    async def together(
        self, chosen: Sequence[str], one: Callable[[str], Awaitable[Loading]]
    ) -> Plan:
        """One plan of how each item is loaded; all that is wrong is in the one error."""
        items: list[Loading] = []
        failures: list[SealwaxError] = []
        for name in chosen:
            try:
                items.append(await one(name))
            except SealwaxError as error:
                # Those of handlers name the checkpointable themselves.
                failures.append(
                    error if isinstance(error, HandlerError) else error.located(item=name)
                )
        if failures:
            raise first(failures)
        return plan_items(self.operation.title, self.operation.path, self.options, items)


class LoadItems(Items):
    """One load of several items, captured."""

    def __init__(self, path: object, wanted: object, context: Context | Options | None) -> None:
        super().__init__("load_checkpointables", path, context)
        if isinstance(wanted, CheckpointMetadata):
            wanted = cast("CheckpointMetadata[Any]", wanted).metadata
        if wanted is not None and not isinstance(wanted, dict):
            raise InvalidCheckpointableError(
                "The argument abstract_checkpointables is not a dict",
                path=self.operation.path,
                expected="a dict with the abstract form of each checkpointable, or None for all",
                found=type(wanted).__name__,
                hint="Load one tree with load(path, abstract_state).",
            )
        self.wanted = cast("dict[str, Any] | None", wanted) or None
        self.request = request_for(self.operation.path, self.options, None)

    async def plan(self) -> Plan:
        """Observes and plans, and does nothing."""
        async with self.operation.performing() as perform:
            return await self._plan(perform)

    async def run(self) -> dict[str, Any]:
        """Does it, and returns the items by name."""
        async with self.operation.performing() as perform:

            async def look() -> dict[str, Any]:
                return await self.operation.execute(await self._plan(perform), perform)

            return await undisturbed(perform, self.operation.path, look)

    async def _plan(self, perform: Perform) -> Plan:
        stock, _ = await self.stock(perform)
        chosen = self.choose(stock, self.wanted)
        return await self.together(chosen, functools.partial(self._item, perform, stock))

    async def _item(self, perform: Perform, stock: Stock, name: str) -> Loading:
        abstract = None if self.wanted is None else self.wanted[name]
        if abstract is ...:
            return keep(name, ...)
        item = stock.item(name, self.options)
        with Context(self.options):
            planner = planner_of(raised(handler_for(self.registry, item, abstract)))
            item = await observed(planner, item, perform)
            return raised(loading_by(planner, item, abstract, self.request))


class InspectItems(Items):
    """One look at several items, captured."""

    def __init__(self, path: object, context: Context | Options | None) -> None:
        super().__init__("checkpointables_metadata", path, context)
        self.request = LoadRequest(path=self.operation.path, options=self.options)

    async def run(self) -> CheckpointMetadata[dict[str, Any]]:
        """What is known of the checkpoint and of each item."""
        async with self.operation.performing() as perform:
            look = functools.partial(self._look, perform)
            return await undisturbed(perform, self.operation.path, look)

    async def _look(self, perform: Perform) -> CheckpointMetadata[dict[str, Any]]:
        stock, facts = await self.stock(perform)
        chosen = self.choose(stock, None)
        plan = await self.together(chosen, functools.partial(self._item, perform, stock))
        return CheckpointMetadata(
            path=self.options.file.path_class(self.operation.path),
            metadata=await self.operation.execute(plan, perform),
            init_timestamp_nsecs=facts.init_timestamp_nsecs,
            commit_timestamp_nsecs=facts.commit_timestamp_nsecs,
            custom_metadata=dict(facts.custom_metadata),
            settings={} if stock.sealed is None else stock.sealed.settings,
        )

    async def _item(self, perform: Perform, stock: Stock, name: str) -> Loading:
        item = stock.item(name, self.options)
        with Context(self.options):
            handler = handler_for(self.registry, item, None).value_or(None)
            if handler is None:
                return keep(name, None)
            planner = planner_of(handler)
            item = await observed(planner, item, perform)
            return raised(metadata_by(planner, item, self.request))
