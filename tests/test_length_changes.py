"""A dataset that grew or shrank under a living loader is noticed, and the next step is named."""

import re

import pytest
import torch
from lightning.pytorch import LightningModule
from torch.utils.data import Dataset

from fallow import Fraction, Schedule, Subsampler
from fallow.errors import FallowError, InvalidType, InvalidValue, WrongState
from fallow.integrations.lightning import SubsamplingCallback
from trainers import quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class Living(Dataset):
    """A list that may grow, shrink, or lie."""

    def __init__(self, n, says=None):
        self.values, self.says = list(range(n)), says

    def __len__(self):
        if isinstance(self.says, Exception):
            raise self.says
        return len(self.values) if self.says is None else self.says

    def __getitem__(self, index):
        return torch.tensor(float(self.values[index]))


class Batched(Living):
    def __getitems__(self, indices):
        return [self[i] for i in indices]


def subsampler(n=100, **options):
    return Subsampler(n, Fraction(0.5), Schedule(5), **options)


def one_epoch(sub, loader):
    seen = []
    for index, _ in loader:
        sub.record(index, 1 + index.float())
        seen += index.tolist()
    sub.step()
    return seen


@pytest.mark.parametrize(
    ("kind", "workers"), [(Living, {}), (Batched, {"num_workers": 1, "persistent_workers": True})]
)
def test_growth_is_noticed_before_the_next_epoch_and_extend_mends_it(kind, workers):
    data, sub = kind(100), subsampler()
    loader, other = sub.loader(data, 10, **workers), sub.loader(kind(100), 10)
    one_epoch(sub, loader)
    data.values += range(100, 150)
    with pytest.raises(InvalidValue, match=r"100 samples that .*Found 150 samples.*extend\(50\).*new loader"):
        iter(loader)
    assert len(list(other)) == 5, "another loader has a dataset of its own"
    sub.extend(50)
    with pytest.raises(WrongState, match=r"from 100 to 150 samples. Make a new loader"):
        iter(loader)
    assert set(range(100, 150)) <= set(one_epoch(sub, sub.loader(data, 10, **workers)))


def test_shrinking_is_noticed_before_the_next_epoch():
    data, sub = Living(100), subsampler(labels=torch.arange(100) % 3)
    loader = sub.loader(data, 10)
    one_epoch(sub, loader)
    del data.values[80:]
    with pytest.raises(InvalidValue, match=r'Found 80 samples.*remove\(index\).*accept=\("n", "labels"\)'):
        iter(loader)
    shorter = subsampler(80, labels=torch.arange(80) % 3)
    shorter.load_state_dict(sub.state_dict(), accept=("n", "labels"))
    assert torch.equal(shorter.scores, sub.scores[:80])
    assert max(one_epoch(shorter, shorter.loader(data, 10))) == 79


@pytest.mark.parametrize(("kind", "workers"), [(Living, {"num_workers": 1}), (Batched, {})])
def test_a_dataset_that_shrinks_inside_an_epoch(kind, workers):
    data, sub = kind(100), subsampler()
    del data.values[95:]
    data.says = 100
    batches = iter(sub.loader(data, 10, shuffle=False, **workers))
    data.says = None
    words = r"must hold (sample \d+. Found 95 samples.*remove|a sample for each index below its length, 100)"
    with pytest.raises(InvalidValue, match=words):
        list(batches)


@pytest.mark.parametrize("kind", [Living, Batched])
def test_a_length_that_lies(kind):
    loader = subsampler().loader(kind(90, says=100), 10, shuffle=False)
    with pytest.raises(
        InvalidValue, match=r"its length, 100. Found IndexError .* sample 9[09]: list.*__len__"
    ):
        list(loader)


@pytest.mark.parametrize("said", [NotImplementedError("no"), RuntimeError("gone"), -3, "many", None])
def test_a_length_that_cannot_be_told(said):
    data = Living(100, says=said)
    if said is None:
        data.values = None
    for call in (lambda s: s.loader(data, 10), lambda s: s.remeasure(data, lambda index, batch: batch)):
        with pytest.raises(InvalidType, match=r"len\(dataset\) must be the number.*__len__"):
            call(subsampler())
    data, sub = Living(100), subsampler()
    loader = sub.loader(data, 10)
    data.says, data.values = said, None if said is None else data.values
    with pytest.raises(InvalidType, match=r"len\(dataset\) must be the number"):
        iter(loader)


@pytest.mark.parametrize(("count", "words"), [(150, r"extend\(50\)"), (80, r"remove\(index\)")])
def test_measuring_notices_too(count, words):
    sub = subsampler()
    with pytest.raises(InvalidValue, match=words):
        sub.remeasure(Living(count), lambda index, batch: batch)


def test_growth_between_recording_and_the_end_of_the_epoch():
    data, sub = Living(100), subsampler()
    loader = sub.loader(data, 10)
    for index, _ in loader:
        sub.record(index, 1 + index.float())
    data.values.append(100)
    with pytest.raises(FallowError, match=r"extend\(1\)"):
        iter(loader)
    sub.step()
    sub.extend(1)
    assert 100 in one_epoch(sub, sub.loader(data, 10))


class Module(LightningModule):
    def __init__(self, data, count):
        super().__init__()
        self.layer, self.data, self.count = torch.nn.Linear(1, 1), data, count

    def training_step(self, batch, batch_idx):
        losses = self.layer(batch[:, None])[:, 0].square()
        return {"loss": losses.mean(), "per_sample_loss": losses}

    def on_train_epoch_end(self):
        if self.trainer.current_epoch == 1:
            self.data.values[:] = range(self.count)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-5)


@pytest.mark.parametrize(("count", "words"), [(150, r"extend\(50\)"), (80, r"remove\(index\)")])
def test_in_a_training_of_lightning(count, words):
    data, sub = Living(100), subsampler()
    fit = quiet_trainer(max_epochs=5, callbacks=[SubsamplingCallback(sub)])
    with pytest.raises(RuntimeError) as failed:  # of Lightning's clean-up, which comes after ours
        fit.fit(Module(data, count), sub.loader(data, 10))
    assert isinstance(failed.value.__context__, InvalidValue)
    assert re.search(words, str(failed.value.__context__))
    assert sub.epoch == 2
