"""Gaps and picks as a terminal shows them: a card each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from shlex import quote
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..report.gaps import judged, not_judged, of_class, of_errors, standing, too_few
from ..report.text import name as spelled
from ..terminal.rich_console import RichConsole as Console
from .collect import Collected

_BARS = "▁▂▃▄▅▆▇█"
_WIDEST, _LONGEST = 100, 40
"""Columns that a card takes at most, and its trend."""
_COLOURS = {"collect": "green", "relabel": "yellow", "ignore": "dim"}


def print_gaps(told: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what ``find_gaps`` returned; names stay text, whatever they hold."""
    console = console or Console()
    pool = told["reference"]
    whose = "the held-out samples" if pool is None else "the reference"
    against = "held-out samples" if pool is None else f"of {_shown(pool)}"
    sizes = f"{told['training_samples']:,} training samples against {told['reference_samples']:,}"
    console.print(Text(f"{_shown(told['run'])}: {sizes} {against}"))
    _tell_before(told, console)
    if told["gaps"]:
        count = len(told["gaps"])
        are = "region{} of {} {} missing in the training set".format(
            "s"[: count != 1], whose, "is" if count == 1 else "are"
        )
        console.print(f"\n[bold]{count} {are}[/bold]")
        for card in told["gaps"]:
            console.print(_card(card, whose, min(console.width, _WIDEST)))
    elif too_few(told):
        console.print("\n[bold]Too few to tell[/bold] whether anything is missing.")
    else:
        console.print(f"\n[bold]Nothing is missing[/bold] as far as {judged(told, whose)} show.")
    if said := not_judged(told):
        console.print(Text(_shown(said)))
    _tell_thin(told, whose, console)
    _tell_outliers(told, "held-out" if pool is None else "reference", console)
    console.print()
    _tell_command("Pictures:", f"fallow report {quote(told['run'])}", console)
    if any(card["action"] == "collect" for card in told["gaps"]):
        fill = f"fallow collect {quote(told['run'])} --pool {quote(pool or 'POOL')} --count 100"
        _tell_command("To fill it:", fill, console)


def _tell_thin(told: Mapping[str, Any], whose: str, console: Console) -> None:
    if not told["thin"]:
        return
    console.print("\nThin, but not missing (the ones that most need a look first):")
    console.print(_thin(told["thin"], whose))
    if (elsewhere := told["thin"][0]["error_elsewhere"]) is not None:
        theirs = "held-out samples" if whose != "the reference" else "samples of the reference"
        console.print(Text(f"wrong: of the {theirs}; of those elsewhere about {elsewhere:.1%} are wrong."))
    for card in told["thin"]:
        if card["action"] != "ignore":
            console.print(Text(f"{_shown(card['name'])}: {card['action']}. {_shown(card['reason'])}"))


def _tell_outliers(told: Mapping[str, Any], side: str, console: Console) -> None:
    words = {"alone": "lie by themselves", "strange": "are made unlike the training samples"}
    there = [name for name in words if any(told[f"{name}_count"])]
    if there:
        console.print()
    for name in there:
        mine, theirs = told[f"{name}_count"]
        console.print(Text(f"Outliers: {mine:,} training and {theirs:,} {side} samples {words[name]}."))
        for of, shown, count in (("training", "training", mine), ("reference", side, theirs)):
            listed = [one for one in told[name] if one["of"] == of][:6]
            if listed:
                which = ", ".join(map(_called, listed))
                console.print(Text(f"  {shown}: {which}{', ...' if count > len(listed) else ''}"))


def _called(sample: Mapping[str, Any]) -> str:
    """Return a sample's folder and file, or its number if it has no file."""
    file = sample.get("file")
    return str(sample["index"]) if not file else _shown("/".join(PurePath(file).parts[-2:]))


def _tell_command(why: str, command: str, console: Console) -> None:
    """Print a command or a path on a line that is never broken, so that it can be copied."""
    console.print(Text(f"{why} {_shown(command)}"), soft_wrap=True)


def print_picks(found: Collected, run: str, console: Console | None = None) -> None:
    """Print what ``collect`` chose, and what to do next."""
    console = console or Console()
    lost = f"{found.junk:,} made unlike the training samples, "
    lost += f"{found.alike:,} near-duplicate{'s'[: found.alike != 1]} of them"
    seen = f"{found.seen:,} candidate{'s'[: found.seen != 1]}, {found.looked_at:,} of them looked at closely"
    console.print(Text(f"{seen}; left out: {lost}"))
    for count, words in (
        (
            found.held_out,
            "is a sample that the run is measured on, and is left out"
            if found.held_out == 1
            else "are samples that the run is measured on, and are left out",
        ),
        (found.unreadable, "could not be read"),
    ):
        if count:
            console.print(Text(f"{count:,} {words}."))
    table = Table(box=None, pad_edge=False)
    for name in ("picks", "from", "why"):
        table.add_column(name, justify="right" if name == "picks" else "left", overflow="fold")
    reasons = {pick.region or pick.reason.split(":")[0]: pick.reason for pick in reversed(found.picks)}
    for name, count in found.counts.items():
        table.add_row(
            str(count),
            Text(_shown(name)),
            Text(_shown(reasons[name].split("; the network")[0].partition(": ")[2])),
        )
    console.print(table)
    if len(found.picks) < found.budget:
        console.print(Text(f"Only {len(found.picks):,} of {found.budget:,}: no other candidate qualifies."))
    if not found.gaps:
        console.print("No region is missing, by this pool.")
    console.print()
    _tell_command("The list:", str(found.path), console)
    _tell_command("Pictures:", str(found.path.with_suffix(".html")), console)
    blank = sum(not pick.label for pick in found.picks)
    if blank:
        console.print(
            Text(f"Fill in its column label, {blank:,} are empty (junk leaves one out). Then train on:")
        )
    else:
        console.print("All have labels; look them through. Then train on:")
    _tell_command(" ", f"fallow train --resume {quote(str(run))} --add {quote(str(found.path))}", console)


def _card(card: Mapping[str, Any], whose: str, width: int) -> RenderableType:
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(card, whose):
        facts.add_row(name, Text(value))
    colour = _COLOURS[card["action"]]
    action = Text.assemble((card["action"], f"bold {colour}"), f": {_shown(card['reason'])}")
    title = Text(_shown(card["name"]))
    return Panel(Group(facts, action), title=title, title_align="left", border_style=colour, width=width)


def _facts(card: Mapping[str, Any], whose: str) -> list[tuple[str, str]]:
    parts = f"{card['training']:,} of the training set, {card['reference']:,} of {whose}"
    rows = [
        ("size", f"{card['size']:,} thin samples: {parts}"),
        ("how thin", f"{card['percentile']:.0%} of the training set lie denser"),
        ("lacking", f"about {card['lacking']:,.0f} such samples, by {whose}"),
        ("stability", f"{card['stability']:.0%} of it found again in resampled data"),
    ]
    if card["class"] is not None:
        rows.append(("class", _shown(of_class(card))))
    theirs = "held-out" if whose != "the reference" else "reference"
    for kind, words in (("", theirs), ("training_", "training")):
        if error := of_errors(card, kind):
            rows.append((f"{words} error", error))
    rows.append(("like", _named(card["prototypes"])))
    sides = {
        words: [one for one in card["examples"] if one["of"] == side]
        for side, words in (("reference", whose), ("training", "the training set"))
    }
    rows.append(
        ("examples", "; ".join(f"of {words} {_named(part)}" for words, part in sides.items() if part))
    )
    if line := spark(card["trend"]):
        rows.append(("trend", f"{line}  standing of its neighbours' scores, epoch by epoch"))
    return rows


def _named(samples: Iterable[Mapping[str, Any]]) -> str:
    """Return indices with label or, where there is none, what is predicted."""
    named = []
    for one in samples:
        label = one["predicted"] if one["label"] is None else one["label"]
        named.append(f"{one['index']}" + ("" if label is None else f" ({_shown(label)})"))
    return ", ".join(named)


def _shown(text: str) -> str:
    """Return all of a name; what a terminal would obey is spelled."""
    return spelled(text, len(text))


def _thin(cards: list[Mapping[str, Any]], whose: str) -> Table:
    table = Table(box=None, pad_edge=False)
    theirs = "held-out" if whose != "the reference" else "reference"
    for name in ("", "training", theirs, "most frequent class", "wrong", "do"):
        right = name in ("training", theirs, "wrong")
        folds = name in ("", "most frequent class")
        table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=not folds)
    for card in cards:
        error = f"{card['wrong']:,} of {card['judged']:,}" if card["judged"] else "-"
        named = "-" if card["class"] is None else f"{_shown(card['class'])} ({card['class_share']:.0%})"
        action = Text(card["action"], style=_COLOURS[card["action"]])
        counts = (f"{card['training']:,}", f"{card['reference']:,}")
        table.add_row(Text(_shown(card["name"])), *counts, Text(named), error, action)
    return table


def _tell_before(told: Mapping[str, Any], console: Console) -> None:
    before = told.get("before")
    if not before:
        return
    console.print(Text(f"\nFound with {before['training_samples']:,} training samples, and now:"))
    for gap in before["gaps"]:
        was, now = gap["percentile"], gap["now"]
        if was is None or now is None:
            continue
        named = _shown(gap["name"]) + ("" if gap["class"] is None else f" (class {_shown(gap['class'])})")
        stands = f"{was:.0%} of the training set lay denser, now {now:.0%}: {standing(was, now)}"
        console.print(Padding(Text(f"{named}: {stands}"), (0, 0, 0, 2)))


def spark(values: list[float | None]) -> str:
    """Return shares as a line of bars; a dot where there is none.

    >>> spark([None, 0.0, 0.5, 1.0])
    '·▁▅█'
    """
    if not any(value is not None for value in values):
        return ""
    size = min(len(values), _LONGEST)
    shown = [values[round(i * (len(values) - 1) / max(1, size - 1))] for i in range(size)]
    return "".join("·" if v is None else _BARS[min(7, int(8 * v))] for v in shown)
