"""What the commands ask of a place where jobs run: this machine, or AWS."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import ClientError

from kennel_cli.settings import Settings

S3 = "s3://"
_NOT_THERE = ("ResourceNotFound", "ValidationException")  # the service's codes for what is described and is not there
RUNNING = ("InProgress", "Stopping")  # the statuses of a job or a search that has not ended


def is_not_there(error: ClientError) -> bool:
    """Return whether the service has refused a request because what it names is not there, or has ended."""
    return error.response["Error"]["Code"] in _NOT_THERE


@contextmanager
def unless_ended() -> Iterator[None]:
    """Let a job be stopped that may have ended meanwhile: that the service refuses it then is passed over."""
    try:
        yield
    except ClientError as error:
        if not is_not_there(error):
            raise


class Kind(StrEnum):
    """What a place runs."""

    TRAINING = "training job"
    SEARCH = "search"
    ENDPOINT = "endpoint"
    TRANSFORM = "batch transform job"


class Platform(Protocol):
    """A SageMaker client, the settings of its requests, and the way to and from what its jobs read and write."""

    poll: float  # seconds between two looks at a job
    log_delay: float  # seconds that a log's last lines may come after the job's end
    option: str  # what is added to a command so that it speaks of jobs here; "" for this machine

    @property
    def sagemaker(self) -> Any:
        """boto3's SageMaker client, or the player of it."""
        ...

    @property
    def settings(self) -> Settings:
        """Return what fills the same fields in every request."""
        ...

    def require_means(self) -> None:
        """Raise KennelError when jobs cannot run here."""
        ...

    def channel_uri(self, source: str) -> str:
        """Return the URI that `channel` would return, and do nothing."""
        ...

    def channel(self, source: str) -> str:
        """Make a file or folder of the user's reachable for jobs, and return its `s3://` URI.

        A source that is an `s3://` URI already is returned as it is.
        """
        ...

    def read_log(self, name: str, position: Any, ended: bool, of: Kind = Kind.TRAINING) -> tuple[list[str], Any]:
        """Return the lines that a log has after `position`, and the next position.

        The first position is None. A last line without its end is returned only when what writes it has `ended`. There
        are no lines where there is nothing of that name, or no log yet.
        """
        ...

    def fetch(self, uri: str, folder: Path) -> Path:
        """Return a file of this machine with the content of an artifact; `folder` is for a copy, if one is made.

        A URI that ends with a slash is a folder's.
        """
        ...

    def names(self, uri: str) -> list[str]:
        """Return the names of the objects below a folder's URI, relative to it; of one object, its own."""
        ...

    def locate(self, uri: str) -> str:
        """Return how to name an artifact to a person."""
        ...

    def page(self, kind: Kind, name: str) -> str:
        """Return the address of a page that shows what runs; "" where there is none."""
        ...

    def endpoint_url(self, endpoint: str) -> str:
        """Return the address of an endpoint, to which requests are posted."""
        ...
