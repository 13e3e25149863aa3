"""The page of `kennel app` in a real browser, as people with a mouse, a keyboard and a clipboard use it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.chromium import browse, find_chromium
from tests.samples import COLOURS

PUT = """(async (kind, names) => {
  const data = new DataTransfer();
  for (const name of names) {
    const canvas = new OffscreenCanvas(60, 40), colours = canvas.getContext("2d");
    colours.fillStyle = name;
    colours.fillRect(0, 0, 60, 40);
    data.items.add(new File([await canvas.convertToBlob()], `${name}.png`, { type: "image/png" }));
  }
  const event = kind === "paste" ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
    : new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
  document.getElementById("drop").dispatchEvent(event);
  return event.defaultPrevented;
})"""


@pytest.fixture(scope="module")
def page(tmp_path_factory, random_model):
    """The address that the command prints, and the folder in which it collects."""
    if find_chromium() is None:
        pytest.skip("there is no chromium; apt-get install chromium")
    collected = tmp_path_factory.mktemp("collected")
    home = tmp_path_factory.mktemp("home")
    command = [str(Path(sys.executable).with_name("kennel")), "app", "--model", random_model, "--port", "0"]
    process = subprocess.Popen(
        [*command, "--collect", collected],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "KENNEL_HOME": str(home)},
    )
    try:
        said = process.stdout.readline()
        yield re.search(r"http://127\.0\.0\.1:\d+", said)[0], collected
    finally:
        process.send_signal(signal.SIGINT)  # Ctrl-C
        assert process.wait(30) == 0
        process.stdout.close()


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory):
    with browse(find_chromium(), tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def opened(page, browser):
    """The page, fresh; its console stays silent."""
    browser.said.clear()
    browser.open(page[0], 1280)
    yield browser
    assert browser.said == []


def answered(browser, count):
    browser.until(f"document.querySelectorAll('.photo:not(.waiting)').length === {count}")


def text(browser, selector):
    return browser.run(f"document.querySelector({selector!r}).textContent")


def photos(folder, count=1):
    return [folder / "test" / colour / f"{number}.png" for number in range(count) for colour in COLOURS]


def kept(folder):
    return {str(file.relative_to(folder)) for file in folder.rglob("*.*")}


def test_chosen_photos_are_answered_newest_first_and_counted(opened, colour_images):
    assert text(opened, "#status") == ""
    opened.choose("#files", *photos(colour_images, 2))
    answered(opened, 6)
    assert text(opened, "#status") == "All 6 photos are answered"
    assert text(opened, "#visit") == "This visit: 6 photos"
    names = opened.run("[...document.querySelectorAll('.about')].map((line) => line.textContent.split(' ')[0])")
    assert names == ["1.png", "1.png", "1.png", "0.png", "0.png", "0.png"]
    card = "document.querySelector('.photo')"
    assert opened.run(f"{card}.querySelector('h3').textContent") in COLOURS
    assert re.fullmatch(r"1\.png · [\d,]+ ms", text(opened, ".about"))
    bars = opened.run(
        f"[...{card}.querySelectorAll('.bars li')].map((item) => [item.querySelector('.label').textContent,"
        " parseFloat(item.querySelector('.percent').textContent),"
        " item.querySelector('.fill').offsetWidth / item.querySelector('.track').offsetWidth])"
    )
    assert {label for label, _, _ in bars} == set(COLOURS)
    assert sum(percent for _, percent, _ in bars) == pytest.approx(100, abs=0.2)
    assert all(width == pytest.approx(percent / 100, abs=0.02) for _, percent, width in bars)
    assert [percent for _, percent, _ in bars] == sorted((percent for _, percent, _ in bars), reverse=True)
    opened.choose("#files", photos(colour_images)[0])  # one of them once more
    opened.choose("#camera", photos(colour_images)[0])  # on a phone; its `capture` opens the camera there
    answered(opened, 8)


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_dropped_and_pasted_photos_are_answered(opened, way):
    prevented = opened.run(f"{PUT}('{way}', ['red', 'blue'])")
    assert prevented == (way == "drop")  # else the browser would leave the page for the photo
    answered(opened, 2)
    assert opened.run("[...document.querySelectorAll('.photo img')].every((image) => image.naturalWidth === 60)")


def test_while_photos_are_on_their_way_it_says_how_many(opened):
    """The page's server is slowed down in the browser: each request waits for the test."""
    opened.run("""(() => {
      const real = window.fetch;
      window.held = [];
      window.fetch = (...request) => new Promise((go) => held.push(() => go(real(...request))));
    })()""")
    opened.run(f"{PUT}('drop', {['red', 'blue', 'green', 'white', 'black', 'gray']})")
    opened.until("held.length === 4")
    assert text(opened, "#status") == "0 of 6 photos answered"
    assert opened.run("document.querySelectorAll('.photo[aria-busy=true]').length") == 6
    opened.run("held.shift()()")
    answered(opened, 1)
    assert text(opened, "#status") == "1 of 6 photos answered"
    assert opened.run("[progress.hidden, progress.value, progress.max]") == [False, 1, 6]
    opened.until("held.length === 4")  # the fifth has set out
    for _ in range(5):
        opened.until("held.length")
        opened.run("held.shift()()")
    answered(opened, 6)
    opened.until("progress.hidden")
    assert text(opened, "#status") == "All 6 photos are answered"


def test_right_and_wrong_are_collected_with_the_keyboard_alone(opened, page, colour_images):
    folder = page[1]
    before = kept(folder)
    opened.choose("#files", photos(colour_images)[0])
    answered(opened, 1)
    label = text(opened, "h3")
    opened.run("document.querySelector('.yes').focus()")
    opened.press("Enter")
    opened.until("document.querySelector('.kept').textContent")
    [name] = kept(folder) - before
    assert name.startswith(f"{label}/")
    assert text(opened, ".kept") == f"Kept as {label}: {folder / name}"
    assert text(opened, "#visit") == "This visit: 1 photo · 1 right · 0 wrong"
    assert opened.run("document.querySelector('.yes').ariaPressed") == "true"
    assert (folder / name).read_bytes() == photos(colour_images)[0].read_bytes()

    opened.press("Tab", "Enter")  # No
    assert opened.run("document.activeElement.tagName") == "SELECT"
    offered = opened.run(
        "[...document.querySelector('select').options].filter((o) => !o.disabled && !o.hidden).map((o) => o.value)"
    )
    assert offered == sorted(set(COLOURS) - {label})
    opened.press(offered[1][0])
    assert opened.run("document.querySelector('select').value") == offered[1]
    opened.press("Tab", "Enter")  # Save
    opened.until(f"document.querySelector('.kept').textContent.startsWith('Kept as {offered[1]}')")
    assert kept(folder) - before == {name.replace(label, offered[1])}
    assert text(opened, "#visit") == "This visit: 1 photo · 0 right · 1 wrong"
    assert text(opened, "#status") == f"0.png is kept as {offered[1]}"


def test_the_heat_map_lies_over_the_photo_and_goes_away_again(opened):
    opened.run(f"{PUT}('drop', ['red'])")
    answered(opened, 1)
    opened.run("document.querySelector('.heat').click()")
    opened.until("document.querySelector('.heat').ariaPressed === 'true'")
    opened.until("document.querySelector('.photo img').naturalWidth === 32")
    assert "where the model sees" in opened.run("document.querySelector('.photo img').alt")
    opened.run("document.querySelector('.heat').click()")
    opened.until("document.querySelector('.photo img').naturalWidth === 60")
    assert opened.run("document.querySelector('.photo img').alt") == "red.png"


def test_a_file_that_is_no_photo_and_one_that_is_too_large_are_said(opened, tmp_path):
    note = tmp_path / "note.png"
    note.write_text("no picture")
    opened.choose("#files", note)
    answered(opened, 1)
    assert text(opened, ".error") == "the bytes are not an image of a known format"
    assert text(opened, "#status") == "note.png: the bytes are not an image of a known format"
    assert opened.run("document.querySelector('.right').hidden")
    opened.run("""(() => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(100 * 2 ** 20 + 1)], "large.png"));
      document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
    })()""")
    answered(opened, 2)
    assert text(opened, ".error") == "the photo is larger than 100 MB, which the model does not take"
    # what the browser itself says of the answer 422
    opened.said[:] = [line for line in opened.said if "422" not in line]


def test_a_server_that_has_ended_is_said(opened):
    opened.run("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
    opened.run(f"{PUT}('drop', ['red'])")
    answered(opened, 1)
    assert "does not answer; see whether “kennel app” still runs" in text(opened, ".error")


def test_everything_has_a_name_for_a_screen_reader_and_a_visible_focus(opened):
    opened.run(f"{PUT}('drop', ['red'])")
    answered(opened, 1)
    opened.run("document.querySelector('.no').click()")
    unnamed = opened.run("""[...document.querySelectorAll("button, input, select, img, progress, section, article")]
      .filter((element) => !(element.ariaLabel || element.textContent.trim() || element.alt
        || element.labels?.[0]?.textContent.trim() || element.getAttribute("aria-labelledby")))
      .map((element) => element.outerHTML)""")
    assert unnamed == []
    assert opened.run("document.getElementById('status').role") == "status"
    opened.run("document.querySelector('#files').focus()")
    seen = []
    for _ in range(5):
        opened.press("Tab")
        seen.append(
            opened.run("""(() => {
          const here = document.activeElement, shown = here.closest("label.button") ?? here;
          return [here.id || here.className || here.tagName, getComputedStyle(shown).outlineStyle];
        })()""")
        )
    assert [name for name, _ in seen] == [
        "heat plain",
        "yes plain",
        "no plain",
        "SELECT",
        "button",
    ]
    assert {style for _, style in seen} == {"solid"}


@pytest.mark.parametrize("width", [1280, 400, 320])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_the_screen_and_texts_stand_out(page, browser, width, dark):
    browser.open(page[0], width, dark=dark)
    browser.run(f"{PUT}('drop', ['red', 'green'])")
    answered(browser, 2)
    browser.run("document.querySelector('.no').click()")
    browser.run("document.querySelector('.about').textContent = 'IMG_'.repeat(40)")
    assert browser.run("document.documentElement.scrollWidth") <= width
    poor = browser.run("""(() => {
      const light = (colour) => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map((v) => v / 255)
          .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const ground = (element) => {
        const colour = getComputedStyle(element).backgroundColor;
        return colour === "rgba(0, 0, 0, 0)" ? ground(element.parentElement) : colour;
      };
      return [...document.querySelectorAll("body *")]
        .filter((e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
        .map((e) => [light(getComputedStyle(e).color), light(ground(e)), e.outerHTML.slice(0, 80)])
        .map(([a, b, html]) => [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), html])
        .filter(([contrast]) => contrast < 4.5);
    })()""")
    assert poor == []
