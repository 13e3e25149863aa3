"""What the server uses of the machine: CPU, memory, and GPUs where NVIDIA's library finds any."""

import importlib
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

from kennel.machine import available_cores

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gpu:
    """One GPU, now."""

    utilization: float  # per cent of the time
    memory: int  # bytes in use


class Resources:
    """Readings of the whole server: of the process that makes this, before it forks, and of all below it."""

    def __init__(self) -> None:
        self._master = psutil.Process()
        self._nvml: Any = None
        self._handles: list[Any] = []
        self._last = (0.0, 0.0)  # when CPU time was read, and what it was

    @property
    def started(self) -> float:
        """When the server was started, in seconds since 1970."""
        return float(self._master.create_time())

    def start(self) -> None:
        """Look for GPUs and begin to count CPU time, in a process that serves: NVML does not survive a fork."""
        self._last = time.monotonic(), self.cpu_seconds()
        try:
            self._nvml = importlib.import_module("pynvml")
            self._nvml.nvmlInit()
            self._handles = [self._nvml.nvmlDeviceGetHandleByIndex(n) for n in range(self._nvml.nvmlDeviceGetCount())]
        except Exception as error:  # noqa: BLE001 - no package, no driver or no GPU: nothing to tell of
            log.debug("no GPU is measured: %s", error)

    def cpu_seconds(self) -> float:
        """Return the CPU time of all processes since the server's start, with that of those that have ended."""
        return self._sum(lambda process: sum(process.cpu_times()[:4]))  # its own, and that of its ended children

    def memory(self) -> int:
        """Return the bytes that all processes hold; what they share counts once."""
        return int(self._sum(_memory))

    def _sum(self, read: Callable[[psutil.Process], float]) -> float:
        total = 0.0
        for process in (self._master, *self._master.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # it has just ended
                total += read(process)
        return total

    def gpus(self) -> list[Gpu]:
        """Return the GPUs that this container sees; none when they cannot be read."""
        try:
            return [
                Gpu(
                    self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
                    self._nvml.nvmlDeviceGetMemoryInfo(handle).used,
                )
                for handle in self._handles
            ]
        except Exception:
            log.debug("the GPUs cannot be read", exc_info=True)
            return []

    def read(self) -> dict[str, float]:
        """Return CloudWatch's names and values: CPU since the last reading, the rest as it is now."""
        now = (time.monotonic(), self.cpu_seconds())
        passed, used = (after - before for after, before in zip(now, self._last, strict=True))
        self._last = now
        values = {
            "CPUUtilization": round(100 * max(0.0, used) / max(passed, 1e-3) / available_cores(), 1),
            "MemoryUsed": float(self.memory()),
        }
        if gpus := self.gpus():
            values["GPUUtilization"] = round(sum(gpu.utilization for gpu in gpus) / len(gpus), 1)
            values["GPUMemoryUsed"] = sum(gpu.memory for gpu in gpus)
        return values


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.AccessDenied:  # a sandbox without /proc/PID/smaps: what processes share then counts for each
        return int(process.memory_info().rss)
