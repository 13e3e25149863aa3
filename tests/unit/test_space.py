"""The space of a search: its ranges, their scales, and the texts that trials get."""

import pytest

from kennel.errors import SearchError
from kennel.tuning.space import Parameter, describe_ranges, parse_ranges, resources
from tests.unit.ranges import MIXED, categorical, continuous, integer


@pytest.mark.parametrize(
    ("ranges", "complaint"),
    [
        (integer(low="9", high="5"), "epochs: the smallest value 9 is above the largest, 5"),
        (integer(low="1.5"), "epochs: MinValue is 1.5; an integer range has whole numbers"),
        (integer(high="many"), "epochs: MaxValue is 'many'; it should be a number"),
        (continuous(high="inf"), "learning_rate: MaxValue is inf; it should be finite"),
        (continuous(low="nan"), "learning_rate: MinValue is nan; it should be finite"),
        (continuous(low="0", ScalingType="Logarithmic"), "learning_rate: a logarithmic range begins above 0, not at 0"),
        (integer(low="0", ScalingType="Logarithmic"), "epochs: a logarithmic range begins above 0, not at 0"),
        (integer(ScalingType="ReverseLogarithmic"), "epochs: ReverseLogarithmic is for continuous ranges"),
        (continuous(high="1", ScalingType="ReverseLogarithmic"), "lies within 0 ≤ x < 1, not 1e-05 to 1"),
        (continuous(low="-0.1", ScalingType="ReverseLogarithmic"), "lies within 0 ≤ x < 1, not -0.1 to 0.1"),
        (categorical(optimizer=[]), "optimizer: has 0 values; 1 to 30 are allowed"),
        (categorical(optimizer=[str(n) for n in range(31)]), "optimizer: has 31 values; 1 to 30 are allowed"),
        (categorical(optimizer=["adam", "sgd", "adam"]), "optimizer: names a value twice"),
        ({**integer("x"), **categorical(x=["1"])}, "x: has 2 ranges; give it one"),
        (categorical(**{f"p{n}": ["1"] for n in range(31)}), "31 hyperparameters are tuned; 30 are the most"),
    ],
)
def test_a_range_that_the_service_refuses_is_refused_with_its_name_b2(ranges, complaint):
    with pytest.raises(SearchError) as caught:
        parse_ranges(ranges)
    assert complaint in str(caught.value)


def test_one_message_lists_all_bad_ranges():
    with pytest.raises(SearchError) as caught:
        parse_ranges({**integer(low="9", high="5"), **continuous(low="no"), **categorical(optimizer=["a", "a"])})
    assert str(caught.value).count("\n") == 3


def test_the_limits_themselves_are_allowed_b2():
    values = [str(n) for n in range(30)]
    assert len(parse_ranges(categorical(**{f"p{n}": values for n in range(30)}))) == 30


@pytest.mark.parametrize(
    ("low", "high", "scaling"),
    [("0.001", "0.1", "Logarithmic"), ("0.002", "0.1", "Linear"), ("0", "1000", "Linear"), ("-5", "5", "Linear")],
)
def test_auto_is_logarithmic_where_the_ends_are_far_apart_b2(low, high, scaling):
    for given in ({}, {"ScalingType": "Auto"}):
        assert parse_ranges(continuous(low=low, high=high, **given))[0].scaling == scaling


def test_ranges_are_described_in_short():
    assert describe_ranges(MIXED) == {
        "epochs": {"low": 5.0, "high": 20.0, "scaling": "Linear"},
        "learning_rate": {"low": 1e-5, "high": 0.1, "scaling": "Logarithmic"},
        "optimizer": {"choices": ["adam", "adamw"]},
        "batch_size": {"choices": ["32", "64"]},
    }


@pytest.mark.parametrize("text", ["0.0", "0.5", "0.9", "0.999", "0.99999876", "0.9999999"])
def test_a_reverse_logarithmic_value_comes_back_from_its_axis_b2(text):
    [momentum] = parse_ranges(continuous("momentum", "0", "0.9999999", ScalingType="ReverseLogarithmic"))
    assert momentum.at(momentum.coordinate(text)) == text
    assert momentum.coordinate(text) == pytest.approx(1 - float(text), rel=1e-5)


@pytest.mark.parametrize(
    ("parameter", "value", "text"),
    [
        (Parameter("epochs", "Integer", 1, 20), 7.0, "7"),
        (Parameter("lr", "Continuous", 1e-5, 0.1, "Logarithmic"), 1e-5, "1e-05"),
        (Parameter("lr", "Continuous", 1e-5, 0.1, "Logarithmic"), 0.012345678, "0.0123457"),
        (Parameter("lr", "Continuous", 0.12345632, 0.2), 0.12345632, "0.12345632"),  # six digits lie outside
    ],
)
def test_numbers_are_text_and_never_leave_their_range_b4(parameter, value, text):
    assert parameter.text(value) == text


@pytest.mark.parametrize(
    ("parameter", "given", "nearest"),
    [
        (Parameter("epochs", "Integer", 5, 20), "2", "5"),
        (Parameter("epochs", "Integer", 5, 20), "99", "20"),
        (Parameter("epochs", "Integer", 5, 20), "7.9", "8"),
        (Parameter("lr", "Continuous", 0.1, 0.5), "0.3", "0.3"),
        (Parameter("lr", "Continuous", 0.1, 0.5), "1", "0.5"),
        (Parameter("lr", "Continuous", 0.1, 0.5), "auto", None),
        (Parameter("o", "Categorical", values=("a", "b")), "b", "b"),
        (Parameter("o", "Categorical", values=("a", "b")), "c", None),
    ],
)
def test_the_nearest_value_of_a_range_is_found(parameter, given, nearest):
    assert parameter.nearest(given) == nearest


@pytest.mark.parametrize("name", ["epochs", "numepochs", "n-epochs", "n_epochs", "num_epochs"])
def test_hyperband_takes_the_static_number_of_epochs_b8(name):
    assert resources({}, {name: "27"}) == (1, 27)


def test_hyperband_takes_its_own_resources_first_b8():
    given = {"StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 2, "MaxResource": 8}}}
    assert resources(given, {"epochs": "27"}) == (2, 8)


@pytest.mark.parametrize(
    ("least", "static", "complaint"),
    [(1, {}, "Hyperband needs MaxResource, or a static"), (9, {"epochs": "4"}, "MinResource 9 is above the 4 epochs")],
)
def test_hyperband_without_a_length_is_refused_b8(least, static, complaint):
    with pytest.raises(SearchError, match=complaint):
        resources({"StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": least}}}, static)
