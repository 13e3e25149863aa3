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
WIDTH = 1000  # pixels


def take(report: Path, comparison: Path) -> None:
    program = find_chromium()
    if program is None:
        sys.exit("there is no chromium; apt-get install chromium")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        browse(program, Path(profile)) as browser,
    ):
        for name, page, dark, last in (("report", report, False, "photos"), ("comparison", comparison, True, "chart")):
            browser.open(page, WIDTH, dark=dark)
            card = f"[...document.querySelectorAll('.{last}')].at(-1).closest('section')"
            bottom = browser.run(f"{card}.getBoundingClientRect().bottom") + 12
            picture = Image.open(io.BytesIO(browser.screenshot((0, 0, WIDTH, bottom))))
            # 256 colours are a third of the bytes; this method alone keeps those that few pixels have
            small = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
            small.save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    take(*(Path(argument).resolve() for argument in sys.argv[1:3]))
