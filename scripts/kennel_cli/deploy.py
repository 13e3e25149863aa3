"""The commands `kennel deploy`, `kennel update` and `kennel delete`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kennel.errors import KennelError
from kennel_cli import endpoints, requests
from kennel_cli.endpoints import Served
from kennel_cli.places import DryRun, OfPlace, On, Place, console, given_settings, platform_of, say, say_page
from kennel_cli.platforms.account import aws_errors
from kennel_cli.platforms.platform import Kind, Platform
from kennel_cli.requests import MACHINE, NO_CHANGE, EndpointChange, EndpointOptions

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import DeploymentConfigTypeDef

_BAKE = 300  # seconds that a part of the traffic goes to the new model before the rest follows
_CANARY = 10  # percent of the machines that a canary or a linear step takes
_ROLLING = 50  # percent of the machines that are replaced together; the service takes 5 to 50
_AWS_ALONE = "machines, modes, capture, timeouts and isolation are for endpoints on AWS; add --on aws"

Explain = Annotated[bool, typer.Option("--explain", help="let it also show where in a picture it sees what it answers")]
Code = Annotated[
    Path | None, typer.Option(help="a folder with an inference.py that takes the place of the model's own")
]
InstanceCount = Annotated[int, typer.Option(min=1, help="on AWS: machines that serve")]
Serverless = Annotated[bool, typer.Option("--serverless", help="on AWS: no machine while nobody asks; no GPU")]
Asynchronous = Annotated[
    bool, typer.Option("--async", help="on AWS: requests and answers are objects in the bucket, of up to 1 GB")
]
Memory = Annotated[int, typer.Option(help="on AWS: MB of a serverless endpoint, 1024 to 6144 in steps of 1024")]
MaxConcurrency = Annotated[
    int, typer.Option(min=1, help="on AWS: requests at a time, of a serverless or an asynchronous endpoint")
]
Capture = Annotated[
    int, typer.Option(min=0, max=100, help="on AWS: percent of requests and answers that are kept in the bucket")
]
StartupTimeout = Annotated[
    int,
    typer.Option(help="on AWS: seconds to load the model and to answer, 60 to 3600; the service's own unless given"),
]
Ami = Annotated[str, typer.Option(help="on AWS: InferenceAmiVersion of machines with a GPU")]
Isolated = Annotated[bool, typer.Option("--isolated", help="on AWS: give the endpoint no network")]


def deploy(
    model: Annotated[str, typer.Option(help="a finished training job, or a model folder (with a kennel.json)")],
    name: Annotated[str | None, typer.Option(help="name of the endpoint; the job's unless given")] = None,
    explain: Explain = False,
    code: Code = None,
    instance_count: InstanceCount = MACHINE.instance_count,
    serverless: Serverless = False,
    asynchronous: Asynchronous = False,
    memory: Memory = MACHINE.memory,
    max_concurrency: MaxConcurrency = MACHINE.max_concurrency,
    capture: Capture = 0,
    startup_timeout: StartupTimeout = 0,
    ami: Ami = "",
    isolated: Isolated = False,
    dry_run: DryRun = False,
    on: On = Place.LOCAL,
) -> None:
    """Start an endpoint that serves a model, and wait until it answers."""
    options = EndpointOptions(
        instance_count, serverless, memory, max_concurrency, asynchronous, capture, startup_timeout, ami, isolated
    )
    _check(options, on)
    platform, served = platform_of(on), _served(model, explain or None, code)
    if dry_run:
        name = endpoints.endpoint_name(served, name)
        plan = endpoints.plan_endpoint(platform, served, name, options)
        create = requests.endpoint(name, name, platform.settings)
        _print({"CreateModel": plan.model, "CreateEndpointConfig": plan.config, "CreateEndpoint": create})
        return
    endpoint = endpoints.start_endpoint(platform, served, name, options)
    say_page(platform, Kind.ENDPOINT, endpoint)
    _wait(platform, endpoint, "starting")
    _show(platform, endpoint)


def update(
    endpoint: Annotated[str | None, typer.Argument(help="needed when more than one is in service")] = None,
    model: Annotated[str | None, typer.Option(help="a finished training job, or a model folder")] = None,
    explain: Annotated[
        bool | None,
        typer.Option("--explain/--no-explain", help="let it show where in a picture it sees what it answers, or not"),
    ] = None,
    code: Code = None,
    instance_count: Annotated[int | None, typer.Option(min=1, help="on AWS: machines that serve")] = None,
    capture: Annotated[
        int | None,
        typer.Option(min=0, max=100, help="on AWS: percent of requests and answers that are kept in the bucket"),
    ] = None,
    startup_timeout: StartupTimeout = 0,
    ami: Ami = "",
    traffic: Annotated[
        str, typer.Option(help="on AWS: how it moves to the new model: all-at-once, canary, linear or rolling")
    ] = "all-at-once",
    alarm: Annotated[
        list[str] | None, typer.Option(help="on AWS: a CloudWatch alarm that brings the old model back, repeatable")
    ] = None,
    dry_run: DryRun = False,
    on: OfPlace = Place.LOCAL,
) -> None:
    """Replace the model of a running endpoint, or its inference script, without a gap; what is not given stays."""
    wanted = EndpointChange(
        instance_count, given_settings().get("endpoint_instance", ""), capture, startup_timeout, ami
    )
    platform = platform_of(on)
    if wanted != NO_CHANGE and on is not Place.AWS:
        raise KennelError(_AWS_ALONE)
    deployment = _deployment(traffic, alarm or [])
    if deployment and on is not Place.AWS:
        raise KennelError("--traffic and --alarm are for endpoints on AWS; add --on aws, or leave them out")
    endpoint = endpoint or only_endpoint(platform, "the argument ENDPOINT")
    served = _served(model or endpoints.model_of(platform, endpoint), explain, code)
    with aws_errors("sagemaker"):
        plan = endpoints.plan_update(platform, served, endpoint, wanted)
    if traffic == "rolling" and plan.config["ProductionVariants"][0].get("InitialInstanceCount", 1) < 2:
        raise KennelError(
            f"--traffic rolling replaces some machines after the others, and {endpoint} has one; take canary or "
            "linear, or give --instance-count 2"
        )
    if dry_run:
        change = requests.endpoint_update(endpoint, plan.config["EndpointConfigName"], deployment)
        _print({"CreateModel": plan.model, "CreateEndpointConfig": plan.config, "UpdateEndpoint": change})
        return
    try:
        with console.status(f"updating {endpoint}"), aws_errors("sagemaker"):
            endpoints.update_endpoint(platform, plan, endpoint, deployment, _say(platform))
    except KeyboardInterrupt:
        console.print(
            f"\nwhat was asked of {endpoint} goes on; `kennel jobs{platform.option}` shows when it is in service",
            soft_wrap=True,
        )
        raise typer.Exit(130) from None
    _show(platform, endpoint)


def delete(
    name: Annotated[str, typer.Argument(help="an endpoint")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    on: OfPlace = Place.LOCAL,
) -> None:
    """Delete an endpoint with its configuration and its model entry; jobs, model data and images stay."""
    platform = platform_of(on)
    parts = endpoints.parts_of(platform, name)
    if not yes:
        typer.confirm(f"Delete {', '.join(parts[:-1])} and {parts[-1]}?", abort=True)
    endpoints.delete_endpoint(platform, name)
    console.print(f"endpoint {name} is deleted")


def only_endpoint(platform: Platform, option: str = "--endpoint") -> str:
    """Return the one endpoint that is in service. Raises KennelError when there is none, or more than one."""
    names = endpoints.endpoint_names(platform.sagemaker, "InService")
    if len(names) == 1:
        return names[0]
    if not names:
        raise KennelError(f"no endpoint is in service; start one with `kennel deploy --model JOB{platform.option}`")
    raise KennelError(f"{len(names)} endpoints are in service, choose one with {option}: {', '.join(names)}")


def _served(model: str, explain: bool | None, code: Path | None) -> Served:
    return Served(model, {} if explain is None else {"KENNEL_EXPLAIN": str(explain).lower()}, code)


def _check(options: EndpointOptions, on: Place) -> None:
    """Raise KennelError for options that do not go together, or that only AWS has."""
    if options != MACHINE and on is not Place.AWS:
        raise KennelError(_AWS_ALONE)
    if options.serverless:
        wrong = {
            "--async": options.asynchronous,
            "--capture": options.capture,
            "--isolated": options.isolated,
            "--instance-count": options.instance_count > 1,
        }
        for flag in (flag for flag, given in wrong.items() if given):
            raise KennelError(f"a serverless endpoint has no {flag}; leave out one of the two")


def _deployment(traffic: str, alarms: list[str]) -> "DeploymentConfigTypeDef | None":
    """Return how the traffic moves to the new model; None leaves it to the service."""
    if traffic == "all-at-once" and not alarms:
        return None
    config: DeploymentConfigTypeDef = {}
    if traffic == "rolling":
        config["RollingUpdatePolicy"] = {
            "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": _ROLLING},
            "WaitIntervalInSeconds": _BAKE,
        }
    elif traffic in ("all-at-once", "canary", "linear"):
        size = {"Type": "CAPACITY_PERCENT", "Value": _CANARY}
        steps = {"canary": {"CanarySize": size}, "linear": {"LinearStepSize": size}}.get(traffic, {})
        routing: Any = {"Type": traffic.upper().replace("-", "_"), "WaitIntervalInSeconds": _BAKE, **steps}
        config["BlueGreenUpdatePolicy"] = {
            "TrafficRoutingConfiguration": routing,
            "TerminationWaitInSeconds": _BAKE,
        }
    else:
        raise KennelError(f"--traffic is {traffic!r}; it should be all-at-once, canary, linear or rolling")
    if alarms:
        config["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": alarm} for alarm in alarms]}
    return config


def _wait(platform: Platform, endpoint: str, doing: str) -> None:
    """Wait until an endpoint answers; who does not wait is told that it goes on."""
    try:
        with console.status(f"{doing} {endpoint}"), aws_errors("sagemaker"):
            endpoints.wait_until_in_service(platform, endpoint, _say(platform))
    except KeyboardInterrupt:
        there = f"{endpoint}{platform.option}"
        console.print(f"\nthe endpoint {endpoint} goes on starting; `kennel delete {there}` ends it", soft_wrap=True)
        raise typer.Exit(130) from None


def _say(platform: Platform) -> endpoints.Say:
    """Return what tells a person each status of an endpoint on AWS, where one takes minutes."""
    return say if platform.option else lambda line: None


def _show(platform: Platform, endpoint: str) -> None:
    console.print(f"endpoint {endpoint} is in service at {platform.endpoint_url(endpoint)}", soft_wrap=True)
    console.print(f"ask it with: kennel invoke --endpoint {endpoint}{platform.option} PICTURE", soft_wrap=True)


def _print(requests_to_send: dict[str, Any]) -> None:
    print(json.dumps(requests_to_send, indent=2))
