"""The profiler of a job, from its first moment to the rules that judge it at the end."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kennel.atomic import write_json
from kennel.harmless import harmless
from kennel.hyperparameters import Hyperparameters
from kennel.judging.judge import Judgement, Status, judge
from kennel.profiler.ledger import RATIO, Stage, Timeline
from kennel.profiler.monitor import INTERVAL, Monitor
from kennel.profiler.operators import TRACE, OperatorProfiler
from kennel.profiler.profile import Profile
from kennel.profiler.rules import preset
from kennel.profiler.samples import Sample, percentile, series
from kennel.profiler.steps import StepTimer

SUMMARY, SAMPLES = "profiler.json", "profiler_samples.jsonl"

_MOST_POINTS = 240  # of a series in the summary: as many as a chart shows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What is measured, how often, and where it goes."""

    folder: Path  # for the summary
    bulk: Path  # for samples and trace
    cores: int  # that the job may use
    interval: float = INTERVAL  # seconds between two samples


class Profiler:
    """Watches where the time of a job goes. Whatever fails in it is a warning, and the training goes on."""

    def __init__(
        self, hyperparameters: Hyperparameters, settings: Settings, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        hp = hyperparameters
        self._hyperparameters, self._settings = hp, settings
        self._operators = OperatorProfiler(hp.profile_start_step, hp.profile_steps, settings.bulk)
        self._monitor = Monitor(settings.bulk / SAMPLES, settings.interval, clock)
        self.timer = StepTimer(self._operators, clock)

    def end(self) -> None:
        """Stop watching, judge what was seen, log what the rules found, and write it all down."""
        self.timer.end()
        self._monitor.stop()
        with harmless(f"{SUMMARY} could not be written", "the report lacks it, and the model is not touched by that"):
            profile = self._profile()
            rules = preset(self._hyperparameters.profiler_preset)
            judgement = judge(rules, profile, ended=True, asked_for=False)
            _log(judgement)
            write_json(self._settings.folder / SUMMARY, self._summary(profile, judgement))

    def _profile(self) -> Profile:
        ledger, hp = self.timer.ledger, self._hyperparameters
        return Profile(
            hyperparameters=hp,
            cores=self._settings.cores,
            decoders=hp.num_workers or self._settings.cores,
            samples=self._monitor.samples,
            interval=self._settings.interval,
            every=self._monitor.every,
            gpus=self._monitor.gpus,
            stages=ledger.stages,
            parts=dict(ledger.parts),
            first_step=ledger.first_step,
        )

    def _summary(self, profile: Profile, judgement: Judgement) -> dict[str, Any]:
        operators = self._operators
        looked_at = [stage for stage in profile.stages if stage.steps >= self._hyperparameters.profile_start_step]
        return {
            "seconds": round(profile.seconds, 3),
            "first_step": profile.first_step,
            "cores": profile.cores,
            "gpus": list(profile.gpus),
            "parts": _rounded(profile.parts),
            "timeline": _timeline(self.timer.ledger.timeline),
            "stages": [_stage(stage) for stage in profile.stages],
            "usage": {name: _percentiles(values) for name, values in series(profile.samples)},
            "samples": {
                "file": SAMPLES,
                "count": len(profile.samples),
                "interval": profile.interval * profile.every,
                **_thinned(profile.samples),
            },
            "operators": {
                "stage": looked_at[-1].name if operators.steps and looked_at else None,
                "steps": operators.steps,
                "trace": TRACE if operators.has_trace else None,
                "table": [asdict(operator) for operator in operators.table],
            },
            "preset": self._hyperparameters.profiler_preset,
            "rules": [result.as_json() for result in judgement.results],
            "left_out": judgement.left_out,
        }


def _log(judgement: Judgement) -> None:
    """Log one line for each rule that found something."""
    for result in judgement.results:
        if result.status == Status.ISSUES:
            first = result.findings[0]
            more = f" (and {len(result.findings) - 1} more)" if len(result.findings) > 1 else ""
            log.info("rule=%s; status=%s; %s%s; try %s", result.rule, result.status, first.message, more, first.advice)


def _rounded(parts: Any) -> dict[str, float]:
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
            for slow in stage.slowest[:10]
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
