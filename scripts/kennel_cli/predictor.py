"""Ask an endpoint what is in a picture."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import ClientError

from kennel.errors import DataError, KennelError


class Runtime(Protocol):
    """boto3's SageMaker runtime client, or the local one."""

    def invoke_endpoint(self, **request: Any) -> Mapping[str, Any]:
        """Post a body to an endpoint."""
        ...


class PredictionError(KennelError):
    """The endpoint refused the picture; the message is the model's own."""


@dataclass(frozen=True)
class Prediction:
    """One class that the picture may show."""

    label: str
    index: int
    probability: float


def predict(runtime: Runtime, endpoint: str, picture: Path, top_k: int = 5) -> list[Prediction]:
    """Return the `top_k` most probable classes of a picture file, the most probable first.

    Raises DataError when there is no such file, and PredictionError when the endpoint refuses it.
    """
    if not picture.is_file():
        raise DataError(f"there is no picture {picture}")
    try:
        answer = runtime.invoke_endpoint(
            EndpointName=endpoint,
            Body=picture.read_bytes(),
            ContentType="application/x-image",  # whatever the file is called, its bytes say what it is
            Accept=f"application/json;verbose;top_k={top_k}",
        )
    except ClientError as error:
        message = error.response.get("OriginalMessage")
        if message is None:
            raise
        raise PredictionError(f"{picture}: {_sentence(str(message))}") from error
    return [Prediction(**entry) for entry in json.loads(answer["Body"].read())["predictions"][0]]


def _sentence(message: str) -> str:
    """Take the sentence out of the server's JSON, if it is ours."""
    try:
        return str(json.loads(message)["error"])
    except (ValueError, KeyError, TypeError):
        return message
