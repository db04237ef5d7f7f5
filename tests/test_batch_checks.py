"""What ``record`` takes, what it refuses, what it returns, and that nobody waits for it."""

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fallow import NO_SCORE, Fraction, KLDivergence, Schedule, Subsampler, Threshold, kl_divergence
from fallow.core.batch_checks import check_index, check_labels, masked_losses, mean_loss
from fallow.core.state import opened
from fallow.errors import InvalidType, InvalidValue, WrongState
from fallow.policies import BelowMean

N = 50


def subsampler(n=N, policy=None, epochs=4, **options):
    return Subsampler(n, policy or Threshold(low=0.05), Schedule(epochs=epochs), **options)


def stored(sub):
    """Everything that a record could have changed."""
    return sub.scores, sub.last_scored, sub.predicted, torch.tensor(sub.progress, dtype=torch.float64)


# --- the mean ---


@pytest.mark.parametrize("ignored", [0, 3, 7])
def test_the_mean_is_that_of_cross_entropy(ignored):
    logits = torch.randn(8, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    targets = torch.arange(8) % 5
    targets[:ignored] = -100
    mean = subsampler().record(torch.arange(8), kl_divergence(logits, targets))
    reference = F.cross_entropy(logits, targets)
    torch.testing.assert_close(mean, reference)
    torch.testing.assert_close(
        torch.autograd.grad(mean, logits)[0], torch.autograd.grad(reference, logits)[0]
    )


def test_an_ignored_sample_gets_no_score_and_stays():
    sub = subsampler()
    logits = torch.eye(4) * 9
    sub.record(torch.arange(4), kl_divergence(logits, torch.tensor([0, -100, 2, -100])))
    assert sub.scores.isnan()[:4].tolist() == [False, True, False, True]
    assert sub.last_scored[:4].tolist() == [0, -1, 0, -1]
    sub.step()
    assert sub.kept[:4].tolist() == [False, True, False, True]
    assert sub.history[0].backward == 4


def test_a_batch_without_any_target_has_a_mean_of_nothing():
    mean = subsampler().record(torch.arange(3), torch.full((3,), NO_SCORE))
    assert mean.isfinite()
    assert abs(mean.item()) < 1e-30


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_losses_of_any_precision(dtype):
    losses = torch.tensor([0.5, 2.0, 100.0, 0.25], dtype=dtype, requires_grad=True)
    sub = subsampler()
    mean = sub.record(torch.arange(4), losses)
    assert mean.dtype == dtype
    assert mean.item() == pytest.approx(25.6875, rel=1e-2)
    mean.backward()
    assert losses.grad.tolist() == [0.25] * 4
    assert sub.scores.dtype == torch.float32
    assert sub.scores[:4].tolist() == [0.5, 2.0, 100.0, 0.25]


def test_a_half_precision_mean_does_not_overflow_on_its_way():
    losses = torch.full((2000,), 100.0, dtype=torch.float16)
    assert subsampler(2000).record(torch.arange(2000), losses).item() == 100.0


def test_indices_beyond_the_precision_of_a_float():
    base = 2**24
    sub = subsampler(base + 4)
    sub.record(torch.arange(base, base + 4), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert sub.scores[-6:].nan_to_num(-1).tolist() == [-1, -1, 1, 2, 3, 4]


def test_scores_apart_from_losses_are_stored_and_not_returned():
    sub = subsampler()
    mean = sub.record(torch.arange(2), torch.tensor([1.0, 3.0]), scores=torch.tensor([0.125, 9.0]))
    assert mean.item() == 2.0
    assert sub.scores[:2].tolist() == [0.125, 9.0]


def test_an_infinite_loss_under_a_grad_scaler_keeps_its_sample():
    sub = subsampler()
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for start in range(0, N, 10):
        index = torch.arange(start, start + 10)
        losses = torch.where(index == 33, torch.inf, 0.01 * (weight - 1).square().expand(10))
        loss = sub.record(index, losses)
        scaler.scale(loss + 0 * weight.sum() if loss.isfinite() else loss * weight.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    assert scaler.get_scale() == 4.0
    assert weight.isfinite().all()
    sub.step()
    assert sub.kept.nonzero().flatten().tolist() == [33]
    assert sub.history[0].bad == 1


def test_the_weights_of_below_mean_are_applied():
    sub = subsampler(8, BelowMean(0.5))
    scores = torch.tensor([0.0, 0.0, 0.0, 0.0, 4.0, 4.0, 4.0, 4.0])
    mean = sub.record(torch.arange(8), scores)
    assert mean.item() == 2.0
    assert sub.weights(torch.arange(8)) is None
    sub.step()
    low = [i for i in range(4) if sub.kept[i]]
    assert len(low) == 2
    losses = torch.tensor([1.0, 3.0, 5.0, NO_SCORE], requires_grad=True)
    mean = sub.record(torch.tensor([*low, 4, 5]), losses)
    assert mean.item() == pytest.approx((2 * 1.0 + 2 * 3.0 + 5.0) / 3)
    mean.backward()
    assert losses.grad.tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 3, 0.0])
    assert sub.scores[low].tolist() == [1.0, 3.0]


def test_a_batch_without_any_row_to_train_on_costs_nothing():
    losses = torch.tensor([1.0, 2.0], requires_grad=True)
    mean = mean_loss(masked_losses(losses, torch.tensor([False, False])), None)
    assert mean.item() == 0.0
    mean.backward()
    assert losses.grad.tolist() == [0.0, 0.0]


def test_a_weight_does_not_hide_that_there_is_no_score():
    losses = torch.tensor([NO_SCORE, 1.0])
    assert mean_loss(losses, torch.tensor([2.0, 2.0])).item() == pytest.approx(2.0)


# --- rows without a backward pass ---


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0.25, 1.0, 3.0, 7.5, NO_SCORE])), min_size=1, max_size=N
    )
)
@settings(max_examples=60, deadline=None)
def test_the_mean_is_that_of_the_rows_with_a_backward_pass(rows):
    chosen = torch.tensor([c for c, _ in rows])
    losses = torch.tensor([v for _, v in rows], requires_grad=True)
    sub = subsampler()
    mean = sub.record(torch.arange(len(rows)), losses, backward=chosen)
    trained = [v for c, v in rows if c and v != NO_SCORE]
    assert mean.item() == pytest.approx(sum(trained) / max(1, len(trained)), rel=1e-6, abs=1e-30)
    mean.backward()
    share = [1 / max(1, len(trained)) if c and v != NO_SCORE else 0.0 for c, v in rows]
    found = [g if v != NO_SCORE else 0.0 for g, (_, v) in zip(losses.grad.tolist(), rows, strict=True)]
    assert found == pytest.approx(share)
    assert losses.grad[~chosen].count_nonzero() == 0
    scored = [v if v != NO_SCORE else -1.0 for _, v in rows]
    assert sub.scores[: len(rows)].nan_to_num(-1).tolist() == scored


def test_rows_without_a_backward_pass_are_seen_and_not_counted_as_trained():
    sub = subsampler()
    chosen = torch.arange(N) % 5 == 0
    loader = sub.loader(range(N), 10)
    for index, _ in loader:
        sub.record(index, index + 1.0, backward=chosen[index], predicted=index % 3)
    assert sub.progress == 0.25
    sub.step()
    record = sub.history[0]
    assert (record.backward, record.forward_only) == (10, 40)
    assert torch.equal(record.used, chosen)
    assert record.mean_score == pytest.approx((torch.arange(N) + 1.0)[chosen].mean().item())
    assert sub.predicted.tolist() == [i % 3 for i in range(N)]
    assert sub.scores.tolist() == [i + 1 for i in range(N)]


def test_a_weight_counts_only_where_there_is_a_backward_pass():
    sub = subsampler(8, BelowMean(0.5))
    sub.record(torch.arange(8), torch.tensor([0.0, 0.0, 0.0, 0.0, 4.0, 4.0, 4.0, 4.0]))
    sub.step()
    low = [i for i in range(4) if sub.kept[i]]
    losses, chosen = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([True, False, True])
    mean = sub.record(torch.tensor([*low, 4]), losses, backward=chosen)
    assert mean.item() == pytest.approx((2 * 1.0 + 5.0) / 2)


# --- duplicates ---


@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(0, 100, width=32)), min_size=1, max_size=40),
    st.integers(1, 40),
)
@settings(max_examples=60, deadline=None)
def test_duplicates_are_averaged_whatever_their_batches(rows, size):
    sub = subsampler(6, Threshold(low=1.0), epochs=2, min_kept=2)
    index, losses = torch.tensor([i for i, _ in rows]), torch.tensor([v for _, v in rows])
    for part, values in zip(index.split(size), losses.split(size), strict=True):
        sub.record(part, values)
    sub.step()
    for sample in range(6):
        mine = losses[index == sample].double()
        if len(mine):
            assert sub.scores[sample].item() == pytest.approx(mine.mean().item(), rel=1e-6, abs=1e-30)
        else:
            assert sub.scores[sample].isnan()


# --- what is refused: nothing is stored ---

WRONG_INDEX = [
    (torch.ones(3, dtype=torch.bool), InvalidType, r"whole numbers\. Found bool.*nonzero"),
    (torch.tensor([0.0, 1.0, 2.0]), InvalidType, r"whole numbers\. Found float32"),
    (torch.tensor([0, -1, 2]), InvalidValue, r"in \[0, 50\).*Found -1"),
    (torch.tensor([0, 1, N]), InvalidValue, r"in \[0, 50\).*Found 50"),
    (torch.tensor([0, 2**40, 1]), InvalidValue, "Found 1099511627776"),
    (np.array([0, 2**64 - 1, 1], np.uint64), InvalidValue, "Found 18446744073709551615"),
    (torch.tensor([[0, 1, 2]]), InvalidValue, r"one row.*\(1, 3\)"),
    (torch.tensor(1), InvalidValue, r"one row.*shape \(\)"),
    (torch.arange(4), InvalidValue, r"losses must have one value per sample, \(4,\)\. Found shape \(3,\)"),
    (torch.arange(0), InvalidValue, r"losses must have one value per sample, \(0,\)"),
    (["a", "b", "c"], InvalidType, "whole numbers"),
    (None, InvalidType, "whole numbers"),
]


@pytest.mark.parametrize(("index", "error", "words"), WRONG_INDEX, ids=str)
def test_a_wrong_index_raises_and_nothing_is_stored(index, error, words):
    sub = subsampler()
    sub.record(torch.arange(2), torch.tensor([7.0, 8.0]))
    before = stored(sub)
    with pytest.raises(error, match=words):
        sub.record(index, torch.tensor([1.0, 2.0, 3.0]), predicted=torch.tensor([1, 2, 3]))
    for was, is_ in zip(before, stored(sub), strict=True):
        assert torch.equal(was.nan_to_num(-1), is_.nan_to_num(-1))


GOOD = torch.tensor([1.0, 2.0, 3.0])
WRONG_VALUES = [
    ({"losses": GOOD.mean()}, InvalidValue, 'losses must.*shape \\(\\).*reduction="none"'),
    ({"losses": GOOD[:, None]}, InvalidValue, r"losses must.*shape \(3, 1\)"),
    ({"losses": [1.0, 2.0, 3.0]}, InvalidType, r"losses must be a tensor\. Found list"),
    ({"losses": GOOD.long()}, InvalidType, r"floating-point numbers\. Found torch\.int64"),
    ({"losses": GOOD + 0j}, InvalidType, "^losses must be .*Found .*complex64"),
    ({"losses": GOOD.to_sparse()}, InvalidType, "^losses must be .*Found .*sparse_coo"),
    ({"scores": GOOD + 0j}, InvalidType, "^scores must be .*Found .*complex64"),
    ({"scores": GOOD.to_sparse()}, InvalidType, "^scores must be .*Found .*sparse_coo"),
    ({"scores": GOOD[:2]}, InvalidValue, r"scores must.*\(3,\)\. Found shape \(2,\)"),
    ({"scores": 0.5}, InvalidType, "scores must be a tensor"),
    ({"predicted": torch.ones(3, 2)}, InvalidValue, r"predicted must.*shape \(3, 2\)"),
    ({"predicted": GOOD}, InvalidType, r"`predicted` must hold class ids.*float32.*argmax"),
    ({"predicted": GOOD > 1}, InvalidType, "`predicted` must hold class ids.*bool"),
    ({"backward": GOOD}, InvalidType, r"`backward` must be a bool for each row\. Found torch.float32"),
    ({"backward": torch.ones(3).int()}, InvalidType, r"`backward` must be a bool.*torch.int32"),
    ({"backward": GOOD[:2] > 0}, InvalidValue, r"backward must.*\(3,\)\. Found shape \(2,\)"),
    ({"backward": [True, False, True]}, InvalidType, r"backward must be a tensor\. Found list"),
]


@pytest.mark.parametrize(("wrong", "error", "words"), WRONG_VALUES, ids=str)
def test_wrong_values_raise_and_nothing_is_stored(wrong, error, words):
    sub = subsampler()
    with pytest.raises(error, match=words):
        sub.record(torch.arange(3), **{"losses": GOOD, **wrong})
    assert sub.scores.isnan().all()
    assert sub.progress == 0.0
    with pytest.raises(WrongState, match="No sample was recorded in epoch 1 of"):
        sub.step()


def test_an_empty_batch_raises():
    with pytest.raises(InvalidValue, match="losses must not be empty"):
        subsampler().record(torch.arange(0), torch.ones(0))


def test_after_the_last_epoch_record_raises():
    sub = subsampler(epochs=1)
    sub.record(torch.arange(N), torch.ones(N))
    sub.step()
    with pytest.raises(WrongState, match="All 1 epochs are done"):
        sub.record(torch.arange(1), torch.ones(1))


@pytest.mark.parametrize("make", [torch.tensor, list, np.array, lambda i: torch.tensor(i).to(torch.uint8)])
@given(index=st.lists(st.integers(0, N - 1), min_size=0, max_size=9))
@settings(max_examples=20, deadline=None)
def test_any_whole_numbers_in_range_are_indices(make, index):
    found = check_index(make(index), N)
    assert found.dtype == np.int64
    assert found.tolist() == index


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        ([0, 1], InvalidValue, r"\(3,\)\. Found shape \(2,\)"),
        (np.array([0, 1, 2**63], np.uint64), InvalidValue, "Found 9223372036854775808 at sample 2"),
        ([0.0, 1.0, 2.0], InvalidType, "class ids.*Number them"),
        (["cat", "dog", "cat"], InvalidType, "class ids.*Number them"),
        ([0, 1, 2**70], InvalidType, "class ids"),
    ],
)
def test_wrong_labels_raise(labels, error, words):
    with pytest.raises(error, match=words):
        check_labels(labels, 3)


@pytest.mark.parametrize(
    "labels", [[-1, 1, -1], [0, 2**40, 7], [True, False, True], np.uint64([3, 2, 2**63 - 1])]
)
def test_any_whole_numbers_are_class_ids(labels):
    assert check_labels(labels, 3).tolist() == list(map(int, labels))
    assert check_labels(labels, 3).dtype == np.int64


# --- predictions ---


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_predictions_of_any_integer_type(dtype):
    top = min(torch.iinfo(dtype).max, 2**31 - 2)
    sub = subsampler()
    sub.record(torch.tensor([3, 5]), torch.ones(2), predicted=torch.tensor([top, 0]).to(dtype))
    assert sub.predicted[[3, 5, 4]].tolist() == [top, 0, -1]


def test_a_visit_that_tells_no_class_forgets_the_one_before():
    sub = Subsampler(6, Fraction(0.5, exponent=1, high="auto"), Schedule(3), labels=[1] * 6)
    sub.record(torch.arange(6), torch.ones(6), predicted=torch.zeros(6, dtype=torch.int64))
    sub.step()
    assert opened(sub.state_dict())["table"]["columns"]["visits_wrong"].tolist() == [1] * 6
    kept = sub.order()
    sub.record(kept[1:], torch.ones(2), predicted=torch.zeros(2, dtype=torch.int64))
    sub.record(kept[:1], torch.ones(1))
    sub.step()
    assert sub.predicted[kept].tolist() == [-1, 0, 0]
    assert opened(sub.state_dict())["table"]["columns"]["visits_wrong"][kept].tolist() == [0, 2, 2]


# --- the range of a declared score ---


def test_thresholds_are_checked_against_the_score():
    with pytest.raises(InvalidValue, match=r"`low` must lie in \[0, inf\].*KLDivergence.*-1"):
        Subsampler(4, Threshold(low=-1.0), Schedule(epochs=2), score=KLDivergence())


def test_a_function_is_no_score():
    with pytest.raises(InvalidType, match=r"`score` must be a Score\..*kl_divergence"):
        Subsampler(4, Threshold(low=0.1), Schedule(epochs=2), score=kl_divergence)


def test_scores_outside_the_declared_range_raise_at_step():
    sub = subsampler(score=KLDivergence())
    sub.record(torch.arange(3), torch.tensor([1.0, -0.5, 2.0]))
    with pytest.raises(InvalidValue, match=r"\[0, inf\]\. Found -0\.5 at sample 1"):
        sub.step()
    assert sub.epoch == 0


# --- nobody waits ---


class NoWaiting(TorchDispatchMode):
    """Refuses every operation after which the host knows what a device computed; counts the others."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        found = func(*args, **(kwargs or {}))
        if any(t.device.type == "meta" for t in given):
            for t in tree_leaves(found):
                assert isinstance(t, torch.Tensor), f"{func} tells the host"
                assert t.device.type == "meta", f"{func} copies to the host"
        self.calls += 1
        return found


@pytest.mark.parametrize(
    "wait",
    [lambda t: t.sum().item(), lambda t: t.cpu(), lambda t: bool((t > 0).any()), lambda t: t.nonzero()],
)
def test_the_watch_catches_waiting(wait):
    with pytest.raises((AssertionError, NotImplementedError, RuntimeError)), NoWaiting():
        wait(torch.ones(3, device="meta"))


@pytest.mark.parametrize("policy", [Threshold(low=0.05), BelowMean(0.5)], ids=repr)
def test_record_waits_for_no_device(policy):
    sub = subsampler(policy=policy)
    sub.record(torch.arange(N), torch.arange(N) * 1.0)
    sub.step()
    with NoWaiting():
        for dtype in (torch.float32, torch.bfloat16):
            losses = torch.ones(8, device="meta", dtype=dtype, requires_grad=True)
            mean = sub.record(torch.arange(8), losses, predicted=torch.ones(8, device="meta").long())
            assert mean.device.type == "meta"
            mean.backward()
        sub.record(torch.arange(3), torch.ones(3, device="meta"), scores=torch.ones(3, device="meta"))
        chosen = torch.ones(3, device="meta", dtype=torch.bool)
        sub.record(torch.arange(3), torch.ones(3, device="meta"), backward=chosen)


def lines_run(call):
    """Count the lines of Python that a call runs."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("policy", [Threshold(low=0.05), BelowMean(0.5)], ids=repr)
def test_record_does_not_loop_over_samples(policy):
    sub = subsampler(4096, policy)
    sub.record(torch.arange(4096), torch.arange(4096) * 1.0)
    sub.step()

    def cost(count):
        index, losses = torch.arange(count), torch.ones(count)
        lines = lines_run(lambda: sub.record(index, losses, predicted=index))
        with NoWaiting() as watch:
            sub.record(index, losses, predicted=index)
        return lines, watch.calls

    cost(8)
    assert cost(8) == cost(3000)


# --- kinds of values ---


def test_sparse_indices_predictions_and_labels_are_refused():
    sparse = torch.arange(3).to_sparse()
    for wrong in ({"index": sparse}, {"predicted": sparse}, {"backward": (torch.arange(3) > 0).to_sparse()}):
        with pytest.raises(InvalidType, match="must be a dense tensor"):
            subsampler().record(**({"index": torch.arange(3), "losses": torch.ones(3)} | wrong))
    with pytest.raises(InvalidType, match="must be a dense tensor"):
        check_labels(sparse, 3)


@pytest.mark.parametrize("flag", ["yes", 1, None, []])
def test_a_flag_is_true_or_false(flag):
    sub = subsampler()
    calls = {
        "accumulating": lambda: sub.record(torch.arange(3), torch.ones(3), accumulating=flag),
        "shuffle": lambda: sub.loader(range(N), 4, shuffle=flag),
        "full_batches": lambda: sub.loader(range(N), 4, full_batches=flag),
        "drop_last": lambda: sub.loader(range(N), 4, drop_last=flag),
        "local": lambda: sub.state_dict(local=flag),
        "quantiles": lambda: Threshold(low=0.1, quantiles=flag),
        "stagger": lambda: Schedule(epochs=3, readmit_every=2, stagger=flag),
        "weighted": lambda: BelowMean(0.5, weighted=flag),
    }
    for name, call in calls.items():
        with pytest.raises(InvalidType, match=f"`{name}` must be True or False. Found "):
            call()
    assert sub.scores.isnan().all()
    sub.loader(range(N), 4, shuffle=np.False_)
