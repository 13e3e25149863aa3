"""An AWS account that moto plays, and the command `kennel` in this process, where moto can see it."""

import sys
from dataclasses import dataclass

import boto3
import pytest
from moto import mock_aws

from kennel_cli import cli
from kennel_cli.platforms.aws import AwsPlatform

REGION = "eu-west-1"
BUCKET = f"sagemaker-{REGION}-123456789012"  # moto's account; the name that SageMaker's own tools give
SETTINGS = {
    "AWS_REGION": REGION,
    "KENNEL_ROLE": "arn:aws:iam::123456789012:role/kennel",
    "KENNEL_IMAGE": f"123456789012.dkr.ecr.{REGION}.amazonaws.com/kennel@sha256:{'0' * 64}",
    "KENNEL_TAGS": "team=vision, project=dogs",
}
_OTHERS = ("KENNEL_BUCKET", "KENNEL_TRAINING_INSTANCE", "KENNEL_ENDPOINT_INSTANCE")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def account(monkeypatch):
    """An AWS account with nothing in it."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield


@pytest.fixture
def settings(monkeypatch):
    """The environment of somebody who trains on AWS."""
    for name in _OTHERS:
        monkeypatch.delenv(name, raising=False)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def s3(account):
    """An S3 client; the account's bucket is there."""
    client = boto3.client("s3", region_name=REGION)
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    return client


@pytest.fixture
def kennel(account, settings, monkeypatch, capsys, home):
    """Run the command and return how it ended; it does not wait between two looks at a job."""
    monkeypatch.setattr(AwsPlatform, "poll", 0.0)
    monkeypatch.setattr(AwsPlatform, "log_delay", 0.0)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["kennel", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        written = capsys.readouterr()
        return Ended(ended.value.code or 0, written.out, written.err)

    return run
