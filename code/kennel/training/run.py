"""One training job, from top to bottom: index, pack, fit, save, evaluate."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kennel.cache import Cache
from kennel.engines.device import describe_device, fast_precision, pick_device
from kennel.engines.torch_engine import FrozenBackbone
from kennel.errors import Stopped
from kennel.hyperparameters import Hyperparameters
from kennel.images.augment import augmented_views
from kennel.images.pack import PackedImages
from kennel.machine import available_cores
from kennel.metrics import BEST_EPOCH, metric_line
from kennel.model.artifact import Manifest, save_artifact, save_manifest
from kennel.model.backbones import build_backbone, load_weights
from kennel.model.classifier import Classifier, make_head
from kennel.model.weights import find_weights
from kennel.training.batches import FeatureBatches, ImageBatches
from kennel.training.dataset import DataSet
from kennel.training.distributed import ALONE, Processes
from kennel.training.evaluate import evaluate_artifact, write_evaluation
from kennel.training.features import extract_features
from kennel.training.job import Job
from kennel.training.loop import BestEpoch, OnEpoch, fit, log_epoch
from kennel.training.progress import StopSignal, reporter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """A trained network, and what it was trained with."""

    hyperparameters: Hyperparameters
    classifier: Classifier
    best: BestEpoch


@dataclass(frozen=True)
class _Frozen:
    """A backbone that is not trained, and what it makes of the images: all that a head needs."""

    backbone: nn.Module
    train: Sequence[NDArray[np.float32]]  # (N, features) a view
    valid: NDArray[np.float32]  # (N, features)
    random: Tensor  # the state of torch's random numbers after the backbone was made: every head begins there


def run(job: Job, stop: StopSignal, processes: Processes = ALONE) -> None:
    """Train and save a model, then measure what was saved on the test images.

    When `stop` is set, the best epoch so far becomes the model, and the test is left out; Stopped is raised when there
    is no complete epoch yet. Raises a KennelError for whatever the user can mend.
    """
    trainer = Trainer(job, stop, processes)
    fitted = trainer.fit(job.hyperparameters)
    if processes.is_main:
        trainer.save(fitted)


class Trainer:
    """Trains networks on one data set: what they have in common is read or computed once."""

    def __init__(self, job: Job, stop: StopSignal, processes: Processes = ALONE) -> None:
        """Look at the folders. Raises DataError when they hold no data set."""
        self._job = job
        self._stop = stop
        torch.set_num_threads(max(1, available_cores() // processes.local_count))
        torch.backends.cudnn.deterministic = True  # the same seed gives the same metrics
        self._device = pick_device()
        hp = job.hyperparameters
        device = describe_device(self._device)
        log.info("start device=%s; backbone=%s; head_only=%s;", device, hp.backbone, hp.head_only)
        self._cache = Cache(job.cache_dir)
        self._data = DataSet(job, self._cache, stop, processes)
        self._frozen: dict[tuple[str, str, int, str, int], _Frozen] = {}

    def fit(self, hp: Hyperparameters, on_epoch: OnEpoch = log_epoch) -> Fitted:
        """Train one network. Equal hyperparameters give an equal network, whatever was trained before."""
        if hp.head_only:
            frozen = self._freeze(hp)
            images = self._data.images(hp)
            torch.set_rng_state(frozen.random)
            classifier = self._with_head(frozen.backbone, hp)
            best = self._fit_head(classifier.head, frozen, images, hp, on_epoch)
            classifier.head.load_state_dict(best.weights)
        else:
            torch.manual_seed(hp.seed)
            backbone = self._first_backbone(hp)
            classifier = self._with_head(backbone, hp)
            images = self._data.images(hp)
            best = self._fit_all(classifier, images, hp, on_epoch)
            classifier.load_state_dict(best.weights)
        return Fitted(hp, classifier, best)

    def save(self, fitted: Fitted) -> None:
        """Write the model folder, measure it on the test images, and log the last metrics line.

        When the job was asked to stop, the test is left out.
        """
        hp, best, job = fitted.hyperparameters, fitted.best, self._job
        manifest = Manifest(
            classes=self._data.classes,
            backbone=hp.backbone,
            fc_units=hp.fc_units,
            dropout=hp.dropout,
            preprocessing=self._data.preprocessing(hp),
            hyperparameters=asdict(hp),
            metrics=best.metrics,
        )
        save_artifact(job.model_dir, fitted.classifier.cpu(), manifest)
        metrics = {name: best.metrics[name] for name in ("valid_loss", "valid_accuracy")}
        test = self._data.images(hp)["test"]
        try:
            report = reporter("test", "test", len(test), self._stop)
            evaluation = evaluate_artifact(job.model_dir, test, self._cache, report)
        except Stopped:
            log.info("stopped on request: epoch %d is saved as the model, the test is left out", best.epoch)
        else:
            metrics |= {"test_loss": evaluation.loss, "test_accuracy": evaluation.accuracy}
            write_evaluation(job.output_dir, "test", evaluation)
            save_manifest(job.model_dir, manifest.model_copy(update={"metrics": best.metrics | metrics}))
        log.info(metric_line(f"{BEST_EPOCH}{best.epoch};", metrics))

    def _freeze(self, hp: Hyperparameters) -> _Frozen:
        """Return a frozen backbone and its features: quick and rough for training, exact for validation."""
        key = (hp.backbone, hp.weights, hp.image_size, hp.augment, hp.seed)
        if key not in self._frozen:
            preprocessing = self._data.preprocessing(hp)
            torch.manual_seed(hp.seed)
            backbone = self._first_backbone(hp)  # first, so that bad weights are said before images are decoded
            random = torch.get_rng_state()
            images = self._data.images(hp)
            exact = FrozenBackbone(backbone).to(self._device)
            fast = FrozenBackbone(backbone, fast_precision(self._device), exact.fingerprint).to(self._device)
            train = []
            for view in augmented_views(hp.augment):
                report = reporter(f"features ({view})", "train", len(images["train"]), self._stop)
                train.append(extract_features(fast, images["train"], preprocessing, view, self._cache, report))
            report = reporter("features", "valid", len(images["valid"]), self._stop)
            valid = extract_features(exact, images["valid"], preprocessing, "original", self._cache, report)
            self._frozen[key] = _Frozen(backbone, train, valid, random)
        return self._frozen[key]

    def _first_backbone(self, hp: Hyperparameters) -> nn.Module:
        """Make the backbone, with pretrained weights where the hyperparameters ask for them."""
        backbone = build_backbone(hp.backbone)
        if not hp.from_scratch:
            file = find_weights(hp.weights, hp.backbone, self._job.channels, self._job.weights_dir)
            load_weights(backbone, hp.backbone, file)
        return backbone

    def _with_head(self, backbone: nn.Module, hp: Hyperparameters) -> Classifier:
        return Classifier(backbone, make_head(backbone, hp.fc_units, hp.dropout, len(self._data.classes)))

    def _fit_head(
        self,
        head: nn.Module,
        frozen: _Frozen,
        images: dict[str, PackedImages],
        hp: Hyperparameters,
        on_epoch: OnEpoch,
    ) -> BestEpoch:
        return fit(
            head.to(self._device),
            FeatureBatches(frozen.train, images["train"].labels, hp.batch_size, self._device),
            FeatureBatches([frozen.valid], images["valid"].labels, hp.batch_size, self._device),
            hp,
            self._stop,
            on_epoch,
        )

    def _fit_all(
        self, classifier: Classifier, images: dict[str, PackedImages], hp: Hyperparameters, on_epoch: OnEpoch
    ) -> BestEpoch:
        """Train the whole network on packed images."""
        preprocessing, views = self._data.preprocessing(hp), augmented_views(hp.augment)
        return fit(
            classifier.to(self._device, memory_format=torch.channels_last),  # type: ignore[call-overload]
            ImageBatches(images["train"], preprocessing, views, hp.batch_size, self._device),
            ImageBatches(images["valid"], preprocessing, ("original",), hp.batch_size, self._device),
            hp,
            self._stop,
            on_epoch,
        )
