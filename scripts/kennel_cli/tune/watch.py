"""What is known of a search while it runs and after: asked of SageMaker, or of its player, in the same words."""

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from kennel.errors import SearchError
from kennel.metrics import metric_curve
from kennel.tuning.space import describe_ranges
from kennel.tuning.summary import Summary, Trial
from kennel_cli.platforms.platform import RUNNING, Platform
from kennel_cli.platforms.trials import FINAL


class Watch:
    """Follows one tuning job; what has ended is asked for once."""

    def __init__(self, platform: Platform, name: str) -> None:
        self._platform = platform
        self._name = name
        self._ended: dict[str, Trial] = {}
        self._logs: dict[str, tuple[list[float], Any]] = {}  # a job's curve and the position in its log
        self.settled = True  # whether the last look saw the end of every log

    def summary(self) -> Summary:
        """Return how the search stands. Raises SearchError for one that another program made otherwise."""
        described = self._platform.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=self._name)
        config, definition = described["HyperParameterTuningJobConfig"], described.get("TrainingJobDefinition")
        if not definition or not {"ParameterRanges", "HyperParameterTuningJobObjective"} <= set(config):
            raise SearchError(
                f"the search {self._name} has several definitions of its training jobs, or leaves its ranges to the "
                "service; Kennel does not make such, look at it in the console of AWS"
            )
        objective = config["HyperParameterTuningJobObjective"]
        metrics = definition["AlgorithmSpecification"].get("MetricDefinitions", [])
        regex = next((entry["Regex"] for entry in metrics if entry["Name"] == objective["MetricName"]), "")
        self.settled = True
        began = described["CreationTime"]
        trials = [
            self._ended.get(job["TrainingJobName"]) or self._trial(number, job, began, regex)
            for number, job in enumerate(self._jobs(), start=1)
        ]
        return Summary(
            name=self._name,
            status=described["HyperParameterTuningJobStatus"],
            strategy=config["Strategy"],
            metric=objective["MetricName"],
            maximize=objective["Type"] == "Maximize",
            seconds=_seconds(began, described.get("HyperParameterTuningEndTime")),
            static=definition.get("StaticHyperParameters", {}),
            ranges=describe_ranges(config["ParameterRanges"]),
            trials=trials,
            reason=described.get("FailureReason", ""),
            importance={} if described["HyperParameterTuningJobStatus"] in RUNNING else _importance(config, trials),
        )

    def _jobs(self) -> Iterator[Mapping[str, Any]]:
        """Yield the training jobs, in the order of their starts."""
        request: dict[str, Any] = {
            "HyperParameterTuningJobName": self._name,
            "MaxResults": 100,
            "SortBy": "CreationTime",
            "SortOrder": "Ascending",
        }
        while True:
            page = self._platform.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(**request)
            yield from page["TrainingJobSummaries"]
            if "NextToken" not in page:
                return
            request["NextToken"] = page["NextToken"]

    def _trial(self, number: int, job: Mapping[str, Any], began: datetime, regex: str) -> Trial:
        name, status = job["TrainingJobName"], job["TrainingJobStatus"]
        ended = status not in RUNNING
        curve, position = self._logs.get(name, ([], None))
        lines, position = self._platform.read_log(name, position, ended)
        curve = [*curve, *metric_curve(lines, regex)]
        self._logs[name] = curve, position
        metrics: dict[str, float] = {}
        if ended:
            described = self._platform.sagemaker.describe_training_job(TrainingJobName=name)
            metrics = {entry["MetricName"]: entry["Value"] for entry in described.get("FinalMetricDataList", [])}
        trial = Trial(
            number=number,
            status="InProgress" if status == "Stopping" else status,
            hyperparameters=job["TunedHyperParameters"],
            job=name,
            objective=job[FINAL]["Value"] if FINAL in job else None,
            metrics=metrics,
            started=_seconds(began, job["CreationTime"]),
            seconds=_seconds(job["CreationTime"], job["TrainingEndTime"]) if "TrainingEndTime" in job else None,
            curve=curve,
            reason=job.get("FailureReason", ""),
        )
        if ended:
            if "TrainingEndTime" in job and _seconds(job["TrainingEndTime"], None) < self._platform.log_delay:
                self.settled = False  # its last lines may be on their way
            else:
                self._ended[name] = trial
        return trial


def _seconds(begin: datetime, end: datetime | None) -> float:
    return round(((end or datetime.now(UTC)) - begin).total_seconds(), 2)


def prepare() -> None:
    """Import what the end of a search needs: best done while the tuner, on another core, is still starting."""
    if _has_optuna():
        importlib.import_module("kennel.tuning.importance")


def _has_optuna() -> bool:
    return importlib.util.find_spec("optuna") is not None  # the light client does without


def _importance(config: Mapping[str, Any], trials: list[Trial]) -> dict[str, float]:
    """Return the hyperparameters' importance, where Optuna is there to tell it, and can."""
    if not _has_optuna():
        return {}
    from kennel.tuning.importance import importances  # noqa: PLC0415 - as above

    maximize = config["HyperParameterTuningJobObjective"]["Type"] == "Maximize"
    try:
        return importances(config["ParameterRanges"], trials, maximize)
    except (KeyError, ValueError):  # another program's values, which its ranges do not hold: the rest is worth telling
        return {}
