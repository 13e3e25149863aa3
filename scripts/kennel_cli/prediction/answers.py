"""What a model says of a picture, or why it says nothing."""

import base64
import json
import re
from dataclasses import dataclass

from kennel.errors import KennelError
from kennel_cli.servers import refusal

IMAGE = "application/x-image"  # the type of what is sent: whatever a file is called, its bytes say what it is
BUSY = (429, 503)  # statuses of a server that would answer later
_TOP_K = re.compile(r"\btop_k=(\d+)")
_QUOTED = 100  # characters of an answer that a message repeats


class PredictionError(KennelError):
    """A picture was not answered; the message is the model's own where it has said something."""

    def __init__(self, message: str, status: int = 0) -> None:
        """`status` is the one of HTTP that the model has answered with; 0 is no answer."""
        super().__init__(message)
        self.status = status


class Busy(PredictionError):
    """A picture was not answered now, and may be later."""

    def __init__(self, message: str, status: int = 0, after: float = 0.0) -> None:
        """`after` so many seconds the server asks to be asked again."""
        super().__init__(message, status)
        self.after = after


@dataclass(frozen=True)
class Prediction:
    """One class that a picture may show."""

    label: str
    index: int  # among the model's classes
    probability: float


@dataclass(frozen=True)
class Answer:
    """What a model says of a picture."""

    predictions: list[Prediction]  # the most probable first
    labels: tuple[str, ...] = ()  # of all classes, in the order of their indices
    explanation: bytes = b""  # a PNG: where the first of the predictions was seen; only if it was asked for


def accept_header(top_k: int, explain: bool) -> str:
    """Return what to ask for, so that `read_answer` can read it."""
    return f"application/json;verbose;top_k={top_k}{';explain=true' if explain else ''}"


def asked_top_k(accept: str) -> int:
    """Return how many classes such a header asks for; 1 where it does not say."""
    asked = _TOP_K.search(accept)
    return int(asked[1]) if asked else 1


def read_answer(body: bytes) -> Answer:
    """Return the answer in a body. Raises PredictionError for one of another kind."""
    try:
        value = json.loads(body)
        explanations = value.get("explanations", [""])
        predictions = [Prediction(**entry) for entry in value["predictions"][0]]
        return Answer(predictions, tuple(value["labels"]), base64.b64decode(explanations[0]))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        said = body[:_QUOTED].decode("utf-8", "replace")
        raise PredictionError(
            f"the model answers {said!r}, which does not name classes as Kennel's application/json;verbose does"
        ) from error


def refused(status: int, body: bytes, after: float = 0.0) -> PredictionError:
    """Return the error for an answer of `status`, which is no success."""
    sentence = refusal(body) or f"the model answers {status} without a word"
    return Busy(sentence, status, after) if status in BUSY else PredictionError(sentence, status)
