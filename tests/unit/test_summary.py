"""The summary of a search: written for programs and for people, and read back."""

import csv
import json

import pytest

from kennel.errors import SearchError
from kennel.tuning.summary import Summary, Trial, markdown, ranked, read_best, read_summary, write_summary


def trial(number, objective=None, status="Completed", **more):
    values = {"optimizer": "adam", "learning_rate": f"0.{number}"}
    return Trial(number=number, status=status, objective=objective, hyperparameters=values, seconds=1.5, **more)


def summary(*trials, maximize=True, **more):
    ranges = {"optimizer": {"choices": ["adam"]}, "learning_rate": {"low": 0.0, "high": 1.0, "scaling": "Linear"}}
    return Summary(
        name="dogs",
        status="Completed",
        strategy="Random",
        metric="valid_accuracy",
        maximize=maximize,
        seconds=12.34,
        static={"epochs": "4"},
        ranges=ranges,
        trials=trials,
        **more,
    )


@pytest.mark.parametrize(("maximize", "best"), [(True, 2), (False, 4)])
def test_the_best_trial_is_the_earliest_with_the_best_objective(maximize, best):
    found = summary(trial(1, 0.5), trial(2, 0.9), trial(3, 0.9), trial(4, 0.1), trial(5, 0.1), maximize=maximize)
    assert found.best.number == best
    assert ranked(found)[0] is found.best


def test_only_trials_that_ended_and_did_not_fail_can_be_best():
    found = summary(trial(1, 0.99, "Failed"), trial(2), trial(3, 0.95, "InProgress"), trial(4, 0.6, "Stopped"))
    assert found.best.number == 4
    assert ranked(found)[0].number == 4
    assert ranked(found)[-1].number == 2 or ranked(found)[-1].objective is not None
    assert summary(trial(1, None, "Failed")).best is None


def test_an_objective_of_zero_is_an_objective():
    assert summary(trial(1), trial(2, 0.0)).best.number == 2
    assert summary(trial(1, 0.0), trial(2, -1.0), maximize=False).best.number == 2


def test_the_summary_is_written_for_programs_and_for_people(tmp_path):
    trials = (
        trial(1, 0.51239, job="dogs-001", metrics={"valid_accuracy": 0.51239, "valid_loss": 2.0}, curve=[0.4, 0.51239]),
        trial(2, None, "Failed", reason="the loss is no longer a number"),
        trial(3, 0.75),
    )
    write_summary(tmp_path, summary(*trials, importance={"learning_rate": 0.8, "optimizer": 0.2}))
    found = json.loads((tmp_path / "tuning.json").read_text())
    assert found["best"] == {
        "number": 3,
        "job": "",
        "objective": 0.75,
        "hyperparameters": {"epochs": "4", "optimizer": "adam", "learning_rate": "0.3"},
    }
    assert found["objective"] == {"metric": "valid_accuracy", "goal": "Maximize"}
    assert (found["name"], found["strategy"], found["seconds"]) == ("dogs", "Random", 12.3)
    assert found["importance"] == {"learning_rate": 0.8, "optimizer": 0.2}
    assert [entry["number"] for entry in found["trials"]] == [1, 2, 3]
    assert found["trials"][0]["curve"] == [0.4, 0.51239]
    with (tmp_path / "tuning.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["trial"] for line in lines] == ["1", "2", "3"]
    assert (lines[0]["valid_loss"], lines[0]["learning_rate"], lines[0]["job"]) == ("2.0", "0.1", "dogs-001")
    assert (lines[1]["objective"], lines[1]["reason"]) == ("", "the loss is no longer a number")
    text = (tmp_path / "tuning.md").read_text().splitlines()
    assert text[:3] == ["# dogs", "", "3 trials in 12.3 s, Random: Completed."]
    assert text[4] == "Best: trial 3, valid_accuracy 0.7500, with optimizer=adam, learning_rate=0.3."
    assert text[6:] == [
        "| trial | status | optimizer | learning_rate | valid_accuracy | seconds |",
        "|---|---|---|---|---|---|",
        "| 3 | Completed | adam | 0.3 | 0.7500 | 1.5 |",
        "| 1 | Completed | adam | 0.1 | 0.5124 | 1.5 |",
        "| 2 | Failed | adam | 0.2 |  | 1.5 |",
    ]


def test_a_search_without_an_end_is_told_with_its_reason():
    text = markdown(summary(trial(1, None, "Failed"), reason="No training job has succeeded."))
    assert "1 trials in 12.3 s, Random: Completed. No training job has succeeded." in text
    assert "Best" not in text


def test_a_pipe_does_not_break_the_table():
    odd = Trial(number=1, status="Completed", hyperparameters={"a|b": "x|y"}, objective=0.5)
    found = summary(odd)
    table = markdown(
        Summary(**{**{name: getattr(found, name) for name in found.__dict__}, "ranges": {"a|b": {"choices": ["x|y"]}}})
    ).splitlines()[6:]
    assert table == [
        r"| trial | status | a\|b | valid_accuracy | seconds |",
        "|---|---|---|---|---|",
        r"| 1 | Completed | x\|y | 0.5000 |  |",
    ]


def test_the_best_hyperparameters_are_read_back_with_the_static_ones(tmp_path):
    write_summary(tmp_path, summary(trial(1, 0.5)))
    assert read_best(tmp_path) == {"epochs": "4", "optimizer": "adam", "learning_rate": "0.1"}


def test_a_search_without_a_best_trial_has_nothing_to_read(tmp_path):
    write_summary(tmp_path, summary(trial(1, None, "Failed")))
    with pytest.raises(SearchError, match="the search dogs is Completed and has no best trial yet"):
        read_best(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"best": null}', "\\x00"])
def test_what_is_no_summary_is_refused_with_its_path(tmp_path, content):
    (tmp_path / "tuning.json").write_text(content)
    for read in (read_best, read_summary):
        with pytest.raises(SearchError, match=r"tuning\.json is no summary of a search"):
            read(tmp_path)


def test_a_search_without_a_summary_is_told_by_its_name(tmp_path):
    for read in (read_best, read_summary):
        with pytest.raises(SearchError, match="there is no summary of a search dogs"):
            read(tmp_path / "dogs")


def test_a_summary_is_read_as_it_was_written(tmp_path):
    trials = (trial(1, 0.5, curve=[0.4, 0.5], metrics={"valid_loss": 1.0}), trial(2, None, "Failed", reason="why"))
    written = summary(*trials, reason="because", importance={"optimizer": 1.0})
    write_summary(tmp_path, written)
    found = read_summary(tmp_path)
    assert found.to_json() == json.loads(json.dumps(written.to_json()))
    assert found.best.number == written.best.number == 1
