"""One save, from what was captured when it was called to the seal; the verbs are in ``saving``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

from returns.pipeline import flow
from returns.result import Result

from sealwax.context import Context, resolve
from sealwax.effects import Plan
from sealwax.errors import SealwaxError
from sealwax.options import Options
from sealwax.planning.atomicity import in_place
from sealwax.planning.capture import Captured, capture_items, capture_tree, sources_of
from sealwax.planning.parts import session_of
from sealwax.planning.pipeline import bind, lift
from sealwax.planning.requests import SaveRequest, check_item_name, check_metadata, title
from sealwax.planning.save import plan_save as plan
from sealwax.runtime import garbage
from sealwax.runtime.observe import Perform, raised, survey
from sealwax.runtime.operation import Operation, raise_unavailable
from sealwax.runtime.regulating import regulated
from sealwax.trees.structure import PyTree
from sealwax.verbs.paths import absolute
from sealwax.verbs.registration import registry_of

Capture: TypeAlias = Callable[[Options], Result[Sequence[Captured], SealwaxError]]


class Save:
    """One save, captured: nothing that its caller does later changes what it will write."""

    def __init__(
        self,
        path: object,
        capture: Capture,
        *,
        named: bool = False,
        part: bool = False,
        overwrite: bool,
        custom_metadata: object,
        context: Context | Options | None,
        background: bool,
    ) -> None:
        options = resolve(context)
        raise_unavailable(options, "save")
        target = session_of(absolute(path)) if part else absolute(path)
        self.operation = Operation(
            title=title(named, background, part), path=target, options=options
        )
        try:
            with garbage.paused():
                captured = raised(capture(options))
            self.request = SaveRequest(
                path=target,
                items=tuple([each.item for each in captured]),
                options=options,
                overwrite=overwrite,
                custom_metadata=raised(check_metadata(custom_metadata)),
                background=background,
                named=named,
                part=part,
            )
        except SealwaxError as error:
            raise error.located(path=target) from error.__cause__
        self.sources = sources_of(captured)

    async def plan(self) -> Plan:
        """Observes and plans, and does nothing."""
        regulator = self.request.options.memory.regulator_options
        limit = None if regulator is None else regulator.regulator.current_limit_bytes
        async with self.operation.performing() as perform:
            return raised(await self.planned(perform, limit))

    async def planned(self, perform: Perform, limit: int | None) -> Result[Plan, SealwaxError]:
        """Observes and plans, with this transfer budget where there is one."""
        # What may be replaced must be looked at: nothing but a checkpoint ever is.
        request = self.request
        options = request.options
        look = request.overwrite or not options.file.skip_sync_file_validations
        # Nor is what an interrupted save left at the path itself known by a name beside it.
        look = look or in_place(options.atomicity, request.path)
        site = await survey(perform, request.path, target=look)
        with garbage.paused():
            return plan(request.within(limit), site)

    async def run(self, on_staged: Callable[[], None] | None = None) -> None:
        """Does it."""
        async with (
            self.operation.performing() as perform,
            regulated(self.request.options.memory) as measurement,
        ):
            made: Plan = raised(await self.planned(perform, measurement.limit))
            sources, self.sources = self.sources, {}
            staged = measurement.until(on_staged)
            await self.operation.execute(made, perform, sources=sources, on_staged=staged)


def one_tree(state: PyTree, name: object) -> Capture:
    """Captures one tree, as the item of this name."""

    def capture(options: Options) -> Result[Sequence[Captured], SealwaxError]:
        made: Result[Sequence[Captured], SealwaxError] = flow(
            check_item_name(name),
            bind(functools.partial(capture_tree, state=state, options=options)),
            lift(_alone),
        )
        return made

    return capture


def _alone(captured: Captured) -> tuple[Captured, ...]:
    return (captured,)


def several(checkpointables: object, reserved: frozenset[str] = frozenset()) -> Capture:
    """Captures several checkpointables by the handlers that the settings name.

    ``reserved`` are names that are the library's own, and allowed here.
    """

    def capture(options: Options) -> Result[Sequence[Captured], SealwaxError]:
        # A handler that asks for its settings, to say what it can handle, finds these.
        with Context(options):
            return capture_items(checkpointables, options, registry_of(options), reserved=reserved)

    return capture
