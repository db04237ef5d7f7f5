"""What the command line prints holds nothing that a terminal obeys, whatever names hold."""

import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import fallow
from fallow.cli.main import main
from fallow.comparison.console import Console as ComparisonConsole
from fallow.comparison.console import make_table
from fallow.errors import invalid
from fallow.spelling import one_line
from fallow.tasks.console import Console
from fallow.terminal.rich_console import RichConsole
from fallow.terminal.streams import complain, say, say_json, say_progress, spelled_streams, spelled_warnings

NASTY = "a\x1b[2J\x1b]0;t\x07\x9b31m\x7f\u202eb\u2028c\rFORGED: all is well\nFORGED: all is well"
OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\u200e\u200f\ud800-\udfff]"
)


def is_tame(text):
    """Return whether a text holds nothing that a terminal obeys, and no line that a name has forged."""
    return not OBEYED.search(text) and not any(line.startswith("FORGED") for line in text.splitlines())


class TestPrinting:
    def test_a_line(self, capsys):
        say(NASTY)
        say()
        found = capsys.readouterr().out
        assert is_tame(found)
        assert found.count("\n") == 2
        assert "\\u000aFORGED" in found

    def test_an_error_of_several_lines(self, capsys):
        complain(f"first\n{NASTY}\tx")
        found = capsys.readouterr().err
        assert is_tame(found)
        assert all(line.startswith("    ") for line in found.splitlines()[1:])

    def test_json_is_what_it_was(self, capsys):
        value = {"name": NASTY, "half": "\ud800", "\x7f": ["\x7f"]}
        say_json(json.dumps(value))
        found = capsys.readouterr().out
        assert found.isascii()
        assert is_tame(found)
        assert json.loads(found) == value

    def test_how_far_work_is(self, capsys):
        say_progress(NASTY, last=False)
        say_progress("done", last=True)
        first, second, end = capsys.readouterr().err.replace("\r", "\n").split("\n")[1:]
        assert is_tame(first)
        assert (second, end) == ("done", "")

    def test_a_warning(self):
        before = warnings.formatwarning
        with spelled_warnings():
            assert is_tame(warnings.formatwarning(UserWarning(NASTY), UserWarning, "x.py", 1))
        assert warnings.formatwarning is before

    def test_what_others_print(self, capsys):
        with spelled_streams():
            print(NASTY.replace("\n", " "))
            print(NASTY.replace("\n", " "), file=sys.stderr)
            assert not sys.stdout.isatty()
        found = capsys.readouterr()
        assert is_tame(found.out)
        assert is_tame(found.err)

    def test_an_error_is_on_one_line_however_it_is_shown(self):
        text = str(invalid(f"{NASTY} must be.", NASTY, NASTY))
        assert is_tame(text)
        assert "\n" not in text


@pytest.mark.parametrize("terminal", [False, True])
class TestConsoles:
    def rich(self, terminal):
        return RichConsole(file=io.StringIO(), width=80, force_terminal=terminal, no_color=True)

    def plain(self, rich):
        """Return what was printed, without the controls that are rich's own."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", rich.file.getvalue())

    def test_of_a_training(self, terminal):
        rich = self.rich(terminal)
        console = Console(rich)
        console.line(NASTY)
        console.line("[red]:cat:[/red] [link=x]")
        console.table([(NASTY, NASTY), ("[bold]", ":cat:")])
        with console.reading(NASTY) as progress:
            if progress is not None:
                progress(1, 2)
        found = self.plain(rich)
        assert is_tame(found)
        assert "[red]:cat:[/red] [link=x]" in found
        assert "[bold]" in found

    def test_of_a_comparison(self, terminal):
        rich = self.rich(terminal)
        console = ComparisonConsole(rich)
        console.line(NASTY)
        empty = {"mean": 0.5, "sd": None}
        row = {"arm": NASTY, "against": {}, "saved_fraction": 0, "cpu_seconds": 1, "n": 1, "accuracy": empty}
        row |= {"diverged": 0, "worst_class_accuracy": 0.5, "test_loss": 0.5, "bits_per_character": empty}
        results = {"arms": [row], "settings": {}, "measure": "accuracy"}
        rich.print(make_table(results, 80))
        assert is_tame(self.plain(rich))


def run(*words):
    done = subprocess.run(
        [sys.executable, "-m", "fallow", *words], capture_output=True, text=True, errors="surrogateescape"
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--data", NASTY),
        ("train", "--data", "digits", f"--{NASTY}"),
        ("train", "--data", "digits", "--epochs", NASTY),
        ("train", "--config", NASTY),
        (NASTY,),
        ("verify", NASTY),
        ("inspect", "x", NASTY),
        ("compare", "--data", "digits", "--arms", f"[{NASTY!r}]"),
        ("train", "--data", NASTY, "--print_config"),
    ],
    ids=lambda words: " ".join(words)[:24].encode("unicode_escape").decode(),
)
def test_words_of_the_command_line(words, capfd):
    try:
        code = main(list(words))
    except SystemExit as stop:
        code = stop.code
    found = capfd.readouterr()
    assert is_tame(found.out.replace("\r", "\n"))
    assert is_tame(found.err.replace("\r", "\n"))
    assert code in ((0,) if "--print_config" in words else (2, 3))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a table whose name and classes are nasty."""
    folder = tmp_path_factory.mktemp("nasty")
    path = folder / (NASTY.replace("/", "") + ".csv")
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = [(f"word{i % 2} {i}", [NASTY, "plain"][i % 2]) for i in range(40)]
        csv.writer(file).writerows([("text", "label"), *rows])
    words = ["train", "--data", str(path), "--epochs", "2", "--accelerator", "cpu", "--vocabulary", "300"]
    code, out, err = run(*words, "--out", str(folder / "run"))
    assert code == 0, err
    return folder / "run", out, err


def test_a_training(trained):
    run, out, err = trained
    assert is_tame(out)
    assert is_tame(err)
    with (run / "samples.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == {one_line(NASTY), "plain"}


@pytest.mark.parametrize(
    "words",
    [
        *(("verify",), ("verify", "--json"), ("inspect", "0"), ("inspect", "1", "--json"), ("report",)),
        *(("export", "--format", "csv"), ("export", "--format", "json", "--json")),
    ],
)
def test_reading_it(trained, words, capfd):
    folder, *_ = trained
    assert main([words[0], str(folder), *words[1:]]) == 0
    found = capfd.readouterr()
    assert is_tame(found.out)
    assert is_tame(found.err)
    if "--json" in words:
        json.loads(found.out)


class TestStreams:
    """A standard output that is closed, or cannot be written."""

    RUN = Path(__file__).parent / "runs" / "finished"

    def shell(self, words, cwd):
        command = f"{shlex.quote(sys.executable)} -m fallow {words}"
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=cwd)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    def test_reading(self, tmp_path):
        run = shlex.quote(str(self.RUN))
        assert self.shell(f"verify {run} >&-", tmp_path) == (0, "")
        assert self.shell(f"verify {run} 2>&-", tmp_path)[0] == 0
        code, said = self.shell(f"inspect {run} 3 >/dev/full", tmp_path)
        assert (code, said) == (
            1,
            "fallow: error: Standard output cannot be written: No space left on device.\n",
        )

    @pytest.mark.slow
    def test_a_training_goes_on(self, tmp_path):
        train = "train --data digits --samples 60 --epochs 1 --out"
        assert self.shell(f"{train} a >&-", tmp_path) == (0, "")
        code, said = self.shell(f"{train} b >/dev/full", tmp_path)
        assert (code, said.count("continuing without it")) == (0, 1)
        for name in ("a", "b"):
            assert (tmp_path / name / "SHA256SUMS").exists()


@pytest.mark.parametrize("value", ["q", "-1", "1.5", "9" * 400])
def test_a_rank_that_is_none(value, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", value)
    assert main(["train", "--data", "digits", "--samples", "60", "--out", str(tmp_path / "run")]) == 2
    assert "LOCAL_RANK must be a rank" in capsys.readouterr().err


def test_a_rank_without_the_others(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert main(["train", "--data", "digits", "--samples", "60", "--out", str(tmp_path / "run")]) == 2
    assert "must train with others. Found RANK=1 and one process." in capsys.readouterr().err


def test_warnings_of_fallow_have_no_line_of_source():
    with spelled_warnings():
        shown = [
            warnings.formatwarning(text, UserWarning, place, 7, "")
            for text, place in (("a disk is full", fallow.__file__), ("elsewhere", "/lib/other.py"))
        ]
    assert shown[0] == "fallow: warning: a disk is full\n"
    assert shown[1].startswith("/lib/other.py:7: UserWarning: elsewhere")


BROKEN = """
import sys
from fallow.cli.main import main
sys.exit(main(["train", "--data", "digits", "--model", "timm:resnet18", "--samples", "60", "--out", "run"]))
"""


def test_a_package_that_was_built_for_another_torch_is_named(tmp_path):
    """As timm is beside a torchvision whose compiled operators do not load."""
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "__init__.py").write_text("raise RuntimeError('operator nms does not exist')")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", BROKEN],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "needs a torchvision that was built for torch" in done.stderr
    assert "Install it: pip install --force-reinstall torchvision" in done.stderr
    assert not (tmp_path / "run").exists()
