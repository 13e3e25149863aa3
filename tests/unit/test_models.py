"""Several models in one process, and what other processes say to it; without HTTP."""

import json
import logging
import socket
import threading
from multiprocessing.connection import Client, Listener

import numpy as np
import pytest

from kennel.errors import ArtifactError
from kennel.images.preprocess import Preprocessing
from kennel.serving import multi_model
from kennel.serving.app import EXTENSION
from kennel.serving.errors import AlreadyLoaded, NotLoaded, OutOfMemory, Unprocessable
from kennel.serving.memory import BESIDES, TIMES, is_out_of_memory, needed_memory
from kennel.serving.models import Models
from kennel.serving.multi_model import MultiModelServer, create_multi_model_app
from kennel.serving.replicas import Replicas
from kennel.serving.service import Service, Settings
from kennel.serving.telemetry import Telemetry
from kennel.serving.user_code import HandlerError
from tests.contract.bodies import npy

MB = 2**20


class OutOfMemoryError(RuntimeError):
    """As torch calls what a GPU says."""


class Engine:
    """An engine that finds no memory for images with larger values than `memory`, and with 0 for none at all."""

    name = "small"
    device = "cpu"
    batch_size = 4
    longest_wait = 0.0
    any_thread = False

    def __init__(self, memory):
        self.memory = memory

    def warm_up(self):
        self.probabilities(np.zeros((1, 3, 16, 16), np.float32))

    def probabilities(self, images):
        if images.max(initial=0) > self.memory or self.memory == 0:
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nMore of it")
        return np.ones((len(images), 1), np.float32)


def load(url, name):
    """Return the service of a URL, which is the size of its memory."""
    if not url.isdecimal():
        raise ArtifactError(f"{url} holds no Kennel model")
    return Service(Engine(int(url)), Preprocessing.for_size(16), ("a",), Settings(), name, Telemetry("", "", 0, ""))


@pytest.fixture
def models():
    models = Models(load)
    yield models
    models.hold({})


@pytest.fixture
def replicas(models, tmp_path):
    """The models of one of two processes; each takes 100 MB of 500."""
    replicas = Replicas(models, tmp_path, 2, lambda url: 100 * MB, 500 * MB)
    replicas.start()
    yield replicas
    replicas.stop()


@pytest.fixture
def other(tmp_path):
    """Start another process: it is told which models to hold, and gives the same answer each time, or ends."""
    listener = Listener(str(tmp_path / "0.socket"), "AF_UNIX")

    def start(answer, times):
        told = []

        def listen():
            for _ in range(times):
                with listener.accept() as connection:
                    told.append(json.loads(connection.recv_bytes()))
                    if answer:
                        connection.send_bytes(json.dumps(answer).encode())

        threading.Thread(target=listen, daemon=True).start()
        return told

    yield start
    listener.close()


def held(models, *names):
    found = []
    for name in names:
        try:
            with models.use(name):
                found.append(name)
        except NotLoaded:
            pass
    return found


def test_what_is_wanted_is_held_and_nothing_else(models):
    models.hold({"a": "1", "b": "1"})
    with models.use("a") as first:
        pass
    models.hold({"c": "1", "a": "1"})
    assert held(models, "a", "b", "c") == ["a", "c"]
    with models.use("a") as second:
        assert second is first  # it was left alone
    models.hold({"a": "2"})
    with models.use("a") as third:
        assert third is not first  # another model by the same name


def test_a_folder_without_a_model_is_refused_and_leaves_the_others(models):
    models.hold({"a": "1"})
    with pytest.raises(Unprocessable, match="the model b cannot be loaded: x holds no Kennel model"):
        models.hold({"a": "1", "b": "x"})
    assert held(models, "a", "b") == ["a"]


def test_a_model_that_finds_no_memory_while_it_is_loaded_is_507_c3_2(models):
    with pytest.raises(OutOfMemory, match=r"there is no memory for the model b: CUDA out of memory.*MiB\.$") as refusal:
        models.hold({"a": "1", "b": "0"})
    assert refusal.value.status == 507
    assert held(models, "a", "b") == ["a"]


def test_a_model_is_unloaded_when_its_last_request_is_answered(models):
    models.hold({"a": "1"})
    with models.use("a") as service:
        unloading = threading.Thread(target=models.hold, args=({},))
        unloading.start()
        while held(models, "a"):
            pass
        assert unloading.is_alive()
        assert service.is_ready()
    unloading.join(60)
    assert not service.is_ready()


def test_a_model_whose_own_code_finds_no_memory_is_refused_for_that_c3_2():
    def load(url, name):
        raise caused_by(OutOfMemoryError("CUDA out of memory."), HandlerError("model_fn has failed: OutOfMemoryError"))

    with pytest.raises(OutOfMemory, match="there is no memory for the model a"):
        Models(load).hold({"a": "1"})


def caused_by(cause, error):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (MemoryError(), True),
        (OutOfMemoryError("x"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("the shapes do not fit"), False),
        (ValueError("out of memory"), False),
        (caused_by(MemoryError(), HandlerError("model_fn has failed: MemoryError")), True),
        (caused_by(RuntimeError("std::bad_alloc"), ArtifactError("cannot be loaded into OpenVINO")), True),
        (caused_by(ValueError("no"), ArtifactError("out of memory")), False),
    ],
)
def test_want_of_memory_is_known_whoever_says_it(error, is_it):
    assert is_out_of_memory(error) == is_it


def test_the_memory_of_a_model_is_estimated_from_what_its_engine_reads(random_model, tmp_path):
    weights = (random_model / "model.safetensors").stat().st_size
    assert needed_memory(random_model, "torch-fp32") == TIMES * weights + BESIDES
    (tmp_path / "weights.pth").write_bytes(bytes(1000))
    assert needed_memory(tmp_path, "auto") == TIMES * 1000 + BESIDES


def test_a_model_is_loaded_in_all_processes_before_it_is_said_to_be_c3_2(replicas, models, other):
    told = other({"status": 200}, 2)
    replicas.load("a", "1")
    assert told == [{"a": "1"}]
    assert held(models, "a") == list(replicas.loaded()) == ["a"]
    with pytest.raises(AlreadyLoaded):
        replicas.load("a", "2")
    replicas.unload("a")
    assert told == [{"a": "1"}, {}]
    assert held(models, "a") == list(replicas.loaded()) == []
    with pytest.raises(NotLoaded):
        replicas.unload("a")


@pytest.mark.parametrize("answer", [{"status": 507, "error": "there is no memory for the model a"}, None])
def test_a_model_that_one_process_cannot_load_is_loaded_in_none_c3_2(replicas, models, other, answer):
    told = other(answer, 2)
    with pytest.raises(OutOfMemory):
        replicas.load("a", "1")
    assert told == [{"a": "1"}, {}]
    assert held(models, "a") == list(replicas.loaded()) == []


def test_the_processes_together_take_no_more_memory_than_there_is_c3_2(replicas):
    replicas.load("a", "1")
    replicas.load("b", "1")
    sentence = "the model c needs about 100 MB of memory in each of 2 processes, and there are 100 MB; unload another"
    with pytest.raises(OutOfMemory, match=sentence):
        replicas.load("c", "1")
    replicas.unload("a")
    replicas.load("c", "1")


def test_what_an_ended_process_left_is_in_nobodys_way(replicas, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "0.socket"))
    replicas.load("a", "1")
    assert not (tmp_path / "0.socket").exists()


def test_a_process_that_starts_loads_what_the_others_have_but_not_what_cannot_be_loaded_any_more(
    tmp_path, other, caplog
):
    (tmp_path / "models.json").write_text('{"a": ["1", 5], "gone": ["x", 5], "b": ["1", 5]}')
    told = other({"status": 200}, 1)
    models = Models(load)
    replicas = Replicas(models, tmp_path, 2, lambda url: 0, MB)
    with caplog.at_level(logging.ERROR):
        replicas.start()
    assert held(models, "a", "gone", "b") == list(replicas.loaded()) == ["a", "b"]
    assert told == [{"a": "1", "b": "1"}]
    assert "the model gone cannot be loaded again" in caplog.text
    replicas.stop()
    models.hold({})


def test_a_process_does_what_it_is_told_and_says_when_it_cannot(replicas, models, tmp_path):
    def tell(wanted):
        [address] = tmp_path.glob("*.socket")
        with Client(str(address), "AF_UNIX") as connection:
            connection.send_bytes(json.dumps(wanted).encode())
            return json.loads(connection.recv_bytes())

    assert tell({"a": "1"}) == {"status": 200}
    assert held(models, "a") == ["a"]
    assert tell({"a": "1", "b": "0"})["status"] == 507
    assert tell({"a": "1", "b": "x"})["status"] == 422
    assert tell({}) == {"status": 200}
    assert held(models, "a") == []


def test_a_request_for_which_a_gpu_has_no_memory_is_507_c3_2(tmp_path, monkeypatch):
    monkeypatch.setattr(multi_model, "load_service", lambda folder, settings, name, telemetry: load(folder.name, name))
    settings = Settings()
    server = MultiModelServer(settings, tmp_path, lambda url: tmp_path / url, 2**60)
    app = create_multi_model_app(server, settings)
    app.extensions[EXTENSION].start()
    client = app.test_client()
    with client.post("/models", json={"model_name": "a", "url": "5"}) as answer:
        assert answer.status_code == 200

    def invoke(value):
        body = npy(np.full((3, 16, 16), value, np.float32))
        with client.post("/models/a/invoke", data=body, content_type="application/x-npy") as answer:
            return answer.status_code, answer.json

    assert invoke(1) == (200, [[1.0]])
    status, body = invoke(9)
    assert status == 507
    assert body == {"error": "there is no memory for what the model a computes; unload another"}
    assert invoke(1) == (200, [[1.0]])
    with client.delete("/models/a") as answer:
        assert answer.status_code == 200
    server.stop()
