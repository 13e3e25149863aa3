"""The training loop: it fits a module to batches and keeps the best epoch."""

import copy
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from kennel.errors import Stopped, TrainingError
from kennel.hyperparameters import Hyperparameters
from kennel.metrics import metric_line
from kennel.training import lazy_compiler
from kennel.training.batches import Batches
from kennel.training.progress import StopSignal

log = logging.getLogger(__name__)
lazy_compiler.install()


@dataclass(frozen=True)
class BestEpoch:
    """The epoch with the highest valid_accuracy; among equals, the one with the lowest valid_loss."""

    epoch: int  # counted from 1
    metrics: dict[str, float]  # of the four epoch metrics
    weights: dict[str, Tensor]

    def beats(self, other: "BestEpoch | None") -> bool:
        """Return whether this epoch should be kept rather than `other`."""
        if other is None:
            return True
        mine = (self.metrics["valid_accuracy"], -self.metrics["valid_loss"])
        return mine > (other.metrics["valid_accuracy"], -other.metrics["valid_loss"])


OnEpoch = Callable[[int, Mapping[str, float]], bool]  # gets epoch and metrics; whether training should go on


def log_epoch(epoch: int, metrics: Mapping[str, float]) -> bool:
    """Log one metrics line, and go on."""
    log.info(metric_line(f"epoch={epoch}", metrics))
    return True


def fit(
    module: nn.Module,
    train: Batches,
    valid: Batches,
    hp: Hyperparameters,
    stop: StopSignal,
    on_epoch: OnEpoch = log_epoch,
) -> BestEpoch:
    """Train `module`, calling `on_epoch` after each epoch, and return its best epoch.

    `module` maps the batches' inputs to logits. When `stop` is set, the best epoch so far is returned at once; Stopped
    is raised if there is none yet. Raises TrainingError when the loss is no longer a finite number.
    """
    optimizer = make_optimizer(module, hp)
    scheduler = make_scheduler(optimizer, hp, steps=hp.epochs * len(train))
    generator = torch.Generator().manual_seed(hp.seed)
    best: BestEpoch | None = None
    for epoch in range(1, hp.epochs + 1):
        total_loss, correct, seen = torch.zeros(()), torch.zeros(()), 0
        module.train()
        for inputs, labels in train.epoch(generator):
            if stop.is_set():
                return _best_or_stopped(best, epoch)
            logits = module(inputs)
            loss = F.cross_entropy(logits, labels, label_smoothing=hp.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()
            seen += len(labels)
            total_loss = total_loss.to(loss.device) + loss.detach() * len(labels)
            correct = correct.to(loss.device) + (logits.detach().argmax(1) == labels).sum()
        metrics = {"train_loss": total_loss.item() / seen, "train_accuracy": correct.item() / seen}
        try:
            metrics["valid_loss"], metrics["valid_accuracy"] = evaluate_batches(module, valid, stop)
        except Stopped:
            return _best_or_stopped(best, epoch)
        _check_finite(metrics, epoch, hp)
        go_on = on_epoch(epoch, metrics)
        current = BestEpoch(epoch, metrics, module.state_dict())
        if current.beats(best):
            best = BestEpoch(epoch, metrics, copy.deepcopy(current.weights))
        if not go_on:
            break
        if hp.early_stopping_patience and best and epoch - best.epoch >= hp.early_stopping_patience:
            log.info("early stopping: no better valid_accuracy in %d epochs", hp.early_stopping_patience)
            break
    return _best_or_stopped(best, hp.epochs)


def _best_or_stopped(best: BestEpoch | None, epoch: int) -> BestEpoch:
    if best is None:
        raise Stopped(f"in epoch {epoch}, before the first epoch was complete")
    return best


def _check_finite(metrics: dict[str, float], epoch: int, hp: Hyperparameters) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"{name} became {value} in epoch {epoch}; "
                f"learning_rate={hp.learning_rate:g} is too high for {hp.optimizer}, try a tenth of it"
            )


@torch.inference_mode()
def evaluate_batches(module: nn.Module, batches: Batches, stop: StopSignal) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy of `module`; raises Stopped as soon as `stop` is set."""
    module.eval()
    loss, correct, seen = 0.0, 0, 0
    for inputs, labels in batches.epoch(None):
        if stop.is_set():
            raise Stopped("while validating")
        logits = module(inputs)
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += int((logits.argmax(1) == labels).sum())
        seen += len(labels)
    return loss / seen, correct / seen


def make_optimizer(module: nn.Module, hp: Hyperparameters) -> Optimizer:
    """Return the optimizer over the parameters of `module` that are not frozen."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    rate, decay = hp.learning_rate, hp.weight_decay
    makers: dict[str, Callable[[], Optimizer]] = {
        "adam": lambda: Adam(parameters, lr=rate, weight_decay=decay),
        "adamw": lambda: AdamW(parameters, lr=rate, weight_decay=decay),
        "rmsprop": lambda: RMSprop(parameters, lr=rate, weight_decay=decay, momentum=hp.momentum),
        "sgd": lambda: SGD(parameters, lr=rate, weight_decay=decay, momentum=hp.momentum),
    }
    return makers[hp.optimizer]()


def make_scheduler(optimizer: Optimizer, hp: Hyperparameters, steps: int) -> LRScheduler:
    """Return the schedule of the learning rate over all `steps`: half a cosine, one-cycle, or constant."""
    if hp.scheduler == "onecycle":
        return OneCycleLR(optimizer, max_lr=hp.learning_rate, total_steps=steps + 1, cycle_momentum=False)
    if hp.scheduler == "cosine":
        return LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0))))
    return LambdaLR(optimizer, lambda step: 1.0)
