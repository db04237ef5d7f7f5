"""Every way to misspell a command line ends in one line: the rule, the value found, the next step."""

import pytest

from fallow.cli.main import main

WRONG = {
    "tran": "Unknown command. Found 'tran'. Did you mean 'train'?",
    "report": "`fallow report` needs RUN. Found none. See `fallow report --help`.",
    "inspect": "`fallow inspect` needs RUN and ID.",
    "inspect runs/x": "`fallow inspect` needs ID.",
    "verify runs/x --jsn": "An option must be one of `fallow verify`. Found --jsn. Did you mean --json?",
    "export a b": "`fallow export` takes no more arguments. Found b.",
    "export a --format": "--format needs a value.",
    "train --polcy=soft": "An option must be one of `fallow train`. Found --polcy. Did you mean --policy?",
    "train --xyzzyx 1": "An option must be one of `fallow train`. Found --xyzzyx. See `fallow train --help`.",
    "train digits": "`fallow train` takes no more arguments. Found digits.",
    "train --epochs two": "--epochs must be a whole number. Found two.",
    "train --fraction [1": "--fraction must be a number. Found [1.",
    "train --skip_corrupt=7": "--skip_corrupt must be true or false. Found 7.",
    "train --trainer {": "--trainer must be a mapping in YAML or JSON, as '{name: value}'. Found {.",
    "train --config nowhere.yaml": "--config must name a readable file. Found nowhere.yaml: No such file",
    "compare --sed 1": "An option must be one of `fallow compare`. Found --sed. Did you mean --seed",
}


@pytest.mark.parametrize("words", WRONG)
def test_words_that_no_command_takes(words, capsys):
    assert main(words.split()) == 2
    out, error = capsys.readouterr()
    assert error.startswith(f"fallow: error: {WRONG[words]}")
    assert error.count("\n") == 1
    assert not out
    for leak in ("Parser key", "<class", "Union", "report.run", "inspect.sample"):
        assert leak not in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "data: digits\nepohcs: 3\n",
            "An option must be one of `fallow train`. Found --epohcs.",
        ),
        ("data: digits\nepochs: many\n", "--epochs must be a whole number. Found many."),
        ("data: [\n", "must be readable YAML. Found while parsing"),
    ],
)
def test_a_file_of_options_that_cannot_be_meant(text, message, tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    assert main(["train", "--config", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fallow: error: ")
    assert message in error
    assert error.count("\n") == 1
