"""What the rules said of a job, on its page: read as a browser would."""

import json
import math

import pytest

from kennel.debugger.choice import choose_rules
from kennel.debugger.measures import Summary, UpdateRatio
from kennel.debugger.series import Measurements, Mode, RecordedSeries
from kennel.debugger.verdicts import Verdicts
from kennel.errors import ReportError
from kennel.report.job_page import write_job_page
from tests.job_output import write_job_output
from tests.pages import Page, shapes
from tests.profiler.recorded import write_profile

EVIL = "</script><script>alert(1)</script>\"'&<b>\x00\x1b"
PROFILED = {
    "rule": "CPUBottleneck",
    "parameters": {"threshold": 50.0, "window": None},
    "status": "IssuesFound",
    "reason": "",
    "findings": [{"step": 7, "message": EVIL, "evidence": {}, "advice": "num_workers 0 → 2", "curves": [0]}],
    "curves": [{"name": "CPU 0", "quantity": EVIL, "points": [[1, 2.0], [2, "nan"], [3, 5.0]], "thresholds": [90.0]}],
}


def series(name, values, mode=Mode.TRAIN, at=None):
    steps = dict(enumerate(at or range(len(values))))
    return RecordedSeries(name, mode, steps, {step: Summary(mean=value) for step, value in enumerate(values)})


def judged(folder, measured, rules="overfit,weight_update_ratio,class_imbalance,all_zero", problem=""):
    """Let the debugger write its file."""
    told = []
    Verdicts(choose_rules(rules, ""), True, folder, told.append).give(measured, problem)
    return told


def profiled(folder, result, left_out):
    """Write a profile of which a rule said this."""
    profile = {**write_profile(folder), "rules": [result], "left_out": left_out}
    (folder / "profiler.json").write_text(json.dumps(profile))


@pytest.fixture
def folder(tmp_path):
    """A job in which the weights jump, and the validation loss rises from epoch to epoch."""
    folder = write_job_output(tmp_path / "job")
    loss = "CrossEntropyLoss_output_0"
    weights = RecordedSeries("Net_0.weight", Mode.TRAIN, {step: 3 * (step // 2) + step % 2 for step in range(40)})
    for step in range(40):
        weights.measured[step, UpdateRatio(None, 1e-9)] = 10.0 ** (step / 10) if step else math.inf
    measured = [
        series(loss, [1.0] * 40, Mode.TRAIN, [3 * (step // 2) + step % 2 for step in range(40)]),
        series(loss, [1.0 + step / 10 for step in range(20)], Mode.EVAL, [3 * step + 2 for step in range(20)]),
        weights,
    ]
    assert judged(folder, Measurements(measured, ended=False)) == ["overfit", "weight_update_ratio"]
    assert judged(folder, Measurements(measured)) == []  # nothing is left that could be stopped
    return folder


def page_of(folder):
    return Page(write_job_page(folder).read_text(encoding="utf-8"))


def test_findings_stand_on_the_page_with_what_to_try_and_the_curves_they_rest_on(folder):
    page = page_of(folder)
    assert page.says("overfit 19 times Step 3: validation loss 1.1 is 10 % above training loss 1.")
    assert page.says("Step 39, the last time: validation loss 2.9 is 190 % above training loss 1.")
    assert page.says("What to try: more images, stronger augment")
    losses = page.chart("loss: training, validation")
    assert [line.get("class") for line in shapes(losses, "line")] == ["line train", "line valid"]
    assert "first at step 3" in page.text
    ratio = page.chart("the change, as a share of the weights: Net_0.weight (TRAIN)")
    (threshold,) = shapes(ratio, "threshold")[:1]
    assert "threshold 10" in "".join(threshold.itertext())  # and not 1e-8, which no value comes near
    assert {"10", "100", "1000"} <= {text.text for text in ratio.iter() if text.tag.endswith("text")}


def test_all_rules_are_in_one_table_whoever_judged(folder):
    profiled(folder, PROFILED, {"BatchSize": "no GPU"})
    page = page_of(folder)
    rows = {cells[0]: cells for cells in page.rows() if len(cells) == 5}
    assert rows["overfit"][1:3] == ["found something", "19"]
    assert "ratio_threshold 0.1" in rows["overfit"][4]
    assert rows["class_imbalance"][1] == "could not judge"
    assert "no labels were saved" in rows["class_imbalance"][3]
    assert rows["CPUBottleneck"][3] == "num_workers 0 → 2"
    assert "window" not in rows["CPUBottleneck"][4]
    assert rows["BatchSize"][1:4] == ["left out", "", "no GPU"]
    report = json.loads((folder / "report.json").read_text())
    assert {"rule": "CPUBottleneck", "kind": "profiler", "status": "IssuesFound", "times": 1} in report["rules"]
    assert {"rule": "all_zero", "kind": "debugger", "status": "Error", "times": 0} in report["rules"]


def test_what_a_rule_says_is_no_markup_and_numbers_that_are_none_are_not_drawn(folder):
    profiled(folder, PROFILED, {EVIL: EVIL})
    page = page_of(folder)
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert "nan" not in page.words


def test_what_the_profiler_saw_is_drawn_over_seconds_and_what_the_debugger_saw_over_steps(folder):
    curve = {"name": "GPU 0", "quantity": "per cent", "points": [[1.5, 2.0], [299.0, 3.0]], "thresholds": []}
    finding = {**PROFILED["findings"][0], "step": 200, "message": "is under-used"}
    profiled(folder, {**PROFILED, "findings": [finding], "curves": [curve]}, {})
    page = page_of(folder)
    seconds, steps = (set(page.chart(label).itertext()) for label in ("per cent: GPU 0", "loss: training, validation"))
    assert "seconds" in seconds
    assert not any("step" in text for text in seconds)
    assert "training step" in steps
    assert any(text.startswith("first at step") for text in steps)


def test_why_a_debugger_gave_up_is_said(folder):
    judged(folder, Measurements([]), "overfit", problem="RuntimeError: no more of this")
    assert page_of(folder).says("the debugger gave up: RuntimeError: no more of this")


def test_classes_are_called_by_their_names(folder):
    result = {**PROFILED, "rule": "confusion", "curves": []}
    message = "class 2: 40 % of it recognized; class 7"
    result["findings"] = [{"step": 3, "message": message, "evidence": {}, "advice": "look", "curves": []}]
    (folder / "debugger.json").write_text(json.dumps({"rules": [result], "left_out": {}}))
    assert page_of(folder).says("fox: 40 % of it recognized; class 7")


def test_the_record_of_a_long_training_is_small_and_says_how_often(tmp_path):
    names = [f"Net_{layer}.weight" for layer in range(5)]
    measured = []
    for name in names:
        weights = RecordedSeries(name, Mode.TRAIN, {step: step for step in range(1000)})
        weights.measured = {(step, UpdateRatio(None, 1e-9)): 20.0 + step for step in range(1000)}
        measured.append(weights)
    judged(tmp_path, Measurements(measured), "weight_update_ratio")
    value = json.loads((tmp_path / "debugger.json").read_text())
    (rule,) = value["rules"]
    assert rule["times"] == 1000
    assert [finding["step"] for finding in rule["findings"]] == [*range(10), *range(990, 1000)]
    assert max(len(curve["points"]) for curve in rule["curves"]) <= 250
    assert (tmp_path / "debugger.json").stat().st_size < 200_000


@pytest.mark.parametrize("text", ["{", "[]", '{"rules": []}', '{"rules": [{"rule": "x"}], "left_out": {}}'])
def test_a_record_that_is_none_is_refused_with_its_reason(folder, text):
    (folder / "debugger.json").write_text(text)
    with pytest.raises(ReportError, match="is not the output of a training job"):
        write_job_page(folder)
