"""One load of several items, or one look at them: captured, observed item by item, planned once."""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import Any, assert_never, cast

from sealwax.checkpointables.kinds import (
    CustomKind,
    JsonKind,
    ProtoKind,
    StatefulKind,
    TreeKind,
    kind_of,
)
from sealwax.context import Context, resolve
from sealwax.effects import Plan, ReadFile, RunMetadata
from sealwax.errors import HandlerError, InvalidCheckpointableError, SealwaxError
from sealwax.layouts import manifest, orbax
from sealwax.options import Options
from sealwax.planning import names
from sealwax.planning.capture import merged
from sealwax.planning.load_items import (
    Loading,
    keep,
    load_handled,
    load_json,
    load_proto,
    load_tree,
    plan_items,
)
from sealwax.planning.pipeline import first
from sealwax.planning.stock import Stock, StoredItem, choose, handler_for, has_items, take_stock
from sealwax.runtime.observe import Perform, find, raised, read_contents, read_manifest, undisturbed
from sealwax.runtime.operation import Operation, looking, raise_unavailable
from sealwax.verbs.checkpoint_metadata import CheckpointMetadata, tree_metadata
from sealwax.verbs.loading import request_for
from sealwax.verbs.paths import absolute
from sealwax.verbs.registration import registry_of
from sealwax.verbs.standard_handlers import needs_instance

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

    def told(self, error: SealwaxError, name: str) -> SealwaxError:
        """An error that names the checkpointable, which those of handlers do themselves."""
        return error if isinstance(error, HandlerError) else error.located(item=name)


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
        items: list[Loading] = []
        failures: list[SealwaxError] = []
        for name in self.choose(stock, self.wanted):
            try:
                items.append(await self._item(perform, stock, name))
            except SealwaxError as error:
                failures.append(self.told(error, name))
        if failures:
            raise first(failures)
        return plan_items(self.operation.path, self.options, items)

    async def _item(self, perform: Perform, stock: Stock, name: str) -> Loading:
        abstract = None if self.wanted is None else self.wanted[name]
        if abstract is ...:
            return keep(name)
        item = stock.item(name)
        with Context(self.options):
            handler = raised(handler_for(self.registry, item, abstract))
        kind = kind_of(handler)
        match kind:
            case TreeKind(options=own):
                request = dataclasses.replace(
                    self.request, options=merged(self.options, own), template=abstract
                )
                rich = self.operation.rich
                contents = await read_contents(perform, stock.found, name, rich=rich)
                return raised(load_tree(name, request, contents))
            case JsonKind():
                return raised(load_json(item, kind, self.options))
            case ProtoKind():
                return raised(load_proto(item, kind, abstract, self.options))
            case StatefulKind():
                if abstract is None or isinstance(abstract, type):
                    raise needs_instance(name, abstract)
                return load_handled(item, handler, abstract, self.options)
            case CustomKind():
                return load_handled(item, handler, abstract, self.options)
            case _:
                assert_never(kind)


class InspectItems(Items):
    """One look at several items, captured."""

    def __init__(self, path: object, context: Context | Options | None) -> None:
        super().__init__("checkpointables_metadata", path, context)

    async def run(self) -> CheckpointMetadata[dict[str, Any]]:
        """What is known of the checkpoint and of each item."""
        async with self.operation.performing() as perform:
            look = functools.partial(self._look, perform)
            return await undisturbed(perform, self.operation.path, look)

    async def _look(self, perform: Perform) -> CheckpointMetadata[dict[str, Any]]:
        stock, facts = await self.stock(perform)
        found: dict[str, Any] = {}
        for name in self.choose(stock, None):
            try:
                found[name] = await self._item(perform, stock, stock.item(name))
            except SealwaxError as error:
                raise self.told(error, name) from error.__cause__
        return CheckpointMetadata(
            path=self.options.file.path_class(self.operation.path),
            metadata=found,
            init_timestamp_nsecs=facts.init_timestamp_nsecs,
            commit_timestamp_nsecs=facts.commit_timestamp_nsecs,
            custom_metadata=dict(facts.custom_metadata),
            settings={} if stock.sealed is None else stock.sealed.settings,
        )

    async def _item(self, perform: Perform, stock: Stock, item: StoredItem) -> Any:
        handler = handler_for(self.registry, item, None).value_or(None)
        if handler is None:
            return None
        kind = kind_of(handler)
        match kind:
            case TreeKind():
                rich = self.operation.rich
                contents = await read_contents(perform, stock.found, item.name, rich=rich)
                return tree_metadata(contents, self.options.pytree)
            case JsonKind() | ProtoKind() | StatefulKind():
                return None
            case CustomKind():
                return await self._handled(perform, item, handler)
            case _:
                assert_never(kind)

    async def _handled(self, perform: Perform, item: StoredItem, handler: Any) -> Any:
        path_class = self.options.file.path_class
        effect = RunMetadata(path=item.directory, handler=handler, path_class=path_class)
        try:
            return await perform(effect)
        except NotImplementedError:
            return None
        except Exception:
            _log.warning(
                "%s could not tell what is in checkpointable %r of %s",
                type(handler).__name__,
                item.name,
                self.operation.path,
                exc_info=True,
            )
            return None
