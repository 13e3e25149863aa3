"""The whole way in one command: real images, a real search, a real endpoint, answered requests."""

import random
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kennel.errors import KennelError
from kennel.hyperparameters import Range
from kennel.images.index import index_images
from kennel.tuning.summary import Trial
from kennel_cli.endpoints import Served, delete_endpoint, start_endpoint, wait_until_in_service
from kennel_cli.jobs import job_inputs
from kennel_cli.platforms.local_platform import LocalPlatform
from kennel_cli.platforms.means import require_image_packages
from kennel_cli.platforms.runtime import LocalSageMakerRuntime
from kennel_cli.predictor import ImagePredictor
from kennel_cli.reports import local_report
from kennel_cli.requests import PLAIN
from kennel_cli.tune.follow import follow, summary_folder
from kennel_cli.tune.plan import Plan, make_plan
from kennel_cli.tune.start import new_search_name, search_request, send

# nothing pretrained fits 8x8 pixels of grey, and it need not: a small network learns them from scratch in a minute
DIGITS = Plan(
    ranges={"learning_rate": Range(5e-4, 5e-3, "Logarithmic"), "batch_size": Range(choices=("32", "64"))},
    static={
        "backbone": "resnet18",
        "image_size": "32",
        "epochs": "3",
        "augment": "none",  # a mirrored digit is another sign
    },
    jobs=3,
    seed=0,
)
YOURS = Plan(
    ranges={"learning_rate": Range(1e-4, 1e-2, "Logarithmic"), "dropout": Range(0.2, 0.6)},
    static={"epochs": "8"},
    jobs=4,
    seed=0,
)
SHOWN = 3  # predictions that the demo prints
_EASY = 0.9  # test accuracy that anybody reaches on the digits; the demo has 0.95 to 0.98


class DemoFailed(KennelError):
    """The demo's search or endpoint did not do what it should."""


def run_demo(home: Path, data: Path | None, weights: str | None, backbone: str | None, console: Console) -> None:
    """Tune on `data`, or on handwritten digits, serve the best model, and show three predictions. Raises DemoFailed."""
    require_image_packages("sklearn", instead="")
    plan = make_plan(YOURS, static=[f"backbone={backbone}"] if backbone else [])
    if data is None:
        data, weights, plan = write_digits(home / "datasets" / "digits"), "none", DIGITS
    console.rule("1. the images")
    console.print(f"{data}", soft_wrap=True)

    console.rule("2. a search for hyperparameters: a few quick trials")
    platform = LocalPlatform(home)
    best, page = _search(platform, str(data), weights, plan)
    sagemaker = platform.sagemaker
    description = sagemaker.describe_training_job(TrainingJobName=best.job)

    console.rule("3. an endpoint with the best trial's model")
    endpoint = start_endpoint(platform, Served(best.job), None)
    try:
        wait_until_in_service(platform, endpoint)
        console.print(f"{endpoint} listens on {sagemaker.endpoint_url(endpoint)}/invocations", soft_wrap=True)
        console.print(_predictions(home, endpoint, data))
    finally:
        delete_endpoint(platform, endpoint)

    console.rule("done")
    artifact = platform.locate(description["ModelArtifacts"]["S3ModelArtifacts"])
    measured = "test" if "test_accuracy" in best.metrics else "valid"  # people bring data without a test split
    accuracy = best.metrics[f"{measured}_accuracy"]
    console.print(f"{measured} accuracy {accuracy:.4f}")
    console.print(f"the trials:    {page}", soft_wrap=True)
    if report := local_report(sagemaker, best.job):
        console.print(f"the report:    {report}", soft_wrap=True)
    console.print(f"the model:     {artifact}", soft_wrap=True)
    console.print(f"serve it with: kennel deploy --model {best.job}", soft_wrap=True)
    if plan is DIGITS and accuracy < _EASY:
        raise DemoFailed(f"the digits' test accuracy is {accuracy:.4f}, which should be above {_EASY}; see the report")


def _search(platform: LocalPlatform, data: str, weights: str | None, plan: Plan) -> tuple[Trial, Path]:
    """Run the search, print its table, and return the best trial and the page that shows all of them."""
    name = new_search_name("demo")
    inputs = job_inputs(data, weights, plan.static)
    send(platform, inputs, search_request(platform, inputs, plan, name, PLAIN))
    summary = follow(platform, name)
    if summary.best is None:
        raise DemoFailed(f"the search {name} is {summary.status} and found nothing: {summary.reason}")
    return summary.best, summary_folder(name) / "tuning.html"


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
    """Ask the endpoint about three pictures that it was not trained on, where there are such; always the same."""
    index = index_images({"training": data})
    pictures = index.test or index.valid or index.train
    table = Table("picture", "it is", "the model says", "probability")
    predictor = ImagePredictor(endpoint, runtime=LocalSageMakerRuntime(home))
    for record in random.Random(0).sample(pictures, min(SHOWN, len(pictures))):
        best = predictor.predict(record.path, top_k=1)[0]
        table.add_row(record.path.name, index.classes[record.label], best.label, f"{best.probability:.3f}")
    return table
