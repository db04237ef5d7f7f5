"""One image file: its format by its content, its orientation, and its pixels if they are deep.

Only decoders of the formats on the list are ever called. The first bytes of other files are compared with
known ones, to name their kind in messages.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .pixel_range import LARGEST, Depth, PixelRanges

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

# EPS is not on the list, because its decoder runs Ghostscript.
FORMATS = ("PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000")


def _suffixes(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


SUFFIXES = _suffixes(
    "png apng jpg jpeg jpe jfif jif mpo bmp dib gif webp tif tiff ppm pgm pbm pnm "
    "avif avifs jp2 j2k j2c jpc jpf jpx"
)
"""Suffixes of files that must be images: it is an error if one cannot be read."""
RAW_SUFFIXES = _suffixes(
    "3fr arw cr2 cr3 crw dcr dng erf kdc mef mos mrw nef nrw orf pef raf raw rw2 rwl sr2 srf srw x3f"
)
UNREAD_SUFFIXES = RAW_SUFFIXES | _suffixes(
    "heic heif hif svg svgz psd psb ai eps ico cur icns tga dds exr hdr jxl jxr wdp qoi "
    "pcx sgi xcf emf wmf dcm fits fit pfm"
)
"""Suffixes of images whose formats are not read."""
GREY_MODES = frozenset({"L", "1", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
PHOTO_FORMATS = ("JPEG", "MPO")
ORIENTATION, PHOTOMETRIC, SAMPLE_FORMAT, DNG_VERSION = 0x0112, 262, 339, 50706
MOST_CHUNKS = 100_000
"""Chunks of a PNG file that are searched for an orientation."""
_PNG = b"\x89PNG\r\n\x1a\n"
_MAGIC = (
    (0, _PNG),
    (0, b"\xff\xd8\xff"),
    (0, b"BM"),
    (0, b"GIF8"),
    (8, b"WEBP"),
    (0, b"II*\0"),
    (0, b"MM\0*"),
    (0, b"II+\0"),
    (0, b"MM\0+"),
    *((0, b"P%d" % kind) for kind in range(1, 7)),
    (4, b"ftypavi"),
    (0, b"\0\0\0\x0cjP  "),
    (0, b"\xff\x4f\xff\x51"),
)
_OTHERS = (
    (4, (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1"), "a HEIC photo"),
    (4, (b"ftypcrx ",), "a raw photo"),
    (0, (b"8BPS",), "a Photoshop file"),
    (0, (b"%PDF",), "a PDF file"),
    (0, (b"\xff\x0a", b"\0\0\0\x0cJXL "), "a JPEG XL image"),
    (0, (b"version https://git-lfs",), "a Git LFS pointer, in place of which the file must be fetched"),
    (0, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "a TIFF file of a kind that is not read"),
    (0, (b"PK\x03\x04",), "a ZIP archive"),
)
_TURNS = (
    "FLIP_LEFT_RIGHT",
    "ROTATE_180",
    "FLIP_TOP_BOTTOM",
    "TRANSPOSE",
    "ROTATE_270",
    "TRANSVERSE",
    "ROTATE_90",
)
"""The transpositions that make orientations 2 to 8 upright."""
_LITTLE = sys.byteorder == "little"
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if _LITTLE else "L", "": "B"}
"""The byte order in which Pillow keeps the lower of two bytes, by the order in which it keeps the upper."""


class NotAnImage(ValueError):
    """A file is not an image of a format that is read."""


def open_image(file: IO[bytes]) -> Picture:
    """Open an image; only its header is read.

    Raises:
        NotAnImage: naming the kind of file.
        Exception: of many kinds, from the decoders.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        # AVIF, WebP and JPEG 2000 are missing from some builds of Pillow.
        image = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        file.seek(0)
        raise NotAnImage(_kind_by_content(file.read(512))) from None
    if image.format == "TIFF" and DNG_VERSION in _tags(image):
        raise NotAnImage("it is a raw photo")
    if min(image.size) < 1:
        raise ValueError(f"its size is {image.width}×{image.height}")
    return image


def begins_as_image(start: bytes) -> bool:
    """Return whether a file begins with the bytes of a format that is read."""
    return any(start[at:].startswith(magic) for at, magic in _MAGIC)


def kind_by_name(path: Path) -> str:
    """Return the name of a kind of files: the suffix in lower case.

    >>> kind_by_name(Path("a/notes.TXT")), kind_by_name(Path("a/README"))
    ('.txt', 'without a suffix')
    """
    return path.suffix.lower() or "without a suffix"


def depth_of(image: Picture) -> Depth | None:
    """Return the kind of pixels that are not bytes from 0 to 255, for an image that is not loaded yet."""
    if image.mode == "F":
        return "floats"
    if _signed_bits(image) or image.mode in GREY_MODES - {"L", "1"} or _deep_colour(image):
        return "whole"
    return None


def largest_of(image: Picture) -> int:
    """Return the largest value of the type of pixels, for an image that is not loaded yet."""
    bits = _signed_bits(image)
    return 2 ** (bits - 1) - 1 if bits else LARGEST


def orientation(image: Picture) -> int:
    """Return the orientation of an image, 1 to 8, by its EXIF or XMP data; 1 if these are damaged.

    This may decode a PNG file, because these data may follow its pixels.
    """
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def lies_on_its_side(image: Picture, file: IO[bytes]) -> bool:
    """Return whether an image is displayed with width and height exchanged; decode it only if necessary."""
    if image.format == "TIFF" or image.width == image.height:
        return False  # Pillow gives the size of a TIFF file as it is displayed
    known = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"} & set(image.info)
    if image.format == "PNG" and not known and not _metadata_after_pixels(image, file):
        return False
    return orientation(image) >= 5


def has_more(image: Picture) -> bool:
    """Return whether frames or pages follow the first, except those that a camera adds to a photo."""
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # the second frame is damaged, which does no harm
        return True


def upright(picture: Picture, turned: int) -> Picture:
    """Return a picture as viewers display it, by its orientation."""
    from PIL import Image

    return picture if turned < 2 else picture.transpose(Image.Transpose[_TURNS[turned - 2]])


def deep_values(image: Picture, file: IO[bytes]) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """Return deep pixels as numbers, ``(H, W)`` or ``(H, W, 3)``, and the alpha channel in 0..255, or None.

    Raises:
        ValueError: if a pixel is not finite.
    """
    if colour := _deep_colour(image):
        return _deep_colours(image, file, colour)
    # Before the image is loaded, which empties `tile`, where the raw mode is.
    unsigned = _raw_mode(image) == "I;32N"
    signed_bytes = _signed_bits(image) == 8
    clear = image.info.get("transparency")
    values = np.asarray(image)
    if unsigned:
        values = values.view(np.uint32)
    if signed_bytes:
        values = values.view(np.int8)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("some of its pixels are no finite numbers (NaN or infinite)")
    if isinstance(clear, int):
        return values, np.where(values == clear, 0, 255).astype(np.uint8)
    return values, None


def shallow(image: Picture, file: IO[bytes], ranges: PixelRanges, depth: Depth) -> Picture:
    """Return an image of deep pixels with 8 bits a channel.

    Raises:
        ValueError: if a pixel is not finite, or no range is known.
        OSError: if the file is cut short.
    """
    from PIL import Image

    white_is_zero = image.format == "TIFF" and _tags(image).get(PHOTOMETRIC) == 0
    values, opaque = deep_values(image, file)
    # After the pixels are read, so that a damaged file is reported before a missing range.
    scaled = ranges.of(depth).scaled(values)
    picture = Image.fromarray(255 - scaled if white_is_zero else scaled)
    if opaque is not None:
        picture.putalpha(Image.fromarray(opaque))
    return picture


def _deep_colours(image: Picture, file: IO[bytes], raw: str) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """Return colours of 16 bits, and the alpha channel.

    Pillow keeps only the upper byte of each colour, and the lower byte if it reads in the other byte order.
    """
    kind, _, order = raw.partition(";16")
    clear = image.info.get("transparency")
    if kind == "LA":
        both = np.asarray(_as_raw(image, "RGBA")).astype(np.uint16)  # the four bytes of a pixel as they are
        return both[..., 0] << 8 | both[..., 1], both[..., 2].astype(np.uint8)
    values = np.asarray(image).astype(np.uint16)
    values <<= 8
    file.seek(0)
    values |= np.asarray(_as_raw(open_image(file), f"{kind};16{_OTHER_BYTE[order]}"))
    if kind == "RGBA":
        return values[..., :3], (values[..., 3] >> 8).astype(np.uint8)
    if isinstance(clear, tuple):
        return values, np.where((values == clear).all(-1), 0, 255).astype(np.uint8)
    return values, None


def _as_raw(image: Picture, raw: str) -> Any:
    """Return an image whose bytes are unpacked in another raw mode when it is loaded."""
    # Pillow has no public way to choose how bytes are unpacked; `tile` is what its own plugins set.
    tiles = [
        tile._replace(args=raw if isinstance(tile.args, str) else (raw, *tile.args[1:]))
        for tile in image.tile  # type: ignore[attr-defined]
    ]
    image.tile = tiles  # type: ignore[attr-defined]
    return image


def _deep_colour(image: Picture) -> str | None:
    """Return the raw mode of colours of 16 bits, or None for other pixels."""
    raw = _raw_mode(image)
    kind, deep, order = raw.partition(";16")
    if not deep or image.mode not in ("RGB", "RGBA") or order not in _OTHER_BYTE:
        return None
    return raw if kind == image.mode or (kind == "LA" and image.format == "PNG") else None


def _signed_bits(image: Picture) -> int:
    """Return the number of bits of a pixel with a sign; 0 for pixels without one."""
    raw = _raw_mode(image)
    if raw == "L" and _tags(image).get(SAMPLE_FORMAT, (1,)) == (2,):  # Pillow ignores the sign of bytes
        return 8
    return {"I;16S": 16, "I;16BS": 16, "I;32S": 32, "I;32BS": 32}.get(raw, 0)


def _raw_mode(image: Picture) -> str:
    tiles = getattr(image, "tile", ())
    args = tiles[0].args if tiles else ""
    raw = args[0] if isinstance(args, tuple) and args else args
    return raw if isinstance(raw, str) else ""


def _tags(image: Picture) -> Any:
    return getattr(image, "tag_v2", {})


def _metadata_after_pixels(image: Picture, file: IO[bytes]) -> bool:
    """Return whether a PNG file has a chunk after its pixels that may hold its orientation."""
    tiles = getattr(image, "tile", ())
    if not tiles:
        return False
    before = file.tell()
    at = tiles[0].offset - 8
    try:
        for _ in range(MOST_CHUNKS):
            file.seek(at)
            start = file.read(8)
            if len(start) < 8 or start[4:] == b"IEND":
                return False
            if start[4:] in (b"eXIf", b"iTXt", b"zTXt", b"tEXt"):
                return True
            at += struct.unpack(">I", start[:4])[0] + 12
        return False
    finally:
        file.seek(before)


def _kind_by_content(start: bytes) -> str:
    if not start:
        return "it is empty"
    for at, magics, kind in _OTHERS:
        if start[at:].startswith(magics):
            return f"it is {kind}"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in text:
        return "it is an SVG drawing"
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "it is a web page"
    if begins_as_image(start):
        return "it begins as an image does, but is damaged"
    return "its bytes are of no known image format"
