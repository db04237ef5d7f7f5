"""The training steps of ``fallow train`` on texts: classes of texts, and the next token."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fallow import NO_SCORE, Schedule, Subsampler, Threshold
from fallow.activations.taps import Taps
from fallow.datasets.tokenizing import Encoded, Tokenizer
from fallow.datasets.tokens import TokenDataset, WindowDataset
from fallow.models import SmallGPT, SmallTransformer
from fallow.scores import Hellinger, kl_divergence
from fallow.step_rules import SelectiveBackprop, TokenThreshold
from fallow.tasks.base import Recipe
from fallow.tasks.class_accuracy import ClassAccuracy
from fallow.tasks.language_model import LanguageModelTask
from fallow.tasks.text import TextTask

CLASSES, WORDS, LONGEST = 3, 40, 48


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def a_subsampler(n):
    return Subsampler(n, Threshold(low=0.1), Schedule(epochs=2))


def text_task(n=60, *, pad=0, score=None, rule=None, by_length=False, spread=True, network=None):
    def make():
        made = SmallTransformer(WORDS, CLASSES, LONGEST, pad, width=16)
        if spread:  # what it begins with is nearly the same for every text
            nn.init.normal_(made.head.weight)
            nn.init.normal_(made.weigh.weight)
        return made

    task = TextTask(
        network or seeded(make),
        pad,
        a_subsampler(n),
        Recipe(0.1, 5e-4, 0.2),
        score,
        rule,
        by_length=by_length,
    )
    return task.eval()


def texts(n=60, *, pad=0, seed=0, lengths=None, soft=False):
    """A batch of texts of 1 to 48 tokens, one of none, and one with what fills up inside it."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, LONGEST + 1, n) if lengths is None else np.asarray(lengths)
    lengths[0] = 0
    ids = [draw.integers(0, WORDS - 1, size) for size in lengths]
    ids = [np.where(row >= pad, row + 1, row) for row in ids]
    ids[1][: len(ids[1]) // 2] = pad
    edges = np.concatenate([[0], np.cumsum(lengths)])
    encoded = Encoded(np.concatenate(ids).astype(np.int32), edges, 0)
    labels = torch.from_numpy(draw.integers(0, CLASSES, n))
    if soft:
        labels = torch.from_numpy(draw.dirichlet([0.5] * CLASSES, n).astype(np.float32))
    return TokenDataset(encoded, labels, pad).__getitems__(range(n))


def gradients(task, loss):
    task.zero_grad()
    loss.backward()
    return {name: part.grad.clone() for name, part in task.network.named_parameters()}


def listen(task):
    """Let a task log into a list."""
    said = []
    object.__setattr__(
        task, "log", lambda name, value, **more: said.append((name, float(value.detach()), more))
    )
    return said


def mean(said, name):
    """The mean of what was logged, weighted as Lightning weighs it."""
    found = [(value, more["batch_size"]) for called, value, more in said if called == name]
    return sum(value * count for value, count in found) / sum(count for _, count in found)


class TestTextsByLength:
    @pytest.mark.parametrize("pad", [0, 7])
    @pytest.mark.parametrize("soft", [False, True])
    def test_logits_and_gradients_are_those_of_one_filled_up_batch(self, pad, soft):
        batch = texts(pad=pad, soft=soft)
        found, want = (text_task(pad=pad, by_length=apart) for apart in (True, False))
        steps = [task.training_step(batch, 0) for task in (found, want)]
        logits = [task.logits(batch[0]) for task in (found, want)]
        torch.testing.assert_close(*logits)
        assert logits[0].std(0).min() > 0.1, "texts differ, so that a wrong order would show"
        for name in ("loss", "per_sample_loss", "predicted"):
            torch.testing.assert_close(steps[0][name], steps[1][name])
        ours, theirs = (
            gradients(task, step["loss"]) for task, step in zip((found, want), steps, strict=True)
        )
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6)
        assert sum(float(part.abs().sum()) for part in theirs.values()) > 0

    def test_each_group_is_as_wide_as_its_longest(self):
        seen = []
        task = text_task(by_length=True)
        task.network.register_forward_pre_hook(lambda module, given: seen.append(tuple(given[0].shape)))
        tokens, _ = texts(lengths=np.arange(60) % LONGEST + 1)
        task.logits(tokens)
        lengths = sorted(max(1, int(row.nonzero().max()) + 1 if row.any() else 1) for row in tokens)
        groups = [lengths[start : start + 16] for start in range(0, 60, 16)]
        assert seen == [(len(group), group[-1]) for group in groups]
        assert sum(rows * width for rows, width in seen) < 0.75 * tokens.numel()

    def test_activations_are_those_of_the_whole_batch(self):
        batch, rows = texts(), []
        for apart in (True, False):
            task = text_task(by_length=apart)
            taps = Taps(task.network, ["norm", "head"])
            taps.in_evaluation = True
            parts = task.rows_of_passes(batch)
            assert (parts is None) != apart
            taps.expect(task.token_mask(batch), parts)
            task.training_step(batch, 0)["loss"].backward()
            rows.append(taps.take(len(batch[1])))
        for ours, theirs in zip(*rows, strict=True):
            torch.testing.assert_close(ours, theirs)
            assert ours.std(0).min() > 0, "texts differ, so that a wrong order would show"

    def test_a_few_texts_pass_at_once(self):
        seen = []
        task = text_task(by_length=True)
        task.network.register_forward_pre_hook(lambda module, given: seen.append(tuple(given[0].shape)))
        tokens, _ = texts(31)
        task.logits(tokens)
        assert seen == [tuple(tokens.shape)]

    @pytest.mark.parametrize("n", [33, 48])
    def test_the_order_of_a_batch_is_kept(self, n):
        tokens, _ = texts(n)
        task = text_task(by_length=True)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(2))
        torch.testing.assert_close(task.logits(tokens[order]), task.logits(tokens)[order])
        alone = torch.cat([task.logits(row.unsqueeze(0)) for row in tokens])
        torch.testing.assert_close(task.logits(tokens), alone)


class TestClassifyingTexts:
    def test_the_loss_is_the_mean_of_what_is_recorded(self):
        batch = texts()
        task = text_task()
        found = task.training_step(batch, 0)
        want = F.cross_entropy(task(batch[0]), batch[1], reduction="none")
        torch.testing.assert_close(found["per_sample_loss"], want)
        torch.testing.assert_close(found["loss"], want.mean())
        assert torch.equal(found["predicted"], task(batch[0]).argmax(1))
        assert "scores" not in found

    def test_another_score_is_recorded_beside_the_loss(self):
        batch = texts(soft=True)
        task = text_task(score=Hellinger())
        found = task.training_step(batch, 0)
        with torch.no_grad():
            logits = task(batch[0])
        torch.testing.assert_close(found["scores"], Hellinger()(logits, batch[1]))
        torch.testing.assert_close(found["loss"].detach(), kl_divergence(logits, batch[1]).mean())
        scores, predicted = task.score_batch(batch)
        torch.testing.assert_close(scores.detach(), found["scores"])
        assert torch.equal(predicted, logits.argmax(1))

    def test_measuring_by_divergence_gives_the_losses(self):
        batch = texts()
        task = text_task(by_length=True)
        scores, _ = task.score_batch(batch)
        torch.testing.assert_close(scores, task.training_step(batch, 0)["per_sample_loss"])

    def test_weights_of_samples(self):
        batch = texts()
        task = text_task(by_length=True)
        weights = torch.linspace(0, 3, 60)
        task.sample_weights = weights
        found = task.training_step(batch, 0)
        torch.testing.assert_close(found["loss"], (found["per_sample_loss"] * weights).mean())

    @pytest.mark.parametrize("by_length", [False, True])
    def test_chosen_rows_train_and_no_others(self, by_length):
        batch = texts(96)
        task = text_task(96, rule=SelectiveBackprop(0.5), by_length=by_length)
        found = task.training_step(batch, 0)
        rows = found["backward"]
        assert int(rows.sum()) == 48
        ours = gradients(task, found["loss"])
        want = kl_divergence(task.network(batch[0][rows]), batch[1][rows]).mean()
        torch.testing.assert_close(found["loss"], want)
        theirs = gradients(task, want)
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6)

    def test_what_fills_up_is_no_token(self):
        tokens, labels = texts(pad=7)
        mask = text_task(pad=7).token_mask((tokens, labels))
        assert torch.equal(mask, tokens != 7)
        assert 0 < int(mask.sum()) < mask.numel()

    @pytest.mark.parametrize("soft", [False, True])
    def test_an_evaluation_in_parts_is_that_of_all_texts(self, soft):
        tokens, labels = texts(soft=soft)
        task = text_task(by_length=True)
        said = listen(task)
        task.on_validation_epoch_start()
        for part in torch.arange(60).split(23):
            task.validation_step((tokens[part], labels[part]), 0)
        logits = task.network(tokens)
        given = labels.argmax(1) if soft else labels
        right = logits.argmax(1) == given
        assert mean(said, "test_accuracy") == pytest.approx(right.float().mean().item())
        want = kl_divergence(logits, labels).mean().item()
        assert mean(said, "test_loss") == pytest.approx(want, rel=1e-5)
        shares = [right[given == c].float().mean().item() for c in range(CLASSES)]
        assert task.class_accuracy.shares() == pytest.approx(shares)
        task.on_validation_epoch_start()
        assert task.class_accuracy.shares() == []

    def test_counts_of_the_last_evaluation_are_kept(self):
        task, other = text_task(), text_task()
        listen(task)
        task.validation_step(texts(), 0)
        loop = SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(ready=2)))
        task.trainer = other.trainer = SimpleNamespace(fit_loop=SimpleNamespace(epoch_loop=loop))
        checkpoint = {}
        task.on_save_checkpoint(checkpoint)
        other.on_load_checkpoint(checkpoint)
        assert other.class_accuracy.shares() == task.class_accuracy.shares() != []
        assert isinstance(other.class_accuracy, ClassAccuracy)

    def test_weights_of_layers_decay_and_embeddings_do_not(self):
        task = text_task()
        decayed, others = task.configure_optimizers().param_groups
        named = {id(part): name for name, part in task.network.named_parameters()}
        assert decayed["weight_decay"] == task.recipe.weight_decay > 0
        assert others["weight_decay"] == 0
        names = [named[id(part)] for part in decayed["params"]]
        assert all(name.endswith("weight") or name == "position" for name in names)
        assert "embedding.weight" not in names
        assert "head.weight" in names
        assert len(decayed["params"]) + len(others["params"]) == len(named)


VOCABULARY, LENGTH = 30, 12


class Plain(nn.Module):
    """A language model that does not tell its hidden states apart."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        return self.model(tokens)


def language_task(n=8, *, rule=None, plain=False, ratio=1.0, vocabulary=VOCABULARY, length=LENGTH):
    def make():
        made = SmallGPT(vocabulary, length, width=16, layers=1)
        nn.init.normal_(made.embedding.weight, std=0.5)
        return made.double()

    network = seeded(make)
    network = Plain(network) if plain else network
    return LanguageModelTask(network, ratio, a_subsampler(n), Recipe(0.1, 5e-4, 0.2), rule)


def windows(n=8, *, seed=0, short=True):
    """A batch of windows, two of which are shorter than the others."""
    draw = torch.Generator().manual_seed(seed)
    found = torch.randint(0, VOCABULARY, (n, LENGTH + 1), generator=draw)
    if short:
        found[0, 6:] = WindowDataset.IGNORED
        found[1, 2:] = WindowDataset.IGNORED
    return found


def by_hand(task, batch):
    """Token by token: the surprise of each, ``(B, T)``, NaN where there is none."""
    model = getattr(task.network, "model", task.network)
    found = torch.full(batch[:, 1:].shape, torch.nan, dtype=torch.float64)
    for row, tokens in enumerate(batch):
        size = int((tokens >= 0).sum())
        logits = model(tokens[None, : size - 1])[0]
        found[row, : size - 1] = F.cross_entropy(logits, tokens[1:size], reduction="none").detach()
    return found


RULES = [None, TokenThreshold(low=2.8), TokenThreshold(high=4.0), TokenThreshold(low=2.5, high=4.5)]


class TestNextToken:
    @pytest.mark.parametrize("plain", [False, True])
    def test_a_score_is_the_mean_surprise_of_its_window(self, plain):
        batch = windows()
        task = language_task(plain=plain)
        found = task.training_step(batch, 0)
        want = by_hand(task, batch).nanmean(1)
        torch.testing.assert_close(found["per_sample_loss"], want)
        torch.testing.assert_close(found["loss"].detach(), want.mean())
        torch.testing.assert_close(task.score_batch(batch).detach(), want)
        assert want.std() > 0.1

    @pytest.mark.parametrize("rule", RULES, ids=str)
    @pytest.mark.parametrize("weights", [None, [0.0, 1, 2, 1, 0.5, 3, 1, 1]], ids=["alike", "weighted"])
    def test_from_logits_and_from_hidden_states_it_is_the_same(self, rule, weights):
        batch = windows()
        found = []
        for plain in (False, True):
            task = language_task(rule=rule, plain=plain)
            task.sample_weights = None if weights is None else torch.tensor(weights)
            measured = task.measured(batch, rule)
            graded = [part.clone() for part in gradients(task, measured.loss).values()]
            found.append((measured.loss.detach(), measured.scores, measured.tokens, *graded))
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other)
        assert float(found[0][3].abs().sum()) > 0
        assert (found[0][2] == NO_SCORE).sum() == (batch[:, 1:] < 0).sum()

    @pytest.mark.parametrize("plain", [False, True])
    def test_tokens_left_out_have_no_gradient_and_count_in_score_and_mean(self, plain):
        rule, batch = TokenThreshold(low=2.8, high=4.2), windows()
        task = language_task(rule=rule, plain=plain)
        surprise = by_hand(task, batch)
        kept = (surprise >= 2.8) & (surprise <= 4.2)
        out = task.training_step(batch, 0)
        there = ~surprise.isnan()
        assert 0 < int(kept.sum()) < int(there.sum())
        torch.testing.assert_close(out["per_sample_loss"], surprise.nanmean(1))
        counts = there.sum(1)
        want = (surprise.where(kept, 0.0).sum(1) / counts).mean()
        torch.testing.assert_close(out["loss"].detach(), want)
        ours = gradients(task, out["loss"])
        logits = task.network(batch[:, :-1].clamp_min(0))
        losses = F.cross_entropy(logits.transpose(1, 2), batch[:, 1:], reduction="none")
        theirs = gradients(task, (losses.where(kept, 0.0).sum(1) / counts).mean())
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name])

    def test_tokens_are_counted_over_the_steps_of_an_epoch(self):
        rule = TokenThreshold(low=2.8, high=4.2)
        task = language_task(16, rule=rule)
        batches = [windows(seed=seed, short=seed == 1) for seed in (1, 2)]
        surprise = torch.cat([by_hand(task, batch) for batch in batches])
        for step, batch in enumerate(batches):
            task.training_step(batch, step)
            task.score_batch(batch)  # measuring trains on nothing
            task.measured(batch)
        counts = [int((~surprise.isnan()).sum()), int((surprise < 2.8).sum()), int((surprise > 4.2).sum())]
        assert task.token_counts.tolist() == counts
        assert min(counts) > 0
        reduced = SimpleNamespace(reduce=lambda value, reduce_op: 2 * value if reduce_op == "sum" else None)
        task.trainer = SimpleNamespace(strategy=reduced)
        told = {"tokens": 2 * counts[0], "tokens_learned": 2 * counts[1], "tokens_outliers": 2 * counts[2]}
        assert task.epoch_tokens() == told
        task.on_train_epoch_start()
        assert task.token_counts.tolist() == [0, 0, 0]

    def test_counts_go_on_inside_an_epoch_and_begin_anew_after_it(self):
        rule = TokenThreshold(low=2.8)
        task, other = language_task(rule=rule), language_task(rule=rule)
        task.training_step(windows(), 0)
        loop = SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(ready=1)))
        task.trainer = other.trainer = SimpleNamespace(fit_loop=SimpleNamespace(epoch_loop=loop))
        checkpoint = {}
        task.on_save_checkpoint(checkpoint)
        task.training_step(windows(), 1)  # what is saved stays what it was
        other.on_load_checkpoint(checkpoint)
        other.on_train_epoch_start()
        surprise = by_hand(task, windows())
        counts = [int((~surprise.isnan()).sum()), int((surprise < 2.8).sum()), 0]
        assert other.token_counts.tolist() == counts
        other._resumed = (1, 0)
        other.on_train_epoch_start()
        assert other.token_counts.tolist() == [0, 0, 0]

    def test_without_a_rule_nothing_is_counted(self):
        task = language_task()
        task.training_step(windows(), 0)
        assert task.epoch_tokens() == {}
        assert task.token_counts.tolist() == [0, 0, 0]

    def test_a_rule_waits_for_its_start(self):
        early, late = (language_task(rule=TokenThreshold(low=3.0, start=start)) for start in (0.0, 0.5))
        plain = language_task()
        found = [task.training_step(windows(), 0)["loss"].item() for task in (early, late, plain)]
        assert found[1] == found[2] != found[0]
        assert late.token_counts.tolist() == [0, 0, 0]

    def test_weights_are_for_training_alone(self):
        task, batch = language_task(), windows()
        plain = task.measured(batch).scores
        task.sample_weights = torch.arange(8.0)
        weighed = task.training_step(batch, 0)
        torch.testing.assert_close(weighed["per_sample_loss"], plain)
        want = (plain * torch.arange(8.0)).mean()
        torch.testing.assert_close(weighed["loss"].detach(), want)
        task.sample_weights = torch.arange(5.0)  # of the last batch, which was shorter
        with torch.no_grad():
            torch.testing.assert_close(task.measured(batch).loss, plain.mean())

    @pytest.mark.parametrize("plain", [False, True])
    def test_a_window_without_a_target_counts_for_nothing(self, plain):
        batch, task = windows(), language_task(plain=plain)
        want = task.measured(batch)
        empty = torch.full((2, LENGTH + 1), WindowDataset.IGNORED)
        empty[:, 0] = 5
        found = task.measured(torch.cat([batch, empty]))
        torch.testing.assert_close(found.loss, want.loss)
        assert (found.scores[-2:] == NO_SCORE).all()
        torch.testing.assert_close(found.scores[:-2], want.scores)

    def test_forward_gives_the_logits_of_what_stands_before(self):
        task, batch = language_task(), windows(short=False)
        assert torch.equal(task(batch), task.network(batch[:, :-1]))

    def test_the_shared_weight_is_trained_once_and_does_not_decay(self):
        task = language_task()
        decayed, others = task.configure_optimizers().param_groups
        every = [id(part) for group in (decayed, others) for part in group["params"]]
        assert len(every) == len(set(every)) == len(list(task.network.parameters()))
        assert id(task.network.embedding.weight) in [id(part) for part in others["params"]]

    def test_what_fills_up_is_not_looked_at(self):
        task = language_task()
        short = windows()[1:2]
        rows = []
        for width in (4, LENGTH + 1):
            batch = short[:, :width]
            taps = Taps(task.network, ["norm"])
            taps.expect(task.token_mask(batch))
            task.measured(batch)
            rows.append(taps.take(1)[0])
            taps.remove()
        torch.testing.assert_close(rows[0], rows[1])


class TestEvaluation:
    @pytest.mark.parametrize("plain", [False, True])
    @pytest.mark.parametrize("kind", ["byte", "bpe"])
    def test_bits_a_character_are_those_of_the_text(self, kind, plain):
        train = ["the cat sat on the mat and the rat sat on the cat. " * 4]
        held_out = [
            "the rat sat. the hät is — 日本 😀!\n",
            "a cat, a mat, a rat and a hat sat there. " * 2,
            "b",
        ]
        tokenizer = Tokenizer.train(kind, train, 280)
        data = WindowDataset(tokenizer.encode(held_out), LENGTH)
        characters = sum(map(len, held_out))
        ratio = float(data.sizes.sum()) / characters
        task = language_task(plain=plain, ratio=ratio, vocabulary=len(tokenizer)).eval()
        said = listen(task)
        with torch.no_grad():
            for rows in np.array_split(np.arange(len(data)), 3):
                task.validation_step(data.__getitems__(rows), 0)
        bits, right, tokens = 0.0, 0, 0
        model = getattr(task.network, "model", task.network)
        for text in held_out:
            ids = torch.tensor([tokenizer.start, *tokenizer.inner.encode(text).ids])
            for start in range(0, len(ids) - 1, LENGTH):
                part = ids[start : start + LENGTH + 1]
                with torch.no_grad():
                    p = model(part[None, :-1])[0].softmax(1)
                bits -= float(p[torch.arange(len(part) - 1), part[1:]].log2().sum())
                right += int((p.argmax(1) == part[1:]).sum())
                tokens += len(part) - 1
        assert tokens == data.sizes.sum()
        assert mean(said, "test_bits_per_character") == pytest.approx(bits / characters, rel=1e-6)
        assert mean(said, "test_loss") == pytest.approx(bits / tokens * math.log(2), rel=1e-6)
        assert mean(said, "test_accuracy") == pytest.approx(right / tokens)
        assert (tokens > characters) == (kind == "byte")

    def test_a_batch_that_predicts_nothing_says_nothing(self):
        task = language_task()
        said = listen(task)
        empty = torch.full((2, LENGTH + 1), WindowDataset.IGNORED)
        empty[:, 0] = 5
        with torch.no_grad():
            task.validation_step(empty, 0)
        assert said == []
