"""Real files of each kind, as small as they are still all there, and ways to damage them."""

import io
import json

import numpy as np
from PIL import Image

from tests.contract.bodies import b64, npy

SIDE = 32  # pixels that the model sees
_INTERESTING = (
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\0\0\0\x80",
    b"\xff\xff",
    b"{",
    b"]",
    b"'",
    b"\n",
)
_HEAD = 120  # bytes in which most of what a reader believes is said


def _save(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def real_files():
    """Return, for each kind of body, its Content-Type and some good ones."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3)).astype(np.uint8)
    rgb = Image.fromarray(pixels)
    grey, palette, rgba, black = rgb.convert("L"), rgb.convert("P"), rgb.convert("RGBA"), rgb.convert("1")
    deep = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 200)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a text"
    more = {"save_all": True, "append_images": [rgb.rotate(90)]}
    jpegs = [
        _save(rgb, "JPEG"),
        _save(rgb, "JPEG", progressive=True, exif=exif, icc_profile=b"x" * 200, comment=b"hello"),
        _save(grey, "JPEG"),
        _save(rgb.convert("CMYK"), "JPEG"),
        _save(rgb, "MPO", **more),
    ]
    pngs = [_save(image, "PNG", exif=exif) for image in (rgb, grey, rgba, black, deep)]
    pngs += [_save(palette, "PNG", transparency=0), _save(rgb, "PNG", **more)]
    webps = [
        _save(rgb, "WEBP", exif=exif),
        _save(rgb, "WEBP", lossless=True),
        _save(rgba, "WEBP", save_all=True, append_images=[rgba]),
    ]
    others = [_save(palette, "GIF"), _save(rgb, "GIF", **more), _save(rgb, "BMP"), _save(palette, "BMP")]
    others += [_save(rgb, "PPM"), _save(rgb.convert("F"), "TIFF"), _save(black, "TIFF", compression="group4")]
    others += [_save(rgb, "TIFF", compression=name, exif=exif) for name in ("raw", "tiff_lzw", "jpeg")]
    tensor = np.zeros((3, SIDE, SIDE), np.float16)
    tensors = [npy(tensor), npy(np.asfortranarray(tensor.astype(np.uint8))), npy(tensor[None].astype(">f4"))]
    values = [{"instances": [b64(jpegs[0]), b64(pngs[1])]}, np.zeros((1, 3, SIDE, SIDE), int).tolist()]
    lines = [json.dumps(b64(data)) for data in (jpegs[0], webps[0], b"no picture")]
    return {
        "jpeg": ("image/jpeg", jpegs),
        "png": ("image/png", pngs),
        "webp": ("image/webp", webps),
        "others": ("application/x-image", others),
        "npy": ("application/x-npy", tensors),
        "json": ("application/json", [json.dumps(value).encode() for value in values]),
        "jsonlines": ("application/jsonlines", ["\n".join(lines).encode(), lines[0].encode()]),
    }


def damage(data, random):
    """Return a good file with one to eight faults."""
    data = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        place = random.randrange(min(len(data), _HEAD) if random.random() < 0.5 else len(data))
        match random.randrange(6):
            case 0:
                data[place] = random.randrange(256)
            case 1:
                data[place] ^= 1 << random.randrange(8)
            case 2:
                del data[place + 1 :]
            case 3:
                value = random.choice(_INTERESTING)
                data[place : place + len(value)] = value
            case 4:
                other = random.randrange(len(data))
                data[place:place] = data[other : other + random.randrange(40)]
            case 5:
                del data[place : place + random.randrange(1, 20)]
        if not data:
            break
    return bytes(data)
