"""What a training job reads and where it writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kennel.hyperparameters import Hyperparameters


@dataclass(frozen=True)
class Job:
    """What a job reads and where it writes."""

    hyperparameters: Hyperparameters
    channels: Mapping[str, Path]  # channel name to folder
    model_dir: Path  # becomes the model folder
    output_dir: Path  # for what is not part of the model: predictions, skipped images
    cache_dir: Path  # packed images and features, to be shared between jobs
    weights_dir: Path  # pretrained weights, BACKBONE.pth, .pt or .safetensors; the folder may be missing
    name: str = ""  # the job's own, by which it knows its checkpoints again
    checkpoint_dir: Path | None = None  # kept between interruptions (contract A6.1); None keeps nothing
    tensorboard_dir: Path | None = None  # for TensorBoard (contract A6.5); None writes nothing for it
