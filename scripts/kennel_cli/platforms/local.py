"""LocalSageMaker: boto3's SageMaker client, played on this machine."""

from pathlib import Path
from typing import Any

import botocore.session
from botocore import xform_name
from botocore.paginate import Paginator
from botocore.waiter import NormalizedOperationMethod, SingleWaiterConfig, Waiter

from kennel_cli.platforms.choice import LOCAL
from kennel_cli.platforms.model_registry import ModelRegistry
from kennel_cli.platforms.store import LocalStore
from kennel_cli.platforms.transform_jobs import TransformJobs
from kennel_cli.platforms.tuning_jobs import TuningJobs
from kennel_cli.platforms.validation import service_model

_WAIT_DELAY = 0.5  # seconds; a local job takes seconds where a service takes minutes
_WAIT_ATTEMPTS = 10**6  # a waiter gives up after almost six days


class LocalSageMaker(TuningJobs, TransformJobs, ModelRegistry):
    """What Kennel needs of boto3's client, with its methods, requests, responses and errors.

    Everything is kept below one folder and outlives this process. Only what is defined here is available locally. New
    jobs and endpoints run with `runner`, a name that `choose_runner` knows.
    """

    def __init__(self, home: Path, runner: str = LOCAL) -> None:
        self.home = home
        self.runner = runner
        self.store = LocalStore(home / "s3")

    def __getattr__(self, name: str) -> Any:
        """Say plainly that an operation of the service is not available here."""
        raise AttributeError(f"{name} is not available locally")

    def get_paginator(self, operation_name: str) -> Paginator:
        """Return one of boto3's own paginators, such as `list_endpoints`. Raises ValueError for one that it has not."""
        session = botocore.session.get_session()
        pages = session.get_component("data_loader").load_service_model("sagemaker", "paginators-1")["pagination"]
        names = {xform_name(name): name for name in pages}
        if operation_name not in names:
            raise ValueError(f"there are no pages of {operation_name}")
        operation = names[operation_name]
        model = service_model("sagemaker").operation_model(operation)
        return Paginator(getattr(self, operation_name), pages[operation], model)

    def get_waiter(self, waiter_name: str) -> Waiter:
        """Return one of boto3's own waiters, such as `training_job_completed_or_stopped` or `endpoint_in_service`."""
        session = botocore.session.get_session()
        description = session.get_component("data_loader").load_service_model("sagemaker", "waiters-2")
        names = {xform_name(name): name for name in description["waiters"]}
        if waiter_name not in names:
            raise ValueError(f"Waiter does not exist: {waiter_name}")
        config = {**description["waiters"][names[waiter_name]], "delay": _WAIT_DELAY, "maxAttempts": _WAIT_ATTEMPTS}
        method = NormalizedOperationMethod(getattr(self, xform_name(config["operation"])))
        return Waiter(names[waiter_name], SingleWaiterConfig(config), method)
