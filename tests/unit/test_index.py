"""What may lie in the folders of a data set, and what is said of the rest."""

import os
import shutil

import pytest

from kennel.errors import DataError
from kennel.images.index import index_images
from tests.samples import write_colour_images


@pytest.fixture
def data(tmp_path):
    return write_colour_images(tmp_path / "data", train=2, valid=1, test=1)


def index(data):
    return index_images({"training": data})


def refusal(data):
    with pytest.raises(DataError) as caught:
        index(data)
    return str(caught.value)


def test_valid_and_test_may_be_missing(data):
    shutil.rmtree(data / "valid")
    shutil.rmtree(data / "test")
    found = index(data)
    assert (len(found.train), found.valid, found.test) == (6, (), ())
    assert found.warnings == ()


def test_a_channel_of_class_folders_alone_is_the_train_split_a2_5(data):
    flat = index(data / "train")
    assert flat.train == index(data).train
    assert flat.valid == flat.test == ()


def test_a_channel_of_class_folders_goes_with_channels_of_the_other_splits_a2_5(data):
    found = index_images({"training": data / "train", "validation": data / "valid"})
    assert found.valid == index(data).valid


def test_folders_nested_too_deep_are_not_taken_for_classes(data, tmp_path):
    (tmp_path / "outer").mkdir()
    data.rename(tmp_path / "outer" / "dogImages")
    message = refusal(tmp_path / "outer")
    assert message.startswith("no `train` split: the channel `training`")
    assert message.endswith("it has dogImages")


def test_splits_given_as_the_channel_train_are_not_taken_for_classes(data):
    with pytest.raises(DataError, match="test, train, valid, which are splits and not classes; give it as the channel"):
        index_images({"train": data})


def test_a_misspelt_split_is_said(data):
    (data / "valid").rename(data / "vaild")
    found = index(data)
    assert found.valid == ()
    assert found.warnings == ("the channel `training` has folders that are no splits and are left out: vaild",)


def test_a_class_that_another_split_lacks_is_said_once(data):
    shutil.rmtree(data / "valid" / "red")
    (data / "valid" / "green" / "0.png").unlink()
    assert index(data).warnings == ("valid has no image of 2 of 3 classes: green, red",)


def test_images_beside_the_class_folders_are_counted(data):
    for name in ("b.jpg", "a.PNG", "notes.txt"):
        (data / "train" / name).write_bytes(b"x")
    assert index(data).warnings == ("train: 2 images beside the class folders are left out: a.PNG, b.jpg",)


def test_a_folder_with_the_name_of_an_image_is_refused(data):
    (data / "train" / "red" / "x.jpg").mkdir()
    assert "red/x.jpg has the name of an image and is a folder" in refusal(data)


def test_a_pipe_with_the_name_of_an_image_is_refused_rather_than_waited_for(data):
    os.mkfifo(data / "train" / "red" / "x.jpg")
    assert "red/x.jpg has the name of an image and is no file" in refusal(data)


@pytest.mark.parametrize(
    ("place", "target", "reason"),
    [
        ("train/red/lost.png", "/no/such/file", "No such file"),
        ("train/red/round.png", "round.png", "Too many levels of symbolic links"),
        ("train/purple", "/no/such/folder", "No such file"),
        ("train/red/more", "/no/such/folder", "No such file"),
    ],
)
def test_a_link_that_leads_nowhere_is_refused(data, place, target, reason):
    (data / place).symlink_to(target)
    assert f"{data / place} cannot be read: {reason}" in refusal(data)


@pytest.mark.parametrize("target", [".", "..", "../../train"])
def test_a_folder_that_holds_itself_is_refused(data, target):
    (data / "train" / "red" / "again").symlink_to(target)
    assert "is a link to a folder above it" in refusal(data)


def test_folders_below_a_class_belong_to_it_also_where_they_are_links(data, tmp_path):
    (data / "train" / "red").rename(tmp_path / "elsewhere")
    (data / "train" / "red").mkdir()
    (data / "train" / "red" / "deep").symlink_to(tmp_path / "elsewhere")
    names = [record.name for record in index(data).train]
    assert names[-2:] == ["red/deep/0.png", "red/deep/1.png"]


@pytest.mark.parametrize("place", [b"train/\xff", b"train/red/\xff.png", b"valid/red/\xfe"])
def test_a_name_that_is_no_text_is_refused(data, place):
    (data / os.fsdecode(place)).mkdir()
    assert "the name is not UTF-8; rename it" in refusal(data)


def test_the_order_is_that_of_names_whatever_the_file_system_says(data, monkeypatch):
    found = index(data)
    real = os.scandir

    class Reversed:
        def __init__(self, path):
            with real(path) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(os, "scandir", Reversed)
    assert index(data) == found
