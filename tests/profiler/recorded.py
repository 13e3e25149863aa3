"""Recorded profiles for the rules to judge: samples and steps, without a machine or a training."""

import itertools
import json
import math
import random

from kennel.hyperparameters import parse_hyperparameters
from kennel.judging.judge import judge
from kennel.profiler.ledger import Ledger
from kennel.profiler.operators import Operator, OperatorProfiler
from kennel.profiler.profile import Profile
from kennel.profiler.rules import choose_rules
from kennel.profiler.samples import GpuSample, Sample
from kennel.profiler.summary import summary

HEALTHY_STEP = {"data": 0.002, "to_device": 0.004, "forward": 0.03, "backward": 0.06, "optimizer": 0.004}


def samples(count=400, cpu=50.0, io_wait=1.0, busy=(92.0,), memory=(75.0,)):
    """Return samples twice a second; a function gives the value at each, a number is the same at all."""

    def at(value, number):
        return value(number) if callable(value) else value

    return tuple(
        Sample(
            at=(number + 1) / 2,
            cores=(at(cpu, number),) * 4,
            io_wait=at(io_wait, number),
            memory=40.0,
            own_memory=2e9,
            read=5e6,
            written=0.0,
            received=0.0,
            sent=0.0,
            gpus=tuple(GpuSample(at(gpu, number), at(share, number)) for gpu, share in zip(busy, memory, strict=True)),
        )
        for number in range(count)
    )


def steps(ledger, count, images=64, slow=None, **parts):
    """Let a ledger see steps; `slow` maps their numbers, from 1, to parts that differ."""
    ledger.add("start-up", 0.0)
    for number in range(1, count + 1):
        for part, seconds in {**HEALTHY_STEP, **parts, **(slow or {}).get(number, {})}.items():
            ledger.add(part, seconds)
        ledger.end_step(images)


def profile(taken=None, decoding=0.0, count=2000, slow=None, hyperparameters=None, gpus=None, **parts):
    """Return a profile of a job that trained a network, and was healthy unless something else is given."""
    taken = samples() if taken is None else taken
    hp = parse_hyperparameters({"weights": "none", **(hyperparameters or {})})
    ledger = Ledger()
    ledger.add("start-up", 1.0)
    ledger.add("decoding", decoding)
    steps(ledger, count, slow=slow, **parts)
    if gpus is None:
        gpus = min((len(sample.gpus) for sample in taken), default=0)
    return Profile(
        hyperparameters=hp,
        cores=4,
        decoders=hp.num_workers or 4,
        samples=taken,
        gpus=tuple(itertools.repeat("NVIDIA A10G", gpus)),
        stages=ledger.stages,
        parts=ledger.parts,
        first_step=ledger.first_step,
    )


def write_profile(folder, days=0.0):
    """Write the `profiler.json` of a job, of minutes or of days on eight GPUs."""
    ledger, hp = Ledger(), parse_hyperparameters({"unfreeze": "all", "profile_steps": "10"})
    draw = random.Random(1)
    ledger.add("start-up", 0.8)
    ledger.add("decoding", 12.0 + 600 * days)
    ledger.add("features", 9.0)
    count = int(300 + 40_000 * days)
    for stage, epochs in (("head", 3), ("network", 6)):
        ledger.add("start-up", 0.1)
        for _ in range(epochs):
            for _ in range(count // 6):
                for part, seconds in HEALTHY_STEP.items():
                    slow = 12 if draw.random() < 0.004 else 1
                    ledger.add(
                        part, seconds * draw.uniform(0.9, 1.2) * slow * (0.1 if stage == "head" else 1 + 15 * days)
                    )
                ledger.end_step(64)
            ledger.add("evaluation", 0.6 + 30 * days)
    ledger.add("test", 3.0)
    gpus = 8 if days else 0
    taken = samples(
        int(2 * min(ledger.elapsed, 4000)),
        cpu=lambda n: 60 + 30 * math.sin(n / 40),
        io_wait=lambda n: max(0.0, 10 - n / 4),
        busy=tuple((lambda n, gpu=gpu: 85 + 3 * math.sin(n / 9 + gpu) - gpu) for gpu in range(gpus)),
        memory=(62.0,) * gpus,
    )
    profile = Profile(
        hyperparameters=hp,
        cores=8,
        decoders=8,
        samples=taken,
        every=max(1, round(ledger.elapsed / 4000)),
        gpus=("NVIDIA A10G",) * gpus,
        stages=ledger.stages,
        parts=ledger.parts,
        first_step=ledger.first_step,
    )
    operators = OperatorProfiler(5, 10, folder)
    operators.steps, operators.has_trace = 10, True
    for number in range(60):
        name = f"aten::convolution_backward_{number}"
        operators._table[name] = Operator(name, 200, 0.9**number, 0.8**number * bool(gpus), 10**8 * bool(gpus))
    judgement = judge(choose_rules("sdk"), profile, ended=True, asked_for=False)
    value = summary(profile, ledger.timeline, operators, judgement)
    (folder / "profiler.json").write_text(json.dumps(value))
    return value
