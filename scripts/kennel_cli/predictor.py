"""Ask an endpoint what is in a picture."""

import base64
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


@dataclass(frozen=True)
class Answer:
    """What an endpoint says of a picture."""

    predictions: list[Prediction]  # the most probable first
    explanation: bytes = b""  # a PNG: where the first of them was seen; only if it was asked for


def predict(runtime: Runtime, endpoint: str, picture: Path, top_k: int = 5) -> list[Prediction]:
    """Return the `top_k` most probable classes of a picture file, the most probable first. Raises what `ask` does."""
    return ask(runtime, endpoint, picture, top_k).predictions


def ask(runtime: Runtime, endpoint: str, picture: Path, top_k: int = 5, explain: bool = False) -> Answer:
    """Return what an endpoint says of a picture file, with the `top_k` most probable classes.

    Raises DataError when there is no such file, and PredictionError when the endpoint refuses it, or refuses to explain
    its answer.
    """
    if not picture.is_file():
        raise DataError(f"there is no picture {picture}")
    try:
        response = runtime.invoke_endpoint(
            EndpointName=endpoint,
            Body=picture.read_bytes(),
            ContentType="application/x-image",  # whatever the file is called, its bytes say what it is
            Accept=f"application/json;verbose;top_k={top_k}{';explain=true' if explain else ''}",
        )
    except ClientError as error:
        message = error.response.get("OriginalMessage")
        if message is None:
            raise
        raise PredictionError(f"{picture}: {_sentence(str(message))}") from error
    answer = json.loads(response["Body"].read())
    explanations = answer.get("explanations", [""])
    return Answer([Prediction(**entry) for entry in answer["predictions"][0]], base64.b64decode(explanations[0]))


def _sentence(message: str) -> str:
    """Take the sentence out of the server's JSON, if it is ours."""
    try:
        return str(json.loads(message)["error"])
    except (ValueError, KeyError, TypeError):
        return message
