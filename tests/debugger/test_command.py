"""The command `kennel debug`."""

import json
import shutil
import sys

import pytest
from typer.testing import CliRunner

from kennel_cli.cli import app


@pytest.fixture
def kennel(monkeypatch):
    monkeypatch.setattr("kennel_cli.debug.console.width", 200, raising=False)
    return lambda *words: CliRunner().invoke(app, ["debug", *map(str, words)])


def test_a_healthy_training_is_no_issue_and_what_was_not_judged_is_said(kennel, trials):
    result = kennel(trials("healthy"))
    assert result.exit_code == 0, result.output
    assert "vanishing_gradient" in result.output
    assert "NoIssuesFound" in result.output
    assert "left out: saturated_activation: no tanh or sigmoid inputs were saved" in result.output


def test_issues_are_told_with_the_step_and_what_to_try(kennel, trials):
    result = kennel(trials("huge negative bias"), "--rule", "dead_relu", "--rule", "vanishing_gradient:threshold=0")
    assert result.exit_code == 1, result.output
    assert "IssuesFound" in result.output
    assert "dead ReLUs" in result.output
    assert "learning_rate" in result.output


def test_json_holds_every_finding_and_each_curve_once(kennel, trials):
    result = kennel(trials("learning rate of 1e3"), "--json")
    assert result.exit_code == 1

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    report = json.loads(result.stdout, parse_constant=refuse)
    rules = {rule["rule"]: rule for rule in report["rules"]}
    ratio = rules["weight_update_ratio"]
    assert ratio["status"] == "IssuesFound"
    assert ratio["parameters"]["large_threshold"] == 10.0
    assert ratio["findings"][0]["evidence"]["value"] > 10
    assert len(ratio["curves"]) <= 3
    assert report["left_out"]["all_zero"]


def test_a_training_that_still_runs_is_in_progress(kennel, trials, tmp_path):
    running = shutil.copytree(trials("healthy"), tmp_path / "running")
    (running / "training_job_end.ts").unlink()
    result = kennel(running, "--rule", "overfit")
    assert result.exit_code == 0, result.output
    assert "InProgress" in result.output


def test_two_trainings_are_compared(kennel, trials):
    result = kennel(trials("healthy"), "--other", trials("healthy, another seed"), "--rule", "similar_across_runs")
    assert result.exit_code == 1, result.output
    other = f"similar_across_runs:other_trials={trials('healthy')}"
    assert kennel(trials("healthy"), "--rule", other).exit_code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--rule", "deadrelu"], "there is no rule deadrelu; known are: vanishing_gradient"),
        (["--rule", "all_zero"], "it wants collection_names or tensor_regex"),
    ],
)
def test_what_cannot_be_judged_is_an_error(kennel, trials, words, says):
    result = kennel(trials("healthy"), *words)
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())


def test_a_folder_without_a_trial_is_an_error_of_one_line(kennel, tmp_path):
    result = kennel(tmp_path)
    assert result.exit_code == 2
    assert result.stderr.startswith("kennel: ")
    assert result.stderr.count("\n") == 1


def test_a_folder_that_may_not_be_read_is_an_error_of_one_line(kennel, tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("kennel.debugger.trial.read_trial", refuse)
    result = kennel(tmp_path)
    assert (result.exit_code, result.stderr) == (2, f"kennel: {tmp_path}: Permission denied\n")


def test_the_light_client_says_what_to_install(kennel, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kennel.judging.judge", None)
    result = kennel(tmp_path)
    assert result.exit_code == 2
    assert "`kennel debug` needs the packages of the image" in result.stderr
