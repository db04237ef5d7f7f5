"""Pixels of more than 8 bits in folders of images: they keep their levels, whatever bits a file reserves."""

import numpy as np
import pytest
import torch
from PIL import Image

from fallow.cli.main import main
from fallow.datasets import load_images
from fallow.datasets.image_files import ORIENTATION
from fallow.datasets.images import LeftOutWarning
from fallow.errors import DamagedData
from fallow.runs.data_file import DataFile
from pictures import both, chunk, every, picture, png16, put, ramps, rgb_tiff, tiff


class TestDeepPixels:
    @pytest.mark.parametrize(
        ("top", "kind", "suffix", "white"),
        [
            (65535, np.uint16, "png", 65535),
            (4095, np.uint16, "png", 4095),
            (4095, np.uint16, "tif", 4095),
            (1023, np.uint16, "png", 1023),
            (255, np.uint16, "png", 255),
            (255, np.int32, "tif", 255),
            (65535, np.int32, "tif", 65535),
            (200, np.uint16, "png", 255),
            (3000, np.uint16, "png", 4095),
            (1, np.float32, "tif", 1),
            (0.9, np.float32, "tif", 1),
            (255, np.float32, "tif", 255),
            (4000, np.float32, "tif", 4095),
        ],
    )
    def test_are_scaled_by_the_range_of_the_training_images(self, tmp_path, top, kind, suffix, white):
        values = ramps(tmp_path, top, kind, suffix=suffix)
        data = load_images(tmp_path)
        wanted = np.rint(values.astype(np.float64) * 255 / white)
        assert np.array_equal(data.train.images[0, 0].numpy(), wanted)
        (note,) = data.notes
        assert note.startswith("8 images with ")
        found = "stay as they are" if white == 255 else f"0 to {white:,} becomes 0 to 255"
        assert found in note

    def test_that_fill_little_of_their_bits_keep_their_levels(self, tmp_path):
        ramps(tmp_path, 31_900, low=28_000)
        data = load_images(tmp_path)
        assert len(np.unique(data.train.images)) > 100
        assert "28,000 to 31,900 found in those to train on, so 27,648 to 32,256 becomes" in data.notes[0]

    def test_below_zero(self, tmp_path):
        values = np.linspace(-1000, 3000, 144).astype(np.int16).reshape(12, 12)
        both(tmp_path, tiff(values, sample_format=2))
        data = load_images(tmp_path)
        assert len(np.unique(data.train.images)) > 100
        assert "-1,000 to 3,000 found" in data.notes[0]
        assert data.train.images[0, 0, 0, 0] < data.train.images[0, 0, -1, -1]

    def test_of_32_bits_without_a_sign(self, tmp_path):
        values = np.linspace(0, 2**32 - 1, 144).astype(np.uint32).reshape(12, 12)
        both(tmp_path, tiff(values))
        image = load_images(tmp_path).train.images[0, 0].numpy()
        assert np.array_equal(image, np.rint(values * (255 / (2**32 - 1))))

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize(
        ("kind", "top", "white"),
        [
            ("i4", 2**31 - 1, 2**31 - 1),
            ("i4", 2**30, 2**31 - 1),
            ("i4", 4095, 4095),
            ("i2", 32_767, 32_767),
            ("i2", 20_000, 32_767),
            ("i2", 255, 255),
            ("i1", 127, 127),
            ("i1", 50, 127),
        ],
    )
    def test_of_a_type_with_a_sign_are_white_at_its_largest_value(self, tmp_path, order, kind, top, white):
        values = np.linspace(0, top, 144).astype(order + kind).reshape(12, 12)
        both(tmp_path, tiff(values, sample_format=2, order=order))
        image = load_images(tmp_path).train.images[0, 0].numpy()
        assert np.array_equal(image, np.rint(values.astype(np.float64) * (255 / white)))

    def test_bytes_with_a_sign_are_not_wrapped(self, tmp_path):
        values = np.arange(-72, 72).astype(np.int8).reshape(12, 12)
        both(tmp_path, tiff(values, sample_format=2))
        data = load_images(tmp_path)
        assert (np.diff(data.train.images[0, 0].flatten().int()) >= 0).all()
        assert "-72 to 71 found" in data.notes[0]

    def test_types_with_and_without_a_sign_go_by_the_larger_one(self, tmp_path):
        for name in ("a", "b"):
            for number, kind in enumerate((np.int16, np.uint16)):
                path = tmp_path / "train" / name / f"{number}.tif"
                put(path, tiff(np.full((12, 12), 30_000, kind), sample_format=2 - number))
                put(tmp_path / "test" / name / "0.png", np.full((12, 12), 30_000, np.uint16))
        put(tmp_path / "train" / "a" / "dark.png", np.zeros((12, 12), np.uint16))
        assert load_images(tmp_path).train.ranges.whole.high == 65_535

    def test_where_0_is_white(self, tmp_path):
        values = np.linspace(0, 4095, 144).astype(np.uint16).reshape(12, 12)
        both(tmp_path, tiff(values, photometric=0))
        image = load_images(tmp_path).train.images[0, 0].numpy()
        assert (image[0, 0], image[-1, -1]) == (255, 0)

    @pytest.mark.parametrize("value", [0, 7, 30_000, 65535])
    def test_that_never_change(self, tmp_path, value):
        both(tmp_path, np.full((8, 8), value, np.uint16), suffix="png")
        assert len(np.unique(every(load_images(tmp_path)))) == 1

    def test_images_of_8_bits_beside_them_are_never_stretched(self, tmp_path):
        ramps(tmp_path, 4095)
        for name in ("a", "b"):
            picture(tmp_path / name / "flat.png", 60, mode="L")
        data = load_images(tmp_path)
        flat = [image for image in every(data) if image.min() == image.max()]
        assert [image.max() for image in flat] == [60, 60]
        assert "8 images with" in data.notes[0]
        assert "those of 8 bits stay as they are" in data.notes[0]

    def test_held_out_images_are_scaled_and_clipped_as_the_training_images(self, tmp_path):
        values = ramps(tmp_path / "train", 4095)
        for name in ("a", "b"):
            put(tmp_path / "test" / name / "0.png", (values * 2).astype(np.uint16))
        data = load_images(tmp_path)
        wanted = np.rint(np.clip(values * 2.0, 0, 4095) * 255 / 4095)
        assert np.array_equal(data.test.images[0, 0].numpy(), wanted)
        assert (data.train.images == 255).sum() < (data.test.images == 255).sum()

    def test_one_more_image_leaves_the_others_as_they_were(self, tmp_path):
        ramps(tmp_path / "train", 3000)
        ramps(tmp_path / "test", 3000, count=1)
        before = load_images(tmp_path)
        put(tmp_path / "train" / "b" / "more.png", np.full((12, 12), 4050, np.uint16))
        after = load_images(tmp_path)
        assert torch.equal(before.train.images, after.train.images[:8])
        assert torch.equal(before.test.images, after.test.images)
        assert before.train.ranges == after.train.ranges

    def test_a_range_that_is_kept_is_not_found_anew(self, tmp_path):
        ramps(tmp_path / "train", 1000)
        ramps(tmp_path / "test", 1000, count=1)
        before = load_images(tmp_path)
        put(tmp_path / "train" / "b" / "more.png", np.full((12, 12), 60_000, np.uint16))
        after = load_images(tmp_path, ranges=before.train.ranges)
        assert torch.equal(before.train.images, after.train.images[:8])
        assert (after.train.images[8] == 255).all()
        assert "0 to 1,023 becomes 0 to 255, as before, and values outside are clipped" in after.notes[0]
        assert load_images(tmp_path).train.ranges != before.train.ranges

    def test_a_few_pixels_that_spoil_the_range_are_named(self, tmp_path):
        values = ramps(tmp_path / "train", 3000)
        ramps(tmp_path / "test", 3000)
        assert len(load_images(tmp_path).notes) == 1
        values[3, 3] = 65535
        put(tmp_path / "train" / "a" / "dead.png", values)
        _, note = load_images(tmp_path).notes
        assert note.startswith("99.8% of their pixels lie between 0 and 12 of 0 to 255: a few others make")

    def test_held_out_ones_alone_have_no_range(self, tmp_path):
        for name in ("a", "b"):
            picture(tmp_path / "train" / name / "0.png", 60, mode="L")
            put(tmp_path / "test" / name / "0.png", np.full((12, 12), 900, np.uint16))
        with pytest.raises(DamagedData, match=r"2 unreadable.*0.png \(.*no training image tells"):
            load_images(tmp_path)

    def test_what_is_wrong_with_all_of_them_is_said_and_not_what_follows(self, tmp_path):
        """No image tells a range then, which is not the fault."""
        for name in ("a", "b"):
            for number in range(2):
                put(tmp_path / "floats" / name / f"{number}.tif", np.full((12, 12), np.nan, np.float32))
                path = tmp_path / "short" / name / f"{number}.png"
                values = np.random.default_rng(0).integers(0, 2**16, (64, 64)).astype(np.uint16)
                put(path, png16(values, 0)[:4000])
        with pytest.raises(DamagedData, match=r"4 unreadable.*no finite numbers") as error:
            load_images(tmp_path / "floats")
        assert "white" not in str(error.value)
        with pytest.raises(DamagedData, match=r"4 unreadable.*truncated") as error:
            load_images(tmp_path / "short")
        assert "white" not in str(error.value)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_floats_that_are_no_numbers_are_refused_by_name(self, tmp_path, value):
        ramps(tmp_path, 1, np.float32, suffix="tif")
        bad = put(tmp_path / "a" / "bad.tif", np.full((12, 12), value, np.float32))
        with pytest.raises(DamagedData, match=rf"{bad} \(some of its pixels are no finite"):
            load_images(tmp_path)
        with pytest.warns(LeftOutWarning, match="bad.tif"):
            data = load_images(tmp_path, skip_corrupt=True)
        assert data.skipped == (str(bad),)
        assert len(np.unique(data.train.images)) > 100

    @pytest.mark.parametrize(("colours", "channels"), [(2, 3), (4, 2), (6, 4)])
    def test_colours_and_alpha_of_16_bits_keep_their_levels(self, tmp_path, colours, channels):
        values = np.linspace(0, 4095, 144 * channels).astype(np.uint16).reshape(12, 12, channels)
        if colours > 2:
            values[..., -1] = 65535
        both(tmp_path, png16(values, colours), suffix="png")
        data = load_images(tmp_path)
        seen = values[..., : 3 if channels > 2 else 1] * (255 / 4095)
        wanted = np.broadcast_to(np.rint(seen), (12, 12, 3))
        assert np.array_equal(data.train.images[0].numpy().transpose(1, 2, 0), wanted)

    @pytest.mark.parametrize("compression", [None, "tiff_lzw"])
    def test_colours_of_16_bits_in_tiff(self, tmp_path, compression):
        values = np.linspace(0, 4095, 432).astype("<u2").reshape(12, 12, 3)
        both(tmp_path, rgb_tiff(values, compression))
        image = load_images(tmp_path).train.images[0].numpy().transpose(1, 2, 0)
        assert np.array_equal(image, np.rint(values * (255 / 4095)))

    @pytest.mark.parametrize(("colours", "clear"), [(0, 4000), (2, (4000, 0, 0))])
    def test_the_value_that_stands_for_transparency_is_white(self, tmp_path, colours, clear):
        values = np.full((12, 12) if colours == 0 else (12, 12, 3), 4000, np.uint16)
        if colours == 2:
            values[..., 1:] = 0
        values[6:] = 100
        told = chunk(b"tRNS", np.atleast_1d(np.array(clear, ">u2")).tobytes())
        both(tmp_path, png16(values, colours, before=told), suffix="png")
        images = load_images(tmp_path).train.images
        assert (images[:, :, :6] == 255).all()
        assert (images[:, :, 6:] < 10).all()

    def test_a_turned_one_is_turned_after_it_was_scaled(self, tmp_path):
        values = np.zeros((12, 12), np.uint16)
        values[:6] = 4095
        exif = Image.Exif()
        exif[ORIENTATION] = 3
        for name in ("a", "b"):
            for number in range(2):
                path = tmp_path / name / f"{number}.png"
                path.parent.mkdir(exist_ok=True)
                Image.fromarray(values).save(path, exif=exif)
        images = load_images(tmp_path).train.images
        assert (images[:, :, :6] == 0).all()
        assert (images[:, :, 6:] == 255).all()


@pytest.mark.slow
def test_the_range_stays_when_a_run_goes_on(tmp_path):
    """A brighter image that joins later is clipped: the others stay the samples that they were."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        for number in range(12):
            path = tmp_path / "data" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 4096, (8, 8)).astype(np.uint16)).save(path)
    words = ["train", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--batch_size", "8"]
    assert main([*words, "--epochs", "1"]) == 0
    Image.fromarray(np.full((8, 8), 60_000, np.uint16)).save(tmp_path / "data" / "a" / "new.png")
    before = DataFile.read(tmp_path / "run" / "data.safetensors")
    resumed = ["train", "--resume", str(tmp_path / "run"), "--epochs", "2", "--accept", "epochs,data"]
    assert main(resumed) == 0
    (path,) = (tmp_path / "run").glob("data-*.safetensors")
    now = DataFile.read(path)
    assert before.ranges.tolist()[:2] == now.ranges.tolist()[:2] == [0, 4095]
    assert np.array_equal(now.content[: before.n], before.content)
    assert set(before.held_out.tolist()) <= set(now.held_out.tolist())
    assert now.n + now.held_out.size == before.n + before.held_out.size + 1
