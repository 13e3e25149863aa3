"""The debugger in a training that runs: what it finds, what it writes, and that the training never feels it."""

import shutil

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from kennel.debugger import inspector, recorded_losses, recorder
from kennel.debugger.series import Mode
from tests.debugger.conftest import TWO_PHASES
from tests.samples import COLOURS


def statuses(job):
    return {rule["rule"]: rule["status"] for rule in job.record["rules"]}


def findings(job, rule):
    (result,) = [one for one in job.record["rules"] if one["rule"] == rule]
    assert result["status"] == "IssuesFound", result
    assert result["times"] >= len(result["findings"]) > 0
    return [finding["message"] for finding in result["findings"]]


def test_no_rule_finds_anything_in_a_healthy_training_d3(train):
    job = train(epochs="8", batch_size="32")
    assert set(statuses(job).values()) == {"NoIssuesFound"}
    assert len(statuses(job)) == 11
    assert job.record["left_out"] == {}
    (told,) = [line for line in job.lines if line.endswith("; status=NoIssuesFound;")]
    assert told.startswith("rules=vanishing_gradient,exploding_tensor")
    assert job.lines[-1].startswith("best_epoch=")


def test_a_learning_rate_that_breaks_the_loss_is_found_d3(train, colour_images):
    broken = {"weights": "none", "optimizer": "sgd", "learning_rate": "10", "label_smoothing": "0"}
    job = train(colour_images, epochs="5", **broken)
    assert "learning_rate=10 is too high" in job.problem
    assert "the count of NaN and infinities" in findings(job, "exploding_tensor")[0]
    assert any(line.startswith("rule=exploding_tensor; status=IssuesFound; findings=") for line in job.lines)


def test_weights_of_zero_are_found_d3(train, tmp_path):
    zeros = torchvision.models.resnet18(weights=None).state_dict()
    torch.save({name: torch.zeros_like(value) for name, value in zeros.items()}, tmp_path / "zeros.pth")
    job = train(weights=str(tmp_path / "zeros.pth"))
    assert "gradient/Sequential_0.weight is 0, below 1e-07" in findings(job, "vanishing_gradient")[0]
    assert "as a share of the median layer, below 0.001" in findings(job, "poor_weight_initialization")[0]


def write_noise(folder, train, valid):
    """Images that say nothing of their classes."""
    numbers = np.random.default_rng(0)
    for split, counts in (("train", train), ("valid", valid)):
        for name, count in zip(COLOURS, counts, strict=True):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = numbers.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


def test_many_epochs_on_twenty_images_are_overfitting_d3(train, tmp_path):
    data = write_noise(tmp_path / "noise", (7, 7, 6), (10, 10, 10))
    job = train(data, weights="none", epochs="14", label_smoothing="0", dropout="0", batch_size="20")
    assert "above training loss" in findings(job, "overfit")[-1]
    assert "evaluations before" in findings(job, "overtraining")[0]


def test_labels_that_say_nothing_are_found_d3(train, tmp_path):
    data = write_noise(tmp_path / "noise", (30, 30, 30), (12, 12, 12))
    job = train(data, epochs="6", learning_rate="1e-4")
    assert "recognized" in findings(job, "confusion")[0]
    assert "CrossEntropyLoss_output_0" in findings(job, "loss_not_decreasing")[0]


def test_classes_of_very_different_size_are_found_d3(train, healthy_images, tmp_path):
    data = shutil.copytree(healthy_images, tmp_path / "few")
    for number in range(2, 30):
        (data / "train" / "red" / f"{number}.png").unlink()
    job = train(data, epochs="9")
    assert findings(job, "class_imbalance")[0].startswith("class ")


def test_a_training_is_the_same_to_the_bit_whoever_watches_it(train, colour_images, alone):
    job = train(colour_images, **TWO_PHASES)
    assert job.model == alone
    assert {"exploding_tensor", "weight_update_ratio"} <= statuses(job).keys()


@pytest.mark.parametrize(
    "broken",
    [
        "begin_phase",
        "begin_step",
        "_measure",
        "end_forward",
        "end_backward",
        "end_step",
        "end_evaluation",
        "settle",
        "measurements",
    ],
)
def test_a_debugger_that_breaks_is_one_warning_and_the_same_model(train, colour_images, alone, monkeypatch, broken):
    def fail(*arguments):
        raise RuntimeError("no more of this")

    monkeypatch.setattr(recorder.Recorder, broken, fail)
    job = train(colour_images, **TWO_PHASES)
    assert job.model == alone
    warnings = [line for line in job.lines if line.endswith(("goes on without it", "goes on without them"))]
    assert warnings and (len(warnings) == 1 or broken == "measurements")
    if broken != "measurements":
        assert job.record["problem"] == "RuntimeError: no more of this"
        assert "NoIssuesFound" not in statuses(job).values()


def test_an_output_folder_that_cannot_be_written_is_one_warning_a_time_and_the_same_model(
    train, colour_images, alone, monkeypatch
):
    def refuse(path, value):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("kennel.debugger.verdicts.write_json", refuse)
    job = train(colour_images, **TWO_PHASES)
    assert job.model == alone
    assert "debugger.json could not be written; training goes on without it" in job.lines


def test_a_rule_may_stop_the_training_and_the_best_epoch_is_kept_d3(train):
    stopping = {"rule_action": "stop_training", "rule_vanishing_gradient_threshold": "1000"}
    job = train(epochs="200", rules="vanishing_gradient", **stopping)
    assert "stopped on rule vanishing_gradient: epoch 1 is saved as the model, the test is left out" in job.lines
    assert sum(line.startswith("epoch=") for line in job.lines) == 1
    assert job.model


def test_only_the_rules_that_are_asked_for_judge_and_lack_is_an_error_d3(train):
    job = train(rules="overfit, class_imbalance, all_zero", rule_class_imbalance_samples="100000")
    assert statuses(job) == {"overfit": "NoIssuesFound", "class_imbalance": "Error", "all_zero": "Error"}
    reasons = {rule["rule"]: rule["reason"] for rule in job.record["rules"]}
    assert "100000 are needed" in reasons["class_imbalance"]
    assert reasons["all_zero"] == "it wants collection_names or tensor_regex"
    assert train(rules="none").record["rules"] == []


def test_rules_for_tensors_that_the_user_names_d3(train):
    job = train(
        rules="all_zero,unchanged_tensor,tensor_variance,check_input_images,saturated_activation",
        rule_all_zero_tensor_regex="relu_output",
        rule_all_zero_threshold="1",
        rule_unchanged_tensor_collection_names="weights",
        rule_tensor_variance_tensor_regex="Sequential_input_0",
        rule_tensor_variance_max_threshold="1e-9",
        rule_check_input_images_regex="Sequential_input_0",
        rule_saturated_activation_tensor_regex="1_relu_input",
        rule_saturated_activation_threshold_tanh_max="-9",
        batch_size="32",
    )
    assert "the percentage of zeros of 1_relu_output_0" in findings(job, "all_zero")[0]
    assert statuses(job)["unchanged_tensor"] == "NoIssuesFound"
    assert "Sequential_input_0" in findings(job, "tensor_variance")[0]
    assert "the mean of a channel of Sequential_input_0" in findings(job, "check_input_images")[0]
    assert "1_relu_input_0 is 100" in findings(job, "saturated_activation")[0]


def test_what_is_remembered_of_a_long_training_is_bounded(monkeypatch):
    monkeypatch.setattr(recorded_losses, "MOST_LOSSES", 60)
    monkeypatch.setattr(recorder, "_STEPS", (20, 30))
    monkeypatch.setattr(recorder, "EVERY", 1)
    monkeypatch.setattr(recorder, "MOST_LABELS", 200)
    monkeypatch.setattr("kennel.debugger.moments.MOST_MOMENTS", 80)
    rules = inspector_rules("exploding_tensor,class_imbalance,weight_update_ratio,confusion")
    seen = recorder.Recorder(inspector.needs_of(rules), clock=iter(range(10**6)).__next__)
    net = torch.nn.Sequential(torch.nn.Linear(4, 3))
    seen.begin_phase(net)
    labels = torch.arange(8) % 3
    for step in range(500):
        one_step(seen, net, labels, Mode.TRAIN)
        if step % 50 == 49:
            for _ in range(40):
                one_step(seen, net, labels, Mode.EVAL)
            seen.end_evaluation()
    measured = seen.measurements(ended=True)
    sizes = {(series.name, series.mode): len(series.global_steps) for series in measured.series}
    assert sizes["gradient/Sequential_0.weight", "TRAIN"] <= 30
    assert sizes["CrossEntropyLoss_output_0", "TRAIN"] <= 60
    assert sizes["CrossEntropyLoss_output_0", "EVAL"] == 10  # one an evaluation
    assert sizes["labels", "TRAIN"] <= 25
    assert sizes["labels", "EVAL"] <= 25
    assert len(measured.moments) <= 80
    losses = next(series for series in measured.series if series.name == "CrossEntropyLoss_output_0")
    assert list(losses.global_steps)[:10] == list(range(10))  # by which the initialization is judged
    weights = next(series for series in measured.series if series.name == "Sequential_0.weight")
    assert list(weights.global_steps)[:10] == list(range(10))
    assert list(weights.global_steps)[-1] == 499


def test_a_long_wait_is_remembered_in_a_long_training_d3(monkeypatch):
    monkeypatch.setattr("kennel.debugger.moments.MOST_MOMENTS", 80)
    times = iter(np.cumsum(np.where(np.arange(2000) == 700, 3600.0, 1.0)).tolist())
    seen = recorder.Recorder((), clock=times.__next__)
    for _ in range(1500):
        seen.begin_step(Mode.TRAIN, torch.zeros(1))
    (rule,) = inspector_rules("stalled_training_rule")
    (finding,) = rule.check(seen.measurements(ended=True))
    assert finding.message == "nothing was saved for 3,600 seconds after step 699"


def inspector_rules(names):
    from kennel.debugger.choice import choose_rules

    return choose_rules(names, "")


def one_step(seen, net, labels, mode):
    seen.begin_step(mode, labels)
    logits = net(torch.randn(len(labels), 4))
    loss = torch.nn.functional.cross_entropy(logits, labels)
    seen.end_forward(logits.detach(), loss.detach())
    if mode is Mode.TRAIN:
        net.zero_grad()
        loss.backward()
        seen.end_backward(lambda: 1.0)
        seen.end_step()
