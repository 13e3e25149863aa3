"""Which debugger rules a job names: names alone, so that a request can be made where no rule can run."""

from kennel.judging.rule import names

DEFAULT, NONE = "default", "none"
DEFAULT_RULES = (
    "vanishing_gradient",
    "exploding_tensor",
    "poor_weight_initialization",
    "dead_relu",
    "weight_update_ratio",
    "class_imbalance",
    "loss_not_decreasing",
    "overfit",
    "overtraining",
    "stalled_training_rule",
    "confusion",
)


def named_rules(rules: str) -> list[str]:
    """Return the names that the hyperparameter `rules` stands for, known or not."""
    if rules.strip() == NONE:
        return []
    return [one for name in names(rules) for one in (DEFAULT_RULES if name == DEFAULT else [name])]


def are_asked_for(rules: str) -> bool:
    """Return whether a user has named each of the rules, and wants to hear of one that lacks what it needs."""
    return DEFAULT not in names(rules)
