"""Contract A5.1, A5.2, A5.4, D2.1: scripts as people already have them, unmodified, through the real `train`."""

import json
import os
import select
import shutil
import time
from pathlib import Path

import pytest
import torch

from tests.contract.box import TRAINING_LIMIT, Box

SCRIPTS = Path(__file__).with_name("scripts")


@pytest.fixture
def submit(box: Box, colour_images: Path, resnet18_weights: Path):
    """Prepare a job that runs one of the scripts on the colour images, without a network."""

    def make(name: str, **hyperparameters: str) -> Box:
        box.submit((SCRIPTS / name).read_text(), name=name, **hyperparameters)
        box.config("inputdataconfig.json", {"training": {}, "pretrained": {}})
        box.link(training=colour_images, pretrained=resnet18_weights)
        box.variables |= {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}  # nobody listens
        return box

    return make


def model(box: Box) -> dict[str, torch.Tensor]:
    return torch.load(box.tree / "model" / "model.pth", weights_only=True)


def test_a_tuning_script_runs_with_the_channels_weights_a5_1_a5_2_a5_4(submit, resnet18_weights):
    box = submit("hpo.py", **{"batch-size": "8", "lr": "0.01"})
    assert box.train() == 0, box.log
    assert "Test set: Average loss:" in box.log
    first = torch.load(resnet18_weights, weights_only=True)["conv1.weight"]
    assert torch.equal(model(box)["conv1.weight"], first)


def test_a_script_with_a_debugger_hook_runs_without_a_debugger_a6_7_b12_d2_1(submit):
    box = submit("train_model.py", **{"batch-size": "8", "epochs": "1"})
    temporary = box.tree / "temporary"
    temporary.mkdir()
    box.variables["TMPDIR"] = str(temporary) if box.runner.host == "localhost" else "/opt/ml/temporary"
    assert box.train() == 0, box.log
    assert json.loads((box.tree / "output" / "data" / "result.json").read_text())["steps"] > 0
    assert model(box)["fc.weight"].shape == (3, 512)
    assert not (box.tree / "output" / "tensors").exists()  # nobody asked for any
    assert [path for path in temporary.iterdir() if not path.name.startswith("torchinductor")] == []  # a6.7, b12


def test_a_script_with_a_debugger_hook_saves_what_its_configuration_names_d2_1_d2_2(submit):
    box = submit("train_model.py", **{"batch-size": "8", "epochs": "1", "singleton": "true"})
    collections = [{"CollectionName": "losses", "CollectionParameters": {"save_interval": "1"}}]
    config = {"LocalPath": "/opt/ml/output/tensors", "CollectionConfigurations": collections}
    box.config("debughookconfig.json", config)
    assert box.train() == 0, box.log
    saved = [path.name for path in (box.tree / "output" / "tensors" / "events").rglob("*.tfevents")]
    assert len(saved) >= 3


def test_the_program_named_by_a_variable_wins_a5_1(box):
    box.submit("print('the hyperparameter')", name="one.py")
    (box.tree / "input" / "data" / "code" / "two.py").write_text("print('the variable')")
    box.variables["SAGEMAKER_PROGRAM"] = "two.py"
    assert box.train() == 0
    assert "\nthe variable" in box.log
    assert "\nthe hyperparameter" not in box.log


def as_tar(box, folder):
    """Turn what was submitted into a `sourcedir.tar.gz`, as the SDK uploads it."""
    source = box.tree / "input" / "data" / "code"
    archive = shutil.make_archive(str(folder / "sourcedir"), "gztar", source)
    shutil.rmtree(source)
    source.mkdir()
    shutil.copy(archive, source)
    config = box.tree / "input" / "config" / "hyperparameters.json"
    given = json.loads(config.read_text())
    submitted = f"{given['sagemaker_submit_directory']}/sourcedir.tar.gz"
    box.config("hyperparameters.json", {**given, "sagemaker_submit_directory": submitted})


def test_a_script_may_come_as_a_tar_file_a5_2(box, tmp_path):
    box.submit("print('from', __file__.rsplit('/', 1)[-1])", name="packed.py")
    as_tar(box, tmp_path)
    assert box.train() == 0
    assert "from packed.py" in box.log


def test_sigterm_while_a_script_is_unpacked_is_not_lost_a1_9_a1_10(box, tmp_path):
    box.submit("import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    for number in range(10000):  # which takes some seconds
        (box.tree / "input" / "data" / "code" / f"{number}.txt").touch()
    as_tar(box, tmp_path)
    box.start("train")
    box.wait_for("Imported framework")
    assert box.stop(limit=20) == 143
    assert box.failure.startswith("Stopped by SIGTERM")
    assert "\nbegun" not in box.log


@pytest.mark.process_only
def test_sigterm_while_the_toolkit_looks_for_gpus_is_not_lost_a1_9_a1_10(box, tmp_path, monkeypatch):
    """It asks a program, which is a child of its process as a script would be."""
    slow = tmp_path / "bin" / "nvidia-smi"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nsleep 2\nexit 1\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}{os.pathsep}{os.environ['PATH']}")
    box.submit("import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    box.start("train")
    box.wait_for("Imported framework")
    while "No GPUs detected" not in box.log.partition("Imported framework")[2]:  # it looks twice from there on
        time.sleep(0.05)
    time.sleep(0.5)
    assert box.stop(limit=20) == 143
    assert box.failure.startswith("Stopped by SIGTERM")
    assert "\nbegun" not in box.log


@pytest.mark.process_only
def test_sigterm_while_the_toolkit_waits_for_its_log_is_not_lost_a1_9_a1_10(box):
    """Logging swallows every exception that is raised while it writes."""
    box.submit("print('begun', flush=True)\n", long=json.dumps("x" * 50_000))  # said several times
    log = box.folder / "log.txt"
    os.mkfifo(log)
    readable = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        box.start("train")
        wait_until_full(log)  # it is about to say how it invokes the script
        box.program.terminate()
        time.sleep(1)
        said = read_to_the_end(readable, limit=20)
    finally:
        os.close(readable)
    assert box.wait(limit=20) == 143
    assert box.failure.startswith("Stopped by SIGTERM")
    assert b"\nbegun" not in said


def wait_until_full(pipe, limit=TRAINING_LIMIT):
    """Wait until what writes to a pipe has to wait for its reader."""
    deadline = time.monotonic() + limit
    with pipe.open("wb", buffering=0) as writable:
        while select.select([], [writable], [], 0)[1]:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def read_to_the_end(pipe, limit):
    os.set_blocking(pipe, True)
    deadline = time.monotonic() + limit
    said = b""
    while part := os.read(pipe, 65536):
        said += part
        assert time.monotonic() < deadline
    return said


@pytest.mark.process_only
@pytest.mark.parametrize("file", ["requirements.txt", "setup.py"])
def test_packages_are_not_installed_into_the_users_own_environment_a5_4(box, file):
    box.submit("print('never')")
    (box.tree / "input" / "data" / "code" / file).write_text("")
    assert box.train() == 1
    assert box.failure.startswith(f"the script brings {file}, which would be installed into the environment of this")
    assert "never" not in box.log


def test_a_container_installs_what_a_script_requires_a5_4(box):
    if box.runner.host == "localhost":
        box.variables["KENNEL_IN_CONTAINER"] = "1"  # as the image says; an empty list installs nothing
    box.submit("print('ran')")
    (box.tree / "input" / "data" / "code" / "requirements.txt").write_text("# nothing\n")
    assert box.train() == 0, box.log
    assert "Installing dependencies from requirements.txt" in box.log
    assert "\nran" in box.log
