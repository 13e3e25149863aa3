"""The section of a job's page on where its time went."""

import json

import pytest

from kennel.errors import ReportError
from kennel.report.job_page import write_job_page
from kennel.report.job_record import read_job
from tests.job_output import write_job_output
from tests.pages import Page, shapes
from tests.profiler.recorded import write_profile

TITLE = "Where the time went"


@pytest.fixture
def output(tmp_path):
    return write_job_output(tmp_path / "job")


def page_of(folder):
    return Page(write_job_page(folder).read_text(encoding="utf-8"))


def test_the_phases_of_a_job_are_shown_with_what_they_took(output):
    profile = write_profile(output)
    page = page_of(output)
    assert page.says(TITLE)
    assert page.says("Of 1 min 4 s: backward 31 %, decoding images 19 %.")
    assert page.says("decoding images 12.0 s 18.9 %")
    areas = shapes(page.chart("what the time went to"), "area")
    assert len(areas) == len([part for part in profile["parts"] if profile["parts"][part] > 0.001 * profile["seconds"]])
    numbers = json.loads((output / "report.json").read_text())["time"]
    assert numbers == {"seconds": profile["seconds"], "parts": profile["parts"]}
    assert sum(numbers["parts"].values()) == pytest.approx(numbers["seconds"], abs=0.001)


def test_slow_steps_are_marked_in_the_histogram_and_named(output):
    profile = write_profile(output)
    page = page_of(output)
    for stage in profile["stages"]:
        chart = page.chart(f"how long the steps of the {stage['name']} took")
        limit = stage["mean"] + 3 * stage["deviation"]
        marked = [low for low, high, _ in stage["bins"] if (low * high) ** 0.5 > limit]
        assert len(shapes(chart, "outlier")) == len(marked) > 0
        assert len(shapes(chart, "usual")) == len(stage["bins"]) - len(marked)
        assert page.says(f"step {stage['slowest'][0]['step']} with")


def test_fifteen_operators_are_named_and_a_gpus_columns_only_where_there_is_one(output):
    write_profile(output)
    page = page_of(output)
    assert page.says("Operators in 10 steps of the network")
    assert page.says("aten::convolution_backward_14")
    assert not page.says("aten::convolution_backward_15")
    assert not page.says("GPU memory")
    write_profile(output, days=1)
    page = page_of(output)
    assert page.says("GPU memory")
    assert page.says("each GPU")


def test_the_page_of_a_job_of_a_day_on_eight_gpus_stays_small(output):
    write_profile(output, days=1)
    assert (output / "profiler.json").stat().st_size < 200_000
    page = page_of(output)
    assert page.says("Of 19 h 57 min")
    assert (output / "report.html").stat().st_size < 500_000
    assert "nan" not in page.words


def test_a_job_without_a_profile_has_no_such_section(output):
    assert not page_of(output).says(TITLE)
    assert json.loads((output / "report.json").read_text())["time"] is None


def test_a_job_that_ended_before_its_first_step_is_shown_as_far_as_it_came(output):
    profile = write_profile(output)
    profile |= {"stages": [], "timeline": {"width": 0.1, "parts": {}}, "parts": {}, "seconds": 0.0}
    profile["samples"] |= {"at": [], "series": {}}
    profile["operators"] = {"stage": None, "steps": 0, "trace": None, "table": []}
    (output / "profiler.json").write_text(json.dumps(profile))
    page = page_of(output)
    assert page.says("Of 0.0 s:")
    assert page.chart("how busy") is None


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": "many"},
        {"parts": {"data": float("nan")}},
        {"timeline": {"width": 1, "parts": {"data": [1], "forward": [1, 2]}}},
        {"stages": [{"name": "head"}]},
        {"operators": None},
    ],
)
def test_a_profile_that_is_none_is_said(output, change):
    profile = write_profile(output)
    (output / "profiler.json").write_text(json.dumps(profile | change))
    with pytest.raises(ReportError, match="is not the output of a training job"):
        read_job(output)


def test_names_in_a_profile_are_text_and_no_markup(output):
    profile = write_profile(output)
    evil = "</script><script>alert(1)</script>"
    profile["operators"]["table"][0]["name"] = profile["stages"][0]["name"] = evil
    profile["parts"][evil] = 9.0
    (output / "profiler.json").write_text(json.dumps(profile))
    page = page_of(output)
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert page.says(evil)
