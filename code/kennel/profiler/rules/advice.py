"""What to try, computed from what was measured: which hyperparameter, from what to what, and what it brings at best."""

from kennel.hyperparameters import DECLARATIONS
from kennel.judging.rule import Curve
from kennel.profiler.ledger import Stage
from kennel.profiler.profile import Profile
from kennel.profiler.samples import Sample, percentile

WORTH = 1.0  # seconds; nobody changes a job to save less

_MOST_POINTS = 200  # of a curve
_DISK = 10.0  # per cent of the cores' time that is spent on waiting for a disk where reading is what takes long
_ROOM = 0.9  # share of a GPU's memory that a larger batch may fill
_SIDE = 32  # pixels; every backbone but a few takes multiples of it
_UNEVEN = ("maxvit", "vit_h_14")  # the few
_NAMES = {"to_device": "bringing batches to the device", "data": "waiting for data", "optimizer": "the optimizer"}


def spoken(part: str) -> str:
    """Return a part's name as a sentence has it."""
    return _NAMES.get(part, f"the {part}" if part in ("forward", "backward") else part)


def times_shorter(share: float) -> str:
    """Return how much shorter something gets at best that loses so large a share of its time."""
    return f"at best {1 / (1 - min(share, 0.99)):.1f} × shorter"


def on_waiting(profile: Profile, stage: Stage) -> str:
    """Return what to try against steps that wait for data."""
    hp, gain = profile.hyperparameters, times_shorter(stage.share("data"))
    if stage.name == "head":
        return (
            f"batch_size {hp.batch_size} → {4 * hp.batch_size}: a step of the head is short, and to hand it a batch of "
            f"cached features takes its time whatever the size; without the wait a step would be {gain}"
        )
    side = max(_SIDE, round(hp.image_size * 2**-0.5 / _SIDE) * _SIDE)
    cause = "one thread copies the packed images from memory"
    if _waits_for_disk(profile, stage):
        cause = "the packed images come from the disk again and again, so a machine with more memory would help too"
    smaller = f"image_size {hp.image_size} → {side}, which halves what is read"
    if side >= hp.image_size or hp.backbone.startswith(_UNEVEN):
        smaller = f"another backbone, for {hp.backbone} sees no images that are half as large as {hp.image_size} pixels"
    return (
        f"{smaller}: {cause}; without the wait a step would be {gain}. num_workers would change nothing: its threads "
        "decode images before the first step alone"
    )


def _waits_for_disk(profile: Profile, stage: Stage) -> bool:
    waits = [sample.io_wait for sample in profile.samples if stage.began <= sample.at <= stage.ended]
    return bool(waits) and sum(waits) / len(waits) > _DISK


def on_decoding(profile: Profile) -> str:
    """Return what to try against a long decoding of images."""
    hp, seconds = profile.hyperparameters, profile.parts.get("decoding", 0.0)
    share = seconds / profile.seconds if profile.seconds else 0.0
    took = f"decoding took {seconds:.0f} s, {share:.0%} of the job".replace("%", " %")
    if profile.decoders < profile.cores:
        faster = profile.cores / profile.decoders
        return (
            f"num_workers {hp.num_workers} → 0, which is one thread a core, {profile.cores} here: {took}, and would at "
            f"best be {faster:.1f} × shorter"
        )
    if profile.decoders > profile.cores:
        return f"num_workers {hp.num_workers} → 0, which is one thread a core, {profile.cores} here: {took}"
    return (
        f"more cores, or a KENNEL_CACHE that later jobs on the same images share: {took}, and without it the job would "
        f"be {times_shorter(share)}"
    )


def on_batch_size(profile: Profile, busy: float, memory: float) -> str:
    """Return what to try against a GPU that is `busy` and full of `memory` so many per cent of the time and of it."""
    hp = profile.hyperparameters
    fitting = hp.batch_size
    while fitting * 2 <= (DECLARATIONS["batch_size"].high or 0) and memory * fitting * 2 / hp.batch_size <= 100 * _ROOM:
        fitting *= 2
    gain = times_shorter(1 - max(busy, 1.0) / 100)
    if fitting == hp.batch_size:
        return f"a smaller GPU: this one is {busy:.0f} % busy, and a batch_size above {fitting} does not fit into it"
    return (
        f"batch_size {hp.batch_size} → {fitting}, which the GPU's memory has room for ({memory:.0f} % in use), with a "
        f"learning_rate to match; a GPU that is never idle would make a step {gain}"
    )


def on_idle_gpu(profile: Profile, samples: tuple[Sample, ...], gpu: int) -> str:
    """Return what to try against a GPU that is often idle: against what keeps it waiting, if that is known."""
    if profile.stages and profile.main_stage.share("data") > 0.2:
        return on_waiting(profile, profile.main_stage)
    if profile.parts.get("decoding", 0.0) > profile.seconds / 4:
        return on_decoding(profile)
    busy, memory = (
        percentile([getattr(sample.gpus[gpu], name) for sample in samples], 95) for name in ("busy", "memory")
    )
    return on_batch_size(profile, busy, memory)


def curve(name: str, quantity: str, at: list[float], values: list[float], *thresholds: float) -> Curve:
    """Return a curve over seconds, thinned to what a chart can show."""
    every = max(1, len(at) // _MOST_POINTS)
    points = tuple((int(second), round(value, 2)) for second, value in zip(at[::every], values[::every], strict=True))
    return Curve(name, quantity, points, thresholds)
