"""What all tests share: eight virtual devices, strict JAX, both event loops, no luck."""

from __future__ import annotations

import collections
import os

# Read by JAX when its backend starts, so they stand before any import of it.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8"]
).strip()

import hypothesis
import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

hypothesis.settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("dev", deadline=None, max_examples=200, print_blob=True)
hypothesis.settings.load_profile("ci")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Runs every coroutine test under asyncio and under trio."""
    return request.param


@pytest.fixture(autouse=True, scope="session")
def _eight_devices() -> None:
    """Fails where something started JAX before this file could ask for eight devices."""
    assert jax.device_count() == 8


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Adds up the figures that tests recorded with ``record_property("figure: ...", number)``."""
    figures: collections.Counter[str] = collections.Counter()
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name.startswith("figure: "):
                figures[name.removeprefix("figure: ")] += value
    for name, number in figures.items():
        terminalreporter.write_line(f"{number:,} {name}")
