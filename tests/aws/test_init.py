"""`kennel init`: the stack that moto's CloudFormation makes of the template, and what can go wrong."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.httpsession import URLLib3Session
from moto.cloudformation.models import Event, Stack, cloudformation_backends
from moto.core.authorization import enable_iam_authentication

from kennel_cli import infrastructure, stacks
from tests.aws.conftest import REGION, SETTINGS

ROOT = Path(__file__).parents[2]
ACCOUNT = "123456789012"  # moto's
TEMPLATE = ROOT / "scripts" / "infrastructure.yaml"


# moto's CloudFormation has neither policies of buckets nor projects of CodeBuild
pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS.*not supported by moto:UserWarning")


@pytest.fixture(autouse=True)
def folder(settings, tmp_path, monkeypatch):
    """An empty folder, in which the command runs."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(stacks, "_POLL", 0.0)
    return folder


@pytest.fixture
def cloudformation(account):
    return boto3.client("cloudformation", region_name=REGION)


def described(cloudformation, name="kennel"):
    return cloudformation.describe_stacks(StackName=name)["Stacks"][0]


def outputs(cloudformation, name="kennel"):
    return {output["OutputKey"]: output["OutputValue"] for output in described(cloudformation, name)["Outputs"]}


def values(cloudformation, name="kennel"):
    return {p["ParameterKey"]: p["ParameterValue"] for p in described(cloudformation, name)["Parameters"]}


def backend():
    return cloudformation_backends[ACCOUNT][REGION]


def test_an_empty_account_gets_all_of_it_and_the_folder_its_settings(kennel, cloudformation, folder):
    ended = kennel("init", "--yes")
    assert (ended.code, ended.stderr) == (0, "")
    made = outputs(cloudformation)
    assert {"Key": "team", "Value": "vision"} in described(cloudformation)["Tags"]
    assert re.search(r"^\d\d:\d\d:\d\d  kennel +CREATE_COMPLETE$", ended.stdout, re.MULTILINE)
    assert f"RepositoryUri {made['RepositoryUri']}\n" in ended.stdout
    assert ended.stdout.endswith(f"its settings are in {folder / 'kennel.toml'}\n")
    assert made["RepositoryUri"] == f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/kennel"
    assert tomllib.loads((folder / "kennel.toml").read_text()) == {
        "region": REGION,
        "role": made["Role"],
        "endpoint_role": made["EndpointRole"],
        "bucket": made["Bucket"],
        "repository": "kennel",
    }


def test_the_bucket_the_repository_and_the_logs_are_there(kennel, cloudformation):
    assert kennel("init", "--yes").code == 0
    s3, bucket = boto3.client("s3", region_name=REGION), outputs(cloudformation)["Bucket"]
    (rule,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    ecr = boto3.client("ecr", region_name=REGION)
    (repository,) = ecr.describe_repositories()["repositories"]
    assert (repository["repositoryName"], repository["imageTagMutability"]) == ("kennel", "IMMUTABLE")
    groups = boto3.client("logs", region_name=REGION).describe_log_groups()["logGroups"]
    assert {group["logGroupName"]: group["retentionInDays"] for group in groups} == {
        "/aws/sagemaker/TrainingJobs": 90,
        "/aws/sagemaker/TransformJobs": 90,
    }


def s3_of(role):
    """An S3 client of somebody who has taken on the role."""
    taken = boto3.client("sts", region_name=REGION).assume_role(RoleArn=role, RoleSessionName="job")["Credentials"]
    secret = {"aws_access_key_id": taken["AccessKeyId"], "aws_secret_access_key": taken["SecretAccessKey"]}
    return boto3.client("s3", region_name=REGION, aws_session_token=taken["SessionToken"], **secret)


def is_allowed(call, **request):
    try:
        call(**request)
    except ClientError as error:
        assert error.response["Error"]["Code"] in ("AccessDenied", "403")
        return False
    return True


def test_jobs_write_the_bucket_and_endpoints_only_their_answers(kennel, cloudformation, s3):
    assert kennel("init", "--yes").code == 0
    made = outputs(cloudformation)
    job, endpoint, bucket = s3_of(made["Role"]), s3_of(made["EndpointRole"]), made["Bucket"]
    (another,) = (b["Name"] for b in s3.list_buckets()["Buckets"] if b["Name"] != bucket)
    with enable_iam_authentication():
        assert is_allowed(job.put_object, Bucket=bucket, Key="training/dogs/model.tar.gz")
        assert not is_allowed(job.delete_object, Bucket=bucket, Key="training/dogs/model.tar.gz")
        assert not is_allowed(job.put_object, Bucket=another, Key="training/dogs/model.tar.gz")
        assert is_allowed(endpoint.get_object, Bucket=bucket, Key="training/dogs/model.tar.gz")
        assert is_allowed(endpoint.put_object, Bucket=bucket, Key="async/1.out")
        assert is_allowed(endpoint.put_object, Bucket=bucket, Key="vision/dogs/transform/1.out")  # with a `prefix`
        assert not is_allowed(endpoint.put_object, Bucket=bucket, Key="training/dogs/model.tar.gz")


def test_a_second_time_there_is_nothing_to_do(kennel, cloudformation, folder):
    assert kennel("init", "--yes").code == 0
    before = described(cloudformation)
    (folder / "kennel.toml").unlink()
    ended = kennel("init", "--yes")
    assert ended.code == 0
    assert described(cloudformation) == before
    assert len(backend().get_stack("kennel").events) == 2  # of the first time
    assert (folder / "kennel.toml").exists()


def test_a_stack_of_somebody_elses_is_not_touched(kennel, cloudformation):
    topic = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
    cloudformation.create_stack(StackName="prod", TemplateBody=json.dumps(topic))
    before = described(cloudformation, "prod")
    ended = kennel("init", "--yes", "--name", "prod")
    assert (ended.code, "there is a stack prod that `kennel init` has not made" in ended.stderr) == (1, True)
    assert described(cloudformation, "prod") == before


def test_what_is_not_given_again_stays_as_it_is(kennel, cloudformation):
    source = "https://github.com/you/kennel"
    assert kennel("init", "--yes", "--kms", "--repository", "vision/dogs", "--repository-source", source).code == 0
    first = values(cloudformation)
    assert (first["CreateKey"], first["SourceRepository"], first["SourceType"]) == ("true", source, "GITHUB")
    made = outputs(cloudformation)
    assert made["Repository"] == "vision/dogs"
    (rule,) = boto3.client("s3").get_bucket_encryption(Bucket=made["Bucket"])["ServerSideEncryptionConfiguration"][
        "Rules"
    ]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    another = "https://bitbucket.org/you/kennel"
    ended = kennel("init", "--yes", "--repository-source", another)
    assert "UPDATE_COMPLETE" in ended.stdout
    assert "CREATE_COMPLETE" not in ended.stdout  # events of the first time
    assert values(cloudformation) == first | {"SourceRepository": another, "SourceType": "BITBUCKET"}


def test_a_repository_and_logs_that_are_there_are_used_and_not_owned(kennel, cloudformation):
    ecr, logs = boto3.client("ecr", region_name=REGION), boto3.client("logs", region_name=REGION)
    ecr.create_repository(repositoryName="kennel")
    logs.create_log_group(logGroupName="/aws/sagemaker/TrainingJobs")
    assert kennel("init", "--yes").code == 0
    chosen = values(cloudformation)
    assert (chosen["CreateRepository"], chosen["CreateTrainingLogs"]) == ("false", "false")
    assert chosen["CreateTransformLogs"] == "true"
    assert {"Repository", "TrainingLogs"}.isdisjoint(stacks.owned_resources(cloudformation, "kennel"))
    assert outputs(cloudformation)["RepositoryUri"].endswith("/kennel")
    (group,) = logs.describe_log_groups(logGroupNamePrefix="/aws/sagemaker/TrainingJobs")["logGroups"]
    assert "retentionInDays" not in group
    assert kennel("init", "--yes").code == 0
    assert values(cloudformation) == chosen


def test_two_stacks_share_what_the_first_one_made(kennel, cloudformation):
    assert kennel("init", "--yes").code == 0
    assert kennel("init", "--yes", "--name", "dogs", "--repository", "kennel").code == 0
    assert values(cloudformation)["CreateRepository"] == "true"
    assert values(cloudformation, "dogs")["CreateRepository"] == "false"
    assert outputs(cloudformation, "dogs")["Bucket"] != outputs(cloudformation)["Bucket"]


def test_a_dry_run_prints_the_request_and_makes_nothing(kennel, cloudformation, folder):
    ended = kennel("init", "--dry-run", "--name", "dogs")
    assert ended.code == 0
    request = json.loads(ended.stdout)
    assert request["StackName"] == "dogs"
    assert request["TemplateBody"] == TEMPLATE.read_text()
    assert request["Capabilities"] == ["CAPABILITY_IAM"]
    assert {"ParameterKey": "RepositoryName", "ParameterValue": "dogs"} in request["Parameters"]
    assert cloudformation.describe_stacks()["Stacks"] == []
    assert list(folder.iterdir()) == []


def test_nothing_is_made_without_a_yes(kennel, cloudformation):
    ended = kennel("init")  # with nobody to ask
    assert ended.code == 1
    assert f"Create the stack kennel in {REGION}" in ended.stdout
    assert cloudformation.describe_stacks()["Stacks"] == []


def test_settings_that_are_there_keep_their_comments_and_their_own_keys(kennel, cloudformation, folder):
    (folder / "kennel.toml").write_text(
        '# ours\nbucket = "old" # last year\nprefix = "dogs"\n\n[tags]\nteam = "vision"\n'
    )
    assert kennel("init", "--yes").code == 0
    text = (folder / "kennel.toml").read_text()
    assert text.startswith(f'# ours\nbucket = "{outputs(cloudformation)["Bucket"]}" # last year\nprefix = "dogs"\n')
    assert tomllib.loads(text)["tags"] == {"team": "vision"}
    assert tomllib.loads(text)["role"] == outputs(cloudformation)["Role"]


def test_settings_that_are_not_toml_are_left_and_said(kennel, folder):
    (folder / "kennel.toml").write_text("bucket: dogs\n")
    ended = kennel("init", "--yes")
    assert ended.code == 1
    assert re.search(r"kennel\.toml is not TOML \(.*line 1.*\); mend it, or move it away", ended.stderr)
    assert (folder / "kennel.toml").read_text() == "bucket: dogs\n"


# ---- what can go wrong ----


def happen(stack, resource, status, reason=None):
    kind, name = "AWS::X::Y", f"{resource}-1"
    stack.events.append(Event(stack.stack_id, stack.name, resource, name, kind, status, reason, None))


def test_a_stack_that_fails_says_the_first_reason_and_how_to_delete_it(kennel, monkeypatch, folder):
    def fail(stack):
        happen(stack, "Bucket", "CREATE_IN_PROGRESS")
        happen(stack, "JobRole", "CREATE_FAILED", "API: iam:CreateRole: you are not authorized")
        happen(stack, "Bucket", "CREATE_FAILED", "Resource creation cancelled")
        happen(stack, "kennel", "ROLLBACK_COMPLETE")
        stack.status = "ROLLBACK_COMPLETE"

    monkeypatch.setattr(Stack, "create_resources", fail)
    monkeypatch.setattr(Stack, "outputs", None)
    delete = f"delete it with `aws cloudformation delete-stack --stack-name kennel --region {REGION}`"
    ended = kennel("init", "--yes")
    assert ended.code == 1
    shown = [line.split(maxsplit=3)[1:] for line in ended.stdout.splitlines()]
    assert shown[1:3] == [
        ["Bucket", "CREATE_IN_PROGRESS"],
        ["JobRole", "CREATE_FAILED", "API: iam:CreateRole: you are not authorized"],
    ]
    assert ended.stderr == (
        "kennel: the stack kennel is ROLLBACK_COMPLETE: JobRole: API: iam:CreateRole: you are not authorized; "
        f"{delete}, and run `kennel init` again\n"
    )
    assert not (folder / "kennel.toml").exists()
    again = kennel("init", "--yes")
    assert again.code == 1
    assert again.stderr == f"kennel: the stack kennel is ROLLBACK_COMPLETE; {delete}, and run `kennel init` again\n"


def test_an_update_that_fails_says_that_all_is_as_before(kennel, monkeypatch):
    assert kennel("init", "--yes").code == 0

    def fail(stack, *arguments, **more):
        happen(stack, "Key", "CREATE_FAILED", "The limit of keys is reached")
        happen(stack, "kennel", "UPDATE_ROLLBACK_COMPLETE")
        stack.status = "UPDATE_ROLLBACK_COMPLETE"

    monkeypatch.setattr(Stack, "update", fail)
    ended = kennel("init", "--yes", "--kms")
    assert ended.code == 1
    assert "UPDATE_ROLLBACK_COMPLETE: Key: The limit of keys is reached; all is as it was before" in ended.stderr
    assert "CREATE_COMPLETE" not in ended.stdout


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        ("UPDATE_IN_PROGRESS", "run `kennel init` again when that has ended"),
        ("UPDATE_ROLLBACK_FAILED", "aws cloudformation continue-update-rollback --stack-name kennel"),
        ("DELETE_FAILED", "aws cloudformation delete-stack --stack-name kennel"),
    ],
)
def test_a_stack_that_cannot_be_updated_now_is_said_with_the_remedy(kennel, status, remedy):
    assert kennel("init", "--yes").code == 0
    backend().get_stack("kennel").status = status
    ended = kennel("init", "--yes")
    assert ended.code == 1
    assert f"the stack kennel is {status}; " in ended.stderr
    assert remedy in ended.stderr


def test_events_are_shown_as_they_come_and_ctrl_c_says_that_the_stack_goes_on(kennel, monkeypatch, folder):
    waits = []

    def wait(seconds):
        waits.append(seconds)
        happen(backend().get_stack("kennel"), "Bucket", "CREATE_COMPLETE")
        if len(waits) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Stack, "create_resources", lambda stack: setattr(stack, "status", "CREATE_IN_PROGRESS"))
    monkeypatch.setattr(Stack, "outputs", None)
    monkeypatch.setattr(stacks.time, "sleep", wait)
    ended = kennel("init", "--yes")
    assert ended.code == 130
    assert [line.split()[1:3] for line in ended.stdout.splitlines()[:2]] == [
        ["kennel", "CREATE_IN_PROGRESS"],
        ["Bucket", "CREATE_COMPLETE"],
    ]
    assert "the stack kennel goes on by itself; run `kennel init` again when it has ended" in ended.stdout
    assert not (folder / "kennel.toml").exists()


def test_a_network_that_goes_away_says_that_the_stack_goes_on(kennel, monkeypatch):
    def lose(*arguments):
        raise EndpointConnectionError(endpoint_url="https://cloudformation")

    def wait(seconds):
        monkeypatch.setattr(URLLib3Session, "send", lose)

    monkeypatch.setattr(Stack, "create_resources", lambda stack: setattr(stack, "status", "CREATE_IN_PROGRESS"))
    monkeypatch.setattr(Stack, "outputs", None)
    monkeypatch.setattr(stacks.time, "sleep", wait)
    ended = kennel("init", "--yes")
    assert ended.code == 1
    assert ended.stderr.startswith("kennel: CloudFormation does not answer: ")
    assert "the stack kennel goes on by itself" in ended.stderr


def test_a_permission_that_is_missing_is_said_with_its_action_and_its_remedy(kennel, monkeypatch):
    iam = boto3.client("iam", region_name=REGION)
    iam.create_user(UserName="ann")
    looks = {"Effect": "Allow", "Action": ["cloudformation:Describe*", "ecr:*", "logs:*"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [looks]})
    iam.put_user_policy(UserName="ann", PolicyName="looks", PolicyDocument=policy)
    key = iam.create_access_key(UserName="ann")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    with enable_iam_authentication():
        ended = kennel("init", "--yes")
    assert ended.code == 1
    assert "kennel may not do cloudformation:CreateStack" in ended.stderr
    assert "user/ann with an IAM policy" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["Kennel", "9dogs", "dogs_", "dogs--cats", "d" * 65, ""])
def test_a_name_that_aws_would_refuse_is_refused(kennel, name):
    ended = kennel("init", "--yes", "--name", name)
    assert ended.code == 1
    assert f"the name is {name!r}; it should be at most 64 lower-case letters, digits" in ended.stderr


@pytest.mark.parametrize(
    "source",
    ["git@github.com:you/kennel.git", "https://example.org/kennel", "https://me:secret@github.com/you/kennel", ""],
)
def test_a_source_that_codebuild_cannot_take_is_refused(kennel, source):
    ended = kennel("init", "--yes", "--repository-source", source)
    assert ended.code == 1
    assert f"the source repository is {source!r}; it should be an https address at github.com" in ended.stderr


def test_a_region_without_cloudformation_is_refused(kennel):
    ended = kennel("init", "--yes", "--region", "eu-west-9")
    assert ended.stderr.startswith("kennel: AWS has no region 'eu-west-9' with CloudFormation")


def test_a_template_that_is_not_installed_is_one_sentence(kennel, monkeypatch, tmp_path):
    monkeypatch.setattr(infrastructure, "files", lambda package: tmp_path / package)
    ended = kennel("init", "--yes")
    assert ended.code == 1
    assert re.fullmatch(
        r"kennel: there is no template .*infrastructure\.yaml \(.*\); run `kennel init` where .*\n", ended.stderr
    )


def test_make_infrastructure_is_kennel_init():
    dry_run = ["make", "--dry-run", "--no-print-directory", "-C", ROOT, "infrastructure"]
    printed = subprocess.run(dry_run, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == ".venv/bin/kennel init"


def test_the_environment_says_where(kennel, cloudformation, monkeypatch):
    monkeypatch.setenv("KENNEL_REPOSITORY", "dogs")
    assert kennel("init", "--yes").code == 0
    assert outputs(cloudformation)["Repository"] == "dogs"
    assert outputs(cloudformation)["Region"] == SETTINGS["AWS_REGION"]
