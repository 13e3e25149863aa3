"""Trial folders as smdebug leaves them, whole, running, killed or damaged (contract D2.2); nothing is waited for."""

import os
import shutil
import time

import pytest

from kennel.debugger.series import Mode
from kennel.debugger.trial import read_trial
from kennel.errors import TrialError


@pytest.fixture
def copy(trials, tmp_path):
    read_trial(trials("healthy"))  # the first import of smdebug takes seconds, and is not what is timed
    started = time.monotonic()
    yield shutil.copytree(trials("healthy"), tmp_path / "copy")
    assert time.monotonic() - started < 60  # smdebug would wait for 200


def test_a_trial_has_series_by_mode_with_both_counts_of_steps_d2_2(trials):
    measured = read_trial(trials("healthy"))
    (losses,) = measured.select(collections=["losses"], mode=Mode.EVAL)
    assert dict(losses.global_steps) == {step: 10 * (step // 2 + 1) + step for step in range(12)}
    assert measured.ended
    assert len(measured.moments) == 72
    (weights,) = measured.select(regex="^Sequential_head.weight$", mode=Mode.TRAIN)
    assert weights.tensor(0).shape == (3, 32)
    assert weights.number(0, "count") == 96


def test_nothing_is_printed(trials, capfd):
    measured = read_trial(trials("healthy"))
    measured.series[0].number(0, "mean")
    assert capfd.readouterr() == ("", "")


def test_a_folder_without_a_trial_is_refused_with_what_is_in_it(tmp_path):
    with pytest.raises(TrialError, match="should be in it, and there is nothing"):
        read_trial(tmp_path)
    (tmp_path / "photos").mkdir()
    with pytest.raises(TrialError, match="and there is photos"):
        read_trial(tmp_path)
    with pytest.raises(TrialError, match="is no folder"):
        read_trial(tmp_path / "photos" / "none")


def test_a_training_without_an_end_marker_is_read_as_far_as_it_is_d2_2(copy):
    (copy / "training_job_end.ts").unlink()
    measured = read_trial(copy)
    assert not measured.ended
    assert len(measured.moments) == 72
    assert measured.series[0].number(0, "count")


@pytest.mark.parametrize("ended", [True, False])
def test_a_step_that_was_announced_and_never_saved_is_left_out(copy, ended):
    if not ended:
        (copy / "training_job_end.ts").unlink()
    shutil.rmtree(copy / "events" / f"{71:012}")
    measured = read_trial(copy)
    (losses,) = measured.select(collections=["losses"], mode=Mode.EVAL)
    assert max(losses.global_steps) == 10


def test_a_trial_whose_other_workers_are_missing_is_refused(copy):
    file = next(copy.glob("collections/*/*.json"))
    file.write_text(file.read_text().replace('"num_workers": 1', '"num_workers": 4'))
    with pytest.raises(TrialError, match="holds tensors of 1 of 4 workers"):
        read_trial(copy)


def test_of_several_workers_the_first_ones_tensors_are_taken_d2_2(copy):
    for file in list(copy.glob("*/*/*worker_0*.json")):
        text = file.read_text().replace('"num_workers": 1', '"num_workers": 2')
        file.write_text(text)
        file.with_name(file.name.replace("worker_0", "worker_1")).write_text(text)
    measured = read_trial(copy)
    assert len(measured.moments) == 72
    assert measured.series[0].number(0, "count")


def test_a_damaged_trial_is_refused_with_the_reason(copy):
    index = sorted(copy.glob("index/*/*.json"))[3]
    index.write_text("{")
    with pytest.raises(TrialError, match=r"is damaged: .*Corrupt Index File"):
        read_trial(copy)
    shutil.rmtree(copy / "index")
    with pytest.raises(TrialError, match="holds no step yet"):
        read_trial(copy)
    next(copy.glob("collections/*/*.json")).write_text("{}")
    with pytest.raises(TrialError, match="does not describe the collections"):
        read_trial(copy)


def test_a_damaged_tensor_is_said_with_its_name_and_step(copy):
    for file in copy.glob("events/*/*.tfevents"):
        file.write_bytes(file.read_bytes()[:40])
    series = read_trial(copy).series[-1]
    with pytest.raises(TrialError, match=f"{series.name} of step 3 is damaged"):
        series.number(3, "mean")


def test_the_time_of_a_step_is_that_in_its_file_which_a_download_keeps(copy, trials):
    for file in copy.glob("events/*/*.tfevents"):
        os.utime(file, (0, 0))
    assert read_trial(copy).moments == read_trial(trials("healthy")).moments


def test_without_smdebug_one_sentence_says_what_to_install(copy, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "smdebug.trials", None)
    with pytest.raises(TrialError, match=r"pip install '\.\[image\]'"):
        read_trial(copy)
