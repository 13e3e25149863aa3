"""Where a load test sends its requests: a server's address, or an endpoint of Amazon SageMaker."""

import contextlib
import socket
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, NamedTuple, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.util.wait import wait_for_read

from kennel.errors import KennelError
from kennel_cli.load.bodies import Body
from kennel_cli.platforms.account import aws_client, aws_errors
from kennel_cli.servers import refusal, server_address

NO_ANSWER = 0  # instead of a status
_MESSAGE = 300  # characters of an error's body that are kept


class LoadError(KennelError):
    """A load test cannot be made, or has measured nothing."""


class Reply(NamedTuple):
    """What came back."""

    status: int  # of HTTP, or NO_ANSWER
    timing: str = ""  # the header Server-Timing
    message: str = ""  # what an error says


class Connection(Protocol):
    """One client's way to the target; not for several threads at once."""

    def post(self, payload: Any) -> Reply:
        """Send what `Target.encode` has returned, and read the answer to its end. It raises nothing."""
        ...

    def close(self) -> None:
        """Close it, also while another thread waits for an answer on it."""
        ...


class Target(Protocol):
    """A server that the user has named."""

    name: str
    place: str  # its address, or where on AWS it is

    def encode(self, body: Body) -> Any:
        """Return a body as it is sent, so that sending it costs as little as may be."""
        ...

    def connect(self) -> Connection:
        """Return a connection, which is opened when it is needed."""
        ...


def check(target: Target, payload: Any) -> None:
    """Send one request. Raises LoadError, with the reason, when it is not answered well."""
    connection = target.connect()
    try:
        reply = connection.post(payload)
    finally:
        connection.close()
    if reply.status == NO_ANSWER:
        raise LoadError(f"{target.name} does not answer: {reply.message}")
    if reply.status >= 300:
        raise LoadError(f"{target.name} answers {reply.status}: {reply.message or 'without a word'}")


class HttpTarget:
    """A server with `/invocations`, or whatever path the address has."""

    def __init__(self, url: str, accept: str, timeout: float, name: str = "") -> None:
        """Take an address; `timeout` seconds are waited for each answer. Raises AddressError for what is none."""
        self.name = name or url
        self.place = url
        self._accept = accept
        self._timeout = timeout
        self._parts = server_address(url)

    def encode(self, body: Body) -> bytes:
        """Return the whole request."""
        query = f"?{self._parts.query}" if self._parts.query else ""
        lines = [
            f"POST {self._parts.path}{query} HTTP/1.1",
            f"Host: {self._parts.netloc}",
            "User-Agent: kennel-bench-endpoint",
            f"Content-Type: {body.content_type}",
            f"Content-Length: {len(body.data)}",
        ]
        if self._accept:
            lines.append(f"Accept: {self._accept}")
        try:
            return "\r\n".join([*lines, "", ""]).encode("ascii") + body.data
        except UnicodeEncodeError as error:
            raise LoadError(
                f"{error.object[error.start : error.end]!r} cannot be sent in a header or address"
            ) from error

    def connect(self) -> "HttpClient":
        """Return a connection that is kept alive."""
        kind = HTTPSConnection if self._parts.scheme == "https" else HTTPConnection
        return HttpClient(kind(str(self._parts.hostname), self._parts.port, timeout=self._timeout))


class HttpClient:
    """One connection to a server. Requests are sent ready-made, in one go; `http.client` reads the answers."""

    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection

    def post(self, payload: bytes) -> Reply:
        """See `Connection.post`. A connection that the server has closed meanwhile is opened anew."""
        try:
            sock = self._open()
            sock.sendall(payload)
            response = HTTPResponse(sock, method="POST")
            response.begin()
            body = response.read()
            if response.will_close:
                self._connection.close()
        except TimeoutError:
            self._connection.close()
            return Reply(NO_ANSWER, message=f"there was none in {self._connection.timeout:g} seconds")
        except (OSError, HTTPException, UnicodeError) as error:  # the last for a host that no name server is asked for
            self._connection.close()
            return Reply(NO_ANSWER, message=str(error) or type(error).__name__)
        message = refusal(body) if response.status >= 300 else ""
        return Reply(response.status, response.getheader("Server-Timing", ""), message)

    def close(self) -> None:
        """See `Connection.close`."""
        if sock := self._connection.sock:
            with contextlib.suppress(OSError):  # it is closed already
                sock.shutdown(socket.SHUT_RDWR)  # wakes who waits for an answer
        self._connection.close()

    def _open(self) -> socket.socket:
        if self._connection.sock and wait_for_read(self._connection.sock, 0):  # before a request only its end can come
            self._connection.close()
        if not self._connection.sock:
            self._connection.connect()
        return self._connection.sock


class SageMakerTarget:
    """An endpoint on AWS, in the region of a session."""

    def __init__(self, endpoint: str, accept: str, timeout: float, connections: int, session: boto3.Session) -> None:
        """Take an endpoint's name."""
        self.name = endpoint
        self.place = f"AWS {session.region_name}"
        self._more = {"Accept": accept} if accept else {}
        # boto3 would send a request that fails again, and the figures would say nothing of it
        config = Config(retries={"total_max_attempts": 1}, read_timeout=timeout, max_pool_connections=connections)
        self._client = aws_client(session, "sagemaker-runtime", config)

    def encode(self, body: Body) -> dict[str, Any]:
        """Return the arguments of `invoke_endpoint`."""
        return {"EndpointName": self.name, "Body": body.data, "ContentType": body.content_type, **self._more}

    def connect(self) -> "SageMakerClient":
        """Return a client; boto3's keeps the connections of all of them."""
        return SageMakerClient(self._client)


class SageMakerClient:
    """One caller of `invoke_endpoint`."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def post(self, payload: dict[str, Any]) -> Reply:
        """See `Connection.post`; what a model answers counts with the model's own status (contract C1.11)."""
        try:
            with aws_errors("sagemaker-runtime"):
                self._client.invoke_endpoint(**payload)["Body"].read()
        except ClientError as error:
            answer = error.response
            status = answer.get("OriginalStatusCode") or answer["ResponseMetadata"].get("HTTPStatusCode", NO_ANSWER)
            return Reply(
                int(status), message=str(answer.get("OriginalMessage") or answer["Error"]["Message"])[:_MESSAGE]
            )
        except (KennelError, BotoCoreError) as error:
            return Reply(NO_ANSWER, message=str(error))
        return Reply(200)

    def close(self) -> None:
        """See `Connection.close`; boto3 has no way to give a request up."""
