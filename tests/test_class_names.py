"""Names of classes that a person could not tell apart, or see, are said, whatever the data are read from."""

import numpy as np
import pytest
from PIL import Image

from fallow.datasets import load_images
from fallow.datasets.class_names import name_notes

ALIKE = [
    ("caf\u00e9", "cafe\u0301"),
    ("cat", "Cat"),
    ("cat", " cat"),
    ("a b", "a\u00a0b"),
    ("stra\u00dfe", "STRASSE"),
    ("\uff43at", "cat"),
    ("cat", "ca\u200bt"),
    ("1", "01"),
]


@pytest.mark.parametrize("pair", ALIKE)
def test_names_that_look_the_same(pair):
    (note,) = name_notes([*pair, "dog"])
    assert "are 2 classes of nearly the same name" in note
    shown = note.partition(" are ")[0].split(", ")
    assert len(set(shown)) == 2


@pytest.mark.parametrize("names", [("cat", "dog"), ("e", "\u00e9"), ("1", "-1"), ("a1", "a2"), ("1", "10")])
def test_names_that_do_not(names):
    assert not list(name_notes(names))


@pytest.mark.parametrize("blank", ["", " ", "\u200b", "\u3000"])
def test_a_blank_name(blank):
    (note,) = name_notes([blank, "cat"])
    assert "is a class whose name is blank" in note


def test_many_groups_are_counted():
    *said, rest = name_notes([name for i in range(9) for name in (f"name {i}x", f"NAME {i}x")])
    assert len(said) == 3
    assert rest == "So are 6 other groups of classes."


def test_in_an_array(tmp_path):
    words = np.array(["caf\u00e9", "cafe\u0301", "tea", " "] * 4)
    x = np.zeros((16, 8, 8), np.uint8)
    np.savez(tmp_path / "x.npz", x_train=x, y_train=words, x_test=x, y_test=words)
    notes = load_images(tmp_path / "x.npz").notes
    assert any("`caf\u00e9`" in note and "`cafe\\u0301`" in note for note in notes)
    assert any("blank" in note for note in notes)


def test_in_a_folder(tmp_path):
    for name in ("caf\u00e9", "cafe\u0301", "tea"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("L", (8, 8), 9 * number).save(tmp_path / name / f"{number}.png")
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("this disk takes both names for one")
    (note,) = load_images(tmp_path).notes
    assert "are 2 classes of nearly the same name" in note
