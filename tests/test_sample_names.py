"""What a sample is called, and which one a name means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.errors import InvalidValue
from fallow.runs.sample_names import find, relative

FILES = (
    "/p/ash/1.png",
    "/p/ash/2.png",
    "/p/birch/1.png",
    "/p/birch/deep/ash/2.png",
    "d.csv:7",
    "x.parquet, row 5",
)


@pytest.mark.parametrize(
    ("name", "sample"),
    [("/p/ash/1.png", 0), ("ash/1.png", 0), ("ash/2.png", 1), ("birch/1.png", 2), ("deep/ash/2.png", 3),
     ("d.csv:7", 4), ("x.parquet, row 5", 5)],
)  # fmt: skip
def test_a_name_means_one_sample(name, sample):
    assert find(FILES, name, "/p") == sample
    assert find(FILES, name, "/p/") == sample


def test_a_name_with_controls_is_meant_as_it_is_spelled_too():
    files = ("/p/a/\x1b[31m.png", "/p/a/2.png")
    assert find(files, r"a/\u001b[31m.png", "/p") == find(files, r"/p/a/\u001b[31m.png", "/p") == 0


def test_a_path_from_the_working_folder_is_one_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find((str(tmp_path / "a" / "1.png"),), "a/../a/1.png", "elsewhere") == 0


def test_a_name_of_several_lists_them():
    with pytest.raises(
        InvalidValue, match=r"2 called 1\.png\. Give the index.*0 \(ash/1\.png\), 2 \(birch/1\.png\)"
    ):
        find(FILES, "1.png", "/p")
    many = tuple(f"/p/{place}/a.png" for place in range(30))
    with pytest.raises(InvalidValue, match=r"30 called a\.png.*7 \(7/a\.png\), and 22 more\.$"):
        find(many, "a.png", "/p")


def test_a_name_of_none_gets_the_nearest():
    with pytest.raises(InvalidValue, match=r"Found ash/l\.png\. Did you mean ash/2\.png or ash/1\.png"):
        find(FILES, "ash/l.png", "/p")
    with pytest.raises(InvalidValue, match=r"Did you mean d\.csv:7\?"):
        find(FILES, "d.csv:77", "/p")
    with pytest.raises(InvalidValue, match=r"samples\.csv lists index"):
        find(FILES, "zzzzzzzzzzz", "/p")
    many = tuple(f"/p/{place:06}.png" for place in range(50_000))
    with pytest.raises(InvalidValue, match=r"Did you mean 0\d+\.png"):
        find(many, "000123.pn", "/p")


names = st.text("ab/.", min_size=1, max_size=6)


@given(st.lists(names, min_size=1, max_size=8, unique=True), st.data())
def test_the_relative_name_of_a_file_finds_it(paths, data):
    files = [f"/p/{path}" for path in paths]
    place = data.draw(st.integers(0, len(files) - 1))
    assert relative(files[place], "/p") == paths[place]
    assert find(files, files[place], "/p") == place
