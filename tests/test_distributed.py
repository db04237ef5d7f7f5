"""Ranks are slices of one run: real processes under gloo, against the same run in one process.

Each number of ranks is started once; every scenario runs in those processes, and its findings are
compared here.
"""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from fallow import ErrorMass, Fraction, Schedule, Subsampler, Threshold
from fallow.arrays.distributed import gather_rows, rank_and_size
from fallow.core.state import opened
from fallow.errors import FallowError
from ranks import in_ranks

GLOBAL = 8
SIZES = (37, 33, 32)
NOISY = 121
"""A set of which every second label is wrong."""
LEARNED = 122
"""A set of which every third sample is learned."""
FOUND = {
    "outliers": Fraction(0.6, exponent=0.5, high="auto", visits=1),
    "audit": Threshold(low="auto", high="auto", visits=2),
}
POLICY = Threshold(low=0.5, high=3.5)
SCHEDULE = Schedule(epochs=4, readmit_every=3)


def losses_of(index, epoch, n):
    draw = torch.rand(n, generator=torch.Generator().manual_seed(epoch)).square() * 4
    if epoch == 0:
        draw[3] = float("nan")
    if n == NOISY:
        draw[::2] = draw[::2] / 10 + 5
    if n == LEARNED:
        draw[::3] /= 1000
    return draw[index]


def make(n, policy=POLICY, **options):
    sub = Subsampler(n, policy, SCHEDULE, seed=2, min_kept=8)
    return sub, sub.loader(range(n), GLOBAL // rank_and_size()[1], **options)


def batches(sub, loader, log, count=1000):
    """Record up to ``count`` batches of the epoch under way."""
    for _, (index, _) in zip(range(count), loader, strict=False):
        sub.record(index, losses_of(index, sub.epoch, sub.n), predicted=index % 5)
        log.append((sub.epoch, index.tolist(), sub.progress))


def end(sub):
    measure(sub)
    sub.step()


def measure(sub):
    return sub.remeasure(range(sub.n), lambda index, batch: (index % 2) * 9.0 + 1, batch_size=2)


def train(sub, loader, log):
    while sub.epoch < SCHEDULE.epochs:
        batches(sub, loader, log)
        end(sub)


def outcome(sub):
    rows = [{**r.aggregates(), "record_seconds": None} for r in sub.history]
    used = [r.used.tolist() for r in sub.history]
    found = sub.scores, sub.reason, sub.last_scored, sub.predicted
    return repr(rows), used, [t.nan_to_num(-1.0).tolist() for t in found]


def whole_run(n, policy=POLICY, **options):
    log = []
    sub, loader = make(n, policy, **options)
    train(sub, loader, log)
    return {"log": log, "outcome": outcome(sub)}


def stopped_run(n, **options):
    """One batch into the second epoch: a state, and what follows without stopping."""
    log, rest = [], []
    sub, loader = make(n, **options)
    batches(sub, loader, log)
    end(sub)
    batches(sub, loader, log, 1)
    state, local = opened(sub.state_dict()), opened(sub.state_dict(local=True))
    train(sub, loader, rest)
    return {"log": log, "rest": rest, "outcome": outcome(sub), "state": state, "local": local}


def resumed_run(n, state, policy=POLICY):
    sub, loader = make(n, policy)
    sub.load_state_dict(state)
    before, log = sub.progress, []
    train(sub, loader, log)
    return {"log": log, "outcome": outcome(sub), "before": before}


def resumed_thin(n, state):
    """Go on with a state of one process, each rank with batches of its size."""
    sub = Subsampler(n, POLICY, SCHEDULE, seed=2, min_kept=8)
    sub.load_state_dict(state)
    loader, log = sub.loader(range(n), GLOBAL, kept_steps=True), []
    train(sub, loader, log)
    return {"log": log, "outcome": outcome(sub)}


def busy_run(n):
    """In the third epoch, with outliers measured and a sample that came twice."""
    sub, loader = make(n)
    for _ in range(2):
        batches(sub, loader, [])
        end(sub)
    batches(sub, loader, [], 1)
    count = measure(sub)
    if rank_and_size()[0] == 0:
        sub.record(sub.order()[:1], torch.tensor([3.0]))
    return {"measured": count, "state": opened(sub.state_dict())}


def counted(n, state):
    """What all ranks know a batch after a busy state was loaded."""
    sub, loader = make(n)
    sub.load_state_dict(state)
    batches(sub, loader, [], 1)
    return opened(sub.state_dict())


def twice_stopped(n, state, count):
    """A state of all ranks, then each rank's own part of the same epoch, in it or at its end."""
    sub, loader = make(n)
    sub.load_state_dict(state)
    log = []
    batches(sub, loader, log, count)
    local = opened(sub.state_dict(local=True))
    found = resumed_run(n, local)
    return {
        "log": log + found["log"],
        "outcome": found["outcome"],
        "before": found["before"],
        "at": sub.progress,
    }


def weights():
    """What the loss of each sample counts in the gradient of the second epoch, on all ranks together."""
    sub, loader = make(37, Fraction(0.4), kept_steps=True)
    batches(sub, loader, [])
    sub.step()
    found = torch.zeros(37)
    for index, _ in loader:
        losses = torch.ones(len(index), requires_grad=True)
        sub.record(index, losses).backward()
        # Data-parallel training takes the mean over the ranks.
        found[index] = losses.grad / rank_and_size()[1]
    return found


def error_of(call):
    try:
        call()
    except FallowError as error:
        return f"{type(error).__name__}: {error}"
    return None


def by_hand():
    """Ranks that record of their own: one sample on all, and more on one than on another."""
    rank, _ = rank_and_size()
    sub, _ = make(16, Threshold(low=0.5))
    nothing = error_of(sub.step)
    sub, _ = make(16, Threshold(low=0.5))
    sub.record(torch.tensor([5]), torch.tensor([float(rank)]))
    if rank == 0:
        sub.record(torch.tensor([1, 2, 1]), torch.tensor([1.0, 0.1, 3.0]), predicted=torch.tensor([7, 8, 7]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*planned for epoch 1 of .* were recorded.*")
        sub.step()
    return {"nothing": nothing, "scores": sub.scores, "kept": sub.kept, "predicted": sub.predicted}


def columns():
    rank, _ = rank_and_size()
    own = np.arange(rank * 2), np.full((rank * 2, 3), rank, np.float32), np.full(rank * 2, rank, np.uint8)
    found = gather_rows(*own)
    empty = gather_rows(np.zeros(0, np.int64))
    return {
        "rows": [[c.tolist() for c in part] for part in found],
        "types": [[str(c.dtype) for c in part] for part in found],
        "empty": [part[0].tolist() for part in empty],
    }


def too_few():
    _, size = rank_and_size()
    sub = Subsampler(size - 1, Threshold(low=0.5), SCHEDULE) if size > 1 else None
    return sub and error_of(lambda: list(sub.loader(range(size - 1), 4)))


def scenarios(given):
    """Everything that every rank does, in one go."""
    found = {n: whole_run(n) for n in SIZES}
    found["full"] = whole_run(37, full_batches=True)
    found["drop"] = whole_run(37, drop_last=True)
    found["soft"] = whole_run(37, Fraction(0.4, exponent=0.5))
    found["kept steps"] = whole_run(37, Fraction(0.4), kept_steps=True)
    found["error mass"] = whole_run(LEARNED, ErrorMass(high=None))
    found["weights"] = weights()
    for name, policy in FOUND.items():
        found[name] = whole_run(NOISY, policy)
    found["stopped"] = stopped_run(37)
    found["thin"] = stopped_run(37, kept_steps=True)
    found["busy"] = busy_run(37)
    if given is not None:
        found["from one"] = resumed_run(37, given["stopped"]["state"])
        found["thin from one"] = resumed_thin(37, given["thin"]["state"])
        found["twice"] = twice_stopped(37, given["stopped"]["state"], 1)
        found["at the end"] = twice_stopped(37, given["stopped"]["state"], 2)
        found["from local"] = resumed_run(37, found["stopped"]["local"])
        found["counted"] = counted(37, given["busy"]["state"])
        found["refused"] = error_of(lambda: make(37)[0].load_state_dict(given["other part"]))
    found["by hand"] = by_hand()
    found["columns"] = columns()
    found["too few"] = too_few()
    return found


def work(rank, size, folder):
    given = torch.load(Path(folder) / "one.pt", weights_only=True)
    part = {"rank_and_size": [(rank + 1) % size, size], "recorded": 0, "resumed": None, "shared_repeats": 0}
    other = {**given["stopped"]["state"], "part": part}
    torch.save(scenarios({**given, "other part": other}), Path(folder) / f"{rank}.pt")


@pytest.fixture(scope="module")
def one():
    return scenarios(None)


@pytest.fixture(
    scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)], ids=lambda size: f"{size} ranks"
)
def ranks(request, one, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.save(
        {name: {"state": one[name]["state"]} for name in ("stopped", "busy", "thin")}, folder / "one.pt"
    )
    in_ranks(work, request.param, str(folder))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(request.param)]


def steps(ranks, name, key="log"):
    """The batches of all ranks, step by step: ``[(epoch, [indices of each rank])]``."""
    found = []
    for parts in zip(*(rank[name][key] for rank in ranks), strict=True):
        assert len({(epoch, progress) for epoch, _, progress in parts}) == 1, "ranks differ in progress"
        found.append((parts[0][0], [index for _, index, _ in parts]))
    return found


def in_order(ranks, name, key="log"):
    """All that was used, by epoch, rank after rank within each step."""
    found = {}
    for epoch, parts in steps(ranks, name, key):
        found.setdefault(epoch, []).extend(i for part in parts for i in part)
    return found


RUNS = [*SIZES, "full", "drop", "soft", "kept steps", "error mass", *FOUND]


@pytest.mark.parametrize("run", RUNS)
def test_ranks_together_are_the_run_of_one_process(one, ranks, run):
    alone, together = in_order([one], run), in_order(ranks, run)
    assert alone == together
    for used in together.values():
        assert len(set(used)) == len(used)
    for rank in ranks:
        assert rank[run]["outcome"] == one[run]["outcome"]


def test_under_kept_steps_every_epoch_has_as_many_steps_and_every_sample_counts_the_same(one, ranks):
    for run, n in (("kept steps", 37), ("error mass", LEARNED)):
        counts = np.bincount([epoch for epoch, _ in steps(ranks, run)])
        assert counts.tolist() == [-(-n // GLOBAL)] * SCHEDULE.epochs
        assert min(sum(used) for used in one[run]["outcome"][1]) < n
    together = sum(rank["weights"] for rank in ranks)
    kept = one["weights"] > 0
    assert np.count_nonzero(kept) == 37 - round(0.4 * 36)  # one of them has no score
    assert torch.allclose(together, one["weights"])
    assert torch.allclose(one["weights"][kept], torch.tensor(5 / 37))


def test_something_was_removed_and_came_back(one):
    history = one[37]["outcome"][1]
    sizes = [sum(used) for used in history]
    assert sizes[0] == 37 > sizes[1] > sizes[2] < sizes[3] < 37
    assert "'bad': 1" in one[37]["outcome"][0]
    assert "'forward_only': 2" in one[37]["outcome"][0]


@pytest.mark.parametrize("run", FOUND)
def test_outliers_and_thresholds_were_found(one, run):
    rows = one[run]["outcome"][0]
    assert "'high': " in rows
    assert ("'low': " in rows) == (run == "audit")
    assert 30 < max(int(count) for count in re.findall(r"'outliers': (\d+)", rows)) <= 61


@pytest.mark.parametrize("run", RUNS)
def test_every_global_batch_is_split_evenly(ranks, run):
    for _, parts in steps(ranks, run):
        sizes = [len(part) for part in parts]
        assert min(sizes) > 0
        assert max(sizes) - min(sizes) <= 1
        assert sum(sizes) <= GLOBAL + len(ranks) - 1


@pytest.mark.parametrize(("n", "last"), [(37, 5), (33, 9), (32, 8)])
def test_the_last_global_batch_is_split_or_joins_the_one_before(ranks, n, last):
    first = [parts for epoch, parts in steps(ranks, n) if epoch == 0]
    assert [sum(map(len, parts)) for parts in first[:-1]] == [GLOBAL] * (len(first) - 1)
    assert sum(map(len, first[-1])) == last


@pytest.mark.parametrize("run", RUNS)
def test_progress_grows_to_the_end_of_each_epoch(ranks, run):
    log = ranks[0][run]["log"]
    seen = [progress for _, _, progress in log]
    assert seen == sorted(set(seen))
    for epoch in range(SCHEDULE.epochs):
        assert max(p for e, _, p in log if e == epoch) == (epoch + 1) / SCHEDULE.epochs


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if "seconds" not in str(k))
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)


def test_the_state_of_ranks_is_that_of_one_process(one, ranks):
    for rank in ranks:
        assert same(rank["stopped"]["state"], one["stopped"]["state"])
        assert rank["stopped"]["local"]["part"]["rank_and_size"][1] == len(ranks)
    whole = one["stopped"]["state"]["table"]["seen"].sum()
    assert sum(rank["stopped"]["local"]["table"]["seen"].sum() for rank in ranks) == whole == 8


def test_what_all_ranks_know_is_counted_once(one, ranks):
    busy = one["busy"]["state"]
    assert busy["table"]["again_index"].numel() == 1
    assert (busy["table"]["seen"] == 2).sum() == one["busy"]["measured"] == 2
    assert sum(rank["busy"]["measured"] for rank in ranks) == 2
    expected = counted(37, busy)
    for rank in ranks:
        assert same(rank["busy"]["state"], busy)
        assert same(rank["counted"], expected)


def test_saving_a_state_changes_nothing(one, ranks):
    for found in ([one], ranks):
        before, after = in_order(found, "stopped"), in_order(found, "stopped", "rest")
        assert {e: before.get(e, []) + after.get(e, []) for e in range(4)} == in_order([one], 37)


def test_one_process_goes_on_from_the_state_of_ranks(one, ranks):
    found = resumed_run(37, ranks[0]["stopped"]["state"])
    assert in_order([{"x": found}], "x") == in_order([one], "stopped", "rest")
    assert found["outcome"] == one[37]["outcome"]


@pytest.mark.parametrize("run", ["from one", "from local"])
def test_ranks_go_on_from_the_state_of_one_process_and_from_their_own_parts(one, ranks, run):
    assert in_order(ranks, run) == in_order([one], "stopped", "rest")
    for rank in ranks:
        assert rank[run]["outcome"] == one[37]["outcome"]
        assert rank[run]["before"] == rank["stopped"]["log"][-1][2]


def test_ranks_go_on_inside_a_thin_global_batch_of_one_process(one, ranks):
    alone, together = in_order([one], "thin", "rest"), in_order(ranks, "thin from one")
    assert alone[1] == together[1]
    for rank in ranks:
        assert rank["thin from one"]["outcome"][1][1] == one["thin"]["outcome"][1][1]
        assert rank["thin from one"]["log"][-1][2] == 1.0


@pytest.mark.parametrize("run", ["twice", "at the end"])
def test_a_rank_keeps_its_own_part_of_an_epoch_that_was_resumed_before(one, ranks, run):
    assert in_order(ranks, run) == in_order([one], "stopped", "rest")
    for rank in ranks:
        assert rank[run]["outcome"] == one[37]["outcome"]
        assert rank[run]["before"] == rank[run]["at"]
        assert (rank[run]["at"] == 0.5) is (run == "at the end")


def test_a_part_of_another_rank_is_refused(ranks):
    for at, rank in enumerate(ranks):
        expected = f"number of ranks: [{at}, {len(ranks)}]. Found [{(at + 1) % len(ranks)}, {len(ranks)}]"
        assert expected in rank["refused"]


def test_one_process_refuses_the_part_of_a_rank(ranks):
    words = error_of(lambda: make(37)[0].load_state_dict(ranks[1]["stopped"]["local"]))
    assert f"Found [1, {len(ranks)}]" in words


def test_what_ranks_record_of_their_own_is_known_to_all(ranks):
    mean = (len(ranks) - 1) / 2
    for rank in ranks:
        found = rank["by hand"]
        assert found["nothing"].startswith("WrongState: No sample was recorded in epoch 1 of")
        assert found["scores"][[1, 2, 5]].tolist() == pytest.approx([2.0, 0.1, mean])
        assert found["scores"].isnan().sum() == 13
        assert found["kept"].tolist() == [i != 2 for i in range(16)]
        assert found["predicted"][:6].tolist() == [-1, 7, 8, -1, -1, -1]


def test_rows_of_unequal_number_are_gathered_in_rank_order(ranks):
    size = len(ranks)
    for rank in ranks:
        found = rank["columns"]
        assert [part[0] for part in found["rows"]] == [list(range(r * 2)) for r in range(size)]
        assert [part[1] for part in found["rows"]] == [[[float(r)] * 3] * (r * 2) for r in range(size)]
        assert [part[2] for part in found["rows"]] == [[r] * (r * 2) for r in range(size)]
        assert found["types"] == [["int64", "float32", "uint8"]] * size
        assert found["empty"] == [[]] * size


def test_outside_a_group_there_is_one_rank(one):
    assert rank_and_size() == (0, 1)
    assert one["columns"]["rows"] == [[[], [], []]]


def test_fewer_samples_than_ranks_raise(ranks):
    for rank in ranks:
        assert f"Found {len(ranks) - 1} for {len(ranks)} ranks" in rank["too few"]
