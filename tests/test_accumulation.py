"""A state saved while gradients wait for their optimizer step: the training that goes on is the same one."""

import os
import signal

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule
from torch.utils.data import TensorDataset

from fallow import Fraction, Schedule, Subsampler
from fallow.core.state import opened
from fallow.integrations.lightning import SubsamplingCallback
from fallow.policies import Kakurenbo
from trainers import quiet_trainer

N, EPOCHS, GROUP = 90, 4, 4


@pytest.fixture(scope="module")
def data():
    x = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, x[:, :3].argmax(1))


def subsampler(policy=None):
    return Subsampler(
        N,
        policy or Fraction(0.4, exponent=1.0),
        Schedule(EPOCHS, readmit_every=2),
        labels=torch.arange(N) % 3,
    )


def network():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))


class Stopped(Exception):
    pass


class Plain:
    """A loop of plain PyTorch that steps after every fourth batch, and saves before any of them."""

    def __init__(self, data, told=True, state=None):
        self.model, self.subsampler, self.told = network(), subsampler(), told
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.loader = self.subsampler.loader(data, 8)
        self.saved = []
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.subsampler.load_state_dict(state["subsampler"])

    def state(self):
        copied = {name: value.clone() for name, value in self.model.state_dict().items()}
        moments = self.optimizer.state_dict()
        moments["state"] = {
            at: {name: None if value is None else value.clone() for name, value in part.items()}
            for at, part in moments["state"].items()
        }
        return {"model": copied, "optimizer": moments, "subsampler": opened(self.subsampler.state_dict())}

    def train(self):
        while self.subsampler.epoch < EPOCHS:
            self.optimizer.zero_grad()
            left = len(self.loader)
            for place, (index, (x, y)) in enumerate(self.loader, 1):
                self.saved.append((place, self.state()))
                steps = place % GROUP == 0 or place == left
                logits = self.model(x)
                losses = F.cross_entropy(logits, y, reduction="none")
                waits = {"accumulating": not steps} if self.told else {}
                loss = self.subsampler.record(index, losses, predicted=logits.argmax(1), **waits)
                (loss / GROUP).backward()
                if steps:
                    self.optimizer.step()
                    self.optimizer.zero_grad()
            self.subsampler.step()
        return self


def same(one, other):
    weights = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in weights) and same_scores(one.subsampler, other.subsampler)


def same_scores(one, other):
    used = zip(one.history, other.history, strict=True)
    return (
        torch.equal(one.scores.nan_to_num(-1), other.scores.nan_to_num(-1))
        and torch.equal(one.predicted, other.predicted)
        and all(torch.equal(a.used, b.used) for a, b in used)
    )


def test_a_plain_loop_that_tells_goes_on_exactly_from_anywhere(data):
    whole = Plain(data).train()
    assert len(whole.saved) > 30
    for _, state in whole.saved[::2]:
        assert same(whole, Plain(data, state=state).train())


def test_a_plain_loop_that_does_not_tell_goes_on_exactly_between_groups_only(data):
    """Why `accumulating` is there."""
    whole = Plain(data, told=False).train()
    assert same(whole, Plain(data).train())
    found = {
        (place - 1) % GROUP == 0: same(whole, Plain(data, told=False, state=state).train())
        for place, state in whole.saved[:5]
    }
    assert found == {True: True, False: False}


def test_what_waits_counts_for_progress_and_comes_not_again(data):
    sub = subsampler()
    loader = sub.loader(data, 30)
    batches = iter(loader)
    index, _ = next(batches)
    sub.record(index, torch.ones(30), accumulating=True)
    assert sub.progress == pytest.approx(1 / 3 / EPOCHS)
    assert opened(sub.state_dict())["table"]["recorded"] == 0
    rest = [i for part, _ in loader for i in part.tolist()]
    assert sorted(rest + index.tolist()) == list(range(N))
    with pytest.raises(RuntimeError, match="is under way"):
        sub.renew([0])
    sub.record(torch.tensor(rest[:30]), torch.ones(30))
    assert opened(sub.state_dict())["table"]["recorded"] == 60
    sub.record(torch.tensor(rest[30:]), torch.ones(30), accumulating=True)
    with pytest.raises(RuntimeError, match="Epoch 1 of 4 has ended"):
        iter(loader)
    sub.step()
    assert sub.history[0].backward == N, "the end of an epoch is the end of the last group"


@pytest.mark.parametrize("index", [[0, N], [-1, 3], [[1]]])
def test_what_waits_is_looked_at_at_once(index):
    sub = subsampler()
    with pytest.raises(ValueError, match="index"):
        sub.record(torch.tensor(index), torch.ones(len(index)), accumulating=True)
    assert sub.progress == 0


class Module(LightningModule):
    """Without chance; ``manual``: it accumulates by itself."""

    def __init__(self, manual=False):
        super().__init__()
        self.model, self.automatic_optimization = network(), not manual

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self.model(x)
        losses = F.cross_entropy(logits, y, reduction="none")
        if not self.automatic_optimization:
            self.manual_backward(losses.mean() / GROUP)
            if (batch_idx + 1) % GROUP == 0 or self.trainer.is_last_batch:
                self.optimizers().step()
                self.optimizers().zero_grad()
        return {"loss": losses.mean(), "per_sample_loss": losses, "predicted": logits.argmax(1)}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Save(Callback):
    """Saves after some batch of all, by Lightning's own checkpoint."""

    def __init__(self, path, after, stop=True):
        self.path, self.after, self.stop, self.seen = path, after, stop, 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen += 1
        if self.seen == self.after:
            trainer.save_checkpoint(self.path)
            if self.stop:
                raise Stopped


def fit(data, *callbacks, first=(), resumed=None, manual=False, policy=None, **options):
    sub, module = subsampler(policy), Module(manual)
    options = {"accumulate_grad_batches": 1 if manual else GROUP} | options
    trainer = quiet_trainer(
        max_epochs=EPOCHS, callbacks=[*first, SubsamplingCallback(sub), *callbacks], **options
    )
    module.subsampler = sub
    trainer.fit(module, sub.loader(data, 8), ckpt_path=resumed, weights_only=True if resumed else None)
    return module


@pytest.mark.parametrize(("manual", "policy"), [(False, None), (True, Kakurenbo(0.3))])
def test_lightning_goes_on_exactly_from_inside_a_group(data, tmp_path, manual, policy):
    whole = fit(data, manual=manual, policy=policy)
    for after in (1, 4, 6, 15):
        path = tmp_path / f"{after}.ckpt"
        with pytest.raises(Stopped):
            fit(data, Save(path, after), manual=manual, policy=policy)
        assert same(whole, fit(data, resumed=path, manual=manual, policy=policy)), after


def test_a_checkpoint_from_inside_a_batch_says_that_it_does_not(data, tmp_path):
    for after, warns in ((4, True), (3, False)):
        save = Save(tmp_path / "a.ckpt", after)
        if warns:
            with (
                pytest.warns(UserWarning, match="takes that step again.*comes after"),
                pytest.raises(Stopped),
            ):
                fit(data, first=[save])
        else:
            with pytest.raises(Stopped):
                fit(data, first=[save])
            assert same(fit(data), fit(data, resumed=tmp_path / "a.ckpt"))


@pytest.mark.parametrize("after", [2, 15])
def test_a_signal_inside_a_group_that_lightning_saves_at(data, tmp_path, after):
    """SIGTERM in a training of one's own: a callback saves when it comes."""

    class Told(Callback):
        seen = 0

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.seen += 1
            if self.seen == after:
                os.kill(os.getpid(), signal.SIGTERM)

        def on_exception(self, trainer, pl_module, exception):
            trainer.save_checkpoint(tmp_path / "a.ckpt")

    with pytest.raises(BaseException):  # noqa: B017, PT011 - SIGTERMException is no Exception in all versions
        fit(data, Told())
    assert same(fit(data), fit(data, resumed=tmp_path / "a.ckpt"))


@pytest.mark.parametrize("told", [True, False])
def test_accelerate(data, tmp_path, told):
    """Told of the group, it goes on exactly from where the optimizer has stepped."""
    accelerate = pytest.importorskip("accelerate")
    from accelerate.state import AcceleratorState, GradientState, PartialState

    def train(stop=None, resumed=None):
        for state in (AcceleratorState, GradientState, PartialState):
            state._reset_state()
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=GROUP)
        model, sub = network(), subsampler()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        loader = sub.loader(data, 8)
        model, optimizer = accelerator.prepare(model, optimizer)
        accelerator.register_for_checkpointing(sub)
        if resumed:
            accelerator.load_state(resumed)
            accelerator.step = 0
        seen = 0
        while sub.epoch < EPOCHS:
            left = len(loader)
            for place, (index, (x, y)) in enumerate(loader, 1):
                with accelerator.accumulate(model):
                    if place == left:
                        accelerator.gradient_state._set_sync_gradients(True)
                    losses = F.cross_entropy(model(x), y, reduction="none")
                    waits = {"accumulating": not accelerator.sync_gradients} if told else {}
                    accelerator.backward(sub.record(index, losses, **waits))
                    optimizer.step()
                    optimizer.zero_grad()
                seen += 1
                if seen == stop:
                    accelerator.save_state(str(tmp_path / "state"))
                    return None
            accelerator.step = 0
            sub.step()
        return [p.detach().clone() for p in accelerator.unwrap_model(model).parameters()]

    whole = train()
    for stop in (3, 4, 14):
        train(stop)
        again = train(resumed=str(tmp_path / "state"))
        exact = all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
        assert exact == (told or stop == 4), stop
