"""`kennel bench-endpoint --on aws`: each request is one call of boto3's runtime, and none is tried again."""

import io
import json

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from kennel_cli.load import targets
from kennel_cli.load.bodies import Body
from kennel_cli.load.targets import SageMakerTarget
from tests.aws.conftest import REGION


@pytest.fixture
def stubbed(monkeypatch, account):
    """The client that a target makes, which answers what it is told to, in order; and how it was configured."""
    client = boto3.client("sagemaker-runtime", region_name=REGION)
    configured = []

    def make(session, service, config):
        configured.append(config)
        return client

    monkeypatch.setattr(targets, "aws_client", make)
    with Stubber(client) as stubber:
        yield stubber, configured


def test_a_model_that_answers_and_one_that_fails(stubbed):
    stubber, configured = stubbed
    target = SageMakerTarget("dogs", "text/csv", 60.0, 16, boto3.Session(region_name=REGION))
    asked = {"EndpointName": "dogs", "Body": b"photo", "ContentType": "image/jpeg", "Accept": "text/csv"}
    stubber.add_response("invoke_endpoint", {"Body": StreamingBody(io.BytesIO(b"0.9,0.1"), 7)}, asked)
    stubber.add_client_error(
        "invoke_endpoint",
        "ModelError",
        "Received client error (415)",
        http_status_code=424,
        modeled_fields={"OriginalStatusCode": 415, "OriginalMessage": "not supported"},
    )
    stubber.add_client_error("invoke_endpoint", "ThrottlingException", "Rate exceeded", http_status_code=400)
    connection = target.connect()
    payload = target.encode(Body(b"photo", "image/jpeg"))
    assert [connection.post(payload)[::2] for _ in range(3)] == [
        (200, ""),
        (415, "not supported"),
        (400, "Rate exceeded"),
    ]
    assert target.place == f"AWS {REGION}"
    assert configured[0].retries == {"total_max_attempts": 1}
    assert configured[0].max_pool_connections == 16


def test_the_command_measures_an_endpoint(kennel, tmp_path):
    """moto answers whatever it is asked, in text."""
    output, body = tmp_path / "out", tmp_path / "body.json"
    body.write_text("[]")
    short = (
        "--pictures",
        body,
        "--clients",
        "2",
        "--duration",
        "5",
        "--warm-up",
        "0",
        "--max-requests",
        "40",
        "--output",
        output,
    )
    done = kennel("bench-endpoint", "dogs", "--on", "aws", *short)
    assert done.code == 0, done.stderr
    test = json.loads((output / "load.json").read_text())
    assert (test["target"], test["place"]) == ("dogs", f"AWS {REGION}")
    assert 0 < test["steps"][0]["answered"] <= 40
    assert kennel("bench-endpoint", "dogs", "--on", "aws", "--region", "us-east-1", *short).code == 0
    assert json.loads((output / "load.json").read_text())["place"] == "AWS us-east-1"


def test_without_credentials_it_is_one_sentence(kennel, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    done = kennel("bench-endpoint", "dogs", "--on", "aws", "--duration", "0.5")
    assert done.code == 1
    assert "there are no AWS credentials" in " ".join(done.stderr.split())
