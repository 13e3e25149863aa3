"""The profiler of a job, from its first moment to the rules that judge it at the end."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from kennel.atomic import write_json
from kennel.harmless import harmless
from kennel.hyperparameters import Hyperparameters
from kennel.judging.judge import Judgement, Status, judge
from kennel.profiler.monitor import INTERVAL, Monitor
from kennel.profiler.operators import OperatorProfiler
from kennel.profiler.profile import Profile
from kennel.profiler.rules import choose_rules
from kennel.profiler.samples import SAMPLES
from kennel.profiler.steps import StepTimer
from kennel.profiler.summary import summary

SUMMARY = "profiler.json"

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
            hp = self._hyperparameters
            rules = choose_rules(hp.profiler_preset, hp.rule_parameters)
            judgement = judge(rules, profile, ended=True, asked_for=False)
            _log(judgement)
            value = summary(profile, self.timer.ledger.timeline, self._operators, judgement)
            write_json(self._settings.folder / SUMMARY, value)

    def _profile(self) -> Profile:
        ledger, hp = self.timer.ledger, self._hyperparameters
        return Profile(
            hyperparameters=hp,
            cores=self._settings.cores,
            decoders=hp.num_workers or self._settings.cores,
            samples=self._monitor.samples,
            interval=self._settings.interval,
            every=self._monitor.every,
            # the driver may know of a GPU that the job cannot use
            gpus=self._monitor.gpus if torch.cuda.is_initialized() else (),  # type: ignore[no-untyped-call]
            stages=ledger.stages,
            parts=dict(ledger.parts),
            first_step=ledger.first_step,
        )


def _log(judgement: Judgement) -> None:
    """Log one line for each rule that found something."""
    for result in judgement.results:
        if result.status == Status.ISSUES:
            first = result.findings[0]
            more = f" (and {len(result.findings) - 1} more)" if len(result.findings) > 1 else ""
            log.info("rule=%s; status=%s; %s%s; try %s", result.rule, result.status, first.message, more, first.advice)
