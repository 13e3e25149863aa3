"""Contract A1 to A4, for the real `train`; each test names its row."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.contract.box import SIGTERM_WITHOUT_MODEL, SMALL_JOB, Box
from tests.samples import save_random_model, write_colour_images

SCRATCH = {**SMALL_JOB, "weights": "none"}


@pytest.fixture
def job(box: Box, colour_images: Path) -> Box:
    """A box that is ready to train on the colour images from scratch."""
    box.prepare(SCRATCH, training=colour_images)
    return box


# A1: start, stop, exit


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


def test_sigterm_while_the_head_trains_keeps_the_best_model_a1_9_a1_10(box, colour_images, resnet18_weights):
    box.prepare({**SMALL_JOB, "epochs": "1000"}, training=colour_images, pretrained=resnet18_weights)
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
    hyperparameters = {**SMALL_JOB, "image_size": "224", "num_workers": "2"}
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


# A2: /opt/ml


def test_the_three_config_files_may_be_missing_a2_1_a2_2_a2_3(box, colour_images):
    box.link(training=colour_images)
    box.variables["KENNEL_CACHE"] = str(box.folder / "cache")
    assert box.train() == 1
    assert box.failure.startswith("there are no pretrained weights")  # defaults were taken, and the channel was found


@pytest.mark.parametrize("text", ["", "{}"])
def test_empty_hyperparameters_mean_the_defaults_a2_1(box, colour_images, text):
    box.prepare({}, training=colour_images)
    box.config("hyperparameters.json", text)
    assert box.train() == 1
    assert box.failure.startswith("there are no pretrained weights")


def test_malformed_hyperparameters_are_one_sentence_a2_1(job):
    job.config("hyperparameters.json", "{'epochs': 3}")
    assert job.train() == 1
    assert "hyperparameters.json is not JSON" in job.failure
    assert "Traceback" not in job.failure


def test_a_host_of_any_name_and_without_groups_will_do_a2_2_a7_4(job):
    job.config("resourceconfig.json", {"current_host": "algo-1-x7k2p", "hosts": ["algo-1-x7k2p"]})
    assert job.train() == 0


@pytest.mark.parametrize("mode", ["File", "FastFile"])
def test_file_and_fastfile_channels_are_folders_a2_3_a2_5(job, mode):
    job.config("inputdataconfig.json", {"training": {"TrainingInputMode": mode}})
    assert job.train() == 0


@pytest.mark.parametrize(
    ("channel", "said"),
    [
        ({"TrainingInputMode": "Pipe"}, "is in Pipe mode"),
        ({"TrainingInputMode": "File", "S3DataType": "AugmentedManifestFile"}, "is an AugmentedManifestFile"),
        ({"TrainingInputMode": "File", "RecordWrapperType": "RecordIO"}, "has RecordWrapperType RecordIO"),
        ({"TrainingInputMode": "File", "CompressionType": "Gzip"}, "has CompressionType Gzip"),
    ],
)
def test_streams_are_refused_with_what_would_do_a2_6(job, channel, said):
    job.config("inputdataconfig.json", {"training": channel})
    assert job.train() == 1
    assert f"the channel `training` {said}" in job.failure
    assert "File or FastFile" in job.failure
    assert "Traceback" not in job.failure


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_other_config_files_may_hold_anything_a2_4(job, text):
    names = ("init-config", "trainingjobconfig", "metric-definition-regex", "upstreamoutputdataconfig")
    for name in (*names, "profilerconfig", "debughookconfig", "checkpointconfig", "tensorboardoutputconfig"):
        job.config(f"{name}.json", text)
    assert job.train() == 0


def test_splits_may_be_channels_a2_5(box, colour_images):
    channels = {"train": "train", "validation": "valid", "test": "test"}
    box.prepare(SCRATCH, **{name: colour_images / split for name, split in channels.items()})
    assert box.train() == 0


def test_a_channel_of_class_folders_is_enough_a2_5(box, colour_images):
    box.prepare(SCRATCH, training=colour_images / "train")
    assert box.train() == 0
    assert "there is no valid split: held_out=3; of=24; seed=0;" in box.log
    assert "there is no test split" in box.log
    assert "valid_accuracy=" in box.log
    assert "test_accuracy=" not in box.log


def test_what_is_no_model_goes_to_output_data_a2_9(job):
    assert job.train() == 0
    names = {entry.name for entry in (job.tree / "output" / "data").iterdir()}
    test = {"test_predictions.csv", "test_classes.csv", "test_confusion.csv", "test_worst.json"}
    watching = {"debugger.json", "profiler.json", "profiler_samples.jsonl"}
    assert names == {"data.json", "job.json", "training.jsonl", *test, *watching, "report.html", "report.json"}
    report = json.loads((job.tree / "output" / "data" / "report.json").read_text())
    assert report["status"] == "Completed"
    assert report["metrics"]["test_accuracy"] >= 0
    assert report["instance"] == "ml.m5.large"


def test_a_job_that_fails_leaves_a_report_with_the_reason_a1_4(job):
    job.config("hyperparameters.json", {**SCRATCH, "weights": "/nowhere.pth"})
    assert job.train() == 1
    report = json.loads((job.tree / "output" / "data" / "report.json").read_text())
    assert report["status"] == "Failed"
    assert report["reason"] == job.failure.strip() == "there is no weights file /nowhere.pth"


@pytest.mark.process_only
def test_train_on_the_images_path_is_ours_a1_1_a5_6(box, colour_images):
    programs = Path(__file__).parents[2] / "docker" / "bin"
    box.prepare({"epochs": "0"}, training=colour_images)
    path = os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.environ["PATH"]))
    variables = {**os.environ, "PATH": path, "SAGEMAKER_BASE_DIR": str(box.tree)}
    done = subprocess.run(["train"], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "train: exit code 1: bad hyperparameters" in done.stderr


# A3: environment variables


def test_a_script_finds_the_toolkits_variables_a3_1_a3_2_a3_3_a3_5(box, colour_images):
    box.submit(
        "import json, os\n"
        "path = os.path.join(os.environ['SM_OUTPUT_DATA_DIR'], 'variables.json')\n"
        "json.dump(dict(os.environ), open(path, 'w'))\n",
        **{"batch-size": "32", "lr": "0.1"},
    )
    box.link(training=colour_images)
    box.config("inputdataconfig.json", {"training": {"TrainingInputMode": "File"}})
    box.variables |= {"TRAINING_JOB_NAME": "the-job", "AWS_REGION": "eu-central-1", "MY_OWN": "value"}
    assert box.train() == 0
    variables = json.loads((box.tree / "output" / "data" / "variables.json").read_text())
    assert variables["TRAINING_JOB_NAME"] == "the-job"
    assert variables["MY_OWN"] == "value"
    assert variables["SM_MODEL_DIR"].endswith("/ml/model")
    assert variables["SM_OUTPUT_DATA_DIR"].endswith("/ml/output/data")
    assert variables["SM_CHANNEL_TRAINING"].endswith("/ml/input/data/training")
    assert json.loads(variables["SM_CHANNELS"]) == ["training"]
    assert variables["SM_HP_BATCH-SIZE"] == "32"
    assert json.loads(variables["SM_HPS"]) == {"batch-size": 32, "lr": 0.1}
    assert variables["SM_CURRENT_HOST"] == box.runner.host
    assert variables["SM_NUM_CPUS"].isdigit()
    assert variables["SM_NUM_GPUS"].isdigit()  # a3.5: 0 where there is no nvidia-smi


def test_our_training_needs_none_of_the_sdks_variables_a3_4(job):
    job.variables |= {"SM_MODEL_DIR": "/nowhere", "SM_HPS": "{", "SM_CHANNELS": "nonsense"}
    assert job.train() == 0
    assert (job.tree / "model" / "kennel.json").exists()


@pytest.mark.parametrize("level", ["INFO", "20", ""])
def test_a_log_level_may_be_a_name_a_number_or_empty_a5_3(job, level):
    job.variables["SAGEMAKER_CONTAINER_LOG_LEVEL"] = level
    assert job.train() == 0


def test_a_log_level_that_is_none_is_refused_a5_3(job):
    job.variables["SAGEMAKER_CONTAINER_LOG_LEVEL"] = "chatty"
    assert job.train() == 1
    assert "SAGEMAKER_CONTAINER_LOG_LEVEL is 'chatty'" in job.failure


def test_secrets_do_not_reach_the_log_a3_6(box):
    box.submit("print('ran')", api_key="key-1234567")
    box.variables["SM_MY_SECRET_TOKEN"] = "hush-7654321"
    box.variables["DB_PASSWORD"] = "open-sesame"
    assert box.train() == 0
    assert "Invoking user script" in box.log  # the toolkit logs all there is
    for secret in ("key-1234567", "hush-7654321", "open-sesame"):
        assert secret not in box.log


# A4: hyperparameters


@pytest.mark.parametrize("quoted", [False, True])
def test_values_may_be_plain_or_json_quoted_a4_1(job, quoted):
    values = {**SCRATCH, "optimizer": "adam", "learning_rate": "0.001", "fc-units": "4"}
    job.config("hyperparameters.json", {k: json.dumps(v) for k, v in values.items()} if quoted else values)
    assert job.train() == 0
    kept = json.loads((job.tree / "model" / "kennel.json").read_text())["hyperparameters"]
    assert (kept["optimizer"], kept["learning_rate"], kept["fc_units"]) == ("adam", 0.001, 4)


def test_a_scripts_arguments_are_the_toolkits_a4_1_a4_2_a4_4(box):
    box.submit(
        "import json, os, sys\n"
        "json.dump(sys.argv[1:], open(os.path.join(os.environ['SM_OUTPUT_DATA_DIR'], 'argv.json'), 'w'))\n",
        **{"lr": "0.1", "opt": '"adam"', "plain": "adam", "flag": "true", "list": "[1,2]", "none": "null"},
        words="two words and 'quotes'",
        e="3",
    )
    assert box.train() == 0
    argv = json.loads((box.tree / "output" / "data" / "argv.json").read_text())
    arguments = dict(zip(argv[::2], argv[1::2], strict=True))
    assert arguments == {
        "--lr": "0.1",
        "--opt": "adam",
        "--plain": "adam",
        "--flag": "True",
        "--list": "[1, 2]",
        "--none": "",
        "--words": "two words and 'quotes'",
        "-e": "3",
    }
    names = [name.lstrip("-") for name in argv[::2]]
    assert names == sorted(names)


def test_names_that_sagemaker_adds_do_not_reach_a_script_a4_3(box):
    box.submit("import sys; print('arguments', sys.argv[1:])", _tuning_objective_metric="valid_accuracy", own="1")
    assert box.train() == 0
    assert "arguments ['--own', '1']" in box.log


def test_names_that_sagemaker_adds_do_not_reach_us_a4_3_b4(job):
    added = {"_tuning_objective_metric": "valid_accuracy", "sagemaker_job_name": '"x"', "sagemaker_region": '"y"'}
    job.config("hyperparameters.json", {**SCRATCH, **added})
    assert job.train() == 0


# A5 and A6, for what the spine has


def test_mpi_is_refused_with_what_would_do_a5_9(box):
    box.submit("print('never')", sagemaker_mpi_enabled="true")
    assert box.train() == 1
    assert box.failure.startswith("MPI is not in this image")


def test_a_shell_script_is_run_a5_4(box):
    box.submit("echo from-the-shell; exit 0", name="go.sh")
    assert box.train() == 0
    assert "from-the-shell" in box.log


def test_two_jobs_that_share_a_cache_do_not_leak_into_each_other_a6_7_b12(job, colour_images):
    assert job.train() == 0
    first = (job.tree / "model" / "kennel.json").read_text()
    again = Box(job.runner, job.folder / "again", variables=job.variables)
    fresh = Box(job.runner, job.folder / "fresh", variables={"KENNEL_CACHE": str(job.folder / "another-cache")})
    for box in (again, fresh):
        box.prepare({**SCRATCH, "fc_units": "9"}, training=colour_images)
        assert box.train() == 0
    assert json.loads((again.tree / "model" / "kennel.json").read_text())["fc_units"] == 9
    assert (job.tree / "model" / "kennel.json").read_text() == first
    weights = [(box.tree / "model" / "model.safetensors").read_bytes() for box in (again, fresh)]
    assert weights[0] == weights[1]


def test_metric_lines_are_plain_and_for_every_epoch_a6_4_b7(job):
    job.config("hyperparameters.json", {**SCRATCH, "epochs": "3"})
    assert job.train() == 0
    assert "\r" not in job.log
    assert "\x1b" not in job.log
    starts = [line.split(" ")[0] for line in job.log.splitlines() if "epoch=" in line]
    assert starts[:3] == ["epoch=1", "epoch=2", "epoch=3"]
    assert starts[3].startswith("best_epoch=")


def test_a_model_folder_given_as_weights_is_refused_in_a_sentence_a1_5(box, colour_images, tmp_path):
    folder = save_random_model(tmp_path / "model")
    box.prepare({**SMALL_JOB, "backbone": "resnet50"}, training=colour_images, pretrained=folder / "model.safetensors")
    assert box.train() == 1
    assert "model.safetensors does not hold the weights of resnet50" in box.failure


# A1.3, A6.6: what a network-isolated job finds in the image


@pytest.mark.process_only
def test_pretrained_weights_without_a_channel_come_from_the_image_a6_6(box, colour_images, resnet18_weights):
    box.prepare({**SMALL_JOB, "weights": "pretrained"}, training=colour_images)
    box.variables["KENNEL_WEIGHTS"] = str(resnet18_weights.parent)
    assert box.train() == 0, box.log


def test_weights_in_the_image_are_those_of_the_backbone_a6_6(box, colour_images, resnet18_weights):
    box.prepare({**SMALL_JOB, "weights": "pretrained", "backbone": "resnet50"}, training=colour_images)
    box.variables["KENNEL_WEIGHTS"] = str(resnet18_weights.parent)
    assert box.train() == 1
    assert "build the image with resnet50.pth in WEIGHTS_DIR" in box.failure
