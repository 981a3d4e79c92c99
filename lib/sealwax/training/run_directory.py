"""One run's directory, and what a checkpointer does in it; what each call means is told there."""

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from sealwax.context import Context, current_options, resolve
from sealwax.effects import Call, Now
from sealwax.errors import (
    CheckpointExistsError,
    ClosedError,
    StepAlreadyExistsError,
    StepNotFoundError,
)
from sealwax.options import Options
from sealwax.path.step import FoundStep, NameFormat, one_step
from sealwax.planning import names
from sealwax.planning.steps import as_step
from sealwax.runtime import background
from sealwax.runtime.asking import ask
from sealwax.runtime.observe import Perform
from sealwax.runtime.operation import Operation
from sealwax.settings.blocks import stack
from sealwax.training.deciding import DecisionContext, SaveDecisionPolicy
from sealwax.training.flights import Flights
from sealwax.training.history import History, Step
from sealwax.training.pace import Pace
from sealwax.training.store import Seen, look_around
from sealwax.verbs.paths import absolute

T = TypeVar("T")
_log = logging.getLogger("sealwax")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a checkpointer was made with.

    Attributes:
      explicit: The settings that it was given; ``None`` where it was given none.
      around: The settings that were current when it was made.
      saving: When to save.
      preserving: What to keep.
      name_format: How steps are called.
      keep_newest: Whether the newest step stays, whatever the policy says.
      lightweight: Whether to read what is recorded of steps only when it is needed.
      logger: Is told of each save and load, or ``None``.
    """

    explicit: Options | None
    around: Options
    saving: SaveDecisionPolicy
    preserving: Any
    name_format: NameFormat[Any]
    keep_newest: bool
    lightweight: bool
    logger: Any


class Run:
    """What is known of a run's directory, and the one operation in it that may be under way."""

    def __init__(self, directory: object, settings: Settings) -> None:
        self.root = absolute(directory)
        self.settings = settings
        self.flights = Flights()
        self.turn = threading.RLock()
        """Held by whoever begins something: one thread after another."""
        self.seen = Seen()
        self.pace = Pace()
        self.closed = False
        self._lock = threading.Lock()
        self._changes: list[Callable[[Seen], Seen]] = []
        self._warned = False
        self._timed: tuple[Seen, History] | None = None

    def options(self, context: Context | Options | None) -> Options:
        """The settings of a call: its own, the checkpointer's, or those that are current."""
        if context is not None:
            return resolve(context)
        if self.settings.explicit is not None:
            return self.settings.explicit
        return current_options() if stack() else self.settings.around

    def run(self, title: str, options: Options, work: Callable[[Perform], Awaitable[T]]) -> T:
        """Does something that performs effects."""
        operation = Operation(title=title, path=self.root, options=options)

        async def performed() -> T:
            async with operation.performing() as perform:
                return await work(perform)

        return background.run(performed, title, operation.watch)

    def begin(self) -> None:
        """Refuses a closed checkpointer, and raises what failed in the background.

        Raises:
          ClosedError: It was closed.
          SealwaxError: The last save or deletion failed, and nobody was told.
        """
        self.flights.settle()
        if self.closed:
            raise ClosedError(
                "The checkpointer was closed",
                path=self.root,
                hint="Make another one for the same directory.",
            )

    # What is in the directory.

    def tell(self, change: Callable[[Seen], Seen]) -> None:
        """Knows of a change that this checkpointer made itself."""
        with self._lock:
            self._changes.append(change)
            self.seen = change(self.seen)

    async def look(
        self,
        perform: Perform,
        options: Options,
        *,
        read: bool,
        forget: Callable[[Seen], Seen] | None = None,
    ) -> None:
        """Looks which steps are there; what changes in the meantime is not lost.

        Args:
          perform: Performs effects.
          options: The settings.
          read: Whether to read what is recorded of each step; else only of the last.
          forget: What of that which was seen before counts; all without it.
        """
        with self._lock:
            since, before = len(self._changes), self.seen
        before = before if forget is None else forget(before)
        found = await look_around(
            perform,
            self.root,
            self.settings.name_format,
            options,
            before,
            read=read,
        )
        with self._lock:
            for change in self._changes[since:]:
                found = change(found)
            self.seen = found

    def reload(self, options: Options) -> None:
        """Looks at all of the directory again."""
        read = not self.settings.lightweight
        look = functools.partial(self.look, options=options, read=read, forget=lambda seen: Seen())
        self.run("reload", options, look)

    def path_of(self, step: int) -> str:
        """Where a step is saved."""
        return names.join(self.root, self.settings.name_format.build_name(step))

    async def resolve(self, perform: Perform, step: int | None, options: Options) -> FoundStep:
        """A step that is there, or the last one.

        Raises:
          StepNotFoundError: It is not there.
        """
        if step is None:
            await self.look(perform, options, read=False)
            latest = self.seen.history.latest
            if latest is None:
                raise StepNotFoundError(
                    "There is no finished checkpoint of any step",
                    path=self.root,
                    hint="Ask whether latest is None first, or name another directory.",
                )
            return FoundStep(step=latest.step, path=latest.path)
        try:
            return await one_step(
                perform,
                self.root,
                self.settings.name_format,
                options.file.path_class,
                options.atomicity,
                step=step,
            )
        except StepNotFoundError:
            self.tell(lambda seen: seen.without(step))
            raise

    # Whether to save.

    def timed(self, now: int) -> History:
        """The steps, each with a time; a training loop asks for them at every step."""
        seen, known = self.seen, self._timed
        if known is None or known[0] is not seen:
            known = self._timed = seen, seen.timed(now)
        return known[1]

    def now(self, options: Options) -> int:
        """The time, in nanoseconds since the epoch."""
        return cast("int", ask(Now(), options))

    def decide(self, step: int, now: int, options: Options, *, force: bool = False) -> bool:
        """Whether to save this step, that a training loop has come to."""
        self.pace = self.pace.reached(step, now)
        if force:
            return True
        saving, known = self.flights.saving, self.timed(now)
        if known.latest is not None and known.latest.step == step:
            known = known.without(step)  # It may be replaced.
        if saving is not None and saving.step != step:
            known = known.including(saving)
        if known.latest is not None and known.latest.step > step:
            return False
        context = DecisionContext(
            is_saving_in_progress=saving is not None,
            reached_preemption=_preempted(step, options),
            multiprocessing_options=options.multiprocessing,
            costs=self.pace.costs,
        )
        asked = Step(step=step, time_nsecs=now, path=options.file.path_class(self.path_of(step)))
        return bool(self.settings.saving.should_save(asked, known, context=context))

    def refuse_existing(self, step: int) -> None:
        """Refuses a step that is there, or is being saved.

        Raises:
          StepAlreadyExistsError: It is.
        """
        saving = self.flights.saving
        if step in self.seen.history.numbers or (saving is not None and saving.step == step):
            raise self.exists(step)

    def exists(
        self, step: int, because: CheckpointExistsError | None = None
    ) -> StepAlreadyExistsError:
        """The error for a step that was to be saved and is there."""
        if because is None:
            return StepAlreadyExistsError(
                f"Step {step} exists already",
                step=step,
                path=self.path_of(step),
                hint="Pass overwrite=True to replace it, or delete it first.",
            )
        return StepAlreadyExistsError(
            f"Step {step} cannot be saved: {because.what[:1].lower()}{because.what[1:]}",
            step=step,
            path=because.path,
            expected=because.expected,
            found=because.found,
            hint=because.hint,
        )

    def warn_of_later(self, step: int) -> None:
        """Says, once, why steps before the last are not saved."""
        latest = self.seen.history.latest
        if self._warned or latest is None or latest.step <= step:
            return
        self._warned = True
        _log.warning(
            "Step %d was not saved, because there is a later one already, %d, in %s: pass "
            "force=True to save it all the same, or delete the later ones.",
            step,
            latest.step,
            self.root,
        )

    async def log(self, perform: Perform, event: str, step: int, began: int) -> None:
        """Tells the logger of what was done; a failure of it is told to the log, and is no other's.

        Args:
          perform: Performs effects.
          event: ``"save"`` or ``"restore"``, as Orbax calls them.
          step: The step.
          began: When it began, in nanoseconds since the epoch.
        """
        logger = self.settings.logger
        if logger is None:
            return
        entry = {
            "event_type": event,
            "step": step,
            "directory": self.root,
            "start_time": began / 1e9,
            "duration_secs": (await perform(Now()) - began) / 1e9,
        }
        try:
            await perform(Call(name="logger", function=logger.log_entry, inputs=(entry,)))
        except Exception:
            _log.exception("The logger failed at step %d; the %s did not.", step, event)


def number_of(step: object) -> int:
    """The number of a step, or of what is known of one."""
    return as_step(getattr(step, "step", step))


def _preempted(step: int, options: Options) -> bool:
    """Whether the job was told that it will be stopped, as all of its processes see it."""
    import jax as _jax

    jax: Any = _jax
    if not jax.distributed.is_initialized():
        return False
    return bool(ask(Call(name="preemption", function=_at_sync_point, inputs=(step,)), options))


def _at_sync_point(step: int) -> bool:
    from jax.experimental import multihost_utils as _utils

    utils: Any = _utils
    try:
        return utils.reached_preemption_sync_point(step)
    except RuntimeError:  # The service that would know is disabled.
        return False
