import io
import os

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from kennel.cache import Cache
from kennel.errors import DataError, ImageError
from kennel.images.augment import apply_view, augmented_views
from kennel.images.decode import decode_image
from kennel.images.index import index_images
from kennel.images.pack import check_skipped, pack_images
from kennel.images.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from tests.samples import write_colour_images


def to_bytes(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(width=500, height=375):
    """A picture with structure at all scales, as a photo has."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    waves = [127 + 120 * np.sin(x / a) * np.cos(y / b) for a, b in ((40, 23), (17, 31), (7, 9))]
    return Image.fromarray(np.stack(waves, -1).astype(np.uint8))


# index


def test_classes_are_in_the_order_of_torchvisions_imagefolder(colour_images):
    import torchvision

    folder = torchvision.datasets.ImageFolder(colour_images / "train")
    index = index_images({"training": colour_images})
    assert list(index.classes) == folder.classes
    assert [(str(record.path), record.label) for record in index.train] == folder.samples


@pytest.mark.parametrize("valid", ["valid", "validation"])
def test_splits_may_be_channels_of_their_own(colour_images, valid):
    channels = {"train": colour_images / "train", valid: colour_images / "valid", "test": colour_images / "test"}
    assert index_images(channels) == index_images({"training": colour_images})


def test_other_files_and_hidden_folders_are_passed_over(tmp_path):
    data = write_colour_images(tmp_path, train=2)
    (data / "train" / "red" / "notes.txt").write_text("x")
    (data / "train" / ".ipynb_checkpoints").mkdir()
    index = index_images({"training": data})
    assert len(index.train) == 6
    assert index.classes == ("blue", "green", "red")


def refusal(channels):
    with pytest.raises(DataError) as caught:
        index_images(channels)
    return str(caught.value)


def test_no_channels_at_all_is_one_sentence():
    assert "there is no data" in refusal({})


def test_a_missing_train_split_is_named_with_what_is_there(tmp_path):
    data = write_colour_images(tmp_path)
    (data / "train").rename(data / "other")
    message = refusal({"training": data})
    assert "no `train` split" in message
    assert "it has other, test, valid" in message
    message = refusal({"valid": data / "valid", "test": data / "test"})
    assert message == "no `train` split: there is no channel train; the channels are test, valid"


def test_a_split_without_class_folders_is_refused(tmp_path):
    data = write_colour_images(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "has no class folders" in refusal(
        {"train": data / "train", "valid": tmp_path / "empty", "test": data / "test"}
    )


def test_a_single_class_is_refused(tmp_path):
    data = write_colour_images(tmp_path)
    for name in ("blue", "green"):
        (data / "train" / name).rename(tmp_path / name)
    assert "train has 1 class folder" in refusal({"training": data})


def test_a_class_without_training_images_is_refused(tmp_path):
    data = write_colour_images(tmp_path)
    (data / "train" / "purple").mkdir()
    assert "classes without a single training image: purple" in refusal({"training": data})


def test_a_split_without_images_is_refused(tmp_path):
    data = write_colour_images(tmp_path)
    for file in (data / "test").rglob("*.png"):
        file.unlink()
    assert "has no image" in refusal({"training": data})


def test_a_class_that_training_lacks_is_refused(tmp_path):
    data = write_colour_images(tmp_path)
    (data / "test" / "purple").mkdir()
    assert "test has classes that train lacks: purple" in refusal({"training": data})


def test_a_link_that_leads_nowhere_and_a_name_that_is_no_text_are_refused(tmp_path):
    data = write_colour_images(tmp_path)
    link = data / "train" / "red" / "lost.png"
    link.symlink_to("/no/such/file")
    assert "lost.png cannot be read: No such file" in refusal({"training": data})
    link.unlink()
    (data / "train" / "red" / os.fsdecode(b"\xff.png")).write_bytes(b"x")
    assert "the name is not UTF-8" in refusal({"training": data})


# decode


@pytest.mark.parametrize(
    "picture",
    [
        to_bytes(Image.new("L", (40, 30), 200)),
        to_bytes(Image.new("LA", (40, 30), (200, 255))),
        to_bytes(Image.new("P", (40, 30))),
        to_bytes(Image.new("RGBA", (40, 30), (1, 2, 3, 255))),
        to_bytes(Image.new("L", (40, 30), 200), "JPEG"),
        to_bytes(Image.new("CMYK", (40, 30)), "JPEG"),
        to_bytes(Image.new("RGB", (40, 30)), "WEBP"),
        to_bytes(Image.new("RGB", (40, 30)), "BMP"),
    ],
)
def test_every_kind_of_picture_becomes_rgb(picture):
    image = decode_image(picture, at_least=30).image
    assert (image.mode, image.size) == ("RGB", (40, 30))


def test_transparency_is_laid_over_white():
    clear = to_bytes(Image.new("RGBA", (2, 2), (255, 0, 0, 0)))
    assert decode_image(clear, at_least=1).image.getpixel((0, 0)) == (255, 255, 255)


def test_a_photo_taken_with_a_turned_camera_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned by 90 degrees
    assert decode_image(to_bytes(photo(60, 40), "JPEG", exif=exif), at_least=40).image.size == (40, 60)


def test_a_large_jpeg_is_decoded_no_larger_than_needed():
    assert min(decode_image(to_bytes(photo(2048, 1536), "JPEG"), at_least=256).image.size) == 384


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_truncated_image_is_refused(kind):
    data = to_bytes(photo(), kind)
    with pytest.raises(ImageError, match="truncated"):
        decode_image(data[: len(data) // 2], at_least=1)


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n" + b"\0" * 30])
def test_bytes_that_are_no_image_are_refused(data):
    with pytest.raises(ImageError):
        decode_image(data, at_least=1)


def test_a_picture_that_claims_to_be_huge_is_refused_before_it_is_decoded():
    bomb = to_bytes(Image.new("1", (20_000, 20_000)))
    with pytest.raises(ImageError, match="20000 x 20000 pixels"):
        decode_image(bomb, at_least=1)


def test_sixteen_bit_grey_keeps_its_shades():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    shades = np.asarray(decode_image(to_bytes(Image.fromarray(ramp)), at_least=1).image)
    assert shades[..., 0].flatten().tolist() == list(range(256))


# preprocess


def test_a_picture_too_thin_to_be_resized_is_refused():
    thin = to_bytes(Image.new("L", (1, 200_000)))
    with pytest.raises(ImageError, match="1 x 200000 pixels, too long and thin"):
        Preprocessing.for_size(224).pixels(thin)


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (256, 256), (300, 1000), (60, 45), (98, 98), (161, 161)])
def test_preprocessing_is_torchvisions(size):
    picture = photo(*size)
    reference = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    ours = Preprocessing.for_size(224)
    pixels = ours.pixels(to_bytes(picture))
    theirs = np.asarray(transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])(picture))
    levels = np.abs(pixels.astype(int) - theirs)
    assert levels.max() <= 1  # the square is resized by itself, and its edges are rounded a little otherwise
    assert levels.mean() < 0.01
    normalized = np.abs(ours.normalize(pixels[None])[0] - reference(picture).numpy())
    assert normalized.max() < 1 / 255 / min(IMAGENET_STD) + 1e-5
    assert normalized[:, (levels == 0).all(axis=2)].max() < 1e-5


def test_the_mirrored_view_is_the_image_mirrored():
    image = torch.arange(12.0).view(1, 1, 3, 4)
    assert augmented_views("none") == ("original",)
    assert augmented_views("flip") == ("original", "mirrored")
    assert apply_view("original", image) is image
    assert apply_view("mirrored", image)[0, 0, 0].tolist() == [3, 2, 1, 0]


# pack


def pack(data, cache, split="train", size=32):
    records = getattr(index_images({"training": data}), split)
    return pack_images(records, Preprocessing.for_size(size), Cache(cache), threads=2, progress=lambda done: None)


def test_packed_images_are_the_preprocessed_files_in_order(colour_images, tmp_path):
    packed = pack(colour_images, tmp_path)
    preprocessing = Preprocessing.for_size(32)
    assert packed.pixels.shape == (24, 32, 32, 3)
    assert packed.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    for name, pixels in zip(packed.names, packed.pixels, strict=True):
        assert np.array_equal(pixels, preprocessing.pixels((colour_images / "train" / name).read_bytes()))


def test_a_second_job_does_not_decode_again(tmp_path):
    data = write_colour_images(tmp_path / "data")
    first = pack(data, tmp_path / "cache")
    for file in (data / "train").rglob("*.png"):
        status = file.stat()
        file.write_bytes(b"x" * status.st_size)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = pack(data, tmp_path / "cache")
    assert second.key == first.key
    assert np.array_equal(first.pixels, second.pixels)


def test_a_changed_file_and_another_size_are_packed_anew(tmp_path):
    data = write_colour_images(tmp_path / "data")
    first = pack(data, tmp_path / "cache")
    assert pack(data, tmp_path / "cache", size=24).key != first.key
    Image.new("RGB", (48, 48)).save(data / "train" / "red" / "0.png")
    again = pack(data, tmp_path / "cache")
    assert again.key != first.key
    assert again.pixels[again.names.index("red/0.png")].max() == 0


def test_a_bad_image_is_left_out_with_its_reason(tmp_path):
    data = write_colour_images(tmp_path / "data")
    (data / "train" / "green" / "3.png").write_bytes(b"not an image")
    packed = pack(data, tmp_path / "cache")
    assert len(packed) == 23
    assert [image.name for image in packed.skipped] == ["green/3.png"]
    assert "green/3.png" not in packed.names
    assert packed.labels.tolist() == [0] * 8 + [1] * 7 + [2] * 8


def test_a_file_that_cannot_be_read_now_is_not_remembered_as_bad(tmp_path, monkeypatch):
    data = write_colour_images(tmp_path / "data")
    records = index_images({"training": data}).train
    file = records[5].path
    content, status = file.read_bytes(), file.stat()
    file.unlink()

    def pack_now():
        return pack_images(records, Preprocessing.for_size(32), Cache(tmp_path / "cache"), 2, lambda done: None)

    with pytest.raises(DataError, match=f"{file} cannot be read: No such file"):
        pack_now()
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len(pack_now()) == 24


def test_skipped_images_are_listed_and_too_many_fail_with_the_first_five(tmp_path):
    data = write_colour_images(tmp_path / "data")
    for number in range(7):
        (data / "train" / "green" / f"{number}.png").write_bytes(b"not an image")
    packed = {"train": pack(data, tmp_path / "cache")}
    report = tmp_path / "skipped_images.csv"
    assert check_skipped(packed, 0.5, report) == 7
    lines = report.read_text().splitlines()
    assert lines[0] == "split,image,reason"
    assert len(lines) == 8
    with pytest.raises(DataError) as caught:
        check_skipped(packed, 0.01, report)
    message = str(caught.value)
    assert "7 of 24 images are unreadable, more than max_bad_images=0.01 allows" in message
    assert message.count("train/green/") == 5
