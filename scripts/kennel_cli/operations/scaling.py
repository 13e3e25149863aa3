"""`kennel scale`: let AWS add and remove an endpoint's instances as requests come.

What the policies watch, and from where, is AWS's own advice:
https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-add-code-define.html
https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference-autoscale.html
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

import typer

from kennel.errors import KennelError
from kennel_cli.operations.alarms import deletions
from kennel_cli.operations.calls import Call, Services, carry_out, check, print_calls
from kennel_cli.operations.endpoint import Endpoint, check_name, describe_endpoint, own_name
from kennel_cli.places import DryRun, say
from kennel_cli.requests import tag_list

SERVICE = "application-autoscaling"
_DIMENSION = "sagemaker:variant:DesiredInstanceCount"
_SCALE_IN = 600  # seconds after a change before an instance is taken away: traffic comes in waves
_SCALE_OUT = 300  # seconds after a change before another is added: so long one takes to come into service
_REQUESTS = 300.0  # a minute an instance; AWS advises half of what one was measured to do
_BACKLOG = 5.0  # waiting requests an instance; AWS's own example
FROM_ZERO = "from_zero"


class ScalingRefused(KennelError):
    """An endpoint cannot scale as it is asked to."""


def scale(
    endpoint: Annotated[str, typer.Argument(help="an endpoint on AWS")],
    least: Annotated[
        int | None, typer.Option("--min", min=0, help="instances that always run; 0 is for asynchronous ones (1)")
    ] = None,
    most: Annotated[int | None, typer.Option("--max", min=1, help="instances that run, and cost, at the most")] = None,
    requests_per_instance: Annotated[
        float | None,
        typer.Option(min=1, help=f"requests a minute that one instance should get ({_REQUESTS:g}); real-time"),
    ] = None,
    backlog_per_instance: Annotated[
        float | None,
        typer.Option(min=0.1, help=f"requests that may wait for one instance ({_BACKLOG:g}); asynchronous"),
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="scale no longer; the instances that run now stay")] = False,
    dry_run: DryRun = False,
) -> None:
    """Let AWS add and remove an endpoint's instances as requests come."""
    given = (least, most, requests_per_instance, backlog_per_instance)
    if off and any(value is not None for value in given):
        raise ScalingRefused("--off takes no other option but --dry-run; leave the others out")
    if not off and most is None:
        raise ScalingRefused("--max is missing; give the number of instances that may run, and cost, at the most")
    check_name(endpoint)
    services = Services()
    if off:
        _turn_off(services, endpoint, dry_run)
        return
    found = describe_endpoint(services, endpoint)
    least = 1 if least is None else least
    _check(found, least, int(most or 0), requests_per_instance, backlog_per_instance)
    target = (backlog_per_instance or _BACKLOG) if found.is_async else (requests_per_instance or _REQUESTS)
    tags = services.tags
    first = {} if _scalable_targets(services, endpoint) else tags  # one that is there cannot be tagged by this request
    calls = [*_leftovers(services, found, least), *scaling_calls(found, least, int(most or 0), target, first)]
    policy = f"<the PolicyARN of {own_name(endpoint, FROM_ZERO)}>"
    alarm = [_alarm_from_zero(endpoint, policy, tags)] if not least else []
    check([*calls, *alarm])
    if dry_run:
        print_calls([*calls, *alarm])
        return
    answers = [services.send(call) for call in calls]
    if alarm:
        services.send(_alarm_from_zero(endpoint, answers[-1]["PolicyARN"], tags))
    what = "waiting requests" if found.is_async else "requests a minute"
    say(f"{endpoint} scales between {least} and {most} instances, at {target:g} {what} an instance")
    if alarm:
        say("its first request after a rest waits for an instance: some minutes")
    say(f"undo it with: kennel scale {endpoint} --off")


def scaling_calls(
    endpoint: Endpoint, least: int, most: int, target: float, tags: Mapping[str, str] = MappingProxyType({})
) -> list[Call]:
    """Return what lets the endpoint's variant scale; the policy that wakes it from zero instances, if any, is last.

    `target` is requests a minute an instance, or waiting requests an instance for an asynchronous endpoint.
    """
    variant = _target(endpoint)
    limits: dict[str, Any] = {**variant, "MinCapacity": least, "MaxCapacity": most}
    calls = [Call(SERVICE, "RegisterScalableTarget", {**limits, "Tags": dict(tags)} if tags else limits)]
    tracking: dict[str, Any] = {"TargetValue": target, "ScaleInCooldown": _SCALE_IN, "ScaleOutCooldown": _SCALE_OUT}
    if endpoint.is_async:
        tracking["CustomizedMetricSpecification"] = {
            "MetricName": "ApproximateBacklogSizePerInstance",
            "Namespace": "AWS/SageMaker",
            "Dimensions": [{"Name": "EndpointName", "Value": endpoint.name}],
            "Statistic": "Average",
        }
    else:
        tracking["PredefinedMetricSpecification"] = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    calls.append(
        _policy(
            endpoint,
            "backlog" if endpoint.is_async else "requests",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration=tracking,
        )
    )
    if not least:
        one_more = {
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Average",
            "Cooldown": _SCALE_OUT,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
        }
        calls.append(_policy(endpoint, FROM_ZERO, PolicyType="StepScaling", StepScalingPolicyConfiguration=one_more))
    return calls


def _check(found: Endpoint, least: int, most: int, requests: float | None, backlog: float | None) -> None:
    """Raise ScalingRefused for what the endpoint, or its kind, cannot do."""
    if found.variant.is_serverless:
        raise ScalingRefused(
            f"the endpoint {found.name} is serverless: it scales by itself, from nothing up to the MaxConcurrency "
            "of its configuration; raise that instead"
        )
    if not least and not found.is_async:
        raise ScalingRefused(
            f"--min 0 is for asynchronous endpoints, whose requests wait in a queue for an instance; {found.name} is "
            "real-time and needs one to answer at all, so give --min 1, or deploy it as asynchronous or serverless"
        )
    if least > most:
        raise ScalingRefused(f"--min {least} is more than --max {most}; give the smaller number as --min")
    if found.is_async and requests is not None:
        raise ScalingRefused(
            f"--requests-per-instance is for real-time endpoints; {found.name} is asynchronous and scales with its "
            "queue, so give --backlog-per-instance"
        )
    if not found.is_async and backlog is not None:
        raise ScalingRefused(
            f"--backlog-per-instance is for asynchronous endpoints; {found.name} is real-time and has no queue, so "
            "give --requests-per-instance"
        )


def _turn_off(services: Services, endpoint: str, dry_run: bool) -> None:
    """Undo what `scale` did, also where the endpoint itself is gone."""
    own = _scalable_targets(services, endpoint)
    calls = [  # its policies go with it
        Call(
            SERVICE,
            "DeregisterScalableTarget",
            {"ServiceNamespace": "sagemaker", "ResourceId": resource, "ScalableDimension": _DIMENSION},
        )
        for resource in own
    ]
    calls += deletions(services, [own_name(endpoint, FROM_ZERO)])
    carry_out(services, calls, dry_run)
    if not dry_run:
        say(f"{endpoint} scales no longer; the instances that it has now stay" if own else f"{endpoint} does not scale")


def _scalable_targets(services: Services, endpoint: str) -> list[str]:
    """Return the resources of an endpoint that scale."""
    targets = services.list_all(
        SERVICE,
        "DescribeScalableTargets",
        "ScalableTargets",
        ServiceNamespace="sagemaker",
        ScalableDimension=_DIMENSION,
    )
    return [t["ResourceId"] for t in targets if t["ResourceId"].startswith(f"endpoint/{endpoint}/variant/")]


def _leftovers(services: Services, endpoint: Endpoint, least: int) -> list[Call]:
    """Return what removes the way from zero that an earlier `scale` made, where it is no longer asked for."""
    if not least:
        return []
    variant, name = _target(endpoint), own_name(endpoint.name, FROM_ZERO)
    policies = services.list_all(SERVICE, "DescribeScalingPolicies", "ScalingPolicies", **variant)
    there = any(policy["PolicyName"] == name for policy in policies)
    old = [Call(SERVICE, "DeleteScalingPolicy", {"PolicyName": name, **variant})] if there else []
    return [*old, *deletions(services, [own_name(endpoint.name, FROM_ZERO)])]


def _alarm_from_zero(endpoint: str, policy_arn: str, tags: Mapping[str, str]) -> Call:
    """Return the alarm that sets off the policy: requests wait, and there is no instance."""
    return Call(
        "cloudwatch",
        "PutMetricAlarm",
        {
            "AlarmName": own_name(endpoint, FROM_ZERO),
            "AlarmDescription": f"Requests wait for {endpoint}, which has no instance: one is started.",
            "Namespace": "AWS/SageMaker",
            "MetricName": "HasBacklogWithoutCapacity",
            "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
            "Statistic": "Average",
            "Period": 60,
            "EvaluationPeriods": 2,
            "DatapointsToAlarm": 2,
            "Threshold": 1.0,
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "TreatMissingData": "missing",
            "AlarmActions": [policy_arn],
            **({"Tags": tag_list(tags)} if tags else {}),
        },
    )


def _policy(endpoint: Endpoint, purpose: str, **more: Any) -> Call:
    name = own_name(endpoint.name, purpose)
    return Call(SERVICE, "PutScalingPolicy", {"PolicyName": name, **_target(endpoint), **more})


def _target(endpoint: Endpoint) -> Mapping[str, str]:
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint.name}/variant/{endpoint.variant.name}",
        "ScalableDimension": _DIMENSION,
    }
