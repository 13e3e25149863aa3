"""The runtime client: posts to local endpoints with boto3's `invoke_endpoint`."""

import io
from pathlib import Path
from typing import Any

import urllib3
from botocore.exceptions import ClientError
from botocore.response import StreamingBody

from kennel_cli.platforms.local import LocalSageMaker
from kennel_cli.platforms.validation import client_error, validate

TIMEOUT = 60  # seconds that a model has to answer (contract C1.7)
_CONNECTIONS = 16  # that are kept open: a client may be asked by several threads
_HEADERS = {  # arguments that reach the container as headers (contract C1.9)
    "ContentType": "Content-Type",
    "Accept": "Accept",
    "CustomAttributes": "X-Amzn-SageMaker-Custom-Attributes",
    "InferenceId": "X-Amzn-SageMaker-Inference-Id",
    "TargetVariant": "X-Amzn-SageMaker-Target-Variant",
}


class LocalSageMakerRuntime:
    """`boto3.client("sagemaker-runtime")`, for the endpoints of a LocalSageMaker."""

    def __init__(self, home: Path) -> None:
        self._sagemaker = LocalSageMaker(home)
        self._pool = urllib3.PoolManager(retries=False, maxsize=_CONNECTIONS)

    def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
        """Post `Body` to an endpoint and return its answer, with `Body` as a stream.

        Raises ClientError: ValidationError when there is no such endpoint in service; ModelError, with
        OriginalStatusCode and OriginalMessage, when the model answers an error or nothing (contract C1.11).
        """
        validate("InvokeEndpoint", request, service="sagemaker-runtime")
        endpoint, body = request["EndpointName"], request["Body"]
        url = self._sagemaker.endpoint_url(endpoint)
        unknown = sorted(set(request) - {"EndpointName", "Body"} - set(_HEADERS))
        if unknown:
            message = f"{', '.join(unknown)} is not available locally."
            raise client_error("ValidationError", message, "InvokeEndpoint")
        data = body.read() if hasattr(body, "read") else body
        headers = {header: request[name] for name, header in _HEADERS.items() if name in request}
        answer = self._post(endpoint, url, data, headers)
        if answer.status >= 400:
            raise self._model_error(endpoint, answer.status, answer.data.decode("utf-8", "replace"))
        [variant] = self._sagemaker.describe_endpoint(EndpointName=endpoint)["ProductionVariants"]
        response = {
            "Body": StreamingBody(io.BytesIO(answer.data), len(answer.data)),
            "ContentType": answer.headers.get("Content-Type", ""),
            "InvokedProductionVariant": variant["VariantName"],
            "ResponseMetadata": {"HTTPStatusCode": 200, "RetryAttempts": 0},
        }
        if attributes := answer.headers.get(_HEADERS["CustomAttributes"]):
            response["CustomAttributes"] = attributes
        return response

    def _post(self, endpoint: str, url: str, data: Any, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """Post to the server at `url`; when an update ended it before it heard us, to the one that serves now."""
        try:
            return self._pool.request("POST", f"{url}/invocations", body=data, headers=headers, timeout=TIMEOUT)
        except urllib3.exceptions.HTTPError as error:
            unheard = isinstance(error, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ProtocolError)
            moved = self._address(endpoint) if unheard else None
            if moved and moved != url:
                return self._post(endpoint, moved, data, headers)
            raise self._model_error(endpoint, 0, f"no answer: {error}") from error

    def _address(self, endpoint: str) -> str | None:
        try:
            return self._sagemaker.endpoint_url(endpoint)
        except ClientError:  # no longer in service
            return None

    def _model_error(self, endpoint: str, status: int, message: str) -> ClientError:
        side = "client" if 400 <= status < 500 else "server"
        text = (
            f'Received {side} error ({status}) from primary with message "{message[:2048]}". See the log of {endpoint}.'
        )
        return client_error(
            "ModelError",
            text,
            "InvokeEndpoint",
            OriginalStatusCode=status,
            OriginalMessage=message[:2048],
            LogStreamArn=str(self._sagemaker.endpoint_log(endpoint)),
        )
