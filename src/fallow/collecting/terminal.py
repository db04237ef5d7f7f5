"""Print gaps and picks on a terminal."""

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
"""The largest width of a card and of its trend, in columns."""
_NO_LIMIT = 1 << 20
"""Characters of a name; more than any has."""
_COLOURS = {"collect": "green", "relabel": "yellow", "ignore": "dim"}


def print_gaps(gaps: Gaps, console: Console | None = None) -> None:
    """Print the result of ``find_gaps``; names are never read as markup."""
    console = console or Console()
    pool = gaps.reference
    whose = "the held-out samples" if pool is None else "the reference"
    against = "held-out samples" if pool is None else f"of {_shown(pool)}"
    sizes = f"{gaps.training_samples:,} training samples against {gaps.reference_samples:,}"
    console.print(Text(f"{_shown(gaps.run)}: {sizes} {against}"))
    _print_before(gaps.before, console)
    if gaps.gaps:
        count = len(gaps.gaps)
        regions = f"{count} region of {whose} is" if count == 1 else f"{count} regions of {whose} are"
        console.print(f"\n[bold]{regions} missing in the training set[/bold]")
        for card in gaps.gaps:
            console.print(_card(card, whose, min(console.width, _WIDEST)))
    elif too_few(gaps):
        console.print("\n[bold]Too few to tell[/bold] whether anything is missing.")
    else:
        console.print(f"\n[bold]Nothing is missing[/bold] as far as {judged(gaps, whose)} show.")
    if remark := not_judged(gaps):
        console.print(Text(_shown(remark)))
    _print_thin(gaps.thin, whose, console)
    _print_outliers(gaps, "held-out" if pool is None else "reference", console)
    console.print()
    _print_command("Pictures:", f"fallow report {quote(gaps.run)}", console)
    if any(card.action == "collect" for card in gaps.gaps):
        fill = f"fallow collect {quote(gaps.run)} --pool {quote(pool or 'POOL')} --count 100"
        _print_command("To fill it:", fill, console)


def _print_thin(cards: list[GapCard], whose: str, console: Console) -> None:
    if not cards:
        return
    console.print("\nThin, but not missing (the ones that most need a look first):")
    console.print(_thin(cards, whose))
    if (elsewhere := cards[0].error_elsewhere) is not None:
        samples = "held-out samples" if whose != "the reference" else "samples of the reference"
        console.print(Text(f"wrong: of the {samples}; of those elsewhere about {elsewhere:.1%} are wrong."))
    for card in cards:
        if card.action != "ignore":
            console.print(Text(f"{_shown(card.name)}: {card.action}. {_shown(card.reason)}"))


def _print_outliers(gaps: Gaps, side: str, console: Console) -> None:
    kinds = (
        (gaps.alone, gaps.alone_count, "lie by themselves"),
        (gaps.strange, gaps.strange_count, "are made unlike the training samples"),
    )
    outliers = [kind for kind in kinds if any(kind[1])]
    if outliers:
        console.print()
    for samples, (training, reference), description in outliers:
        console.print(
            Text(f"Outliers: {training:,} training and {reference:,} {side} samples {description}.")
        )
        for of, shown, count in (("training", "training", training), ("reference", side, reference)):
            listed = [sample for sample in samples if sample.of == of][:6]
            if listed:
                names = ", ".join(map(_short_name, listed))
                console.print(Text(f"  {shown}: {names}{', ...' if count > len(listed) else ''}"))


def _short_name(sample: GapSample) -> str:
    """Return a sample's folder and file, or its number if it has no file."""
    file = sample.file
    return str(sample.index) if not file else _shown("/".join(PurePath(file).parts[-2:]))


def _print_command(title: str, command: str, console: Console) -> None:
    """Print a command or a path without line breaks, so that it can be copied."""
    console.print(Text(f"{title} {_shown(command)}"), soft_wrap=True)


def print_picks(collected: Collected, run: str, console: Console | None = None) -> None:
    """Print the picks of ``collect``, and the next commands."""
    console = console or Console()
    seen, alike, held_out = collected.seen, collected.alike, collected.held_out
    left_out = f"{collected.junk:,} made unlike the training samples, "
    left_out += f"{alike:,} near-duplicate{'s'[: alike != 1]} of them"
    candidates = f"{seen:,} candidate{'s'[: seen != 1]}, {collected.looked_at:,} of them looked at closely"
    console.print(Text(f"{candidates}; left out: {left_out}"))
    if held_out == 1:
        console.print(Text("1 is a sample that the run is measured on, and is left out."))
    elif held_out:
        console.print(Text(f"{held_out:,} are samples that the run is measured on, and are left out."))
    if collected.unreadable:
        console.print(Text(f"{collected.unreadable:,} could not be read."))
    table = Table(box=None, pad_edge=False)
    for name in ("picks", "from", "why"):
        table.add_column(name, justify="right" if name == "picks" else "left", overflow="fold")
    # Reversed, so that the first pick of each kind gives the reason.
    reasons = {pick.region or pick.reason.split(":")[0]: pick.reason for pick in reversed(collected.picks)}
    for name, count in collected.counts.items():
        reason = reasons[name].split("; the network")[0].partition(": ")[2]
        table.add_row(str(count), Text(_shown(name)), Text(_shown(reason)))
    console.print(table)
    picks, budget = len(collected.picks), collected.budget
    if picks < budget:
        console.print(Text(f"Only {picks:,} of {budget:,}: no other candidate qualifies."))
    if not collected.gaps:
        console.print("No region is missing, by this pool.")
    console.print()
    _print_command("The list:", str(collected.path), console)
    _print_command("Pictures:", str(collected.path.with_suffix(".html")), console)
    if blank := sum(not pick.label for pick in collected.picks):
        fill_in = f"Fill in its column label, {blank:,} are empty (junk leaves one out). Then train on:"
        console.print(Text(fill_in))
    else:
        console.print("All have labels; look them through. Then train on:")
    add = f"fallow train --resume {quote(str(run))} --add {quote(str(collected.path))}"
    _print_command(" ", add, console)


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
    side = "held-out" if whose != "the reference" else "reference"
    rows = [
        ("size", f"{card.size:,} thin samples: {parts}"),
        ("how thin", f"{share(card.percentile, 0)} of the training set lie denser"),
        ("lacking", f"about {card.lacking or 0:,.0f} such samples, by {whose}"),
        ("stability", f"{share(card.stability, 0)} of it found again in resampled data"),
        ("class", of_class(card, _NO_LIMIT)),
        (f"{side} error", of_errors(card, training=False)),
        ("training error", of_errors(card, training=True)),
    ]
    rows = [(name, value) for name, value in rows if value]
    rows.append(("like", _named(card.prototypes)))
    examples = []
    for of, owner in (("reference", whose), ("training", "the training set")):
        if part := [sample for sample in card.examples if sample.of == of]:
            examples.append(f"of {owner} {_named(part)}")
    rows.append(("examples", "; ".join(examples)))
    if line := spark(card.trend):
        rows.append(("trend", f"{line}  standing of its neighbours' scores, epoch by epoch"))
    return rows


def _named(samples: Iterable[GapSample]) -> str:
    """Return indices with labels, or with the predicted classes of samples without a label."""
    named = []
    for sample in samples:
        label = sample.predicted if sample.label is None else sample.label
        named.append(f"{sample.index}" + ("" if label is None else f" ({_shown(label)})"))
    return ", ".join(named)


def _shown(text: str) -> str:
    """Return a name with its control characters escaped, since a terminal would obey them."""
    return spelled(text, len(text))


def _thin(cards: list[GapCard], whose: str) -> Table:
    table = Table(box=None, pad_edge=False)
    side = "held-out" if whose != "the reference" else "reference"
    for name in ("", "training", side, "most frequent class", "wrong", "do"):
        right = name in ("training", side, "wrong")
        folds = name in ("", "most frequent class")
        table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=not folds)
    for card in cards:
        error = f"{card.wrong:,} of {card.judged:,}" if card.judged else "-"
        named = "-"
        if card.class_name is not None:
            named = f"{_shown(card.class_name)} ({share(card.class_share, 0)})"
        action = card.action or "ignore"
        cells = (f"{card.training:,}", f"{card.reference:,}", Text(named), error)
        table.add_row(Text(_shown(card.name)), *cells, Text(action, style=_COLOURS[action]))
    return table


def _print_before(before: GapsBefore | None, console: Console) -> None:
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
    """Return shares as a line of bars, and a dot for None.

    >>> spark([None, 0.0, 0.5, 1.0])
    '·▁▅█'
    """
    if not any(value is not None for value in values):
        return ""
    size = min(len(values), _LONGEST)
    shown = [values[round(i * (len(values) - 1) / max(1, size - 1))] for i in range(size)]
    return "".join("·" if v is None else _BARS[min(7, int(8 * v))] for v in shown)
