"""The shipped profiler of host memory: what it measures, and where it takes the figures from."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import sealwax as ocp
from sealwax.errors import OptionUnavailableError
from sealwax.runtime.hostmemory import HostMemoryProfiler, memory_in_all, memory_in_use

MIB = 1 << 20
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal: 8192 kB\nMemFree: 1 kB\nMemAvailable: 2048 kB\n")
    return path


class TestFigures:
    def test_of_a_host_what_is_not_available_is_in_use(self, meminfo, tmp_path):
        assert memory_in_all(meminfo, tmp_path) == 8 * MIB
        assert memory_in_use(meminfo, tmp_path) == 6 * MIB

    @pytest.mark.parametrize(
        ("folder", "limit", "used", "cached"),
        [
            (".", "memory.max", "memory.current", "inactive_file"),
            ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ],
    )
    def test_in_a_container_its_own_limit_counts(
        self, meminfo, tmp_path, folder, limit, used, cached
    ):
        group = tmp_path / "group" / folder
        group.mkdir(parents=True)
        (group / limit).write_text(f"{4 * MIB}\n")
        (group / used).write_text(f"{3 * MIB}\n")
        (group / "memory.stat").write_text(f"anon 5\n{cached} {MIB}\n")
        assert memory_in_all(meminfo, tmp_path / "group") == 4 * MIB
        assert memory_in_use(meminfo, tmp_path / "group") == 2 * MIB

    def test_a_container_without_a_limit_is_the_host(self, meminfo, tmp_path):
        (tmp_path / "memory.max").write_text("max\n")
        (tmp_path / "memory.current").write_text("5\n")
        (tmp_path / "memory.stat").write_text("inactive_file 1\n")
        assert memory_in_use(meminfo, tmp_path) == 6 * MIB

    def test_a_system_that_does_not_tell_is_an_error_that_says_what_to_do(self, tmp_path):
        with pytest.raises(OptionUnavailableError, match="a profiler of your own"):
            memory_in_use(tmp_path / "nothing", tmp_path)


@linux
class TestProfiler:
    def test_it_sees_what_is_in_use_only_between_start_and_end(self):
        profiler = ocp.memory.HostMemoryProfiler()
        assert profiler.peak_usage_bytes == 0
        before = memory_in_use()
        profiler.profiler_start()
        array = np.ones(256 * MIB, np.uint8)
        profiler.profiler_end()
        del array
        peak = profiler.peak_usage_bytes
        # Other processes come and go, but half of what was taken must show in any case.
        assert peak > before + 128 * MIB
        assert peak < profiler.total_memory_bytes
        assert profiler.peak_usage_bytes == peak

    def test_inner_starts_belong_to_the_outer_measurement(self):
        profiler = HostMemoryProfiler()
        before = memory_in_use()
        profiler.profiler_start()
        profiler.profiler_start()
        profiler.profiler_end()
        array = np.ones(256 * MIB, np.uint8)
        profiler.profiler_end()
        del array
        assert profiler.peak_usage_bytes > before + 128 * MIB

    def test_it_is_a_profiler(self):
        assert isinstance(HostMemoryProfiler(), ocp.memory.MemoryProfiler)
