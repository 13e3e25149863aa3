"""An AWS account that moto's server plays over HTTP, and the command `kennel` in this process."""

import functools
import io
import os
import sys
import threading
import time
from dataclasses import dataclass

import boto3
import botocore.session
import pytest
import urllib3
from botocore.stub import Stubber
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from rich.console import Console
from werkzeug.serving import WSGIRequestHandler, make_server

from kennel_cli import cli
from kennel_cli.platforms.aws import AwsPlatform
from kennel_cli.platforms.cloudwatch import GROUP
from kennel_cli.tune import follow

REGION = "eu-west-1"
BUCKET = f"sagemaker-{REGION}-123456789012"  # moto's account; the name that SageMaker's own tools give
SETTINGS = {
    "AWS_REGION": REGION,
    "KENNEL_ROLE": "arn:aws:iam::123456789012:role/kennel",
    "KENNEL_IMAGE": f"123456789012.dkr.ecr.{REGION}.amazonaws.com/kennel@sha256:{'0' * 64}",
    "KENNEL_TAGS": "team=vision, project=dogs",
}
NOW = int(time.time() * 1000)  # milliseconds, as events of a log have them


@pytest.fixture(scope="session", autouse=True)
def read_once():
    """Let all sessions of boto3 share what they read of the services' models; it takes long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        yield


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Service:
    """AWS on this machine."""

    address: str
    asked: list[tuple[str, str, int]]  # method, path and status of each request since the test began


@pytest.fixture(scope="session")
def aws_server():
    """moto's server, in a thread of this process, where tests can look at what it remembers."""
    play, asked = DomainDispatcherApplication(create_backend_app), []

    def application(environ, start_response):
        def start(status, *more):
            asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], int(status[:3])))
            return start_response(status, *more)

        return play(environ, start)

    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=QuietHandler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield Service(f"http://127.0.0.1:{server.server_port}", asked)
    server.shutdown()
    thread.join()


class QuietHandler(WSGIRequestHandler):
    """Keeps connections open, as AWS does, and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log(self, *arguments):
        pass


@pytest.fixture
def account(aws_server, monkeypatch):
    """An AWS account with nothing in it."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_server.address)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # else one test's settings are the next one's
    assert urllib3.request("POST", f"{aws_server.address}/moto-api/reset").status == 200
    aws_server.asked.clear()
    return aws_server


@pytest.fixture
def settings(account, monkeypatch, tmp_path):
    """The environment of somebody who trains on AWS, in a folder without a kennel.toml."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("KENNEL_"):
            monkeypatch.delenv(name)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def s3(account):
    """An S3 client; the account's bucket is there."""
    client = boto3.client("s3", region_name=REGION)
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    return client


@pytest.fixture
def platform(account, settings):
    """The platform of SETTINGS, which says nothing."""
    return AwsPlatform(Console(file=io.StringIO()))


@pytest.fixture
def sagemaker(account):
    return boto3.client("sagemaker", region_name=REGION)


@pytest.fixture
def logs(account):
    """A CloudWatch Logs client; the group of training jobs is there."""
    client = boto3.client("logs", region_name=REGION)
    client.create_log_group(logGroupName=GROUP)
    return client


@pytest.fixture
def job(sagemaker):
    """A finished training job called dogs; moto's jobs end at once."""
    return finished_job(sagemaker)


@pytest.fixture
def stubbed(platform):
    """The platform with a SageMaker client that answers what it is told to, in order, and checks what it is asked."""
    with Stubber(platform.sagemaker) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def kennel(account, settings, monkeypatch, capsys, home):
    """Run the command and return how it ended; it does not wait between two looks at a job."""
    monkeypatch.setattr(AwsPlatform, "poll", 0.0)
    monkeypatch.setattr(AwsPlatform, "log_delay", 0.0)
    monkeypatch.setattr(follow, "_POLL_AWS", 0.0)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["kennel", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        written = capsys.readouterr()
        return Ended(ended.value.code or 0, written.out, written.err)

    return run


def finished_job(sagemaker, **more):
    """Make a training job called dogs, which moto has completed; `more` are members of its request."""
    sagemaker.create_training_job(
        TrainingJobName="dogs",
        AlgorithmSpecification={"TrainingImage": SETTINGS["KENNEL_IMAGE"], "TrainingInputMode": "File"},
        RoleArn=SETTINGS["KENNEL_ROLE"],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/training"},
        ResourceConfig={"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 50},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
        **more,
    )
    return "dogs"


def keys(s3):
    return sorted(entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []))


def described(status, **more):
    """Return a description of the job, as short as the service's model allows."""
    return {
        "TrainingJobName": "dogs",
        "TrainingJobArn": f"arn:aws:sagemaker:{REGION}:123456789012:training-job/dogs",
        "ModelArtifacts": {"S3ModelArtifacts": f"s3://{BUCKET}/training/dogs/output/model.tar.gz"},
        "TrainingJobStatus": status,
        "SecondaryStatus": "Training" if status == "InProgress" else status,
        "StoppingCondition": {},
        "CreationTime": 0,
        **more,
    }


def write_log(logs, lines, stream="dogs/algo-1-1", after=0, group=GROUP):
    """Write lines as the service does, one an event, a millisecond apart, `after` milliseconds after the others."""
    if not logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=stream)["logStreams"]:
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
    events = [{"timestamp": NOW + after + number, "message": line} for number, line in enumerate(lines)]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
