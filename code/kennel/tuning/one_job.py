"""A whole search inside one training job: one start, one pass over the images, many heads."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from kennel.errors import HyperparameterError, SearchError, Stopped, TrainingError, WeightsError
from kennel.hyperparameters import Hyperparameters, default_values, parse_hyperparameters
from kennel.metrics import EPOCH_METRICS, metric_line
from kennel.training.job import Job
from kennel.training.progress import StopSignal
from kennel.training.run import Fitted, Trainer
from kennel.tuning.importance import importances
from kennel.tuning.search import Proposal, Search
from kennel.tuning.space import describe_ranges, parse_ranges
from kennel.tuning.summary import Summary, Trial

log = logging.getLogger(__name__)


def parse_search(text: str) -> dict[str, Any]:
    """Return the `HyperParameterTuningJobConfig` that the hyperparameter `search` holds as JSON.

    Raises SearchError when it is none, or its objective is not measured after each epoch.
    """
    try:
        config: Any = json.loads(text)
        if isinstance(config, str):  # an SDK has quoted it once more (contract A4.1)
            config = json.loads(config)
        metric = config["HyperParameterTuningJobObjective"]["MetricName"]
        if config["HyperParameterTuningJobObjective"]["Type"] not in ("Maximize", "Minimize"):
            raise ValueError("Type of the objective")
        if config["Strategy"] != "Grid" and int(config["ResourceLimits"]["MaxNumberOfTrainingJobs"]) < 1:
            raise ValueError("MaxNumberOfTrainingJobs")
        if not parse_ranges(config["ParameterRanges"]):
            raise ValueError("ParameterRanges")
    except (ValueError, KeyError, TypeError) as error:
        raise SearchError(f"search={text[:80]}: must be a HyperParameterTuningJobConfig in JSON: {error!r}") from None
    if metric not in EPOCH_METRICS:
        raise SearchError(
            f"the objective {metric} is not measured in every epoch; in one job it is one of {', '.join(EPOCH_METRICS)}"
        )
    found: dict[str, Any] = config
    return found


class OneJobSearch:
    """The search of one job; trials run one after the other, so that each learns from all before it."""

    def __init__(self, job: Job, static: Mapping[str, str], config: Mapping[str, Any], stop: StopSignal) -> None:
        """Prepare the search over `config`, with `static` hyperparameters that all trials share."""
        self._trainer = Trainer(replace(job, checkpoint_dir=None), stop)  # an interrupted search begins anew
        self._static = static
        self._config = config
        self._stop = stop
        self._objective = config["HyperParameterTuningJobObjective"]
        self._maximize = self._objective["Type"] == "Maximize"
        self._search = Search(config, static, default_values())
        self._trials: list[Trial] = []
        self._best: Fitted | None = None
        self._started = time.monotonic()

    def run(self) -> None:
        """Try everything, and save the best model. Raises Stopped or SearchError when no trial has a model."""
        most = self._config["ResourceLimits"].get("MaxNumberOfTrainingJobs")
        while (most is None or len(self._trials) < most) and not self._stop.is_set():
            proposal = self._search.propose()
            if proposal is None:
                break
            self._try(proposal)
        if self._best is None:
            if self._stop.is_set():
                raise Stopped("before the first trial had ended")
            raise SearchError(f"none of {len(self._trials)} trials has a model; the first: {self._trials[0].reason}")
        self._trainer.save(self._best)

    def summary(self, name: str, problem: str = "") -> Summary:
        """Return what was found until now; `problem` is why the search has failed, if it has."""
        ranges = self._config["ParameterRanges"]
        return Summary(
            name=name,
            status="Failed" if problem else "Stopped" if self._stop.is_set() else "Completed",
            reason=problem,
            strategy=self._config["Strategy"],
            metric=self._objective["MetricName"],
            maximize=self._maximize,
            seconds=round(time.monotonic() - self._started, 1),
            static=self._static,
            ranges=describe_ranges(ranges),
            trials=self._trials,
            importance=importances(ranges, self._trials, self._maximize),
        )

    def _try(self, proposal: Proposal) -> None:
        """Train one network, remember how it went, and keep it if it is the best."""
        started, curve, hopeless = time.monotonic(), [], False
        others = [trial.curve for trial in self._trials if trial.objective is not None]

        def on_epoch(epoch: int, metrics: Mapping[str, float]) -> bool:
            nonlocal hopeless
            log.info(metric_line(f"trial={proposal.number}; epoch={epoch}", metrics))
            curve.append(round(metrics[self._objective["MetricName"]], 4))  # as a log has it
            hopeless = self._search.is_hopeless(proposal.number, curve, others)
            return not hopeless

        objective, metrics, status, reason = None, {}, "Completed", ""
        try:
            fitted = self._trainer.fit(self._hyperparameters(proposal), on_epoch)
        # of these hyperparameters: the next may fare better
        except (TrainingError, HyperparameterError, WeightsError, torch.OutOfMemoryError) as error:
            status, reason = "Failed", str(error)
        except Stopped:
            status, reason = "Stopped", "stopped before its first epoch was complete"
        else:
            metrics = {name: round(value, 4) for name, value in fitted.best.metrics.items()}
            objective = metrics[self._objective["MetricName"]]
            status = "Stopped" if hopeless or self._stop.is_set() else "Completed"
            if self._best is None or self._is_better(objective):
                self._best = fitted
        self._search.finish(proposal.number, objective)
        trial = Trial(
            number=proposal.number,
            status=status,
            hyperparameters=proposal.values,
            objective=objective,
            metrics=metrics,
            started=round(started - self._started, 2),
            seconds=round(time.monotonic() - started, 2),
            curve=curve,
            reason=reason,
        )
        self._trials.append(trial)
        values = " ".join(f"{name}={value};" for name, value in proposal.values.items())
        log.info(
            "trial=%d; status=%s; objective=%s; seconds=%.2f; %s",
            trial.number,
            status,
            objective,
            trial.seconds,
            values,
        )

    def _hyperparameters(self, proposal: Proposal) -> Hyperparameters:
        return parse_hyperparameters({**self._static, **proposal.values})

    def _is_better(self, objective: float) -> bool:
        before = [trial.objective for trial in self._trials if trial.objective is not None]
        return all(objective > value if self._maximize else objective < value for value in before)
