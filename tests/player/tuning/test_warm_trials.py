"""Trials that the tuner forks: Kennel's own training, which shares its work, and scripts, which are on their own."""

import time
from pathlib import Path

import psutil
import pytest

from kennel_cli.requests import training_job
from kennel_cli.settings import LOCAL
from tests.player.conftest import SMALL_JOB, open_files
from tests.player.tuning.conftest import log, trials


@pytest.fixture
def heads(sagemaker, colour_images, small_weights):
    """Make the request of a search over heads on the colour images."""

    def make(name="search", ranges=None, jobs=3, **static):
        channels = {
            "training": sagemaker.store.link(colour_images, LOCAL.bucket),
            "pretrained": sagemaker.store.link(small_weights, LOCAL.bucket),
        }
        members = training_job("x", channels, {}, LOCAL)
        rate = {"Name": "learning_rate", "MinValue": "1e-4", "MaxValue": "1e-2", "ScalingType": "Logarithmic"}
        return {
            "HyperParameterTuningJobName": name,
            "HyperParameterTuningJobConfig": {
                "Strategy": "Bayesian",
                "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "valid_accuracy"},
                "ResourceLimits": {"MaxParallelTrainingJobs": 2, "MaxNumberOfTrainingJobs": jobs},
                "ParameterRanges": ranges or {"ContinuousParameterRanges": [rate]},
            },
            "TrainingJobDefinition": {
                "StaticHyperParameters": {**SMALL_JOB, "weights": "pretrained", **static},
                **{k: v for k, v in members.items() if k not in ("TrainingJobName", "HyperParameters", "Tags")},
            },
        }

    return make


def test_trials_share_one_pass_also_when_they_start_at_the_same_moment(sagemaker, heads, finish):
    sagemaker.create_hyper_parameter_tuning_job(**heads())
    assert finish()["HyperParameterTuningJobStatus"] == "Completed"
    lines = "".join(log(sagemaker, t) for t in trials(sagemaker))
    for work in ("step=decode; split=train", "step=features (original)", "step=features (mirrored)", "step=test"):
        assert lines.count(f"progress {work}") == 1, work


def test_trials_that_differ_in_what_matters_do_not_share(sagemaker, heads, finish):
    sizes = {"CategoricalParameterRanges": [{"Name": "image_size", "Values": ["32", "40"]}]}
    request = heads(ranges=sizes)
    del request["TrainingJobDefinition"]["StaticHyperParameters"]["image_size"]
    request["HyperParameterTuningJobConfig"] |= {"Strategy": "Grid", "ResourceLimits": {"MaxParallelTrainingJobs": 2}}
    sagemaker.create_hyper_parameter_tuning_job(**request)
    finish()
    for trial in trials(sagemaker):
        assert "progress step=decode; split=train" in log(sagemaker, trial)


def test_trial_1_is_the_defaults(sagemaker, heads, finish):
    sagemaker.create_hyper_parameter_tuning_job(**heads(jobs=1))
    finish()
    [trial] = trials(sagemaker)
    assert trial["TunedHyperParameters"] == {"learning_rate": "0.0005"}


def test_a_warm_trials_script_sees_nothing_of_the_users_environment_b12(sagemaker, search, finish, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=1, static={"pause": "1"}))
    while not any("score=" in log(sagemaker, t) for t in trials(sagemaker)):
        time.sleep(0.05)
    programs = [p for p in psutil.process_iter() if _environment(p).get("TRAINING_JOB_NAME", "").startswith("search-")]
    assert programs
    assert all("AWS_SECRET_ACCESS_KEY" not in _environment(p) for p in programs)
    finish()


def test_a_script_does_not_wait_for_torch(sagemaker, search, finish):
    """It is a program of its own, started by a fork of the tuner: what these two import is of no use to it."""
    sagemaker.create_hyper_parameter_tuning_job(**search("light", jobs=1, static={"pause": "1"}))
    while not (scripts := [p for p in psutil.process_iter() if _is_script(_environment(p), "light")]):
        time.sleep(0.05)
    loaded = {Path(file.path).name for file in scripts[0].parent().memory_maps()}
    assert any(name.startswith(("python", "libpython")) for name in loaded)
    assert not any(name.startswith("libtorch") for name in loaded)
    finish("light")


def _is_script(environment, search):
    return environment.get("TRAINING_JOB_NAME", "").startswith(f"{search}-") and "SM_MODULE_NAME" in environment


def test_a_warm_trial_is_a_job_like_any_other_b12(sagemaker, heads, finish):
    sagemaker.create_hyper_parameter_tuning_job(**heads(jobs=2, epochs="200"))
    while not (first := next((t for t in trials(sagemaker) if "epoch=2 " in log(sagemaker, t)), None)):
        time.sleep(0.05)
    sagemaker.stop_training_job(TrainingJobName=first["TrainingJobName"])
    finish()
    stopped = sagemaker.describe_training_job(TrainingJobName=first["TrainingJobName"])
    assert stopped["TrainingJobStatus"] in ("Stopped", "Completed")
    assert sagemaker.store.path(stopped["ModelArtifacts"]["S3ModelArtifacts"]).is_file()
    assert "\nbest_epoch=" in log(sagemaker, first)


def _environment(process):
    try:
        return process.environ()
    except psutil.Error:
        return {}


def test_a_warm_trial_that_is_killed_says_why(sagemaker, heads, finish):
    sagemaker.create_hyper_parameter_tuning_job(**heads(jobs=1, epochs="1000"))
    while not any("epoch=2 " in log(sagemaker, t) for t in trials(sagemaker)):
        time.sleep(0.05)
    [trial] = trials(sagemaker)
    keeper = trial["TrainingJobName"]
    theirs = [p for p in psutil.process_iter() if any(f.fd == 1 and keeper in f.path for f in open_files(p))]
    for leaf in [p for p in theirs if not p.children()]:
        leaf.kill()
    described = finish()
    assert described["HyperParameterTuningJobStatus"] == "Failed"
    assert "was killed by SIGKILL" in described["FailureReason"]
