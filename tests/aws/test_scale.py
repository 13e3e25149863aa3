"""`kennel scale` on AWS as moto plays it."""

import json

import boto3
import pytest

from tests.aws.conftest import REGION
from tests.aws.endpoints import make_endpoint

TAGS = {"team": "vision", "project": "dogs"}  # of all tests here
VARIANT = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/dogs/variant/AllTraffic",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
SERVERLESS = {"MemorySizeInMB": 4096, "MaxConcurrency": 8}


@pytest.fixture
def scaling(account):
    return boto3.client("application-autoscaling", region_name=REGION)


@pytest.fixture
def cloudwatch(account):
    return boto3.client("cloudwatch", region_name=REGION)


def targets(scaling):
    found = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    return {target["ResourceId"]: (target["MinCapacity"], target["MaxCapacity"]) for target in found}


def policies(scaling):
    found = scaling.describe_scaling_policies(**VARIANT)["ScalingPolicies"]
    return {policy["PolicyName"]: policy for policy in found}


def alarm_names(cloudwatch):
    return [alarm["AlarmName"] for alarm in cloudwatch.describe_alarms()["MetricAlarms"]]


def test_a_real_time_endpoint_scales_with_its_requests(kennel, sagemaker, scaling, cloudwatch):
    make_endpoint(sagemaker)
    ended = kennel("scale", "dogs", "--min", "1", "--max", "4", "--requests-per-instance", "120")
    assert ended.code == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "dogs scales between 1 and 4 instances, at 120 requests a minute an instance",
        "undo it with: kennel scale dogs --off",
    ]
    assert targets(scaling) == {VARIANT["ResourceId"]: (1, 4)}
    policy = policies(scaling)["kennel-dogs-requests"]
    assert policy["PolicyType"] == "TargetTrackingScaling"
    assert policy["TargetTrackingScalingPolicyConfiguration"] == {
        "TargetValue": 120.0,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
        "ScaleInCooldown": 600,
        "ScaleOutCooldown": 300,
    }
    assert alarm_names(cloudwatch) == []  # AWS itself makes those of target tracking


def test_an_asynchronous_endpoint_goes_to_zero_and_comes_back(kennel, sagemaker, scaling, cloudwatch):
    make_endpoint(sagemaker, asynchronous=True)
    ended = kennel("scale", "dogs", "--min", "0", "--max", "2")
    assert ended.code == 0, ended.stderr
    assert "dogs scales between 0 and 2 instances, at 5 waiting requests an instance" in ended.stdout
    assert targets(scaling) == {VARIANT["ResourceId"]: (0, 2)}
    found = policies(scaling)
    assert set(found) == {"kennel-dogs-backlog", "kennel-dogs-from_zero"}
    assert found["kennel-dogs-backlog"]["TargetTrackingScalingPolicyConfiguration"][
        "CustomizedMetricSpecification"
    ] == {
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Namespace": "AWS/SageMaker",
        "Dimensions": [{"Name": "EndpointName", "Value": "dogs"}],
        "Statistic": "Average",
    }
    step = found["kennel-dogs-from_zero"]["StepScalingPolicyConfiguration"]
    assert step["AdjustmentType"] == "ChangeInCapacity"
    assert step["StepAdjustments"] == [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}]
    (alarm,) = cloudwatch.describe_alarms()["MetricAlarms"]
    assert (alarm["AlarmName"], alarm["MetricName"]) == ("kennel-dogs-from_zero", "HasBacklogWithoutCapacity")
    assert alarm["AlarmActions"] == [found["kennel-dogs-from_zero"]["PolicyARN"]]
    assert alarm["Dimensions"] == [{"Name": "EndpointName", "Value": "dogs"}]


def test_an_asynchronous_endpoint_that_keeps_an_instance_loses_the_way_from_zero(
    kennel, sagemaker, scaling, cloudwatch
):
    make_endpoint(sagemaker, asynchronous=True)
    kennel("scale", "dogs", "--min", "0", "--max", "2")
    assert kennel("scale", "dogs", "--min", "1", "--max", "2", "--backlog-per-instance", "3").code == 0
    found = policies(scaling)
    assert list(found) == ["kennel-dogs-backlog"]
    assert found["kennel-dogs-backlog"]["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 3.0
    assert alarm_names(cloudwatch) == []
    assert targets(scaling) == {VARIANT["ResourceId"]: (1, 2)}


def test_what_scales_already_is_not_tagged_which_is_for_another_request_to_do(kennel, sagemaker, scaling, cloudwatch):
    make_endpoint(sagemaker)
    assert kennel("scale", "dogs", "--max", "4").code == 0
    calls = json.loads(kennel("scale", "dogs", "--max", "5", "--dry-run").stdout)
    assert [call["request"] for call in calls if call["operation"] == "RegisterScalableTarget"] == [
        {**VARIANT, "MinCapacity": 1, "MaxCapacity": 5}
    ]


def test_off_undoes_it_and_nothing_else(kennel, sagemaker, scaling, cloudwatch):
    make_endpoint(sagemaker, asynchronous=True)
    make_endpoint(sagemaker, name="dogs-2", asynchronous=True)
    for name in ("dogs", "dogs-2"):
        kennel("scale", name, "--min", "0", "--max", "2")
    ended = kennel("scale", "dogs", "--off")
    assert (ended.code, ended.stdout) == (0, "dogs scales no longer; the instances that it has now stay\n")
    assert targets(scaling) == {"endpoint/dogs-2/variant/AllTraffic": (0, 2)}
    assert alarm_names(cloudwatch) == ["kennel-dogs-2-from_zero"]
    assert kennel("scale", "dogs", "--off").stdout == "dogs does not scale\n"


def test_off_works_for_an_endpoint_that_is_gone(kennel, sagemaker, scaling, cloudwatch):
    make_endpoint(sagemaker, asynchronous=True)
    kennel("scale", "dogs", "--min", "0", "--max", "2")
    sagemaker.delete_endpoint(EndpointName="dogs")
    assert kennel("scale", "dogs", "--off").code == 0
    assert targets(scaling) == {}
    assert alarm_names(cloudwatch) == []


def test_a_dry_run_prints_what_would_be_sent_and_sends_nothing(kennel, sagemaker, scaling, cloudwatch):
    make_endpoint(sagemaker, asynchronous=True)
    calls = json.loads(kennel("scale", "dogs", "--min", "0", "--max", "2", "--dry-run").stdout)
    assert [(call["service"], call["operation"]) for call in calls] == [
        ("application-autoscaling", "RegisterScalableTarget"),
        ("application-autoscaling", "PutScalingPolicy"),
        ("application-autoscaling", "PutScalingPolicy"),
        ("cloudwatch", "PutMetricAlarm"),
    ]
    assert calls[0]["request"] == {**VARIANT, "MinCapacity": 0, "MaxCapacity": 2, "Tags": TAGS}
    assert calls[3]["request"]["Tags"] == [{"Key": key, "Value": value} for key, value in TAGS.items()]
    assert calls[3]["request"]["AlarmActions"] == ["<the PolicyARN of kennel-dogs-from_zero>"]
    assert targets(scaling) == {}
    assert alarm_names(cloudwatch) == []


def test_a_dry_run_of_off_sends_nothing(kennel, sagemaker, scaling, cloudwatch):
    make_endpoint(sagemaker, asynchronous=True)
    kennel("scale", "dogs", "--min", "0", "--max", "2")
    calls = json.loads(kennel("scale", "dogs", "--off", "--dry-run").stdout)
    assert [call["operation"] for call in calls] == ["DeregisterScalableTarget", "DeleteAlarms"]
    assert targets(scaling) == {VARIANT["ResourceId"]: (0, 2)}
    assert alarm_names(cloudwatch) == ["kennel-dogs-from_zero"]


@pytest.mark.parametrize(
    ("kind", "arguments", "sentence"),
    [
        ({}, ("--min", "0", "--max", "2"), "--min 0 is for asynchronous endpoints, whose requests wait in a queue"),
        ({}, ("--min", "3", "--max", "2"), "--min 3 is more than --max 2; give the smaller number as --min"),
        ({}, ("--max", "2", "--backlog-per-instance", "3"), "--backlog-per-instance is for asynchronous endpoints"),
        ({}, ("--min", "1"), "--max is missing; give the number of instances that may run"),
        ({}, ("--off", "--max", "2"), "--off takes no other option but --dry-run"),
        (
            {"asynchronous": True},
            ("--max", "2", "--requests-per-instance", "30"),
            "--requests-per-instance is for real-time endpoints; dogs is asynchronous",
        ),
        (
            {"serverless": SERVERLESS},
            ("--max", "2"),
            "the endpoint dogs is serverless: it scales by itself, from nothing up to the MaxConcurrency",
        ),
    ],
)
def test_what_an_endpoint_cannot_do_is_one_sentence(kennel, sagemaker, scaling, kind, arguments, sentence):
    make_endpoint(sagemaker, **kind)
    ended = kennel("scale", "dogs", *arguments)
    assert ended.code == 1
    assert ended.stderr.startswith(f"kennel: {sentence}")
    assert targets(scaling) == {}


@pytest.mark.parametrize("verb", [("scale", "--max", "2"), ("alarms",), ("dashboard",)])
def test_an_endpoint_that_is_not_there_is_said(kennel, verb):
    ended = kennel(verb[0], "dogs", *verb[1:])
    assert ended.code == 1
    assert ended.stderr == "kennel: there is no endpoint dogs in eu-west-1; `kennel cost` lists those that run\n"


@pytest.mark.parametrize("verb", ["scale", "alarms", "dashboard"])
def test_a_name_that_no_endpoint_has_is_refused(kennel, verb):
    ended = kennel(verb, "under_score", "--off")
    assert ended.code == 1
    assert "'under_score' is no name of an endpoint; it has up to 63 letters, digits and hyphens" in ended.stderr


def test_an_endpoint_with_several_variants_is_refused(kennel, sagemaker, scaling):
    make_endpoint(sagemaker)
    variants = [
        {"VariantName": name, "ModelName": "dogs", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        for name in ("A", "B")
    ]
    sagemaker.create_endpoint_config(EndpointConfigName="two", ProductionVariants=variants)
    sagemaker.create_endpoint(EndpointName="two", EndpointConfigName="two")
    ended = kennel("scale", "two", "--max", "2")
    assert ended.code == 1
    assert "the endpoint two has 2 variants (A, B); Kennel operates endpoints with one" in ended.stderr
