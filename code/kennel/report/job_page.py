"""The page of a training job: one file that opens anywhere, and the same in numbers for programs."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kennel.atomic import write_json, write_text
from kennel.report.job_record import JobRecord, read_job
from kennel.report.job_sections import SECTIONS
from kennel.report.job_summary import summary
from kennel.report.pages import duration, render, score, script

PAGE, JSON = "report.html", "report.json"

Fact = tuple[str, str, str]  # a name, a value, and a note on it


def write_job_page(folder: Path, known: Mapping[str, Any] = MappingProxyType({})) -> Path:
    """Write `report.html` and `report.json` from what a job left in `folder`, and return the page's path.

    `known` holds members of `job.json` that are known better by now. Raises ReportError when the folder is no job's.
    """
    job = read_job(folder, known)
    write_json(folder / JSON, summary(job))
    sections = [section for make in SECTIONS if (section := make(job))]
    sorting, allowed = script("sort.js")
    page = folder / PAGE
    write_text(
        page, render("job.html", job=job, facts=_facts(job), sections=sections, sorting=sorting, allowed=allowed)
    )
    return page


def _facts(job: JobRecord) -> list[Fact]:
    """Return what stands at the top."""
    facts = [
        (f"{split.capitalize()} accuracy", score(job.metrics[f"{split}_accuracy"]), _loss(job, split))
        for split in ("test", "valid")
        if f"{split}_accuracy" in job.metrics
    ]
    if job.best_epoch is not None:
        facts.append(("Best epoch", str(job.best_epoch), f"of {job.epochs[-1].number}" if job.epochs else ""))
    if job.splits:
        images = sum(split.images for split in job.splits)
        facts.append(("Images", f"{images:,}", f"{len(job.classes)} classes"))
    if backbone := job.hyperparameters.get("backbone"):
        facts.append(("Backbone", backbone, ""))
    if job.seconds is not None:
        facts.append(("Duration", duration(job.seconds), job.device.partition(" (")[0]))
    if job.cost is not None:
        facts.append(("Cost, estimated", f"${job.cost:.2f}", f"at ${job.price:g} an hour"))
    return facts


def _loss(job: JobRecord, split: str) -> str:
    value = job.metrics.get(f"{split}_loss")
    return "" if value is None else f"loss {score(value)}"
