"""The report in a real browser, without a network: it runs, reflows, takes keys, and shows the exact bits."""

import os
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fallow.policies.base import Reason
from fallow.report import write_report
from fallow.report.charts.usage_rows import DARKER, PALEST
from fallow.report.usage import UNUSED, USED
from fallow.runs.run_files import RunFiles
from test_report import HOSTILE, Page, became, make_run, put_gaps, told_gaps

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
if not os.environ.get("FALLOW_REQUIRE_ALL"):
    pytest.importorskip("playwright")
    if not Path(CHROMIUM).exists():
        pytest.skip("chromium is missing", allow_module_level=True)
WIDTHS = 1280, 768, 390, 320

CONTRAST = """() => {
  const parse = (c) => { const n = c.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const bent = (v) => v / 255 <= 0.03928 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * bent(r) + 0.7152 * bent(g) + 0.0722 * bent(b);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c[3]) return c;
    }
    return [255, 255, 255];
  };
  const worst = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest('[disabled], .patterns, noscript, script')) continue;
    const s = getComputedStyle(e), c = parse(e instanceof SVGElement ? s.fill : s.color);
    const [a, b] = [light(c), light(behind(e))].sort((x, y) => y - x);
    worst.push([(a + 0.05) / (b + 0.05), e.tagName, e.textContent.slice(0, 30)]);
  }
  return worst.sort((x, y) => x[0] - y[0])[0];
}"""
NAMES = """() => {
  const named = 'button, a, img, summary, [role=img], [role=region], [role=application], dialog';
  return [...document.querySelectorAll(named)].filter((e) => e.checkVisibility()).filter((e) => {
    const by = document.getElementById(e.getAttribute('aria-labelledby'));
    return !(e.getAttribute('aria-label') || e.alt || e.textContent.trim() || by);
  }).map((e) => e.outerHTML.slice(0, 80));
}"""
SMALL = """() => [...document.querySelectorAll('button, summary, nav a')].filter((e) => e.checkVisibility())
  .filter((e) => e.getBoundingClientRect().height < 43.9).map((e) => e.outerHTML.slice(0, 80))"""
LEVELS = """() => [...document.querySelectorAll('h1, h2, h3, h4')]
  .filter((e) => e.checkVisibility()).map((e) => +e.tagName[1])"""
CLIPPED = """() => [...document.querySelectorAll('#gaps .gap, #gaps .gap > div, #gaps li, #gaps dd')]
  .filter((e) => e.checkVisibility()).filter((e) => {
    const box = e.getBoundingClientRect(), around = e.parentElement.getBoundingClientRect();
    return box.width && (box.right > around.right + 1 || box.left < around.left - 1);
  }).map((e) => e.outerHTML.slice(0, 80))"""
"""What of the gaps reaches out of what is around it, to either side."""
SIZE = "['clientWidth', 'clientHeight'].map((side) => document.getElementById('canvas')[side])"
OPEN_ALL = "document.querySelectorAll('details').forEach((e) => { e.open = true; })"
INK = """(spots) => { const c = document.getElementById('canvas'), r = c.width / c.clientWidth;
  const all = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  const at = ([x, y]) => 4 * (Math.floor(y * r) * c.width + Math.floor(x * r));
  const blue = (spot) => [...all.slice(at(spot), at(spot) + 3)].join() === '0,114,178';
  return spots.map((row) => row.map(blue)); }"""

ALPHA = """(spots) => { const c = document.getElementById('canvas'), r = c.width / c.clientWidth;
  const all = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  const alpha = ([x, y]) => all[4 * (Math.floor(y * r) * c.width + Math.floor(x * r)) + 3];
  return spots.map((row) => row.map(alpha)); }"""


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Make three runs: with pictures, with hostile texts, and large enough for blocks."""
    folder = tmp_path_factory.mktemp("runs")
    names = tuple(word.encode("utf-8", "backslashreplace").decode() for word in HOSTILE)
    plain = ("Trouser", "Coat", "Ankle boot")
    made = {
        "pictures": make_run(folder / "pictures", n=64, epochs=12, shown=True, names=plain),
        "hostile": make_run(
            folder / "hostile", n=120, epochs=4, classes=len(HOSTILE), names=names, shown=True, texts=HOSTILE,
            files=tuple(HOSTILE[i % len(HOSTILE)].replace("\0", "") for i in range(120)),
            options={"data": names[0], "low": names[1], names[2]: names[3]},
        ),
        "blocks": make_run(folder / "blocks", n=30_000, epochs=5, classes=5),
        "rows": make_run(folder / "rows", n=2_000, epochs=5, classes=5),
    }  # fmt: skip
    names = (
        "x" * 250 + "1.png",
        "W" * 250,
        "cats/2.png",
        "\u0642\u0637/\u0635\u0648\u0631 7.png",
        "d.csv:7",
        "",
    )
    files = tuple(f"/data/{names[i % 6]}" if names[i % 6] else "" for i in range(64))
    make_run(folder / "files", n=64, epochs=3, shown=True, files=files, options={"data": "/data"})
    write_report(RunFiles(folder / "files"))
    put_gaps(folder / "pictures", told_gaps(plain))
    put_gaps(folder / "hostile", told_gaps(tuple(HOSTILE)), pictures=False)
    for name in made:
        write_report(RunFiles(folder / name))
    return folder, made


class Opened:
    """A report in a page, and everything that went wrong there."""

    def __init__(self, browser, path, width=1280, scheme="light", touch=False):
        self.wrong, self.requests = [], []
        self.context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, has_touch=touch,
            is_mobile=touch, reduced_motion="reduce",
        )  # fmt: skip
        self.page = page = self.context.new_page()
        page.add_init_script(
            "addEventListener('securitypolicyviolation', (e) => console.error('CSP', e.violatedDirective));"
            "for (const name of ['alert', 'confirm', 'prompt']) window[name] = () => { window.hit = 1; };"
        )
        page.on("console", lambda message: self.wrong.append(message.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto((path / "report.html").as_uri())
        page.wait_for_selector("html[data-ready]", timeout=10_000)

    def __enter__(self):
        return self.page

    def __exit__(self, *error):
        if error[0] is None:
            assert self.wrong == []
            assert [url for url in self.requests if not url.startswith("data:")] == [self.page.url]
            assert self.page.evaluate("window.hit") is None
        self.context.close()


@pytest.mark.parametrize(
    ("name", "width"),
    [
        *(
            pytest.param("pictures", width, marks=pytest.mark.slow if width in (768, 320) else [])
            for width in WIDTHS
        ),
        pytest.param("hostile", 1280, marks=pytest.mark.slow),
        ("hostile", 320),
    ],
)
def test_every_width_in_light_and_dark(browser, runs, name, width):
    with Opened(browser, runs[0] / name, width, touch=width < 500) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate(OPEN_ALL)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(NAMES) == []
        levels = page.evaluate(LEVELS)
        assert levels[0] == 1
        assert min(levels[1:]) == 2
        assert all(after <= before + 1 for before, after in pairwise(levels))
        assert page.evaluate(CLIPPED) == []
        if width < 500:
            assert page.evaluate(SMALL) == []
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            ratio, *where = page.evaluate(CONTRAST)
            assert ratio >= 4.5, where
        page.locator(".card").first.click()
        page.wait_for_selector("dialog[open]")
        box = page.locator("dialog").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert page.evaluate(CONTRAST)[0] >= 4.5


@pytest.mark.parametrize("width", [1280, 390])
def test_gaps_show_their_examples_side_by_side(browser, runs, width):
    with Opened(browser, runs[0] / "pictures", width, touch=width < 500) as page:
        assert page.locator("nav a[href='#gaps']").is_visible()
        gap = page.locator("#gaps .gap").first
        rows = [image.bounding_box() for image in gap.locator(".examples img").all()]
        assert len({round(box["y"]) for box in rows}) == len({round(box["x"]) for box in rows}) == 3
        assert min(box["width"] for box in rows) > 60
        beside = gap.locator(".told").bounding_box()["x"] < rows[0]["x"] - 200
        assert beside == (width > 500)
        assert not page.locator("#gaps .slim").first.is_visible()
        page.locator("#gaps summary").first.click()
        assert page.locator("#gaps .slim").count() == 3
        assert page.locator("#gaps .slim").first.is_visible()
        assert gap.locator(".trend .line").bounding_box()["width"] > 10


ENDS = """() => [...document.querySelectorAll('.card .file')].filter((e) => e.checkVisibility()).map((e) => {
  const words = e.firstElementChild.firstChild, range = document.createRange();
  range.setStart(words, words.length - 1); range.setEnd(words, words.length);
  const last = range.getBoundingClientRect(), box = e.getBoundingClientRect();
  const inside = last.bottom <= box.bottom + 1 && last.top >= box.top - 1 && last.right <= box.right + 1;
  return [words.data, e.title, inside];
})"""
"""Of each card its file, the tooltip, and whether the end of the file's name is seen."""


@pytest.mark.parametrize("width", [1280, 390])
def test_cards_show_the_end_of_a_file(browser, runs, width):
    with Opened(browser, runs[0] / "files", width, touch=width < 500) as page:
        page.evaluate(OPEN_ALL)
        found = page.evaluate(ENDS)
        assert len(found) < page.locator(".card").count()  # some have no file
        assert len({name for name, _, _ in found}) == 5
        for name, whole, seen in found:
            assert seen, name
            assert len(name) <= 40
            assert whole.endswith(name[1:])
        assert "cats/2.png" in [name for name, _, _ in found]


def test_a_shade_is_the_share_that_an_epoch_used(browser, runs):
    past = runs[1]["rows"][0]
    fates = np.stack([became(file, 2_000) for file in past], axis=1)
    made = Page((runs[0] / "rows" / "report.html").read_text(encoding="utf-8"))
    order, edges = made.fates()[0], np.array(made.facts["edges"])
    parts = [fates[order[low:high]] for low, high in pairwise(edges.tolist())]
    shares = [
        np.array([(part == what).mean(0) for part in parts]) for what in (USED, UNUSED + Reason.OUTLIER)
    ]
    depth = sum(np.where(s == 1, 1, np.where(s > 0, PALEST + DARKER * s, 0)) for s in shares)
    with Opened(browser, runs[0] / "rows") as page:
        size = page.evaluate(SIZE)
        wide, high = size[0] - 204, size[1] - 142
        rows = range(0, len(parts), 3)
        spots = [[[108 + wide * (epoch + 0.5) / len(past), 10 + high * (edges[row] + edges[row + 1]) / 4_000]
                  for epoch in range(len(past))] for row in rows]  # fmt: skip
        np.testing.assert_allclose(page.evaluate(ALPHA, spots), 255 * depth[rows], atol=1)


def test_it_may_open_in_the_dark(browser, runs):
    with Opened(browser, runs[0] / "pictures", scheme="dark") as page:
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(map(int, re.findall(r"\d+", paper))) < 64
        assert page.evaluate(CONTRAST)[0] >= 4.5


def test_keys_reach_and_drive_the_chart_and_the_dialog(browser, runs):
    with Opened(browser, runs[0] / "pictures") as page:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "chart":
                break
        assert page.evaluate("document.activeElement.matches('#chart:focus-visible')")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("ArrowDown")
        assert "epoch 1:" in page.inner_text("#reading")
        assert page.inner_text("#live") == page.inner_text("#reading")
        page.keyboard.press("End")
        assert "epoch 12" in page.inner_text("#live")
        page.keyboard.press("+")
        assert page.inner_text("#level").startswith("32 single samples")
        page.keyboard.press("-")
        page.keyboard.press("+")
        page.keyboard.press("+")
        assert page.inner_text("#level").startswith("16 single samples")
        sample = re.match(r"Sample (\d+)", page.inner_text("#live"))[1]
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog[open]")
        assert page.inner_text("#life-title") == f"Sample {sample}"
        assert page.locator("#life-body tbody tr").count() == 12
        page.keyboard.press("Escape")
        assert not page.locator("dialog").is_visible()
        assert page.evaluate("document.activeElement.id") == "chart"
        page.keyboard.press("Escape")
        assert page.inner_text("#level").startswith("64 single samples")
        page.keyboard.press("Escape")
        assert page.inner_text("#live").strip() == ""
        page.locator(".card").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog[open]")
        page.locator("#close").press("Enter")
        assert page.evaluate("document.activeElement.className").startswith("card")


def test_a_samples_life_is_that_of_the_epoch_files(browser, runs):
    past, labels, _ = runs[1]["pictures"]
    fates = np.stack([became(file, 64) for file in past], axis=1)
    words = ["not there yet", "used", "kept, not used", *(f"left out: {r.text}" for r in list(Reason)[1:])]
    with Opened(browser, runs[0] / "pictures") as page:
        page.locator("#outliers .card").first.click()
        page.wait_for_selector("dialog[open]")
        sample = int(page.inner_text("#life-title").split()[1])
        rows = page.locator("#life-body tbody tr").all_inner_texts()
        for epoch, row in enumerate(rows):
            number, what, score = row.split("\t")
            assert (int(number), what) == (epoch + 1, words[fates[sample, epoch]])
            assert float(score) == pytest.approx(past[epoch].scores[sample], rel=0.01)
        assert ["Trouser", "Coat", "Ankle boot"][labels[sample]] in page.inner_text("#life-body dl")
        assert page.locator("#life-body img").count() == 1


@pytest.mark.parametrize("name", ["pictures", "blocks"])
def test_single_marks_are_the_bits_of_the_epoch_files(browser, runs, name):
    past = runs[1][name][0]
    n = past[0].record.n
    fates = np.stack([became(file, n) for file in past], axis=1)
    with Opened(browser, runs[0] / name) as page:
        chart = page.locator("#chart")
        chart.focus()
        page.keyboard.press("ArrowDown")
        while page.locator("#in").is_enabled():
            page.keyboard.press("+")
        seen = int(page.inner_text("#level").split()[0])
        assert seen == 12
        size = page.evaluate(SIZE)
        left, top, wide, high = 108, 10, size[0] - 204, size[1] - 142
        page.keyboard.press("Home")
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        chart.scroll_into_view_if_needed()
        at = chart.bounding_box()
        rows, spots = [], []
        for row in range(seen - 1):
            y = top + high * (row + 0.5) / seen
            page.mouse.move(at["x"] + left + 3, at["y"] + y + 1)
            rows.append(int(re.match(r"Sample (\d+)", page.inner_text("#reading"))[1]))
            spots.append(
                [[left + wide * (e + 0.25) / len(past), y + high / seen / 4] for e in range(len(past))]
            )
        assert len(set(rows)) == seen - 1
        cursor = 1  # the cursor's frame lies on the first row
        np.testing.assert_array_equal(page.evaluate(INK, spots)[cursor:], fates[rows][cursor:] == USED)
        for epoch in range(len(past)):
            page.keyboard.press("ArrowRight" if epoch else "Home")
            said = page.inner_text("#live")
            sample = int(re.match(r"Sample (\d+)", said)[1])
            assert said.endswith(": used.") == (fates[sample, epoch] == USED)


def test_blocks_tell_exact_counts_and_zoom_in_steps(browser, runs):
    past = runs[1]["blocks"][0]
    used = np.stack([became(file, 30_000) for file in past], axis=1) == USED
    order, _ = Page((runs[0] / "blocks" / "report.html").read_text(encoding="utf-8")).fates()
    sizes = set()
    with Opened(browser, runs[0] / "blocks") as page:
        page.locator("#chart").focus()
        assert page.inner_text("#level").startswith("30,000 of 30,000 samples")
        for key in [
            "ArrowDown",
            "+",
            "ArrowRight",
            *["ArrowDown"] * 9,
            "+",
            "ArrowDown",
            "-",
            "-",
            "PageDown",
        ]:
            page.keyboard.press(key)
            low, high, epoch, count, size = found(page.inner_text("#live"))
            assert count == used[order[low : high + 1], epoch - 1].sum()
            assert size == high - low + 1
            sizes.add(size)
        assert len(sizes) > 2
        page.keyboard.press("Escape")
        page.locator("#chart").hover(position={"x": 300, "y": 200})
        page.mouse.wheel(0, -400)
        assert not page.inner_text("#level").startswith("30,000 of")
        page.locator("#whole").click()
        assert page.inner_text("#level").startswith("30,000 of 30,000 samples")
        page.locator("#in").click()
        page.locator("#in").click()
        page.locator("#in").click()
        assert "single samples" in page.inner_text("#level")


def found(said):
    """Return first and last place, epoch, count and size that the chart tells of a block."""
    parts = re.match(
        r"Places ([\d,]+) to ([\d,]+).*epoch (\d+): [\d.]+% used, ([\d,]+) of ([\d,]+)", said
    ).groups()
    return tuple(int(part.replace(",", "")) for part in parts)


def test_two_fingers_zoom_and_a_tap_tells(browser, runs):
    with Opened(browser, runs[0] / "blocks", 390, touch=True) as page:
        page.locator("#chart").scroll_into_view_if_needed()
        box = page.locator("#chart").bounding_box()
        page.touchscreen.tap(box["x"] + 200, box["y"] + 100)
        assert page.inner_text("#live").startswith("Places")
        client = page.context.new_cdp_session(page)

        def fingers(kind, *apart):
            points = [{"x": box["x"] + 200, "y": box["y"] + 150 + d, "id": i} for i, d in enumerate(apart)]
            client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        fingers("touchStart", -10, 10)
        for far in range(12, 90, 6):
            fingers("touchMove", -far, far)
        fingers("touchEnd")
        assert not page.inner_text("#level").startswith("30,000 of")
        assert page.evaluate("visualViewport.scale") == 1


def test_hostile_names_are_read_as_they_are(browser, runs):
    with Opened(browser, runs[0] / "hostile") as page:
        assert page.inner_text("h1") == HOSTILE[0]
        page.evaluate(OPEN_ALL)
        said = page.inner_text("body")
        assert all(word in said for word in HOSTILE[:4])
        for card in page.locator(".card").all()[:3]:
            card.click()
            page.wait_for_selector("dialog[open]")
            page.locator("#close").click()
        page.locator("#chart").focus()
        for key in ["ArrowDown", "+", "+", *["ArrowDown"] * 9, "Enter"]:
            page.keyboard.press(key)
        page.wait_for_selector("dialog[open]")
        assert page.locator("#life-title").inner_text().startswith("Sample")


def test_without_script_and_on_paper(browser, runs):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((runs[0] / "pictures" / "report.html").as_uri())
    assert "switched off here" in page.inner_text("#usage")
    assert page.locator(".card").count() > 20
    context.close()
    with Opened(browser, runs[0] / "pictures", scheme="dark") as page:
        page.emulate_media(media="print")
        assert page.evaluate(CONTRAST)[0] >= 4.5
