"""`kennel register`: a job's model becomes a version of a group, on AWS as moto plays it, and here."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError
from moto.sagemaker.models import sagemaker_backends

from kennel_cli.platforms.aws import AwsPlatform
from kennel_cli.platforms.local import LocalSageMaker
from kennel_cli.platforms.validation import validate
from tests.aws.conftest import BUCKET, REGION, SETTINGS, finished_job, keys

METRICS = [
    {"MetricName": "test_accuracy", "Value": 0.91, "Timestamp": 0},
    {"MetricName": "test_loss", "Value": 0.3, "Timestamp": 0},
]


@pytest.fixture
def job(sagemaker, s3):
    """A finished training job called dogs, whose metrics moto makes up: they are put right here."""
    name = finished_job(sagemaker)
    sagemaker_backends["123456789012"][REGION].training_jobs[name].final_metric_data_list = METRICS
    return name


def test_a_model_is_registered_with_its_metrics_and_waits_for_approval(kennel, sagemaker, s3, job):
    for _ in range(2):
        ended = kennel("register", job, "--group", "breeds", "--on", "aws", "--require", "test_accuracy>=0.85")
        assert ended.code == 0, ended.stderr
    assert "PendingManualApproval" in ended.stdout
    versions = sagemaker.list_model_packages(ModelPackageGroupName="breeds")["ModelPackageSummaryList"]
    assert len(versions) == 2
    package = sagemaker.describe_model_package(ModelPackageName=versions[0]["ModelPackageArn"])
    [container] = package["InferenceSpecification"]["Containers"]
    assert container["Image"] == SETTINGS["KENNEL_IMAGE"]
    assert container["ModelDataUrl"] == f"s3://{BUCKET}/training/dogs/output/model.tar.gz"
    uri = package["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"]
    key = uri.removeprefix(f"s3://{BUCKET}/")
    assert key in keys(s3)
    assert json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())["test_accuracy"] == 0.91
    assert package["CustomerMetadataProperties"]["test_accuracy"] == "0.91"


def test_a_model_that_is_not_good_enough_is_not_registered(kennel, sagemaker, job):
    arguments = ("--require", "test_accuracy>=0.95", "--require", "test_loss<0.2")
    ended = kennel("register", job, "--group", "breeds", "--on", "aws", *arguments)
    assert ended.code == 1
    assert "test_accuracy is 0.9100, not >=0.95; test_loss is 0.3000, not <0.2" in ended.stderr
    assert sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"] == []


@pytest.mark.parametrize(
    ("requirement", "sentence"),
    [
        ("good", "--require is 'good'; it should be like test_accuracy>=0.85"),
        ("test_accuracy>=1-", "--require is 'test_accuracy>=1-'"),
        ("f1>=0.5", "--require asks for f1, and the job's metrics are: test_accuracy, test_loss"),
    ],
)
def test_a_requirement_that_is_none_is_refused(kennel, job, requirement, sentence):
    ended = kennel("register", job, "--group", "breeds", "--on", "aws", "--require", requirement)
    assert (ended.code, sentence in ended.stderr) == (1, True)


def test_a_job_that_cannot_be_asked_for_is_not_said_to_be_missing(kennel, platform, stubbed, monkeypatch):
    monkeypatch.setattr(AwsPlatform, "sagemaker", platform.sagemaker)
    stubbed.add_client_error("describe_training_job", "ExpiredTokenException", "The security token is expired")
    ended = kennel("register", "dogs", "--group", "breeds", "--on", "aws")
    assert ended.code == 1
    assert "log in again" in ended.stderr
    assert "neither a training job" not in ended.stderr


def test_a_dry_run_prints_a_valid_request(kennel, sagemaker, job):
    ended = kennel("register", job, "--group", "breeds", "--on", "aws", "--approve", "--dry-run")
    request = json.loads(ended.stdout)["CreateModelPackage"]
    validate("CreateModelPackage", request)
    assert request["ModelApprovalStatus"] == "Approved"
    assert sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"] == []


def test_an_upload_prints_the_uri_that_a_job_is_given(kennel, s3, colour_images):
    ended = kennel("upload", colour_images)
    assert ended.code == 0, ended.stderr
    uri = ended.stdout.strip()
    assert uri.startswith(f"s3://{BUCKET}/kennel/data/")
    assert any(key.endswith("/train/red/0.png") for key in keys(s3))
    assert "uploaded 42 of 42 files" in ended.stderr
    assert "uploaded 0 of 42 files" in kennel("upload", colour_images).stderr
    missing = kennel("upload", "/no/such/folder")
    assert (missing.code, "there is no /no/such/folder" in missing.stderr) == (1, True)


# On this machine


def test_this_machines_registry_counts_versions_and_takes_approvals(tmp_path):
    sagemaker = LocalSageMaker(tmp_path)
    sagemaker.create_model_package_group(ModelPackageGroupName="breeds")
    for version in (1, 2):
        arn = sagemaker.create_model_package(ModelPackageGroupName="breeds")["ModelPackageArn"]
        assert arn.endswith(f":model-package/breeds/{version}")
    sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    listed = sagemaker.list_model_packages(ModelPackageGroupName="breeds")["ModelPackageSummaryList"]
    assert [(p["ModelPackageVersion"], p["ModelApprovalStatus"]) for p in listed] == [
        (2, "Approved"),
        (1, "PendingManualApproval"),
    ]
    [approved] = sagemaker.list_model_packages(ModelPackageGroupName="breeds", ModelApprovalStatus="Approved")[
        "ModelPackageSummaryList"
    ]
    assert approved["ModelPackageArn"] == arn
    oldest = {"SortBy": "CreationTime", "SortOrder": "Ascending", "MaxResults": 1}
    first = sagemaker.list_model_packages(ModelPackageGroupName="breeds", **oldest)
    assert [package["ModelPackageVersion"] for package in first["ModelPackageSummaryList"]] == [1]
    assert "NextToken" in first
    with pytest.raises(ClientError, match="without ModelPackageGroupName is not available locally"):
        sagemaker.list_model_packages()
    with pytest.raises(ClientError, match="already exists"):
        sagemaker.create_model_package_group(ModelPackageGroupName="breeds")
    with pytest.raises(ClientError, match="model package group cats does not exist"):
        sagemaker.create_model_package(ModelPackageGroupName="cats")


def test_models_registered_at_once_are_as_many_versions(tmp_path):
    LocalSageMaker(tmp_path).create_model_package_group(ModelPackageGroupName="breeds")

    def register(number):
        package = {"ModelPackageGroupName": "breeds", "ModelPackageDescription": str(number)}
        return LocalSageMaker(tmp_path).create_model_package(**package)["ModelPackageArn"]

    with ThreadPoolExecutor(8) as pool:
        arns = list(pool.map(register, range(40)))
    found = {arn: LocalSageMaker(tmp_path).describe_model_package(ModelPackageName=arn) for arn in arns}
    assert {package["ModelPackageVersion"] for package in found.values()} == set(range(1, 41))
    assert [found[arn]["ModelPackageDescription"] for arn in arns] == [str(number) for number in range(40)]
