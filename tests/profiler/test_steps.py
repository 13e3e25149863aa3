"""How the time of a training is added up: by fake clocks, so that every figure is known."""

import itertools
from typing import get_args

import pytest

from kennel.profiler.ledger import MOST_BUCKETS, WARM_UP, Ledger, Part
from kennel.profiler.operators import OperatorProfiler
from kennel.profiler.steps import StepTimer
from kennel.report.profile_section import PARTS
from kennel.training import watching
from tests.profiler.recorded import HEALTHY_STEP, steps


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def timer_on(clock, tmp_path, record=lambda: None):
    return StepTimer(OperatorProfiler(2, 0, tmp_path), clock, record)


def test_all_parts_together_are_all_the_time_there_was(clock, tmp_path):
    timer = timer_on(clock, tmp_path)
    script = ["start-up", "decoding", "features", "start-up", *["data", "to_device", "checkpoint", "forward"] * 3]
    for number, part in enumerate([*script, "evaluation", "test"]):
        clock.now += 0.25 * (number + 1)
        timer.mark(part)
        if part == "forward":
            timer.end_step(8)
    clock.now += 7
    timer.end()
    ledger = timer.ledger
    assert sum(ledger.parts.values()) == ledger.elapsed == clock.now - 100.0
    assert ledger.parts["other"] == 7
    in_buckets = {part: sum(bucket.get(part, 0) for bucket in ledger.timeline.buckets) for part in ledger.parts}
    assert in_buckets == pytest.approx(ledger.parts)
    (stage,) = ledger.stages
    assert stage.name == "head"
    assert (stage.steps, stage.images) == (3, 24)
    assert stage.seconds == sum(ledger.parts[part] for part in ("data", "to_device", "forward"))


def test_every_part_that_the_loop_tells_is_known_and_has_a_name_on_the_page():
    assert set(get_args(watching.Part)) < set(get_args(Part)) == set(PARTS)


def test_the_network_is_a_stage_of_its_own_after_the_head():
    ledger = Ledger()
    ledger.add("features", 1.0)
    steps(ledger, 30, forward=0.001)
    ledger.add("evaluation", 1.0)
    steps(ledger, 10, slow={9: {"data": 2.0}})
    head, network = ledger.stages
    assert (head.name, head.steps, network.name, network.steps) == ("head", 30, "network", 10)
    assert network.slowest[0].step == 9
    assert network.slowest[0].parts["data"] == 2.0
    assert network.judged == 10 - WARM_UP
    assert head.median == pytest.approx(head.mean, rel=0.05)
    count, cost = network.slower_than(1.0)
    assert count == 1
    assert cost == pytest.approx(2.0, rel=0.05)
    assert ledger.first_step == pytest.approx(1.0 + sum({**HEALTHY_STEP, "forward": 0.001}.values()))


def test_a_job_of_days_takes_no_more_room_than_one_of_minutes():
    ledger = Ledger()
    for number in range(100_000):
        ledger.add("data", 1.0 + (number % 977) / 100)
        ledger.add("forward", 2.0)
        ledger.end_step(64)
    (stage,) = ledger.stages
    assert ledger.elapsed > 5 * 86_400
    assert len(ledger.timeline.buckets) <= MOST_BUCKETS + 1
    assert len(stage.bins) < 100
    assert len(stage.slowest) <= 30
    assert sum(stage.bins.values()) == stage.judged == 100_000 - WARM_UP
    count, cost = stage.slower_than(4.0)
    assert 0.85 * stage.judged < count < 0.93 * stage.judged  # a bin is a twentieth wide
    assert cost > 0


class DeviceEvent:
    """A moment of a GPU that is `behind` the program by so many events."""

    events = ()
    behind = 3

    def __init__(self, at):
        self.at = at
        self.number = len(self.events)
        self.events.append(self)

    def query(self):
        return self.number < len(self.events) - self.behind

    def elapsed_time(self, other):
        assert self.query()
        assert other.query()
        return (other.at - self.at) * 1000


def test_on_a_gpu_parts_are_measured_by_its_events_and_nothing_waits_for_it(clock, tmp_path, monkeypatch):
    monkeypatch.setattr(DeviceEvent, "events", [])
    waited = []
    monkeypatch.setattr("torch.cuda.synchronize", lambda: (waited.append(1), setattr(DeviceEvent, "behind", -1)))
    moments = itertools.count(0.0, 0.5)  # the device's clock: half a second a mark, whatever the program's says
    started = []
    timer = timer_on(clock, tmp_path, lambda: DeviceEvent(next(moments)) if started else None)
    clock.now += 2
    timer.mark("start-up")  # before CUDA is there
    started.append(True)
    for _ in range(40):
        for part in ("data", "to_device", "forward", "backward", "optimizer"):
            clock.now += 0.001  # the program only launches
            timer.mark(part)
        timer.end_step(64)
    assert not waited
    assert 30 < timer.ledger.stages[0].steps < 40  # the last ones are not known yet
    monkeypatch.setattr(DeviceEvent, "behind", 3)
    timer.end()
    assert waited == [1]
    (stage,) = timer.ledger.stages
    assert stage.steps == 40
    assert stage.parts["forward"] == pytest.approx(40 * 0.5)
    assert timer.ledger.parts["start-up"] == 2


def test_what_fails_in_the_timer_is_one_warning_and_the_loop_goes_on(clock, tmp_path, caplog):
    def broken():
        raise RuntimeError("CUDA error: device-side assert triggered")

    timer = timer_on(clock, tmp_path, broken)
    for _ in range(3):
        timer.mark("data")
        timer.end_step(8)
    timer.end()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "measuring the steps failed and is off from now on" in caplog.text


def test_torchs_profiler_does_not_look_on_for_ever_when_the_timer_fails(clock, tmp_path):
    fails = []
    operators = OperatorProfiler(2, 10, tmp_path)
    timer = StepTimer(operators, clock, lambda: 1 / 0 if fails else None)
    timer.mark("forward")
    timer.end_step(8)
    assert operators.is_recording
    fails.append(True)
    timer.mark("forward")
    timer.end_step(8)
    assert not operators.is_recording
