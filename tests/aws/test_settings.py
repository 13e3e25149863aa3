"""Settings: kennel.toml, then variables, then options; and `kennel doctor`, which says what is missing."""

import json

import boto3
import pytest
from botocore.stub import Stubber

from kennel_cli import doctor
from tests.aws.conftest import BUCKET, REGION, SETTINGS

ROLE = "arn:aws:iam::123456789012:role/other"


def request(kennel, colour_images, *options):
    ended = kennel("train", "--on", "aws", "--dry-run", "--data", colour_images, "--weights", "none", *options)
    assert ended.code == 0, ended.stderr
    return json.loads(ended.stdout)


def write(tmp_path, text):
    (tmp_path / "kennel.toml").write_text(text)


def test_a_file_then_variables_then_options(kennel, colour_images, tmp_path, monkeypatch):
    write(tmp_path, 'bucket = "from-file"\ntraining_instance = "ml.m5.large"\ntags = {team = "file"}\n')
    made = request(kennel, colour_images)
    assert made["OutputDataConfig"]["S3OutputPath"] == "s3://from-file/training"
    assert made["ResourceConfig"]["InstanceType"] == "ml.m5.large"
    assert made["Tags"][0] == {"Key": "team", "Value": "vision"}  # KENNEL_TAGS goes before the file
    monkeypatch.setenv("KENNEL_BUCKET", "from-variable")
    assert request(kennel, colour_images)["OutputDataConfig"]["S3OutputPath"] == "s3://from-variable/training"
    made = request(
        kennel, colour_images, "--bucket", "from-option", "--role", ROLE, "--instance-type", "ml.g4dn.xlarge"
    )
    assert made["OutputDataConfig"]["S3OutputPath"] == "s3://from-option/training"
    assert (made["RoleArn"], made["ResourceConfig"]["InstanceType"]) == (ROLE, "ml.g4dn.xlarge")


def test_a_variable_of_somebody_elses_is_no_setting(kennel, monkeypatch):
    monkeypatch.setenv("REGION", "mars-1")
    monkeypatch.setenv("KENNEL_REGION", "eu-central-1")
    shown = kennel("settings").stdout
    assert "eu-central-1" in shown
    assert "mars-1" not in shown


def test_the_file_is_that_of_the_nearest_folder_above(kennel, colour_images, tmp_path, monkeypatch):
    write(tmp_path, 'bucket = "above"\n')
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    assert request(kennel, colour_images)["OutputDataConfig"]["S3OutputPath"] == "s3://above/training"


def test_a_prefix_comes_before_everything_in_the_bucket(kennel, colour_images, monkeypatch):
    monkeypatch.setenv("KENNEL_PREFIX", "vision/dogs")
    monkeypatch.setenv("KENNEL_BUCKET", "mine")
    made = request(kennel, colour_images, "--spot", "--name", "dogs")
    assert made["OutputDataConfig"]["S3OutputPath"] == "s3://mine/vision/dogs/training"
    assert made["CheckpointConfig"]["S3Uri"] == "s3://mine/vision/dogs/checkpoints/dogs"
    uri = made["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
    assert uri.startswith("s3://mine/vision/dogs/kennel/data/")


def test_vpc_key_retries_machines_and_fast_file_are_in_the_request_a1_12_a2_5(kennel, colour_images, monkeypatch):
    monkeypatch.setenv("KENNEL_SUBNETS", "subnet-0a1b, subnet-2c3d")
    monkeypatch.setenv("KENNEL_SECURITY_GROUPS", "sg-0a1b")
    monkeypatch.setenv("KENNEL_KMS_KEY", "alias/kennel")
    monkeypatch.setenv("KENNEL_TRAINING_INSTANCE", "ml.m5.large")
    options = ("--retries", "3", "--instance-count", "2", "--fast-file", "--experiment", "dogs")
    made = request(kennel, colour_images, *options)
    assert made["VpcConfig"] == {"Subnets": ["subnet-0a1b", "subnet-2c3d"], "SecurityGroupIds": ["sg-0a1b"]}
    assert made["OutputDataConfig"]["KmsKeyId"] == made["ResourceConfig"]["VolumeKmsKeyId"] == "alias/kennel"
    assert made["RetryStrategy"] == {"MaximumRetryAttempts": 3}
    assert made["ResourceConfig"]["InstanceCount"] == 2
    assert made["InputDataConfig"][0]["InputMode"] == "FastFile"
    assert made["ExperimentConfig"] == {"ExperimentName": "dogs"}
    monkeypatch.setenv("KENNEL_TRAINING_INSTANCE", "ml.g5.xlarge")  # its own disks encrypt themselves
    assert "VolumeKmsKeyId" not in request(kennel, colour_images)["ResourceConfig"]


@pytest.mark.parametrize(
    "options", [("--fast-file",), ("--retries", "2"), ("--instance-count", "2"), ("--bucket", "b")]
)
def test_what_only_aws_has_is_refused_here(kennel, colour_images, options):
    ended = kennel("train", "--data", colour_images, "--weights", "none", *options)
    assert ended.code == 1
    assert f"{options[0]} is for" in ended.stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('regoin = "eu-west-1"\n', "has regoin, which is no setting; settings are region, role,"),
        ('bucket = "s3://mine"\n', "kennel.toml is 's3://mine'; it should be the name of a bucket alone"),
        ('subnets = ["10.0.0.1"]\n', "it should be subnets, such as subnet-0a1b"),
        ("bucket = \n", "kennel.toml is not TOML"),
        ('subnets = ["subnet-0a1b"]\n', "subnets and security_groups go together"),
    ],
)
def test_what_is_wrong_in_the_file_is_one_sentence(kennel, colour_images, tmp_path, text, sentence):
    write(tmp_path, text)
    ended = kennel("train", "--on", "aws", "--dry-run", "--data", colour_images)
    assert ended.code == 1
    assert sentence in ended.stderr


def test_a_file_that_is_not_utf8_is_one_sentence(kennel, colour_images, tmp_path):
    (tmp_path / "kennel.toml").write_bytes('bucket = "hündchen"\n'.encode("latin-1"))
    ended = kennel("train", "--on", "aws", "--data", colour_images, "--dry-run")
    assert (ended.code, "kennel.toml is not TOML" in ended.stderr) == (1, True)


def test_settings_are_shown_with_where_they_come_from(kennel, tmp_path):
    write(tmp_path, 'bucket = "mine"\n')
    lines = {line.split()[0]: line for line in kennel("settings").stdout.splitlines()}
    assert "mine" in lines["bucket"]
    assert str(tmp_path / "kennel.toml") in lines["bucket"]
    assert "KENNEL_ROLE" in lines["role"]
    assert "AWS_REGION" in lines["region"]
    assert "default" in lines["training_instance"]
    assert "team=vision,project=dogs" in lines["tags"]


# The doctor


TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


@pytest.fixture
def whole(s3, settings, monkeypatch):
    """An account in which nothing is missing but the image's tag."""
    iam = boto3.client("iam", region_name=REGION)
    iam.create_role(RoleName="kennel", AssumeRolePolicyDocument=json.dumps(TRUST))
    ecr = boto3.client("ecr", region_name=REGION)
    ecr.create_repository(repositoryName="kennel")
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "config": {}}
    ecr.put_image(repositoryName="kennel", imageTag="1", imageManifest=json.dumps(manifest))
    monkeypatch.setenv("KENNEL_IMAGE", f"{SETTINGS['KENNEL_IMAGE'].partition('@')[0]}:1")
    return iam


@pytest.fixture
def quotas(account, monkeypatch):
    """The stubber of Service Quotas, of which moto knows no list; it is asked for one quota at a time."""
    client = boto3.client("service-quotas", region_name=REGION)
    clients = doctor.aws_client
    monkeypatch.setattr(doctor, "aws_client", lambda s, name: client if name == "service-quotas" else clients(s, name))
    with Stubber(client) as stubber:
        yield stubber


def answer(quotas, value):
    names = ("ml.g5.xlarge for training job usage", "ml.m5.large for endpoint usage")
    found = {"Quotas": [{"QuotaName": name, "Value": value} for name in names]}
    for _ in names:
        quotas.add_response("list_service_quotas", found, {"ServiceCode": "sagemaker"})


def marks(stdout):
    """Return the lines of the doctor by their marks."""
    return {mark: [line for line in stdout.splitlines() if line.startswith(mark)] for mark in "✓✗–"}


def test_the_doctor_finds_a_whole_account_in_order(kennel, whole, quotas):
    answer(quotas, 2.0)
    ended = kennel("doctor", "--on", "aws")
    assert ended.code == 0, ended.stdout
    assert len(marks(ended.stdout)["✓"]) == 9  # Python, settings, region, credentials, role, bucket, image, two quotas


def test_the_doctor_says_what_to_do_about_each_thing_that_is_missing(kennel, account, settings, quotas):
    answer(quotas, 0.0)
    ended = kennel("doctor", "--on", "aws")
    assert ended.code == 1
    missing = "\n".join(marks(ended.stdout)["✗"])
    assert "there is no role kennel in this account; make one with `kennel init`" in missing
    assert f"bucket {BUCKET}: it is not there; make it with `kennel init`" in missing
    assert "is not there; push it with `make build push`" in missing
    assert missing.count("it is 0; ask for more with `aws service-quotas") == 2


def test_the_doctor_looks_at_the_trust_of_the_role_and_the_region_of_the_bucket(kennel, whole, quotas, monkeypatch):
    answer(quotas, 2.0)
    other = json.loads(json.dumps(TRUST).replace("sagemaker", "ec2"))
    whole.update_assume_role_policy(RoleName="kennel", PolicyDocument=json.dumps(other))
    monkeypatch.setenv("KENNEL_BUCKET", "elsewhere")
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="elsewhere")
    said = kennel("doctor", "--on", "aws").stdout
    assert "kennel does not trust sagemaker.amazonaws.com; add it to the role's trust policy" in said
    assert f"it lies in us-east-1, and jobs run in {REGION}" in said


def test_the_doctor_of_this_machine_needs_docker_only_where_it_is_asked_for(kennel, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    ended = kennel("doctor")
    assert (ended.code, len(marks(ended.stdout)["–"])) == (0, 1)
    ended = kennel("doctor", "--on", "docker")
    assert (ended.code, len(marks(ended.stdout)["✗"])) == (1, 1)


def test_without_credentials_the_doctor_says_how_to_log_in(kennel, account, settings, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    ended = kennel("doctor", "--on", "aws")
    assert "there are no AWS credentials" in "\n".join(marks(ended.stdout)["✗"])
