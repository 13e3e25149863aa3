"""The images of a job, from the folders to what the log and `data.json` say of them."""

import json
import logging
import shutil
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from kennel.cache import Cache
from kennel.errors import DataError, Stopped
from kennel.hyperparameters import parse_hyperparameters
from kennel.images.preprocess import Preprocessing
from kennel.training.dataset import DataSet
from kennel.training.distributed import ALONE, Processes
from kennel.training.job import Job
from kennel.training.progress import StopSignal
from tests.samples import write_colour_images


class Mount:
    """Sees every file that is opened and every folder that is listed below a folder, and can make both slow."""

    def __init__(self):
        self.watch(None)
        sys.addaudithook(self._hook)  # for good: Python has no way to take it out again

    def watch(self, folder, delay=0.0):
        self.folder, self.delay = folder and str(folder), delay
        self.opened, self.listed, self.busy, self.most = [], [], 0, 0

    def _hook(self, event, arguments):
        if self.folder is None or event not in ("open", "os.scandir"):
            return
        path = str(arguments[0])
        if path.startswith(self.folder):
            (self.opened if event == "open" else self.listed).append(path)
            if self.delay:
                with LOCK:
                    self.busy += 1
                    self.most = max(self.most, self.busy)
                time.sleep(self.delay)
                with LOCK:
                    self.busy -= 1


LOCK = threading.Lock()
MOUNT = Mount()


@pytest.fixture
def mount():
    yield MOUNT
    MOUNT.watch(None)


@pytest.fixture
def data(tmp_path):
    return write_colour_images(tmp_path / "data", side=24)


@pytest.fixture
def load(tmp_path, caplog):
    """Make the data set of a job over a folder; its images are those of 16 pixels."""

    def make(folder, processes=ALONE, stop=None, **hyperparameters):
        caplog.clear()
        caplog.set_level(logging.INFO, logger="kennel")
        hp = parse_hyperparameters({"image_size": "16", **hyperparameters})
        job = Job(
            hyperparameters=hp,
            channels={"training": folder},
            model_dir=tmp_path / "model",
            output_dir=tmp_path / "output",
            cache_dir=tmp_path / "cache",
            weights_dir=tmp_path / "none",
        )
        return DataSet(job, Cache(job.cache_dir), stop or StopSignal(), processes), hp

    return make


@pytest.fixture
def described(tmp_path):
    return lambda: json.loads((tmp_path / "output" / "data.json").read_text())


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


# reading


def test_each_file_is_read_once_and_each_folder_listed_once_a2_5(load, data, mount):
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    mount.watch(data)
    dataset, hp = load(data, statistics="dataset")
    for _ in range(2):
        dataset.images(hp)
        dataset.preprocessing(hp)
        dataset.class_weights(replace(hp, class_weights="balanced"))
    opened, listed = mount.opened, mount.listed
    mount.watch(None)
    assert sorted(opened) == sorted(str(path) for path in data.rglob("*.png"))
    assert sorted(listed) == sorted({str(data), *(str(path) for path in data.rglob("*") if path.is_dir())})
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before  # a mount may be read-only


def test_a_slow_mount_is_listed_and_read_at_many_places_at_once_a2_5(load, data, mount, caplog):
    mount.watch(data, delay=0.5)
    dataset, hp = load(data, num_workers="1")
    assert mount.most >= 6  # of nine class folders
    mount.watch(data, delay=0.05)
    dataset.images(hp)
    assert mount.most >= 6  # of 24 images, then of nine and nine
    assert "progress step=decode; split=train; done=24; total=24;" in caplog.messages


def test_a_stop_while_images_are_decoded_reads_no_further(load, tmp_path, mount):
    data = write_colour_images(tmp_path / "data", train=60, side=24)
    stop = StopSignal()
    dataset, hp = load(data, stop=stop)
    mount.watch(data, delay=0.01)
    before = threading.active_count()
    stop.set()
    with pytest.raises(Stopped, match="while working on decode of train: 1 of 180 images done"):
        dataset.images(hp)
    assert threading.active_count() == before
    assert len(mount.opened) < 100  # of 180: those that were asked for ahead


# splits


def test_a_missing_valid_split_is_held_out_of_train_by_the_seed(load, data, described, caplog):
    shutil.rmtree(data / "valid")
    dataset, hp = load(data)
    images = dataset.images(hp)
    assert {split: len(packed) for split, packed in images.items()} == {"train": 21, "valid": 3, "test": 9}
    assert images["valid"].labels.tolist() == [0, 1, 2]
    assert not set(images["train"].names) & set(images["valid"].names)
    assert "there is no valid split: held_out=3; of=24; seed=0;" in caplog.messages
    assert described()["held_out"] == {"images": 3, "of": 24, "seed": 0}
    assert load(data)[0].images(hp)["valid"].names == images["valid"].names
    other = {dataset.images(replace(hp, seed=seed))["valid"].names for seed in range(1, 5)}
    assert other != {images["valid"].names}


def test_where_nothing_can_be_held_out_it_is_said(load, tmp_path):
    data = write_colour_images(tmp_path / "data", train=1)
    shutil.rmtree(data / "valid")
    dataset, hp = load(data)
    with pytest.raises(DataError, match="no valid split, and every class of train has a single image"):
        dataset.images(hp)


def test_a_missing_test_split_is_one_warning(load, data, described, caplog):
    shutil.rmtree(data / "test")
    dataset, hp = load(data)
    assert set(dataset.images(hp)) == {"train", "valid"}
    assert warnings(caplog) == ["there is no test split: the model will be saved untested"]
    assert described()["warnings"] == warnings(caplog)


# bad images


def test_a_decode_bomb_is_skipped_with_its_reason_and_counts_as_a_bad_image(load, data, tmp_path, described):
    Image.new("1", (20_000, 20_000)).save(data / "train" / "red" / "bomb.png")
    dataset, hp = load(data, max_bad_images="0.05")
    assert len(dataset.images(hp)["train"]) == 24
    reason = "the image has 20000 x 20000 pixels; 100,000,000 in all is the limit"
    assert reason in (tmp_path / "output" / "skipped_images.csv").read_text()
    assert described()["splits"]["train"]["skipped"] == 1
    dataset, hp = load(data, max_bad_images="0.01")
    with pytest.raises(DataError, match=r"train/red/bomb\.png: the image has 20000 x 20000 pixels"):
        dataset.images(hp)


def test_a_class_whose_images_are_all_unreadable_is_refused(load, data):
    for file in (data / "train" / "red").iterdir():
        file.write_bytes(b"no image")
    dataset, hp = load(data, max_bad_images="1")
    with pytest.raises(DataError, match="train: all images of the class red are unreadable"):
        dataset.images(hp)


# equal photos


def test_photos_of_train_in_other_splits_are_counted_and_the_first_three_named(load, data, described, caplog):
    for number in range(4):
        shutil.copy(data / "train" / "red" / f"{number}.png", data / "test" / "red" / f"copy{number}.png")
    shutil.copy(data / "train" / "blue" / "5.png", data / "valid" / "blue" / "0.png")
    dataset, hp = load(data)
    dataset.images(hp)
    assert warnings(caplog) == [
        "leakage: 1 images of valid are also in train, for example valid/blue/0.png = train/blue/5.png",
        "leakage: 4 images of test are also in train, for example test/red/copy0.png = train/red/0.png, "
        "test/red/copy1.png = train/red/1.png, test/red/copy2.png = train/red/2.png",
    ]
    leaks = {(leak["split"], leak["other"]): leak for leak in described()["leaks"]}
    assert {pair: leak["images"] for pair, leak in leaks.items()} == {("valid", "train"): 1, ("test", "train"): 4}
    assert leaks["valid", "train"]["examples"] == [["valid/blue/0.png", "train/blue/5.png"]]


def test_one_photo_in_two_classes_of_a_split_is_said_and_twice_in_one_class_is_not(load, data, described, caplog):
    shutil.copy(data / "train" / "blue" / "0.png", data / "train" / "red" / "blue.png")
    shutil.copy(data / "train" / "blue" / "1.png", data / "train" / "blue" / "again.png")
    dataset, hp = load(data)
    dataset.images(hp)
    assert warnings(caplog) == [
        "contradiction: 1 images of train are also in another class, for example train/red/blue.png = train/blue/0.png"
    ]
    assert described()["contradictions"][0]["images"] == 1


def test_held_out_copies_are_named_where_they_lie(load, tmp_path, caplog):
    data = write_colour_images(tmp_path / "data", train=2)
    shutil.rmtree(data / "valid")
    shutil.copy(data / "train" / "red" / "0.png", data / "train" / "red" / "1.png")
    dataset, hp = load(data)
    dataset.images(hp)
    [warning] = warnings(caplog)
    assert warning.startswith("leakage: 1 images of valid are also in train, for example train/red/")


# statistics


@pytest.mark.parametrize("hyperparameters", [{"statistics": "dataset"}, {"weights": "none"}])
def test_the_data_sets_own_statistics_are_those_of_its_training_pixels(load, data, described, caplog, hyperparameters):
    dataset, hp = load(data, **hyperparameters)
    preprocessing = dataset.preprocessing(hp)
    pixels = np.asarray(dataset.images(hp)["train"].pixels)
    normalized = preprocessing.normalize(pixels).astype(np.float64)
    assert normalized.mean(axis=(0, 2, 3)) == pytest.approx(0, abs=1e-6)
    assert normalized.std(axis=(0, 2, 3)) == pytest.approx(1, abs=1e-6)
    assert (preprocessing.resize, preprocessing.crop) == (18, 16)
    assert sum(line.startswith("statistics mean=0.") for line in caplog.messages) == 1
    assert described()["mean"] == list(preprocessing.mean)


def test_imagenets_statistics_are_those_of_pretrained_weights(load, data, described):
    dataset, hp = load(data)
    dataset.images(hp)
    assert dataset.preprocessing(hp) == Preprocessing.for_size(16)
    assert dataset.preprocessing(replace(hp, weights="none", statistics="imagenet")) == Preprocessing.for_size(16)
    assert described()["std"] == [0.229, 0.224, 0.225]


# balance


def test_classes_weigh_as_much_as_scikit_learn_says(load, data):
    for number in range(6):
        (data / "train" / "red" / f"{number}.png").unlink()
    dataset, hp = load(data, class_weights="balanced")
    weights = dataset.class_weights(hp)
    assert weights.dtype == np.float32
    assert weights.tolist() == [0.75, 0.75, 3.0]  # compute_class_weight("balanced", …) of 8, 8 and 2 images
    assert dataset.class_weights(replace(hp, class_weights="none")) is None


@pytest.mark.parametrize(
    ("red", "expected"), [(2, []), (1, ["imbalance: blue has 11 training images and red has 1; "])]
)
def test_the_smallest_and_the_largest_class_are_said_and_a_wide_gap_warned_of(load, tmp_path, caplog, red, expected):
    data = write_colour_images(tmp_path / "data", train=11)
    for number in range(red, 11):
        (data / "train" / "red" / f"{number}.png").unlink()
    dataset, hp = load(data)
    dataset.images(hp)
    assert f"balance smallest={red}; class=red; largest=11; class=blue;" in caplog.messages
    assert [line[: len(start)] for line, start in zip(warnings(caplog), expected, strict=True)] == expected


def test_data_json_counts_the_images_of_every_class(load, data, described):
    dataset, hp = load(data)
    dataset.images(hp)
    written = described()
    assert written["classes"] == ["blue", "green", "red"]
    assert written["splits"]["train"] == {"images": 24, "skipped": 0, "classes": {"blue": 8, "green": 8, "red": 8}}
    assert set(written["splits"]) == {"train", "valid", "test"}
    assert written["held_out"] is None


def test_only_the_main_process_writes_files_a2_8(load, data, tmp_path):
    (data / "train" / "red" / "bad.png").write_bytes(b"no image")
    dataset, hp = load(data, processes=Processes(rank=1, count=1), max_bad_images="0.5")
    dataset.images(hp)
    assert not (tmp_path / "output").exists()
