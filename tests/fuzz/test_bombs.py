"""A few bytes that claim to be a lot are refused for what they claim, before any memory is taken for it."""

import base64
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kennel.machine import available_cores
from tests.contract.bodies import npy

HUGE = 2**29
PACKED = zlib.compress(bytes(HUGE), 9)  # half a megabyte
MEMORY = 64 * 2**20  # bytes beyond what the server has: each of these would fill hundreds of megabytes, or all there is


def png(width=40, height=40, *chunks, pixels=b"x"):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    packed = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def small(kind, **options):
    file = io.BytesIO()
    Image.new("RGB", (40, 40), "red").save(file, kind, **options)
    return bytearray(file.getvalue())


def claiming(data, place, size):
    data[place : place + len(size)] = size
    return bytes(data)


def jpeg():
    data = small("JPEG")
    return claiming(data, data.index(b"\xff\xc0") + 5, struct.pack(">HH", 65500, 65500))


def gif(marker):
    data = small("GIF")
    return claiming(data, data.index(marker) + (6 if marker == b"GIF" else 5), struct.pack("<HH", 65535, 65535))


def webp():
    data = small("WEBP", lossless=True)
    return claiming(data, data.index(b"VP8L") + 9, struct.pack("<I", 16383 | 16383 << 14))


def tiff(width, height):
    data = small("TIFF")
    place = struct.unpack_from("<I", data, 4)[0]
    for entry in range(place + 2, place + 2 + 12 * struct.unpack_from("<H", data, place)[0], 12):
        if (tag := struct.unpack_from("<H", data, entry)[0]) in (256, 257):
            struct.pack_into("<HII", data, entry + 2, 4, 1, width if tag == 256 else height)
    return bytes(data)


def claims_shape(shape, dtype="<f4"):
    return npy_with(f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode())


def npy_with(header):
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(64)


IMAGE, JSON, NPY = "application/x-image", "application/json", "application/x-npy"
STRUCTURED = np.zeros(3, [("a", "<f4"), ("b", "<i8")])
BOMBS = {
    "a PNG of 2,500 megapixels": (png(50_000, 50_000), IMAGE),
    "a PNG as large as can be said": (png(2**31 - 1, 2**31 - 1), IMAGE),
    "a PNG of one endless column": (png(1, 90_000_000), IMAGE),
    "a PNG of one endless row": (png(90_000_000, 1), IMAGE),
    "a PNG with a large text": (png(40, 40, (b"zTXt", b"k\0\0" + PACKED)), IMAGE),
    "a PNG with a large text in Unicode": (png(40, 40, (b"iTXt", b"k\0\1\0\0\0" + PACKED)), IMAGE),
    "a PNG with a large profile": (png(40, 40, (b"iCCP", b"k\0\0" + PACKED)), IMAGE),
    "a JPEG": (jpeg(), IMAGE),
    "a GIF's screen": (gif(b"GIF"), IMAGE),
    "a GIF's picture": (gif(b","), IMAGE),
    "a WebP": (webp(), IMAGE),
    "a TIFF": (tiff(100_000, 100_000), IMAGE),
    "a TIFF in range, of which nothing is there": (tiff(20_000, 400), IMAGE),
    "a tensor of terabytes": (claims_shape((10**6, 10**6)), NPY),
    "a tensor beyond all numbers": (claims_shape((10**30,)), NPY),
    "a tensor with a negative side": (claims_shape((-1, 3, 32, 32)), NPY),
    "a tensor of large texts": (claims_shape((10,), "<U1000000000"), NPY),
    "a tensor of objects": (claims_shape((3, 32, 32), "|O"), NPY),
    "a tensor of records": (npy(STRUCTURED), NPY),
    "a tensor of an empty type": (claims_shape((3, 32, 32), ()), NPY),
    "minus signs without end": (claims_shape("-" * 3000 + "1"), NPY),
    "brackets without end": (b"[" * 10**6, JSON),
    "objects without end": (b'{"instances":' * 10**5, JSON),
    "a number without end": (b"[" + b"9" * 10**6 + b"]", JSON),
    "a power without end": (b"[1e" + b"9" * 10**5 + b"]", JSON),
    "no base64": (json.dumps({"instances": [{"b64": "=" * 10**6}]}).encode(), JSON),
    "a bomb in base64": (json.dumps({"instances": [{"b64": base64.b64encode(webp()).decode()}]}).encode(), JSON),
}


def forget_peaks(processes):
    for process in processes:
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peak(process):
    """Return the most bytes that a process has held since its peak was forgotten."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_by_its_header_c2_8(target, name):
    body, content_type = BOMBS[name]
    before, workers = target.memory()
    forget_peaks(workers)
    assert target.ask(body, {"Content-Type": content_type}) in (400, 422)
    assert sum(map(peak, workers)) - before < MEMORY


def test_what_a_small_picture_holds_too_much_of_is_not_unpacked(target):
    before, workers = target.memory()
    forget_peaks(workers)
    assert target.ask(png(pixels=bytes(HUGE)), {"Content-Type": IMAGE}) == 200
    assert sum(map(peak, workers)) - before < MEMORY


def test_large_pictures_that_come_at_once_are_not_all_unpacked_at_once(target):
    """12 megapixels with transparency take 200 MB on their way to 32 pixels a side."""
    file = io.BytesIO()
    Image.new("RGBA", (4000, 3000), (200, 100, 50, 128)).save(file, "PNG")
    before, workers = target.memory()
    forget_peaks(workers)
    assert target.ask_all([(file.getvalue(), {"Content-Type": IMAGE})] * 24) == [200] * 24
    at_once = max(32, 12 * available_cores())  # megapixels
    assert sum(map(peak, workers)) - before < 4 * 16 * at_once * 2**20  # else 3 GB here, and more with more clients
