import os

import pytest

from kennel import machine
from kennel.machine import available_cores


def test_the_affinity_bounds_the_cores():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_process_may_be_asked_to_use_fewer_cores(monkeypatch):
    monkeypatch.setenv("KENNEL_CORES", "1")
    assert available_cores() == 1
    monkeypatch.setenv("KENNEL_CORES", "0")
    assert available_cores() == 1
    monkeypatch.setenv("KENNEL_CORES", "")
    assert available_cores() == len(os.sched_getaffinity(0))


def cgroup(folder, limit, usage, unused, version):
    """Make a cgroup's files, as the kernel shows them; return what `machine` has to know to find them."""
    names = {
        2: ("memory.max", "memory.current", "inactive_file"),
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    }[version]
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 7\n{names[2]} {unused}\nslab 3\n")
    return (folder, *names)


@pytest.mark.parametrize("version", [1, 2])
def test_the_containers_limit_bounds_the_memory_and_files_that_can_be_dropped_do_not_count(
    monkeypatch, tmp_path, version
):
    monkeypatch.setattr(machine, "_MEMORY_CGROUPS", (cgroup(tmp_path, 1000, 700, 200, version),))
    assert machine.available_memory() == 500


def test_without_a_limit_the_machines_free_memory_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_MEMORY_CGROUPS", (cgroup(tmp_path, "max", 700, 200, 2),))
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemFree: 10 kB\nMemAvailable:    40 kB\n")
    monkeypatch.setattr(machine, "_MEMORY", tmp_path / "meminfo")
    assert machine.available_memory() == 40 * 1024


def test_a_container_over_its_limit_has_no_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_MEMORY_CGROUPS", (cgroup(tmp_path, 1000, 1200, 0, 2),))
    assert machine.available_memory() == 0
