"""The load generator, against a small server that is as slow and as rude as a test wants it."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kennel.errors import ReportError
from kennel.report.load_page import write_load_page
from kennel.report.load_record import read_load
from kennel_cli.load.bodies import Body, photo, read_bodies
from kennel_cli.load.generator import Budget, Generator, Load
from kennel_cli.load.summary import percentile, summarize
from kennel_cli.load.targets import HttpTarget, LoadError, check
from kennel_cli.servers import AddressError
from tests.load_record import BOTH_LOOPS, step, write_record
from tests.pages import Page, shapes

A_PICTURE = Body(b"a picture", "image/jpeg")


class Stub(ThreadingHTTPServer):
    """A server that works on one request at a time, `seconds` each, and remembers what it was asked."""

    daemon_threads = True
    request_queue_size = 200

    def __init__(self, seconds=0.0, status=200, keeps=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.seconds, self.status, self.keeps = seconds, status, keeps
        self.turn, self.asked, self.connections = threading.Lock(), [], 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """A client that goes away is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.connections += 1

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.turn:
            time.sleep(self.server.seconds)
            self.server.asked.append((self.path, dict(self.headers), body))
        answer = json.dumps({"error": "no, thank you"} if self.server.status >= 400 else [[1.0]]).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Server-Timing", "decode;dur=1.50, forward;dur=2.00")
        if not self.server.keeps:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments):
        """Say nothing."""


@contextmanager
def stub(**wanted):
    server = Stub(**wanted)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def measure(server, load, bodies=(A_PICTURE,), budget=10**6, accept="", timeout=60.0):
    target = HttpTarget(server.url, accept, timeout)
    payloads = [target.encode(body) for body in bodies]
    return summarize(load, Generator(target, payloads, load, Budget(budget)).run(lambda done: None))


def closed(clients, seconds=1.0, warm_up=0.0):
    return Load(clients, None, seconds, warm_up)


def opened(rate, seconds=1.0, warm_up=0.0, connections=64):
    return Load(connections, rate, seconds, warm_up)


def test_clients_of_a_closed_loop_wait_for_each_other_in_the_servers_queue():
    with stub(seconds=0.05) as server:
        alone, together = measure(server, closed(1)), measure(server, closed(4))
    assert alone.p50 >= 50
    assert together.p50 >= 2 * 50  # three others are before it, whenever it comes
    assert alone.throughput <= 20
    assert together.throughput <= 20 + 4
    assert (alone.errors, together.errors) == ({}, {})


def test_an_open_loop_shows_the_queue_that_a_closed_one_hides():
    """A request every 20 ms where one takes 50: the last that is answered has waited for most of the time."""
    with stub(seconds=0.05) as server:
        step = measure(server, opened(50, seconds=2.0))
    assert step.answered + step.unanswered == 100
    assert step.throughput <= 20 + 2
    assert step.p50 >= 500  # alone it would take 50
    assert step.longest >= 1000
    assert any("does not keep up" in note for note in step.notes())


def test_latency_counts_from_when_a_request_was_due_though_no_connection_was_free():
    """With a single connection nothing is sent before the last answer is there: what waits is in the client."""
    with stub(seconds=0.05) as server:
        step = measure(server, opened(50, seconds=2.0, connections=1))
        assert len(server.asked) < 60  # of 100 that were due: the others were never sent
    assert step.unanswered > 40
    assert step.late > 10
    assert step.p50 >= 500
    assert any("all 1 connections" in note for note in step.notes())


def test_an_open_loop_below_what_the_server_carries_keeps_its_rate():
    with stub() as server:
        step = measure(server, opened(40, seconds=2.0, warm_up=0.5, connections=100))
        assert len(server.asked) == 100
        assert server.connections < 100  # the same ones again
    assert (step.answered, step.unanswered, step.errors) == (80, 0, {})


def test_what_comes_before_the_measurement_does_not_count():
    with stub(seconds=0.02) as server:
        step = measure(server, closed(1, seconds=0.5, warm_up=0.5))
        assert step.answered < len(server.asked)
    assert step.answered <= 26


def test_connections_are_kept_and_those_that_the_server_closes_are_opened_anew():
    with stub(seconds=0.01) as server:
        measure(server, closed(2, seconds=60.0), budget=40)
        assert server.connections == 2
        assert len(server.asked) == 40
    with stub(keeps=False) as server:
        assert measure(server, closed(2, seconds=0.5)).errors == {}
        assert server.connections == len(server.asked)


def test_bodies_are_sent_in_turn_with_what_was_asked_for():
    bodies = (Body(b"one", "image/jpeg"), Body(b"two", "image/png"))
    with stub() as server:
        measure(server, closed(1, seconds=60.0), bodies, budget=3, accept="text/csv")
        first, second, third = server.asked[:3]
    assert [first[2], second[2], third[2]] == [b"one", b"two", b"one"]
    assert second[0] == "/invocations"
    assert (second[1]["Content-Type"], second[1]["Accept"]) == ("image/png", "text/csv")


def test_errors_are_counted_by_status_and_do_not_count_as_answers():
    with stub(status=503) as server:
        step = measure(server, closed(2, seconds=3.0))
        assert len(server.asked) <= 64  # a server that refuses is not hammered
    assert (step.answered, step.throughput, step.p50) == (0, 0.0, 0.0)
    assert set(step.errors) == {"503"}
    assert step.problems == f"503: {step.errors['503']}"
    assert step.error == "no, thank you"


def test_a_server_that_is_silent_is_no_answer():
    with stub(seconds=2.0) as server:
        step = measure(server, closed(1, seconds=0.5), timeout=0.3)
    assert set(step.errors) == {"no answer"}
    assert "none in 0.3 seconds" in step.error


def test_no_more_is_sent_than_may_be():
    for load in (closed(4, seconds=5.0), opened(200, seconds=5.0)):
        with stub() as server:
            step = measure(server, load, budget=20)
            assert len(server.asked) == 20
        assert step.answered == 20
        assert step.unanswered == 0
        assert step.seconds < 5


def test_what_the_server_says_of_itself_is_averaged():
    with stub() as server:
        assert measure(server, closed(1, seconds=60.0), budget=5).phases == {"decode": 1.5, "forward": 2.0}


def test_a_client_that_works_hard_is_named_as_the_limit():
    with stub() as server:
        assert measure(server, closed(1, seconds=0.5)).client_cores > 0
    [note] = step(16, client_cores=0.92).notes()
    assert "0.92 cores" in note
    assert "may be the limit, not the server" in note
    assert step(16, client_cores=0.2).notes() == []
    assert "this machine is too busy" in step(128, 50.0, client_delay=40.0).notes()[0]


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://localhost", "http://", "http://host:port", "http://me:secret@host", "http://[::1"]
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(AddressError, match="is no address"):
        HttpTarget(url, "", 1.0)


def test_a_check_says_why_a_target_will_not_do():
    with stub(status=415) as server:
        target = HttpTarget(server.url, "", 5.0)
        with pytest.raises(LoadError, match="answers 415: no, thank you"):
            check(target, target.encode(Body(b"", "x/y")))
    with pytest.raises(LoadError, match=r"does not answer: .*refused"):
        check(target, target.encode(Body(b"", "x/y")))


def test_an_address_may_have_a_path_of_its_own():
    target = HttpTarget("http://host:81/predict?fast=1", "", 1.0)
    assert target.encode(Body(b"x", "a/b")).startswith(b"POST /predict?fast=1 HTTP/1.1\r\nHost: host:81\r\n")


def test_percentiles_are_values_that_were_measured():
    assert percentile([0.001, 0.002, 0.003, 0.004], 50) == 2.0
    assert percentile([0.001, 0.002, 0.003, 0.004], 99) == 4.0
    assert percentile([], 50) == 0.0


# What is sent


def test_the_made_up_picture_is_like_a_photo_and_always_the_same():
    data = photo()
    assert data == photo()
    assert 30_000 < len(data) < 40_000
    [body] = read_bodies(None)
    assert (body.data, body.content_type) == (data, "image/jpeg")


def test_a_folder_is_sent_by_what_its_files_are(tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("a.jpg", "below/b.PNG", "c.txt", "d.jsonl"):
        (tmp_path / name).write_bytes(name.encode())
    found = {body.data: body.content_type for body in read_bodies(tmp_path)}
    assert found == {b"a.jpg": "image/jpeg", b"below/b.PNG": "image/png", b"d.jsonl": "application/jsonlines"}
    assert [body.content_type for body in read_bodies(tmp_path / "c.txt", "text/plain")] == ["text/plain"]


def test_a_folder_of_other_endings_is_sent_when_the_type_is_given(tmp_path):
    (tmp_path / "a.tiff").write_bytes(b"tiff")
    assert read_bodies(tmp_path, "application/x-image") == (Body(b"tiff", "application/x-image"),)


def test_a_host_that_no_name_server_can_be_asked_for_is_no_answer():
    with pytest.raises(LoadError, match="label"):
        check(HttpTarget("http://a..b:8080", "", 5), b"")


def test_of_a_large_folder_some_are_sent(tmp_path):
    for number in range(1200):
        (tmp_path / f"{number:04}.jpg").write_bytes(b"%d" % number)
    bodies = read_bodies(tmp_path)
    assert len(bodies) == 400
    assert int(bodies[-1].data) > 1100


# The page


def test_the_page_shows_each_load_and_what_is_to_be_known(tmp_path):
    page = Page(write_load_page(write_record(tmp_path, *BOTH_LOOPS)).read_text())
    latency = page.chart("Latency over clients")
    assert {name: len(shapes(latency, name)) for name in ("p50", "p90", "p99")} == {"p50": 2, "p90": 2, "p99": 2}
    assert page.chart("Latency over requests a second") is not None
    assert shapes(page.chart("Throughput over requests a second"), "asked")
    assert page.says("503: 120, no answer: 3, unanswered: 900")
    assert page.says("16 clients: the load test itself used 0.90 cores")
    assert page.says("the first error said: 64 requests are in work already")
    assert page.rows()[0][0] == "1 client"
    assert "http-equiv" in page.text
    assert "<script" not in page.text


def test_a_page_of_nothing_but_errors_is_made_too(tmp_path):
    failed = step(answered=0, throughput=0.0, p50=0.0, p90=0.0, p99=0.0, longest=0.0, phases={}, errors={"500": 3})
    page = Page(write_load_page(write_record(tmp_path, failed, is_interrupted=True)).read_text())
    assert page.says("No request was answered well")
    assert page.says("It was interrupted")


def test_names_on_the_page_are_escaped(tmp_path):
    page = write_load_page(write_record(tmp_path, step(error="<script>alert(1)</script>"), target="<b>")).read_text()
    assert "<script" not in page
    assert "<b>" not in page


@pytest.mark.parametrize("content", ["{}", "[]", "no JSON", '{"target": 3}'])
def test_what_is_no_record_is_refused(tmp_path, content):
    (tmp_path / "load.json").write_text(content)
    with pytest.raises(ReportError, match="is not the record of a load test"):
        read_load(tmp_path / "load.json")
    with pytest.raises(ReportError, match="cannot be read"):
        read_load(tmp_path / "no.json")
