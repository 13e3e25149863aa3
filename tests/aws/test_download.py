"""Jobs of this machine on what lies in a bucket on AWS, as moto plays it."""

import pytest

from kennel.errors import DataError
from kennel_cli.platforms.local_platform import LocalPlatform
from tests.aws.conftest import BUCKET


@pytest.fixture
def dogs(s3, settings):
    """A data set in the bucket, as an `s3://` URI."""
    for name in ("train/beagle/1.jpg", "train/boxer/1 #2.jpg", "valid/beagle/3.jpg"):
        s3.put_object(Bucket=BUCKET, Key=f"dogs/{name}", Body=name.encode())
    return f"s3://{BUCKET}/dogs"


def names(platform, uri):
    return platform.names(platform.channel(uri))


def test_what_a_uri_names_is_downloaded_once(dogs, home, account):
    platform = LocalPlatform(home)
    assert names(platform, dogs) == ["train/beagle/1.jpg", "train/boxer/1 #2.jpg", "valid/beagle/3.jpg"]
    asked = len(account.asked)
    assert platform.channel(f"{dogs}/") == platform.channel(dogs) == platform.channel_uri(dogs)
    assert len(account.asked) == asked


def test_a_part_that_is_there_is_not_taken_for_the_whole(dogs, home):
    platform = LocalPlatform(home)
    assert names(platform, f"{dogs}/train") == ["beagle/1.jpg", "boxer/1 #2.jpg"]
    assert len(names(platform, dogs)) == 3


def test_a_mistyped_uri_leaves_nothing_that_the_right_one_would_find(dogs, home):
    platform = LocalPlatform(home)
    with pytest.raises(DataError, match="is neither on this machine nor on AWS"):
        platform.channel(f"{dogs}/tarin")
    assert len(names(platform, dogs)) == 3


def test_one_object_keeps_its_name(s3, settings, home):
    s3.put_object(Bucket=BUCKET, Key="weights/mobilenet#2.pth", Body=b"weights")
    platform = LocalPlatform(home)
    uri = platform.channel(f"s3://{BUCKET}/weights/mobilenet#2.pth")
    assert platform.fetch(uri, home).name == "mobilenet#2.pth"
    assert platform.fetch(uri, home).read_bytes() == b"weights"
