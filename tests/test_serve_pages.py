"""The pages of the server in a real browser: every screen, at every width, in light and dark, by keys alone."""

import gzip
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from fallow.policies.base import Reason
from fallow.report.usage import USED
from fallow.runs.checkpoints import Checkpoints
from fallow.runs.data_file import DataFile
from fallow.runs.directory import RunDirectory
from fallow.runs.picks_file import Pick, dump_picks
from fallow.runs.schema import About
from fallow.runs.ticks_file import read_ticks
from fallow.serve import pages
from serving import serving
from test_report import HOSTILE, became, make_run, put_gaps, told_gaps
from test_report_browser import CHROMIUM, FLAGS

SITE = pages.SITE
SCRIPT, SCRIPT_SHA = (
    SITE / "htm-preact.js",
    "72284e8e9079c87817145df1110f74e8a2aa040b2fc384922e18dfcb46fc1fd7",
)
AXE, AXE_SHA = (
    Path(__file__).parent / "vendored" / "axe.min.js",
    "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c",
)
LARGEST = 120_000
"""Bytes of script and style together, each file packed by itself, as a proxy sends it."""
SCREENS = "overview", "scores", "usage", "browse", "suspects", "gaps", "health", "more"
NAMES = tuple(word.encode("utf-8", "backslashreplace").decode() for word in HOSTILE)
WAIT = 60_000

WATCH = """
addEventListener('securitypolicyviolation', (e) => console.error('CSP', e.violatedDirective, e.sourceFile));
for (const name of ['alert', 'confirm', 'prompt']) window[name] = () => { window.hit = 1; };
"""
SETTLED = """() => document.querySelector('h1') && !document.querySelector('.waiting')
  && [...document.querySelectorAll('.chart')].every((e) => e.dataset.ready !== undefined)"""
SPOKEN = "(word) => document.querySelector('.unseen[role=status]').innerText.includes(word)"
"""Whether a reader is told a word about the chart."""
SMALL = """() => [...document.querySelectorAll('button, select, nav a, .card, .run, .menu a, .pick, .tick')]
  .filter((e) => e.checkVisibility() && !e.closest('.inline')).filter((e) => {
    const box = e.getBoundingClientRect();
    return box.height < 43.9 || box.width < 43.9;
  }).map((e) => e.outerHTML.slice(0, 120))"""
"""What a finger would miss."""
WIDER = """(width) => [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility()
  && e.getBoundingClientRect().right > width + 1 && !e.closest('.scroll, .unseen, svg'))
  .slice(0, 3).map((e) => e.outerHTML.slice(0, 120))"""
RULES = """async () => {
  const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
  const found = await axe.run(document, { runOnly: { type: 'tag', values: tags }, resultTypes: ['violations'] });
  return found.violations.map(({ id, nodes }) => [id, nodes.slice(0, 3).map((n) => [n.html.slice(0, 160),
    n.any.concat(n.all).map((c) => c.message)[0]])]);
}"""


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs nobody trained: with pictures, gaps and picks; with hostile names; and one that has just begun."""
    made = tmp_path_factory.mktemp("served") / "runs"
    make_run(made / "pictures", n=64, epochs=12, shown=True, names=("Trouser", "Coat", "Ankle boot"))
    put_gaps(made / "pictures", told_gaps(("plain", "Coat", "Ankle boot")))
    put_picks(made / "pictures", "Coat")
    make_run(
        made / "hostile", n=120, epochs=4, classes=len(HOSTILE), names=NAMES, shown=True, texts=HOSTILE,
        files=tuple(HOSTILE[i % len(HOSTILE)].replace("\0", "") for i in range(120)),
        options={"data": NAMES[0], "low": NAMES[1], NAMES[2]: NAMES[3]},
    )  # fmt: skip
    put_gaps(made / "hostile", told_gaps(tuple(HOSTILE)))
    put_picks(made / "hostile", NAMES[0])
    begun = RunDirectory.create(made / "begun")
    begun.put(begun.data_path, DataFile(10, np.zeros(10, np.int32), None, None, None).dump())
    begun.write_text(begun.config_path, "data: toy\n")
    about = About(options={"data": "toy"}, epoch=0, epochs=5)
    Checkpoints(begun.path).write(save({"a": np.zeros(1)}), about, begun.needed(0))
    begun.release()
    return made


def put_picks(run, word):
    picks = [
        Pick(i, word, 1.5, "gap 1", f"missing near {word}", "/pool", f"{i}.png", f"{i:016x}")
        for i in range(5)
    ]
    (run / "picks-000.csv").write_bytes(dump_picks(picks))


@pytest.fixture(scope="module")
def server(folder):
    with serving(folder, "--write") as started:
        rows = started.told("api/runs")["runs"]
        started.ids = {row["name"]: row["id"] for row in rows}
        yield started


class Opened:
    """A page of the server, and everything that went wrong there."""

    def __init__(self, browser, server, token=None, width=1280, height=800, scheme="light", fine=()):
        touch = width < 500
        self.server, self.wrong, self.requests, self.fine = server, [], [], fine
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=touch,
            is_mobile=touch, reduced_motion="reduce",
        )  # fmt: skip
        self.page = page = self.context.new_page()
        page.set_default_timeout(WAIT)
        page.add_init_script(WATCH)
        page.on("console", lambda message: self.wrong.append(message.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(f"{server.base}#{token or server.token}")
        # Else the next address could come before the page has taken the token out of this one.
        page.wait_for_function("(token) => !location.hash.includes(token)", arg=token or server.token)

    def show(self, screen, run=None, **params):
        if run:
            params = {"run": self.server.ids[run], **params}
        query = "&".join(f"{name}={value}" for name, value in params.items())
        self.page.evaluate("(hash) => { location.hash = hash; }", f"#/{screen}{'?' + query if query else ''}")
        self.page.wait_for_selector(f"main[data-screen={screen}]")
        self.settle()

    def settle(self):
        self.page.wait_for_function(SETTLED)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if error[0] is None:
            assert [said for said in self.wrong if not any(one in said for one in self.fine)] == []
            foreign = [
                url for url in self.requests if not url.startswith((self.server.base, "data:", "blob:"))
            ]
            assert foreign == []
            assert self.page.evaluate("window.hit") is None
        self.context.close()


def axe():
    """The source of axe-core, which looks for what hinders people."""
    if not AXE.exists():
        pytest.skip("tests/vendored/axe.min.js is missing: npm pack axe-core")
    content = AXE.read_bytes()
    assert hashlib.sha256(content).hexdigest() == AXE_SHA
    return content.decode()


def look(opened, width):
    """Check a screen as it stands: nothing wider than the window, large targets, no rule of axe broken."""
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width, page.evaluate(WIDER, width)
    if width < 500:
        assert page.evaluate(SMALL) == []
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(axe())
    assert page.evaluate(RULES) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("run", "width"),
    [
        ("pictures", 390),
        *(pytest.param(run, width, marks=pytest.mark.slow) for run, width in [
            ("pictures", 1280), ("pictures", 768), ("pictures", 320), ("hostile", 320), ("hostile", 1280),
        ]),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_every_screen_at_every_width_in_light_and_dark(browser, server, run, width, scheme):
    with Opened(browser, server, server.writing, width, scheme=scheme) as opened:
        opened.show("runs")
        look(opened, width)
        for screen in SCREENS:
            opened.show(screen, run)
            opened.page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
            opened.settle()
            look(opened, width)
        opened.show("browse", run, sample=3)
        opened.page.wait_for_selector("dialog .past")
        look(opened, width)
        opened.page.keyboard.press("Escape")
        both = ",".join([server.ids["pictures"], server.ids["hostile"]])
        opened.page.evaluate(f"() => {{ location.hash = '#/compare?with={both}'; }}")
        opened.page.wait_for_selector("main[data-screen=compare] .run-line", state="attached")
        look(opened, width)
        dark = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", dark))) < 64) == (scheme == "dark")


def test_every_screen_loads_in_a_small_window(browser, server):
    with Opened(browser, server, width=320) as opened:
        for screen in SCREENS:
            opened.show(screen, "pictures")
            assert opened.page.evaluate("document.documentElement.scrollWidth") <= 320, screen
            assert opened.page.evaluate(SMALL) == []


def static(name, seen):
    """Collect the modules that a module imports before it runs, and those that these do."""
    if name not in seen:
        seen.add(name)
        text = (SITE / name).read_text()
        for other in re.findall(r'^(?:import|export)\b[^;]*?from "\./([\w.-]+)";', text, re.MULTILINE):
            static(other, seen)
    return seen


def test_the_page_asks_for_what_it_shows_first(browser, folder):
    """All of it at once, each once, and the session before the scripts are all there; other screens later."""
    first, page = static("main.js", set()), (SITE / "index.html").read_text()
    assert set(re.findall(r'(?:src|href)="static/([\w.-]+\.js)"', page)) == first
    assert len(first) <= 16
    with serving(folder / "pictures") as server, Opened(browser, server) as opened:
        opened.page.wait_for_selector(".figures")
        opened.page.wait_for_function(
            "() => performance.getEntriesByName(new URL('static/usage.js', location)).length"
        )
        asked = [url.removeprefix(server.base).partition("?")[0] for url in opened.requests]
        asked = [url for url in asked if not url.startswith("data:")]
        # The overview comes with the session, so that it is asked for by the next look alone.
        told = asked.index("api/epochs")
        assert "api/summary" not in asked[:told]
        assert {f"static/{name}" for name in first} <= set(asked[:told])
        assert not {f"static/{name}" for name in ("usage.js", "browse.js", "gaps.js", "compare.js")} & set(
            asked[:told]
        )
        assert all(
            asked.count(url) == 1 for url in asked if url.startswith("static/") or url == "api/session"
        )
        assert asked.count("api/epochs") == 1
        assert not [url for url in asked if "icon" in url]


def test_a_screen_that_cannot_be_loaded_comes_when_the_server_does(browser, folder):
    with serving(folder / "pictures") as server, Opened(browser, server, fine=["ERR_"]) as opened:
        opened.page.route("**/static/usage.js*", lambda route: route.abort())
        opened.page.reload()
        opened.page.evaluate("location.hash = '#/usage'")
        opened.page.wait_for_selector(".waiting:has-text('The server does not answer.')")
        opened.page.unroute("**/static/usage.js*")
        opened.page.wait_for_selector(".chart[data-ready]")


def test_the_token_leaves_the_address_at_once_and_the_session_stays(browser, server):
    with Opened(browser, server, fine=["401"]) as opened:
        page = opened.page
        page.wait_for_selector(".runs")
        assert server.token not in page.evaluate("location.href")
        assert "#" not in page.url
        page.reload()
        page.wait_for_selector(".runs")
        assert page.evaluate("document.cookie") == ""  # no script can read it
        assert not any(server.token in url for url in opened.requests[1:])
        assert page.evaluate("JSON.stringify([localStorage, sessionStorage])") == "[{},{}]"


def test_without_a_token_the_page_says_where_the_link_is(browser, server):
    with Opened(browser, server, token="x" * 43, fine=["401"]) as opened:
        page = opened.page
        page.wait_for_selector("h1:has-text('Open the link that fallow serve printed')")
        assert "x" * 43 not in page.url
        page.evaluate("(token) => { location.hash = token; }", server.token)
        page.wait_for_selector(".runs")


def test_keys_alone_drive_the_usage_chart(browser, server, folder):
    past = files(folder / "pictures")
    fates = np.stack([became(file, 64) for file in past], axis=1)
    with Opened(browser, server) as opened:
        opened.show("usage", "pictures")
        page = opened.page
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.matches('.chart:focus-visible')"):
                break
        assert page.evaluate("document.activeElement.className") == "chart"
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("ArrowDown")
        page.keyboard.press("+")
        opened.settle()
        assert page.inner_text(".level").startswith("12 single samples")
        words = [
            "not there yet",
            "used",
            "kept, not used",
            *(f"left out as {r.text}" for r in list(Reason)[1:]),
        ]
        spoken = page.locator(".unseen[role=status]")
        for epoch in range(len(past)):
            page.wait_for_function(SPOKEN, arg=f"epoch {epoch + 1}:")
            said = re.fullmatch(r"Sample (\d+), class .+, epoch (\d+): (.+)\.", spoken.inner_text())
            assert (int(said[2]), said[3]) == (epoch + 1, words[fates[int(said[1]), epoch]])
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Home")
        page.wait_for_function(SPOKEN, arg="epoch 1:")
        page.keyboard.press("ArrowDown")
        page.wait_for_function(f"() => !({SPOKEN})('Sample {said[1]},')")
        other = re.match(r"Sample (\d+), class .+, epoch 1:", spoken.inner_text())
        assert other[1] != said[1]
        page.keyboard.press("Enter")
        page.wait_for_selector(f"dialog[open] h2:has-text('Sample {other[1]}')")
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="detached")
        assert page.evaluate("document.activeElement.className") == "chart"
        page.keyboard.press("Escape")
        opened.settle()
        assert page.inner_text(".level").startswith("64 single samples")


def files(run):
    from fallow.runs.run_files import RunFiles

    found = RunFiles(run)
    return [found.epoch(epoch) for epoch in found.epochs]


BLUE = """(epochs) => { const c = document.querySelector('.chart canvas'), r = c.width / c.clientWidth;
  const [wide, high, pen] = [c.clientWidth - 128, c.clientHeight - 44, c.getContext('2d')];
  const all = pen.getImageData(0, 0, c.width, c.height).data;
  const at = (x, y) => 4 * (Math.floor(y * r) * c.width + Math.floor(x * r));
  return Array.from({ length: 64 }, (_, row) => Array.from({ length: epochs }, (_, epoch) => {
    const spot = at(118 + (wide * (epoch + 0.25)) / epochs, 8 + (high * (row + 0.5)) / 64);
    return [...all.slice(spot, spot + 4)].join() === '0,114,178,255'; })); }"""
"""Whether the chart has the colour of use at each of 64 samples in each epoch."""


def test_each_mark_is_a_bit_of_the_epoch_files(browser, server, folder):
    past = files(folder / "pictures")
    fates = np.stack([became(file, 64) for file in past], axis=1)
    tile = server.told(f"api/usage/tile?run={server.ids['pictures']}&first=0&count=64")
    with Opened(browser, server) as opened:
        opened.show("usage", "pictures")
        blue = np.array(opened.page.evaluate(BLUE, len(past)))
    np.testing.assert_array_equal(blue, fates[tile["samples"]] == USED)
    assert blue.any()
    assert not blue.all()


def test_the_table_says_what_the_chart_shows(browser, server, folder):
    fates = np.stack([became(file, 64) for file in files(folder / "pictures")], axis=1)
    tile = server.told(f"api/usage/tile?run={server.ids['pictures']}&order=index&first=0&count=64")
    assert tile["samples"] == list(range(64))
    with Opened(browser, server) as opened:
        opened.show("usage", "pictures", order="index")
        opened.page.locator("summary", has_text="The chart as a table").click()
        opened.page.wait_for_function("document.querySelectorAll('details tbody tr').length == 16")
        rows = [row.split("\t") for row in opened.page.locator("details tbody tr").all_inner_texts()]
        for row, low in zip(rows, range(0, 64, 4), strict=True):
            assert row[0] == f"{low} to {low + 3}"
            shares = (fates[low : low + 4] == USED).mean(0)
            assert row[1:] == [f"{100 * share:g}%" for share in shares]


def test_keys_alone_filter_and_open_in_browse(browser, server, folder):
    last = files(folder / "pictures")[-1]
    learned = np.flatnonzero(last.reason == Reason.LEARNED)
    with Opened(browser, server) as opened:
        opened.show("browse", "pictures")
        page = opened.page
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.tagName") == "SELECT":
                break
        page.keyboard.type("lea")
        page.wait_for_function("() => location.hash.includes('reason=learned')")
        opened.settle()
        assert page.inner_text(".said").startswith(f"{learned.size} sample")
        assert page.locator(".card").count() == learned.size
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.className") == "card":
                break
        first = page.evaluate("document.activeElement.getBoundingClientRect().x")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.getBoundingClientRect().x") > first
        shown = int(re.search(r"sample (\d+)", page.evaluate("document.activeElement.innerText"))[1])
        assert shown in learned
        page.keyboard.press("Enter")
        page.wait_for_selector(f"dialog[open] h2:has-text('Sample {shown}')")
        page.wait_for_selector("dialog tbody tr")
        rows = page.locator("dialog tbody tr").all_inner_texts()
        assert rows[-1].split("\t")[1] == "left out: learned"
        page.keyboard.press("Enter")  # the button that closes has the focus
        page.wait_for_selector("dialog", state="detached")
        assert page.evaluate("document.activeElement.className") == "card"


def test_a_picture_that_cannot_be_shown_says_so(browser, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    Image.new("RGB", (300, 200), (9, 99, 9)).save(data / "0.png")
    (data / "1.png").write_bytes(b"<svg onload=alert(1)>")
    files = tuple(f"{data}/{i}.png" for i in range(3))
    make_run(tmp_path / "run", n=3, files=files, options={"data": str(data)})
    with (
        serving(tmp_path / "run", "--data", str(data)) as server,
        Opened(browser, server, fine=["404"]) as opened,
    ):
        opened.show("browse", order="index")
        page = opened.page
        page.wait_for_function("() => document.querySelectorAll('.card .broken').length === 2")
        assert page.locator(".card").nth(1).inner_text().startswith("This picture cannot be shown.")
        assert page.locator(".card img").evaluate("(e) => e.decode().then(() => e.naturalWidth)") == 160


def test_more_samples_come_once_each(browser, server):
    with Opened(browser, server) as opened:
        opened.show("browse", "hostile", order="index")
        page = opened.page
        assert page.locator(".card").count() == 60
        page.locator("button", has_text="Show more").click()
        page.wait_for_function("() => document.querySelectorAll('.card').length > 60")
        hrefs = page.locator(".card").evaluate_all("(all) => all.map((e) => e.href)")
        assert [int(re.search(r"sample=(\d+)", href)[1]) for href in hrefs] == list(range(120))
        assert page.locator("button", has_text="Show more").count() == 0


def test_hostile_names_files_and_texts_are_read_as_they_are(browser, server):
    with Opened(browser, server, server.writing) as opened:
        opened.show("overview", "hostile")
        page = opened.page
        page.locator("summary", has_text="All").click()
        opened.settle()
        said = page.inner_text("main")
        assert all(word in said for word in NAMES[:5])
        opened.show("browse", "hostile", order="index")
        said = " ".join(page.inner_text("main").split())
        assert all(" ".join(word.split()) in said for word in HOSTILE[:5])
        opened.show("browse", "hostile", order="index", sample=1)
        page.wait_for_selector("dialog .past")
        assert HOSTILE[1] in page.inner_text("dialog")
        page.keyboard.press("Escape")
        for screen in ("gaps", "suspects", "health", "usage", "scores"):
            opened.show(screen, "hostile")
        opened.show("gaps", "hostile")
        assert f"missing near {NAMES[0]}" in page.inner_text("main")


def test_a_tick_is_written_by_the_link_that_may(browser, server, folder):
    with Opened(browser, server, server.writing, 390) as opened:
        opened.show("gaps", "pictures")
        page = opened.page
        box = page.locator(".picks input").nth(2)
        box.check()
        page.wait_for_selector(".picks li.done input:enabled")
        with page.expect_response("**/api/tick*"):
            page.locator(".counter button", has_text="+").first.click()
        page.wait_for_selector(".counter output:has-text('1 collected')")
        ticks = read_ticks(folder / "pictures")
        assert [(one.list, one.place, one.gap, one.found) for one in ticks] == [
            ("picks-000", 2, None, 1), (None, None, "gap 1", 1),
        ]  # fmt: skip
        page.reload()
        opened.settle()
        assert page.locator(".picks input").nth(2).is_checked()
        assert page.locator(".picks input:checked").count() == 1


def test_a_link_that_only_reads_says_so(browser, server, folder):
    before = read_ticks(folder / "pictures")
    with Opened(browser, server) as opened:
        opened.show("gaps", "pictures")
        page = opened.page
        assert "This link only reads" in page.inner_text("#no-write")
        assert page.locator(".badge.rights").inner_text() == "read-only"
        assert page.locator(".picks input:enabled, .counter button:enabled").count() == 0
    assert read_ticks(folder / "pictures") == before


def test_a_run_that_has_just_begun_says_what_will_come(browser, server):
    with Opened(browser, server) as opened:
        for screen in SCREENS[:6]:
            opened.show(screen, "begun")
            said = opened.page.inner_text("main")
            assert re.search(
                "after the first epoch|with the first epoch|has begun|Gaps were not looked for", said
            ), screen
        opened.show("overview", "begun")
        assert "The training has just begun." in opened.page.inner_text("main")


def test_a_run_with_damaged_epochs_says_what_its_counts_are_over(browser, folder, tmp_path):
    path = shutil.copytree(folder / "pictures", tmp_path / "run") / "history"
    (path / "epoch-00011.safetensors").unlink()
    with serving(path.parent) as server, Opened(browser, server, fine=["503", "409"]) as opened:
        opened.show("overview")
        page = opened.page
        assert page.inner_text(".how .epoch") == "epoch 12/12"
        assert "Epoch 12 of 12" in page.inner_text(".progress")
        assert "epoch 12 cannot be read" in page.inner_text(".progress")
        assert "KEPT IN EPOCH 11" in page.inner_text(".figures").upper()
        for screen in ("scores", "usage", "browse", "suspects", "health"):
            opened.show(screen)
            assert "Counts are over 11 of 12 epochs: 1 cannot be read." in page.inner_text("main")
        opened.show("browse", sample=3)
        page.wait_for_selector("dialog .past")
        assert "of 11 epochs that can be read" in page.inner_text("dialog")
        assert re.search(r"12\s+cannot be read\s+–", page.inner_text("dialog"))
        page.keyboard.press("Escape")
        for epoch in path.glob("epoch-*"):
            epoch.write_bytes(b"")
        page.wait_for_selector("h2:has-text('No epoch can be read')")
        for screen in SCREENS:
            opened.show(screen)
            look(opened, 1280)
            if screen in ("overview", "scores", "usage", "browse", "suspects"):
                assert "None of its 12 epochs can be read." in page.inner_text("main"), screen


def test_a_link_to_a_run_is_named_on_the_list(browser, folder, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "<b>link").symlink_to(folder / "pictures")
    with serving(tmp_path / "runs") as server, Opened(browser, server, width=390) as opened:
        opened.show("runs")
        assert "Links are not followed: <b>link. Serve what one leads to" in opened.page.inner_text("main")
        look(opened, 390)


def test_nothing_is_sent_again_that_has_not_changed(browser, server):
    with Opened(browser, server) as opened:
        page = opened.page
        statuses = []
        page.on(
            "response",
            lambda answer: statuses.append(answer.status) if "/api/summary" in answer.url else None,
        )
        opened.show("overview", "pictures")
        for _ in range(2):
            with page.expect_response(lambda answer: "/api/summary" in answer.url):
                pass
        assert statuses[0] == 200
        assert set(statuses[1:]) == {304}


def test_a_long_calculation_is_waited_for(browser, server):
    asked = []

    def pending(route):
        asked.append(route.request.url)
        if len(asked) > 2:
            route.continue_()
        else:
            route.fulfill(status=202, content_type="application/json", body='{"pending": true}')

    with Opened(browser, server) as opened:
        opened.page.route("**/api/suspects*", pending)
        opened.page.evaluate("(run) => { location.hash = `#/suspects?run=${run}`; }", server.ids["pictures"])
        opened.page.wait_for_selector("text=is being calculated")
        opened.page.wait_for_selector(".card")
        assert len(asked) == 3


def test_a_server_that_is_away_is_told_and_found_again(browser, folder):
    with serving(folder / "pictures") as server, Opened(browser, server, fine=["ERR_", "401"]) as opened:
        page = opened.page
        page.wait_for_selector(".figures")
        opened.context.set_offline(True)
        page.wait_for_selector(".away:has-text('The server does not answer. What is shown is as it was')")
        assert page.locator(".figures").is_visible()
        assert "tries again" in page.inner_text(".away-again")
        opened.context.set_offline(False)
        page.wait_for_function("() => !document.querySelector('.away-again')")
        assert page.inner_text(".away") == ""


def test_behind_a_path_every_request_has_it(browser, folder):
    with serving(folder / "pictures", "--root_path", "/deep/prefix") as server:
        assert server.base.endswith("/deep/prefix/")
        with Opened(browser, server) as opened:
            opened.page.wait_for_selector(".figures")
            for screen in ("usage", "browse"):
                opened.show(screen)
            assert opened.page.locator(".card img").first.evaluate(
                "async (e) => { await e.decode(); return e.naturalWidth; }"
            )
            assert len(opened.requests) > 20  # all begin with the base, as is checked at the end


def test_the_theme_is_kept_until_it_is_the_systems_again(browser, server):
    with Opened(browser, server, scheme="dark") as opened:
        page = opened.page
        page.wait_for_selector(".runs")
        theme = "document.documentElement.dataset.theme"
        assert page.evaluate(theme) == "dark"
        page.locator(".toggle").click()
        assert page.evaluate(theme) == "light"
        page.reload()
        page.wait_for_selector(".runs")
        assert page.evaluate(theme) == "light"
        page.locator(".toggle").click()
        page.emulate_media(color_scheme="light")
        page.wait_for_function(f"() => {theme} === 'light'")


def test_a_watch_shows_the_overview(browser, server):
    with Opened(browser, server, width=200, height=200) as opened:
        opened.show("overview", "pictures")
        page = opened.page
        assert page.evaluate("document.documentElement.scrollWidth") <= 200
        said = page.inner_text("body")
        assert "epoch 12/12" in said
        assert "Kept now" in said
        assert "Test accuracy" in said
        assert "The numbers of each epoch" not in said


def test_two_fingers_zoom_and_a_tap_reads(browser, server):
    with Opened(browser, server, width=390) as opened:
        opened.show("usage", "pictures")
        page = opened.page
        page.locator(".chart").scroll_into_view_if_needed()
        box = page.locator(".chart").bounding_box()
        page.touchscreen.tap(box["x"] + 200, box["y"] + 100)
        page.wait_for_selector(".reading:has-text('epoch')")
        client = opened.context.new_cdp_session(page)

        def fingers(kind, *apart):
            points = [{"x": box["x"] + 200, "y": box["y"] + 150 + d, "id": i} for i, d in enumerate(apart)]
            client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        fingers("touchStart", -10, 10)
        for far in range(12, 90, 6):
            fingers("touchMove", -far, far)
        fingers("touchEnd")
        page.wait_for_function("() => !document.querySelector('.level').innerText.startsWith('64 ')")
        assert page.evaluate("visualViewport.scale") == 1


def test_what_is_sent_is_small_known_and_builds_text_alone():
    sent = {
        path: path.read_bytes() for path in SITE.iterdir() if path.suffix in (".js", ".css", ".html", ".svg")
    }
    assert sum(len(gzip.compress(data)) for data in sent.values()) <= LARGEST
    assert hashlib.sha256(sent[SCRIPT]).hexdigest() == SCRIPT_SHA
    assert (SITE / "htm-preact.LICENSE.txt").read_text().count("MIT License") >= 1
    own = {path: data.decode() for path, data in sent.items() if path != SCRIPT}
    for path, text in own.items():
        assert path.suffix != ".js" or max(map(len, text.splitlines())) <= 110, path
        found = re.findall(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|javascript:", text
        )
        assert found == [], path
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)[a-z]", text.replace("http://…", "")) == [], (
            path
        )
    assert not re.search(r"<(script|style)(?![^>]*(src|href)=)[^>]*>[^<]", own[SITE / "index.html"])


def test_the_colours_are_those_of_the_report():
    report = (SITE.parent.parent / "report" / "report.css").read_text()
    style = (SITE / "style.css").read_text()
    for name in (
        "paper",
        "sheet",
        "ink",
        "soft",
        "rule",
        "faint",
        "link",
        "used",
        "alarm",
        "learned",
        "hatch",
    ):
        values = [re.findall(rf"--{name}: (#[0-9a-f]+)", text) for text in (report, style)]
        assert values[0][:2] == values[1], name  # a third one of the report is for paper
        assert len(values[1]) == 2


# ---- runs that take long to make ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_training_is_seen_to_begin_to_go_on_and_to_end(browser, tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    with serving(runs) as server, Opened(browser, server) as opened:
        page = opened.page
        page.set_default_timeout(300_000)
        page.wait_for_selector("text=No run in this folder yet")
        command = [
            sys.executable,
            "-m",
            "fallow",
            "train",
            "--data",
            "digits",
            "--samples",
            "300",
            "--epochs",
            "8",
        ]
        training = subprocess.Popen([*command, "--out", str(runs / "live")], stdout=subprocess.DEVNULL)
        try:
            page.wait_for_selector(".run .state:has-text('running')")
            page.locator(".run").click()
            page.wait_for_selector(".figures")
            page.wait_for_selector(".state:has-text('finished')")
            page.wait_for_selector(".epoch:has-text('epoch 8/8')")
            page.wait_for_function("() => document.querySelectorAll('.plot .point').length === 8")
        finally:
            training.wait(300)
        server.ids = {"live": server.told("api/runs")["runs"][0]["id"]}
        for screen in SCREENS:
            opened.show(screen, "live")
            look(opened, 1280)
        opened.show("suspects", "live")
        assert page.locator("h1").inner_text() == "Labels that look wrong"
        opened.show("health", "live")
        page.locator("button", has_text="Compare every file").click()
        page.wait_for_selector("text=All sound.")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_million_samples_from_the_whole_to_one_mark(browser, tmp_path):
    past, _, _ = make_run(tmp_path / "big", n=1_281_167, epochs=6, classes=1000)
    used = np.stack([became(file, 1_281_167) for file in past], axis=1) == USED
    with serving(tmp_path / "big") as server, Opened(browser, server) as opened:
        page = opened.page
        page.set_default_timeout(300_000)
        page.wait_for_selector(".figures")
        opened.show("usage", order="index")
        page.focus(".chart")
        for key in ["ArrowDown"] * 7 + ["ArrowRight"] * 2:
            page.keyboard.press(key)
        spoken, sizes = page.locator(".unseen[role=status]"), []
        for _ in range(8):
            said = spoken.inner_text()
            if said.startswith("Sample "):
                break
            part = re.match(r"Samples ([\d,]+) to ([\d,]+), epoch 3: (none|all|[\d.]+%) used", said)
            low, high = (int(part[i].replace(",", "")) for i in (1, 2))
            sizes.append(high - low + 1)
            share = used[low : high + 1, 2].mean()
            if part[3] in ("none", "all"):
                assert share == (part[3] == "all")
            else:
                assert float(part[3][:-1]) == pytest.approx(100 * share, abs=0.3)
            page.keyboard.press("Enter")
            page.wait_for_function(
                "(old) => document.querySelector('.unseen[role=status]').innerText !== old", arg=said
            )
            opened.settle()
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] > 1000
        sample, word = re.fullmatch(r"Sample (\d+), epoch 3: (.+)\.", spoken.inner_text()).groups()
        assert (word == "used") == used[int(sample), 2]
        page.keyboard.press("Enter")
        page.wait_for_selector(f"dialog[open] h2:has-text('Sample {sample}')")
        assert page.evaluate("performance.memory.usedJSHeapSize") < 150e6
