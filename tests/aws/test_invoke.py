"""`kennel invoke --on aws` of an asynchronous endpoint, whose pictures and answers are objects of the bucket.

moto plays the bucket and the endpoint, and gives the answers that it is told to.
"""

import json

import pytest
from moto.sagemakerruntime.models import sagemakerruntime_backends

from kennel_cli.prediction import asynchronous
from kennel_cli.predictor import ImagePredictor, PredictionError
from tests.aws.conftest import BUCKET, REGION, keys
from tests.aws.endpoints import make_endpoint

ANSWER = {"labels": ["beagle", "boxer"], "predictions": [[{"label": "boxer", "index": 1, "probability": 0.75}]]}


@pytest.fixture
def endpoint(sagemaker, s3):
    """An asynchronous endpoint that writes its answers into the account's bucket."""
    return make_endpoint(sagemaker, asynchronous=f"s3://{BUCKET}/async/dogs/output")


@pytest.fixture
def told(account):
    """What moto answers next: for each question whether it fails, and the object that it writes."""
    return sagemakerruntime_backends["123456789012"][REGION].async_results_queue


@pytest.fixture
def picture(colour_images):
    return colour_images / "test" / "red" / "0.png"


def test_a_picture_goes_by_the_bucket_and_its_answer_comes_so_c5_1(kennel, endpoint, s3, told, picture):
    told.append((False, json.dumps(ANSWER)))
    ended = kennel("invoke", picture, "--endpoint", endpoint, "--on", "aws")
    assert ended.code == 0, ended.stderr
    assert "boxer" in ended.stdout
    (key,) = keys(s3)
    assert key.startswith("async/dogs/input/")
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == picture.read_bytes()


def test_a_failure_is_the_models_own_sentence(kennel, endpoint, told, picture):
    told.append((True, "Received client error (400) from primary: no picture"))
    ended = kennel("invoke", picture, "--endpoint", endpoint, "--on", "aws")
    assert ended.code == 1
    assert "0.png: dogs failed: Received client error (400) from primary: no picture" in ended.stderr


def test_a_failure_has_the_models_own_status(endpoint, told, picture, settings):
    told.append((True, "Received client error (406) from primary with message: it was not deployed to explain"))
    with pytest.raises(PredictionError) as failed:
        ImagePredictor(endpoint, on="aws").ask(picture, explain=True)
    assert failed.value.status == 406


def test_an_answer_that_never_comes_is_given_up(endpoint, s3, picture, monkeypatch):
    class Silent:
        """The service, when it has taken a question and writes nothing."""

        def invoke_endpoint_async(self, **request):
            return {"OutputLocation": f"s3://{BUCKET}/async/dogs/output/1"}

    monkeypatch.setattr(asynchronous, "WAIT", 0.05)
    monkeypatch.setattr(asynchronous, "POLL", 0.01)
    transport = asynchronous.AsyncTransport(Silent(), s3, "dogs", f"s3://{BUCKET}/async/dogs/output")
    with pytest.raises(PredictionError, match=f"it may come yet, to s3://{BUCKET}/async/dogs/output/1"):
        transport.post(picture.read_bytes(), "application/json")


def test_a_bucket_that_is_gone_is_said(endpoint, s3, settings, picture):
    s3.delete_bucket(Bucket=BUCKET)
    with pytest.raises(PredictionError, match="The specified bucket does not exist"):
        ImagePredictor(endpoint, on="aws").predict(picture)


def test_an_endpoint_that_cannot_be_looked_at_is_taken_for_a_real_time_one_c1_8(settings, account):
    assert ImagePredictor("nobody", on="aws").limit == 25 * 2**20
