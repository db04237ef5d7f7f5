"""Gaps and picks in a terminal: at any width nothing is lost, and names are neither markup nor commands."""

import io
import re
from shlex import quote

import pytest
from rich.console import Console

from fallow.collecting.collect import Collected
from fallow.collecting.terminal import print_gaps, print_picks, spark
from fallow.report.gaps import not_judged
from fallow.runs.gaps_file import gaps_of
from fallow.runs.picks_file import Pick
from fallow.runs.schema import Gaps
from test_report import HOSTILE, told_gaps


def printed_gaps(found, width=120):
    return printed(print_gaps, gaps_of(found), width=width)


def printed(tell, *given, width=120):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    tell(*given, console)
    lines = console.file.getvalue().splitlines()
    long = [line for line in lines if len(line.rstrip()) > width]
    copied = "To fill it: ", "Pictures: ", "The list: ", "  fallow train "
    assert all(line.startswith(copied) for line in long)  # to be copied as one line
    return lines


def flat(lines):
    """Return the words of all lines, without the frames and wherever they were broken."""
    return "".join("".join(lines).translate(dict.fromkeys(map(ord, "│╭╮╰╯─"))).split())


def told():
    found = told_gaps(("plain",))
    long = "a/very long folder/" * 6 + "pool.npz"
    return found | {"run": "runs/first", "reference": long}


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_nothing_is_lost_at_any_width(width):
    found = told()
    lines = printed_gaps(found, width)
    said = flat(lines)
    for part in (
        f"runs/first: 30 training samples against 2,000 of {found['reference']}",
        "2 regions of the reference are missing in the training set",
        "1,114 thin samples: 3 of the training set, 1,111 of the reference",
        "98% of the training set lie denser", "about 1,108 such samples", "99% of it found again",
        "mostly plain (75%)",
        "reference error 1 of 4 here (25%), 1.1% elsewhere", "training error 1 of 3 here",
        "0 (plain), 1 (plain), 2 (plain)",
        "of the reference 0 (plain), 1 (plain)", "7 (plain), 8 (plain)", "·▅▃", "collect: plain",
        "gap 1 (class plain): 98% of the training set lay denser, now 50%: filled", "now 95%: filling",
        "now 99%: thinner than before", "Outliers: 1 training and 4 reference samples lie by themselves",
    ):  # fmt: skip
        assert part.replace(" ", "") in said, part
    assert f"To fill it: fallow collect runs/first --pool {quote(found['reference'])} --count 100" in lines
    assert max(len(line) for line in lines if line.startswith("╭")) <= 100
    thin = [line.split() for line in lines if line.startswith("thin ")]
    assert thin == [
        ["thin", str(n), "3", "1,111", "plain", "(75%)", "1", "of", "4", "ignore"] for n in (1, 2, 3)
    ]


def test_held_out_samples_are_called_so():
    found = told_gaps(gaps=0, thin=1) | {"reference": None, "before": None, "strange_count": [2, 1]}
    unlabelled = {"error": None, "judged": 0, "error_elsewhere": None, "class": None}
    found["thin"][0] |= {"action": "relabel", "reason": "Look at them.", **unlabelled}
    lines = printed_gaps(found)
    assert lines[0].endswith("30 training samples against 2,000 held-out samples")
    assert "Nothing is missing as far as the held-out samples show." in lines
    assert "thin 1: relabel. Look at them." in lines
    assert "Outliers: 2 training and 1 held-out samples are made unlike the training samples." in lines
    assert not any("To fill it" in line for line in lines)
    one = printed_gaps(told_gaps(gaps=1, thin=0) | {"reference": None, "alone_count": [0, 0]})
    assert "1 region of the held-out samples is missing in the training set" in one
    assert any("--pool POOL" in line for line in one)
    assert not any(line.startswith(("thin", "Outliers")) for line in one)


MARKUP = (
    "[bold red]x[/bold red]",
    "[link=file:///x]y[/link]",
    ":smile:",
    "[/]",
    "\x1b[31mred\x1b[0m\x07",
    "a\nb",
)


@pytest.mark.parametrize("width", [60, 120])
@pytest.mark.parametrize("words", [MARKUP, tuple(word[:300] for word in HOSTILE)], ids=["markup", "hostile"])
def test_names_are_text(words, width):
    lines = printed_gaps(told_gaps(words), width)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\u200f\udcff]", "".join(lines))
    said = flat(lines)
    shown = [word.encode("unicode_escape").decode() if "\x1b" in word else word for word in words]
    shown = [re.sub(r"\\x(..)", r"\\u00\1", word) for word in shown]
    assert all(flat([word]) in said for word in shown if "\u2028" not in word)


@pytest.mark.parametrize("width", [60, 120])
def test_picks_lose_nothing_and_are_text(tmp_path, width):
    picks = [
        Pick(n, "", 1.0, name, f"missing: {name} is thin; the network says 3", "pool.npz", "", "0" * 16)
        for n, name in enumerate(MARKUP[:3])
    ]
    picks.append(Pick(9, "7", 0.5, "", "random: drawn from all", "pool.npz", "", "0" * 16))
    path = tmp_path / "a long folder" / "[bold]picks[/bold].csv"
    found = Collected(picks, path, seen=1_234, looked_at=567, junk=1, alike=2, gaps=0, budget=5)
    lines = printed(print_picks, found, "[i]run[/i]", width=width)
    said = flat(lines)
    assert all(f"1{name}{name}isthin".replace(" ", "") in said for name in MARKUP[:3])
    assert "1randomdrawnfromall" in said
    for part in ("1,234 candidates, 567 of them looked at closely", "2 near-duplicates", "Only 4 of 5",
                 "No region is missing, by this pool", "3 are empty"):  # fmt: skip
        assert part.replace(" ", "") in said, part
    assert f"The list: {path}" in lines
    assert f"  fallow train --resume '[i]run[/i]' --add {quote(str(path))}" in lines


def test_a_long_trend_keeps_its_ends():
    assert spark([None, None]) == spark([]) == ""
    line = spark([1.0] + [0.5] * 98 + [0.0])
    assert len(line) == 40
    assert (line[0], line[20], line[-1]) == ("█", "▅", "▁")


@pytest.mark.parametrize(
    ("count", "said"), [(0, ""), (1, "1 file could not be read."), (2, "2 files could not be read.")]
)
def test_files_that_could_not_be_read_are_counted(count, said):
    assert not_judged(Gaps([], [], reference_unreadable=count)) == said


def test_nothing_is_called_covered_that_was_not_judged():
    found = {
        **told_gaps(),
        "gaps": [],
        "reference_looked_at": 100,
        "reference_judged": 0,
        "reference_unreadable": 2,
    }
    said = flat(printed_gaps(found, 100))
    assert "Toofewtotell" in said
    assert "Nothingismissing" not in said
    assert "100of100samplesaremadeunlikethetrainingsamples" in said
    assert "2filescouldnotberead" in said
