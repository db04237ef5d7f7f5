"""Classes of the user's own: held against a kind before they are called, and never taken from a run."""

import json
import sys

import pytest
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

from fallow.errors import InvalidValue
from fallow.options.own_classes import import_class, is_import_path, nearly_import_path

MODULE = """
from __future__ import annotations

import os
import subprocess
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

if TYPE_CHECKING:
    from nowhere import Missing

Popen, system, alias = subprocess.Popen, os.system, nn.Linear
CALLED = Path(__file__).parent / "called"


class Net(nn.Module):
    def __init__(self, width: int = 3, num_classes: int = 1000):
        super().__init__()
        self.width, self.count = width, num_classes


class Plain(nn.Module):
    pass


class Labels(nn.Module):
    def __init__(self, num_labels):
        super().__init__()
        self.count = num_labels


class Module(LightningModule):
    def __init__(self, n_classes=1):
        super().__init__()
        self.count = n_classes


class Data(LightningDataModule):
    pass


class Broken(nn.Module):
    def __init__(self):
        raise RuntimeError("no weights")


class Writes:
    def __init__(self, *args, **kwargs):
        CALLED.touch()

    __call__ = __init__


def annotated(width: Missing = 3) -> Net:
    return Net(width)


def kwargs(*, weights: Any = None, **more: Any) -> Net:
    return Net(**more)


def unannotated(**more):
    CALLED.touch()


def of_any() -> Any:
    CALLED.touch()


def of_missing() -> Missing:
    CALLED.touch()


def lies() -> Net:
    return 7


instance, made = Writes.__new__(Writes), partial(unannotated)
cached = lru_cache(annotated)
bound = Net().forward
text = "subprocess.Popen"
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "own_kinds.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("own_kinds", "runs", "lone")]:
        del sys.modules[name]


REFUSED = [
    "subprocess:Popen", "os:system", "builtins:exec", "builtins:eval", "os:environ", "own_kinds:Popen",
    "own_kinds:system", "own_kinds:Writes", "own_kinds:instance", "own_kinds:made", "own_kinds:cached",
    "own_kinds:bound", "own_kinds:unannotated", "own_kinds:of_any", "own_kinds:of_missing", "own_kinds:text",
    "own_kinds:os", "own_kinds:__builtins__", "own_kinds:__loader__", "own_kinds:__class__", "own_kinds:Data",
    "typing:Any", "torch.hub:load", "importlib:import_module",
]  # fmt: skip


@pytest.mark.parametrize("path", REFUSED)
def test_what_is_no_network_is_refused_without_a_call(place, path):
    with pytest.raises(InvalidValue, match=r"must be of the kind Module\. It was not called\. Found "):
        import_class(path, {"args": ["touch", "called"]}, nn.Module)
    assert not (place / "called").exists()


def test_the_kind_is_that_of_the_place(place):
    wrong = {"Net": LightningModule, "Module": LightningDataModule, "kwargs": LightningModule}
    for path, kind in wrong.items():
        with pytest.raises(InvalidValue, match=f"must be of the kind {kind.__name__}"):
            import_class(f"own_kinds:{path}", {}, kind)
    assert import_class("own_kinds:Data", {}, LightningDataModule)
    assert import_class("own_kinds:Module", {}, LightningModule)
    sizes = {"in_features": 2, "out_features": 3}
    assert isinstance(import_class("own_kinds:alias", sizes, nn.Module), nn.Linear)


def test_a_function_says_what_it_returns_in_its_annotation(place):
    assert import_class("own_kinds:annotated", {"width": 5}, nn.Module).width == 5
    with pytest.raises(InvalidValue, match=r"must return a Module\. Found int"):
        import_class("own_kinds:lies", {}, nn.Module)


@pytest.mark.parametrize(
    ("path", "arguments", "count"),
    [
        ("Net", {}, 5),
        ("Net", {"num_classes": 7}, 7),
        ("Net", {"width": 2}, 5),
        ("Labels", {}, 5),
        ("Module", {}, 5),
        ("kwargs", {}, 5),
        ("kwargs", {"num_classes": 7}, 7),
        ("annotated", {}, 1000),
    ],
)
def test_the_number_of_classes_is_given_to_what_takes_it(place, path, arguments, count):
    assert import_class(f"own_kinds:{path}", arguments, nn.Module, classes=5).count == count


def test_no_number_of_classes_is_made_up(place):
    assert import_class("own_kinds:Net", {}, nn.Module).count == 1000
    assert import_class("own_kinds:Plain", {}, nn.Module, classes=5)


@pytest.mark.parametrize(
    ("path", "arguments", "words"),
    [
        ("own_kinds:None_", {}, "own_kinds must define None_. Found no None_ there"),
        ("own_kinds:Net", {"depth": 1}, "must take the arguments it is given. Found got an unexp"),
        ("own_kinds:Broken", {}, "must be created without an error. Found RuntimeError: no weights"),
        ("own_kindz:Net", {}, "must be importable. Found No module named 'own_kindz'. Run fallow in"),
        ("own_needs:Net", {}, "Found No module named 'not_there'. Install what it imports"),
        ("own_wrong:Net", {}, "must be importable. Found SyntaxError"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(place, path, arguments, words):
    (place / "own_needs.py").write_text("import not_there\n")
    (place / "own_wrong.py").write_text("def (:\n")
    with pytest.raises(InvalidValue) as refused:
        import_class(path, arguments, nn.Module)
    assert words in str(refused.value)


def a_run(folder):
    """Make what is known as a run, with a module in it that tells when it is imported."""
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "000001.json").write_text(json.dumps({}))
    (folder / "lone.py").write_text(f"{MODULE}\n(CALLED.parent / 'imported').touch()\n")
    return folder


@pytest.mark.parametrize("below", [".", "history", "state"])
def test_a_run_that_is_the_working_folder_never_comes_on_the_import_path(place, monkeypatch, below):
    run = a_run(place / "run")
    (run / "history").mkdir()
    (run / below / "lone.py").write_text((run / "lone.py").read_text())
    monkeypatch.chdir(run / below)
    with pytest.raises(InvalidValue, match="Nothing is imported from a run's folder"):
        import_class("lone:Net", {}, nn.Module)
    assert str(run) not in sys.path
    assert not list(run.rglob("imported"))


def test_a_run_that_only_the_command_names_is_one_too(place, monkeypatch):
    """A folder may look like none: of the run that goes on nothing is imported in any case."""
    folder = place / "plain"
    folder.mkdir()
    (folder / "lone.py").write_text(MODULE)
    monkeypatch.chdir(folder)
    with pytest.raises(InvalidValue, match="Nothing is imported from a run's folder"):
        import_class("lone:Net", {}, nn.Module, run=".")
    assert import_class("lone:Net", {}, nn.Module)


@pytest.mark.parametrize("path", ["runs.digits.lone:Net", "runs.digits:Net"])
def test_a_run_is_no_package(place, path):
    """Folders are packages, without a file that says so: a path of names may lead into a run."""
    run = a_run(place / "runs" / "digits")
    tells = "from pathlib import Path\nPath(__file__).with_name('imported').touch()\n"
    (run / "__init__.py").write_text(tells)
    with pytest.raises(
        InvalidValue, match=r"must lie outside run folders\. .*Nothing is imported from a run"
    ):
        import_class(path, {}, nn.Module)
    assert not (run / "imported").exists()


def test_a_link_to_a_module_in_a_run_is_followed(place):
    run = a_run(place / "run")
    (place / "lone.py").symlink_to(run / "lone.py")
    with pytest.raises(InvalidValue, match="must lie outside run folders"):
        import_class("lone:Net", {}, nn.Module)
    assert not (run / "imported").exists()


def test_names_that_are_nearly_import_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("own:Net", "a.b:C", "_a:_b"):
        assert is_import_path(name)
        assert nearly_import_path(name) is None
    for name in ("own:Net.Inner", "a.b:C.d.e"):
        assert not is_import_path(name)
        assert "must be package.module:Class" in str(nearly_import_path(name))
    (tmp_path / "a:b.c").touch()
    for name in ("hf:owner", "hf:a.b", "digits", "C:/data", "a b:c.d", "", ":", "a:", ":b", "a:b.c"):
        assert nearly_import_path(name) is None
        assert not is_import_path(name)
