"""LocalSageMaker: boto3's SageMaker client, played on this machine."""

import json
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import botocore.session
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.waiter import NormalizedOperationMethod, SingleWaiterConfig, Waiter

from kennel.atomic import write_json
from kennel_cli.platforms.choice import LOCAL
from kennel_cli.platforms.records import Record, now
from kennel_cli.platforms.store import LocalStore
from kennel_cli.platforms.validation import client_error, validate

ACCOUNT = "arn:aws:sagemaker:local:000000000000"
_TIMES = ("CreationTime", "LastModifiedTime", "TrainingStartTime", "TrainingEndTime", "Timestamp")
_WAIT_DELAY = 0.5  # seconds; a local job takes seconds where a service takes minutes
_WAIT_ATTEMPTS = 10**6  # a waiter gives up after almost six days
_GONE = "the process that ran it is gone: it was killed, or the machine was restarted"

_FOLDERS = {"Model": "models", "EndpointConfig": "endpoint-configs"}

Response = dict[str, Any]


class LocalSageMaker:
    """Training jobs, models and endpoints with the methods, requests, responses and errors of boto3's client.

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

    # Training jobs

    def create_training_job(self, **request: Any) -> Response:
        """Start a training job. Raises ClientError (ResourceInUse) when the name is taken."""
        validate("CreateTrainingJob", request)
        record = self._training_job(request["TrainingJobName"])
        arn = f"{ACCOUNT}:training-job/{record.name}"
        status = {"TrainingJobArn": arn, "TrainingJobStatus": "InProgress", "SecondaryStatus": "Starting"}
        try:
            record.create(request, status, keeper="kennel_cli.platforms.training_keeper", runner=self.runner)
        except FileExistsError:
            message = "Training job names must be unique within an AWS account and Region, or this machine."
            raise client_error("ResourceInUse", message, "CreateTrainingJob") from None
        return _response({"TrainingJobArn": arn})

    def describe_training_job(self, **request: Any) -> Response:
        """Return the job's request and status."""
        validate("DescribeTrainingJob", request)
        record = self._training_job(request["TrainingJobName"])
        if not record.exists():
            raise client_error("ValidationException", "Requested resource not found.", "DescribeTrainingJob")
        return _response({**record.request(), **_training_status(record)})

    def list_training_jobs(self, **request: Any) -> Response:
        """Return summaries of jobs: newest first, by name or status if so asked, in pages."""
        validate("ListTrainingJobs", request)
        keys = ("TrainingJobArn", "CreationTime", "LastModifiedTime", "TrainingEndTime", "TrainingJobStatus")
        items = self._summaries("TrainingJob", "training-jobs", _training_status, keys)
        return _page("TrainingJobSummaries", items, "TrainingJob", request)

    def stop_training_job(self, **request: Any) -> Response:
        """Ask a job to stop: SIGTERM, then SIGKILL after 120 seconds."""
        validate("StopTrainingJob", request)
        status = self.describe_training_job(**request)["TrainingJobStatus"]
        if status not in ("InProgress", "Stopping"):
            message = f"The request was rejected because the training job is in status {status}."
            raise client_error("ValidationException", message, "StopTrainingJob")
        self._training_job(request["TrainingJobName"]).ask_to_stop()
        return _response({})

    # Models and endpoints

    def create_model(self, **request: Any) -> Response:
        """Remember which container serves which model data."""
        return self._put("Model", request, {"ModelArn": f"{ACCOUNT}:model/{request.get('ModelName')}"})

    def describe_model(self, **request: Any) -> Response:
        """Return a model's request."""
        return self._get("Model", request)

    def list_models(self, **request: Any) -> Response:
        """Return summaries of models."""
        return self._list("Model", request)

    def delete_model(self, **request: Any) -> Response:
        """Forget a model; the model data stays."""
        return self._remove("Model", request)

    def create_endpoint_config(self, **request: Any) -> Response:
        """Remember which model an endpoint serves."""
        arn = f"{ACCOUNT}:endpoint-config/{request.get('EndpointConfigName')}"
        return self._put("EndpointConfig", request, {"EndpointConfigArn": arn})

    def describe_endpoint_config(self, **request: Any) -> Response:
        """Return a configuration's request."""
        return self._get("EndpointConfig", request)

    def list_endpoint_configs(self, **request: Any) -> Response:
        """Return summaries of configurations."""
        return self._list("EndpointConfig", request)

    def delete_endpoint_config(self, **request: Any) -> Response:
        """Forget a configuration."""
        return self._remove("EndpointConfig", request)

    def create_endpoint(self, **request: Any) -> Response:
        """Start to serve. Raises ClientError when the name is taken, or the configuration or its model is not there."""
        validate("CreateEndpoint", request)
        config = self.describe_endpoint_config(EndpointConfigName=request["EndpointConfigName"])
        variants = config["ProductionVariants"]
        if len(variants) != 1:
            message = f"A local endpoint has one variant; {request['EndpointConfigName']} has {len(variants)}."
            raise client_error("ValidationException", message, "CreateEndpoint")
        model = self.describe_model(ModelName=variants[0]["ModelName"])
        record = self._endpoint(request["EndpointName"])
        arn = f"{ACCOUNT}:endpoint/{record.name}"
        kept = {**request, "Variant": variants[0], "Container": model.get("PrimaryContainer", {})}
        status = {"EndpointArn": arn, "EndpointStatus": "Creating"}
        try:
            record.create(kept, status, keeper="kennel_cli.platforms.endpoint_keeper", runner=self.runner)
        except FileExistsError:
            message = f'Cannot create already existing endpoint "{arn}".'
            raise client_error("ValidationException", message, "CreateEndpoint") from None
        return _response({"EndpointArn": arn})

    def describe_endpoint(self, **request: Any) -> Response:
        """Return the endpoint's status."""
        validate("DescribeEndpoint", request)
        record = self._endpoint(request["EndpointName"])
        try:
            kept, status = record.request(), _endpoint_status(record)
        except FileNotFoundError:  # never there, or deleted just now
            raise _no_endpoint(record.name, "DescribeEndpoint") from None
        variants = [{"VariantName": kept["Variant"]["VariantName"], "CurrentInstanceCount": 1}]
        names = {name: kept[name] for name in ("EndpointName", "EndpointConfigName")}
        return _response({**names, **status, "ProductionVariants": variants})

    def list_endpoints(self, **request: Any) -> Response:
        """Return summaries of endpoints: newest first, by name or status if so asked, in pages."""
        validate("ListEndpoints", request)
        keys = ("EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus")
        return _page("Endpoints", self._summaries("Endpoint", "endpoints", _endpoint_status, keys), "Endpoint", request)

    def delete_endpoint(self, **request: Any) -> Response:
        """End an endpoint: SIGTERM, then SIGKILL after 30 seconds."""
        validate("DeleteEndpoint", request)
        self.describe_endpoint(**request)
        record = self._endpoint(request["EndpointName"])
        record.ask_to_stop()
        if record.status()["EndpointStatus"] == "Failed":
            while (
                record.is_kept()
            ):  # its keeper is about to leave, and may or may not have seen that it should remove it
                time.sleep(_WAIT_DELAY)
        if not record.is_kept():  # else its keeper removes it
            record.remove()
        return _response({})

    def endpoint_url(self, name: str) -> str:
        """Return the address of an endpoint in service, for those who post to it without boto3. Not in boto3."""
        try:
            status = self.describe_endpoint(EndpointName=name)["EndpointStatus"]
        except ClientError as error:
            raise client_error("ValidationError", error.response["Error"]["Message"], "InvokeEndpoint") from error
        if status != "InService":
            raise client_error("ValidationError", f"Endpoint {name} is {status}, not InService.", "InvokeEndpoint")
        return f"http://127.0.0.1:{self._endpoint(name).status()['Port']}"

    # Waiting

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

    # Where things are

    def training_folder(self, name: str) -> Path:
        """Return the folder of a job, with its log and its `/opt/ml`. Not in boto3."""
        return self._training_job(name).folder

    def training_log(self, name: str) -> Path:
        """Return the log of a training job, there or not. Not in boto3."""
        return self._training_job(name).log

    def endpoint_log(self, name: str) -> Path:
        """Return the log of an endpoint, there or not. Not in boto3."""
        return self._endpoint(name).log

    def _training_job(self, name: str) -> Record:
        return Record(self.home / "training-jobs" / name)

    def _endpoint(self, name: str) -> Record:
        return Record(self.home / "endpoints" / name)

    def _summaries(
        self, kind: str, folder: str, read_status: Callable[[Record], Response], keys: tuple[str, ...]
    ) -> list[Response]:
        items = []
        for entry in (self.home / folder).glob("[!.]*"):
            record = Record(entry)
            try:
                status = read_status(record)
            except FileNotFoundError:  # deleted between the listing and the reading
                continue
            items.append({f"{kind}Name": record.name, **{key: status[key] for key in keys if key in status}})
        return items

    # Models and endpoint configurations: a request, kept in a file

    def _file(self, kind: str, name: str) -> Path:
        return self.home / _FOLDERS[kind] / f"{name}.json"

    def _put(self, kind: str, request: Mapping[str, Any], arn: Response) -> Response:
        validate(f"Create{kind}", request)
        file = self._file(kind, request[f"{kind}Name"])
        if file.exists():
            message = f"Cannot create already existing {kind} {request[f'{kind}Name']}."
            raise client_error("ValidationException", message, f"Create{kind}")
        write_json(file, {**request, **arn, "CreationTime": now()})
        return _response(arn)

    def _get(self, kind: str, request: Mapping[str, Any]) -> Response:
        validate(f"Describe{kind}", request)
        name = request[f"{kind}Name"]
        try:
            return _response(json.loads(self._file(kind, name).read_text(encoding="utf-8")))
        except FileNotFoundError:
            message = f'Could not find {kind} "{name}".'
            raise client_error("ValidationException", message, f"Describe{kind}") from None

    def _remove(self, kind: str, request: Mapping[str, Any]) -> Response:
        validate(f"Delete{kind}", request)
        self._get(kind, request)
        self._file(kind, request[f"{kind}Name"]).unlink()
        return _response({})

    def _list(self, kind: str, request: Mapping[str, Any]) -> Response:
        validate(f"List{kind}s", request)
        folder = self.home / _FOLDERS[kind]
        items = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("[!.]*.json")]
        keys = (f"{kind}Name", f"{kind}Arn", "CreationTime")
        return _page(f"{kind}s", [{key: item[key] for key in keys} for item in items], kind, request)


def _training_status(record: Record) -> Response:
    kept = record.is_kept()  # before the status is read: a keeper that ended meanwhile has written how
    status = record.status()
    if status["TrainingJobStatus"] in ("InProgress", "Stopping"):
        if not kept:
            return {**status, "TrainingJobStatus": "Failed", "SecondaryStatus": "Failed", "FailureReason": _GONE}
        if record.is_asked_to_stop():
            return {**status, "TrainingJobStatus": "Stopping", "SecondaryStatus": "Stopping"}
    return status


def _endpoint_status(record: Record) -> Response:
    kept = record.is_kept()
    status = {key: value for key, value in record.status().items() if key != "Port"}
    if record.is_asked_to_stop():
        return {**status, "EndpointStatus": "Deleting"}
    if not kept and status["EndpointStatus"] in ("Creating", "InService"):
        return {**status, "EndpointStatus": "Failed", "FailureReason": _GONE}
    return status


def _no_endpoint(name: str, operation: str) -> ClientError:
    return client_error("ValidationException", f'Could not find endpoint "{ACCOUNT}:endpoint/{name}".', operation)


def _page(member: str, items: list[Response], prefix: str, request: Mapping[str, Any]) -> Response:
    """Filter, sort and cut a list as the service's list operations do."""
    unknown = sorted(set(request) - {"NameContains", "StatusEquals", "SortBy", "SortOrder", "MaxResults", "NextToken"})
    if unknown:
        raise client_error("ValidationException", f"{', '.join(unknown)} is not available locally.", f"List{member}")
    name, status = f"{prefix}Name", f"{prefix}Status"
    items = [item for item in items if request.get("NameContains", "").lower() in item[name].lower()]
    if "StatusEquals" in request:
        items = [item for item in items if item[status] == request["StatusEquals"]]
    key = {"Name": name, "Status": status}.get(request.get("SortBy", ""), "CreationTime")
    items.sort(key=lambda item: (item[key], item["CreationTime"]), reverse=request.get("SortOrder") != "Ascending")
    start, count = int(request.get("NextToken", "0")), request.get("MaxResults", 100)
    page: Response = {member: items[start : start + count]}
    if start + count < len(items):
        page["NextToken"] = str(start + count)
    return _response(page)


def _response(value: Response) -> Response:
    """Return a response as boto3 does: times as datetimes, and the metadata of the HTTP answer."""
    times = {key: datetime.fromisoformat(value[key]) for key in _TIMES if key in value}
    lists = {
        key: [_response_item(item) for item in members]
        for key, members in value.items()
        if isinstance(members, list) and members and isinstance(members[0], dict)
    }
    return {**value, **times, **lists, "ResponseMetadata": {"HTTPStatusCode": 200, "RetryAttempts": 0}}


def _response_item(item: Response) -> Response:
    return {**item, **{key: datetime.fromisoformat(item[key]) for key in _TIMES if key in item}}
