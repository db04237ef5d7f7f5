"""Hugging Face's Trainer with the mixin, against a plain loop of the same network."""

import json
import os
import warnings
from pathlib import Path

import datasets
import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import fallow
from fallow import ErrorMass, Fraction, Schedule, Subsampler, Threshold
from fallow.errors import FallowError
from fallow.integrations.huggingface import FILE, SubsamplingMixin
from ranks import in_ranks

N, EPOCHS, BATCH, RATE = 160, 5, 8, 0.3
RULES = {
    "kept steps": (Fraction(0.4), {}),
    "dropped steps": (Threshold(0.3), {"readmit_every": 3}),
    "outliers": (Fraction(0.4, high=1.2, visits=2), {"outliers": "remeasure", "readmit_every": 2}),
}

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory")


class Subsampling(SubsamplingMixin, Trainer):
    pass


def texts(classes=4):
    """Token ids whose first half tells the class for most of them."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(N) % classes
    ids = torch.randint(8, 20, (N, 6), generator=generator)
    told = torch.rand(N, generator=generator) < 0.8
    ids[told, :3] = labels[told, None] + 1
    return [{"input_ids": row, "labels": int(label)} for row, label in zip(ids, labels, strict=True)]


def network(dropout=0.0):
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        num_labels=4, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    return BertForSequenceClassification(config).double()


def subsampler(rule):
    policy, schedule = RULES[rule]
    labels = torch.tensor([text["labels"] for text in texts()])
    return Subsampler(N, policy, Schedule(EPOCHS, **schedule), seed=3, labels=labels, min_kept=40)


def trainer(rule, out, accumulate=1, dropout=0.0, batch=BATCH, sub=None, epochs=EPOCHS, **options):
    options = {"save_strategy": "no", "lr_scheduler_type": "linear", **options}
    arguments = TrainingArguments(
        output_dir=str(out), num_train_epochs=epochs, per_device_train_batch_size=batch, learning_rate=RATE,
        gradient_accumulation_steps=accumulate, report_to=[], disable_tqdm=True, use_cpu=True, seed=5,
        # By default the Trainer multiplies this model's loss by the number of processes.
        optim="sgd", logging_steps=1, average_tokens_across_devices=False, **options,
    )  # fmt: skip
    return Subsampling(
        network(dropout),
        arguments,
        train_dataset=texts(),
        subsampler=sub or subsampler(rule),
        kept_steps=rule == "kept steps",
    )


def plain(rule, accumulate=1):
    """The loop of docs/your-own-loop.md, with the optimizer and the schedule of the Trainer."""
    sub, model = subsampler(rule), network()
    keeps = rule == "kept steps"
    options = {"accumulate": accumulate, "kept_steps": True} if keeps else {}
    collate = trainer(rule, "unused").data_collator
    loader = sub.loader(texts(), BATCH, collate_fn=collate, **options)
    no_decay = trainer(rule, "unused")
    no_decay.model = model
    optimizer = no_decay.create_optimizer()
    rates, planned = [], EPOCHS * -(-N // (BATCH * accumulate))
    model.train()

    def measure(index, batch):
        logits = model(**batch).logits
        return fallow.kl_divergence(logits, batch["labels"]), logits.argmax(1)

    while sub.epoch < sub.epochs:
        group = sub.accumulate if keeps else accumulate
        batches = list(loader)
        for first in range(0, len(batches), group):
            some = batches[first : first + group]
            rates.append(RATE * (1 - round(sub.progress * planned) / planned))
            for parameters in optimizer.param_groups:
                parameters["lr"] = rates[-1]
            for number, (index, batch) in enumerate(some):
                logits = model(**batch).logits
                losses = fallow.kl_divergence(logits, batch["labels"])
                last = number == len(some) - 1
                loss = sub.record(index, losses, predicted=logits.argmax(1), accumulating=not last)
                # The Trainer adds up the means of this model's batches, and does not divide them.
                (loss * accumulate / group if keeps else loss).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        sub.remeasure(texts(), measure, 8, collate_fn=collate)
        sub.step()
    return sub, model, rates


def used(sub):
    return [record.used.tolist() for record in sub.history]


def close(first, second, atol=1e-10):
    return all(
        torch.allclose(a, b, rtol=0, atol=atol)
        for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


@pytest.mark.parametrize("accumulate", [1, 3, 4])
@pytest.mark.parametrize("rule", RULES)
def test_it_is_the_plain_loop(rule, accumulate, tmp_path):
    expected, model, rates = plain(rule, accumulate)
    assert any(not all(epoch) for epoch in used(expected))
    found = trainer(rule, tmp_path, accumulate)
    found.train()
    assert used(found.subsampler) == used(expected)
    assert torch.allclose(found.subsampler.scores, expected.scores, rtol=0, atol=1e-6)
    assert close(found.model, model)
    assert found.state.global_step == len(rates)
    assert found.state.epoch == EPOCHS
    assert found.lr_scheduler.get_last_lr()[0] == pytest.approx(0, abs=1e-9)
    logged = [row["learning_rate"] for row in found.state.log_history if "learning_rate" in row]
    assert logged == pytest.approx(rates)


# Without a last batch of one sample, which two ranks cannot divide.
IN_RANKS = [("kept steps", 3), ("dropped steps", 4), ("dropped steps", 1)]
STOPPED = [("kept steps", 3), ("dropped steps", 4), ("outliers", 1)]


def goes_on(rule, accumulate, tmp_path, every):
    options = {"accumulate": accumulate, "dropout": 0.3, "save_strategy": "steps", "save_steps": 1}
    whole = trainer(rule, tmp_path / "whole", **options)
    whole.train()
    saved = sorted((tmp_path / "whole").iterdir(), key=lambda path: int(path.name.split("-")[1]))
    assert len(saved) == whole.state.global_step > 20
    options["save_strategy"] = "no"
    for number, checkpoint in enumerate(saved):
        at_the_end = json.loads((checkpoint / "trainer_state.json").read_text())["epoch"] % 1 == 0
        if number % every and not at_the_end:
            continue
        again = trainer(rule, tmp_path / "again", **options)
        again.train(resume_from_checkpoint=str(checkpoint))
        assert again.state.global_step == whole.state.global_step
        assert again.state.epoch == EPOCHS
        assert used(again.subsampler) == used(whole.subsampler)
        assert close(again.model, whole.model)
        arguments = torch.load(checkpoint / "training_args.bin", weights_only=False)
        assert arguments.gradient_accumulation_steps == accumulate


@pytest.mark.parametrize(("rule", "accumulate"), STOPPED)
def test_it_goes_on_from_the_ends_of_epochs_and_between(rule, accumulate, tmp_path):
    goes_on(rule, accumulate, tmp_path, 16)


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "accumulate"), STOPPED)
def test_it_goes_on_from_every_checkpoint(rule, accumulate, tmp_path):
    goes_on(rule, accumulate, tmp_path, 1)


def as_rank(rank, size):
    """Set what Accelerate reads, as torchrun would."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "ACCELERATE_USE_CPU": 1}
    names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0}
    os.environ |= {name: str(value) for name, value in names.items()}
    warnings.simplefilter("ignore")


def train_in_ranks(rank, size, folder):
    for rule, accumulate in IN_RANKS:
        place = Path(folder) / f"{rule}-{accumulate}"
        options = {"accumulate": accumulate, "batch": BATCH // size}
        whole = trainer(rule, place, save_strategy="steps", save_steps=7, **options)
        whole.train()
        found = {"used": used(whole.subsampler), "weights": list(whole.model.parameters())}
        found["steps"] = whole.state.global_step
        torch.save(found, f"{place}-{rank}.pt")
        again = trainer(rule, place / "again", **options)
        again.train(resume_from_checkpoint=str(place / "checkpoint-14"))
        assert used(again.subsampler) == used(whole.subsampler)
        assert close(again.model, whole.model)


class Windows(SubsamplingMixin, Trainer):
    """Trains a language model, whose loss is divided by the tokens of the step."""


def windows():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 12, (120, 9), generator=generator)
    ids[::2] = torch.arange(9) + 1  # half of them are one text
    return [{"input_ids": row, "labels": row} for row in ids]


def language_model():
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=12, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    return LlamaForCausalLM(config).double()


def train_windows(out, accumulate, batch=6, policy=None, **options):
    arguments = TrainingArguments(
        output_dir=str(out), num_train_epochs=4, per_device_train_batch_size=batch, learning_rate=0.5,
        gradient_accumulation_steps=accumulate, report_to=[], disable_tqdm=True, use_cpu=True, seed=5,
        optim="sgd", save_strategy="no", logging_strategy="no", **options,
    )  # fmt: skip
    sub = Subsampler(120, policy or Fraction(0.45), Schedule(4), seed=3)
    found = Windows(language_model(), arguments, train_dataset=windows(), subsampler=sub, kept_steps=True)
    found.train()
    return found


def plain_windows(accumulate):
    model = language_model().train()
    sub = Subsampler(120, Fraction(0.45), Schedule(4), seed=3)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    loader = sub.loader(windows(), 6, kept_steps=True, accumulate=accumulate)
    while sub.epoch < 4:
        waiting, planned = 0, sub.total_steps(6)
        for index, batch in loader:
            if not waiting:
                for parameters in optimizer.param_groups:
                    parameters["lr"] = 0.5 * (1 - round(sub.progress * planned) / planned)
            waiting = (waiting + 1) % sub.accumulate
            scores = fallow.sequence_kl(model(batch["input_ids"]).logits, batch["labels"], shift=True)
            (sub.record(index, scores, accumulating=waiting > 0) / sub.accumulate).backward()
            if not waiting:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        sub.step()
    return sub, model


@pytest.mark.parametrize("accumulate", [1, 3, 4])
def test_a_language_model_is_that_of_the_plain_loop(accumulate, tmp_path):
    sub, model = plain_windows(accumulate)
    assert sub.history[-1].kept == 66
    found = train_windows(tmp_path, accumulate)
    assert used(found.subsampler) == used(sub)
    # The loss of the model is computed in float32.
    assert close(found.model, model, 1e-6)


def windows_in_ranks(rank, size, folder):
    for accumulate in (1, 3):
        found = train_windows(folder, accumulate, 3)
        torch.save((used(found.subsampler), list(found.model.parameters())), f"{folder}/{accumulate}-{rank}")


def both(rank, size, folder):
    as_rank(rank, size)
    train_in_ranks(rank, size, folder)
    windows_in_ranks(rank, size, folder)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    in_ranks(both, 2, str(folder))
    return folder


def test_two_processes_are_the_run_of_one(ranks, tmp_path):
    for rule, accumulate in IN_RANKS:
        alone = trainer(rule, tmp_path / "alone", accumulate)
        alone.train()
        for rank in range(2):
            found = torch.load(ranks / f"{rule}-{accumulate}-{rank}.pt", weights_only=False)
            assert found["used"] == used(alone.subsampler)
            assert found["steps"] == alone.state.global_step
            for one, other in zip(found["weights"], alone.model.parameters(), strict=True):
                assert torch.allclose(one, other, rtol=0, atol=1e-10)
        # On one process from a checkpoint of two.
        again = trainer(rule, tmp_path / "again", accumulate)
        again.train(resume_from_checkpoint=str(ranks / f"{rule}-{accumulate}" / "checkpoint-21"))
        assert used(again.subsampler) == used(alone.subsampler)


def test_tokens_averaged_over_processes_give_the_run_of_one(ranks):
    for accumulate in (1, 3):
        sub, model = plain_windows(accumulate)
        for rank in range(2):
            mask, weights = torch.load(ranks / f"{accumulate}-{rank}", weights_only=False)
            assert mask == used(sub)
            for one, other in zip(weights, model.parameters(), strict=True):
                assert torch.allclose(one, other, rtol=0, atol=1e-6)


def small(data, model, sub, **named):
    """A trainer of two epochs on a few samples; ``named``: of the mixin, the Trainer or its arguments."""
    ours = {key: named.pop(key) for key in ("score", "kept_steps", "compute_loss_func") if key in named}
    arguments = TrainingArguments(
        output_dir="unused", per_device_train_batch_size=4, report_to=[], disable_tqdm=True, use_cpu=True,
        save_strategy="no", logging_strategy="no", **{"num_train_epochs": 2, **named},
    )  # fmt: skip
    return Subsampling(model, arguments, train_dataset=data, subsampler=sub, **ours)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_train_epochs": 3}, r"num_train_epochs must be 2, the epochs of the Schedule\. Found 3"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size does not go with a subsampler"),
        ({"use_liger_kernel": True}, "Its loss has no logits to score: set use_liger_kernel=False"),
        ({"train_sampling_strategy": "group_by_length"}, "The subsampler must order the samples"),
    ],
)
def test_arguments_that_do_not_go_with_a_subsampler_raise(options, message, tmp_path):
    with pytest.raises(FallowError, match=message):
        small(texts(), network(), Subsampler(N, Threshold(0.2), Schedule(2)), **options)


def test_wrong_use_raises_before_the_first_step():
    class Bare(SubsamplingMixin):
        pass

    sub = Subsampler(N, Threshold(0.2), Schedule(2))
    with pytest.raises(FallowError, match=r"class SubsamplingTrainer\(SubsamplingMixin, Trainer\)"):
        Bare(subsampler=sub)
    with pytest.raises(FallowError, match=r"`subsampler` must be a Subsampler\. Found str"):
        small(texts(), network(), "threshold")
    with pytest.raises(FallowError, match="has no weights of samples"):
        small(texts(), network(), Subsampler(N, fallow.policies.BelowMean(0.5), Schedule(2)))
    with pytest.raises(FallowError, match=r"training set of 160 samples .* Found 100 samples"):
        small(texts()[:100], network(), sub).train()
    with pytest.raises(FallowError, match="max_steps needs a number of steps that is known"):
        small(texts(), network(), sub, max_steps=30).train()
    with pytest.raises(FallowError, match=r"max_steps must be at most 80, .* 2 epochs .* Found 81"):
        small(texts(), network(), Subsampler(N, ErrorMass(), Schedule(2)), max_steps=81).train()


def test_the_number_of_steps_may_be_named_and_is_exact():
    found = small(texts(), network(), Subsampler(N, ErrorMass(), Schedule(2)), max_steps=55)
    found.train()
    assert found.state.global_step == found.state.max_steps == 55
    assert found.lr_scheduler.get_last_lr()[0] == 0
    assert (found.subsampler.epoch, found.subsampler.progress) == (1, pytest.approx(55 / 80))


def test_a_checkpoint_without_the_subsampler_or_a_damaged_one_raises(tmp_path):
    made = trainer("kept steps", tmp_path, save_strategy="steps", save_steps=40)
    made.train()
    checkpoint = tmp_path / "checkpoint-40"
    data = (checkpoint / FILE).read_bytes()
    (checkpoint / FILE).write_bytes(data[:-9])
    for message in (f"{FILE} must be", f"must hold {FILE}, the state of the subsampler"):
        with pytest.raises(FallowError, match=message):
            trainer("kept steps", tmp_path / "again").train(resume_from_checkpoint=str(checkpoint))
        (checkpoint / FILE).unlink(missing_ok=True)


def test_a_training_goes_on_with_the_same_global_batch_only(tmp_path):
    whole = trainer("kept steps", tmp_path, save_strategy="steps", save_steps=40)
    whole.train()
    checkpoint = str(tmp_path / "checkpoint-40")
    with pytest.raises(FallowError, match=r"with the global batch of .*checkpoint-40, 8 samples\. Found 16"):
        trainer("kept steps", tmp_path / "again", batch=16).train(resume_from_checkpoint=checkpoint)
    again = trainer("kept steps", tmp_path / "again", batch=4, accumulate=2)
    again.train(resume_from_checkpoint=checkpoint)
    assert again.state.global_step == whole.state.global_step
    assert again.subsampler.epoch == EPOCHS


def test_the_mixin_stands_before_the_trainer():
    with pytest.raises(FallowError, match=r"before Trainer\. Found class Late\(Trainer, SubsamplingMixin\)"):

        class Late(Trainer, SubsamplingMixin):
            pass

    class Deeper(Subsampling):
        pass

    assert Deeper.__mro__.index(SubsamplingMixin) < Deeper.__mro__.index(Trainer)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ("kl", r"`score` must be a function of logits and labels\. Found 'kl'"),
        (
            lambda logits, labels: logits.mean(),
            r"each of its 4 samples, \(4,\)\. Found \(\)\. Let `score` return",
        ),
        (lambda logits, labels: logits[:3, 0], r"each of its 4 samples, \(4,\)\. Found \(3,\)\. Let `score`"),
        (lambda logits, labels: 1.0, r"each of its 4 samples, \(4,\)\. Found float\. Let `score`"),
    ],
)
def test_a_score_that_is_not_one_for_each_sample_raises(score, message):
    with pytest.raises(FallowError, match=message):
        small(texts(), network(), Subsampler(N, Threshold(0.2), Schedule(2)), score=score).train()


def test_a_finished_subsampler_trains_no_second_time():
    found = small(texts(), network(), Subsampler(N, Threshold(0.2), Schedule(2)))
    found.train()
    with pytest.raises(FallowError, match="All 2 epochs are done"):
        found.train()


def test_several_labels_a_sample_and_scores_of_ones_own():
    several = torch.eye(4).double()
    data = [text | {"labels": several[text["labels"]]} for text in texts()]
    model = network()
    model.config.problem_type = "multi_label_classification"
    sub = Subsampler(N, Threshold(0.2), Schedule(2))
    small(data, model, sub).train()
    assert sub.scores.max() < 3
    values = [{"input_ids": text["input_ids"], "labels": float(text["labels"])} for text in texts()]
    config = BertConfig(**{**network().config.to_dict(), "num_labels": 1})
    model = BertForSequenceClassification(config)
    sub = Subsampler(N, Threshold(0.2), Schedule(2))
    with pytest.raises(FallowError, match=r"labels \(4,\) torch.float32. Pass score=: a function of both"):
        small(values, model, sub).train()
    own = small(values, model, sub, score=lambda logits, labels: (logits[:, 0] - labels).square())
    own.train()
    assert sub.epoch == 2


def test_a_model_without_logits_is_refused_with_what_to_change():
    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, input_ids, labels):
            return {"loss": self.inner(input_ids=input_ids, labels=labels).loss}

    with pytest.raises(FallowError, match=r"must return logits .* Found NoneType\. Turn off what fuses"):
        small(texts(), Fused(), Subsampler(N, Threshold(0.2), Schedule(2))).train()


def test_a_dataset_with_other_columns_and_workers_and_evaluation_inside_epochs(tmp_path):
    rows = {key: [text[key] for text in texts()] for key in ("input_ids", "labels")}
    rows["note"] = ["not for the model"] * N
    data = datasets.Dataset.from_dict(rows).with_format("torch")
    sub = Subsampler(N, ErrorMass(), Schedule(2))
    arguments = TrainingArguments(
        output_dir=str(tmp_path), num_train_epochs=2, per_device_train_batch_size=8, report_to=[],
        disable_tqdm=True, use_cpu=True, eval_strategy="steps", eval_steps=7, logging_strategy="no",
        dataloader_num_workers=2, dataloader_persistent_workers=True, load_best_model_at_end=True,
        save_steps=7,
    )  # fmt: skip
    found = Subsampling(
        network(), arguments, train_dataset=data, eval_dataset=data.select(range(40)), subsampler=sub
    )
    found.train()
    assert found.state.global_step == 40
    assert sum("eval_loss" in row for row in found.state.log_history) == 6
    assert [record.backward for record in sub.history] == [N, N]


def test_the_subsampler_may_be_made_when_the_dataset_is_known():
    made = small(texts(), network(), lambda n: Subsampler(n, Threshold(0.2), Schedule(2)))
    assert made.subsampler.n == N


def test_an_early_end_and_a_stopped_epoch():
    class Stops(TrainerCallback):
        def on_step_end(self, args, state, control, **named):
            control.should_epoch_stop = state.global_step == 5

    sub = Subsampler(N, ErrorMass(), Schedule(4))
    found = small(texts(), network(), sub, num_train_epochs=4)
    found.add_callback(Stops())
    with pytest.warns(UserWarning, match="20 of 160 samples planned for epoch 1 of 4 were recorded"):
        found.train()
    assert [record.backward for record in sub.history] == [20, N, N, N]

    class Ends(TrainerCallback):
        def on_epoch_begin(self, args, state, control, **named):
            if sub.epoch == 1:
                sub.finish(2)

    sub = Subsampler(N, ErrorMass(), Schedule(4))
    found = small(texts(), network(), sub, num_train_epochs=4)
    found.add_callback(Ends())
    found.train()
    assert (sub.epochs, len(sub.history), found.state.global_step) == (3, 3, 120)
