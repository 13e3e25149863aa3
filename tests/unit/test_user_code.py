"""Models with code of their own, several in one process, through the seam that all services are loaded by."""

import http.server
import json
import socket
import sys
import tempfile

import pytest

from kennel.container.environment import CODE_ARTIFACT
from kennel.errors import ArtifactError
from kennel.serving.app import create_app
from kennel.serving.requirements import code_artifact_index, install_requirements, packages_of
from kennel.serving.service import Settings, load_service
from kennel.serving.user_code import TURN, HandlerError
from tests.contract.bodies import b64, picture
from tests.samples import save_random_model
from tests.sites import listening
from tests.wheels import write_wheel

INFERENCE = """
import answers

def model_fn(model_dir):
    return lambda tensor: tensor

def transform_fn(model, body, content_type, accept):
    import late
    return f"{answers.NAME} {late.NAME} {__name__}"
"""


@pytest.fixture
def load(tmp_path):
    """Load a model whose modules say its name."""
    services = []

    def make(name, inference=INFERENCE, **settings):
        code = tmp_path / name / "code"
        code.mkdir(parents=True, exist_ok=True)
        (code / "inference.py").write_text(inference)
        for module in ("answers", "late"):
            (code / f"{module}.py").write_text(f"NAME = {name!r}\n")
        service = load_service(tmp_path / name, Settings(**settings))
        services.append(service)
        return service

    yield make
    for service in services:
        service.close()


def ask(service, client=None, **settings):
    app = create_app(service, Settings(**settings)).test_client()
    environ = {"gunicorn.socket": client}
    return app.post("/invocations", data=picture(), content_type="image/jpeg", environ_overrides=environ)


def test_two_models_in_a_process_have_modules_of_their_own(load):
    first, second = load("first"), load("second")
    first.start()
    second.start()
    for service, name in ((first, "first"), (second, "second"), (first, "first")):
        assert ask(service).text == f"{name} {name} inference"


def test_a_model_that_is_unloaded_leaves_nothing_behind(load):
    before, path = set(sys.modules), list(sys.path)
    service = load("first")
    service.start()
    assert "answers" in sys.modules
    service.close()
    assert not {"answers", "late", "inference"} & (set(sys.modules) - before)
    assert sys.path == path
    assert not service.is_ready()


def test_a_model_that_cannot_be_loaded_says_so_and_the_others_go_on(load):
    good, bad = load("good"), load("bad", "def model_fn(model_dir):\n    raise SystemExit('no')\n")
    good.start()
    with pytest.raises(HandlerError, match="has failed: SystemExit"):
        bad.start()
    assert not bad.is_ready()
    assert ask(good).text == "good good inference"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import no_such_package\n", "inference.py cannot be imported: ModuleNotFoundError"),
        ("def input_fn(body):\n    pass\n", "input_fn in .* takes 1 arguments; it should take 2, or 3 with context"),
        (
            "def input_fn(a, b):\n    pass\ndef transform_fn(a, b, c, d):\n    pass\n",
            "transform_fn and input_fn; transform_fn stands for all three",
        ),
        (
            "from urllib.request import urlopen\ndef model_fn(folder):\n    urlopen('http://127.0.0.1:1/resnet18.pth')\n",
            "has failed: URLError; where torchvision's pretrained weights",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(load, script, reason):
    service = load("model", script)
    with pytest.raises(HandlerError, match=reason):
        service.start()


def test_code_without_model_fn_and_without_a_kennel_model_is_said_c2_9(load):
    service = load("model", "def input_fn(body, content_type):\n    return body\n")
    with pytest.raises(ArtifactError, match="defines no model_fn that loads another"):
        service.start()


def test_a_program_that_is_not_there_is_said_c2_3_c2_4(load, tmp_path, monkeypatch):
    monkeypatch.setenv("SAGEMAKER_SUBMIT_DIRECTORY", "s3://bucket/sourcedir.tar.gz")
    with pytest.raises(
        HandlerError, match=r"'other.py', and there is no .*/other.py; .* is s3://bucket/sourcedir.tar.gz"
    ):
        load("model", program="other.py")
    monkeypatch.setenv("SAGEMAKER_SUBMIT_DIRECTORY", "")
    with pytest.raises(HandlerError, match="leave SAGEMAKER_PROGRAM empty"):
        load("second", program="other.py")


def test_a_model_that_cannot_be_called_needs_a_predict_fn(load):
    service = load("model", "def model_fn(model_dir):\n    return {}\n")
    with pytest.raises(HandlerError, match="returns a dict, which cannot be called"):
        service.start()


def test_who_waits_no_longer_costs_no_call(load):
    service = load("model")
    service.start()
    with TURN:  # another call is at work
        answer = ask(service, patience=0.1)
    assert answer.status_code == 503
    assert "the time that a caller waits" in answer.json["error"]
    here, there = socket.socketpair()
    with here:
        there.close()
        assert ask(service, client=here).status_code == 499
    assert ask(service).status_code == 200


PREDICT = """
import torch

def predict_fn(data, model):
    return {"images": len(data), "scores": torch.zeros(1, dtype=torch.bfloat16, requires_grad=True)}
"""


def test_a_prediction_may_be_anything_and_bad_lines_are_never_lost_in_it(load, tmp_path):
    save_random_model(tmp_path / "model")
    service = load("model", PREDICT)
    service.start()
    good = json.dumps(b64(picture()))
    client = create_app(service, Settings()).test_client()

    def post(*lines, accept="application/json"):
        data = {"data": "\n".join(lines), "content_type": "application/jsonlines", "headers": {"Accept": accept}}
        return client.post("/invocations", **data)

    assert post(good, good).json == {"images": 2, "scores": [0.0]}
    assert post(good, accept="application/json;verbose").status_code == 406
    refused = post(good, "", good, accept="application/jsonlines")
    assert refused.status_code == 400
    assert refused.json == {"error": "line 2: the line is blank"}


# Packages


class CodeArtifact(http.server.BaseHTTPRequestHandler):
    """AWS CodeArtifact's interface and a repository of it with one package, for who has the token."""

    def do_POST(self):
        assert self.path.startswith("/v1/authorization-token?domain=pets&domain-owner=123456789012")
        self.answer(json.dumps({"authorizationToken": "a token/"}).encode())

    def do_GET(self):
        address = f"http://127.0.0.1:{self.server.server_address[1]}/pypi/dogs"
        if self.path.startswith("/v1/repository/endpoint?"):
            return self.answer(json.dumps({"repositoryEndpoint": f"{address}/"}).encode())
        if self.headers["Authorization"] != "Basic YXdzOmEgdG9rZW4v":  # aws:a token/
            return self.send_error(401)
        if self.path.endswith(".whl"):
            return self.answer(self.server.wheel.read_bytes())
        page = f'<a href="{address}/{self.server.wheel.name}">{self.server.wheel.name}</a>'
        return self.answer(page.encode(), "text/html")

    def answer(self, data, kind="application/json"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def code_artifact(tmp_path, monkeypatch):
    with listening(CodeArtifact) as site:
        site.wheel = write_wheel(tmp_path / "repository", "kennel_greeting")
        monkeypatch.setenv("AWS_ENDPOINT_URL_CODEARTIFACT", f"http://127.0.0.1:{site.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        arn = "arn:aws:codeartifact:eu-central-1:123456789012:repository/pets/dogs"
        monkeypatch.setenv(CODE_ARTIFACT, arn)
        yield arn


def test_packages_come_from_code_artifact_where_a_repository_is_named_c2_4(code_artifact, tmp_path, capfd):
    code = tmp_path / "model" / "code"
    code.mkdir(parents=True)
    (code / "requirements.txt").write_text("kennel_greeting\n")
    packages = packages_of(install_requirements(tmp_path / "model"))
    assert (packages / "kennel_greeting.py").read_text() == "VERSION = '1.5'\n"
    assert "kennel_greeting" not in sys.modules
    assert "token" not in capfd.readouterr().out


def test_a_model_that_is_unloaded_leaves_no_packages_behind_c3_2(code_artifact, tmp_path, monkeypatch):
    code = tmp_path / "model" / "code"
    code.mkdir(parents=True)
    (code / "requirements.txt").write_text("kennel_greeting\n")
    (code / "inference.py").write_text("import kennel_greeting\n\ndef model_fn(folder):\n    return abs\n")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    service = load_service(tmp_path / "model", Settings())
    service.start()
    assert list(scratch.glob("kennel-packages-*"))
    service.close()
    assert not list(scratch.glob("kennel-packages-*"))


def test_packages_that_cannot_be_installed_are_said_with_pips_reason_c2_4(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = tmp_path / "model" / "code"
    code.mkdir(parents=True)
    (code / "requirements.txt").write_text("--no-index\nkennel_greeting==1.5\n")
    with pytest.raises(HandlerError, match=r"No matching distribution found for kennel_greeting==1.5"):
        install_requirements(tmp_path / "model")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_a_repository_that_is_none_is_refused_c2_4():
    with pytest.raises(HandlerError, match="CA_REPOSITORY_ARN is 'dogs'"):
        code_artifact_index("dogs")
