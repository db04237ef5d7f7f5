"""Gaps and picks as a terminal shows them: a card each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..gaps import THIN
from .collecting import Collected

_BARS = "▁▂▃▄▅▆▇█"
_COLOURS = {"collect": "green", "relabel": "yellow", "ignore": "dim"}


def tell_gaps(told: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what ``find_gaps`` returned."""
    console = console or Console(highlight=False)
    against = told["reference"] or "the held-out samples"
    console.print(
        Text(
            f"{told['run']}: {told['training_samples']:,} training samples against "
            f"{told['reference_samples']:,} of {against}"
        )
    )
    _tell_before(told, console)
    if told["gaps"]:
        count = len(told["gaps"])
        console.print(
            f"\n[bold]{count} region{'s'[: count != 1]} of the reference {'is' if count == 1 else 'are'} "
            "missing in the training set[/bold]"
        )
        for card in told["gaps"]:
            console.print(_card(card))
    else:
        console.print("\n[bold]Nothing is missing:[/bold] the training set covers what the reference has.")
    if told["thin"]:
        console.print("\nThin, but covered (the ones that most need a look first):")
        console.print(_thin(told["thin"]))
        for card in told["thin"]:
            if card["action"] != "ignore":
                console.print(Text(f"{card['name']}: {card['action']}. {card['reason']}"))
    for name, words in (("alone", "lie by themselves"), ("strange", "are made unlike the training samples")):
        mine, theirs = told[f"{name}_count"]
        if mine or theirs:
            listed = [one for one in told[name] if one["of"] == "training"][:6]
            which = ", ".join(str(one["index"]) for one in listed)
            more = f" (training samples {which}{', ...' if mine > len(listed) else ''})" if listed else ""
            console.print(
                Text(f"Outliers: {mine:,} training and {theirs:,} reference samples {words}{more}.")
            )
    pool = told["reference"] or "POOL"
    console.print(Text(f"\nPictures: fallow report {told['run']}"))
    if told["gaps"]:
        console.print(Text(f"To fill it: fallow collect {told['run']} --pool {pool} --count 100"))


def tell_picks(found: Collected, run: str, console: Console | None = None) -> None:
    """Print what ``collect`` chose, and what to do next."""
    console = console or Console(highlight=False)
    lost = f"{found.junk:,} made unlike the training samples, {found.alike:,} near-duplicates of them"
    console.print(
        Text(f"{found.seen:,} candidates, {found.looked_at:,} of them looked at closely; left out: {lost}")
    )
    table = Table(box=None, pad_edge=False)
    for name in ("picks", "from", "why"):
        table.add_column(name, justify="right" if name == "picks" else "left", overflow="fold")
    reasons = {pick.region or pick.reason.split(":")[0]: pick.reason for pick in reversed(found.picks)}
    for name, count in found.counts.items():
        table.add_row(str(count), name, Text(reasons[name].split("; the network")[0].partition(": ")[2]))
    console.print(table)
    if len(found.picks) < found.budget:
        console.print(Text(f"Only {len(found.picks):,} of {found.budget:,}: no other candidate qualifies."))
    if not found.gaps:
        console.print("No region is missing, by this pool: these are the thinnest candidates.")
    console.print(Text(f"\nThe list: {found.path}"))
    blank = sum(not pick.label for pick in found.picks)
    if blank:
        console.print(
            Text(f"Fill in its column label, {blank:,} are empty (junk leaves one out). Then train on:")
        )
    else:
        console.print("All have labels; look them through. Then train on:")
    console.print(Text(f"  fallow train --resume {run} --add {found.path}"))


def _card(card: Mapping[str, Any]) -> RenderableType:
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(card):
        facts.add_row(name, Text(value))
    colour = _COLOURS[card["action"]]
    action = Text.assemble((card["action"], f"bold {colour}"), f": {card['reason']}")
    return Panel(Group(facts, action), title=card["name"], title_align="left", border_style=colour)


def _facts(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    whose = f"{card['training']:,} of the training set, {card['reference']:,} of the reference"
    rows = [
        ("size", f"{card['size']:,} thin samples: {whose}"),
        ("how thin", f"{card['percentile']:.0%} of the training set lie denser"),
        ("lacking", f"about {card['lacking']:.0f} such samples, by the reference"),
        ("stability", f"{card['stability']:.0%} of it found again in resampled data"),
    ]
    if card["class"] is not None:
        how = "mostly predicted as" if card["class_is_predicted"] else "mostly class"
        rows.append(("class", f"{how} {card['class']} ({card['class_share']:.0%})"))
    if card["error"] is not None:
        rows.append(("error", f"{card['error']:.1%} here, {card['error_overall'] or 0:.1%} of all"))
    rows.append(("like", ", ".join(_named(one) for one in card["prototypes"])))
    rows.append(("examples", ", ".join(_named(one) for one in card["examples"])))
    if line := spark(card["trend"]):
        rows.append(("trend", f"{line}  standing of its neighbours' scores, epoch by epoch"))
    return rows


def _named(one: Mapping[str, Any]) -> str:
    label = one["label"] or one["predicted"]
    where = "" if one["of"] == "training" else "reference "
    return f"{where}{one['index']}" + (f" ({label})" if label is not None else "")


def _thin(cards: list[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("", "training", "reference", "mostly class", "error", "do"):
        right = name in ("training", "reference", "error")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for card in cards:
        error = "-" if card["error"] is None else f"{card['error']:.0%}"
        named = "-" if card["class"] is None else f"{card['class']} ({card['class_share']:.0%})"
        action = Text(card["action"], style=_COLOURS[card["action"]])
        counts = (f"{card['training']:,}", f"{card['reference']:,}")
        table.add_row(card["name"], *counts, Text(named), error, action)
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
        word = "filled" if now <= THIN else "filling" if now < was else "as thin as before"
        named = gap["name"] + ("" if gap["class"] is None else f" (class {gap['class']})")
        console.print(Text(f"  {named}: {was:.0%} of the training set lay denser, now {now:.0%}: {word}"))


def spark(values: list[float | None]) -> str:
    """Return shares as a line of bars; a dot where there is none.

    >>> spark([None, 0.0, 0.5, 1.0])
    '·▁▅█'
    """
    if not any(value is not None for value in values):
        return ""
    step = max(1, -(-len(values) // 40))
    return "".join("·" if v is None else _BARS[min(7, int(8 * v))] for v in values[::step])
