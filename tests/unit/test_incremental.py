import io
import json
import logging
import shutil
import tarfile
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from kennel.cache import Cache
from kennel.errors import ArtifactError, HyperparameterError
from kennel.hyperparameters import parse_hyperparameters
from kennel.images.preprocess import Preprocessing
from kennel.model.artifact import new_classifier, save_artifact
from kennel.model.manifest import Manifest, load_manifest, save_manifest
from kennel.model.start import Start, find_earlier_model
from kennel.training.job import Job
from kennel.training.progress import StopSignal
from kennel.training.run import run
from tests.samples import save_random_model

CLASSES = ("blue", "green", "red")
SMALL = {"backbone": "resnet18", "image_size": "32", "epochs": "2", "batch_size": "8", "fc_units": "16"}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """An earlier model with its own mean and deviation: resnet18, 32 pixels, 16 hidden units."""
    folder = save_random_model(tmp_path_factory.mktemp("earlier"))
    manifest = load_manifest(folder)
    own = replace(manifest.preprocessing, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    save_manifest(folder, manifest.model_copy(update={"preprocessing": own}))
    return folder


@pytest.fixture
def start(tmp_path):
    def make(folder, **channels):
        return Start({"model": folder, **channels}, tmp_path / "no weights", Cache(tmp_path / "cache"))

    return make


def hyperparameters(**values):
    return parse_hyperparameters({**SMALL, **values})


def archive(folder, file, names=("kennel.json", "model.safetensors")):
    file.parent.mkdir(exist_ok=True)
    with tarfile.open(file, "w:gz", compresslevel=1) as tar:
        for name in names:
            tar.add(folder / name, arcname=f"./{name}")
    return file.parent


def saved(folder, part):
    tensors = load_file(folder / "model.safetensors")
    return {k.removeprefix(part + "."): v for k, v in tensors.items() if k.startswith(part + ".")}


def same(module, tensors):
    return all(torch.equal(value, tensors[name]) for name, value in module.state_dict().items())


def test_backbone_and_head_of_a_folder_are_continued(start, earlier):
    begin, hp = start(earlier), hyperparameters()
    backbone = begin.backbone(hp)
    assert same(backbone, saved(earlier, "backbone"))
    assert same(begin.head(hp, backbone, CLASSES), saved(earlier, "head"))


def test_an_archive_in_the_channel_is_continued(start, earlier, tmp_path):
    begin, hp = start(archive(earlier, tmp_path / "channel" / "model.tar.gz")), hyperparameters()
    assert same(begin.backbone(hp), saved(earlier, "backbone"))


@pytest.mark.parametrize(
    ("classes", "values"), [(("red", "green", "blue"), {}), (("a", "b"), {}), (CLASSES, {"fc_units": "8"})]
)
def test_other_classes_or_another_width_get_a_new_head(start, earlier, classes, values):
    begin, hp = start(earlier), hyperparameters(**values)
    backbone = begin.backbone(hp)
    head = begin.head(hp, backbone, classes)
    assert head[-1].out_features == len(classes)
    assert same(backbone, saved(earlier, "backbone"))
    assert head[0].weight.shape != (16, 512) or not torch.equal(head[0].weight, saved(earlier, "head")["0.weight"])


def test_a_continued_head_takes_the_random_numbers_of_a_new_one(start, earlier):
    begin, hp = start(earlier), hyperparameters()
    backbone = begin.backbone(hp)
    states = []
    for classes in (CLASSES, ("x", "y", "z")):
        torch.manual_seed(5)
        begin.head(hp, backbone, classes)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_the_earlier_mean_and_deviation_stay_unless_others_are_asked_for(start, earlier):
    begin, own = start(earlier), Preprocessing.for_size(32)
    kept = begin.preprocessing(hyperparameters(), own)
    assert kept == replace(own, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    assert begin.preprocessing(hyperparameters(statistics="imagenet"), own) == own


def test_another_backbone_is_refused_with_what_to_set(start, earlier):
    with pytest.raises(HyperparameterError, match=r"backbone=resnet50, and .* is a resnet18: set backbone=resnet18"):
        start(earlier).backbone(hyperparameters(backbone="resnet50"))


def test_random_weights_and_an_earlier_model_contradict_each_other(start, earlier):
    with pytest.raises(HyperparameterError, match="weights=none with a channel `model`"):
        start(earlier).backbone(hyperparameters(weights="none"))


def test_the_earlier_model_comes_before_pretrained_weights(start, earlier, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="kennel")
    backbone = start(earlier, pretrained=tmp_path).backbone(hyperparameters(weights="/no/such/file.pth"))
    assert same(backbone, saved(earlier, "backbone"))
    assert "the pretrained weights are not read: the channel `model` has the weights" in caplog.messages


def test_a_vision_transformer_is_continued_with_images_of_another_size(start, tmp_path):
    manifest = Manifest(
        classes=CLASSES, backbone="vit_b_32", fc_units=4, dropout=0, preprocessing=Preprocessing.for_size(64)
    )
    save_artifact(tmp_path / "vit", new_classifier(manifest), manifest)
    hp = parse_hyperparameters({"backbone": "vit_b_32", "image_size": "96"})
    backbone = start(tmp_path / "vit").backbone(hp)
    assert backbone.encoder.pos_embedding.shape == (1, 10, 768)


# what is no model


def find(folder, tmp_path):
    return find_earlier_model({"model": folder}, Cache(tmp_path / "cache"))


def test_without_the_channel_there_is_no_earlier_model(tmp_path):
    assert find_earlier_model({}, Cache(tmp_path)) is None


def test_a_channel_without_a_model_is_refused_with_what_is_in_it(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ArtifactError, match=r"holds no Kennel model: .*it has notes.txt"):
        find(tmp_path, tmp_path)


def test_an_archive_of_something_else_is_refused_with_what_is_in_it(earlier, tmp_path):
    channel = archive(earlier, tmp_path / "channel" / "model.tar.gz", names=("model.safetensors",))
    with pytest.raises(ArtifactError, match=r"model.tar.gz holds no Kennel model: .*it has model.safetensors"):
        find(channel, tmp_path)


def test_damaged_archives_and_models_are_refused(earlier, tmp_path):
    channel = archive(earlier, tmp_path / "channel" / "model.tar.gz")
    content = (channel / "model.tar.gz").read_bytes()
    for damaged in (content[: len(content) // 2], b"no archive", b""):
        (channel / "model.tar.gz").write_bytes(damaged)
        with pytest.raises(ArtifactError, match="cannot be unpacked"):
            find(channel, tmp_path)
    shutil.copytree(earlier, tmp_path / "folder")
    (tmp_path / "folder" / "model.safetensors").write_bytes(b"short")
    with pytest.raises(ArtifactError, match="is no readable model"):
        _ = find(tmp_path / "folder", tmp_path).state
    (tmp_path / "folder" / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match="is incomplete"):
        find(tmp_path / "folder", tmp_path)


def test_an_archive_writes_nothing_but_the_model(earlier, tmp_path):
    file = tmp_path / "channel" / "model.tar.gz"
    file.parent.mkdir()
    with tarfile.open(file, "w:gz", compresslevel=1) as tar:
        for name in ("../escaped", "/tmp/kennel-escaped", "code/inference.py"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
        for name in ("kennel.json", "model.safetensors"):
            tar.add(earlier / name, arcname=name)
    found = find(file.parent, tmp_path)
    assert sorted(entry.name for entry in found.folder.iterdir()) == ["kennel.json", "key.json", "model.safetensors"]
    assert list(tmp_path.rglob("escaped")) == []


def test_a_link_in_an_archive_is_not_followed(earlier, tmp_path):
    file = tmp_path / "channel" / "model.tar.gz"
    file.parent.mkdir()
    with tarfile.open(file, "w:gz") as tar:
        member = tarfile.TarInfo("kennel.json")
        member.type, member.linkname = tarfile.SYMTYPE, str(earlier / "kennel.json")
        tar.addfile(member)
    with pytest.raises(ArtifactError, match=r"there is no kennel\.json at its top"):
        find(file.parent, tmp_path)


# whole jobs


@pytest.fixture
def train(colour_images, tmp_path, caplog):
    def run_job(name, channels, checkpoints=None, **values):
        caplog.clear()
        caplog.set_level(logging.INFO, logger="kennel")
        job = Job(
            hyperparameters=hyperparameters(**values),
            channels={"training": colour_images, **channels},
            model_dir=tmp_path / name / "model",
            output_dir=tmp_path / name / "output",
            cache_dir=tmp_path / "cache",
            weights_dir=tmp_path / "no weights",
            checkpoint_dir=checkpoints,
        )
        run(job, StopSignal())
        return caplog.messages

    return run_job


def valid_losses(lines):
    return [float(line.split("valid_loss=")[1].split(";")[0]) for line in lines if line.startswith("epoch=")]


def test_a_job_goes_on_where_the_earlier_one_ended(train, resnet18_weights, tmp_path):
    first = train("first", {}, weights=str(resnet18_weights), epochs="6", learning_rate="0.003")
    model = tmp_path / "first" / "model"
    again = train("again", {"model": model}, learning_rate="0.0001")
    assert valid_losses(again)[0] == pytest.approx(valid_losses(first)[-1], abs=0.01)
    assert valid_losses(first)[0] > valid_losses(first)[-1] + 0.05
    assert load_manifest(tmp_path / "again" / "model").backbone == "resnet18"
    assert same_backbones(tmp_path, "first", "again")


def same_backbones(folder, one, other):
    one, other = (saved(folder / name / "model", "backbone") for name in (one, other))
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_job_keeps_the_earlier_mean_and_deviation(train, earlier, tmp_path):
    train("again", {"model": earlier})
    assert load_manifest(tmp_path / "again" / "model").preprocessing.mean == (0.1, 0.2, 0.3)
    assert json.loads((tmp_path / "again" / "output" / "data.json").read_text())["mean"] == [0.1, 0.2, 0.3]
    train("all", {"model": earlier}, unfreeze="all", statistics="imagenet", epochs="1")
    assert load_manifest(tmp_path / "all" / "model").preprocessing.mean == Preprocessing.for_size(32).mean


def test_a_job_does_not_take_up_the_checkpoints_of_one_that_began_with_another_model(train, earlier, tmp_path):
    """Neither has a name, and the models differ in their heads, or in what their networks see."""
    (tmp_path / "checkpoints").mkdir()
    manifest = load_manifest(earlier)
    head, mean = (shutil.copytree(earlier, tmp_path / name) for name in ("head", "mean"))
    tensors = load_file(earlier / "model.safetensors")
    save_file({k: v + 0.01 if k.startswith("head.") else v for k, v in tensors.items()}, head / "model.safetensors")
    other = replace(manifest.preprocessing, mean=(0.3, 0.2, 0.1))
    save_manifest(mean, manifest.model_copy(update={"preprocessing": other}))
    for model in (earlier, head, mean):
        lines = train(model.name, {"model": model}, tmp_path / "checkpoints", checkpoint_seconds="0")
        assert not any(line.startswith("resume") for line in lines)
    lines = train("again", {"model": mean}, tmp_path / "checkpoints", checkpoint_seconds="0")
    assert any(line.startswith("resume") for line in lines)


def test_an_image_size_that_cannot_work_is_said_before_images_are_decoded(train, tmp_path):
    for values in ({}, {"weights": "none"}):
        with pytest.raises(HyperparameterError, match="image_size=32 is too small for inception_v3"):
            train("job", {}, backbone="inception_v3", **values)
    assert not (tmp_path / "cache" / "packed").exists()
