"""`make story`: the whole way with the commands that a person types, on images and on real photos.

The images take the way through a bucket that moto's server plays.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.aws.conftest import BUCKET
from tests.engine import needs_image

pytestmark = pytest.mark.timeout(1500)  # minutes where nothing else runs

ROOT = Path(__file__).parents[2]


def tell(**variables):
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    done = subprocess.run(["scripts/story"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(told, classes):
    accuracy = float(re.search(r"^best_epoch=.*test_accuracy=([\d.]+);", told, re.MULTILINE)[1])
    assert ":model-package/story/1 is PendingManualApproval" in told
    before, after = (json.loads(line) for line in told.splitlines() if line.startswith(("[[", '{"best"')))
    assert len(before[0]) == classes
    best = max(range(classes), key=before[0].__getitem__)
    assert after == {"best": best, "probability": pytest.approx(before[0][best], abs=1e-3)}
    assert told.endswith("endpoint story is deleted\n")
    return accuracy


def test_the_story_of_real_photos(test_data, settings, s3):
    weights = test_data / "mobilenet_v2_imagenet.pth"
    told = tell(DATA=test_data / "dogs10", WEIGHTS=weights, BACKBONE="mobilenet_v2", KENNEL_BUCKET=BUCKET)
    assert f"s3://{BUCKET}/kennel/data/" in told
    assert check(told, classes=10) > 0.85


@needs_image
def test_the_story_in_containers(colour_images, account):
    check(tell(DATA=colour_images, ON="docker"), classes=3)


def test_without_images_the_story_says_what_it_needs():
    environment = {**os.environ, "DATA": ""}
    done = subprocess.run(["scripts/story"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "make story DATA=folder" in done.stderr) == (1, True)
