"""The page of a load test in a real browser."""

import pytest

from kennel.report.load_page import write_load_page
from tests.browser.chromium import browse, find_chromium
from tests.load_record import BOTH_LOOPS, write_record


@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_the_screen_and_the_console_is_silent(tmp_path, tmp_path_factory, width):
    program = find_chromium()
    if program is None:
        pytest.skip("there is no chromium; apt-get install chromium")
    page = write_load_page(
        write_record(tmp_path, *BOTH_LOOPS, target="http://a-host-with-a-long-name.example.com:8080")
    )
    with browse(program, tmp_path_factory.mktemp("profile")) as browser:
        for dark in (False, True):
            browser.open(page, width, dark=dark)
            assert browser.run("document.documentElement.scrollWidth") <= width
            assert browser.run("document.querySelectorAll('svg.chart').length") == 4
        assert browser.said == []
