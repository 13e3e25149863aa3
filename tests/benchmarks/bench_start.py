"""Time what comes before and after the work: a small job from its start to its end, a server's start, and its end.

    make bench-start
    python -m tests.benchmarks.bench_start --rounds 9

Each figure is the median of the rounds, in seconds. The server has no connection when it is asked to end: for those
that are kept it waits two seconds more.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from kennel_cli.platforms.runners import ProcessRunner
from tests.contract.box import SCRATCH, Box, end, start_server
from tests.samples import save_random_model, write_colour_images


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="kennel-bench-") as scratch:
        folder = Path(scratch)
        images, model = write_colour_images(folder / "images"), save_random_model(folder / "model")
        jobs = [_job(folder / f"job-{number}", images) for number in range(rounds + 1)]
        servers = [_server(folder / f"server-{number}", model) for number in range(rounds + 1)]
    starts, ends = zip(*servers, strict=True)
    for what, seconds in (("a small job", jobs), ("a server's start", starts), ("a server's end", ends)):
        # the first round finds nothing in the memory of the system
        print(f"| {what} | {statistics.median(seconds[1:]):.2f} |")


def _job(folder: Path, images: Path) -> float:
    box = Box(ProcessRunner(), folder)
    box.variables = {"KENNEL_CACHE": str(folder / "cache")}
    box.prepare(SCRATCH, training=images)
    started = time.perf_counter()
    assert box.train() == 0, box.log
    return time.perf_counter() - started


def _server(folder: Path, model: Path) -> tuple[float, float]:
    started = time.perf_counter()
    server = start_server(ProcessRunner(), folder, model)
    server.wait_until_ready()
    ready = time.perf_counter()
    end(server)
    return ready - started, time.perf_counter() - ready


if __name__ == "__main__":
    main()
