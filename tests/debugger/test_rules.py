"""Every rule fires on a training made wrong on purpose and stays silent on a healthy one (contract D3)."""

import dataclasses
import functools
import json

import pytest

from kennel.debugger.measures import InactiveNodes, LayerVariance, Summary, UpdateRatio, summarize
from kennel.debugger.rules import RULES
from kennel.debugger.series import RecordedSeries
from kennel.debugger.trial import read_trial
from kennel.errors import NothingToJudge
from kennel.judging.judge import judge

HEALTHY = "healthy"
CONFORMANCE = [  # rule, a training made wrong, what the rule says of it, the healthy training
    ("vanishing_gradient", "sigmoids", "below 1e-07", HEALTHY),
    ("exploding_tensor", "learning rate of 1e3", "the count of NaN and infinities", HEALTHY),
    ("exploding_tensor:only_nan=True", "learning rate of 1e3", "the count of NaN of", HEALTHY),
    ("poor_weight_initialization", "weights of a ten-thousandth", "variance of inputs is", HEALTHY),
    ("poor_weight_initialization", "weights of zero", "inputs of all layers have no variance", HEALTHY),
    ("poor_weight_initialization", "sigmoids", "as a share of the median layer, below 0.001", HEALTHY),
    ("dead_relu", "huge negative bias", "the percentage of dead ReLUs of block0.relu_output_0 is 100", HEALTHY),
    ("saturated_activation", "tanh of huge inputs", "saturated nodes of block0.tanh_input_0", "healthy with tanh"),
    ("weight_update_ratio", "learning rate of 1e3", "not within 1e-08 and 10", HEALTHY),
    ("weight_update_ratio:patience=10", "learning rate of 0", "is 0, not within", HEALTHY),
    ("weight_update_ratio:patience=10", "huge negative bias", "is 0, not within", "healthy with a frozen layer"),
    ("all_zero:tensor_regex=.*relu_output", "huge negative bias", "the percentage of zeros", HEALTHY),
    ("class_imbalance", "one class", "labels are of class 1", HEALTHY),
    ("class_imbalance", "one rare class", "class 2 has", HEALTHY),
    ("loss_not_decreasing:mode=TRAIN", "learning rate of 0", "fell by 0 % only", HEALTHY),
    ("loss_not_decreasing", "learning rate of 1e3", "is no number any more", HEALTHY),
    ("overfit", "twelve images", "% above training loss", HEALTHY),
    ("overtraining", "twelve images", "5 evaluations before", HEALTHY),
    ("tensor_variance:collection_names=weights,min_threshold=1e-6", "weights of zero", "the variance of", HEALTHY),
    ("unchanged_tensor:collection_names=weights", "learning rate of 0", "without a change of", HEALTHY),
    ("stalled_training_rule", "a night between two steps", "nothing was saved for 28,800 seconds", HEALTHY),
    ("confusion", "shuffled labels", "recognized", HEALTHY),
    ("check_input_images:regex=Sequential_input_0", "brighter images", "farther than 0.2 from zero", HEALTHY),
]


@functools.cache
def read(folder):
    return read_trial(folder)


def findings(text, measured):
    return list(RULES.parse(text).check(measured))


@pytest.mark.parametrize(("rule", "wrong", "says", "healthy"), CONFORMANCE)
def test_a_rule_fires_on_a_training_made_wrong_and_is_silent_on_a_healthy_one_d3(trials, rule, wrong, says, healthy):
    found = findings(rule, read(trials(wrong)))
    assert found, f"{rule} said nothing of {wrong}"
    assert any(says in finding.message for finding in found), [finding.message for finding in found]
    assert all(finding.advice and json.dumps(dict(finding.evidence)) for finding in found)
    assert not findings(rule, read(trials(healthy)))


def test_trainings_with_another_seed_are_not_similar_and_a_training_is_to_itself_d3(trials):
    healthy = read(trials(HEALTHY))
    other = dataclasses.replace(healthy, others={"DIR": read(trials("healthy, another seed"))})
    (first, *_) = findings("similar_across_runs:collection_names=weights", other)
    assert first.step == 0
    assert "from the same tensor in DIR" in first.message
    assert not findings("similar_across_runs", dataclasses.replace(healthy, others={"DIR": healthy}))
    with pytest.raises(NothingToJudge, match="--other DIR"):
        findings("similar_across_runs", healthy)


def test_every_rule_has_its_place_in_the_conformance_suite():
    assert {text.partition(":")[0] for text, *_ in CONFORMANCE} | {"similar_across_runs"} == set(RULES)


@pytest.mark.parametrize("training", ["healthy", "healthy, another seed", "healthy with tanh"])
def test_no_rule_finds_anything_in_a_healthy_training(trials, training):
    judgement = judge([rule() for rule in RULES.values()], read(trials(training)), ended=True, asked_for=False)
    assert {result.rule: result.status for result in judgement.results} == dict.fromkeys(
        (result.rule for result in judgement.results), "NoIssuesFound"
    )
    assert len(judgement.results) >= 10
    assert judgement.results or judgement.left_out


def test_rules_that_lack_their_tensors_are_left_out_and_say_which(trials):
    judgement = judge([rule() for rule in RULES.values()], read(trials(HEALTHY)), ended=True, asked_for=False)
    assert "no tanh or sigmoid inputs were saved" in judgement.left_out["saturated_activation"]
    assert judgement.left_out["all_zero"] == "it wants collection_names or tensor_regex"
    assert judgement.left_out["check_input_images"].endswith("give regex=Sequential_input_0")


def test_a_training_that_never_told_its_modes_is_judged_as_far_as_that_goes(trials):
    rules = [rule() for rule in RULES.values()]
    judgement = judge(rules, read(trials("healthy, without modes")), ended=True, asked_for=False)
    assert "no losses of mode TRAIN were saved" in judgement.left_out["overfit"]
    assert {result.status for result in judgement.results} == {"NoIssuesFound"}
    judged = {result.rule for result in judgement.results}
    assert {"weight_update_ratio", "loss_not_decreasing", "class_imbalance", "confusion"} <= judged


def test_reductions_are_enough_for_the_rules_whose_numbers_were_saved(trials):
    judgement = judge(
        [rule() for rule in RULES.values()], read(trials("healthy, only reductions")), ended=True, asked_for=False
    )
    judged = {result.rule for result in judgement.results}
    assert {"vanishing_gradient", "exploding_tensor", "loss_not_decreasing", "overfit"} <= judged
    assert "only reductions of" in judgement.left_out["dead_relu"]
    assert "nor its variance was saved" in judgement.left_out["poor_weight_initialization"]


MEASURES = InactiveNodes(0.0, float("inf"), 1.0), InactiveNodes(-23.0, 16.99999, 1.0), LayerVariance()


def recorded(series):
    """What a hook that knows the rules would keep of a series of whole tensors."""
    taken = RecordedSeries(series.name, series.mode, dict(series.global_steps))
    previous = None
    for step in series.global_steps:
        tensor = series.tensor(step)
        taken.summaries[step] = summarize(tensor)
        for measure in MEASURES:
            taken.measured[step, measure] = measure(tensor)
        ratio = UpdateRatio(None, 1e-9)
        taken.measured[step, ratio] = None if previous is None else ratio.compare(previous, tensor)
        previous = tensor
        if series.name in ("labels", "predictions"):
            taken.tensors[step] = tensor
    return taken


@pytest.mark.parametrize("training", ["healthy", "learning rate of 1e3", "sigmoids", "weights of zero"])
def test_rules_say_the_same_of_tensors_on_disk_and_of_measurements_in_process(trials, training):
    stored = read(trials(training))
    kept = dataclasses.replace(stored, series=[recorded(series) for series in stored.series])
    rules = [rule() for rule in RULES.values()]
    on_disk, in_process = (judge(rules, measured, ended=True, asked_for=False) for measured in (stored, kept))
    assert repr(on_disk.results) == repr(in_process.results)  # NaN equals itself in text only
    assert on_disk.left_out == in_process.left_out


def test_numbers_that_were_not_measured_leave_the_rule_out():
    series = RecordedSeries("gradient/a", "TRAIN", {0: 0}, {0: Summary(mean=1.0)})
    with pytest.raises(NothingToJudge, match="neither gradient/a nor its mean_abs"):
        series.number(0, "mean_abs")
    with pytest.raises(NothingToJudge, match="UpdateRatio of gradient/a was not measured at step 0"):
        series.compare(0, UpdateRatio(None, 1e-9))
    with pytest.raises(NothingToJudge, match="not kept"):
        series.tensor(0)
