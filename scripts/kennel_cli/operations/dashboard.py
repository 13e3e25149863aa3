"""`kennel dashboard`: one page of CloudWatch with all that tells how an endpoint does.

The page is a JSON document:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
"""

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from botocore.exceptions import ClientError

from kennel_cli.operations.alarms import INSTANCES, INVOCATIONS, PURPOSES, existing
from kennel_cli.operations.calls import Call, Services, carry_out
from kennel_cli.operations.endpoint import Endpoint, check_name, describe_endpoint, metrics_namespace, own_name
from kennel_cli.operations.machines import gpus
from kennel_cli.operations.scaling import FROM_ZERO
from kennel_cli.places import DryRun, say
from kennel_cli.requests import tag_list

_WIDTH, _HEIGHT = 12, 6  # of a widget, in cells of a page that is 24 wide

Metric = list[Any]  # namespace, metric, its dimensions' names and values, and how it is drawn; or an expression


def dashboard(
    endpoint: Annotated[str, typer.Argument(help="an endpoint on AWS")],
    off: Annotated[bool, typer.Option("--off", help="delete the endpoint's dashboard")] = False,
    dry_run: DryRun = False,
) -> None:
    """Make a page in CloudWatch that shows how an endpoint does, and print its address."""
    check_name(endpoint)
    services, name = Services(), f"kennel-{endpoint}"
    if off:
        _delete(services, endpoint, name, dry_run)
        return
    found = describe_endpoint(services, endpoint)
    namespace = metrics_namespace(services, found.variant.model)
    alarms = existing(services, [own_name(endpoint, purpose) for purpose in (*PURPOSES, FROM_ZERO)])
    body = dashboard_body(found, services.region, namespace, [alarm["AlarmArn"] for alarm in alarms])
    request: dict[str, Any] = {"DashboardName": name, "DashboardBody": json.dumps(body)}
    if tags := services.tags:
        request["Tags"] = tag_list(tags)
    call = Call("cloudwatch", "PutDashboard", request)
    answers = carry_out(services, [call], dry_run)
    if dry_run:
        return
    for remark in answers[0].get("DashboardValidationMessages", []):
        say(f"CloudWatch remarks on {remark.get('DataPath', 'the page')}: {remark.get('Message', '')}")
    say(f"{services.console}/cloudwatch/home?region={services.region}#dashboards/dashboard/{name}")
    if not alarms:
        say(f"it shows alarms too, once `kennel alarms {endpoint}` has made some and this is run again")
    say(f"undo it with: kennel dashboard {endpoint} --off")


def dashboard_body(endpoint: Endpoint, region: str, namespace: str, alarm_arns: Sequence[str]) -> dict[str, Any]:
    """Return the page of an endpoint; `namespace` is where its server says its own figures, or ""."""
    charts = [*_charts(endpoint), *(_own_charts(namespace) if namespace else [])]
    top = 3 if alarm_arns else 0
    widgets: list[dict[str, Any]] = []
    if alarm_arns:
        place = {"x": 0, "y": 0, "width": 2 * _WIDTH, "height": top}
        widgets.append({"type": "alarm", **place, "properties": {"title": "Alarms", "alarms": list(alarm_arns)}})
    for number, (title, metrics) in enumerate(charts):
        properties = {
            "title": title,
            "metrics": metrics,
            "region": region,
            "period": 60,
            "view": "timeSeries",
            "stacked": False,
            "yAxis": {"left": {"min": 0}},
        }
        place = {"x": _WIDTH * (number % 2), "y": top + _HEIGHT * (number // 2), "width": _WIDTH, "height": _HEIGHT}
        widgets.append({"type": "metric", **place, "properties": properties})
    return {"widgets": widgets}


def _charts(endpoint: Endpoint) -> Iterator[tuple[str, list[Metric]]]:
    """Yield title and lines of what SageMaker itself measures of the endpoint's kind."""
    variant = endpoint.variant
    whole = ["EndpointName", endpoint.name]
    one = [*whole, "VariantName", variant.name]

    def line(space: str, metric: str, stat: str, **more: Any) -> Metric:
        return [space, metric, *one, {"stat": stat, **more}]

    errors = [line(INVOCATIONS, f"Invocation{kind}XXErrors", "Sum", label=f"{kind}xx") for kind in (4, 5)]
    if endpoint.is_async:
        names = ("InvocationsProcessed", "InvocationFailures", "ExpiredRequests")
        yield "Requests a minute", [line(INVOCATIONS, name, "Sum") for name in names]
    else:
        yield "Requests a minute", [line(INVOCATIONS, "Invocations", "Sum")]
    yield "Errors a minute", errors
    yield "Latency of the model, ms", _milliseconds("ModelLatency", one)
    if endpoint.is_async:
        queue = [[INVOCATIONS, "ApproximateBacklogSize", *whole, {"stat": "Maximum"}]]
        yield "Requests that wait", queue
        oldest = [INVOCATIONS, "ApproximateAgeOfOldestRequest", *whole, {"stat": "Maximum"}]
        yield "Age of the oldest request, s", [oldest]
    else:
        yield "Latency that SageMaker adds, ms", _milliseconds("OverheadLatency", one)
    if variant.is_serverless:
        yield "Starts, ms", _milliseconds("ModelSetupTime", one)
        yield "Memory, %", [line(INSTANCES, "MemoryUtilization", "Maximum")]
        return
    yield "Instances", _instances(endpoint, one)
    yield "CPU, % of a core, all cores together", [line(INSTANCES, "CPUUtilization", "Maximum")]
    yield (
        "Memory and disk, %",
        [line(INSTANCES, name, "Maximum") for name in ("MemoryUtilization", "DiskUtilization")],
    )
    if gpus(variant.instance):
        yield (
            "GPUs, % of one, all together",
            [line(INSTANCES, name, "Maximum") for name in ("GPUUtilization", "GPUMemoryUtilization")],
        )


def _milliseconds(metric: str, dimensions: Sequence[str]) -> list[Metric]:
    """Return p50, p90 and p99 of a metric that SageMaker gives in microseconds."""
    lines: list[Metric] = []
    for stat in ("p50", "p90", "p99"):
        key = f"{metric[0].lower()}{metric[1:]}_{stat}"
        lines.append([{"expression": f"{key} / 1000", "label": stat, "id": f"{key}_ms"}])
        lines.append([INVOCATIONS, metric, *dimensions, {"stat": stat, "id": key, "visible": False}])
    return lines


def _instances(endpoint: Endpoint, one: Sequence[str]) -> list[Metric]:
    """Return how many instances there are: SageMaker tells what all have, and what each has."""
    if endpoint.is_async:
        all_of, each, stat, dimensions = (
            "ApproximateBacklogSize",
            "ApproximateBacklogSizePerInstance",
            "Average",
            one[:2],
        )
    else:
        all_of, each, stat, dimensions = "Invocations", "InvocationsPerInstance", "Sum", one
    return [
        [{"expression": "whole / each", "label": "instances, while there are requests", "id": "instances"}],
        [INVOCATIONS, all_of, *dimensions, {"stat": stat, "id": "whole", "visible": False}],
        [INVOCATIONS, each, *dimensions, {"stat": stat, "id": "each", "visible": False}],
    ]


def _own_charts(namespace: str) -> Iterator[tuple[str, list[Metric]]]:
    """Yield what the server itself says, by model and engine (see kennel.serving.cloudwatch)."""

    def search(metric: str, stat: str) -> Metric:
        found = f"SEARCH('{{\"{namespace}\",model,engine}} MetricName=\"{metric}\"', '{stat}', 60)"
        return [{"expression": found, "id": f"{metric[0].lower()}{metric[1:]}_{stat.lower()}"}]

    yield "The server: requests a minute", [search(f"Requests{kind}xx", "Sum") for kind in (2, 4, 5)]
    yield "The server: latency, ms", [search("Latency", stat) for stat in ("p50", "p90", "p99")]
    yield (
        "The server: images that wait, and that go through the model together",
        [
            search("QueueDepth", "Maximum"),
            search("BatchSize", "Average"),
        ],
    )
    yield "The server: CPU and GPUs, %", [search(name, "Average") for name in ("CPUUtilization", "GPUUtilization")]
    yield "The server: memory, bytes", [search(name, "Average") for name in ("MemoryUsed", "GPUMemoryUsed")]


def _delete(services: Services, endpoint: str, name: str, dry_run: bool) -> None:
    try:
        carry_out(services, [Call("cloudwatch", "DeleteDashboards", {"DashboardNames": [name]})], dry_run)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("ResourceNotFound", "DashboardNotFoundError"):
            raise
        say(f"{endpoint} has no dashboard")
        return
    if not dry_run:
        say(f"the dashboard of {endpoint} is deleted")
