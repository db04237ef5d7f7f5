"""The report of the prompts of a post-training: what was saved, and which prompt was used when."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import Any

from ..errors import invalid
from ..files.disk import DISK
from ..prompts import Prompts, PromptSummary
from . import text
from .charts.prompts import DPI, prompts_chart
from .charts.style import plain_style
from .page import inline_hash, own, template

EPOCHS = 60
"""The most epochs in the table."""
_STYLE = (
    ".chart { overflow-x: auto; } "
    ".chart img { width: 100%; min-width: 40rem; background: #fff; border-radius: 4px; }"
)


def write_prompts_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of what :meth:`fallow.Prompts.save` wrote; the same prompts give the same page.

    Args:
        folder: of the prompts.
        out: the file; ``FOLDER/report.html`` by default.

    Returns:
        The path of the file.

    Raises:
        DamagedData: if a file of the folder is missing or damaged.
        InvalidValue: if nothing was measured yet.
        ModuleNotFoundError: if jinja2 or matplotlib is missing.
        OSError: if the file cannot be written.
    """
    page = render_prompts(Prompts.load(folder), folder.resolve().name)
    path = folder / "report.html" if out is None else out
    DISK.put(path, page.encode())
    return path


def render_prompts(prompts: Prompts, title: str) -> str:
    """Return the page of prompts as text."""
    summary = prompts.summary()
    if not summary.groups:
        raise invalid("A report of prompts needs at least one group.", "none", "Call prompts.record() first.")
    style = own("report.css") + _STYLE
    shown = prompts.history[-EPOCHS:]
    hidden = len(prompts.history) - len(shown)
    rows = [
        [each.epoch + 1, each.first_step, each.kept, each.solved, each.hopeless, each.returned]
        for each in shown
    ]
    return str(
        template("prompts.html.j2").render(
            title=text.name(title),
            lead=_lead(summary),
            figures=_figures(summary),
            usage=(
                "Each row stands for prompts, each column for steps. Only mixed groups have a gradient; "
                "rollouts of the others were spent to find out."
            ),
            chart=_picture(prompts, summary),
            alt=_lead(summary),
            revisit=text.share(prompts.rule.revisit),
            epochs=[[text.count(value) for value in row] for row in rows],
            omitted=f"{text.plural(hidden, 'earlier epoch')} not shown." if hidden else "",
            lapses=_lapses(summary),
            style=style,
            style_hash=inline_hash(style),
        )
    )


def _lead(summary: PromptSummary) -> str:
    return (
        f"{text.plural(summary.groups, 'group')} of {text.plural(summary.prompts, 'prompt')} in "
        f"{text.plural(summary.steps, 'step')}: {text.share(summary.mixed / summary.groups)} were mixed, "
        f"{text.share(summary.whole_right / summary.groups)} all right, "
        f"{text.share(summary.whole_wrong / summary.groups)} all wrong."
    )


def _figures(summary: PromptSummary) -> list[tuple[str, str, str]]:
    """Return name, value and explanation of the main figures."""
    uniform = summary.rollouts + summary.rollouts_saved
    spared = max(0.0, summary.rollouts_saved / uniform) if uniform else 0.0
    figures = [
        (
            "rollouts saved",
            text.share(spared),
            f"an estimate: uniform draws would have spent {text.count(uniform)} on as many mixed groups, "
            f"not {text.count(summary.rollouts)}",
        ),
        (
            "mixed groups",
            text.share(summary.mixed / summary.groups),
            f"{text.count(summary.mixed)} of {text.count(summary.groups)}",
        ),
        ("solved", text.count(summary.solved), "left out of the present epoch"),
        ("hopeless", text.count(summary.hopeless), "left out of the present epoch"),
    ]
    if summary.tokens:
        words = f"at the mean length; {text.count(summary.tokens)} were generated"
        figures.insert(1, ("tokens saved", f"{text.count(max(0, summary.tokens_saved))}", words))
    return figures


def _lapses(summary: PromptSummary) -> str:
    if not summary.forgotten:
        return "No solved prompt was found right less than half of the time later."
    times = "once" if summary.forgotten == 1 else f"{text.count(summary.forgotten)} times"
    return (
        f"A solved prompt was forgotten {times}: a later group was right less than half of the time. "
        f"{text.count(summary.relearned)} were relearned, {text.count(summary.lost)} are forgotten now."
    )


def _picture(prompts: Prompts, summary: PromptSummary) -> str:
    """Return the chart as a data URI."""
    figure: Any = prompts_chart(prompts.log, summary.prompts, summary.steps, " ")
    drawn = BytesIO()
    with plain_style("A chart"):
        figure.savefig(drawn, format="png", dpi=DPI, metadata={"Software": None})
    return "data:image/png;base64," + b64encode(drawn.getvalue()).decode()
