"""The part of LocalSageMaker that hosts: models, endpoint configurations, endpoints."""

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from kennel.atomic import write_json
from kennel_cli.platforms.records import Record, now
from kennel_cli.platforms.responses import ACCOUNT, GONE, Response, page, response, summaries
from kennel_cli.platforms.validation import client_error, validate

_FOLDERS = {"Model": "models", "EndpointConfig": "endpoint-configs"}
_ANSWERING = ("InService", "Updating")
_POLL = 0.1  # seconds between two looks at a keeper that is about to end


class Hosting:
    """Models and endpoints with the methods, requests, responses and errors of boto3's client."""

    home: Path
    runner: str

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
        record = self._endpoint(request["EndpointName"])
        served = self._served(request["EndpointConfigName"], "CreateEndpoint")
        arn = f"{ACCOUNT}:endpoint/{record.name}"
        status = {"EndpointArn": arn, "EndpointStatus": "Creating", **served["Shown"]}
        keeper = "kennel_cli.platforms.endpoint_keeper"
        try:
            record.create({**request, **served}, status, keeper, self.runner)
        except FileExistsError:
            message = f'Cannot create already existing endpoint "{arn}".'
            raise client_error("ValidationException", message, "CreateEndpoint") from None
        return response({"EndpointArn": arn})

    def update_endpoint(self, **request: Any) -> Response:
        """Serve another configuration, without a gap: the old server ends when the new one answers.

        If it never does, the endpoint stays in service with the old one and its description has a FailureReason. The
        endpoint stays with the runner that it was created for. Raises ClientError when the endpoint is not in service,
        or the configuration or its model is not there.
        """
        validate("UpdateEndpoint", request)
        asked = {name for name, value in request.items() if value}  # false and empty is how it is done here
        unknown = sorted(asked - {"EndpointName", "EndpointConfigName"})
        if unknown:
            message = f"{', '.join(unknown)} is not available locally; leave it out."
            raise client_error("ValidationException", message, "UpdateEndpoint")
        record = self._endpoint(request["EndpointName"])
        description = self.describe_endpoint(EndpointName=record.name)
        served = self._served(request["EndpointConfigName"], "UpdateEndpoint")
        try:
            if description["EndpointStatus"] != "InService":
                raise _not_in_service(record.name, description["EndpointStatus"])
            record.ask_to_change({**request, **served})
        except FileExistsError:  # somebody else has asked just now
            raise _not_in_service(record.name, "Updating") from None
        except FileNotFoundError:  # deleted just now
            raise _no_endpoint(record.name, "UpdateEndpoint") from None
        return response({"EndpointArn": description["EndpointArn"]})

    def describe_endpoint(self, **request: Any) -> Response:
        """Return the endpoint's status and the configuration that answers."""
        validate("DescribeEndpoint", request)
        record = self._endpoint(request["EndpointName"])
        try:
            return response({"EndpointName": record.name, **_endpoint_status(record)})
        except FileNotFoundError:  # never there, or deleted just now
            raise _no_endpoint(record.name, "DescribeEndpoint") from None

    def list_endpoints(self, **request: Any) -> Response:
        """Return summaries of endpoints: newest first, by name or status if so asked, in pages."""
        validate("ListEndpoints", request)
        keys = ("EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus")
        return page(
            "Endpoints", summaries(self.home / "endpoints", "Endpoint", _endpoint_status, keys), "Endpoint", request
        )

    def delete_endpoint(self, **request: Any) -> Response:
        """End an endpoint: SIGTERM, then SIGKILL after 30 seconds."""
        validate("DeleteEndpoint", request)
        self.describe_endpoint(**request)
        record = self._endpoint(request["EndpointName"])
        try:
            record.ask_to_stop()
        except FileNotFoundError:  # its keeper has just removed it: somebody else has asked for that, too
            raise _no_endpoint(record.name, "DeleteEndpoint") from None
        with contextlib.suppress(FileNotFoundError):  # its keeper has removed it already
            if record.status()["EndpointStatus"] == "Failed":
                while (
                    record.is_kept()
                ):  # its keeper is about to leave, and may or may not have seen that it should remove it
                    time.sleep(_POLL)
            if not record.is_kept():  # else its keeper removes it
                record.remove()
        return response({})

    def endpoint_url(self, name: str) -> str:
        """Return the address of an endpoint in service, for those who post to it without boto3. Not in boto3."""
        try:
            status = self.describe_endpoint(EndpointName=name)["EndpointStatus"]
        except ClientError as error:
            raise client_error("ValidationError", error.response["Error"]["Message"], "InvokeEndpoint") from error
        if status not in _ANSWERING:
            raise client_error("ValidationError", f"Endpoint {name} is {status}, not InService.", "InvokeEndpoint")
        return f"http://127.0.0.1:{self._endpoint(name).status()['Port']}"

    def endpoint_log(self, name: str) -> Path:
        """Return the log of an endpoint, there or not. Not in boto3."""
        return self._endpoint(name).log

    def _endpoint(self, name: str) -> Record:
        return Record(self.home / "endpoints" / name)

    def _served(self, config_name: str, operation: str) -> Response:
        """Return what an endpoint's keeper needs to know of a configuration, which may be gone when it is asked."""
        config = self.describe_endpoint_config(EndpointConfigName=config_name)
        variants = config["ProductionVariants"]
        if len(variants) != 1:
            message = f"A local endpoint has one variant; {config_name} has {len(variants)}."
            raise client_error("ValidationException", message, operation)
        model = self.describe_model(ModelName=variants[0]["ModelName"])
        shown = [{"VariantName": variants[0]["VariantName"], "CurrentInstanceCount": 1}]
        return {
            "Variant": variants[0],
            "Container": model.get("PrimaryContainer", {}),
            "Shown": {"EndpointConfigName": config_name, "ProductionVariants": shown},  # in a description
        }

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
        return response(arn)

    def _get(self, kind: str, request: Mapping[str, Any]) -> Response:
        validate(f"Describe{kind}", request)
        name = request[f"{kind}Name"]
        try:
            return response(json.loads(self._file(kind, name).read_text(encoding="utf-8")))
        except FileNotFoundError:
            message = f'Could not find {kind} "{name}".'
            raise client_error("ValidationException", message, f"Describe{kind}") from None

    def _remove(self, kind: str, request: Mapping[str, Any]) -> Response:
        validate(f"Delete{kind}", request)
        self._get(kind, request)
        self._file(kind, request[f"{kind}Name"]).unlink()
        return response({})

    def _list(self, kind: str, request: Mapping[str, Any]) -> Response:
        validate(f"List{kind}s", request)
        folder = self.home / _FOLDERS[kind]
        items = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("[!.]*.json")]
        keys = (f"{kind}Name", f"{kind}Arn", "CreationTime")
        return page(f"{kind}s", [{key: item[key] for key in keys} for item in items], kind, request)


def _endpoint_status(record: Record) -> Response:
    kept, changing = (
        record.is_kept(),
        record.is_asked_to_change(),
    )  # looked at first: the keeper writes its status first
    status = {key: value for key, value in record.status().items() if key != "Port"}
    if record.is_asked_to_stop():
        return {**status, "EndpointStatus": "Deleting"}
    if not kept and status["EndpointStatus"] in ("Creating", *_ANSWERING):
        return {**status, "EndpointStatus": "Failed", "FailureReason": GONE}
    if changing and status["EndpointStatus"] == "InService":
        status.pop("FailureReason", None)  # of an earlier update
        return {**status, "EndpointStatus": "Updating"}
    return status


def _no_endpoint(name: str, operation: str) -> ClientError:
    return client_error("ValidationException", f'Could not find endpoint "{ACCOUNT}:endpoint/{name}".', operation)


def _not_in_service(name: str, status: str) -> ClientError:
    remedy = "delete it and create it again" if status == "Failed" else "wait until it is InService"
    message = f'Cannot update endpoint "{ACCOUNT}:endpoint/{name}": it is {status}; {remedy}.'
    return client_error("ValidationException", message, "UpdateEndpoint")
