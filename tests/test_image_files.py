"""Single image files: which way up they are, and what becomes of every kind of pixels."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from fallow.datasets import load_images
from fallow.datasets.image_files import ORIENTATION
from pictures import both, every, picture


def turned(shown, orientation):
    """Return pixels as a camera stores them that holds the image so."""
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return shown.transpose(back[orientation])


class TestOrientation:
    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif", "mpo"])
    @pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
    def test_counts_in_every_format_and_for_the_size(self, tmp_path, suffix, orientation):
        pixels = np.zeros((16, 32, 3), np.uint8)
        pixels[:8, :16] = 255
        shown = Image.fromarray(pixels)
        more = {"save_all": True, "append_images": [Image.new("RGB", (32, 16))]} if suffix == "mpo" else {}
        for name in ("a", "b"):
            for number in range(2):
                path = tmp_path / name / f"{number}.{suffix}"
                path.parent.mkdir(exist_ok=True)
                exif = Image.Exif()  # anew each time: the writer of AVIF takes it away
                exif[ORIENTATION] = orientation
                turned(shown, orientation).save(path, exif=exif, **more)
        images = load_images(tmp_path).train.images
        assert images.shape[1:] == (3, 16, 32)
        assert images[:, :, 1:7, 1:15].min() > 200
        assert images[:, :, 9:].max() < 60
        assert images[:, :, :, 17:].max() < 60

    @pytest.mark.parametrize("behind", [False, True])
    def test_of_a_png_file_may_stand_behind_its_pixels(self, tmp_path, behind):
        pixels = np.zeros((8, 24, 3), np.uint8)
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
        data = buffer.getvalue()
        at = data.index(b"eXIf") - 4
        length = struct.unpack(">I", data[at : at + 4])[0] + 12
        if behind:
            told, data = data[at : at + length], data[:at] + data[at + length :]
            end = data.index(b"IEND") - 4
            data = data[:end] + told + data[end:]
        both(tmp_path, data, suffix="png")
        assert load_images(tmp_path).train.images.shape[2:] == (24, 8)

    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
    @pytest.mark.parametrize("damage", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0no tiff", b"\xff" * 40])
    def test_damaged_exif_is_no_reason_to_refuse_an_image(self, tmp_path, suffix, damage):
        for name in ("a", "b"):
            for number in range(2):
                picture(tmp_path / name / f"{number}.{suffix}", size=(10, 20), exif=damage)
        assert load_images(tmp_path).train.images.shape[2:] == (20, 10)

    def test_out_of_range_is_upright(self, tmp_path):
        exif = Image.Exif()
        exif[ORIENTATION] = 77
        for name in ("a", "b"):
            for number in range(2):
                picture(tmp_path / name / f"{number}.jpg", size=(16, 24), exif=exif)
        assert load_images(tmp_path).train.images.shape[2:] == (24, 16)


class TestOddModes:
    @pytest.mark.parametrize(
        ("mode", "suffix"),
        [
            ("1", "png"),
            ("1", "tif"),
            ("L", "jpg"),
            ("LA", "png"),
            ("P", "png"),
            ("P", "gif"),
            ("PA", "tif"),
            ("RGB", "jp2"),
            ("RGBA", "png"),
            ("RGBA", "webp"),
            ("RGBX", "tif"),
            ("CMYK", "jpg"),
            ("CMYK", "tif"),
            ("YCbCr", "jpg"),
            ("YCbCr", "tif"),
            ("LAB", "tif"),
            ("I;16", "jp2"),
        ],
    )
    def test_every_mode_keeps_what_it_shows(self, tmp_path, mode, suffix):
        pixels = np.zeros((24, 24, 3), np.uint8)
        pixels[:12] = (255, 255, 255)
        image = Image.fromarray(pixels)
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        elif mode == "LAB":
            channels = np.stack([pixels[..., 0], *[np.full((24, 24), 128, np.uint8)] * 2], -1)
            image = Image.frombytes("LAB", (24, 24), (channels ^ np.array([0, 128, 128], np.uint8)).tobytes())
        elif mode == "PA":
            image = image.convert("P").convert("PA")
        else:
            image = image.convert(mode)
        for name in ("a", "b"):
            for number in range(2):
                path = tmp_path / name / f"{number}.{suffix}"
                path.parent.mkdir(exist_ok=True)
                try:
                    image.save(path)
                except OSError:
                    pytest.skip(f"Pillow does not write {mode} in {suffix}")
        images = load_images(tmp_path).train.images
        assert images[:, :, 1:10].min() > 240
        assert images[:, :, 14:].max() < 20

    def test_a_clear_colour_of_a_palette_and_of_grey_is_white(self, tmp_path):
        for name in ("a", "b"):
            grey = Image.new("L", (12, 12), 40)
            (tmp_path / name).mkdir()
            grey.save(tmp_path / name / "grey.png", transparency=40)
            Image.new("LA", (12, 12), (40, 0)).save(tmp_path / name / "alpha.png")
            palette = Image.new("P", (12, 12), 1)
            palette.putpalette([0, 0, 0, 9, 9, 9])
            palette.save(tmp_path / name / "palette.gif", transparency=1)
        assert (every(load_images(tmp_path)) == 255).all()
