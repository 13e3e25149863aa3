"""The rule of a step, and how the learning rate moves over the steps."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from kennel.hyperparameters import Hyperparameters
from kennel.training import lazy_compiler

lazy_compiler.install()


def make_optimizer(groups: Iterable[Any], hp: Hyperparameters) -> Optimizer:
    """Return the optimizer over `groups`: parameters, or dicts of `params` and what holds for them alone."""
    rate, decay = hp.learning_rate, hp.weight_decay
    makers: dict[str, Callable[[], Optimizer]] = {
        "adam": lambda: Adam(groups, lr=rate, weight_decay=decay),
        "adamw": lambda: AdamW(groups, lr=rate, weight_decay=decay),
        "rmsprop": lambda: RMSprop(groups, lr=rate, weight_decay=decay, momentum=hp.momentum),
        "sgd": lambda: SGD(groups, lr=rate, weight_decay=decay, momentum=hp.momentum),
    }
    return makers[hp.optimizer]()


def make_scheduler(optimizer: Optimizer, hp: Hyperparameters, steps: int, warmup: float = 0.0) -> LRScheduler:
    """Return the schedule of the learning rates over all `steps`: half a cosine, one-cycle, or constant.

    In the first `warmup` share of the steps, the rate rises in a straight line; one-cycle has a rise of its own.
    """
    if hp.scheduler == "onecycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, max_lr=highest, total_steps=steps + 1, cycle_momentum=False)
    rise = round(steps * warmup)

    def share(step: int) -> float:
        if step < rise:
            return (step + 1) / (rise + 1)
        if hp.scheduler == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min((step - rise) / max(1, steps - rise), 1.0)))

    return LambdaLR(optimizer, share)
