"""A training job in numbers, for programs, and as the command that trains the same again."""

import re
import shlex
from dataclasses import asdict
from typing import Any

from kennel.hyperparameters import DECLARATIONS
from kennel.report.job_record import JobRecord

_JOBS_MODEL = re.compile(r"^.*/([^/]+)/output/model\.tar\.gz$")  # where a job leaves its model: it is known by name
MOST_CONFUSIONS = 2500  # that are written down, the most frequent first


def summary(job: JobRecord) -> dict[str, Any]:
    """Return the content of `report.json`: what the page shows."""
    return {
        "name": job.name,
        "status": job.status,
        "reason": job.reason,
        "image": job.image,
        "kennel": job.kennel,
        "instance": job.instance,
        "device": job.device,
        "started": job.started,
        "seconds": job.seconds,
        "price": job.price,
        "cost": None if job.cost is None else round(job.cost, 4),
        "hyperparameters": job.hyperparameters,
        "changed": job.changed,
        "command": train_command(job),
        "data": {split.name: {"images": split.images, "skipped": split.skipped} for split in job.splits},
        "held_out": None if job.held_out is None else {"images": job.held_out[0], "of": job.held_out[1]},
        "warnings": list(job.warnings),
        "best_epoch": job.best_epoch,
        "metrics": job.metrics,
        "epochs": [{"epoch": epoch.number, "seconds": epoch.seconds, **epoch.metrics} for epoch in job.epochs],
        "classes": [asdict(result) for result in job.results],
        "confusions": [asdict(pair) for pair in job.confusions[:MOST_CONFUSIONS]],
        "engines": [asdict(engine) for engine in job.engines],
        "rules": [
            {"rule": result.rule, "kind": result.kind, "status": result.status, "times": result.times}
            for result in job.judged.results
        ],
        "time": None if job.profile is None else {"seconds": job.profile.seconds, "parts": job.profile.parts},
        "worst": [{name: value for name, value in asdict(photo).items() if name != "jpeg"} for photo in job.worst],
    }


def train_command(job: JobRecord) -> str:
    """Return the command that trains the same again, with DATA and FILE for folders and files that nobody knows."""
    words = ["kennel train"]
    if any(source.startswith("s3://") for source in job.sources.values()):
        words.append("--on aws")
    words += ["--data", shlex.quote(job.sources.get("training", "DATA"))]
    if model := job.sources.get("model"):
        words += ["--from-model", shlex.quote(_JOBS_MODEL.sub(r"\1", model))]
    weights = job.hyperparameters.get("weights", "pretrained")
    if weights != "pretrained":
        words += ["--weights", shlex.quote(weights)]
    elif "pretrained" in job.sources or not job.sources:  # else they were in the image
        words += ["--weights", shlex.quote(job.sources.get("pretrained", "FILE"))]
    for name, value in job.changed.items():
        if name != "weights" and name in DECLARATIONS:
            words += [f"--{name.replace('_', '-')}", shlex.quote(value)]
    return " ".join(words)
