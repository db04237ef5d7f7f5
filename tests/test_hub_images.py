"""Images of Hugging Face's datasets, from a folder that it has saved: what is read, split and refused."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from fallow.cli.main import main
from fallow.datasets import load_images, load_text_table
from fallow.errors import DamagedData, InvalidValue
from saved_sets import saved_by_hand

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def png(image):
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return {"bytes": data.getvalue(), "path": None}


@pytest.fixture(scope="module")
def digits():
    found = load_digits()
    return (found.images * 255 / 16).astype(np.uint8)[:300], found.target[:300]


@pytest.fixture
def save(datasets, digits, tmp_path):
    """Return what saves images and columns beside them in a folder, and gives its name."""

    def write(rows=slice(None), kind=None, parts=None, **columns):
        images, labels = digits[0][rows], digits[1][rows]
        columns = columns or {"label": labels.tolist()}
        features = {"picture": datasets.Image()}
        for name, values in columns.items():
            features[name] = kind or datasets.Value("string" if isinstance(values[0], str) else "int64")
        rows = {"picture": [png(image) for image in images], **columns}
        found = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
        if parts is not None:
            found = datasets.DatasetDict({name: found.select(range(*ends)) for name, ends in parts.items()})
        found.save_to_disk(tmp_path / "saved")
        return f"hf:{tmp_path / 'saved'}"

    return write


def test_parts_and_names_of_classes(datasets, digits, save):
    name = save(kind=datasets.ClassLabel(names=NAMES), parts={"train": (0, 250), "validation": (250, 300)})
    data = load_images(name)
    assert (data.name, data.classes, data.test_share) == ("saved", tuple(NAMES), None)
    for part, rows in ((data.train, slice(0, 250)), (data.test, slice(250, 300))):
        assert np.array_equal(part.images.numpy()[:, 0], digits[0][rows])
        assert np.array_equal(part.labels.numpy(), digits[1][rows])


def test_a_share_of_each_class_is_held_out(digits, save):
    data = load_images(save(), test_share=0.3)
    assert data.classes == tuple("0123456789")
    assert data.test_share == 0.3
    shares = np.bincount(data.test.labels) / np.bincount(digits[1])
    assert (np.abs(shares - 0.3) < 0.03).all()
    assert len(data.train) + len(data.test) == 300
    both = np.concatenate([data.train.images.numpy(), data.test.images.numpy()])[:, 0]
    assert sorted(map(bytes, both)) == sorted(map(bytes, digits[0]))


def test_words_are_classes_and_sizes_are_made_equal(digits, save):
    name = save(labels=[NAMES[label] for label in digits[1]], source=["a"] * 300)
    calls = []
    data = load_images(name, image_size=12, progress=lambda *call: calls.append(call))
    assert data.classes == tuple(sorted(NAMES))
    assert data.train.images.shape[1:] == (1, 12, 12)
    assert calls[-1] == (300, 300)


def test_images_that_cannot_be_decoded(datasets, digits, save, tmp_path):
    rows = {"image": [png(image) for image in digits[0]], "label": digits[1].tolist()}
    rows["image"][7] = {"bytes": b"no image", "path": None}
    rows["image"][9] = {"bytes": None, "path": "/etc/passwd"}
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.Value("int64")})
    found = datasets.Dataset.from_dict(rows, features=features)
    saved_by_hand(tmp_path / "saved", rows, datasets.Features({**features, "image": datasets.Image()}))
    assert len(found) == 300
    name = f"hf:{tmp_path / 'saved'}"
    with pytest.raises(DamagedData, match=r"2 that cannot be decoded, first row 7 .*--skip_corrupt"):
        load_images(name)
    data = load_images(name, skip_corrupt=True)
    assert len(data.train) + len(data.test) == 298
    assert "Left out of" in data.notes[-1]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"species": 0}, r"must have one column of classes\. Found picture \(Image\), species \(Value"),
        ({"label": None}, r"must have a class\. Found none in row 0"),
        ({"label": 3}, "2 classes or more|two classes or more"),
    ],
)
def test_no_classes(save, columns, found):
    with pytest.raises(InvalidValue, match=found):
        load_images(save(**{name: [value] * 300 for name, value in columns.items()}))


def test_two_columns_with_names_want_one_called_label(datasets, digits, save):
    kind = datasets.ClassLabel(names=NAMES)
    with pytest.raises(
        InvalidValue, match=r"fine \(ClassLabel\), coarse \(ClassLabel\)\. Save it with one that"
    ):
        load_images(save(kind=kind, fine=digits[1].tolist(), coarse=digits[1].tolist()))
    name = save(kind=kind, label=digits[1].tolist(), coarse=digits[1][::-1].tolist())
    assert len(load_images(name).classes) == 10


def test_no_part_to_train_on(save):
    with pytest.raises(InvalidValue, match=r"must hold a part named train\. Found dev, test\."):
        load_images(save(parts={"test": (0, 10), "dev": (10, 20)}))


def test_texts_of_images_name_the_task(save):
    with pytest.raises(
        InvalidValue, match=r"a column text of texts\. Found images in picture\. Add --task image"
    ):
        load_text_table(save(), "text", ["label"])


def test_a_run_and_its_resumption(datasets, save, tmp_path):
    name, run = save(kind=datasets.ClassLabel(names=NAMES)), tmp_path / "run"
    words = ["train", "--task", "image", "--data", name, "--accelerator", "cpu"]
    assert main([*words, "--epochs", "1", "--out", str(run)]) == 0
    assert main(["train", "--resume", str(run), "--epochs", "2", "--accept", "epochs"]) == 0
    assert len(json.loads((run / "summary.json").read_text())["epochs"]) == 2
