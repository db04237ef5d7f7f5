"""Hostile words in every place of a run, in a real browser: on the served pages and in the report, none is obeyed."""

import itertools
import json

import pytest

from fallow.report import write_report
from fallow.runs.picks_file import Pick, dump_picks
from fallow.runs.run_files import RunFiles
from serving import serving
from test_report import make_run, put_gaps, told_gaps
from test_serve_pages import Opened, browser  # noqa: F401

HIT = "window.hit=1"
TAGS = [
    f"<script>{HIT}</script>", f"<img src=x onerror={HIT}>", f"<svg onload={HIT}>", f"<svg><script>{HIT}</script></svg>",
    f"<iframe srcdoc='<script>parent.{HIT}</script>'>", f"<iframe src=javascript:parent.{HIT}>", f"<body onload={HIT}>",
    f"<input autofocus onfocus={HIT}>", f"<details open ontoggle={HIT}>", f"<video src=x onerror={HIT}>",
    f"<audio src onerror={HIT}>", f"<object data=javascript:{HIT}>", f"<embed src=javascript:{HIT}>", f"<a href=javascript:{HIT}>x</a>",
    f"<math href=javascript:{HIT}>x</math>", f"<form action=javascript:{HIT}><button autofocus>", f"<marquee onstart={HIT}>",
    f"<style>@import 'data:,*{{}}'</style><img src=x onerror={HIT}>", f"<base href=//evil.example/><img src=x onerror={HIT}>",
    f"<meta http-equiv=refresh content=0;url=javascript:{HIT}>", f"<link rel=stylesheet href=//evil.example onerror={HIT}>",
    f"<template><script>{HIT}</script></template>", f"<svg><animate onbegin={HIT} attributeName=x dur=1s>",
    f"<svg><use href=data:image/svg+xml,<svg/onload={HIT}>>", f"<x tabindex=1 autofocus onfocus={HIT}>",
    f"<noscript><p title='</noscript><img src=x onerror={HIT}>'>", f"<textarea></textarea><img src=x onerror={HIT}>",
    f"<!--><img src=x onerror={HIT}>-->",
]  # fmt: skip
AROUND = [
    "{}", '">{}', "'>{}", "</script>{}", "</style></title></textarea>{}", "]]>{}", "-->{}", "\\u003c{}", "&lt;{}", "${{{}}}",
]  # fmt: skip
PAYLOADS = [around.format(tag) for tag, around in itertools.product(TAGS, AROUND)]
SLOTS = [
    "class", "file", "text", "name of an option", "value of an option", "remark", "name of a run", "name of a gap", "class of a gap",
    "reason of a gap", "label in a gap", "file in a gap", "label of a pick", "region of a pick", "reason of a pick", "file of a pick",
]  # fmt: skip
PART = 40
"""Words in each run: the most cards of gaps that a page shows."""
SCREENS = "overview", "scores", "usage", "browse", "suspects", "gaps", "health", "more"
STRANGE = """() => {
  const parts = 'iframe, object, embed, base, form:not([class]), math, marquee, video, audio, template, animate, x, body body, textarea:not([class])';
  const found = [...document.querySelectorAll(parts)].map((e) => e.outerHTML.slice(0, 200));
  for (const e of document.querySelectorAll('*')) for (const { name, value } of e.attributes)
    if (/^on/i.test(name) || (/href|src|action|data$/.test(name) && /^\\s*javascript:/i.test(value)))
      found.push(`${e.tagName} ${name}=${value.slice(0, 100)}`);
  return found;
}"""
"""Elements and attributes that no page has."""
SCRIPTS = "document.querySelectorAll('script').length"


def test_there_are_enough():
    assert len(set(PAYLOADS)) == len(PAYLOADS) >= 250
    assert len(SLOTS) >= 14
    assert 2 * len(PAYLOADS) * len(SLOTS) >= 7_000


def put(folder, words):
    """Write a run that has each word in each place, and folders of runs that are called so."""
    run = folder / "run"
    make_run(
        run, n=2 * len(words), epochs=3, classes=len(words), names=tuple(words), shown=True, texts=words * 2,
        files=tuple(words * 2), options={"data": words[0], **{word: word for word in words}},
    )  # fmt: skip
    path = run / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"remarks": words, "data_remarks": words}))
    told = told_gaps(("plain", "words"), gaps=len(words), thin=0)
    for card, word in zip(told["gaps"], words, strict=True):
        card |= {"name": word, "class": word, "reason": word}
        for sample in card["prototypes"] + card["examples"]:
            sample |= {"label": word, "predicted": word, "file": word}
    put_gaps(run, told)
    picks = [Pick(i, word, 1.5, word, word, "/pool", word, f"{i:016x}") for i, word in enumerate(words)]
    (run / "picks-000.csv").write_bytes(dump_picks(picks))
    for word in words:
        other = folder / word.replace("/", "\\")
        (other / "history").mkdir(parents=True)
        (other / "config.yaml").write_text("data: toy\n")
    return run


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "first", [0, *(pytest.param(at, marks=pytest.mark.slow) for at in range(PART, len(PAYLOADS), PART))]
)
def test_no_word_of_a_run_is_obeyed(browser, tmp_path, first):  # noqa: F811
    words = PAYLOADS[first : first + PART]
    run = put(tmp_path / "runs", words)
    with serving(tmp_path / "runs", "--write") as server:
        rows = server.told("api/runs")["runs"]
        assert len(rows) == 1 + len(words)
        server.ids = {row["name"]: row["id"] for row in rows}
        with Opened(browser, server, server.writing) as opened:
            page, seen = opened.page, {}
            scripts = page.evaluate(SCRIPTS)
            opened.show("runs")
            seen["runs"] = page.inner_text("main")
            for screen in SCREENS:
                opened.show(screen, "run", **({"order": "index"} if screen == "browse" else {}))
                page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
                opened.settle()
                seen[screen] = page.inner_text("main")
                assert page.evaluate(STRANGE) == []
                assert page.evaluate(SCRIPTS) == scripts
            opened.show("browse", "run", sample=1)
            page.wait_for_selector("dialog .past")
            assert page.evaluate(STRANGE) == []
        for word in words:
            # Each is there to be read, as it is; long ones are cut.
            assert word.replace("/", "\\")[:30] in seen["runs"]
            for screen in ("overview", "browse", "gaps", "health"):
                assert word[:30] in seen[screen], (screen, word)
    made = write_report(RunFiles(run), tmp_path / "report.html")
    context = browser.new_context()
    page = context.new_page()
    wrong = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
    page.goto(made.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    page.wait_for_timeout(200)
    assert page.evaluate(STRANGE.replace("template, ", "")) == []
    assert page.evaluate("window.hit") is None
    assert wrong == []
    said = page.inner_text("body")
    assert all(word[:30] in said for word in words)
    context.close()
