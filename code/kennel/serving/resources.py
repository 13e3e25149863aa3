"""What the server uses of the machine: CPU, memory, and GPUs where NVIDIA's library finds any."""

import importlib
import logging
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
    """Readings of the process that serves."""

    def __init__(self) -> None:
        self._process: psutil.Process | None = None
        self._nvml: Any = None
        self._handles: list[Any] = []

    def start(self) -> None:
        """Look for GPUs and begin to count CPU time, in the process that serves: NVML does not survive a fork."""
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first reading is what later ones are compared with
        try:
            self._nvml = importlib.import_module("pynvml")
            self._nvml.nvmlInit()
            self._handles = [self._nvml.nvmlDeviceGetHandleByIndex(n) for n in range(self._nvml.nvmlDeviceGetCount())]
        except Exception as error:  # noqa: BLE001 - no package, no driver or no GPU: nothing to tell of
            log.debug("no GPU is measured: %s", error)

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
        values: dict[str, float] = {}
        if self._process is not None:
            values["CPUUtilization"] = round(self._process.cpu_percent() / available_cores(), 1)
            values["MemoryUsed"] = self._process.memory_info().rss
        if gpus := self.gpus():
            values["GPUUtilization"] = round(sum(gpu.utilization for gpu in gpus) / len(gpus), 1)
            values["GPUMemoryUsed"] = sum(gpu.memory for gpu in gpus)
        return values
