"""What a training job leaves in its output folder, read and checked: all that its report is made of."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from kennel.errors import ReportError
from kennel.hyperparameters import default_values
from kennel.report.profile_record import PROFILE, Profile, parse_profile
from kennel.report.rules_record import Judged, read_judged
from kennel.report.values import number, one_of, text

JOB = "job.json"  # what a job says of itself; a folder that has it is a job's output
STATUSES = ("Completed", "Stopped", "Failed", "InProgress")

T = TypeVar("T")


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images."""

    number: int
    seconds: float  # since training began, at its end
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Split:
    """The images of one split."""

    name: str
    images: int
    skipped: int
    classes: Mapping[str, int]  # images a class


@dataclass(frozen=True)
class Overlap:
    """Equal images where there should be none: in two splits, or in two classes of one."""

    where: str
    images: int
    examples: Sequence[tuple[str, str]]  # pairs of names, the first few


@dataclass(frozen=True)
class ClassResult:
    """How one class fared in the test; a share of nothing is None."""

    name: str
    images: int
    right: int
    recall: float | None
    precision: float | None
    f1: float | None


@dataclass(frozen=True)
class Photo:
    """A test image that was taken for something else."""

    image: str
    label: str
    predicted: str
    probability: float  # of what it was taken for
    right_probability: float  # of its label
    jpeg: str  # base64


@dataclass(frozen=True)
class Confusion:
    """How often one class was taken for another in the test."""

    label: str
    predicted: str
    images: int
    of: int  # images of the label


@dataclass(frozen=True)
class EngineResult:
    """How an engine did on the validation images, against the float32 model; what cannot be made has no figures."""

    name: str
    images: int
    accuracy: float
    agreement: float
    milliseconds: float  # of one image by itself
    refused: str  # why it is not kept, or ""


@dataclass(frozen=True)
class JobRecord:
    """A whole training job; what it did not come to is empty or None."""

    folder: Path
    name: str
    status: str
    reason: str  # why it failed, or ""
    image: str  # the container image, or "" where nobody knows
    kennel: str  # the version that trained
    instance: str  # SageMaker's name of the machine, or ""
    device: str
    price: float | None  # dollars an hour
    started: str
    seconds: float | None
    sources: Mapping[str, str]  # channel name to what the user gave: a path or an s3:// URI
    hyperparameters: Mapping[str, str]  # all of them, as a request holds them
    epochs: Sequence[Epoch]
    best_epoch: int | None
    metrics: Mapping[str, float]  # of the saved model
    classes: Sequence[str]
    splits: Sequence[Split]
    held_out: tuple[int, int] | None  # images of train that stand in for valid, and of how many
    warnings: Sequence[str]
    overlaps: Sequence[Overlap]
    skipped: Sequence[tuple[str, str]]  # name with its split, and the reason
    results: Sequence[ClassResult]
    confusion: Sequence[Sequence[int]]  # images by label (row) and prediction (column), in the order of `results`
    worst: Sequence[Photo]
    engines: Sequence[EngineResult]  # that the model was exported for, after the float32 model
    judged: Judged  # what the rules of debugger and profiler said
    profile: Profile | None

    @cached_property
    def changed(self) -> dict[str, str]:
        """The hyperparameters that are not the default."""
        defaults = default_values()
        return {name: value for name, value in self.hyperparameters.items() if value != defaults.get(name)}

    @property
    def head_epochs(self) -> int | None:
        """The last epoch of the head, where more was trained after it; else None."""
        given = self.hyperparameters
        scratch, unfreeze = given.get("weights") == "none", given.get("unfreeze", "auto")
        if scratch or unfreeze in ("auto", "head") or "epochs" not in given:
            return None
        return int(given["epochs"])

    @property
    def cost(self) -> float | None:
        """Dollars, where a price is known."""
        return None if self.price is None or self.seconds is None else self.price * self.seconds / 3600

    @cached_property
    def confusions(self) -> list[Confusion]:
        """Every pair of classes that were mixed up, the most frequent first."""
        found = [
            Confusion(result.name, self.results[column].name, count, result.images)
            for row, (result, counts) in enumerate(zip(self.results, self.confusion, strict=True))
            for column, count in enumerate(counts)
            if count and row != column
        ]
        return sorted(found, key=lambda pair: (-pair.images, -pair.images / pair.of, pair.label, pair.predicted))


def read_job(folder: Path, known: Mapping[str, Any] = MappingProxyType({})) -> JobRecord:
    """Return the job whose output lies in `folder`.

    `known` holds members of `job.json` that are known better by now. Raises ReportError when there is no `job.json`, or
    a file is not what a job writes.
    """
    job = {**_job(folder / JOB), **known}
    try:
        lines = _read(folder / "training.jsonl", _lines) or []
        data = _read(folder / "data.json", json.loads) or {}
        result: dict[str, Any] = next((line for line in reversed(lines) if "best_epoch" in line), {})
        results, confusion = _test(folder)
        return JobRecord(
            folder=folder,
            name=text(job["name"]),
            status=one_of(job["status"], *STATUSES),
            reason=text(job["reason"]),
            image=text(job.get("image", "")),
            kennel=text(job["kennel"]),
            instance=text(job["instance"]),
            device=next((text(line["device"]) for line in lines if "device" in line), ""),
            price=None if job["price"] is None else number(job["price"]),
            started=text(job["started"]),
            seconds=None if job["seconds"] is None else number(job["seconds"]),
            sources={text(name): text(source) for name, source in job["sources"].items()},
            hyperparameters={
                text(name): text(str(value))
                for name, value in result.get("hyperparameters", job["hyperparameters"]).items()
            },
            epochs=tuple(_epoch(line) for line in lines if "epoch" in line),
            best_epoch=int(result["best_epoch"]) if result else None,
            metrics={k: number(v) for k, v in result.items() if k not in ("best_epoch", "hyperparameters")},
            classes=tuple(map(text, data.get("classes", ()))),
            splits=tuple(_split(name, split) for name, split in data.get("splits", {}).items()),
            held_out=(int(held["images"]), int(held["of"])) if (held := data.get("held_out")) else None,
            warnings=tuple(map(text, data.get("warnings", ()))),
            overlaps=(*map(_leak, data.get("leaks", ())), *map(_contradiction, data.get("contradictions", ()))),
            skipped=tuple(
                (text(f"{split}/{name}"), text(reason))
                for split, name, reason in (_read(folder / "skipped_images.csv", _rows) or [])[1:]
            ),
            results=results,
            confusion=confusion,
            worst=tuple(_photo(photo) for photo in _read(folder / "test_worst.json", json.loads) or []),
            engines=tuple(_engine(record) for line in lines for record in line.get("engines", ())),
            judged=read_judged(folder),
            profile=_read(folder / PROFILE, lambda content: parse_profile(json.loads(content))),
        )
    except KeyError as error:
        raise ReportError(f"{folder} is not the output of a training job: a file there lacks {error}") from error
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise ReportError(f"{folder} is not the output of a training job: {error}") from error


def _job(file: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(
            f"{file} cannot be read ({error.strerror}); give a job that Kennel has trained since it leaves reports"
        ) from error
    except ValueError as error:
        raise ReportError(f"{file} is not the record of a training job: {error}") from error
    if not isinstance(value, dict):
        raise ReportError(f"{file} is not the record of a training job: it holds {type(value).__name__}")
    return value


def _test(folder: Path) -> tuple[tuple[ClassResult, ...], tuple[tuple[int, ...], ...]]:
    """Return the classes' results and the confusion matrix; nothing when the test has not come to both."""
    classes, table = _read(folder / "test_classes.csv", _rows), _read(folder / "test_confusion.csv", _rows)
    if classes is None or table is None:
        return (), ()
    results = tuple(_class(row) for row in classes[1:])
    confusion = tuple(tuple(map(int, row[1:])) for row in table[1:])
    if {len(results)} != {len(confusion), *map(len, confusion)}:
        raise ValueError(f"test_confusion.csv is no square of {len(results)} classes, as test_classes.csv has")
    return results, confusion


def _read(file: Path, parse: Callable[[str], T]) -> T | None:
    """Return the content of a file; None when it is not there, as a job that was stopped early lacks most."""
    try:
        return parse(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error


def _lines(content: str) -> list[dict[str, Any]]:
    """Return the objects of complete lines; the last one may still be being written."""
    return [json.loads(line) for line in content.splitlines(keepends=True) if line.endswith("\n")]


def _rows(content: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content, newline="")))


def _epoch(line: Mapping[str, Any]) -> Epoch:
    metrics = {name: number(value) for name, value in line.items() if name not in ("epoch", "seconds")}
    return Epoch(int(line["epoch"]), number(line["seconds"]), metrics)


def _engine(record: Mapping[str, Any]) -> EngineResult:
    return EngineResult(
        name=text(record["name"]),
        images=int(record["images"]),
        accuracy=number(record["accuracy"]),
        agreement=number(record["agreement"]),
        milliseconds=number(record["milliseconds"]),
        refused=text(record["refused"]),
    )


def _split(name: str, split: Mapping[str, Any]) -> Split:
    classes = {text(each): int(count) for each, count in split["classes"].items()}
    return Split(text(name), int(split["images"]), int(split["skipped"]), classes)


def _leak(value: Mapping[str, Any]) -> Overlap:
    return _overlap(f"both in {value['split']} and in {value['other']}", value)


def _contradiction(value: Mapping[str, Any]) -> Overlap:
    return _overlap(f"in two classes of {value['split']}", value)


def _overlap(where: str, value: Mapping[str, Any]) -> Overlap:
    return Overlap(text(where), int(value["images"]), tuple((text(a), text(b)) for a, b in value["examples"]))


def _class(row: Sequence[str]) -> ClassResult:
    name, images, right, *shares = row
    recall, precision, f1 = (number(float(share)) if share else None for share in shares)
    return ClassResult(text(name), int(images), int(right), recall, precision, f1)


def _photo(value: Mapping[str, Any]) -> Photo:
    return Photo(
        image=text(value["image"]),
        label=text(value["label"]),
        predicted=text(value["predicted"]),
        probability=number(value["probability"]),
        right_probability=number(value["right_probability"]),
        jpeg=text(value["jpeg"]),
    )
