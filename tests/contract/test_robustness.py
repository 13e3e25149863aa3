"""What bad clients, too many clients and a sudden end do to the real server: little."""

import contextlib
import json
import socket
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest

from tests.contract.bodies import npy, picture
from tests.samples import save_random_model

THREADS = 80  # that a server has: 64 requests in work, and 16 beside them


def request(body, content_type="image/jpeg", length=None):
    size = len(body) if length is None else length
    lines = ("POST /invocations HTTP/1.1", "Host: x", f"Content-Type: {content_type}", f"Content-Length: {size}")
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def tensors(count):
    """A request that keeps the model busy for a while, and is small."""
    return request(npy(np.zeros((count, 3, 32, 32), np.uint8)), "application/x-npy")


def read_answer(client):
    """Return status and headers of the answer on a connection; the status is 0 when it ends without one."""
    data = b""
    with client, contextlib.suppress(ConnectionResetError):
        while piece := client.recv(2**16):
            data += piece
    head = data.partition(b"\r\n\r\n")[0].decode()
    return int(head.split()[1]) if head else 0, head


def wait_for_work(server, wanted):
    deadline = time.monotonic() + 60
    while not wanted(server.metrics()["kennel_requests_in_work",]):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def check_all_threads_are_there(server):
    data = picture()
    with ThreadPoolExecutor(THREADS // 2) as pool:
        answers = list(pool.map(lambda _: server.post(data, "image/jpeg").status, range(2 * THREADS)))
    assert answers == [200] * len(answers)
    wait_for_work(server, lambda requests: requests == 0)


def test_half_sent_requests_delay_neither_pings_nor_good_requests_c1_4(server):
    half = request(b"hello", length=1000)
    clients = [server.send(half[: -3 * (number % 2)] or half) for number in range(2 * THREADS)]
    for _ in range(3):
        assert server.ping(timeout=10).status == 200
        assert server.post(picture(), "image/jpeg").status == 200
    for client in clients:
        client.close()
    check_all_threads_are_there(server)


def test_clients_that_go_away_do_no_harm_and_cost_no_forward(server):
    data, before = picture(), server.metrics()
    for number in range(40):  # half of them whole, so that there are places for the good ones meanwhile
        client = server.send(request(data) if number % 2 else request(data)[:-100])
        if number % 4 > 1:  # with a reset rather than an orderly end
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()

    def grown(*name):
        return server.metrics().get(name, 0) - before.get(name, 0)

    deadline = time.monotonic() + 60
    while grown("kennel_requests_total", "200", "resnet18") + grown("kennel_requests_total", "499", "resnet18") < 20:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert grown("kennel_requests_total", "499", "resnet18") > 0  # not all: some were answered before they went
    assert grown("kennel_batch_images_sum") == grown("kennel_requests_total", "200", "resnet18")
    check_all_threads_are_there(server)


def test_headers_and_chunks_without_end_are_refused_c4_3(server):
    for size in (2**16, 2**20):
        client = server.send(b"GET /ping HTTP/1.1\r\nX-Long: ")
        with contextlib.suppress(OSError):  # refused before all of it was sent
            client.sendall(b"a" * size)
        assert read_answer(client)[0] in (431, 0)  # 0: the answer went with what was sent after it
    client = server.send(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n")
    client.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
    chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
    with contextlib.suppress(OSError):
        for _ in range(110):
            client.sendall(chunk)
    assert read_answer(client)[0] == 413
    check_all_threads_are_there(server)


def test_100_megabytes_are_read_c1_8(server):
    large = picture() + bytes(100 * 2**20 - len(picture()))  # a JPEG with a long tail is still that JPEG
    assert server.post(large, "image/jpeg").status == 200


def test_clients_that_go_away_in_the_middle_of_their_answer_do_no_harm(serve, tmp_path):
    model = save_random_model(tmp_path / "model", classes=20_000)  # for an answer that no socket's memory can hold
    server = serve(model).wait_until_ready()
    accept = b"Accept: application/json;verbose;top_k=20000\r\n"
    for number in range(8):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(60)
        client.connect(("127.0.0.1", server.port))
        client.sendall(request(picture()).replace(b"Host: x\r\n", b"Host: x\r\n" + accept))
        assert client.recv(200).startswith(b"HTTP/1.1 200 ")
        if number % 2:  # with a reset rather than an orderly end
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    check_all_threads_are_there(server)
    assert "Traceback" not in server.box.log


def test_slow_clients_delay_nobody(server):
    """Half of them dribble their request, the others do not read their answer."""
    data = picture()
    senders = [server.send(request(data)[:20]) for _ in range(THREADS // 2)]
    readers = [server.send(request(data)) for _ in range(THREADS // 2)]
    for place in range(20, len(request(data)), 200):
        for client in senders:
            client.sendall(request(data)[place : place + 200])
        assert server.ping(timeout=10).status == 200
        assert server.post(data, "image/jpeg").status == 200
    assert {read_answer(client)[0] for client in senders + readers} == {200}


def memory_of(server):
    """Return the bytes that a server's processes hold."""
    return server.metrics()["process_resident_memory_bytes",]


def latency_of(server):
    """Return the median seconds of a request when there are no others."""
    seconds = []
    for _ in range(15):
        started = time.monotonic()
        assert server.post(picture(), "image/jpeg").status == 200
        seconds.append(time.monotonic() - started)
    return statistics.median(seconds)


def test_of_ten_times_as_many_requests_as_can_wait_some_are_answered_and_the_others_refused_c1_4(server):
    body, pings, clients = tensors(64), [], []
    check_all_threads_are_there(server)
    memory, latency = memory_of(server), latency_of(server)
    for number in range(10 * 64):
        clients.append(server.send(body))
        if number % 64 == 0:
            started = time.monotonic()
            assert server.ping(timeout=20).status == 200
            pings.append(time.monotonic() - started)
    answers = [read_answer(client) for client in clients]
    statuses = [status for status, _ in answers]
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 64
    assert all("\r\nRetry-After: 1" in head for status, head in answers if status == 503)
    assert statistics.median(pings) < 2
    check_all_threads_are_there(server)
    assert memory_of(server) - memory < 300 * 2**20
    assert latency_of(server) < 1 + 5 * latency


def test_sigterm_lets_all_accepted_requests_finish_c1_2(serve, random_model):
    server = serve(random_model).wait_until_ready()
    clients = [server.send(tensors(64)) for _ in range(32)]
    wait_for_work(server, lambda requests: requests > 1)
    assert server.box.stop(limit=30) == 0
    assert [read_answer(client)[0] for client in clients] == [200] * 32
    with pytest.raises(ConnectionRefusedError):
        server.send()
    lines = [json.loads(line) for line in server.box.log.splitlines() if line.startswith('{"event"')]
    assert [line["status"] for line in lines] == [200] * 32


@pytest.mark.process_only
def test_a_worker_that_is_killed_is_replaced_and_only_its_own_requests_fail(serve, random_model):
    server = serve(random_model).wait_until_ready()
    [worker] = psutil.Process(server.box.program.pid).children()
    clients = [server.send(tensors(256)) for _ in range(10)]
    wait_for_work(server, lambda requests: requests > 4)
    worker.kill()
    worker.wait()
    lost = [read_answer(client)[0] for client in clients]
    assert lost.count(0) >= 5
    assert set(lost) <= {0, 200}
    server.wait_until_ready()
    check_all_threads_are_there(server)
