"""What this machine, or the container on it, really gives us."""

import os
import sys
from itertools import takewhile
from pathlib import Path

CORES = "KENNEL_CORES"  # what a process should use where others work beside it
_CPU = Path("/proc/cpuinfo")
_DEVICES = Path("/dev")
# of x86 and of ARM, for products of 8-bit integers and of bfloat16
_INSTRUCTIONS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8", "avx512_bf16", "amx_bf16", "asimddp", "i8mm", "bf16"})
_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = Path("/sys/fs/cgroup/cpu")
_VISIBLE = "CUDA_VISIBLE_DEVICES"  # CUDA's own variable
_MEMORY = Path("/proc/meminfo")
# the files of cgroups 2 and 1: what a container may use, what it does, and how much of that is files read once
_MEMORY_CGROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available_cores() -> int:
    """Return how many cores this process may use; at least 1.

    That is its CPU affinity, capped by the container's CPU quota and by the variable KENNEL_CORES.
    """
    cores = [len(os.sched_getaffinity(0))]
    if quota := _cgroup_quota():
        cores.append(int(quota))
    if (asked := os.environ.get(CORES, "")).isdecimal():
        cores.append(int(asked))
    return max(1, min(cores))


def share_of_cores(processes: int) -> int:
    """Return how many cores each of several processes may use that work at once; at least 1."""
    return max(1, available_cores() // processes)


def cpu_instructions() -> tuple[str, ...]:
    """Return which instructions for short numbers the CPU has, by Linux's names, sorted."""
    try:
        words = _CPU.read_text().split()
    except OSError:  # not Linux
        words = []
    return tuple(sorted(_INSTRUCTIONS.intersection(words)))


def has_gpu() -> bool:
    """Return whether this machine, or the container, has an NVIDIA GPU, without asking a driver."""
    return bool(visible_gpus())


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that CUDA may use, as its variable CUDA_VISIBLE_DEVICES names them, without asking a driver."""
    there = tuple(str(number) for number in range(len(list(_DEVICES.glob("nvidia[0-9]*")))))
    listed = os.environ.get(_VISIBLE)
    if not there or listed is None:
        return there
    names = (name.strip() for name in listed.split(","))
    return tuple(takewhile(lambda name: name not in {"", "-1"}, names))  # CUDA stops at what is none


def see_only(gpu: str) -> None:
    """Hide all other GPUs from this process, which has not used any."""
    os.environ[_VISIBLE] = gpu


def available_memory() -> int:
    """Return how many bytes more the container, or the machine, can give before it runs out."""
    rooms = [_machine_memory()]
    for folder, limit, usage, unused in _MEMORY_CGROUPS:
        try:
            text = (folder / limit).read_text().strip()
            if text == "max":
                continue
            files = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            rooms.append(int(text) - int((folder / usage).read_text()) + int(files[unused]))
        except (OSError, ValueError, KeyError):  # no such cgroup, or one of a form we do not know
            continue
    return max(0, min(rooms))


def _machine_memory() -> int:
    for line in _MEMORY.read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return sys.maxsize


def _cgroup_quota() -> float | None:
    try:
        if _CGROUP_V2.exists():
            limit, period = _CGROUP_V2.read_text().split()[:2]
            return None if limit == "max" else int(limit) / int(period)
        limit = (_CGROUP_V1 / "cpu.cfs_quota_us").read_text()
        period = (_CGROUP_V1 / "cpu.cfs_period_us").read_text()
        return None if int(limit) <= 0 else int(limit) / int(period)
    except (OSError, ValueError):  # no cgroup file system, or one of a form we do not know: the affinity has to do
        return None
