"""The reports in a real browser: nothing in its console, nothing wider than the screen, tables that sort."""

import pytest

from kennel.report.comparison_page import write_comparison
from kennel.report.job_page import write_job_page
from kennel.report.job_record import read_job
from tests.browser.chromium import browse, find_chromium
from tests.job_output import write_job_output, write_judgement
from tests.profiler.recorded import write_profile

BREEDS = tuple(f"{number:03}.A_breed_of_dogs_with_a_name" for number in range(1, 134))
WIDTHS = (1280, 400)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = find_chromium()
    if program is None:
        pytest.skip("there is no chromium; apt-get install chromium")
    with browse(program, tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of few classes, one of many, and a comparison."""
    folder = tmp_path_factory.mktemp("jobs")
    few = write_job_output(folder / "few", name="few", reason="the time was up", price=1.41)
    write_judgement(few)
    many = write_job_output(folder / "many", BREEDS, name="many", hyperparameters={"unfreeze": "2", "epochs": 3})
    write_profile(few)
    write_profile(many, days=1)
    both = folder / "both.html"
    write_comparison(read_job(few), read_job(many), both)
    return {"few": write_job_page(few), "many": write_job_page(many), "both": both}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["few", "many", "both"])
def test_a_page_fits_the_screen_and_the_console_is_silent(browser, pages, name, width):
    for dark in (False, True):
        browser.open(pages[name], width, dark=dark)
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run("[...document.images].every((image) => image.complete && image.naturalWidth)")
    assert browser.said == []


def test_dark_and_light_are_different_and_both_are_readable(browser, pages):
    colours = {}
    for dark in (False, True):
        browser.open(pages["few"], 1280, dark=dark)
        style = "getComputedStyle(document.body)"
        colours[dark] = browser.run(f"{style}.color"), browser.run(f"{style}.backgroundColor")
    light, night = (colours[dark] for dark in (False, True))
    assert brightness(light[1]) - brightness(light[0]) > 150
    assert brightness(night[0]) - brightness(night[1]) > 150


def brightness(colour):
    numbers = [float(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    return sum(numbers) / 3


def test_a_click_on_a_head_sorts_the_table_and_another_turns_it_round(browser, pages):
    browser.open(pages["many"], 1280)
    cells = "[...document.querySelectorAll('.sortable tbody tr')].map((row) => row.cells[{}].textContent)"

    def click(column):
        browser.run(f"document.querySelectorAll('.sortable th button')[{column}].click()")
        return browser.run(cells.format(column))

    names = click(0)
    assert names == sorted(names)
    assert click(0) == sorted(names, reverse=True)
    assert browser.run("document.querySelectorAll('.sortable th')[0].getAttribute('aria-sort')") == "descending"
    precisions = [float(text) for text in click(5) if text]
    assert precisions == sorted(precisions)
    assert browser.said == []


def test_a_page_is_printed_with_the_whole_table(browser, pages):
    browser.open(pages["many"], 1280)
    pdf = browser.pdf()
    assert pdf.startswith(b"%PDF")
    assert 4 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 15
