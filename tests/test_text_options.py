"""What ``fallow train`` takes for granted of texts, and which options it refuses beside them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.errors import InvalidType, InvalidValue
from fallow.options.checks import check
from fallow.options.factories import make_policy
from fallow.options.resolve import as_given, high_side, resolve
from fallow.options.train_options import TrainOptions

IMAGE, TEXT, LANGUAGE = "image", "text", "language-model"
TASKS = [
    ({"data": "digits"}, IMAGE),
    ({"data": "images.npz"}, IMAGE),
    ({"data": "package.module:Class"}, IMAGE),
    ({"data": "a/b/book.txt"}, LANGUAGE),
    ({"data": "BOOK.TXT"}, LANGUAGE),
    ({"data": "a.csv"}, TEXT),
    ({"data": "a.CSV"}, TEXT),
    ({"data": "a.tsv"}, TEXT),
    ({"data": "a.jsonl"}, TEXT),
    ({"data": "a.ndjson"}, TEXT),
    ({"data": "a.parquet"}, TEXT),
    ({"data": "a.csv", "text": "body"}, LANGUAGE),
    ({"data": "a.csv", "label": "kind"}, TEXT),
    ({"data": "a.csv", "text": "body", "label": "kind"}, TEXT),
    ({"data": "folder", "text": "body"}, LANGUAGE),
    ({"data": "folder", "label": "kind"}, TEXT),
    ({"data": "hf:owner/name"}, TEXT),
    ({"data": "hf:imdb", "label": "label"}, TEXT),
    ({"data": "hf:wikitext", "text": "text"}, LANGUAGE),
    ({"data": "a.csv", "task": LANGUAGE}, LANGUAGE),
    ({"data": "digits", "task": "autoencoder"}, "autoencoder"),
]


def told(given):
    return " ".join(f"{name}={value}" for name, value in given.items())


@pytest.mark.parametrize(("given", "task"), TASKS, ids=[told(given) for given, _ in TASKS])
def test_what_data_are_for(given, task):
    assert resolve(TrainOptions(**given)).task == task


@pytest.mark.parametrize(
    "names", [("train.csv", "test.csv"), ("train.jsonl",), ("train.parquet", "dev.parquet")]
)
def test_a_folder_with_a_train_table_is_of_texts(tmp_path, names):
    for name in names:
        (tmp_path / name).touch()
    assert resolve(TrainOptions(data=str(tmp_path))).task == TEXT


RESOLVED = [
    ("digits", "auto", 5e-4, 0.2, 30),
    ("images.npz", "auto", 5e-4, 0.2, 20),
    ("a.jsonl", "small-transformer", 0.05, 0.2, 10),
    ("book.Txt", "small-gpt", 0.1, 0.1, 10),
]


@pytest.mark.parametrize(("data", "model", "decay", "share", "epochs"), RESOLVED)
def test_what_hangs_on_the_task(data, model, decay, share, epochs):
    found = resolve(TrainOptions(data=data))
    assert (found.model, found.weight_decay, found.test_share) == (model, decay, share)
    assert found.epochs == epochs
    assert resolve(TrainOptions(data=data, epochs=3)).epochs == 3


@pytest.mark.parametrize(
    ("given", "policy"),
    [
        ({"data": "digits"}, "error-mass"),
        ({"data": "a.csv"}, "error-mass"),
        ({"data": "a.txt"}, "error-mass"),
        ({"data": "a.txt", "fraction": 0.3, "high": 5.0}, "fraction"),
        ({"data": "a.txt", "policy": "soft"}, "soft"),
        ({"data": "a.txt", "exponent": 1.0}, "soft"),
        ({"data": "a.txt", "score": "density"}, "soft"),
        ({"data": "digits", "task": "autoencoder"}, "soft"),
    ],
)
def test_the_policy_where_nothing_is_said(given, policy):
    options = check(TrainOptions(**given))
    assert options.policy == policy
    share = 0.25 if options.task == "language-model" else 0.5
    if policy == "error-mass":
        assert make_policy(options).error == 0.15
    else:
        assert make_policy(options).fraction == (given.get("fraction") or share)


def test_resolving_changes_nothing_that_was_given_and_is_done_once():
    options = TrainOptions(data="a.csv", max_tokens=50, exponent=1.0, seed=4)
    resolved = resolve(options)
    assert resolve(resolved) is resolved
    named = {"task": TEXT, "weight_decay": 0.05, "test_share": 0.2}
    assert as_given(resolved) == replace(options, **named, policy="soft")
    assert options == TrainOptions(data="a.csv", max_tokens=50, exponent=1.0, seed=4)
    changed = {name for name, value in vars(options).items() if getattr(resolved, name) != value}
    assert changed == resolved.chosen | named.keys() | {"policy"}
    assert {"text", "label", "visits", "epochs"} <= resolved.chosen
    assert not {"max_tokens", "exponent", "seed"} & resolved.chosen
    assert resolved.noted == ["epochs", "kept_steps", "label", "model", "text"]


def test_a_high_side_looks_for_wrong_labels_where_there_are_labels():
    assert high_side(resolve(TrainOptions(data="a.csv"))) == "auto"
    assert high_side(resolve(TrainOptions(data="a.txt"))) is None
    assert high_side(resolve(TrainOptions(data="a.txt", high=4.0))) == 4.0
    assert high_side(resolve(TrainOptions(data="a.csv", high="none"))) is None


GOOD = [
    {"data": "a.csv", "tokenizer": "byte"},
    {"data": "a.csv", "tokenizer": "bpe", "vocabulary": 500, "max_tokens": 2},
    {"data": "a.csv", "score": "tv", "policy": "selective-backprop"},
    {"data": "a.csv", "score": "density", "high": "auto"},
    {"data": "a.csv", "augment": "none"},
    {"data": "a.txt", "token_low": 0, "token_high": 7},
    {"data": "a.txt", "token_low": 0.0},
    {"data": "a.txt", "score": "density", "token_high": 9.5},
    {"data": "a.txt", "policy": "threshold", "low": 0.5, "high": 5.0, "visits": 2},
    {"data": "a.txt", "policy": "infobatch"},
]


@pytest.mark.parametrize("given", GOOD, ids=told)
def test_what_goes_together(given):
    check(TrainOptions(**given))


OF_TEXTS = {
    "text": "body", "label": "kind", "tokenizer": "bpe", "vocabulary": 500, "max_tokens": 64,
    "token_low": 0.0, "token_high": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("task", [IMAGE, "autoencoder"])
@pytest.mark.parametrize("name", OF_TEXTS)
def test_options_of_texts_where_there_are_images(task, name):
    with pytest.raises(InvalidValue) as refused:
        check(TrainOptions(data="digits", task=task, **{name: OF_TEXTS[name]}))
    what = "--task language-model" if name.startswith("token_") else "texts"
    found = f"--{name} {OF_TEXTS[name]} with --task {task}"
    assert str(refused.value) == f"--{name} goes with {what}. Found {found}. Leave it out."


@pytest.mark.parametrize("data", ["a.csv", "a.txt"])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"image_size": 32}, "--image_size goes with images. Found --image_size 32 with --task {task}."),
        ({"add": "picks.csv"}, "--add goes with images. Found --add picks.csv with --task {task}."),
        ({"augment": "crop"}, "--augment goes with images. Found --augment crop with --task {task}."),
        (
            {"augment": "crop-flip"},
            "--augment goes with images. Found --augment crop-flip with --task {task}.",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_of_images_where_there_are_texts(data, given, said):
    with pytest.raises(InvalidValue) as refused:
        check(options := TrainOptions(data=data, **given))
    assert str(refused.value) == f"{said.format(task=resolve(options).task)} Leave it out."


WRONG = [
    ({"data": "a.csv", "tokenizer": "bytes"}, "Unknown tokenizer. Found 'bytes'. Did you mean 'byte'? Known"),
    ({"data": "a.txt", "tokenizer": "word"}, "Unknown tokenizer. Found 'word'. Known: bpe, byte."),
    ({"data": "a.txt", "tokenizer": "byte", "vocabulary": 300}, "--vocabulary goes with --tokenizer bpe. "),
    ({"data": "a.csv", "vocabulary": 1}, "--vocabulary must be at least 2. Found 1."),
    ({"data": "a.csv", "max_tokens": 1}, "--max_tokens must be at least 2. Found 1."),
    (
        {"data": "a.csv", "token_high": 2.0},
        "--token_high goes with --task language-model. Found --token_high 2.0 with --task text. ",
    ),
    ({"data": "a.txt", "label": "x"}, "A language model has no labels. Found --label x. Leave it out."),
    (
        {"data": "a.csv", "label": "x", "task": LANGUAGE},
        "A language model has no labels. Found --label x. Leave it out.",
    ),
    ({"data": "a.txt", "score": "tv"}, "A language model is scored by kl or density. Found tv. Use kl "),
    (
        {"data": "a.txt", "policy": "selective-backprop"},
        "is for classifiers. Found selective-backprop. Use --",
    ),
    (
        {"data": "a.txt", "high": "auto"},
        "--high auto finds wrong labels, and a language model has no labels.",
    ),
    ({"data": "a.txt", "token_low": 3, "token_high": 1}, "must be below --token_high. Found 3 and 1."),
    ({"data": "a.txt", "token_low": -0.1}, "--token_low must be at least 0, in nats. Found -0.1."),
    ({"data": "a.csv", "layers": ["head"]}, "--layers goes with --score density."),
    (
        {"data": "digits", "score": "density", "policy": "error-mass"},
        "A percentile under a density is no error.",
    ),
    ({"data": "a.txt", "visits": 2}, "--visits is for outliers, which need --high. Found --visits 2."),
    ({"data": "a.csv", "task": "texts"}, "Unknown task. Found 'texts'. Did you mean 'text'?"),
    ({"task": TEXT}, "--data must say what to train on."),
]


@pytest.mark.parametrize(("given", "said"), WRONG, ids=[told(given) for given, _ in WRONG])
def test_what_does_not_go_together(given, said):
    with pytest.raises(InvalidValue) as refused:
        check(TrainOptions(**given))
    assert said in str(refused.value)
    assert " Found " in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("text", 3, "a text or None"),
        ("label", ["a", "b"], "a text or None"),
        ("vocabulary", 300.5, "a whole number or None"),
        ("max_tokens", "64", "a whole number or None"),
        ("token_low", "auto", "a number or None"),
        ("token_low", True, "a number or None"),
    ],
)
def test_options_of_another_kind(name, value, kind):
    with pytest.raises(InvalidType, match=rf"`{name}` must be {kind}\. Found "):
        check(TrainOptions(data="a.txt", **{name: value}))


bounds = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.integers(-3, 9)


@given(low=bounds, high=bounds)
def test_thresholds_of_tokens_are_those_that_the_rule_takes(low, high):
    fits = all(value is None or 0 <= value < float("inf") for value in (low, high))
    fits = fits and (low is None or high is None or low < high)
    options = TrainOptions(data="a.txt", token_low=low, token_high=high)
    if fits:
        check(options)
    else:
        with pytest.raises(InvalidValue, match=r"^--token_(low|high) must be "):
            check(options)
