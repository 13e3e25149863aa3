"""`kennel transform --on aws`, as moto plays it, and botocore's stubber where moto's jobs end at once."""

import csv
import json
from datetime import UTC, datetime

import pytest

from kennel_cli.platforms.aws import AwsPlatform
from kennel_cli.platforms.validation import validate
from kennel_cli.requests import GPU_BATCH_AMI
from kennel_cli.transform import follow
from tests.aws.conftest import BUCKET, REGION, keys
from tests.aws.searches import interrupt

ANSWER = {"labels": ["beagle", "boxer"], "predictions": [[{"label": "boxer", "index": 1, "probability": 0.75}]]}


@pytest.fixture
def answers(s3):
    """What the service has written for a job called batch."""
    for name in ("red/0.png", "green/0.png"):
        s3.put_object(Bucket=BUCKET, Key=f"transform/batch/{name}.out", Body=json.dumps(ANSWER))


@pytest.fixture
def pictures(colour_images, tmp_path):
    """A folder with two pictures."""
    for name in ("red", "green"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        picture = (colour_images / "test" / name / "0.png").read_bytes()
        (tmp_path / "pictures" / name / "0.png").write_bytes(picture)
    return tmp_path / "pictures"


def transform(kennel, *arguments):
    return kennel("transform", "--on", "aws", "--name", "batch", *arguments)


def dry_run(kennel, *arguments):
    """Return the job's request, and the model's, both valid."""
    ended = transform(kennel, "--dry-run", *arguments)
    assert ended.code == 0, ended.stderr
    requests = json.loads(ended.stdout)
    for operation, request in requests.items():
        validate(operation, request)
    return requests["CreateTransformJob"], requests["CreateModel"]


def described(status, **more):
    return {
        "TransformJobName": "batch",
        "TransformJobArn": f"arn:aws:sagemaker:{REGION}:123456789012:transform-job/batch",
        "TransformJobStatus": status,
        "ModelName": "batch",
        "TransformInput": {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/in/"}}},
        "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/transform/batch"},
        "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2},
        "CreationTime": 0,
        **more,
    }


def test_a_job_is_sent_followed_and_its_answers_joined_c4_4(kennel, s3, sagemaker, job, pictures, answers, tmp_path):
    ended = transform(kennel, pictures, "--model", job, "--to", tmp_path / "table.csv")
    assert ended.code == 0, ended.stderr
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [(line["picture"], line["label"]) for line in lines] == [("green/0.png", "boxer"), ("red/0.png", "boxer")]
    assert f"its page: https://{REGION}.console.aws.amazon.com" in ended.stdout
    request = sagemaker.describe_transform_job(TransformJobName="batch")
    uri = request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
    assert f"{uri.removeprefix(f's3://{BUCKET}/')}red/0.png" in keys(s3)
    assert request["TransformOutput"]["S3OutputPath"] == f"s3://{BUCKET}/transform/batch"
    assert sagemaker.list_models()["Models"] == []
    assert "batch" in kennel("jobs", "--on", "aws").stdout


def test_a_picture_without_an_answer_is_said(kennel, s3, job, pictures, answers, tmp_path):
    s3.delete_object(Bucket=BUCKET, Key="transform/batch/red/0.png.out")
    ended = transform(kennel, pictures, "--model", job, "--to", tmp_path / "table.csv")
    assert ended.code == 1
    assert "1 of 2 pictures have no answer" in ended.stderr
    assert "red/0.png,,,no answer" in (tmp_path / "table.csv").read_text()


def test_requests_are_complete_c1_6_c4_2_c4_6(kennel, s3, job, random_model, pictures, monkeypatch):
    request, model = dry_run(kennel, pictures, "--model", random_model)
    assert model["PrimaryContainer"]["ModelDataUrl"].endswith("/model.tar.gz")  # it takes no folder
    assert request["BatchStrategy"] == "SingleRecord"
    assert "MaxPayloadInMB" not in request  # the container's own
    assert {"Key": "team", "Value": "vision"} in request["Tags"]
    assert keys(s3) == []

    monkeypatch.setenv("KENNEL_KMS_KEY", "alias/dogs")
    (pictures / "large.jpg").write_bytes(bytes(7 * 2**20))
    gpu = ("--instance-type", "ml.g5.xlarge", "--instance-count", "2")
    request, model = dry_run(kennel, pictures, "--model", job, *gpu)
    assert model["PrimaryContainer"]["ModelDataUrl"] == f"s3://{BUCKET}/training/dogs/output/model.tar.gz"
    assert request["MaxPayloadInMB"] == 7
    assert request["TransformResources"] == {
        "InstanceType": "ml.g5.xlarge",
        "InstanceCount": 2,
        "TransformAmiVersion": GPU_BATCH_AMI,
    }
    assert request["TransformOutput"]["KmsKeyId"] == "alias/dogs"


def test_a_prefix_of_the_bucket_is_a_folder(kennel, job):
    for uri in ("s3://photos/new", "s3://photos/new/"):
        request, _ = dry_run(kennel, uri, "--model", job, "--max-payload", "20")
        assert request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"] == "s3://photos/new/"
        assert request["MaxPayloadInMB"] == 20


def test_an_earlier_job_is_followed_to_its_end_and_what_it_cost_is_said(
    kennel, platform, stubbed, s3, answers, monkeypatch, tmp_path
):
    monkeypatch.setattr(AwsPlatform, "sagemaker", platform.sagemaker)
    s3.put_object(Bucket=BUCKET, Key="in/red/0.png", Body=b"")
    ran = {"TransformStartTime": datetime.fromtimestamp(0, UTC), "TransformEndTime": datetime.fromtimestamp(900, UTC)}
    stubbed.add_response("describe_transform_job", described("InProgress"))
    stubbed.add_response("describe_transform_job", described("Failed", FailureReason="ClientError: no", **ran))
    stubbed.add_response("delete_model", {}, {"ModelName": "batch"})
    ended = kennel("transform", "--again", "batch", "--on", "aws", "--to", tmp_path / "t.csv")
    assert ended.code == 1
    assert "the job batch is Failed: 0 of 1 pictures have no answer; ClientError: no" in ended.stderr
    assert "batch is InProgress after 0 s" in ended.stdout
    assert "900 s of 2 × ml.m5.xlarge" in ended.stdout
    assert "red/0.png,boxer" in (tmp_path / "t.csv").read_text()


def test_a_job_that_ends_while_ctrl_c_asks_whether_to_stop_it_is_shown(
    kennel, platform, stubbed, s3, answers, monkeypatch, tmp_path
):
    monkeypatch.setattr(AwsPlatform, "sagemaker", platform.sagemaker)
    monkeypatch.setattr(follow.time, "sleep", interrupt)
    monkeypatch.setattr(follow, "wants_to_stop", lambda what: True)
    s3.put_object(Bucket=BUCKET, Key="in/red/0.png", Body=b"")
    stubbed.add_response("describe_transform_job", described("InProgress"))
    stubbed.add_client_error("stop_transform_job", "ValidationException", "the job is in status Completed.")
    stubbed.add_response("describe_transform_job", described("Completed"))
    stubbed.add_response("delete_model", {}, {"ModelName": "batch"})
    ended = kennel("transform", "--again", "batch", "--on", "aws", "--to", tmp_path / "t.csv")
    assert ended.code == 0, ended.stderr
    assert "red/0.png,boxer" in (tmp_path / "t.csv").read_text()


def test_a_job_is_stopped(kennel, platform, stubbed, monkeypatch, s3):
    monkeypatch.setattr(AwsPlatform, "sagemaker", platform.sagemaker)
    stubbed.add_client_error("describe_hyper_parameter_tuning_job", "ResourceNotFound")
    stubbed.add_response("describe_transform_job", described("InProgress"))
    stubbed.add_response("stop_transform_job", {}, {"TransformJobName": "batch"})
    for status in ("Stopping", "Stopped"):
        stubbed.add_response("describe_transform_job", described(status))
    ended = kennel("stop", "batch", "--on", "aws")
    assert ended.code == 0, ended.stderr
    assert "batch is Stopped" in ended.stdout
