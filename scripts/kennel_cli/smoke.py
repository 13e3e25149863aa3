"""Prove that the image works on this machine: train in a container, serve what came out, ask it, stop it."""

import tempfile
import time
from pathlib import Path

import urllib3
from rich.console import Console

from kennel.errors import KennelError
from kennel_cli import endpoints
from kennel_cli.demo import write_digits
from kennel_cli.jobs import start_training
from kennel_cli.platforms.choice import DOCKER
from kennel_cli.platforms.local import LocalSageMaker
from kennel_cli.platforms.local_platform import LocalPlatform
from kennel_cli.platforms.records import last_lines
from kennel_cli.platforms.runtime import LocalSageMakerRuntime
from kennel_cli.predictor import ImagePredictor

HYPERPARAMETERS = {
    "backbone": "resnet18",
    "image_size": "32",
    "epochs": "1",
    "augment": "none",
}


class SmokeFailed(KennelError):
    """The image did not do what it should."""


def run_smoke(console: Console) -> None:
    """Train and serve once with `--on docker`, in a home of its own; a tick a line. Raises SmokeFailed."""
    with tempfile.TemporaryDirectory(prefix="kennel-smoke-") as folder:
        home = Path(folder)
        platform = LocalPlatform(home, DOCKER)
        sagemaker = platform.sagemaker
        ticks = _Ticks(console)
        job = _train(platform, write_digits(home / "datasets" / "digits"), ticks)
        endpoint = endpoints.start_endpoint(platform, endpoints.Served(job), None)
        try:
            endpoints.wait_until_in_service(platform, endpoint)
            ticks.add(f"`serve` is in service as {endpoint}")
            _ask(sagemaker, home, endpoint, ticks)
        finally:
            endpoints.delete_endpoint(platform, endpoint)
        ticks.add("SIGTERM ended it")


class _Ticks:
    """Lines with a tick, each with the seconds since the line before."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._since = time.monotonic()

    def add(self, text: str) -> None:
        now = time.monotonic()
        self._console.print(f"[green]✓[/] {text} ({now - self._since:.1f} s)", highlight=False, soft_wrap=True)
        self._since = now


def _train(platform: LocalPlatform, data: Path, ticks: _Ticks) -> str:
    sagemaker = platform.sagemaker
    job = start_training(platform, str(data), "none", HYPERPARAMETERS)
    while (description := sagemaker.describe_training_job(TrainingJobName=job))["TrainingJobStatus"] == "InProgress":
        time.sleep(0.1)
    if description["TrainingJobStatus"] != "Completed":
        reason = description.get("FailureReason", "")
        raise SmokeFailed(f"training failed: {reason}\n{last_lines(sagemaker.training_log(job), 20)}")
    metrics = {metric["MetricName"]: metric["Value"] for metric in description["FinalMetricDataList"]}
    ticks.add(f"`train` trained a model, test accuracy {metrics['test_accuracy']:.3f}")
    return job


def _ask(sagemaker: LocalSageMaker, home: Path, endpoint: str, ticks: _Ticks) -> None:
    status = urllib3.PoolManager(retries=False).request("GET", f"{sagemaker.endpoint_url(endpoint)}/ping").status
    if status != 200:
        raise SmokeFailed(f"/ping answers {status}, not 200")
    ticks.add("/ping answers 200")
    picture = min((home / "datasets" / "digits" / "test").rglob("*.png"))
    best = ImagePredictor(endpoint, runtime=LocalSageMakerRuntime(home)).predict(picture, top_k=1)[0]
    ticks.add(f"/invocations says {best.label} with {best.probability:.3f}; the picture is a {picture.parent.name}")
