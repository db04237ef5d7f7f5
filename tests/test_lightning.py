"""The Lightning callback around a user's own module."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

import fallow
from fallow.core.state import opened
from fallow.integrations.lightning import SubsamplingCallback
from trainers import quiet_trainer

N = 90


class Own(LightningModule):
    """A module as people have it: it knows nothing of indices."""

    def __init__(self, returns: str = "losses") -> None:
        super().__init__()
        self.returns = returns
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.layer = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))

    def training_step(self, batch, batch_idx):
        x, y = batch
        assert type(x) is torch.Tensor
        logits = self.layer(x)
        losses = F.cross_entropy(logits, y, reduction="none")
        self.log("train_loss", losses.mean())
        return {
            "losses": {"loss": losses.mean(), "per_sample_loss": losses},
            "logits": {"loss": losses.mean(), "logits": logits, "targets": y},
            "loss only": {"loss": losses.mean()},
            "scalar": losses.mean(),
        }[self.returns]

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.layer(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.3)


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, 4, generator=generator)
    return TensorDataset(x, x[:, :3].argmax(1))


def fit(module, data, policy, schedule, *callbacks, loader=None, **options):
    subsampler = fallow.Subsampler(N, policy, schedule, min_kept=8)
    loader = loader or subsampler.loader(data, batch_size=8)
    callbacks = [SubsamplingCallback(subsampler), *callbacks]
    trainer = quiet_trainer(**{"max_epochs": schedule.epochs, "callbacks": callbacks} | options)
    trainer.fit(module, loader, DataLoader(data, batch_size=30))
    return subsampler, trainer


class Watch(Callback):
    """Notes what Lightning really did."""

    def __init__(self):
        self.lengths, self.batches, self.validations = [], [], 0

    def on_train_epoch_start(self, trainer, pl_module):
        self.lengths.append(trainer.num_training_batches)
        self.batches.append([])

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches[-1].append(batch[0].clone())

    def on_validation_epoch_end(self, trainer, pl_module):
        self.validations += not trainer.sanity_checking


def test_another_subsampler_is_refused():
    sharded = fallow.ShardedSubsampler(9, fallow.ErrorMass(high=None), fallow.Schedule(2))
    with pytest.raises(fallow.InvalidType, match=r"must be a Subsampler\. Found ShardedSubsampler"):
        SubsamplingCallback(sharded)


def test_what_is_trained_on_is_what_is_recorded(data):
    watch = Watch()
    policy, schedule = fallow.Threshold(low=0.5), fallow.Schedule(epochs=6, readmit_every=3)
    subsampler, _ = fit(Own(), data, policy, schedule, watch, num_sanity_val_steps=1)
    assert subsampler.epoch == 6
    for record, batches, length in zip(subsampler.history, watch.batches, watch.lengths, strict=True):
        seen = torch.cat(batches)
        used = data.tensors[0][record.used]
        assert len(batches) == length == -(-record.backward // 8)
        assert torch.equal(seen.sort(0).values, used.sort(0).values)
    counts = [record.backward for record in subsampler.history]
    assert counts[0] == counts[3] == N
    assert min(counts) < N


def test_validation_runs_each_epoch_though_lengths_change(data):
    watch = Watch()
    subsampler, _ = fit(Own(), data, fallow.Fraction(0.6), fallow.Schedule(epochs=4, readmit_every=2), watch)
    assert [r.backward for r in subsampler.history] == [90, 36, 90, 36]
    assert watch.validations == 4


def test_logits_and_targets_are_scored_alike(data):
    found = []
    for returns in ("losses", "logits"):
        policy, schedule = fallow.Threshold(low=0.5), fallow.Schedule(epochs=2)
        found.append(fit(Own(returns), data, policy, schedule)[0].scores)
    assert torch.equal(*found)


def test_outliers_are_measured_by_themselves(data):
    labels = data.tensors[1].clone()
    labels[:6] = (labels[:6] + 1) % 3
    noisy = TensorDataset(data.tensors[0], labels)
    module = Own()
    policy, schedule = fallow.Threshold(high=1.5), fallow.Schedule(epochs=9, readmit_every=2)
    subsampler, _ = fit(module, noisy, policy, schedule)
    measured = [record.forward_only for record in subsampler.history]
    assert any(measured)
    assert all(m == r.outliers for m, r in zip(measured, subsampler.history, strict=True) if m)
    assert "log" not in vars(module)
    assert "on_before_batch_transfer" not in vars(module)


@pytest.mark.parametrize("returns", ["loss only", "scalar"])
def test_other_outputs_are_told_the_two_lines(data, returns):
    with pytest.raises(fallow.FallowError, match="per_sample_loss"):
        fit(Own(returns), data, fallow.Fraction(0.5), fallow.Schedule(epochs=2))


def test_another_loader_is_refused(data):
    loader = DataLoader(data, batch_size=8)
    with pytest.raises(fallow.FallowError, match=r"subsampler\.loader"):
        fit(Own(), data, fallow.Fraction(0.5), fallow.Schedule(epochs=2), loader=loader)


def test_other_epochs_are_refused(data):
    with pytest.raises(fallow.FallowError, match="must be 2"):
        fit(Own(), data, fallow.Fraction(0.5), fallow.Schedule(epochs=2), max_epochs=3)


class Weighing(Own):
    """A module that uses the weights it is given."""

    sample_weights = None

    def __init__(self):
        super().__init__()
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(self.sample_weights)
        return super().training_step(batch, batch_idx)


def test_weights_reach_the_module(data):
    policy, schedule = fallow.policies.BelowMean(0.5), fallow.Schedule(epochs=3)
    module = Weighing()
    fit(module, data, policy, schedule)
    first, later = module.seen[:12], [w for w in module.seen[12:] if w is not None]
    assert first == [None] * 12
    found = torch.cat(later)
    assert (found == 1).any()
    assert ((found[found > 1] - 2).abs() < 0.1).all()


class Selective(Own):
    """Trains on every other row, and says so."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self.layer(x)
        losses = F.cross_entropy(logits, y, reduction="none")
        chosen = torch.arange(len(y)) % 2 == 0
        found = {"per_sample_loss": losses, "predicted": logits.argmax(1), "backward": chosen}
        return {"loss": losses[chosen].mean(), **found}


def test_rows_without_a_backward_pass_count_as_measured(data):
    subsampler, _ = fit(Selective(), data, fallow.RandomFraction(0), fallow.Schedule(epochs=2))
    assert [(r.backward, r.forward_only) for r in subsampler.history] == [(45, 45)] * 2
    assert not subsampler.scores.isnan().any()


class Right(Own):
    """Says that it predicts everything right while it trains, and something else when it is measured."""

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) | {"predicted": batch[1]}

    def score_batch(self, batch):
        count = len(batch[1])
        return torch.full((count,), 9.0), torch.full((count,), 2)


class Measured(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        if self.subsampler.epoch == 2:
            self.found = self.subsampler.scores, self.subsampler.predicted, self.subsampler.kept


def test_hidden_samples_are_measured_with_their_predictions(data):
    watch, schedule = Measured(), fallow.Schedule(epochs=3)
    policy = fallow.policies.Kakurenbo(0.5, confidence=0.0, steps=())
    watch.subsampler = fallow.Subsampler(N, policy, schedule, labels=data.tensors[1])
    trainer = quiet_trainer(max_epochs=3, callbacks=[SubsamplingCallback(watch.subsampler), watch])
    trainer.fit(Right(), watch.subsampler.loader(data, batch_size=8), DataLoader(data, batch_size=30))
    hidden = ~watch.subsampler.history[1].used
    assert int(hidden.sum()) == watch.subsampler.history[1].forward_only == 45
    scores, predicted, kept = watch.found
    assert (scores[hidden] == 9).all()
    assert (predicted[hidden] == 2).all()
    assert kept[hidden & (data.tensors[1] != 2)].all()


def test_the_module_is_told_how_far_the_training_is(data):
    class Shaped(Own):
        progress = 0.0

        def __init__(self):
            super().__init__()
            self.told = []

        def training_step(self, batch, batch_idx):
            self.told.append(self.progress)
            return super().training_step(batch, batch_idx)

    module = Shaped()
    subsampler, _ = fit(module, data, fallow.Fraction(0.5), fallow.Schedule(epochs=3))
    assert module.told == sorted(module.told)
    assert module.told[0] == 0.0
    assert 1 - 1 / 15 < module.told[-1] < 1.0
    assert subsampler.progress == 1.0
    assert module.told[12] == pytest.approx(1 / 3), "epochs count alike, however many steps they have"


def test_a_progress_that_is_no_number_is_left_alone(data):
    class Own2(Own):
        def progress(self):
            return "mine"

    module = Own2()
    fit(module, data, fallow.Fraction(0.5), fallow.Schedule(epochs=2))
    assert module.progress() == "mine"


def test_a_module_without_weights_is_told_before_anything_is_trained(data):
    watch = Watch()
    with pytest.raises(fallow.FallowError, match="weights samples, and the module does not"):
        fit(Own(), data, fallow.policies.BelowMean(0.5), fallow.Schedule(epochs=3), watch)
    assert watch.batches == []
    fit(Own(), data, fallow.policies.BelowMean(0.5, weighted=False), fallow.Schedule(epochs=1), watch)
    assert len(watch.batches) == 1


class Steps(Callback):
    """Notes the parameters before and after each optimizer step, and the batches between."""

    def __init__(self):
        self.batches, self.steps = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches.append(batch)

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        gradient = [parameter.grad.clone() for parameter in pl_module.parameters()]
        self.steps.append((trainer.current_epoch, deepcopy(pl_module), gradient, self.batches))
        self.batches = []


@pytest.mark.parametrize("accumulate", [1, 3])
def test_under_kept_steps_a_learned_sample_counts_as_one_without_a_gradient(data, accumulate):
    """The gradient of each step is the sum over its samples, divided by the size of a full step."""
    size, seen = 6 * accumulate, Steps()
    subsampler = fallow.Subsampler(N, fallow.Fraction(0.6), fallow.Schedule(3))
    trainer = quiet_trainer(
        max_epochs=3, callbacks=[SubsamplingCallback(subsampler), seen], accumulate_grad_batches=accumulate
    )
    loader = subsampler.loader(data, 6, kept_steps=True, accumulate=accumulate)
    trainer.fit(Own(), loader, DataLoader(data, batch_size=30))
    steps = [[step for step in seen.steps if step[0] == epoch] for epoch in range(3)]
    assert [len(of_epoch) for of_epoch in steps] == [N // size] * 3
    assert {len(batches) for *_, batches in steps[0]} == {accumulate}
    assert {len(batches) for *_, batches in steps[2]} == {-(-accumulate * 4 // 10)}
    for _, module, gradient, batches in seen.steps:
        total = sum(F.cross_entropy(module.layer(x), y, reduction="sum") for x, y in batches)
        expected = torch.autograd.grad(total / size, list(module.parameters()))
        for found, wanted in zip(gradient, expected, strict=True):
            assert torch.allclose(found, wanted, atol=1e-6)


class Finish(Callback):
    """Ends the training early, in a callback of the user's."""

    def __init__(self, subsampler):
        self.subsampler = subsampler

    def on_train_epoch_end(self, trainer, pl_module):
        if self.subsampler.epoch == 3:
            self.subsampler.finish(2)


def test_a_training_that_is_finished_early_ends_there(data):
    subsampler = fallow.Subsampler(N, fallow.Fraction(0.5), fallow.Schedule(epochs=9), min_kept=8)
    callbacks = [SubsamplingCallback(subsampler), Finish(subsampler)]
    trainer = quiet_trainer(max_epochs=9, callbacks=callbacks)
    trainer.fit(Own(), subsampler.loader(data, batch_size=8), DataLoader(data, batch_size=30))
    assert subsampler.epoch == subsampler.epochs == trainer.current_epoch == 5
    assert subsampler.progress == 1.0


def checkpointed(data, folder, resumed=None, *, kept_steps=False, **options):
    """Train with a checkpoint of Lightning's own after every second step; return trainer and subsampler."""
    subsampler = fallow.Subsampler(
        N, fallow.Fraction(0.4, exponent=0.5), fallow.Schedule(epochs=3), seed=4, min_kept=8
    )
    saving = ModelCheckpoint(
        folder, filename="{step}", **{"every_n_train_steps": 2, "save_top_k": -1} | options
    )
    trainer = quiet_trainer(
        max_epochs=3, callbacks=[SubsamplingCallback(subsampler), saving], enable_checkpointing=True
    )
    module = Own()
    loader = subsampler.loader(data, batch_size=8, kept_steps=kept_steps)
    trainer.fit(module, loader, DataLoader(data, batch_size=30), ckpt_path=resumed, weights_only=True)
    return trainer, module, subsampler


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("kept_steps", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_training_of_ones_own_goes_on_from_lightnings_checkpoints(data, tmp_path, kept_steps):
    trainer, module, subsampler = checkpointed(data, tmp_path / "whole", kept_steps=kept_steps)
    saved = sorted((tmp_path / "whole").glob("*.ckpt"))
    assert len(saved) >= 10
    inside = 0
    for path in saved:
        if path.stem == f"step={trainer.global_step}":
            continue
        state = opened(torch.load(path, weights_only=True)["callbacks"]["SubsamplingCallback"]["subsampler"])
        if ended := state["table"]["recorded"] == (state["table"]["reason"] == 0).sum():
            with pytest.raises(fallow.FallowError, match=r"All batches of epoch \d of .* were done"):
                checkpointed(data, tmp_path / path.stem, path, kept_steps=kept_steps)
            continue
        inside += state["table"]["recorded"] > 0 and not ended
        again, other, resumed = checkpointed(data, tmp_path / path.stem, path, kept_steps=kept_steps)
        assert again.global_step == trainer.global_step
        assert again.current_epoch == trainer.current_epoch
        assert torch.equal(resumed.scores, subsampler.scores)
        for found, expected in zip(other.parameters(), module.parameters(), strict=True):
            assert torch.equal(found, expected)
    assert inside >= 6


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_training_of_ones_own_goes_on_from_the_end_of_an_epoch(data, tmp_path):
    options = {"every_n_train_steps": None, "every_n_epochs": 1, "save_on_train_epoch_end": True}
    trainer, module, subsampler = checkpointed(data, tmp_path / "whole", **options)
    first, *_ = sorted((tmp_path / "whole").glob("*.ckpt"), key=lambda path: int(path.stem.split("=")[1]))
    again, other, resumed = checkpointed(data, tmp_path / "again", first, **options)
    assert again.global_step == trainer.global_step
    assert torch.equal(resumed.scores, subsampler.scores)
    for found, expected in zip(other.parameters(), module.parameters(), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_a_checkpoint_without_a_subsampler_is_refused(data, tmp_path):
    saving = ModelCheckpoint(tmp_path, filename="plain")
    trainer = quiet_trainer(max_epochs=2, callbacks=[saving], enable_checkpointing=True)
    trainer.fit(Own("scalar"), DataLoader(data, 8), DataLoader(data, 30))
    path = tmp_path / "plain.ckpt"
    sub = fallow.Subsampler(N, fallow.Fraction(0.4), fallow.Schedule(4))
    again = quiet_trainer(max_epochs=4, callbacks=[SubsamplingCallback(sub)])
    with pytest.raises(fallow.FallowError, match=r"must hold the state of the subsampler\. Found none"):
        again.fit(Own(), sub.loader(data, 8), DataLoader(data, 30), ckpt_path=path, weights_only=True)
    assert sub.epoch == 0


def test_a_loader_of_another_subsampler_is_refused(data):
    sub, other = (fallow.Subsampler(N, fallow.Fraction(0.4), fallow.Schedule(2)) for _ in range(2))
    trainer = quiet_trainer(max_epochs=2, callbacks=[SubsamplingCallback(sub)])
    with pytest.raises(fallow.WrongState, match="loader is that of another subsampler"):
        trainer.fit(Own(), other.loader(data, 8), DataLoader(data, 30))
    assert not sub.under_way.share


def test_a_finished_subsampler_trains_no_second_time(data):
    sub = fallow.Subsampler(N, fallow.Fraction(0.4), fallow.Schedule(2))
    trainer = quiet_trainer(max_epochs=2, callbacks=[SubsamplingCallback(sub)])
    trainer.fit(Own(), sub.loader(data, 8), DataLoader(data, 30))
    with pytest.raises(fallow.WrongState, match="All 2 epochs are done"):
        trainer.fit(Own(), sub.loader(data, 8), DataLoader(data, 30))


def test_the_former_name_of_the_monitor_warns():
    subsampler = fallow.Subsampler(N, fallow.RandomFraction(0.5), fallow.Schedule(epochs=2))
    monitor = fallow.ActivationDensity(torch.nn.Linear(4, 3))
    with pytest.warns(DeprecationWarning, match=r"SubsamplingCallback\(monitor="):
        assert SubsamplingCallback(subsampler, watch=monitor).monitor is monitor
