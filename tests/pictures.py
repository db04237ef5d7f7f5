"""Image files for tests, among them kinds that Pillow does not write."""

import struct
import zlib

import numpy as np
from PIL import Image


def picture(path, colour=(200, 10, 10), size=(12, 12), mode="RGB", **options):
    """Write an image file that is not quite plain, so that cutting it off is noticed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new(mode, size, colour)
    image.save(path, **options)
    return path


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(values, colours, before=b"", after=b""):
    """Return a PNG file of 16 bits a channel; `colours` is its kind of pixels, as the format counts them."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colours, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows)) + after + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + before + body


def tiff(values, photometric=1, sample_format=1, order="<"):
    """Return a plain TIFF file of one channel."""
    height, width = values.shape
    data = values.tobytes()
    tags = [
        (256, 3, width),
        (257, 3, height),
        (258, 3, 8 * values.itemsize),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, height),
        (279, 4, len(data)),
        (339, 3, sample_format),
    ]
    entries = b"".join(
        struct.pack(f"{order}HHI" + ("H2x" if kind == 3 else "I"), tag, kind, 1, value)
        for tag, kind, value in tags
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        Image.fromarray(content).save(path)
    return path


def both(folder, content, suffix="tif"):
    """Write two files of the same content for each of two classes."""
    for name in ("a", "b"):
        for number in range(2):
            put(folder / name / f"{number}.{suffix}", content)


def ramps(folder, top, kind=np.uint16, count=4, suffix="png", low=0):
    """Write two classes of images whose values go from `low` to `top`."""
    values = np.linspace(low, top, 12 * 12).astype(kind).reshape(12, 12)
    for name, turned in (("a", values), ("b", values[::-1].copy())):
        for number in range(count):
            put(folder / name / f"{number}.{suffix}", turned)
    return values


def every(data):
    return np.concatenate([data.train.images.numpy(), data.test.images.numpy()])


def rgb_tiff(values, compression):
    """Return a TIFF file of three channels of 16 bits, plain or packed."""
    height, width, _ = values.shape
    data = values.tobytes() if compression is None else lzw(values.tobytes())
    at = 8 + len(data)
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 3, at),
        (259, 3, 1, 1 if compression is None else 5),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (277, 3, 1, 3),
        (278, 3, 1, height),
        (279, 4, 1, len(data)),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    end = struct.pack("<3H", 16, 16, 16) + struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", at + 6) + data + end


def lzw(data):
    """Return bytes as LZW writes them, each by its own code of nine bits."""
    bits = "".join(f"{code:09b}" for byte in data for code in (256, byte)) + f"{257:09b}"
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
