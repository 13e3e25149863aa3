"""Where AWS's page is vague or would never be silent: what is decided, and the formula to the letter (contract D3)."""

import numpy as np
import pytest

from kennel.debugger.measures import ChannelMean, InactiveNodes, UpdateRatio, summarize
from kennel.debugger.rules import RULES
from kennel.debugger.series import Measurements, Mode, RecordedSeries, StoredSeries
from kennel.errors import NothingToJudge, RuleError
from kennel.judging.judge import judge
from kennel.judging.rule import declarations

LOSS = "CrossEntropyLoss_output_0"


def loss(values, mode=Mode.TRAIN, at=None):
    steps = dict(enumerate(at or range(len(values))))
    return RecordedSeries(LOSS, mode, steps, {step: summarize(np.array(value)) for step, value in enumerate(values)})


def stored(name, values, mode=Mode.TRAIN):
    return StoredSeries(name, mode, {step: step for step in range(len(values))}, lambda step: values[step], None)


def epochs(train, valid):
    """Two training steps and one of evaluation an epoch."""
    at_train = [3 * epoch + step for epoch in range(len(train)) for step in (0, 1)]
    at_valid = [3 * epoch + 2 for epoch in range(len(valid))]
    return Measurements(
        [loss([value for value in train for _ in (0, 1)], Mode.TRAIN, at_train), loss(valid, Mode.EVAL, at_valid)]
    )


def found(text, *series, **more):
    measured = series[0] if isinstance(series[0], Measurements) else Measurements(series, **more)
    return list(RULES.parse(text).check(measured))


def test_overfit_wants_patience_evaluations_in_a_row():
    losses = epochs([1, 1, 1, 1], [1.0, 1.2, 1.0, 1.2])
    assert [finding.step for finding in found("overfit", losses)] == [3, 7]
    assert not found("overfit:patience=2", losses)
    assert [finding.step for finding in found("overfit:start_step=4", losses)] == [7]


def test_an_evaluation_is_set_against_the_last_training_loss_where_those_are_rare():
    train, valid = loss([1.0, 0.5], Mode.TRAIN, [0, 10]), loss([1.5, 2.5, 0.5], Mode.EVAL, [5, 8, 11])
    found_at = [(f.step, f.evidence["train_loss"], f.evidence["valid_loss"]) for f in found("overfit", train, valid)]
    assert found_at == [(0, 1.0, 1.5), (0, 1.0, 2.5)]


def test_overtraining_takes_one_loss_that_stands_still_for_enough():
    falling = [1 - 0.05 * epoch for epoch in range(12)]
    still = [0.5] * 12
    assert found("overtraining", epochs(falling, still))[0].message.startswith("validation loss")
    assert found("overtraining", epochs(still, falling))[0].step == 11
    assert not found("overtraining", epochs(falling, falling))
    assert found("overtraining:unit=step,patience_train=3", loss([1.0] * 4))[0].message.endswith("3 saved steps before")


def test_a_noisy_loss_that_falls_is_one_that_falls_and_the_letter_disagrees():
    numbers = np.random.default_rng(0)
    values = [1.0 - 0.005 * step + 0.04 * numbers.standard_normal() for step in range(100)]
    assert not found("loss_not_decreasing", loss(values))
    assert found("loss_not_decreasing:smooth=False", loss(values))


def test_losses_of_one_evaluation_are_not_compared_with_each_other():
    at = [100 * (step // 20) + step for step in range(60)]  # three evaluations of 20 batches
    valid = loss([[1.0, 0.9, 0.8][step // 20] for step in range(60)], Mode.EVAL, at)
    assert not found("loss_not_decreasing:num_steps=5", valid)
    assert found("loss_not_decreasing:num_steps=5,mode=GLOBAL", valid)


def test_confusion_is_a_share_of_the_class_and_to_the_letter_one_of_all_hits():
    labels = np.repeat([0, 1, 2], 50)
    right = [stored("labels", [labels]), stored("predictions", [labels.copy()])]
    assert not found("confusion", *right)
    (finding,) = found("confusion:formula=verbatim", *right)
    assert finding.message.startswith("class 0: 33.3 % of all hits")
    wrong = labels.copy()
    wrong[100:110] = 0
    (finding,) = found("confusion", stored("labels", [labels]), stored("predictions", [np.eye(3)[wrong]]))
    assert finding.message == "class 2: 80 % of it recognized; 2 such shares in all"
    assert finding.evidence["shares"] == ["class 2: 80 % of it recognized", "class 2: 20 % taken for class 0"]


def test_classes_are_compared_only_with_enough_labels_of_each():
    numbers = np.random.default_rng(0)
    balanced = [numbers.integers(0, 133, 500) for _ in range(6)]
    with pytest.raises(NothingToJudge, match="500 labels were saved; 2660 are needed for 133 classes"):
        found("class_imbalance", stored("labels", balanced[:1]))
    assert found("class_imbalance:verbatim=True", stored("labels", balanced[:1]))  # by chance alone
    assert not found("class_imbalance", stored("labels", balanced))


def test_a_model_that_has_learned_nothing_yet_neglects_no_class():
    labels = np.arange(600) % 3
    guesses = (labels + 1) % 3  # always wrong
    both = stored("labels", [labels]), stored("predictions", [guesses])
    assert not found("class_imbalance:samples=100,threshold_imbalance=1e9", *both)
    assert found("class_imbalance:samples=100,verbatim=True", *both)
    neglected = np.where(labels == 2, 0, labels)
    twice = stored("labels", [labels] * 2), stored("predictions", [neglected] * 2)
    (finding,) = found("class_imbalance", *twice)
    assert finding.step == 1
    assert finding.message == "100 % of class 2 are mispredicted, of the others 0 %"


def test_labels_that_a_loss_passes_over_are_not_counted():
    labels = np.repeat([0, 1, -100], 300)
    both = stored("labels", [labels]), stored("predictions", [np.where(labels < 0, 1, labels)])
    assert not found("class_imbalance", *both)
    assert not found("confusion", *both)


def test_labels_of_pytorchs_losses_are_pointed_at():
    with pytest.raises(NothingToJudge, match=r"labels_regex=\.\*oss_input_1"):
        found("class_imbalance", stored("CrossEntropyLoss_input_1", [np.zeros(10)]))


def test_frozen_weights_are_not_judged():
    frozen, moving = [np.ones((2, 2))] * 3, [np.full((2, 2), 1 + 0.1 * step) for step in range(3)]
    series = [stored("a.weight", frozen), stored("b.weight", moving), stored("gradient/b.weight", moving)]
    assert not found("weight_update_ratio", *series)
    assert found("weight_update_ratio:patience=0", *series[:2])


def test_a_change_that_a_warm_up_loses_in_rounding_is_no_issue_unless_it_lasts():
    still = [np.ones((2, 2))] * 31  # thirty changes of nothing
    moving = [np.full((2, 2), 1 + 0.1 * step) for step in range(1, 20)]
    assert not found("weight_update_ratio", stored("a.weight", still + moving))
    assert len(found("weight_update_ratio:patience=0", stored("a.weight", still + moving))) == 30
    assert [finding.step for finding in found("weight_update_ratio", stored("a.weight", [*still, *still]))] == [
        *range(31, 62)
    ]
    leaping = [np.full((2, 2), value) for value in (1.0, 100.0, 100.0)]
    assert len(found("weight_update_ratio", stored("a.weight", leaping))) == 1  # too much is too much at once


def test_weights_may_be_compared_over_several_steps_and_by_other_norms():
    before, after = np.array([[3.0, 4.0]]), np.array([[3.0, 9.0]])
    assert UpdateRatio(None, 0.0).compare(before, after) == 1.0
    assert UpdateRatio(None, 0.0, "mean").compare(before, after) == pytest.approx(2.5 / 3.5)
    assert UpdateRatio(None, 0.0, "max").compare(before, after) == 1.25
    doubling = stored("a.weight", [np.full((2, 2), 2.0**step) for step in range(4)])
    assert len(found("weight_update_ratio:large_threshold=2", doubling)) == 0
    assert [finding.step for finding in found("weight_update_ratio:large_threshold=2,num_steps=2", doubling)] == [2, 3]


def test_weights_may_vary_by_layer_and_must_not_be_alike_within_one():
    numbers = np.random.default_rng(0)
    layers = [stored(f"{fan}.weight", [numbers.normal(0, fan**-0.5, (64, fan))]) for fan in (9, 512)]
    norm = stored("norm.weight", [np.ones(64)])
    assert not found("poor_weight_initialization", *layers, norm)
    assert found("poor_weight_initialization:verbatim=True", *layers)
    (finding,) = found("poor_weight_initialization", *layers, norm, stored("zero.weight", [np.zeros((64, 64))]))
    assert finding.message == "all weights of zero.weight are alike; so it is for 1 of 3 layers"


def test_a_bias_before_a_batch_norm_has_no_gradient_and_is_no_issue():
    gradients = stored("gradient/a.weight", [np.ones(4)]), stored("gradient/a.bias", [np.full(4, 1e-9)])
    assert not found("vanishing_gradient", *gradients)
    assert found("vanishing_gradient:biases=True", *gradients)


def test_a_node_of_a_convolution_is_a_channel():
    outputs = np.zeros((4, 2, 5, 5))
    outputs[0, 0, 0, 0] = 1.0
    assert InactiveNodes(0.0, float("inf"), 1.0)(outputs) == 50.0
    assert InactiveNodes(0.0, float("inf"), 1.0)(np.zeros(3)) is None


def test_the_channel_farthest_from_zero_is_measured():
    images = np.zeros((2, 3, 4, 4))
    images[:, 1] = -0.5
    assert ChannelMean(1, 500)(images) == -0.5


def test_a_training_that_still_runs_stalls_when_nothing_came_for_too_long():
    running = {"moments": [(0, 0.0), (1, 10.0)], "ended": False}
    assert not list(RULES.parse("stalled_training_rule").check(Measurements([], **running, now=1800.0)))
    (finding,) = RULES.parse("stalled_training_rule").check(Measurements([], **running, now=2000.0))
    assert finding.step == 1
    assert "the training hangs or was killed" in finding.message
    judgement = judge(
        [RULES["stalled_training_rule"]()], Measurements([], **running, now=20.0), ended=False, asked_for=True
    )
    assert judgement.results[0].status == "InProgress"


class Broken:
    name, fires, advice = "broken", "always", ""

    def check(self, measured):
        raise ZeroDivisionError("by zero")


def test_a_broken_rule_stops_no_other_and_the_log_has_its_traceback(caplog):
    broken = type("Broken", (type(RULES["overfit"]()),), {"name": "broken", "check": Broken.check})()
    judgement = judge([broken, RULES["overfit"]()], epochs([1, 1], [1, 1]), ended=True, asked_for=True)
    assert [(result.rule, result.status) for result in judgement.results] == [
        ("broken", "Error"),
        ("overfit", "NoIssuesFound"),
    ]
    assert judgement.results[0].reason == "ZeroDivisionError: by zero"
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("deadrelu", "there is no rule deadrelu; known are: vanishing_gradient"),
        ("dead_relu:thresh=1", "dead_relu has no parameter thresh; it has: tensor_regex, threshold_inactivity"),
        ("dead_relu:threshold_layer=many", r"must be a number from 0 to 100 \(default 50"),
        ("dead_relu:threshold_layer=nan", "must be a number"),
        ("dead_relu:threshold_layer", "should be parameter=value"),
        ("dead_relu:tensor_regex=(", "is no regular expression"),
        ("exploding_tensor:only_nan=perhaps", "must be one of True, False"),
        ("confusion:formula=column", "must be one of row, verbatim"),
    ],
)
def test_what_a_rule_does_not_know_is_refused_with_what_it_knows(text, message):
    with pytest.raises(RuleError, match=message):
        RULES.parse(text)


def test_parameters_are_typed_and_values_may_have_commas():
    rule = RULES.parse("all_zero:collection_names=weights,biases,threshold=90")
    assert (rule.collection_names, rule.threshold) == ("weights,biases", 90.0)
    assert RULES.parse("weight_update_ratio:num_steps=None").num_steps is None
    assert RULES.make("exploding_tensor", {"only_nan": "true"}).only_nan is True


@pytest.mark.parametrize("name", RULES)
def test_every_parameter_is_declared_with_help_and_a_default_that_it_accepts(name):
    for declaration in declarations(RULES[name]).values():
        assert declaration.help
        made = RULES.make(name, {declaration.name: str(declaration.default)})
        assert getattr(made, declaration.name) == declaration.default


def test_the_readme_holds_the_table_made_from_the_rules(pytestconfig):
    assert RULES.markdown_table() in (pytestconfig.rootpath / "README.md").read_text(encoding="utf-8")
