"""Show a search as it runs: a live table on a terminal, plain lines in a log."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from kennel.report.tuning_page import write_tuning_page
from kennel.tuning.summary import Summary, Trial, ranked, write_summary
from kennel_cli.platforms.local import LocalSageMaker
from kennel_cli.platforms.platform import RUNNING
from kennel_cli.reports import local_report
from kennel_cli.settings import kennel_home
from kennel_cli.tune.watch import Watch

_ACCURACY = "valid_accuracy"
_SHOWN = 30  # trials in the live table; the newest


def follow_search(watch: Watch, console: Console, poll: float) -> Summary:
    """Show the search until it ends, looking every `poll` seconds, and return what it found."""
    summary = watch.summary()
    if console.is_terminal:
        with Live(trials_table(summary), console=console, refresh_per_second=4) as live:
            while summary.status in RUNNING:
                time.sleep(poll)
                summary = watch.summary()
                live.update(trials_table(summary))
            live.update("")  # the final table, best first, follows
        return summary
    told: dict[int, str] = {}
    while True:
        for trial in summary.trials:
            if told.get(trial.number) != trial.status:
                told[trial.number] = trial.status
                console.print(_line(summary, trial), markup=False, highlight=False, soft_wrap=True)
        if summary.status not in RUNNING:
            return summary
        time.sleep(poll)
        summary = watch.summary()


def trials_table(summary: Summary) -> Table:
    """Return the table of a search that runs: the newest trials in the order of their starts."""
    title = f"{summary.name} · {summary.status} · {summary.seconds:.0f} s"
    return _table(summary, summary.trials[-_SHOWN:], title)


def final_table(summary: Summary) -> Table:
    """Return the table of a search that has ended: best first."""
    return _table(summary, ranked(summary), None)


def write_files(folder: Path, summary: Summary) -> None:
    """Write `tuning.json`, `tuning.csv`, `tuning.md` and `tuning.html` into `folder`.

    The page links the report of each trial whose job has run on this machine.
    """
    write_summary(folder, summary)
    sagemaker = LocalSageMaker(kennel_home())
    pages = {trial.job: local_report(sagemaker, trial.job) for trial in summary.trials if trial.job}
    write_tuning_page(folder, {job: os.path.relpath(page, folder) for job, page in pages.items() if page})


def _table(summary: Summary, trials: Sequence[Trial], title: str | None) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for head in ("trial", "status", "epoch", "objective", *_others(summary), "s"):
        table.add_column(head, no_wrap=True, justify="left" if head == "status" else "right")
    table.add_column("hyperparameters")  # there may be many: this column takes what room there is
    best = summary.best
    for trial in trials:
        table.add_row(*_cells(summary, trial), style="bold green" if trial is best else "")
    return table


def _others(summary: Summary) -> list[str]:
    """Return what people look for beside the objective."""
    return [] if summary.metric == _ACCURACY else [_ACCURACY]


def _cells(summary: Summary, trial: Trial) -> list[str]:
    objective = "" if trial.objective is None else f"{trial.objective:.4f}"
    if not objective and trial.curve and trial.status in RUNNING:
        objective = f"{trial.curve[-1]:.4f} …"
    seconds = "" if trial.seconds is None else f"{trial.seconds:.1f}"
    values = "  ".join(f"{name}={_short(value)}" for name, value in trial.hyperparameters.items())
    measured = [f"{trial.metrics[name]:.4f}" if name in trial.metrics else "" for name in _others(summary)]
    return [str(trial.number), trial.status, str(len(trial.curve) or ""), objective, *measured, seconds, values]


def _short(value: str) -> str:
    """Return a number with three digits that matter, and any other text as it is."""
    try:
        return f"{float(value):.3g}" if "." in value or "e" in value else value
    except ValueError:
        return value


def _line(summary: Summary, trial: Trial) -> str:
    values = " ".join(f"{name}={value};" for name, value in trial.hyperparameters.items())
    found = "" if trial.objective is None else f" {summary.metric}={trial.objective:.4f};"
    found += "".join(f" {name}={trial.metrics[name]:.4f};" for name in _others(summary) if name in trial.metrics)
    seconds = "" if trial.seconds is None else f" seconds={trial.seconds:.1f};"
    reason = f" {trial.reason.splitlines()[0]}" if trial.reason else ""
    return f"trial={trial.number}; status={trial.status};{found}{seconds} {values}{reason}"
