"""`kennel dashboard` on AWS as moto plays it."""

import json

import boto3
import pytest
from botocore.stub import ANY, Stubber

from kennel_cli.operations.calls import Services
from tests.aws.conftest import REGION
from tests.aws.endpoints import make_endpoint


@pytest.fixture
def cloudwatch(account):
    return boto3.client("cloudwatch", region_name=REGION)


def page(cloudwatch, name="kennel-dogs"):
    return json.loads(cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"])["widgets"]


def titles(widgets):
    return [widget["properties"]["title"] for widget in widgets]


def metrics(widgets, title):
    """Return what a chart draws; expressions by their text, other lines by metric and statistic."""
    (chart,) = (widget["properties"]["metrics"] for widget in widgets if widget["properties"]["title"] == title)
    return [line[0]["expression"] if len(line) == 1 else (line[1], line[-1]["stat"]) for line in chart]


def test_the_page_shows_requests_errors_latency_and_what_instances_use(kennel, sagemaker, cloudwatch):
    make_endpoint(sagemaker, instance="ml.g4dn.xlarge")
    ended = kennel("dashboard", "dogs")
    assert ended.code == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1#dashboards/dashboard/kennel-dogs",
        "it shows alarms too, once `kennel alarms dogs` has made some and this is run again",
        "undo it with: kennel dashboard dogs --off",
    ]
    widgets = page(cloudwatch)
    assert titles(widgets) == [
        "Requests a minute",
        "Errors a minute",
        "Latency of the model, ms",
        "Latency that SageMaker adds, ms",
        "Instances",
        "CPU, % of a core, all cores together",
        "Memory and disk, %",
        "GPUs, % of one, all together",
    ]
    assert metrics(widgets, "Latency of the model, ms") == [
        "modelLatency_p50 / 1000",
        ("ModelLatency", "p50"),
        "modelLatency_p90 / 1000",
        ("ModelLatency", "p90"),
        "modelLatency_p99 / 1000",
        ("ModelLatency", "p99"),
    ]
    assert metrics(widgets, "Instances") == ["whole / each", ("Invocations", "Sum"), ("InvocationsPerInstance", "Sum")]
    assert {widget["properties"]["region"] for widget in widgets} == {REGION}


def test_widgets_lie_beside_and_below_each_other(kennel, sagemaker, cloudwatch):
    make_endpoint(sagemaker, namespace="Kennel/dogs")
    kennel("alarms", "dogs")
    kennel("dashboard", "dogs")
    cells = [
        (x, y)
        for w in page(cloudwatch)
        for x in range(w["x"], w["x"] + w["width"])
        for y in range(w["y"], w["y"] + w["height"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23


def test_alarms_that_there_are_come_first(kennel, sagemaker, cloudwatch):
    make_endpoint(sagemaker)
    kennel("alarms", "dogs")
    assert "it shows alarms too" not in kennel("dashboard", "dogs").stdout
    first = page(cloudwatch)[0]
    assert first["type"] == "alarm"
    arns = {alarm["AlarmArn"] for alarm in cloudwatch.describe_alarms()["MetricAlarms"]}
    assert set(first["properties"]["alarms"]) == arns
    assert len(arns) == 5


def test_the_figures_of_the_server_are_searched_for_by_model_and_engine(kennel, sagemaker, cloudwatch):
    make_endpoint(sagemaker, namespace="Kennel/dogs")
    kennel("dashboard", "dogs")
    assert metrics(page(cloudwatch), "The server: latency, ms") == [
        f"SEARCH('{{\"Kennel/dogs\",model,engine}} MetricName=\"Latency\"', '{stat}', 60)"
        for stat in ("p50", "p90", "p99")
    ]


def test_the_page_of_an_asynchronous_endpoint_shows_its_queue(kennel, sagemaker, cloudwatch):
    make_endpoint(sagemaker, asynchronous=True)
    kennel("dashboard", "dogs")
    widgets = page(cloudwatch)
    assert metrics(widgets, "Requests that wait") == [("ApproximateBacklogSize", "Maximum")]
    assert "Latency that SageMaker adds, ms" not in titles(widgets)


def test_the_page_of_a_serverless_endpoint_shows_its_starts_and_no_instances(kennel, sagemaker, cloudwatch):
    make_endpoint(sagemaker, serverless={"MemorySizeInMB": 4096, "MaxConcurrency": 8})
    kennel("dashboard", "dogs")
    assert "Starts, ms" in titles(page(cloudwatch))
    assert "Instances" not in titles(page(cloudwatch))


def test_a_dry_run_prints_the_page_and_makes_none(kennel, sagemaker, cloudwatch):
    make_endpoint(sagemaker)
    (call,) = json.loads(kennel("dashboard", "dogs", "--dry-run").stdout)
    assert call["request"]["DashboardName"] == "kennel-dogs"
    assert {"Key": "team", "Value": "vision"} in call["request"]["Tags"]
    assert "Requests a minute" in titles(json.loads(call["request"]["DashboardBody"])["widgets"])
    assert cloudwatch.list_dashboards()["DashboardEntries"] == []


def test_off_deletes_the_page_also_of_an_endpoint_that_is_gone(kennel, sagemaker, cloudwatch):
    make_endpoint(sagemaker)
    kennel("dashboard", "dogs")
    sagemaker.delete_endpoint(EndpointName="dogs")
    assert kennel("dashboard", "dogs", "--off").stdout == "the dashboard of dogs is deleted\n"
    assert cloudwatch.list_dashboards()["DashboardEntries"] == []
    ended = kennel("dashboard", "dogs", "--off")
    assert (ended.code, ended.stdout) == (0, "dogs has no dashboard\n")


def test_what_cloudwatch_remarks_on_is_said(kennel, sagemaker, cloudwatch, monkeypatch):
    """moto has no remarks."""
    make_endpoint(sagemaker)
    remark = {"DataPath": "/widgets/3/properties", "Message": "Unused property"}
    client = Services._client
    with Stubber(cloudwatch) as stubber:
        stubber.add_response(
            "describe_alarms", {"MetricAlarms": []}, {"AlarmNames": ANY, "AlarmTypes": ["MetricAlarm"]}
        )
        answer = {"DashboardValidationMessages": [remark]}
        stubber.add_response(
            "put_dashboard", answer, {"DashboardName": "kennel-dogs", "DashboardBody": ANY, "Tags": ANY}
        )
        monkeypatch.setattr(
            Services, "_client", lambda self, name: cloudwatch if name == "cloudwatch" else client(self, name)
        )
        ended = kennel("dashboard", "dogs")
    assert ended.stdout.startswith("CloudWatch remarks on /widgets/3/properties: Unused property\n")
