"""The local tuner, on trials that are quick scripts."""

import json
import re
import time
from datetime import datetime

import pytest

from kennel_cli.platforms.validation import service_model
from tests.player.tuning.conftest import LABELS, X, log, refused, scores, trials


def test_a_search_finds_the_best_of_its_trials(sagemaker, search, finish):
    created = sagemaker.create_hyper_parameter_tuning_job(**search(jobs=5, Strategy="Bayesian"))
    assert created["HyperParameterTuningJobArn"].endswith(":hyper-parameter-tuning-job/search")
    described = finish()
    assert described["HyperParameterTuningJobStatus"] == "Completed"
    assert described["TrainingJobStatusCounters"] == {
        "Completed": 5,
        "InProgress": 0,
        "RetryableError": 0,
        "NonRetryableError": 0,
        "Stopped": 0,
    }
    assert described["ObjectiveStatusCounters"] == {"Succeeded": 5, "Pending": 0, "Failed": 0}
    best = described["BestTrainingJob"]
    assert best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == max(scores(sagemaker))
    assert float(best["TunedHyperParameters"]["level"]) == pytest.approx(max(scores(sagemaker)), abs=1e-6)


def test_answers_have_the_members_and_types_of_the_services(sagemaker, search, finish):
    request = search(jobs=2)
    sagemaker.create_hyper_parameter_tuning_job(**request)
    described = finish()
    model = service_model("sagemaker")
    members = model.operation_model("DescribeHyperParameterTuningJob").output_shape.members
    assert set(described) - {"ResponseMetadata"} <= set(members)
    assert {name: described[name] for name in request} == request
    assert isinstance(described["HyperParameterTuningEndTime"], datetime)
    listed = model.operation_model("ListTrainingJobsForHyperParameterTuningJob").output_shape
    shape = listed.members["TrainingJobSummaries"].member
    for trial in trials(sagemaker):
        assert set(shape.required_members) <= set(trial) <= set(shape.members)
        assert isinstance(trial["TrainingEndTime"], datetime)
    [summary] = sagemaker.list_hyper_parameter_tuning_jobs()["HyperParameterTuningJobSummaries"]
    shape = model.operation_model("ListHyperParameterTuningJobs").output_shape
    shape = shape.members["HyperParameterTuningJobSummaries"].member
    assert set(shape.required_members) <= set(summary) <= set(shape.members)


def test_a_trial_gets_texts_and_the_objectives_name_b3_b4(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=1))
    finish()
    [trial] = trials(sagemaker)
    given = sagemaker.training_folder(trial["TrainingJobName"]) / "ml/input/config/hyperparameters.json"
    values = json.loads(given.read_text())
    assert values["_tuning_objective_metric"] == "score"
    assert all(isinstance(value, str) for value in values.values())
    assert values["level"] == trial["TunedHyperParameters"]["level"]
    assert re.fullmatch(r"search-001-[0-9a-f]{8}", trial["TrainingJobName"])


def test_no_more_trials_run_at_a_time_than_allowed_b11(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=5, parallel=2, static={"pause": "0.3"}))
    finish()
    spans = [(t["TrainingStartTime"], t["TrainingEndTime"]) for t in trials(sagemaker)]
    for begin, _ in spans:
        assert sum(other <= begin < end for other, end in spans) <= 2
    assert any(sum(other <= begin < end for other, end in spans) == 2 for begin, _ in spans)


def test_a_grid_tries_every_combination_once_b1(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(ranges=LABELS, jobs=None, Strategy="Grid"))
    assert finish()["HyperParameterTuningJobStatus"] == "Completed"
    tried = [(t["TunedHyperParameters"]["level"], t["TunedHyperParameters"]["label"]) for t in trials(sagemaker)]
    assert sorted(tried) == [("0.1", "a"), ("0.1", "b"), ("0.9", "a"), ("0.9", "b")]


def test_the_same_seed_draws_the_same_b11(sagemaker, search, finish):
    for name in ("one", "two"):
        sagemaker.create_hyper_parameter_tuning_job(**search(name))
        finish(name)
    drawn = [[t["TunedHyperParameters"] for t in trials(sagemaker, name)] for name in ("one", "two")]
    assert drawn[0] == drawn[1]


def test_the_last_value_in_the_log_is_the_objective_b5(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=1, static={"epochs": "7"}))
    finish()
    [trial] = trials(sagemaker)
    value = trial["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
    assert value == pytest.approx(float(trial["TunedHyperParameters"]["level"]), abs=1e-6)


def test_early_stopping_ends_what_the_median_has_left_behind_b7(sagemaker, search, finish):
    values = ["0.5", "0.51", "0.52", "0.1"]
    ranges = {"CategoricalParameterRanges": [{"Name": "level", "Values": values}]}
    request = search(
        ranges=ranges,
        jobs=None,
        parallel=1,
        static={"epochs": "20", "pause": "0.2"},
        Strategy="Grid",
        TrainingJobEarlyStoppingType="Auto",
    )
    sagemaker.create_hyper_parameter_tuning_job(**request)
    described = finish()
    status = {t["TunedHyperParameters"]["level"]: t["TrainingJobStatus"] for t in trials(sagemaker)}
    assert status == {"0.5": "Completed", "0.51": "Completed", "0.52": "Completed", "0.1": "Stopped"}
    assert described["TrainingJobStatusCounters"]["Stopped"] == 1
    assert described["HyperParameterTuningJobStatus"] == "Completed"


def test_hyperband_stops_trials_that_fall_behind_b8(sagemaker, search, finish):
    request = search(jobs=6, parallel=2, static={"epochs": "9", "pause": "0.15"}, Strategy="Hyperband")
    sagemaker.create_hyper_parameter_tuning_job(**request)
    described = finish()
    assert described["HyperParameterTuningJobStatus"] == "Completed"
    counters = described["TrainingJobStatusCounters"]
    assert counters["Stopped"] >= 1
    assert counters["Completed"] >= 1
    stopped = [t for t in trials(sagemaker) if t["TrainingJobStatus"] == "Stopped"]
    assert described["BestTrainingJob"]["TrainingJobName"] not in {t["TrainingJobName"] for t in stopped}


def test_a_target_ends_the_search_b9(sagemaker, search, finish):
    ranges = {"CategoricalParameterRanges": [{"Name": "level", "Values": ["0.2", "0.8", "0.3", "0.4"]}]}
    criteria = {"TargetObjectiveMetricValue": 0.75}
    request = search(ranges=ranges, jobs=None, parallel=1, Strategy="Grid", TuningJobCompletionCriteria=criteria)
    sagemaker.create_hyper_parameter_tuning_job(**request)
    described = finish()
    assert described["HyperParameterTuningJobStatus"] == "Completed"
    assert scores(sagemaker) == [0.2, 0.8]


def test_a_search_that_gets_no_better_ends_b9(sagemaker, search, finish):
    ranges = {"CategoricalParameterRanges": [{"Name": "level", "Values": ["0.9", "0.1", "0.2", "0.3", "0.4", "0.5"]}]}
    criteria = {"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 3}}
    request = search(ranges=ranges, jobs=None, parallel=1, Strategy="Grid", TuningJobCompletionCriteria=criteria)
    sagemaker.create_hyper_parameter_tuning_job(**request)
    described = finish()
    assert scores(sagemaker) == [0.9, 0.1, 0.2, 0.3]
    assert described["TuningJobCompletionDetails"]["NumberOfTrainingJobsObjectiveNotImproving"] == 3


def test_a_search_that_has_converged_ends_b9(sagemaker, search, finish):
    levels = ["0.9", *(f"0.{n}" for n in range(10, 25))]
    ranges = {
        "CategoricalParameterRanges": [
            {"Name": "level", "Values": levels},
            {"Name": "label", "Values": ["a", "b", "c"]},
        ]
    }
    criteria = {"ConvergenceDetected": {"CompleteOnConvergence": "Enabled"}}
    request = search(
        ranges=ranges,
        jobs=None,
        parallel=2,
        static={"epochs": "1"},
        Strategy="Grid",
        TuningJobCompletionCriteria=criteria,
    )
    sagemaker.create_hyper_parameter_tuning_job(**request)
    described = finish()
    assert described["HyperParameterTuningJobStatus"] == "Completed"
    assert isinstance(described["TuningJobCompletionDetails"]["ConvergenceDetectedTime"], datetime)
    assert 31 <= len(trials(sagemaker)) < 48


def test_a_search_begins_with_what_its_parent_found_b10(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search("parent", jobs=3))
    best = finish("parent")["BestTrainingJob"]
    child = search(
        "child",
        jobs=2,
        ranges={"ContinuousParameterRanges": [{**X["ContinuousParameterRanges"][0], "MaxValue": "0.01"}]},
    )
    child["WarmStartConfig"] = {
        "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "parent"}],
        "WarmStartType": "IdenticalDataAndAlgorithm",
    }
    sagemaker.create_hyper_parameter_tuning_job(**child)
    described = finish("child")
    assert described["OverallBestTrainingJob"]["TrainingJobName"] == best["TrainingJobName"]
    assert described["BestTrainingJob"]["TuningJobName"] == "child"
    names = [t["TrainingJobName"].rsplit("-", 1)[0] for t in trials(sagemaker, "child")]
    assert names == ["child-001", "child-002"]


def test_parents_that_cannot_be_started_from_are_refused_b10(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search("parent", static={"pause": "1"}))

    def problem(parent, **changes):
        child = search("child", **changes)
        child["WarmStartConfig"] = {
            "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": parent}],
            "WarmStartType": "TransferLearning",
        }
        return refused(sagemaker.create_hyper_parameter_tuning_job, **child)["Message"]

    assert "there is no tuning job nobody" in problem("nobody")
    assert "parent is InProgress; a parent has to have ended" in problem("parent", static={"pause": "1"})
    sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="parent")
    finish("parent")
    assert "has other hyperparameters (pause)" in problem("parent")
    objective = {"Type": "Minimize", "MetricName": "score"}
    assert "has the objective" in problem("parent", static={"pause": "1"}, HyperParameterTuningJobObjective=objective)


def test_a_stopped_search_stops_its_trials_a1_9(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(static={"epochs": "1000", "pause": "0.1"}))
    while not any("score=" in log(sagemaker, t) for t in trials(sagemaker)):
        time.sleep(0.1)
    sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="search")
    described = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="search")
    assert described["HyperParameterTuningJobStatus"] in ("Stopping", "Stopped")
    assert finish()["HyperParameterTuningJobStatus"] == "Stopped"
    assert {t["TrainingJobStatus"] for t in trials(sagemaker)} == {"Stopped"}
    error = refused(sagemaker.stop_hyper_parameter_tuning_job, HyperParameterTuningJobName="search")
    assert "in status Stopped" in error["Message"]


def test_a_trial_that_has_ended_since_somebody_looked_is_not_stopped(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=1))
    finish()
    [trial] = trials(sagemaker)
    sagemaker.stop_unless_ended(trial["TrainingJobName"])
    assert trials(sagemaker) == [trial]


def test_a_metric_that_never_appears_fails_the_search_with_the_last_lines(sagemaker, search, finish):
    request = search()
    request["TrainingJobDefinition"]["AlgorithmSpecification"]["MetricDefinitions"][0]["Regex"] = r"nothing=(\d+)"
    sagemaker.create_hyper_parameter_tuning_job(**request)
    described = finish()
    assert described["HyperParameterTuningJobStatus"] == "Failed"
    assert "its log holds no value of score" in described["FailureReason"]
    assert "epoch 3: score=" in described["FailureReason"]
    assert described["TrainingJobStatusCounters"]["Completed"] < 4


def test_a_search_whose_trials_all_fail_gives_up_and_says_why(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=8, static={"fails": "yes"}))
    described = finish()
    assert described["HyperParameterTuningJobStatus"] == "Failed"
    assert "this trial cannot be run" in described["FailureReason"]
    assert 3 <= described["TrainingJobStatusCounters"]["NonRetryableError"] <= 5


def test_trials_that_fail_do_not_end_a_search(sagemaker, search, finish):
    ranges = {
        "CategoricalParameterRanges": [
            {"Name": "fails", "Values": ["no", "yes"]},
            {"Name": "label", "Values": ["a", "b"]},
        ]
    }
    sagemaker.create_hyper_parameter_tuning_job(
        **search(ranges=ranges, jobs=None, static={"level": "0.5"}, Strategy="Grid")
    )
    described = finish()
    assert described["HyperParameterTuningJobStatus"] == "Completed"
    assert described["ObjectiveStatusCounters"] == {"Succeeded": 2, "Pending": 0, "Failed": 2}


def test_names_are_unique_and_unknown_searches_are_not_found(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=1))
    assert refused(sagemaker.create_hyper_parameter_tuning_job, **search(jobs=1))["Code"] == "ResourceInUse"
    finish()
    error = refused(sagemaker.describe_hyper_parameter_tuning_job, HyperParameterTuningJobName="nobody")
    assert error["Code"] == "ResourceNotFound"


def test_trials_are_listed_by_name_time_or_objective_in_pages(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=4))
    finish()
    by_name = [t["TrainingJobName"] for t in trials(sagemaker)]
    assert by_name == sorted(by_name)
    ranked = trials(sagemaker, SortBy="FinalObjectiveMetricValue", SortOrder="Descending")
    values = [t["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for t in ranked]
    assert values == sorted(values, reverse=True)
    first = sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="search", MaxResults=3
    )
    assert [t["TrainingJobName"] for t in first["TrainingJobSummaries"]] == by_name[:3]
    assert [t["TrainingJobName"] for t in trials(sagemaker, NextToken=first["NextToken"])] == by_name[3:]
    assert trials(sagemaker, StatusEquals="Failed") == []
    named = sagemaker.list_hyper_parameter_tuning_jobs(NameContains="sea", StatusEquals="Completed")
    assert len(named["HyperParameterTuningJobSummaries"]) == 1
    assert sagemaker.list_hyper_parameter_tuning_jobs(NameContains="x")["HyperParameterTuningJobSummaries"] == []
