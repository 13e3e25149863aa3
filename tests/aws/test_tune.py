"""`kennel tune --on aws`: AWS as moto plays it, and as botocore's stubber does where moto's searches end at once.

Nothing here has asked AWS itself.
"""

import csv
import io
import json
import os
import subprocess
import sys
import tarfile
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import EndpointConnectionError
from rich.console import Console

from kennel.metrics import KEPT_METRICS, metric_definitions
from kennel.tuning.one_job import parse_search
from kennel.tuning.summary import JSON, Summary, Trial, read_summary, write_summary
from kennel_cli.platforms.account import AwsError
from kennel_cli.platforms.aws import AwsPlatform
from kennel_cli.platforms.tuning_validation import validate_tuning
from kennel_cli.platforms.validation import client_error, validate
from kennel_cli.requests import tuning_job
from kennel_cli.tune import follow as following
from kennel_cli.tune import screen
from kennel_cli.tune.plan import Plan, declared_ranges, parse_ranges, tuning_config
from kennel_cli.tune.presets import PRESETS
from tests.aws.conftest import BUCKET, REGION, SETTINGS, described, keys, write_log

PHOTOS = ("--data", "s3://photos/dogs", "--weights", "none")
RATE = ("--range", "learning_rate=1e-5:1e-1:log")
ONE_JOB = ("tune", "--on", "aws", *PHOTOS, *RATE, "--static", "epochs=2", "--in-one-job", "--name", "dogs")
BEGAN = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
ARN = f"arn:aws:sagemaker:{REGION}:123456789012"
PAGE = f"https://{REGION}.console.aws.amazon.com/sagemaker/home?region={REGION}#/hyper-tuning-jobs/dogs"
GOES_ON = (
    "the search goes on; `kennel tune --resume dogs --on aws` follows it again, `kennel stop dogs --on aws` ends it"
)
STOPPING = "the search is stopping; `kennel tune --resume dogs --on aws` follows it again"
JOB_GOES_ON = (
    "the job goes on; `kennel tune --resume dogs --on aws` follows it again, `kennel stop dogs --on aws` ends it"
)


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


def searches(sagemaker):
    listed = sagemaker.list_hyper_parameter_tuning_jobs()["HyperParameterTuningJobSummaries"]
    return [search["HyperParameterTuningJobName"] for search in listed]


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


# Following


class Account:
    """What SageMaker knows of the search `dogs`, and what it is expected to be asked of it, in order."""

    def __init__(self, stubber, settings):
        self._stubber = stubber
        self._ended = set()
        space = parse_ranges([RATE[1]], ["optimizer=sgd,adamw"])
        plan = Plan(space, {"epochs": "2", "weights": "none"}, objective="valid_accuracy")
        request = tuning_job("dogs", tuning_config(plan), {"training": "s3://photos/dogs"}, plan.static, settings)
        request.pop("Tags")
        self.request = request

    def describe(self, status="InProgress", **more):
        """Expect one question for the search, and answer it."""
        ended = {} if status in ("InProgress", "Stopping") else {"HyperParameterTuningEndTime": minute(10)}
        answer = {
            **self.request,
            "HyperParameterTuningJobArn": f"{ARN}:hyper-parameter-tuning-job/dogs",
            "HyperParameterTuningJobStatus": status,
            "CreationTime": BEGAN,
            "TrainingJobStatusCounters": {},
            "ObjectiveStatusCounters": {},
            **ended,
            **more,
        }
        name = {"HyperParameterTuningJobName": "dogs"}
        self._stubber.add_response("describe_hyper_parameter_tuning_job", answer, name)

    def look(self, status, *pages, **more):
        """Expect one look: the search, its jobs page by page, and each job that ended since the last look."""
        self.describe(status, **more)
        asked = {
            "HyperParameterTuningJobName": "dogs",
            "MaxResults": 100,
            "SortBy": "CreationTime",
            "SortOrder": "Ascending",
        }
        for number, jobs in enumerate(pages or [[]], start=1):
            token = {"NextToken": f"page {number + 1}"} if number < len(pages) else {}
            self._stubber.add_response(
                "list_training_jobs_for_hyper_parameter_tuning_job",
                {"TrainingJobSummaries": jobs, **token},
                dict(asked),
            )
            asked |= token
            for one in jobs:
                self._describe_ended(one)

    def forget(self):
        """Expect that jobs which have ended are asked for again: another process follows the search."""
        self._ended.clear()

    def _describe_ended(self, one):
        name = one["TrainingJobName"]
        if one["TrainingJobStatus"] in ("InProgress", "Stopping") or name in self._ended:
            return
        self._ended.add(name)
        final = one.get("FinalHyperParameterTuningJobObjectiveMetric", {}).get("Value")
        metrics = [] if final is None else [{"MetricName": "valid_accuracy", "Value": final, "Timestamp": BEGAN}]
        answer = described(one["TrainingJobStatus"], TrainingJobName=name, FinalMetricDataList=metrics)
        self._stubber.add_response("describe_training_job", answer, {"TrainingJobName": name})


def minute(number):
    return BEGAN + timedelta(minutes=number)


def job(number, status="Completed", accuracy=None, **more):
    """Return what the service says of a trial that runs for a minute and a half."""
    ended = {} if status in ("InProgress", "Stopping") else {"TrainingEndTime": minute(number + 1.5)}
    final = {"MetricName": "valid_accuracy", "Value": accuracy}
    return {
        "TrainingJobName": f"dogs-{number:03}-abcdef01",
        "TrainingJobArn": f"{ARN}:training-job/dogs-{number:03}-abcdef01",
        "CreationTime": minute(number),
        "TrainingJobStatus": status,
        "TunedHyperParameters": {"learning_rate": f"0.0{number}", "optimizer": "sgd"},
        **ended,
        **({} if accuracy is None else {"FinalHyperParameterTuningJobObjectiveMetric": final}),
        **more,
    }


@pytest.fixture
def aws(kennel, platform, stubbed, monkeypatch):
    """The stubbed SageMaker client of the command, which knows the search `dogs`."""
    monkeypatch.setattr(AwsPlatform, "sagemaker", platform.sagemaker)
    return Account(stubbed, platform.settings)


def follow(kennel):
    return kennel("tune", "--on", "aws", "--resume", "dogs")


def test_a_search_is_followed_to_its_end_and_its_trials_shown_best_first(kennel, aws, stubbed, home):
    stubbed.add_response("create_hyper_parameter_tuning_job", {"HyperParameterTuningJobArn": ARN})
    aws.look("InProgress")
    aws.look("InProgress", [job(1, "InProgress")])
    aws.look("InProgress", [job(1, "Completed", 0.8), job(2, "InProgress")])
    aws.look("Completed", [job(1, "Completed", 0.8), job(2, "Completed", 0.9)])
    ended = kennel("tune", "--on", "aws", *PHOTOS, *RATE, "--name", "dogs")
    assert ended.code == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[:6] == [
        "search dogs",
        f"its page: {PAGE}",
        "trial=1; status=InProgress; learning_rate=0.01; optimizer=sgd;",
        "trial=1; status=Completed; valid_accuracy=0.8000; seconds=90.0; learning_rate=0.01; optimizer=sgd;",
        "trial=2; status=InProgress; learning_rate=0.02; optimizer=sgd;",
        "trial=2; status=Completed; valid_accuracy=0.9000; seconds=90.0; learning_rate=0.02; optimizer=sgd;",
    ]
    table = "\n".join(lines[6:])
    assert table.index("0.9000") < table.index("0.8000")
    assert "search dogs is Completed after 600.0 s" in lines
    assert "the best:      trial 2, valid_accuracy 0.9000" in lines
    assert "train with it: kennel train --from-tuning dogs --on aws --data …" in lines
    assert f"all of it:     {home}/tuning/dogs/tuning.html" in lines
    assert "serve it with" not in ended.stdout  # endpoints are of this machine


def test_on_a_terminal_a_table_is_redrawn_and_the_final_one_stays(kennel, aws, monkeypatch):
    screen_of = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr(following, "console", screen_of)
    aws.describe()
    aws.look("InProgress", [job(1, "Completed", 0.8), job(2, "InProgress")])
    aws.look("Completed", [job(1, "Completed", 0.8), job(2, "Completed", 0.9)])
    assert follow(kennel).code == 0
    shown = screen_of.file.getvalue()
    assert "dogs · InProgress" in shown
    assert "trial=1;" not in shown
    final = shown[shown.rindex("hyperparameters") :]
    assert final.index("0.9000") < final.index("0.8000")
    assert "the best:      trial 2" in final


def test_what_was_found_is_written_into_four_files(kennel, aws, home):
    jobs = [job(1, "Completed", 0.8), job(2, "Stopped", 0.7), job(3, "Failed", FailureReason="ClientError: no")]
    aws.describe()
    aws.look("Completed", jobs)
    assert follow(kennel).code == 0
    folder = home / "tuning" / "dogs"
    assert {file.name for file in folder.iterdir()} == {"tuning.json", "tuning.csv", "tuning.md", "tuning.html"}
    summary = read_summary(folder)
    assert (summary.name, summary.status, summary.strategy) == ("dogs", "Completed", "Bayesian")
    assert [trial.status for trial in summary.trials] == ["Completed", "Stopped", "Failed"]
    assert [trial.job for trial in summary.trials] == [one["TrainingJobName"] for one in jobs]
    assert summary.trials[0].metrics == {"valid_accuracy": 0.8}
    assert summary.trials[1].started == 120.0
    assert json.loads((folder / JSON).read_text())["best"] == {
        "number": 1,
        "job": "dogs-001-abcdef01",
        "objective": 0.8,
        "hyperparameters": {"epochs": "2", "weights": "none", "learning_rate": "0.01", "optimizer": "sgd"},
    }
    rows = list(csv.DictReader(io.StringIO((folder / "tuning.csv").read_text())))
    assert [row["reason"] for row in rows] == ["", "", "ClientError: no"]
    assert "Best: trial 1, valid_accuracy 0.8000" in (folder / "tuning.md").read_text()
    assert "dogs" in (folder / "tuning.html").read_text()


def test_jobs_come_in_pages_and_those_that_ended_are_asked_for_once(kennel, aws):
    aws.describe()
    aws.look("InProgress", [job(1, "Completed", 0.8), job(2, "Completed", 0.6)], [job(3, "InProgress")])
    aws.look("InProgress", [job(1, "Completed", 0.8), job(2, "Completed", 0.6)], [job(3, "Completed", 0.7)])
    aws.look("Completed", [job(1, "Completed", 0.8), job(2, "Completed", 0.6)], [job(3, "Completed", 0.7)])
    ended = follow(kennel)
    assert ended.code == 0, ended.stderr
    assert "the best:      trial 1" in ended.stdout
    assert ended.stdout.count("trial=3; status=Completed;") == 1


def test_learning_curves_are_those_of_the_logs_without_the_line_that_repeats_b5(kennel, aws, logs, home):
    stream = "dogs-001-abcdef01/algo-1-1"
    write_log(logs, ["start device=cuda;", "epoch=1 train_loss=0.5; valid_accuracy=0.6000;"], stream)
    write_log(logs, ["epoch=2 valid_accuracy=0.8000;", "best_epoch=2; valid_accuracy=0.8000;"], stream, after=10)
    write_log(logs, ["epoch=1 valid_accuracy=0.1000;"], "dogs-002-abcdef01/algo-1-1")
    aws.describe()
    aws.look("InProgress", [job(1, "InProgress"), job(2, "InProgress")])
    aws.look("Completed", [job(1, "Completed", 0.8), job(2, "Stopped", 0.1)])
    assert follow(kennel).code == 0
    assert [trial.curve for trial in read_summary(home / "tuning" / "dogs").trials] == [[0.6, 0.8], [0.1]]


def eight(**more):
    """Return as many trials as it takes to tell which hyperparameter matters."""
    return [job(number, "Completed", number / 10, **more) for number in range(1, 9)]


def test_what_mattered_is_told_of_eight_trials(kennel, aws, home):
    aws.describe()
    aws.look("Completed", eight())
    assert follow(kennel).code == 0
    importance = read_summary(home / "tuning" / "dogs").importance
    assert set(importance) == {"learning_rate", "optimizer"}
    assert importance["learning_rate"] > importance["optimizer"]


@pytest.mark.parametrize(
    "values", [{"learning_rate": "7", "optimizer": "lion"}, {"learning_rate": "low", "optimizer": "sgd"}, {}]
)
def test_values_that_the_ranges_do_not_hold_cost_no_more_than_what_mattered(kennel, aws, home, values):
    aws.describe()
    aws.look("Completed", eight(TunedHyperParameters=values))
    ended = follow(kennel)
    assert ended.code == 0, ended.stderr
    assert read_summary(home / "tuning" / "dogs").importance == {}
    assert (home / "tuning" / "dogs" / "tuning.html").exists()


def test_the_last_lines_of_a_log_may_come_after_the_end_of_the_search(kennel, aws, logs, monkeypatch, home):
    now = datetime.now(UTC)
    waits = []

    def wait(seconds):
        waits.append(seconds)
        write_log(logs, ["epoch=2 valid_accuracy=0.8000;"], "dogs-001-abcdef01/algo-1-1", after=10)

    monkeypatch.setattr(AwsPlatform, "log_delay", 60.0)
    monkeypatch.setattr(following.time, "sleep", wait)
    write_log(logs, ["epoch=1 valid_accuracy=0.6000;"], "dogs-001-abcdef01/algo-1-1")
    late = job(1, "Completed", 0.8, TrainingEndTime=now)
    aws.describe()
    aws.look("Completed", [late])
    aws.forget()
    aws.look("Completed", [late])
    assert follow(kennel).code == 0
    assert waits == [60.0]
    assert read_summary(home / "tuning" / "dogs").trials[0].curve == [0.6, 0.8]


def test_a_job_that_never_began_has_no_time(kennel, aws, home):
    failed = job(1, "Failed", FailureReason="CapacityError: no machine is free")
    del failed["TrainingEndTime"]
    aws.describe()
    aws.look("Completed", [failed, job(2, "Completed", 0.8)])
    ended = follow(kennel)
    assert ended.code == 0, ended.stderr
    line = "trial=1; status=Failed; learning_rate=0.01; optimizer=sgd; CapacityError: no machine is free"
    assert line in ended.stdout.splitlines()
    assert read_summary(home / "tuning" / "dogs").trials[0].seconds is None


def test_a_failed_search_is_exit_code_1_with_its_reason(kennel, aws, home):
    aws.describe()
    aws.look("Failed", [job(1, "Failed", FailureReason="AlgorithmError: bad")], FailureReason="all jobs failed")
    ended = follow(kennel)
    assert ended.code == 1
    assert ended.stderr == "kennel: the search dogs failed: all jobs failed\n"
    assert "AlgorithmError: bad" in ended.stdout
    assert read_summary(home / "tuning" / "dogs").reason == "all jobs failed"


def test_a_stopped_search_shows_what_it_found(kennel, aws):
    aws.describe()
    aws.look("Stopping", [job(1, "Completed", 0.8), job(2, "Stopping")])
    aws.look("Stopped", [job(1, "Completed", 0.8), job(2, "Stopped")])
    ended = follow(kennel)
    assert ended.code == 0, ended.stderr
    assert "search dogs is Stopped after 600.0 s" in ended.stdout
    assert "the best:      trial 1" in ended.stdout
    assert ended.stdout.count("trial=2;") == 2  # when it was seen first, and its end


def test_a_search_without_a_trial_has_no_best_one(kennel, aws):
    aws.describe()
    aws.look("Stopped")
    ended = follow(kennel)
    assert ended.code == 0, ended.stderr
    assert "search dogs is Stopped" in ended.stdout
    assert "the best" not in ended.stdout


def test_a_search_that_nobody_knows_is_one_sentence(kennel):
    ended = kennel("tune", "--on", "aws", "--resume", "nobody")
    assert ended.code == 1
    assert ended.stderr == "kennel: there is no search nobody; see `kennel jobs --on aws`\n"


def test_a_training_job_is_no_search(kennel):
    assert kennel("train", "--on", "aws", *PHOTOS, "--name", "dogs", "--detach").code == 0
    assert "there is no search dogs" in follow(kennel).stderr


def test_a_search_of_another_program_is_one_sentence(kennel, aws):
    definition = aws.request.pop("TrainingJobDefinition")
    aws.request["TrainingJobDefinitions"] = [definition, definition]
    aws.describe()
    aws.describe()
    ended = follow(kennel)
    assert ended.code == 1
    assert ended.stderr.startswith("kennel: the search dogs has several definitions of its training jobs")


# Stopping


def test_a_search_is_stopped_and_waited_for(kennel, aws, stubbed):
    aws.describe()
    stubbed.add_response("stop_hyper_parameter_tuning_job", {}, {"HyperParameterTuningJobName": "dogs"})
    aws.look("Stopping", [job(1, "Stopping")])
    aws.look("Stopped", [job(1, "Stopped", 0.6)])
    ended = kennel("stop", "dogs", "--on", "aws")
    assert ended.code == 0, ended.stderr
    assert "search dogs is Stopped" in ended.stdout


def test_a_search_that_has_ended_is_not_stopped(kennel, aws, stubbed):
    aws.describe("Completed")
    stubbed.add_client_error("stop_hyper_parameter_tuning_job", "ValidationException", "it is Completed")
    ended = kennel("stop", "dogs", "--on", "aws")
    assert (ended.code, ended.stderr) == (1, "kennel: it is Completed\n")


def interrupt(*arguments):
    raise KeyboardInterrupt


def test_ctrl_c_leaves_the_search_alone_and_says_how_to_follow_and_stop_it(kennel, monkeypatch, sagemaker):
    monkeypatch.setattr(following, "follow_search", interrupt)
    ended = kennel("tune", "--on", "aws", *PHOTOS, *RATE, "--name", "dogs")
    assert ended.code == 130
    assert GOES_ON in ended.stdout.splitlines()
    assert searches(sagemaker) == ["dogs"]


def interrupted(monkeypatch, *times):
    """Press Ctrl-C at these waits between two looks; 1 is the first."""
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) in times:
            raise KeyboardInterrupt

    monkeypatch.setattr(screen.time, "sleep", wait)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(following.typer, "confirm", lambda *arguments, **more: True)


def test_who_says_so_stops_the_search_with_ctrl_c(kennel, aws, stubbed, monkeypatch):
    interrupted(monkeypatch, 1)
    aws.describe()
    aws.look("InProgress", [job(1, "InProgress")])
    stubbed.add_response("stop_hyper_parameter_tuning_job", {}, {"HyperParameterTuningJobName": "dogs"})
    aws.look("Stopped", [job(1, "Stopped", 0.6)])
    ended = follow(kennel)
    assert ended.code == 0, ended.stderr
    assert "search dogs is Stopped" in ended.stdout


def test_a_second_ctrl_c_leaves_a_search_that_is_stopping(kennel, aws, stubbed, monkeypatch):
    interrupted(monkeypatch, 1, 2)
    aws.describe()
    aws.look("InProgress", [job(1, "InProgress")])
    stubbed.add_response("stop_hyper_parameter_tuning_job", {}, {"HyperParameterTuningJobName": "dogs"})
    aws.look("Stopping", [job(1, "Stopping")])
    ended = follow(kennel)
    assert ended.code == 130
    assert STOPPING in ended.stdout.splitlines()


def test_a_search_that_may_not_be_stopped_goes_on_and_that_is_said(kennel, aws, stubbed, monkeypatch):
    interrupted(monkeypatch, 1)
    aws.describe()
    aws.look("InProgress", [job(1, "InProgress")])
    stubbed.add_client_error("stop_hyper_parameter_tuning_job", "AccessDeniedException", "not allowed to stop")
    ended = follow(kennel)
    denied = "kennel may not do sagemaker:StopHyperParameterTuningJob (not allowed to stop)"
    assert ended.code == 1
    assert ended.stderr == f"kennel: {denied}; give it to your user or role with an IAM policy; {GOES_ON}\n"


def test_a_search_that_has_ended_before_ctrl_c_is_shown(kennel, aws, stubbed, monkeypatch):
    interrupted(monkeypatch, 1)
    aws.describe()
    aws.look("InProgress", [job(1, "InProgress")])
    stubbed.add_client_error("stop_hyper_parameter_tuning_job", "ValidationException", "it is Completed")
    aws.look("Completed", [job(1, "Completed", 0.6)])
    ended = follow(kennel)
    assert ended.code == 0, ended.stderr
    assert "search dogs is Completed" in ended.stdout


def test_a_stop_that_is_not_watched_to_its_end_is_said(kennel, aws, stubbed, monkeypatch):
    interrupted(monkeypatch, 1)
    aws.describe()
    stubbed.add_response("stop_hyper_parameter_tuning_job", {}, {"HyperParameterTuningJobName": "dogs"})
    aws.look("Stopping", [job(1, "Stopping")])
    ended = kennel("stop", "dogs", "--on", "aws")
    assert ended.code == 130
    assert STOPPING in ended.stdout.splitlines()


# What AWS answers instead


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            client_error("ExpiredTokenException", "The security token is expired", "List"),
            "AWS does not accept the credentials (The security token is expired); log in again",
        ),
        (client_error("ThrottlingException", "Rate exceeded", "List"), "Rate exceeded"),
        (client_error("AccessDeniedException", "no", "List"), "kennel may not do sagemaker:List (no); give it to"),
        (EndpointConnectionError(endpoint_url="https://api"), "SageMaker does not answer: Could not connect"),
    ],
    ids=["expired", "throttled", "forbidden", "offline"],
)
def test_a_search_that_can_no_longer_be_asked_for_goes_on_and_that_is_said(kennel, monkeypatch, error, sentence):
    def lose(*arguments):
        raise error

    monkeypatch.setattr(following, "follow_search", lose)
    ended = kennel("tune", "--on", "aws", *PHOTOS, *RATE, "--name", "dogs")
    assert ended.code == 1
    assert ended.stderr.startswith(f"kennel: {sentence}")
    assert ended.stderr.endswith(f"; {GOES_ON}\n")


def test_credentials_that_expire_between_two_looks_are_said(kennel, aws, stubbed):
    aws.describe()
    aws.look("InProgress", [job(1, "InProgress")])
    stubbed.add_client_error("describe_hyper_parameter_tuning_job", "ExpiredTokenException", "it is expired")
    ended = follow(kennel)
    assert ended.code == 1
    assert ended.stderr == (
        "kennel: AWS does not accept the credentials (it is expired); log in again: `aws sso login`, or set new keys; "
        f"{GOES_ON}\n"
    )


# Listing


def test_jobs_and_searches_are_listed_newest_first(kennel, aws, stubbed):
    asked = {"SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": 20}
    counters = {"Completed": 3, "InProgress": 1, "RetryableError": 0, "NonRetryableError": 1, "Stopped": 0}
    one = {
        "HyperParameterTuningJobName": "dogs",
        "HyperParameterTuningJobArn": ARN,
        "HyperParameterTuningJobStatus": "InProgress",
        "Strategy": "Random",
        "CreationTime": BEGAN,
        "TrainingJobStatusCounters": counters,
        "ObjectiveStatusCounters": {},
    }
    stubbed.add_response("list_training_jobs", {"TrainingJobSummaries": []}, asked)
    stubbed.add_response("list_hyper_parameter_tuning_jobs", {"HyperParameterTuningJobSummaries": [one]}, asked)
    stubbed.add_response("list_transform_jobs", {"TransformJobSummaries": []}, asked)
    newest = {"SortBy": "CreationTime", "SortOrder": "Descending"}
    stubbed.add_response("list_endpoints", {"Endpoints": []}, newest)
    ended = kennel("jobs", "--on", "aws")
    assert ended.code == 0, ended.stderr
    [row] = [line for line in ended.stdout.splitlines() if "dogs" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")][1:3] == ["InProgress", "Random"]
    assert row.rstrip(" │").endswith("5")


# A whole search in one job


def small_summary():
    trials = [
        Trial(1, "Completed", {"learning_rate": "0.1"}, objective=0.7, seconds=3.0, curve=[0.6, 0.7]),
        Trial(2, "Completed", {"learning_rate": "0.01"}, objective=0.9, seconds=3.0, curve=[0.8, 0.9]),
    ]
    ranges = {"learning_rate": {"low": 1e-5, "high": 0.1, "scaling": "Logarithmic"}}
    static = {"epochs": "2", "weights": "none"}
    return Summary("dogs", "Completed", "Bayesian", "valid_accuracy", True, 6.5, static, ranges, trials)


def put_output(s3, tmp_path, prefix=""):
    """Put what the job leaves in output/data into S3, packed as the service does."""
    folder = tmp_path / "output"
    folder.mkdir()
    screen.write_files(folder, small_summary())
    (folder / "test_classes.csv").write_text("class\n")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for file in folder.iterdir():
            tar.add(file, prefix + file.name)
    s3.put_object(Bucket=BUCKET, Key="training/dogs/output/output.tar.gz", Body=packed.getvalue())


def test_a_search_in_one_job_is_one_training_request_that_holds_it_a2_1(kennel, sagemaker):
    ended = kennel(*ONE_JOB, "--jobs", "20", "--early-stopping", "--spot", "--isolated", "--dry-run")
    assert ended.code == 0, ended.stderr
    request = json.loads(ended.stdout)
    validate("CreateTrainingJob", request)
    values = request["HyperParameters"]
    assert len(values["search"]) <= 2500
    assert {name: value for name, value in values.items() if name != "search"} == {"epochs": "2", "weights": "none"}
    plan = Plan(parse_ranges([RATE[1]], []), jobs=20, early_stopping=True)
    assert parse_search(values["search"]) == tuning_config(plan)
    assert request["AlgorithmSpecification"]["MetricDefinitions"] == metric_definitions()
    assert request["EnableManagedSpotTraining"] is request["EnableNetworkIsolation"] is True
    assert sagemaker.list_training_jobs()["TrainingJobSummaries"] == []


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_fits_into_one_job_a2_1(kennel, preset):
    ended = kennel("tune", "--on", "aws", *PHOTOS, "--preset", preset, "--in-one-job", "--dry-run")
    assert ended.code == 0, ended.stderr
    assert parse_search(json.loads(ended.stdout)["HyperParameters"]["search"])["Strategy"] == "Bayesian"


def test_the_name_of_a_search_in_one_job_may_be_as_long_as_a_jobs(kennel):
    ended = kennel(*ONE_JOB, "--name", "d" * 63, "--dry-run")
    assert ended.code == 0, ended.stderr
    assert json.loads(ended.stdout)["TrainingJobName"] == "d" * 63


@pytest.mark.parametrize("prefix", ["", "./"])
def test_a_search_in_one_job_is_followed_and_its_summary_fetched(kennel, s3, sagemaker, logs, tmp_path, home, prefix):
    put_output(s3, tmp_path, prefix)
    write_log(logs, ["trial=1; epoch=1 valid_accuracy=0.6000;", "trial=2; status=Completed; objective=0.9;"])
    ended = kennel(*ONE_JOB)
    assert ended.code == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[:5] == [
        "search dogs",
        f"its page: {PAGE.replace('hyper-tuning-jobs', 'jobs')}",
        "trial=1; epoch=1 valid_accuracy=0.6000;",
        "trial=2; status=Completed; objective=0.9;",
        "job dogs is Completed after 0 s",  # moto says no time
    ]
    assert f"the model:     s3://{BUCKET}/training/dogs/output/model.tar.gz" in lines
    assert "the best:      trial 2, valid_accuracy 0.9000" in lines
    folder = home / "tuning" / "dogs"
    assert {file.name for file in folder.iterdir()} == {"tuning.json", "tuning.csv", "tuning.md", "tuning.html"}
    assert "search" in sagemaker.describe_training_job(TrainingJobName="dogs")["HyperParameters"]
    assert searches(sagemaker) == []


def test_a_search_in_one_job_that_was_left_alone_is_shown_later(kennel, s3, tmp_path, home):
    assert kennel(*ONE_JOB, "--detach").stdout.startswith("search dogs\n")
    put_output(s3, tmp_path)
    ended = follow(kennel)
    assert ended.code == 0, ended.stderr
    assert "the best:      trial 2, valid_accuracy 0.9000" in ended.stdout
    assert read_summary(home / "tuning" / "dogs") == small_summary()


def test_a_search_in_one_job_that_left_nothing_is_one_sentence(kennel, s3):
    ended = kennel(*ONE_JOB)
    assert ended.code == 1
    archive = f"s3://{BUCKET}/training/dogs/output/output.tar.gz"
    assert ended.stderr == f"kennel: the job dogs has left no summary of its search ({archive} is missing)\n"


def test_a_summary_that_cannot_be_fetched_now_can_be_fetched_later(kennel, monkeypatch):
    def refuse(*arguments):
        raise AwsError("S3 does not answer")

    monkeypatch.setattr(AwsPlatform, "fetch", refuse)
    ended = kennel(*ONE_JOB)
    assert ended.code == 1
    again = "`kennel tune --resume dogs --on aws` fetches what the search found"
    assert ended.stderr == f"kennel: S3 does not answer; {again}\n"


def test_ctrl_c_leaves_a_search_in_one_job_alone(kennel, monkeypatch):
    monkeypatch.setattr("kennel_cli.follow.follow_training", interrupt)
    ended = kennel(*ONE_JOB)
    assert ended.code == 130
    assert JOB_GOES_ON in ended.stdout.splitlines()


def test_a_network_that_goes_away_leaves_a_search_in_one_job_alone(kennel, monkeypatch):
    def lose(*arguments):
        raise EndpointConnectionError(endpoint_url="https://api")

    monkeypatch.setattr("kennel_cli.follow.follow_training", lose)
    ended = kennel(*ONE_JOB)
    assert ended.code == 1
    assert ended.stderr.startswith("kennel: SageMaker does not answer: ")
    assert ended.stderr.endswith(f"; {JOB_GOES_ON}\n")


# Training with what was found


@pytest.fixture
def found(home):
    """The summary of the search `dogs` on this machine."""
    folder = home / "tuning" / "dogs"
    folder.mkdir(parents=True)
    write_summary(folder, small_summary())


def train(kennel, *arguments):
    ended = kennel("train", "--on", "aws", "--data", "s3://photos/dogs", "--dry-run", *arguments)
    assert ended.code == 0, ended.stderr
    return json.loads(ended.stdout)


def test_a_job_takes_the_best_hyperparameters_of_a_search(kennel, found):
    best = {"epochs": "2", "weights": "none", "learning_rate": "0.01"}
    assert train(kennel, "--from-tuning", "dogs")["HyperParameters"] == best


def test_options_win_over_what_a_search_found(kennel, found, resnet18_weights, monkeypatch):
    monkeypatch.setenv("KENNEL_BUCKET", BUCKET)
    more = ("--learning-rate", "0.5", "--backbone", "resnet18")
    values = train(kennel, "--from-tuning", "dogs", *more)["HyperParameters"]
    assert values == {"epochs": "2", "weights": "none", "learning_rate": "0.5", "backbone": "resnet18"}
    request = train(kennel, "--from-tuning", "dogs", *more, "--weights", resnet18_weights)
    assert "weights" not in request["HyperParameters"]  # `none` would leave the file unread
    assert [channel["ChannelName"] for channel in request["InputDataConfig"]] == ["training", "pretrained"]


def test_a_summary_that_is_elsewhere_is_one_sentence(kennel, home):
    ended = kennel("train", "--on", "aws", "--data", "s3://photos/dogs", "--from-tuning", "dogs", "--dry-run")
    assert ended.code == 1
    assert f"there is no summary of a search dogs in {home}/tuning/dogs; `kennel tune --resume dogs --on aws`" in (
        ended.stderr
    )
