"""The report of prompts: what the chart counts, and what the page says."""

import re

import numpy as np
import pytest

from fallow import InvalidValue, Prompts
from fallow.cli.main import main
from fallow.cli.reading_commands import PROMPTS
from fallow.prompts import folder
from fallow.prompts.log import GroupLog
from fallow.report.charts.prompts import COLUMNS, ROWS, arrange, counts, outcome, write_prompts_chart
from fallow.report.prompts import render_prompts
from test_prompts import BATCH, GROUP, KEYS, N, walk


@pytest.fixture
def prompts():
    prompts = Prompts(KEYS, GROUP, seed=5)
    walk(prompts, 50)
    return prompts


def log_of(groups):
    log = GroupLog()
    row, step, attempts, right = np.array(groups).T
    log.add(row=row, step=step, attempts=attempts, right=right, tokens=0)
    return log


def test_outcomes_and_order():
    log = log_of([(3, 0, 8, 8), (1, 0, 8, 0), (0, 1, 8, 3), (2, 1, 0, 0)])
    assert outcome(log).tolist() == [1, 2, 0, -1]
    assert arrange(log, 5).tolist() == [3, 0, 1, 2, 4]


@pytest.mark.parametrize(("n", "steps"), [(7, 3), (500, 40), (1000, 1000)])
def test_each_group_is_counted_in_its_cell(n, steps):
    generator = np.random.default_rng(0)
    groups = [
        (row, step, 4, generator.integers(0, 5))
        for step in range(steps)
        for row in generator.choice(n, 5, replace=False)
    ]
    log = log_of(groups)
    cells, edges, blocks = counts(log, n, steps)
    assert cells.shape == (3, min(ROWS, n), min(COLUMNS, steps))
    place = {int(prompt): at for at, prompt in enumerate(arrange(log, n))}
    expected = np.zeros_like(cells)
    for (row, step, *_), kind in zip(groups, outcome(log), strict=True):
        (block,) = [at for at in range(len(edges) - 1) if edges[at] <= place[row] < edges[at + 1]]
        (column,) = [at for at in range(len(blocks) - 1) if blocks[at] <= step < blocks[at + 1]]
        expected[kind, block, column] += 1
    assert (cells == expected).all()


def test_the_page_says_what_the_summary_counts(prompts):
    page, summary = render_prompts(prompts, "<b>arithmetic"), prompts.summary()
    assert f"{summary.groups:,} groups of {N} prompts in 50 steps" in page
    assert summary.rollouts_saved > 0
    share = summary.rollouts_saved / (summary.rollouts_saved + summary.rollouts)
    assert f"<strong>{100 * share:.1f}%</strong>" in page
    assert f"{100 * summary.mixed / summary.groups:.1f}% were mixed" in page
    assert f"<strong>{summary.hopeless}</strong>" in page
    assert "&lt;b&gt;arithmetic" in page
    assert "<b>arithmetic" not in page
    rows = re.findall(r"<tr><th scope=\"row\">(\d+)</th>", page)
    assert [int(row) for row in rows] == [each.epoch + 1 for each in prompts.history]
    assert render_prompts(prompts, "<b>arithmetic") == page
    assert "http" not in page.replace("http-equiv", "")


def test_what_was_forgotten_is_told(prompts):
    row = int(prompts.rows(["task-59"])[0])
    for won in (1, 0, 1, 0):
        prompts.record([row], np.full((1, GROUP), won))
    lost = prompts.summary().lost
    assert lost >= 1
    assert f"{lost} are forgotten now" in render_prompts(prompts, "x")


def test_the_command_knows_a_folder_of_prompts(prompts, tmp_path, capsys):
    assert PROMPTS == folder.KEYS
    prompts.save(tmp_path / "p")
    assert main(["report", str(tmp_path / "p")]) == 0
    assert "report.html" in capsys.readouterr().out
    assert "p</bdi></h1>" in (tmp_path / "p" / "report.html").read_text()
    prompts.save(tmp_path / "p")  # the report beside does no harm
    (tmp_path / "p" / "state.safetensors").write_bytes(b"x")
    assert main(["report", str(tmp_path / "p")]) == 3
    assert "state.safetensors" in capsys.readouterr().err


def test_nothing_measured_has_no_report():
    with pytest.raises(InvalidValue, match="at least one group"):
        render_prompts(Prompts(KEYS, GROUP), "x")


def test_the_chart_is_written_whole(prompts, tmp_path):
    paths = write_prompts_chart(prompts.log, N, prompts.step, tmp_path)
    assert [path.name for path in paths] == ["prompts.png", "prompts.svg"]
    again = [path.read_bytes() for path in paths]
    write_prompts_chart(prompts.log, N, prompts.step, tmp_path)
    assert [path.read_bytes() for path in paths] == again
    assert BATCH * prompts.step == len(prompts.log)
