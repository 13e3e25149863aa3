"""One training job, from top to bottom: index, pack, fit, save, evaluate."""

import copy
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kennel.cache import Cache
from kennel.engines.device import describe_device, fast_precision, pick_device
from kennel.errors import HyperparameterError, Stopped
from kennel.hyperparameters import WATCHING, Hyperparameters
from kennel.images.augment import test_views
from kennel.machine import share_of_cores
from kennel.metrics import BEST_EPOCH, metric_line
from kennel.model.artifact import save_artifact
from kennel.model.backbones import weights_fingerprint
from kennel.model.classifier import Classifier
from kennel.model.manifest import Manifest, save_manifest
from kennel.model.start import Start
from kennel.training.checkpoint import Checkpoints
from kennel.training.dataset import DataSet
from kennel.training.distributed import ALONE, Processes
from kennel.training.evaluate import evaluate_artifact, write_evaluation
from kennel.training.fine_tuning import trained_blocks
from kennel.training.job import Job
from kennel.training.loop import BestEpoch, OnEpoch, fit, log_epoch
from kennel.training.phases import Features, Session, head_phase, make_features, network_phase
from kennel.training.progress import StopSignal, reporter
from kennel.training.record import epoch_recorder, record_engines, record_result, record_worst
from kennel.training.watching import UNWATCHED, Watching

# hyperparameters that change nothing about the network: a job that is resumed may have others
_WITHOUT_EFFECT = {"checkpoint_seconds", "num_workers", *WATCHING}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """A trained network, and what it was trained with."""

    hyperparameters: Hyperparameters
    classifier: Classifier
    best: BestEpoch


@dataclass(frozen=True)
class _Frozen:
    """A backbone with its first weights; it is never trained itself, only its copies are."""

    backbone: nn.Module
    random: Tensor  # the state of torch's random numbers after the backbone was made: every head begins there


def run(job: Job, stop: StopSignal, processes: Processes = ALONE, watching: Watching = UNWATCHED) -> None:
    """Train and save a model, then measure what was saved on the test images.

    When `stop` is set, the best epoch so far becomes the model, and the test is left out; Stopped is raised when there
    is no complete epoch yet. Raises a KennelError for whatever the user can mend. Of several processes, the main one
    saves and measures.
    """
    trainer = Trainer(job, stop, processes, watching)
    try:
        fitted = trainer.fit(job.hyperparameters, epoch_recorder(job.output_dir, processes, job.tensorboard_dir))
    except Stopped as stopped:
        raise Stopped(str(stopped), stop.by) from stopped
    watching.inspector.end_training()
    if processes.is_main:
        trainer.save(fitted)


class Trainer:
    """Trains networks on one data set: what they have in common is read or computed once."""

    def __init__(
        self, job: Job, stop: StopSignal, processes: Processes = ALONE, watching: Watching = UNWATCHED
    ) -> None:
        """Look at the folders. Raises DataError when they hold no data set."""
        self._job = job
        self._watching = watching
        torch.set_num_threads(share_of_cores(processes.local_count))
        torch.backends.cudnn.deterministic = True  # the same seed gives the same metrics
        device = pick_device()
        hp = job.hyperparameters
        trained = "head" if hp.head_only else "all" if hp.unfreeze == "auto" else hp.unfreeze
        log.info("start device=%s; backbone=%s; trained=%s;", describe_device(device), hp.backbone, trained)
        cache = Cache(job.cache_dir)
        start = Start(job.channels, job.weights_dir, cache)
        data = DataSet(job, cache, stop, processes, start.preprocessing)
        self._session = Session(start, data, cache, device, stop, processes)
        self._backbones: dict[tuple[Any, ...], _Frozen] = {}
        self._features: dict[tuple[Any, ...], Features] = {}

    def fit(self, hp: Hyperparameters, on_epoch: OnEpoch = log_epoch) -> Fitted:
        """Train one network. Equal hyperparameters give an equal network, whatever was trained before.

        Pretrained: the head first, on features of the frozen backbone; then, from there, the blocks that `unfreeze`
        names (LP-FT, arXiv:2202.10054). From scratch: all of it at once.
        """
        session = self._session
        precision = self._precision(hp)
        self._check_share(hp)
        frozen = self._backbone(hp)  # first, so that bad weights are said before images are decoded
        if not hp.head_only:
            trained_blocks(frozen.backbone, hp)  # as above
        self._watching.timer.mark("start-up")
        session.data.images(hp)
        self._watching.timer.mark("decoding")
        torch.set_rng_state(frozen.random)
        backbone = frozen.backbone if hp.head_only else copy.deepcopy(frozen.backbone)
        classifier = Classifier(backbone, session.start.head(hp, backbone, session.data.classes))
        checkpoints = self._checkpoints(hp, classifier)
        resumed = session.processes.from_main(checkpoints.load() if session.processes.is_main else None)
        best, given_up = None, False

        def watch(epoch: int, metrics: Mapping[str, float]) -> bool:
            nonlocal given_up
            given_up = not on_epoch(epoch, metrics)
            return not given_up

        if not hp.from_scratch and (resumed is None or resumed["phase"] == "head"):
            self._watching.timer.mark("start-up")
            features = self._make_features(frozen, hp, precision)
            self._watching.timer.mark("features")
            # the head is small: of several processes, the main one fits it for all
            phase = head_phase(session, classifier.head, features, hp)
            best = session.processes.by_main(
                lambda: fit(
                    phase, hp, session.stop, watch, checkpoints, resumed, watching=self._watching
                ).on_cpu()  # for all processes
            )
            classifier.head.load_state_dict(best.weights)
            best = replace(best, weights=copy.deepcopy(classifier.state_dict()))
            resumed = None
            # stopped: a checkpoint of the network would hide from the next start that the head is not done
            if session.processes.any(given_up or session.stop.is_set()):
                return Fitted(hp, classifier, best)
        if not hp.head_only:
            phase = network_phase(session, classifier, hp, precision)
            best = fit(phase, hp, session.stop, on_epoch, checkpoints, resumed, best, session.processes, self._watching)
            classifier.load_state_dict(best.weights)
        assert best is not None
        return Fitted(hp, classifier, best)

    def save(self, fitted: Fitted) -> None:
        """Write the model folder, measure it on the test images, and log the last metrics line.

        A network whose epochs were measured in another way than a server answers is measured on the validation images
        once more. When the job was asked to stop, both are left out.
        """
        hp, best, job = fitted.hyperparameters, fitted.best, self._job
        manifest = Manifest(
            classes=self._session.data.classes,
            backbone=hp.backbone,
            fc_units=hp.fc_units,
            dropout=hp.dropout,
            preprocessing=self._session.data.preprocessing(hp),
            views=test_views(hp.test_time_augment),
            hyperparameters=asdict(hp),
            metrics=best.metrics,
        )
        save_artifact(job.model_dir, fitted.classifier.cpu(), manifest)
        metrics = {name: best.metrics[name] for name in ("valid_loss", "valid_accuracy")}
        as_served = hp.head_only and len(manifest.views) == 1
        images = self._session.data.images(hp)
        splits = ("test",) if as_served else ("valid", "test")
        try:
            for split in (split for split in splits if split in images):
                report = reporter("test", split, len(images[split]), self._session.stop)
                evaluation = evaluate_artifact(job.model_dir, images[split], self._session.cache, report)
                metrics |= {f"{split}_loss": evaluation.loss, f"{split}_accuracy": evaluation.accuracy}
                if split == "test":
                    write_evaluation(job.output_dir, split, evaluation)
                    record_worst(job.output_dir, evaluation, images[split])
        except Stopped:
            log.info(
                "stopped on %s: epoch %d is saved as the model, the test is left out", self._stopped_by, best.epoch
            )
        save_manifest(job.model_dir, manifest.model_copy(update={"metrics": best.metrics | metrics}))
        record_result(job.output_dir, best.epoch, metrics, asdict(hp))
        self._watching.timer.mark("test")
        if hp.exports and not self._session.stop.is_set():
            self._export(hp)
            self._watching.timer.mark("export")
        log.info(metric_line(f"{BEST_EPOCH}{best.epoch};", metrics))

    def _export(self, hp: Hyperparameters) -> None:
        """Save the model, which is complete, for other engines too."""
        from kennel.engines.export import export_engines  # noqa: PLC0415 - OpenVINO, which only this needs

        images = self._session.data.images(hp)
        train, valid = images["train"], images["valid"]

        def report(engine: str, done: int, total: int) -> None:
            if self._session.stop.is_set():
                raise Stopped(f"while measuring {engine}: {done} of {total} images done")

        try:
            records = export_engines(self._job.model_dir, hp.exports, train.pixels, valid.pixels, valid.labels, report)
        except Stopped:
            log.info("stopped on %s: the model is saved, its export is not complete", self._stopped_by)
        except Exception:  # as a full disk: nothing of the job is lost by it
            log.warning("the model is saved, its export failed", exc_info=True)
        else:
            record_engines(self._job.output_dir, records)

    @property
    def _stopped_by(self) -> str:
        return "request" if (by := self._session.stop.by) == "SIGTERM" else by

    def _precision(self, hp: Hyperparameters) -> torch.dtype:
        """Return the precision of the passes through the backbone."""
        if hp.precision == "float16" and self._session.device.type == "cpu":
            raise HyperparameterError("precision=float16 needs a GPU; use auto, bfloat16 or float32")
        return fast_precision(self._session.device) if hp.precision == "auto" else getattr(torch, hp.precision)

    def _check_share(self, hp: Hyperparameters) -> None:
        """Raise HyperparameterError when batch norms that are trained would see a single image in a process."""
        count = self._session.processes.count
        if hp.from_scratch and hp.batch_size < 2 * count:
            raise HyperparameterError(
                f"batch_size={hp.batch_size} for {count} processes together: batch norm needs two images or more in "
                f"each; take {2 * count} or more"
            )

    def _backbone(self, hp: Hyperparameters) -> _Frozen:
        """Make the backbone with its first weights, or find the one that an equal network began with."""
        key = (hp.backbone, hp.weights, hp.image_size, hp.seed)
        if key not in self._backbones:
            torch.manual_seed(hp.seed)
            self._backbones[key] = _Frozen(self._session.start.backbone(hp), torch.get_rng_state())
        return self._backbones[key]

    def _checkpoints(self, hp: Hyperparameters, classifier: Classifier) -> Checkpoints:
        """Return the checkpoints of the job that begins with `classifier`; nobody else's have the same identity."""
        identity: dict[str, Any] = {}
        if self._job.checkpoint_dir is not None:
            images = self._session.data.images(hp)
            hyperparameters = {k: v for k, v in asdict(hp).items() if k not in _WITHOUT_EFFECT}
            identity = {
                "job": self._job.name,
                "hyperparameters": hyperparameters,
                "images": [images["train"].content, images["valid"].content],
                "preprocessing": asdict(self._session.data.preprocessing(hp)),
                "weights": weights_fingerprint(classifier),
                "processes": self._session.processes.count,
            }
        folder, writes = self._job.checkpoint_dir, self._session.processes.is_main
        return Checkpoints(folder, identity, hp.checkpoint_seconds, writes)

    def _make_features(self, frozen: _Frozen, hp: Hyperparameters, precision: torch.dtype) -> Features:
        key = (id(frozen), self._session.data.preprocessing(hp), hp.augment, precision)
        if key not in self._features:
            self._features[key] = make_features(self._session, frozen.backbone, hp, precision)
        return self._features[key]
