"""Time a training job, command to artifact, against the floor of one decode and one forward of the same images.

    make bench-train

Every figure is taken in this one run, on a cold cache; read the ratios, machines differ and are noisy.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.floor import DATA, PLAIN_BATCH, WEIGHTS, measure_floor, precision


def main() -> None:
    """Measure the floor, a first job, and a second job that finds the first one's features; print a table."""
    if not WEIGHTS.exists():
        sys.exit(f"there is no {WEIGHTS}; name the folder of the test data with KENNEL_TEST_DATA")
    floor = measure_floor("mobilenet_v2", WEIGHTS)
    home = tempfile.mkdtemp(prefix="kennel-bench-")
    try:
        first, second = time_job(home), time_job(home)
    finally:
        shutil.rmtree(home)
    print("| what | seconds | × floor |\n|---|---|---|")
    for what, seconds in (
        ("decode all images once", floor.decode),
        (f"one forward each: eager, {precision()}, channels-last, batch {PLAIN_BATCH}", floor.plain),
        ("**the floor: both**", floor.seconds),
        (f"one forward each as Kennel does it: {precision()}, batch norms folded, batch 16", floor.folded),
        ("first job, `kennel train` to its last line, cold cache", first),
        ("second job, other seed, same images and backbone", second),
    ):
        print(f"| {what} | {seconds:.1f} | {seconds / floor.seconds:.2f} |")


def time_job(home: str) -> float:
    """Return the seconds of one `kennel train` on all defaults but the backbone."""
    kennel = Path(sys.executable).with_name("kennel")
    command = [kennel, "train", "--data", DATA / "dogs10", "--weights", WEIGHTS, "--backbone", "mobilenet_v2"]
    started = time.perf_counter()
    seed = str(time.time_ns() % 1000)
    environment = {**os.environ, "KENNEL_HOME": home}
    done = subprocess.run([*command, "--seed", seed], env=environment, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    print(next(line for line in done.stdout.splitlines() if line.startswith("best_epoch=")), flush=True)
    return seconds


if __name__ == "__main__":
    main()
