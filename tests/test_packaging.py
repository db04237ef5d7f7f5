"""What is built can be installed into an empty environment and used from an empty folder."""

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from pages import ROOT, block

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
CLEAN = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
USES = """
import sys
import torch
import fallow

train_set = torch.utils.data.TensorDataset(torch.randn(256, 4), torch.arange(256) % 2)
model, epochs = torch.nn.Linear(4, 2), 2
optimizer = torch.optim.SGD(model.parameters(), 0.1)
{loop}
print([epoch.backward > 0 for epoch in subsampler.history])
extras = "lightning", "jsonargparse", "yaml", "rich", "matplotlib", "PIL", "sklearn", "scipy", "pyarrow"
print([name for name in extras if name in sys.modules])
"""


def call(*words, cwd, **environment):
    """Return what a command prints, or fail with it."""
    done = subprocess.run(words, cwd=cwd, env=CLEAN | environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the sdist of what git tracks; the wheel is built from the sdist."""
    folder = tmp_path_factory.mktemp("built")
    tracked = call("git", "ls-files", "-z", cwd=ROOT).split("\0")[:-1]
    for name in tracked:
        if (ROOT / name).is_file():
            (folder / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "checkout" / name).write_bytes((ROOT / name).read_bytes())
    call(sys.executable, "-m", "build", "--outdir", str(folder / "dist"), cwd=folder / "checkout")
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    return wheel, sdist, tracked


def test_the_wheel_holds_the_package_and_nothing_else(built):
    wheel, _, tracked = built
    with zipfile.ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
    expected = {name.removeprefix("src/") for name in tracked if name.startswith("src/fallow/")}
    assert held == expected
    assert {Path(name).suffix for name in held} >= {".css", ".js", ".j2", ".typed"}


def test_the_sdist_holds_what_it_needs_and_no_caches(built):
    _, sdist, tracked = built
    with tarfile.open(sdist) as file:
        held = {name.partition("/")[2] for name in file.getnames() if file.getmember(name).isfile()}
    assert held >= {name for name in tracked if name.startswith("src/fallow/")}
    assert held >= {"pyproject.toml", "README.md", "LICENSE", "constraints.txt", "CHANGELOG.md"}
    assert held >= {
        name for name in tracked if name.startswith(("tests/", "examples/", "docs/")) if "." in name
    }
    added = {name for name in held - set(tracked) if ".egg-info/" not in name}
    assert added == {"PKG-INFO", "setup.cfg"}


def install(programs, *wanted):
    """Install into an environment what the constraints of the project allow."""
    words = ["-m", "pip", "install", "-q", "--no-compile", "-c", str(ROOT / "constraints.txt")]
    call(str(programs / "python"), *words, *wanted, cwd=programs)


def test_the_wheel_works_in_an_empty_environment(built, tmp_path):
    """First with the core alone, then with the extra of the command line."""
    wheel, _, _ = built
    venv.create(tmp_path / "environment", with_pip=True)
    programs = tmp_path / "environment" / ("Scripts" if os.name == "nt" else "bin")
    install(programs, str(wheel))
    folder = tmp_path / "empty"
    folder.mkdir()
    diff = block("README.md", "diff", "Your own loop")
    loop = "\n".join(line[2:] for line in diff.splitlines() if not line.startswith("-"))
    said = call(str(programs / "python"), "-c", USES.format(loop=loop), cwd=folder)
    assert said.splitlines()[-2:] == ["[True, True]", "[]"]
    # Without the extra, the command line says what to install.
    done = subprocess.run([programs / "fallow", "train", "--data", "digits"], cwd=folder, env=CLEAN,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 2
    assert "[all]" in done.stderr
    assert "Traceback" not in done.stderr

    install(programs, f"{wheel}[all]")
    where = call(str(programs / "python"), "-c", "import fallow; print(fallow.__file__)", cwd=folder)
    assert Path(where.strip()).is_relative_to(tmp_path)
    fallow = str(programs / "fallow")
    assert "fallow train" in call(fallow, "--help", cwd=folder)
    words = ["--data", "digits", "--epochs", "2", "--accelerator", "cpu", "--out", "run"]
    call(fallow, "train", *words, cwd=folder)
    call(fallow, "report", "run", cwd=folder)
    page = (folder / "run" / "report.html").read_text()
    style = (ROOT / "src" / "fallow" / "report" / "report.css").read_text()
    assert re.search(r"[\w.-]+ ?{", style)[0] in page
