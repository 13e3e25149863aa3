"""`kennel train --on aws`: AWS as moto plays it, and as botocore's stubber does where moto's jobs end at once.

Nothing here has asked AWS itself.
"""

import io
import json
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import ANY, Stubber
from moto.sagemaker.models import FakeTrainingJob
from rich.console import Console

from kennel.tuning.summary import write_summary
from kennel_cli import follow
from kennel_cli.platforms import uploads
from kennel_cli.platforms.account import AwsError
from kennel_cli.platforms.aws import AwsPlatform
from kennel_cli.platforms.cloudwatch import GROUP
from kennel_cli.platforms.validation import client_error, validate
from tests.aws.conftest import BUCKET, REGION, SETTINGS, described, keys, write_log
from tests.aws.searches import interrupt, small_summary

PAGE = f"https://{REGION}.console.aws.amazon.com/sagemaker/home?region={REGION}#/jobs/dogs"
MACHINE = {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 50}
SMALL = ("--on", "aws", "--weights", "none", "--backbone", "resnet18", "--epochs", "2")


def dry_run(kennel, *arguments):
    """Return the request that a dry run prints."""
    ended = kennel("train", "--dry-run", *SMALL, *arguments)
    assert ended.code == 0, ended.stderr
    request = json.loads(ended.stdout)
    validate("CreateTrainingJob", request)
    return request


# The request


def test_a_dry_run_prints_a_valid_request_and_touches_nothing(kennel, s3, sagemaker, colour_images):
    request = dry_run(kennel, "--data", colour_images, "--name", "dogs")
    assert request["TrainingJobName"] == "dogs"
    assert request["RoleArn"] == SETTINGS["KENNEL_ROLE"]
    assert request["AlgorithmSpecification"]["TrainingImage"] == SETTINGS["KENNEL_IMAGE"]
    assert request["HyperParameters"] == {"backbone": "resnet18", "epochs": "2", "weights": "none"}
    assert request["OutputDataConfig"] == {"S3OutputPath": f"s3://{BUCKET}/training"}
    [channel] = request["InputDataConfig"]
    assert channel["DataSource"]["S3DataSource"]["S3Uri"].startswith(f"s3://{BUCKET}/kennel/data/")
    assert keys(s3) == []
    assert sagemaker.list_training_jobs()["TrainingJobSummaries"] == []


def test_the_metrics_of_a_request_are_those_of_the_one_list_a6_4(kennel, colour_images):
    request = dry_run(kennel, "--data", colour_images)
    names = [metric["Name"] for metric in request["AlgorithmSpecification"]["MetricDefinitions"]]
    assert names == ["train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "test_loss", "test_accuracy"]


def test_a_spot_job_may_wait_longer_than_it_runs_and_has_a_place_for_checkpoints_a1_12(kennel, colour_images):
    request = dry_run(kennel, "--data", colour_images, "--name", "dogs", "--spot")
    stopping = request["StoppingCondition"]
    assert request["EnableManagedSpotTraining"] is True
    assert stopping["MaxWaitTimeInSeconds"] >= stopping["MaxRuntimeInSeconds"]
    assert request["CheckpointConfig"] == {"S3Uri": f"s3://{BUCKET}/checkpoints/dogs"}


def test_an_isolated_job_has_no_network_a6_6(kennel, colour_images):
    assert dry_run(kennel, "--data", colour_images, "--isolated")["EnableNetworkIsolation"] is True


def test_a_plain_job_is_neither_spot_nor_isolated_and_waits_for_nothing(kennel, colour_images):
    request = dry_run(kennel, "--data", colour_images)
    assert not {"EnableManagedSpotTraining", "EnableNetworkIsolation", "CheckpointConfig"} & set(request)
    assert "MaxWaitTimeInSeconds" not in request["StoppingCondition"]


def test_tags_are_those_of_the_settings(kennel, colour_images, monkeypatch):
    tags = [{"Key": "team", "Value": "vision"}, {"Key": "project", "Value": "dogs"}]
    assert dry_run(kennel, "--data", colour_images)["Tags"] == tags
    monkeypatch.delenv("KENNEL_TAGS")
    assert "Tags" not in dry_run(kennel, "--data", colour_images)


def test_the_instance_and_the_bucket_are_those_of_the_settings(kennel, monkeypatch):
    monkeypatch.setenv("KENNEL_BUCKET", "mine")
    monkeypatch.setenv("KENNEL_TRAINING_INSTANCE", "ml.g4dn.xlarge")
    request = dry_run(kennel, "--data", "s3://photos/dogs")
    assert request["ResourceConfig"]["InstanceType"] == "ml.g4dn.xlarge"
    assert request["OutputDataConfig"] == {"S3OutputPath": "s3://mine/training"}
    assert request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] == "s3://photos/dogs"


def test_a_local_dry_run_prints_a_valid_request_and_touches_nothing(kennel, colour_images, home):
    ended = kennel("train", "--dry-run", "--data", colour_images, "--weights", "none")
    assert ended.code == 0, ended.stderr
    validate("CreateTrainingJob", json.loads(ended.stdout))
    assert not home.exists()


def test_a_dry_run_with_a_bucket_asks_nobody_and_needs_no_credentials(kennel, colour_images, monkeypatch):
    monkeypatch.setenv("KENNEL_BUCKET", "mine")
    monkeypatch.setattr("kennel_cli.platforms.aws.aws_session", lambda region: pytest.fail("a session was made"))
    assert dry_run(kennel, "--data", colour_images)["OutputDataConfig"] == {"S3OutputPath": "s3://mine/training"}


# Mistakes


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("KENNEL_ROLE", "", "role is not set; put it into kennel.toml or KENNEL_ROLE: the ARN of the role"),
        ("KENNEL_ROLE", "kennel", "KENNEL_ROLE is 'kennel'; it should be the ARN of a role"),
        ("KENNEL_IMAGE", "", "image is not set; put it into kennel.toml or KENNEL_IMAGE: the URI of the image"),
        ("KENNEL_IMAGE", "kennel:latest", "KENNEL_IMAGE is 'kennel:latest'; it should be the URI of the image"),
        ("KENNEL_BUCKET", "s3://mine", "KENNEL_BUCKET is 's3://mine'; it should be the name of a bucket alone"),
        (
            "KENNEL_TRAINING_INSTANCE",
            "ml.toaster",
            "KENNEL_TRAINING_INSTANCE is 'ml.toaster'; it should be a type that",
        ),
        ("KENNEL_ENDPOINT_INSTANCE", "t2.nano", "KENNEL_ENDPOINT_INSTANCE is 't2.nano'; it should be a type that"),
        ("KENNEL_TAGS", "team", "KENNEL_TAGS is 'team'; it should be key=value pairs"),
        ("KENNEL_TAGS", "a=1,a=2", "KENNEL_TAGS is 'a=1,a=2'; it should be key=value pairs"),
        ("KENNEL_TAGS", "what?=1", "Member must satisfy regular expression pattern"),
        ("KENNEL_BUCKET", "nobodys", "there is no bucket nobodys; make it with `aws s3 mb s3://nobodys`"),
        ("AWS_REGION", "", "no AWS region is set; set AWS_REGION"),
        ("AWS_REGION", "eu-west-9", "AWS has no region 'eu-west-9' with SageMaker"),
        ("AWS_PROFILE", "nobody", "AWS cannot be used: The config profile (nobody) could not be found"),
    ],
)
def test_a_wrong_setting_is_one_sentence_and_exit_code_1(
    kennel, monkeypatch, colour_images, tmp_path, variable, value, sentence
):
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv(variable, value)
    ended = kennel("train", "--data", colour_images, *SMALL)
    assert ended.code == 1
    assert ended.stderr.startswith("kennel: ")
    assert sentence in ended.stderr
    assert ended.stdout == ""


def test_all_wrong_settings_are_told_at_once(kennel, monkeypatch, colour_images):
    monkeypatch.delenv("KENNEL_ROLE")
    monkeypatch.delenv("KENNEL_IMAGE")
    said = kennel("train", "--data", colour_images, *SMALL).stderr
    assert "role is not set" in said
    assert "image is not set" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--on", "aws", "--data", "/no/such/folder"), "there is no folder /no/such/folder"),
        (("--on", "aws", "--data", "s3://photos/dogs", "--name", "under_score"), "regular expression pattern"),
        (("--on", "aws", "--data", "s3://photos/dogs", "--epochs", "0"), "epochs=0: must be a whole number from 1"),
        (("--data", "s3://photos/dogs", "--weights", "none"), "s3://photos/dogs is neither on this machine nor on AWS"),
        (("--data", "s3://", "--weights", "none"), "s3:// is no s3:// URI"),
        (("--data", "/", "--spot"), "--spot is for jobs on AWS; add --on aws"),
        (("--data", "/", "--isolated", "--on", "docker"), "--isolated is for jobs on AWS; add --on aws"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_sent(kennel, sagemaker, arguments, sentence):
    ended = kennel("train", *arguments)
    assert ended.code == 1
    assert sentence in ended.stderr
    assert sagemaker.list_training_jobs()["TrainingJobSummaries"] == []


def test_credentials_that_aws_does_not_know_are_said(kennel, monkeypatch):
    class Refused:
        def list_training_jobs(self, **request):
            raise client_error("ExpiredTokenException", "The security token is expired", "ListTrainingJobs")

    monkeypatch.setattr(AwsPlatform, "sagemaker", Refused())
    said = kennel("jobs", "--on", "aws").stderr
    assert "AWS does not accept the credentials (The security token is expired); log in again" in said


# Uploads


def test_a_folder_is_uploaded_once_without_what_is_hidden(platform, s3, colour_images, tmp_path):
    folder = tmp_path / "photos"
    (folder / "train" / "red").mkdir(parents=True)
    (folder / "train" / "red" / "1.png").write_bytes(b"one")
    (folder / "train" / ".DS_Store").write_bytes(b"not a photo")
    uri = platform.channel(str(folder))
    assert uri == platform.channel_uri(str(folder))
    assert uri.startswith(f"s3://{BUCKET}/kennel/data/")
    assert uri.endswith("/photos/")
    assert keys(s3) == [f"{urlsplit(uri).path[1:]}train/red/1.png"]
    assert s3.get_object(Bucket=BUCKET, Key=keys(s3)[0])["Body"].read() == b"one"


def test_the_same_content_has_the_same_uri_and_another_content_another(platform, tmp_path):
    uris = []
    for place, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / place / "photos").mkdir(parents=True)
        (tmp_path / place / "photos" / "1.png").write_bytes(content)
        uris.append(platform.channel_uri(str(tmp_path / place / "photos")))
    assert uris[0] == uris[1] != uris[2]


def test_only_what_is_missing_or_of_another_size_is_uploaded_again(platform, s3, colour_images):
    platform.channel(str(colour_images))
    whole = keys(s3)
    s3.delete_object(Bucket=BUCKET, Key=whole[0])
    s3.put_object(Bucket=BUCKET, Key=whole[1], Body=b"half")
    missing = uploads.missing_files(s3, uploads.read_source(colour_images, BUCKET))
    assert [file.key for file in missing] == whole[:2]
    platform.channel(str(colour_images))
    assert keys(s3) == whole
    assert uploads.missing_files(s3, uploads.read_source(colour_images, BUCKET)) == []


def test_a_weights_file_is_uploaded_under_its_own_name(kennel, s3, resnet18_weights):
    arguments = ("--on", "aws", "--backbone", "resnet18", "--data", "s3://photos/dogs", "--weights", resnet18_weights)
    ended = kennel("train", *arguments, "--detach", "--name", "dogs")
    assert ended.code == 0, ended.stderr
    [key] = keys(s3)
    assert key.endswith("/resnet18.pth")
    assert "uploaded 1 of 1 files to s3://" in ended.stdout


@pytest.mark.parametrize(("bucket", "owner"), [("", "123456789012"), (BUCKET, None)])
def test_a_bucket_whose_name_can_be_guessed_must_be_the_accounts_own(s3, settings, tmp_path, bucket, owner):
    owners = []
    platform = AwsPlatform(Console(file=io.StringIO()), {"bucket": bucket} if bucket else {})
    events = platform._s3.meta.events
    events.register("provide-client-params.s3.ListObjectsV2", lambda params, **_: owners.append(params))
    (tmp_path / "photo.png").write_bytes(b"one")
    platform.channel(str(tmp_path / "photo.png"))
    assert [params.get("ExpectedBucketOwner") for params in owners] == [owner]


def test_an_empty_folder_is_refused(kennel, s3, tmp_path):
    assert f"there is no file in {tmp_path}" in kennel("train", "--data", tmp_path, *SMALL).stderr


def test_an_upload_that_fails_is_one_sentence_and_starts_no_job(kennel, s3, sagemaker, colour_images, monkeypatch):
    def refuse(*arguments, **more):
        raise EndpointConnectionError(endpoint_url="https://s3")

    monkeypatch.setattr("boto3.s3.transfer.S3Transfer.upload_file", refuse)
    ended = kennel("train", "--data", colour_images, *SMALL)
    assert ended.code == 1
    assert "S3 does not answer: Could not connect" in ended.stderr
    assert sagemaker.list_training_jobs()["TrainingJobSummaries"] == []


# From the command to the end of the job


def test_a_job_is_sent_followed_and_its_model_named(kennel, s3, sagemaker, logs, colour_images):
    write_log(logs, ["start device=cuda;", "epoch=1 train_loss=0.5;"])
    ended = kennel("train", "--data", colour_images, "--name", "dogs", "--spot", "--isolated", *SMALL)
    assert ended.code == 0, ended.stderr
    assert ended.stdout.splitlines()[1:] == [
        "job dogs",
        f"its page: {PAGE}",
        "start device=cuda;",
        "epoch=1 train_loss=0.5;",
        "job dogs is Completed after 0 s",  # moto says no time
        f"the model:     s3://{BUCKET}/training/dogs/output/model.tar.gz",
        "its report:    kennel report dogs --on aws",
        "serve it with: kennel deploy --model dogs --on aws",
    ]
    job = sagemaker.describe_training_job(TrainingJobName="dogs")
    assert job["EnableManagedSpotTraining"] is job["EnableNetworkIsolation"] is True
    uri = job["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
    assert keys(s3)[0].startswith(urlsplit(uri).path[1:])
    tags = sagemaker.list_tags(ResourceArn=job["TrainingJobArn"])["Tags"]
    assert {"Key": "project", "Value": "dogs"} in tags


def test_a_detached_job_is_listed_and_its_log_printed_later(kennel, logs):
    started = kennel("train", "--data", "s3://photos/dogs", "--name", "dogs", "--detach", *SMALL)
    assert (started.code, started.stdout) == (0, f"job dogs\nits page: {PAGE}\n")
    assert "Completed" in kennel("jobs", "--on", "aws").stdout
    assert "there is no job or endpoint dogs with a log on AWS" in kennel("logs", "dogs", "--on", "aws").stderr
    write_log(logs, ["one", "two"])
    assert kennel("logs", "dogs", "--on", "aws").stdout == "one\ntwo\n"


def test_a_failed_job_is_exit_code_1_with_its_reason(kennel, monkeypatch):
    make = FakeTrainingJob.__init__

    def make_failed(job, **members):
        make(job, **members)
        job.training_job_status = "Failed"
        job.failure_reason = "ClientError: no `train` split"

    monkeypatch.setattr(FakeTrainingJob, "__init__", make_failed)
    ended = kennel("train", "--data", "s3://photos/dogs", "--name", "dogs", *SMALL)
    assert ended.code == 1
    assert "the job dogs failed: ClientError: no `train` split" in ended.stderr


def test_a_job_nobody_knows_is_one_sentence(kennel):
    ended = kennel("logs", "-f", "nobody", "--on", "aws")
    assert ended.code == 1
    assert ended.stderr.startswith("kennel: there is no job or endpoint nobody with a log on AWS")
    assert "Traceback" not in ended.stderr


def test_a_job_is_stopped_and_waited_for(kennel, platform, stubbed, monkeypatch):
    monkeypatch.setattr(AwsPlatform, "sagemaker", platform.sagemaker)
    stubbed.add_client_error("describe_hyper_parameter_tuning_job", "ResourceNotFound")  # it is no search
    stubbed.add_client_error("describe_transform_job", "ResourceNotFound")
    stubbed.add_response("stop_training_job", {}, {"TrainingJobName": "dogs"})
    for status in ("Stopping", "Stopped"):
        stubbed.add_response("describe_training_job", described(status))
    paid = {"ResourceConfig": MACHINE, "BillableTimeInSeconds": 60}
    stubbed.add_response("describe_training_job", described("Stopped", TrainingTimeInSeconds=60, **paid))
    ended = kennel("stop", "dogs", "--on", "aws")
    assert ended.code == 0, ended.stderr
    assert "job dogs is Stopped after 60 s" in ended.stdout
    assert "it cost $0.05: 60 s of 2 × ml.g5.xlarge at $1.57 an hour (2023-12)" in ended.stdout


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "no price of that (training) is known, [prices] in kennel.toml can tell it"),
        ({"EnableManagedSpotTraining": True}, "no price of that (spot) is known"),
        ({"own": '"ml.g5.xlarge" = "1.41"'}, "kennel.toml: the price of 'ml.g5.xlarge' is"),
        ({"own": '"ml.g5.xlarge" = nan'}, "kennel.toml: the price of 'ml.g5.xlarge' is"),
    ],
)
def test_what_a_job_cost_is_not_guessed(kennel, platform, stubbed, monkeypatch, tmp_path, more, words):
    monkeypatch.setattr(AwsPlatform, "sagemaker", platform.sagemaker)
    if own := more.pop("own", None):
        (tmp_path / "kennel.toml").write_text(f"[prices]\n{own}\n")
        monkeypatch.chdir(tmp_path)
    machine = {**MACHINE, "InstanceType": "ml.p4d.24xlarge"}
    for error in ("describe_hyper_parameter_tuning_job", "describe_transform_job"):
        stubbed.add_client_error(error, "ResourceNotFound")
    stubbed.add_response("stop_training_job", {})
    for _ in range(2):
        paid = {"ResourceConfig": machine, "BillableTimeInSeconds": 60, **more}
        stubbed.add_response("describe_training_job", described("Stopped", TrainingTimeInSeconds=60, **paid))
    ended = kennel("stop", "dogs", "--on", "aws")
    assert "it used 60 s of 2 × ml.p4d.24xlarge" in ended.stdout
    assert words in ended.stdout


# Following


def follow_with(platform, stubbed, monkeypatch, statuses, between):
    """Follow a job with one description a look, and call `between` between two looks; return what was printed."""
    stubbed.add_response("describe_training_job", described("InProgress"), {"TrainingJobName": "dogs"})
    for status in statuses:
        stubbed.add_response("describe_training_job", described(status), {"TrainingJobName": ANY})
    stubbed.add_response("describe_training_job", described(statuses[-1]), {"TrainingJobName": "dogs"})
    monkeypatch.setattr(follow.time, "sleep", between)
    console = Console(file=io.StringIO())
    description = follow.follow_training(platform, "dogs", console)
    return description, console.file.getvalue().splitlines()


def test_lines_that_arrive_in_pieces_are_each_shown_once(platform, stubbed, logs, monkeypatch):
    pieces = iter([["one", "two"], [], ["three"], ["after the end"]])
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if lines := next(pieces, []):
            write_log(logs, lines, after=len(waits) * 10)

    statuses = ["InProgress"] * 3 + ["Completed"]
    description, shown = follow_with(platform, stubbed, monkeypatch, statuses, wait)
    assert shown == ["one", "two", "three", "after the end"]
    assert description["TrainingJobStatus"] == "Completed"
    assert waits == [platform.poll] * 3 + [platform.log_delay]


def test_a_log_that_is_not_there_yet_and_a_busy_service_are_asked_again(platform, stubbed, monkeypatch):
    page = {"events": [{"message": "one", "timestamp": 1}], "nextForwardToken": "f/1"}
    streams = {"logStreams": [{"logStreamName": "dogs/algo-1-1"}]}
    with Stubber(platform._logs) as log_service:
        log_service.add_client_error("describe_log_streams", "ResourceNotFoundException")
        log_service.add_client_error("describe_log_streams", "ThrottlingException")
        log_service.add_response("describe_log_streams", streams)
        log_service.add_response("get_log_events", page)
        log_service.add_client_error("get_log_events", "ThrottlingException")
        log_service.add_response("describe_log_streams", streams)
        again = {"logGroupName": GROUP, "logStreamName": "dogs/algo-1-1", "startFromHead": True, "nextToken": "f/1"}
        log_service.add_response("get_log_events", {"events": [], "nextForwardToken": "f/1"}, again)
        statuses = ["InProgress"] * 3 + ["Completed"]
        _, shown = follow_with(platform, stubbed, monkeypatch, statuses, lambda seconds: None)
        log_service.assert_no_pending_responses()
    assert shown == ["one"]


def test_a_log_that_may_not_be_read_is_said(platform):
    with Stubber(platform._logs) as log_service:
        log_service.add_client_error("describe_log_streams", "AccessDeniedException", "not allowed")
        with pytest.raises(AwsError, match=r"kennel may not do logs:DescribeLogStreams \(not allowed\)"):
            platform.read_log("dogs", None, ended=False)


def test_lines_of_several_machines_come_in_the_order_of_their_time(platform, logs):
    write_log(logs, ["one", "two"], "dogs/algo-1-1", after=10)
    write_log(logs, ["three"], "dogs/algo-1-1", after=30)
    write_log(logs, ["between"], "dogs/algo-2-1", after=20)
    write_log(logs, ["another job's"], "dogs-2/algo-1-1")
    lines, position = platform.read_log("dogs", None, ended=False)
    assert lines == ["one", "two", "between", "three"]
    assert platform.read_log("dogs", position, ended=True)[0] == []


def test_ctrl_c_leaves_the_job_alone_and_says_how_to_stop_it(kennel, monkeypatch):
    monkeypatch.setattr(follow, "follow_training", interrupt)
    ended = kennel("train", "--data", "s3://photos/dogs", "--name", "dogs", *SMALL)
    assert ended.code == 130
    assert "the job goes on; `kennel logs -f dogs --on aws` follows it again" in ended.stdout
    assert "`kennel stop dogs --on aws` ends it" in ended.stdout


def test_a_job_that_ends_while_ctrl_c_asks_whether_to_stop_it_is_shown(kennel, platform, stubbed, monkeypatch):
    monkeypatch.setattr(AwsPlatform, "sagemaker", platform.sagemaker)
    monkeypatch.setattr(follow, "follow_training", interrupt)
    monkeypatch.setattr(follow, "wants_to_stop", lambda what: True)
    stubbed.add_response("describe_training_job", described("InProgress"))
    stubbed.add_client_error("stop_training_job", "ValidationException", "the training job is in status Completed.")
    for _ in range(2):  # the waiter asks, then we do
        stubbed.add_response("describe_training_job", described("Completed"))
    ended = kennel("logs", "-f", "dogs", "--on", "aws")
    assert ended.code == 0, ended.stderr
    assert "job dogs is Completed" in ended.stdout


def test_a_network_that_goes_away_says_that_the_job_goes_on(platform, monkeypatch):
    def lose(*arguments):
        raise EndpointConnectionError(endpoint_url="https://api.sagemaker")

    monkeypatch.setattr(follow, "follow_training", lose)
    with pytest.raises(
        AwsError, match=r"SageMaker does not answer: .*; the job goes on; `kennel logs -f dogs --on aws`"
    ):
        follow.show_to_end(platform, "dogs", Console(file=io.StringIO()))


# With what a search found


@pytest.fixture
def found(home):
    """The summary of the search `dogs` on this machine."""
    folder = home / "tuning" / "dogs"
    folder.mkdir(parents=True)
    write_summary(folder, small_summary())


def plain_dry_run(kennel, *arguments):
    ended = kennel("train", "--on", "aws", "--data", "s3://photos/dogs", "--dry-run", *arguments)
    assert ended.code == 0, ended.stderr
    return json.loads(ended.stdout)


def test_a_job_takes_the_best_hyperparameters_of_a_search(kennel, found):
    best = {"epochs": "2", "weights": "none", "learning_rate": "0.01"}
    assert plain_dry_run(kennel, "--from-tuning", "dogs")["HyperParameters"] == best


def test_options_win_over_what_a_search_found(kennel, found, resnet18_weights, monkeypatch):
    monkeypatch.setenv("KENNEL_BUCKET", BUCKET)
    more = ("--learning-rate", "0.5", "--backbone", "resnet18")
    values = plain_dry_run(kennel, "--from-tuning", "dogs", *more)["HyperParameters"]
    assert values == {"epochs": "2", "weights": "none", "learning_rate": "0.5", "backbone": "resnet18"}
    request = plain_dry_run(kennel, "--from-tuning", "dogs", *more, "--weights", resnet18_weights)
    assert "weights" not in request["HyperParameters"]  # `none` would leave the file unread
    assert [channel["ChannelName"] for channel in request["InputDataConfig"]] == ["training", "pretrained"]


def test_a_summary_that_is_elsewhere_is_one_sentence(kennel, home):
    ended = kennel("train", "--on", "aws", "--data", "s3://photos/dogs", "--from-tuning", "dogs", "--dry-run")
    assert ended.code == 1
    assert f"there is no summary of a search dogs in {home}/tuning/dogs; `kennel tune --resume dogs --on aws`" in (
        ended.stderr
    )
