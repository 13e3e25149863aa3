"""Whether a request is taken on: there is a place for it, and its body is no larger than the server takes."""

import threading
from collections.abc import Callable

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from kennel.serving.errors import Overloaded, TooLarge


class Admission:
    """A number of places for requests in work or waiting."""

    def __init__(self, places: int) -> None:
        self._number = places
        self._places = threading.BoundedSemaphore(places)

    def enter(self) -> Callable[[], None]:
        """Take a place, and return what gives it back, to be called once. Raises Overloaded when there is none."""
        if not self._places.acquire(blocking=False):
            raise Overloaded(f"{self._number} requests are in work already; try again in a moment")
        return self._places.release


def read_body(limit: int) -> bytes:
    """Return the body of the current request. Raises TooLarge when it has more than `limit` bytes."""
    try:
        body = request.get_data(cache=False)
    except RequestEntityTooLarge:
        is_more = True
    else:  # werkzeug cuts a chunked body off at its limit, and does not say so
        is_more = len(body) == limit and bool(request.environ["wsgi.input"].read(1))
    if is_more:
        raise TooLarge(f"the body is larger than {limit / 2**20:g} MB, the limit of this server")
    return body
