"""URLs that clients send: what is fetched, and all that is not."""

import contextlib
import http.server
import io
import json
import socket
import threading
import time
from typing import ClassVar

import pytest
from PIL import Image

from kennel.images.preprocess import Preprocessing
from kennel.serving import fetch
from kennel.serving.codecs import decode_request
from kennel.serving.errors import Late, RequestError, Unprocessable
from kennel.serving.fetch import Fetcher, is_public
from tests.sites import listening

PHOTO = io.BytesIO()
Image.new("RGB", (20, 20), (200, 50, 40)).save(PHOTO, "PNG")


class Site(http.server.BaseHTTPRequestHandler):
    """Photos, and what a bad host may answer; it remembers who was asked for."""

    asked: ClassVar[list[str]] = []

    def do_GET(self):
        Site.asked.append(f"{self.headers['Host']}{self.path}")
        if self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", self.path.partition("?")[2])
            self.end_headers()
        elif self.path == "/photo.png?size=1":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PHOTO.getvalue())
        elif self.path == "/large":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(30):
                    self.wfile.write(bytes(2**20))
        elif self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(300):
                    self.wfile.write(b"a")
                    time.sleep(0.1)
        else:
            self.send_error(404)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def port():
    with listening(Site) as site:
        yield site.server_port


@pytest.fixture
def fetcher(port):
    """One that takes this machine for the internet; the names of the hosts lead to it."""
    Site.asked.clear()
    hosts = [f"photos.test:{port}", f"*.wild.test:{port}"]
    return Fetcher(hosts, resolve=lambda host, port: ["127.0.0.1"], is_allowed=lambda address: address == "127.0.0.1")


def get(fetcher, url, seconds=30.0):
    return fetcher.fetch(url, time.monotonic() + seconds)


def test_a_listed_host_is_asked_by_its_name(fetcher, port):
    assert get(fetcher, f"http://photos.test:{port}/photo.png?size=1") == PHOTO.getvalue()
    assert get(fetcher, f"http://a.wild.test:{port}/photo.png?size=1") == PHOTO.getvalue()
    assert Site.asked == [f"photos.test:{port}/photo.png?size=1", f"a.wild.test:{port}/photo.png?size=1"]


@pytest.mark.parametrize(
    "url",
    [
        "http://other.test:{port}/photo.png",
        "http://photos.test/photo.png",  # another port
        "http://127.0.0.1:{port}/photo.png",
        "http://photos.test:{port}@other.test/",
        "http://other.test#@photos.test:{port}/",
        "http://photos.test.other.test:{port}/",
        "http://user:word@photos.test:{port}/",
        "ftp://photos.test:{port}/photo.png",
        "file:///etc/passwd",
        "gopher://photos.test:{port}/",
        "//photos.test:{port}/photo.png",
        "photo.png",
        "http://[::1",
        "http://photos.test:999999/",
        "http://photos.test:{port}/a\r\nX-Injected: 1",
        "http://phötos.test:{port}/",
        "",
    ],
)
def test_any_other_url_is_refused_and_nobody_asked(fetcher, port, url):
    with pytest.raises(Unprocessable, match='"url"'):
        get(fetcher, url.format(port=port))
    assert Site.asked == []


def test_a_redirection_is_followed_to_listed_hosts_only(fetcher, port):
    photo = f"http://photos.test:{port}/photo.png?size=1"
    assert get(fetcher, f"http://a.wild.test:{port}/to?{photo}") == PHOTO.getvalue()
    assert get(fetcher, f"http://photos.test:{port}/to?/photo.png?size=1") == PHOTO.getvalue()
    Site.asked.clear()
    for location in (f"http://127.0.0.1:{port}/", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd"):
        with pytest.raises(Unprocessable):
            get(fetcher, f"http://photos.test:{port}/to?{location}")
    assert len(Site.asked) == 3
    with pytest.raises(Unprocessable, match="more than 3 times"):
        get(fetcher, f"http://photos.test:{port}/to?/to?/to?/to?/photo.png?size=1")


def test_what_is_not_there_too_large_or_too_slow_is_refused(fetcher, port, monkeypatch):
    with pytest.raises(Unprocessable, match="answers 404"):
        get(fetcher, f"http://photos.test:{port}/nothing")
    with pytest.raises(Unprocessable, match="more than 25 MB"):
        get(fetcher, f"http://photos.test:{port}/large")
    with pytest.raises(Late):
        get(fetcher, f"http://photos.test:{port}/slow", seconds=0.5)
    monkeypatch.setattr(fetch, "SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(Unprocessable, match="did not come within"):
        get(fetcher, f"http://photos.test:{port}/slow")
    assert time.monotonic() - began < 15  # it would take thirty seconds


def test_a_host_that_does_not_speak_tls_is_given_up(fetcher, monkeypatch):
    monkeypatch.setattr(fetch, "SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        patient = Fetcher([f"photos.test:{port}"], lambda host, port: ["127.0.0.1"], lambda address: True)
        with pytest.raises(Unprocessable, match="did not come within"):
            get(patient, f"https://photos.test:{port}/photo.png")


def test_a_name_that_leads_inside_is_refused_whatever_else_it_leads_to(port):
    for addresses in (["127.0.0.1"], ["93.184.216.34", "169.254.169.254"], ["93.184.216.34", "::1"], []):
        fetcher = Fetcher([f"photos.test:{port}"], resolve=lambda host, port, found=addresses: found)
        with pytest.raises(Unprocessable, match="no public address"):
            get(fetcher, f"http://photos.test:{port}/photo.png")


def test_the_address_that_was_looked_at_is_the_one_that_is_asked(port):
    """A name that is resolved again leads inside: DNS rebinding."""
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    fetcher = Fetcher([f"photos.test:{port}"], lambda host, port: next(answers), lambda address: address == "127.0.0.1")
    assert get(fetcher, f"http://photos.test:{port}/photo.png?size=1") == PHOTO.getvalue()
    with pytest.raises(Unprocessable, match="no public address"):
        get(fetcher, f"http://photos.test:{port}/photo.png?size=1")


def test_a_name_that_is_not_resolved_in_time_is_given_up(monkeypatch):
    never = threading.Event()
    fetcher = Fetcher(["photos.test"], lambda host, port: [] if never.wait(20) else ["127.0.0.1"])
    monkeypatch.setattr(fetch, "SECONDS", 0.2)
    with pytest.raises(Unprocessable, match="did not come within"):
        get(fetcher, "http://photos.test/photo.png")
    never.set()


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("169.254.170.2", "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0"),
        *("fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1"),
        *("64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:0:7f00:1::"),
    ],
)
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


def test_public_addresses():
    assert is_public("93.184.216.34")
    assert is_public("2606:2800:220:1:248:1893:25c8:1946")
    assert is_public("::ffff:93.184.216.34")


# In a request


def decode(value, content_type, fetcher):
    def ask(url):
        return get(fetcher, url)

    return list(decode_request(json.dumps(value).encode(), content_type, Preprocessing.for_size(16), ask))


def test_a_url_may_stand_wherever_base64_may(fetcher, port):
    photo = {"url": f"http://photos.test:{port}/photo.png?size=1"}
    assert [image.shape for image in decode(photo, "application/json", fetcher)] == [(3, 16, 16)]
    assert len(decode({"instances": [photo, photo]}, "application/json", fetcher)) == 2
    assert len(decode(photo, "application/jsonlines", fetcher)) == 1


def test_a_url_that_is_not_fetched_keeps_its_line_and_names_its_instance(fetcher):
    other = {"url": "http://other.test/photo.png"}
    [error] = decode(other, "application/jsonlines", fetcher)
    assert isinstance(error, RequestError)
    with pytest.raises(Unprocessable, match="instance 1: "):
        decode({"instances": [other]}, "application/json", fetcher)


def test_unless_hosts_are_listed_no_url_is_fetched():
    with pytest.raises(Unprocessable, match="fetches no URLs"):
        decode({"url": "http://photos.test/photo.png"}, "application/json", Fetcher([]))
