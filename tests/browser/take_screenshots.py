"""Take the screenshots of the README: `python -m tests.browser.take_screenshots REPORT COMPARISON`.

Both are pages of jobs on the digits of the demo, which are nobody's photos.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.browser.chromium import browse, find_chromium

FOLDER = Path(__file__).parent / "screenshots"
COLOURS = 128  # enough for a page, and a third of the bytes


def take(report: Path, comparison: Path) -> None:
    program = find_chromium()
    if program is None:
        sys.exit("there is no chromium; apt-get install chromium")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        browse(program, Path(profile)) as browser,
    ):
        for name, page, dark, last in (("report", report, False, "photos"), ("comparison", comparison, True, "chart")):
            browser.open(page, 1120, dark=dark)
            card = f"[...document.querySelectorAll('.{last}')].at(-1).closest('section')"
            bottom = browser.run(f"{card}.getBoundingClientRect().bottom") + 24
            picture = Image.open(io.BytesIO(browser.screenshot((0, 0, 1120, bottom))))
            picture.convert("RGB").quantize(COLOURS).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    take(*(Path(argument).resolve() for argument in sys.argv[1:3]))
