"""The training jobs of a tuning job: their requests, and what is said of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from kennel.cache import digest
from kennel.errors import HyperparameterError
from kennel.hyperparameters import parse_hyperparameters
from kennel.machine import CORES, share_of_cores
from kennel_cli.platforms.platform import RUNNING
from kennel_cli.platforms.responses import Response
from kennel_cli.platforms.tuning_validation import OBJECTIVE_KEY

FINAL = "FinalHyperParameterTuningJobObjectiveMetric"


def trial_request(tuning: Mapping[str, Any], number: int, values: Mapping[str, str]) -> Response:
    """Return the CreateTrainingJob request of a tuning job's training job `number`.

    Its name is the same for the same hyperparameters, so that a tuner that begins again finds the job that it started.
    """
    definition = tuning["TrainingJobDefinition"]
    config = tuning["HyperParameterTuningJobConfig"]
    hyperparameters = {
        **definition.get("StaticHyperParameters", {}),
        **values,
        OBJECTIVE_KEY: config["HyperParameterTuningJobObjective"]["MetricName"],
    }
    shared = (
        "RoleArn",
        "InputDataConfig",
        "VpcConfig",
        "OutputDataConfig",
        "StoppingCondition",
        "EnableNetworkIsolation",
        "EnableInterContainerTrafficEncryption",
        "EnableManagedSpotTraining",
        "CheckpointConfig",
        "RetryStrategy",
        "Environment",
    )
    request = {
        "TrainingJobName": f"{tuning['HyperParameterTuningJobName']}-{number:03}-{digest(hyperparameters)[:8]}",
        "HyperParameters": hyperparameters,
        "AlgorithmSpecification": dict(definition["AlgorithmSpecification"]),
        "ResourceConfig": _resources(definition),
        **{key: definition[key] for key in shared if key in definition},
    }
    if cores := _share_of_cores(config["ResourceLimits"]["MaxParallelTrainingJobs"], hyperparameters):
        request["Environment"] = {CORES: str(cores), **definition.get("Environment", {})}
    return request


def _share_of_cores(parallel: int, hyperparameters: Mapping[str, str]) -> int | None:
    """Return how many cores a trial should use that trains a whole network beside others; None for all.

    oneDNN's bfloat16 kernels wait for each other in a busy loop: two processes with two threads each on two cores take
    thirty times as long as one after the other.
    """
    try:
        head_only = parse_hyperparameters(hyperparameters).head_only
    except HyperparameterError:  # the job itself will say so, or runs a script of the user's
        return None
    return None if parallel == 1 or head_only else share_of_cores(parallel)


def _resources(definition: Mapping[str, Any]) -> Response:
    """Return the ResourceConfig of one training job; of several instance types the first is taken."""
    if "ResourceConfig" in definition:
        return dict(definition["ResourceConfig"])
    given = definition["HyperParameterTuningResourceConfig"]
    first = (given.get("InstanceConfigs") or [given])[0]
    return {
        "InstanceType": first["InstanceType"],
        "InstanceCount": first.get("InstanceCount", 1),
        "VolumeSizeInGB": first.get("VolumeSizeInGB", given.get("VolumeSizeInGB", 1)),
    }


def best_trial(trials: Sequence[Response], goal: str) -> Response | None:
    """Return the training job with the best final objective, the earliest among equals; None when none has one."""
    sign = -1 if goal == "Maximize" else 1
    ended = [t for t in trials if FINAL in t and t["TrainingJobStatus"] in ("Completed", "Stopped")]
    return min(ended, key=lambda t: (sign * t[FINAL]["Value"], t["CreationTime"]), default=None)


def final_objective(status: Mapping[str, Any], objective: Mapping[str, str]) -> Response:
    """Return how far a training job's objective is known: the last value that its log held (contract B5)."""
    values = {metric["MetricName"]: metric["Value"] for metric in status.get("FinalMetricDataList", [])}
    if status["TrainingJobStatus"] in RUNNING:
        return {"ObjectiveStatus": "Pending"}
    if status["TrainingJobStatus"] == "Failed" or objective["MetricName"] not in values:
        return {"ObjectiveStatus": "Failed"}
    return {"ObjectiveStatus": "Succeeded", FINAL: {**objective, "Value": values[objective["MetricName"]]}}
