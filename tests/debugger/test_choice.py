"""Which rules judge a training, as its hyperparameters say."""

import pytest

from kennel.debugger.choice import choose_rules
from kennel.debugger.rules import RULES
from kennel.errors import HyperparameterError
from kennel.hyperparameters import parse_hyperparameters
from kennel.judging.choice import DEFAULT_RULES


def chosen(**hyperparameters):
    parsed = parse_hyperparameters(hyperparameters)
    return choose_rules(parsed.rules, parsed.rule_parameters)


def test_the_rules_that_judge_unless_others_are_chosen_are_known_d3():
    assert tuple(rule.name for rule in chosen()) == DEFAULT_RULES
    assert set(DEFAULT_RULES) < set(RULES)
    assert [rule.name for rule in chosen(rules="all_zero, default")] == ["all_zero", *DEFAULT_RULES]
    assert [rule.name for rule in chosen(rules="default, overfit,overfit")] == list(DEFAULT_RULES)
    assert chosen(rules="none") == []


def test_parameters_of_a_rule_may_be_given_one_by_one_or_together_d3():
    (one,) = chosen(**{"rules": "dead_relu", "rule-dead-relu-threshold-layer": '"30"'})
    (together,) = chosen(rules="dead_relu", rule_parameters="dead_relu_threshold_layer=30;")
    assert one == together == RULES["dead_relu"](threshold_layer=30.0)
    both = chosen(
        rules="all_zero,weight_update_ratio",
        rule_parameters="all_zero_tensor_regex=a=b,c",
        rule_weight_update_ratio_num_steps="5",
    )
    assert (both[0].tensor_regex, both[1].num_steps) == ("a=b,c", 5)


def test_parameters_of_rules_survive_as_a_hyperparameter():
    parsed = parse_hyperparameters({"rule_overfit_patience": "3", "rule_parameters": "overfit_start_step=7"})
    assert parsed.rule_parameters == "overfit_start_step=7; overfit_patience=3"
    assert parse_hyperparameters({"rule_parameters": parsed.rule_parameters}) == parsed


@pytest.mark.parametrize(
    ("hyperparameters", "reason"),
    [
        ({"rules": "overfit,deadrelu"}, "rules: there is no rule deadrelu; known are: vanishing_gradient, "),
        ({"rules": "similar_across_runs"}, "`kennel debug DIR --other DIR2` compares two trainings"),
        ({"rule_overfit_ratio": "1"}, "overfit has no parameter ratio; it has: tensor_regex, start_step"),
        ({"rule_overfit_patience": "0"}, "overfit: patience=0: must be a whole number from 1 to"),
        ({"rule_all_zero_threshold": "1"}, "all_zero is not among the rules, which are: vanishing_gradient"),
        ({"rule_of_thumb": "1"}, "rule_of_thumb=1: should be rule_NAME_PARAMETER=VALUE"),
        ({"rule_action": "stop"}, "rule_action=stop: must be one of none, stop_training"),
    ],
)
def test_rules_that_are_none_are_refused_before_training_begins_d3(hyperparameters, reason):
    with pytest.raises(HyperparameterError) as refused:
        chosen(**hyperparameters)
    assert reason in str(refused.value)
