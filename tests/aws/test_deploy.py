"""`kennel deploy`, `update` and `delete` on AWS, as moto plays it, and botocore's stubber where moto has no answer."""

import io
import json
import tarfile

import pytest
from botocore.stub import Stubber

from kennel_cli import endpoints
from kennel_cli import logs as logs_command
from kennel_cli.platforms.aws import AwsPlatform
from kennel_cli.platforms.validation import validate
from kennel_cli.requests import GPU_AMI
from tests.aws.conftest import BUCKET, REGION, SETTINGS, keys, write_log

ENDPOINT_ROLE = "arn:aws:iam::123456789012:role/kennel-endpoint"
ARN = f"arn:aws:sagemaker:{REGION}:123456789012:endpoint/dogs"


def dry_run(kennel, *arguments):
    """Return the requests that a dry run prints, each valid."""
    ended = kennel("deploy", "--on", "aws", "--dry-run", *arguments)
    assert ended.code == 0, ended.stderr
    requests = json.loads(ended.stdout)
    for operation, request in requests.items():
        validate(operation, request)
    return requests


# The requests


def test_a_job_is_deployed_from_where_its_model_lies(kennel, account, s3, sagemaker, job):
    ended = kennel("deploy", "--on", "aws", "--model", job)
    assert ended.code == 0, ended.stderr
    container = sagemaker.describe_model(ModelName="dogs")["PrimaryContainer"]
    assert container["Image"] == SETTINGS["KENNEL_IMAGE"]
    assert container["ModelDataUrl"] == f"s3://{BUCKET}/training/dogs/output/model.tar.gz"
    [variant] = sagemaker.describe_endpoint_config(EndpointConfigName="dogs")["ProductionVariants"]
    assert (variant["InstanceType"], variant["InitialInstanceCount"]) == ("ml.m5.large", 1)
    assert sagemaker.describe_endpoint(EndpointName="dogs")["EndpointStatus"] == "InService"
    assert f"in service at {account.address}/endpoints/dogs/invocations" in ended.stdout
    assert "kennel invoke --endpoint dogs --on aws" in ended.stdout


def test_a_model_folder_is_uploaded_once_and_served_as_it_lies(kennel, s3, sagemaker, random_model):
    ended = kennel("deploy", "--on", "aws", "--model", random_model, "--name", "dogs")
    assert ended.code == 0, ended.stderr
    source = sagemaker.describe_model(ModelName="dogs")["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]
    assert (source["S3DataType"], source["CompressionType"]) == ("S3Prefix", "None")
    assert f"{source['S3Uri'].removeprefix(f's3://{BUCKET}/')}kennel.json" in keys(s3)


def test_a_dry_run_prints_valid_requests_and_creates_nothing(kennel, s3, sagemaker, random_model):
    requests = dry_run(kennel, "--model", random_model, "--name", "dogs")
    assert list(requests) == ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"]
    assert {"Key": "team", "Value": "vision"} in requests["CreateEndpoint"]["Tags"]
    assert keys(s3) == []
    assert sagemaker.list_models()["Models"] == []


def test_a_machine_with_a_gpu_gets_a_driver_that_carries_the_image_c6_2(kennel, job):
    [variant] = dry_run(kennel, "--model", job, "--instance-type", "ml.g5.xlarge")["CreateEndpointConfig"][
        "ProductionVariants"
    ]
    assert variant["InferenceAmiVersion"] == GPU_AMI
    [variant] = dry_run(kennel, "--model", job, "--instance-type", "ml.c7i.large")["CreateEndpointConfig"][
        "ProductionVariants"
    ]
    assert "InferenceAmiVersion" not in variant


def test_timeouts_count_and_capture_c1_5(kennel, job):
    options = ("--startup-timeout", "900", "--instance-count", "2", "--capture", "20")
    config = dry_run(kennel, "--model", job, *options)["CreateEndpointConfig"]
    [variant] = config["ProductionVariants"]
    assert variant["InitialInstanceCount"] == 2
    assert variant["ModelDataDownloadTimeoutInSeconds"] == 900
    assert variant["ContainerStartupHealthCheckTimeoutInSeconds"] == 900
    assert config["DataCaptureConfig"]["InitialSamplingPercentage"] == 20
    assert config["DataCaptureConfig"]["DestinationS3Uri"] == f"s3://{BUCKET}/data-capture/dogs"


def test_a_serverless_endpoint_has_no_machine_no_vpc_and_a_packed_model_c5_2(kennel, job, random_model, monkeypatch):
    monkeypatch.setenv("KENNEL_SUBNETS", "subnet-0a1b")
    monkeypatch.setenv("KENNEL_SECURITY_GROUPS", "sg-0a1b")
    requests = dry_run(kennel, "--model", job, "--serverless", "--memory", "3072", "--max-concurrency", "5")
    [variant] = requests["CreateEndpointConfig"]["ProductionVariants"]
    assert variant["ServerlessConfig"] == {"MemorySizeInMB": 3072, "MaxConcurrency": 5}
    assert not {"InstanceType", "InitialInstanceCount", "InferenceAmiVersion"} & set(variant)
    assert "VpcConfig" not in requests["CreateModel"]
    packed = dry_run(kennel, "--model", random_model, "--serverless")["CreateModel"]["PrimaryContainer"]
    assert packed["ModelDataUrl"].endswith("/model.tar.gz")


@pytest.mark.parametrize("flag", ["--async", "--isolated", "--capture=10", "--instance-count=2"])
def test_what_a_serverless_endpoint_cannot_have_is_refused_c5_2(kennel, job, flag):
    ended = kennel("deploy", "--on", "aws", "--model", job, "--serverless", flag)
    assert ended.code == 1
    assert f"a serverless endpoint has no {flag.partition('=')[0]}" in ended.stderr


def test_an_asynchronous_endpoint_keeps_its_answers_in_the_bucket_c5_1(kennel, job):
    config = dry_run(kennel, "--model", job, "--async", "--max-concurrency", "4")["CreateEndpointConfig"]
    asynchronous = config["AsyncInferenceConfig"]
    assert asynchronous["ClientConfig"] == {"MaxConcurrentInvocationsPerInstance": 4}
    assert asynchronous["OutputConfig"]["S3OutputPath"] == f"s3://{BUCKET}/async/dogs/output"


def test_vpc_isolation_role_and_key_are_those_of_the_settings(kennel, job, monkeypatch):
    monkeypatch.setenv("KENNEL_SUBNETS", "subnet-0a1b,subnet-2c3d")
    monkeypatch.setenv("KENNEL_SECURITY_GROUPS", "sg-0a1b")
    monkeypatch.setenv("KENNEL_ENDPOINT_ROLE", ENDPOINT_ROLE)
    monkeypatch.setenv("KENNEL_KMS_KEY", "alias/kennel")
    requests = dry_run(kennel, "--model", job, "--isolated")
    assert requests["CreateModel"]["ExecutionRoleArn"] == ENDPOINT_ROLE
    assert requests["CreateModel"]["VpcConfig"]["Subnets"] == ["subnet-0a1b", "subnet-2c3d"]
    assert requests["CreateModel"]["EnableNetworkIsolation"] is True
    assert requests["CreateEndpointConfig"]["KmsKeyId"] == "alias/kennel"


def test_what_only_aws_has_is_refused_here(kennel, random_model):
    ended = kennel("deploy", "--model", random_model, "--serverless")
    assert (ended.code, "add --on aws" in ended.stderr) == (1, True)
    ended = kennel("deploy", "--model", random_model, "--region", "eu-west-1")
    assert (ended.code, "--region is for AWS; add --on aws" in ended.stderr) == (1, True)


def test_a_name_that_is_taken_is_refused_before_anything_is_created(kennel, s3, sagemaker, job, random_model):
    assert kennel("deploy", "--on", "aws", "--model", job).code == 0
    again = kennel("deploy", "--on", "aws", "--model", random_model, "--name", "dogs")
    assert (again.code, "`kennel update dogs --on aws`" in again.stderr) == (1, True)
    assert keys(s3) == []


def test_an_endpoint_that_fails_says_why(platform, kennel, job, monkeypatch):
    failed = {**endpoint("Failed"), "FailureReason": "The container did not pass the ping health check."}
    with Stubber(platform.sagemaker) as stubber:
        monkeypatch.setattr(AwsPlatform, "sagemaker", platform.sagemaker)
        stubber.add_response("list_endpoints", {"Endpoints": []})
        stubber.add_response("describe_training_job", described_job())
        stubber.add_client_error("describe_endpoint_config", "ValidationException", "Could not find it")
        stubber.add_response("create_model", {"ModelArn": ARN})
        stubber.add_response("create_endpoint_config", {"EndpointConfigArn": ARN})
        stubber.add_response("create_endpoint", {"EndpointArn": ARN})
        stubber.add_response("describe_endpoint", endpoint("Creating"))
        stubber.add_response("describe_endpoint", failed)
        ended = kennel("deploy", "--on", "aws", "--model", job)
    assert ended.code == 1
    assert "the endpoint dogs is Failed: The container did not pass the ping health check." in ended.stderr
    assert "dogs is Creating after 0 s" in ended.stdout


# Updates


def endpoint(status, config="dogs", **more):
    """Return a description of the endpoint, as short as the service's model allows."""
    return {
        "EndpointName": "dogs",
        "EndpointArn": ARN,
        "EndpointConfigName": config,
        "EndpointStatus": status,
        "CreationTime": 0,
        "LastModifiedTime": 0,
        **more,
    }


def described_job():
    return {
        "TrainingJobName": "dogs",
        "TrainingJobArn": ARN.replace("endpoint", "training-job"),
        "ModelArtifacts": {"S3ModelArtifacts": f"s3://{BUCKET}/training/dogs/output/model.tar.gz"},
        "TrainingJobStatus": "Completed",
        "SecondaryStatus": "Completed",
        "StoppingCondition": {},
        "CreationTime": 0,
    }


def model(url=f"s3://{BUCKET}/training/dogs/output/model.tar.gz"):
    return {"ModelName": "dogs", "PrimaryContainer": {"ModelDataUrl": url}, "CreationTime": 0, "ModelArn": ARN}


def config(name="dogs"):
    machines = {"InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
    variants = [{"VariantName": "AllTraffic", "ModelName": name, **machines}]
    return {"EndpointConfigName": name, "EndpointConfigArn": ARN, "ProductionVariants": variants, "CreationTime": 0}


@pytest.fixture
def updating(platform, monkeypatch):
    """The stubber of the command's SageMaker client; the endpoint dogs is in service."""
    monkeypatch.setattr(AwsPlatform, "sagemaker", platform.sagemaker)
    with Stubber(platform.sagemaker) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def there(updating, **more):
    """Let the service describe the endpoint as it is."""
    updating.add_response("describe_endpoint", endpoint("InService"))
    updating.add_response("describe_endpoint_config", {**config(), **more})
    updating.add_response("describe_model", model())


def test_an_update_with_alarms_moves_a_part_of_the_traffic_first(kennel, updating, monkeypatch):
    there(updating)
    updating.add_response("describe_training_job", described_job())
    requests = json.loads(
        kennel_ok(
            kennel(
                "update",
                "dogs",
                "--on",
                "aws",
                "--model",
                "dogs",
                "--traffic",
                "canary",
                "--alarm",
                "slow",
                "--dry-run",
            )
        )
    )
    validate("UpdateEndpoint", requests["UpdateEndpoint"])
    deployment = requests["UpdateEndpoint"]["DeploymentConfig"]
    routing = deployment["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert (routing["Type"], routing["CanarySize"]) == ("CANARY", {"Type": "CAPACITY_PERCENT", "Value": 10})
    assert deployment["AutoRollbackConfiguration"] == {"Alarms": [{"AlarmName": "slow"}]}


@pytest.mark.parametrize("traffic", ["linear", "rolling"])
def test_traffic_may_move_in_steps(kennel, updating, traffic):
    there(updating)
    updating.add_response("describe_training_job", described_job())
    two = ("--instance-count", "2")
    ended = kennel("update", "dogs", "--on", "aws", "--model", "dogs", "--traffic", traffic, *two, "--dry-run")
    validate("UpdateEndpoint", json.loads(kennel_ok(ended))["UpdateEndpoint"])


def test_one_machine_is_not_replaced_in_steps(kennel, updating):
    there(updating)
    updating.add_response("describe_training_job", described_job())
    ended = kennel("update", "dogs", "--on", "aws", "--model", "dogs", "--traffic", "rolling")
    assert (ended.code, "and dogs has one; take canary or " in ended.stderr) == (1, True)


def update_of(kennel, updating, variant, *options, running=None, entry=None, **present):
    """Return the requests for another model of an endpoint that runs as described."""
    one = {"VariantName": "AllTraffic", **({"DesiredInstanceCount": running} if running else {})}
    updating.add_response("describe_endpoint", endpoint("InService", ProductionVariants=[one]))
    variants = [{"VariantName": "AllTraffic", "ModelName": "dogs", **variant}]
    updating.add_response("describe_endpoint_config", {**config(), "ProductionVariants": variants, **present})
    updating.add_response("describe_model", {**model(), **(entry or {})})
    updating.add_response("describe_training_job", described_job())
    return json.loads(kennel_ok(kennel("update", "dogs", "--on", "aws", "--model", "dogs", *options, "--dry-run")))


SERVERLESS = {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 3}}
MACHINES = {
    "InitialInstanceCount": 1,
    "InstanceType": "ml.g5.xlarge",
    "InferenceAmiVersion": "al2-ami-sagemaker-inference-gpu-2-1",
}
QUEUE = {"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/async/dogs/output"}}
CAPTURE = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 20,
    "DestinationS3Uri": f"s3://{BUCKET}/data-capture/dogs",
    "CaptureOptions": [{"CaptureMode": "Input"}],
}


def test_an_update_leaves_an_endpoint_as_it_is_but_for_its_model(kennel, updating):
    own = {"KENNEL_EXPLAIN": "true", "SAGEMAKER_MODEL_SERVER_WORKERS": "2"}
    entry = {"EnableNetworkIsolation": True, "PrimaryContainer": {**model()["PrimaryContainer"], "Environment": own}}
    asked = update_of(
        kennel, updating, MACHINES, running=4, entry=entry, AsyncInferenceConfig=QUEUE, DataCaptureConfig=CAPTURE
    )
    assert asked["CreateModel"]["EnableNetworkIsolation"] is True
    assert asked["CreateModel"]["PrimaryContainer"]["Environment"] == own
    made = asked["CreateEndpointConfig"]
    [variant] = made["ProductionVariants"]
    assert variant == {**MACHINES, "VariantName": "AllTraffic", "ModelName": made["EndpointConfigName"]} | {
        "InitialInstanceCount": 4  # as many as run
    }
    assert (made["AsyncInferenceConfig"], made["DataCaptureConfig"]) == (QUEUE, CAPTURE)


def test_a_serverless_endpoint_stays_serverless(kennel, updating):
    made = update_of(kennel, updating, SERVERLESS)["CreateEndpointConfig"]
    [variant] = made["ProductionVariants"]
    assert variant == {**SERVERLESS, "VariantName": "AllTraffic", "ModelName": made["EndpointConfigName"]}


def test_what_is_given_to_an_update_changes(kennel, updating):
    options = ("--instance-count", "2", "--instance-type", "ml.m5.xlarge", "--capture", "0", "--no-explain")
    container = {**model()["PrimaryContainer"], "Environment": {"KENNEL_EXPLAIN": "true"}}
    entry = {"PrimaryContainer": container}
    asked = update_of(kennel, updating, MACHINES, *options, running=4, entry=entry, DataCaptureConfig=CAPTURE)
    [variant] = asked["CreateEndpointConfig"]["ProductionVariants"]
    assert (variant["InitialInstanceCount"], variant["InstanceType"]) == (2, "ml.m5.xlarge")
    assert "InferenceAmiVersion" not in variant
    assert "DataCaptureConfig" not in asked["CreateEndpointConfig"]
    assert asked["CreateModel"]["PrimaryContainer"]["Environment"] == {"KENNEL_EXPLAIN": "false"}


def test_machines_of_a_serverless_endpoint_cannot_be_changed(kennel, updating):
    updating.add_response("describe_endpoint", endpoint("InService"))
    variants = [{"VariantName": "AllTraffic", "ModelName": "dogs", **SERVERLESS}]
    updating.add_response("describe_endpoint_config", {**config(), "ProductionVariants": variants})
    ended = kennel("update", "dogs", "--on", "aws", "--model", "dogs", "--instance-count", "2")
    assert (ended.code, "the endpoint dogs is serverless and has no machines" in ended.stderr) == (1, True)


def test_a_configuration_with_which_others_work_is_not_deleted(kennel, updating):
    """The endpoint prod was made with the SDK, and its configuration bears the name that the new one is to have."""
    prod = {"EndpointName": "prod", "EndpointArn": ARN, "CreationTime": 0, "LastModifiedTime": 0}
    updating.add_response("list_endpoints", {"Endpoints": [{**prod, "EndpointStatus": "InService"}]})
    updating.add_response("describe_training_job", described_job())
    updating.add_response("describe_endpoint_config", config())
    updating.add_response("list_endpoints", {"Endpoints": [{**prod, "EndpointStatus": "InService"}]})
    updating.add_response("describe_endpoint", endpoint("InService", "dogs", EndpointName="prod"))
    ended = kennel("deploy", "--on", "aws", "--model", "dogs")
    assert (ended.code, "there is an endpoint configuration dogs already" in ended.stderr) == (1, True)


def kennel_ok(ended):
    assert ended.code == 0, ended.stderr
    return ended.stdout


def test_an_unknown_way_of_the_traffic_is_refused(kennel):
    ended = kennel("update", "dogs", "--on", "aws", "--model", "dogs", "--traffic", "sideways")
    assert "--traffic is 'sideways'; it should be all-at-once, canary, linear or rolling" in ended.stderr


def test_another_script_is_served_with_the_model_that_is_there(kennel, s3, updating, tmp_path, random_model):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for file in random_model.iterdir():
            tar.add(file, arcname=file.name)
    s3.put_object(Bucket=BUCKET, Key="training/dogs/output/model.tar.gz", Body=packed.getvalue())
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "inference.py").write_text("def output_fn(prediction, accept): ...\n")
    updating.add_response("describe_endpoint", endpoint("InService"))
    updating.add_response("describe_endpoint_config", config())
    updating.add_response("describe_model", model())
    there(updating)
    updating.add_response("create_model", {"ModelArn": ARN})
    updating.add_response("create_endpoint_config", {"EndpointConfigArn": ARN})
    updating.add_response("update_endpoint", {"EndpointArn": ARN})
    updating.add_response("describe_endpoint", endpoint("InService"))
    updating.add_response("describe_endpoint", endpoint("InService"))  # still the old configuration: rolled back
    updating.add_response("describe_endpoint_config", config("other"))
    updating.add_response("delete_endpoint_config", {})
    updating.add_response("delete_model", {}, {"ModelName": "other"})
    ended = kennel("update", "dogs", "--on", "aws", "--code", tmp_path / "new")
    assert ended.code == 1
    assert "the endpoint dogs was rolled back to dogs" in ended.stderr
    uploaded = [key for key in keys(s3) if key.startswith("kennel/data/")]
    assert {key.rpartition("/")[2] for key in uploaded} >= {"kennel.json", "model.safetensors", "inference.py"}
    [script] = [key for key in uploaded if key.endswith("/code/inference.py")]
    assert b"output_fn" in s3.get_object(Bucket=BUCKET, Key=script)["Body"].read()


def test_an_update_forgets_what_was_served_before(kennel, s3, updating, monkeypatch):
    monkeypatch.setattr(endpoints, "new_name", lambda stem: f"{stem}-2")
    there(updating)
    updating.add_response("describe_training_job", described_job())
    updating.add_response("create_model", {"ModelArn": ARN})
    updating.add_response("create_endpoint_config", {"EndpointConfigArn": ARN})
    asked = {"EndpointName": "dogs", "EndpointConfigName": "dogs-2"}
    updating.add_response("update_endpoint", {"EndpointArn": ARN}, asked)
    for status in ("Updating", "Updating"):
        updating.add_response("describe_endpoint", endpoint(status))
    for _ in range(2):
        updating.add_response("describe_endpoint", endpoint("InService", "dogs-2"))
    updating.add_response("describe_endpoint_config", config())
    updating.add_response("delete_endpoint_config", {}, {"EndpointConfigName": "dogs"})
    updating.add_response("delete_model", {}, {"ModelName": "dogs"})
    said = kennel_ok(kennel("update", "dogs", "--on", "aws", "--model", "dogs"))
    assert "dogs is Updating after 0 s" in said
    assert "endpoint dogs is in service at" in said


def test_an_update_that_is_left_goes_on_and_that_is_said(kennel, updating, monkeypatch):
    def leave(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(endpoints.time, "sleep", leave)
    there(updating)
    updating.add_response("describe_training_job", described_job())
    updating.add_response("create_model", {"ModelArn": ARN})
    updating.add_response("create_endpoint_config", {"EndpointConfigArn": ARN})
    updating.add_response("update_endpoint", {"EndpointArn": ARN})
    updating.add_response("describe_endpoint", endpoint("Updating"))
    ended = kennel("update", "dogs", "--on", "aws", "--model", "dogs")
    assert ended.code == 130
    assert "what was asked of dogs goes on; `kennel jobs --on aws` shows when it is in service" in ended.stdout


def test_a_folder_without_a_script_is_refused(kennel, random_model, tmp_path):
    ended = kennel("deploy", "--on", "aws", "--model", random_model, "--code", tmp_path)
    assert (ended.code, f"there is no inference.py in {tmp_path}" in ended.stderr) == (1, True)


# The end


def test_delete_says_what_goes_and_deletes_endpoint_configuration_and_model(kennel, s3, sagemaker, job, monkeypatch):
    assert kennel("deploy", "--on", "aws", "--model", job).code == 0
    kept = kennel("delete", "dogs", "--on", "aws")  # nobody answers
    assert (kept.code, "its configuration dogs and the model entry dogs" in kept.stdout + kept.stderr) == (1, True)
    assert kennel("delete", "dogs", "--on", "aws", "--yes").code == 0
    assert sagemaker.list_endpoints()["Endpoints"] == []
    assert sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
    assert sagemaker.list_models()["Models"] == []
    assert sagemaker.describe_training_job(TrainingJobName="dogs")["TrainingJobStatus"] == "Completed"


def test_endpoints_are_listed_and_their_logs_printed(kennel, s3, logs, sagemaker, job):
    assert kennel("deploy", "--on", "aws", "--model", job).code == 0
    assert "InService" in kennel("jobs", "--on", "aws").stdout
    group = "/aws/sagemaker/Endpoints/dogs"
    logs.create_log_group(logGroupName=group)
    write_log(logs, ["ready engine=torch-fp32"], "AllTraffic/i-0a1b", group=group)
    assert kennel("logs", "dogs", "--endpoint", "--on", "aws").stdout == "ready engine=torch-fp32\n"


def test_an_endpoints_log_is_followed_until_it_is_left(kennel, s3, logs, sagemaker, job, monkeypatch):
    assert kennel("deploy", "--on", "aws", "--model", job).code == 0
    group = "/aws/sagemaker/Endpoints/dogs"
    looks = []

    def wait(seconds):
        """Write a line between two looks, then leave as with Ctrl-C, then have the endpoint deleted."""
        looks.append(seconds)
        if len(looks) == 1:
            logs.create_log_group(logGroupName=group)
            write_log(logs, ["ready engine=torch-fp32"], "AllTraffic/i-0a1b", group=group)
        elif len(looks) == 2:
            raise KeyboardInterrupt
        elif len(looks) == 3:
            sagemaker.delete_endpoint(EndpointName="dogs")

    monkeypatch.setattr(logs_command.time, "sleep", wait)
    left = kennel("logs", "dogs", "--endpoint", "-f", "--on", "aws")
    assert left.code == 130
    assert left.stdout.splitlines() == [
        "ready engine=torch-fp32",
        "",
        "dogs goes on; `kennel delete dogs --on aws` ends it",
    ]
    ended = kennel("logs", "dogs", "--endpoint", "-f", "--on", "aws")
    assert (ended.code, ended.stdout) == (0, "ready engine=torch-fp32\n")
