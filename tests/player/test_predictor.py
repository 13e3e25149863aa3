"""`ImagePredictor` against Kennel's own server, a server that misbehaves, and AWS as botocore knows it."""

import io
import json
import math
import threading

import boto3
import numpy as np
import pytest
import torch
from botocore.exceptions import ConnectionClosedError
from botocore.response import StreamingBody
from botocore.stub import Stubber
from PIL import Image

from kennel.errors import ArtifactError, DataError, KennelError
from kennel.images.decode import decode_image
from kennel_cli import endpoints
from kennel_cli.platforms.account import AwsError
from kennel_cli.platforms.local_platform import LocalPlatform
from kennel_cli.platforms.runtime import LocalSageMakerRuntime
from kennel_cli.prediction import retries
from kennel_cli.prediction.drawing import GREEN, RED, draw_answer
from kennel_cli.prediction.pictures import picture_bytes
from kennel_cli.predictor import ImagePredictor, Prediction, PredictionError
from kennel_cli.servers import AddressError
from tests.sites import answering

ANSWER = {
    "labels": ["beagle", "boxer"],
    "predictions": [
        [
            {"label": "boxer", "index": 1, "probability": 0.75},
            {"label": "beagle", "index": 0, "probability": 0.25},
        ]
    ],
}
BOXER = [Prediction("boxer", 1, 0.75), Prediction("beagle", 0, 0.25)]


@pytest.fixture(scope="module")
def served(tmp_path_factory, random_model):
    """An endpoint `dogs` of this machine: the runtime client to ask it with, and its address."""
    home = tmp_path_factory.mktemp("home")
    platform = LocalPlatform(home)
    endpoints.start_endpoint(platform, endpoints.Served(str(random_model)), "dogs")
    endpoints.wait_until_in_service(platform, "dogs")
    yield LocalSageMakerRuntime(home), platform.endpoint_url("dogs")
    endpoints.delete_endpoint(platform, "dogs")


@pytest.fixture(scope="module")
def local(random_model):
    """The same model in this process."""
    with ImagePredictor(model_dir=random_model) as predictor:
        yield predictor


@pytest.fixture(params=["endpoint", "url", "model_dir"])
def predictor(request, served, local):
    """The same model by each of its ways."""
    runtime, url = served
    if request.param == "model_dir":
        return local
    return ImagePredictor("dogs", runtime=runtime) if request.param == "endpoint" else ImagePredictor(url=url)


@pytest.fixture
def pixels():
    """(H, W, 3) uint8 that is not the same when it is turned."""
    ramp = np.linspace(0, 255, 40 * 60 * 3).reshape(40, 60, 3)
    return (ramp + np.random.default_rng(0).normal(0, 20, ramp.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture
def waits(monkeypatch):
    """The seconds that were waited for, which are not."""
    seconds = []
    monkeypatch.setattr(retries.time, "sleep", seconds.append)
    return seconds


def answered(**headers):
    return 200, json.dumps(ANSWER).encode(), headers


def refused(status, sentence, **headers):
    return status, json.dumps({"error": sentence}).encode(), {name.replace("_", "-"): v for name, v in headers.items()}


def file_of(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def same(one, other):
    return [(p.label, p.index) for p in one] == [(p.label, p.index) for p in other] and np.allclose(
        [p.probability for p in one], [p.probability for p in other], atol=1e-6
    )


# The same answer by every way, of every kind of picture


def test_an_endpoint_an_address_and_a_folder_give_the_same_answer(predictor, local, pixels):
    expected = local.predict(pixels)
    assert same(predictor.predict(pixels), expected)
    assert sum(p.probability for p in expected) == pytest.approx(1)
    assert expected == sorted(expected, key=lambda p: -p.probability)
    assert {p.label for p in expected} == {"blue", "green", "red"}
    assert predictor.predict(pixels, top_k=1) == predictor.predict(pixels)[:1]


def test_a_path_bytes_an_image_and_an_array_are_one_picture(local, pixels, tmp_path):
    image = Image.fromarray(pixels)
    image.save(tmp_path / "photo.png")
    expected = local.predict(pixels)
    data = file_of(image)
    for picture in (tmp_path / "photo.png", str(tmp_path / "photo.png"), data, bytearray(data), image):
        assert local.predict(picture) == expected


def test_an_image_that_its_exif_data_turns_is_answered_as_its_file_is(local, pixels, tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6  # the orientation: a quarter to the right
    file = tmp_path / "phone.jpg"
    Image.fromarray(pixels).save(file, quality=95, exif=turned)
    with Image.open(file) as image:
        assert local.predict(image) == local.predict(file)
        assert not same(local.predict(file), local.predict(np.asarray(image)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F", "I;16"])
def test_an_image_of_any_mode_is_answered(local, mode):
    image = Image.new(mode, (50, 40))
    assert len(local.predict(image)) == 3


@pytest.mark.parametrize(("mode", "size"), [("I;16", (2000, 1500)), ("I;16B", (50, 40))])
def test_16_bits_of_grey_are_sent_whole_and_drawn_as_they_are(local, mode, size):
    image = Image.frombytes(
        mode, size, (20000).to_bytes(2, "big" if mode.endswith("B") else "little") * math.prod(size)
    )
    with Image.open(io.BytesIO(picture_bytes(image))) as sent:
        assert decode_image(picture_bytes(image), at_least=1).image.getpixel((0, 0)) == (78, 78, 78)
        assert sent.size == size
    drawn = draw_answer(picture_bytes(image), local.predict(image), None).convert("RGB")
    assert max(abs(shade - 78) for shade in drawn.getpixel((200, 200))) <= 1


def test_many_pictures_are_answered_in_their_order(predictor, local):
    pictures = [np.full((40, 50, 3), shade, np.uint8) for shade in range(0, 250, 10)]
    many = predictor.predict_many(iter(pictures))
    assert len(many) == len(pictures)
    assert all(same(one, local.predict(picture)) for one, picture in zip(many, pictures, strict=True))
    assert predictor.predict_many([]) == []


def test_many_pictures_are_asked_for_at_once_and_taken_when_their_turn_comes():
    """Each of three requests is answered only when all three are there."""
    together = threading.Barrier(3)
    answered = []

    class Meeting:
        def invoke_endpoint(self, **request):
            together.wait(20)
            answered.append(request)
            return {"Body": io.BytesIO(json.dumps(ANSWER).encode())}

    def pictures():
        for number in range(9):
            assert len(answered) >= number - 3
            yield str(number).encode()

    assert ImagePredictor("dogs", runtime=Meeting(), threads=3).predict_many(pictures()) == [BOXER] * 9


def test_a_picture_too_large_to_be_sent_without_loss_is_sent_as_jpeg():
    with answering(answered()) as (url, asked):
        predictor = ImagePredictor(url=url)
        predictor.predict(Image.new("RGB", (2000, 1000)))
        predictor.predict(Image.new("RGB", (2000, 1001)))
        predictor.predict(Image.new("RGBA", (2000, 1001), (255, 0, 0, 9)))
    assert [body[:4] for _, _, body in asked] == [b"\x89PNG", b"\xff\xd8\xff\xe0", b"\x89PNG"]
    path, headers, _ = asked[0]
    assert (path, headers["Content-Type"]) == ("/invocations", "application/x-image")


def test_a_model_folder_leaves_torchs_threads_alone_and_is_loaded_again_after_it_was_closed(random_model, pixels):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        predictor = ImagePredictor(model_dir=random_model)
        first = predictor.predict(pixels)
        assert torch.get_num_threads() == 2
        predictor.close()
        assert predictor.predict(pixels) == first
        predictor.close()
    finally:
        torch.set_num_threads(before)


def test_a_model_folder_explains_itself(local, pixels):
    answer = local.ask(pixels, explain=True)
    assert answer.labels == ("blue", "green", "red")
    with Image.open(io.BytesIO(answer.explanation)) as heat:
        assert heat.size == (32, 32)


# Refusals


def test_a_refusal_has_the_models_words_and_status(predictor, tmp_path):
    file = tmp_path / "note.txt"
    file.write_text("no picture")
    with pytest.raises(PredictionError) as caught:
        predictor.predict(file)
    assert str(caught.value) == f"{file}: the bytes are not an image of a known format"
    assert caught.value.status == 422
    with pytest.raises(PredictionError, match=r"^the bytes are not an image"):
        predictor.predict_many([b"no picture"])


def test_a_picture_that_is_not_there_or_none_is_said(local):
    for picture, sentence in (
        ("no.jpg", "there is no picture no.jpg"),
        (np.zeros((3, 40, 50), np.uint8), "the array is 3×40×50 of uint8; it should be height×width×3"),
        (np.zeros((40, 50, 3), np.float32), "the array is 40×50×3 of f4"),
        (np.zeros((0, 50, 3), np.uint8), "the array is 0×50×3 of uint8"),
        (7, "int is no picture; give a path"),
    ):
        with pytest.raises(DataError, match=sentence):
            local.predict(picture)


def test_one_model_is_to_be_named():
    with pytest.raises(KennelError, match="give one of endpoint, url and model_dir; given are none"):
        ImagePredictor()
    with pytest.raises(KennelError, match="given are endpoint and url"):
        ImagePredictor("dogs", url="http://localhost")
    with pytest.raises(KennelError, match="on is 'azure'; it should be 'local'"):
        ImagePredictor("dogs", on="azure")
    with pytest.raises(AddressError, match="'localhost:8080' is no address"):
        ImagePredictor(url="localhost:8080")


def test_a_folder_without_a_model_is_said(tmp_path):
    with pytest.raises(ArtifactError, match=str(tmp_path)):
        ImagePredictor(model_dir=tmp_path).predict(b"")


def test_an_endpoint_that_is_not_there_is_said(served):
    with pytest.raises(PredictionError, match=r"Could not find endpoint .*cats"):
        ImagePredictor("cats", runtime=served[0]).predict(b"")


def test_a_server_that_is_not_there_is_one_sentence(waits):
    with answering(answered()) as (url, _):
        pass
    with pytest.raises(PredictionError) as caught:
        ImagePredictor(url=url).predict(b"")
    assert str(caught.value) == f"{url} cannot be reached: Connection refused; see that a server listens there"
    assert (caught.value.status, waits) == (0, [])


@pytest.mark.parametrize("body", [b"[[0.2, 0.8]]", b"<html>", b'{"predictions": [[{"class": "a"}]], "labels": []}'])
def test_an_answer_of_another_kind_is_said(body):
    with answering((200, body, {})) as (url, _), pytest.raises(PredictionError, match="does not name classes"):
        ImagePredictor(url=url).predict(b"")


# Busy models


def test_a_busy_server_is_asked_again_as_late_as_it_says(waits):
    answers = (refused(503, "busy", Retry_After="7"), refused(429, "slow down"), answered())
    with answering(*answers) as (url, asked):
        assert ImagePredictor(url=url).predict(b"") == BOXER
    assert len(asked) == 3
    assert waits[0] == 7
    assert 0.5 <= waits[1] <= 1


def test_who_stays_busy_is_not_asked_for_ever_and_what_it_says_is_kept(waits):
    with answering(refused(503, "64 requests are in work already")) as (url, asked):
        with pytest.raises(PredictionError, match=r"^64 requests are in work already$") as caught:
            ImagePredictor(url=url, attempts=3).predict(b"")
        assert (len(asked), len(waits), caught.value.status) == (3, 2, 503)
        with pytest.raises(PredictionError):
            ImagePredictor(url=url, attempts=1).predict(b"")
    assert (len(asked), len(waits)) == (4, 2)


def test_who_asks_for_an_hour_is_told_so_at_once(waits):
    answer = refused(503, "maintenance", Retry_After="3600")
    with answering(answer) as (url, asked), pytest.raises(PredictionError, match="maintenance"):
        ImagePredictor(url=url).predict(b"")
    assert (len(asked), waits) == (1, [])


@pytest.mark.parametrize("status", [400, 404, 406, 500])
def test_what_will_not_be_better_is_not_asked_again(status, waits):
    with answering(refused(status, "no")) as (url, asked), pytest.raises(PredictionError, match=r"^no$"):
        ImagePredictor(url=url).predict(b"")
    assert (len(asked), waits) == (1, [])


# AWS


@pytest.fixture
def aws(monkeypatch):
    """boto3's client, which answers what it is told to, in order."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    client = boto3.client("sagemaker-runtime", region_name="eu-west-1")
    with Stubber(client) as stubber:
        yield client, stubber
        stubber.assert_no_pending_responses()


def said_by_aws():
    body = json.dumps(ANSWER).encode()
    return {"Body": StreamingBody(io.BytesIO(body), len(body))}


def test_on_aws_a_model_that_is_busy_is_asked_again(aws, waits):
    client, stubber = aws
    asked = {
        "EndpointName": "dogs",
        "Body": b"photo",
        "ContentType": "application/x-image",
        "Accept": "application/json;verbose;top_k=5",
    }
    stubber.add_client_error("invoke_endpoint", "ThrottlingException", "Rate exceeded", http_status_code=400)
    stubber.add_client_error("invoke_endpoint", "ModelNotReadyException", "loading", http_status_code=429)
    stubber.add_client_error("invoke_endpoint", "ServiceUnavailable", "later", http_status_code=503)
    stubber.add_client_error(
        "invoke_endpoint",
        "ModelError",
        "Received server error (503)",
        http_status_code=424,
        modeled_fields={"OriginalStatusCode": 503, "OriginalMessage": '{"error": "64 requests are in work already"}'},
    )
    stubber.add_response("invoke_endpoint", said_by_aws(), asked)
    assert ImagePredictor("dogs", runtime=client, attempts=5).predict(b"photo") == BOXER
    assert len(waits) == 4
    assert waits == sorted(waits)


def test_on_aws_a_models_refusal_and_the_services_own_are_told_apart(aws, waits):
    client, stubber = aws
    stubber.add_client_error(
        "invoke_endpoint",
        "ModelError",
        "Received client error (422)",
        http_status_code=424,
        modeled_fields={"OriginalStatusCode": 422, "OriginalMessage": '{"error": "not an image"}'},
    )
    stubber.add_client_error("invoke_endpoint", "ValidationError", "Endpoint dogs not found", http_status_code=400)
    stubber.add_client_error("invoke_endpoint", "ExpiredTokenException", "expired", http_status_code=403)
    predictor = ImagePredictor("dogs", runtime=client)
    with pytest.raises(PredictionError, match=r"^not an image$") as caught:
        predictor.predict(b"photo")
    assert caught.value.status == 422
    with pytest.raises(PredictionError, match=r"^Endpoint dogs not found$"):
        predictor.predict(b"photo")
    with pytest.raises(AwsError, match="log in again"):
        predictor.predict(b"photo")
    with pytest.raises(PredictionError, match="failed to satisfy constraint"):
        ImagePredictor("no_name", runtime=client).predict(b"photo")
    assert waits == []


def test_a_connection_that_was_closed_meanwhile_is_opened_anew(waits):
    class Closing:
        times = 0

        def invoke_endpoint(self, **request):
            self.times += 1
            if self.times == 1:
                raise ConnectionClosedError(endpoint_url="https://runtime")
            return said_by_aws()

    assert ImagePredictor("dogs", runtime=Closing()).predict(b"photo") == BOXER


def test_on_aws_requests_are_those_of_boto3_which_does_not_ask_again_by_itself(monkeypatch, waits):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    busy = (429, b'{"message": "loading"}', {"x-amzn-errortype": "ModelNotReadyException"})
    with answering(busy, busy, answered()) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", "http://127.0.0.1:1")  # whoever may only ask cannot look
        predictor = ImagePredictor("dogs", on="aws", region="eu-west-1", attempts=2)
        with pytest.raises(PredictionError, match=r"^loading$") as caught:
            predictor.predict(b"photo")
        assert (len(asked), len(waits), caught.value.status) == (2, 1, 429)
        assert predictor.predict(b"photo") == BOXER
    path, headers, body = asked[-1]
    assert (path, body) == ("/endpoints/dogs/invocations", b"photo")
    assert "/eu-west-1/sagemaker/aws4_request" in headers["Authorization"]
    assert (predictor.place, predictor.limit) == ("dogs", 25 * 2**20)


def test_on_aws_a_region_that_is_none_is_said():
    with pytest.raises(KennelError, match="mars"):
        ImagePredictor("dogs", on="aws", region="mars")


# The drawn picture


def has(image, colour, box=None):
    return bool((np.asarray(image.crop(box) if box else image) == colour).all(axis=2).any())


@pytest.fixture
def photo():
    return file_of(Image.new("RGB", (300, 200), "gray"))


def test_the_true_label_is_green_when_it_is_the_first_and_red_when_it_is_not(photo):
    right, wrong, other = (draw_answer(photo, BOXER, label) for label in ("boxer", "beagle", "poodle"))
    head = (540, 0, right.width, 110)
    assert (has(right, GREEN, head), has(right, RED)) == (True, False)
    assert (has(wrong, RED, head), has(wrong, GREEN, head), has(wrong, GREEN)) == (True, False, True)
    assert (has(other, RED), has(other, GREEN)) == (True, False)
    plain = draw_answer(photo, BOXER)
    assert (has(plain, RED), has(plain, GREEN)) == (False, False)


def test_tick_and_cross_differ_in_shape_not_only_in_colour(photo):
    marks = [
        (np.asarray(draw_answer(photo, BOXER, label).crop((540, 40, 575, 110))) != 255).any(axis=2)
        for label in ("boxer", "poodle")
    ]
    assert (marks[0] != marks[1]).any()


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (4000, 3), (1, 1)])
def test_long_names_stay_inside_the_picture(size):
    long = [Prediction("W" * 60, n, 0.2) for n in range(5)]
    image = draw_answer(file_of(Image.new("RGB", size)), long, "W" * 60)
    pixels = np.asarray(image)
    assert (pixels[:, -30:] == 255).all()
    assert (pixels[:30] == 255).all()
    assert (pixels[-30:] == 255).all()
    row = 32 + 84 + 16  # through the first class
    assert not (pixels[row - 14 : row + 14, -300:] == 255).all()


def test_bars_are_as_long_as_classes_are_probable(photo):
    wide = np.asarray(draw_answer(photo, [Prediction("a", 0, 1.0), Prediction("b", 1, 0.5), Prediction("c", 2, 0.0)]))
    blue = (wide == (47, 111, 206)).all(axis=2).sum(axis=1)
    lengths = [length for length in dict.fromkeys(blue.tolist()) if length]
    assert 519 in lengths or 520 in lengths or 521 in lengths
    assert any(259 <= length <= 262 for length in lengths)
    assert min(lengths) <= 3


def test_show_asks_draws_and_saves(local, pixels, tmp_path):
    file = tmp_path / "new" / "shown.png"
    shown = local.show(pixels, true_label="red", file=file)
    with Image.open(file) as saved:
        assert (saved.format, saved.size) == ("PNG", shown.size)
        assert saved.tobytes() == shown.tobytes()
    with pytest.raises(DataError, match="does not end in the name of a format"):
        local.show(pixels, file=tmp_path / "shown.docx")


def test_a_picture_is_drawn_upright_and_over_white():
    turned = Image.Exif()
    turned[0x0112] = 6
    assert draw_answer(file_of(Image.new("RGB", (300, 200)), "JPEG", exif=turned), BOXER).height > 500
    clear = draw_answer(file_of(Image.new("RGBA", (300, 200), (255, 0, 0, 0))), BOXER)
    assert not has(clear, (255, 0, 0))
