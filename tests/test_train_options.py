"""What is known of each option stands with its field, and every list derives from that."""

import json
import subprocess
import sys
from dataclasses import fields, replace

import pytest

from fallow import models
from fallow.cli.main import main
from fallow.comparison.options import NOT_SHARED, OF_AN_ARM
from fallow.errors import DamagedData
from fallow.options import resolve as resolving
from fallow.options import train_options as options
from fallow.options.resolve import DataFacts, as_given, is_open, resolve, resolve_on_data
from fallow.options.resume_options import config_options
from fallow.options.train_options import (
    ACCEPT,
    ANEW,
    AS_GIVEN,
    CONSTANT,
    EITHER,
    FIXED,
    FREE,
    GROUPS,
    HELP,
    LEFT,
    NEVER,
    NOTED,
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
    assert set(known.policies) | set(known.without) <= set(POLICIES)
    assert known.default in (CONSTANT, AS_GIVEN, NOTED, ANEW)
    assert f"{name}: {HELP[name]}" in TrainOptions.__doc__


def test_what_is_known_does_not_contradict_itself():
    assert named(session=True) <= named(resume=FREE, arm=NEVER)
    assert not named(reads=True) & named(resume=FREE)
    assert NOT_SHARED | OF_AN_ARM | named(arm=SHARED) == set(OPTIONS)
    assert not OF_AN_ARM & named(arm=SHARED)
    assert all(OPTIONS[name].arm == OWN for name, known in OPTIONS.items() if known.policies)
    assert 15 <= len(named(common=True)) <= 25


READ = DataFacts(samples=500, classes=10, name="digits", side=8)
FACTS = {
    "small": READ,
    "large, without labels": replace(READ, samples=50_000, classes=None, side=None),
    "a pretrained network": replace(READ, pretrained=True, longest=64),
    "a LightningModule": replace(READ, trains_itself=True),
    "data of one's own": DataFacts(samples=500, classes=None, trains_itself=True, batch_size=20),
}
MADE = {
    f"{task} {policy} {name}": resolve_on_data(
        resolve(TrainOptions("x.csv", task=task, policy=policy)), facts
    )
    for task in TASKS[1:]
    for policy in ("auto", *POLICIES)
    for name, facts in FACTS.items()
}


@pytest.mark.parametrize("name", OPTIONS)
def test_after_both_steps_an_option_is_none_only_if_that_means_something(name):
    known = OPTIONS[name]
    for case, made in MADE.items():
        needed = made.task in known.tasks and (not known.policies or made.policy in known.policies)
        assert not (is_open(made, name) and needed and not known.none), case
    if known.none:
        assert any(is_open(made, name) for made in MADE.values()), "None never happens"


def test_what_is_chosen_is_what_the_fields_say_is_chosen():
    choices = [*resolving._BY_OPTIONS, *resolving._BY_DATA]
    # The network of texts hangs on the task, that of images on their channels.
    assert sorted(choices) == sorted([*(set(OPTIONS) - named(default=CONSTANT)), "model"])
    for case, made in MADE.items():
        assert made.chosen <= named(default=NOTED) | named(default=ANEW), case
        assert set(made.noted) == made.chosen & named(default=NOTED), case
        assert not any(is_open(made, name) for name in named(default=AS_GIVEN)), case


def test_images_with_colours_have_another_network_than_grey_ones():
    options = resolve(TrainOptions("pets"))
    made = [resolve_on_data(options, replace(READ, channels=channels)) for channels in (1, 3)]
    assert [each.model for each in made] == ["small-conv", "small-resnet"]
    assert all(each.noted.count("model") == 1 for each in made)
    given = resolve_on_data(resolve(TrainOptions("pets", model="small-conv")), replace(READ, channels=3))
    assert (given.model, "model" in given.noted) == ("small-conv", False)


@pytest.mark.parametrize("task", TASKS[1:])
def test_what_is_given_stays_through_both_steps_and_is_not_noted(task):
    first = resolve_on_data(resolve(TrainOptions("x.csv", task=task)), READ)
    values = {name: getattr(first, name) for name in first.chosen}
    again = resolve_on_data(resolve(replace(as_given(first), **values)), FACTS["large, without labels"])
    assert {name: getattr(again, name) for name in values} == values
    assert not again.chosen & values.keys()
    assert not again.noted


def test_the_batch_is_that_of_the_data_and_the_rate_follows_it():
    def chosen(task, facts, **given):
        made = resolve_on_data(resolve(TrainOptions("x.csv", task=task, **given)), facts)
        return made.batch_size, made.learning_rate

    large = FACTS["large, without labels"]
    assert chosen("image", READ) == (64, 0.075)
    assert chosen("image", large) == (256, 0.3)
    assert chosen("image", large, batch_size=128) == (128, 0.15)
    assert chosen("text", READ) == (64, 2e-3)
    assert chosen("text", FACTS["a pretrained network"]) == (16, 5e-5)
    assert chosen("language-model", READ) == (16, 6e-3)
    assert chosen("language-model", FACTS["a pretrained network"]) == (32, 5e-5)
    assert chosen("image", FACTS["data of one's own"]) == (20, None)


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
    with pytest.raises(DamagedData, match=rf"uses --{name}, which was removed\. Found 7\."):
        config_options(str(path))
    assert name not in OPTIONS
