"""What is known of each option stands with its field, and every list derives from that."""

import json
import subprocess
import sys
from dataclasses import fields

import pytest

from fallow import models
from fallow.cli.main import main
from fallow.comparison.options import NOT_SHARED, OF_AN_ARM
from fallow.errors import DamagedData
from fallow.options import train_options as options
from fallow.options.resume_options import config_options
from fallow.options.train_options import (
    ACCEPT,
    EITHER,
    FIXED,
    FREE,
    GROUPS,
    HELP,
    LEFT,
    NEVER,
    OPTIONS,
    OWN,
    POLICIES,
    SHARED,
    TASKS,
    TrainOptions,
    named,
)


@pytest.mark.parametrize("name", [field.name for field in fields(TrainOptions)])
def test_everything_is_known_of_it(name):
    known = OPTIONS[name]
    assert HELP[name].endswith((".", "seed"))
    assert HELP[name][0].isupper() or HELP[name].split()[0].rstrip(",") in {
        "auto",
        "bpe",
        "kl",
        "none",
        "remeasure",
        "warn",
    }
    assert known.group in GROUPS
    assert known.arm in (OWN, EITHER, SHARED, NEVER)
    assert known.resume in (FREE, ACCEPT, FIXED)
    assert known.tasks
    assert set(known.tasks) <= set(TASKS)
    assert set(known.policies) <= set(POLICIES)
    assert f"{name}: {HELP[name]}" in TrainOptions.__doc__


def test_what_is_known_does_not_contradict_itself():
    assert named(session=True) <= named(resume=FREE, arm=NEVER)
    assert not named(reads=True) & named(resume=FREE)
    assert NOT_SHARED | OF_AN_ARM | named(arm=SHARED) == set(OPTIONS)
    assert not OF_AN_ARM & named(arm=SHARED)
    assert all(OPTIONS[name].arm == OWN for name, known in OPTIONS.items() if known.policies)
    assert 15 <= len(named(common=True)) <= 25


def test_help_shows_what_most_people_need_in_groups_and_all_of_it_on_request(capsys):
    shown = {}
    for word in ("--help", "--help-all"):
        with pytest.raises(SystemExit):
            main(["train", word])
        shown[word] = capsys.readouterr().out
    for name, known in OPTIONS.items():
        assert f"\n  --{name} " in shown["--help-all"]
        assert (f"\n  --{name} " in shown["--help"]) == known.common
    for group in GROUPS:
        assert f"\n{group}:\n" in shown["--help"]
    assert "--help-all explains every option" in shown["--help"]


def test_networks_of_images_are_known_without_torch():
    assert set(options.IMAGE_MODELS) == set(models.IMAGE_MODELS)


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["report", "--help"]])
def test_help_and_wrong_names_load_nothing_slow(words):
    code = "import sys; from fallow.cli.main import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
    code += "print({'numpy', 'torch', 'lightning', 'matplotlib'} & set(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"


@pytest.mark.parametrize(
    "words",
    [["--data", "digit"], ["--data", "no/where"], ["--data", "digits", "--model", "resnet50"],
     ["--data", "digits", "--policy", "sotf"], ["--data", "digits", "--epochz", "3"]],
)  # fmt: skip
def test_a_wrong_name_is_answered_before_anything_slow_is_loaded(words):
    code = "import sys; from fallow.cli.main import main\ncode = main(['train', *sys.argv[1:]])\n"
    code += "assert code == 2\nassert not {'torch', 'lightning'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=True)


@pytest.mark.parametrize("name", LEFT)
def test_an_option_that_has_left_is_read_at_its_default_only(name, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"data: digits\n{name}: {json.dumps(LEFT[name])}\n")
    assert config_options(str(path)) == {"data": "digits"}
    path.write_text(f"data: digits\n{name}: 7\n")
    with pytest.raises(DamagedData, match=rf"uses --{name}, which has left fallow\. Found 7\."):
        config_options(str(path))
    assert name not in OPTIONS
