"""A page of a report, read as a browser would."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

VOID = {"meta", "link", "br", "img", "input", "hr", "wbr"}


class Page(HTMLParser):
    """A parsed page; every element that opens must close, in order."""

    def __init__(self, text):
        super().__init__()
        self.text, self.open, self.elements, self.words = text, [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data.strip())

    @property
    def charts(self):
        svgs = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", self.text, re.S)]
        return {svg.get("aria-label"): svg for svg in svgs if svg.get("role") == "img"}

    def chart(self, label):
        return next((svg for name, svg in self.charts.items() if label in name), None)

    def rows(self):
        rows = re.findall(r"<tr.*?</tr>", self.text, re.S)[1:]  # the first is the head
        return [re.findall(r"<td[^>]*>(.*?)</td>", row, re.S) for row in rows]

    def says(self, words):
        return words in " ".join(" ".join(self.words).split())


def shapes(svg, kind):
    return [shape for shape in svg.iter() if kind in shape.get("class", "").split()]


def numbers(text):
    return [float(found) for found in re.findall(r"-?[\d.]+", text)]
