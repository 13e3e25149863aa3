"""The record of a load test, as `kennel bench-endpoint` leaves it."""

from dataclasses import asdict
from pathlib import Path

from kennel.atomic import write_json
from kennel.report.load_page import RECORD
from kennel.report.load_record import LoadTest, Step

PHASES = {"decode": 1.2, "queue": 0.3, "forward": 9.5, "encode": 0.1}


def step(connections=1, rate=None, **more):
    given = {
        "connections": connections,
        "rate": rate,
        "seconds": 10.0,
        "answered": 800,
        "unanswered": 0,
        "errors": {},
        "error": "",
        "throughput": 80.0,
        "p50": 12.0,
        "p90": 15.0,
        "p99": 21.0,
        "longest": 30.0,
        "phases": PHASES,
        "late": 0,
        "client_delay": 0.1,
        "client_cores": 0.05,
    }
    return Step(**{**given, **more})


def load_test(*steps, **more):
    given = {
        "target": "dogs",
        "place": "http://127.0.0.1:8080",
        "created": "2026-11-26T12:00:00+00:00",
        "content_types": ("image/jpeg",),
        "accept": "",
        "bodies": 1,
        "body_bytes": 35000.0,
        "warm_up": 2.0,
        "client_machine": "2 cores, Linux x86_64",
        "is_interrupted": False,
        "steps": steps,
    }
    return LoadTest(**{**given, **more})


def write_record(folder: Path, *steps: Step, **more) -> Path:
    write_json(folder / RECORD, asdict(load_test(*steps, **more)))
    return folder


BOTH_LOOPS = (
    step(1),
    step(4, throughput=140.0, p50=28.0, p90=35.0, p99=44.0),
    step(16, throughput=150.0, p50=104.0, p90=120.0, p99=170.0, client_cores=0.9),
    step(128, 50.0, throughput=50.0),
    step(
        128,
        400.0,
        throughput=151.0,
        p50=5000.0,
        p90=9000.0,
        p99=9900.0,
        unanswered=900,
        late=2000,
        errors={"503": 120, "no answer": 3},
        error="64 requests are in work already; try again in a moment",
    ),
)
