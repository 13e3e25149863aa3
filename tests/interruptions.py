"""Run a small job again and again, each time interrupted at a random moment, until it is through.

    python -m tests.interruptions FOLDER SIGNAL COUNT SEED [NAME=VALUE …]

FOLDER holds `data` and `weights.pth`. Each job is a fork of this process, which has imported torch and never computes:
a start takes no time. After COUNT interruptions of as many jobs as that takes, one JSON object is printed.
"""

import json
import logging
import os
import random
import signal
import sys
import time
from pathlib import Path

from kennel.engines.torch_engine import TorchEngine  # noqa: F401 - imported before the forks, which all need it
from kennel.forking import fork_program
from kennel.hyperparameters import parse_hyperparameters
from kennel.training.job import Job
from kennel.training.progress import StopSignal
from kennel.training.run import run

JOB = {
    "backbone": "shufflenet_v2_x0_5",
    "image_size": "32",
    "batch_size": "8",
    "epochs": "4",
    "fine_tune_epochs": "4",
    "fc_units": "16",
    "checkpoint_seconds": "0",
}


def start(place: Path, folder: Path, hyperparameters: dict[str, str]) -> int:
    """Start the job of `place` in a fork; its log goes to `place/log.txt`. Returns the process id."""

    def work() -> None:
        stop = StopSignal()
        signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
        job = Job(
            hyperparameters=parse_hyperparameters(hyperparameters),
            channels={"training": folder / "data"},
            model_dir=place / "model",
            output_dir=place / "output",
            cache_dir=place / "cache",
            weights_dir=place / "none",
            name="job",
            checkpoint_dir=place / "checkpoints",
        )
        run(job, stop)

    (place / "checkpoints").mkdir(parents=True, exist_ok=True)
    with (place / "log.txt").open("ab") as log:
        return fork_program(work, dict(os.environ), log.fileno(), log.fileno())


def wait(child: int, limit: float) -> int | None:
    """Return the exit code, negative for a signal, or None when `limit` seconds are over."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def result(place: Path) -> dict[str, str]:
    """Return what a finished job ends with: its last line, and the digest of its weights."""
    from hashlib import sha256

    return {
        "line": (place / "log.txt").read_text().splitlines()[-1],
        "weights": sha256((place / "model" / "model.safetensors").read_bytes()).hexdigest(),
    }


def main() -> None:
    """Measure an uninterrupted job, then interrupt others."""
    folder, number, count = Path(sys.argv[1]), signal.Signals[sys.argv[2]], int(sys.argv[3])
    draw = random.Random(int(sys.argv[4]))
    given = dict(argument.split("=", 1) for argument in sys.argv[5:])
    hyperparameters = {**JOB, "weights": str(folder / "weights.pth"), **given}
    started = time.monotonic()
    whole = folder / "whole"
    assert wait(start(whole, folder, hyperparameters), 300) == 0, (whole / "log.txt").read_text()
    seconds = time.monotonic() - started
    interruptions, finished = [], []
    while len(interruptions) < count or not finished:
        place = folder / f"job-{len(finished)}"
        begun = place.exists() and len((place / "log.txt").read_text().splitlines())
        child = start(place, folder, hyperparameters)
        # once enough were interrupted, the last one is left in peace
        code = wait(child, draw.uniform(0.0, seconds) if len(interruptions) < count else 300)
        if code is None:
            os.kill(child, number)
            sent = time.monotonic()
            code = wait(child, 60)
            lines = (place / "log.txt").read_text().splitlines()[begun or 0 :]
            interruptions.append(
                {
                    "code": code,
                    "seconds": time.monotonic() - sent,
                    "last": next((line for line in reversed(lines) if not line.startswith("progress")), ""),
                    "model": (place / "model" / "kennel.json").exists(),
                    "lines": lines,
                }
            )
            if number is signal.SIGTERM and code == 0 and "test_loss" in lines[-1]:
                finished.append(result(place))
        elif code == 0:
            finished.append(result(place))
        else:
            sys.exit(f"exit code {code}:\n{(place / 'log.txt').read_text()}")
    sys.stdout.write(json.dumps({"whole": result(whole), "finished": finished, "interruptions": interruptions}))


if __name__ == "__main__":
    main()
