"""Measures a training while it runs: what rules need, on the device, and brought from there once a step."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kennel.debugger.measures import Comparison, Measure, Statistic, Summary
from kennel.debugger.moments import Moments
from kennel.debugger.naming import LABELS, PREDICTIONS, module_names, parameter_name
from kennel.debugger.needs import Need
from kennel.debugger.on_device import compare_on_device, measure_on_device, summarize_on_device, thinned
from kennel.debugger.recorded_losses import RecordedLosses
from kennel.debugger.series import Measurements, Mode, RecordedSeries

FIRST, EVERY = 10, 50  # steps of a phase that are measured: so many at its start, and then every so many
MOST_NUMBERS = 60_000  # steps times tensors that are remembered; some 40 MB
MOST_LABELS = 100_000  # of the training, and of the last evaluation
_STEPS = 100, 1000  # of one tensor that are remembered, at least and at most
_WHOLE_NUMBERS = Summary(nans=0, infinities=0)

Asked = Statistic | Measure | Comparison


@dataclass(frozen=True)
class _Wanted:
    """What is asked of one tensor."""

    statistics: tuple[Statistic, ...]
    measures: tuple[Measure, ...]
    comparisons: tuple[Comparison, ...]


class Recorder:
    """What a debugger sees of a training; the calls are those that the training loop makes."""

    def __init__(self, needs: tuple[Need, ...], clock: Callable[[], float] = time.time) -> None:
        """`clock` tells Unix seconds."""
        self._needs, self._clock = needs, clock
        self._series: dict[tuple[str, Mode], RecordedSeries] = {}
        self._losses = RecordedLosses()
        self._moments = Moments()
        self._at, self._steps = -1, {Mode.TRAIN: -1, Mode.EVAL: -1}  # over all modes, and in each
        self._mode, self._phase_began, self._measuring = Mode.TRAIN, 0, False
        self._module: nn.Module | None = None
        self._weights: dict[str, nn.Parameter] = {}
        self._earlier: dict[tuple[str, Comparison], tuple[int, Tensor]] = {}  # weights before a step
        self._handles: list[Any] = []
        self._failed: Exception | None = None  # what went wrong inside the network, where nobody may hear of it
        self._taken: list[tuple[RecordedSeries, int, Asked, Tensor]] = []  # numbers that are still on the device
        self._seen: list[tuple[str, Mode, int, int, Tensor]] = []  # labels and predictions, of step and global step
        self._wanted_of: dict[tuple[str, tuple[Need, ...]], _Wanted | None] = {}

    def begin_phase(self, module: nn.Module) -> None:
        """Look at `module` from now on."""
        self.settle()
        self._module, self._phase_began = module, self._steps[Mode.TRAIN] + 1
        self._weights = {parameter_name(module, name): weight for name, weight in module.named_parameters()}
        self._earlier.clear()

    def begin_step(self, mode: Mode, labels: Tensor) -> None:
        """Count a step, and look at what goes through the module's layers where it is one to be measured."""
        self._mode, self._at, self._steps[mode] = mode, self._at + 1, self._steps[mode] + 1
        self._moments.add(self._at, self._clock())
        since = self._steps[mode] - self._phase_began
        self._measuring = mode is Mode.TRAIN and (since < FIRST or self._steps[mode] % EVERY == 0)
        self._see(LABELS, labels)
        if self._measuring and self._module is not None:
            for name, module in module_names(self._module).items():
                self._attach(name, module)

    def end_forward(self, logits: Tensor, loss: Tensor) -> None:
        """Take the loss, and what the logits say. Raises what went wrong inside the forward pass."""
        self.close()
        if self._failed:
            raise self._failed
        self._losses.add(self._mode, self._steps[self._mode], self._at, loss, len(logits))
        if self._is_wanted_whole(PREDICTIONS):
            self._see(PREDICTIONS, logits.argmax(1))

    @torch.no_grad()
    def end_backward(self, scale: Callable[[], float]) -> None:
        """Measure gradients and weights of a step to be measured, before the step changes the weights."""
        if not self._measuring:
            return
        times, step = scale(), self._steps[Mode.TRAIN]
        gradients = {name: weight.grad for name, weight in self._weights.items() if weight.grad is not None}
        # the scale of float16 may be too large: the optimizer passes over such a step
        if times != 1.0 and not torch.stack([gradient.isfinite().all() for gradient in gradients.values()]).all():
            self._measuring = False
            return
        for name, gradient in gradients.items():
            self._measure(f"gradient/{name}", gradient if times == 1.0 else gradient / times)
            weight = self._weights[name].detach()
            self._measure(name, weight)
            for comparison in self._comparisons(name):
                self._series_of(name).measured[step, comparison] = None  # until there is something to compare with
                if (name, comparison) not in self._earlier:
                    self._earlier[name, comparison] = step, weight.clone()

    @torch.no_grad()
    def end_step(self) -> bool:
        """Measure how the step has changed the weights; return whether it was measured, and its numbers are fetched."""
        if not self._measuring:
            return False
        step = self._steps[Mode.TRAIN]
        for (name, comparison), (since, before) in list(self._earlier.items()):
            if step - since + 1 >= (comparison.num_steps or 1):
                change = compare_on_device(comparison, before, self._weights[name].detach())
                self._taken.append((self._series_of(name), step, comparison, change))
                del self._earlier[name, comparison]
        self.settle()
        return True

    def end_evaluation(self) -> None:
        """Take note that an evaluation is complete."""
        self.settle()
        self._losses.end_evaluation()

    def settle(self) -> None:
        """Fetch what is still on the device."""
        taken, seen = self._taken, self._seen
        self._taken, self._seen = [], []
        losses = self._losses.waiting()
        scalars = [scalar for *_, scalar in taken] + losses
        if scalars:
            numbers = torch.stack([scalar.detach().double() for scalar in scalars]).cpu().tolist()
            self._losses.settle(numbers[len(taken) :])
            self._write(taken, numbers)
        if seen:
            rows = torch.cat([labels for *_, labels in seen]).cpu().numpy().astype("int32")
            for name, mode, step, at, labels in seen:
                kept, rows = rows[: len(labels)], rows[len(labels) :]
                series = self._series.setdefault((name, mode), RecordedSeries(name, mode))
                series.global_steps[step], series.tensors[step] = at, kept
                series.summaries[step] = _WHOLE_NUMBERS
        self._forget()

    def close(self) -> None:
        """Leave the module's layers alone."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def measurements(self, ended: bool) -> Measurements:
        """Return all that is known until now."""
        series = [*self._losses.series(), *self._series.values()]
        return Measurements(series, moments=self._moments.kept, ended=ended, now=self._clock())

    def _see(self, name: str, rows: Tensor) -> None:
        if self._is_wanted_whole(name):
            self._seen.append((name, self._mode, self._steps[self._mode], self._at, rows.clone()))

    def _is_wanted_whole(self, name: str) -> bool:
        return any(
            need.whole and need.mode in (None, self._mode) and need.names_tensors and need.holds(name)
            for need in self._needs
        )

    def _attach(self, name: str, module: nn.Module) -> None:
        inputs, outputs = f"{name}_input_", f"{name}_output_"
        if self._wanted(f"{inputs}0", there_anyway=False):
            numbers = itertools.count()  # a module may be run more than once

            def before(module: nn.Module, given: tuple[Any, ...]) -> None:
                self._look(f"{inputs}{next(numbers)}", given[0] if given else None)

            self._handles.append(module.register_forward_pre_hook(before))  # before it changes them in place
        if self._wanted(f"{outputs}0", there_anyway=False):
            counted = itertools.count()

            def after(module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
                self._look(f"{outputs}{next(counted)}", made)

            self._handles.append(module.register_forward_hook(after))

    @torch.no_grad()
    def _look(self, name: str, tensor: Any) -> None:
        """Measure what goes into a layer, or comes out of it."""
        try:
            if isinstance(tensor, Tensor) and tensor.is_floating_point() and not self._failed:
                self._measure(name, thinned(tensor.detach()).float())
        except Exception as error:  # noqa: BLE001 - raised where the forward pass is over
            self._failed = error

    def _measure(self, name: str, tensor: Tensor) -> None:
        wanted = self._wanted(name, there_anyway=True)
        if wanted is None:
            return
        series, step = self._series_of(name), self._steps[self._mode]
        series.global_steps[step] = self._at
        for statistic, number in summarize_on_device(tensor, wanted.statistics).items():
            self._taken.append((series, step, statistic, number))
        for measure in wanted.measures:
            number_of_whole = measure_on_device(measure, tensor)
            if number_of_whole is None:
                series.measured[step, measure] = None
            else:
                self._taken.append((series, step, measure, number_of_whole))

    def _comparisons(self, name: str) -> tuple[Comparison, ...]:
        wanted = self._wanted(name, there_anyway=True)
        return wanted.comparisons if wanted else ()

    def _wanted(self, name: str, there_anyway: bool) -> _Wanted | None:
        """Return what is asked of a tensor at this step; rules that name no tensors ask those that are there anyway."""
        step = self._steps[self._mode]
        needs = tuple(
            need
            for need in self._needs
            if need.mode in (None, self._mode)
            and (need.steps is None or step < need.steps)
            and (there_anyway or need.names_tensors)
        )
        key = (name, needs)
        if key not in self._wanted_of:
            held = [need for need in needs if not need.whole and (not need.names_tensors or need.holds(name))]
            wanted = _Wanted(
                tuple(dict.fromkeys(statistic for need in held for statistic in need.statistics)),
                tuple(dict.fromkeys(measure for need in held for measure in need.measures)),
                tuple(dict.fromkeys(comparison for need in held for comparison in need.comparisons)),
            )
            self._wanted_of[key] = wanted if held else None
        return self._wanted_of[key]

    def _series_of(self, name: str) -> RecordedSeries:
        return self._series.setdefault((name, self._mode), RecordedSeries(name, self._mode))

    def _write(self, taken: list[tuple[RecordedSeries, int, Asked, Tensor]], numbers: list[float]) -> None:
        summaries: dict[tuple[int, int], dict[str, float]] = {}
        by_id = {id(series): series for series, *_ in taken}
        for (series, step, asked, _), number in zip(taken, numbers, strict=False):
            if isinstance(asked, str):
                summaries.setdefault((id(series), step), {})[asked] = number
            else:
                series.measured[step, asked] = number
        for (series_id, step), known in summaries.items():
            by_id[series_id].summaries[step] = Summary(**known)

    def _forget(self) -> None:
        """Thin out old steps, so that a job of any length stays within its bounds."""
        least, most = _STEPS
        steps = min(most, max(least, MOST_NUMBERS // max(1, len(self._series))))
        for series in self._series.values():
            if series.tensors:
                if series.mode is Mode.EVAL:
                    series.forget_before(self._losses.evaluation_began)
                while len(series.tensors) > 2 and sum(map(len, series.tensors.values())) > MOST_LABELS:
                    series.thin()
            elif len(series.global_steps) > steps:
                series.thin(FIRST)
