import tarfile

import pytest

from kennel_cli.platforms.store import LocalStore


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


def test_a_tar_file_has_the_folder_as_its_root(store, tmp_path):
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "kennel.json").write_text("{}")
    (tmp_path / "model" / "code" / "inference.py").write_text("")
    store.put_tarball(tmp_path / "model", "s3://bucket/job/model.tar.gz")
    with tarfile.open(store.path("s3://bucket/job/model.tar.gz")) as tar:
        assert sorted(tar.getnames()) == ["code", "code/inference.py", "kennel.json"]
