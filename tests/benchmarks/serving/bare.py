"""The floor of a server: decode and forward of one picture after the other, without HTTP.

`python -m tests.benchmarks.serving.bare FOLDER ENGINE PROCESSES SECONDS PICTURE` prints what it measured as JSON, once
a line has come on its standard input.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kennel.engines.choice import load_engine
from kennel.model.manifest import load_manifest
from kennel.serving.codecs import decode_request

_WARM_UP = 10  # pictures


@dataclass(frozen=True)
class Floor:
    """Of one or several processes at once."""

    throughput: float  # pictures a second, over all of them
    p50: float  # milliseconds
    cpu: float  # milliseconds of cores a picture


def measure_floor(folder: Path, engine: str, processes: int, seconds: float, picture: Path) -> Floor:
    """Run the loop in so many processes at once, which share the cores as a server's processes do."""
    command = [sys.executable, "-m", "tests.benchmarks.serving.bare", folder, engine, processes, seconds, picture]
    running = [
        subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for process in running:
        process.stdout.readline()  # it is warm
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [json.loads(process.communicate()[0]) for process in running]
    return Floor(
        throughput=sum(result["pictures"] / result["seconds"] for result in results),
        p50=statistics.median(result["p50"] for result in results),
        cpu=1e3 * sum(result["cpu"] for result in results) / sum(result["pictures"] for result in results),
    )


def main(folder: str, engine_name: str, processes: str, seconds: str, picture: str) -> None:
    """Measure one process."""
    preprocessing = load_manifest(Path(folder)).preprocessing
    engine = load_engine(Path(folder), engine_name, int(processes))
    engine.warm_up()
    data = Path(picture).read_bytes()

    def answer() -> None:
        [image] = decode_request(data, "image/jpeg", preprocessing)
        engine.probabilities(np.stack([image]))

    for _ in range(_WARM_UP):
        answer()
    print("warm", flush=True)
    sys.stdin.readline()
    times = []
    cpu, began = time.process_time(), time.perf_counter()
    while (now := time.perf_counter()) < began + float(seconds):
        answer()
        times.append(time.perf_counter() - now)
    spent, cpu = time.perf_counter() - began, time.process_time() - cpu
    p50 = 1e3 * statistics.median(times)
    print(json.dumps({"pictures": len(times), "seconds": spent, "p50": p50, "cpu": cpu}), flush=True)
    os._exit(0)  # an engine's threads need not be waited for


if __name__ == "__main__":
    main(*sys.argv[1:])
