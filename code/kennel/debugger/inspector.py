"""The debugger of a training that runs: it measures, judges and tells, and the training never feels it."""

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from torch import Tensor, nn

from kennel.debugger.needs import needs_of
from kennel.debugger.recorder import Recorder
from kennel.debugger.series import Measurements, Mode
from kennel.debugger.verdicts import Verdicts
from kennel.harmless import harmless
from kennel.judging.rule import Rule

log = logging.getLogger(__name__)


class Watcher(Protocol):
    """One who is told what the training loop does, and may raise.

    The loop's own protocol is `kennel.training.watching.Inspector`, which never does; the debugger knows no training.
    """

    def begin_phase(self, module: nn.Module) -> None:
        """Take note of what is trained until the next call."""
        ...

    def begin_step(self, mode: Mode, labels: Tensor) -> None:
        """Take note of a step."""
        ...

    def end_forward(self, logits: Tensor, loss: Tensor) -> None:
        """Look at logits and loss."""
        ...

    def end_backward(self, scale: Callable[[], float]) -> None:
        """Look at the gradients, which are `scale()` times too large."""
        ...

    def end_step(self) -> bool:
        """Look at the weights; return whether looking has slowed this step."""
        ...

    def end_evaluation(self) -> None:
        """Take note that an evaluation is complete."""
        ...

    def close(self) -> None:
        """Let go of everything; no other call follows."""
        ...


class _Harmless:
    """Passes calls on to a watcher until one of them fails: with `what` that is said once, and nobody is called."""

    def __init__(self, watcher: Watcher, what: str) -> None:
        self._watcher, self._what = watcher, what
        self.problem = ""  # why it was given up, or ""

    def tell(self, call: Callable[[Watcher], None]) -> None:
        """Make a call."""
        if self.problem:
            return
        try:
            call(self._watcher)
        except Exception as error:
            self.problem = f"{type(error).__name__}: {error}"
            log.warning("%s has failed; training goes on without it", self._what, exc_info=True)
            with contextlib.suppress(Exception):  # it is broken already
                self._watcher.close()


class Inspector:
    """What the training loop calls; nothing here raises."""

    def __init__(
        self,
        rules: Sequence[Rule[Measurements]],
        verdicts: Verdicts,
        saver: Watcher | None = None,
    ) -> None:
        """`saver`, where there is one, keeps whole tensors."""
        self._recorder, self._verdicts = Recorder(needs_of(rules)), verdicts
        self._measuring = _Harmless(self._recorder, "measuring for the rules")
        self._watchers = [self._measuring]
        self._ended = False
        if saver:
            self._watchers.append(_Harmless(saver, "saving tensors"))

    def begin_phase(self, module: nn.Module) -> None:
        """Look at `module` from now on."""
        self._tell(lambda watcher: watcher.begin_phase(module))

    def begin_step(self, mode: Literal["TRAIN", "EVAL"], labels: Tensor) -> None:
        """Take note of a step on images with `labels`."""
        self._tell(lambda watcher: watcher.begin_step(Mode(mode), labels))

    def end_forward(self, logits: Tensor, loss: Tensor) -> None:
        """Look at the logits and their mean loss."""
        self._tell(lambda watcher: watcher.end_forward(logits, loss))

    def end_backward(self, scale: Callable[[], float]) -> None:
        """Look at the gradients, which are `scale()` times too large."""
        self._tell(lambda watcher: watcher.end_backward(scale))

    def end_step(self) -> bool:
        """Look at the weights, which the step has changed; return whether looking has slowed this step."""
        slowed = False

        def tell(watcher: Watcher) -> None:
            nonlocal slowed
            slowed |= watcher.end_step()

        self._tell(tell)
        return slowed

    def end_evaluation(self) -> None:
        """Judge, when it is time to."""
        self._tell(lambda watcher: watcher.end_evaluation())
        if self._verdicts.due and not self._measuring.problem:
            self._judge(ended=False)

    def end_training(self) -> None:
        """Judge for the last time; to be told once more is no harm."""
        if self._ended:
            return
        self._ended = True
        self._measuring.tell(lambda _: self._recorder.settle())
        self._tell(lambda watcher: watcher.close())
        self._judge(ended=True)

    def _tell(self, call: Callable[[Watcher], None]) -> None:
        for watcher in self._watchers:
            watcher.tell(call)

    def _judge(self, ended: bool) -> None:
        with harmless("the rules could not judge", "training goes on without them"):
            self._verdicts.give(self._recorder.measurements(ended), self._measuring.problem)
