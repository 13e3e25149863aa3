"""Heat maps beside answers, where an endpoint was deployed with them."""

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from kennel.images.preprocess import Preprocessing
from tests.contract.bodies import b64, instances, npy, picture
from tests.contract.box import end, start_server
from tests.samples import save_random_model

EXPLAIN = "application/json;verbose;explain=true"
SIZE = 64


@pytest.fixture(scope="module")
def explaining(runner, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explaining")
    model = save_random_model(folder / "model", image_size=SIZE)
    server = start_server(runner, folder / "server", model, KENNEL_EXPLAIN="true")
    yield server.wait_until_ready()
    end(server)


def error(answer):
    return json.loads(answer.data)["error"]


def explanations(answer):
    assert answer.status == 200, answer.data
    files = [base64.b64decode(text, validate=True) for text in json.loads(answer.data)["explanations"]]
    assert all(file.startswith(b"\x89PNG") for file in files)
    return [np.asarray(Image.open(io.BytesIO(file))) for file in files]


def test_a_picture_is_answered_with_the_heat_over_what_the_model_saw(explaining):
    data = picture(size=(90, 60), colour=(20, 60, 50))
    [seen] = explanations(explaining.post(data, "image/jpeg", EXPLAIN))
    pixels = Preprocessing.for_size(SIZE).pixels(data)
    assert seen.shape == pixels.shape == (SIZE, SIZE, 3)
    assert np.abs(seen.astype(int) - pixels).max() > 60  # where the heat is greatest


def test_the_rest_of_the_answer_is_the_same_with_and_without(explaining):
    plain = json.loads(explaining.post(picture(), "image/jpeg", "application/json;verbose;top_k=2").data)
    both = json.loads(explaining.post(picture(), "image/jpeg", f"{EXPLAIN};top_k=2").data)
    assert "explanations" not in plain
    del both["explanations"]
    assert both.keys() == plain.keys()
    assert np.allclose(both["probabilities"], plain["probabilities"], atol=1e-5)


def test_several_pictures_and_tensors_are_explained_in_their_order(explaining):
    dark, bright = picture("PNG", colour=(5, 5, 5)), picture("PNG", colour=(250, 250, 250))
    both = explanations(explaining.post(instances(dark, bright), "application/json", EXPLAIN))
    assert len(both) == 2
    assert both[0].mean() < both[1].mean()
    preprocessing = Preprocessing.for_size(SIZE)
    tensor = preprocessing.normalize(np.stack([preprocessing.pixels(data) for data in (dark, bright)]))
    again = explanations(explaining.post(npy(tensor), "application/x-npy", EXPLAIN))
    assert all(np.abs(one.astype(int) - other).max() <= 2 for one, other in zip(both, again, strict=True))


def test_many_that_ask_at_once_are_answered_or_refused_and_others_are_not_in_their_way(explaining):
    data = picture()
    with ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(explaining.post, data, "image/jpeg", EXPLAIN) for _ in range(20)]
        others = [pool.submit(explaining.post, data, "image/jpeg") for _ in range(20)]
        assert {other.result().status for other in others} == {200}
        answers = [answer.result() for answer in asked]
    assert {answer.status for answer in answers} <= {200, 503}
    assert sum(answer.status == 200 for answer in answers) >= 4
    assert all("explain=true are in work" in error(answer) for answer in answers if answer.status == 503)


@pytest.mark.parametrize(
    ("accept", "status", "sentence"),
    [
        ("application/json;explain=true", 406, "is for application/json;verbose"),
        ("text/csv;verbose;explain=true", 406, "is for application/json;verbose"),
        ("application/json;verbose;explain=much", 400, "explain=much should be true or false"),
    ],
)
def test_what_cannot_hold_a_heat_map_is_refused_with_a_sentence(explaining, accept, status, sentence):
    answer = explaining.post(picture(), "image/jpeg", accept)
    assert (answer.status, sentence in error(answer)) == (status, True)


def test_more_images_than_are_explained_at_once_are_422(explaining):
    answer = explaining.post(instances(*[picture()] * 17), "application/json", EXPLAIN)
    assert (answer.status, error(answer)) == (
        422,
        "explain=true is for up to 16 images in a request; this one has more",
    )
    lines = "\n".join([json.dumps(b64(picture())), "{"])
    assert "line 2" in error(explaining.post(lines, "application/jsonlines", EXPLAIN))


def test_an_endpoint_that_was_deployed_without_says_so(server):
    answer = server.post(picture(), "image/jpeg", EXPLAIN)
    assert answer.status == 406
    assert "not deployed with `--explain` (KENNEL_EXPLAIN=true)" in error(answer)
    assert server.post(picture(), "image/jpeg", "application/json;verbose;explain=false").status == 200


def test_a_vision_transformer_is_not_explained_and_says_why(serve, tmp_path):
    server = serve(save_random_model(tmp_path / "model", "vit_b_32"), KENNEL_EXPLAIN="true").wait_until_ready()
    answer = server.post(picture(), "image/jpeg", EXPLAIN)
    assert answer.status == 406
    assert "a vit_b_32 mixes all places of an image" in error(answer)
    assert server.post(picture(), "image/jpeg").status == 200


@pytest.mark.process_only  # a container's port is published before its server could refuse it
def test_another_word_than_true_or_false_ends_the_server_with_a_sentence(serve, random_model):
    server = serve(random_model, KENNEL_EXPLAIN="perhaps")
    assert server.box.wait(30) != 0
    assert "the variable KENNEL_EXPLAIN is 'perhaps'; it should be true or false" in server.box.log
