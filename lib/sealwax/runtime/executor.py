"""The executor: performs a plan's graph of effects, and is where everything happens.

Steps run side by side as soon as what they need is done, within byte budgets; what needs only the
answer of a step goes on when that is there, which may be early (``early``). The first error
stops the rest, carries the effect, the leaf and the path, and keeps the other failures as notes;
then what the operation left behind is undone, unless the checkpoint was sealed already. From the
seal on nothing is cancelled any more: what is sealed is also finished.
"""

from __future__ import annotations

import collections
import dataclasses
import errno
import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import anyio
import anyio.lowlevel

from sealwax.effects import (
    SOURCES,
    Call,
    Derive,
    Effect,
    From,
    HandlerEffect,
    Plan,
    Rename,
    Retract,
    RunLoad,
    Step,
    SyncDirectory,
)
from sealwax.effects.plan import later_fields, uses
from sealwax.effects.wording import sentence
from sealwax.errors import (
    CheckpointExistsError,
    InternalError,
    SealError,
    SealwaxError,
    StorageError,
)
from sealwax.runtime import early, garbage
from sealwax.runtime.budget import Budget
from sealwax.runtime.meter import Meter, metering, owned_bytes
from sealwax.runtime.threads import in_thread

Perform: TypeAlias = Callable[[Effect], Awaitable[Any]]
_HEAD_START = 0.001
_UNSYNCED = "everybody sees it, and a loss of power may undo it"
_LEFT_BEHIND = "what it leaves behind is removed by the next one there"
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Byte budgets of one operation; ``None`` is no limit."""

    write: int | None = None
    read: int | None = None


async def execute(
    plan: Plan,
    perform: Perform,
    *,
    sources: Sequence[Any] | Mapping[str, Any] = (),
    limits: Limits = Limits(),
    meter: Meter | None = None,
    on_staged: Callable[[], None] | None = None,
) -> Any:
    """Performs a plan and returns the result of the step that ``plan.result`` numbers.

    Args:
      plan: What to do.
      perform: How to perform one effect; see ``sealwax.runtime.handlers``.
      sources: What the operation was called with; ``From(step=SOURCES)`` stands for it.
      limits: Byte budgets.
      meter: Counts what was done.
      on_staged: Called once, when every step marked ``staging`` is done.

    Raises:
      SealwaxError: The first step that failed, as the error that describes it.
    """
    meter = meter or Meter()
    run = _Run(plan, perform, sources, limits, meter, on_staged)
    with metering(meter, plan):
        try:
            await run.all()
        except BaseException as error:
            failure = run.explain(error)
            await run.undo(failure)
            if failure is error:
                raise
            raise failure from failure.__cause__
    return None if plan.result is None else run.results[plan.result]


class _Stopped(Exception):
    """A step raised what would end the event loop."""


class _Run:
    """The state of one execution: which steps are done, and what they gave."""

    def __init__(
        self,
        plan: Plan,
        perform: Perform,
        sources: Sequence[Any] | Mapping[str, Any],
        limits: Limits,
        meter: Meter,
        on_staged: Callable[[], None] | None,
    ) -> None:
        self.plan = plan
        self.perform = perform
        self.meter = meter
        self.on_staged = on_staged
        self.results: dict[int, Any] = {SOURCES: sources}
        self.host = Budget(plan.host_budget)
        self.write = Budget(limits.write)
        self.read = Budget(limits.read)
        self.done: set[int] = set()
        self.left: dict[int, int] = {}
        self.followers = collections.defaultdict[int, list[Step]](list)
        self.heirs = collections.defaultdict[int, list[Step]](list)
        for step in plan.steps:
            self.left[step.number] = len(step.needs)
            for number in step.needs:
                those = self.followers if number in step.after else self.heirs
                those[number].append(step)
        holding = [step.number for step in plan.steps if step.holds]
        self.turn = dict(zip(holding[1:], holding, strict=False))
        self.granted = {number: anyio.Event() for number in holding}
        self.uses = {step.number: frozenset(uses(step.effect)) for step in plan.steps}
        self.users = collections.Counter(n for used in self.uses.values() for n in used)
        self.staging = sum(step.staging for step in plan.steps)
        self.held: dict[int, int] = {}
        self.failed: list[tuple[Step, BaseException]] = []

    async def all(self) -> None:
        if not self.staging and self.on_staged is not None:
            self.on_staged()
        steps, seal = self.plan.steps, self.plan.seal
        if seal is None:
            await self.together(steps)
            return
        await self.together(steps[:seal])
        with anyio.CancelScope(shield=True):
            await self.together(steps[seal:])

    async def together(self, steps: Sequence[Step]) -> None:
        """Performs steps, each as soon as all that it needs are done."""
        self.numbers = frozenset([step.number for step in steps])
        async with anyio.create_task_group() as self.group:
            for step in steps:
                self.start(step)

    def start(self, step: Step) -> None:
        # A method: a function kept in a field would be a circle, and keep what the operation gave
        # until the collector comes by.
        if not self.left[step.number] and step.number in self.numbers:
            self.group.start_soon(self.step, step)

    async def step(self, step: Step) -> None:
        await anyio.lowlevel.checkpoint_if_cancelled()
        await self.hold(step)
        await self.write.acquire(step.writes)
        await self.read.acquire(step.reads)
        taken = step.holds + step.keeps
        self.meter.hold(taken)
        try:
            with early.taking(functools.partial(self.answer, step)):
                answer = await self.act(step.effect)
            self.results[step.number] = answer
            self.held[step.number] = taken = self.account(step, answer)
        except (Exception, KeyboardInterrupt, SystemExit, GeneratorExit) as error:
            self.failed.append((step, error))
            self.meter.hold(-taken)
            if isinstance(error, Exception):
                raise
            # An event loop stops at once for it, and would leave the other steps where they are.
            raise _Stopped from error
        finally:
            self.write.release(step.writes)
            self.read.release(step.reads)
        if self.stage(step):
            # The caller may go on, and should: what follows would keep the interpreter busy.
            await anyio.sleep(_HEAD_START)
        self.finish(step)

    def account(self, step: Step, answer: Any) -> int:
        """Corrects what was reserved for a step to what its result takes, and returns that."""
        reserved = step.holds + step.keeps
        taken = owned_bytes(step.effect, answer, reserved)
        self.meter.hold(taken - reserved)
        return taken

    async def hold(self, step: Step) -> None:
        """Takes host memory in the plan's order, so that no later step starves an earlier one."""
        if step.holds:
            if step.number in self.turn:
                await self.granted[self.turn[step.number]].wait()
            await self.host.acquire(step.holds)
            self.granted[step.number].set()

    async def act(self, effect: Effect) -> Any:
        if isinstance(effect, Derive):
            inputs = [self.resolve(value) for value in effect.inputs]
            if not effect.brief:
                return await in_thread(effect.function, *inputs)
            with garbage.paused():
                return await in_thread(effect.function, *inputs, brief=True)
        return await self.perform(self.concrete(effect))

    def finish(self, step: Step) -> None:
        self.meter.advance(step)
        self.done.add(step.number)
        for number in self.uses[step.number]:
            self.users[number] -= 1
        for number in (step.number, *self.uses[step.number]):
            if not self.users[number] and number != self.plan.result:
                self.results[number] = None
                self.let_go(number)
        self.let_on((*self.heirs.pop(step.number, ()), *self.followers[step.number]))

    def answer(self, step: Step, value: Any) -> None:
        """Lets those go on that need what a step gives, and not that it is done."""
        self.results[step.number] = value
        self.let_on(self.heirs.pop(step.number, ()))

    def let_on(self, steps: Iterable[Step]) -> None:
        """Counts for each of these that something that it needs is there."""
        for step in steps:
            self.left[step.number] -= 1
            self.start(step)

    def stage(self, step: Step) -> bool:
        """Counts a step for which the caller waits, and tells whether it was the last one."""
        self.staging -= step.staging
        if not step.staging or self.staging or self.on_staged is None:
            return False
        self.on_staged()
        return True

    def let_go(self, number: int) -> None:
        """Gives back the host memory of a result that nobody uses any more."""
        if number == SOURCES:
            return
        step = self.plan.steps[number]
        self.host.release(step.holds)
        if not step.keeps:
            self.meter.hold(-self.held.pop(number, 0))

    def concrete(self, effect: Effect) -> Effect:
        """The effect with every ``From`` replaced by the result it names."""
        changes: dict[str, Any] = {}
        for name in later_fields(type(effect)):
            value = getattr(effect, name)
            resolved = self.resolve(value)
            if resolved is not value:
                changes[name] = resolved
        return dataclasses.replace(effect, **changes) if changes else effect

    def resolve(self, value: Any) -> Any:
        if isinstance(value, From):
            result = self.results[value.step]
            return result if value.part is None else result[value.part]
        if not isinstance(value, tuple):
            return value
        items = cast("tuple[object, ...]", value)
        if any(isinstance(item, From) for item in items):
            return tuple(self.resolve(item) for item in items)
        return items

    def explain(self, error: BaseException) -> BaseException:
        """The one error to raise: the first failure, described, with the others as notes."""
        if not self.failed:
            return error
        (step, cause), *others = self.failed
        failure = describe(cause, step, self.plan)
        if self.sealed and not isinstance(step.effect, Call):
            lost = isinstance(step.effect, SyncDirectory)
            rest = _UNSYNCED if lost else _LEFT_BEHIND
            done = (
                self.plan.sealed or f"The {self.plan.title} itself was complete before this: {rest}"
            )
            failure.add_note(f"{done}.")
        for other, also in others:
            failure.add_note(f"Also failed: {self.plan.sentence(other)}: {also}")
        return failure

    @property
    def sealed(self) -> bool:
        seal = self.plan.seal
        return seal in self.done

    async def undo(self, failure: BaseException) -> None:
        if self.sealed:
            return
        with anyio.CancelScope(shield=True):
            for effect in self.plan.undo:
                try:
                    await self.perform(effect)
                except Exception as error:
                    failure.add_note(f"Could not {sentence(effect, self.plan.names)}: {error}")


def _takes_place(step: Step, plan: Plan) -> bool:
    """Whether a step needs the path of the operation for itself."""
    match step.effect:
        case Rename(target=target):
            return step.number == plan.seal or target == plan.path
        case Retract():
            return True
        case _:
            return step.number == plan.seal


def _where(error: BaseException, effect: Effect, plan: Plan) -> str:
    """The path that an error is about: the very file, if the effect acts on several of them."""
    named = (getattr(effect, name, None) for name in ("directory", "path"))
    whole = next(filter(None, named), plan.path)
    file = getattr(error, "filename", None)
    return file if isinstance(file, str) and file.startswith(f"{whole}/") else whole


def describe(error: BaseException, step: Step, plan: Plan) -> BaseException:
    """Turns what a handler raised into an error that says what was done, and to what."""
    where = _where(error, step.effect, plan)
    what = f"could not {plan.sentence(step)}"
    if isinstance(step.effect, Call):
        complete = plan.seal is not None and step.number > plan.seal
        rest = f"; the checkpoint {plan.path!r} is complete" if complete else ""
        error.add_note(f"{step.effect.name} raised this{rest}.")
        return error
    if isinstance(error, SealwaxError):
        return error.located(item=step.item, path=where)
    if _takes_place(step, plan) and getattr(error, "errno", None) in _TAKEN:
        made = CheckpointExistsError(
            "Another save put something at the path while this one was under way",
            path=plan.path,
            hint="Let one save at a time go to a path, or pass overwrite=True: the last one wins.",
        )
        made.__cause__ = error
        return made
    leaves = plan.leaves_of(step)
    leaf = leaves[0] if len(leaves) == 1 else None
    if isinstance(error, OSError):
        kind = SealError if step.number == plan.seal else StorageError
        made = kind.from_os_error(error, what, leaf=leaf, path=where)
    elif isinstance(error, MemoryError) or not isinstance(error, Exception):
        return error
    elif isinstance(step.effect, HandlerEffect):
        whose = f" of checkpointable {step.item!r}" if step.item is not None else ""
        error.add_note(f"The handler{whose} raised this: {what}.")
        return error
    else:
        made = InternalError(f"{what}: {error}", leaf=leaf, path=where)
    if isinstance(step.effect, RunLoad) and isinstance(error, FileNotFoundError):
        sought = error.filename or "a file"
        made.hint = f"The handler looked for {sought}: see whether it is the one that saved this."
    made.located(item=step.item)
    if len(leaves) > 1:
        made.add_note(f"The step holds {len(leaves)} leaves, from {leaves[0]!r} to {leaves[-1]!r}.")
    made.__cause__ = error
    return made
