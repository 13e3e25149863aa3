from dataclasses import asdict
from pathlib import Path

import pytest

from kennel.errors import HyperparameterError
from kennel.hyperparameters import DECLARATIONS, Hyperparameters, markdown_table, parse_hyperparameters


@pytest.mark.parametrize("spelling", ["adam", '"adam"', ' "adam" '])
def test_text_may_be_plain_or_json_quoted_a4_1(spelling):
    assert parse_hyperparameters({"optimizer": spelling}).optimizer == "adam"


@pytest.mark.parametrize("spelling", ["0.1", '"0.1"', "1e-1", 0.1])
def test_numbers_may_be_plain_quoted_or_in_exponent_form_a4_1(spelling):
    assert parse_hyperparameters({"learning_rate": spelling}).learning_rate == 0.1


@pytest.mark.parametrize("spelling", ["32", '"32"', "32.0", "3.2e1", 32])
def test_whole_numbers_may_look_like_floats_b4(spelling):
    assert parse_hyperparameters({"batch_size": spelling}).batch_size == 32


@pytest.mark.parametrize("spelling", ["null", "", None, '""'])
def test_null_and_empty_mean_the_default_a4_1(spelling):
    assert parse_hyperparameters({"epochs": spelling}) == Hyperparameters()


def test_no_hyperparameters_mean_the_defaults_a2_1():
    assert parse_hyperparameters({}) == Hyperparameters()


def test_dashes_and_lr_are_understood_a3_3():
    parsed = parse_hyperparameters({"batch-size": "16", "lr": "0.5", "fc-units": "8"})
    assert (parsed.batch_size, parsed.learning_rate, parsed.fc_units) == (16, 0.5, 8)


def test_names_that_sagemaker_adds_are_passed_over_a4_3():
    added = {"sagemaker_program": "x.py", "_tuning_objective_metric": "valid_loss", "default_user_module_name": "m"}
    assert parse_hyperparameters(added) == Hyperparameters()


def test_one_message_lists_all_that_is_wrong_with_the_bounds():
    with pytest.raises(HyperparameterError) as caught:
        parse_hyperparameters({"epochs": "0", "optimizer": "lion", "dropuot": "0.5", "learning_rate": "nan"})
    message = str(caught.value)
    assert "epochs=0: must be a whole number from 1 to 1000 (default 15)" in message
    assert "optimizer=lion: must be one of adam, adamw, rmsprop, sgd" in message
    assert "dropuot=0.5: there is no such hyperparameter" in message
    assert "learning_rate=nan: must be a number from 1e-08 to 10" in message
    assert "known are: backbone, weights" in message


@pytest.mark.parametrize("values", [{"epochs": "3.5"}, {"epochs": "[1,2]"}, {"seed": "true"}, {"dropout": "half"}])
def test_a_value_of_another_type_is_refused(values):
    with pytest.raises(HyperparameterError, match="must be"):
        parse_hyperparameters(values)


def test_a_value_given_twice_must_be_the_same():
    for other in ("0.1", ""):
        assert parse_hyperparameters({"lr": "0.1", "learning_rate": other}).learning_rate == 0.1
    with pytest.raises(HyperparameterError, match="given twice"):
        parse_hyperparameters({"lr": "0.1", "learning_rate": "0.2"})


def test_a_frozen_random_backbone_is_refused():
    with pytest.raises(HyperparameterError, match="learns nothing"):
        parse_hyperparameters({"weights": "none", "unfreeze": "head"})


def test_batches_of_one_image_are_refused_where_batch_norm_trains():
    assert parse_hyperparameters({"batch_size": "1"}).batch_size == 1
    with pytest.raises(HyperparameterError, match="batch norm needs two images"):
        parse_hyperparameters({"batch_size": "1", "weights": "none"})


@pytest.mark.parametrize(
    ("values", "head_only"),
    [({}, True), ({"weights": "none"}, False), ({"unfreeze": "all"}, False), ({"unfreeze": "head"}, True)],
)
def test_only_the_head_is_trained_unless_from_scratch_or_asked(values, head_only):
    assert parse_hyperparameters(values).head_only is head_only


def test_every_default_is_within_its_own_bounds():
    defaults = {name: str(value) for name, value in asdict(Hyperparameters()).items()}
    assert parse_hyperparameters(defaults) == Hyperparameters()


def test_every_tuning_range_is_within_the_bounds():
    for declaration in DECLARATIONS.values():
        if declaration.tune is not None:
            ends = declaration.tune.choices or (f"{declaration.tune.low:g}", f"{declaration.tune.high:g}")
            for end in ends:
                declaration.parse(end)


def test_the_readme_holds_the_table_made_from_the_declaration():
    readme = Path(__file__).parents[2] / "README.md"
    assert markdown_table() in readme.read_text(encoding="utf-8")
