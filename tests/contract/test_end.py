"""Contract A1, how `train` ends: done, failed, killed or stopped; each test names its row."""

import time

import psutil
import pytest

from tests.contract.box import SCRATCH, SIGTERM_WITHOUT_MODEL, SMALL_JOB
from tests.samples import write_colour_images


def test_success_is_exit_code_0_and_a_model_a1_4_a2_8(job):
    assert job.train() == 0
    assert sorted(entry.name for entry in (job.tree / "model").iterdir()) == ["kennel.json", "model.safetensors"]
    assert job.failure == ""
    assert (job.tree / "output" / "success").exists()  # a1.6: the toolkit's own mark


def test_a_users_mistake_is_one_sentence_in_the_failure_file_and_no_traceback_a1_4_a1_5(job):
    job.config("hyperparameters.json", {**SCRATCH, "epochs": "many", "dropuot": "0.5"})
    assert job.train() == 1
    first = job.failure[:1024]
    assert first.startswith("bad hyperparameters:")
    assert "epochs=many: must be a whole number from 1 to 1000" in first
    assert "dropuot=0.5" in first
    assert "Traceback" not in job.failure
    assert "Traceback" not in job.log


def test_missing_data_is_one_sentence_a1_5(box, tmp_path):
    (tmp_path / "empty").mkdir()
    box.prepare(SCRATCH, training=tmp_path / "empty")
    assert box.train() == 1
    assert box.failure.startswith("no `train` split: the channel `training`")


def test_a_failure_of_an_earlier_attempt_is_not_reported_again_a1_6_a6_3(job):
    (job.tree / "output").mkdir(parents=True)
    (job.tree / "output" / "failure").write_text("an old story")
    assert job.train() == 0
    assert job.failure == ""


def test_a_failure_file_that_the_script_wrote_itself_is_kept_a1_6(box):
    box.submit(
        "import os, sys\n"
        "open(os.path.join(os.environ['SM_OUTPUT_DIR'], 'failure'), 'w').write('the script says why')\n"
        "sys.exit(3)\n"
    )
    assert box.train() == 1
    assert box.failure.strip() == "the script says why"


@pytest.mark.process_only
@pytest.mark.parametrize("end", ["OSError('no number')", "SystemExit(0)", "KeyboardInterrupt()"])
def test_whatever_ends_our_own_training_fails_the_job_a1_7_a5_7(job, tmp_path, end):
    (tmp_path / "plant").mkdir()
    (tmp_path / "plant" / "sitecustomize.py").write_text(
        "import kennel.images.index\n"
        "def index_images(channels):\n"
        f"    raise {end}\n"
        "kennel.images.index.index_images = index_images\n"
    )
    job.variables["PYTHONPATH"] = str(tmp_path / "plant")
    assert job.train() == 1
    assert job.failure.startswith(end.split("(")[0])


@pytest.mark.parametrize("end", ["raise OSError('no number')", "import sys; sys.exit(7)", "import os; os._exit(5)"])
def test_a_script_that_fails_in_whatever_way_fails_the_job_a1_7(box, end):
    box.submit(end)
    assert box.train() != 0
    assert box.failure != ""


def test_a_scripts_exception_is_the_first_line_of_the_failure_file_a1_5_a1_8(box):
    box.submit("def deep():\n    raise ValueError('the reason of it all')\nprint('begin')\ndeep()\n")
    assert box.train() == 1
    lines = box.failure[:1024].splitlines()
    assert lines[0] == "ValueError: the reason of it all"
    assert "Traceback (most recent call last)" in box.failure
    assert "begin" in box.log


def test_a_scripts_old_troubles_are_not_taken_for_its_end_a1_5(box):
    box.submit(
        "import logging, sys\n"
        "try:\n"
        "    raise ValueError('handled, retrying')\n"
        "except ValueError:\n"
        "    logging.exception('once')\n"
        "sys.exit('there is no column `label` in train.csv')\n"
    )
    assert box.train() == 1
    assert box.failure.splitlines()[0] == "there is no column `label` in train.csv"


def test_a_script_that_is_killed_says_so_a1_8(box):
    box.submit("import os, signal, sys; print('working', file=sys.stderr); os.kill(os.getpid(), signal.SIGKILL)")
    assert box.train() != 0
    assert box.failure.startswith("The script was killed by SIGKILL (signal 9)")
    assert "working" in box.failure[:1024]


@pytest.mark.process_only
def test_a_training_process_that_is_killed_says_so_a1_8(job):
    job.config("hyperparameters.json", {**SCRATCH, "epochs": "1000"})
    job.start("train")
    job.wait_for("epoch=1 ")
    [worker] = [p for p in psutil.Process(job.program.pid).children() if "sagemaker_training" in " ".join(p.cmdline())]
    worker.kill()
    assert job.wait(20) == 137
    assert "SIGKILL (signal 9), most likely because the memory ran out" in job.failure


def test_sigterm_while_the_head_trains_keeps_the_best_model_a1_9_a1_10(box, colour_images, small_weights):
    box.prepare({**SMALL_JOB, "epochs": "1000"}, training=colour_images, pretrained=small_weights)
    box.start("train")
    box.wait_for("epoch=5 ")
    assert box.stop(limit=60) == 0
    assert "stopped on request" in box.log
    assert (box.tree / "model" / "kennel.json").exists()
    assert box.failure == ""


def test_sigterm_while_the_whole_network_trains_keeps_the_best_model_a1_9(job):
    job.config("hyperparameters.json", {**SCRATCH, "epochs": "1000"})
    job.start("train")
    job.wait_for("epoch=2 ")
    assert job.stop(limit=60) == 0
    assert (job.tree / "model" / "kennel.json").exists()


def test_sigterm_before_there_is_a_model_says_so_and_keeps_the_cache_a1_9(box, tmp_path, resnet18_weights):
    data = write_colour_images(tmp_path / "data", train=600, valid=1, test=1)
    hyperparameters = {**SMALL_JOB, "backbone": "resnet18", "image_size": "224", "num_workers": "2"}
    box.prepare(hyperparameters, training=data, pretrained=resnet18_weights)
    box.start("train")
    box.wait_for("images classes=3;")
    time.sleep(0.5)  # features of 1,800 images are being computed now, for several seconds
    assert box.stop(limit=20) == SIGTERM_WITHOUT_MODEL
    assert box.failure.startswith("Stopped by SIGTERM while working on features (original) of train")
    assert "no model was saved" in box.failure
    assert list((box.tree / "model").iterdir()) == []
    assert len(list((tmp_path / "cache" / "packed").iterdir())) == 3


@pytest.mark.parametrize("delay", [0.0, 0.3, 1.0])
def test_sigterm_while_modules_are_imported_is_not_lost_a1_10(job, delay):
    job.start("train")
    job.wait_for_handler()
    time.sleep(delay)
    assert job.stop(limit=20) == SIGTERM_WITHOUT_MODEL
    assert job.failure.startswith("Stopped by SIGTERM")


def test_sigterm_reaches_a_users_script_a1_10(box):
    box.submit(
        "import os, signal, sys, time\n"
        "def leave(number, frame):\n"
        "    open(os.path.join(os.environ['SM_MODEL_DIR'], 'checkpoint'), 'w').write('saved')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        "print('waiting', flush=True)\n"
        "time.sleep(60)\n"
    )
    box.start("train")
    box.wait_for("\nwaiting")
    assert box.stop(limit=20) == 0
    assert (box.tree / "model" / "checkpoint").read_text() == "saved"


@pytest.mark.process_only
def test_what_a_script_leaves_running_is_ended_and_reaped_a1_10(box):
    box.submit(
        "import os, subprocess\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "open(os.path.join(os.environ['SM_OUTPUT_DATA_DIR'], 'pid'), 'w').write(str(child.pid))\n"
    )
    assert box.train() == 0
    pid = int((box.tree / "output" / "data" / "pid").read_text())
    assert not psutil.pid_exists(pid)
