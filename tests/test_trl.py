"""TRL's SFTTrainer with the mixin: padded rows, and rows that hold several documents."""

import random

import datasets
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

import fallow
from fallow import Fraction, Schedule, Subsampler, Watch
from fallow.integrations.huggingface import SubsamplingMixin

WORDS = [f"w{number}" for number in range(30)]


class Subsampling(SubsamplingMixin, SFTTrainer):
    pass


def tokenizer():
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<eos>", "<unk>", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def texts():
    draw = random.Random(0)
    rows = [" ".join(WORDS[:8]) if i % 2 else " ".join(draw.choices(WORDS, k=4 + i % 6)) for i in range(96)]
    return datasets.Dataset.from_dict({"text": rows})


def network():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=33, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    return LlamaForCausalLM(config).double()


def subsampler(n):
    return Subsampler(n, Fraction(0.4), Schedule(4), seed=2)


def watched(n):
    return Subsampler(n, Watch(), Schedule(4), seed=2)


def trained(out, subsampler=subsampler, kept_steps=True, **options):
    arguments = SFTConfig(
        output_dir=str(out), num_train_epochs=4, per_device_train_batch_size=4, learning_rate=0.3,
        report_to=[], use_cpu=True, save_strategy="no", logging_strategy="no", max_length=24,
        disable_tqdm=True, bf16=False, optim="sgd", **options,
    )  # fmt: skip
    made = Subsampling(
        network(), arguments, train_dataset=texts(), processing_class=tokenizer(), subsampler=subsampler,
        kept_steps=kept_steps,
    )  # fmt: skip
    made.train()
    return made


def plain(made, packed, subsampler=subsampler, kept_steps=True):
    """The loop, on the rows that the trainer has made; each row's score is the mean over its tokens."""
    model, rows = network().train(), made.train_dataset
    sub = subsampler(len(rows))
    loader = sub.loader(rows, 4, kept_steps=kept_steps, collate_fn=lambda samples: samples)
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    total = sub.total_steps(4)
    while sub.epoch < 4:
        for index, samples in loader:
            for parameters in optimizer.param_groups:
                parameters["lr"] = 0.3 * (1 - round(sub.progress * total) / total)
            batch = made.data_collator(samples)
            inputs = {k: v for k, v in batch.items() if k != "labels"}
            logits = model(**inputs, use_cache=False).logits
            values = fallow.scores.token_kl(logits, batch["labels"], shift=True)
            valid = ~fallow.scores.is_no_score(values)
            loss = values[valid].sum() / valid.sum()
            if packed:
                lengths = [len(sample["input_ids"]) for sample in samples]
                parts = zip(values[0].split(lengths), valid[0].split(lengths), strict=True)
                scores = torch.stack([part[which].mean() for part, which in parts])
            else:
                scores = values.where(valid, 0).sum(1) / valid.sum(1)
            sub.record(index, scores.detach(), loss=loss).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        sub.step()
    return sub, model


QUIET = pytest.mark.filterwarnings(
    "ignore:.*(pin_memory|packing)", "ignore::FutureWarning:trl.*", "ignore::FutureWarning:transformers.*"
)


@QUIET
@pytest.mark.parametrize("packed", [False, True])
def test_it_is_the_plain_loop(packed, tmp_path):
    made = trained(tmp_path, packing=packed)
    assert len(made.train_dataset) == (96 if not packed else made.subsampler.n)
    assert packed == (made.subsampler.n < 60)
    sub, model = plain(made, packed)
    assert sub.history[-1].learned > 0
    assert [r.used.tolist() for r in made.subsampler.history] == [r.used.tolist() for r in sub.history]
    for found, expected in zip(made.model.parameters(), model.parameters(), strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=1e-6)


@QUIET
def test_a_training_that_is_watched_tells_what_the_plain_loop_tells(tmp_path, capsys):
    made = trained(tmp_path, watched, kept_steps=None)
    said = capsys.readouterr().err
    found = made.subsampler.findings()
    assert said.count("Watched 96 samples for 4 epochs; none was left out.") == 1
    sub, model = plain(made, packed=False, subsampler=watched, kept_steps=None)
    assert all(record.used.all() for record in made.subsampler.history)
    assert str(found) == str(sub.findings())
    assert len(found.never_learned) > 0
    assert torch.equal(found.never_learned, sub.findings().never_learned)
    for weight, expected in zip(made.model.parameters(), model.parameters(), strict=True):
        assert torch.allclose(weight, expected, rtol=0, atol=1e-6)
