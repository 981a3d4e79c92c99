"""Saving one part, and ending a session; the verbs are in ``partial``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from returns.result import Result

from sealwax.context import Context, resolve
from sealwax.effects import Plan
from sealwax.errors import OptionValueError, SealwaxError
from sealwax.layouts.orbax import DEFAULT_ITEM
from sealwax.options import Options
from sealwax.planning.atomicity import in_place
from sealwax.planning.finalize import FinalizeRequest, SessionSite, plan_discard, plan_finalize
from sealwax.planning.partial import plan_part
from sealwax.planning.parts import target_of
from sealwax.runtime import garbage
from sealwax.runtime.observe import Perform, raised
from sealwax.runtime.observe_parts import survey_part, survey_session
from sealwax.runtime.operation import Operation, raise_unavailable
from sealwax.trees.structure import PyTree
from sealwax.verbs.paths import absolute
from sealwax.verbs.save_operation import Save, one_tree

_Planner: TypeAlias = Callable[[FinalizeRequest, SessionSite], Result[Plan, SealwaxError]]


class SavePart(Save):
    """One part of a checkpoint, captured."""

    def __init__(
        self,
        path: object,
        state: PyTree,
        *,
        custom_metadata: object,
        context: Context | Options | None,
        background: bool,
    ) -> None:
        options = resolve(context)
        if in_place(options.atomicity, absolute(path)):
            raise OptionValueError(
                "Option 'atomicity.mode' does not allow to save in parts, which are put together "
                "by renaming",
                path=path,
                expected="'auto' or 'atomic_rename'",
                found="'commit_file'",
            )
        super().__init__(
            path,
            one_tree(state, DEFAULT_ITEM),
            part=True,
            overwrite=False,
            custom_metadata=custom_metadata,
            context=options,
            background=background,
        )

    async def planned(self, perform: Perform, limit: int | None) -> Result[Plan, SealwaxError]:
        """Observes and plans, with this transfer budget where there is one."""
        site = await survey_part(perform, self.request.path)
        with garbage.paused():
            return plan_part(self.request.within(limit), site)


class _End:
    """The end of a session, captured."""

    title: str
    planner: _Planner

    def __init__(
        self, path: object, *, missing_ok: bool = False, context: Context | Options | None
    ) -> None:
        options = resolve(context)
        raise_unavailable(options, "save")
        target = target_of(absolute(path))
        self.operation = Operation(title=self.title, path=target, options=options)
        self.request = FinalizeRequest(path=target, options=options, missing_ok=missing_ok)

    async def plan(self) -> Plan:
        """Observes and plans, and does nothing."""
        async with self.operation.performing() as perform:
            site = await survey_session(perform, self.request.path, hold=False)
            return raised(type(self).planner(self.request, site))

    async def run(self) -> None:
        """Does it."""
        async with self.operation.performing() as perform:
            site = await survey_session(perform, self.request.path, hold=True)
            made: Plan = raised(type(self).planner(self.request, site))
            await self.operation.execute(made, perform)


class Finalize(_End):
    """The parts of a session become one checkpoint."""

    title = "partial.finalize"
    planner = staticmethod(plan_finalize)


class Discard(_End):
    """The parts of a session are given up."""

    title = "partial.discard"
    planner = staticmethod(plan_discard)
