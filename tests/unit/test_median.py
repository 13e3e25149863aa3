"""The median rule, and the curves that it compares."""

import pytest

from kennel.metrics import metric_curve, metric_definitions, metric_line
from kennel.tuning.median import is_hopeless

OTHERS = [[0.2, 0.4, 0.9], [0.4, 0.6, 0.8], [0.6, 0.8, 0.7]]  # averages: 0.2 0.3 0.5, 0.4 0.5 0.6, 0.6 0.7 0.7


@pytest.mark.parametrize(
    ("curve", "maximize", "hopeless"),
    [
        ([0.39], True, True),
        ([0.4], True, False),
        ([0.41], False, True),
        ([0.4], False, False),
        ([0.9, 0.49], True, True),  # what counts is the last value, not its own average
        ([0.1, 0.51], True, False),
        ([0.1, 0.51], False, True),
        ([0.1, 0.1, 0.59], True, True),
        ([0.1, 0.1, 0.61], True, False),
        ([0.1, 0.1, 0.1, 0.1], True, False),  # no other came so far
        ([], True, False),
    ],
)
def test_the_last_value_is_compared_with_the_median_of_the_running_averages_b7(curve, maximize, hopeless):
    assert is_hopeless(curve, OTHERS, maximize) is hopeless


def test_fewer_than_three_others_that_came_so_far_say_nothing_b7():
    assert not is_hopeless([0.0, 0.0], [[0.9, 0.9], [0.9, 0.9], [0.9]], maximize=True)
    assert is_hopeless([0.0, 0.0], [[0.9, 0.9], [0.9, 0.9], [0.9, 0.9]], maximize=True)


def test_a_curve_has_one_value_an_epoch_and_not_the_last_line_b7():
    lines = [
        "start device=cpu",
        metric_line("epoch=1", {"valid_loss": 0.9, "valid_accuracy": 0.5}),
        metric_line("epoch=2", {"valid_loss": 0.8, "valid_accuracy": 0.7}),
        metric_line("best_epoch=2;", {"valid_accuracy": 0.7}),
    ]
    regexes = {definition["Name"]: definition["Regex"] for definition in metric_definitions()}
    assert metric_curve(lines, regexes["valid_accuracy"]) == [0.5, 0.7]
    assert metric_curve(lines, "no group") == metric_curve(lines, "(") == []
