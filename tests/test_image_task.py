"""The training step of ``fallow train --task image``."""

import pytest
import torch
from torch import nn

from fallow import Schedule, Subsampler, Threshold
from fallow.core.batch_checks import mean_loss
from fallow.scores import Hellinger, RelativeToBatch, kl_divergence
from fallow.step_rules import SelectiveBackprop
from fallow.tasks.image import ImageTask, Recipe

B, CLASSES = 12, 3


def make(rule=None, score=None, dropout=0.0, **recipe):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(64, CLASSES),
        )
    sub = Subsampler(B, Threshold(low=0.1), Schedule(epochs=2))
    return ImageTask(
        network, torch.zeros(1), torch.ones(1), sub, Recipe(0.1, 5e-4, 0.2, **recipe), score, rule
    )


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(B, 1, 6, 6, generator=generator), torch.arange(B) % CLASSES


def gradients(task):
    return [p.grad.clone() for p in task.parameters()]


def test_a_step_trains_on_the_chosen_rows_and_on_nothing_else():
    task, plain = make(SelectiveBackprop(0.5), dropout=0.3), make(dropout=0.3)
    images, labels = batch()
    state = torch.random.get_rng_state()
    with torch.random.fork_rng():
        out = task.training_step((images, labels), 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    out["loss"].backward()
    assert int(out["backward"].sum()) == 6
    assert all(out[name].shape == (B,) for name in ("per_sample_loss", "predicted", "backward"))
    assert not out["per_sample_loss"].requires_grad

    rows = out["backward"]
    with torch.random.fork_rng():
        torch.random.set_rng_state(state)
        loss = mean_loss(kl_divergence(plain.network(images[rows]), labels[rows]), None)
    loss.backward()
    assert torch.equal(out["loss"], loss)
    for found, expected in zip(gradients(task), gradients(plain), strict=True):
        assert torch.equal(found, expected)
    for found, expected in zip(task.buffers(), plain.buffers(), strict=True):
        assert torch.equal(found, expected)


def test_what_is_measured_is_what_a_plain_step_measures():
    task, plain = make(SelectiveBackprop(0.5), Hellinger()), make(None, Hellinger())
    found, expected = (t.training_step(batch(), 0) for t in (task, plain))
    for name in ("per_sample_loss", "predicted", "scores"):
        torch.testing.assert_close(found[name], expected[name].detach())
    assert "backward" not in expected


def test_another_step_chooses_other_rows_and_the_same_step_the_same():
    task = make(SelectiveBackprop(0.5))
    chosen = [task.training_step(batch(), step)["backward"] for step in (0, 1, 0)]
    assert torch.equal(chosen[0], chosen[2])
    assert not torch.equal(chosen[0], chosen[1])


def test_before_its_start_all_rows_train():
    task = make(SelectiveBackprop(0.5, start=0.5))
    assert "backward" not in task.training_step(batch(), 0)


def test_weights_of_the_chosen_rows_are_theirs():
    task = make(SelectiveBackprop(0.5))
    plain = task.training_step(batch(), 0)
    task.sample_weights = torch.where(plain["backward"], 3.0, float("nan"))
    weighed = task.training_step(batch(), 0)
    assert weighed["loss"].item() == pytest.approx(3 * plain["loss"].item())


def test_autocast_keeps_the_gradients_of_every_parameter():
    task = make(SelectiveBackprop(0.5))
    with torch.autocast("cpu", torch.bfloat16):
        task.training_step(batch(), 0)["loss"].backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0
        for p in (task.network[0].weight, task.network[5].weight)
    )


def test_measuring_gives_scores_and_predictions():
    scores, predicted = make(score=RelativeToBatch(Hellinger())).score_batch(batch())
    assert scores.shape == predicted.shape == (B,)
    assert scores.mean().abs() < 1e-6
    assert predicted.dtype == torch.int64


@pytest.mark.parametrize("rule", [None, SelectiveBackprop(0.5)])
def test_label_smoothing_changes_the_loss_and_no_score(rule):
    task, plain = make(rule, label_smoothing=0.1), make(rule)
    images, labels = batch()
    found, expected = (t.training_step((images, labels), 0) for t in (task, plain))
    assert torch.equal(found["per_sample_loss"], expected["per_sample_loss"])
    rows = torch.ones(B, dtype=torch.bool) if rule is None else found["backward"]
    logits = make().network(images[rows])
    smoothed = nn.functional.cross_entropy(logits, labels[rows], label_smoothing=0.1)
    torch.testing.assert_close(found["loss"], smoothed)
    assert not torch.allclose(found["loss"], expected["loss"])


def test_the_optimizer_is_that_of_the_recipe():
    task = make(adamw=True)
    task.network[0].requires_grad_(False)
    optimizer = task.configure_optimizers()
    assert type(optimizer) is torch.optim.AdamW
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4
    plain = make()
    plain.network[0].requires_grad_(False)
    optimizer = plain.configure_optimizers()
    assert type(optimizer) is torch.optim.SGD
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4
