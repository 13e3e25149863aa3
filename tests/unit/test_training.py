import csv
import json
import logging
import math
import os
import re
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from safetensors.torch import load_file

from kennel.errors import DataError, HyperparameterError, Stopped, TrainingError, WeightsError
from kennel.hyperparameters import parse_hyperparameters
from kennel.images.preprocess import IMAGENET_MEAN
from kennel.model.manifest import load_manifest
from kennel.training.distributed import Processes
from kennel.training.job import Job
from kennel.training.progress import StopSignal
from kennel.training.run import Trainer, run
from tests.samples import write_colour_images

SMALL = {"backbone": "resnet18", "image_size": "32", "epochs": "2", "batch_size": "8"}


@pytest.fixture
def train(colour_images, resnet18_weights, tmp_path, caplog):
    """Run a job on the colour images and return the lines of its log."""

    def run_job(data=colour_images, stop=None, name="job", checkpoints=None, **hyperparameters):
        caplog.clear()
        caplog.set_level(logging.INFO, logger="kennel")
        values = {**SMALL, "weights": str(resnet18_weights), **hyperparameters}
        job = Job(
            hyperparameters=parse_hyperparameters(values),
            channels={"training": data},
            model_dir=tmp_path / name / "model",
            output_dir=tmp_path / name / "output",
            cache_dir=tmp_path / "cache",
            weights_dir=tmp_path / "no weights",
            checkpoint_dir=checkpoints,
        )
        run(job, stop or StopSignal())
        return caplog.messages

    return run_job


@contextmanager
def stopping_at(start, stop):
    """Set `stop` as soon as a line of the log begins with `start`."""

    class Listener(logging.Handler):
        def emit(self, record):
            if record.getMessage().startswith(start):
                stop.set()

    listener = Listener()
    logging.getLogger("kennel").addHandler(listener)
    try:
        yield
    finally:
        logging.getLogger("kennel").removeHandler(listener)


def metrics(line):
    return {name: float(value) for name, value in re.findall(r"(\w+)=([\d.]+);", line)}


@pytest.mark.parametrize(
    "hyperparameters", [{}, {"weights": "none", "learning_rate": "0.002", "batch_size": "4"}, {"unfreeze": "all"}]
)
def test_a_job_ends_with_a_model_that_tells_colours_apart(train, tmp_path, hyperparameters):
    lines = train(epochs="8", **hyperparameters)
    manifest = load_manifest(tmp_path / "job" / "model")
    assert manifest.classes == ("blue", "green", "red")
    assert manifest.metrics["test_accuracy"] == 1.0
    assert metrics(lines[-1])["test_accuracy"] == 1.0


def test_each_epoch_is_one_metrics_line_and_the_kept_one_comes_last(train):
    lines = train(epochs="3")
    epochs = [line for line in lines if line.startswith("epoch=")]
    pattern = r"epoch=\d train_loss=[\d.]+; train_accuracy=[\d.]+; valid_loss=[\d.]+; valid_accuracy=[\d.]+;"
    assert len(epochs) == 3
    assert all(re.fullmatch(pattern, line) for line in epochs)
    last = r"best_epoch=\d; valid_loss=[\d.]+; valid_accuracy=[\d.]+; test_loss=[\d.]+; test_accuracy=[\d.]+;"
    assert re.fullmatch(last, lines[-1])


def test_the_kept_epoch_has_the_highest_valid_accuracy_and_among_those_the_lowest_loss(train, tmp_path):
    lines = train(epochs="6", learning_rate="0.01")
    epochs = [metrics(line) for line in lines if line.startswith("epoch=")]
    best = max(range(6), key=lambda i: (epochs[i]["valid_accuracy"], -epochs[i]["valid_loss"]))
    assert lines[-1].startswith(f"best_epoch={best + 1};")
    assert load_manifest(tmp_path / "job" / "model").metrics["valid_loss"] == pytest.approx(
        epochs[best]["valid_loss"], abs=1e-4
    )


def test_the_same_seed_gives_the_same_metrics_and_another_seed_others(train):
    def metric_lines(name, seed, **more):
        return [line for line in train(name=name, seed=seed, **more) if "epoch=" in line]

    assert metric_lines("a", "1") == metric_lines("b", "1")
    assert metric_lines("a", "1") != metric_lines("c", "2")
    scratch = {"weights": "none", "epochs": "1"}
    assert metric_lines("d", "1", **scratch) == metric_lines("e", "1", **scratch)


def test_features_are_the_same_when_they_are_computed_again(train, tmp_path):
    def features(name):
        train(name=name)
        files = sorted((tmp_path / "cache" / "features").glob("*/features.npy"))
        return [np.load(file).tolist() for file in files]

    first = features("a")
    (tmp_path / "cache").rename(tmp_path / "old-cache")
    assert features("b") == first
    assert len(first) == 4  # two views of the training images, valid, test


def test_a_last_image_alone_joins_the_batch_before_it(train, tmp_path):
    data = write_colour_images(tmp_path / "data", train=3)
    lines = train(data=data, weights="none", batch_size="8")  # 9 images of one pixel each below the last batch norm
    assert lines[-1].startswith("best_epoch=")


def test_momentum_is_the_users_with_every_scheduler(colour_images):
    import torch

    from kennel.training.optimizer import make_optimizer, make_scheduler

    for scheduler in ("cosine", "onecycle", "constant"):
        hp = parse_hyperparameters({"optimizer": "sgd", "momentum": "0.5", "scheduler": scheduler})
        optimizer = make_optimizer(torch.nn.Linear(2, 2).parameters(), hp)
        make_scheduler(optimizer, hp, steps=10)
        assert optimizer.param_groups[0]["momentum"] == 0.5


def test_a_stop_during_the_final_test_keeps_the_model(train, tmp_path):
    stop = StopSignal()

    with stopping_at("epoch=2 ", stop):
        lines = train(stop=stop)
    assert lines[-2].startswith("stopped on request")
    assert "test_accuracy" not in lines[-1]
    assert (tmp_path / "job" / "model" / "kennel.json").exists()


def test_a_second_job_finds_images_and_features_in_the_cache(train):
    first, second = train(name="a"), train(name="b", learning_rate="0.01")
    done = [line for line in first if re.match(r"progress .* done=(\d+); total=\1;$", line)]
    assert len(done) == 7  # 3 splits, 2 views, valid, test
    assert not any(line.startswith("progress") for line in second)


def test_other_weights_do_not_share_features(train, tmp_path):
    import torch
    import torchvision

    torch.manual_seed(99)
    other = tmp_path / "other.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), other)
    train(name="a")
    lines = train(name="b", weights=str(other))
    assert [line for line in lines if line.startswith("progress step=features")] != []
    assert [line for line in lines if line.startswith("progress step=decode")] == []


def test_what_the_job_writes_about_the_test_images_is_consistent(train, tmp_path):
    train(epochs="4")
    output = tmp_path / "job" / "output"
    with (output / "test_predictions.csv").open() as file:
        predictions = list(csv.DictReader(file))
    assert len(predictions) == 9
    for row in predictions:
        probabilities = {name: float(row[f"p({name})"]) for name in ("blue", "green", "red")}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert max(probabilities, key=probabilities.get) == row["predicted"]
        assert row["image"].startswith(row["label"] + "/")
    with (output / "test_confusion.csv").open() as file:
        confusion = np.array([row[1:] for row in list(csv.reader(file))[1:]], dtype=int)
    assert confusion.sum() == 9
    right = sum(row["label"] == row["predicted"] for row in predictions)
    assert np.trace(confusion) == right
    assert load_manifest(tmp_path / "job" / "model").metrics["test_accuracy"] == pytest.approx(right / 9)
    with (output / "test_classes.csv").open() as file:
        classes = list(csv.DictReader(file))
    assert [row["class"] for row in classes] == ["blue", "green", "red"]
    assert sum(int(row["right"]) for row in classes) == right


def test_the_artifact_remembers_hyperparameters_and_versions(train, tmp_path):
    train(learning_rate="0.003")
    manifest = json.loads((tmp_path / "job" / "model" / "kennel.json").read_text())
    assert manifest["hyperparameters"]["learning_rate"] == 0.003
    assert manifest["versions"]["torch"].startswith("2.")
    assert set(manifest["metrics"]) == {
        "train_loss",
        "train_accuracy",
        "valid_loss",
        "valid_accuracy",
        "test_loss",
        "test_accuracy",
    }


def test_a_few_bad_images_are_skipped_listed_and_said(train, tmp_path):
    data = write_colour_images(tmp_path / "data", train=20)
    (data / "train" / "red" / "7.png").write_bytes(b"broken")
    lines = train(data=data, max_bad_images="0.05")
    assert "images classes=3; train=59; valid=9; test=9; skipped=1;" in lines
    listed = (tmp_path / "job" / "output" / "skipped_images.csv").read_text().splitlines()
    assert listed[1:] == ["train,red/7.png,the bytes are not an image of a known format"]


def test_class_folders_alone_give_a_model_that_is_valid_but_not_tested(train, colour_images, tmp_path):
    lines = train(data=colour_images / "train", weights="none", epochs="1")
    assert "there is no valid split: held_out=3; of=24; seed=0;" in lines
    assert re.fullmatch(r"best_epoch=1; valid_loss=[\d.]+; valid_accuracy=[\d.]+;", lines[-1])
    assert not any(name.startswith("test") for name in load_manifest(tmp_path / "job" / "model").metrics)
    assert sorted(file.name for file in (tmp_path / "job" / "output").iterdir()) == ["data.json", "training.jsonl"]


def test_the_data_sets_own_statistics_travel_with_the_model(train, tmp_path):
    train(weights="none", epochs="1")
    preprocessing = load_manifest(tmp_path / "job" / "model").preprocessing
    written = json.loads((tmp_path / "job" / "output" / "data.json").read_text())
    assert preprocessing.mean != IMAGENET_MEAN
    assert [*preprocessing.mean, *preprocessing.std] == [*written["mean"], *written["std"]]


def test_other_statistics_do_not_share_features(train):
    train(name="a", epochs="1", statistics="imagenet")
    lines = train(name="b", epochs="1", statistics="dataset")
    assert sum(line.startswith("progress step=features") for line in lines) == 3  # two views of train, and valid


def test_too_many_bad_images_end_the_job(train, tmp_path):
    data = write_colour_images(tmp_path / "data")
    (data / "train" / "red" / "7.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"1 of 42 images are unreadable(.|\n)*train/red/7.png"):
        train(data=data)


def test_a_learning_rate_that_breaks_the_loss_is_said(train):
    with pytest.raises(TrainingError, match=r"_loss became (nan|inf).*learning_rate=10 is too high for sgd"):
        # all weights are nine times as large after each of twelve steps
        breaking = {"learning_rate": "10", "weight_decay": "1", "batch_size": "2"}
        train(backbone="squeezenet1_1", weights="none", optimizer="sgd", epochs="5", **breaking)


def test_a_rate_that_breaks_fine_tuning_is_said_by_its_own_name_and_the_best_epoch_before_it_is_kept(train, tmp_path):
    more = {"unfreeze": "all", "fine_tune_epochs": "3", "warmup": "0", "label_smoothing": "0"}
    lines = train(optimizer="sgd", fine_tune_learning_rate="10", epochs="1", **more)
    [said] = [line for line in lines if "fine_tune_learning_rate=10 is too high for sgd, try a tenth of it" in line]
    kept, broken = (
        re.search(r"the network's training ends with epoch (\d)", said)[1],
        re.search(r"in epoch (\d)", said)[1],
    )
    assert int(kept) < int(broken)
    assert lines[-1].startswith(f"best_epoch={kept}; ")
    assert all(math.isfinite(value) for value in load_manifest(tmp_path / "job" / "model").metrics.values())
    assert all(value.isfinite().all() for value in load_file(tmp_path / "job" / "model" / "model.safetensors").values())


def test_patience_ends_a_job_that_gets_no_better(train):
    lines = train(epochs="200", early_stopping_patience="3", learning_rate="0.01")
    epochs = [line for line in lines if line.startswith("epoch=")]
    best = int(re.match(r"best_epoch=(\d+);", lines[-1]).group(1))
    assert len(epochs) == best + 3 < 200


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
@pytest.mark.parametrize("scheduler", ["cosine", "onecycle", "constant"])
def test_every_optimizer_learns_with_every_scheduler(train, optimizer, scheduler):
    rate = {"sgd": "0.05", "rmsprop": "0.0001"}.get(optimizer, "0.002")
    lines = train(optimizer=optimizer, scheduler=scheduler, learning_rate=rate, epochs="4")
    losses = [metrics(line)["train_loss"] for line in lines if line.startswith("epoch=")]
    assert losses[-1] < losses[0]


def test_a_frozen_backbone_is_saved_as_it_was_loaded(train, tmp_path, resnet18_weights):
    import torch
    from safetensors.torch import load_file

    train()
    saved = load_file(tmp_path / "job" / "model" / "model.safetensors")
    given = torch.load(resnet18_weights, weights_only=True)
    for name, tensor in given.items():
        if not name.startswith("fc."):
            assert torch.equal(saved[f"backbone.{name}"], tensor), name


def test_missing_pretrained_weights_are_said_with_the_remedies(train):
    with pytest.raises(WeightsError, match=r"channel `pretrained`, or its path as `weights`, or weights=none"):
        train(weights="pretrained")


def test_a_stop_before_the_first_epoch_says_what_was_going_on_and_keeps_the_cache(train, tmp_path):
    stop = StopSignal()
    stop.set()
    with pytest.raises(Stopped, match="while working on decode of train"):
        train(stop=stop)
    assert not (tmp_path / "job" / "model").exists()


def test_a_stop_while_the_head_trains_keeps_the_best_epoch(train, tmp_path):
    stop = StopSignal()

    with stopping_at("epoch=5 ", stop):
        lines = train(stop=stop, epochs="1000")
    assert sum(line.startswith("epoch=") for line in lines) == 5
    assert lines[-2].startswith("stopped on request")
    assert re.fullmatch(r"best_epoch=\d+; valid_loss=[\d.]+; valid_accuracy=[\d.]+;", lines[-1])
    assert load_manifest(tmp_path / "job" / "model").metrics["valid_accuracy"] > 0


def test_memory_stays_flat_over_thirty_epochs(train):
    import gc

    import psutil

    resident = []

    class Listener(logging.Handler):
        def emit(self, record):
            if record.getMessage().startswith("epoch="):
                gc.collect()
                resident.append(psutil.Process().memory_info().rss / 2**20)

    listener = Listener()
    logging.getLogger("kennel").addHandler(listener)
    try:
        train(backbone="shufflenet_v2_x0_5", weights="none", epochs="30", augment="trivialaugment", ema_decay="0.9")
    finally:
        logging.getLogger("kennel").removeHandler(listener)
    assert len(resident) == 30
    assert max(resident[10:]) - resident[9] < 20  # megabytes; the network has 3, an epoch's images 0.1


def test_a_job_stopped_in_the_heads_epochs_goes_on_with_these_a1_9_a6_2(train, tmp_path):
    hyperparameters = {"epochs": "3", "unfreeze": "1", "fine_tune_epochs": "1"}
    whole = train(name="whole", **hyperparameters)
    stop = StopSignal()
    with stopping_at("epoch=1 ", stop):
        train(stop=stop, checkpoints=tmp_path / "checkpoints", **hyperparameters)
    lines = train(checkpoints=tmp_path / "checkpoints", **hyperparameters)
    assert any("; phase=head; epoch=2;" in line for line in lines if line.startswith("resume"))
    assert lines[-1] == whole[-1]


def test_a_job_goes_on_with_images_that_were_copied_anew_a6_2(train, colour_images, tmp_path):
    stop = StopSignal()
    with stopping_at("epoch=2 ", stop):
        train(stop=stop, checkpoints=tmp_path / "checkpoints", epochs="3")
    again = shutil.copytree(colour_images, tmp_path / "again")
    for file in again.rglob("*.png"):
        os.utime(file, (1000, 1000))  # as another machine has them, where the job is started again
    lines = train(data=again, checkpoints=tmp_path / "checkpoints", epochs="3")
    assert any(line.startswith("resume") for line in lines)
    (again / "train" / "red" / "0.png").write_bytes((again / "train" / "red" / "1.png").read_bytes())
    lines = train(data=again, checkpoints=tmp_path / "checkpoints", epochs="3")
    assert not any(line.startswith("resume") for line in lines)


def test_a_trial_that_is_given_up_in_the_heads_epochs_trains_no_network(colour_images, resnet18_weights, tmp_path):
    seen = []

    def give_up(epoch, metrics):
        seen.append(epoch)
        return False

    values = {**SMALL, "weights": str(resnet18_weights), "unfreeze": "1"}
    folders = (tmp_path / name for name in ("model", "output", "cache", "weights"))
    job = Job(parse_hyperparameters(values), {"training": colour_images}, *folders)
    assert Trainer(job, StopSignal()).fit(job.hyperparameters, give_up).best.epoch == 1
    assert seen == [1]


def test_a_batch_that_is_too_small_for_all_processes_is_refused(colour_images, tmp_path):
    hp = parse_hyperparameters({**SMALL, "weights": "none", "batch_size": "7"})
    folders = (tmp_path / name for name in ("model", "output", "cache", "weights"))
    trainer = Trainer(Job(hp, {"training": colour_images}, *folders), StopSignal(), Processes(0, 4, 0, 4))
    with pytest.raises(HyperparameterError, match=r"batch_size=7 for 4 processes together.* take 8 or more"):
        trainer.fit(hp)
