"""The player with containers: `--on docker`."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kennel_cli import requests
from kennel_cli.platforms.docker import DockerError, DockerRunner
from kennel_cli.platforms.local import LocalSageMaker
from kennel_cli.requests import training_job
from kennel_cli.settings import LOCAL
from tests.contract.box import Box
from tests.engine import needs_engine, needs_image
from tests.player.conftest import SMALL_JOB
from tests.samples import save_random_model

pytestmark = pytest.mark.docker


@pytest.fixture
def box(tmp_path):
    def make(*options):
        return Box(DockerRunner(LOCAL.image, options), tmp_path)

    return make


def containers(folder):
    """The containers, running or not, that a folder of this machine is mounted into."""
    command = ["docker", "ps", "--all", "--quiet", "--filter", f"volume={folder}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def wait_until_gone(folder):
    """Wait until no container has the folder: on a busy machine one that has been removed is listed for a moment."""
    deadline = time.monotonic() + 20
    while containers(folder):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@needs_image
def test_a_search_runs_its_trials_in_containers(home, colour_images):
    arguments = ("--on", "docker", "--data", colour_images, "--name", "search", "--jobs", "2", "--weights", "none")
    space = ("--backbone", "resnet18", "--range", "learning_rate=1e-4:1e-2:log", "--static", "epochs=1")
    small = ("--static", "image_size=32", "--static", "batch_size=8")
    command = [Path(sys.executable).with_name("kennel"), "tune", *arguments, *space, *small]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("status=Completed; valid_loss=") == 2
    for tree in (home / "training-jobs").glob("*/ml"):
        wait_until_gone(tree)


@needs_image
def test_a_job_and_an_endpoint_run_in_containers_that_are_gone_afterwards(home, colour_images):
    sagemaker = LocalSageMaker(home, "docker")
    channels = {"training": sagemaker.store.link(colour_images, LOCAL.bucket)}
    sagemaker.create_training_job(**training_job("job", channels, SMALL_JOB, LOCAL))
    tree = sagemaker.training_folder("job") / "ml"
    while not containers(tree):
        time.sleep(0.1)
    elsewhere = LocalSageMaker(home)  # whoever asks later need not know where it runs
    elsewhere.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName="job")
    job = elsewhere.describe_training_job(TrainingJobName="job")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert Path(sagemaker.store.path(job["ModelArtifacts"]["S3ModelArtifacts"])).is_file()
    wait_until_gone(tree)


@needs_image
def test_an_updated_endpoint_runs_in_a_new_container_and_the_old_one_is_gone(home, random_model, tmp_path):
    sagemaker = LocalSageMaker(home, "docker")
    for name, folder in (("old", random_model), ("new", save_random_model(tmp_path / "two", classes=2))):
        uri = sagemaker.store.link(folder, LOCAL.bucket)
        sagemaker.create_model(**requests.model_from_folder(name, uri, LOCAL))
        sagemaker.create_endpoint_config(**requests.endpoint_config(name, name, LOCAL))
    sagemaker.create_endpoint(**requests.endpoint("endpoint", "old"))
    waiter = sagemaker.get_waiter("endpoint_in_service")
    waiter.wait(EndpointName="endpoint")
    old = sagemaker.endpoint_url("endpoint")
    [folder] = (home / "endpoints" / "endpoint").glob("ml*")
    try:
        LocalSageMaker(home).update_endpoint(**requests.endpoint("endpoint", "new"))  # it stays in containers
        waiter.wait(EndpointName="endpoint")
        description = sagemaker.describe_endpoint(EndpointName="endpoint")
        assert description["EndpointConfigName"] == "new", description.get("FailureReason")
        assert sagemaker.endpoint_url("endpoint") != old
        wait_until_gone(folder)
        [folder] = (home / "endpoints" / "endpoint").glob("ml*")
        assert len(containers(folder)) == 1
    finally:
        sagemaker.delete_endpoint(EndpointName="endpoint")
        sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="endpoint")
    wait_until_gone(folder)


@needs_image
def test_a_container_sees_what_its_tree_links_to_and_cannot_write_it(box, tmp_path, colour_images, resnet18_weights):
    box = box()
    script = "import os, pathlib; d = pathlib.Path('/opt/ml/input/data'); w = next((d / 'pretrained').iterdir())\n"
    script += "print('classes', sorted(os.listdir(d / 'training/train')), w.name, w.stat().st_size > 1000)\n"
    script += "try: (d / 'training/new').touch()\nexcept OSError as error: print('refused:', error.strerror)\n"
    box.submit(script)
    box.link(training=colour_images, pretrained=resnet18_weights)
    assert box.train() == 0, box.log
    assert "classes ['blue', 'green', 'red'] resnet18.pth True" in box.log
    assert "refused: Read-only file system" in box.log


@needs_image
def test_checkpoints_are_a_folder_that_a_container_may_write_a6_1(box, tmp_path):
    box = box()
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "before").touch()
    script = "import os; d = '/opt/ml/checkpoints'; print('found', os.listdir(d)); open(d + '/after', 'w').close()"
    box.submit(script)
    (box.tree / "checkpoints").symlink_to(kept)
    assert box.train() == 0, box.log
    assert "found ['before']" in box.log
    assert (kept / "after").stat().st_uid == os.getuid()


@needs_image
def test_too_little_memory_is_said_in_a_sentence_when_process_1_is_killed(box):
    box = box("--memory", "16m", "--memory-swap", "16m")
    assert box.train() == 137
    assert "killed because it needed more memory than its limit of 16 MiB; give it more" in box.log


@needs_image
def test_64_megabytes_of_shared_memory_are_enough_for_workers_e6(box, colour_images):
    container = box("--shm-size", "64m")
    container.prepare({**SMALL_JOB, "image_size": "224", "num_workers": "4"}, training=colour_images)
    assert container.train() == 0


@needs_image
def test_a_stopped_container_had_the_signal_and_says_so(box, colour_images):
    box = box()
    box.prepare({**SMALL_JOB, "epochs": "1000"}, training=colour_images)
    box.start("train")
    box.wait_for("epoch=3 ")
    assert box.stop(60) == 0
    assert (box.tree / "model" / "kennel.json").exists()


@needs_image
def test_a_killed_container_has_a_shell_s_exit_code(box, colour_images):
    box = box()
    box.prepare({**SMALL_JOB, "epochs": "1000"}, training=colour_images)
    box.start("train")
    box.wait_for("epoch=1 ")
    box.program.kill()
    assert box.wait(30) == 137
    assert "more memory" not in box.log


@needs_engine
def test_an_image_that_is_not_there_is_said_with_how_to_make_it(tmp_path):
    with pytest.raises(DockerError, match="has no image kennel-no-such-image; make it with `make build`"):
        DockerRunner("kennel-no-such-image").start("train", tmp_path, {}, tmp_path / "log.txt")


def test_a_machine_without_an_engine_is_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(DockerError, match=r"no Docker engine answers .*; start one|no `docker` command"):
        DockerRunner(LOCAL.image).start("train", tmp_path, {}, tmp_path / "log.txt")
