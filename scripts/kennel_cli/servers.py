"""The address of a server that answers `/invocations`, and what such a server says when it refuses."""

import contextlib
import json
from urllib.parse import SplitResult, urlsplit

from kennel.errors import KennelError

_MESSAGE = 300  # characters of a refusal that are kept


class AddressError(KennelError):
    """The text is no address of a server."""


def server_address(url: str) -> SplitResult:
    """Return the parts of an address; without a path it is that of `/invocations`. Raises AddressError."""
    right = "an address such as http://localhost:8080, or the name of an endpoint"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise AddressError(f"{url!r} is no address ({error}); give {right}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise AddressError(f"{url!r} is no address; give {right}")
    return parts._replace(path="/invocations") if parts.path in ("", "/") else parts


def refusal(body: bytes) -> str:
    """Return what a server says in a body: the sentence in Kennel's JSON, or the beginning of whatever it is."""
    text = " ".join(body[: 10 * _MESSAGE].decode("utf-8", "replace").split())
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(body)["error"])
    return text[:_MESSAGE]
