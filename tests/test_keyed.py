"""Samples of streams, known by keys: the same decisions as by positions, whatever the stream."""

import copy
import io
import pickle
import tarfile

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from fallow import (
    NO_SCORE,
    ErrorMass,
    InvalidType,
    InvalidValue,
    KeyedSubsampler,
    Reason,
    Schedule,
    Subsampler,
    Threshold,
    Watch,
    WrongState,
)
from fallow.arrays.key_store import digests, unique
from fallow.policies import Kakurenbo
from ranks import in_ranks

N, EPOCHS = 240, 7
KEYS = [f"shard-{i % 5}/{i:04}.png" if i % 3 else i for i in range(N)]
"""Texts and numbers."""


def script(seed=0, wrong=24):
    """Return the scores and predicted classes of each epoch; some labels are wrong."""
    rng = np.random.default_rng(seed)
    ease, labels = rng.lognormal(-2, 2, N), torch.arange(N) % 4
    told = []
    for epoch in range(EPOCHS):
        scores, guesses = ease * rng.lognormal(0, 0.5, N) * 0.7**epoch, labels.clone()
        scores[:wrong], guesses[:wrong] = rng.uniform(3.5, 6, wrong), (labels[:wrong] + 1) % 4
        told.append((torch.tensor(scores, dtype=torch.float32), guesses))
    return labels, told


LABELS, TOLD = script()
POLICIES = {
    "threshold": (Threshold(0.1), {"readmit_every": 3}),
    "high": (Threshold(0.1, high="auto", visits=2), {"readmit_every": 3}),
    "error-mass": (ErrorMass(), {}),
    "watch": (Watch(), {}),
}


def keyed(name="error-mass"):
    policy, more = POLICIES[name]
    return KeyedSubsampler(policy, Schedule(EPOCHS, **more), seed=3)


def in_batches(rows, size=16):
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def order(epoch):
    """A stream has an order of its own."""
    return np.random.default_rng(epoch).permutation(N).tolist()


def record(sub, rows, epoch):
    scores, guesses = TOLD[epoch]
    at = torch.tensor(rows)
    return sub.record([KEYS[row] for row in rows], scores[at], predicted=guesses[at], labels=LABELS[at])


def train(sub, until=EPOCHS):
    used = []
    while sub.epoch < until:
        epoch = sub.epoch
        used.append([row for row in order(epoch) if sub.keeps(KEYS[row])])
        for rows in in_batches(used[-1]):
            record(sub, rows, epoch)
        sub.step()
    return used


def by_position(name):
    """Return the reasons after each epoch of a subsampler over positions, those of the sorted digests."""
    policy, more = POLICIES[name]
    _, place, _ = unique(digests(KEYS))
    sub = Subsampler(N, policy, Schedule(EPOCHS, **more), seed=3, labels=LABELS[torch.from_numpy(place)])
    sub.announce = False
    reasons = []
    while sub.epoch < EPOCHS:
        scores, guesses = (part[torch.from_numpy(place)] for part in TOLD[sub.epoch])
        index = torch.as_tensor(sub.order()[:])
        sub.record(index, scores[index], predicted=guesses[index])
        sub.remeasure(range(N), lambda i, _: (scores[i], guesses[i]))  # noqa: B023
        sub.step()
        reasons.append(sub.reason.tolist())
    return reasons, sub


@pytest.mark.parametrize("name", POLICIES)
def test_the_decisions_are_those_by_position(name, capsys):
    expected, positional = by_position(name)
    sub, reasons = keyed(name), []
    while sub.epoch < EPOCHS:
        train(sub, sub.epoch + 1)
        reasons.append(sub.reason.tolist())
    assert reasons == expected
    for ours, theirs in zip(sub.history, positional.history, strict=True):
        assert torch.equal(ours.used, theirs.used)
        assert (ours.backward, ours.forward_only) == (theirs.backward, theirs.forward_only)
    if name == "watch":
        assert str(sub.findings()) == str(positional.findings())
        assert "would have left out" in capsys.readouterr().err
    else:
        assert any(map(any, reasons))


def test_an_outlier_that_is_due_is_measured_and_not_trained_on():
    sub = keyed("high")
    train(sub, 3)
    while not (sub._due & (sub.reason.numpy() == Reason.OUTLIER)).any():
        train(sub, sub.epoch + 1)
    due = [row for row in range(N) if sub._due[sub.rows([KEYS[row]])[0]]]
    kept = [row for row in range(N) if sub.keeps(KEYS[row]) and row not in due]
    rows = due[:2] + kept[:6]
    losses = torch.rand(8, requires_grad=True)
    loss = sub.record([KEYS[row] for row in rows], losses, labels=LABELS[rows])
    loss.backward()
    assert losses.grad[:2].tolist() == [0, 0]
    assert torch.allclose(losses.grad[2:], torch.tensor(1 / 6))
    assert float(loss.detach()) == pytest.approx(float(losses[2:].detach().mean()))


@pytest.mark.parametrize("name", ["threshold", "error-mass"])
def test_it_goes_on_from_every_batch(name):
    """The stream is read from its beginning again; what was recorded does not pass the filter."""
    whole = keyed(name)
    used = train(whole)
    for epoch in (0, 1, 4):
        for done in range(0, len(used[epoch]) // 16 + 1, 5):
            sub = keyed(name)
            train(sub, epoch)
            for rows in in_batches(used[epoch])[:done]:
                record(sub, rows, epoch)
            again = keyed(name)
            again.load_state_dict(sub.state_dict())
            rest = train(again)
            assert sorted(used[epoch][: 16 * done] + rest[0]) == sorted(used[epoch])
            assert rest[1:] == used[epoch + 1 :]
            assert torch.equal(again.scores, whole.scores)


def work(rank, size, folder):
    sub = keyed()
    while sub.epoch < EPOCHS:
        epoch = sub.epoch
        mine = [row for row in order(epoch) if row % size == rank]
        batches = in_batches([row for row in mine if sub.keeps(KEYS[row])], 16 // size)
        for number, rows in enumerate(batches):
            record(sub, rows, epoch)
            if number == 3:  # of the first epoch too
                state = sub.state_dict()
                sub = keyed()
                sub.load_state_dict(state)
        sub.step()
    torch.save([record.used for record in sub.history], f"{folder}/{rank}.pt")


def test_two_ranks_that_read_their_own_shards_decide_as_one(tmp_path):
    sub = keyed()
    train(sub)
    in_ranks(work, 2, str(tmp_path))
    for rank in range(2):
        used = torch.load(tmp_path / f"{rank}.pt")
        assert all(map(torch.equal, used, [record.used for record in sub.history]))


def test_new_samples_join_in_the_epoch_that_shows_them():
    sub = KeyedSubsampler(Threshold(0.1), Schedule(4))
    sub.record([1, 2, 3], torch.tensor([0.01, 1.0, 0.02]))
    sub.step()
    losses = torch.tensor([1.0, 3.0, 5.0], requires_grad=True)
    mean = sub.record([2, 8, 9], losses)
    assert float(mean.detach()) == 3.0
    mean.backward()
    assert torch.allclose(losses.grad, torch.tensor(1 / 3))
    assert sub.rows([8]).tolist() == [-1]
    sub.step()
    assert (sub.history[1].n, sub.history[1].backward, sub.history[1].kept) == (5, 3, 3)
    assert sub.rows([8, 9]).tolist() == [3, 4]
    assert sub.scores[sub.rows([9])].item() == 5.0
    assert not sub.keeps(1)
    assert (len(sub), sub.progress) == (5, 0.5)


def texts(folder):
    """Write samples as a shard of WebDataset, and return its path."""
    with tarfile.open(folder / "shard.tar", "w") as shard:
        for row in range(N):
            data = str(row).encode()
            entry = tarfile.TarInfo(f"{row:04}.txt")
            entry.size = len(data)
            shard.addfile(entry, io.BytesIO(data))
    return str(folder / "shard.tar")


class Decoded:
    """Notes what is decoded, also by workers."""

    def __init__(self, folder):
        self.path = folder / "decoded"

    def __call__(self, sample):
        with self.path.open("a") as file:
            file.write(".")
        return sample

    def taken(self):
        count = len(self.path.read_text())
        self.path.unlink()
        return count


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["datasets", "datasets in batches", "webdataset"])
@pytest.mark.filterwarnings("ignore:.*more than one worker:UserWarning")
# WebDataset leaves its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_nothing_is_decoded_that_is_left_out(kind, workers, tmp_path):
    """The counts are exact in each epoch; workers know it, since each epoch has new ones."""
    decode, sub = Decoded(tmp_path), KeyedSubsampler(Threshold(0.4), Schedule(4, readmit_every=3))
    shards = texts(tmp_path)

    def loader():
        if kind != "webdataset":
            rows = Dataset.from_dict({"id": [f"{row:04}" for row in range(N)]}).to_iterable_dataset(
                num_shards=2
            )
            if kind == "datasets in batches":
                return rows.filter(lambda some: sub.keeps.each(some["id"]).tolist(), batched=True).map(decode)
            return rows.filter(sub.keeps, input_columns=["id"]).map(decode)
        import webdataset

        stream = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False)
        stream = stream.select(lambda sample: sub.keeps(sample["__key__"]))
        return stream.map(decode).map(lambda sample: {"id": sample["__key__"]})

    while sub.epoch < 4:
        used = 0
        for batch in DataLoader(loader(), batch_size=16, num_workers=workers):
            keys = batch["id"]
            used += len(keys)
            sub.record(keys, torch.tensor([int(key) % 10 / 10 + 0.01 for key in keys]))
        sub.step()
        assert decode.taken() == used == sub.history[-1].backward
    assert [record.backward for record in sub.history] == [N, N * 6 // 10, N * 6 // 10, N]


def test_a_copy_knows_its_epoch():
    sub = KeyedSubsampler(Threshold(0.1), Schedule(3))
    before = pickle.loads(pickle.dumps(sub.keeps))
    sub.record(["a", "b"], torch.tensor([0.01, 1.0]))
    sub.step()
    after = pickle.loads(pickle.dumps(sub.keeps))
    assert [keeps("a") for keeps in (before, after, sub.keeps)] == [True, False, False]
    assert after.each(["a", "b", "c"]).tolist() == [False, True, True]
    twice = pickle.loads(pickle.dumps(after))
    assert not twice("a")


def test_what_the_filter_should_have_stopped_is_told():
    sub = KeyedSubsampler(Threshold(0.1), Schedule(3))
    sub.record(["a", "b"], torch.tensor([0.01, 1.0]))
    sub.step()
    with pytest.raises(
        WrongState, match=r"left out of epoch 2 of 3.*Found 1 in a batch of 3, the first is 'a'"
    ):
        sub.record(["b", "new", "a"], torch.ones(3))
    sub.record(["b"], torch.ones(1))
    sub.step()
    sub.record(["b"], torch.ones(1))
    sub.step()
    with pytest.raises(WrongState, match="All 3 epochs are done"):
        sub.record(["b"], torch.ones(1))


def test_wrong_input_changes_nothing():
    sub = KeyedSubsampler(Threshold(0.1), Schedule(3))
    with pytest.raises(WrongState, match="No sample was recorded in the first epoch"):
        sub.step()
    with pytest.raises(InvalidType, match="texts or whole numbers"):
        sub.record([1.5], torch.ones(1))
    with pytest.raises(InvalidValue, match="losses"):
        sub.record(["a", "b"], torch.ones(3))
    sub.record(["a", "b"], torch.ones(2), labels=[0, 1])
    with pytest.raises(InvalidValue, match="`labels` must be given in every batch and on every rank"):
        sub.record(["c"], torch.ones(1))
    with pytest.raises(WrongState, match="No epoch is finished"):
        sub.findings()
    sub.step()
    with pytest.raises(InvalidValue, match="`labels` must be given in every batch and on every rank"):
        sub.record(["c"], torch.ones(1))
    assert len(sub) == 2
    with pytest.raises(InvalidType, match="`policy` must be a Policy"):
        KeyedSubsampler("threshold", Schedule(3))


def test_a_state_is_checked():
    sub = keyed()
    train(sub, 2)
    state = sub.state_dict()
    for wrong in (
        3, {}, state | {"keys": torch.zeros(2, 3)}, state | {"keys": state["keys"][:1].repeat(N, 1)},
        state | {"new": {}}, state | {"subsampler": None}, state | {"keys": state["keys"][1:]},
        state | {"new": state["new"] | {"scores": torch.ones(3)}},
    ):  # fmt: skip
        other = keyed()
        with pytest.raises((InvalidType, InvalidValue)):
            other.load_state_dict(wrong)
        assert len(other) == 0
    with pytest.raises(InvalidValue, match="policy"):
        keyed("threshold").load_state_dict(state)
    kept = int((sub.reason == Reason.KEPT).sum())
    assert repr(sub).endswith(f": 240 keys, {kept} kept)")
    assert repr(keyed()).endswith(": 0 keys, 0 kept)")


def test_the_floor_is_that_of_the_samples_there_are():
    sub = KeyedSubsampler(Threshold(0.5), Schedule(4), min_kept=30)
    sub.record(range(10), torch.full((10,), 0.1))
    sub.step()
    assert int((sub.reason == Reason.KEPT).sum()) == 10
    sub.record(range(100), torch.full((100,), 0.1))
    sub.step()
    assert int((sub.reason == Reason.KEPT).sum()) == 30
    again = KeyedSubsampler(Threshold(0.5), Schedule(4), min_kept=30)
    again.load_state_dict(sub.state_dict())
    assert torch.equal(again.reason, sub.reason)


def test_measured_rows_do_not_count_in_the_mean():
    sub = KeyedSubsampler(Threshold(0.1, high=3.0), Schedule(5, remeasure_every=1))
    sub.record([1, 2, 3], torch.tensor([1.0, 1.0, 9.0]))
    sub.step()
    assert sub.reason.tolist().count(Reason.OUTLIER) == 1
    assert sub.keeps(3)
    losses = torch.tensor([1.0, NO_SCORE, float("inf")], requires_grad=True)
    mean = sub.record([1, 2, 3], losses)
    mean.backward()
    assert mean.item() == 1.0
    assert losses.grad.tolist() == [1, 0, 0]
    assert sub.progress == pytest.approx(2 / 5)


def test_a_copy_of_the_subsampler_has_a_filter_of_its_own():
    sub = KeyedSubsampler(Threshold(0.1), Schedule(3))
    sub.record([1, 2], torch.tensor([0.01, 1.0]))
    for copied in (copy.deepcopy(sub), pickle.loads(pickle.dumps(sub))):
        copied.step()
        assert [copied.keeps(1), copied.keeps(2)] == [False, True]
    assert sub.keeps(1)


def test_what_was_recorded_before_a_resume_is_not_recorded_again():
    sub = KeyedSubsampler(Threshold(0.1), Schedule(3))
    sub.record([1, 2], torch.tensor([0.01, 1.0]))
    again = KeyedSubsampler(Threshold(0.1), Schedule(3))
    again.load_state_dict(sub.state_dict())
    with pytest.raises(WrongState, match=r"epoch 1 of 3, or were recorded before.*Found 1 in a batch of 2"):
        again.record([3, 1], torch.ones(2))
    again.record([3], torch.ones(1))
    again.step()
    assert again.history[0].backward == 3


def test_a_stream_that_withholds_samples_is_told():
    sub = KeyedSubsampler(Threshold(0.0), Schedule(4))
    sub.record(range(8), torch.ones(8))
    sub.step()
    sub.record(range(5), torch.ones(5))
    with pytest.warns(UserWarning, match="3 of the 8 samples of epoch 2 of 4 were not recorded"):
        sub.step()
    sub.record([0], torch.ones(1))
    sub.step()  # once is enough


def test_scores_may_be_whole_numbers_and_labels_are_needed_at_once():
    sub = KeyedSubsampler(Threshold(0.1), Schedule(4))
    for _ in range(2):
        sub.record([1, 2], torch.tensor([0.5, 1.0]), scores=torch.tensor([1, 2]))
        sub.step()
    assert sub.scores.tolist() == [1.0, 2.0]
    with pytest.raises(InvalidValue, match=r"Kakurenbo|labels"):
        KeyedSubsampler(Kakurenbo(), Schedule(4)).record([1], torch.ones(1))
    with pytest.raises(InvalidValue, match="`min_kept_per_class` needs `labels`"):
        KeyedSubsampler(Threshold(0.1), Schedule(4), min_kept_per_class=1).record([1], torch.ones(1))


def test_after_a_refused_decision_the_epoch_goes_on():
    sub = KeyedSubsampler(Threshold(0.1), Schedule(3))
    sub.record([1, 2], torch.tensor([0.01, 0.02]))
    with pytest.raises(InvalidValue, match="must keep at least one sample"):
        sub.step()
    sub.record([3], torch.ones(1))
    sub.step()
    assert sub.reason.tolist() == [Reason.LEARNED, Reason.LEARNED, Reason.KEPT]


def test_keys_of_arrays_are_those_of_python():
    sub = KeyedSubsampler(Threshold(0.1), Schedule(3))
    sub.record(torch.tensor([1, -1]), torch.tensor([0.01, 1.0]))
    sub.record([2**64 - 1], torch.ones(1))
    sub.step()
    assert len(sub) == 3
    assert not sub.keeps(np.int64(1))
    assert not sub.keeps(torch.tensor(1))
    assert sub.keeps(-1)
