"""gunicorn's worker with threads, of which none ever waits for a client.

gunicorn reads a body in the thread that answers it, so as many clients as there are threads that send half of theirs
silence a server for good. Here the loop that watches idle connections also receives requests, and a thread gets one
when it is whole. The same loop sees to connections that are closed, on which gunicorn waits for up to two seconds.
"""

import json
import select
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import Future
from http import HTTPStatus
from selectors import EVENT_READ
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from kennel.container.environment import invocation_seconds, payload_limit
from kennel.serving.incoming import HeadTooLong, Incoming

LINGER = 2.0  # seconds for a client to read the last answer before its connection is closed (RFC 9112, section 9.6)
SMALL = 2**20  # bytes of a request that is received however much memory the others take
ROOM = 2**29  # bytes of requests that are not whole, all together; at least four of the largest


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A worker that receives requests in its event loop and answers them in its threads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.patience: float = invocation_seconds()  # for a request to be whole: then nobody waits for its answer
        self._longest_body = payload_limit()
        self._room = max(ROOM, 4 * self._longest_body)
        self._watched: set[Any] = set()  # connections whose request is not whole, or that are about to be closed

    # A connection from its first byte to a thread. All of it runs in the worker's main thread.

    def enqueue_req(self, conn: Any) -> None:
        """Receive a request; gunicorn calls this for new connections and for those that were idle."""
        conn.data_ready = True  # gunicorn's thread need not wait for any
        if not conn.initialized:
            conn.init()
            conn.parser.unreader = Incoming(conn.sock, self._longest_body)
            # a client that does not read its answer holds a thread no longer than this
            limit = struct.pack("ll", int(self.patience), int(self.patience % 1 * 1e6))
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        else:
            conn.parser.unreader.begin()
        self._watch(conn, self._receive, self.patience)
        self._receive(conn)

    def _receive(self, conn: Any) -> None:
        """Take what has come of a request, once: the next connection's turn is next."""
        incoming = conn.parser.unreader
        try:
            # the client may have sent it together with the one before
            if not incoming.is_ready() and not incoming.receive():
                self._close(conn)
            elif incoming.is_ready():
                self._unwatch(conn)
                super().enqueue_req(conn)
            elif incoming.size > SMALL and sum(other.parser.unreader.size for other in self._watched) > self._room:
                self._refuse(conn, HTTPStatus.SERVICE_UNAVAILABLE, "too many large requests are on their way")
            elif incoming.wants_continue:
                incoming.wants_continue = False
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        except BlockingIOError:
            pass
        except HeadTooLong as error:
            self._refuse(conn, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, str(error))
        except OSError:  # the connection was reset
            self._close(conn)

    def _refuse(self, conn: Any, status: HTTPStatus, sentence: str) -> None:
        self.log.warning("a request was given up before it was whole: %s", sentence)
        body = json.dumps({"error": sentence})
        head = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            head.append("Retry-After: 1")
        try:
            conn.sock.send("\r\n".join([*head, "", body]).encode())
        except OSError:
            self._close(conn)
        else:
            self._unwatch(conn)
            self._linger(conn)

    # A request in a thread

    def handle(self, conn: Any) -> Any:
        """Answer a request; return whether its connection is kept: not when some of the request is still to come."""
        is_kept = super().handle(conn)
        return is_kept and conn.parser.unreader.is_whole

    # A connection after its last answer

    def finish_request(self, conn: Any, fs: "Future[Any]") -> None:
        """Keep a connection for its next request, as gunicorn does, or close it without waiting for the client."""
        if fs.cancelled() or fs.exception() or not fs.result():
            self._linger(conn)
        elif conn.parser.unreader.size:  # the next request came together with this one
            self.enqueue_req(conn)
        else:
            super().finish_request(conn, fs)

    def _linger(self, conn: Any) -> None:
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._forget(conn)
        else:
            self._watch(conn, self._drain, LINGER)

    def _drain(self, conn: Any) -> None:
        """Throw away what still comes: unread, it would take the answer with it."""
        try:
            if conn.sock.recv(2**18):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._close(conn)

    # What both have in common

    def _watch(self, conn: Any, see: Callable[[Any], None], seconds: float) -> None:
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + seconds
        conn.is_closing = see == self._drain
        self._watched.add(conn)
        self.poller.register(conn.sock, EVENT_READ, lambda _: see(conn))

    def _unwatch(self, conn: Any) -> None:
        self._watched.discard(conn)
        self.poller.unregister(conn.sock)

    def _close(self, conn: Any) -> None:
        self._unwatch(conn)
        self._forget(conn)

    def _forget(self, conn: Any) -> None:
        self.nr_conns -= 1
        conn.close()

    # Time

    def murder_pending(self) -> None:
        """Give up connections whose time is over; gunicorn calls this at least once a second."""
        now = time.monotonic()
        for conn in [conn for conn in self._watched if conn.timeout < now]:
            if conn.is_closing or not conn.parser.unreader.size:
                self._close(conn)
            else:
                self._refuse(conn, HTTPStatus.REQUEST_TIMEOUT, f"it was not whole after {self.patience:g} seconds")

    def set_accept_enabled(self, enabled: bool) -> None:
        """Take new connections or not; a server that ends takes those that wait already, and then refuses others."""
        is_the_end = not enabled and not self.alive
        if is_the_end:
            for listener in self.sockets:
                while self.nr_conns < self.worker_connections and _has_waiting(listener):
                    self.accept(listener)
        super().set_accept_enabled(enabled)
        if is_the_end:
            for listener in self.sockets:
                listener.close()

    def _cap_keepalive(self, deadline: float) -> None:
        super()._cap_keepalive(deadline)
        last = time.monotonic() + self.cfg.graceful_timeout - 5  # for what has begun to come: then 5 s for its answer
        for conn in self._watched:
            conn.timeout = min(conn.timeout, last if conn.parser.unreader.size else deadline)


def _has_waiting(listener: Any) -> bool:
    """Return whether a connection waits to be taken."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))
