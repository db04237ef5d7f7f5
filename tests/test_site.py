"""The site that `make docs` builds: complete, and without another host."""

import os
import re
import subprocess
import sys

import pytest

import fallow
from fallow.options.train_options import OPTIONS
from pages import ROOT

if not os.environ.get("FALLOW_REQUIRE_ALL"):
    pytest.importorskip("furo")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LOADS = re.compile(
    r"""<(?:script|img|iframe|source|audio|video|embed)\b[^>]*\bsrc=["']?(?:https?:)?//"""
    r"""|<link\b[^>]*\bhref=["']?(?:https?:)?//"""
    r"""|\burl\(\s*["']?(?:https?:)?//|@import\s+["'](?:https?:)?//"""
)
"""What makes a browser ask another host: nothing that a reader has to click."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    words = [
        "-q",
        "-E",
        "-a",
        "-W",
        "--keep-going",
        "-c",
        "docs",
        ".",
        str(folder),
        "-d",
        str(folder / "kept"),
    ]
    done = subprocess.run([sys.executable, "-m", "sphinx", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_no_page_loads_anything_from_another_host(site):
    looked_at = [path for kind in ("html", "css") for path in site.rglob(f"*.{kind}")]
    assert len(looked_at) > 60
    found = {str(path.relative_to(site)): LOADS.findall(path.read_text()) for path in looked_at}
    assert {name: hits for name, hits in found.items() if hits} == {}
    assert LOADS.search('<link rel="stylesheet" href="https://fonts.example/a.css">'), "it would be seen"


def test_every_public_name_and_every_option_is_there(site):
    text = "".join(path.read_text() for path in (site / "docs" / "api").glob("*.html"))
    shown = {name.rpartition(".")[2] for name in re.findall(r'id="(fallow\.[\w.]+)"', text)}
    assert shown >= set(fallow.__all__)
    options = (site / "docs" / "options.html").read_text()
    assert [name for name in OPTIONS if f"--{name}<" not in re.sub(r"</?span[^>]*>", "", options)] == []


def test_it_opens_with_readme(site):
    assert "<h1>fallow" in (site / "index.html").read_text()
