"""Images whose URL a client sends: fetched from the hosts that the server's owner lists, and from nowhere else.

Whoever can make a server fetch what they name sees what it sees: the instance's credentials at 169.254.169.254, and
services inside a network. So a host has to be on the list, all of its addresses have to be public ones, and the address
that was looked at is the one that is connected to, whatever the name resolves to a moment later.
"""

import fnmatch
import http.client
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from kennel.serving.errors import Late, Unprocessable

log = logging.getLogger(__name__)

SECONDS = 10.0  # for a name, a connection and all bytes of an answer
LARGEST = 25 * 2**20  # bytes of an image: as many as a client may send to a real-time endpoint (contract C1.8)
REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}
_REDIRECTED = (301, 302, 303, 307, 308)
# addresses of the sixth version that stand for one of the fourth: NAT64, 6to4 and Teredo
_STAND_INS = tuple(ipaddress.ip_network(name) for name in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))

Resolve = Callable[[str, int], Sequence[str]]


def resolve_host(host: str, port: int) -> list[str]:
    """Return the addresses of a host. Raises OSError when it has none."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_public(address: str) -> bool:
    """Return whether an address is one of the internet: not loopback, private, link-local, shared or multicast."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return is_public(str(ip.ipv4_mapped))
        if any(ip in network for network in _STAND_INS):
            return False
    return ip.is_global and not ip.is_multicast


@dataclass(frozen=True)
class _Place:
    scheme: str
    host: str
    port: int
    target: str  # path and query

    @classmethod
    def parse(cls, url: str) -> "_Place":
        """Read a URL. Raises Unprocessable for what is none that is fetched."""
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS.get(parts.scheme)
        except ValueError as error:
            raise Unprocessable(f'"url" is no URL: {error}') from None
        is_plain = url.isascii() and url.isprintable() and parts.username is None
        if parts.scheme not in _PORTS or not port or not parts.hostname or not is_plain:
            raise Unprocessable('"url" should be http:// or https://, a host and a path, without a user and in ASCII')
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, parts.hostname.lower().rstrip("."), port, target.replace(" ", "%20"))


class Fetcher:
    """Fetches images. All methods are for several threads at once."""

    def __init__(
        self, hosts: Sequence[str], resolve: Resolve = resolve_host, is_allowed: Callable[[str], bool] = is_public
    ) -> None:
        """`hosts` are names such as `photos.example.com`, `*.example.com`, or `example.com:8443` for another port.

        `resolve` and `is_allowed` are for tests, whose servers are on no public address.
        """
        self._hosts = tuple(host.lower() for host in hosts)
        self._resolve = resolve
        self._is_allowed = is_allowed

    def fetch(self, url: str, deadline: float) -> bytes:
        """Return what is at `url`, before `deadline` on the monotonic clock and within `SECONDS`.

        A redirection is followed if it leads to a listed host. Raises Unprocessable when the host is not listed or not
        public, and for what cannot be had, and Late when there is no time left.
        """
        if not self._hosts:
            raise Unprocessable("this server fetches no URLs; send the image's bytes, or list the hosts it may ask")
        end = min(deadline, time.monotonic() + SECONDS)
        try:
            for _ in range(1 + REDIRECTS):
                place = _Place.parse(url)
                status, location, data = self._get(place, end)
                if status == 200:
                    return data
                if status not in _REDIRECTED or not location:
                    raise Unprocessable(f'"url" cannot be fetched: {place.host} answers {status}')
                url = urljoin(url, location)
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a name that is none, a header
            if time.monotonic() >= deadline:
                raise Late("the answer is not ready in the time that a caller waits for it") from error
            log.info("a URL was not fetched: %s", error)
            slow = time.monotonic() >= end
            reason = f"it did not come within {SECONDS:g} seconds" if slow else f"{place.host} cannot be asked"
            raise Unprocessable(f'"url" cannot be fetched: {reason}') from error
        raise Unprocessable(f'"url" cannot be fetched: it leads on more than {REDIRECTS} times')

    def _get(self, place: _Place, end: float) -> tuple[int, str | None, bytes]:
        """Return status, Location and body of a host's answer."""
        port = "" if place.port == _PORTS[place.scheme] else f":{place.port}"
        if not any(fnmatch.fnmatchcase(place.host + port, pattern) for pattern in self._hosts):
            raise Unprocessable(f'"url" is of {place.host}{port}, which this server may not ask')
        addresses = _in_time(lambda: self._resolve(place.host, place.port), end)
        if not addresses or not all(self._is_allowed(address) for address in addresses):
            raise Unprocessable(f'"url" is of {place.host}, which has no public address')
        with _connection(place, addresses[0], end) as connection:
            connection.request("GET", place.target, headers={"Accept": "image/*", "Accept-Encoding": "identity"})
            with connection.getresponse() as response:
                data = response.read(LARGEST + 1) if response.status == 200 else b""
                if len(data) > LARGEST:
                    raise Unprocessable(f'"url" leads to more than {LARGEST // 2**20} MB')
                if time.monotonic() >= end:  # the end of a connection that was shut down reads like that of an answer
                    raise TimeoutError("the answer was not whole in time")
                return response.status, response.getheader("Location"), data


@contextmanager
def _connection(place: _Place, address: str, end: float) -> Iterator[http.client.HTTPConnection]:
    """Connect to that very address; whatever comes slowly, all ends at `end`."""
    with (
        socket.create_connection((address, place.port), timeout=max(0.001, end - time.monotonic())) as sock,
        sock.dup() as handle,  # TLS takes the socket over
    ):
        clock = threading.Timer(max(0.0, end - time.monotonic()), _shut, [handle])
        clock.daemon = True
        clock.start()
        try:
            connection = http.client.HTTPConnection(place.host, place.port)
            if place.scheme == "https":
                connection = http.client.HTTPSConnection(place.host, place.port)
                connection.sock = ssl.create_default_context().wrap_socket(sock, server_hostname=place.host)
            else:
                connection.sock = sock
            with connection.sock:
                yield connection
        finally:
            clock.cancel()


def _shut(handle: socket.socket) -> None:
    try:
        handle.shutdown(socket.SHUT_RDWR)
    except OSError:
        log.debug("a connection had ended already", exc_info=True)


def _in_time(ask: Callable[[], Sequence[str]], end: float) -> Sequence[str]:
    """Return what a function answers that cannot be told to hurry. Raises OSError when it has not answered at `end`."""
    answers: list[Sequence[str] | Exception] = []

    def run() -> None:
        try:
            answers.append(ask())
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            answers.append(error)

    thread = threading.Thread(target=run, name="resolver", daemon=True)
    thread.start()
    thread.join(max(0.0, end - time.monotonic()))
    if not answers:
        raise TimeoutError("the name was not resolved in time")
    if isinstance(answers[0], Exception):
        raise answers[0]
    return answers[0]
