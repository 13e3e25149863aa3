"""Contract A2 to A6, what the real `train` finds and leaves; each test names its row."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.box import SCRATCH, SMALL_JOB, Box
from tests.samples import save_random_model

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
def test_pretrained_weights_without_a_channel_come_from_the_image_a6_6(box, colour_images, small_weights):
    box.prepare({**SMALL_JOB, "weights": "pretrained"}, training=colour_images)
    box.variables["KENNEL_WEIGHTS"] = str(small_weights.parent)
    assert box.train() == 0, box.log


def test_weights_in_the_image_are_those_of_the_backbone_a6_6(box, colour_images, small_weights):
    box.prepare({**SMALL_JOB, "weights": "pretrained", "backbone": "resnet50"}, training=colour_images)
    box.variables["KENNEL_WEIGHTS"] = str(small_weights.parent)
    assert box.train() == 1
    assert "build the image with resnet50.pth in WEIGHTS_DIR" in box.failure
