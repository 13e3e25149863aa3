"""The debugger inside the real `train`: statuses, tensors and refusals, by a job's hyperparameters and files."""

import json
import subprocess
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
    ours = [rule["status"] for rule in report["rules"] if rule["kind"] == "debugger"]
    assert ours == ["IssuesFound", "NoIssuesFound"]
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


@pytest.fixture
def small_disk(tmp_path: Any) -> Any:
    """A file system of its own that holds next to nothing."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.process_only
def test_a_full_disk_for_what_watches_harms_no_job_d2_1_d2_4(
    box: Box, colour_images: Any, small_disk: Any, tmp_path: Any
) -> None:
    watched = Box(box.runner, tmp_path / "watched")
    for one in (box, watched):
        one.prepare({**SCRATCH, "epochs": "3", "profile_start_step": "2"}, training=colour_images)
    watched.config("debughookconfig.json", {"LocalPath": str(small_disk), "HookParameters": {"save_interval": "1"}})
    watched.config("profilerconfig.json", {"LocalPath": str(small_disk)})
    assert [box.train(), watched.train()] == [0, 0], watched.log
    models = [(one.tree / "model" / "model.safetensors").read_bytes() for one in (box, watched)]
    assert models[0] == models[1]
    assert "No space left on device" in watched.log
    assert json.loads((watched.tree / "output/data/debugger.json").read_text())["rules"]
