"""What lies in a folder: files, what is refused, and links that are followed or not."""

import os

import pytest

from fallow.datasets.walking import walk


@pytest.fixture
def tree(tmp_path):
    for name in ("a/1", "a/b/2", "c/3", ".git/4", "c/.5", "c/Thumbs.db", "__MACOSX/6"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def names(paths, root):
    return sorted(str(path.relative_to(root)) for path in paths)


def test_files_at_any_depth_without_litter(tree):
    found = walk(tree, follow=False)
    assert names(found.files, tree) == ["a/1", "a/b/2", "c/3"]
    assert found.litter == {"hidden": 2, "Thumbs.db": 1, "__MACOSX": 1}
    assert (found.links, found.refused) == ([], {})


def test_links_are_followed_if_that_is_asked_for_and_a_real_path_wins(tree):
    (tree / "a" / "a link to c").symlink_to(tree / "c")
    (tree / "a" / "file").symlink_to(tree / "c" / "3")
    found = walk(tree, follow=False)
    assert names(found.links, tree) == ["a/a link to c", "a/file"]
    assert names(found.files, tree) == ["a/1", "a/b/2", "c/3"]
    found = walk(tree, follow=True)
    assert names(found.files, tree) == ["a/1", "a/b/2", "a/file", "c/3"]
    assert names(found.links, tree) == ["a/a link to c"]
    assert names(walk(tree / "a", follow=True).files, tree) == ["a/1", "a/a link to c/3", "a/b/2", "a/file"]


def test_links_that_cross_do_not_multiply(tmp_path):
    for number in range(40):  # two ways at every step: a million millions in all
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "file").write_bytes(b"")
        for link in ("x", "y"):
            (tmp_path / str(number) / link).symlink_to(tmp_path / str(number + 1))
    found = walk(tmp_path / "0", follow=True)
    assert len(found.files) == 40


def test_a_folder_above_is_not_entered(tree):
    (tree / "a" / "up").symlink_to(tree)
    found = walk(tree / "a", follow=True, above=[tree])
    assert names(found.files, tree) == ["a/1", "a/b/2"]
    assert names(found.links, tree) == ["a/up"]


@pytest.mark.parametrize("follow", [False, True])
def test_what_is_no_file_is_refused(tree, follow):
    os.mkfifo(tree / "fifo")
    assert walk(tree, follow=follow).refused == {tree / "fifo": "a FIFO"}


def test_a_folder_that_is_gone_is_refused(tmp_path):
    (refused,) = walk(tmp_path / "gone", follow=True).refused.values()
    assert refused == "a folder that cannot be read: No such file or directory"
