"""The page of a tuning job, read as a browser would."""

import json
import math
import re
from xml.etree import ElementTree

import pytest

from kennel.errors import ReportError
from kennel.report import charts
from kennel.report.pages import duration
from kennel.report.scales import Choices, Scale, number, scale_of
from kennel.report.tuning_page import write_tuning_page
from tests.pages import Page, numbers, shapes

RANGES = {
    "learning_rate": {"low": 1e-5, "high": 0.1, "scaling": "Logarithmic"},
    "dropout": {"low": 0.0, "high": 0.5, "scaling": "Linear"},
    "batch_size": {"choices": ["32", "64"]},
}


def trial(number, objective, status="Completed", **more):
    tuned = {"learning_rate": f"{10.0 ** -(1 + number % 4):g}", "dropout": "0.25", "batch_size": "32"}
    return {
        "number": number,
        "job": f"dogs-{number:03d}-ab12cd34",
        "status": status,
        "hyperparameters": tuned,
        "objective": objective,
        "metrics": {} if objective is None else {"test_accuracy": objective},
        "started": 2.0 * number,
        "seconds": 3.0,
        "curve": [] if objective is None else [objective / 2, objective],
        "reason": "",
        **more,
    }


def record(*trials, **more):
    best = max((t for t in trials if t["objective"] is not None), key=lambda t: t["objective"], default=None)
    return {
        "name": "dogs",
        "status": "Completed",
        "reason": "",
        "strategy": "Bayesian",
        "objective": {"metric": "valid_accuracy", "goal": "Maximize"},
        "seconds": 200.0,
        "static": {"epochs": "4"},
        "ranges": RANGES,
        "best": best
        and {
            "number": best["number"],
            "job": best["job"],
            "objective": best["objective"],
            "hyperparameters": {"epochs": "4", **best["hyperparameters"]},
        },
        "importance": {"learning_rate": 0.75, "dropout": 0.25} if len(trials) > 2 else {},
        "trials": list(trials),
        **more,
    }


MIXED = (
    trial(1, 0.50),
    trial(2, 0.70),
    trial(3, None, "Failed", reason="DataError: train is empty"),
    trial(4, 0.60, "Stopped"),
    trial(5, 0.91),
    trial(6, 0.80),
)
RUNNING = (trial(1, 0.5), trial(2, 0.4, "InProgress", seconds=None), trial(3, None, "InProgress", seconds=None))


@pytest.fixture
def page(tmp_path):
    def write(value):
        (tmp_path / "tuning.json").write_text(json.dumps(value), encoding="utf-8")
        written = write_tuning_page(tmp_path)
        assert written == tmp_path / "tuning.html"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["tuning.html", "tuning.json"]
        return Page(written.read_text(encoding="utf-8"))

    return write


CASES = {
    "mixed": record(*MIXED),
    "no trials": record(),
    "one trial": record(trial(1, 0.5)),
    "all failed": record(*(trial(i, None, "Failed", reason="it broke") for i in (1, 2, 3))),
    "all equal": record(*(trial(i, 0.5) for i in (1, 2, 3))),
    "all zero": record(*(trial(i, 0.0, seconds=0.0, started=0.0) for i in (1, 2)), importance={"dropout": 0.0}),
    "no ranges": record(*MIXED, ranges={}),
    "running": record(*RUNNING, status="InProgress"),
    "one epoch": record(*(trial(i, i / 10, curve=[i / 10]) for i in (1, 2))),
    "no job started": record(
        trial(1, None, "Failed", job="", hyperparameters={}, seconds=None, reason="no such image")
    ),
    "one value": record(*MIXED, ranges={"dropout": {"low": 0.25, "high": 0.25, "scaling": "Linear"}}),
    "logarithm of 0": record(*MIXED, ranges={"dropout": {"low": 0, "high": 0.5, "scaling": "Logarithmic"}}),
    "a choice unheard of": record(*MIXED, ranges={"batch_size": {"choices": ["64"]}}),
    "huge losses": record(trial(1, 1e30), trial(2, 0.1), objective={"metric": "valid_loss", "goal": "Minimize"}),
}


@pytest.mark.parametrize("value", CASES.values(), ids=CASES)
def test_every_page_is_well_formed_needs_nothing_from_outside_and_lists_every_trial(page, value):
    made = page(value)
    for tag, attributes in made.elements:
        assert tag not in ("script", "link", "img", "iframe", "object")
        assert not {"src", "href", "srcset", "xlink:href"} & set(attributes)
    assert not re.search(r"https?://|@import|url\(", made.text)
    assert "nan" not in re.findall(r"\w+", made.text)
    firsts = [row[0] for row in made.rows() if row[0]]
    assert sorted(firsts) == sorted(str(given["number"]) for given in value["trials"])
    for given in value["trials"]:
        assert not given["reason"] or made.says(given["reason"])
    for svg in made.charts.values():
        width, height = numbers(svg.get("viewBox"))[2:]
        for shape in svg.iter("text"):
            assert 0 <= float(shape.get("x")) <= width
            assert 0 <= float(shape.get("y")) <= height


def test_the_header_tells_how_the_search_went(page):
    made = page(record(*MIXED, reason="the budget was spent"))
    for words in (
        "Best valid_accuracy 0.9100 trial 5",
        "Maximize valid_accuracy",
        "Bayesian",
        "6 4 completed, 1 stopped, 1 failed",
        "3 min 20 s",
        "the budget was spent",
        "kennel train --from-tuning dogs",
    ):
        assert made.says(words), words


def test_the_table_has_the_best_first_and_those_without_an_objective_last(page):
    assert [row[0] for row in page(record(*MIXED)).rows() if row[0]] == ["5", "6", "2", "4", "1", "3"]


def test_when_less_is_better_the_least_comes_first(page):
    value = record(trial(1, 0.5), trial(2, 0.2), trial(3, 0.3), objective={"metric": "valid_loss", "goal": "Minimize"})
    value["best"] = {**value["best"], "number": 2, "objective": 0.2}
    made = page(value)
    assert [row[0] for row in made.rows()] == ["2", "3", "1"]
    assert made.says("lower is better")
    step = shapes(made.chart("best so far"), "line")[0].get("d")
    assert len(re.findall("V", step)) == 1  # down at the second trial, and never again


def test_the_best_so_far_rises_where_a_trial_is_better_than_all_before(page):
    made = page(record(*MIXED))
    chart = made.chart("best so far")
    marks = {
        int(re.match(r"trial (\d+)", mark.find("title").text).group(1)): numbers(mark.get("transform"))
        for mark in shapes(chart, "mark")
    }
    places = numbers(shapes(chart, "line")[0].get("d"))
    corners = [marks[1], marks[2], marks[5]]  # 0.5, 0.7 and 0.91; the others are below
    expected = [*corners[0], *corners[1], *corners[2], marks[6][0]]
    assert places == pytest.approx(expected, abs=0.11)


def test_marks_say_a_trial_s_status_by_colour_and_shape(page):
    chart = page(record(*MIXED)).chart("best so far")
    drawn = {kind: shapes(chart, kind) for kind in ("completed", "stopped", "failed")}
    assert [len(found) for found in drawn.values()] == [4, 1, 1]
    assert len({found[0].get("d") for found in drawn.values()}) == 3


def test_an_objective_of_a_trial_that_failed_later_does_not_count(page):
    value = record(trial(1, 0.5), trial(2, 0.6), trial(3, 0.9, "Failed"))
    value["best"] = None
    made = page(value)
    chart = made.chart("best so far")
    assert made.chart("2 trials: learning_rate")
    assert len(re.findall("V", shapes(chart, "line")[0].get("d"))) == 1
    floor = shapes(chart, "axis")[0].get("y1")
    assert numbers(shapes(chart, "failed")[0].get("transform"))[1] == float(floor)


def test_parallel_coordinates_draw_one_line_a_scored_trial_and_the_best_on_top(page):
    chart = page(record(*MIXED)).chart("5 trials: learning_rate, dropout, batch_size")
    lines = shapes(chart, "line")
    assert len(lines) == 5
    assert lines[-1].get("class") == "line best"
    assert all(len(line.get("points").split()) == 4 for line in lines)
    assert {"0.01", "1e-4", "64", "valid_accuracy"} <= {text.text for text in chart.iter("text")}


def test_a_trial_without_a_number_for_a_hyperparameter_is_left_out_of_parallel_coordinates(page):
    odd = trial(2, 0.6, hyperparameters={"learning_rate": "auto", "dropout": "0.1", "batch_size": "32"})
    assert page(record(trial(1, 0.5), odd, trial(3, 0.4))).chart("2 trials: learning_rate")


def test_importance_is_drawn_largest_first_or_said_to_be_unknown(page):
    chart = page(record(*MIXED, importance={"dropout": 0.2, "learning_rate": 0.797, "batch_size": 0.003})).chart(
        "importance"
    )
    names = [text.text for text in chart.iter("text")]
    assert names == ["learning_rate", "80 %", "dropout", "20 %", "batch_size", "< 1 %"]
    widths = [float(bar.get("width")) for bar in shapes(chart, "bar")]
    assert widths == sorted(widths, reverse=True)
    assert page(record(*MIXED, importance={})).says("Too few trials have finished to tell")


def test_learning_curves_have_one_line_a_trial_and_the_best_on_top(page):
    chart = page(record(*MIXED)).chart("after each epoch of 5 trials")
    lines = shapes(chart, "line")
    assert [line.get("class") for line in lines] == ["line other"] * 4 + ["line best"]


def test_a_trial_that_still_runs_lasts_until_now(page):
    chart = page(record(*RUNNING, seconds=20.0, status="InProgress")).chart("when each of 3 trials ran")
    ends = [float(bar.get("x")) + float(bar.get("width")) for bar in shapes(chart, "bar")]
    assert ends[1] == pytest.approx(ends[2], abs=0.2)
    assert ends[0] < ends[1]


def test_a_trial_with_a_report_is_linked_and_others_are_not(tmp_path):
    value = record(trial(1, 0.5), trial(2, 0.7))
    (tmp_path / "tuning.json").write_text(json.dumps(value), encoding="utf-8")
    address = "../jobs/dogs-002/report.html"
    made = Page(write_tuning_page(tmp_path, {"dogs-002-ab12cd34": address}).read_text(encoding="utf-8"))
    links = [attributes["href"] for tag, attributes in made.elements if tag == "a"]
    assert links == [address, address]  # of the best trial, and in the table
    assert made.says("dogs-001-ab12cd34")


def test_hostile_text_is_text(page):
    evil = "</script><script>alert(1)</script>\"'&<b>\x00\x1b\ud800 $(reboot)"
    tuned = {evil: "1", "dropout": evil}
    bad = trial(2, 0.4, hyperparameters=tuned, job=evil, metrics={evil: 1.0})
    ranges = {evil: {"choices": ["1", evil]}, "dropout": {"choices": [evil, "0.5"]}}
    failed = trial(3, None, "Failed", reason=evil)
    value = record(bad, failed, name=evil, reason=evil, strategy=evil, ranges=ranges, static={evil: evil})
    value |= {"objective": {"metric": evil, "goal": "Maximize"}, "importance": {evil: 1.0}}
    made = page(value)
    assert {"script", "b"}.isdisjoint(tag for tag, _ in made.elements)
    assert made.says("</script><script>alert(1)</script>\"'&<b>??? $(reboot)")
    assert len(made.charts) == 5
    assert made.says("kennel train --from-tuning '</script>")  # quoted for a shell


def test_a_hundred_trials_are_still_a_small_file(page):
    many = (trial(i, 0.5 + math.sin(i) / 3, curve=[i / 200] * 1000) for i in range(1, 101))
    made = page(record(*many))
    assert len(made.rows()) == 100
    assert len(made.text) < 1_000_000


MALFORMED = {
    "no JSON": "{",
    "a list": "[]",
    "empty": "{}",
    "a status unheard of": json.dumps(record(trial(1, 0.5, "Lost"))),
    "no number": json.dumps(record(trial(1, 0.5, seconds="3"))),
    "NaN": json.dumps(record(*MIXED, seconds=float("nan"))),
    "a number too large": json.dumps(record(*MIXED, seconds=10**400)),
    "no text": json.dumps(record(*MIXED, name=None)),
    "trials by name": json.dumps(record(trials={"1": trial(1, 0.5)})),
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_record_is_refused_with_its_name(tmp_path, text):
    (tmp_path / "tuning.json").write_text(text, encoding="utf-8")
    with pytest.raises(ReportError, match=r"tuning\.json is not the record of a tuning job: ."):
        write_tuning_page(tmp_path)
    assert not (tmp_path / "tuning.html").exists()


def test_a_missing_record_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(ReportError, match=r"tuning\.json cannot be read \(No such file.*give the folder"):
        write_tuning_page(tmp_path)


@pytest.mark.parametrize(
    ("scale", "labels"),
    [
        (scale_of([0.61, 0.97], rounded=True), ["0.6", "0.7", "0.8", "0.9", "1.0"]),
        (scale_of([0.66, 0.9027], rounded=True), ["0.6", "0.7", "0.8", "0.9", "1.0"]),
        (scale_of([1e-5, 0.1], logarithmic=True), ["1e-5", "1e-4", "0.001", "0.01", "0.1"]),
        (scale_of([0.2, 3], logarithmic=True), ["0.2", "0.5", "1", "2"]),
        (scale_of([0.30, 0.34], logarithmic=True), ["0.30", "0.31", "0.32", "0.33", "0.34"]),
        (scale_of([0, 2e7]), ["0", "5e6", "1e7", "1.5e7", "2e7"]),
        (scale_of([2.0408e-6, 2.0416e-6]), ["2.0408e-6", "2.041e-6", "2.0412e-6", "2.0414e-6", "2.0416e-6"]),
        (scale_of([]), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (scale_of([7, 7]), ["6.5", "7.0", "7.5"]),
        (Scale(0.5, 3.5, whole=True), ["1", "2", "3"]),
        (Choices(("a", "b")), ["a", "b"]),
    ],
)
def test_ticks_stand_at_round_numbers_inside_the_axis(scale, labels):
    ticks = scale.ticks()
    assert [label for _, label in ticks] == labels
    assert all(-1e-6 <= place <= 1 + 1e-6 for place, _ in ticks)


def test_a_logarithmic_axis_gives_each_power_of_ten_the_same_room():
    scale = scale_of([1e-4, 1.0], logarithmic=True)
    assert [scale.place(value) for value in (1e-4, 1e-2, 1.0)] == pytest.approx([0, 0.5, 1])


def test_charts_of_nothing_are_empty_frames():
    nothing = charts.Line([], "best", "")
    for svg in (
        charts.scatter_chart([], nothing, label="a", x_name="x", y_name="y"),
        charts.line_chart([], label="b", x_name="x", y_name="y"),
        charts.line_chart([nothing], label="b", x_name="x", y_name="y"),
        charts.bar_chart([], label="c"),
        charts.bar_chart([], label="c", x_name="x"),
        charts.parallel_chart([], [], label="d"),
        charts.parallel_chart([charts.Axis("a", [])], [], label="d"),
    ):
        assert ElementTree.fromstring(svg).get("role") == "img"


def test_numbers_and_times_are_short():
    given = (0.1, 0.0031622776, 1e-5, 2.5e-05, 123456, 1e6, -0.25, 0)
    assert [number(value) for value in given] == ["0.1", "0.003162", "1e-5", "2.5e-5", "123456", "1e6", "-0.25", "0"]
    assert [duration(s) for s in (0.04, 21.3, 200, 7500)] == ["0.0 s", "21.3 s", "3 min 20 s", "2 h 5 min"]
