"""Searches of LocalSageMaker over quick scripts whose objective is known."""

import time

import pytest
from botocore.exceptions import ClientError

from kennel_cli.requests import training_job
from kennel_cli.settings import LOCAL
from tests.player.tuning.requests import valid_request

# prints `score` once an epoch, rising to the hyperparameter `level`, as slowly as `pause` says
SCRIPT = """
import argparse, time
parser = argparse.ArgumentParser()
parser.add_argument("--level", type=float)
parser.add_argument("--label", default="a")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--pause", type=float, default=0)
parser.add_argument("--fails", default="no")
options, _ = parser.parse_known_args()
if options.fails == "yes":
    raise SystemExit("this trial cannot be run")
for epoch in range(1, options.epochs + 1):
    print(f"epoch {epoch}: score={options.level * epoch / options.epochs:.6f};", flush=True)
    time.sleep(options.pause)
"""
X = {"ContinuousParameterRanges": [{"Name": "level", "MinValue": "0", "MaxValue": "1", "ScalingType": "Linear"}]}
LABELS = {
    "CategoricalParameterRanges": [{"Name": "level", "Values": ["0.1", "0.9"]}, {"Name": "label", "Values": ["a", "b"]}]
}
RUNNING = ("InProgress", "Stopping")


@pytest.fixture
def request_():
    """A valid request; each test changes its own."""
    return valid_request()


@pytest.fixture
def search(sagemaker, tmp_path):
    """Make the request of a search over scripts."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "script.py").write_text(SCRIPT)

    def make(name="search", ranges=X, jobs=4, parallel=2, static=(), **config):
        members = training_job("x", {"training": sagemaker.store.link(source, LOCAL.bucket)}, {}, LOCAL)
        members["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "score", "Regex": r"score=([0-9.]+);"}]
        submitted = {"sagemaker_program": "script.py", "sagemaker_submit_directory": str(source)}
        limits = {"MaxParallelTrainingJobs": parallel, **({"MaxNumberOfTrainingJobs": jobs} if jobs else {})}
        return {
            "HyperParameterTuningJobName": name,
            "HyperParameterTuningJobConfig": {
                "Strategy": "Random",
                "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "score"},
                "ResourceLimits": limits,
                "ParameterRanges": ranges,
                "RandomSeed": 1,
                **config,
            },
            "TrainingJobDefinition": {
                "StaticHyperParameters": {**submitted, **dict(static)},
                **{k: v for k, v in members.items() if k not in ("TrainingJobName", "HyperParameters", "Tags")},
            },
        }

    return make


@pytest.fixture
def finish(sagemaker):
    """Wait for the end of a search and return its description."""

    def wait(name="search", limit=500):
        deadline = time.monotonic() + limit
        while True:
            described = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
            if described["HyperParameterTuningJobStatus"] not in RUNNING:
                return described
            assert time.monotonic() < deadline, described
            time.sleep(0.1)

    return wait


def trials(sagemaker, name="search", **request):
    answer = sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(HyperParameterTuningJobName=name, **request)
    return answer["TrainingJobSummaries"]


def scores(sagemaker, name="search"):
    final = "FinalHyperParameterTuningJobObjectiveMetric"
    return [trial[final]["Value"] for trial in trials(sagemaker, name) if final in trial]


def refused(call, **request):
    with pytest.raises(ClientError) as caught:
        call(**request)
    return caught.value.response["Error"]


def log(sagemaker, trial):
    file = sagemaker.training_log(trial["TrainingJobName"])
    return file.read_text() if file.exists() else ""
