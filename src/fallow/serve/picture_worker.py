"""A process that makes thumbnails of image files from strangers, and may do nothing else.

It reads images from standard input and writes PNG to standard output, each behind its length in four bytes;
a length of 0 says that an image cannot be shown. Before the first one it gives up all that it needs no more:
it can open no file and no connection, start no process, and take no more than so much memory and time. A
decoder that an image has taken over can spoil pictures, and end this process.

It is run by its path, and imports nothing of this package.
"""

from __future__ import annotations

import os
import sys
from io import BytesIO
from typing import IO, Any

from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
"""Their decoders are ever called, whatever a file is named."""
SIDE = 160
"""The longest side of a thumbnail, in pixels."""
_PIXELS = 64_000_000
_MEMORY = 1 << 29
"""Bytes beyond what the process has when it begins to decode."""
_CPU_SECONDS = 2
"""Of one picture. The system counts whole seconds, so that it may be one more."""
_LEAST_FILES = 3
"""Standard input, output and errors are open, and nothing else can be."""


def thumbnail(data: bytes) -> bytes:
    """Return the first picture of an image file as a small PNG without metadata; nothing if it has none."""
    with Image.open(BytesIO(data), formats=FORMATS) as image:
        if image.width * image.height > _PIXELS:
            return b""
        # A number between those of two entries of a palette is no colour between them.
        small = image.convert("RGB") if image.mode in ("P", "PA", "1") else image
        deep = small.mode.startswith(("I", "F"))
        small.thumbnail((SIDE, SIDE), Image.Resampling.NEAREST if deep else Image.Resampling.BICUBIC)
        small = ImageOps.exif_transpose(_of_bytes(small) if deep else small)
        plain = small.convert("L" if small.mode in ("L", "LA", "1") else "RGB")
        # Made of pixels alone, so that nothing else of the file comes along.
        drawn = BytesIO()
        Image.frombytes(plain.mode, plain.size, plain.tobytes()).save(drawn, "png")
        return drawn.getvalue()


def _of_bytes(image: Image.Image) -> Image.Image:
    """Return a picture of deep pixels with the least black and the largest white."""
    whole: Any = image.convert("F")
    least, most = whole.getextrema()
    factor = 255 / max(most - least, 1e-30)
    grey: Image.Image = whole.point(lambda value: value * factor - least * factor).convert("L")
    return grey


def _warm_up() -> None:
    """Load all that decoders load at their first use: afterwards no file can be opened."""
    for name in FORMATS:
        image = Image.new("RGB", (4, 4), (9, 9, 9))
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(made := BytesIO(), name, exif=exif)
        assert thumbnail(made.getvalue()), name
    from PIL import MpoImagePlugin  # noqa: F401


def _give_up() -> None:
    """Set the limits, which cannot be raised again."""
    import resource

    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    for limit, most in (
        (resource.RLIMIT_AS, size + _MEMORY),
        (resource.RLIMIT_NOFILE, _LEAST_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(limit, (most, most))


def _limit_time() -> None:
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + _CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _answers(asked: IO[bytes], answered: IO[bytes]) -> None:
    while head := asked.read(4):
        data = asked.read(int.from_bytes(head, "big"))
        _limit_time()
        try:
            found = thumbnail(data)
        except MemoryError:
            return  # what is left of it may not do for the next one
        except Exception:  # of a decoder, about what a stranger has written
            found = b""
        answered.write(len(found).to_bytes(4, "big") + found)
        answered.flush()


def main() -> None:
    """Answer until standard input ends."""
    Image.MAX_IMAGE_PIXELS = None  # the limit above is checked in place of it, before anything is decoded
    _warm_up()
    _give_up()
    _answers(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
    os._exit(0)
