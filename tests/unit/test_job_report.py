"""The report of a training job, read as a browser would, and the comparison of two."""

import json
import re

import pytest

from kennel.errors import ReportError
from kennel.report.comparison_page import write_comparison
from kennel.report.job_page import write_job_page
from kennel.report.job_record import read_job
from kennel.report.job_summary import train_command
from tests.job_output import write_job_output
from tests.pages import Page, shapes

BREEDS = tuple(f"{number:03}.A_breed_of_dogs_with_a_name" for number in range(1, 134))
EVIL = "</script><script>alert(1)</script>\"'&<b>\x00\x1b\ud800 $(reboot)"
DEFECTS = {
    "leaks": [{"split": "test", "other": "train", "images": 7, "examples": [["test/a.jpg", "train/b.jpg"]] * 7}],
    "contradictions": [{"split": "train", "images": 1, "examples": [["train/cat/c.jpg", "train/dog/d.jpg"]]}],
    "held_out": {"images": 12, "of": 120, "seed": 0},
    "warnings": ["leakage: 7 images of test are also in train", "imbalance: cat has 300 training images and fox has 9"],
}


@pytest.fixture
def output(tmp_path):
    """Write a job's output, change it, and return its folder."""

    def write(*gone, data=None, **job):
        folder = write_job_output(tmp_path / job.get("name", "job-1"), **job)
        for name in gone:
            (folder / name).unlink()
        if data:
            file = folder / "data.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), **data}))
        return folder

    return write


def page_of(folder):
    return Page(write_job_page(folder).read_text(encoding="utf-8"))


def headings(page):
    return re.findall(r"<h2>(.*?)</h2>", page.text)


TESTED = ("test_classes.csv", "test_confusion.csv", "test_worst.json")
CASES = {
    "three classes": {},
    "133 classes": {"classes": BREEDS},
    "hostile": {
        "classes": (EVIL.replace("\ud800", "\r\n"), "dog"),
        "reason": EVIL,
        "instance": EVIL,
        "hyperparameters": {"backbone": EVIL},
    },
    "all right": {"errors": 0.0},
    "one epoch": {"epochs": 2},
    "a thousand epochs": {"epochs": 1000},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_page_is_well_formed_small_and_needs_nothing_from_outside(output, case):
    folder = output(data=DEFECTS, **case)
    page = page_of(folder)
    assert (folder / "report.html").stat().st_size < 2_000_000
    assert [tag for tag, _ in page.elements].count("script") == 1
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "b")
        assert not {"href", "srcset", "xlink:href", "onclick"} & set(attributes)
        assert attributes.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
    assert not re.search(r"https?://|@import|url\(", page.text)
    assert "nan" not in page.words
    for svg in page.charts.values():
        assert svg.get("viewBox")


def test_the_head_of_the_page_tells_what_came_of_the_job(output):
    page = page_of(output(price=1.41))
    for words in (
        "Training job, completed",
        "Test accuracy 0.8100 loss 1.2500",
        "Valid accuracy 0.8300",
        "Best epoch 5 of 6",
        "Images 168 3 classes",
        "Backbone resnet50",
        "Duration 1 min 30 s cpu",
        "Cost, estimated $0.04 at $1.41 an hour",
    ):
        assert page.says(words), words
    assert not page_of(output()).says("Cost")


def test_a_job_that_went_on_after_an_interruption_counts_the_epochs_before_it(output):
    folder = output()
    lines = (folder / "training.jsonl").read_text().splitlines()
    rest = [line for line in lines if json.loads(line).get("epoch", 5) >= 5]
    assert len(rest) < len(lines)
    (folder / "training.jsonl").write_text("\n".join(rest) + "\n")
    assert page_of(folder).says("Best epoch 5 of 6")


def test_the_sections_are_those_that_there_is_something_to_say_of(output):
    whole = ["Accuracy", "Loss", "What it gets wrong", "Worst test photos", "Classes", "What ran", "Reproduce"]
    assert headings(page_of(output())) == whole
    assert headings(page_of(output(data=DEFECTS))) == ["Warnings", *whole]
    untested = ["Accuracy", "Loss", "What ran", "Reproduce"]
    assert headings(page_of(output(*TESTED))) == untested
    failed = page_of(output(*TESTED, "training.jsonl", "data.json", status="Failed", reason="train is empty"))
    assert headings(failed) == ["What ran", "Reproduce"]
    assert failed.says("Training job, failed")
    assert failed.says("train is empty")


def test_the_engines_that_the_model_was_exported_for_are_shown_with_what_was_refused(output):
    measured = {"images": 200, "accuracy": 0.91, "agreement": 1.0, "milliseconds": 16.04, "refused": ""}
    records = [
        {"name": "torch-fp32", **measured},
        {"name": "openvino-bf16", **measured, "accuracy": 0.875, "refused": "its accuracy is 0.8750"},
        {"name": "openvino-int8", "images": 0, "accuracy": 0, "agreement": 0, "milliseconds": 0, "refused": EVIL[:30]},
    ]
    folder = output()
    with (folder / "training.jsonl").open("a") as file:
        file.write(json.dumps({"engines": records}) + "\n")
    page = page_of(folder)
    assert headings(page).index("Engines") == headings(page).index("What ran") - 1
    assert page.says("on 200 validation images")
    assert page.says("torch-fp32 0.9100 1.0000 16.04 yes")
    assert page.says("openvino-bf16 0.8750 1.0000 16.04 no: its accuracy is 0.8750")
    assert page.says("openvino-int8 no: </script><script>")
    report = json.loads((folder / "report.json").read_text())
    assert [engine["name"] for engine in report["engines"]] == ["torch-fp32", "openvino-bf16", "openvino-int8"]


def test_a_job_that_still_runs_is_shown_as_far_as_it_is(output):
    folder = output(*TESTED, status="InProgress", seconds=None)
    lines = (folder / "training.jsonl").read_text().splitlines(keepends=True)
    (folder / "training.jsonl").write_text("".join(lines[:3]) + lines[3][:20])  # the last line is being written
    page = page_of(folder)
    assert page.says("Training job, in progress")
    assert len(read_job(folder).epochs) == 2


def test_hyperparameters_that_are_not_the_default_come_first_and_are_marked(output):
    page = page_of(output(hyperparameters={"learning_rate": 0.01, "augment": "none"}))
    marked = re.findall(r'<div class="changed"><dt[^>]*>(\w+)</dt><dd[^>]*>([^<]+)', page.text)
    assert marked == [("learning_rate", "0.01"), ("augment", "none")]
    assert "the default is 0.0005" in page.text
    assert page.text.index(">learning_rate<") < page.text.index(">backbone<")


def test_the_command_holds_what_differs_from_the_defaults_quoted_for_a_shell(output):
    job = read_job(output(hyperparameters={"learning_rate": 0.01, "unfreeze": "all"}))
    assert train_command(job) == (
        "kennel train --data '/data/my dogs' --weights /weights/resnet50.pth --learning-rate 0.01 --unfreeze all"
    )
    scratch = read_job(output(hyperparameters={"weights": "none"}, sources={}))
    assert train_command(scratch) == "kennel train --data DATA --weights none"
    assert train_command(read_job(output(sources={}))) == "kennel train --data DATA --weights FILE"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("s3://bucket/kennel/dogs-1/output/model.tar.gz", "--from-model dogs-1"),
        ("/home/me/.kennel/s3/kennel-local/training/dogs-1/output/model.tar.gz", "--from-model dogs-1"),
        ("/data/my model", "--from-model '/data/my model'"),
    ],
)
def test_the_command_of_a_job_that_went_on_from_a_model_names_that(output, model, words):
    sources = {"training": "/data/dogs", "model": model}
    command = train_command(read_job(output(hyperparameters={}, sources=sources)))
    assert command.removeprefix("kennel train ").removeprefix("--on aws ") == f"--data /data/dogs {words}"


def test_a_record_that_is_no_object_is_refused(output):
    folder = output()
    (folder / "job.json").write_text("[]")
    with pytest.raises(ReportError, match=r"job\.json is not the record of a training job: it holds list"):
        read_job(folder)


def test_learning_curves_mark_the_best_epoch_and_where_fine_tuning_begins(output):
    charts = page_of(output(hyperparameters={"unfreeze": "2", "epochs": 3})).charts
    chart = charts["accuracy after each epoch: train, valid"]
    assert [line.get("class") for line in shapes(chart, "line")] == ["line train", "line valid"]
    assert [rule.find("title").text for rule in shapes(chart, "rule")] == [
        "the head alone up to epoch 3, fine-tuning after it",
        "epoch 5 is the saved model",
    ]
    head_only = page_of(output(hyperparameters={"unfreeze": "head", "epochs": 3}))
    assert len(shapes(head_only.charts["loss after each epoch: train, valid"], "rule")) == 1


def test_the_most_frequent_confusions_come_first_and_are_cells_with_a_title(output):
    folder = output(classes=BREEDS)
    job = read_job(folder)
    counts = [pair.images for pair in job.confusions]
    assert counts == sorted(counts, reverse=True)
    page = page_of(folder)
    first = job.confusions[0]
    assert page.says(f"{first.label} taken for {first.predicted} {first.images} of 8")
    assert page.says(f"and {len(counts) - 15} more pairs")
    matrix = page.charts["confusion matrix of 133 classes"]
    titles = [title.text for title in matrix.iter("title")]
    assert f"{first.label}: taken for {first.predicted}, {first.images} of 8" in titles
    assert len(shapes(matrix, "wrong")) == len(counts)
    assert not shapes(matrix, "count")  # no room for numbers
    assert len(shapes(matrix, "tick")) == 1  # nor for names


def test_few_classes_have_names_and_numbers_in_the_matrix(output):
    matrix = page_of(output()).charts["confusion matrix of 3 classes"]
    assert sorted(text.text for text in matrix.iter("text") if "tick" in text.get("class")) == sorted(
        ["cat", "dog", "fox"] * 2
    )
    assert sum(int(text.text) for text in shapes(matrix, "count")) == 24


def test_a_thousand_classes_of_many_mistakes_are_still_a_small_file(output):
    folder = output(classes=tuple(f"class {number:04} of a thousand" for number in range(1000)), images=20, errors=0.7)
    page = write_job_page(folder)
    assert page.stat().st_size < 2_000_000
    assert (folder / "report.json").stat().st_size < 2_000_000
    assert "Only the most frequent mistakes are drawn" in page.read_text()


def test_the_table_of_classes_has_the_worst_first(output):
    page = page_of(output(classes=BREEDS))
    table = re.search(r'<table class="sortable">.*?</table>', page.text, re.S).group(0)
    recalls = [float(value) for value in re.findall(r'data-value="([\d.]+)"', table)]
    assert len(recalls) == 133
    assert recalls == sorted(recalls)


def test_warnings_name_examples_of_equal_and_unreadable_images(output):
    folder = output(data=DEFECTS)
    rows = "".join(f"train,cat/{number}.png,no image\n" for number in range(9))
    (folder / "skipped_images.csv").write_text("split,image,reason\n" + rows)
    page = page_of(folder)
    for words in (
        "imbalance: cat has 300 training images and fox has 9",
        "7 images are both in test and in train test/a.jpg = train/b.jpg",
        "and 2 more",
        "1 image is in two classes of train train/cat/c.jpg = train/dog/d.jpg",
        "9 images could not be read and took no part train/cat/0.png: no image",
        "held out of train for valid 12 of 120",
    ):
        assert page.says(words), words
    assert "leakage" not in page.text  # said already, with more examples


def test_photos_show_what_was_said_and_what_is(output):
    page = page_of(output())
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(images) == 24
    assert images[0]["alt"] == "cat/0.jpg"
    assert page.says("said dog 90 % is cat 1 %")


def test_the_record_for_programs_says_the_same(output):
    folder = output(price=2.0, hyperparameters={"seed": 3})
    write_job_page(folder, {"image": "kennel:1"})
    found = json.loads((folder / "report.json").read_text())
    assert (found["cost"], found["image"], found["changed"]) == (0.05, "kennel:1", {"seed": "3"})
    assert found["metrics"]["test_accuracy"] == 0.81
    assert len(found["epochs"]) == 6
    assert len(found["worst"]) == 24
    assert "jpeg" not in found["worst"][0]


def test_a_folder_that_is_no_job_s_is_refused_with_the_file_and_the_reason(output, tmp_path):
    with pytest.raises(ReportError, match=r"nothing/job.json cannot be read \(No such file"):
        read_job(tmp_path / "nothing")
    folder = output()
    (folder / "data.json").write_text("{")
    with pytest.raises(ReportError, match=r"job-1 is not the output of a training job: data.json: Expecting"):
        read_job(folder)
    with pytest.raises(ReportError, match="inf is no finite number"):
        read_job(output(seconds=float("inf")))
    folder = output()
    (folder / "test_confusion.csv").write_text("x,cat\ncat,1\n")
    with pytest.raises(ReportError, match="no square of 3 classes"):
        read_job(folder)
    folder = output()
    (folder / "job.json").write_text("{}")
    with pytest.raises(ReportError, match="lacks 'name'"):
        read_job(folder)


@pytest.fixture
def comparison(output, tmp_path):
    def write(first, second):
        page = tmp_path / "reports" / "both.html"
        write_comparison(read_job(output(**first)), read_job(output(**second)), page)
        return Page(page.read_text(encoding="utf-8"))

    return write


def test_two_jobs_are_compared_by_what_differs_and_what_came_of_it(comparison):
    second = {"name": "job-2", "hyperparameters": {"learning_rate": 0.01}, "errors": 0.9, "epochs": 9}
    page = comparison({"name": "job-1"}, second)
    tables = re.findall(r"<table.*?</table>", page.text, re.S)
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>.*?</tr>", tables[1], re.S)[1:]]
    assert rows == [["learning_rate", "0.0005", "0.01"]]
    assert "<td>0.8100</td><td>0.8100</td>" in tables[0]
    chart = page.charts["accuracy after each epoch: job-1 train, job-2 train, job-1 valid, job-2 valid"]
    kinds = [line.get("class") for line in shapes(chart, "line")]
    assert kinds == ["line first faint", "line second faint", "line first", "line second"]
    changes = [abs(float(value)) for value in re.findall(r'data-value="([\d.-]+)"', tables[2])]
    assert len(changes) == 3
    assert changes == sorted(changes, reverse=True)
    assert [tag for tag, _ in page.elements].count("script") == 1


def test_jobs_on_other_images_are_compared_with_a_note(comparison):
    page = comparison({"name": "job-1"}, {"name": "job-2", "classes": ("cat", "dog")})
    assert page.says("the test images are not the same: 24 and 16")
    assert page.says("the classes are not the same: 3 and 2")


def test_equal_jobs_and_jobs_without_a_test_are_compared_too(comparison, output, tmp_path):
    assert comparison({"name": "job-1"}, {"name": "job-2"}).says("All hyperparameters are the same")
    failed = read_job(output(*TESTED, "training.jsonl", "data.json", name="job-3"))
    write_comparison(failed, read_job(output(name="job-4")), tmp_path / "page.html")
    assert headings(Page((tmp_path / "page.html").read_text())) == [
        "What came of it",
        "What was different",
        "Accuracy",
        "Loss",
    ]
