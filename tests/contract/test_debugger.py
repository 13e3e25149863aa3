"""The debugger inside the real `train`: statuses, tensors and refusals, by a job's hyperparameters and files."""

import json
from typing import Any

import pytest

from kennel_cli.cli import app
from tests.contract.box import SMALL_JOB, Box

SCRATCH = {**SMALL_JOB, "weights": "none", "epochs": "50", "batch_size": "12"}
STOPPING = {"rules": "vanishing_gradient,exploding_tensor", "rule_action": "stop_training"}


def test_a_rule_stops_a_job_that_saves_its_tensors_a2_11_d2_1_d2_7_d3(
    box: Box, colour_images: Any, capsys: Any
) -> None:
    always = {"rule_vanishing_gradient_threshold": "1000", "rule_vanishing_gradient_biases": '"true"'}
    box.prepare({**SCRATCH, **STOPPING, **always}, training=colour_images)
    box.config("debughookconfig.json", {"LocalPath": "/opt/ml/output/tensors/of-this-job"})
    assert box.train() == 0, box.log
    assert "rule=vanishing_gradient; status=IssuesFound; findings=2; step=0; " in box.log
    assert "stopped on rule vanishing_gradient: epoch 1 is saved as the model, the test is left out" in box.log
    assert (box.tree / "model" / "model.safetensors").exists()
    record = json.loads((box.tree / "output/data/debugger.json").read_text())
    assert {rule["rule"]: rule["status"] for rule in record["rules"]} == {
        "vanishing_gradient": "IssuesFound",
        "exploding_tensor": "NoIssuesFound",
    }
    assert record["rules"][0]["parameters"] == {"threshold": 1000.0, "biases": True}
    report = json.loads((box.tree / "output/data/report.json").read_text())
    assert [rule["status"] for rule in report["rules"]] == ["IssuesFound", "NoIssuesFound"]
    assert "vanishing_gradient_threshold=1000" in report["command"]
    tensors = box.tree / "output/tensors/of-this-job"
    with pytest.raises(SystemExit) as ended:
        app(["debug", str(tensors), "--rule", "exploding_tensor", "--json"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["rules"][0]["status"] == "NoIssuesFound"


def test_a_bad_rule_is_the_jobs_one_sentence_a1_5(box: Box, colour_images: Any) -> None:
    box.prepare({**SCRATCH, "rules": "deadrelu"}, training=colour_images)
    assert box.train() == 1
    assert box.failure.startswith("rules: there is no rule deadrelu; known are: vanishing_gradient")
    assert "start device" not in box.log
