"""The training loop: it fits a network to batches, keeps the best epoch, and goes on where it was interrupted."""

import copy
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kennel.errors import Stopped, TrainingError
from kennel.hyperparameters import Hyperparameters
from kennel.metrics import metric_line
from kennel.training.averaging import WeightAverage
from kennel.training.batches import Batch, Batches
from kennel.training.checkpoint import Checkpoints
from kennel.training.distributed import ALONE, Processes
from kennel.training.loss import mixed_row_losses
from kennel.training.mixing import mix
from kennel.training.progress import StopSignal
from kennel.training.randomness import generator_for, seed_for
from kennel.training.watching import UNWATCHED, Watching

AGREE = 8  # steps between two agreements of several processes on whether to stop, or to write a checkpoint

log = logging.getLogger(__name__)


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

    def on_cpu(self) -> "BestEpoch":
        """Return the epoch with its weights in main memory."""
        return replace(self, weights={name: weight.cpu() for name, weight in self.weights.items()})


OnEpoch = Callable[[int, Mapping[str, float]], bool]  # gets epoch and metrics; whether training should go on


def log_epoch(epoch: int, metrics: Mapping[str, float]) -> bool:
    """Log one metrics line, and go on."""
    log.info(metric_line(f"epoch={epoch}", metrics))
    return True


@dataclass(frozen=True)
class Phase:
    """What is trained, on what, and for how long."""

    name: str  # `head` or `network`, as checkpoints call it
    module: nn.Module  # maps the batches' inputs to logits
    train_mode: Callable[[], object]  # brings the module's layers into the mode that they train in
    train: Batches
    valid: Batches
    optimizer: Optimizer
    scheduler: LRScheduler
    first_epoch: int
    last_epoch: int
    precision: torch.dtype = torch.float32
    class_weights: Tensor | None = None  # (classes,) on the device


class _Run:
    """A phase at some step of some epoch: all that changes while it is trained."""

    def __init__(
        self, phase: Phase, hp: Hyperparameters, processes: Processes, best: BestEpoch | None, watching: Watching
    ) -> None:
        self._phase = phase
        self._hp = hp
        self._processes = processes
        self._inspector, self._timer = watching.inspector, watching.timer
        self._mixing = phase.name == "network" and (hp.mixup > 0 or hp.cutmix > 0)
        self._device = next(phase.module.parameters()).device
        self._network = _together(phase.module, self._device, processes)
        self._scaler = GradScaler(self._device.type, enabled=phase.precision is torch.float16)
        averaged = phase.name == "network" and hp.ema_decay > 0
        self._average = WeightAverage(phase.module, hp.ema_decay) if averaged else None
        self.epoch, self.step = phase.first_epoch, 0  # the epoch, and how many of its steps are done
        self.totals = torch.zeros(2, dtype=torch.float64, device=self._device)  # loss and right ones in this process
        self.rows = 0  # images that this process has seen in the epoch
        self.best = best

    @property
    def kept(self) -> nn.Module:
        """The network that is validated and saved."""
        return self._average.module if self._average else self._phase.module

    def train_on(self, batch: Batch) -> None:
        """Do one step: forward, backward, update."""
        phase, hp = self._phase, self._hp
        place = (hp.seed, self._processes.rank, self.epoch, self.step)
        torch.manual_seed(seed_for(*place, "dropout"))
        inputs, others, share = batch.inputs, batch.labels, 1.0
        if self._mixing:
            draws = generator_for(*place, "mixing")
            inputs, others, share = mix(inputs, batch.labels, hp.mixup, hp.cutmix, draws)
        labels, others = batch.labels[: batch.own], others[: batch.own]
        self._timer.mark("forward")
        self._inspector.begin_step("TRAIN", labels)
        self._timer.mark("debugging")
        with torch.autocast(self._device.type, phase.precision, enabled=phase.precision is not torch.float32):
            logits = self._network(inputs)
        logits = logits[: batch.own].float()
        weights = phase.class_weights
        losses, _ = mixed_row_losses(logits, labels, others, share, hp.label_smoothing, weights)
        right = (logits.detach().argmax(1) == labels).sum()
        if share < 1.0:
            right = share * right + (1 - share) * (logits.detach().argmax(1) == others).sum()
        whole = len(batch.everyone) if weights is None else weights[batch.everyone].sum()
        mean = losses.sum() / whole
        phase.optimizer.zero_grad(set_to_none=True)
        self._timer.mark("forward")
        self._inspector.end_forward(logits.detach(), mean.detach() * self._processes.count)
        self._timer.mark("debugging")
        # what several processes find is averaged, not added up, and each has only its share of the rows
        self._scaler.scale(mean * self._processes.count).backward()  # type: ignore[no-untyped-call]
        self._timer.mark("backward")
        self._inspector.end_backward(self._scaler.get_scale)
        self._timer.mark("debugging")
        self._scaler.step(phase.optimizer)
        self._scaler.update()
        phase.scheduler.step()
        if self._average:
            self._average.update(phase.module)
        self._timer.mark("optimizer")
        slowed = self._inspector.end_step()
        self._timer.mark("debugging")
        self.totals += torch.stack([mean.detach() * len(batch.everyone), right.float()])
        self.rows += batch.own
        self.step += 1
        self._timer.mark("optimizer")
        self._timer.end_step(batch.own, slowed)

    def agree(self) -> None:
        """Take the main process's running statistics: all measure the network that it saves."""
        for buffer in self.kept.buffers():
            self._processes.broadcast(buffer, source=0)

    def train_metrics(self) -> dict[str, float]:
        """Return what the epoch's steps had on average, over all processes."""
        rows = self.totals.new_tensor([self.rows])
        loss, right, rows = self._processes.add_up(torch.cat([self.totals, rows])).tolist()
        return {"train_loss": loss / rows, "train_accuracy": right / rows}

    def finish_epoch(self, metrics: dict[str, float]) -> None:
        """Keep the epoch if it is the best, and begin the next one."""
        current = BestEpoch(self.epoch, metrics, self.kept.state_dict())
        if current.beats(self.best):
            self.best = BestEpoch(self.epoch, metrics, copy.deepcopy(current.weights))
        self.epoch, self.step = self.epoch + 1, 0
        self.totals.zero_()
        self.rows = 0

    def state(self) -> dict[str, Any]:
        """Return everything that a resumed job needs; all processes have to ask for it."""
        best = self.best and {"epoch": self.best.epoch, "metrics": self.best.metrics, "weights": self.best.weights}
        return {
            "phase": self._phase.name,
            "epoch": self.epoch,
            "step": self.step,
            "totals": self._processes.gather((self.totals.tolist(), self.rows)),
            "module": self._phase.module.state_dict(),
            "optimizer": self._phase.optimizer.state_dict(),
            "scheduler": self._phase.scheduler.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": self._average and self._average.state_dict(),
            "best": best,
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state` was taken."""
        self.epoch, self.step = state["epoch"], state["step"]
        totals, self.rows = state["totals"][self._processes.rank]
        self.totals.copy_(torch.tensor(totals, dtype=torch.float64))
        self._phase.module.load_state_dict(state["module"])
        self._phase.optimizer.load_state_dict(state["optimizer"])
        self._phase.scheduler.load_state_dict(state["scheduler"])
        self._scaler.load_state_dict(state["scaler"])
        if self._average:
            self._average.load_state_dict(state["average"])
        self.best = BestEpoch(**state["best"]) if state["best"] else None


def _together(module: nn.Module, device: torch.device, processes: Processes) -> nn.Module:
    """Return `module`, or what averages its gradients over all processes."""
    if processes.count == 1:
        return module
    from torch.nn.parallel import DistributedDataParallel  # noqa: PLC0415 - slow to import, and for several alone

    return DistributedDataParallel(module, device_ids=[torch.cuda.current_device()] if device.type == "cuda" else None)


def fit(
    phase: Phase,
    hp: Hyperparameters,
    stop: StopSignal,
    on_epoch: OnEpoch = log_epoch,
    checkpoints: Checkpoints | None = None,
    resumed: Mapping[str, Any] | None = None,
    best: BestEpoch | None = None,
    processes: Processes = ALONE,
    watching: Watching = UNWATCHED,
) -> BestEpoch:
    """Train through a phase, calling `on_epoch` after each epoch, and return the best epoch, which may be `best`.

    It begins at the state `resumed` if there is one, and ends with the same numbers as if it had not been interrupted.
    When `stop` is set, a checkpoint is written and the best epoch so far is returned at once; Stopped is raised if
    there is none yet. A loss that is no longer a finite number ends the phase too, with the best epoch before;
    TrainingError is raised if there is none.
    """
    timer = watching.timer
    run = _Run(phase, hp, processes, best, watching)
    if resumed:
        run.resume(resumed)
    watching.inspector.begin_phase(phase.module)
    timer.mark("start-up")
    patience = hp.early_stopping_patience
    while run.epoch <= phase.last_epoch:
        phase.train_mode()
        for batch in phase.train.epoch(generator_for(hp.seed, "epoch", run.epoch), run.step, timer):
            stopping = _interrupted(run, stop, checkpoints, processes)
            timer.mark("checkpoint")
            if stopping:
                return _best_or_stopped(run)
            run.train_on(batch)
        run.agree()
        metrics = run.train_metrics()
        try:
            metrics |= evaluate_batches(run.kept, phase.valid, stop, phase.precision, processes, watching)
        except Stopped:
            _write(run, checkpoints)
            return _best_or_stopped(run)
        if problem := _not_finite(metrics, run.epoch, phase, hp):
            if run.best is None:
                raise TrainingError(problem)
            if processes.is_main:
                log.warning(
                    "%s; the %s's training ends with epoch %d, the best before", problem, phase.name, run.best.epoch
                )
            break
        go_on = on_epoch(run.epoch, metrics)
        run.finish_epoch(metrics)
        timer.mark("evaluation")
        best = _best_or_stopped(run)
        if not go_on:
            break
        if patience and run.epoch > max(best.epoch + patience, phase.first_epoch + patience - 1):
            log.info("early stopping: no better epoch among the last %d", patience)
            break
    return _best_or_stopped(run)


def _interrupted(run: _Run, stop: StopSignal, checkpoints: Checkpoints | None, processes: Processes) -> bool:
    """Write a checkpoint when it is time for one, and return whether training should stop."""
    if not _agree_at(run.step, processes):
        return False
    stopping = processes.any(stop.is_set())
    if stopping or processes.any(checkpoints is not None and checkpoints.due):
        _write(run, checkpoints)
    return stopping


def _agree_at(step: int, processes: Processes) -> bool:
    """Return whether all processes ask each other before this step; one alone asks itself before each."""
    return processes.count == 1 or step % AGREE == 0


def _write(run: _Run, checkpoints: Checkpoints | None) -> None:
    if checkpoints is not None:
        checkpoints.save(run.state())


def _best_or_stopped(run: _Run) -> BestEpoch:
    if run.best is None:
        raise Stopped(f"in epoch {run.epoch}, before the first epoch was complete")
    return run.best


def _not_finite(metrics: dict[str, float], epoch: int, phase: Phase, hp: Hyperparameters) -> str:
    """Return a sentence on the first metric that is no finite number; else ""."""
    is_fine_tuning = phase.name == "network" and not hp.from_scratch
    name = "fine_tune_learning_rate" if is_fine_tuning else "learning_rate"
    for metric, value in metrics.items():
        if not math.isfinite(value):
            return (
                f"{metric} became {value} in epoch {epoch}; "
                f"{name}={getattr(hp, name):g} is too high for {hp.optimizer}, try a tenth of it"
            )
    return ""


@torch.inference_mode()
def evaluate_batches(
    module: nn.Module,
    batches: Batches,
    stop: StopSignal,
    precision: torch.dtype,
    processes: Processes,
    watching: Watching,
) -> dict[str, float]:
    """Return `valid_loss`, the mean cross-entropy, and `valid_accuracy`; raises Stopped soon after `stop` is set."""
    module.eval()
    totals = torch.zeros(2, dtype=torch.float64)
    for number, batch in enumerate(batches.epoch(None)):
        if _agree_at(number, processes) and processes.any(stop.is_set()):
            raise Stopped("while validating")
        labels = batch.labels[: batch.own]
        watching.inspector.begin_step("EVAL", labels)
        with torch.autocast(batch.inputs.device.type, precision, enabled=precision is not torch.float32):
            logits = module(batch.inputs)
        logits = logits[: batch.own].float()
        loss, right = F.cross_entropy(logits, labels, reduction="sum"), (logits.argmax(1) == labels).sum()
        watching.inspector.end_forward(logits, loss / batch.own)
        totals = totals.to(loss.device) + torch.stack([loss.double(), right.double()])
    watching.timer.mark("evaluation")
    watching.inspector.end_evaluation()
    watching.timer.mark("debugging")
    loss_sum, right_sum = processes.add_up(totals).tolist()
    return {"valid_loss": loss_sum / batches.rows, "valid_accuracy": right_sum / batches.rows}
