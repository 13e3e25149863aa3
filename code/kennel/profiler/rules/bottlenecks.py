"""Rules for what keeps a GPU waiting: cores, and disks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from kennel.judging.rule import Finding, parameter
from kennel.profiler.profile import PATIENCE, Profile
from kennel.profiler.rules.advice import curve, on_decoding, on_waiting
from kennel.profiler.samples import Sample


def _gpu(sample: Sample) -> float:
    """Return how busy the GPUs are on average."""
    return sum(gpu.busy for gpu in sample.gpus) / len(sample.gpus)


def _advice(profile: Profile, otherwise: str) -> str:
    """Return what to try, by the part of the job that the cores or the disk are needed for."""
    waiting = profile.main_stage.parts.get("data", 0.0) if profile.stages else 0.0
    decoding = profile.parts.get("decoding", 0.0)
    if max(waiting, decoding) < profile.seconds / 20:
        return otherwise
    return on_waiting(profile, profile.main_stage) if waiting > decoding else on_decoding(profile)


@dataclass(frozen=True)
class CPUBottleneck:
    """The GPU waits while the cores work (contract D4)."""

    name: ClassVar[str] = "CPUBottleneck"
    fires: ClassVar[str] = (
        "in over `threshold` per cent of the samples cores are above `cpu_threshold` and GPUs below `gpu_threshold`"
    )
    advice: ClassVar[str] = "more cores a GPU"
    threshold: float = parameter(50.0, "per cent of the samples that may be so", low=0.0, high=100.0)
    gpu_threshold: float = parameter(10.0, "per cent below which a GPU is idle", low=0.0, high=100.0)
    cpu_threshold: float = parameter(90.0, "per cent above which cores are busy", low=0.0, high=100.0)
    patience: int = parameter(1000, PATIENCE, low=0, high=2**31)

    def check(self, profile: Profile) -> Iterator[Finding]:
        """Yield it once. Raises NothingToJudge without a GPU or with few samples."""
        samples = profile.of_gpus(self.patience)
        found = [s for s in samples if s.cpu > self.cpu_threshold and _gpu(s) < self.gpu_threshold]
        share = 100 * len(found) / max(1, len(samples))
        if share > self.threshold:
            at = [sample.at for sample in samples]
            yield Finding(
                self.name,
                profile.steps,
                f"in {share:.0f} % of the samples the {profile.cores} cores are above {self.cpu_threshold:g} % and the "
                f"GPUs below {self.gpu_threshold:g} %",
                {"share": share, "samples": len(samples)},
                _advice(profile, f"an instance with more cores: {profile.cores} are too few for what they have to do"),
                (
                    curve("cores", "per cent busy", at, [s.cpu for s in samples], self.cpu_threshold),
                    curve("GPUs", "per cent busy", at, [_gpu(s) for s in samples], self.gpu_threshold),
                ),
            )


@dataclass(frozen=True)
class IOBottleneck:
    """The GPU waits while the cores wait for a disk (contract D4)."""

    name: ClassVar[str] = "IOBottleneck"
    fires: ClassVar[str] = (
        "in over `threshold` per cent of the samples IO wait is above `io_threshold` and GPUs below `gpu_threshold`"
    )
    advice: ClassVar[str] = "a quicker disk"
    threshold: float = parameter(50.0, "per cent of the samples that may be so", low=0.0, high=100.0)
    gpu_threshold: float = parameter(10.0, "per cent below which a GPU is idle", low=0.0, high=100.0)
    io_threshold: float = parameter(50.0, "per cent of the cores' time above which it is IO wait", low=0.0, high=100.0)
    patience: int = parameter(1000, PATIENCE, low=0, high=2**31)

    def check(self, profile: Profile) -> Iterator[Finding]:
        """Yield it once. Raises NothingToJudge without a GPU or with few samples."""
        samples = profile.of_gpus(self.patience)
        found = [s for s in samples if s.io_wait > self.io_threshold and _gpu(s) < self.gpu_threshold]
        share = 100 * len(found) / max(1, len(samples))
        if share > self.threshold:
            at = [sample.at for sample in samples]
            read = sum(sample.read for sample in found) / len(found) / 1e6
            yield Finding(
                self.name,
                profile.steps,
                f"in {share:.0f} % of the samples the cores wait for a disk over {self.io_threshold:g} % of the time "
                f"and the GPUs are below {self.gpu_threshold:g} %; {read:.0f} MB a second are read",
                {"share": share, "samples": len(samples), "megabytes": read},
                _advice(profile, "a quicker disk for KENNEL_CACHE, or the input mode File instead of FastFile"),
                (
                    curve("cores", "per cent of IO wait", at, [s.io_wait for s in samples], self.io_threshold),
                    curve("GPUs", "per cent busy", at, [_gpu(s) for s in samples], self.gpu_threshold),
                ),
            )
