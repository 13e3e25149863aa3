"""Export a model that a job has saved, on the images that it was trained with."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kennel.cache import Cache
from kennel.engines.export import Report, export_engines
from kennel.errors import ArtifactError
from kennel.hyperparameters import Hyperparameters
from kennel.model.manifest import EngineRecord, load_manifest
from kennel.training.dataset import DataSet
from kennel.training.distributed import ALONE
from kennel.training.job import Job
from kennel.training.progress import StopSignal


def export_model(
    folder: Path,
    channels: Mapping[str, Path],
    cache_dir: Path,
    names: Sequence[str],
    report: Report,
    control_accuracy: bool = False,
) -> tuple[EngineRecord, ...]:
    """Export the model in `folder` for the engines `names`, judged on the data set in `channels`.

    See `export_engines`. Raises ArtifactError where the data set has other classes than the model, DataError where
    there is none.
    """
    manifest = load_manifest(folder)
    defaults, given = Hyperparameters(), manifest.hyperparameters
    hp = replace(
        defaults,
        image_size=manifest.preprocessing.crop,
        statistics="imagenet",  # those that the model has are in its manifest
        seed=given.get("seed", defaults.seed),  # by which a job holds images out
        max_bad_images=given.get("max_bad_images", defaults.max_bad_images),
    )
    with tempfile.TemporaryDirectory() as output:
        job = Job(hp, channels, folder, Path(output), cache_dir, Path(output))
        data = DataSet(job, Cache(cache_dir), StopSignal(), ALONE)
        if data.classes != manifest.classes:
            raise ArtifactError(
                f"the data set has the classes {_few(data.classes)}, the model {_few(manifest.classes)}; "
                "give the data set that it was trained with"
            )
        images = data.images(hp)
        train, valid = images["train"], images["valid"]
        return export_engines(folder, names, train.pixels, valid.pixels, valid.labels, report, control_accuracy)


def _few(classes: Sequence[str]) -> str:
    return ", ".join(classes[:3]) + (f" and {len(classes) - 3} more" if len(classes) > 3 else "")
