"""A state machine against a model: handles, threads, tasks, blocks left anywhere in any order.

The model knows no snapshots and no stacks of tokens: a place (a thread or a task) has a list of
open blocks, and what each handle is bound to, as plain dictionaries.
"""

from __future__ import annotations

import contextvars
import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from sealwax.context import Context, current_options, resolve
from sealwax.options import Options

DEFAULTS = {
    "file.durability": "durable",
    "array.saving.use_zarr3": True,
    "memory.write_concurrent_bytes": None,
}
changes = st.one_of(
    st.tuples(st.just("file.durability"), st.sampled_from(["durable", "atomic"])),
    st.tuples(st.just("array.saving.use_zarr3"), st.booleans()),
    st.tuples(st.just("memory.write_concurrent_bytes"), st.integers(1, 99)),
)


def seen(root: Any) -> dict[str, Any]:
    return {
        "file.durability": root.file.durability,
        "array.saving.use_zarr3": root.array.saving.use_zarr3,
        "memory.write_concurrent_bytes": root.memory.write_concurrent_bytes,
    }


@dataclasses.dataclass(eq=False)
class Handle:
    real: Context
    base: dict[str, Any]


@dataclasses.dataclass(eq=False)
class Open:
    """An open block: a suspended generator, the handle it entered, and where."""

    generator: Any
    handle: Handle
    place: Place


@dataclasses.dataclass(eq=False)
class Place:
    """Where code runs: a thread of its own that enters one ``contextvars.Context``."""

    real: contextvars.Context
    thread: ThreadPoolExecutor
    blocks: list[Open] = dataclasses.field(default_factory=list)
    bound: dict[Handle, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.thread.submit(self.real.run, function, *args).result()

    def sees(self, handle: Handle) -> dict[str, Any]:
        return self.bound.get(handle, handle.base)

    def current(self) -> dict[str, Any]:
        return self.bound[self.blocks[-1].handle] if self.blocks else DEFAULTS

    def drop(self, block: Open) -> None:
        self.blocks = [one for one in self.blocks if one is not block]
        if not any(one.handle is block.handle for one in self.blocks):
            self.bound.pop(block.handle, None)


@dataclasses.dataclass
class Operation:
    """What an operation captured, and what it has to be until it ends."""

    real: Options
    expected: dict[str, Any]


def entered(ctx: Context) -> Any:
    with ctx:
        yield


class ContextMachine(RuleBasedStateMachine):
    handles = Bundle("handles")
    places = Bundle("places")
    open_blocks = Bundle("open_blocks")
    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.threads = [ThreadPoolExecutor(1) for _ in range(3)]
        self.all_places: list[Place] = []
        self.all_handles: list[Handle] = []
        self.operations: list[Operation] = []

    def teardown(self) -> None:
        for thread in self.threads:
            thread.shutdown()

    def _place(self, real: contextvars.Context, **inherited: Any) -> Place:
        thread = self.threads[len(self.all_places) % len(self.threads)]
        self.all_places.append(Place(real, thread, **inherited))
        return self.all_places[-1]

    def _handle(self, real: Context, base: dict[str, Any]) -> Handle:
        self.all_handles.append(Handle(real, base))
        return self.all_handles[-1]

    @initialize(target=places)
    def first_places(self):
        return multiple(*(self._place(contextvars.Context()) for _ in range(2)))

    @initialize(target=handles)
    def first_handles(self):
        return multiple(*(self._handle(Context(), DEFAULTS) for _ in range(2)))

    @precondition(lambda self: len(self.all_places) < 4)
    @rule(target=places, parent=st.none() | places)
    def start_place(self, parent):
        """A raw thread, or a task of ``parent``: it starts with its blocks, then goes on alone."""
        if parent is None:
            return self._place(contextvars.Context())
        real = parent.call(contextvars.copy_context)
        return self._place(real, blocks=list(parent.blocks), bound=dict(parent.bound))

    @precondition(lambda self: len(self.all_handles) < 3)
    @rule(target=handles, place=places, parent=st.none() | handles)
    def make_context(self, place, parent):
        if parent is None:
            return self._handle(place.call(Context), DEFAULTS)
        return self._handle(place.call(Context, parent.real), place.sees(parent))

    @rule(target=open_blocks, place=places, handle=handles)
    def enter(self, place, handle):
        block = Open(entered(handle.real), handle, place)
        place.call(next, block.generator)
        place.bound.setdefault(handle, handle.base)
        place.blocks.append(block)
        return block

    @rule(block=consumes(open_blocks), elsewhere=st.none() | places)
    def leave(self, block, elsewhere):
        """Leaves any open block, not only the innermost, where it was opened or elsewhere."""
        place = elsewhere or block.place
        place.call(block.generator.close)
        place.drop(block)
        block.place.drop(block)

    @rule(place=places, handle=handles, change=changes)
    def assign(self, place, handle, change):
        def set_it() -> None:
            node: Any = handle.real
            *parents, last = change[0].split(".")
            for parent in parents:
                node = getattr(node, parent)
            setattr(node, last, change[1])

        place.call(set_it)
        self._assigned(place, handle, dict([change]))

    @rule(place=places, handle=handles, many=st.lists(changes, min_size=2, max_size=3))
    def assign_at_once(self, place, handle, many):
        place.call(handle.real.assign, dict(many))
        self._assigned(place, handle, dict(many))

    def _assigned(self, place: Place, handle: Handle, values: dict[str, Any]) -> None:
        handle.base = handle.base | values
        if handle in place.bound:
            place.bound[handle] = place.bound[handle] | values

    @rule(target=running, place=places, handle=st.none() | handles)
    def start_operation(self, place, handle):
        """With the current snapshot, or with ``context=``."""
        if handle is None:
            return self._started(Operation(place.call(resolve), place.current()))
        return self._started(Operation(place.call(resolve, handle.real), place.sees(handle)))

    @rule(target=running, place=places, other=places, handle=handles)
    def carry_over(self, place, other, handle):
        bound = place.call(handle.real.bind, lambda: (current_options(), handle.real.options))
        current, read = other.call(bound)
        assert current is read
        return self._started(Operation(current, place.sees(handle)))

    def _started(self, operation: Operation) -> Operation:
        self.operations.append(operation)
        return operation

    @rule(operation=consumes(running))
    def end_operation(self, operation):
        self.operations.remove(operation)

    @invariant()
    def every_place_has_the_current_snapshot_of_the_model(self):
        for place in self.all_places:
            assert seen(place.call(current_options)) == place.current()

    @invariant()
    def every_handle_shows_in_every_place_what_the_model_says(self):
        for place in self.all_places:
            for handle in self.all_handles:
                assert place.call(seen, handle.real) == place.sees(handle)

    @invariant()
    def no_operation_sees_an_assignment_made_after_it_started(self):
        for operation in self.operations:
            assert seen(operation.real) == operation.expected


TestContext = ContextMachine.TestCase
TestContext.settings = settings(stateful_step_count=40)
