"""Ways to a model that runs elsewhere: SageMaker's runtime API, or a server's address."""

import contextlib
from collections.abc import Mapping
from typing import Any, Protocol

import urllib3
from botocore.exceptions import ClientError, ConnectionClosedError
from urllib3.exceptions import HTTPError, InvalidHeader, ProtocolError, ReadTimeoutError

from kennel_cli.platforms.account import aws_errors
from kennel_cli.platforms.validation import validate
from kennel_cli.prediction.answers import BUSY, IMAGE, Busy, PredictionError, refused
from kennel_cli.servers import refusal, server_address

SERVER_LIMIT = 100 * 2**20  # bytes of a body that Kennel's server takes (contract C1.8)
AWS_LIMIT = 25 * 2**20  # bytes of a body that a real-time endpoint on AWS takes (contract C1.8)
_TIMEOUT = 70  # seconds: a model has 60 (contract C1.7)
_BUSY_CODES = ("ThrottlingException", "ModelNotReadyException", "ServiceUnavailable", "ServiceUnavailableException")


class Transport(Protocol):
    """A way to a model, for several threads at once."""

    place: str  # what people call it
    limit: int  # bytes of a picture that it takes

    def post(self, body: bytes, accept: str) -> bytes:
        """Return the body of the answer to an image file. Raises PredictionError, or Busy to be asked again."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class Runtime(Protocol):
    """boto3's SageMaker runtime client, or the local one."""

    def invoke_endpoint(self, **request: Any) -> Mapping[str, Any]:
        """Post a body to an endpoint."""
        ...


class RuntimeTransport:
    """An endpoint of SageMaker, or of a LocalSageMaker."""

    def __init__(self, runtime: Runtime, endpoint: str, limit: int) -> None:
        self.place = endpoint
        self.limit = limit
        self._runtime = runtime

    def post(self, body: bytes, accept: str) -> bytes:
        """See `Transport.post`. Raises AwsError for what is wrong with the account or the network."""
        request = {"EndpointName": self.place, "Body": body, "ContentType": IMAGE, "Accept": accept}
        try:
            with aws_errors("sagemaker-runtime"):
                validate("InvokeEndpoint", request, service="sagemaker-runtime")
                return self._invoke(request)
        except ClientError as error:
            raise _refused(error) from error

    def _invoke(self, request: dict[str, Any]) -> bytes:
        try:
            answer: bytes = self._runtime.invoke_endpoint(**request)["Body"].read()
        except ConnectionClosedError as error:  # it was kept open from an earlier request
            raise Busy(f"{self.place} closed the connection: {error}") from error
        return answer

    def close(self) -> None:
        """See `Transport.close`; connections close by themselves."""


def _refused(error: ClientError) -> PredictionError:
    """Return what the model says, or the service in its place."""
    answer = error.response
    status = int(answer.get("OriginalStatusCode", answer["ResponseMetadata"].get("HTTPStatusCode", 0)))
    message = answer.get("OriginalMessage") or answer["Error"].get("Message", "")
    kind = Busy if status in BUSY or answer["Error"]["Code"] in _BUSY_CODES else PredictionError
    return kind(refusal(str(message).encode()) or str(error), status)


class HttpTransport:
    """A server with `/invocations`, or whatever path the address has."""

    def __init__(self, url: str, threads: int) -> None:
        """Take an address; so many threads keep a connection each. Raises AddressError for what is no address."""
        self._url = server_address(url).geturl()
        self.place = url
        self.limit = SERVER_LIMIT
        self._pool = urllib3.PoolManager(retries=False, maxsize=threads, timeout=_TIMEOUT)

    def post(self, body: bytes, accept: str) -> bytes:
        """See `Transport.post`."""
        headers = {"Content-Type": IMAGE, "Accept": accept}
        try:
            answer = self._pool.request("POST", self._url, body=body, headers=headers, redirect=False)
        except ReadTimeoutError as error:
            raise PredictionError(f"{self.place} gave no answer in {_TIMEOUT} seconds") from error
        except ProtocolError as error:
            raise Busy(f"{self.place} closed the connection: {error}") from error
        except HTTPError as error:
            reason = getattr(error.__cause__, "strerror", None) or str(error)
            raise PredictionError(
                f"{self.place} cannot be reached: {reason}; see that a server listens there"
            ) from error
        if answer.status >= 300:
            raise refused(answer.status, answer.data, retry_after(answer.headers.get("Retry-After", "")))
        return answer.data

    def close(self) -> None:
        """See `Transport.close`."""
        self._pool.clear()


def retry_after(header: str) -> float:
    """Return the seconds to wait that a header Retry-After asks for, as a number or a date; 0 for none or nonsense."""
    with contextlib.suppress(InvalidHeader):
        return urllib3.Retry().parse_retry_after(header)
    return 0.0
