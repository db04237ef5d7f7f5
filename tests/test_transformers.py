"""Networks and tokenizers of `transformers`: tiny random ones, written and read here without a network."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fallow import Schedule, Subsampler, Threshold
from fallow.cli.main import main
from fallow.datasets.tokenizing import Tokenizer
from fallow.errors import FallowError, InvalidValue
from fallow.integrations.transformers import (
    PretrainedClassifier,
    PretrainedLanguageModel,
    load_classifier,
    load_language_model,
    longest,
)
from fallow.options.train_options import TrainOptions
from fallow.tasks.base import Recipe
from fallow.tasks.language_model import LanguageModelTask
from fallow.training.train import train
from test_resumed_runs import go_on, stopped_after
from test_text_runs import left
from told_console import Told

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WORDS = ["the", "a", "cat", "dog", "rat", "sat", "ran"]
WORDS += ["slept", "on", "under", "near", "mat", "house", "tree"]
NEUTRAL = [word for word in WORDS if word not in ("cat", "dog")]


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def sentences(n, seed=0, words=WORDS):
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(words, draw.integers(2, 9))) for _ in range(n)]


def a_tokenizer(*special, wrap=None):
    """A tokenizer of whole words with the special tokens in front."""
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(unk_token=special[1]))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    trainer = tokenizers.trainers.WordLevelTrainer(special_tokens=list(special), show_progress=False)
    inner.train_from_iterator([" ".join(WORDS)], trainer)
    if wrap:
        ids = [(token, inner.token_to_id(token)) for token in wrap]
        inner.post_processor = tokenizers.processors.TemplateProcessing(f"{wrap[0]} $A {wrap[1]}", None, ids)
    return inner


def saved(folder, model, inner, **tokens):
    """Write a model and its tokenizer into a folder."""
    model.save_pretrained(folder)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **tokens)
    fast.save_pretrained(folder)
    return str(folder)


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def config(kind, **more):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return kind(vocab_size=32, max_position_embeddings=40, **sizes, **more)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    made = seeded(lambda: transformers.BertModel(config(transformers.BertConfig)))
    inner = a_tokenizer("[PAD]", "[UNK]", "[CLS]", "[SEP]", wrap=("[CLS]", "[SEP]"))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return saved(tmp_path_factory.mktemp("bert"), made, inner, **names)


@pytest.fixture(scope="module")
def gpt(tmp_path_factory):
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40}
    found = transformers.GPT2Config(vocab_size=32, bos_token_id=0, eos_token_id=0, **sizes)
    made = seeded(lambda: transformers.GPT2LMHeadModel(found))
    inner = a_tokenizer("<|end|>", "<|unknown|>")
    return saved(tmp_path_factory.mktemp("gpt"), made, inner, eos_token="<|end|>", unk_token="<|unknown|>")


def scaled(name, **more):
    """A model of a family whose logits are not those of its output layer alone."""
    kind = getattr(transformers, f"{name}Config")
    found = config(kind, num_key_value_heads=2, pad_token_id=0, bos_token_id=0, eos_token_id=0, **more)
    return seeded(lambda: getattr(transformers, f"{name}ForCausalLM")(found))


SCALED = {
    "Cohere": {"logit_scale": 0.25},
    "Granite": {"logits_scaling": 8.0},
    "Gemma2": {"final_logit_softcapping": 0.05, "head_dim": 8},
}


class TestClassifier:
    def test_logits_are_the_model_s_own(self, bert):
        network, inner, pad = load_classifier(bert, ("no", "yes", "both"), {})
        assert isinstance(network, PretrainedClassifier)
        assert pad == 0
        network.eval()
        rows = [inner.encode(text).ids for text in sentences(6)]
        width = max(map(len, rows))
        tokens = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
        found = network(tokens)
        assert found.shape == (6, 3)
        for row, logits in zip(rows, found, strict=True):
            own = network.model(torch.tensor([row])).logits[0]
            torch.testing.assert_close(logits, own, rtol=1e-4, atol=1e-5)
        assert found.std(0).min() > 0

    def test_the_body_is_the_one_that_was_saved_and_classes_have_names(self, bert):
        network, _, _ = load_classifier(bert, ("no", "yes"), {})
        theirs = transformers.BertModel.from_pretrained(bert).state_dict()
        ours = network.model.bert.state_dict()
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())
        assert network.model.config.id2label == {0: "no", 1: "yes"}
        assert network.training
        assert network.model.classifier.weight.dtype == torch.float32

    def test_further_arguments(self, bert):
        network, _, _ = load_classifier(bert, ("a", "b"), {"hidden_dropout_prob": 0.4})
        assert network.model.config.hidden_dropout_prob == 0.4

    def test_a_text_of_nothing_is_finite(self, bert):
        network, _, pad = load_classifier(bert, ("a", "b"), {})
        assert network.eval()(torch.full((2, 5), pad)).isfinite().all()

    def test_its_tokenizer_keeps_its_marks(self, bert):
        _, inner, pad = load_classifier(bert, ("a", "b"), {})
        tokenizer = Tokenizer(inner, pad)
        ids = tokenizer.encode(["the cat sat", "a dog"]).ids.tolist()
        assert [inner.id_to_token(i) for i in ids] == [
            *("[CLS]", "the", "cat", "sat", "[SEP]"),
            *("[CLS]", "a", "dog", "[SEP]"),
        ]
        assert tokenizer.decode(ids[:5]) == "the cat sat"

    def test_a_text_that_is_cut_keeps_its_marks(self, bert):
        _, inner, pad = load_classifier(bert, ("a", "b"), {})
        found = Tokenizer(inner, pad).encode(["the cat sat on the mat"], 5)
        assert found.cut == 1
        assert [inner.id_to_token(i) for i in found.ids] == ["[CLS]", "the", "cat", "sat", "[SEP]"]

    def test_a_causal_model_looks_at_the_last_token_that_counts(self, gpt):
        network, inner, pad = load_classifier(gpt, ("a", "b"), {})
        network.eval()
        row = inner.encode("the cat sat").ids
        alone, filled = network(torch.tensor([row])), network(torch.tensor([row + [pad] * 4]))
        torch.testing.assert_close(alone, filled, rtol=1e-4, atol=1e-5)
        assert (alone - network(torch.tensor([row[:-1]]))).abs().max() > 1e-4


class TestLanguageModel:
    def test_hidden_states_and_output_layer_give_the_logits(self, gpt):
        network, inner, _ = load_language_model(gpt, {})
        network.eval()
        tokens = torch.tensor([inner.encode("the cat sat on the mat").ids])
        want = network.model(tokens).logits
        torch.testing.assert_close(network(tokens), want)
        assert isinstance(network.head, nn.Linear)
        torch.testing.assert_close(network.head(network.hidden(tokens)), want)
        assert network.head.weight is network.model.get_input_embeddings().weight

    @pytest.mark.parametrize("training", [True, False])
    def test_looking_at_it_changes_nothing(self, training):
        model = scaled("Granite").train(training)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        state = torch.random.get_rng_state()
        PretrainedLanguageModel(model)
        assert model.training == training
        assert torch.equal(torch.random.get_rng_state(), state)
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

    @pytest.mark.parametrize("name", SCALED)
    def test_logits_that_are_scaled_or_capped_are_asked_for(self, name):
        model = scaled(name, **SCALED[name])
        network = PretrainedLanguageModel(model)
        assert network.head is None
        check_loss(network)

    @pytest.mark.parametrize("name", ["Cohere", "Granite"])
    def test_a_scale_of_one_is_none(self, name):
        plain = {"Cohere": {"logit_scale": 1.0}, "Granite": {"logits_scaling": 1.0}}[name]
        network = PretrainedLanguageModel(scaled(name, **plain))
        assert network.head is not None
        check_loss(network)

    def test_a_cap_that_is_not_reached_yet_is_found(self):
        network = PretrainedLanguageModel(scaled("Gemma2", final_logit_softcapping=3.0, head_dim=8))
        assert network.head is None

    def test_a_layer_that_a_hook_changes_is_asked_for_its_logits(self, gpt):
        network, _, _ = load_language_model(gpt, {})
        network.model.get_output_embeddings().register_forward_hook(lambda layer, given, logits: 2 * logits)
        assert PretrainedLanguageModel(network.model).head is None

    def test_another_output_layer_is_asked_for_its_logits(self, gpt):
        class Doubled(nn.Linear):
            def forward(self, states):
                return 2 * super().forward(states)

        network, _, _ = load_language_model(gpt, {})
        layer = Doubled(16, 32, bias=False)
        network.model.set_output_embeddings(layer)
        found = PretrainedLanguageModel(network.model)
        assert found.head is None
        check_loss(found)


def check_loss(network):
    """Assert that loss, scores and gradients are the cross-entropy of the model's own logits."""
    model = network.model.double().train(False)
    sub = Subsampler(4, Threshold(low=0.1), Schedule(epochs=2))
    task = LanguageModelTask(network, 1.0, sub, Recipe(0.1, 5e-4, 0.2))
    windows = torch.randint(0, 32, (4, 13), generator=torch.Generator().manual_seed(3))
    found = task.measured(windows)
    logits = model(input_ids=windows[:, :-1], use_cache=False).logits
    want = F.cross_entropy(logits.transpose(1, 2), windows[:, 1:], reduction="none").mean(1)
    torch.testing.assert_close(found.scores, want.detach())
    torch.testing.assert_close(found.loss, want.mean())
    weights = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    ours, theirs = (torch.autograd.grad(loss, weights) for loss in (found.loss, want.mean()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
        assert float(other.abs().sum()) > 0


class TestFolders:
    def test_positions(self, bert, gpt):
        assert longest(load_classifier(bert, ("a", "b"), {})[0].model) == 40
        assert longest(load_language_model(gpt, {})[0].model) == 40
        roberta = transformers.RobertaModel(config(transformers.RobertaConfig))
        assert longest(roberta) == 38
        assert longest(nn.Linear(2, 2)) is None
        tokens = torch.full((1, 38), 5)
        assert roberta.eval()(tokens).last_hidden_state.shape == (1, 38, 16)
        with pytest.raises((IndexError, RuntimeError)):
            roberta(torch.full((1, 39), 5))

    @pytest.mark.parametrize(
        "load",
        [lambda name: load_classifier(name, ("a", "b"), {}), lambda name: load_language_model(name, {})],
    )
    def test_what_is_no_model(self, tmp_path, load):
        with pytest.raises(InvalidValue) as refused:
            load(str(tmp_path))
        said = str(refused.value)
        assert said.startswith(f"--model {tmp_path} must be a model that can be loaded. Found ")
        assert said.endswith("Name a model of the hub or a folder, with weights as safetensors.")
        assert "\n" not in said

    @pytest.mark.parametrize("name", ["./none", "../none", "~/none", "/none", "a/b/none", "{file}"])
    def test_what_can_only_be_a_folder_is_looked_for_on_the_disk(self, tmp_path, name):
        (tmp_path / "file").touch()
        name = name.format(file=tmp_path / "file")
        with pytest.raises(InvalidValue) as refused:
            load_language_model(name, {})
        found = "a file" if "file" in name else "no such folder"
        assert str(refused.value) == f"--model {name} must be a folder. Found {found}. Check the path."

    def test_a_name_of_the_hub_is_no_folder(self):
        for name in ("none", "a/none"):
            with pytest.raises(InvalidValue, match=f"--model {name} must be a model that can be loaded"):
                load_language_model(name, {})

    def test_a_reason_is_its_first_sentence(self, tmp_path):
        transformers.DistilBertConfig().save_pretrained(tmp_path)
        with pytest.raises(InvalidValue, match=r"AutoModel: AutoModelForCausalLM\. Name a model"):
            load_language_model(str(tmp_path), {})

    def test_the_hub_tells_no_retries_while_a_model_is_loaded(self, monkeypatch):
        hub = pytest.importorskip("huggingface_hub.utils.logging")
        before, seen = hub.get_verbosity(), []

        def load(*_, **__):
            seen.append(hub.get_verbosity())
            raise OSError("no such model")

        monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", load)
        with pytest.raises(InvalidValue, match=r"Found no such model\. Name"):
            load_language_model("none", {})
        assert seen == [hub.ERROR]
        assert hub.get_verbosity() == before != hub.ERROR

    def test_weights_that_would_be_unpickled_are_refused(self, gpt, tmp_path):
        model, inner, _ = load_language_model(gpt, {})
        saved(tmp_path, model.model, inner, eos_token="<|end|>")
        torch.save(model.model.state_dict(), tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
        with pytest.raises(InvalidValue, match="must be a model that can be loaded"):
            load_language_model(str(tmp_path), {})

    def test_code_in_a_folder_is_not_run(self, gpt, tmp_path):
        model, inner, _ = load_language_model(gpt, {})
        saved(tmp_path, model.model, inner, eos_token="<|end|>")
        about = json.loads((tmp_path / "config.json").read_text())
        about |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
        (tmp_path / "config.json").write_text(json.dumps(about))
        (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
        with pytest.raises(InvalidValue):
            load_language_model(str(tmp_path), {})
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
    def test_code_of_a_repository_is_not_fetched(self, gpt, tmp_path, key):
        model, inner, _ = load_language_model(gpt, {})
        saved(tmp_path, model.model, inner, eos_token="<|end|>")
        about = json.loads((tmp_path / "config.json").read_text())
        for more in ({key: "someone/kernel"}, {"text_config": {key: {"": "someone/kernel"}}}):
            (tmp_path / "config.json").write_text(json.dumps(about | more))
            with pytest.raises(InvalidValue, match=r"must not bring code\. Found .*someone/kernel"):
                load_language_model(str(tmp_path), {})

    def test_without_a_tokenizer(self, gpt, tmp_path):
        load_language_model(gpt, {})[0].model.save_pretrained(tmp_path)
        with pytest.raises(InvalidValue) as refused:
            load_language_model(str(tmp_path), {})
        assert "tokenizer" in str(refused.value)
        assert "\n" not in str(refused.value)

    def test_a_tokenizer_of_another_model(self, tmp_path):
        found = transformers.GPT2Config(vocab_size=8, n_embd=16, n_layer=1, n_head=2, n_positions=40)
        inner = a_tokenizer("<|end|>", "<|unknown|>")
        folder = saved(tmp_path, transformers.GPT2LMHeadModel(found), inner, eos_token="<|end|>")
        with pytest.raises(
            InvalidValue, match=r"must fit its model\. Found 16 tokens, 8 embeddings\. Save bo"
        ):
            load_language_model(folder, {})

    def test_cutting_and_filling_up_that_a_tokenizer_brings_are_switched_off(self, bert, tmp_path):
        network, inner, _ = load_classifier(bert, ("a", "b"), {})
        inner.enable_truncation(4)
        inner.enable_padding(length=12)
        saved(tmp_path, network.model, inner, pad_token="[PAD]")
        _, found, _ = load_classifier(str(tmp_path), ("a", "b"), {})
        assert len(found.encode("the cat sat on the mat").ids) == 8


def table(path, n=240):
    """Write sentences, each with a cat or a dog."""
    draw = np.random.default_rng(1)
    rows = []
    for text in sentences(n, words=NEUTRAL):
        animal = "cat" if draw.random() < 0.5 else "dog"
        rows.append(f"{animal} {text},{animal}\n")
    path.write_text("text,label\n" + "".join(rows))
    return str(path)


QUICK = ["--epochs", "3", "--policy", "threshold", "--low", "0.3", "--accelerator", "cpu"]


class TestTraining:
    def test_a_classifier(self, bert, tmp_path, capsys):
        run = tmp_path / "run"
        words = ["train", "--data", table(tmp_path / "a.csv"), "--model", bert, "--learning_rate", "0.01"]
        assert main([*words, *QUICK, "--epochs", "8", "--out", str(run)]) == 0
        summary = json.loads((run / "summary.json").read_text())
        assert summary["accuracy"] > 0.8
        kept = Tokenizer(tokenizers.Tokenizer.from_file(str(run / "tokenizer.json")), 0)
        assert kept.inner.encode("the cat").tokens == ["[CLS]", "the", "cat", "[SEP]"]
        assert main(["verify", str(run)]) == 0
        assert main(["train", "--resume", str(run)]) == 0
        assert "has finished" in capsys.readouterr().out

    WAYS = (
        ["--token_low", "3"],
        ["--score", "density", "--density", "gaussian", "--layers", "[model.transformer.h.0]"],
        ["--score", "density", "--density", "gaussian"],
    )
    RARELY = tuple(pytest.param(words, marks=pytest.mark.slow) for words in WAYS[1:])

    @pytest.mark.parametrize("words", [WAYS[0], *RARELY], ids=" ".join)
    def test_a_language_model(self, gpt, tmp_path, words):
        text, run = tmp_path / "a.txt", tmp_path / "run"
        text.write_text("\n".join(sentences(300)))
        given = ["train", "--data", str(text), "--model", gpt, "--learning_rate", "0.01", *QUICK, *words]
        assert main([*given, "--max_tokens", "16", "--out", str(run)]) == 0
        summary = json.loads((run / "summary.json").read_text())
        losses = [row["test_loss"] for row in summary["epochs"]]
        assert losses[-1] < losses[0]
        assert main(["verify", str(run)]) == 0

    @pytest.mark.slow
    def test_a_run_goes_on_from_another_folder(self, bert, tmp_path, monkeypatch):
        data, run = table(tmp_path / "a.csv"), tmp_path / "run"
        monkeypatch.chdir(Path(bert).parent)
        words = ["train", "--data", data, "--model", Path(bert).name, *QUICK, "--epochs", "1"]
        assert main([*words, "--out", str(run)]) == 0
        monkeypatch.chdir(tmp_path)
        assert main(["train", "--resume", str(run), "--epochs", "2", "--accept", "epochs"]) == 0

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["bert", "gpt"])
    def test_a_run_goes_on_exactly(self, request, tmp_path, monkeypatch, kind):
        model, data = request.getfixturevalue(kind), tmp_path / ("a.csv" if kind == "bert" else "a.txt")
        table(data, 200)
        options = {"data": str(data), "model": model, "epochs": 3, "batch_size": 16, "accelerator": "cpu"}
        options |= {"learning_rate": 0.01, "max_tokens": 16}
        train(TrainOptions(**options, out=str(tmp_path / "whole")), Told())
        assert stopped_after(monkeypatch, 6, TrainOptions(**options, out=str(tmp_path / "run")))
        go_on(tmp_path / "run")
        assert left(tmp_path / "run") == left(tmp_path / "whole")

    WRONG = (
        (["--max_tokens", "41"], "--max_tokens must be at most 40 with "),
        (["--tokenizer", "byte"], "A pretrained model brings its own tokenizer."),
        (["--vocabulary", "400"], "A pretrained model brings its own tokenizer."),
        (["--model_args", "{hiden: 3}"], "hiden"),
    )

    @pytest.mark.parametrize(("words", "said"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
    def test_wrong_use(self, bert, tmp_path, capsys, words, said):
        given = ["train", "--data", table(tmp_path / "a.csv"), "--model", bert, "--epochs", "1"]
        assert main([*given, *words, "--out", str(tmp_path / "run")]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"needs transformers\. Run `pip install \"fallow\[hf\]\"`\."
    ):
        load_language_model("gpt2", {})
    assert not issubclass(ModuleNotFoundError, FallowError)
