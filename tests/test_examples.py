"""README and the examples say what runs."""

import re
import runpy
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "plain_pytorch.py"


def test_the_loop_in_readme_is_the_example():
    text = EXAMPLE.read_text().split("# README begins\n")[1].split("    # README ends")[0]
    diff = re.search(r"```diff\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    shown = [line[2:] for line in diff.splitlines() if not line.startswith("-")]
    assert "\n".join(shown).strip() == textwrap.dedent(text).strip()


def test_the_example_trains_on_less(capsys):
    main = runpy.run_path(str(EXAMPLE))["main"]
    accuracy, used = main(epochs=12)
    assert accuracy > 0.93
    assert used < 0.6 * 12 * 1437
    assert "of the samples saved" in capsys.readouterr().out


def test_the_commands_in_readme_are_real():
    from fallow.cli import main

    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"^fallow (.*?)(?:\s+#.*)?$", text, re.MULTILINE)
    assert commands
    for command in commands:
        with pytest.raises(SystemExit) as stop:
            main([*command.split(), "--print_config"])
        assert stop.value.code == 0, command
