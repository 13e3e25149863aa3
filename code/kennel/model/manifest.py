"""`kennel.json` of a model folder: all that serving has to know beside the weights. Imports no torch."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import kennel
from kennel.atomic import write_text
from kennel.errors import ArtifactError
from kennel.images.preprocess import Preprocessing

FORMAT_VERSION = 1
MANIFEST = "kennel.json"
WEIGHTS = "model.safetensors"


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("torch", "torchvision", "numpy", "pillow")}
    return {"kennel": kennel.__version__, "python": platform.python_version(), **packages}


class EngineRecord(BaseModel):
    """How a runtime did with the model when it was exported, on validation images."""

    model_config = ConfigDict(frozen=True)

    name: str  # as `Engine.name`
    images: int = 0  # that it was measured on
    accuracy: float = 0.0
    agreement: float = 0.0  # share of the images for which its best class is the float32 model's
    milliseconds: float = 0.0  # of one image by itself, on the machine that exported it
    instructions: tuple[str, ...] = ()  # of that machine's CPU: arithmetic may differ with them
    refused: str = ""  # why it is not to be used

    def line(self) -> str:
        """Return the record as a line of a log."""
        if not self.images:
            return f"engine name={self.name}; refused={self.refused};"
        end = f" refused={self.refused};" if self.refused else ""
        return (
            f"engine name={self.name}; accuracy={self.accuracy:.4f}; agreement={self.agreement:.4f}; "
            f"milliseconds={self.milliseconds:.2f};{end}"
        )


class Manifest(BaseModel):
    """What `kennel.json` says: all that serving has to know beside the weights."""

    model_config = ConfigDict(frozen=True)

    format_version: int = FORMAT_VERSION
    classes: tuple[str, ...]  # in the order of the network's outputs
    backbone: str
    fc_units: int
    dropout: float
    preprocessing: Preprocessing
    views: tuple[str, ...] = ("original",)  # of an image; the answer is the average of what the network says of them
    hyperparameters: dict[str, Any] = Field(default_factory=dict)  # of the job that made the model
    metrics: dict[str, float] = Field(default_factory=dict)  # of the epoch that was kept
    engines: tuple[EngineRecord, ...] = ()  # the float32 model first; what is not refused has a file in the folder
    versions: dict[str, str] = Field(default_factory=_versions)  # of what made the model
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))


def save_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `kennel.json` anew, for example with metrics that became known after the weights."""
    write_text(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")


def load_manifest(folder: Path) -> Manifest:
    """Read `kennel.json`. Raises ArtifactError when the folder holds no model of this format."""
    file = folder / MANIFEST
    if not file.is_file():
        inside = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        found = ", ".join(inside[:5]) or "nothing"
        raise ArtifactError(f"{folder} holds no Kennel model: there is no {MANIFEST} in it (it has {found})")
    try:
        manifest = Manifest.model_validate_json(file.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{file} is damaged: {error}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise ArtifactError(
            f"{file} has format_version {manifest.format_version}; this version of Kennel reads {FORMAT_VERSION}"
        )
    return manifest
