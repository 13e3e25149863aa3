"""The server behind the page of `kennel app`, without a browser."""

import io
import json
import socket
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from kennel_cli import cli
from kennel_cli.app.collection import Collection, CollectionError
from kennel_cli.app.server import About, create_page, look_at
from kennel_cli.predictor import ImagePredictor, PredictionError
from tests.sites import answering

HOST = "localhost:8501"
OWN = {"Host": HOST, "Origin": f"http://{HOST}"}


def photo(colour="red", kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (60, 40), colour).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def predictor(random_model):
    with ImagePredictor(model_dir=random_model) as predictor:
        yield predictor


@pytest.fixture
def collected(tmp_path):
    return tmp_path / "collected"


@pytest.fixture
def client(predictor, collected):
    about = About(("blue", "green", "red"), explains=True)
    return create_page(predictor, about, Collection(collected, about.labels), "127.0.0.1").test_client()


@pytest.fixture
def post(client):
    """Post as the page does, unless other headers are given."""
    return lambda path, data=b"", headers=OWN: client.post(path, data=data, headers=headers)


def files(folder):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


# Answers


def test_the_page_names_the_model_and_its_classes_and_asks_for_nothing_from_elsewhere(client, predictor):
    page = client.get("/", headers={"Host": HOST})
    assert page.status_code == 200
    assert predictor.place in page.text
    assert "<option>green</option>" in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    for name in ("style.css", "static/page.css", "static/page.js", "static/card.js", "static/server.js"):
        with client.get(f"/{name}", headers={"Host": HOST}) as part:
            assert part.status_code == 200


def test_every_answer_has_the_headers_that_keep_other_sites_out(client, post):
    for answer in (client.get("/", headers={"Host": HOST}), post("/predict"), client.get("/no", headers=OWN)):
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self'; img-src 'self' blob: data:;")
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_photo_is_answered_as_the_predictor_answers_it(post, predictor):
    answer = post("/predict", photo()).json
    assert [p["label"] for p in answer["predictions"]] == [p.label for p in predictor.predict(photo())]
    assert [p["probability"] for p in answer["predictions"]] == [p.probability for p in predictor.predict(photo())]
    assert answer["milliseconds"] >= 0
    heat = post("/explain", photo())
    with Image.open(io.BytesIO(heat.data)) as image:
        assert (heat.mimetype, image.size) == ("image/png", (32, 32))


def test_what_goes_wrong_is_one_sentence(client, post, predictor, monkeypatch):
    refused = post("/predict", b"no picture")
    assert (refused.status_code, refused.json) == (422, {"error": "the bytes are not an image of a known format"})
    assert post("/collect?label=red", b"no picture").json == {"error": "the bytes are not an image of a known format"}
    assert client.get("/predict", headers=OWN).status_code == 405
    monkeypatch.setitem(client.application.config, "MAX_CONTENT_LENGTH", 10)
    large = post("/predict", photo())
    assert large.status_code == 413
    assert large.json["error"].startswith("the photo is larger than 100 MB")


def test_a_fault_of_our_own_is_one_sentence_and_in_the_terminal(client, post, predictor, monkeypatch, caplog):
    def fail(photo):
        raise RuntimeError("the moon is wrong")

    monkeypatch.setattr(predictor, "predict", fail)
    failed = post("/predict", photo())
    assert failed.status_code == 500
    assert failed.json == {"error": "the moon is wrong; the terminal with `kennel app` says more"}
    assert "Traceback" in caplog.text


# Other sites


@pytest.mark.parametrize("path", ["/predict", "/explain", "/collect?label=red"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": HOST},
        {"Host": HOST, "Origin": "null"},
        {"Host": HOST, "Origin": "http://evil.example"},
        {"Host": HOST, "Origin": "http://localhost:8502"},
        {"Host": HOST, "Origin": "http://localhost"},
        {"Host": HOST, "Origin": "http://127.0.0.1:8501"},
        {"Host": HOST, "Origin": f"http://evil.example/{HOST}"},
        {"Host": HOST, "Origin": f"http://{HOST}@evil.example"},
    ],
)
def test_what_another_page_posts_is_refused(post, collected, path, headers):
    refused = post(path, photo(), headers)
    assert (refused.status_code, refused.json) == (403, {"error": "this request comes from another page"})
    assert not collected.exists()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8501", "127.0.0.1.evil.example", "localhost.evil", ""])
def test_a_name_that_was_made_to_point_here_is_not_served(client, post, collected, host):
    assert client.get("/", headers={"Host": host}).status_code == 403
    assert post("/collect?label=red", photo(), {"Host": host, "Origin": f"http://{host}"}).status_code == 403
    assert not collected.exists()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8501", "[::1]:8501", "192.168.1.7:8501", "LOCALHOST:9000"])
def test_addresses_and_names_of_this_machine_are_served(client, post, host):
    assert client.get("/", headers={"Host": host}).status_code == 200
    assert post("/predict", photo(), {"Host": host, "Origin": f"http://{host}"}).status_code == 200


# The collected folder


def test_photos_are_collected_by_class_as_training_takes_them(post, collected):
    from kennel.images.index import index_images

    kept = post("/collect?label=red", photo("red", "JPEG")).json["file"]
    post("/collect?label=blue", photo("blue", "WEBP"))
    assert kept.startswith(str(collected / "red"))
    index = index_images({"training": collected})
    assert index.classes == ("blue", "red")
    assert [record.path.suffix for record in index.train] == [".webp", ".jpg"]
    assert Path(kept).read_bytes() == photo("red", "JPEG")


def test_the_same_photo_is_one_file_under_the_class_that_was_said_last(post, collected):
    for _ in range(2):
        post("/collect?label=red", photo())
    [first] = files(collected)
    assert first.startswith("red/")
    post("/collect?label=red", photo("blue"))
    post("/collect?label=green", photo())
    assert [name.split("/")[0] for name in files(collected)] == ["green", "red"]
    post("/collect?label=green", photo("blue"))
    assert [name.split("/")[0] for name in files(collected)] == ["green", "green"]
    assert not (collected / "red").exists()


@pytest.mark.parametrize("label", ["", "cat", "..", "../red", "red/../..", "/tmp", "red%00"])
def test_a_class_that_the_model_does_not_have_is_refused(post, collected, tmp_path, label):
    refused = post(f"/collect?label={label}", photo())
    assert (refused.status_code, "the model has no class" in refused.json["error"]) == (400, True)
    assert files(tmp_path) == []


@pytest.mark.parametrize("label", ["..", ".", ".hidden", "../red", "a/b", "/etc", "a\\b", "a\0b"])
def test_a_class_of_the_model_that_leaves_the_folder_is_refused(tmp_path, label):
    with pytest.raises(CollectionError, match="cannot be the name of a folder"):
        Collection(tmp_path / "collected", [label]).add(photo(), label)
    assert files(tmp_path) == []


def test_a_phones_jpeg_with_a_second_picture_in_it_is_kept(tmp_path):
    data = io.BytesIO()
    Image.new("RGB", (50, 40), "red").save(data, "MPO", save_all=True, append_images=[Image.new("RGB", (20, 20))])
    kept = Collection(tmp_path / "collected", ["red"]).add(data.getvalue(), "red")
    assert (kept.suffix, kept.read_bytes()) == (".jpg", data.getvalue())


# What a model is asked first


@contextmanager
def model(*statuses):
    """A server that answers with each of the statuses once, and what it was asked for."""
    good = {"labels": ["cat"], "predictions": [[{"label": "cat", "index": 0, "probability": 1.0}]]}
    said = {status: good if status == 200 else {"error": f"refused with {status}"} for status in statuses}
    with answering(*[(status, json.dumps(said[status]).encode(), {}) for status in statuses]) as (url, asked):
        yield ImagePredictor(url=url, attempts=1), asked


def test_a_model_says_its_classes_and_whether_it_explains(predictor):
    assert look_at(predictor) == About(("blue", "green", "red"), explains=True)
    with model(406, 200) as (other, asked):
        assert look_at(other) == About(("cat",), explains=False)
    assert ["explain=true" in headers["Accept"] for _, headers, _ in asked] == [True, False]
    with model(200) as (silent, _):
        assert look_at(silent) == About(("cat",), explains=False)


@pytest.mark.parametrize("statuses", [(503,), (429,), (500,), (406, 400)])
def test_a_model_that_does_not_answer_is_said_at_once(statuses):
    with model(*statuses) as (other, asked), pytest.raises(PredictionError, match=f"refused with {statuses[-1]}"):
        look_at(other)
    assert len(asked) == len(statuses)


def test_a_page_without_explanations_says_so_to_its_script(predictor, collected):
    about = About(("cat",), explains=False)
    client = create_page(predictor, about, Collection(collected, about.labels), "127.0.0.1").test_client()
    assert 'data-explains=""' in client.get("/", headers={"Host": HOST}).text


# The command


@pytest.fixture
def kennel(monkeypatch, capsys, home):
    """Run the command to its end, which is an error: else it serves."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["kennel", "app", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, " ".join(capsys.readouterr().err.split())

    return run


def test_what_is_wrong_from_the_start_is_one_sentence(kennel, random_model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert kennel("--model", random_model, "--port", port) == (
            1,
            f"kennel: the page cannot be served at 127.0.0.1, port {port}: Address already in use; "
            "take another with --port or --host",
        )
    nobody = f"http://127.0.0.1:{port}"
    refused = f"kennel: {nobody} cannot be reached: Connection refused; see that a server listens there"
    assert kennel("--url", nobody, "--port", 0) == (1, refused)
    code, said = kennel("--url", nobody, "--on", "aws")
    assert (code, "--on aws is for an endpoint on AWS" in said) == (1, True)
    code, said = kennel("--url", nobody, "--model", random_model)
    assert (code, "given are url and model_dir" in said) == (1, True)
    code, said = kennel()
    assert (code, "no endpoint is in service; start one" in said) == (1, True)
