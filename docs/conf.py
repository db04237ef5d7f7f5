"""The site: `make docs` builds it from the pages where they lie in the checkout, so links work in both.

Three things are made here: the page of every option from the fields of `TrainOptions`, the reference from the
docstrings of `fallow.__all__` and of the public rooms, and MathML for formulas, which needs no script.
No page loads anything from another host.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from dataclasses import MISSING, fields
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "src"))
os.environ.setdefault("KERAS_BACKEND", "torch")

import fallow  # noqa: E402

project = "fallow"
author = "the authors of fallow"
version = release = fallow.__version__
root_doc = "README"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/RESULTS.md", "docs/**"]
exclude_patterns = [".*", "build", "dist", "runs", "comparisons", "src", "tests", "**/__pycache__"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]

html_theme = "furo"
html_title = "fallow"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_show_copyright = False
html_copy_source = False
highlight_language = "text"
smartquotes_action = "D"  # dashes, and no other quotes
pygments_style = "tango"
pygments_dark_style = "monokai"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

myst_enable_extensions = ["attrs_inline", "attrs_block"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!fallow\.).*"), (r"py:.*", r"fallow\.[a-z_]+\.[a-z_.]+.*")]
"""Types of other libraries, and what is inside fallow, may be named without a link; public names may not."""

NAVIGATION = {
    "First steps": ["get-started", "command-line", "python", "your-own-loop", "trainers", "your-own-code"],
    "Tasks": [
        "comparing",
        "wrong-labels",
        "what-to-collect",
        "language-models",
        "post-training",
        "without-labels",
        "charts",
        "serve",
        "stopping",
    ],
    "Reference": ["rules", "options", "api/index", "what-it-gives", "/benchmarks/RESULTS", "/CHANGELOG"],
    "How it is built": ["design", "reliability", "decisions/index", "/CONTRIBUTING"],
}
"""Pages of this folder under the headings at the side; with a slash, pages of the checkout."""
FRONT = {
    "Runs": ["train", "load", "Run", "Recorder"],
    "The loop": ["Subsampler", "KeyedSubsampler", "ShardedSubsampler", "Schedule", "EpochRecord"],
    "Comparisons and what to collect": ["compare", "find_gaps", "collect"],
    "Errors": ["FallowError", "InvalidValue", "InvalidType", "WrongState", "DamagedData", "NotWritten"],
}
"""Names of `fallow` that belong to none of its public rooms, in reading order."""
FRAMEWORKS = {
    "huggingface": ["SubsamplingMixin"],
    "keras": ["SubsamplingMixin"],
    "lightning": ["SubsamplingCallback"],
    "trl": ["PromptsMixin"],
}
"""What each module of `fallow.integrations` is for."""


def contents(title: str, pages: list[str]) -> str:
    """Return a part of the navigation."""
    names = [page if page.startswith("/") else f"/docs/{page}" for page in pages]
    return "\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *names, "```", ""])


def add_navigation(app: Sphinx, name: str, source: list[str]) -> None:
    """Put the navigation under the page that a visitor sees first."""
    if name == root_doc:
        source[0] += "\n\n" + "\n".join(contents(*part) for part in NAVIGATION.items())


# Pages that are made.


def write(name: str, lines: list[str]) -> None:
    """Write a page that is made, if it has changed; git ignores it."""
    path, text = ROOT / "docs" / name, "\n".join(lines) + "\n"
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def make_pages(app: Sphinx) -> None:
    """Write the pages that come from the code."""
    write("options.md", options())
    write("decisions/index.md", decisions())
    for name, lines in reference().items():
        write(f"api/{name}.rst", lines)


def decisions() -> list[str]:
    """Return the list of all decisions."""
    names = sorted(path.stem for path in (ROOT / "docs" / "decisions").glob("0*.md"))
    head = ["# Decisions", "", "Why it is as it is, half a page each.", ""]
    return [*head, "```{toctree}", ":maxdepth: 1", "", *names, "```"]


def options() -> list[str]:
    """Return the page of every option."""
    from fallow.options import train_options as known

    arms = {
        known.OWN: "each arm for itself",
        known.EITHER: "an arm, or by all",
        known.SHARED: "all arms together",
        known.NEVER: "nobody",
    }
    resumes = {
        known.FREE: "may change it freely",
        known.ACCEPT: "may change it with `--accept {name}`",
        known.FIXED: "may not change it",
    }
    lines = [
        "# Every option",
        "",
        "The options of `fallow train`, as `fallow train --help-all` shows them. `--print_config` prints",
        "them as a file that `--config` reads.",
        "",
    ]
    for group in known.GROUPS:
        lines += [f"## {group}", ""]
        for each in fields(known.TrainOptions):
            option = each.metadata["option"]
            if option.group != group:
                continue
            text = each.metadata["help"]
            facts = []
            default = each.default_factory() if each.default is MISSING else each.default  # type: ignore[misc]
            if default not in (None, "", [], {}) and "Default" not in text and "(default)" not in text:
                facts.append(f"Default: `{str(default).lower() if default is False else default}`.")
            if option.tasks != known.TASKS[1:]:
                facts.append(f"For the tasks {', '.join(option.tasks)}.")
            if option.policies:
                facts.append(f"For the policies {', '.join(option.policies)}.")
            if option.without:
                facts.append(f"Not for the policies {', '.join(option.without)}.")
            facts.append(f"A resumed run {resumes[option.resume].format(name=each.name)}.")
            facts.append(f"In a comparison it is set by {arms[option.arm]}.")
            lines += [f"### `--{each.name}`", "", plain(text), "", *(f"- {fact}" for fact in facts), ""]
    return lines


def plain(text: str) -> str:
    """Return a help text in which options are code, and nothing else is taken for Markdown."""
    parts = re.split(r"(--[a-z_]+)", text)
    parts[::2] = [re.sub(r"([\\`*_<>\[\]])", r"\\\1", part) for part in parts[::2]]
    parts[1::2] = [f"`{part}`" for part in parts[1::2]]
    return "".join(parts)


@cache
def room_names(room: str) -> list[str]:
    """Return the names that a public room exports, in the order of the alphabet."""
    module = import_module(f"fallow.{room}")
    names = getattr(module, "__all__", None) or [
        name
        for name, each in vars(module).items()
        if not name.startswith("_") and getattr(each, "__module__", "").startswith(f"{module.__name__}.")
    ]
    return sorted(names, key=str.lower)


def summary(found: Any) -> str:
    """Return the first line of a docstring."""
    return (inspect.getdoc(found) or "").partition("\n")[0].removesuffix("::")


def heading(text: str, line: str) -> list[str]:
    """Return a heading of reST."""
    return [text, line * len(text), ""]


def shown(home: str, name: str) -> list[str]:
    """Return the lines that show a name of a module."""
    found = getattr(import_module(home), name)
    kind = "function" if inspect.isroutine(found) else "data"
    if inspect.isclass(found):
        kind = "exception" if issubclass(found, BaseException) else "class"
    lines = [f".. auto{kind}:: {home}.{name}"]
    if kind == "data":
        lines.append("   :no-value:")
    elif inspect.isclass(found) and found.__bases__ != (object,):
        lines.append("   :show-inheritance:")
    return [*lines, ""]


def table(rows: list[tuple[str, str]]) -> list[str]:
    """Return a table of two columns."""
    lines = [".. list-table::", "   :widths: 30 70", ""]
    for left, right in rows:
        lines += [f"   * - {left}", f"     - {right}"]
    return [*lines, ""]


def reference() -> dict[str, list[str]]:
    """Return the pages of the reference. Each name is shown once: in its room, if it has a public one."""
    rooms = {room: room_names(room) for room in fallow._ROOMS if room not in ("comparison", "integrations")}
    home = {name: room for room, names in rooms.items() for name in names if name in fallow.__all__}
    listed = [name for names in FRONT.values() for name in names]
    if wrong := set(listed) ^ {name for name in fallow.__all__ if name not in home}:
        raise ValueError(f"FRONT in docs/conf.py must name what `fallow` exports: look at {sorted(wrong)}.")

    lines = [*heading("Reference", "="), summary(fallow), "", "Names of ``fallow``:", ""]
    rows = []
    for name in fallow.__all__:
        path = f"fallow.{home[name]}.{name}" if name in home else f"fallow.{name}"
        rows.append((f":py:obj:`{name} <{path}>`", summary(getattr(fallow, name))))
    lines += table(rows)
    lines += ["Its public rooms:", ""]
    named = [*rooms, "integrations"]
    rows = [(f":doc:`fallow.{room} <{room}>`", summary(import_module(f"fallow.{room}"))) for room in named]
    lines += [*table(rows), ".. toctree::", "   :hidden:", "", "   fallow", *(f"   {room}" for room in named)]
    pages = {"index": lines}

    lines = [*heading("fallow", "="), ".. py:currentmodule:: fallow", ""]
    for title, names in FRONT.items():
        lines += heading(title, "-")
        for name in names:
            lines += shown("fallow", name)
            if name == "compare":
                lines += shown("fallow.comparison", "Comparison")
    pages["fallow"] = lines
    for room, names in rooms.items():
        lines = [*heading(f"fallow.{room}", "="), f".. automodule:: fallow.{room}", "   :no-members:", ""]
        pages[room] = lines + [line for name in names for line in shown(f"fallow.{room}", name)]
    lines = [
        *heading("fallow.integrations", "="),
        ".. automodule:: fallow.integrations",
        "   :no-members:",
        "",
    ]
    for framework, names in FRAMEWORKS.items():
        lines += heading(f"fallow.integrations.{framework}", "-")
        lines += [line for name in names for line in shown(f"fallow.integrations.{framework}", name)]
    pages["integrations"] = lines
    return pages


# Docstrings.


NAMES = re.compile(r"^\s+\*{0,2}[a-z_]\w*(?:, \*{0,2}[a-z_]\w*)+: ")


def for_napoleon(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Keep Napoleon from taking for a type what is none: text before a colon, and names before the last."""
    if what in ("attribute", "data", "property") and lines and ": " in lines[0]:
        before, _, after = lines[0].partition(": ")
        lines[:1] = [f"{before}:", after]
    for number, line in enumerate(lines):
        if names := NAMES.match(line):
            lines[number] = names[0].rstrip().replace(", ", ",") + " " + line[names.end() :]


def find(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """Link a public name that is shown under the name of its room."""
    name = node.get("reftarget", "").removeprefix("fallow.")
    first, _, rest = name.partition(".")
    home = next((room for room in fallow._ROOMS if first in fallow.__all__ and first in room_names(room)), "")
    if node.get("refdomain") != "py" or first not in fallow.__all__:
        return None
    target = ".".join(part for part in ("fallow", home, first, rest) if part)
    domain = env.domains["py"]
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, content)


# Formulas.


def inline(writer: Any, node: nodes.math) -> None:
    """Write a formula in a line."""
    writer.body.append(convert(" ".join(node.astext().split())))
    raise nodes.SkipNode


def block(writer: Any, node: nodes.math_block) -> None:
    """Write a formula in a paragraph of its own."""
    writer.body.append(convert(" ".join(node.astext().split()), display="block"))
    raise nodes.SkipNode


def first_page(app: Sphinx, failure: Exception | None) -> None:
    """Let the folder open with README."""
    if failure is None and app.builder.format == "html":
        page = (Path(app.outdir) / f"{root_doc}.html").read_text()
        (Path(app.outdir) / "index.html").write_text(page)


def setup(app: Sphinx) -> None:
    """Connect all this."""
    app.connect("builder-inited", make_pages)
    app.connect("source-read", add_navigation)
    app.connect("autodoc-process-docstring", for_napoleon, priority=100)
    app.connect("missing-reference", find)
    app.connect("build-finished", first_page)
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
