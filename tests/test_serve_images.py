"""Image files of strangers in the server: they are decoded in a process that may do little, and can be lost."""

import os
import random
import shutil
import signal
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from fallow.serve.images import LARGEST, Images, Worker
from fallow.serve.picture_worker import SIDE
from serving import serving, without_places
from test_report import make_run

SECRET = b"a-secret-in-the-metadata"


@pytest.fixture(scope="module")
def worker():
    started = Worker()
    yield started
    started.close()


def saved(form, size=(300, 200), mode="RGB", **more):
    draw = np.random.default_rng(1)
    pixels = draw.integers(0, 255, (size[1] // 10 + 1, size[0] // 10 + 1, 3), np.uint8)
    image = Image.fromarray(pixels).resize(size).convert(mode)
    image.save(made := BytesIO(), form, **more)
    return made.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *chunks, depth=8, kind=0, method=0):
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, method)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunks) + chunk(b"IEND", b"")


def zeros(size):
    """A stream of so many zeros, packed a thousandfold."""
    packer = zlib.compressobj(9)
    part = bytes(1 << 20)
    return b"".join(packer.compress(part) for _ in range(size >> 20)) + packer.flush()


def exif(**more):
    found = Image.Exif()
    found[0x010E] = SECRET.decode()
    for tag, value in more.items():
        found[int(tag[1:], 16)] = value
    return found


def many_scans(count):
    """A progressive JPEG of 36 megapixels that refines the same coefficients over and over: small, and slow."""
    data = saved("JPEG", (6000, 6000), "L", progressive=True)
    marks = [at for at in range(len(data) - 1) if data[at] == 0xFF and data[at + 1] in (0xDA, 0xD9, 0xC4)]
    last = max(at for at in marks if data[at + 1] == 0xDA)
    end = data.rindex(b"\xff\xd9")
    scan = data[last:end]
    return data[:end] + scan * count + data[end:]


def many_frames(count):
    frame = Image.new("L", (100, 100))
    others = [Image.new("L", (100, 100), i % 250) for i in range(1, count)]
    frame.save(made := BytesIO(), "GIF", save_all=True, append_images=others)
    return made.getvalue()


def of_text(size):
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", SECRET.decode())
    Image.new("L", (8, 8)).save(made := BytesIO(), "PNG", pnginfo=info)
    data = made.getvalue()
    bomb = chunk(b"zTXt", b"x\0\0" + zeros(size)) * 3
    return data[:33] + bomb + data[33:]


SHOWN = {
    **{f"{form} {mode}": lambda form=form, mode=mode: saved(form, mode=mode)
       for form, modes in {"PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"), "JPEG": ("RGB", "L", "CMYK"),
                           "GIF": ("P", "L"), "WEBP": ("RGB", "RGBA")}.items() for mode in modes},
    "tiny": lambda: saved("PNG", (1, 1)),
    "long": lambda: png(30_000, 1, chunk(b"IDAT", zlib.compress(bytes(30_001)))),
    "turned": lambda: saved("JPEG", exif=exif(x0112=6)),
    "metadata of JPEG": lambda: saved("JPEG", exif=exif(), comment=SECRET),
    "metadata of WEBP": lambda: saved("WEBP", exif=exif(), icc_profile=SECRET),
    "metadata of PNG": lambda: saved("PNG", exif=exif(), icc_profile=SECRET),
    "2,000 frames": lambda: many_frames(2000),
    "PNG and a page": lambda: saved("PNG") + b"<script>alert(1)</script>" + SECRET,
    "GIF and a script": lambda: saved("GIF", mode="P") + b";/*" + SECRET + b"*/alert(1)",
    "JPEG and an archive": lambda: saved("JPEG") + b"PK\x03\x04" + SECRET,
}  # fmt: skip
REFUSED = {
    "60,000 x 60,000": lambda: png(60_000, 60_000, chunk(b"IDAT", zeros(1 << 20))),
    "8,001 x 8,000": lambda: png(8_001, 8_000, chunk(b"IDAT", zeros(1 << 26))),
    "2^31 - 1": lambda: png(2**31 - 1, 2**31 - 1, chunk(b"IDAT", zlib.compress(b"x"))),
    "0 x 0": lambda: png(0, 0, chunk(b"IDAT", zlib.compress(b"x"))),
    "zTXt": lambda: of_text(1 << 28),
    "iCCP": lambda: png(8, 8, chunk(b"iCCP", b"x\0\0" + zeros(1 << 28)), chunk(b"IDAT", zlib.compress(b"x"))),
    "WEBP of 16,383 x 16,383": lambda: b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<IB", 10, 2)
    + bytes(3) + b"\xfe\x3f\0" * 2,
    "GIF of 65,535 x 65,535": lambda: b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0,"
    + struct.pack("<HHHH", 0, 0, 65535, 65535) + b"\0\x08\x01\0\0;",
    "scans of JPEG": lambda: many_scans(400),
    "empty": lambda: b"",
    "half a PNG": lambda: saved("PNG")[:2000],
    "half a JPEG": lambda: saved("JPEG")[: len(saved("JPEG")) // 2],
    "half a WEBP": lambda: saved("WEBP")[:500],
    "a head": lambda: b"\x89PNG\r\n\x1a\n",
    "text": lambda: b"hello",
    "SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "page": lambda: b"<!doctype html><script>alert(1)</script>",
    "PDF": lambda: saved("PDF"),
    "TIFF": lambda: saved("TIFF"),
    "BMP": lambda: saved("BMP"),
    "EPS": lambda: saved("EPS"),
    "ICO": lambda: saved("ICO", (64, 64)),
    "PPM": lambda: saved("PPM"),
    "noise": lambda: random.Random(0).randbytes(50_000),
}  # fmt: skip


def check(found):
    """A thumbnail is a small PNG of the chunks that pixels need."""
    kinds, at = [], 8
    while at < len(found):
        size, kind = struct.unpack(">I4s", found[at : at + 8])
        kinds.append(kind)
        at += 12 + size
    assert set(kinds) <= {b"IHDR", b"IDAT", b"IEND"}
    with Image.open(BytesIO(found)) as image:
        image.load()
        assert image.format == "PNG"
        assert max(image.size) <= SIDE
    assert SECRET not in found
    return image


@pytest.mark.parametrize("name", SHOWN)
def test_an_image_is_made_anew_and_small(worker, name):
    found = check(worker.thumbnail(SHOWN[name]()))
    if name == "turned":
        assert found.size == (107, 160)
    elif name.partition(" ")[0] in ("PNG", "JPEG", "GIF", "WEBP"):
        assert found.size == (160, 107)
        assert found.convert("L").getextrema()[1] - found.convert("L").getextrema()[0] > 100


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_too_much_or_no_image_costs_one_picture(worker, name):
    assert worker.thumbnail(REFUSED[name]()) is None
    check(worker.thumbnail(saved("PNG")))


def test_it_may_do_little(worker):
    worker.thumbnail(saved("PNG"))
    limits = Path(f"/proc/{worker.pid}/limits").read_text()
    rows = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()[1:]}
    assert rows["Max open files"] == ["3", "3"]
    assert rows["Max file size"] == rows["Max processes"] == rows["Max core file size"] == ["0", "0"]
    assert int(rows["Max address space"][0]) < 1 << 31
    assert int(rows["Max cpu time"][0]) < 1000
    peak = Path(f"/proc/{worker.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
    assert int(peak) < 1 << 19


def test_one_that_dies_or_hangs_is_replaced():
    worker = Worker(seconds=5)
    try:
        check(worker.thumbnail(saved("PNG")))
        for how in (signal.SIGKILL, signal.SIGSTOP):
            before = worker.pid
            os.kill(before, how)
            if how == signal.SIGSTOP:
                with pytest.raises(TimeoutError):
                    worker.thumbnail(saved("PNG"))
            while worker.thumbnail(saved("PNG")) is None:  # the pipe of a dead one may take an image yet
                pass
            assert worker.pid != before
    finally:
        worker.close()
    assert worker.pid is None


@pytest.mark.parametrize(
    "count", [300, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_changed_images_are_shown_or_refused(worker, count):
    """Bits, bytes, cuts, doubled parts: of 10,000, none is anything but a small PNG or nothing."""
    draw = random.Random(0)
    sound = [saved(form, (40, 30), mode) for form, mode in
             [("PNG", "RGB"), ("PNG", "P"), ("JPEG", "RGB"), ("JPEG", "L"), ("GIF", "P"), ("WEBP", "RGB")]]  # fmt: skip
    sound += [saved("JPEG", (40, 30), progressive=True, exif=exif()), saved("WEBP", (40, 30), lossless=True)]
    shown = 0
    for _ in range(count):
        data = bytearray(draw.choice(sound))
        for _ in range(draw.choice([1, 1, 2, 8])):
            if len(data) < 50:
                break
            at = draw.randrange(len(data))
            match draw.randrange(6):
                case 0:
                    data[at] ^= 1 << draw.randrange(8)
                case 1:
                    data[at] = draw.choice([0, 1, 127, 128, 254, 255])
                case 2:
                    data[at : at + draw.randrange(1, 9)] = draw.randbytes(draw.randrange(9))
                case 3:
                    data[at:at] = data[at : at + draw.randrange(1, 200)]
                case 4:
                    del data[at : at + draw.randrange(1, 40)]
                case 5:
                    data = data[: max(1, at)]
        found = worker.thumbnail(bytes(data))
        if found is not None:
            check(found)
            shown += 1
    assert 0.02 * count < shown < 0.98 * count


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of images, and a run whose samples are files in it, or pretend to be."""
    made = tmp_path_factory.mktemp("images")
    data = made / "data"
    (data / "ash").mkdir(parents=True)
    (made / "secret.png").write_bytes(saved("PNG"))
    (data / "ash" / "0.png").write_bytes(saved("PNG"))
    (data / "ash" / "1.jpg").write_bytes(REFUSED["60,000 x 60,000"]())
    (data / "ash" / "2.jpg").symlink_to(made / "secret.png")
    (data / "link").symlink_to(made)
    os.mkfifo(data / "ash" / "3.png")
    (data / "ash" / "4.gif").mkdir()
    with (data / "ash" / "5.png").open("wb") as file:
        file.write(saved("PNG"))
        file.truncate(LARGEST + 1)
    (data / "ash" / "6.webp").write_bytes(saved("JPEG"))
    files = [
        f"{data}/ash/0.png", f"{data}/ash/1.jpg", f"{data}/ash/2.jpg", f"{data}/ash/3.png", f"{data}/ash/4.gif",
        f"{data}/ash/5.png", f"{data}/ash/6.webp", f"{data}/gone.png", f"{made}/secret.png", f"{data}/../secret.png",
        f"{data}/link/secret.png", f"{data}//etc/x.png", "/etc/passwd", "../secret.png", "ash/0.png", "a\\b.png",
        f"{data}/./ash/0.png", "table.csv:3",
    ]  # fmt: skip
    make_run(made / "run", n=len(files), files=tuple(files), options={"data": str(data)})
    return made


FINE = (0, 6, 14)
"""Samples of the run that are images in the folder."""


def test_pictures_come_from_the_folder_that_was_named_and_no_other_place(folder):
    with serving(folder / "run", "--data", str(folder / "data")) as server:
        rows = server.told("api/samples?order=index")["samples"]
        assert [row["picture"] for row in rows] == [i < 8 or i in (10, 14) for i in range(18)]
        for sample in range(len(rows)):
            found = server.get(f"api/picture?sample={sample}")
            assert found.status_code == (200 if sample in FINE else 404), (sample, found.text)
            if sample in FINE:
                assert found.headers["content-type"] == "image/png"
                check(found.content)
            else:
                assert found.json()["code"] == "none"
                without_places(server, found.content)
        assert server.told("api/summary")["has"]["pictures"]
    with serving(folder / "run") as server:
        assert not any(row["picture"] for row in server.told("api/samples?order=index")["samples"])
        assert server.get("api/picture?sample=0").status_code == 404


def test_a_picture_is_asked_for_again_when_its_file_changes(folder, tmp_path):
    data = shutil.copytree(
        folder / "data" / "ash", tmp_path / "ash", ignore=shutil.ignore_patterns("[2-9]*")
    ).parent
    make_run(
        tmp_path / "run",
        n=8,
        files=tuple(f"{data}/ash/{i}.png" for i in range(8)),
        options={"data": str(data)},
    )
    path = data / "ash" / "0.png"
    with serving(tmp_path / "run", "--data", str(data)) as server:
        first = server.get("api/picture?sample=0")
        known = {"If-None-Match": first.headers["etag"]}
        assert server.get("api/picture?sample=0", **known).status_code == 304
        path.write_bytes(saved("PNG", (50, 90)))
        found = server.get("api/picture?sample=0", **known)
        assert check(found.content).size == (50, 90)
        assert found.headers["etag"] != first.headers["etag"]
        path.unlink()
        assert server.get("api/picture?sample=0", **known).status_code == 404


def test_a_folder_that_moves_away_and_an_image_that_changes(folder, tmp_path):
    data = shutil.copytree(
        folder / "data" / "ash", tmp_path / "ash", ignore=shutil.ignore_patterns("2*", "3*")
    ).parent
    images = Images(data)
    try:
        path = images.path("/x/ash/0.png", "/x")
        assert path == data / "ash" / "0.png"
        first = images.thumbnail(path)
        assert images.thumbnail(path) == first
        path.write_bytes(saved("PNG", (50, 90)))
        assert check(images.thumbnail(path)).size == (50, 90)
        path.rename(tmp_path / "away")
        assert images.thumbnail(path) is None
    finally:
        images.close()
