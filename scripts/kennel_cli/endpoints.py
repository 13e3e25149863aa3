"""Serve models on this machine: from a job or a folder to an endpoint that answers."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError, WaiterError

from kennel.errors import KennelError
from kennel_cli import requests
from kennel_cli.jobs import job_with_model, new_name
from kennel_cli.platforms.local import LocalSageMaker
from kennel_cli.platforms.means import require_means
from kennel_cli.settings import LOCAL

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import CreateModelInputTypeDef


class NameTaken(KennelError):
    """The name of a new endpoint is in use."""


class EndpointFailed(KennelError):
    """An endpoint did not come into service."""


def start_endpoint(
    sagemaker: LocalSageMaker, model: str, name: str | None, environment: Mapping[str, str] | None = None
) -> str:
    """Start an endpoint for a finished training job or a model folder, and return its name.

    `environment` holds variables of its server.
    """
    require_means(sagemaker.runner)
    name = name or (new_name(Path(model).absolute().name) if _is_model_folder(model) else model)
    request = _model_request(sagemaker, model, name, environment)
    if name in endpoint_names(sagemaker):
        raise NameTaken(
            f"there is an endpoint {name} already; replace its model with --update, "
            f"delete it with `kennel delete {name}`, or give --name"
        )
    _delete_config_and_model(sagemaker, name)  # of an endpoint that went away without them
    sagemaker.create_model(**request)
    sagemaker.create_endpoint_config(**requests.endpoint_config(name, name, LOCAL))
    sagemaker.create_endpoint(**requests.endpoint(name, name))
    return name


def update_endpoint(
    sagemaker: LocalSageMaker, model: str, endpoint: str, environment: Mapping[str, str] | None = None
) -> None:
    """Replace the model of a running endpoint, without a gap, and wait until the new one answers.

    The old configuration and its model entry are forgotten. Raises EndpointFailed, with the reason, when the endpoint
    serves the old model as before.
    """
    old = sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    name = new_name(endpoint)
    sagemaker.create_model(**_model_request(sagemaker, model, name, environment))
    try:
        sagemaker.create_endpoint_config(**requests.endpoint_config(name, name, LOCAL))
        sagemaker.update_endpoint(**requests.endpoint(endpoint, name))
        wait_until_in_service(sagemaker, endpoint)
        if reason := sagemaker.describe_endpoint(EndpointName=endpoint).get("FailureReason"):
            raise EndpointFailed(reason)
    except (ClientError, EndpointFailed):
        _delete_config_and_model(sagemaker, name)
        raise
    _delete_config_and_model(sagemaker, old)


def wait_until_in_service(sagemaker: LocalSageMaker, endpoint: str) -> None:
    """Wait until the endpoint answers. Raises EndpointFailed, with the reason, when it never will."""
    with contextlib.suppress(WaiterError):  # the description says why
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=endpoint)
    description = sagemaker.describe_endpoint(EndpointName=endpoint)
    if description["EndpointStatus"] != "InService":
        reason = description.get("FailureReason", "")
        raise EndpointFailed(f"the endpoint {endpoint} is {description['EndpointStatus']}: {reason}")


def delete_endpoint(sagemaker: LocalSageMaker, name: str) -> None:
    """End an endpoint and forget its configuration and its model; the model data and the job stay."""
    config = sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name)
    _delete_config_and_model(sagemaker, config)


def endpoint_names(sagemaker: LocalSageMaker, status: str | None = None) -> list[str]:
    """Return the names of the endpoints, newest first; only those in `status` if it is given."""
    wanted = {"StatusEquals": status} if status else {}
    return [endpoint["EndpointName"] for endpoint in sagemaker.list_endpoints(**wanted)["Endpoints"]]


def _is_model_folder(model: str) -> bool:
    return (Path(model) / "kennel.json").is_file()


def _model_request(
    sagemaker: LocalSageMaker, model: str, name: str, environment: Mapping[str, str] | None
) -> "CreateModelInputTypeDef":
    """Return the CreateModel request for a finished training job or a model folder."""
    if _is_model_folder(model):
        request = requests.model_from_folder(name, sagemaker.store.link(Path(model), LOCAL.bucket), LOCAL)
    else:
        archive = job_with_model(sagemaker, model)["ModelArtifacts"]["S3ModelArtifacts"]
        request = requests.model_from_tarball(name, archive, LOCAL)
    if environment:
        request["PrimaryContainer"]["Environment"] = dict(environment)
    return request


def _delete_config_and_model(sagemaker: LocalSageMaker, name: str) -> None:
    """Forget the configuration and the model entry that Kennel made under one name."""
    for delete, key in (
        (sagemaker.delete_endpoint_config, "EndpointConfigName"),
        (sagemaker.delete_model, "ModelName"),
    ):
        with contextlib.suppress(ClientError):  # not there
            delete(**{key: name})
