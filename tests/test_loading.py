"""The index is inside the batch, whatever loader, worker or framework carries it."""

import copy
import itertools
import pickle
from collections import namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from fallow import Schedule, Subsampler, Threshold
from fallow.arrays.bitset import Bitset
from fallow.core.epoch import Epoch
from fallow.core.epoch_scores import EpochScores
from fallow.core.loading import (
    EpochBatches,
    HostIndex,
    IndexedDataset,
    check_dataset,
    fixed_batches,
)
from fallow.core.plan import Floors, Plan
from fallow.errors import InvalidType, InvalidValue, WrongState

N = 45
TARGETS = (torch.arange(N) * 7 + 3) % 101
Sample = namedtuple("Sample", "x y")


class Plain(Dataset):
    """One sample at a time."""

    def __len__(self):
        return N

    def __getitem__(self, i):
        assert type(i) is int
        return torch.full((3,), float(i)), TARGETS[i]


class Batched(Plain):
    """A whole batch at a time."""

    def __getitem__(self, i):
        raise AssertionError("__getitems__ must be used")

    def __getitems__(self, indices):
        return [Plain.__getitem__(self, i) for i in indices]


class Inner(Plain):
    """More samples than are trained on: a Subset maps positions to others."""

    def __len__(self):
        return 3 * N

    def __getitem__(self, i):
        return torch.full((3,), float(i // 3)), TARGETS[i // 3]


DATASETS = {
    "plain": Plain(),
    "getitems": Batched(),
    "tensors": TensorDataset(torch.arange(N).float().repeat(3, 1).T, TARGETS),
    "subset": Subset(Inner(), [3 * i for i in range(N)]),
}


def as_dict(samples):
    """A collate function that knows nothing of indices."""
    x, y = zip(*samples, strict=True)
    return {"pixels": torch.stack(x), "label": list(map(int, y))}


def subsampler(n=N, low=0.05, epochs=3, seed=0):
    return Subsampler(n, Threshold(low=low), Schedule(epochs=epochs), seed=seed)


def drain(loader):
    """Return all indices, after checking each against its own batch."""
    seen = []
    for index, (x, y) in loader:
        assert torch.equal(y, TARGETS[index])
        assert torch.equal(x, index[:, None].expand(-1, 3).float())
        seen += index.tolist()
    return seen


def finish(loader, sub, loss=1.0):
    for index, _ in loader:
        sub.record(index, torch.full((len(index),), loss))


@pytest.mark.parametrize("kind", DATASETS)
@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"drop_last": True}], ids=str)
def test_the_index_names_the_batch(kind, options):
    sub = subsampler()
    seen = drain(sub.loader(DATASETS[kind], 8, **options))
    expected = list(range(N)) if options.get("shuffle") is False else sub.order()[:].tolist()
    assert seen == (expected[:40] if options.get("drop_last") else expected)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(
    "options",
    [
        {"multiprocessing_context": "fork", "prefetch_factor": 3},
        {"multiprocessing_context": "fork", "persistent_workers": True},
        {"multiprocessing_context": "fork", "in_order": False},
        pytest.param(
            {"multiprocessing_context": "spawn", "persistent_workers": True}, marks=pytest.mark.slow
        ),
    ],
    ids=str,
)
def test_the_index_names_the_batch_through_workers(options):
    sub = subsampler()
    loader = sub.loader(DATASETS["subset"], 8, num_workers=2, **options)
    expected = sub.order()[:].tolist()
    first = []
    for index, (_, y) in loader:
        assert type(index) is HostIndex
        assert torch.equal(y, TARGETS[index])
        first += index.tolist()
        sub.record(index, (index % 3).float())
        if len(first) == 16:
            break
    rest = drain(loader)
    assert sorted(first + rest) == list(range(N))
    if options.get("in_order", True):
        assert first + rest == expected
    sub.record(torch.tensor(rest), torch.tensor(rest) % 3 * 1.0)
    sub.step()
    assert sorted(drain(loader)) == [i for i in range(N) if i % 3]


def test_a_custom_collate_function_sees_samples_only():
    loader = subsampler().loader(Plain(), 8, collate_fn=as_dict)
    for index, batch in loader:
        assert batch["label"] == TARGETS[index].tolist()
        assert torch.equal(batch["pixels"][:, 0], index.float())


def test_accelerate_looks_ahead_without_harm():
    accelerate = pytest.importorskip("accelerate")
    sub = subsampler()
    loader = sub.loader(Plain(), 8)
    prepared = accelerate.Accelerator(cpu=True).prepare(loader)
    for epoch in range(2):
        expected, seen = sub.order()[:].tolist(), []
        assert len(prepared) == len(loader)
        for index, (_, y) in prepared:
            assert torch.equal(y, TARGETS[index])
            seen += index.tolist()
            sub.record(index, torch.where(index < 10, 0.0, 1.0))
        assert seen == expected
        assert len(seen) == (N if epoch == 0 else N - 10)
        sub.step()


def test_two_loaders_over_one_dataset_do_not_disturb_each_other():
    sub, data = subsampler(), Plain()
    small, large = sub.loader(data, 4), sub.loader(data, 9, shuffle=False)
    seen = []
    for (i, (_, y)), (j, (_, z)) in itertools.zip_longest(small, large, fillvalue=(None, (None, None))):
        if j is not None:
            assert torch.equal(z, TARGETS[j])
        assert torch.equal(y, TARGETS[i])
        seen += i.tolist()
    assert seen == sub.order()[:].tolist()


# --- iterating has no side effects ---


def test_iterating_twice_gives_the_same_and_changes_nothing():
    sub = subsampler()
    loader = sub.loader(Plain(), 8)
    iter(loader)
    half = [index.tolist() for index, _ in itertools.islice(loader, 3)]
    whole = [index.tolist() for index, _ in loader]
    assert whole[:3] == half
    assert [i for part in whole for i in part] == sub.order()[:].tolist()
    assert sub.progress == 0.0


@given(stop=st.lists(st.integers(0, 5), max_size=4), batch=st.integers(1, 12), shuffle=st.booleans())
@settings(max_examples=30, deadline=None)
def test_breaking_out_and_iterating_again_gives_exactly_the_rest(stop, batch, shuffle):
    sub = subsampler()
    loader = sub.loader(Plain(), batch, shuffle=shuffle)
    whole = [index.tolist() for index, _ in loader]
    length, seen = len(loader), []
    assert length == len(whole)
    for count in [*stop, len(whole)]:
        if len(seen) == len(whole):
            break
        for index, _ in itertools.islice(loader, count):
            seen.append(index.tolist())
            sub.record(index, torch.ones(len(index)))
            assert len(loader) == length
    assert seen == whole


def test_a_batch_that_was_not_recorded_comes_again():
    sub = subsampler()
    loader = sub.loader(Plain(), 8)
    skipped = []
    for at, (index, _) in enumerate(loader):
        if at == 2:
            skipped = index.tolist()
        else:
            sub.record(index, torch.ones(len(index)))
    assert drain(loader) == skipped


@pytest.mark.parametrize("drop_last", [False, True])
def test_an_ended_epoch_without_step_raises_at_the_next_iter(drop_last):
    sub = subsampler()
    loader = sub.loader(Plain(), 8, drop_last=drop_last)
    finish(loader, sub)
    with pytest.raises(WrongState, match=r"Epoch 1 of .* has ended.*step\(\)"):
        iter(loader)
    sub.step()
    assert next(iter(loader))[0].shape == (8,)


def test_after_the_last_epoch_iter_raises():
    sub = subsampler(epochs=1)
    loader = sub.loader(Plain(), 8)
    finish(loader, sub)
    sub.step()
    with pytest.raises(WrongState, match="All 1 epochs are done"):
        iter(loader)


def test_the_length_is_that_of_the_coming_epoch():
    sub = subsampler(low=0.5)
    loader = sub.loader(Plain(), 8)
    for expected in (6, 4, 4):
        assert len(loader) == expected == len(list(loader))
        for index, _ in loader:
            assert len(loader) == expected
            sub.record(index, (index >= 20).float())
        sub.step()


def test_drop_last_keeps_the_only_batch():
    sub = subsampler()
    assert [len(i) for i, _ in sub.loader(Plain(), 50, drop_last=True)] == [N]
    assert [len(i) for i, _ in sub.loader(Plain(), 44, drop_last=True)] == [44]


# --- wrong arguments ---


class Stream(IterableDataset):
    def __iter__(self):
        yield from range(N)


class SizedStream(Stream):
    def __len__(self):
        return N


@pytest.mark.parametrize(
    ("dataset", "error", "words"),
    [
        (Stream(), InvalidType, "map-style.*Found Stream.*a stream does not have"),
        (SizedStream(), InvalidType, "map-style.*Found SizedStream"),
        (DataLoader(Plain()), InvalidType, r"Found a DataLoader.*`\.dataset`"),
        (Subset(Plain(), range(7)), InvalidValue, "training set of 45 samples.*Found 7 samples.*validation"),
        (range(46), InvalidValue, "Found 46 samples"),
        (iter([1]), InvalidType, "map-style"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_wrong_dataset_raises(dataset, error, words):
    sub = subsampler()
    with pytest.raises(error, match=words):
        sub.loader(dataset, 8)
    with pytest.raises(error, match=words):
        sub.remeasure(dataset, lambda index, batch: torch.ones(len(index)))
    check_dataset(Plain(), N)


@pytest.mark.parametrize("name", ["sampler", "batch_sampler"])
def test_a_sampler_raises_and_says_what_to_use(name):
    with pytest.raises(InvalidValue, match=f"`{name}` must not be set.*shuffle=False"):
        subsampler().loader(Plain(), 8, **{name: [[0]]})


@pytest.mark.parametrize(("size", "error"), [(0, InvalidValue), (2.0, InvalidType), (None, InvalidType)])
def test_a_wrong_batch_size_raises(size, error):
    with pytest.raises(error, match="`batch_size` must be"):
        subsampler().loader(Plain(), size)


# --- the parts ---


def test_the_wrapper_hides_nothing_and_can_be_copied():
    wrapped = copy.deepcopy(pickle.loads(pickle.dumps(IndexedDataset(Plain()))))
    assert not hasattr(wrapped, "classes")
    assert len(wrapped) == N


def test_fixed_batches_keep_their_order():
    index = np.array([9, 3, 4, 1, 7])
    loader = fixed_batches(Plain(), index, 2, torch.utils.data.default_collate, {})
    assert drain(loader) == index.tolist()
    assert list(fixed_batches(Plain(), index[:0], 2, list, {})) == []


def full_epoch(total):
    """An epoch over all of ``range(total)``."""
    everyone = Bitset(np.ones(total, bool))
    return Epoch(Plan(0, everyone), EpochScores(total), Floors(), seed=3, epochs=1)


def by_rank(total, batch, ranks, drop_last, monkeypatch):
    """The batches of every rank, as ``[rank][step]``."""
    batches = EpochBatches(full_epoch(total), batch, drop_last=drop_last)
    found = []
    for rank in range(ranks):
        monkeypatch.setattr("fallow.arrays.distributed.rank_and_size", lambda group, at=rank: (at, ranks))
        mine = list(batches)
        assert len(batches) == len(mine)
        assert batches.planned()[0] == sum(map(len, mine))
        found.append(mine)
    assert batches.planned()[1] == sum(len(part) for mine in found for part in mine)
    return found


@given(total=st.integers(1, 300), batch=st.integers(1, 9), ranks=st.integers(1, 9), drop_last=st.booleans())
@settings(max_examples=150, deadline=None)
def test_ranks_take_slices_of_global_batches(total, batch, ranks, drop_last):
    with pytest.MonkeyPatch.context() as monkeypatch:
        if total < ranks:
            with pytest.raises(WrongState, match=f"Found {total} for {ranks} ranks"):
                by_rank(total, batch, ranks, drop_last, monkeypatch)
            return
        found = by_rank(total, batch, ranks, drop_last, monkeypatch)
    steps = list(zip(*found, strict=True))
    order = full_epoch(total).order()[:].tolist()
    used = [i for step in steps for part in step for i in part]
    width = batch * ranks
    assert used == order[: total // width * width if drop_last and total >= width else total]
    for step in steps:
        sizes = [len(part) for part in step]
        assert min(sizes) > 0
        assert max(sizes) - min(sizes) <= 1
    assert all(len(part) == batch for step in steps[:-1] for part in step)
    rest = total % width
    if 0 < rest < ranks and not (drop_last and total >= width):
        assert sum(map(len, steps[-1])) == width + rest


@pytest.mark.parametrize(
    ("total", "sizes"), [(65, [16, 16, 16, 17]), (68, [16] * 4 + [4]), (3, [3]), (64, [16] * 4)]
)
def test_full_batches_let_a_small_rest_join_the_batch_before(total, sizes):
    batches = EpochBatches(full_epoch(total), 16, full_batches=True)
    found = list(batches)
    assert [len(batch) for batch in found] == sizes
    assert len(batches) == len(found)
    assert sorted(index for batch in found for index in batch) == list(range(total))
