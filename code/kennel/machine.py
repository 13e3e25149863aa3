"""What this machine, or the container on it, really gives us."""

import os
from pathlib import Path

CORES = "KENNEL_CORES"  # what a process should use where others work beside it
_CPU = Path("/proc/cpuinfo")
_DEVICES = Path("/dev")
# of x86 and of ARM, for products of 8-bit integers and of bfloat16
_INSTRUCTIONS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8", "avx512_bf16", "amx_bf16", "asimddp", "i8mm", "bf16"})
_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = Path("/sys/fs/cgroup/cpu")


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
    return any(_DEVICES.glob("nvidia[0-9]*"))


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
