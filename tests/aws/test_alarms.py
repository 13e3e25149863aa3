"""`kennel alarms` on AWS as moto plays it."""

import json

import boto3
import pytest

from kennel_cli.operations.alarms import rollback_alarms
from kennel_cli.operations.calls import Services
from kennel_cli.operations.endpoint import own_name
from kennel_cli.operations.machines import cores, gpus
from kennel_cli.platforms.validation import service_model
from tests.aws.conftest import REGION
from tests.aws.endpoints import make_endpoint

TOPIC = "arn:aws:sns:eu-west-1:123456789012:on-call"


@pytest.fixture
def cloudwatch(account):
    return boto3.client("cloudwatch", region_name=REGION)


def made(cloudwatch):
    return {alarm["AlarmName"]: alarm for alarm in cloudwatch.describe_alarms()["MetricAlarms"]}


def test_an_endpoint_on_cpus_has_alarms_of_latency_errors_and_what_its_instances_use(kennel, sagemaker, cloudwatch):
    make_endpoint(sagemaker, instance="ml.m5.xlarge")
    ended = kennel("alarms", "dogs", "--latency-ms", "250", "--topic", TOPIC)
    assert ended.code == 0, ended.stderr
    found = made(cloudwatch)
    assert set(found) == {f"kennel-dogs-{purpose}" for purpose in ("latency", "errors", "cpu", "memory", "disk")}
    latency = found["kennel-dogs-latency"]
    assert (latency["Namespace"], latency["MetricName"]) == ("AWS/SageMaker", "ModelLatency")
    assert latency["ExtendedStatistic"] == "p99"
    assert latency["Threshold"] == 250_000  # microseconds
    assert latency["Dimensions"] == [
        {"Name": "EndpointName", "Value": "dogs"},
        {"Name": "VariantName", "Value": "AllTraffic"},
    ]
    errors = found["kennel-dogs-errors"]
    assert (errors["MetricName"], errors["Statistic"], errors["Threshold"]) == ("Invocation5XXErrors", "Average", 0.01)
    cpu = found["kennel-dogs-cpu"]
    assert (cpu["Namespace"], cpu["Threshold"]) == ("/aws/sagemaker/Endpoints", 4 * 90)  # all cores together
    for alarm in found.values():
        assert alarm["TreatMissingData"] == "notBreaching"
        assert alarm["AlarmActions"] == alarm["OKActions"] == [TOPIC]
        tags = cloudwatch.list_tags_for_resource(ResourceARN=alarm["AlarmArn"])["Tags"]
        assert {"Key": "team", "Value": "vision"} in tags
    assert "kennel-dogs-latency: One request of a hundred takes the model of dogs more than 250 ms." in ended.stdout
    assert ended.stdout.splitlines()[-1] == "undo it with: kennel alarms dogs --off"


def test_an_endpoint_on_gpus_has_alarms_of_all_gpus_together(kennel, sagemaker, cloudwatch):
    make_endpoint(sagemaker, instance="ml.g4dn.12xlarge")
    assert "nobody is told of them; give --topic" in kennel("alarms", "dogs").stdout
    found = made(cloudwatch)
    assert found["kennel-dogs-gpu"]["Threshold"] == found["kennel-dogs-gpu_memory"]["Threshold"] == 4 * 90
    assert found["kennel-dogs-cpu"]["Threshold"] == 48 * 90
    assert found["kennel-dogs-latency"]["Threshold"] == 500_000
    assert found["kennel-dogs-gpu"]["AlarmActions"] == []


def test_a_server_that_says_its_own_figures_has_an_alarm_of_its_queue(kennel, sagemaker, cloudwatch):
    make_endpoint(sagemaker, namespace="Kennel/dogs")
    assert kennel("alarms", "dogs").code == 0
    (query,) = made(cloudwatch)["kennel-dogs-queue"]["Metrics"]
    assert query["Expression"] == 'SELECT MAX(QueueDepth) FROM "Kennel/dogs"'
    assert query["ReturnData"] is True


def test_an_asynchronous_endpoint_has_an_alarm_of_its_oldest_request_and_none_of_latency(kennel, sagemaker, cloudwatch):
    make_endpoint(sagemaker, asynchronous=True)
    assert kennel("alarms", "dogs").code == 0
    found = made(cloudwatch)
    assert "kennel-dogs-latency" not in found
    oldest = found["kennel-dogs-oldest_request"]
    assert (oldest["MetricName"], oldest["Threshold"]) == ("ApproximateAgeOfOldestRequest", 1800)
    assert oldest["Dimensions"] == [{"Name": "EndpointName", "Value": "dogs"}]


def test_a_serverless_endpoint_has_only_alarms_of_what_it_measures(kennel, sagemaker, cloudwatch):
    make_endpoint(sagemaker, serverless={"MemorySizeInMB": 4096, "MaxConcurrency": 8})
    assert kennel("alarms", "dogs").code == 0
    assert set(made(cloudwatch)) == {"kennel-dogs-latency", "kennel-dogs-errors", "kennel-dogs-memory"}


def test_off_deletes_exactly_the_alarms_of_the_endpoint(kennel, sagemaker, cloudwatch):
    for name in ("dogs", "dogs-gpu"):
        make_endpoint(sagemaker, name=name)
        kennel("alarms", name)
    kennel("scale", "dogs", "--max", "2")
    before = {name for name in made(cloudwatch) if name.startswith("kennel-dogs-gpu-")}
    ended = kennel("alarms", "dogs", "--off")
    assert (ended.code, ended.stdout) == (0, "the alarms of dogs are deleted\n")
    assert set(made(cloudwatch)) == before
    assert len(before) == 5
    assert kennel("alarms", "dogs", "--off").stdout == "dogs has no alarms\n"


def test_alarms_of_machines_that_the_endpoint_has_no_longer_are_deleted(kennel, sagemaker, cloudwatch):
    make_endpoint(sagemaker, instance="ml.g4dn.xlarge")
    kennel("alarms", "dogs")
    variant = {"VariantName": "AllTraffic", "ModelName": "dogs", "InstanceType": "ml.m5.large"}
    sagemaker.delete_endpoint(EndpointName="dogs")
    sagemaker.create_endpoint_config(
        EndpointConfigName="cpu", ProductionVariants=[{**variant, "InitialInstanceCount": 1}]
    )
    sagemaker.create_endpoint(EndpointName="dogs", EndpointConfigName="cpu")
    assert kennel("alarms", "dogs").code == 0
    assert not {"kennel-dogs-gpu", "kennel-dogs-gpu_memory"} & set(made(cloudwatch))
    assert made(cloudwatch)["kennel-dogs-cpu"]["Threshold"] == 2 * 90


def test_a_dry_run_prints_the_alarms_and_makes_none(kennel, sagemaker, cloudwatch):
    make_endpoint(sagemaker)
    calls = json.loads(kennel("alarms", "dogs", "--dry-run").stdout)
    assert {call["operation"] for call in calls} == {"PutMetricAlarm"}
    assert calls[0]["request"]["AlarmName"] == "kennel-dogs-latency"
    assert made(cloudwatch) == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--topic", "on-call"), "--topic is 'on-call'; it should be the ARN of an SNS topic, such as arn:aws:sns:"),
        (("--off", "--latency-ms", "9"), "--off takes no other option but --dry-run"),
    ],
)
def test_a_mistake_is_one_sentence_and_no_alarm_is_made(kennel, sagemaker, cloudwatch, arguments, sentence):
    make_endpoint(sagemaker)
    ended = kennel("alarms", "dogs", *arguments)
    assert ended.code == 1
    assert ended.stderr.startswith(f"kennel: {sentence}")
    assert made(cloudwatch) == {}


def test_an_update_rolls_back_on_latency_and_errors_alone(kennel, sagemaker, cloudwatch):
    make_endpoint(sagemaker)
    assert rollback_alarms(Services(), "dogs") == []
    kennel("alarms", "dogs")
    assert sorted(rollback_alarms(Services(), "dogs")) == ["kennel-dogs-errors", "kennel-dogs-latency"]


def test_names_are_within_what_cloudwatch_takes_and_two_endpoints_never_share_one():
    longest = own_name("d" * 63, "oldest_request")
    assert len(longest) <= service_model("cloudwatch").shape_for("AlarmName").metadata["max"]
    assert own_name("dogs-gpu", "memory") != own_name("dogs", "gpu_memory")


@pytest.mark.parametrize(
    ("instance", "vcpus", "devices"),
    [
        ("ml.m5.large", 2, 0),
        ("ml.c5.9xlarge", 36, 0),
        ("ml.g4dn.xlarge", 4, 1),
        ("ml.g4dn.12xlarge", 48, 4),
        ("ml.g5.16xlarge", 64, 1),
        ("ml.g6e.48xlarge", 192, 8),
        ("ml.p3.2xlarge", 8, 1),
        ("ml.p3.8xlarge", 32, 4),
        ("ml.p2.8xlarge", 32, 8),
        ("ml.p2.16xlarge", 64, 16),
        ("ml.p4d.24xlarge", 96, 8),
        ("ml.p6-b200.48xlarge", 192, 8),
        ("ml.inf2.xlarge", 4, 0),
        ("ml.t2.medium", 0, 0),  # one or two virtual CPUs: there is no alarm of them
    ],
)
def test_a_type_tells_its_cores_and_gpus(instance, vcpus, devices):
    assert (cores(instance), gpus(instance)) == (vcpus, devices)
