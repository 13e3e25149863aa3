"""What an endpoint on AWS is: what kind, which machines, how many of them now."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from kennel.errors import KennelError
from kennel_cli.operations.calls import Services

NAMESPACE = "KENNEL_METRICS_NAMESPACE"  # the server's variable for CloudWatch figures of its own
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")  # SageMaker's own pattern of an endpoint's name


class EndpointUnknown(KennelError):
    """There is no such endpoint, or it is not one that Kennel can operate."""


@dataclass(frozen=True)
class Variant:
    """Machines that serve one model; all of them have the same type."""

    name: str
    model: str
    instance: str  # "" where there are none, and where nothing tells it
    count: int  # machines that there are now
    is_serverless: bool
    provisioned: int  # concurrent requests that a serverless variant is kept ready for, which costs by the hour


@dataclass(frozen=True)
class Endpoint:
    """An endpoint as it is now."""

    name: str
    status: str
    is_async: bool
    variants: tuple[Variant, ...]

    @property
    def variant(self) -> Variant:
        """The only variant. Raises EndpointUnknown where there are several."""
        if len(self.variants) != 1:
            names = ", ".join(variant.name for variant in self.variants)
            raise EndpointUnknown(
                f"the endpoint {self.name} has {len(self.variants)} variants ({names}); "
                "Kennel operates endpoints with one, as it deploys them"
            )
        return self.variants[0]


def own_name(endpoint: str, purpose: str) -> str:
    """Return the name of something that Kennel makes for an endpoint, such as an alarm.

    `purpose` has underscores where words meet, which no endpoint's name has: two endpoints never share a name.
    """
    return f"kennel-{endpoint}-{purpose}"


def check_name(name: str) -> None:
    """Raise EndpointUnknown for what no endpoint can be called."""
    if not _NAME.fullmatch(name):
        raise EndpointUnknown(
            f"{name!r} is no name of an endpoint; it has up to 63 letters, digits and hyphens, none at its ends"
        )


def describe_endpoint(services: Services, name: str) -> Endpoint:
    """Return an endpoint of the account. Raises EndpointUnknown when there is none of that name."""
    check_name(name)
    try:
        description = services.ask("sagemaker", "DescribeEndpoint", EndpointName=name)
    except ClientError as error:
        if "Could not find" not in error.response["Error"]["Message"]:
            raise
        raise EndpointUnknown(
            f"there is no endpoint {name} in {services.region}; `kennel cost` lists those that run"
        ) from error
    config = _config(services, description["EndpointConfigName"])
    return Endpoint(
        name=name,
        status=description["EndpointStatus"],
        is_async="AsyncInferenceConfig" in {**description, **config},
        variants=tuple(_variants(description, config)),
    )


def _config(services: Services, name: str) -> Mapping[str, Any]:
    """Return an endpoint's configuration, or nothing where it was deleted: the endpoint goes on, and costs."""
    try:
        found: Mapping[str, Any] = services.ask("sagemaker", "DescribeEndpointConfig", EndpointConfigName=name)
    except ClientError as error:
        if "Could not find" not in error.response["Error"]["Message"]:
            raise
        return {}
    return found


def metrics_namespace(services: Services, model: str) -> str:
    """Return the CloudWatch namespace to which a model's server says its own figures, or ""."""
    if not model:
        return ""
    containers: list[Mapping[str, Any]] = []
    with contextlib.suppress(ClientError):  # an endpoint goes on without its model's entry
        description = services.ask("sagemaker", "DescribeModel", ModelName=model)
        containers = [description.get("PrimaryContainer", {}), *description.get("Containers", [])]
    return next((found for c in containers if (found := c.get("Environment", {}).get(NAMESPACE))), "")


def _variants(description: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Variant]:
    """Yield the variants that there are now, those that only mirror requests among them, as they were configured."""
    members = ("ProductionVariants", "ShadowProductionVariants")
    asked = {variant["VariantName"]: variant for member in members for variant in config.get(member, [])}
    now = {variant["VariantName"]: variant for member in members for variant in description.get(member, [])}
    for name, variant in ({name: {} for name in asked} | now).items():  # while it is made, there is only what was asked
        request = asked.get(name, {})
        serverless = variant.get("CurrentServerlessConfig") or request.get("ServerlessConfig") or {}
        yield Variant(
            name=name,
            model=request.get("ModelName", ""),
            instance=request.get("InstanceType", ""),
            count=variant.get("CurrentInstanceCount", 0),
            is_serverless=bool(serverless),
            provisioned=serverless.get("ProvisionedConcurrency", 0),
        )
