"""Which answers are sent in pieces, as their lines are done (contract C5.3)."""

from kennel.serving.codecs import JSON_LINES, MediaType

SECONDS = 480.0  # that a client reads an answer in pieces; others are waited for as long as the server's patience says
LONG = 64  # lines: from so many on, a CPU of a few cores works for a second


def is_long(body: bytes, content_type: str) -> bool:
    """Return whether a request is a batch of JSON Lines that takes a while."""
    return MediaType.parse(content_type).name == JSON_LINES and body.count(b"\n") >= LONG - 1
