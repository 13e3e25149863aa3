"""Recorded profiles for the rules to judge: samples and steps, without a machine or a training."""

import itertools

from kennel.hyperparameters import parse_hyperparameters
from kennel.profiler.ledger import Ledger
from kennel.profiler.profile import Profile
from kennel.profiler.samples import GpuSample, Sample

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


def profile(taken=None, decoding=0.0, count=2000, slow=None, hyperparameters=None, cores=4, wait=None, **parts):
    """Return a profile of a job that trained a network, and was healthy unless something else is given."""
    taken = samples() if taken is None else taken
    hp = parse_hyperparameters({"weights": "none", **(hyperparameters or {})})
    ledger = Ledger()
    ledger.add("start-up", 1.0)
    ledger.add("decoding", decoding)
    if wait:
        ledger.add("features", wait)
        ledger.add("start-up", 0.0)
    steps(ledger, count, slow=slow, **parts)
    gpus = min((len(sample.gpus) for sample in taken), default=0)
    return Profile(
        hyperparameters=hp,
        cores=cores,
        decoders=hp.num_workers or cores,
        samples=taken,
        gpus=tuple(itertools.repeat("NVIDIA A10G", gpus)),
        stages=ledger.stages,
        parts=ledger.parts,
        first_step=ledger.first_step,
    )
