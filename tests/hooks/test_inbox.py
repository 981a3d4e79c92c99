"""However the parts of states come in, each state is saved whole, once, and in order."""

from __future__ import annotations

from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np

from sealwax.hooks.inbox import Inbox, Letter


@st.composite
def schedules(draw: st.DrawFn) -> tuple[int, int, list[int]]:
    """Devices, states, and whose turn it is; each device has two turns for each state."""
    devices, states = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    turns = [device for device in range(devices) for _ in range(2 * states)]
    return devices, states, draw(st.permutations(turns))


@hypothesis.given(schedules())
def test_every_interleaving_of_devices(schedule: tuple[int, int, list[int]]) -> None:
    devices, states, turns = schedule
    written: list[tuple[int, Any]] = []

    async def write(letter: Letter) -> None:
        written.append((letter.step, letter.assemble(letter.parts)))

    def device_turns(device: int) -> Any:
        for step in range(states):
            letter = Letter(step=step, metrics={}, assemble=dict, missing=devices, devices=devices)
            ticket = inbox.begin(device, letter)
            yield
            inbox.receive(ticket, {(0, device): np.array([step, device])})
            yield

    inbox = Inbox(write, "/nowhere", in_flight=states + 1, stop=True)
    going = [device_turns(device) for device in range(devices)]
    for device in turns:
        next(going[device])
    inbox.settle(0.0)
    inbox.wait()
    assert [step for step, _ in written] == list(range(states))
    for step, parts in written:
        assert {key: list(part) for key, part in parts.items()} == {
            (0, device): [step, device] for device in range(devices)
        }
