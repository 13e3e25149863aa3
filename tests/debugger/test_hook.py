"""Tensors that a training saves: what is in the folder, and that rules say of it what they say of measurements."""

import errno
import json
import sys

import pytest
import torch
from torch import nn

from kennel.debugger import recorder
from kennel.debugger.choice import choose_rules
from kennel.debugger.hook import TensorHook
from kennel.debugger.needs import needs_of
from kennel.debugger.recorder import Recorder
from kennel.debugger.series import Mode
from kennel.debugger.trial import read_trial
from kennel.errors import TrialError
from kennel.judging.judge import judge
from tests.debugger.conftest import TWO_PHASES
from tests.debugger.test_inspector import statuses

EVERY_STEP = {"HookParameters": {"save_interval": "1"}}


class Small(nn.Module):
    """A network with layers that only have numbers, one of which changes its input in place."""

    def __init__(self, weights=1.0, bias=0.0):
        super().__init__()
        layers = [nn.Conv2d(1, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten()]
        self.layers = nn.Sequential(*layers, nn.Linear(8 * 16, 3))
        with torch.no_grad():
            for name, weight in self.named_parameters():
                weight.mul_(weights) if name.endswith("weight") else weight.add_(bias)

    def forward(self, images):
        return self.layers(images)


def fit(watchers, net, rate=0.1, epochs=6, shuffled=False):
    """Train on brightness in three steps an epoch, and tell everybody what happens."""
    numbers = torch.Generator().manual_seed(0)

    def draw(count):
        labels = torch.randint(3, (count,), generator=numbers)
        images = labels.view(-1, 1, 1, 1) - 1 + 0.3 * torch.randn(count, 1, 8, 8, generator=numbers)
        return images, labels[torch.randperm(count, generator=numbers)] if shuffled else labels

    def tell(name, *arguments):
        for watcher in watchers:
            getattr(watcher, name)(*arguments)

    def forward(mode):
        images, labels = draw(64)
        tell("begin_step", mode, labels)
        logits = net(images)
        loss = nn.functional.cross_entropy(logits, labels)
        tell("end_forward", logits.detach(), loss.detach())
        return loss

    tell("begin_phase", net)
    for _ in range(epochs):
        for _ in range(3):
            net.zero_grad()
            forward(Mode.TRAIN).backward()
            tell("end_backward", lambda: 1.0)
            with torch.no_grad():
                for weight in net.parameters():
                    weight.sub_(rate * weight.grad)
            tell("end_step")
        with torch.inference_mode():
            forward(Mode.EVAL)
        tell("end_evaluation")
    tell("close")


TRAININGS = {
    "healthy": {},
    "learning rate of 1e3": {"rate": 1e3, "epochs": 3},
    "weights of zero": {"net": (0.0, 0.0), "epochs": 3},
    "huge negative bias": {"net": (1.0, -100.0), "epochs": 3},
    "shuffled labels": {"shuffled": True},
}


@pytest.mark.parametrize("name", TRAININGS)
def test_rules_agree_on_what_was_saved_and_on_what_was_measured_d2_3_d3(name, tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "EVERY", 1)  # else the measurements are of fewer steps than the tensors
    rules = [
        *choose_rules("default", "class_imbalance_samples=200"),
        *choose_rules("all_zero", "all_zero_collection_names=weights"),
        *choose_rules("tensor_variance", "tensor_variance_tensor_regex=relu_input;tensor_variance_max_threshold=1e4"),
    ]
    recipe = dict(TRAININGS[name])
    torch.manual_seed(0)
    net = Small(*recipe.pop("net", ()))
    measured = Recorder(needs_of(rules))
    fit([measured, TensorHook(EVERY_STEP, tmp_path / "tensors")], net, **recipe)
    on_disk = judge(rules, read_trial(tmp_path / "tensors"), ended=True, asked_for=True)
    in_process = judge(rules, measured.measurements(ended=True), ended=True, asked_for=True)
    for saved, live in zip(on_disk.results, in_process.results, strict=True):
        assert (saved.rule, saved.status) == (live.rule, live.status), (saved, live)
        later = saved.rule == "weight_update_ratio"  # what was saved shows a change at the step after it
        saved_steps = {one.step - later for one in saved.findings if one.evidence.get("mode") != "EVAL"}
        live_steps = {finding.step for finding in live.findings}
        assert saved_steps - live_steps == set()
    expected = {"healthy": 0, "shuffled labels": 1}.get(name, 2)
    assert sum(result.status == "IssuesFound" for result in in_process.results) >= expected
    if name == "healthy":
        assert {result.status for result in in_process.results} == {"NoIssuesFound"}


def test_a_hook_saves_what_the_configuration_says_d2_1_d2_2(tmp_path):
    losses = {"CollectionName": "losses", "CollectionParameters": {"train.save_interval": "4"}}
    custom = {"CollectionName": "relu_output", "CollectionParameters": None}
    config = {"HookParameters": {"train.save_interval": "8"}, "CollectionConfigurations": [losses, custom]}
    fit([TensorHook(config, tmp_path / "tensors")], Small())
    trial = read_trial(tmp_path / "tensors")
    steps = {(one.name, one.mode): list(one.global_steps) for one in trial.series}
    assert steps["CrossEntropyLoss_output_0", "TRAIN"] == [0, 4, 8, 12, 16]
    assert steps["layers.1_relu_output_0", "TRAIN"] == [0, 8, 16]
    assert steps["layers.3_relu_output_0", "EVAL"] == [0]
    assert not any("weight" in name for name, _ in steps)
    assert trial.ended
    with pytest.raises(TrialError, match="holds tensors of an earlier training"):
        TensorHook(config, tmp_path / "tensors")


def test_a_job_saves_tensors_that_the_command_can_judge_d2_1_d2_3(train, colour_images, alone):
    job = train(colour_images, debugger="on", **TWO_PHASES)
    assert job.model == alone
    trial = read_trial(job.tensors)
    names = {(one.name, one.mode) for one in trial.series}
    assert {("gradient/Sequential_0.weight", "TRAIN"), ("1_relu_output_0", "TRAIN"), ("labels", "EVAL")} <= names
    judgement = judge(choose_rules("default", ""), trial, ended=trial.ended, asked_for=False)
    assert {"vanishing_gradient", "exploding_tensor", "dead_relu"} <= {one.rule for one in judgement.results} | set(
        judgement.left_out
    )


def test_the_configuration_may_lie_elsewhere_d2_1(train, colour_images, tmp_path, monkeypatch):
    config = {"LocalPath": str(tmp_path / "here"), "CollectionConfigurations": [{"CollectionName": "losses"}]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("SMDEBUG_CONFIG_FILE_PATH", str(tmp_path / "config.json"))
    train(colour_images)
    names = {series.name for series in read_trial(tmp_path / "here").series}
    assert names == {"CrossEntropyLoss_output_0", "labels", "predictions"}
    train(colour_images, debugger="off")
    assert not (tmp_path / "job" / "ml").exists()


def fail_at_import(monkeypatch, folder):
    for name in [name for name in sys.modules if name.split(".")[0] == "smdebug"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "smdebug.pytorch", None)


def fail_midway(monkeypatch, folder):
    from smdebug.core.tfevent.events_writer import EventsWriter

    def full(writer, event):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(EventsWriter, "write_event", full)


def fail_inside_the_network(monkeypatch, folder):
    monkeypatch.setattr(TensorHook, "_save", None)


def write_nonsense(monkeypatch, folder):
    folder.mkdir(parents=True)
    (folder / "debughookconfig.json").write_text('{"LocalPath": ')


def write_odd_members(monkeypatch, folder):
    folder.mkdir(parents=True)
    (folder / "debughookconfig.json").write_text(json.dumps({"CollectionConfigurations": [{"Name": "losses"}]}))


def name_a_file(monkeypatch, folder):
    folder.mkdir(parents=True)
    (folder / "file").touch()
    config = {"LocalPath": str(folder / "file" / "tensors")}
    (folder / "debughookconfig.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "what_fails",
    [fail_at_import, fail_midway, fail_inside_the_network, write_nonsense, write_odd_members, name_a_file],
)
def test_tensors_that_cannot_be_saved_are_one_warning_and_the_same_model_d2_1(
    train, colour_images, alone, tmp_path, monkeypatch, what_fails
):
    what_fails(monkeypatch, tmp_path / "job" / "ml" / "input" / "config")
    job = train(colour_images, debugger="measure" if (tmp_path / "job" / "ml").exists() else "on", **TWO_PHASES)
    assert job.model == alone
    assert sum("goes on without" in line for line in job.lines) == 1
    assert statuses(job)["exploding_tensor"] == "NoIssuesFound"  # our own measurements go on
