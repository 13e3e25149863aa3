"""How much each hyperparameter mattered."""

import math
import random

import pytest

from kennel.tuning.importance import MIN_TRIALS, importances
from kennel.tuning.summary import Trial
from tests.unit.ranges import categorical, continuous, integer


def rated(count, objective, maximize=True):
    """Return trials with evenly spread values, and their objectives."""
    numbers = random.Random(1)
    trials = []
    for number in range(1, count + 1):
        rate, epochs, optimizer = 10 ** numbers.uniform(-5, -1), numbers.randint(5, 20), numbers.choice(["a", "b"])
        values = {"learning_rate": f"{rate:.6g}", "epochs": str(epochs), "optimizer": optimizer}
        value = objective(rate, epochs, optimizer) * (1 if maximize else -1)
        trials.append(Trial(number=number, status="Completed", hyperparameters=values, objective=value))
    return trials


THREE = {**integer(), **continuous(ScalingType="Logarithmic"), **categorical(optimizer=["a", "b"])}


@pytest.mark.parametrize("maximize", [True, False])
def test_what_decides_has_the_largest_share(maximize):
    trials = rated(60, lambda rate, epochs, optimizer: -abs(math.log10(rate) + 3) + epochs / 1000, maximize)
    shares = importances(THREE, trials, maximize)
    assert set(shares) == {"learning_rate", "epochs", "optimizer"}
    assert max(shares, key=shares.get) == "learning_rate"
    assert sum(shares.values()) == pytest.approx(1, abs=0.001)


def test_fewer_than_eight_trials_and_equal_ones_tell_nothing():
    assert importances(THREE, rated(MIN_TRIALS - 1, lambda *values: values[0]), True) == {}
    assert importances(THREE, rated(MIN_TRIALS, lambda *values: 0.5), True) == {}
    assert importances(THREE, rated(MIN_TRIALS, lambda *values: values[0]), True) != {}


def test_failed_trials_do_not_count_for_the_importance():
    trials = rated(MIN_TRIALS, lambda *values: values[0])
    failed = Trial(number=9, status="Failed", hyperparameters=trials[0].hyperparameters, objective=0.1)
    assert importances(THREE, [*trials[1:], failed], True) == {}


def test_one_hyperparameter_has_it_all():
    assert importances(integer(), rated(MIN_TRIALS, lambda *values: values[0]), True) == {"epochs": 1.0}


def test_a_range_of_one_value_has_no_share():
    ranges = {**continuous(ScalingType="Logarithmic"), **integer(low="7", high="7")}
    trials = [
        Trial(t.number, "Completed", {**t.hyperparameters, "epochs": "7"}, objective=t.objective)
        for t in rated(20, lambda *values: values[0])
    ]
    assert importances(ranges, trials, True) == {"learning_rate": 1.0, "epochs": 0.0}
