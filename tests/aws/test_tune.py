"""`kennel tune --on aws`: the request for a search, its mistakes, and how it is sent, to AWS as moto plays it.

Nothing here has asked AWS itself.
"""

import json
import os
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import EndpointConnectionError

from kennel.metrics import KEPT_METRICS, metric_definitions
from kennel_cli.platforms.tuning_validation import validate_tuning
from kennel_cli.tune.plan import Plan, declared_ranges, tuning_config
from kennel_cli.tune.presets import PRESETS
from tests.aws.conftest import BUCKET, SETTINGS, keys
from tests.aws.searches import PAGE, PHOTOS, RATE, searches


def dry_run(kennel, *arguments):
    """Return the request of a search that a dry run prints; of two `--data` the last one is taken."""
    ended = kennel("tune", "--on", "aws", "--dry-run", *PHOTOS, *arguments)
    assert ended.code == 0, ended.stderr
    request = json.loads(ended.stdout)
    validate_tuning(request)
    return request


def config_of(request):
    return request["HyperParameterTuningJobConfig"]


def ranges_of(request):
    """Return the ranges of a request by the names of their hyperparameters."""
    return {given["Name"]: given for kind in config_of(request)["ParameterRanges"].values() for given in kind}


# The request


def test_a_dry_run_prints_a_valid_request_and_touches_nothing(kennel, s3, sagemaker, colour_images, home):
    request = dry_run(kennel, "--data", colour_images, "--weights", "none", "--name", "dogs")
    definition = request["TrainingJobDefinition"]
    assert request["HyperParameterTuningJobName"] == "dogs"
    assert definition["RoleArn"] == SETTINGS["KENNEL_ROLE"]
    assert definition["AlgorithmSpecification"]["TrainingImage"] == SETTINGS["KENNEL_IMAGE"]
    assert definition["StaticHyperParameters"] == {"weights": "none"}
    assert definition["OutputDataConfig"] == {"S3OutputPath": f"s3://{BUCKET}/training"}
    [channel] = definition["InputDataConfig"]
    assert channel["DataSource"]["S3DataSource"]["S3Uri"].startswith(f"s3://{BUCKET}/kennel/data/")
    assert keys(s3) == []
    assert searches(sagemaker) == []
    assert not home.exists()


def test_without_ranges_the_declared_ones_are_searched(kennel):
    request = dry_run(kennel)
    assert set(ranges_of(request)) == set(declared_ranges())
    assert config_of(request) == tuning_config(Plan(declared_ranges()))
    assert config_of(request)["Strategy"] == "Bayesian"
    assert config_of(request)["ResourceLimits"] == {"MaxNumberOfTrainingJobs": 8, "MaxParallelTrainingJobs": 2}


def test_ranges_and_choices_are_written_as_the_service_reads_them_b2(kennel):
    choice, whole = ("--choice", "optimizer=sgd,adamw"), ("--range", "epochs=2:9")
    assert config_of(dry_run(kennel, *RATE, *choice, *whole))["ParameterRanges"] == {
        "ContinuousParameterRanges": [
            {"Name": "learning_rate", "MinValue": "1e-05", "MaxValue": "0.1", "ScalingType": "Logarithmic"}
        ],
        "CategoricalParameterRanges": [{"Name": "optimizer", "Values": ["sgd", "adamw"]}],
        "IntegerParameterRanges": [{"Name": "epochs", "MinValue": "2", "MaxValue": "9", "ScalingType": "Linear"}],
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_a_request_that_the_service_takes(kennel, sagemaker, preset):
    request = dry_run(kennel, "--preset", preset, "--name", "dogs")
    assert set(ranges_of(request)) == set(PRESETS[preset].ranges)
    assert PRESETS[preset].static.items() <= request["TrainingJobDefinition"]["StaticHyperParameters"].items()
    sagemaker.create_hyper_parameter_tuning_job(**request)  # botocore checks and writes it as for AWS
    assert searches(sagemaker) == ["dogs"]


def test_a_file_of_ranges_is_searched_and_options_win(kennel, tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text("ranges: {dropout: {low: 0.1, high: 0.3}}\nstatic: {epochs: 3}\nstrategy: random\njobs: 5\n")
    request = dry_run(kennel, "--space", file, "--jobs", "6")
    assert list(ranges_of(request)) == ["dropout"]
    assert request["TrainingJobDefinition"]["StaticHyperParameters"]["epochs"] == "3"
    assert config_of(request)["Strategy"] == "Random"
    assert config_of(request)["ResourceLimits"]["MaxNumberOfTrainingJobs"] == 6


@pytest.mark.parametrize(
    ("strategy", "more", "jobs"),
    [
        ("bayesian", RATE, 8),
        ("random", RATE, 8),
        ("hyperband", (*RATE, "--static", "epochs=9"), 8),
        ("grid", ("--choice", "batch_size=32,64", "--choice", "optimizer=sgd,adamw"), None),
    ],
)
def test_each_strategy_is_a_valid_request_b1_b8(kennel, strategy, more, jobs):
    config = config_of(dry_run(kennel, "--strategy", strategy, *more))
    assert config["Strategy"] == strategy.capitalize()
    assert config["ResourceLimits"].get("MaxNumberOfTrainingJobs") == jobs
    assert config["TrainingJobEarlyStoppingType"] == "Off"


@pytest.mark.parametrize("metric", KEPT_METRICS)
def test_a_loss_is_minimized_and_an_accuracy_maximized_b5(kennel, metric):
    objective = config_of(dry_run(kennel, *RATE, "--objective", metric))["HyperParameterTuningJobObjective"]
    assert objective == {"MetricName": metric, "Type": "Minimize" if metric.endswith("loss") else "Maximize"}


def test_early_stopping_is_auto_only_when_asked_for_b7(kennel):
    assert config_of(dry_run(kennel, *RATE))["TrainingJobEarlyStoppingType"] == "Off"
    assert config_of(dry_run(kennel, *RATE, "--early-stopping"))["TrainingJobEarlyStoppingType"] == "Auto"


def test_a_target_and_patience_are_completion_criteria_b9(kennel):
    plain, asked = dry_run(kennel, *RATE), dry_run(kennel, *RATE, "--target", "0.9", "--patience", "3")
    assert "TuningJobCompletionCriteria" not in config_of(plain)
    assert config_of(asked)["TuningJobCompletionCriteria"] == {
        "TargetObjectiveMetricValue": 0.9,
        "BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 3},
    }


def test_a_seed_makes_the_draws_repeatable_b11(kennel):
    assert "RandomSeed" not in config_of(dry_run(kennel, *RATE))
    assert config_of(dry_run(kennel, *RATE, "--seed", "0"))["RandomSeed"] == 0


def test_a_spot_search_may_wait_longer_than_it_runs_and_has_a_place_for_checkpoints_a1_12(kennel):
    definition = dry_run(kennel, *RATE, "--name", "dogs", "--spot")["TrainingJobDefinition"]
    stopping = definition["StoppingCondition"]
    assert definition["EnableManagedSpotTraining"] is True
    assert stopping["MaxWaitTimeInSeconds"] >= stopping["MaxRuntimeInSeconds"]
    assert definition["CheckpointConfig"] == {"S3Uri": f"s3://{BUCKET}/checkpoints/dogs"}


def test_an_isolated_search_has_no_network_a6_6(kennel):
    assert dry_run(kennel, *RATE, "--isolated")["TrainingJobDefinition"]["EnableNetworkIsolation"] is True


def test_a_plain_search_is_neither_spot_nor_isolated_and_waits_for_nothing(kennel):
    definition = dry_run(kennel, *RATE)["TrainingJobDefinition"]
    assert not {"EnableManagedSpotTraining", "EnableNetworkIsolation", "CheckpointConfig"} & set(definition)
    assert "MaxWaitTimeInSeconds" not in definition["StoppingCondition"]


def test_a_search_asks_only_for_what_the_image_does_by_itself_b3(kennel):
    definition = dry_run(kennel, *RATE, "--spot", "--isolated")["TrainingJobDefinition"]
    assert set(definition) == {
        "StaticHyperParameters",
        "AlgorithmSpecification",
        "RoleArn",
        "InputDataConfig",
        "OutputDataConfig",
        "ResourceConfig",
        "StoppingCondition",
        "EnableManagedSpotTraining",
        "EnableNetworkIsolation",
        "CheckpointConfig",
    }
    assert set(definition["AlgorithmSpecification"]) == {"TrainingImage", "TrainingInputMode", "MetricDefinitions"}


def test_the_metrics_of_a_search_are_those_of_the_one_list_b5(kennel):
    specification = dry_run(kennel, *RATE)["TrainingJobDefinition"]["AlgorithmSpecification"]
    assert specification["MetricDefinitions"] == metric_definitions()


def test_tags_are_those_of_the_settings(kennel, monkeypatch):
    tags = [{"Key": "team", "Value": "vision"}, {"Key": "project", "Value": "dogs"}]
    assert dry_run(kennel, *RATE)["Tags"] == tags
    monkeypatch.delenv("KENNEL_TAGS")
    assert "Tags" not in dry_run(kennel, *RATE)


def test_a_search_begins_with_what_others_have_found_b10(kennel):
    request = dry_run(kennel, *RATE, "--warm-start", "first", "--warm-start", "second")
    assert request["WarmStartConfig"] == {
        "ParentHyperParameterTuningJobs": [
            {"HyperParameterTuningJobName": "first"},
            {"HyperParameterTuningJobName": "second"},
        ],
        "WarmStartType": "TransferLearning",
    }
    assert "WarmStartConfig" not in dry_run(kennel, *RATE)


def test_a_name_that_is_made_is_short_enough_b11(kennel):
    assert len(dry_run(kennel, *RATE)["HyperParameterTuningJobName"]) <= 32


def test_a_dry_run_with_a_bucket_asks_nobody_and_needs_no_credentials(kennel, monkeypatch):
    monkeypatch.setenv("KENNEL_BUCKET", "mine")
    monkeypatch.setattr("kennel_cli.platforms.aws.aws_session", lambda region: pytest.fail("a session was made"))
    definition = dry_run(kennel, *RATE)["TrainingJobDefinition"]
    assert definition["OutputDataConfig"] == {"S3OutputPath": "s3://mine/training"}


def test_a_search_needs_only_the_light_client():
    """Ask for a dry run with every package that only the image holds hidden."""
    code = (
        "import importlib.abc, sys\n"
        "class Hide(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'numpy', 'optuna', 'sagemaker_training'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "from kennel_cli.cli import main\n"
        "main()\n"
    )
    environment = {**SETTINGS, "PATH": os.environ["PATH"], "KENNEL_BUCKET": "mine"}
    arguments = ("tune", "--on", "aws", *PHOTOS, *RATE, "--dry-run")
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True, env=environment
    )
    validate_tuning(json.loads(ended.stdout))


# Mistakes

GRID = ("--strategy", "grid")
PARENTS = ("--warm-start", "a", "--warm-start", "b", "--warm-start", "c")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "give the images with --data DIR, or a search to follow with --resume NAME"),
        (("--data", "/no/such/folder"), "there is no folder /no/such/folder"),
        (("--resume", "dogs", "--dry-run"), "--dry-run has no request to print"),
        ((*PHOTOS, "--name", "d" * 33), "has 33 characters; the name of a search has 32 at most"),
        ((*PHOTOS, "--name", "under_score"), "regular expression pattern"),
        ((*PHOTOS, "--preset", "cats"), "there is no preset cats; there are resnet50-head"),
        ((*PHOTOS, "--preset", "adamw", "--space", "a.yaml"), "give --preset or --space"),
        ((*PHOTOS, "--space", "/no/such.yaml"), "/no/such.yaml cannot be read"),
        ((*PHOTOS, *RATE, "--static", "learning_rate=0.1"), "learning_rate: given as a range and as a fixed value"),
        ((*PHOTOS, "--strategy", "luck"), "there is no strategy 'luck'"),
        ((*PHOTOS, *RATE, *GRID), "learning_rate has a range instead of values"),
        ((*PHOTOS, *RATE, "--strategy", "hyperband"), "Hyperband needs MaxResource, or a static hyperparameter"),
        (
            (*PHOTOS, *RATE, "--strategy", "hyperband", "--static", "epochs=9", "--early-stopping"),
            "Hyperband stops trials by itself",
        ),
        ((*PHOTOS, *RATE, "--patience", "2"), "patience is 2; it should be 3 or more"),
        ((*PHOTOS, *RATE, *PARENTS, *PARENTS), "6 searches to start from; 5 are the most"),
        ((*PHOTOS, *RATE, "--jobs", "751"), "MaxNumberOfTrainingJobs is 751; Bayesian takes 750 at most"),
        ((*PHOTOS, *RATE, "--parallel", "101"), "MaxParallelTrainingJobs is 101; 100 is the most"),
        ((*PHOTOS, *RATE, "--objective", "f1"), "'f1' cannot be the objective"),
        ((*PHOTOS, "--range", "colour=1:2"), "colour: there is no such hyperparameter"),
        ((*PHOTOS, *RATE, "--in-one-job", "--objective", "test_accuracy"), "is a metric of every epoch (valid_loss"),
        ((*PHOTOS, *RATE, "--in-one-job", "--warm-start", "a"), "has no --warm-start, --target or --patience"),
        ((*PHOTOS, *RATE, "--in-one-job", "--target", "0.9"), "has no --warm-start, --target or --patience"),
        ((*PHOTOS, *RATE, "--in-one-job", "--patience", "3"), "has no --warm-start, --target or --patience"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_sent(kennel, sagemaker, arguments, sentence):
    ended = kennel("tune", "--on", "aws", *arguments)
    assert ended.code == 1
    assert ended.stderr.startswith("kennel: ")
    assert sentence in ended.stderr
    assert ended.stdout == ""
    assert searches(sagemaker) == sagemaker.list_training_jobs()["TrainingJobSummaries"] == []


@pytest.mark.parametrize("option", ["--spot", "--isolated"])
def test_options_of_aws_are_refused_on_this_machine(kennel, option):
    assert f"{option} is for jobs on AWS; add --on aws" in kennel("tune", *PHOTOS, option).stderr


def test_a_search_that_is_too_long_for_one_job_is_refused_a2_1(kennel, sagemaker):
    rates = ",".join(f"0.1000000{number}" for number in range(10, 40))
    names = ("learning_rate", "weight_decay", "momentum", "dropout", "label_smoothing", "max_bad_images")
    choices = [part for name in names for part in ("--choice", f"{name}={rates}")]
    ended = kennel("tune", "--on", "aws", *PHOTOS, *choices, "--in-one-job")
    assert ended.code == 1
    assert "characters; in one job 2500 are the most, give less ranges" in ended.stderr
    assert sagemaker.list_training_jobs()["TrainingJobSummaries"] == []
    dry_run(kennel, *choices)  # with a job for each trial there is room enough


# Sending


def test_a_search_is_sent_after_its_data_and_listed(kennel, s3, sagemaker, colour_images):
    data = ("--data", colour_images, "--weights", "none")
    asked = (*data, *RATE, "--static", "epochs=2", "--name", "dogs", "--spot", "--isolated", "--seed", "3")
    request = dry_run(kennel, *asked)
    ended = kennel("tune", "--on", "aws", *asked, "--detach")
    assert ended.code == 0, ended.stderr
    uploaded, started, page = ended.stdout.splitlines()
    assert "uploaded" in uploaded
    assert (started, page) == ("search dogs", f"its page: {PAGE}")
    sent = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="dogs")
    assert {member: sent[member] for member in request if member != "Tags"} == {
        member: value for member, value in request.items() if member != "Tags"
    }
    tags = sagemaker.list_tags(ResourceArn=sent["HyperParameterTuningJobArn"])["Tags"]
    assert tags == request["Tags"]
    uri = sent["TrainingJobDefinition"]["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
    assert len(keys(s3)) == len(list(colour_images.rglob("*.png")))
    assert keys(s3)[0].startswith(urlsplit(uri).path[1:])
    listed = kennel("jobs", "--on", "aws").stdout
    assert "dogs" in listed
    assert "Bayesian" in listed


def test_an_upload_that_fails_is_one_sentence_and_starts_no_search(kennel, s3, sagemaker, colour_images, monkeypatch):
    def refuse(*arguments, **more):
        raise EndpointConnectionError(endpoint_url="https://s3")

    monkeypatch.setattr("boto3.s3.transfer.S3Transfer.upload_file", refuse)
    ended = kennel("tune", "--on", "aws", "--data", colour_images, "--weights", "none")
    assert ended.code == 1
    assert "S3 does not answer: Could not connect" in ended.stderr
    assert searches(sagemaker) == []


def test_a_search_that_the_service_refuses_is_its_sentence(kennel, sagemaker):
    request = ("tune", "--on", "aws", *PHOTOS, *RATE, "--name", "dogs", "--detach")
    assert kennel(*request).code == 0
    again = kennel(*request)
    assert again.code == 1
    assert "dogs already exists" in again.stderr
