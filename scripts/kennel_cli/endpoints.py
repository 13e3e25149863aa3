"""Endpoints: from a job or a model folder to one that answers, here and on AWS."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from kennel.errors import ArtifactError, KennelError
from kennel_cli import requests
from kennel_cli.jobs import job_with_model, new_name
from kennel_cli.model_folder import is_model_folder, pack, with_code
from kennel_cli.platforms.platform import S3, Platform, is_not_there
from kennel_cli.platforms.validation import validate
from kennel_cli.requests import MACHINE, NO_CHANGE, EndpointChange, EndpointOptions

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import (
        CreateEndpointConfigInputTypeDef,
        CreateModelInputTypeDef,
        DeploymentConfigTypeDef,
    )

Say = Callable[[str], None]
_SETTLED = ("InService", "Failed", "OutOfService", "UpdateRollbackFailed")


class NameTaken(KennelError):
    """The name of a new endpoint is in use."""


class UpdateRefused(KennelError):
    """The model of an endpoint cannot be replaced as asked."""


class EndpointFailed(KennelError):
    """An endpoint did not come into service."""


@dataclass(frozen=True)
class Served:
    """What an endpoint is to serve."""

    model: str  # a finished training job, a model folder, or the URI of either's model
    environment: Mapping[str, str] = field(default_factory=dict)  # variables of the server
    code: Path | None = None  # a folder with an inference.py that takes the place of the model's own


@dataclass(frozen=True)
class Plan:
    """The requests for a model and its configuration, and what is uploaded before the first is sent."""

    model: CreateModelInputTypeDef
    config: CreateEndpointConfigInputTypeDef
    source: str  # a path, or "" where the model lies in the bucket already
    replaces: str = ""  # the configuration of a running endpoint


def plan_endpoint(platform: Platform, served: Served, name: str, options: EndpointOptions = MACHINE) -> Plan:
    """Return valid requests for a model and a configuration, both called `name`; nothing is sent.

    Raises ArtifactError when there is no such model, and what `validate` raises.
    """
    model, source = plan_model(platform, served, name, options, packed=options.serverless)
    config = requests.endpoint_config(name, name, platform.settings, options)
    validate("CreateEndpointConfig", config)
    return Plan(model, config, source)


def plan_update(platform: Platform, served: Served, endpoint: str, change: EndpointChange = NO_CHANGE) -> Plan:
    """Return valid requests for another model of a running endpoint, which runs as before but for `change`.

    Its variables, network, mode and machines stay, as many as there are now. Raises UpdateRefused for what has not one
    variant with one model, or no machines to change, and what `plan_endpoint` raises; nothing is sent.
    """
    sagemaker = platform.sagemaker
    running = sagemaker.describe_endpoint(EndpointName=endpoint)
    present = sagemaker.describe_endpoint_config(EndpointConfigName=running["EndpointConfigName"])
    variants = present["ProductionVariants"]
    if len(variants) != 1 or "ModelName" not in variants[0]:
        raise UpdateRefused(
            f"the endpoint {endpoint} has not one variant with one model, which is what can be replaced"
        )
    [variant] = variants
    is_serverless = "ServerlessConfig" in variant
    if is_serverless and replace(change, capture=None) != NO_CHANGE:
        raise UpdateRefused(f"the endpoint {endpoint} is serverless and has no machines; leave out what is for these")
    old = _model_entry(sagemaker, variant["ModelName"])
    environment = {**old.get("PrimaryContainer", {}).get("Environment", {}), **served.environment}
    options = EndpointOptions(serverless=is_serverless, isolated=old.get("EnableNetworkIsolation", False))
    name = new_name(endpoint)
    model, source = plan_model(platform, replace(served, environment=environment), name, options, is_serverless)
    if "VpcConfig" in old:
        model.setdefault("VpcConfig", old["VpcConfig"])
    [now, *_] = running.get("ProductionVariants") or [{}]
    instances = now.get("DesiredInstanceCount", variant.get("InitialInstanceCount", 1))
    config = requests.changed_endpoint_config(name, present, instances, platform.settings, change)
    validate("CreateEndpointConfig", config)
    return Plan(model, config, source, running["EndpointConfigName"])


def _model_entry(sagemaker: Any, name: str) -> Mapping[str, Any]:
    """Return the description of a model entry; empty when it is gone."""
    try:
        described: Mapping[str, Any] = sagemaker.describe_model(ModelName=name)
    except ClientError as error:
        if not is_not_there(error):
            raise
        return {}
    return described


def plan_model(
    platform: Platform, served: Served, name: str, options: EndpointOptions = MACHINE, packed: bool = False
) -> tuple[CreateModelInputTypeDef, str]:
    """Return a valid CreateModel request and what has to be uploaded for it, or ""; nothing is sent.

    Serverless endpoints and batch transform take a model only as a `model.tar.gz`, `packed` (contract C1.6). Raises
    ArtifactError when there is no such model, and what `validate` raises.
    """
    model, source = _model_request(platform, served, name, options, packed)
    if served.environment:
        model["PrimaryContainer"]["Environment"] = dict(served.environment)
    validate("CreateModel", model)
    return model, source


def endpoint_name(served: Served, name: str | None) -> str:
    """Return the name of a new endpoint: the one given, else the job's, else one made of the folder's."""
    return name or (new_name(Path(served.model).absolute().name) if is_model_folder(served.model) else served.model)


def start_endpoint(platform: Platform, served: Served, name: str | None, options: EndpointOptions = MACHINE) -> str:
    """Start an endpoint for a finished training job or a model folder, and return its name."""
    platform.require_means()
    name = endpoint_name(served, name)
    if name in endpoint_names(platform.sagemaker):
        raise NameTaken(
            f"there is an endpoint {name} already; replace its model with `kennel update {name}{platform.option}`, "
            f"delete it with `kennel delete {name}{platform.option}`, or give --name"
        )
    plan = plan_endpoint(platform, served, name, options)
    _clear_the_name(platform.sagemaker, name)
    _send(platform, plan)
    platform.sagemaker.create_endpoint(**requests.endpoint(name, name, platform.settings))
    return name


def _clear_the_name(sagemaker: Any, name: str) -> None:
    """Forget a configuration, and its model, of an endpoint that went away without them. Raises NameTaken for another.

    Kennel gives all three one name; what bears another, or serves another endpoint, is somebody's.
    """
    models = _models_of(sagemaker, name)
    if not models:
        return
    others = (sagemaker.describe_endpoint(EndpointName=other) for other in endpoint_names(sagemaker))
    if models != [name] or any(other["EndpointConfigName"] == name for other in others):
        raise NameTaken(f"there is an endpoint configuration {name} already, with which others work; give --name")
    _delete_config_and_models(sagemaker, name)


def update_endpoint(
    platform: Platform,
    plan: Plan,
    endpoint: str,
    deployment: DeploymentConfigTypeDef | None = None,
    say: Say = lambda line: None,
) -> None:
    """Replace what a running endpoint serves as planned, without a gap, and wait until the new model answers.

    The old configuration and its model entry are forgotten. Raises EndpointFailed, with the reason, when the endpoint
    serves the old model as before.
    """
    sagemaker = platform.sagemaker
    name, old = plan.config["EndpointConfigName"], plan.replaces
    request = requests.endpoint_update(endpoint, name, deployment)
    validate("UpdateEndpoint", request)
    try:
        _send(platform, plan)
        sagemaker.update_endpoint(**request)
        wait_until_in_service(platform, endpoint, say)
        now = sagemaker.describe_endpoint(EndpointName=endpoint)
        if now["EndpointConfigName"] != name or now.get("FailureReason"):
            raise EndpointFailed(now.get("FailureReason") or f"the endpoint {endpoint} was rolled back to {old}")
    except (ClientError, EndpointFailed):
        _delete_config_and_models(sagemaker, name)
        raise
    _delete_config_and_models(sagemaker, old)


def wait_until_in_service(platform: Platform, endpoint: str, say: Say = lambda line: None) -> None:
    """Wait until the endpoint answers; `say` is told each change of its status.

    Raises EndpointFailed, with the reason, when it never will.
    """
    began, before = time.monotonic(), ""
    while True:
        description = platform.sagemaker.describe_endpoint(EndpointName=endpoint)
        status = description["EndpointStatus"]
        if status != before:
            say(f"{endpoint} is {status} after {time.monotonic() - began:.0f} s")
            before = status
        if status in _SETTLED:
            break
        time.sleep(platform.poll)
    if status != "InService":
        raise EndpointFailed(f"the endpoint {endpoint} is {status}: {description.get('FailureReason', '')}")


def delete_endpoint(platform: Platform, name: str) -> None:
    """End an endpoint and forget its configuration and its model; the model data and the job stay."""
    sagemaker = platform.sagemaker
    config = sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name)
    _delete_config_and_models(sagemaker, config)


def model_of(platform: Platform, endpoint: str) -> str:
    """Return the URI of the model that an endpoint serves.

    Raises ClientError when there is no such endpoint, or no configuration of it any more.
    """
    sagemaker = platform.sagemaker
    config = sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    [variant, *_] = sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    container = sagemaker.describe_model(ModelName=variant["ModelName"])["PrimaryContainer"]
    if "ModelDataSource" in container:
        return str(container["ModelDataSource"]["S3DataSource"]["S3Uri"])
    return str(container["ModelDataUrl"])


def parts_of(platform: Platform, name: str) -> list[str]:
    """Return what `delete_endpoint` would delete, in words. Raises ClientError when there is no such endpoint."""
    config = platform.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
    models = [f"the model entry {model}" for model in _models_of(platform.sagemaker, config)]
    return [f"the endpoint {name}", f"its configuration {config}", *models]


def endpoint_names(sagemaker: Any, status: str | None = None) -> list[str]:
    """Return the names of the endpoints, newest first; only those in `status` if it is given."""
    wanted = {"StatusEquals": status} if status else {}
    pages = sagemaker.get_paginator("list_endpoints").paginate(SortBy="CreationTime", SortOrder="Descending", **wanted)
    return [endpoint["EndpointName"] for page in pages for endpoint in page["Endpoints"]]


def _send(platform: Platform, plan: Plan) -> None:
    """Upload what has to be, and create the model and the configuration; both or none."""
    if plan.source:
        platform.channel(plan.source)
    platform.sagemaker.create_model(**plan.model)
    try:
        platform.sagemaker.create_endpoint_config(**plan.config)
    except ClientError:
        platform.sagemaker.delete_model(ModelName=plan.model["ModelName"])
        raise


def _model_request(
    platform: Platform, served: Served, name: str, options: EndpointOptions, packed: bool
) -> tuple[CreateModelInputTypeDef, str]:
    """Return the CreateModel request, and what has to be uploaded for it."""
    settings = platform.settings
    if is_model_folder(served.model):
        folder = Path(served.model)
        if served.code is not None:
            folder = with_code(lambda place: Path(served.model), served.code, new_name(name))
    else:
        uri = served.model if served.model.startswith(S3) else _archive(platform, served.model)
        if served.code is None:
            if packed and uri.endswith("/"):
                raise ArtifactError(f"the model at {uri} is no model.tar.gz; copy it to a folder here, and give that")
            made = requests.model_from_folder if uri.endswith("/") else requests.model_from_tarball
            return made(name, uri, settings, options), ""
        folder = with_code(lambda place: platform.fetch(uri, place), served.code, new_name(name))
    if not packed:
        source = str(folder)
        return requests.model_from_folder(name, platform.channel_uri(source), settings, options), source
    source = str(pack(folder, new_name(name)))
    return requests.model_from_tarball(name, platform.channel_uri(source), settings, options), source


def _archive(platform: Platform, job: str) -> str:
    """Return the URI of a finished job's model."""
    return str(job_with_model(platform.sagemaker, job, platform.option)["ModelArtifacts"]["S3ModelArtifacts"])


def _models_of(sagemaker: Any, config: str) -> list[str]:
    """Return the models of a configuration; none when it is not there."""
    try:
        variants = sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    except ClientError as error:
        if not is_not_there(error):
            raise
        return []
    return [variant["ModelName"] for variant in variants]


def _delete_config_and_models(sagemaker: Any, config: str) -> None:
    """Forget a configuration and the model entries that it names."""
    models = _models_of(sagemaker, config) or [config]  # Kennel gives both one name
    with contextlib.suppress(ClientError):  # not there
        sagemaker.delete_endpoint_config(EndpointConfigName=config)
    for model in models:
        with contextlib.suppress(ClientError):
            sagemaker.delete_model(ModelName=model)
