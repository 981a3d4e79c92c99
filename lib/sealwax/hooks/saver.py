"""``Saver``: saves the state of a compiled program while it runs."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self

import jax as _jax
from returns.result import Result, Success

from sealwax.context import Context, resolve
from sealwax.errors import ArgumentValueError, SealwaxError, StepNotFoundError
from sealwax.hooks import calls, inbox
from sealwax.hooks.delivery import Coming, Delivery, on_host
from sealwax.hooks.inbox import Inbox, Letter
from sealwax.hooks.template import Template
from sealwax.layouts.orbax import DEFAULT_ITEM
from sealwax.options import Options
from sealwax.path.step import NameFormat, standard_name_format
from sealwax.planning import names
from sealwax.planning.capture import Captured, capture_items, capture_tree
from sealwax.planning.pipeline import raised
from sealwax.runtime import exits
from sealwax.runtime.operation import raise_unavailable
from sealwax.trees.structure import PyTree
from sealwax.verbs.loading import load
from sealwax.verbs.paths import absolute
from sealwax.verbs.registration import registry_of
from sealwax.verbs.save_operation import Save

jax: Any = _jax
_METRICS = "metrics"
_NAMES = standard_name_format()


@jax.tree_util.register_static
class Saver:
    """Saves the state of a program while the program runs, from inside ``jit``.

    It is called where the state is, in a jitted step, a loop of ``jax.lax`` or under
    ``shard_map``, and saves the steps that it is due at to ``<root>/<step>``. Sharded arrays come
    to the host shard by shard. Saves go on while the program does, one after another, in order.

    It keeps the settings and effect handlers that were current where it was made. It is no part
    of what is traced: a program is compiled once for all steps and roots.

    A save that fails stops the program at the next step that is due, unless ``on_error`` is
    ``"continue"``; ``wait()`` raises it, and so does leaving ``with saver:``. What nobody asks for
    is reported when the interpreter exits.

    Args:
      root: Directory of the steps.
      like: A state like those that will be saved: arrays, or ``jax.ShapeDtypeStruct`` with the
        shardings. It says how arrays are cut and recorded; nothing of it is kept alive.
      every: Which steps are due: its multiples.
      in_flight: How many complete states may be on the host before the program is held up.
      on_error: What becomes of a program after a save failed.
      checkpointable_name: Name of the item that holds the state.
      overwrite: Whether checkpoints that are there may be replaced.
      step_name_format: How the directories of steps are named; see ``sealwax.path.step``.
      context: Settings to use instead of the current ones.

    Raises:
      HookError: The state lies where no hook can bring it from.

    >>> import jax, jax.numpy as jnp
    >>> saver = Saver(getfixture("tmp_path"), {"x": jnp.float32(0)})
    >>> @jax.jit
    ... def step(number, state):
    ...     state = {"x": state["x"] + 1}
    ...     saver(state, step=number, when=state["x"] > 1)
    ...     return state
    >>> state = step(2, step(1, {"x": jnp.float32(0)}))
    >>> saver.wait()
    >>> saver.latest(), saver.restore()["x"]
    (2, Array(2., dtype=float32))
    """

    def __init__(
        self,
        root: object,
        like: PyTree,
        *,
        every: int = 1,
        in_flight: int = 1,
        on_error: Literal["stop", "continue"] = "stop",
        checkpointable_name: str = DEFAULT_ITEM,
        overwrite: bool = False,
        step_name_format: NameFormat[Any] = _NAMES,
        context: Context | Options | None = None,
    ) -> None:
        self._options = resolve(context)
        raise_unavailable(self._options, "save")
        self._every = calls.positive("every", every)
        if on_error not in ("stop", "continue"):
            raise ArgumentValueError(
                "The argument 'on_error' of a hook has a value that it cannot have",
                expected="'stop' or 'continue'",
                found=repr(on_error),
            )
        self._item = checkpointable_name
        self._overwrite = overwrite
        self._names = step_name_format
        self._template = Template(like)
        self._inbox = Inbox(
            self._write,
            absolute(root),
            in_flight=calls.positive("in_flight", in_flight),
            stop=on_error == "stop",
        )
        _savers.add(self)
        exits.before_exit(_settle_all)

    @property
    def root(self) -> str:
        """The directory of the steps that are saved from now on."""
        return self._inbox.root

    def __call__(
        self,
        state: PyTree,
        *,
        step: Any,
        when: Any = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """Saves the state if the step is due.

        Args:
          state: The state; under ``shard_map`` the local shards of its arrays. What is no JAX array
            in it is a constant of the program, and saved as it is.
          step: The number of the step, an integer that may be traced.
          when: A traced bool that says whether to save, in place of ``every``.
          metrics: Numbers to keep beside the state, by name; small arrays that may be traced.

        Raises:
          HookError: JAX cannot have a hook here.
          TreeMismatchError: The state has other leaves than the hook was made for.
          LeafMismatchError: An array has another shape or dtype.
        """
        number = calls.as_step(step)
        due = calls.is_due(number, self._every, when)
        leaves = self._template.match(state)
        values = calls.as_metrics({} if metrics is None else metrics)
        if not calls.is_traced([number, due, *leaves, *values.values()]):
            if due:
                self._post(int(number), leaves, values)
            return
        delivery = Delivery(
            template=self._template,
            inbox=self._inbox,
            leaves=tuple(map(_coming, leaves)),
            metrics=tuple(values),
        )
        arrays = [leaves[n] for n in delivery.sent]
        operands = jax.tree.map(calls.seen, (number, list(values.values()), arrays))
        jax.lax.cond(due, delivery.send, _nothing, *operands)

    def _post(self, step: int, leaves: list[Any], metrics: dict[str, Any]) -> None:
        """Does it outside of any program."""
        copies = [on_host(leaf) if isinstance(leaf, jax.Array) else leaf for leaf in leaves]
        state = jax.tree.unflatten(self._template.structure, copies)
        numbers = {name: value.tolist() for name, value in metrics.items()}
        self._inbox.post(Letter(step=step, metrics=numbers, assemble=lambda parts: state))

    async def _write(self, letter: Letter) -> None:
        save = Save(
            names.join(letter.root, self._names.build_name(letter.step)),
            functools.partial(self._capture, letter),
            named=bool(letter.metrics),
            overwrite=self._overwrite,
            custom_metadata=None,
            context=self._options,
            background=False,
        )
        await save.run()

    def _capture(
        self, letter: Letter, options: Options
    ) -> Result[tuple[Captured, ...], SealwaxError]:
        captured: list[Captured] = [
            raised(capture_tree(self._item, letter.assemble(letter.parts), options))
        ]
        if letter.metrics:
            item = {_METRICS: letter.metrics}
            reserved = frozenset({_METRICS})
            captured += raised(
                capture_items(item, options, registry_of(options), reserved=reserved)
            )
        return Success(tuple(captured))

    def to(self, root: object) -> None:
        """Saves somewhere else from now on, without compiling anything again.

        The programs that this thread has started run to their end first.

        Args:
          root: Directory of the steps.
        """
        target = absolute(root)
        _barrier()
        self._inbox.root = target

    def wait(self) -> None:
        """Waits until the programs of this thread have run and all that they saved is sealed.

        Raises:
          SealwaxError: A save failed; each failure is raised once.
        """
        broken = _barrier()
        self._inbox.settle(inbox.GRACE if broken is None else 0.0)
        self._inbox.wait()
        stopped, self._inbox.stopped = self._inbox.stopped, broken is not None
        if broken is not None and not stopped:
            raise broken

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.wait()
        except Exception as failure:
            if error is None or self._inbox.stopped:
                raise
            error.add_note(f"A save from inside a program failed too: {failure}")

    def steps(self) -> tuple[int, ...]:
        """The finished steps below the root, ascending."""
        with Context(self._options):
            return tuple(found.step for found in self._names.find_all(self.root))

    def latest(self) -> int | None:
        """The last finished step below the root, or ``None``: nothing was saved there."""
        return max(self.steps(), default=None)

    def restore(self, step: int | None = None) -> PyTree:
        """Loads the state of a step, placed and sharded as the hook was made for.

        Args:
          step: The number of the step, or ``None`` for the last.

        Raises:
          StepNotFoundError: It is not there.
        """
        number = self.latest() if step is None else step
        if number is None:
            raise StepNotFoundError(
                "There is no finished checkpoint of any step",
                path=self.root,
                hint="Ask latest() first whether there is one.",
            )
        with Context(self._options):
            path = self._names.find_step(self.root, number).path
        return load(
            path, self._template.abstract, checkpointable_name=self._item, context=self._options
        )


_savers: weakref.WeakSet[Saver] = weakref.WeakSet()


def _coming(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array):
        return leaf.copy() if hasattr(leaf, "copy") else leaf
    return Coming(dtype=leaf.dtype, empty=not leaf.size)


def _nothing(*_: Any) -> None:
    return None


def _barrier() -> Exception | None:
    """Waits until the programs that this thread has started have ended, and gives their failure."""
    try:
        jax.effects_barrier()
    except RuntimeError as error:  # JAX's own is one.
        return error
    return None


def _settle_all() -> None:
    broken = _barrier()
    for saver in list(_savers):
        saver._inbox.settle(inbox.GRACE if broken is None else 0.0)
