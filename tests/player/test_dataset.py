import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kennel.errors import DataError
from kennel_cli.dataset import fetch_dataset


def archive(*names, folder="dogImages"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as out:
        for name in names:
            out.writestr(f"{folder}/{name}", b"x" * 50_000)
    return file.getvalue()


CONTENT = archive("train/a/1.jpg", "valid/a/1.jpg", "test/a/1.jpg")


class Site:
    """A web site with one file, which serves ranges and remembers what it was asked."""

    def __init__(self):
        self.content, self.etag, self.ranges, self.cut_after = CONTENT, '"one"', [], None
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Range")
                site.ranges.append(asked)
                if self.path != "/dogImages.zip":
                    self.send_error(404)
                    return
                start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
                if self.headers.get("If-Range", site.etag) != site.etag:
                    start = 0
                if start >= len(site.content):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                self.send_header("ETag", site.etag)
                self.send_header("Content-Length", str(len(site.content) - start))
                self.end_headers()
                self.wfile.write(site.content[start : site.cut_after])

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/dogImages.zip"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def site():
    site = Site()
    yield site
    site.server.shutdown()
    site.server.server_close()


def fetch(site, folder, sha256="", url=None):
    return fetch_dataset(url or site.url, folder, sha256, progress=lambda done, total: None)


def test_a_data_set_is_downloaded_and_unpacked(site, tmp_path):
    target = fetch(site, tmp_path, hashlib.sha256(CONTENT).hexdigest())
    assert target == tmp_path / "dogImages"
    assert sorted(entry.name for entry in target.iterdir()) == ["test", "train", "valid"]


def test_what_is_there_is_not_fetched_again(site, tmp_path):
    fetch(site, tmp_path)
    fetch(site, tmp_path)
    assert len(site.ranges) == 1


def test_a_download_that_was_cut_off_goes_on_where_it_stopped(site, tmp_path):
    site.cut_after = 140_000
    with pytest.raises(DataError, match="run the command again to go on from there"):
        fetch(site, tmp_path)
    assert not (tmp_path / "dogImages").exists()
    site.cut_after = None
    assert (fetch(site, tmp_path) / "test" / "a" / "1.jpg").stat().st_size == 50_000
    assert site.ranges == [None, "bytes=131072-"]


def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(site, tmp_path):
    site.cut_after = 60_000
    with pytest.raises(DataError):
        fetch(site, tmp_path)
    site.cut_after, site.etag, site.content = None, '"two"', archive("train/b/2.jpg", "valid/b/1.jpg")
    target = fetch(site, tmp_path)
    assert (target / "train" / "b" / "2.jpg").exists()


def test_a_partial_file_that_is_longer_than_the_file_is_thrown_away(site, tmp_path):
    (tmp_path / "dogImages.zip.partial").write_bytes(b"y" * (len(CONTENT) + 5))
    assert (fetch(site, tmp_path) / "train").is_dir()


def test_a_wrong_checksum_is_refused_and_nothing_is_unpacked(site, tmp_path):
    with pytest.raises(DataError, match="has the checksum"):
        fetch(site, tmp_path, "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_zip_and_an_address_without_a_file_are_refused(site, tmp_path):
    site.content = b"<html>moved</html>"
    with pytest.raises(DataError, match="is no zip file"):
        fetch(site, tmp_path)
    with pytest.raises(DataError, match="answers 404"):
        fetch(site, tmp_path, url=site.url.replace("dogImages", "nothing"))


def test_a_server_that_is_not_there_is_one_sentence(tmp_path, site):
    site.server.server_close()
    with pytest.raises(DataError, match="could not be downloaded"):
        fetch(site, tmp_path, url="http://127.0.0.1:9/dogImages.zip")


def test_the_command_prints_size_and_checksum(site, tmp_path):
    import subprocess
    import sys

    command = [sys.executable, "-m", "kennel_cli.cli", "data", "--folder", str(tmp_path), "--url", site.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{len(CONTENT):,} bytes, sha256 {hashlib.sha256(CONTENT).hexdigest()}" in done.stdout
    assert f"the images are in {tmp_path / 'dogImages'}" in done.stdout
