"""One training job, from top to bottom: index, pack, fit, save, evaluate."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from kennel.cache import Cache
from kennel.engines.device import describe_device, fast_precision, pick_device
from kennel.engines.torch_engine import FrozenBackbone
from kennel.errors import Stopped, WeightsError
from kennel.hyperparameters import Hyperparameters
from kennel.images.augment import augmented_views
from kennel.images.index import ImageIndex, index_images
from kennel.images.pack import PackedImages, check_skipped, pack_images
from kennel.images.preprocess import Preprocessing
from kennel.machine import available_cores
from kennel.metrics import metric_line
from kennel.model.artifact import Manifest, save_artifact, save_manifest
from kennel.model.backbones import load_weights
from kennel.model.classifier import Classifier
from kennel.training.batches import FeatureBatches, ImageBatches
from kennel.training.evaluate import evaluate_artifact, write_evaluation
from kennel.training.features import extract_features
from kennel.training.loop import BestEpoch, fit
from kennel.training.progress import StopSignal, reporter

log = logging.getLogger(__name__)

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class Job:
    """What a job reads and where it writes."""

    hyperparameters: Hyperparameters
    channels: Mapping[str, Path]  # channel name to folder
    model_dir: Path  # becomes the model folder
    output_dir: Path  # for what is not part of the model: predictions, skipped images
    cache_dir: Path  # packed images and features, to be shared between jobs
    weights_dir: Path  # pretrained weights, BACKBONE.pth, .pt or .safetensors; the folder may be missing


def run(job: Job, stop: StopSignal) -> None:
    """Train and save a model, then measure what was saved on the test images.

    When `stop` is set, the best epoch so far becomes the model, and the test is left out; Stopped is raised when there
    is no complete epoch yet. Raises a KennelError for whatever the user can mend.
    """
    hp = job.hyperparameters
    torch.set_num_threads(available_cores())
    torch.backends.cudnn.deterministic = True  # the same seed gives the same metrics
    device = pick_device()
    log.info("start device=%s; backbone=%s; head_only=%s;", describe_device(device), hp.backbone, hp.head_only)
    torch.manual_seed(hp.seed)
    cache = Cache(job.cache_dir)
    index = index_images(job.channels)
    preprocessing = Preprocessing.for_size(hp.image_size)
    classifier = _first_classifier(job, index)

    images = _pack(job, index, preprocessing, cache, stop)
    if hp.head_only:
        best = _fit_head(classifier, images, preprocessing, hp, cache, device, stop)
    else:
        best = _fit_all(classifier, images, preprocessing, hp, device, stop)

    manifest = Manifest(
        classes=index.classes,
        backbone=hp.backbone,
        fc_units=hp.fc_units,
        dropout=hp.dropout,
        preprocessing=preprocessing,
        hyperparameters=asdict(hp),
        metrics=best.metrics,
    )
    save_artifact(job.model_dir, classifier.cpu(), manifest)
    metrics = {name: best.metrics[name] for name in ("valid_loss", "valid_accuracy")}
    try:
        report = reporter("test", "test", len(images["test"]), stop)
        evaluation = evaluate_artifact(job.model_dir, images["test"], cache, report)
    except Stopped:
        log.info("stopped on request: epoch %d is saved as the model, the test is left out", best.epoch)
    else:
        metrics |= {"test_loss": evaluation.loss, "test_accuracy": evaluation.accuracy}
        write_evaluation(job.output_dir, "test", evaluation)
        save_manifest(job.model_dir, manifest.model_copy(update={"metrics": best.metrics | metrics}))
    log.info(metric_line(f"best_epoch={best.epoch};", metrics))


def _first_classifier(job: Job, index: ImageIndex) -> Classifier:
    """Make the network, with pretrained weights where the hyperparameters ask for them."""
    hp = job.hyperparameters
    classifier = Classifier(hp.backbone, hp.fc_units, hp.dropout, len(index.classes))
    if not hp.from_scratch:
        load_weights(
            classifier.backbone, hp.backbone, _weights_file(hp.weights, hp.backbone, job.channels, job.weights_dir)
        )
    return classifier


def _weights_file(weights: str, backbone: str, channels: Mapping[str, Path], weights_dir: Path) -> Path:
    """Return the file to start from: the one that is named, the channel's, or the one in the image."""
    if weights != "pretrained":
        return Path(weights)
    if "pretrained" in channels:
        files = [file for file in sorted(channels["pretrained"].iterdir()) if file.suffix in WEIGHTS_SUFFIXES]
        if len(files) == 1:
            return files[0]
        found = ", ".join(file.name for file in files) or "none"
        raise WeightsError(f"the channel `pretrained` should hold one .pth, .pt or .safetensors file; found: {found}")
    for suffix in WEIGHTS_SUFFIXES:
        if (file := weights_dir / f"{backbone}{suffix}").is_file():
            return file
    raise WeightsError(
        "there are no pretrained weights: give a state dict in the channel `pretrained`, or its path as `weights`, or "
        f"weights=none to train from scratch, or build the image with {backbone}.pth in WEIGHTS_DIR"
    )


def _pack(
    job: Job, index: ImageIndex, preprocessing: Preprocessing, cache: Cache, stop: StopSignal
) -> dict[str, PackedImages]:
    threads = job.hyperparameters.num_workers or available_cores()
    images = {}
    for split, records in (("train", index.train), ("valid", index.valid), ("test", index.test)):
        report = reporter("decode", split, len(records), stop)
        images[split] = pack_images(records, preprocessing, cache, threads, report)
    skipped = check_skipped(images, job.hyperparameters.max_bad_images, job.output_dir / "skipped_images.csv")
    counts = "; ".join(f"{split}={len(packed)}" for split, packed in images.items())
    log.info("images classes=%d; %s; skipped=%d;", len(index.classes), counts, skipped)
    return images


def _fit_head(
    classifier: Classifier,
    images: dict[str, PackedImages],
    preprocessing: Preprocessing,
    hp: Hyperparameters,
    cache: Cache,
    device: torch.device,
    stop: StopSignal,
) -> BestEpoch:
    """Fit the head on the features of the frozen backbone: quick and rough for training, exact for validation."""
    fast = FrozenBackbone(classifier.backbone, fast_precision(device)).to(device)
    train = []
    for view in augmented_views(hp.augment):
        report = reporter(f"features ({view})", "train", len(images["train"]), stop)
        train.append(extract_features(fast, images["train"], preprocessing, view, cache, report))
    exact = FrozenBackbone(classifier.backbone).to(device)
    report = reporter("features", "valid", len(images["valid"]), stop)
    valid = extract_features(exact, images["valid"], preprocessing, "original", cache, report)
    best = fit(
        classifier.head.to(device),
        FeatureBatches(train, images["train"].labels, hp.batch_size, device),
        FeatureBatches([valid], images["valid"].labels, hp.batch_size, device),
        hp,
        stop,
    )
    classifier.head.load_state_dict(best.weights)
    return best


def _fit_all(
    classifier: Classifier,
    images: dict[str, PackedImages],
    preprocessing: Preprocessing,
    hp: Hyperparameters,
    device: torch.device,
    stop: StopSignal,
) -> BestEpoch:
    """Train the whole network on packed images."""
    views = augmented_views(hp.augment)
    best = fit(
        classifier.to(device, memory_format=torch.channels_last),  # type: ignore[call-overload]
        ImageBatches(images["train"], preprocessing, views, hp.batch_size, device),
        ImageBatches(images["valid"], preprocessing, ("original",), hp.batch_size, device),
        hp,
        stop,
    )
    classifier.load_state_dict(best.weights)
    return best
