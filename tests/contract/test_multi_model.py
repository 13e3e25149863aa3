"""Contract C3: several models behind one server, with one and with two worker processes."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import numpy as np
import psutil
import pytest
import urllib3

from kennel.serving.memory import needed_memory
from tests.contract.bodies import npy, picture
from tests.contract.box import end, start_multi_model_server
from tests.samples import save_random_model

MB = 2**20


@pytest.fixture(scope="module")
def folders(tmp_path_factory, random_model):
    """What lies below /opt/ml/models: small models that load quickly, a larger one, and none."""
    three = save_random_model(tmp_path_factory.mktemp("three") / "model", "squeezenet1_1", 32)
    two = save_random_model(tmp_path_factory.mktemp("two") / "model", "squeezenet1_1", 48, classes=2)
    (empty := tmp_path_factory.mktemp("empty")).joinpath("notes.txt").touch()
    return {"three": three, "two": two, "large": random_model, "empty": empty}


@pytest.fixture(scope="module", params=[1, 2])
def workers(request):
    return request.param


@pytest.fixture(scope="module")
def room(folders, workers):
    """Memory for three of the small models, and not for four, in megabytes."""
    return int(3.5 * workers * needed_memory(folders["three"], "torch-fp32") / MB)


@pytest.fixture(scope="module")
def running(runner, tmp_path_factory, folders, workers, room):
    server = start_multi_model_server(
        runner,
        tmp_path_factory.mktemp("multi"),
        folders,
        SAGEMAKER_MODEL_SERVER_WORKERS=str(workers),
        KENNEL_MODEL_MEMORY_IN_MB=str(room),
    )
    yield server.wait_until_ready(120)
    end(server)


@pytest.fixture
def server(running):
    """A server without any model, which it also has again when the test is over."""
    yield running
    for model in names(running):
        unload(running, model)


def load(server, name, folder="three"):
    body = json.dumps({"model_name": name, "url": f"/opt/ml/models/{folder}/model"})
    return server.post(body, "application/json", path="/models")


def unload(server, name):
    return server.get(f"/models/{quote(name, safe='')}", "DELETE")


def invoke(server, name, body=None, content_type="image/jpeg", accept=None, **headers):
    path = f"/models/{quote(name, safe='')}/invoke"
    return server.post(picture() if body is None else body, content_type, accept, path, **headers)


def names(server):
    return [model["modelName"] for model in json.loads(server.get("/models").data)["models"]]


def invoke_on_all(server, name, times=24):
    """Return the statuses that many connections at once, and so all processes, answer."""
    with ThreadPoolExecutor(times) as pool:
        answers = pool.map(lambda _: invoke(server, name, Connection="close").status, range(times))
    return set(answers)


def test_a_server_without_a_model_is_healthy_c3_1_c3_2(server):
    assert server.ping(timeout=20).status == 200
    assert json.loads(server.get("/models").data) == {"models": []}
    assert invoke(server, "three").status == 404
    assert server.post(picture(), "image/jpeg").status == 404


def until(is_so, limit=60):
    deadline = time.monotonic() + limit
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_model_is_loaded_asked_and_unloaded_in_every_process_c3_2(server, workers):
    log = len(server.box.log)
    assert load(server, "dogs").status == 200
    until(lambda: server.box.log[log:].count("loaded model=dogs;") == workers)  # one that still starts says it later
    here = {"modelName": "dogs", "modelUrl": "/opt/ml/models/three/model"}
    assert json.loads(server.get("/models/dogs").data) == here
    assert json.loads(server.get("/models").data) == {"models": [here]}
    assert invoke_on_all(server, "dogs") == {200}
    assert unload(server, "dogs").status == 200
    assert server.box.log[log:].count("unloaded model=dogs;") == workers
    assert invoke_on_all(server, "dogs") == {404}
    assert server.get("/models/dogs").status == 404
    assert unload(server, "dogs").status == 404
    assert load(server, "dogs").status == 200  # the name is free again


def test_requests_and_answers_are_those_of_a_server_of_one_model_c3_2(server):
    load(server, "three"), load(server, "two", "two")
    assert np.array(json.loads(invoke(server, "three").data)).shape == (1, 3)
    assert np.array(json.loads(invoke(server, "two").data)).shape == (1, 2)
    verbose = json.loads(invoke(server, "two", accept="application/json;verbose").data)
    assert verbose["labels"] == ["blue", "green"]
    tensor = invoke(server, "two", npy(np.zeros((2, 3, 48, 48), np.float32)), "application/x-npy", "text/csv")
    assert len(tensor.data.splitlines()) == 2
    assert invoke(server, "two", npy(np.zeros((3, 32, 32))), "application/x-npy").status == 422
    assert invoke(server, "two", b"no picture").status == 422
    assert invoke(server, "two", content_type="text/plain").status == 415
    assert invoke(server, "two", accept="application/xml").status == 406
    attributes = invoke(server, "two", X_Amzn_SageMaker_Custom_Attributes="a=1").headers
    assert attributes["X-Amzn-SageMaker-Custom-Attributes"] == "a=1"


def test_a_model_that_is_loaded_already_is_409_and_stays_c3_2(server):
    assert load(server, "a").status == 200
    answer = load(server, "a", "two")
    assert answer.status == 409
    assert "the model a is loaded already, from /opt/ml/models/three/model" in json.loads(answer.data)["error"]
    assert np.array(json.loads(invoke(server, "a").data)).shape == (1, 3)


@pytest.mark.parametrize("name", ["/models//x/invoke", "ü %2F?#&=.tar.gz", "..", "x" * 500])
def test_a_models_name_may_be_any_text_c3_2(server, name):
    assert load(server, name).status == 200
    assert names(server) == [name]
    path = f"/models/{quote(name, safe='')}".replace("/..", "/%2E%2E")  # or the client itself makes less of it
    assert json.loads(server.get(path).data)["modelName"] == name
    assert server.post(picture(), "image/jpeg", path=f"{path}/invoke").status == 200
    assert server.get(path, "DELETE").status == 200


def test_models_are_listed_a_page_at_a_time_c3_2(server):
    for name in ("b", "c", "a"):
        assert load(server, name).status == 200
    first = json.loads(server.get("/models?limit=2").data)
    assert [model["modelName"] for model in first["models"]] == ["a", "b"]
    second = json.loads(server.get(f"/models?limit=2&next_page_token={first['nextPageToken']}").data)
    assert [model["modelName"] for model in second["models"]] == ["c"]
    assert "nextPageToken" not in second
    assert server.get("/models?limit=many").status == 400


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ("{", 400, "is not JSON"),
        ("[]", 400, "model_name"),
        ('{"model_name": "a"}', 400, "model_name"),
        ('{"model_name": "", "url": "/opt/ml/models/three/model"}', 400, "model_name"),
        ('{"model_name": "a", "url": "/opt/ml/models/empty/model"}', 422, "holds no Kennel model"),
        ('{"model_name": "a", "url": "/opt/ml/models/nowhere"}', 422, "holds no Kennel model"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_a_sentence_c3_2(server, body, status, sentence):
    answer = server.post(body, "application/json", path="/models")
    assert answer.status == status
    assert sentence in json.loads(answer.data)["error"]
    assert names(server) == []


def test_a_model_for_which_there_is_no_memory_is_507_until_another_is_unloaded_c3_2(server):
    for name in ("a", "b", "c"):
        assert load(server, name).status == 200
    answer = load(server, "d")
    assert answer.status == 507
    assert "the model d needs about" in json.loads(answer.data)["error"]
    assert names(server) == ["a", "b", "c"]
    assert invoke(server, "d").status == 404
    assert unload(server, "b").status == 200
    assert load(server, "d").status == 200
    assert invoke_on_all(server, "d") == {200}


def test_the_memory_of_an_unloaded_model_is_free_when_it_is_said_to_be_c3_2(server):
    def memory():
        return server.metrics()["process_resident_memory_bytes",]

    load(server, "first", "large"), unload(server, "first")  # what the first one brings along stays
    before = memory()
    for name in ("a", "b"):
        assert load(server, name, "large").status == 200
    with_models = memory()
    for name in ("a", "b"):
        unload(server, name)
    assert with_models - before > 80 * MB
    assert memory() - before < 0.6 * (with_models - before)  # torch's own is shared with other processes


def test_pings_are_answered_while_models_are_loaded_c3_2(server):
    with ThreadPoolExecutor(3) as pool:
        loads = [pool.submit(load, server, name) for name in ("a", "b", "c")]
        pings = []
        while not all(answer.done() for answer in loads):
            pings.append(server.ping(timeout=20).status)
        assert [answer.result().status for answer in loads] == [200] * 3
    assert set(pings) == {200}


def test_requests_in_work_are_answered_before_their_model_is_unloaded_c3_2(server):
    assert load(server, "a").status == 200
    body = npy(np.zeros((256, 3, 32, 32), np.uint8))  # half a second each, in which they can be seen
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(invoke, server, "a", body, "application/x-npy") for _ in range(8)]
        while server.metrics()["kennel_requests_in_work",] < 4:
            assert not all(answer.done() for answer in answers)
            time.sleep(0.005)
        assert unload(server, "a").status == 200
        statuses = [answer.result().status for answer in answers]
    assert set(statuses) <= {200, 404}  # those that came after it
    assert statuses.count(200) >= 3


def test_of_many_who_load_and_unload_at_once_each_hears_the_truth_c3_2(server, workers):
    with ThreadPoolExecutor(12) as pool:
        loads = list(pool.map(lambda n: load(server, "ab"[n % 2]).status, range(12)))
        assert [loads[0::2].count(200), loads[1::2].count(200)] == [1, 1]
        assert set(loads) == {200, 409}
        unloads = list(pool.map(lambda n: unload(server, "ab"[n % 2]).status, range(12)))
    assert [unloads[0::2].count(200), unloads[1::2].count(200)] == [1, 1]
    assert set(unloads) == {200, 404}
    assert invoke_on_all(server, "a") == invoke_on_all(server, "b") == {404}


def test_logs_and_metrics_name_the_model_c1_13_c3_2(server):
    load(server, "hash-1"), load(server, "hash-2")
    before = server.metrics()
    for _ in range(10):
        invoke(server, "hash-1", X_Amzn_SageMaker_Target_Model="dogs.tar.gz", X_Amzn_SageMaker_Inference_Id="mine")
    invoke(server, "hash-2", b"no picture")
    after = server.metrics()
    assert (
        after["kennel_requests_total", "200", "hash-1"] - before.get(("kennel_requests_total", "200", "hash-1"), 0)
        == 10
    )
    assert (
        after["kennel_requests_total", "422", "hash-2"] - before.get(("kennel_requests_total", "422", "hash-2"), 0) == 1
    )
    assert after["kennel_request_seconds_count", "hash-1"] >= 10
    assert after["kennel_model", "hash-1", "torch-fp32"] == 1
    lines = [json.loads(line) for line in server.box.log.splitlines() if '"id": "mine"' in line]
    assert {(line["model"], line["engine"], line["target"]) for line in lines} == {
        ("hash-1", "torch-fp32", "dogs.tar.gz")
    }
    unload(server, "hash-1")
    assert ("kennel_model", "hash-1", "torch-fp32") not in server.metrics()


@pytest.mark.process_only
def test_a_worker_that_is_killed_is_replaced_by_one_with_all_models_c3_2(server, workers):
    load(server, "a"), load(server, "b", "two")
    log = len(server.box.log)
    children = psutil.Process(server.box.program.pid).children()
    assert len(children) == workers
    stop, seen = threading.Event(), []

    def ask():
        while not stop.is_set():
            try:
                seen.append(invoke(server, "a", Connection="close").status)
            except urllib3.exceptions.HTTPError:  # its own requests fail
                seen.append(0)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(ask)
        children[0].kill()
        children[0].wait()
        server.box.wait_for("loaded model=b;", since=log)
        time.sleep(1)
        stop.set()
    assert set(seen) <= {0, 200}  # never 404
    assert seen.count(0) <= 8
    assert 200 in seen
    assert len(psutil.Process(server.box.program.pid).children()) == workers
    assert invoke_on_all(server, "b") == {200}
    assert unload(server, "a").status == 200
    assert invoke_on_all(server, "a") == {404}
