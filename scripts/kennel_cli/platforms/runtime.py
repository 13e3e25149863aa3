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
        self._pool = urllib3.PoolManager(retries=False)

    def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
        """Post `Body` to an endpoint and return its answer, with `Body` as a stream.

        Raises ClientError: ValidationError when there is no such endpoint in service; ModelError, with
        OriginalStatusCode and OriginalMessage, when the model answers an error or nothing (contract C1.11).
        """
        validate("InvokeEndpoint", request, service="sagemaker-runtime")
        endpoint, body = request["EndpointName"], request["Body"]
        url = f"{self._sagemaker.endpoint_url(endpoint)}/invocations"
        unknown = sorted(set(request) - {"EndpointName", "Body"} - set(_HEADERS))
        if unknown:
            message = f"{', '.join(unknown)} is not available locally."
            raise client_error("ValidationError", message, "InvokeEndpoint")
        data = body.read() if hasattr(body, "read") else body
        headers = {header: request[name] for name, header in _HEADERS.items() if name in request}
        try:
            answer = self._pool.request("POST", url, body=data, headers=headers, timeout=TIMEOUT)
        except urllib3.exceptions.HTTPError as error:
            raise self._model_error(endpoint, 0, f"no answer: {error}") from error
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
