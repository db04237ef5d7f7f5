"""Folders of images: which files are read, how they become pixels, and what is said of the others."""

import io
import os
import re
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fallow.datasets import load_images
from fallow.datasets.image_files import ORIENTATION
from fallow.datasets.images import LeftOutWarning
from fallow.errors import DamagedData, InvalidValue
from fallow.options.resolve import resolve
from fallow.options.train_options import TrainOptions
from fallow.tasks.image_material import read_images
from pictures import every, picture, put, tiff
from told_console import Told


@pytest.fixture
def folder(tmp_path):
    """Two classes of ten images each; the colour says which is which."""
    for number in range(10):
        picture(tmp_path / "pets" / "cat" / f"{number}.png", (number, 0, 0))
        picture(tmp_path / "pets" / "Dog" / f"{number}.PNG", (100 + number, 0, 0))
    return tmp_path / "pets"


class TestFolder:
    def test_held_out_by_class_and_seed(self, folder):
        data = load_images(folder, test_share=0.3)
        assert data.name == "pets"
        assert data.classes == ("cat", "Dog")
        assert data.train.images.shape == (14, 3, 12, 12)
        assert torch.bincount(data.test.labels).tolist() == [3, 3]
        for path, image, label in zip(data.files, data.train.images, data.train.labels, strict=True):
            number = int(os.path.basename(path)[0])
            assert image[0, 0, 0] == number + 100 * int(label)
        again = load_images(folder, test_share=0.3)
        assert data.files == again.files
        assert data.files != load_images(folder, test_share=0.3, seed=1).files

    @pytest.mark.parametrize("other", ["test", "val"])
    def test_split_of_its_own(self, tmp_path, other):
        for part, count in (("train", 3), (other, 2)):
            for name in ("a", "b"):
                for number in range(count):
                    picture(tmp_path / part / name / "deeper" / f"{number}.bmp")
        calls = []
        data = load_images(tmp_path, progress=lambda *call: calls.append(call))
        assert (len(data.train), len(data.test)) == (6, 4)
        assert calls[-1] == (10, 10)
        picture(tmp_path / other / "c" / "0.bmp")
        with pytest.raises(InvalidValue, match=r"same classes.*one of them only: c"):
            load_images(tmp_path)

    def test_format_that_is_not_on_the_list_is_never_opened(self, folder):
        Image.new("RGB", (12, 12)).save(folder / "cat" / "0.png", format="ICO")
        with pytest.raises(InvalidValue, match=r"cat/0.png \(its bytes are of no known"):
            load_images(folder)

    def test_grey_where_all_are_grey(self, tmp_path):
        for name in ("a", "b"):
            picture(tmp_path / name / "0.png", 70, mode="L")
            picture(tmp_path / name / "1.png", 1, mode="1")
            deep = np.full((12, 12), 70 * 257, dtype=np.uint16)
            Image.fromarray(deep).save(tmp_path / name / "2.png")
            Image.fromarray(deep).save(tmp_path / name / "3.pgm")
        data = load_images(tmp_path, test_share=0.25)
        images = torch.cat([data.train.images, data.test.images])
        assert images.shape == (8, 1, 12, 12)
        assert sorted(images[:, 0, 0, 0].tolist()) == [70] * 6 + [255] * 2
        picture(tmp_path / "a" / "4.png", (70, 70, 70))
        data = load_images(tmp_path, test_share=0.25)
        assert data.train.images.shape[1] == 3
        assert {70, 255} >= set(data.train.images.flatten().tolist())

    def test_transparent_parts_lie_on_white(self, tmp_path):
        for name in ("a", "b"):
            picture(tmp_path / name / "0.png", (10, 20, 30, 0), mode="RGBA")
            picture(tmp_path / name / "1.png", (10, 20, 30, 0), mode="RGBA")
            palette = Image.new("P", (12, 12), 0)
            palette.putpalette([10, 20, 30, 40, 50, 60])
            palette.save(tmp_path / name / "2.png", transparency=b"\x00\xff")
        images = load_images(tmp_path).train.images
        assert (images == 255).all()

    def test_photos_are_turned_upright(self, tmp_path):
        pixels = np.zeros((16, 32, 3), np.uint8)
        pixels[:, :16] = 255
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        for name in ("a", "b"):
            for number in range(2):
                path = tmp_path / name / f"{number}.jpg"
                path.parent.mkdir(exist_ok=True)
                Image.fromarray(pixels).save(path, exif=exif)
        image = load_images(tmp_path).train.images[0]
        assert image.shape == (3, 32, 16)
        assert image[:, :12].min() > 240
        assert image[:, 20:].max() < 15

    @pytest.mark.parametrize(
        ("sizes", "image_size", "expected"),
        [
            ([(20, 30)] * 4, None, (30, 20)),
            ([(20, 30), (20, 30), (50, 40), (9, 9)], None, (30, 20)),
            ([(20, 30), (24, 31), (50, 40), (26, 80)], None, (24, 24)),
            ([(100, 300), (140, 310), (150, 140), (126, 180)], None, (64, 64)),
            ([(20, 30)] * 4, 10, (10, 10)),
        ],
    )
    def test_common_size(self, tmp_path, sizes, image_size, expected):
        for number, size in enumerate(sizes):
            picture(tmp_path / "ab"[number % 2] / f"{number}.png", size=size)
        data = load_images(tmp_path, image_size=image_size)
        assert data.train.images.shape[2:] == expected
        assert (data.train.images[:, 0] == 200).all()

    def test_other_sizes_are_scaled_and_cropped_around_the_centre(self, tmp_path):
        pixels = np.zeros((40, 120, 3), np.uint8)
        pixels[:, 40:80] = 255
        for name in ("a", "b"):
            for number in range(2):
                path = tmp_path / name / f"{number}.jpg"
                path.parent.mkdir(exist_ok=True)
                Image.fromarray(pixels).save(path, quality=100, subsampling=0)
        assert load_images(tmp_path, image_size=8).train.images.min() > 200

    @pytest.mark.parametrize("suffix", ["jpg", "png"])
    def test_image_that_is_cut_off(self, folder, suffix):
        noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        path = folder / "cat" / f"noise.{suffix}"
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(InvalidValue, match=rf"1 unreadable image: {path} \(.*--skip_corrupt"):
            load_images(folder)
        with pytest.warns(UserWarning, match=rf"Left out 1 unreadable image: {path}") as caught:
            data = load_images(folder, skip_corrupt=True)
        assert data.skipped == (str(path),)
        assert len(data.train) + len(data.test) == 20
        assert str(path) not in data.files
        assert len(data.files) == len(data.train)
        assert len(caught) == 1

    def test_many_bad_files_are_counted_and_the_first_named(self, folder):
        for number in range(7):
            (folder / "cat" / f"bad{number}.png").write_bytes(b"no image" * number)
        with pytest.raises(InvalidValue, match=r"7 unreadable images: .*bad4.*, and 2 more"):
            load_images(folder)
        with pytest.warns(UserWarning, match="7 unreadable images"):
            assert len(load_images(folder, skip_corrupt=True).skipped) == 7

    def test_decompression_bomb(self, folder, monkeypatch):
        picture(folder / "cat" / "bomb.png", size=(400, 200))
        for limit in (60_000, 20_000):  # the first is a warning to pillow, the second an error
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
            with pytest.raises(InvalidValue, match=r"cat/bomb.png \(Image size \(80000 pixels\)"):
                load_images(folder)

    def test_missing_classes_and_images(self, tmp_path):
        with pytest.raises(InvalidValue, match=r"at least two folders, one per class. Found none"):
            load_images(tmp_path)
        picture(tmp_path / "a" / "0.png")
        with pytest.raises(InvalidValue, match=r"at least two folders.*only `a`"):
            load_images(tmp_path)
        (tmp_path / "b").mkdir()
        with pytest.raises(InvalidValue, match=rf"{tmp_path / 'b'} must hold images.*png"):
            load_images(tmp_path)
        picture(tmp_path / "b" / "0.png")
        with pytest.raises(InvalidValue, match=r"`a` must hold 2 readable images.*Found 1"):
            load_images(tmp_path)

    def test_class_that_loses_its_images(self, tmp_path):
        for part in ("train", "test"):
            for name in ("a", "b"):
                picture(tmp_path / part / name / "0.png")
        (tmp_path / "train" / "b" / "0.png").write_bytes(b"")
        with pytest.raises(InvalidValue, match="`b` must hold a readable image to train on"):
            load_images(tmp_path, skip_corrupt=True)
        for path in tmp_path.glob("*/*/*.png"):
            path.write_bytes(b"")
        with pytest.raises(InvalidValue, match="4 unreadable images"):
            load_images(tmp_path, skip_corrupt=True)

    def test_values_outside_their_range(self, folder):
        for share in (0, 1, 1.5):
            with pytest.raises(InvalidValue, match="`test_share`"):
                load_images(folder, test_share=share)
        with pytest.raises(InvalidValue, match="`image_size` must be at least 1"):
            load_images(folder, image_size=0)


class TestKnownByContent:
    def test_whatever_they_are_called(self, tmp_path):
        formats = {
            "a.jfif": "JPEG",
            "b.jpe": "JPEG",
            "c.avif": "AVIF",
            "d.jp2": "JPEG2000",
            "e": "PNG",
            "f.JPG": "PNG",
            "g.png": "JPEG",
            "h.txt": "PNG",
            "i.heic": "JPEG",
            "j.Webp": "WEBP",
            "k.dib": "DIB",
            "l.1": "TIFF",
        }
        for name in ("one", "two"):
            for file, format in formats.items():
                picture(tmp_path / name / file, format=format)
        data = load_images(tmp_path)
        assert len(data.train) + len(data.test) == 2 * len(formats)
        assert data.notes == ()
        assert (data.train.images[:, 0].float() - 200).abs().max() < 12

    def test_one_line_sums_up_what_is_no_image(self, folder):
        for number in range(4):
            put(folder / "cat" / f"{number}.txt", b"0 0.5 0.5 0.1 0.1")
        for name in ("cat", "Dog"):
            put(folder / name / "Thumbs.db", b"\xd0\xcf\x11\xe0")
            put(folder / name / ".DS_Store", b"\0\0\0\1Bud1")
            put(folder / name / "._0.png", b"\0\5\x16\7")
        put(folder / "Dog" / "__MACOSX" / "cat" / "._0.png", b"x")
        put(folder / "Dog" / "deeper" / "labels", b"x")
        put(folder / "Dog" / "P5 is how a grey image begins", b"P5 is how a grey image begins")
        put(folder / "Dog" / "BM.md", b"BM is how a bitmap begins, and many names")
        said = (
            "Left out 14 files that are not images: 4 .txt, 4 hidden, 2 Thumbs.db, 2 without a suffix, "
            "1 .md, 1 __MACOSX."
        )
        with pytest.warns(LeftOutWarning, match=re.escape(said)) as caught:
            data = load_images(folder)
        assert len(caught) == 1
        assert data.notes == (said,)
        assert len(data.train) + len(data.test) == 20

    def test_litter_alone_is_a_note_and_no_warning(self, folder):
        put(folder / "cat" / ".DS_Store", b"\0\0\0\1Bud1")
        put(folder / "cat" / "desktop.ini", b"[x]")
        data = load_images(folder)
        assert data.notes == ("Left out 2 files that are not images: 1 desktop.ini, 1 hidden.",)

    def test_macosx_is_no_class(self, folder):
        put(folder / "__MACOSX" / "cat" / "._0.png", b"x")
        assert load_images(folder).classes == ("cat", "Dog")

    def test_formats_that_are_not_read_are_named(self, folder):
        put(folder / "cat" / "a.heic", b"\0\0\0\x18ftypheic\0\0\0\0")
        put(folder / "cat" / "b.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0")
        put(folder / "cat" / "c.svg", b"<svg/>")
        picture(folder / "cat" / "d.nef", format="TIFF")  # its first page is a preview
        picture(folder / "cat" / "e.ico", format="ICO")
        with pytest.warns(LeftOutWarning, match=r"Left out 5 images of formats that are not read: 2 .heic"):
            data = load_images(folder)
        assert len(data.train) + len(data.test) == 20

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "it is empty"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "it is a HEIC photo"),
            (b"<?xml version='1.0'?><svg/>", "it is an SVG drawing"),
            (b"\n<!DOCTYPE html><p>Not found", "it is a web page"),
            (b"version https://git-lfs.github.com/spec/v1", "it is a Git LFS pointer"),
            (tiff(np.zeros((3, 3), np.float16), sample_format=3), "a TIFF file of a kind that is not read"),
            (b"GIF89a\1\0\1\0\0\0\0;", "it begins as an image does, but is damaged"),
            (b"GIF89a", "."),
            (b"nothing", "its bytes are of no known image format"),
        ],
    )
    def test_what_is_called_an_image_and_is_none_is_an_error(self, folder, content, said):
        path = put(folder / "cat" / "bad.png", content)
        with pytest.raises(DamagedData, match=rf"1 unreadable image: {path} \(.*{said}"):
            load_images(folder)

    def test_a_raw_photo_is_known_by_its_tag(self, folder):
        data = io.BytesIO()
        Image.new("RGB", (12, 12)).save(data, "TIFF", tiffinfo={50706: b"\1\4\0\0"})
        put(folder / "cat" / "bad.tif", data.getvalue())
        with pytest.raises(DamagedData, match=r"bad.tif \(it is a raw photo"):
            load_images(folder)

    def test_the_first_of_several_frames_is_read_and_that_is_said(self, folder):
        frames = [Image.new("RGB", (12, 12), (number, 0, 0)) for number in (250, 0, 0)]
        for name in ("a.gif", "b.tif", "c.webp", "d.png", "e.avif"):
            frames[0].save(folder / "cat" / name, save_all=True, append_images=frames[1:])
        frames[0].save(folder / "cat" / "f.mpo", save_all=True, append_images=frames[1:])
        data = load_images(folder)
        (note,) = data.notes
        assert note.startswith("5 images with several frames or pages, of which the first is read: ")
        assert sorted(every(data)[:, 0].max((1, 2)))[-6] > 240

    def test_a_class_folder_without_an_image_says_what_it_holds(self, tmp_path):
        picture(tmp_path / "a" / "0.png")
        put(tmp_path / "b" / "0.svg", b"<svg/>")
        put(tmp_path / "b" / "1.svg", b"<svg/>")
        message = r"b must hold images. Found only other files: 2 .svg. Add some"
        with pytest.raises(InvalidValue, match=message):
            load_images(tmp_path)
        put(tmp_path / "b" / "2.png", b"")
        with pytest.raises(DamagedData, match=r"1 unreadable image: .*2.png \(it is empty\)"):
            load_images(tmp_path)

    def test_images_beside_the_class_folders_are_named(self, folder):
        picture(folder / "lost.png")
        with pytest.warns(LeftOutWarning, match=r"Left out 1 image in no class folder: .*lost.png"):
            load_images(folder)

    @pytest.mark.parametrize("other", ["valid", "validation", "Test"])
    def test_other_names_of_the_held_out_part(self, tmp_path, other):
        for part in ("Train", other):
            for name in ("a", "b"):
                picture(tmp_path / part / name / "0.png")
        data = load_images(tmp_path)
        assert (data.classes, len(data.train), len(data.test)) == (("a", "b"), 2, 2)

    def test_of_two_held_out_parts_the_one_that_is_not_read_is_named(self, tmp_path):
        for part in ("train", "val", "test"):
            for name in ("a", "b"):
                picture(tmp_path / part / name / "0.png")
        with pytest.warns(LeftOutWarning, match=r"Left out val/: test/ is held out"):
            assert len(load_images(tmp_path).test) == 2

    def test_a_run_prints_the_notes_and_no_python_warning(self, folder, capsys):
        put(folder / "cat" / "notes.txt", b"x")
        put(folder / "cat" / "bad.png", b"x")
        options = resolve(TrainOptions(data=str(folder), skip_corrupt=True))
        console = Told()
        read_images(options, console, None)
        assert [line[:31] for line in console.said] == [
            "Left out 1 unreadable image: " + str(folder)[:2],
            "Left out 1 file that is not an ",
        ]


class TestWhatIsNoRegularFile:
    """Nothing here may wait for ever; a reader that opened one of these would."""

    def test_fifo_socket_and_links_to_nothing_or_a_device_are_refused_by_name(self, folder):
        os.mkfifo(folder / "cat" / "fifo.png")
        (folder / "cat" / "nowhere.png").symlink_to("gone.png")
        (folder / "cat" / "loop.png").symlink_to("loop.png")
        (folder / "cat" / "zero.png").symlink_to("/dev/zero")
        with socket.socket(socket.AF_UNIX) as server:
            here = os.getcwd()
            os.chdir(folder / "cat")  # the name of a socket is short
            server.bind("socket")
            os.chdir(here)
        with pytest.raises(DamagedData, match="5 unreadable images") as error:
            load_images(folder)
        for said in (
            "fifo.png (a FIFO)",
            "nowhere.png (a link to nothing)",
            "loop.png (a link: Too many levels of symbolic links)",
            "zero.png (a link to a device)",
            "socket (a socket)",
        ):
            assert said in str(error.value)
        with pytest.warns(LeftOutWarning, match="Left out 5 unreadable images"):
            data = load_images(folder, skip_corrupt=True)
        assert len(data.train) + len(data.test) == 20

    def test_links_to_files_and_folders_are_followed(self, folder, tmp_path):
        farm = tmp_path / "farm"
        (farm / "cat").mkdir(parents=True)
        for path in (folder / "cat").iterdir():
            (farm / "cat" / path.name).symlink_to(path)
        (farm / "dog").symlink_to(folder / "Dog")
        picture(tmp_path / "more" / "x.png", (9, 9, 9))
        (farm / "cat" / "more").symlink_to(tmp_path / "more")
        data = load_images(farm)
        assert len(data.train) + len(data.test) == 21

    def test_links_in_a_circle_end_and_are_named(self, folder):
        (folder / "cat" / "deep").mkdir()
        (folder / "cat" / "deep" / "up").symlink_to("..")
        (folder / "cat" / "root").symlink_to(folder)
        (folder / "Dog" / "a").mkdir()
        (folder / "Dog" / "a" / "other").symlink_to("../b")
        (folder / "Dog" / "b").mkdir()
        (folder / "Dog" / "b" / "other").symlink_to("../a")
        with pytest.warns(
            LeftOutWarning, match="Left out 2 links to folders that are read already"
        ) as caught:
            data = load_images(folder)
        assert len(caught) == 2
        assert len(data.train) + len(data.test) == 20

    def test_a_class_that_is_a_link_to_all_of_them_is_refused(self, folder):
        (folder / "loop").symlink_to(".")
        with pytest.raises(InvalidValue, match="loop must hold images"):
            load_images(folder)

    def test_a_class_that_is_a_link_to_nothing_is_refused(self, folder):
        (folder / "eel").symlink_to("gone")
        with pytest.raises(DamagedData, match=r"eel \(a link to nothing\)"):
            load_images(folder)

    def test_a_folder_that_cannot_be_listed_is_refused(self, folder):
        deep = folder / "cat" / ("d" * 250)
        here = os.getcwd()
        deep.mkdir()
        try:
            os.chdir(deep)
            for _ in range(20):  # longer than any path may be
                os.mkdir("d" * 250)
                os.chdir("d" * 250)
        finally:
            os.chdir(here)
        with pytest.raises(
            DamagedData, match=r"1 unreadable image: \.\.\.d+.*\(a folder that cannot be read"
        ):
            load_images(folder)
        with pytest.warns(LeftOutWarning, match="Left out 1 unreadable"):
            assert load_images(folder, skip_corrupt=True).classes == ("cat", "Dog")

    def test_names_of_every_kind(self, tmp_path):
        cat = os.fsdecode(b"caf\xe9")
        for name in (cat, "CAT", "cat"):
            for file in ("x" * 251 + ".png", os.fsdecode(b"\xff\n.png"), "A.png", "a.png"):
                picture(tmp_path / name / file)
        (tmp_path / "cat" / os.fsdecode(b"\xff\x1b.jpg")).write_bytes(b"no image")
        with pytest.raises(DamagedData, match=r"cat/\\udcff\\x1b.jpg \(its bytes") as error:
            load_images(tmp_path)
        assert str(error.value).isprintable()
        with pytest.warns(LeftOutWarning):
            data = load_images(tmp_path, skip_corrupt=True)
        assert set(data.classes) == {cat, "CAT", "cat"}
        assert len(data.train) + len(data.test) == 12
        assert all(Path(file).is_file() for file in data.files)
