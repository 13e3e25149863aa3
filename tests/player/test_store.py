import os
import tarfile
from pathlib import Path

import pytest

from kennel.errors import DataError
from kennel_cli.platforms.store import LocalStore
from kennel_cli.settings import kennel_home


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "s3")


def test_a_folder_is_linked_not_copied_and_keeps_its_uri(store, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("x")
    uri = store.link(tmp_path / "data", "bucket")
    assert store.link(tmp_path / "data", "bucket") == uri
    assert store.path(uri).resolve() == tmp_path / "data"
    (tmp_path / "data" / "file").write_text("changed")
    assert (store.path(uri) / "file").read_text() == "changed"


def test_two_folders_of_one_name_have_two_uris(store, tmp_path):
    for parent in ("a", "b"):
        (tmp_path / parent / "data").mkdir(parents=True)
    assert store.link(tmp_path / "a" / "data", "bucket") != store.link(tmp_path / "b" / "data", "bucket")


@pytest.mark.parametrize("uri", ["/tmp/x", "https://bucket/key", "s3://", "s3://bucket/../../etc/passwd"])
def test_anything_but_a_key_in_a_bucket_is_refused(store, uri):
    with pytest.raises(ValueError, match=r"is no s3:// URI|leads out of its bucket"):
        store.path(uri)


@pytest.mark.parametrize("name", ["IMG#1.jpg", "what?.jpg", "50%.jpg", "ä b;c.jpg"])
def test_a_key_is_the_files_whole_name(store, name):
    assert store.path(f"s3://bucket/pictures/{name}.out").name == f"{name}.out"


def test_a_folder_given_by_where_it_lies_from_here_is_linked(store, tmp_path, monkeypatch):
    (tmp_path / "photos" / "train").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "photos" / "train")
    uri = store.link(Path(".."), "bucket")
    assert uri == store.link(tmp_path / "photos", "bucket")
    assert store.path(uri).resolve() == tmp_path / "photos"


def test_a_home_given_by_where_it_lies_from_here_holds_buckets(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("KENNEL_HOME", "../home")
    assert kennel_home() == tmp_path / "home"
    assert LocalStore(Path("../home")).path("s3://bucket/key") == Path("../home/bucket/key")


def test_a_path_that_is_not_utf8_is_one_sentence(store):
    with pytest.raises(DataError, match="the name is not UTF-8; rename the file"):
        store.link(Path(os.fsdecode(b"/photos/caf\xe9/dogs")), "bucket")


def test_a_tar_file_has_the_folder_as_its_root(store, tmp_path):
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "kennel.json").write_text("{}")
    (tmp_path / "model" / "code" / "inference.py").write_text("")
    store.put_tarball(tmp_path / "model", "s3://bucket/job/model.tar.gz")
    with tarfile.open(store.path("s3://bucket/job/model.tar.gz")) as tar:
        assert sorted(tar.getnames()) == ["code", "code/inference.py", "kennel.json"]
