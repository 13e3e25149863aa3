"""Send requests as a load says, and keep when each was due and when its answer was there."""

import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kennel_cli.load.targets import NO_ANSWER, Connection, Reply, Target

PAUSE = 0.1  # seconds that a client of a closed loop waits after an error: a server that refuses is not hammered
_TICK = 0.1  # seconds between two looks at the clock
_FAREWELL = 2.0  # seconds for threads to end when they are interrupted

Tick = Callable[[float], None]  # told how much of the time is over, from 0 to 1


@dataclass(frozen=True)
class Load:
    """How much is asked of a target, and for how long."""

    connections: int  # clients of a closed loop; the most that are open at once in an open one
    rate: float | None  # requests that are due a second; None in a closed loop
    seconds: float  # that are measured
    warm_up: float  # seconds before them


class Sample(NamedTuple):
    """A request, with times of `time.perf_counter`."""

    number: int  # of an open loop's requests, in the order in which they are due
    due: float  # in a closed loop, when it was sent
    sent: float
    ended: float
    reply: Reply
    was_late: bool  # when it was due, no connection was free


@dataclass(frozen=True)
class Outcome:
    """What one load has met."""

    samples: Sequence[Sample]
    start: float  # when the first request was due
    began: float  # between this
    ended: float  # and this it was measured
    left: float  # when no answer was waited for any more
    cpu: float  # cores that this process used while it was measured
    is_interrupted: bool


class Budget:
    """How many requests may be sent in all."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Return whether one more may be sent; it then counts as sent."""
        with self._lock:
            self._left -= 1
            return self._left >= 0

    @property
    def is_spent(self) -> bool:
        """Whether more were to be sent than may be."""
        return self._left < 0


class Generator:
    """Threads that send one load to a target.

    In a closed loop each sends a request, reads the answer, and sends the next. In an open loop requests are due at
    even intervals, whatever became of those before them: when no connection is free, or a server does not keep up, a
    request is sent late, and its latency counts from when it was due (so there is no coordinated omission).
    """

    def __init__(self, target: Target, payloads: Sequence[Any], load: Load, budget: Budget) -> None:
        """`payloads` are what `target.encode` has returned; they are sent in turn."""
        self._target = target
        self._payloads = payloads
        self._load = load
        self._budget = budget
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._samples: list[Sample] = []
        self._idle: list[Connection] = []
        self._all: list[Connection] = []
        self._stop = threading.Event()
        self._start = self._end = self._over = 0.0

    def run(self, tick: Tick) -> Outcome:
        """Send the load; on Ctrl-C, end with what was measured until then."""
        self._start = time.perf_counter()
        began = self._start + self._load.warm_up
        self._end = self._over = began + self._load.seconds
        work = self._closed if self._load.rate is None else self._open
        threads = [threading.Thread(target=work, daemon=True) for _ in range(self._load.connections)]
        is_interrupted, since, cpu = False, self._start, time.process_time()
        try:
            for thread in threads:
                thread.start()
            self._wait(began, threads, tick)
            since, cpu = time.perf_counter(), time.process_time()
            self._wait(self._end, threads, tick)
        except KeyboardInterrupt:
            is_interrupted = True
        now = time.perf_counter()
        ended, cores = min(self._end, now), (time.process_time() - cpu) / max(1e-9, now - since)
        try:
            for thread in () if is_interrupted else threads:
                thread.join()  # until its last answer is there
        except KeyboardInterrupt:
            is_interrupted = True
        left = time.perf_counter()
        self._give_up(threads)
        return Outcome(list(self._samples), self._start, began, ended, left, cores, is_interrupted)

    def _wait(self, until: float, threads: Sequence[threading.Thread], tick: Tick) -> None:
        """Wait until then, or until all threads have ended, because no more may be sent."""
        whole = self._end - self._start
        while (left := until - time.perf_counter()) > 0 and any(thread.is_alive() for thread in threads):
            time.sleep(min(left, _TICK))
            tick((time.perf_counter() - self._start) / whole)

    def _closed(self) -> None:
        connection = self._connect()
        while not self._stop.is_set() and (due := time.perf_counter()) < self._end and self._budget.take():
            number = next(self._numbers)
            reply = self._post(connection, number)
            self._samples.append(Sample(number, due, due, time.perf_counter(), reply, False))
            if reply.status == NO_ANSWER or reply.status >= 400:
                self._stop.wait(PAUSE)

    def _open(self) -> None:
        while not self._stop.is_set() and (request := self._next_due()):
            number, due = request
            wait = due - time.perf_counter()
            if wait > 0 and self._stop.wait(wait):
                return
            sent = time.perf_counter()
            if wait <= 0 and sent >= self._over:  # it waited for a connection to the end, as will those after it
                return
            try:
                connection = self._idle.pop()  # the one that was used last, so that there are as few as will do
            except IndexError:
                connection = self._connect()
            reply = self._post(connection, number)
            self._idle.append(connection)
            if not self._stop.is_set() or reply.status != NO_ANSWER:  # else it was given up
                self._samples.append(Sample(number, due, sent, time.perf_counter(), reply, wait < 0))

    def _next_due(self) -> tuple[int, float] | None:
        """Return the number of an open loop's next request and when it is due, if it is to be sent."""
        assert self._load.rate is not None
        with self._lock:  # so that numbers are those of what may be sent, without gaps
            number = next(self._numbers)
            due = self._start + number / self._load.rate
            if due >= self._end:
                return None
            if not self._budget.take():
                self._end = due  # what is due later is not asked for
                return None
            return number, due

    def _post(self, connection: Connection, number: int) -> Reply:
        return connection.post(self._payloads[number % len(self._payloads)])

    def _connect(self) -> Connection:
        connection = self._target.connect()
        self._all.append(connection)
        return connection

    def _give_up(self, threads: Sequence[threading.Thread]) -> None:
        self._stop.set()
        for connection in self._all:
            connection.close()
        deadline = time.perf_counter() + _FAREWELL
        for thread in threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.perf_counter()))


def due_numbers(load: Load, outcome: Outcome) -> range:
    """Return the numbers of the requests that were due while an open loop was measured."""
    assert load.rate is not None
    first = math.ceil((outcome.began - outcome.start) * load.rate - 1e-6)
    return range(first, max(first, math.ceil((outcome.ended - outcome.start) * load.rate - 1e-6)))
