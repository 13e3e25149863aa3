"""From requests with their times to the figures of a load."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from kennel.report.load_record import Step
from kennel_cli.load.generator import Load, Outcome, Sample, due_numbers
from kennel_cli.load.targets import NO_ANSWER

_PHASE = re.compile(r"\s*([\w-]+)\s*;\s*dur=([\d.]+)")  # of a Server-Timing header


def summarize(load: Load, outcome: Outcome) -> Step:
    """Return what was measured.

    In a closed loop requests count that ended while it was measured, in an open one those that were due then. Latencies
    are those of good answers; of an open loop's requests that were never answered, how long they had waited in the end.
    """
    if load.rate is None:
        counted = [
            sample
            for sample in outcome.samples
            if outcome.began <= sample.ended <= outcome.ended or _fell_silent(sample, outcome)
        ]
        waits: list[float] = []
    else:
        numbers = due_numbers(load, outcome)
        counted = [sample for sample in outcome.samples if sample.number in numbers]
        silent = set(numbers).difference(sample.number for sample in counted)
        waits = [outcome.left - outcome.start - number / load.rate for number in silent]
    good = [sample for sample in counted if _is_good(sample)]
    in_time = sum(outcome.began <= sample.ended <= outcome.ended for sample in outcome.samples if _is_good(sample))
    seconds = max(0.0, outcome.ended - outcome.began)
    latencies = sorted([*(sample.ended - sample.due for sample in good), *waits])
    bad = [sample for sample in counted if not _is_good(sample)]
    return Step(
        connections=load.connections,
        rate=load.rate,
        seconds=round(seconds, 3),
        answered=len(good),
        unanswered=len(waits),
        errors=dict(Counter(_kind(sample) for sample in bad).most_common()),
        error=bad[0].reply.message if bad else "",
        throughput=round(in_time / seconds, 3) if seconds else 0.0,
        p50=percentile(latencies, 50),
        p90=percentile(latencies, 90),
        p99=percentile(latencies, 99),
        longest=percentile(latencies, 100),
        phases=_phases(good),
        late=sum(sample.was_late for sample in counted),
        client_delay=percentile(sorted(sample.sent - sample.due for sample in counted if not sample.was_late), 99),
        client_cores=round(outcome.cpu, 3),
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """Return, in milliseconds, the smallest of the sorted seconds that so many per cent do not exceed; 0 of none."""
    return round(1e3 * values[max(0, -(-len(values) * percent // 100) - 1)], 3) if values else 0.0


def _is_good(sample: Sample) -> bool:
    return 200 <= sample.reply.status < 300


def _fell_silent(sample: Sample, outcome: Outcome) -> bool:
    """Return whether a client sent it in time, and gave up on it later."""
    return sample.reply.status == NO_ANSWER and outcome.began <= sample.sent <= outcome.ended < sample.ended


def _kind(sample: Sample) -> str:
    return "no answer" if sample.reply.status == NO_ANSWER else str(sample.reply.status)


def _phases(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the mean milliseconds of each phase that a server's answers name."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for sample in samples:
        for name, milliseconds in _PHASE.findall(sample.reply.timing):
            found[name].append(float(milliseconds))
    return {name: round(sum(values) / len(values), 3) for name, values in found.items()}
