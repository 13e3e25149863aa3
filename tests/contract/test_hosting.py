"""Contract C1 and C2, for the real `serve` over HTTP; each test names its row."""

import contextlib
import io
import json
import os
import pickle
import shutil
import socket
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import urllib3
from PIL import Image

from kennel.images.preprocess import Preprocessing
from kennel.model.manifest import EngineRecord, load_manifest, save_manifest
from tests.contract.bodies import b64, instances, npy, picture
from tests.samples import save_random_model

CLASSES = ["blue", "green", "red"]


def error(answer):
    return json.loads(answer.data)["error"]


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory):
    """A model that needs a good part of a second for a few images."""
    return save_random_model(tmp_path_factory.mktemp("slow") / "model", "resnet50", image_size=224)


# C1: ping, start, stop


def test_ping_is_200_with_an_empty_body_c1_4(server):
    answer = server.ping()
    assert (answer.status, answer.data) == (200, b"")


def test_ping_is_not_200_before_the_model_answers_c1_5(serve, slow_model):
    server = serve(slow_model)
    while True:
        warm = "ready engine=" in server.box.log  # looked at before the ping: it may become so meanwhile
        try:
            status = server.ping().status
        except urllib3.exceptions.HTTPError:
            continue
        if status == 200:
            break
        assert not warm
    assert "ready engine=" in server.box.log
    assert server.post(picture(), "image/jpeg").status == 200  # the very first request after the first 200


def without_weights(model):
    (model / "model.safetensors").unlink()
    return "there is no model.safetensors in it"


def with_half_of_the_weights(model):
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    return "model.safetensors does not fit its kennel.json"


def of_another_format(model):
    manifest = model / "kennel.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 999'))
    return "999"


def with_a_damaged_engine(model):
    record = EngineRecord(name="openvino-int8", images=100, milliseconds=1)
    save_manifest(model, load_manifest(model).model_copy(update={"engines": (record,)}))
    (model / "openvino-int8.xml").write_text("<net>")
    (model / "openvino-int8.bin").touch()
    return "cannot be loaded into OpenVINO"


def without_a_model(model):
    shutil.rmtree(model)
    model.mkdir()
    return "holds no Kennel model"


@pytest.mark.parametrize(
    "spoil",
    [without_a_model, without_weights, with_half_of_the_weights, of_another_format, with_a_damaged_engine],
)
def test_a_model_that_cannot_be_loaded_ends_the_server_with_one_message_c1_5_e7(serve, random_model, tmp_path, spoil):
    model = tmp_path / "model"
    shutil.copytree(random_model, model)
    reason = spoil(model)
    engine = "openvino-int8" if spoil is with_a_damaged_engine else ""
    server = serve(model, KENNEL_ENGINE=engine)
    pings = set()
    deadline = time.monotonic() + 60
    while server.box.program.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            pings.add(server.ping().status)
        time.sleep(0.05)
    assert server.box.wait(1) != 0
    assert 200 not in pings
    assert server.box.log.count(reason) == 1
    assert "Traceback" not in server.box.log


@pytest.mark.process_only
def test_the_port_is_sagemakers_to_choose_c1_3_c3_4(server):
    port = int(server.box.variables["SAGEMAKER_BIND_TO_PORT"])
    assert server.address.endswith(f":{port}")
    master = psutil.Process(server.box.program.pid)
    listening = {
        c.laddr.port for p in (master, *master.children()) for c in p.net_connections() if c.status == "LISTEN"
    }
    assert listening == {port}


@pytest.mark.process_only
def test_one_process_serves_on_a_cpu_unless_the_owner_says_otherwise_c2_10(server):
    assert len(psutil.Process(server.box.program.pid).children()) == 1


def test_ping_answers_while_the_model_is_busy_and_clients_are_slow_c1_4(serve, slow_model):
    server = serve(slow_model, SAGEMAKER_MODEL_SERVER_TIMEOUT="600").wait_until_ready()
    body = npy(np.zeros((2, 3, 224, 224), np.float32))
    port = int(server.box.variables["SAGEMAKER_BIND_TO_PORT"])
    dawdlers = []
    for _ in range(10):  # clients that begin a request and never end it
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhello")
        dawdlers.append(client)
    with ThreadPoolExecutor(60) as pool:
        answers = [pool.submit(server.post, body, "application/x-npy") for _ in range(54)]
        time.sleep(1)
        pings = []
        for _ in range(5):
            started = time.monotonic()
            assert server.ping(timeout=20).status == 200
            pings.append(time.monotonic() - started)
        assert statistics.median(pings) < 2
        assert not all(answer.done() for answer in answers)
        assert [answer.result().status for answer in answers] == [200] * 54  # with the dawdlers, all places
    for client in dawdlers:
        client.close()


def test_nothing_is_written_beside_the_model_c1_6(serve, tmp_path):
    model = save_random_model(tmp_path / "model")
    before = {file: file.stat().st_mtime_ns for file in model.rglob("*")}
    server = serve(model).wait_until_ready()
    assert server.post(picture(), "image/jpeg").status == 200
    assert {file: file.stat().st_mtime_ns for file in model.rglob("*")} == before


def test_a_request_longer_than_the_servers_timeout_is_answered_c1_7(serve, slow_model):
    server = serve(slow_model, SAGEMAKER_MODEL_SERVER_TIMEOUT="1").wait_until_ready()
    started = time.monotonic()
    answer = server.post(npy(np.zeros((100, 3, 224, 224), np.float32)), "application/x-npy")
    assert answer.status == 200
    assert time.monotonic() - started > 2  # else this test shows nothing


def test_26_megabytes_are_accepted_and_more_than_the_limit_is_413_c1_8(serve, random_model):
    server = serve(random_model, SAGEMAKER_MAX_PAYLOAD_IN_MB="27").wait_until_ready()
    large = picture() + b"\0" * (26 * 2**20)  # a JPEG with a long tail is still that JPEG
    assert server.post(large, "image/jpeg").status == 200
    answer = server.post(b"\0" * (28 * 2**20), "image/jpeg")
    assert answer.status == 413
    assert "larger than 27 MB" in error(answer)


def test_unless_told_otherwise_100_megabytes_are_the_limit_c1_8(server):
    port = int(server.box.variables["SAGEMAKER_BIND_TO_PORT"])
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n")
        client.sendall(b"Content-Length: %d\r\n\r\n" % (101 * 2**20))
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_is_read_c4_3(server):
    data = picture()
    answer = server.post(iter([data[:100], data[100:]]), "image/jpeg")
    assert answer.status == 200


def test_unknown_headers_do_no_harm_c1_9(server):
    headers = {
        "X_Amzn_SageMaker_Target_Variant": "AllTraffic",
        "X_Amzn_SageMaker_Inference_Id": "42",
        "X_Amzn_SageMaker_Enable_Explanations": "true",
        "X_Amzn_SageMaker_Session_Id": "s",
        "X_Whatever": "é".encode().decode("latin-1"),
    }
    assert server.post(picture(), "image/jpeg", **headers).status == 200


def test_custom_attributes_are_echoed_c1_10(server):
    answer = server.post(picture(), "image/jpeg", X_Amzn_SageMaker_Custom_Attributes="trace=abc;n=1")
    assert answer.headers["X-Amzn-SageMaker-Custom-Attributes"] == "trace=abc;n=1"
    assert "X-Amzn-SageMaker-Custom-Attributes" not in server.post(picture(), "image/jpeg").headers


# Requests and answers


def probabilities(answer):
    assert answer.status == 200, answer.data
    return np.asarray(json.loads(answer.data))


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        ("JPEG", "image/jpeg"),
        ("PNG", "image/png"),
        ("WEBP", "image/webp"),
        ("BMP", "image/bmp"),
        ("JPEG", "application/x-image"),
        ("PNG", "image/jpeg"),  # the bytes say what they are
        ("JPEG", "image/jpeg; charset=binary"),
    ],
)
def test_a_picture_is_answered_with_one_list_of_probabilities_c1_1(server, kind, content_type):
    answer = server.post(picture(kind), content_type)
    rows = probabilities(answer)
    assert answer.headers["Content-Type"] == "application/json"
    assert rows.shape == (1, 3)
    assert rows.sum() == pytest.approx(1, abs=1e-5)


def test_a_picture_and_its_tensor_are_answered_alike(server):
    data = picture(size=(300, 200))
    preprocessing = Preprocessing.for_size(32)
    tensor = preprocessing.normalize(preprocessing.pixels(data)[None])
    expected = probabilities(server.post(data, "image/jpeg"))
    for body, content_type in (
        (npy(tensor), "application/x-npy"),
        (npy(tensor[0]), "application/x-npy"),
        (npy(tensor.astype(np.float64)), "application/x-npy"),
        (json.dumps(tensor.tolist()), "application/json"),
        (json.dumps(tensor[0].tolist()), "application/json"),
        (instances(data), "application/json"),
        (json.dumps(b64(data)) + "\n", "application/jsonlines"),
    ):
        assert np.abs(probabilities(server.post(body, content_type)) - expected).max() < 1e-5


def test_several_pictures_are_answered_in_their_order(server):
    pictures = [picture(colour=(n, 255 - n, 0)) for n in range(0, 250, 6)]
    together = probabilities(server.post(instances(*pictures), "application/json"))
    alone = np.concatenate([probabilities(server.post(data, "image/jpeg")) for data in pictures])
    assert together.shape == (42, 3)
    assert np.abs(together - alone).max() < 1e-5


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/html, application/*;q=0.5"])
def test_json_is_the_default_answer_c2_6(server, accept):
    assert probabilities(server.post(picture(), "image/jpeg", accept)).shape == (1, 3)


def test_the_verbose_answer_names_the_classes(server):
    rows = probabilities(server.post(picture(), "image/jpeg"))
    answer = json.loads(server.post(picture(), "image/jpeg", "application/json;verbose").data)
    best = int(rows[0].argmax())
    assert answer["predicted_label"] == CLASSES[best]
    assert answer["labels"] == CLASSES
    assert np.allclose(answer["probabilities"], rows)
    [top] = answer["predictions"]
    assert [entry["index"] for entry in top] == np.argsort(-rows[0]).tolist()
    assert top[0] == {"label": CLASSES[best], "index": best, "probability": pytest.approx(rows[0, best])}


def test_top_k_cuts_the_predictions(server):
    answer = json.loads(server.post(picture(), "image/jpeg", "application/json;verbose;top_k=2").data)
    assert [len(top) for top in answer["predictions"]] == [2]


def test_the_verbose_answer_to_several_pictures_holds_a_label_each(server):
    body = instances(picture(), picture(colour=(0, 0, 255)))
    answer = json.loads(server.post(body, "application/json", "application/json;verbose").data)
    assert len(answer["predicted_label"]) == len(answer["probabilities"]) == len(answer["predictions"]) == 2


def test_csv_npy_and_json_lines_hold_the_same_probabilities_c1_12(server):
    body = instances(picture(), picture(colour=(0, 0, 255)))
    expected = probabilities(server.post(body, "application/json"))
    readers = {
        "text/csv": lambda data: np.loadtxt(io.BytesIO(data), delimiter=","),
        "application/x-npy": lambda data: np.load(io.BytesIO(data)),
        "application/jsonlines": lambda data: np.array([json.loads(line) for line in data.splitlines()]),
    }
    for accept, read in readers.items():
        answer = server.post(body, "application/json", accept)
        assert answer.headers["Content-Type"].split(";")[0] == accept
        assert np.allclose(read(answer.data), expected, atol=1e-5)


def test_a_bad_line_is_answered_in_its_place(server):
    lines = [json.dumps(b64(picture())), "{", json.dumps({"b64": "%%"}), json.dumps(b64(b"no image")), '{"x": 1}']
    body = "\n".join([*lines, json.dumps(b64(picture("PNG")))])
    answers = server.post(body, "application/jsonlines", "application/jsonlines").data.splitlines()
    parsed = [json.loads(line) for line in answers]
    assert len(parsed) == 6
    assert [isinstance(line, list) for line in parsed] == [True, False, False, False, False, True]
    assert all(set(line) == {"error"} for line in parsed[1:5])
    verbose = server.post(body, "application/jsonlines", "application/jsonlines;verbose").data.splitlines()
    assert json.loads(verbose[0])["predicted_label"] in CLASSES


def test_the_default_answer_is_the_platforms_to_choose_c2_1(serve, random_model):
    server = serve(random_model, SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="text/csv").wait_until_ready()
    assert server.post(picture(), "image/jpeg").headers["Content-Type"].startswith("text/csv")


def test_empty_variables_count_as_unset_c2_3(serve, random_model):
    empty = ("SAGEMAKER_PROGRAM", "SAGEMAKER_SUBMIT_DIRECTORY", "SAGEMAKER_CONTAINER_LOG_LEVEL", "SAGEMAKER_REGION")
    ours = ("DEFAULT_INVOCATIONS_ACCEPT", "MAX_PAYLOAD_IN_MB", "MODEL_SERVER_TIMEOUT", "MODEL_SERVER_WORKERS")
    more = ("MODEL_SERVER_TIMEOUT_SECONDS", "MULTI_MODEL")
    names = (*empty, *(f"SAGEMAKER_{name}" for name in (*ours, *more)), "MODEL_SERVER_WORKERS")
    server = serve(random_model, **dict.fromkeys(names, "")).wait_until_ready()
    assert server.post(picture(), "image/jpeg").headers["Content-Type"] == "application/json"


@pytest.mark.process_only  # a container's port is published before its server could refuse it
@pytest.mark.parametrize("name", ["MAX_PAYLOAD_IN_MB", "BIND_TO_PORT", "MODEL_SERVER_TIMEOUT", "MODEL_SERVER_WORKERS"])
def test_a_variable_that_is_no_number_ends_the_server_with_a_sentence(serve, random_model, name):
    server = serve(random_model, **{f"SAGEMAKER_{name}": "much"})
    assert server.box.wait(30) != 0
    assert f"SAGEMAKER_{name} is 'much'; it should be a whole number" in server.box.log
    assert "Traceback" not in server.box.log


# Refusals: the right status, one sentence, never a traceback


class Code:
    def __reduce__(self):
        return (os.mkdir, ("a-pickle-was-run",))


def huge_picture():
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "status", "sentence"),
    [
        (b"", "image/jpeg", None, 400, "the body is empty"),
        (b"{", "application/json", None, 400, "is not JSON"),
        (b"[" * 100_000, "application/json", None, 400, "is not JSON"),
        (b"abc", "application/x-npy", None, 400, "no NPY array"),
        (b"\x93NUMPY\x01\0\xff\x20" + b"\0" * 9000, "application/x-npy", None, 400, "no NPY array"),
        (b"PK\x03\x04 an archive", "application/x-npy", None, 400, "no NPY array"),
        (npy(np.zeros(3))[:60], "application/x-npy", None, 400, "no NPY array"),
        (npy(np.zeros(3)).replace(b"(3,)", b"(3, "), "application/x-npy", None, 400, "no NPY array"),
        (
            npy(np.zeros(3)).replace(b"(3,), }" + b" " * 12, b"(99999999999999,), }"),
            "application/x-npy",
            None,
            400,
            "no",
        ),
        (b"[" + b"9" * 400 + b"]", "application/json", None, 422, "nested lists"),
        (picture(), "image/jpeg", "application/json;verbose;top_k=" + "9" * 5000, 400, "top_k=999"),
        (pickle.dumps([1, 2]), "application/x-npy", None, 400, "no NPY array"),
        (picture(), "image/jpeg", "application/json;verbose;top_k=0", 400, "top_k=0"),
        (picture(), "image/jpeg", "application/xml", 406, "application/xml cannot be served"),
        (picture(), "image/jpeg", "application/json;q=0", 406, "cannot be served"),
        (picture(), None, None, 415, "without a Content-Type"),
        (picture(), "a" * 4000, None, 415, "is not supported"),
        (picture(), "image/jpeg", "é" * 4000, 406, "ask for one of"),
        (picture(), "text/plain", None, 415, "Content-Type text/plain is not supported"),
        (b"not a picture", "image/jpeg", None, 422, "not an image of a known format"),
        (picture()[:200], "image/jpeg", None, 422, "cannot be decoded"),
        (huge_picture(), "image/png", None, 422, "20000 x 20000 pixels"),
        (b"{}", "application/json", None, 422, '"instances"'),
        (b'{"instances": []}', "application/json", None, 422, '"instances"'),
        (b'{"instances": [{"b64": "%%%"}]}', "application/json", None, 400, "instance 1"),
        (b'{"instances": [{"url": "x"}]}', "application/json", None, 422, "instance 1: this server fetches no URLs"),
        (b'"text"', "application/json", None, 422, "nested lists"),
        (b"[[1, 2], [3]]", "application/json", None, 422, "nested lists"),
        (npy(np.zeros((1, 3, 16, 16), np.float32)), "application/x-npy", None, 422, "the tensor is 1×3×16×16"),
        (npy(np.zeros((0, 3, 32, 32), np.float32)), "application/x-npy", None, 422, "the tensor is 0×3×32×32"),
        (npy(np.zeros(5, np.float32)), "application/x-npy", None, 422, "this model takes N×3×32×32 or 3×32×32"),
        (npy(np.full((3, 32, 32), np.nan)), "application/x-npy", None, 422, "not finite"),
        (npy(np.zeros((3, 32, 32), "U3")), "application/x-npy", None, 422, "it should hold normalized floats"),
        (b'{"b64": "x"}\n', "application/jsonlines", "text/csv", 400, "line 1"),
    ],
)
def test_a_bad_request_is_refused_c1_11_c2_7_c2_8(server, body, content_type, accept, status, sentence):
    answer = server.post(body, content_type, accept)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/json"
    assert sentence in error(answer)
    assert len(answer.data) <= 2048
    assert b"Traceback" not in answer.data


def test_a_pickle_in_an_npy_file_is_not_run_c2_8(server):
    file = io.BytesIO()
    np.save(file, np.array([Code()], dtype=object), allow_pickle=True)
    answer = server.post(file.getvalue(), "application/x-npy")
    assert answer.status == 400
    assert not (server.box.tree / "a-pickle-was-run").exists()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/invocations", 405), ("POST", "/ping", 405), ("GET", "/models", 404)],
)
def test_other_paths_and_methods_are_refused_in_json(server, method, path, status):
    answer = server.get(path, method)
    assert answer.status == status
    assert "POST /invocations" in error(answer)


def test_bad_requests_do_not_fail_good_ones_beside_them(server):
    good, bad = picture(), picture()[:300]
    expected = probabilities(server.post(good, "image/jpeg"))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: server.post(bad if n % 3 == 0 else good, "image/jpeg"), range(90)))
    for number, answer in enumerate(answers):
        if number % 3 == 0:
            assert answer.status == 422
        else:
            assert np.allclose(probabilities(answer), expected, atol=1e-5)
