"""The place of a request that is answered line by line, and what fails in the middle of it."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from kennel.images.preprocess import Preprocessing
from kennel.serving.app import create_app
from kennel.serving.service import Service, Settings
from tests.unit.test_serving import Engine


def line(shade):
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (shade,) * 3).save(file, "PNG")
    return json.dumps({"b64": base64.b64encode(file.getvalue()).decode()})


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def client(engine):
    settings = Settings(max_requests=1)
    preprocessing = Preprocessing(16, 16, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))  # 0 to 255
    service = Service(engine, preprocessing, ("a",), settings, "echo")
    service.start()
    return create_app(service, settings).test_client()


def post(client, lines):
    headers = {"Accept": "application/jsonlines"}
    return client.post("/invocations", data="\n".join(lines), content_type="application/jsonlines", headers=headers)


def test_a_stream_has_its_place_until_its_end(client):
    lines = [line(7)] * 80
    answer = post(client, lines)
    assert answer.is_streamed
    assert post(client, lines[:1]).status_code == 503
    assert len(answer.data.splitlines()) == 80
    answer.close()
    assert post(client, lines[:1]).status_code == 200


def test_a_stream_that_is_never_read_gives_its_place_back_when_it_is_closed(client):
    post(client, [line(7)] * 80).close()
    assert post(client, [line(7)]).status_code == 200


def test_what_fails_in_a_stream_is_said_on_its_lines(client, caplog):
    shades = [7] * 80
    shades[50] = 13  # which the engine cannot stand
    answer = post(client, [line(shade) for shade in shades])
    said = [json.loads(each) for each in answer.data.splitlines()]
    failed = [number for number, each in enumerate(said) if "error" in each]
    assert len(said) == 80
    assert 50 in failed
    assert len(failed) <= 4  # a batch
    assert said[50] == {"error": "the server failed at this line; its log says why"}
    assert "thirteen" in caplog.text
    assert np.allclose(said[79], 7, atol=1e-3)
