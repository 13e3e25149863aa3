"""What a job has cost, as far as the price of its machines is known."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from kennel_cli.operations.prices import Prices, PricesUnreadable

_CENTS = Decimal("0.01")


def training_cost(job: Mapping[str, Any]) -> str:
    """Return what a described training job has cost, in words; "" for one that was stopped before it began."""
    seconds = job.get("BillableTimeInSeconds", 0)
    use = "spot" if job.get("EnableManagedSpotTraining") else "training"
    return _words(job["TrainingJobArn"], use, job.get("ResourceConfig", {}), seconds)


def transform_cost(job: Mapping[str, Any]) -> str:
    """Return what a described batch transform job has cost, in words; "" for one that has not run."""
    if "TransformStartTime" not in job or "TransformEndTime" not in job:
        return ""
    seconds = (job["TransformEndTime"] - job["TransformStartTime"]).total_seconds()
    return _words(job["TransformJobArn"], "transform", job["TransformResources"], seconds)


def _words(arn: str, use: str, machines: Mapping[str, Any], seconds: float) -> str:
    """Say the sum for machines that were paid for so long; an amount that is not known is not guessed."""
    instance, count = machines.get("InstanceType", ""), machines.get("InstanceCount", 0)
    if not seconds or not instance:
        return ""
    paid = f"{seconds:.0f} s of {count} × {instance}"
    try:
        price = Prices(arn.split(":")[3], None).of(use, instance)
    except PricesUnreadable as error:  # the job itself is well
        return f"it used {paid}; what that cost is not known: {error}"
    if price is None:
        return f"it used {paid}; no price of that ({use}) is known, [prices] in kennel.toml can tell it"
    dollars = price.dollars * count * Decimal(seconds) / 3600
    return f"it cost ${max(dollars.quantize(_CENTS), _CENTS)}: {paid} at ${price.dollars} an hour ({price.date})"
