"""`kennel cost` on AWS as moto plays it."""

import re

import boto3
import pytest
from moto.sagemaker.models import sagemaker_backends

from kennel_cli.operations.prices import Prices
from kennel_cli.platforms.validation import service_model
from tests.aws.conftest import REGION
from tests.aws.endpoints import IMAGE, ROLE, make_endpoint

TIME = {"MaxRuntimeInSeconds": 3600}
OUTPUT = {"S3OutputPath": "s3://photos/out"}


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """A folder without a kennel.toml, and a terminal that is wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("kennel_cli.operations.cost.console.width", 200, raising=False)


@pytest.fixture
def moto_state(account):
    """What moto keeps: its jobs are over as soon as they are made, and its endpoints in service."""
    return sagemaker_backends["123456789012"][REGION]


def train(sagemaker, moto_state, name="breeds", instance="ml.g4dn.xlarge", count=1, status="InProgress", **more):
    machines = {"InstanceType": instance, "InstanceCount": count, "VolumeSizeInGB": 50}
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        RoleArn=ROLE,
        OutputDataConfig=OUTPUT,
        ResourceConfig=machines,
        StoppingCondition=TIME,
        **more,
    )
    job = moto_state.training_jobs[name]
    job.training_job_status = status
    return job


def transform(sagemaker, moto_state, status="InProgress"):
    source = {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://photos/in"}}}
    sagemaker.create_transform_job(
        TransformJobName="photos",
        ModelName="dogs",
        TransformInput=source,
        TransformOutput=OUTPUT,
        TransformResources={"InstanceType": "ml.m5.xlarge", "InstanceCount": 2},
    )
    moto_state.transform_jobs["photos"].transform_job_status = status


def rows(ended):
    """Return the cells of the table, row by row."""
    assert ended.code == 0, ended.stderr
    lines = [line for line in ended.stdout.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_where_nothing_runs_that_is_said(kennel):
    assert kennel("cost").stdout == "nothing runs in eu-west-1\n"


def test_all_that_runs_is_listed_with_what_it_costs(kennel, sagemaker, moto_state):
    make_endpoint(sagemaker, instance="ml.m5.xlarge", count=2)
    make_endpoint(sagemaker, name="queue", instance="ml.g4dn.4xlarge", asynchronous=True)
    make_endpoint(sagemaker, name="rare", serverless={"MemorySizeInMB": 4096, "MaxConcurrency": 8})
    train(sagemaker, moto_state)
    transform(sagemaker, moto_state)
    ended = kennel("cost")
    assert sorted(rows(ended)) == [
        ["breeds", "training job", "1 × ml.g4dn.xlarge", "$0.822", "2023-12", "$0.822"],
        ["dogs", "endpoint", "2 × ml.m5.xlarge", "$0.257", "2023-12", "$0.514"],
        ["photos", "batch transform job", "2 × ml.m5.xlarge", "$0.257", "2023-12", "$0.514"],
        ["queue", "asynchronous endpoint", "1 × ml.g4dn.4xlarge", "$1.678", "2023-12", "$1.678"],
        ["rare", "serverless endpoint, paid by the request", "", "", "", "$0"],
    ]
    assert "an hour of what runs in eu-west-1 costs $3.528" in ended.stdout


def test_a_type_without_a_known_price_is_unknown_and_the_total_says_at_least(kennel, sagemaker):
    make_endpoint(sagemaker)
    make_endpoint(sagemaker, name="large", instance="ml.m4.4xlarge")
    ended = kennel("cost")
    assert ["large", "endpoint", "1 × ml.m4.4xlarge", "unknown", "", "unknown"] in rows(ended)
    assert "an hour of what runs in eu-west-1 costs at least $0.257" in ended.stdout
    assert "no price is known of ml.m4.4xlarge (hosting); [prices] in kennel.toml, or --price-file" in ended.stdout


def test_what_has_ended_costs_nothing(kennel, sagemaker, moto_state):
    train(sagemaker, moto_state, status="Completed")
    make_endpoint(sagemaker)
    make_endpoint(sagemaker, name="failed")
    moto_state.endpoints["failed"].endpoint_status = "Failed"
    transform(sagemaker, moto_state, status="Stopped")
    assert [row[0] for row in rows(kennel("cost"))] == ["dogs"]


def test_the_instances_that_there_are_now_count_not_those_that_were_asked_for(kennel, sagemaker, moto_state):
    make_endpoint(sagemaker, asynchronous=True)
    moto_state.endpoints["dogs"].production_variants[0]["CurrentInstanceCount"] = 0
    ended = kennel("cost")
    assert rows(ended) == [["dogs", "asynchronous endpoint", "0 × ml.m5.xlarge", "", "", "$0"]]
    assert "costs $0\n" in ended.stdout


def test_an_endpoint_whose_configuration_is_gone_is_not_forgotten(kennel, sagemaker):
    make_endpoint(sagemaker)
    sagemaker.delete_endpoint_config(EndpointConfigName="dogs")
    ended = kennel("cost")
    assert rows(ended) == [["dogs", "endpoint", "", "unknown", "", "unknown"]]
    assert "no price is known of dogs (hosting)" in ended.stdout


def test_an_endpoint_that_is_updated_says_so(kennel, sagemaker, moto_state):
    make_endpoint(sagemaker)
    moto_state.endpoints["dogs"].endpoint_status = "Updating"
    assert rows(kennel("cost"))[0][1] == "endpoint, Updating"


def test_trials_are_told_by_their_search_and_spot_is_never_guessed(kennel, sagemaker, moto_state):
    job = train(sagemaker, moto_state, name="dogs-001", EnableManagedSpotTraining=True)
    job.tuning_job_arn = f"arn:aws:sagemaker:{REGION}:123456789012:hyper-parameter-tuning-job/dogs"
    ended = kennel("cost")
    assert rows(ended)[0][1:] == ["trial of dogs, spot", "1 × ml.g4dn.xlarge", "unknown", "", "unknown"]
    assert "no price is known of ml.g4dn.xlarge (spot)" in ended.stdout


def test_what_a_serverless_endpoint_keeps_ready_is_not_free(kennel, sagemaker):
    make_endpoint(sagemaker, serverless={"MemorySizeInMB": 4096, "MaxConcurrency": 8, "ProvisionedConcurrency": 2})
    ended = kennel("cost")
    assert rows(ended) == [["dogs", "serverless endpoint, 2 kept ready", "", "unknown", "", "unknown"]]
    assert "costs at least $0\n" in ended.stdout


@pytest.mark.parametrize("place", ["kennel.toml", "mine.toml"])
def test_your_own_prices_come_first(kennel, sagemaker, moto_state, tmp_path, place):
    text = '[prices]\n"ml.m5.xlarge" = 1\n"ml.g4dn.xlarge" = { hosting = 9.0, training = 0.5, spot = 0.123 }\n'
    (tmp_path / place).write_text(text)
    make_endpoint(sagemaker)
    train(sagemaker, moto_state)
    train(sagemaker, moto_state, name="cheap", EnableManagedSpotTraining=True)
    ended = kennel("cost", *(() if place == "kennel.toml" else ("--price-file", place)))
    assert {row[0]: row[3:] for row in rows(ended)} == {
        "dogs": ["$1", "yours", "$1"],
        "breeds": ["$0.5", "yours", "$0.5"],
        "cheap": ["$0.123", "yours", "$0.123"],
    }
    assert "costs $1.623" in ended.stdout


def test_a_kennel_toml_without_prices_is_well(kennel, sagemaker, tmp_path):
    (tmp_path / "kennel.toml").write_text('region = "eu-west-1"\n')
    make_endpoint(sagemaker)
    assert rows(kennel("cost"))[0][4] == "2023-12"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[prices", "mine.toml is not TOML"),
        ("a = 1", "mine.toml has no table [prices]; it should have one with"),
        ('[prices]\n"ml.m5.xlarge" = "cheap"', "mine.toml: the price of 'ml.m5.xlarge' is 'cheap'; it should be as"),
        ('[prices]\n"ml.m5.xlarge" = -1', "mine.toml: the price of 'ml.m5.xlarge' is -1; it should be as"),
        ('[prices]\n"ml.m5.xlarge" = { renting = 1 }', "the price of 'ml.m5.xlarge' is {'renting': 1}"),
        (None, "mine.toml cannot be read: No such file or directory; give a TOML file with [prices]"),
    ],
)
def test_a_file_of_prices_that_makes_no_sense_is_one_sentence(kennel, tmp_path, text, sentence):
    if text is not None:
        (tmp_path / "mine.toml").write_text(text)
    ended = kennel("cost", "--price-file", "mine.toml")
    assert ended.code == 1
    assert sentence in ended.stderr


@pytest.mark.parametrize("region", ["us-east-1", "us-east-2", "eu-west-1"])
def test_published_prices_are_of_instance_types_that_there_are_and_have_a_date(region):
    known = set(service_model("sagemaker").shape_for("ProductionVariantInstanceType").metadata["enum"])
    known |= set(service_model("sagemaker").shape_for("TrainingInstanceType").metadata["enum"])
    prices = Prices(region, None)._prices
    assert prices
    for (_, instance), price in prices.items():
        assert instance in known
        assert 0 < price.dollars < 100
        assert re.fullmatch(r"20\d\d(-\d\d)?", price.date)


def test_a_region_without_published_prices_knows_none(kennel, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    make_endpoint(boto3.client("sagemaker", region_name="eu-north-1"))
    assert rows(kennel("cost")) == [["dogs", "endpoint", "1 × ml.m5.xlarge", "unknown", "", "unknown"]]
