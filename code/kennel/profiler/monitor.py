"""A thread that looks at the machine twice a second, for as long as a job trains."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from kennel.profiler.fuse import Fuse
from kennel.profiler.machine import Gpus, Host
from kennel.profiler.samples import Recording, Sample

INTERVAL = 0.5  # seconds between two samples, as SageMaker's own profiler has it (contract D2.5)

_WRITE = 10.0  # seconds between two writes of the file: a job that is killed leaves what it saw until then
_PATIENCE = 0.5  # seconds that the end of a job waits for the thread, if the driver should hang

log = logging.getLogger(__name__)


class Monitor:
    """Samples the machine from its making to `stop`. Nothing that fails in it reaches the training."""

    def __init__(self, file: Path, interval: float = INTERVAL, clock: Callable[[], float] = time.perf_counter) -> None:
        self.gpus: tuple[str, ...] = ()
        self._fuse = Fuse("sampling the machine")
        self._recording = Recording(file)
        self._interval, self._clock, self._began = interval, clock, clock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="profiler", daemon=True)
        self._thread.start()

    @property
    def samples(self) -> tuple[Sample, ...]:
        """What was seen so far, in the order of time."""
        return tuple(self._recording.samples)

    @property
    def every(self) -> int:
        """One sample in so many was kept."""
        return self._recording.every

    def stop(self) -> None:
        """End the thread, and write what is left to write."""
        if not self._thread.is_alive() and not self._fuse.blown:
            log.warning("sampling the machine ended before the job did; the training is not touched by that")
        self._ended.set()
        self._thread.join(_PATIENCE)
        if not self._fuse.blown and not self._thread.is_alive():
            with self._fuse:
                self._recording.write()

    def _run(self) -> None:
        with self._fuse:
            gpus, host = Gpus(), Host(self._now())
            self.gpus = gpus.names
            written = 0.0
            while not self._ended.wait(self._interval):
                now = self._now()
                self._recording.add(host.sample(now, gpus.sample()))
                if now - written >= _WRITE:
                    self._recording.write()
                    written = now

    def _now(self) -> float:
        return self._clock() - self._began
