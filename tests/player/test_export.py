"""`kennel export`, as a user types it."""

import logging
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kennel_cli.cli import app
from tests.exports import LoudBackbone, colours, fit_head, save_loud_model, tiny_backbones
from tests.samples import save_random_model, write_colour_images

IMAGE_SIZE = "32"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set with enough validation images to judge by."""
    return write_colour_images(tmp_path_factory.mktemp("data") / "colours", valid=20)


def test_a_finished_job_is_exported_on_its_own_data_and_its_artifact_replaced(kennel, data, home):
    small = ("--weights", "none", "--backbone", "resnet18", "--image-size", IMAGE_SIZE, "--epochs", "1")
    trained = kennel("train", "--data", data, "--name", "job", "--export", "none", "--batch-size", "8", *small)
    assert trained.returncode == 0, trained.stderr
    exported = kennel("export", "job", "--engines", "openvino-bf16")
    assert exported.returncode == 0, exported.stderr
    assert "engine name=openvino-bf16; accuracy=" in exported.stdout
    assert "torch-fp32" in exported.stdout
    (artifact,) = (home / "s3").rglob("model.tar.gz")
    with tarfile.open(artifact) as tar:
        names = {Path(name).name for name in tar.getnames()}
    assert {"kennel.json", "model.safetensors", "openvino-bf16.xml", "openvino-bf16.bin"} <= names


def test_a_model_folder_is_exported_on_the_data_that_is_given(kennel, data, tmp_path):
    folder = fit_head(save_random_model(tmp_path / "model"), *colours(60))
    refused = kennel("export", folder)
    assert (refused.returncode, "say with --data which data set" in " ".join(refused.stderr.split())) == (1, True)
    exported = kennel("export", folder, "--data", data, "--engines", "openvino-bf16")
    assert exported.returncode == 0, exported.stderr
    assert (folder / "openvino-bf16.xml").is_file()


def test_where_8_bits_are_refused_what_would_help_is_said_and_helps(data, home, tmp_path, monkeypatch):
    arguments = ["export", str(tmp_path / "model"), "--data", str(data), "--engines", "openvino-int8"]
    monkeypatch.setattr(logging.getLogger("kennel"), "handlers", [])
    with tiny_backbones(LoudBackbone):
        save_loud_model(tmp_path / "model")
        refused = CliRunner().invoke(app, arguments)
        assert refused.exit_code == 0, refused.output
        assert "--control-accuracy finds the layers" in refused.output
        assert not (tmp_path / "model" / "openvino-int8.xml").exists()
        monkeypatch.setattr(logging.getLogger("kennel"), "handlers", [])  # the first one's output is closed
        kept = CliRunner().invoke(app, [*arguments, "--control-accuracy"])
    assert kept.exit_code == 0, kept.output
    assert "--control-accuracy" not in kept.output
    assert (tmp_path / "model" / "openvino-int8.xml").is_file()


def test_an_engine_that_there_is_not_is_said(kennel, tmp_path):
    refused = kennel("export", tmp_path, "--engines", "openvino-int8,tensorrt")
    assert refused.returncode == 1
    assert "there is no engine 'tensorrt' to export for; there are openvino-int8, openvino-bf16" in " ".join(
        refused.stderr.split()
    )
