"""Gaps and picks as a terminal shows them: a card each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from shlex import quote

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..report.gaps import judged, not_judged, of_class, of_errors, standing, too_few
from ..report.text import name as spelled
from ..report.text import share
from ..runs.schema import GapCard, Gaps, GapSample, GapsBefore
from ..terminal.rich_console import RichConsole as Console
from .collect import Collected

_BARS = "▁▂▃▄▅▆▇█"
_WIDEST, _LONGEST = 100, 40
"""Columns that a card takes at most, and its trend."""
_NO_LIMIT = 1 << 20
"""Characters of a name: all of it is shown."""
_COLOURS = {"collect": "green", "relabel": "yellow", "ignore": "dim"}


def print_gaps(found: Gaps, console: Console | None = None) -> None:
    """Print what ``find_gaps`` found; names stay text, whatever they hold."""
    console = console or Console()
    pool = found.reference
    whose = "the held-out samples" if pool is None else "the reference"
    against = "held-out samples" if pool is None else f"of {_shown(pool)}"
    sizes = f"{found.training_samples:,} training samples against {found.reference_samples:,}"
    console.print(Text(f"{_shown(found.run)}: {sizes} {against}"))
    _tell_before(found.before, console)
    if found.gaps:
        count = len(found.gaps)
        are = "region{} of {} {} missing in the training set".format(
            "s"[: count != 1], whose, "is" if count == 1 else "are"
        )
        console.print(f"\n[bold]{count} {are}[/bold]")
        for card in found.gaps:
            console.print(_card(card, whose, min(console.width, _WIDEST)))
    elif too_few(found):
        console.print("\n[bold]Too few to tell[/bold] whether anything is missing.")
    else:
        console.print(f"\n[bold]Nothing is missing[/bold] as far as {judged(found, whose)} show.")
    if said := not_judged(found):
        console.print(Text(_shown(said)))
    _tell_thin(found.thin, whose, console)
    _tell_outliers(found, "held-out" if pool is None else "reference", console)
    console.print()
    _tell_command("Pictures:", f"fallow report {quote(found.run)}", console)
    if any(card.action == "collect" for card in found.gaps):
        fill = f"fallow collect {quote(found.run)} --pool {quote(pool or 'POOL')} --count 100"
        _tell_command("To fill it:", fill, console)


def _tell_thin(cards: list[GapCard], whose: str, console: Console) -> None:
    if not cards:
        return
    console.print("\nThin, but not missing (the ones that most need a look first):")
    console.print(_thin(cards, whose))
    if (elsewhere := cards[0].error_elsewhere) is not None:
        theirs = "held-out samples" if whose != "the reference" else "samples of the reference"
        console.print(Text(f"wrong: of the {theirs}; of those elsewhere about {elsewhere:.1%} are wrong."))
    for card in cards:
        if card.action != "ignore":
            console.print(Text(f"{_shown(card.name)}: {card.action}. {_shown(card.reason)}"))


def _tell_outliers(found: Gaps, side: str, console: Console) -> None:
    kinds = (
        (found.alone, found.alone_count, "lie by themselves"),
        (found.strange, found.strange_count, "are made unlike the training samples"),
    )
    there = [kind for kind in kinds if any(kind[1])]
    if there:
        console.print()
    for samples, (mine, theirs), words in there:
        console.print(Text(f"Outliers: {mine:,} training and {theirs:,} {side} samples {words}."))
        for of, shown, count in (("training", "training", mine), ("reference", side, theirs)):
            listed = [one for one in samples if one.of == of][:6]
            if listed:
                which = ", ".join(map(_called, listed))
                console.print(Text(f"  {shown}: {which}{', ...' if count > len(listed) else ''}"))


def _called(sample: GapSample) -> str:
    """Return a sample's folder and file, or its number if it has no file."""
    file = sample.file
    return str(sample.index) if not file else _shown("/".join(PurePath(file).parts[-2:]))


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


def _card(card: GapCard, whose: str, width: int) -> RenderableType:
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(card, whose):
        facts.add_row(name, Text(value))
    action = card.action or "ignore"
    colour = _COLOURS[action]
    advice = Text.assemble((action, f"bold {colour}"), f": {_shown(card.reason)}")
    title = Text(_shown(card.name))
    return Panel(Group(facts, advice), title=title, title_align="left", border_style=colour, width=width)


def _facts(card: GapCard, whose: str) -> list[tuple[str, str]]:
    parts = f"{card.training:,} of the training set, {card.reference:,} of {whose}"
    theirs = "held-out" if whose != "the reference" else "reference"
    rows = [
        ("size", f"{card.size:,} thin samples: {parts}"),
        ("how thin", f"{share(card.percentile, 0)} of the training set lie denser"),
        ("lacking", f"about {card.lacking or 0:,.0f} such samples, by {whose}"),
        ("stability", f"{share(card.stability, 0)} of it found again in resampled data"),
        ("class", of_class(card, _NO_LIMIT)),
        (f"{theirs} error", of_errors(card, training=False)),
        ("training error", of_errors(card, training=True)),
    ]
    rows = [(name, value) for name, value in rows if value]
    rows.append(("like", _named(card.prototypes)))
    sides = {
        words: [one for one in card.examples if one.of == side]
        for side, words in (("reference", whose), ("training", "the training set"))
    }
    rows.append(
        ("examples", "; ".join(f"of {words} {_named(part)}" for words, part in sides.items() if part))
    )
    if line := spark(card.trend):
        rows.append(("trend", f"{line}  standing of its neighbours' scores, epoch by epoch"))
    return rows


def _named(samples: Iterable[GapSample]) -> str:
    """Return indices with label or, where there is none, what is predicted."""
    named = []
    for one in samples:
        label = one.predicted if one.label is None else one.label
        named.append(f"{one.index}" + ("" if label is None else f" ({_shown(label)})"))
    return ", ".join(named)


def _shown(text: str) -> str:
    """Return all of a name; what a terminal would obey is spelled."""
    return spelled(text, len(text))


def _thin(cards: list[GapCard], whose: str) -> Table:
    table = Table(box=None, pad_edge=False)
    theirs = "held-out" if whose != "the reference" else "reference"
    for name in ("", "training", theirs, "most frequent class", "wrong", "do"):
        right = name in ("training", theirs, "wrong")
        folds = name in ("", "most frequent class")
        table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=not folds)
    for card in cards:
        error = f"{card.wrong:,} of {card.judged:,}" if card.judged else "-"
        named = (
            "-" if card.class_name is None else f"{_shown(card.class_name)} ({share(card.class_share, 0)})"
        )
        action = card.action or "ignore"
        counts = (f"{card.training:,}", f"{card.reference:,}")
        table.add_row(
            Text(_shown(card.name)), *counts, Text(named), error, Text(action, style=_COLOURS[action])
        )
    return table


def _tell_before(before: GapsBefore | None, console: Console) -> None:
    if before is None:
        return
    console.print(Text(f"\nFound with {before.training_samples:,} training samples, and now:"))
    for gap in before.gaps:
        was, now = gap.percentile, gap.now
        if was is None or now is None:
            continue
        named = _shown(gap.name) + ("" if gap.class_name is None else f" (class {_shown(gap.class_name)})")
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
