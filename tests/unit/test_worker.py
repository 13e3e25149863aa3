"""gunicorn with our worker and a small application: what clients do to it, and what it does to them."""

import contextlib
import http.client
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from kennel_cli.platforms.ports import free_port

THREADS = 2
APPLICATION = """
import threading
import time
from kennel.serving.worker import Worker

class Impatient(Worker):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.patience = 3.0

def application(environ, start_response):
    body = b"" if environ["PATH_INFO"] == "/unread" else environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/slow":
        time.sleep(1)
    if environ["PATH_INFO"] == "/large":
        body = bytes(2**26)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


class Server:
    def __init__(self, folder, worker, *more):
        (folder / "small.py").write_text(APPLICATION)
        self.port = free_port()
        options = ["--bind", f"127.0.0.1:{self.port}", "--threads", str(THREADS), "--worker-class", worker]
        options += ["--keep-alive", "75", *more]
        command = [sys.executable, "-m", "gunicorn", "--chdir", str(folder), *options, "small:application"]
        with (folder / "log.txt").open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={"PYTHONPATH": str(folder), "SAGEMAKER_MAX_PAYLOAD_IN_MB": "1"}
            )
        deadline = time.monotonic() + 60
        while True:
            # not as soon as it listens: gunicorn does so before it has a worker
            with contextlib.suppress(OSError, http.client.HTTPException):
                assert self.post() == (200, b"hello")
                break
            assert self.process.poll() is None, (folder / "log.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def connect(self, *parts):
        client = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        for part in parts:
            client.sendall(part)
        return client

    def post(self, body=b"hello", path="/", headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("POST", path, body, headers or {}, encode_chunked=not isinstance(body, bytes))
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, data

    def end(self):
        self.process.terminate()
        return self.process.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("patient"), "kennel.serving.worker.Worker")
    yield server
    server.end()


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("impatient"), "small.Impatient")
    yield server
    server.end()


def head(*lines, path="/", method="POST"):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def read_to_end(client):
    data = b""
    with client, contextlib.suppress(ConnectionResetError):
        while piece := client.recv(2**16):
            data += piece
    return data


HALF = head("Content-Length: 1000") + b"hello"


def test_clients_that_send_half_of_a_request_hold_no_thread(server):
    halves = (HALF, HALF[:20], b"", head("Transfer-Encoding: chunked") + b"5\r\nhel", head("Content-Length: 9"))
    clients = [server.connect(half) for half in halves * THREADS]
    assert server.post() == (200, b"hello")
    for client in clients:
        client.close()
    assert server.post() == (200, b"hello")


def test_a_request_may_come_byte_by_byte(server):
    client = server.connect()
    for byte in head("Content-Length: 3", "Connection: close") + b"abc":
        client.sendall(bytes([byte]))
    assert read_to_end(client).endswith(b"\r\n\r\nabc")


def test_two_requests_may_come_at_once(server):
    first = head("Content-Length: 3") + b"abc"
    second = head("Transfer-Encoding: chunked") + b"3;x=y\r\ndef\r\n0\r\n\r\n"
    last = head("Content-Length: 3", "Connection: close") + b"ghi"
    data = read_to_end(server.connect(first + second + last[:-1], last[-1:]))
    assert data.count(b"200 OK") == 3
    assert data.index(b"abc") < data.index(b"def") < data.index(b"ghi")


def test_a_connection_is_used_again(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for body in (b"one", bytes(2**20), b""):
        connection.request("POST", "/", body)
        assert connection.getresponse().read() == body
    connection.close()


def test_chunks_and_trailers_are_read(server):
    assert server.post(iter([b"abc", bytes(10_000)])) == (200, b"abc" + bytes(10_000))
    chunked = head("Transfer-Encoding: chunked", "Connection: close")
    data = read_to_end(server.connect(chunked, b"3\r\nabc\r\n", b"0\r\nX-Trailer: 1\r\n", b"\r\n"))
    assert data.endswith(b"\r\n\r\nabc")


def test_a_client_that_waits_for_the_word_gets_it(server):
    client = server.connect(head("Content-Length: 3", "Expect: 100-continue", "Connection: close"))
    assert client.recv(100).startswith(b"HTTP/1.1 100 Continue")
    client.sendall(b"abc")
    assert read_to_end(client).endswith(b"\r\n\r\nabc")


@pytest.mark.parametrize("size", [2**16 + 1, 2**20])
def test_headers_without_end_are_431(server, size):
    client = server.connect()
    with contextlib.suppress(OSError):
        client.sendall(head("X-Long: " + "a" * size))
    assert read_to_end(client).startswith(b"HTTP/1.1 431 ")
    assert server.post() == (200, b"hello")


@pytest.mark.parametrize(
    "broken", [b"x\r\n", b"3\r\nabc!!xyz\r\n", b"5" * 2**18, b"-5\r\nabc\r\n", b"0\r\n" + b"X: y\r\n" * 2**15]
)
def test_what_is_no_chunk_ends_the_request(server, broken):
    client = server.connect()
    with contextlib.suppress(OSError):
        client.sendall(head("Transfer-Encoding: chunked") + broken)
    assert b" 200 OK" not in read_to_end(client)
    assert server.post() == (200, b"hello")


def test_a_body_without_end_is_not_waited_for(server):
    """The application decides what to say of it; ours says 413."""
    client = server.connect(head("Transfer-Encoding: chunked", path="/unread"))
    with contextlib.suppress(OSError):
        for _ in range(100):
            client.sendall(b"10000\r\n" + bytes(2**16) + b"\r\n")
    assert read_to_end(client).startswith(b"HTTP/1.1 200 ")


def test_a_connection_with_a_body_that_was_not_awaited_is_not_used_again(server):
    hidden = head(path="/hidden")  # in a body; were it read as a request, there would be a second answer
    client = server.connect(head(f"Content-Length: {2**21}", path="/unread"), hidden)
    assert read_to_end(client).count(b"HTTP/1.1 ") == 1


def test_clients_that_do_not_close_their_connection_delay_nobody(server):
    clients = [server.connect(head("Connection: close", method="GET")) for _ in range(20)]
    for client in clients:
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
    assert server.post() == (200, b"hello")
    for client in clients:
        client.close()


def test_a_request_that_is_not_whole_in_time_is_given_up_c1_7(impatient):
    assert read_to_end(impatient.connect(HALF)).startswith(b"HTTP/1.1 408 ")
    assert read_to_end(impatient.connect()) == b""  # nothing was asked, and nothing is answered


def test_clients_that_do_not_read_their_answer_are_given_up_c1_7(impatient):
    clients = [impatient.connect(head(path="/large")) for _ in range(THREADS)]
    assert impatient.post() == (200, b"hello")
    for client in clients:
        client.close()


def test_a_server_that_ends_answers_what_it_has_accepted_and_refuses_others_c1_2(tmp_path):
    server = Server(tmp_path, "kennel.serving.worker.Worker")
    asked = [server.connect(head("Content-Length: 3", path="/slow") + b"abc") for _ in range(6)]
    silent, half = server.connect(), server.connect(HALF)
    time.sleep(0.3)  # two are in work, four wait for a thread
    server.process.send_signal(signal.SIGTERM)
    half.sendall(bytes(995))  # was begun before the end, and may be ended
    assert all(read_to_end(client).endswith(b"\r\n\r\nabc") for client in asked)
    assert b" 200 OK" in read_to_end(half)
    assert read_to_end(silent) == b""
    assert server.process.wait(30) == 0
    with pytest.raises(ConnectionRefusedError):
        server.connect()
    assert "Traceback" not in Path(tmp_path / "log.txt").read_text()


def test_a_server_that_ends_answers_those_that_wait_behind_others_that_have_gone_c1_2(tmp_path):
    server = Server(tmp_path, "kennel.serving.worker.Worker")
    [worker] = psutil.Process(server.process.pid).children()
    worker.suspend()
    for _ in range(4):
        server.connect().close()
    asked = [server.connect(head("Content-Length: 3") + b"abc") for _ in range(3)]
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)  # it tells its worker
    worker.resume()
    assert all(read_to_end(client).endswith(b"\r\n\r\nabc") for client in asked)
    assert server.process.wait(30) == 0


def test_a_server_that_is_full_refuses_others_as_soon_as_it_ends_c1_2(tmp_path):
    server = Server(tmp_path, "kennel.serving.worker.Worker", "--worker-connections", "2")
    halves = [server.connect(HALF) for _ in range(2)]
    time.sleep(1.5)  # it has noticed
    server.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 30
    with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
        while time.monotonic() < deadline:
            server.connect().close()
            time.sleep(0.1)
    for half in halves:
        half.sendall(bytes(995))
        assert b" 200 OK" in read_to_end(half)
    assert server.process.wait(30) == 0
