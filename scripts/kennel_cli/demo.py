"""The whole way in one command: real images, a real training job, a real endpoint, answered requests."""

import random
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kennel.errors import KennelError
from kennel.images.index import index_images
from kennel_cli.endpoints import delete_endpoint, start_endpoint, wait_until_in_service
from kennel_cli.follow import follow_training
from kennel_cli.jobs import start_training
from kennel_cli.platforms.local_platform import LocalPlatform
from kennel_cli.platforms.means import require_image_packages
from kennel_cli.platforms.runtime import LocalSageMakerRuntime
from kennel_cli.predictor import predict

# nothing pretrained fits 8x8 pixels of grey, and it need not: a small network learns them from scratch in half a minute
DIGITS_HYPERPARAMETERS = {
    "backbone": "resnet18",
    "image_size": "32",
    "epochs": "6",
    "learning_rate": "0.002",
    "augment": "none",  # a mirrored digit is another sign
}
SHOWN = 3  # predictions that the demo prints


class DemoFailed(KennelError):
    """The demo's job or endpoint did not do what it should."""


def run_demo(home: Path, data: Path | None, weights: str | None, backbone: str | None, console: Console) -> None:
    """Train on `data`, or on handwritten digits, serve the model, and show three predictions. Raises DemoFailed."""
    require_image_packages("sklearn")
    hyperparameters: Mapping[str, str] = {"backbone": backbone} if backbone else {}
    if data is None:
        data, weights = write_digits(home / "datasets" / "digits"), "none"
        hyperparameters = DIGITS_HYPERPARAMETERS
    console.rule("1. the images")
    console.print(f"{data}", soft_wrap=True)

    console.rule("2. a training job")
    platform = LocalPlatform(home)
    job = start_training(platform, str(data), weights, hyperparameters)
    description = follow_training(platform, job, console)
    if description["TrainingJobStatus"] != "Completed":
        raise DemoFailed(f"the job {job} is {description['TrainingJobStatus']}: {description.get('FailureReason')}")
    metrics = {metric["MetricName"]: metric["Value"] for metric in description["FinalMetricDataList"]}

    console.rule("3. an endpoint")
    sagemaker = platform.sagemaker
    endpoint = start_endpoint(sagemaker, job, None)
    try:
        wait_until_in_service(sagemaker, endpoint)
        console.print(f"{endpoint} listens on {sagemaker.endpoint_url(endpoint)}/invocations", soft_wrap=True)
        console.print(_predictions(home, endpoint, data))
    finally:
        delete_endpoint(sagemaker, endpoint)

    console.rule("done")
    artifact = platform.locate(description["ModelArtifacts"]["S3ModelArtifacts"])
    console.print(f"test accuracy {metrics['test_accuracy']:.4f}")
    console.print(f"the model:     {artifact}", soft_wrap=True)
    console.print(f"serve it with: kennel deploy --model {job}", soft_wrap=True)


def write_digits(folder: Path) -> Path:
    """Write scikit-learn's 1,797 handwritten digits as PNG files: 60 % train, 20 % valid, 20 % test."""
    if folder.is_dir():
        return folder
    from PIL import Image  # noqa: PLC0415 - only the demo needs them
    from sklearn.datasets import load_digits  # noqa: PLC0415 - as above

    digits = load_digits()
    partial = folder.with_name(f".{folder.name}.partial")
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        split = ("train", "train", "train", "valid", "test")[number % 5]
        file = partial / split / f"{label}" / f"{number:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray((image * (255 / 16)).astype("uint8"))
        picture.resize((64, 64), Image.Resampling.BICUBIC).save(file)
    partial.rename(folder)
    return folder


def _predictions(home: Path, endpoint: str, data: Path) -> Table:
    """Ask the endpoint about three test pictures, always the same."""
    index = index_images({"training": data})
    table = Table("picture", "it is", "the model says", "probability")
    runtime = LocalSageMakerRuntime(home)
    for record in random.Random(0).sample(index.test, min(SHOWN, len(index.test))):
        best = predict(runtime, endpoint, record.path, top_k=1)[0]
        table.add_row(record.path.name, index.classes[record.label], best.label, f"{best.probability:.3f}")
    return table
