"""The rule for what goes into the network."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from kennel.debugger.measures import ChannelMean
from kennel.debugger.needs import Need
from kennel.debugger.rules.by_step import findings_by_step
from kennel.debugger.series import Measurements, Mode
from kennel.errors import NothingToJudge
from kennel.judging.rule import INFINITY, Finding, parameter


@dataclass(frozen=True)
class CheckInputImages:
    """A channel's mean over a batch of input images is farther than `threshold_mean` from zero (contract D3).

    AWS's default expression is that of one MXNet network; PyTorch's is the network's class, such as `ResNet_input_0`.
    """

    name: ClassVar[str] = "check_input_images"
    fires: ClassVar[str] = "the mean of a channel of the input images is farther than `threshold_mean` from zero"
    advice: ClassVar[str] = "normalize the images with the mean and deviation of their channels (statistics=dataset)"
    threshold_mean: float = parameter(0.2, "largest mean that is no issue", low=0.0, high=INFINITY)
    threshold_samples: int = parameter(500, "images of a step that are looked at", low=1, high=2**31)
    regex: str = parameter(".*hybridsequential0_input_0", "expression that finds the input images")
    channel: int = parameter(1, "axis of the channels", low=0, high=16)

    def needs(self) -> Iterator[Need]:
        """Yield the mean of the images."""
        yield Need(regex=self.regex, measures=(self._measure,), mode=Mode.TRAIN)

    @property
    def _measure(self) -> ChannelMean:
        return ChannelMean(self.channel, self.threshold_samples)

    def check(self, measured: Measurements) -> Iterator[Finding]:
        """Yield the steps with such images. Raises NothingToJudge without input images."""
        images = measured.select(regex=self.regex)
        if not images:
            inputs = [one.name for one in measured.select(regex=r"^[A-Z]\w*_input_0$") if "oss" not in one.name]
            hint = f"; give regex={inputs[0]}" if inputs else ""
            raise NothingToJudge(f"no input images were saved (no tensor is called {self.regex}){hint}")
        yield from findings_by_step(
            self,
            images,
            lambda series, step: series.measure(step, self._measure),
            wrong=lambda mean: abs(mean) > self.threshold_mean,
            worst=abs,
            quantity="the mean of a channel",
            verdict=f"farther than {self.threshold_mean:g} from zero",
            thresholds=(-self.threshold_mean, self.threshold_mean),
        )
