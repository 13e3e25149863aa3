"""Rules for how busy and how full the GPUs are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kennel.errors import NothingToJudge
from kennel.judging.rule import Finding, parameter
from kennel.profiler.profile import FEWEST, PATIENCE, Profile
from kennel.profiler.rules.advice import curve, on_batch_size, on_idle_gpu
from kennel.profiler.samples import Sample, percentile

_IDLE = 10.0  # per cent; GPUs that do less are not compared with each other


def _busy(samples: tuple[Sample, ...], gpu: int) -> list[float]:
    return [sample.gpus[gpu].busy for sample in samples]


@dataclass(frozen=True)
class LowGPUUtilization:
    """A GPU is hardly used, or goes from busy to idle and back (contract D4); the last `window` samples are judged."""

    name: ClassVar[str] = "LowGPUUtilization"
    fires: ClassVar[str] = "95 of 100 samples of a GPU are below `threshold_p95` per cent, or 5 below `threshold_p5`"
    advice: ClassVar[str] = "a larger batch_size, or less waiting for data"
    threshold_p95: float = parameter(70.0, "per cent; the 95th percentile should not be lower", low=0.0, high=100.0)
    threshold_p5: float = parameter(10.0, "per cent; the 5th percentile should not be lower", low=0.0, high=100.0)
    window: int = parameter(500, "samples that are judged, the last ones", low=1, high=2**31)
    patience: int = parameter(1000, PATIENCE, low=0, high=2**31)

    def check(self, profile: Profile) -> Iterator[Finding]:
        """Yield the GPUs that are. Raises NothingToJudge without a GPU or with few samples."""
        samples = profile.of_gpus(self.patience)[-max(FEWEST, profile.points(self.window)) :]
        at = [sample.at for sample in samples]
        for gpu, name in enumerate(profile.gpus):
            busy = _busy(samples, gpu)
            low, high = percentile(busy, 5), percentile(busy, 95)
            if high < self.threshold_p95:
                verdict = (
                    f"is under-used: 95 of 100 samples are at most {high:.0f} % busy, below {self.threshold_p95:g}"
                )
            elif low < self.threshold_p5:
                verdict = (
                    f"is busy and idle by turns: 5 of 100 samples are at most {low:.0f} % busy, 5 above {high:.0f}"
                )
            else:
                continue
            yield Finding(
                self.name,
                profile.steps,
                f"GPU {gpu} ({name}) {verdict}",
                {"gpu": gpu, "p5": low, "p95": high, "samples": len(busy)},
                on_idle_gpu(profile, samples, gpu),
                (curve(f"GPU {gpu}", "per cent busy", at, busy, self.threshold_p95, self.threshold_p5),),
            )


@dataclass(frozen=True)
class BatchSize:
    """Cores, GPU and its memory all have room: batches are too small (contract D4); the last `window` is judged."""

    name: ClassVar[str] = "BatchSize"
    fires: ClassVar[str] = "95 of 100 samples of cores, GPU and GPU memory are all below their thresholds"
    advice: ClassVar[str] = "a larger batch_size"
    cpu_threshold_p95: float = parameter(70.0, "per cent of the cores", low=0.0, high=100.0)
    gpu_threshold_p95: float = parameter(70.0, "per cent of a GPU's time", low=0.0, high=100.0)
    gpu_memory_threshold_p95: float = parameter(70.0, "per cent of a GPU's memory", low=0.0, high=100.0)
    patience: int = parameter(1000, PATIENCE, low=0, high=2**31)
    window: int = parameter(500, "samples that are judged, the last ones", low=1, high=2**31)

    def check(self, profile: Profile) -> Iterator[Finding]:
        """Yield the GPUs for which it is so. Raises NothingToJudge without a GPU or with few samples."""
        samples = profile.of_gpus(self.patience)[-max(FEWEST, profile.points(self.window)) :]
        cpu = percentile([sample.cpu for sample in samples], 95)
        at = [sample.at for sample in samples]
        for gpu, name in enumerate(profile.gpus):
            busy = percentile(_busy(samples, gpu), 95)
            memory = percentile([sample.gpus[gpu].memory for sample in samples], 95)
            if (
                cpu < self.cpu_threshold_p95
                and busy < self.gpu_threshold_p95
                and memory < self.gpu_memory_threshold_p95
            ):
                yield Finding(
                    self.name,
                    profile.steps,
                    f"of 100 samples 95 have the cores at most {cpu:.0f} % busy, GPU {gpu} ({name}) {busy:.0f} % busy "
                    f"and its memory {memory:.0f} % full",
                    {"gpu": gpu, "cpu_p95": cpu, "gpu_p95": busy, "gpu_memory_p95": memory},
                    on_batch_size(profile, busy, memory),
                    (curve(f"GPU {gpu}", "per cent busy", at, _busy(samples, gpu), self.gpu_threshold_p95),),
                )


@dataclass(frozen=True)
class GPUMemoryIncrease:
    """A GPU's memory fills up while the same thing is trained (contract D4).

    The mean of each `window` of samples is compared with the lowest before it, within a stage: that training begins, or
    that the network's follows the head's, takes memory and is no leak. The first tenth of a stage is not judged.
    """

    name: ClassVar[str] = "GPUMemoryIncrease"
    fires: ClassVar[str] = "the moving average of a GPU's memory rises by more than `increase` points of its per cent"
    advice: ClassVar[str] = "look for what keeps tensors alive"
    increase: float = parameter(5.0, "points of the per cent that the average may rise by", low=0.0, high=100.0)
    patience: int = parameter(1000, PATIENCE, low=0, high=2**31)
    window: int = parameter(10, "samples of an average", low=1, high=2**31)

    def check(self, profile: Profile) -> Iterator[Finding]:
        """Yield the rises, one a GPU and stage. Raises NothingToJudge without a GPU or with few samples."""
        samples = profile.of_gpus(self.patience)
        spans = [[s for s in samples if stage.began <= s.at <= stage.ended] for stage in profile.stages]
        judged = [span[len(span) // 10 :] for span in spans if len(span) >= FEWEST]
        if not judged:
            raise NothingToJudge(f"no stage of the training has {FEWEST} samples")
        for span in judged:
            wide = min(profile.points(self.window), len(span) // 4)
            for gpu, name in enumerate(profile.gpus):
                memory = [sample.gpus[gpu].memory for sample in span]
                means = np.convolve(memory, np.full(wide, 1 / wide), "valid")
                rise = float((means - np.minimum.accumulate(means)).max())
                if rise <= self.increase:
                    continue
                last, seconds = float(means[-1]), span[-1].at - span[0].at
                grown, soon = last - float(means[0]), ""
                if grown > 0:
                    soon = f". At this rate the memory is full in {(100 - last) / grown * seconds / 60:.0f} min"
                yield Finding(
                    self.name,
                    profile.steps,
                    f"the memory of GPU {gpu} ({name}) rose by {rise:.1f} points in {seconds:.0f} s, to {last:.0f} %",
                    {"gpu": gpu, "rise": rise, "memory": last},
                    "look for what keeps tensors alive, or for another program on this GPU: a training step needs as "
                    f"much as the one before{soon}",
                    (curve(f"GPU {gpu}", "per cent of memory", [s.at for s in span], memory),),
                )


@dataclass(frozen=True)
class LoadBalancing:
    """GPUs are not equally busy (contract D4).

    AWS does not say how far apart two histograms are. Here it is how far one's samples would have to be moved to become
    the other's (the earth mover's distance), as a share of what the busier one does: at 0.5 a GPU works half as much.
    GPUs that are all idle are for other rules.
    """

    name: ClassVar[str] = "LoadBalancing"
    fires: ClassVar[str] = (
        "the histograms of two GPUs' utilization are farther apart than `threshold`, as a share of the busier one"
    )
    advice: ClassVar[str] = "a batch_size that is a multiple of the number of GPUs"
    threshold: float = parameter(0.5, "largest distance that is no issue, from 0 to 1", low=0.0, high=1.0)
    patience: int = parameter(1000, PATIENCE, low=0, high=2**31)

    def check(self, profile: Profile) -> Iterator[Finding]:
        """Yield the pair that is farthest apart. Raises NothingToJudge without two GPUs or with few samples."""
        samples = profile.of_gpus(self.patience)
        if len(profile.gpus) < 2:
            raise NothingToJudge("there is one GPU, which has nothing to share with another")
        ranked = [np.sort(_busy(samples, gpu)) for gpu in range(len(profile.gpus))]
        distance, first, second = max(
            (float(np.abs(ranked[a] - ranked[b]).mean() / max(ranked[a].mean(), ranked[b].mean(), _IDLE)), a, b)
            for a in range(len(ranked))
            for b in range(a)
        )
        if distance <= self.threshold:
            return
        means = [float(np.mean(_busy(samples, gpu))) for gpu in (first, second)]
        at = [sample.at for sample in samples]
        yield Finding(
            self.name,
            profile.steps,
            f"GPU {second} is {means[1]:.0f} % busy on average, GPU {first} {means[0]:.0f} %; their histograms are "
            f"{distance:.2f} apart",
            {"gpus": [second, first], "distance": distance, "means": means[::-1]},
            self._advice(profile),
            tuple(curve(f"GPU {gpu}", "per cent busy", at, _busy(samples, gpu)) for gpu in (second, first)),
        )

    def _advice(self, profile: Profile) -> str:
        batch, count = profile.hyperparameters.batch_size, len(profile.gpus)
        even = -(-batch // count) * count
        if even != batch:
            return f"batch_size {batch} → {even}: of {batch} images {count} GPUs cannot get the same share"
        if profile.stages and profile.main_stage.name == "head":
            return f"an instance with one GPU: the head is small, and one of the {count} fits it for all"
        return "look for another program on one of them: every GPU gets the same share of each batch"
