"""A request for a search, and changes to it."""

import copy

from kennel_cli.requests import training_job
from kennel_cli.settings import LOCAL

STATIC = {"backbone": "resnet18", "epochs": "4"}
CONFIG, DEFINITION = "HyperParameterTuningJobConfig", "TrainingJobDefinition"
SHARED = (
    "AlgorithmSpecification",
    "RoleArn",
    "InputDataConfig",
    "OutputDataConfig",
    "ResourceConfig",
    "StoppingCondition",
)


def valid_request():
    """Return a request that is taken, a new one each time."""
    job = training_job("unused", {"training": "s3://bucket/images"}, {}, LOCAL)
    return copy.deepcopy(
        {
            "HyperParameterTuningJobName": "dogs",
            "HyperParameterTuningJobConfig": {
                "Strategy": "Bayesian",
                "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "valid_accuracy"},
                "ResourceLimits": {"MaxNumberOfTrainingJobs": 8, "MaxParallelTrainingJobs": 2},
                "ParameterRanges": {
                    "ContinuousParameterRanges": [{"Name": "learning_rate", "MinValue": "1e-05", "MaxValue": "0.1"}],
                    "CategoricalParameterRanges": [{"Name": "batch_size", "Values": ["32", "64"]}],
                },
                "TrainingJobEarlyStoppingType": "Off",
            },
            "TrainingJobDefinition": {"StaticHyperParameters": STATIC, **{member: job[member] for member in SHARED}},
        }
    )


def config_of(request):
    return request["HyperParameterTuningJobConfig"]


def definition_of(request):
    return request["TrainingJobDefinition"]


def put(request, *path_and_value):
    """Set one member, deep in the request."""
    *path, last, value = path_and_value
    for part in path:
        request = request.setdefault(part, {}) if isinstance(part, str) else request[part]
    request[last] = value


def remove(request, *path):
    *path, last = path
    for part in path:
        request = request[part]
    del request[last]


def setting(*path_and_value):
    return lambda request: put(request, *path_and_value)


def without(*path):
    return lambda request: remove(request, *path)


def statics(count):
    return setting(DEFINITION, "StaticHyperParameters", {f"s{n}": "1" for n in range(count)})


def environment(count):
    return setting(DEFINITION, "Environment", {f"NAME_{n}": "value" for n in range(count)})


def both(*changes):
    def change(request):
        for one in changes:
            one(request)

    return change
