"""Searches that begin with what their parents found: in what they may differ from them."""

import copy

import pytest

from kennel_cli.platforms.warm_start import difference, parents_of
from tests.player.tuning.requests import CONFIG, DEFINITION, both, put, setting, statics, without


def child_of(parent, kind="TransferLearning"):
    child = copy.deepcopy(parent)
    child["WarmStartConfig"] = {
        "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "dogs"}],
        "WarmStartType": kind,
    }
    return child


def test_parents_are_found_by_name_b10(request_):
    assert parents_of(request_) == []
    assert parents_of(child_of(request_)) == ["dogs"]


@pytest.mark.parametrize(
    "change",
    [
        lambda request: None,
        setting(CONFIG, "ParameterRanges", "ContinuousParameterRanges", 0, "MaxValue", "0.01"),
        setting(DEFINITION, "StaticHyperParameters", "epochs", "8"),
        setting(CONFIG, "Strategy", "Random"),
        both(  # a hyperparameter that was static is tuned
            without(DEFINITION, "StaticHyperParameters", "epochs"),
            setting(
                CONFIG,
                "ParameterRanges",
                "IntegerParameterRanges",
                [{"Name": "epochs", "MinValue": "1", "MaxValue": "9"}],
            ),
        ),
    ],
)
def test_a_search_may_differ_from_its_parent_in_ranges_and_some_static_values_b10(request_, change):
    child = child_of(request_, "IdenticalDataAndAlgorithm")
    change(child)
    assert difference(request_, child) == ""


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (setting(CONFIG, "HyperParameterTuningJobObjective", "MetricName", "valid_loss"), "has the objective"),
        (setting(CONFIG, "HyperParameterTuningJobObjective", "Type", "Minimize"), "has the objective"),
        (setting(DEFINITION, "StaticHyperParameters", "seed", "1"), "has other hyperparameters (seed)"),
        (without(DEFINITION, "StaticHyperParameters", "epochs"), "has other hyperparameters (epochs)"),
        (setting(DEFINITION, "InputDataConfig", 0, "ChannelName", "train"), "has other data or another image"),
        (setting(DEFINITION, "AlgorithmSpecification", "TrainingImage", "other"), "has other data or another image"),
    ],
)
def test_a_search_that_differs_too_much_from_its_parent_is_told_in_what_b10(request_, change, complaint):
    child = child_of(request_, "IdenticalDataAndAlgorithm")
    change(child)
    assert complaint in difference(request_, child)


def test_other_data_may_be_learned_from_with_transfer_learning_b10(request_):
    child = child_of(request_)
    put(child, DEFINITION, "InputDataConfig", 0, "ChannelName", "train")
    assert difference(request_, child) == ""


def test_ten_static_values_may_be_others_than_a_parents_b10(request_):
    statics(12)(request_)
    child = child_of(request_)
    for number in range(10):
        put(child, DEFINITION, "StaticHyperParameters", f"s{number}", "2")
    assert difference(request_, child) == ""
    put(child, DEFINITION, "StaticHyperParameters", "s10", "2")
    assert difference(request_, child) == "differs in 11 static hyperparameters; 10 are the most"
