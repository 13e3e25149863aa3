"""`kennel alarms`: let CloudWatch say when an endpoint is slow, fails, or is about to have too much to do.

What SageMaker measures of an endpoint, and in which units:
https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from kennel.errors import KennelError
from kennel_cli.operations.calls import Call, Services, carry_out
from kennel_cli.operations.endpoint import (
    Endpoint,
    check_name,
    describe_endpoint,
    metrics_namespace,
    own_name,
)
from kennel_cli.operations.machines import cores, gpus
from kennel_cli.places import DryRun, say
from kennel_cli.requests import tag_list

INVOCATIONS = "AWS/SageMaker"  # the namespace of what happens to requests
INSTANCES = "/aws/sagemaker/Endpoints"  # the namespace of what instances use
# what each of an endpoint's alarms is for; the first two say that a new model does harm
LATENCY, ERRORS = "latency", "errors"
PURPOSES = (LATENCY, ERRORS, "oldest_request", "cpu", "memory", "disk", "gpu", "gpu_memory", "queue")
_LATENCY_MS = 500.0
_ERROR_SHARE = 0.01  # of requests
_FULL = 90.0  # per cent
_OLDEST = 1800.0  # seconds that the first in an asynchronous endpoint's queue has waited
_QUEUE = 32.0  # images; the server takes on 64 requests, and answers 503 to more
_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[\w-]{1,256}", re.ASCII)


class AlarmsRefused(KennelError):
    """The alarms cannot be made as they are asked for."""


def alarms(
    endpoint: Annotated[str, typer.Argument(help="an endpoint on AWS")],
    latency_ms: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help=f"milliseconds that the model may take for 99 of 100 requests ({_LATENCY_MS:g}; asynchronous: any)",
        ),
    ] = None,
    topic: Annotated[
        str | None, typer.Option(help="ARN of the SNS topic that hears of an alarm, and of its end")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="delete the endpoint's alarms")] = False,
    dry_run: DryRun = False,
) -> None:
    """Let CloudWatch say when an endpoint is slow, fails, or is about to have too much to do."""
    if off and (latency_ms is not None or topic):
        raise AlarmsRefused("--off takes no other option but --dry-run; leave the others out")
    if topic and not _TOPIC.fullmatch(topic):
        raise AlarmsRefused(
            f"--topic is {topic!r}; it should be the ARN of an SNS topic, such as "
            "arn:aws:sns:eu-west-1:123456789012:on-call"
        )
    check_name(endpoint)
    services = Services()
    if off:
        calls = deletions(services, [own_name(endpoint, purpose) for purpose in PURPOSES])
        carry_out(services, calls, dry_run)
        if not dry_run:
            say(f"the alarms of {endpoint} are deleted" if calls else f"{endpoint} has no alarms")
        return
    found = describe_endpoint(services, endpoint)
    namespace = metrics_namespace(services, found.variant.model)
    made = alarm_calls(found, latency_ms, namespace, topic, services.tags)
    names = {call.request["AlarmName"] for call in made}
    before = [own_name(endpoint, purpose) for purpose in PURPOSES]  # there may be more, of other machines
    carry_out(services, [*made, *deletions(services, [name for name in before if name not in names])], dry_run)
    if dry_run:
        return
    for call in made:
        say(f"{call.request['AlarmName']}: {call.request['AlarmDescription']}")
    if not topic:
        say("nobody is told of them; give --topic, or see them with `kennel dashboard`")
    say(f"undo it with: kennel alarms {endpoint} --off")


def alarm_calls(
    endpoint: Endpoint, latency_ms: float | None, namespace: str, topic: str | None, tags: Mapping[str, str]
) -> list[Call]:
    """Return what makes the alarms of an endpoint.

    `namespace` is where the server says its own figures, or "". An asynchronous endpoint has no limit of latency
    unless `latency_ms` is given: its requests may take an hour.
    """
    return [_call(endpoint, watch, topic, tags) for watch in _watches(endpoint, latency_ms, namespace)]


def rollback_alarms(services: Services, endpoint: str) -> list[str]:
    """Return the names of the alarms, of those that the endpoint has, that say that a new model does harm.

    They are for the AutoRollbackConfiguration of an update: what instances use rises in any deployment.
    """
    return [alarm["AlarmName"] for alarm in existing(services, [own_name(endpoint, p) for p in (LATENCY, ERRORS)])]


def existing(services: Services, names: Sequence[str]) -> list[Any]:
    """Return the descriptions of those alarms that there are."""
    answer = services.ask("cloudwatch", "DescribeAlarms", AlarmNames=list(names), AlarmTypes=["MetricAlarm"])
    return list(answer["MetricAlarms"])


def deletions(services: Services, names: Sequence[str]) -> list[Call]:
    """Return what deletes those alarms that there are: CloudWatch deletes none if one of the names is wrong."""
    there = [alarm["AlarmName"] for alarm in existing(services, names)]
    return [Call("cloudwatch", "DeleteAlarms", {"AlarmNames": there})] if there else []


@dataclass(frozen=True)
class _Watch:
    """What an alarm looks at, and when it is too much."""

    purpose: str
    says: str
    threshold: float
    metric: dict[str, Any] = field(default_factory=dict)  # members of the request that name what is measured
    minutes: tuple[int, int] = (5, 5)  # of the last so many minutes, so many that must be above it


def _watches(endpoint: Endpoint, latency_ms: float | None, namespace: str) -> Iterator[_Watch]:
    variant, name = endpoint.variant, endpoint.name
    dimensions = [{"Name": "EndpointName", "Value": name}, {"Name": "VariantName", "Value": variant.name}]

    def metric(space: str, title: str, **more: Any) -> dict[str, Any]:
        return {"Namespace": space, "MetricName": title, "Dimensions": dimensions, "Period": 60, **more}

    if latency_ms is None and not endpoint.is_async:
        latency_ms = _LATENCY_MS
    if latency_ms is not None:
        yield _Watch(
            LATENCY,
            f"One request of a hundred takes the model of {name} more than {latency_ms:g} ms.",
            latency_ms * 1000,  # ModelLatency is in microseconds
            metric(INVOCATIONS, "ModelLatency", ExtendedStatistic="p99"),
            minutes=(3, 2),
        )
    yield _Watch(
        ERRORS,
        f"{name} answers more than {_ERROR_SHARE:.0%} of its requests with 5xx.",
        _ERROR_SHARE,
        # each request sends 0 or 1, so that the average is their share
        metric(INVOCATIONS, "Invocation5XXErrors", Statistic="Average"),
        minutes=(3, 2),
    )
    if endpoint.is_async:
        whole = {**metric(INVOCATIONS, "ApproximateAgeOfOldestRequest"), "Dimensions": dimensions[:1]}
        says = f"A request has waited for {name} for more than {_OLDEST / 60:g} minutes."
        yield _Watch("oldest_request", says, _OLDEST, {**whole, "Statistic": "Maximum"})
    for purpose, title, units in _resources(endpoint):
        says = f"{title.removesuffix('Utilization')} of an instance of {name} is more than {_FULL:g} % in use."
        yield _Watch(purpose, says, _FULL * units, metric(INSTANCES, title, Statistic="Maximum"))
    if namespace:
        # the server's own figures go by model and engine, not by endpoint; a query needs neither
        query = {"Id": "queue", "Expression": f'SELECT MAX(QueueDepth) FROM "{namespace}"', "Period": 60}
        says = f"More than {_QUEUE:g} images wait for the model of {name} (figures of {namespace})."
        yield _Watch("queue", says, _QUEUE, {"Metrics": [{**query, "ReturnData": True}]})


def _resources(endpoint: Endpoint) -> Iterator[tuple[str, str, int]]:
    """Yield purpose, metric and units of what instances can run out of; 100 per cent of a metric is for one unit."""
    variant = endpoint.variant
    if variant.is_serverless:
        yield "memory", "MemoryUtilization", 1
        return
    if number := cores(variant.instance):
        yield "cpu", "CPUUtilization", number
    yield "memory", "MemoryUtilization", 1
    yield "disk", "DiskUtilization", 1
    if number := gpus(variant.instance):
        yield "gpu", "GPUUtilization", number
        yield "gpu_memory", "GPUMemoryUtilization", number


def _call(endpoint: Endpoint, watch: _Watch, topic: str | None, tags: Mapping[str, str]) -> Call:
    last, above = watch.minutes
    request: dict[str, Any] = {
        "AlarmName": own_name(endpoint.name, watch.purpose),
        "AlarmDescription": watch.says,
        **watch.metric,
        "EvaluationPeriods": last,
        "DatapointsToAlarm": above,
        "Threshold": watch.threshold,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",  # no request is no trouble
    }
    if tags:
        request["Tags"] = tag_list(tags)
    if topic:
        request |= {"AlarmActions": [topic], "OKActions": [topic]}
    return Call("cloudwatch", "PutMetricAlarm", request)
