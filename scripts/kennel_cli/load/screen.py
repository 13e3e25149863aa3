"""A load test on the terminal."""

from rich import box
from rich.table import Table

from kennel.report.load_record import LoadTest
from kennel.report.scales import number


def load_table(test: LoadTest) -> Table:
    """Return the table of all loads; latencies are in milliseconds."""
    table = Table(title=test.target, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("load", no_wrap=True)
    for head in ("answers/s", "p50 ms", "p90 ms", "p99 ms", "client's cores"):
        table.add_column(head, no_wrap=True, justify="right")
    table.add_column("errors", style="red")
    for step in test.steps:
        figures = (number(value, 2) if value else "–" for value in (step.throughput, step.p50, step.p90, step.p99))
        table.add_row(step.name, *figures, f"{step.client_cores:.2f}", step.problems)
    return table
