"""What the machine did, moment by moment: a record whose size is bounded on any length of job."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kennel.atomic import write_text

SAMPLES = "profiler_samples.jsonl"
MOST_BYTES = 900_000  # of the file; two cores fill it in an hour and a half at two samples a second

Series = Callable[["Sample"], float]


@dataclass(frozen=True)
class GpuSample:
    """What one GPU did."""

    busy: float  # per cent of the time
    memory: float  # per cent of it in use, by whomever


@dataclass(frozen=True)
class Sample:
    """What the machine did between two looks at it."""

    at: float  # seconds since profiling began
    cores: tuple[float, ...]  # per cent of the time that each was busy
    io_wait: float  # per cent of all cores' time in which they waited for a disk
    memory: float  # per cent of the machine's in use, by whomever
    own_memory: float  # bytes in use by this process
    read: float  # bytes a second from disks
    written: float  # bytes a second to disks
    received: float  # bytes a second from the network
    sent: float  # bytes a second to the network
    gpus: tuple[GpuSample, ...] = ()

    @property
    def cpu(self) -> float:
        """Per cent of all cores' time that they were busy."""
        return sum(self.cores) / len(self.cores)

    def line(self) -> str:
        """Return the sample as a line of JSON."""
        rates = {name: round(getattr(self, name)) for name in ("own_memory", "read", "written", "received", "sent")}
        value = {
            "at": round(self.at, 2),
            "cores": [round(busy) for busy in self.cores],
            "io_wait": round(self.io_wait, 1),
            "memory": round(self.memory, 1),
            **rates,
            "gpus": [[round(gpu.busy), round(gpu.memory, 1)] for gpu in self.gpus],
        }
        return json.dumps(value, separators=(",", ":")) + "\n"


class Recording:
    """Samples in memory and in a file of JSON lines.

    When the file is full every second sample is dropped from both, and from then on only every second one is taken.
    """

    def __init__(self, file: Path, most_bytes: int = MOST_BYTES) -> None:
        self.samples: list[Sample] = []
        self.every = 1  # one sample in so many is taken
        self._lines: list[str] = []
        self._bytes = self._offered = 0
        self._file, self._most_bytes = file, most_bytes
        self._unwritten = 0

    def add(self, sample: Sample) -> None:
        """Take a sample, unless the record has become too coarse for it."""
        self._offered += 1
        if (self._offered - 1) % self.every:
            return
        line = sample.line()
        self.samples.append(sample)
        self._lines.append(line)
        self._bytes += len(line)
        self._unwritten += 1
        if self._bytes > self._most_bytes:
            self._thin()

    def write(self) -> None:
        """Bring the file up to date. Raises OSError where it cannot be written."""
        if self._unwritten == len(self._lines):
            write_text(self._file, "".join(self._lines))
        elif self._unwritten:
            with self._file.open("a", encoding="utf-8") as file:
                file.writelines(self._lines[-self._unwritten :])
        self._unwritten = 0

    def _thin(self) -> None:
        self.every *= 2
        del self.samples[1::2], self._lines[1::2]
        self._bytes = sum(map(len, self._lines))
        self._unwritten = len(self._lines)


def series(samples: Sequence[Sample]) -> Iterator[tuple[str, list[float]]]:
    """Yield the name and the values of everything in per cent that samples hold, and each GPU's."""
    if not samples:
        return
    for name in ("cpu", "io_wait", "memory"):
        yield name, [getattr(sample, name) for sample in samples]
    for gpu in range(min(len(sample.gpus) for sample in samples)):
        yield f"gpu{gpu}", [sample.gpus[gpu].busy for sample in samples]
        yield f"gpu{gpu}_memory", [sample.gpus[gpu].memory for sample in samples]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` per cent of `values` do not exceed."""
    return float(np.percentile(values, share))
