"""What a load test leaves in `load.json`, read and checked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kennel.errors import ReportError
from kennel.report.values import number, numbers, text

BUSY = 0.7  # cores: a client of one thread at a time is the limit of what it measures not far above
DELAY = 10.0  # milliseconds that a request may be sent after it was due, though a connection was free
KEPT_UP = 0.95  # share of the requests that are due


@dataclass(frozen=True)
class Step:
    """How a target did with one load. Times are in milliseconds but for `seconds`; 0 where there are none."""

    connections: int  # clients of a closed loop; the most that were open at once in an open one
    rate: float | None  # requests a second that were due; None in a closed loop
    seconds: float  # that were measured
    answered: int  # well
    unanswered: int  # of an open loop: due, and never sent or not answered in the end
    errors: Mapping[str, int]  # how many by status, or by `no answer`
    error: str  # what the first of them said
    throughput: float  # good answers a second
    p50: float  # latency of good answers; in an open loop since they were due
    p90: float
    p99: float
    longest: float
    phases: Mapping[str, float]  # means, as the server tells them of itself
    late: int  # of an open loop: no connection was free when they were due
    client_delay: float  # of 99 per cent of the others, how late they were sent
    client_cores: float  # that the load test itself used

    @property
    def name(self) -> str:
        """What a person calls the load."""
        return load_name(self.connections, self.rate)

    @property
    def problems(self) -> str:
        """What was not answered well: `503: 12, no answer: 1`."""
        found = [f"{kind}: {count}" for kind, count in self.errors.items()]
        return ", ".join([*found, *([f"unanswered: {self.unanswered}"] if self.unanswered else [])])

    def notes(self) -> list[str]:
        """Return what a reader of the figures has to know, a sentence each."""
        said = []
        if self.client_cores > BUSY:
            said.append(
                f"the load test itself used {self.client_cores:.2f} cores, and one is all it can: "
                "it may be the limit, not the server"
            )
        if self.client_delay > DELAY:
            said.append(
                f"requests were sent up to {self.client_delay:.0f} ms late though connections were free: "
                "this machine is too busy for that rate"
            )
        if self.rate is not None and self.throughput < KEPT_UP * self.rate:
            said.append(
                f"{self.throughput:.1f} of {self.rate:g} requests a second were answered well: "
                "the server does not keep up, and latencies grow for as long as it lasts"
            )
        if self.late > self.answered / 100:
            said.append(
                f"{self.late:,} requests were sent late because all {self.connections} connections "
                "waited for answers; that wait counts"
            )
        if self.error:
            said.append(f"the first error said: {self.error}")
        return [f"{self.name}: {sentence}" for sentence in said]


@dataclass(frozen=True)
class LoadTest:
    """A whole load test."""

    target: str
    place: str  # where it is: an address, or AWS
    created: str  # ISO 8601
    content_types: tuple[str, ...]
    accept: str  # "" when the server's own choice was taken
    bodies: int  # different ones, sent in turn
    body_bytes: float  # on average
    warm_up: float  # seconds before each step is measured
    client_machine: str
    is_interrupted: bool
    steps: tuple[Step, ...]

    def notes(self) -> list[str]:
        """Return the notes of all steps."""
        return [note for step in self.steps for note in step.notes()]


def load_name(connections: int, rate: float | None) -> str:
    """Return `16 clients` for a closed loop, `50 a second` for an open one."""
    if rate is None:
        return f"{connections} client{'' if connections == 1 else 's'}"
    return f"{rate:g} a second"


def read_load(path: Path) -> LoadTest:
    """Return what `path` holds. Raises ReportError when it is missing or is no load test's record."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return LoadTest(
            target=text(value["target"]),
            place=text(value["place"]),
            created=text(value["created"]),
            content_types=tuple(map(text, value["content_types"])),
            accept=text(value["accept"]),
            bodies=int(value["bodies"]),
            body_bytes=number(value["body_bytes"]),
            warm_up=number(value["warm_up"]),
            client_machine=text(value["client_machine"]),
            is_interrupted=bool(value["is_interrupted"]),
            steps=tuple(map(_step, value["steps"])),
        )
    except OSError as error:
        raise ReportError(f"{path} cannot be read ({error.strerror}); give the folder of a load test") from error
    except KeyError as error:
        raise ReportError(f"{path} is not the record of a load test: it lacks {error}") from error
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise ReportError(f"{path} is not the record of a load test: {error}") from error


def _step(value: Mapping[str, Any]) -> Step:
    rate = value["rate"]
    return Step(
        connections=int(value["connections"]),
        rate=None if rate is None else number(rate),
        seconds=number(value["seconds"]),
        answered=int(value["answered"]),
        unanswered=int(value["unanswered"]),
        errors={text(kind): int(count) for kind, count in value["errors"].items()},
        error=text(value["error"]),
        throughput=number(value["throughput"]),
        p50=number(value["p50"]),
        p90=number(value["p90"]),
        p99=number(value["p99"]),
        longest=number(value["longest"]),
        phases=numbers(value["phases"]),
        late=int(value["late"]),
        client_delay=number(value["client_delay"]),
        client_cores=number(value["client_cores"]),
    )
