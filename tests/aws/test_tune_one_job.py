"""`kennel tune --on aws --in-one-job`: a whole search in one training job, as moto plays it."""

import io
import json
import tarfile

import pytest
from botocore.exceptions import EndpointConnectionError

from kennel.metrics import metric_definitions
from kennel.tuning.one_job import parse_search
from kennel.tuning.summary import read_summary
from kennel_cli.platforms.account import AwsError
from kennel_cli.platforms.aws import AwsPlatform
from kennel_cli.platforms.validation import validate
from kennel_cli.tune import screen
from kennel_cli.tune.plan import Plan, parse_ranges, tuning_config
from kennel_cli.tune.presets import PRESETS
from tests.aws.conftest import BUCKET, write_log
from tests.aws.searches import PAGE, PHOTOS, RATE, follow, interrupt, searches, small_summary

ONE_JOB = ("tune", "--on", "aws", *PHOTOS, *RATE, "--static", "epochs=2", "--in-one-job", "--name", "dogs")
JOB_GOES_ON = (
    "the job goes on; `kennel tune --resume dogs --on aws` follows it again, `kennel stop dogs --on aws` ends it"
)


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
