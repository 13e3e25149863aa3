"""The output folder of a training job, as a job would leave it, without a job."""

import base64
import csv
import io
import json
import random

from PIL import Image

from kennel.hyperparameters import DECLARATIONS

EPOCHS = 6


def write_job_output(folder, classes=("cat", "dog", "fox"), name="job-1", images=8, errors=0.3, epochs=EPOCHS, **job):
    """Write what a finished job leaves, of `images` test images a class; members of `job.json` can be given."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(len(classes))
    hyperparameters = {d.name: d.default for d in DECLARATIONS.values()} | job.pop("hyperparameters", {})
    value = {
        "name": name,
        "kennel": "0.1.0",
        "instance": "ml.g5.xlarge",
        "price": None,
        "started": "2026-01-02T03:04:05+00:00",
        "hyperparameters": hyperparameters,
        "sources": {"training": "/data/my dogs", "pretrained": "/weights/resnet50.pth"},
        "status": "Completed",
        "reason": "",
        "seconds": 90.0,
        **job,
    }
    (folder / "job.json").write_text(json.dumps(value))
    lines = [{"device": "cpu (2 threads)"}]
    for epoch in range(1, epochs + 1):
        loss = {"train_loss": 2 / epoch, "valid_loss": 1 + 1 / epoch}
        accuracy = {"train_accuracy": 1 - 0.5 / epoch, "valid_accuracy": 0.9 - 0.4 / epoch}
        lines.append({"epoch": epoch, "seconds": 10.0 + 2 * epoch, **loss, **accuracy})
    measured = {"valid_loss": 1.2, "valid_accuracy": 0.83, "test_loss": 1.25, "test_accuracy": 0.81}
    lines.append({"best_epoch": epochs - 1, **measured, "hyperparameters": hyperparameters})
    (folder / "training.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    splits = {
        split: {"images": count * len(classes), "skipped": 0, "classes": dict.fromkeys(classes, count)}
        for split, count in (("train", 40), ("valid", 8), ("test", images))
    }
    data = {"classes": list(classes), "splits": splits, "held_out": None, "leaks": [], "contradictions": []}
    (folder / "data.json").write_text(json.dumps({**data, "warnings": []}))
    size = len(classes)
    confusion = [[0] * size for _ in classes]
    for row in range(size):
        for _ in range(images):
            wrong = size > 1 and draw.random() < errors
            confusion[row][(row + draw.choice((1, 1, 1, 2, size // 2))) % size if wrong else row] += 1
    _csv(folder / "test_confusion.csv", ("label \\ predicted", *classes), zip(classes, confusion, strict=True))
    rows = []
    for i, label in enumerate(classes):
        taken = sum(row[i] for row in confusion)
        recall, precision = confusion[i][i] / images, confusion[i][i] / taken if taken else None
        f1 = 2 * confusion[i][i] / (images + taken)
        rows.append(
            (label, [images, confusion[i][i], *("" if s is None else f"{s:.4f}" for s in (recall, precision, f1))])
        )
    _csv(folder / "test_classes.csv", ("class", "images", "right", "recall", "precision", "f1"), rows)
    worst = [_photo(classes[i % size], classes[(i + 1) % size], i) for i in range(24)]
    (folder / "test_worst.json").write_text(json.dumps(worst))
    return folder


def write_judgement(folder):
    """Write what the debugger leaves of a training in which gradients vanish."""
    gradient = "gradient/Classifier_backbone.features.17.conv.2.weight"
    message = f"the mean absolute value of {gradient} is 3.162e-08, below 1e-07"
    finding = {"step": 150, "message": message, "evidence": {}, "advice": "train fewer blocks", "curves": [0]}
    points = [[step, 10 ** (-6 - step / 100)] for step in range(0, 500, 50)]
    curve = {"name": f"{gradient} (TRAIN)", "quantity": "the mean absolute value", "points": points}
    fired = {
        "rule": "vanishing_gradient",
        "parameters": {"threshold": 1e-7, "biases": False},
        "status": "IssuesFound",
        "reason": "",
        "findings": [finding],
        "curves": [{**curve, "thresholds": [1e-7]}],
        "times": 7,
    }
    silent = {**fired, "rule": "overfit", "status": "NoIssuesFound", "findings": [], "curves": [], "times": 0}
    left_out = {"class_imbalance": "360 labels were saved; 500 are needed for 3 classes"}
    value = {"problem": "", "rules": [fired, silent], "left_out": left_out}
    (folder / "debugger.json").write_text(json.dumps(value))


def _csv(file, head, rows):
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([head, *((label, *values) for label, values in rows)])


def _photo(label, predicted, number):
    file = io.BytesIO()
    Image.new("RGB", (112, 112), (40 + 9 * number, 90, 250 - 9 * number)).save(file, "JPEG")
    jpeg = base64.b64encode(file.getvalue()).decode()
    shares = {"probability": 0.9, "right_probability": 0.01}
    return {"image": f"{label}/{number}.jpg", "label": label, "predicted": predicted, **shares, "jpeg": jpeg}
