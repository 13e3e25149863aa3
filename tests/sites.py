"""Small web servers of this machine, for tests of what asks them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def listening(handler: Callable[..., Any]) -> Iterator[ThreadingHTTPServer]:
    """Serve with a handler, in threads of this process, until the block ends."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        site.daemon_threads = True
        thread = threading.Thread(target=site.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join()


@contextmanager
def answering(*answers: tuple[int, bytes, dict[str, str]]) -> Iterator[tuple[str, list[Any]]]:
    """Give each of the answers (status, body, headers) once, and the last of them from then on.

    Yields the address, and the list of what was posted: path, headers, body.
    """
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, dict(self.headers), body))
            status, answer, headers = answers[min(len(asked), len(answers)) - 1]
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments: Any) -> None:
            pass

    with listening(Handler) as site:
        yield f"http://127.0.0.1:{site.server_port}", asked
