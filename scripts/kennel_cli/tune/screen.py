"""Show a search as it runs: a live table on a terminal, plain lines in a log."""

import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from kennel.report.tuning_page import write_tuning_page
from kennel.tuning.summary import Summary, Trial, columns, ranked, row, write_summary
from kennel_cli.tune.watch import RUNNING, Watch

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
    table = Table(*_heads(summary), title=title, title_justify="left")
    best = summary.best
    for trial in summary.trials[-_SHOWN:]:
        table.add_row(*_cells(summary, trial), style="bold green" if trial is best else "")
    return table


def final_table(summary: Summary) -> Table:
    """Return the table of a search that has ended: best first."""
    table = Table(*_heads(summary))
    best = summary.best
    for trial in ranked(summary):
        table.add_row(*_cells(summary, trial), style="bold green" if trial is best else "")
    return table


def write_files(folder: Path, summary: Summary) -> None:
    """Write `tuning.json`, `tuning.csv`, `tuning.md` and `tuning.html` into `folder`."""
    write_summary(folder, summary)
    write_tuning_page(folder)


def _heads(summary: Summary) -> list[str]:
    trial, status, *others = columns(summary)
    return [trial, status, "epoch", *others]


def _cells(summary: Summary, trial: Trial) -> list[str]:
    number, status, *others = row(summary, trial)
    if trial.objective is None and trial.curve and trial.status in RUNNING:
        others[-2] = f"{trial.curve[-1]:.4f} …"
    return [number, status, str(len(trial.curve) or ""), *others]


def _line(summary: Summary, trial: Trial) -> str:
    values = " ".join(f"{name}={value};" for name, value in trial.hyperparameters.items())
    found = "" if trial.objective is None else f" {summary.metric}={trial.objective:.4f};"
    seconds = "" if trial.seconds is None else f" seconds={trial.seconds:.1f};"
    reason = f" {trial.reason.splitlines()[0]}" if trial.reason else ""
    return f"trial={trial.number}; status={trial.status};{found}{seconds} {values}{reason}"
