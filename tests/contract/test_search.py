"""A whole search inside one training job, played as SageMaker plays any other job."""

import csv
import json
import re

from kennel.model.manifest import load_manifest
from tests.contract.box import SMALL_JOB, Box

RATES = {
    "ContinuousParameterRanges": [
        {"Name": "learning_rate", "MinValue": "1e-4", "MaxValue": "1e-1", "ScalingType": "Logarithmic"}
    ],
    "CategoricalParameterRanges": [{"Name": "fc_units", "Values": ["16", "64"]}],
}


def search(jobs=4, strategy="Bayesian", ranges=RATES, metric="valid_accuracy", goal="Maximize", **more):
    return {
        "Strategy": strategy,
        "HyperParameterTuningJobObjective": {"Type": goal, "MetricName": metric},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": jobs, "MaxParallelTrainingJobs": 1},
        "ParameterRanges": ranges,
        "RandomSeed": 3,
        **more,
    }


def prepare(box, images, channel, config, **static):
    hyperparameters = {**SMALL_JOB, "epochs": "3", **static, "search": json.dumps(config)}
    box.prepare(hyperparameters, training=images, pretrained=channel)


# with a learning rate of 10 all weights are nine times as large after each of twelve steps
BREAKING = {"optimizer": "sgd", "weights": "none", "unfreeze": "all", "weight_decay": "1", "batch_size": "2"}


def summary(box):
    return json.loads((box.tree / "output/data/tuning.json").read_text())


def trial_lines(box):
    return [line for line in box.log.splitlines() if re.match(r"trial=\d+; status=", line)]


def test_the_best_trial_becomes_the_model_and_its_metrics_come_last_b5(box, colour_images, small_weights):
    prepare(box, colour_images, small_weights, search())
    assert box.train() == 0, box.log
    found = summary(box)
    assert found["status"] == "Completed"
    assert len(found["trials"]) == len(trial_lines(box)) == 4
    best = found["best"]
    assert best["objective"] == max(trial["objective"] for trial in found["trials"])
    manifest = load_manifest(box.tree / "model")
    assert (
        f"{manifest.hyperparameters['learning_rate']:.6g}" == f"{float(best['hyperparameters']['learning_rate']):.6g}"
    )
    assert manifest.hyperparameters["fc_units"] == int(best["hyperparameters"]["fc_units"])
    report = json.loads((box.tree / "output/data/report.json").read_text())
    assert report["hyperparameters"]["fc_units"] == best["hyperparameters"]["fc_units"]
    last = next(line for line in reversed(box.log.splitlines()) if line.startswith("best_epoch="))
    assert f"valid_accuracy={best['objective']:.4f};" in last
    assert "test_accuracy=" in last
    values = re.findall(r"valid_accuracy=([0-9.]+);", box.log)
    assert float(values[-1]) == best["objective"]


def test_the_summary_and_the_page_are_in_the_output(box, colour_images, small_weights):
    prepare(box, colour_images, small_weights, search(jobs=3))
    assert box.train() == 0, box.log
    output = box.tree / "output/data"
    with (output / "tuning.csv").open() as file:
        assert [row["trial"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    assert "Best: trial" in (output / "tuning.md").read_text()
    assert "<svg" in (output / "tuning.html").read_text()
    assert (output / "test_predictions.csv").is_file()


def test_the_images_are_passed_once_whatever_the_number_of_trials(box, colour_images, small_weights):
    prepare(box, colour_images, small_weights, search(jobs=6))
    assert box.train() == 0, box.log
    for step in (
        "decode; split=train",
        "features (original); split=train",
        "features; split=valid",
        "test; split=test",
    ):
        assert box.log.count(f"progress step={step};") == 1, step


def test_trial_1_is_the_defaults_and_equals_a_job_of_its_own(box, colour_images, small_weights, tmp_path):
    ranges = {"ContinuousParameterRanges": RATES["ContinuousParameterRanges"]}
    config = search(jobs=3, ranges=ranges, metric="valid_loss", goal="Minimize")
    prepare(box, colour_images, small_weights, config)
    assert box.train() == 0, box.log
    first, second, _ = summary(box)["trials"]
    assert first["hyperparameters"] == {"learning_rate": "0.0005"}
    for trial in (first, second):  # the second comes after another trial, which must not change it
        rate = trial["hyperparameters"]["learning_rate"]
        own = Box(box.runner, tmp_path / f"own-{rate}")
        own.variables = box.variables
        own.prepare(
            {**SMALL_JOB, "epochs": "3", "learning_rate": rate}, training=colour_images, pretrained=small_weights
        )
        assert own.train() == 0, own.log
        curve = [float(value) for value in re.findall(r"^epoch=\d+ .*valid_loss=([0-9.]+);", own.log, re.MULTILINE)]
        assert trial["curve"] == curve


def test_a_trial_that_breaks_does_not_break_the_search(box, colour_images, small_weights):
    ranges = {"CategoricalParameterRanges": [{"Name": "learning_rate", "Values": ["10", "0.001"]}]}
    config = search(strategy="Grid", ranges=ranges)
    del config["ResourceLimits"]["MaxNumberOfTrainingJobs"]
    prepare(box, colour_images, small_weights, config, **BREAKING)
    assert box.train() == 0, box.log
    trials = {trial["hyperparameters"]["learning_rate"]: trial for trial in summary(box)["trials"]}
    assert trials["0.001"]["status"] == "Completed"
    assert trials["10"]["status"] == "Failed"
    assert "learning_rate=10 is too high" in trials["10"]["reason"]


def test_a_trial_that_cannot_be_trained_does_not_break_the_search(box, colour_images, small_weights):
    choices = [{"Name": "unfreeze", "Values": ["head", "999"]}, {"Name": "augment", "Values": ["none", "randaugment"]}]
    config = search(strategy="Grid", ranges={"CategoricalParameterRanges": choices})
    del config["ResourceLimits"]["MaxNumberOfTrainingJobs"]
    prepare(box, colour_images, small_weights, config)
    assert box.train() == 0, box.log
    ended = {tuple(trial["hyperparameters"].values()): trial["status"] for trial in summary(box)["trials"]}
    assert len(ended) == 4
    assert [values for values, status in ended.items() if status == "Completed"] == [("head", "none")]
    assert set(ended.values()) == {"Completed", "Failed"}
    assert (box.tree / "model/kennel.json").is_file()


def test_a_search_without_a_model_fails_and_so_says_its_summary_a1_5(box, colour_images, small_weights):
    ranges = {"CategoricalParameterRanges": [{"Name": "learning_rate", "Values": ["10", "9"]}]}
    config = search(jobs=2, ranges=ranges)
    prepare(box, colour_images, small_weights, config, **BREAKING)
    assert box.train() == 1
    assert box.failure.startswith("none of 2 trials has a model; the first: ")
    found = summary(box)
    assert (found["status"], found["reason"]) == ("Failed", box.failure.strip())


def test_a_stopped_search_keeps_the_best_model_so_far_a1_9(box, colour_images, small_weights):
    prepare(box, colour_images, small_weights, search(jobs=500), epochs="100")
    box.start("train")
    box.wait_for("trial=3; status=")
    assert box.stop(60) == 0, box.log
    assert (box.tree / "model/kennel.json").is_file()
    found = summary(box)
    assert found["status"] == "Stopped"
    assert 3 <= len(found["trials"]) < 500
    manifest = load_manifest(box.tree / "model")
    assert round(manifest.metrics["valid_accuracy"], 4) == found["best"]["objective"]


def test_hyperband_and_early_stopping_leave_hopeless_trials_b7_b8(box, colour_images, small_weights):
    rates = ["0.003", "0.002", "0.004", "0.000001", "0.0000011", "0.0000012"]
    ranges = {"CategoricalParameterRanges": [{"Name": "learning_rate", "Values": rates}]}
    config = search(
        strategy="Grid", ranges=ranges, metric="train_loss", goal="Minimize", TrainingJobEarlyStoppingType="Auto"
    )
    del config["ResourceLimits"]["MaxNumberOfTrainingJobs"]
    prepare(box, colour_images, small_weights, config, epochs="10")
    assert box.train() == 0, box.log
    statuses = {t["hyperparameters"]["learning_rate"]: (t["status"], len(t["curve"])) for t in summary(box)["trials"]}
    assert statuses["0.003"] == ("Completed", 10)
    assert statuses["0.0000012"][0] == "Stopped"
    assert statuses["0.0000012"][1] < 10


def test_a_search_that_makes_no_sense_is_refused_in_a_sentence_a1_5(box, colour_images, small_weights):
    box.prepare({**SMALL_JOB, "search": "colour"}, training=colour_images, pretrained=small_weights)
    assert box.train() == 1
    assert box.failure.startswith("search=colour: must be a HyperParameterTuningJobConfig in JSON")


def test_an_objective_that_no_epoch_has_is_refused_a1_5(box, colour_images, small_weights):
    prepare(box, colour_images, small_weights, search(metric="test_accuracy"))
    assert box.train() == 1
    assert box.failure.startswith("the objective test_accuracy is not measured in every epoch")
