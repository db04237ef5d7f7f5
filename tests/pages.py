"""The pages that users read, and what stands on them to be typed."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
MADE = {"options.md"}
"""Pages that the build of the site makes."""
PAGES = ["README.md", "CONTRIBUTING.md"]
PAGES += [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")) if path.name not in MADE]


def text(page):
    return (ROOT / page).read_text()


def sections(page):
    """Return the text under each heading; what stands under the title is named by the title."""
    parts = re.split(r"^#+ (.*)\n", text(page), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks(page, language):
    """Return ``(heading, code)`` of each block in a language."""
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [(heading, code) for heading, part in sections(page).items() for code in fence.findall(part)]


def block(page, language, heading):
    """Return the one block in a language under a heading."""
    (code,) = (code for found, code in blocks(page, language) if found == heading)
    return code


def commands(page):
    """Return the lines that call fallow, without their comments."""
    return re.findall(r"^fallow (.*?)(?:\s+#.*)?$", text(page), re.MULTILINE)
