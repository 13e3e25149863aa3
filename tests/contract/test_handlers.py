"""Contract C2.3 to C2.8: people's own `inference.py` in a model folder, through the real `serve`."""

import http.server
import io
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from tests.contract.bodies import b64, instances, npy, picture
from tests.contract.box import end, start_server
from tests.contract.test_hosting import error, probabilities
from tests.contract.test_telemetry import line_of
from tests.samples import save_random_model
from tests.sites import listening
from tests.wheels import write_wheel

SCRIPTS = Path(__file__).with_name("scripts")


@pytest.fixture(scope="module")
def network():
    """The network whose state dict people have."""
    torch.manual_seed(2)
    model = torchvision.models.resnet18(weights=None)
    model.fc = torch.nn.Sequential(torch.nn.Linear(512, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    return model.eval()


def scores(network, images):
    with torch.no_grad():
        return network(torch.as_tensor(np.asarray(images, np.float32))).numpy()


@pytest.fixture(scope="module")
def serve_script(runner, tmp_path_factory, network, resnet18_weights):
    """Serve a state dict with one of the scripts, without a network; one server a script."""
    servers = {}

    def serve(name):
        if name not in servers:
            folder = tmp_path_factory.mktemp(name)
            model = folder / "model"
            (model / "code").mkdir(parents=True)
            shutil.copy(SCRIPTS / f"{name}.py", model / "code" / "inference.py")
            shutil.copy(SCRIPTS / "net_module.py", model / "code" / "model.py")
            torch.save(network.state_dict(), model / "model.pth")
            (model / "weights").mkdir()
            shutil.copy(resnet18_weights, model / "weights")
            weights = str(model / "weights") if runner.host == "localhost" else "/opt/ml/model/weights"
            servers[name] = start_server(runner, folder / "server", model, KENNEL_WEIGHTS=weights)
        return servers[name].wait_until_ready()

    yield serve
    for server in servers.values():
        end(server)


# The shapes that people have written


def test_a_state_dict_and_model_fn_alone_answer_raw_scores_c2_5(serve_script, network):
    server = serve_script("state_dict")
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    expected = scores(network, images)
    for body, content_type in ((npy(images), "application/x-npy"), (json.dumps(images.tolist()), "application/json")):
        answer = server.post(body, content_type)
        assert np.allclose(probabilities(answer), expected, atol=1e-4)
    csv = server.post(npy(images), "application/x-npy", "text/csv")
    assert np.allclose(np.loadtxt(io.BytesIO(csv.data), delimiter=","), expected, atol=1e-3)
    assert np.allclose(
        np.load(io.BytesIO(server.post(npy(images), "application/x-npy", "application/x-npy").data)),
        expected,
        atol=1e-4,
    )
    assert "in model_fn, the folder is" in server.box.log  # what it prints


def test_without_an_input_fn_another_model_takes_tensors_only_c2_7(serve_script):
    server = serve_script("state_dict")
    answer = server.post(picture(), "image/jpeg")
    assert answer.status == 415
    assert "no input_fn" in error(answer)
    answer = server.post(npy(np.zeros((2, 2))), "application/x-npy", X_Amzn_SageMaker_Inference_Id="misfit")
    assert answer.status == 500
    assert error(answer) == "the model has failed with RuntimeError; the server's log says why"
    assert line_of(server, "misfit")["status"] == 500
    assert "Traceback" in server.box.log


def test_an_array_for_the_default_input_fn_is_not_unpickled_c2_8(serve_script):
    file = io.BytesIO()
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    for name in ("state_dict", "posted_tensor"):  # ours, and the toolkit's decoder that a script calls
        answer = serve_script(name).post(file.getvalue(), "application/x-npy")
        assert answer.status == 400
        assert "no NPY array of numbers" in error(answer)


def test_image_bytes_come_in_and_probabilities_go_out_c2_5(serve_script):
    server = serve_script("image_bytes")
    answer = server.post(picture(), "image/jpeg")
    rows = np.asarray(json.loads(answer.data)["probabilities"])
    assert rows.shape == (1, 3)
    assert rows.sum() == pytest.approx(1, abs=1e-5)
    assert answer.headers["Content-Type"] == "application/json"
    assert server.post(picture(), "image/jpeg", "*/*").data == answer.data
    line = line_of_request(server, picture())
    assert (line["model"], line["engine"], line["batch_size"]) == ("inference", "handlers", 0)
    assert line["decode_ms"] > 0
    assert line["forward_ms"] > 0


def line_of_request(server, body):
    server.post(body, "image/jpeg", X_Amzn_SageMaker_Inference_Id="one")
    return line_of(server, "one")


def test_what_a_function_raises_is_500_with_a_sentence_and_its_traceback_in_the_log_only_c2_7(serve_script):
    server = serve_script("image_bytes")
    answer = server.post(b"a", "text/plain")
    assert answer.status == 500
    assert error(answer) == "input_fn has failed with Exception; the server's log says why"
    server.box.wait_for("Requested unsupported ContentType: text/plain")
    assert "Traceback" in server.box.log
    assert server.post(picture(), "image/jpeg").status == 200


@pytest.fixture
def photo_site():
    """A server that has one photo."""

    class Photo(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(picture())

        def log_message(self, *arguments):
            pass

    with listening(Photo) as site:
        yield f"http://127.0.0.1:{site.server_port}/dog.jpg"


@pytest.mark.process_only  # the photo is on this machine's loopback
def test_a_script_fetches_what_a_url_names_c2_6(serve_script, photo_site):
    server = serve_script("image_url")
    expected = probabilities(server.post(picture(), "image/jpeg"))
    by_url = server.post(json.dumps({"url": photo_site}), "application/json")
    assert np.allclose(probabilities(by_url), expected, atol=1e-5)


def test_a_posted_tensor_goes_through_the_scripts_own_codecs_c2_6_c2_8(serve_script, network):
    server = serve_script("posted_tensor")
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    expected = scores(network, images)
    assert np.allclose(probabilities(server.post(npy(images), "application/x-npy")), expected, atol=1e-4)
    assert np.allclose(probabilities(server.post(json.dumps(images.tolist()), "application/json")), expected, atol=1e-4)
    answer = server.post(npy(images), "application/x-npy", "application/x-npy")
    assert answer.headers["Content-Type"] == "application/x-npy"
    assert np.allclose(np.load(io.BytesIO(answer.data)), expected, atol=1e-4)
    answer = server.post(npy(images), "application/x-made-up")  # the toolkit's own error
    assert answer.status == 415


# Some functions beside a model of Kennel's


def with_code(folder, script, **files):
    """Save a Kennel model with an inference.py."""
    model = save_random_model(folder)
    (model / "code").mkdir()
    (model / "code" / "inference.py").write_text(script)
    for name, text in files.items():
        (model / "code" / name.replace("_", ".")).write_text(text)
    return model


PREDICT = """
import threading

import torch
from sagemaker_inference.errors import BaseInferenceToolkitError

inside = 0

def predict_fn(data, model, context):
    global inside
    inside += 1
    assert inside == 1, "two calls at a time"
    assert isinstance(data, torch.Tensor) and data.dtype == torch.float32 and not model.training
    wish = context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")
    if wish == "teapot":
        inside -= 1
        raise BaseInferenceToolkitError(418, "no coffee here", "I am a teapot")
    if wish == "created":
        context.set_response_status(201, "made")
        context.set_response_header(0, "X-Made-By", "predict_fn")
    with torch.inference_mode():
        result = torch.softmax(model(data), dim=1)
    inside -= 1
    return result
"""


@pytest.fixture(scope="module")
def predicting(runner, tmp_path_factory):
    """A Kennel model with a predict_fn of the user's that says what Kennel would."""
    folder = tmp_path_factory.mktemp("predicting")
    server = start_server(runner, folder / "server", with_code(folder / "model", PREDICT))
    yield server.wait_until_ready()
    end(server)


def test_one_function_of_the_users_goes_with_kennels_model_and_codecs_c2_5(predicting, server):
    body = instances(picture(), picture(colour=(0, 0, 255)))
    for accept in ("application/json", "application/json;verbose", "text/csv", "application/jsonlines"):
        ours, theirs = (s.post(body, "application/json", accept) for s in (server, predicting))
        assert ours.status == theirs.status == 200
        assert ours.headers["Content-Type"].split(";")[0] == theirs.headers["Content-Type"]
        assert len(ours.data) == pytest.approx(len(theirs.data), rel=0.2)
    assert np.allclose(*(probabilities(s.post(body, "application/json")) for s in (server, predicting)), atol=1e-4)
    assert predicting.post(picture()[:100], "image/jpeg").status == 422
    assert predicting.post(picture(), "image/jpeg", "application/xml").status == 406


def test_functions_are_called_one_at_a_time(predicting):
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: predicting.post(picture(), "image/jpeg"), range(64)))
    assert [answer.status for answer in answers] == [200] * 64


def test_a_context_gives_headers_and_takes_a_status_c2_5_c1_10(predicting):
    answer = predicting.post(picture(), "image/jpeg", X_Amzn_SageMaker_Custom_Attributes="created")
    assert (answer.status, answer.headers["X-Made-By"]) == (201, "predict_fn")
    assert answer.headers["X-Amzn-SageMaker-Custom-Attributes"] == "created"


def test_an_error_of_the_toolkits_has_its_own_status_c2_7_e9(predicting):
    answer = predicting.post(picture(), "image/jpeg", X_Amzn_SageMaker_Custom_Attributes="teapot")
    assert answer.status == 418
    assert error(answer) == "no coffee here"


def test_bad_lines_keep_their_places_beside_a_predict_fn_c4_4(predicting):
    lines = ["", json.dumps(b64(picture())), "{", json.dumps(b64(picture()))]
    answer = predicting.post("\n".join(lines), "application/jsonlines", "application/jsonlines")
    assert [isinstance(json.loads(line), list) for line in answer.data.splitlines()] == [False, True, False, True]
    for accept in ("application/jsonlines", "application/jsonlines;verbose"):
        answer = predicting.post("\n{", "application/jsonlines", accept)
        assert answer.status == 200
        assert [set(json.loads(line)) for line in answer.data.splitlines()] == [{"error"}, {"error"}]


TRANSFORM = """
import json
from kennel.images.preprocess import Preprocessing

def transform_fn(model, body, content_type, accept):
    if content_type == "text/csv":
        assert isinstance(body, str)
        return f"{type(model).__name__} {content_type} {accept} {body}", "text/plain"
    preprocessing = Preprocessing.for_size(32)
    return json.dumps(preprocessing.normalize(preprocessing.pixels(body)[None]).tolist()), "application/json"
"""


@pytest.fixture(scope="module")
def transforming(runner, tmp_path_factory):
    """A Kennel model whose requests are answered by a transform_fn."""
    folder = tmp_path_factory.mktemp("transforming")
    model = with_code(folder / "model", TRANSFORM)
    server = start_server(runner, folder / "server", model, SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="text/csv")
    yield server.wait_until_ready()
    end(server)


def test_transform_fn_does_all_of_it_c2_5_c2_6(transforming):
    answer = transforming.post("1,2", "text/csv")
    assert answer.data == b"Classifier text/csv text/csv 1,2"
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert transforming.post("1", "text/csv", "*/*").data == b"Classifier text/csv text/csv 1"
    assert transforming.post("1", "text/csv", "application/json").data == b"Classifier text/csv application/json 1"


def test_the_answer_of_one_container_is_the_request_of_the_next_c3_4_c3_5(transforming, server):
    between = transforming.post(picture(), "image/jpeg")
    last = server.post(between.data, between.headers["Content-Type"])
    assert np.allclose(probabilities(last), probabilities(server.post(picture(), "image/jpeg")), atol=1e-5)


OUTPUT = """
import json
import time

def pre_model_fn(folder):
    print("it takes a while")
    time.sleep(7)

def output_fn(prediction, accept):
    return json.dumps({"best": prediction.argmax(1).tolist(), "sum": prediction.sum().item()})
"""


def test_an_output_fn_in_another_file_gets_what_kennels_engine_says_c1_5_c2_1_c2_4_c2_5(serve, server, tmp_path):
    model = with_code(tmp_path / "model", "raise SystemExit('this is not asked for')", other_py=OUTPUT)
    impatient = {"GUNICORN_CMD_ARGS": "--timeout 5"}  # longer than which a model may load
    theirs = serve(model, SAGEMAKER_PROGRAM="other.py", **impatient).wait_until_ready()
    assert theirs.box.log.count("it takes a while") == 1
    answer = json.loads(theirs.post(picture(), "image/jpeg").data)
    assert answer["best"] == [int(probabilities(server.post(picture(), "image/jpeg")).argmax())]
    assert answer["sum"] == pytest.approx(1, abs=1e-5)
    answer = theirs.post("{\n", "application/jsonlines")
    assert answer.status == 400
    assert error(answer).startswith("line 1: ")


def test_a_model_fn_that_fails_ends_the_server_with_its_reason_said_once_c1_5_e7(serve, tmp_path):
    script = "def model_fn(model_dir):\n    raise RuntimeError('the weights are gone')\n"
    server = serve(with_code(tmp_path / "model", script))
    assert server.box.wait(60) != 0
    assert server.box.log.count("RuntimeError: the weights are gone") == 1
    assert server.box.log.count("serve: model_fn in ") == 1
    assert "line 2, in model_fn" in server.box.log


# Packages that the code requires


def test_requirements_are_installed_before_the_server_answers_c2_4(serve, tmp_path):
    script = "import kennel_greeting\n\ndef output_fn(prediction, accept):\n    return kennel_greeting.VERSION\n"
    requirements = "--no-index\n--find-links wheels\nkennel_greeting==1.5\nnumpy\n"  # numpy is there already
    model = with_code(tmp_path / "model", script, requirements_txt=requirements)
    write_wheel(model / "code" / "wheels", "kennel_greeting")
    server = serve(model).wait_until_ready()
    assert server.post(picture(), "image/jpeg").data == b"1.5"
    assert "installed requirements=" in server.box.log
