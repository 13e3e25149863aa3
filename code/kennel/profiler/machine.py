"""Reads how busy the machine is: cores, memory, disks and network by psutil, GPUs by the library of their driver."""

import os
from dataclasses import dataclass
from typing import Any

import psutil

from kennel.profiler.fuse import Fuse
from kennel.profiler.samples import GpuSample, Sample


@dataclass(frozen=True)
class _Counters:
    """What has added up since the machine was started."""

    at: float
    cores: list[tuple[float, float, float]]  # seconds in all, idle, and waiting for a disk
    disk: tuple[int, int]  # bytes read and written
    network: tuple[int, int]  # bytes received and sent


class Host:
    """The machine without its GPUs."""

    def __init__(self, now: float) -> None:
        self._process = psutil.Process()
        self._before = _read_counters(now)

    def sample(self, now: float, gpus: tuple[GpuSample, ...]) -> Sample:
        """Return what happened since the sample before."""
        before, after = self._before, _read_counters(now)
        self._before = after
        seconds = max(after.at - before.at, 1e-9)
        passed = [
            tuple(b - a for a, b in zip(old, new, strict=True))
            for old, new in zip(before.cores, after.cores, strict=False)  # a core may come or go
        ]
        total = sum(core[0] for core in passed)
        read, written, received, sent = (
            (b - a) / seconds
            for a, b in zip((*before.disk, *before.network), (*after.disk, *after.network), strict=True)
        )
        return Sample(
            at=now,
            cores=tuple(_percent(core[0] - core[1] - core[2], core[0]) for core in passed),
            io_wait=_percent(sum(core[2] for core in passed), total),
            memory=psutil.virtual_memory().percent,
            own_memory=self._process.memory_info().rss,
            read=read,
            written=written,
            received=received,
            sent=sent,
            gpus=gpus,
        )


def _read_counters(now: float) -> _Counters:
    cores = [(sum(times) - times.guest - times.guest_nice, times.idle, times.iowait) for times in _core_times()]
    disk = psutil.disk_io_counters()
    cards = [card for name, card in psutil.net_io_counters(pernic=True).items() if name != "lo"]
    return _Counters(
        at=now,
        cores=cores,
        disk=(disk.read_bytes, disk.write_bytes) if disk else (0, 0),
        network=(sum(card.bytes_recv for card in cards), sum(card.bytes_sent for card in cards)),
    )


def _core_times() -> list[Any]:
    """Return the times of the cores that this process may run on: others are none of the job's business."""
    times = psutil.cpu_times(percpu=True)
    ours = [times[number] for number in sorted(os.sched_getaffinity(0)) if number < len(times)]
    return ours or list(times)


def _percent(part: float, whole: float) -> float:
    return min(100.0, max(0.0, 100 * part / whole)) if whole > 0 else 0.0


class Gpus:
    """The GPUs that this job may use; none where there is no driver."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self._handles: list[Any] = []
        self._nvml: Any = None
        self._fuse = Fuse("sampling the GPUs")
        with self._fuse:
            self._find()

    def sample(self) -> tuple[GpuSample, ...]:
        """Return what each GPU does; from the first failure on, nothing."""
        if not self._fuse.blown:
            with self._fuse:
                return tuple(self._sample(handle) for handle in self._handles)
        return ()

    def _find(self) -> None:
        import pynvml  # noqa: PLC0415 - it may be broken, as a driver may be

        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
        except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):  # a machine without a GPU
            return
        self._handles = [self._handle(name) for name in _visible(pynvml.nvmlDeviceGetCount())]
        self.names = tuple(_text(pynvml.nvmlDeviceGetName(handle)) for handle in self._handles)

    def _sample(self, handle: Any) -> GpuSample:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        return GpuSample(
            busy=float(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            memory=_percent(memory.used, memory.total),
        )

    def _handle(self, name: int | str) -> Any:
        if isinstance(name, int):
            return self._nvml.nvmlDeviceGetHandleByIndex(name)
        return self._nvml.nvmlDeviceGetHandleByUUID(name)


def _visible(count: int) -> list[int | str]:
    """Return the numbers or names of the GPUs that CUDA shows to this process; NVML shows all of the machine's."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list(range(count))
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return [int(name) if name.isdecimal() else name for name in names]


def _text(name: str | bytes) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name
