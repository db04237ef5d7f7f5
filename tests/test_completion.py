"""Words completed by a real bash, from the script that ``fallow --print_shtab=bash`` prints."""

import re
import shutil
import subprocess
import sys

import pytest

from fallow.cli.main import main
from fallow.options.train_options import OPTIONS

TAB = """
source "$1"; shift
words=("$@")
COMP_WORDS=("${words[@]}"); COMP_CWORD=$(( ${#words[@]} - 1 ))
function=$(complete -p fallow | sed 's/.* -F \\([^ ]*\\) .*/\\1/')
$function fallow "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    pytest.importorskip("shtab")
    path = tmp_path_factory.mktemp("shell") / "fallow.bash"
    words = [sys.executable, "-m", "fallow", "--print-shtab=bash"]
    path.write_text(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return path


@pytest.fixture
def tab(script, tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "second").mkdir()
    (tmp_path / "data.csv").write_text("text,label\n")

    def completed(*words):
        command = ["bash", "--norc", "-c", TAB, "tab", str(script), "fallow", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        return done.stdout.split()

    return completed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tr"], ["train"]),
        (["c"], ["compare", "collect"]),
        (["train", "--pol"], ["--policy"]),
        (["train", "--policy", "wa"], ["watch"]),
        (["train", "--data", "da"], ["data.csv"]),
        (["train", "--resume", "runs/f"], ["runs/first"]),
        (["report", "runs/s"], ["runs/second"]),
        (["compare", "runs/first", "runs/s"], ["runs/second"]),
        (["export", "--format", "p"], ["parquet"]),
    ],
)
def test_on_tab(tab, words, expected):
    assert tab(*words) == expected


def test_every_option_is_offered(tab):
    assert {f"--{name}" for name in OPTIONS} <= set(tab("train", "--"))


def test_a_shell_that_is_not_known(capsys):
    assert main(["--print_shtab=fish"]) == 2
    assert "Unknown shell. Found 'fish'." in capsys.readouterr().err
    assert main(["--print_shtab"]) == 2
    assert "Known: bash, zsh." in capsys.readouterr().err


def test_help_says_how_to_install_it(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert re.search(r"fallow --print_shtab=bash > \S+/completions/fallow", shown)
    assert "fallow --print_shtab=zsh >" in shown
    for command in ("fallow demo", "fallow list", "fallow compare RUN RUN"):
        assert f"\n  {command} " in shown
