"""The server's parts that a healthy model does not show."""

import gc
import io
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from kennel.images.preprocess import Preprocessing
from kennel.serving.app import create_app
from kennel.serving.batcher import Batcher, Call, Patience
from kennel.serving.codecs import decode_request
from kennel.serving.errors import Gone, Late
from kennel.serving.service import Service, Settings


class Engine:
    """An engine that gives an image's first value back, cannot stand the value 13, and remembers its batches."""

    name = "echo"
    device = "cpu"

    def __init__(self, batch_size=4, longest_wait=0.0, any_thread=False):
        self.batch_size = batch_size
        self.longest_wait = longest_wait
        self.any_thread = any_thread
        self.threads = []
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.is_at_work = threading.Event()

    def warm_up(self):
        pass

    def probabilities(self, images):
        self.is_at_work.set()
        self.gate.wait()
        self.threads.append(threading.current_thread())
        values = images.reshape(len(images), -1)[:, :1]
        self.batches.append(values[:, 0].tolist())
        if (values == 13).any():
            raise RuntimeError("thirteen")
        return values


def image(value):
    return np.full((3, 2, 2), value, np.float32)


def test_images_that_wait_together_go_through_the_model_together():
    engine = Engine()
    batches = []
    batcher = Batcher(engine, lambda size, waiting: batches.append((size, waiting)))
    batcher.start()
    engine.gate.clear()
    first = threading.Thread(target=batcher.predict, args=([image(0)], Call()))
    first.start()
    assert engine.is_at_work.wait(60)  # else the first image might not be alone in its batch
    rows, call = [], Call()
    second = threading.Thread(target=lambda: rows.extend(batcher.predict([image(n) for n in range(1, 7)], call)))
    second.start()
    while batcher._queue.qsize() < 6:  # until the second request waits behind the first
        pass
    engine.gate.set()
    first.join()
    second.join()
    assert engine.batches == [[0], [1, 2, 3, 4], [5, 6]]
    assert batches == [(1, 0), (4, 2), (2, 0)]
    assert [row.item() for row in rows] == [1, 2, 3, 4, 5, 6]
    assert call.batch_size == 4
    assert call.forward > 0


def test_a_request_that_is_alone_runs_the_model_in_its_own_thread_and_those_behind_it_go_together():
    engine = Engine(any_thread=True)
    batcher = Batcher(engine, lambda size, waiting: None)
    assert [row.item() for row in batcher.predict([image(0)], Call())] == [0]
    assert engine.threads == [threading.current_thread()]
    engine.gate.clear()
    engine.is_at_work.clear()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(batcher.predict, [image(1)], Call())
        assert engine.is_at_work.wait(60)
        others = [pool.submit(batcher.predict, [image(value)], Call()) for value in (2, 3, 4)]
        while batcher._queue.qsize() < 3:
            pass
        batcher.start()  # which finds all three of them
        engine.gate.set()
        assert [row.result()[0].item() for row in (first, *others)] == [1, 2, 3, 4]
    assert [len(batch) for batch in engine.batches] == [1, 1, 3]
    assert engine.threads[2] is batcher._thread


def test_a_single_client_never_waits_for_others():
    patience = Patience()
    for _ in range(10):
        assert patience.seconds(1, longest=0.004) == 0
        patience.saw(1, 0.010)


def test_a_batch_waits_for_as_many_as_the_last_had_and_not_longer_than_half_of_what_one_takes():
    patience = Patience()
    patience.saw(8, 0.003)
    assert patience.seconds(1, longest=0.004) == pytest.approx(0.0015)
    assert patience.seconds(7, longest=0.001) == 0.001
    assert patience.seconds(1, longest=0) == 0
    assert patience.seconds(8, longest=0.004) == 0
    for _ in range(100):
        patience.saw(8, 0.020)
    assert patience.seconds(1, longest=0.004) == 0.004


def test_images_that_come_while_a_batch_waits_go_with_it():
    engine = Engine(longest_wait=30)
    batcher = Batcher(engine, lambda size, waiting: None)
    batcher._patience.saw(3, 60)
    with ThreadPoolExecutor() as pool:
        batcher.start()
        answers = [pool.submit(batcher.predict, [image(value)], Call()) for value in (1, 2, 3)]
        assert [answer.result()[0].item() for answer in answers] == [1, 2, 3]
    assert [sorted(batch) for batch in engine.batches] == [[1, 2, 3]]


def test_an_image_that_breaks_its_batch_fails_alone():
    engine = Engine()
    batcher = Batcher(engine, lambda size, waiting: None)
    batcher.start()
    engine.gate.clear()
    results = {}

    def ask(value):
        try:
            results[value] = batcher.predict([image(value)], Call())[0].item()
        except RuntimeError as error:
            results[value] = str(error)

    threads = [threading.Thread(target=ask, args=(value,)) for value in (11, 12, 13, 14)]
    for thread in threads:
        thread.start()
    engine.gate.set()
    for thread in threads:
        thread.join()
    assert results == {11: 11, 12: 12, 13: "thirteen", 14: 14}
    assert batcher.is_alive()


def test_images_that_nobody_waits_for_any_more_cost_no_forward():
    engine = Engine()
    batcher = Batcher(engine, lambda size, waiting: None)
    engine.gate.clear()
    here, (gone, other_end) = socket.socketpair(), socket.socketpair()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(batcher.predict, [image(0)], Call())
        batcher.start()
        assert engine.is_at_work.wait(60)
        late = pool.submit(batcher.predict, [image(1)], Call(deadline=time.monotonic()))
        left = pool.submit(batcher.predict, [image(2), image(3)], Call(client=gone))
        waits = pool.submit(batcher.predict, [image(4)], Call(time.monotonic() + 60, here[0]))
        while batcher._queue.qsize() < 4:
            pass
        other_end.close()
        engine.gate.set()
        assert [row.item() for row in (*first.result(), *waits.result())] == [0, 4]
        with pytest.raises(Late):
            late.result()
        with pytest.raises(Gone):
            left.result()
    assert engine.batches == [[0], [4]]
    for end in (*here, gone):
        end.close()


@pytest.fixture
def client():
    settings = Settings()
    service = Service(Engine(), Preprocessing.for_size(16), ("a",), settings, "echo")
    service.start()
    return create_app(service, settings).test_client()


def test_a_fault_of_the_server_is_500_without_its_traceback(client, caplog):
    file = io.BytesIO()
    np.save(file, np.full((3, 16, 16), 13.0))
    answer = client.post("/invocations", data=file.getvalue(), content_type="application/x-npy")
    assert answer.status_code == 500
    assert answer.json == {"error": "the server failed at this request; its log says why"}
    assert "thirteen" in caplog.text


def test_an_answer_that_nobody_waits_for_is_503_and_not_computed_c1_7():
    engine, settings = Engine(), Settings(patience=-1)
    service = Service(engine, Preprocessing.for_size(16), ("a",), settings, "echo")
    service.start()
    engine.batches.clear()
    file = io.BytesIO()
    np.save(file, np.zeros((3, 16, 16)))
    data = {"data": file.getvalue(), "content_type": "application/x-npy"}
    answer = create_app(service, settings).test_client().post("/invocations", **data)
    assert answer.status_code == 503
    assert "the time that a caller waits" in answer.json["error"]
    assert engine.batches == []


def test_a_service_that_was_not_started_is_not_healthy():
    settings = Settings()
    app = create_app(Service(Engine(), Preprocessing.for_size(16), ("a",), settings, "echo"), settings)
    assert app.test_client().get("/ping").status_code == 503


def test_a_good_picture_is_answered_beside_the_fault(client):
    file = io.BytesIO()
    Image.new("RGB", (20, 20)).save(file, "PNG")
    assert client.post("/invocations", data=file.getvalue(), content_type="image/png").status_code == 200


def test_tensors_are_read_in_many_threads_at_once():
    """Python 3.11's parser, which reads an NPY header, breaks when a collection of garbage lets another thread in."""
    file = io.BytesIO()
    np.save(file, np.zeros((3, 16, 16), np.float32))
    preprocessing = Preprocessing.for_size(16)

    def read(_):
        return len(list(decode_request(file.getvalue(), "application/x-npy", preprocessing)))

    threshold, interval = gc.get_threshold(), sys.getswitchinterval()

    def let_others_in(phase, info):
        sum(range(50))

    gc.callbacks.append(let_others_in)
    gc.set_threshold(30)
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(32) as pool:
            assert set(pool.map(read, range(20_000))) == {1}
    finally:
        gc.callbacks.remove(let_others_in)
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)
