"""What runs in the user's account, and how many machines of which type it has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kennel_cli.operations.calls import Services
from kennel_cli.operations.endpoint import Endpoint, EndpointUnknown, Variant, describe_endpoint

_WITHOUT_MACHINES = ("Deleting", "Failed", "OutOfService")  # endpoints that cost nothing


@dataclass(frozen=True)
class Running:
    """Machines of one type that something has now."""

    name: str
    kind: str  # in words
    use: str  # one of kennel_cli.operations.prices.USES
    instance: str  # "" where there are no machines
    count: int  # of machines, or of what a serverless endpoint keeps ready; nothing is paid by the hour where it is 0


def running(services: Services) -> list[Running]:
    """Return what runs: endpoints, training jobs, trials of searches, and batch transform jobs."""
    return [*_endpoints(services), *_training(services), *_transforms(services)]


def _endpoints(services: Services) -> Iterator[Running]:
    for summary in services.list_all("sagemaker", "ListEndpoints", "Endpoints"):
        if summary["EndpointStatus"] in _WITHOUT_MACHINES:
            continue
        try:
            endpoint = describe_endpoint(services, summary["EndpointName"])
        except EndpointUnknown:  # it was deleted meanwhile
            continue
        status = "" if endpoint.status == "InService" else f", {endpoint.status}"
        for variant in endpoint.variants:
            count = variant.provisioned if variant.is_serverless else variant.count
            yield Running(endpoint.name, _kind(endpoint, variant) + status, "hosting", variant.instance, count)


def _kind(endpoint: Endpoint, variant: Variant) -> str:
    if variant.is_serverless:
        paid = f"{variant.provisioned} kept ready" if variant.provisioned else "paid by the request"
        return f"serverless endpoint, {paid}"
    return "asynchronous endpoint" if endpoint.is_async else "endpoint"


def _training(services: Services) -> Iterator[Running]:
    jobs = services.list_all("sagemaker", "ListTrainingJobs", "TrainingJobSummaries", StatusEquals="InProgress")
    for summary in jobs:
        name = summary["TrainingJobName"]
        job = services.ask("sagemaker", "DescribeTrainingJob", TrainingJobName=name)
        search = job.get("TuningJobArn", "").rpartition("/")[2]
        is_spot = bool(job.get("EnableManagedSpotTraining"))
        kind = (f"trial of {search}" if search else "training job") + (", spot" if is_spot else "")
        for group in _groups(job["ResourceConfig"]):
            use = "spot" if is_spot else "training"
            yield Running(name, kind, use, group["InstanceType"], group["InstanceCount"])


def _groups(resources: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the instance groups of a job; most jobs are one."""
    return list(resources.get("InstanceGroups") or [resources])


def _transforms(services: Services) -> Iterator[Running]:
    jobs = services.list_all("sagemaker", "ListTransformJobs", "TransformJobSummaries", StatusEquals="InProgress")
    for summary in jobs:
        name = summary["TransformJobName"]
        machines = services.ask("sagemaker", "DescribeTransformJob", TransformJobName=name)["TransformResources"]
        yield Running(name, "batch transform job", "transform", machines["InstanceType"], machines["InstanceCount"])
