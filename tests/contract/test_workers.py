"""What several worker processes of the real server have to do together, and what they must not do to each other."""

import contextlib
import json
import time
from pathlib import Path

import psutil
import pytest

from tests.contract.bodies import picture
from tests.contract.box import end, start_server
from tests.contract.test_robustness import read_answer, request, tensors, wait_for_work

WORKERS = 2


@pytest.fixture(scope="module")
def server(runner, tmp_path_factory, random_model):
    folder = tmp_path_factory.mktemp("workers")
    server = start_server(
        runner,
        folder,
        random_model,
        SAGEMAKER_MODEL_SERVER_WORKERS=str(WORKERS),
        MODEL_SERVER_WORKERS="7",  # the older name, where both are given
        KENNEL_METRICS_NAMESPACE="Kennel",
    )
    server.wait_until_ready()
    wait_for_workers(server)
    yield server
    end(server)


def wait_for_workers(server):
    """Wait until all are ready; the first of them answers pings already."""
    deadline = time.monotonic() + 120
    while server.box.log.count("ready engine=") < WORKERS:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes(server):
    return psutil.Process(server.box.program.pid).children()


def ask(server, times):
    """Ask on so many connections, which both workers then accept some of; return the statuses."""
    clients = [server.send(request(picture())) for _ in range(times)]
    return [read_answer(client)[0] for client in clients]


def counted(server, status="200"):
    return server.metrics().get(("kennel_requests_total", status, "resnet18"), 0)


@pytest.mark.process_only
def test_there_are_as_many_processes_as_the_owner_says_c2_1(server):
    assert len(processes(server)) == WORKERS


@pytest.mark.process_only
@pytest.mark.parametrize("name", ["SAGEMAKER_MODEL_SERVER_WORKERS", "MODEL_SERVER_TIMEOUT"])
def test_no_process_and_no_time_are_refused_with_a_sentence_c2_1(serve, random_model, name):
    server = serve(random_model, **{name: "0"})
    assert server.box.wait(30) != 0
    assert server.box.log.strip() == f"serve: the variable {name} is 0; it should be at least 1"


def test_every_process_shows_the_counts_of_all_c1_13(server):
    before = counted(server)
    assert set(ask(server, 40)) == {200}
    wait_for_work(server, lambda requests: requests == 0)
    for _ in range(10):  # a connection each, so that both are asked
        with contextlib.closing(
            server.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        ) as client:
            page = b"".join(iter(lambda: client.recv(2**16), b"")).decode()
        assert f'kennel_requests_total{{model="resnet18",status="200"}} {before + 40}' in page
        assert "kennel_requests_in_work 0.0" in page


@pytest.mark.process_only
def test_memory_and_cpu_time_are_those_of_the_whole_server_c1_13(server):
    shown = server.metrics()
    master = psutil.Process(server.box.program.pid)
    all_of_them = [master, *master.children()]
    largest = max(process.memory_full_info().pss for process in all_of_them)
    together = sum(process.memory_info().rss for process in all_of_them)
    assert largest < shown["process_resident_memory_bytes",] < together
    spent = sum(sum(process.cpu_times()[:2]) for process in all_of_them)
    assert shown["process_cpu_seconds_total",] == pytest.approx(spent, rel=0.2)
    assert shown["process_start_time_seconds",] == pytest.approx(master.create_time(), abs=1)


@pytest.mark.process_only
def test_a_killed_worker_is_replaced_fails_its_own_requests_alone_and_its_counts_stay_c1_13(server):
    assert set(ask(server, 20)) == {200}
    before, cpu = counted(server), server.metrics()["process_cpu_seconds_total",]
    ready = server.box.log.count("ready engine=")
    victim, survivor = processes(server)
    clients = [server.send(tensors(64)) for _ in range(16)]
    wait_for_work(server, lambda requests: requests > 8)
    victim.suspend()  # so that it takes no more
    victims = {
        connection.raddr.port
        for connection in victim.net_connections()
        if connection.raddr and connection.status == "ESTABLISHED"
    }
    victim.kill()
    victim.wait()
    lost = []
    for client in clients:
        port = client.getsockname()[1]
        status, _ = read_answer(client)
        if status != 200:
            lost.append(port)
    assert set(lost) <= victims  # a connection that waited was not the victim's alone
    deadline = time.monotonic() + 120
    while server.box.log.count("ready engine=") == ready:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert survivor in processes(server)
    assert len(processes(server)) == WORKERS
    assert set(ask(server, 20)) == {200}
    wait_for_work(server, lambda requests: requests == 0)  # what it was doing is forgotten
    assert counted(server) == before + 16 - len(lost) + 20
    assert server.metrics()["process_cpu_seconds_total",] > cpu


def test_sigterm_under_load_loses_no_request_and_leaves_nothing_behind_c1_2(serve, random_model):
    server = serve(random_model, SAGEMAKER_MODEL_SERVER_WORKERS="2", KENNEL_METRICS_NAMESPACE="Kennel")
    server.wait_until_ready()
    wait_for_workers(server)
    clients = [server.send(tensors(64)) for _ in range(24)]
    wait_for_work(server, lambda requests: requests > 1)
    assert server.box.stop(limit=30) == 0
    assert [read_answer(client)[0] for client in clients] == [200] * 24
    with pytest.raises(ConnectionRefusedError):
        server.send()
    said = [json.loads(line) for line in server.box.log.splitlines() if '"_aws"' in line]
    assert sum(line.get("Requests", 0) for line in said) == 24  # each worker says its own
    assert sum(len(line.get("Latency", [])) for line in said) == 24
    assert sum(sum(line.get("BatchSize", [])) for line in said) == 24 * 64


@pytest.mark.process_only
def test_the_folder_in_which_the_processes_meet_goes_with_them(serve, random_model):
    server = serve(random_model).wait_until_ready()
    [worker] = processes(server)
    [folder] = {Path(file.path).parent for file in worker.open_files() if file.path.endswith(".db")}
    assert folder.is_dir()
    assert server.box.stop(limit=30) == 0
    assert not folder.exists()
