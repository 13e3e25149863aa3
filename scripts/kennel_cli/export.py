"""The command `kennel export`: a model for other engines, judged on validation images."""

import logging
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from kennel.errors import DataError, HyperparameterError
from kennel.hyperparameters import EXPORTS
from kennel_cli.jobs import job_with_model
from kennel_cli.places import console
from kennel_cli.platforms.local import LocalSageMaker
from kennel_cli.platforms.means import require_image_packages
from kennel_cli.settings import kennel_home

if TYPE_CHECKING:
    from kennel.model.manifest import EngineRecord


def export(
    model: Annotated[str, typer.Argument(help="a finished training job, or a model folder (with a kennel.json)")],
    data: Annotated[
        Path | None, typer.Option(help="folder with train/ and valid/; the job's own data set unless given")
    ] = None,
    engines: Annotated[str, typer.Option(help="with commas between")] = ",".join(EXPORTS),
    control_accuracy: Annotated[
        bool, typer.Option("--control-accuracy", help="find the layers that 8 bits are too few for; takes minutes")
    ] = False,
) -> None:
    """Save a model for other engines too; an engine is kept only if it is as accurate on the validation images."""
    names = tuple(name.strip() for name in engines.split(","))
    if wrong := [name for name in names if name not in EXPORTS]:
        raise HyperparameterError(f"there is no engine {wrong[0]!r} to export for; there are {', '.join(EXPORTS)}")
    if (Path(model) / "kennel.json").is_file():
        if data is None:
            raise DataError(f"{model} is a folder: say with --data which data set its model was trained with")
        _show(_export(Path(model), data, names, control_accuracy), control_accuracy)
        return
    sagemaker = LocalSageMaker(kennel_home())
    job = job_with_model(sagemaker, model)
    uri = job["ModelArtifacts"]["S3ModelArtifacts"]
    with tempfile.TemporaryDirectory() as copy:
        with tarfile.open(sagemaker.store.path(uri)) as tar:
            tar.extractall(copy, filter="data")
        records = _export(Path(copy), data or _data_of(sagemaker, job), names, control_accuracy)
        sagemaker.store.put_tarball(Path(copy), uri)
    _show(records, control_accuracy)


def _data_of(sagemaker: LocalSageMaker, job: Any) -> Path:
    """Return the folder that was the job's channel `training`."""
    for channel in job["InputDataConfig"]:
        if channel["ChannelName"] == "training":
            return sagemaker.store.path(channel["DataSource"]["S3DataSource"]["S3Uri"])
    raise DataError(f"the job {job['TrainingJobName']} had no channel `training`; say with --data where its images are")


def _export(folder: Path, data: Path, names: tuple[str, ...], control_accuracy: bool) -> "tuple[EngineRecord, ...]":
    require_image_packages("openvino", "nncf", instead="")
    from kennel.training.exporting import export_model  # noqa: PLC0415 - torch, which only local work needs

    lines = logging.getLogger("kennel")
    lines.setLevel(logging.INFO)
    lines.addHandler(logging.StreamHandler(sys.stdout))
    with Progress(console=console, transient=True) as bars:
        bar = bars.add_task("export", total=None, visible=console.is_terminal)

        def report(engine: str, done: int, total: int) -> None:
            bars.update(bar, description=engine, completed=done, total=total)

        return export_model(folder, {"training": data}, kennel_home() / "cache", names, report, control_accuracy)


def _show(records: "tuple[EngineRecord, ...]", control_accuracy: bool) -> None:
    table = Table("engine", "accuracy", "agreement", "ms an image", "kept")
    for record in records:
        measured = (f"{record.accuracy:.4f}", f"{record.agreement:.4f}", f"{record.milliseconds:.2f}")
        figures = measured if record.images else ("", "", "")
        table.add_row(record.name, *figures, (record.refused and f"no: {record.refused}") or "yes")
    console.print(table)
    if not control_accuracy and any(record.name == "openvino-int8" and record.refused for record in records):
        console.print("--control-accuracy finds the layers that 8 bits are too few for, and takes some minutes")
