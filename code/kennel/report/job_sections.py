"""The sections of a training job's page: each is one function, from the job's record to markup, or to nothing."""

from collections.abc import Callable
from itertools import pairwise
from statistics import median

from kennel.hyperparameters import DECLARATIONS
from kennel.report.job_record import ClassResult, JobRecord
from kennel.report.job_summary import train_command
from kennel.report.learning import Curve, learning_chart
from kennel.report.matrix import MOST_CELLS, NAMED, confusion_matrix
from kennel.report.pages import render
from kennel.report.profile_section import profile_markup
from kennel.report.rules_section import findings, rules_table
from kennel.report.sections import Section

PAIRS = 15  # of classes that are most often mixed up
EXAMPLES = 5  # that are named of images that are unreadable or equal
MOST_CLASSES = 2000  # rows of the table of classes: the worst ones


def warnings(job: JobRecord) -> Section | None:
    """Say what is wrong with the data: the first thing to know before believing any number below."""
    if not (job.warnings or job.overlaps or job.skipped):
        return None
    plain = [text for text in job.warnings if not text.startswith(("leakage: ", "contradiction: "))]
    return Section("Warnings", render("job/warnings.html", plain=plain, job=job, examples=EXAMPLES))


def loss(job: JobRecord) -> Section | None:
    """Show how the loss went."""
    return _learning(job, "loss")


def accuracy(job: JobRecord) -> Section | None:
    """Show how the accuracy went."""
    return _learning(job, "accuracy")


def _learning(job: JobRecord, metric: str) -> Section | None:
    curves = [Curve(job, f"{split}_{metric}", split, split) for split in ("train", "valid")]
    chart = learning_chart(curves, metric, marked=True)
    if chart is None:
        return None
    body = render("job/learning.html", job=job, metric=metric, chart=chart)
    return Section(metric.capitalize(), body, is_wide=False)


def mistakes(job: JobRecord) -> Section | None:
    """Show which classes are taken for which others."""
    if not job.results:
        return None
    matrix = confusion_matrix([result.name for result in job.results], job.confusion)
    is_cut = len(job.confusions) + len(job.results) > MOST_CELLS
    few = len(job.results) <= NAMED
    body = render("job/mistakes.html", job=job, matrix=matrix, pairs=job.confusions[:PAIRS], is_cut=is_cut, few=few)
    return Section("What it gets wrong", body)


def photos(job: JobRecord) -> Section | None:
    """Show the test images that the model was most wrong on."""
    return Section("Worst test photos", render("job/photos.html", photos=job.worst)) if job.worst else None


def classes(job: JobRecord) -> Section | None:
    """Show how each class fared."""
    if not job.results:
        return None
    trained = next((split.classes for split in job.splits if split.name == "train"), {})
    taken = {pair.label: pair for pair in reversed(job.confusions)}  # the most frequent pair of a label stays
    ranked = sorted(job.results, key=_recall)
    rows = [(result, trained.get(result.name), taken.get(result.name)) for result in ranked[:MOST_CLASSES]]
    return Section("Classes", render("job/classes.html", rows=rows, left_out=len(ranked) - len(rows)))


def _recall(result: ClassResult) -> tuple[bool, float, str]:
    return result.recall is None, result.recall or 0.0, result.name


def engines(job: JobRecord) -> Section | None:
    """Show what an endpoint can run the model with."""
    return Section("Engines", render("job/engines.html", engines=job.engines)) if job.engines else None


def time(job: JobRecord) -> Section | None:
    """Show where the time went."""
    return Section("Where the time went", profile_markup(job.profile)) if job.profile else None


def ran(job: JobRecord) -> Section:
    """Say what ran, on what, for how long."""
    times = [epoch.seconds for epoch in job.epochs]
    later = [after - before for before, after in pairwise(times)]
    facts = render("job/ran.html", job=job, each=median(later) if later else None, declarations=DECLARATIONS)
    return Section("What ran", facts)


def reproduce(job: JobRecord) -> Section:
    """Say how to do it again."""
    command = train_command(job)
    return Section("Reproduce", render("job/reproduce.html", command=command, job=job))


SECTIONS: tuple[Callable[[JobRecord], Section | None], ...] = (
    warnings,
    accuracy,
    loss,
    findings,
    mistakes,
    photos,
    classes,
    engines,
    time,
    rules_table,
    ran,
    reproduce,
)
