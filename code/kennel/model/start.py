"""Where a job's network begins: at random, from pretrained weights, or from an earlier model (incremental training)."""

import hashlib
import logging
import shutil
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kennel.cache import Cache
from kennel.errors import ArtifactError, HyperparameterError
from kennel.hyperparameters import Hyperparameters
from kennel.images.preprocess import Preprocessing
from kennel.model.backbones import build_backbone, fill_backbone, load_weights
from kennel.model.classifier import make_head
from kennel.model.manifest import MANIFEST, WEIGHTS, Manifest, load_manifest
from kennel.model.weights import find_weights
from kennel.model.weights_files import CHANNEL as PRETRAINED

log = logging.getLogger(__name__)

CHANNEL = "model"  # the SDK's own name for the channel of `model_uri`
ARCHIVE = "model.tar.gz"  # as a training job leaves its model in S3


@dataclass(frozen=True)
class EarlierModel:
    """The model folder that a job continues from."""

    folder: Path
    manifest: Manifest

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """Its tensors, as the classifier names them. Raises ArtifactError when they cannot be read."""
        try:
            return dict(load_file(self.folder / WEIGHTS))
        except (SafetensorError, OSError) as error:
            raise ArtifactError(f"{self.folder / WEIGHTS} is no readable model: {error}") from error

    def part(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of the `backbone` or the `head`, by their names in it."""
        return {key.removeprefix(f"{name}."): value for key, value in self.state.items() if key.startswith(f"{name}.")}


class Start:
    """The networks that a job begins with."""

    def __init__(self, channels: Mapping[str, Path], weights_dir: Path, cache: Cache) -> None:
        """Look for an earlier model. Raises ArtifactError when the channel `model` holds none."""
        self._channels = channels
        self._weights_dir = weights_dir
        self._cache = cache
        self._earlier = find_earlier_model(channels, cache)

    def backbone(self, hp: Hyperparameters) -> nn.Module:
        """Return the backbone with its first weights: the earlier model's, those of a file, or random ones.

        Raises HyperparameterError or WeightsError when hyperparameters, weights and earlier model do not fit together.
        """
        earlier = self._earlier
        if earlier is not None:
            _check_continues(hp, earlier.manifest)
        backbone = build_backbone(hp.backbone, hp.image_size)
        if earlier is not None:
            fill_backbone(backbone, hp.backbone, earlier.part("backbone"), f"the model in the channel `{CHANNEL}`")
            size = earlier.manifest.preprocessing.crop
            log.info("continue backbone=%s; image_size=%d; before=%d;", hp.backbone, hp.image_size, size)
            if hp.weights != "pretrained" or PRETRAINED in self._channels:
                log.info("the pretrained weights are not read: the channel `%s` has the weights", CHANNEL)
        elif not hp.from_scratch:
            file = find_weights(hp.weights, hp.backbone, self._channels, self._weights_dir, self._cache)
            load_weights(backbone, hp.backbone, file)
        return backbone

    def head(self, hp: Hyperparameters, backbone: nn.Module, classes: Sequence[str]) -> nn.Sequential:
        """Return the head: the earlier model's where it has the same classes and width, else a random one.

        It takes the same random numbers in both cases.
        """
        head = make_head(backbone, hp.fc_units, hp.dropout, len(classes))
        if self._earlier is None:
            return head
        manifest = self._earlier.manifest
        if manifest.classes != tuple(classes):
            log.info("the head is new: the earlier model has other classes, or another order of them")
        elif manifest.fc_units != hp.fc_units:
            log.info("the head is new: fc_units=%d; before=%d;", hp.fc_units, manifest.fc_units)
        else:
            try:
                head.load_state_dict(self._earlier.part("head"))
            except RuntimeError as error:
                file = self._earlier.folder / WEIGHTS
                raise ArtifactError(f"{file} does not fit its {MANIFEST}: {str(error).splitlines()[0]}") from error
            log.info("continue head fc_units=%d; classes=%d;", hp.fc_units, len(classes))
        return head

    def preprocessing(self, hp: Hyperparameters, own: Preprocessing) -> Preprocessing:
        """Return `own` with the earlier model's mean and deviation, unless the hyperparameters ask for others."""
        if self._earlier is None or hp.statistics != "auto":
            return own
        before = self._earlier.manifest.preprocessing
        return replace(own, mean=before.mean, std=before.std)


def find_earlier_model(channels: Mapping[str, Path], cache: Cache) -> EarlierModel | None:
    """Return the model in the channel `model`, a folder or a `model.tar.gz` in it; None without such a channel.

    An archive is unpacked into the cache. Raises ArtifactError when the channel holds no Kennel model.
    """
    if CHANNEL not in channels:
        return None
    folder = channels[CHANNEL]
    archive = folder / ARCHIVE
    if archive.is_file() and not (folder / MANIFEST).exists():
        folder = cache.folder("models", {"sha256": _sha256(archive)}, lambda empty: _unpack(archive, empty))
    manifest = load_manifest(folder)
    if not (folder / WEIGHTS).is_file():
        raise ArtifactError(f"{folder} is incomplete: there is no {WEIGHTS} in it")
    return EarlierModel(folder, manifest)


def _check_continues(hp: Hyperparameters, manifest: Manifest) -> None:
    if hp.from_scratch:
        raise HyperparameterError(
            f"weights=none with a channel `{CHANNEL}`: a model that is continued does not begin at random; leave out "
            "one of the two"
        )
    if hp.backbone != manifest.backbone:
        raise HyperparameterError(
            f"backbone={hp.backbone}, and the model in the channel `{CHANNEL}` is a {manifest.backbone}: set "
            f"backbone={manifest.backbone} to continue it, or leave out the channel"
        )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _unpack(archive: Path, folder: Path) -> None:
    """Take the two files of a model out of `archive`, and nothing else: whatever paths and links it has stay in it."""
    try:
        with tarfile.open(archive) as tar:
            members = {str(PurePosixPath(member.name)): member for member in tar if member.isfile()}
            if MANIFEST not in members:
                found = ", ".join(sorted(members)[:5]) or "no files"
                raise ArtifactError(
                    f"{archive} holds no Kennel model: there is no {MANIFEST} at its top (it has {found})"
                )
            for name in (MANIFEST, WEIGHTS):
                source = tar.extractfile(members[name]) if name in members else None
                if source is not None:
                    with source, (folder / name).open("wb") as target:
                        shutil.copyfileobj(source, target, 2**20)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ArtifactError(f"{archive} cannot be unpacked: {error or type(error).__name__}") from error
