"""A profile in numbers, as `profiler.json` holds it: small on any length of job, and all that a report is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from kennel.judging.judge import Judgement
from kennel.profiler.ledger import RATIO, Stage, Timeline
from kennel.profiler.operators import TRACE, OperatorProfiler
from kennel.profiler.profile import Profile
from kennel.profiler.samples import SAMPLES, Sample, percentile, series

_MOST_POINTS = 240  # of a series: as many as a chart shows
_MOST_SLOW = 10  # steps of a stage


def summary(profile: Profile, timeline: Timeline, operators: OperatorProfiler, judgement: Judgement) -> dict[str, Any]:
    """Return the content of `profiler.json`."""
    hp = profile.hyperparameters
    looked_into = [stage for stage in profile.stages if stage.steps >= hp.profile_start_step]
    return {
        "seconds": round(profile.seconds, 3),
        "first_step": profile.first_step,
        "cores": profile.cores,
        "gpus": list(profile.gpus),
        "parts": _rounded(profile.parts),
        "timeline": _timeline(timeline),
        "stages": [_stage(stage) for stage in profile.stages],
        "usage": {name: _percentiles(values) for name, values in series(profile.samples)},
        "samples": {
            "file": SAMPLES,
            "count": len(profile.samples),
            "interval": profile.interval * profile.every,
            **_thinned(profile.samples),
        },
        "operators": {
            "stage": looked_into[-1].name if operators.steps and looked_into else None,
            "steps": operators.steps,
            "trace": TRACE if operators.has_trace else None,
            "table": [asdict(operator) for operator in operators.table],
        },
        "preset": hp.profiler_preset,
        "rules": [result.as_json() for result in judgement.results],
        "left_out": judgement.left_out,
    }


def _rounded(parts: Mapping[str, float]) -> dict[str, float]:
    return {part: round(seconds, 6) for part, seconds in parts.items()}


def _timeline(timeline: Timeline) -> dict[str, Any]:
    parts = dict.fromkeys(part for bucket in timeline.buckets for part in bucket)
    return {
        "width": timeline.width,
        "parts": {part: [round(bucket.get(part, 0.0), 4) for bucket in timeline.buckets] for part in parts},
    }


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "name": stage.name,
        "began": round(stage.began, 3),
        "ended": round(stage.ended, 3),
        "steps": stage.steps,
        "images": stage.images,
        "parts": _rounded(stage.parts),
        "judged": stage.judged,
        "mean": stage.mean,
        "median": stage.median,
        "deviation": stage.deviation,
        "bins": [[RATIO**number, RATIO ** (number + 1), count] for number, count in sorted(stage.bins.items())],
        "slowest": [
            {"step": slow.step, "at": round(slow.at, 2), "seconds": slow.seconds, "parts": _rounded(slow.parts)}
            for slow in stage.slowest[:_MOST_SLOW]
        ],
    }


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{share}": round(percentile(values, share), 1) for share in (5, 50, 95)} | {"max": round(max(values), 1)}


def _thinned(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return what a report draws of the samples: means of equal stretches."""
    every = -(-len(samples) // _MOST_POINTS) or 1
    starts = range(0, len(samples), every)
    means = {
        name: [round(sum(values[i : i + every]) / len(values[i : i + every]), 1) for i in starts]
        for name, values in series(samples)
    }
    return {"at": [round(samples[i].at, 2) for i in starts], "series": means}
