"""One server process for all of these tests, and many connections to it."""

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue

import psutil
import pytest

from kennel_cli.platforms.runners import ProcessRunner
from tests.contract.box import end, start_server
from tests.fuzz.files import real_files

CONNECTIONS = 12
HANGS = 20.0  # seconds; nothing here should take five, on a machine that others use at the same time


class Target:
    """A server that is asked a lot at once, and may refuse everything, but has to answer."""

    def __init__(self, server):
        self.server = server
        self._idle = SimpleQueue()
        self._pool = ThreadPoolExecutor(CONNECTIONS)

    def ask_all(self, requests):
        """Send requests, each a body and headers; return statuses, and fail if one is answered badly."""
        return list(self._pool.map(lambda request: self.ask(*request), requests))

    def ask(self, body, headers):
        status, answer, seconds = self._post(body, headers)
        assert status < 500, f"{status} {answer[:300]!r} for {headers} {body[:500]!r}"
        assert seconds < HANGS, f"{seconds:.0f} s for {headers} {body[:500]!r}"
        if status >= 400 and answer.startswith(b"{"):
            assert set(json.loads(answer)) == {"error"}
            assert len(answer) <= 2048
        return status

    def _post(self, body, headers):
        began = time.monotonic()
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        is_new = connection.sock is None
        try:
            connection.putrequest("POST", "/invocations", skip_accept_encoding=True)
            for name, value in {**headers, "Content-Length": str(len(body)).encode()}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            answer = response.read()
        except ConnectionError:
            connection.close()
            if not is_new:  # it was closed when idle
                return self._post(body, headers)
            return 0, b"", time.monotonic() - began  # closed on a request that is not HTTP
        if response.will_close:
            connection.close()
        else:
            self._idle.put(connection)
        return response.status, answer, time.monotonic() - began

    def close(self):
        self._pool.shutdown()
        while not self._idle.empty():
            self._idle.get().close()

    def memory(self):
        """Return the bytes that the server's processes hold, and these processes."""
        master = psutil.Process(self.server.box.program.pid)
        workers = master.children(recursive=True)
        return sum(process.memory_info().rss for process in workers), workers


@pytest.fixture(scope="session")
def target(tmp_path_factory, random_model):
    server = start_server(ProcessRunner(), tmp_path_factory.mktemp("fuzz"), random_model, KENNEL_REQUEST_LOG="0")
    target = Target(server)
    try:
        server.wait_until_ready()
        for content_type, files in real_files().values():
            for file in files:
                assert target.ask(file, {"Content-Type": content_type, "Accept": "application/jsonlines"}) == 200
        yield target
    finally:
        target.close()
        end(server)
