"""What a network sees, against the plain pipeline of Pillow that everybody writes."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from kennel.errors import ImageError
from kennel.images.preprocess import Preprocessing

SIZES = [(500, 375), (375, 500), (256, 256), (257, 511), (512, 512), (1023, 700), (1365, 1024), (700, 2000), (60, 45)]
FORMATS = {
    "a JPEG": ("JPEG", {"quality": 88}),
    "a JPEG of best quality": ("JPEG", {"quality": 95, "subsampling": 0}),
    "a progressive JPEG": ("JPEG", {"quality": 80, "progressive": True}),
    "a PNG": ("PNG", {"compress_level": 1}),
    "a WebP": ("WEBP", {"quality": 90, "method": 0}),
    "a BMP": ("BMP", {}),
}
ORIENTATION = 0x0112  # the tag of EXIF


def photo(width, height):
    """A picture with structure at all scales, as a photo has."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    waves = [127 + 100 * np.sin(x / a) * np.cos(y / b) for a, b in ((40, 23), (17, 31), (7, 9))]
    noise = np.random.default_rng(0).normal(0, 2, (height, width, 3))
    return Image.fromarray((np.stack(waves, -1) + noise).clip(0, 255).astype(np.uint8))


def to_bytes(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def plain(data, resize=256, crop=224):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    width, height = image.size
    if width <= height:
        image = image.resize((resize, int(resize * height / width)), Image.Resampling.BILINEAR)
    else:
        image = image.resize((int(resize * width / height), resize), Image.Resampling.BILINEAR)
    left, top = round((image.width - crop) / 2), round((image.height - crop) / 2)
    return np.asarray(image.crop((left, top, left + crop, top + crop)))


def difference(data):
    """Return by how many grey levels our pixels differ from the plain pipeline's: on average, and at most."""
    levels = np.abs(Preprocessing.for_size(224).pixels(data).astype(int) - plain(data))
    return levels.mean(), levels.max()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("name", FORMATS)
def test_pixels_are_the_plain_pipelines_within_a_grey_level(name, size):
    kind, options = FORMATS[name]
    mean, most = difference(to_bytes(photo(*size), kind, **options))
    is_made_smaller = kind == "JPEG" and min(size) >= 640  # by the decoder, which is another filter
    assert mean <= 1.0
    assert is_made_smaller or most <= 1


def test_a_photo_taken_with_a_turned_camera_is_the_plain_pipelines_too():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    assert difference(to_bytes(photo(500, 375), "JPEG", quality=90, exif=exif))[1] <= 1


def test_an_orientation_that_only_xmp_knows_counts():
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert difference(to_bytes(photo(500, 375), "JPEG", quality=90, xmp=xmp))[1] <= 1


def test_a_large_photo_that_lies_on_its_side_is_the_plain_pipelines_within_a_grey_level():
    exif = Image.Exif()
    exif[ORIENTATION] = 8
    assert difference(to_bytes(photo(1364, 1024), "JPEG", quality=90, exif=exif))[0] <= 1


def test_real_photos_are_the_plain_pipelines_within_a_grey_level(test_data):
    photos = sorted((test_data / "dogs10" / "test").rglob("*.jpg"))[::75]
    for width, height in ((853, 640), (1365, 1024), (1920, 1080)):
        large = [Image.open(file).convert("RGB").resize((width, height)) for file in photos]
        means = [difference(to_bytes(image, "JPEG", quality=90))[0] for image in large]
        assert np.mean(means) <= 1, (width, height)


def test_the_usual_jpeg_is_not_left_to_pillow(monkeypatch):
    def decode(*args, **options):
        raise AssertionError("Pillow was asked")

    data = to_bytes(photo(500, 375), "JPEG")
    monkeypatch.setattr(Image, "open", decode)
    assert Preprocessing.for_size(224).pixels(data).shape == (224, 224, 3)


@pytest.mark.parametrize("side", [639, 640, 1279, 1280, 2560])
def test_a_large_jpeg_is_decoded_at_the_largest_power_of_two_that_leaves_enough(side, monkeypatch):
    sizes, decode = [], simplejpeg.decode_jpeg

    def remember(data, **options):
        sizes.append(decode(data, **options).shape[0])
        return decode(data, **options)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", remember)
    Preprocessing.for_size(224).pixels(to_bytes(photo(side, side), "JPEG"))
    part = {639: 1, 640: 2, 1279: 2, 1280: 4, 2560: 8}[side]
    assert sizes == [-(-side // part)]


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9])
def test_a_truncated_jpeg_is_refused_in_a_sentence(cut):
    data = to_bytes(photo(500, 375), "JPEG")
    with pytest.raises(
        ImageError, match=r"the image cannot be decoded: (image file is truncated|Truncated File|broken)"
    ):
        Preprocessing.for_size(224).pixels(data[: int(len(data) * cut)])


def test_a_jpeg_with_rubbish_behind_its_end_is_read():
    data = to_bytes(photo(500, 375), "JPEG")
    preprocessing = Preprocessing.for_size(224)
    assert np.array_equal(preprocessing.pixels(data + b"rubbish" * 20), preprocessing.pixels(data))


def test_a_jpeg_that_claims_to_be_huge_is_refused_by_its_header():
    data = bytearray(to_bytes(photo(64, 64), "JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = (60_000).to_bytes(2, "big") * 2
    with pytest.raises(ImageError, match="60000 x 60000 pixels"):
        Preprocessing.for_size(224).pixels(bytes(data))


def test_normalized_images_lie_in_memory_pixel_by_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    preprocessing = Preprocessing(8, 8, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    normalized = preprocessing.normalize(pixels)
    expected = (pixels / 255 - preprocessing.mean) / preprocessing.std
    assert normalized.dtype == np.float32
    assert np.abs(normalized - expected.transpose(0, 3, 1, 2)).max() < 1e-5
    assert normalized.transpose(0, 2, 3, 1).flags.c_contiguous
