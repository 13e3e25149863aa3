"""What a job writes for its report while it trains, and that nothing of it can hurt the job."""

import base64
import io
import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kennel.container import job_report
from kennel.container.environment import Folders
from kennel.errors import DataError
from kennel.hyperparameters import parse_hyperparameters
from kennel.report.job_record import read_job
from kennel.training.distributed import ALONE, Processes
from kennel.training.evaluate import Evaluation
from kennel.training.job import Job
from kennel.training.progress import StopSignal
from kennel.training.record import epoch_recorder, record_result, record_worst
from kennel.training.run import run
from tests.samples import write_colour_images

METRICS = {"train_loss": 0.5, "train_accuracy": 0.75, "valid_loss": 0.25, "valid_accuracy": 1.0}


@pytest.fixture
def job(tmp_path):
    """A job on images that are hard to tell apart after one epoch from scratch, in a tree like SageMaker's."""
    values = {"backbone": "resnet18", "image_size": "32", "epochs": "1", "batch_size": "8", "weights": "none"}
    data = tmp_path / "channel"
    data.symlink_to(write_colour_images(tmp_path / "colours"))
    return Job(
        hyperparameters=parse_hyperparameters(values),
        channels={"training": data},
        model_dir=tmp_path / "ml" / "model",
        output_dir=tmp_path / "ml" / "output" / "data",
        cache_dir=tmp_path / "cache",
        weights_dir=tmp_path / "no weights",
    )


def evaluation(wrong, images=30):
    """Return a test in which the first `wrong` images are wrong, each more than the one before."""
    right = np.linspace(0.4, 0.01, images)
    right[wrong:] = 0.9
    probabilities = np.stack([right, 1 - right], axis=1).astype(np.float32)
    names = tuple(f"cat/{number}.jpg" for number in range(images))
    return Evaluation(("cat", "dog"), names, np.zeros(images, np.int64), probabilities)


def pictures(images=30, side=224):
    noise = np.random.default_rng(0).integers(0, 256, (images, side, side, 3), dtype=np.uint8)
    return SimpleNamespace(pixels=noise)


def test_a_real_job_leaves_what_its_report_is_made_of(job, monkeypatch, tmp_path):
    monkeypatch.setenv("TRAINING_JOB_NAME", "colours-1")
    monkeypatch.setenv("AWS_REGION", "local")
    monkeypatch.setenv("KENNEL_INSTANCE_PRICE", "3600")
    with job_report.reported(job, Folders(tmp_path / "ml")):
        run(job, StopSignal())
    record = read_job(job.output_dir)
    assert (record.name, record.status, record.best_epoch, record.instance) == ("colours-1", "Completed", 1, "")
    assert len(record.epochs) == 1
    assert record.epochs[0].metrics.keys() == METRICS.keys()
    assert record.metrics.keys() == {"valid_loss", "valid_accuracy", "test_loss", "test_accuracy"}
    assert record.cost == pytest.approx(record.seconds)
    assert record.sources == {"training": str(tmp_path / "colours")}
    assert record.changed["image_size"] == "32"
    assert sum(result.images for result in record.results) == 9
    wrong = round(9 * (1 - record.metrics["test_accuracy"]))
    assert len(record.worst) == wrong == sum(pair.images for pair in record.confusions)
    assert (job.output_dir / "report.html").read_text().startswith("<!doctype html>")


def test_only_the_main_process_writes_and_all_of_them_go_on(tmp_path):
    assert epoch_recorder(tmp_path, Processes(rank=1, count=2))(1, METRICS)
    assert not list(tmp_path.iterdir())
    seconds = iter((100.0, 107.5))
    (tmp_path / "training.jsonl").write_text("of an earlier attempt\n")
    assert epoch_recorder(tmp_path, ALONE, clock=lambda: next(seconds))(1, METRICS)
    start, epoch = map(json.loads, (tmp_path / "training.jsonl").read_text().splitlines())
    assert start["device"]
    assert epoch == {"epoch": 1, "seconds": 7.5, **METRICS}


def test_the_worst_photos_are_the_least_likely_ones_of_those_that_are_wrong(tmp_path):
    record_worst(tmp_path, evaluation(wrong=3), pictures())
    worst = json.loads((tmp_path / "test_worst.json").read_text())
    assert [photo["image"] for photo in worst] == ["cat/2.jpg", "cat/1.jpg", "cat/0.jpg"]
    assert (worst[0]["label"], worst[0]["predicted"]) == ("cat", "dog")
    assert worst[0]["probability"] + worst[0]["right_probability"] == pytest.approx(1, abs=1e-3)


def test_thumbnails_are_few_and_small_even_of_noise(tmp_path):
    record_worst(tmp_path, evaluation(wrong=30), pictures())
    worst = json.loads((tmp_path / "test_worst.json").read_text())
    assert 10 < len(worst) <= 24
    assert sum(len(photo["jpeg"]) for photo in worst) <= 300_000
    picture = Image.open(io.BytesIO(base64.b64decode(worst[0]["jpeg"])))
    assert (picture.format, picture.size) == ("JPEG", (112, 112))
    record_worst(tmp_path, evaluation(wrong=1), pictures(side=32))
    small = json.loads((tmp_path / "test_worst.json").read_text())[0]["jpeg"]
    assert Image.open(io.BytesIO(base64.b64decode(small))).size == (32, 32)  # not blown up


def test_a_folder_that_cannot_be_written_is_a_warning_and_nothing_else(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    nowhere = tmp_path / "file" / "data"
    assert epoch_recorder(nowhere, ALONE)(1, METRICS)
    record_worst(nowhere, evaluation(wrong=1), pictures())
    record_result(nowhere, 1, METRICS, {})
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert {line.partition(" ")[0] for line in said} == {"training.jsonl", "test_worst.json"}
    assert all("the model is whole" in line for line in said)


def test_a_report_that_fails_is_a_warning_with_its_traceback_and_the_job_goes_on(job, monkeypatch, caplog, tmp_path):
    def fail(folder):
        raise RuntimeError("no page today")

    monkeypatch.setattr("kennel.report.job_page.write_job_page", fail)
    done = False
    with job_report.reported(job, Folders(tmp_path / "ml")):
        done = True
    assert done
    assert "the report could not be written; the model is not touched by that" in caplog.messages
    assert "no page today" in caplog.text
    (tmp_path / "ml" / "input" / "config").mkdir(parents=True)
    (tmp_path / "ml" / "input" / "config" / "resourceconfig.json").write_text("{")
    with job_report.reported(job, Folders(tmp_path / "ml")):
        pass


def test_a_job_that_fails_says_why_in_its_report_and_still_fails(job, tmp_path):
    with pytest.raises(DataError), job_report.reported(job, Folders(tmp_path / "ml")):
        raise DataError("train is empty")
    record = read_job(job.output_dir)
    assert (record.status, record.reason) == ("Failed", "train is empty")
    assert "train is empty" in (job.output_dir / "report.html").read_text()


def test_a_price_that_is_none_is_said_and_left_out(job, monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("KENNEL_INSTANCE_PRICE", "a dollar")
    with job_report.reported(job, Folders(tmp_path / "ml")):
        pass
    assert "KENNEL_INSTANCE_PRICE=a dollar is no number of dollars an hour" in caplog.text
    assert read_job(job.output_dir).cost is None
