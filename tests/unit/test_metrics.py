import re

import pytest

from kennel.metrics import METRICS, final_metrics, metric_definitions, metric_line


def test_an_epoch_line_is_plain_text_with_four_decimals():
    line = metric_line("epoch=3", {"train_loss": 0.41213, "valid_accuracy": 1.0})
    assert line == "epoch=3 train_loss=0.4121; valid_accuracy=1.0000;"


def test_a_loss_that_rounds_to_zero_has_no_sign():
    assert metric_line("epoch=1", {"test_loss": -1e-9}) == "epoch=1 test_loss=0.0000;"


def test_a_value_that_is_no_number_is_never_printed_b5():
    with pytest.raises(ValueError, match="valid_loss is nan"):
        metric_line("epoch=1", {"valid_loss": float("nan")})


def test_each_definition_finds_its_own_metric_and_no_other_a6_4():
    values = {name: index + 0.5 for index, name in enumerate(METRICS)}
    assert final_metrics([metric_line("epoch=1", values)], metric_definitions()) == values


def test_definitions_keep_the_services_limits_a6_4():
    definitions = metric_definitions()
    assert len(definitions) <= 40
    for definition in definitions:
        assert len(definition["Name"]) <= 255
        assert len(definition["Regex"]) <= 500
        assert re.compile(definition["Regex"]).groups == 1


def test_a_users_definition_that_finds_no_number_is_passed_over():
    definitions = [
        {"Name": "any", "Regex": r"loss=(\S+)"},
        {"Name": "no-group", "Regex": "loss"},
        {"Name": "broken", "Regex": "("},
    ]
    assert final_metrics(["loss=0.5", "loss=nan", "loss=later"], definitions) == {"any": 0.5}


def test_the_last_value_wins_b5():
    lines = ["epoch=1 valid_accuracy=0.9000;", "epoch=2 valid_accuracy=0.5000;", "best_epoch=1; valid_accuracy=0.9000;"]
    assert final_metrics(lines, metric_definitions()) == {"valid_accuracy": 0.9}
