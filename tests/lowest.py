"""Print the oldest releases that ``pyproject.toml`` allows, as constraints for ``make test-lowest``."""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
BOUND = re.compile(r"^(?P<name>[\w.-]+)(?:\[[\w,]+\])?>=(?P<version>[\d.]+)")


def lowest(wanted):
    """Return ``name==version`` of each dependency with a lower bound."""
    found = (BOUND.match(each) for each in wanted)
    return [f"{bound['name']}=={bound['version']}" for bound in found if bound]


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = lowest([*project["dependencies"], *project["optional-dependencies"]["all"]])
    # The release of torch is the caller's choice: an old one may be there with CUDA only, in gigabytes.
    sys.stdout.writelines(f"{pin}\n" for pin in pins if not pin.startswith("torch=="))
