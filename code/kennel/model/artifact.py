"""The model folder: `kennel.json` says what the model is, `model.safetensors` holds its weights. Never a pickle."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from kennel.atomic import replacing
from kennel.errors import ArtifactError
from kennel.model.backbones import build_backbone, load_plain_state
from kennel.model.classifier import Classifier, make_head
from kennel.model.manifest import MANIFEST, WEIGHTS, Manifest, load_manifest, save_manifest


def new_classifier(manifest: Manifest) -> Classifier:
    """Return the network that a manifest describes, with random weights."""
    backbone = build_backbone(manifest.backbone, manifest.preprocessing.crop)
    return Classifier(backbone, make_head(backbone, manifest.fc_units, manifest.dropout, len(manifest.classes)))


def save_artifact(folder: Path, classifier: Classifier, manifest: Manifest) -> None:
    """Write the model folder. The manifest is written last, so a folder that has one is complete."""
    with replacing(folder / WEIGHTS) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in classifier.state_dict().items()}, temporary)
        temporary.chmod(0o644)  # safetensors makes it private, and a server may be another user (contract C5.2)
    save_manifest(folder, manifest)


def load_artifact(folder: Path) -> tuple[Classifier, Manifest]:
    """Read a model folder; the classifier is in evaluation mode. Raises ArtifactError when anything is missing."""
    manifest = load_manifest(folder)
    if not (folder / WEIGHTS).is_file():
        raise ArtifactError(f"{folder} is incomplete: there is no {WEIGHTS} in it")
    classifier = new_classifier(manifest)
    try:
        load_plain_state(classifier, load_file(folder / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"{folder / WEIGHTS} does not fit its {MANIFEST}: {reason}") from error
    return classifier.eval(), manifest
