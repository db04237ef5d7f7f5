"""``fallow demo``: what it leaves behind, and what it says of it."""

import json
import re
from pathlib import Path

from fallow.cli.demo import what_happened
from fallow.cli.main import main

MAKEFILE = Path(__file__).parent.parent / "Makefile"


def test_the_demo_trains_reports_and_tells(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["demo", "--out", str(run)]) == 0
    shown = capsys.readouterr().out
    said = json.loads((run / "summary.json").read_text())
    assert said["settings"]["policy"]["name"] == "error-mass", "the default"
    assert f"All epochs together saved {said['saved_fraction']:.0%} of the samples." in shown
    assert f"reads {said['accuracy']:.1%} of 360 images right" in shown
    assert f"Open it in a browser: {run / 'report.html'}\n" in shown
    assert (run / "report.html").exists()
    assert main(["demo", "--out", str(run)]) == 2
    assert "The out directory must be new or empty." in capsys.readouterr().err


def test_what_happened_is_that_of_the_summary():
    rows = [{"samples_backward": count} for count in (100, 40, 60)]
    summary = {"epochs": rows, "settings": {"samples": 100}, "saved_fraction": 1 / 3, "run": "runs/a"}
    lines = what_happened(summary | {"accuracy": 0.5, "samples_evaluated": 1000}, Path("runs/a/report.html"))
    text = "\n".join(lines)
    for part in (
        "all 100 images in each of 3 epochs",
        "trained on 40 images",
        "saved 33%",
        "50.0% of 1,000 images",
    ):
        assert part in text
    assert all(len(line) <= 100 for line in lines if "report.html" not in line)


def test_make_demo_is_the_same():
    assert re.search(r"ifeq \(\$\(DATA\),digits\)\n\t\$\(BIN\)/fallow demo\n", MAKEFILE.read_text())
