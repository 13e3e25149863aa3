"""A trial: the training job that it is, its objective, and which of them is best."""

from datetime import UTC, datetime, timedelta

import pytest

from kennel_cli.platforms.trials import best_trial, final_objective, trial_request
from kennel_cli.platforms.validation import validate
from tests.player.tuning.requests import DEFINITION, STATIC, both, definition_of, environment, put, remove, setting

VALUES = {"learning_rate": "0.01", "batch_size": "32"}


def test_a_training_job_has_the_static_and_tuned_values_and_the_objective_b3_b4(request_):
    both(environment(2), setting(DEFINITION, "EnableNetworkIsolation", True))(request_)
    job = trial_request(request_, 7, VALUES)
    validate("CreateTrainingJob", job)
    assert job["HyperParameters"] == {**STATIC, **VALUES, "_tuning_objective_metric": "valid_accuracy"}
    assert job["TrainingJobName"].startswith("dogs-007-")
    shared = {**definition_of(request_)}
    del shared["StaticHyperParameters"]
    assert {name: job[name] for name in shared} == shared


def test_a_training_jobs_name_tells_its_hyperparameters_apart(request_):
    name = trial_request(request_, 7, VALUES)["TrainingJobName"]
    assert trial_request(request_, 7, dict(reversed(VALUES.items())))["TrainingJobName"] == name
    assert trial_request(request_, 7, {**VALUES, "batch_size": "64"})["TrainingJobName"] != name
    put(request_, "HyperParameterTuningJobName", "d" * 32)
    assert len(trial_request(request_, 10_000, VALUES)["TrainingJobName"]) <= 63


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (
            {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 9},
            {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 9},
        ),
        (
            {
                "InstanceConfigs": [
                    {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 9},
                    {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 8},
                ]
            },
            {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 9},
        ),
    ],
)
def test_of_several_instances_the_first_is_taken_b3_b12(request_, given, taken):
    remove(request_, DEFINITION, "ResourceConfig")
    put(request_, DEFINITION, "HyperParameterTuningResourceConfig", given)
    job = trial_request(request_, 1, VALUES)
    validate("CreateTrainingJob", job)
    assert job["ResourceConfig"] == taken


OBJECTIVE = {"Type": "Maximize", "MetricName": "valid_accuracy"}


@pytest.mark.parametrize(
    ("status", "metrics", "expected"),
    [
        ("InProgress", {"valid_accuracy": 0.5}, "Pending"),
        ("Completed", {"valid_accuracy": 0.5}, "Succeeded"),
        ("Stopped", {"valid_accuracy": 0.5}, "Succeeded"),
        ("Failed", {"valid_accuracy": 0.5}, "Failed"),
        ("Completed", {"valid_loss": 0.5}, "Failed"),
        ("Stopped", {}, "Failed"),
    ],
)
def test_an_objective_is_known_when_the_job_ended_and_had_printed_it_b5(status, metrics, expected):
    data = [{"MetricName": name, "Value": value} for name, value in metrics.items()]
    found = final_objective({"TrainingJobStatus": status, "FinalMetricDataList": data}, OBJECTIVE)
    assert found["ObjectiveStatus"] == expected
    value = found.get("FinalHyperParameterTuningJobObjectiveMetric")
    assert value == ({**OBJECTIVE, "Value": 0.5} if expected == "Succeeded" else None)


def test_the_best_training_job_is_the_earliest_with_the_best_objective_b5():
    def job(number, status, value):
        data = [{"MetricName": "valid_accuracy", "Value": value}]
        return {
            "TrainingJobName": f"dogs-{number:03}",
            "TrainingJobStatus": status,
            "CreationTime": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number),
            **final_objective({"TrainingJobStatus": status, "FinalMetricDataList": data}, OBJECTIVE),
        }

    jobs = [job(1, "Failed", 0.99), job(1000, "Completed", 0.9), job(999, "Stopped", 0.9), job(4, "Completed", 0.1)]
    assert best_trial(jobs, "Maximize")["TrainingJobName"] == "dogs-999"
    assert best_trial(jobs, "Minimize")["TrainingJobName"] == "dogs-004"
    assert best_trial(jobs[:1], "Maximize") is None


def test_trials_that_train_a_network_beside_others_share_the_cores(monkeypatch):
    monkeypatch.setattr("kennel.machine.available_cores", lambda: 8)
    config = {"HyperParameterTuningJobObjective": {"MetricName": "valid_loss"}, "ResourceLimits": {}}
    definition = {"AlgorithmSpecification": {}, "ResourceConfig": {}, "Environment": {"A": "b"}}
    tuning = {
        "HyperParameterTuningJobName": "search",
        "HyperParameterTuningJobConfig": config,
        "TrainingJobDefinition": definition,
    }

    def environment(parallel, **hyperparameters):
        config["ResourceLimits"]["MaxParallelTrainingJobs"] = parallel
        return trial_request(tuning, 1, hyperparameters)["Environment"]

    assert environment(4, unfreeze="all") == {"KENNEL_CORES": "2", "A": "b"}
    assert environment(16, weights="none") == {"KENNEL_CORES": "1", "A": "b"}
    assert environment(1, unfreeze="all") == environment(4) == environment(4, weights="no such=1", x="y") == {"A": "b"}
