"""The divergence of sequences from hidden states, in blocks: against autograd through all of the logits."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from counted_tokens import Made, by_hand, changed, close, counted
from fallow import NO_SCORE
from fallow.core.batch_checks import mean_loss
from fallow.errors import InvalidType, InvalidValue, WrongState
from fallow.scores import is_no_score, linear, linear_kl, token_kl
from fallow.step_rules import TokenThreshold

pytestmark = pytest.mark.usefixtures("_seed")

B, T, D, V = 3, 6, 4, 7
PACKED = torch.tensor([[0, 0, 0, 1, 1, -1], [2, 2, 3, -1, 4, 4], [5, 5, 5, 5, 5, 5]])
WEIGHTS = torch.tensor([0.5, 3.0, 1.25])
OF_DOCUMENTS = torch.tensor([0.5, 2.0, 1.0, 4.0, 0.0, 0.25])
KEEP = TokenThreshold(low=1.2, high=3.5)


def teacher(d=3):
    generator = torch.Generator().manual_seed(5)
    states = torch.randn(B, T, d, dtype=torch.float64, generator=generator)
    return states, torch.randn(V, d, dtype=torch.float64, generator=generator)


CASES = {
    "plain": {},
    "shift": {"shift": True},
    "temperature": {"temperature": 1.7},
    "weights": {"weights": WEIGHTS},
    "keep": {"keep": KEEP},
    "teacher": {"teacher": teacher()},
    "packed": {"documents": PACKED, "weights": OF_DOCUMENTS},
    "all": {
        "shift": True,
        "temperature": 0.8,
        "weights": OF_DOCUMENTS,
        "keep": KEEP,
        "documents": PACKED,
    },
    "all-teacher": {
        "teacher": teacher(),
        "shift": True,
        "temperature": 1.3,
        "weights": WEIGHTS,
        "keep": TokenThreshold(low=0.3, high=1.5),
    },
}
every_case = pytest.mark.parametrize("case", CASES)
every_form = pytest.mark.parametrize("form", ["ids", "soft"])


def batch(form="ids", dtype=torch.float64, biased=True):
    """Hidden states, weight, bias or None, and targets, some of which are to be ignored."""
    hidden = torch.randn(B, T, D, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, D, dtype=dtype, requires_grad=True)
    bias = torch.randn(V, dtype=dtype, requires_grad=True) if biased else None
    targets = torch.randint(V, (B, T)) if form == "ids" else torch.randn(B, T, V, dtype=dtype).softmax(2)
    targets[0, 1] = -100
    targets[2, 4:] = -100
    return hidden, weight, bias, targets


def in_blocks_of(monkeypatch, size):
    """Let at most ``size`` logits be made in one go; return the numbers of blocks, as they come."""
    numbers, cut = [], linear.chunks

    def noted(*args):
        found = cut(*args)
        numbers.append(len(found))
        return found

    monkeypatch.setattr(linear, "chunks", noted)
    monkeypatch.setattr(linear, "LEAST", size)
    monkeypatch.setattr(linear, "CHUNK", size)
    return numbers


def through_all_logits(
    hidden, weight, bias, targets, *, weights=None, keep=None, teacher=None, temperature=1.0, **which
):
    """Return the loss, with a graph through the logits ``(B, T, V)``; the mean is made token by token."""
    log_p = (F.linear(hidden, weight, bias) / temperature).log_softmax(2)
    shift = which.get("shift", False)
    q = targets
    if teacher is not None:
        q = (teacher[0] @ teacher[1].T / temperature).softmax(2).to(hidden.dtype)
    tokens = {}
    for row, at, to, sample in counted(targets, **which):
        if teacher is None and not targets.is_floating_point():
            value = F.nll_loss(log_p[row, at], targets[row, to])
        else:
            value = F.kl_div(
                log_p[row, at], q[row, at if teacher is not None else at + shift], reduction="sum"
            )
        tokens.setdefault(sample, []).append(value)
    loss = log_p.new_zeros(())
    for sample, values in tokens.items():
        kept = [value for value in values if keep is None or keep(value.detach())]
        share = 1.0 if weights is None else float(weights[sample])
        loss = loss + share * sum(kept) / len(values) / len(tokens)
    return loss


def gradients(loss, *inputs):
    return torch.autograd.grad(loss, [part for part in inputs if part is not None])


# The loss and its gradients.


@every_case
@every_form
@pytest.mark.parametrize(
    ("biased", "dtype", "tolerance"), [(True, torch.float64, 1e-12), (False, torch.float32, 1e-5)]
)
def test_loss_and_gradients_against_autograd_through_all_logits(
    case, form, biased, dtype, tolerance, monkeypatch
):
    hidden, weight, bias, targets = batch(form, dtype, biased)
    numbers = in_blocks_of(monkeypatch, 5 * V)
    found = linear_kl(hidden, weight, targets, bias=bias, **CASES[case])
    assert numbers == [4]
    exact = [
        None if part is None else part.detach().double().requires_grad_() for part in (hidden, weight, bias)
    ]
    expected = through_all_logits(*exact, targets.double() if form == "soft" else targets, **CASES[case])
    assert found.loss.dtype == found.scores.dtype == found.tokens.dtype == dtype
    close(found.loss.detach(), expected.detach(), tolerance)
    pairs = zip(gradients(found.loss, hidden, weight, bias), gradients(expected, *exact), strict=True)
    for ours, theirs in pairs:
        assert ours.dtype == dtype
        assert theirs.any()
        close(ours, theirs, tolerance)


@every_case
def test_scores_and_tokens_are_those_of_the_logits(case):
    hidden, weight, bias, targets = batch()
    found = linear_kl(hidden, weight, targets, bias=bias, **CASES[case])
    which = {name: CASES[case][name] for name in ("shift", "documents") if name in CASES[case]}
    temperature = CASES[case].get("temperature", 1.0)
    if "teacher" in CASES[case]:
        states, matrix = CASES[case]["teacher"]
        q = (states @ matrix.T / temperature).softmax(2)
        for row, at in (targets == -100).nonzero().tolist():
            q[row, at - which.get("shift", False)] = -100
        if which.pop("shift", False):
            q[:, -1] = -100
        targets = q
    tokens, scores = by_hand(F.linear(hidden, weight, bias), targets, temperature=temperature, **which)
    torch.testing.assert_close(found.tokens, tokens, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found.scores, scores, rtol=1e-12, atol=1e-14)
    assert found.predicted is None
    assert found.loss.requires_grad
    assert not found.scores.requires_grad
    assert not found.tokens.requires_grad


@pytest.mark.parametrize("ignored", [(), (1,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("weights", [WEIGHTS, torch.tensor([0.0, 2.0, 0.0])], ids=["some", "zeros"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loss_is_the_mean_that_is_recorded(ignored, weights, dtype):
    hidden, weight, bias, targets = batch(dtype=dtype)
    targets[list(ignored)] = -100
    found = linear_kl(hidden, weight, targets, bias=bias, weights=weights, shift=True)
    expected = mean_loss(found.scores, weights)
    assert is_no_score(found.scores).nonzero().flatten().tolist() == list(ignored)
    torch.testing.assert_close(found.loss.detach(), expected, rtol=4 * torch.finfo(dtype).eps, atol=0)


def test_only_tokens_that_are_kept_count_in_the_loss_and_all_in_the_scores():
    hidden, weight, bias, targets = batch()
    plain = linear_kl(hidden, weight, targets, bias=bias)
    kept = linear_kl(hidden, weight, targets, bias=bias, keep=KEEP)
    assert torch.equal(kept.scores, plain.scores)
    assert torch.equal(kept.tokens, plain.tokens)
    counts = (targets != -100).sum(1)
    trained = KEEP(plain.tokens) & (targets != -100)
    assert 3 < trained.sum() < counts.sum() - 3
    expected = ((plain.tokens * trained).sum(1) / counts).mean()
    torch.testing.assert_close(kept.loss.detach(), expected)
    (gradient,) = gradients(kept.loss, hidden)
    assert torch.equal(gradient.any(2), trained)
    (whole,) = gradients(plain.loss, hidden)
    torch.testing.assert_close(gradient[trained], whole[trained])


def test_where_no_token_is_kept_the_loss_is_0_and_joined_to_the_graph():
    hidden, weight, bias, targets = batch()
    found = linear_kl(
        hidden, weight, targets, bias=bias, keep=torch.zeros_like(targets).bool()[0, 0].expand_as
    )
    assert found.loss == 0
    assert not any(gradient.any() for gradient in gradients(found.loss, hidden, weight, bias))
    assert (found.scores > 0).all()


@every_form
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_a_teacher_takes_the_place_of_the_targets(form, dtype, tolerance):
    hidden, weight, bias, targets = batch(form)
    inputs = (hidden, weight, bias)
    states, matrix = (part.to(dtype) for part in teacher())
    found = linear_kl(hidden, weight, targets, bias=bias, teacher=(states, matrix), temperature=2.0)
    soft = (states @ matrix.T / 2).softmax(2).double()
    soft[found.tokens == NO_SCORE] = -100
    expected = linear_kl(hidden, weight, soft, bias=bias, temperature=2.0)
    close(found.tokens, expected.tokens, tolerance)
    for ours, theirs in zip(gradients(found.loss, *inputs), gradients(expected.loss, *inputs), strict=True):
        close(ours, theirs, tolerance)


def test_a_teacher_is_a_constant():
    hidden, weight, _, targets = batch()
    pair = [part.requires_grad_() for part in teacher()]
    linear_kl(hidden, weight, targets, teacher=tuple(pair)).loss.backward()
    assert weight.grad.any()
    assert [part.grad for part in pair] == [None, None]
    found = linear_kl(hidden.detach(), weight.detach(), targets, teacher=tuple(pair))
    assert not found.loss.requires_grad


def test_a_network_that_is_its_own_teacher_has_nothing_to_learn():
    hidden, weight, _, targets = batch(biased=False)
    found = linear_kl(hidden, weight, targets, teacher=(hidden, weight), temperature=3.0)
    assert found.scores.abs().max() < 1e-14
    assert all(gradient.abs().max() < 1e-15 for gradient in gradients(found.loss, hidden, weight))


# What counts.


@every_form
def test_ignored_samples_have_no_score_and_no_gradient(form):
    hidden, weight, bias, targets = batch(form)
    targets[1] = -100
    found = linear_kl(hidden, weight, targets, bias=bias)
    assert is_no_score(found.scores).tolist() == [False, True, False]
    ignored = (targets == -100) if form == "ids" else (targets == -100).all(2)
    assert torch.equal(found.tokens == NO_SCORE, ignored)
    (gradient,) = gradients(found.loss, hidden)
    assert torch.equal((gradient == 0).all(2), ignored)
    alone = linear_kl(hidden[[0, 2]], weight, targets[[0, 2]], bias=bias)
    torch.testing.assert_close(found.loss, alone.loss, rtol=1e-14, atol=0)


@every_form
@pytest.mark.parametrize(("weights", "dtype"), [(None, torch.float64), (WEIGHTS, torch.bfloat16)])
def test_an_ignored_batch_has_a_loss_that_is_joined_to_the_graph(form, weights, dtype):
    hidden, weight, bias, targets = batch(form, dtype)
    targets[:] = -100
    found = linear_kl(hidden, weight, targets, bias=bias, weights=weights)
    assert found.loss == 0
    assert (found.scores == NO_SCORE).all()
    assert (found.tokens == NO_SCORE).all()
    for part, gradient in zip(
        (hidden, weight, bias), gradients(found.loss, hidden, weight, bias), strict=True
    ):
        assert torch.equal(gradient, torch.zeros_like(part))


def spoiled(hidden, bad):
    """Return the hidden states with a bad number in each of the ignored positions."""
    found = hidden.detach().clone()
    found[0, 1] = bad
    found[2, 4, 1] = bad
    return found.requires_grad_()


@every_form
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_states_do_no_harm_to_others_where_they_are_ignored(form, bad):
    hidden, weight, bias, targets = batch(form)
    expected = linear_kl(hidden, weight, targets, bias=bias)
    other = spoiled(hidden, bad)
    found = linear_kl(other, weight, targets, bias=bias)
    assert torch.equal(found.loss, expected.loss)
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.tokens, expected.tokens)
    ours = gradients(found.loss, other, weight, bias)
    for gradient, theirs in zip(ours, gradients(expected.loss, hidden, weight, bias), strict=True):
        torch.testing.assert_close(gradient, theirs, rtol=1e-14, atol=0)
    assert not ours[0][0, 1].any()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_teacher_does_no_harm_where_it_is_ignored(bad):
    hidden, weight, bias, targets = batch()
    states, matrix = teacher()
    inputs = (hidden, weight, bias)
    expected = linear_kl(hidden, weight, targets, bias=bias, teacher=(states, matrix))
    found = linear_kl(hidden, weight, targets, bias=bias, teacher=(spoiled(states, bad), matrix))
    assert torch.equal(found.tokens, expected.tokens)
    for ours, theirs in zip(gradients(found.loss, *inputs), gradients(expected.loss, *inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=0)


def test_a_sample_of_weight_0_has_no_part_in_the_loss_though_it_is_not_a_number():
    hidden, weight, bias, targets = batch()
    other = hidden.detach().clone()
    other[1, 3] = math.nan
    other.requires_grad_()
    weights = torch.tensor([1.0, 0.0, 2.0])
    found = linear_kl(other, weight, targets, bias=bias, weights=weights)
    expected = linear_kl(hidden, weight, targets, bias=bias, weights=weights)
    assert found.scores.isnan().tolist() == [False, True, False]
    assert torch.equal(found.loss, expected.loss)
    ours, theirs = gradients(found.loss, other, weight, bias), gradients(expected.loss, hidden, weight, bias)
    for gradient, clean in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, clean, rtol=1e-14, atol=0)
    assert not ours[0][1].any()


def test_a_token_that_is_not_a_number_is_seen_in_the_loss():
    hidden, weight, bias, targets = batch()
    with torch.no_grad():
        hidden[1, 3] = math.nan
    found = linear_kl(hidden, weight, targets, bias=bias, keep=KEEP)
    assert found.loss.isnan()
    assert found.scores.isnan().tolist() == [False, True, False]
    assert found.tokens.isnan().nonzero().tolist() == [[1, 3]]


@settings(max_examples=50, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 3), st.integers(2, 4)),
    share=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    shift=st.booleans(),
    packed=st.booleans(),
    weighed=st.booleans(),
    cut=st.booleans(),
    size=st.integers(1, 40),
    seed=st.integers(0, 2**31),
)
def test_any_mask_and_any_documents_against_loops(shape, share, shift, packed, weighed, cut, size, seed):
    rng = np.random.default_rng(seed)
    b, t, d, v = shape
    samples = 5 if packed else b
    hidden = torch.from_numpy(rng.normal(size=(b, t, d))).requires_grad_()
    weight = torch.from_numpy(rng.normal(size=(v, d))).requires_grad_()
    targets = torch.from_numpy(np.where(rng.random((b, t)) < share, -100, rng.integers(0, v, (b, t))))
    which = {"shift": shift, "documents": torch.from_numpy(rng.integers(-1, 5, (b, t))) if packed else None}
    options = {
        "weights": torch.from_numpy(rng.exponential(size=samples)) if weighed else None,
        "keep": TokenThreshold(low=0.5, high=2.0) if cut else None,
    }
    with pytest.MonkeyPatch.context() as patch:
        in_blocks_of(patch, size)
        found = linear_kl(hidden, weight, targets, samples=samples if packed else None, **options, **which)
    tokens, scores = by_hand(hidden @ weight.T, targets, samples=samples, **which)
    torch.testing.assert_close(found.tokens, tokens, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(found.scores, scores, rtol=1e-10, atol=1e-13)
    if not cut:
        close(found.loss.detach(), mean_loss(found.scores, options["weights"]), 1e-13)
    expected = through_all_logits(hidden, weight, None, targets, **options, **which)
    torch.testing.assert_close(found.loss, expected, rtol=1e-10, atol=1e-13)
    ours = gradients(found.loss, hidden, weight)
    theirs = gradients(expected + 0 * (hidden.sum() + weight.sum()), hidden, weight)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


# Blocks.


@pytest.mark.parametrize("case", ["plain", "all", "all-teacher"])
@pytest.mark.parametrize(("size", "blocks"), [(1, 18), (4 * V, 5), (18 * V, 1)])
def test_blocks_change_nothing(case, size, blocks, monkeypatch):
    hidden, weight, bias, targets = batch()
    inputs = (hidden, weight, bias)
    with monkeypatch.context() as patch:
        assert in_blocks_of(patch, 10**6) == []
        whole = linear_kl(hidden, weight, targets, bias=bias, **CASES[case])
    expected = gradients(whole.loss, *inputs)
    numbers = in_blocks_of(monkeypatch, size)
    found = linear_kl(hidden, weight, targets, bias=bias, **CASES[case])
    torch.testing.assert_close(found[:3], whole[:3], rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(gradients(found.loss, *inputs), expected, rtol=1e-12, atol=1e-15)
    with torch.no_grad():
        predicted = linear_kl(hidden, weight, targets, bias=bias, **CASES[case]).predicted
    assert torch.equal(predicted, F.linear(hidden, weight, bias).argmax(2))
    assert numbers == [blocks, blocks]


@pytest.mark.parametrize(
    ("least", "most", "rows"), [(1, 10**6, 3), (5 * V, 10**6, 5), (1, 2 * V, 2), (10**6, 10**6, 24)]
)
def test_a_block_is_an_eighth_of_a_batch_within_its_bounds(least, most, rows, monkeypatch):
    monkeypatch.setattr(linear, "LEAST", least)
    monkeypatch.setattr(linear, "CHUNK", most)
    lengths = []

    def every(values):
        lengths.append(len(values))
        return values >= 0

    linear_kl(torch.randn(4, 6, D), torch.randn(V, D), torch.zeros(4, 6, dtype=torch.int64), keep=every)
    assert max(lengths) == rows
    assert sum(lengths) == 24


@every_form
def test_the_logits_of_a_batch_are_never_all_held(form, monkeypatch):
    hidden = torch.randn(4, 16, 2, requires_grad=True)
    weight = torch.randn(64, 2, requires_grad=True)
    targets = torch.randint(64, (4, 16)) if form == "ids" else torch.randn(4, 16, 64).softmax(2)
    logits = 4 * 16 * 64
    in_blocks_of(monkeypatch, logits // 16)
    with Made() as made:
        linear_kl(hidden, weight, targets, bias=torch.zeros(64), temperature=2.0).loss.backward()
    assert made.count(logits // 32) > 0
    assert made.count(logits // 8, targets) == 0
    assert weight.grad.any()


# Backward.


def test_the_gradient_is_scaled_by_what_comes_from_above():
    hidden, weight, bias, targets = batch()
    inputs = (hidden, weight, bias)
    expected = gradients(linear_kl(hidden, weight, targets, bias=bias).loss, *inputs)
    found = gradients(-2.5 * linear_kl(hidden, weight, targets, bias=bias).loss.exp().log(), *inputs)
    for ours, theirs in zip(found, expected, strict=True):
        close(ours, -2.5 * theirs, 1e-13)


@pytest.mark.parametrize("keep_graph", [False, True])
def test_a_second_backward_is_an_error(keep_graph):
    hidden, weight, bias, targets = batch()
    loss = linear_kl(hidden, weight, targets, bias=bias).loss
    loss.backward(retain_graph=keep_graph)
    before = weight.grad.clone()
    with pytest.raises(WrongState, match=r"went through backward before\. Call linear_kl again"):
        loss.backward()
    assert torch.equal(weight.grad, before)


def test_gradients_add_up_over_calls():
    hidden, weight, bias, targets = batch()
    other, _, _, _ = batch()
    first, second = (
        gradients(linear_kl(rows, weight, targets, bias=bias).loss, weight, bias) for rows in (hidden, other)
    )
    for rows in (hidden, other):
        linear_kl(rows, weight, targets, bias=bias).loss.backward()
    close(weight.grad, first[0] + second[0], 1e-14)
    close(bias.grad, first[1] + second[1], 1e-14)
    weight.grad = bias.grad = None
    sum(linear_kl(rows, weight, targets, bias=bias).loss for rows in (hidden, other)).backward()
    close(weight.grad, first[0] + second[0], 1e-14)
    close(bias.grad, first[1] + second[1], 1e-14)
    close(hidden.grad, 2 * gradients(linear_kl(hidden, weight, targets, bias=bias).loss, hidden)[0], 1e-14)


def test_a_weight_that_is_shared_with_the_embedding_gets_both_gradients():
    _, table, _, targets = batch()
    ids, mix = torch.randint(V, (B, T)), torch.randn(D, D, dtype=torch.float64)

    def states():
        return (F.embedding(ids, table) @ mix).tanh()

    (found,) = gradients(linear_kl(states(), table, targets, shift=True).loss, table)
    (expected,) = gradients(through_all_logits(states(), table, None, targets, shift=True), table)
    close(found, expected, 1e-12)
    (of_embedding,) = gradients(linear_kl(states(), table.detach(), targets, shift=True).loss, table)
    assert (found - of_embedding).abs().max() > 1e-3


@pytest.mark.parametrize("trained", [(0,), (1,), (2,), (0, 2), (1, 2)], ids=str)
def test_what_is_frozen_gets_no_gradient_and_no_buffer_for_it(trained):
    hidden, weight, bias, targets = batch()
    inputs = (hidden, weight, bias)
    expected = gradients(linear_kl(hidden, weight, targets, bias=bias).loss, *inputs)
    for place, part in enumerate(inputs):
        part.requires_grad_(place in trained)
    loss = linear_kl(hidden, weight, targets, bias=bias).loss
    parts = loss.grad_fn.parts
    for place, buffer in enumerate((parts.hidden, parts.weight, parts.bias)):
        assert (buffer is not None) == (place in trained)
    loss.backward()
    assert loss.grad_fn.parts is None  # not held any longer than needed
    for place, part in enumerate(inputs):
        assert (part.grad is not None) == (place in trained)
        if place in trained:
            close(part.grad, expected[place], 1e-14)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_pass_without_gradients_tells_the_likeliest_tokens(context, monkeypatch):
    hidden, weight, bias, targets = batch()
    in_blocks_of(monkeypatch, 4 * V)
    expected = linear_kl(hidden, weight, targets, bias=bias, shift=True, temperature=2.0)
    with context():
        found = linear_kl(hidden, weight, targets, bias=bias, shift=True, temperature=2.0)
    assert expected.predicted is None
    assert found.predicted.dtype == torch.int64
    assert torch.equal(found.predicted, F.linear(hidden, weight, bias).argmax(2))
    assert not found.loss.requires_grad
    for part in ("loss", "scores", "tokens"):
        assert torch.equal(getattr(found, part), getattr(expected, part).detach())


def test_where_nothing_is_trained_the_loss_has_no_graph():
    hidden, weight, bias, targets = batch()
    found = linear_kl(hidden.detach(), weight.detach(), targets, bias=bias.detach())
    assert not found.loss.requires_grad
    assert found.predicted is None


def test_inputs_stay_as_they_were_and_targets_and_weights_are_constants():
    hidden, weight, bias, targets = batch("soft")
    targets.requires_grad_()
    weights = WEIGHTS.clone().requires_grad_()
    before = [part.detach().clone() for part in (hidden, weight, bias, targets, weights)]
    linear_kl(hidden, weight, targets, bias=bias, weights=weights, temperature=2.0).loss.backward()
    assert targets.grad is None
    assert weights.grad is None
    for part, old in zip((hidden, weight, bias, targets, weights), before, strict=True):
        assert torch.equal(part, old)


def test_states_that_do_not_lie_in_one_piece():
    hidden, weight, bias, targets = batch()
    apart = hidden.detach().movedim(2, 0).contiguous().movedim(0, 2).requires_grad_()
    assert not apart.is_contiguous()
    expected = gradients(linear_kl(hidden, weight, targets, bias=bias).loss, hidden, weight)
    found = gradients(linear_kl(apart, weight, targets.T.contiguous().T, bias=bias).loss, apart, weight)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-15)


# Half precision.


@pytest.mark.parametrize("case", ["plain", "all", "all-teacher"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_sums_in_float32(case, dtype):
    hidden, weight, bias, targets = batch(dtype=dtype)
    options = {**CASES[case], "keep": None}
    found = linear_kl(hidden, weight, targets, bias=bias, **options)
    assert found.loss.dtype == found.scores.dtype == found.tokens.dtype == torch.float32
    exact = [part.detach().double().requires_grad_() for part in (hidden, weight, bias)]
    expected = through_all_logits(*exact, targets, **options)
    resolution = torch.finfo(dtype).eps
    close(found.loss.detach(), expected.detach(), 2 * resolution)
    parts = found.loss.grad_fn.parts
    assert {part.dtype for part in (parts.hidden, parts.weight, parts.bias)} == {torch.float32}
    for ours, theirs in zip(
        gradients(found.loss, hidden, weight, bias), gradients(expected, *exact), strict=True
    ):
        assert ours.dtype == dtype
        close(ours, theirs, 4 * resolution)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_products_are_in_its_type_and_the_rest_in_float32(dtype):
    hidden, weight, bias, targets = batch(dtype=torch.float32)
    with torch.autocast("cpu", dtype):
        found = linear_kl(hidden, weight, targets, bias=bias, weights=WEIGHTS)
        logits = F.linear(hidden, weight, bias)
    assert logits.dtype == dtype
    assert found.loss.dtype == found.tokens.dtype == torch.float32
    close(found.tokens, token_kl(logits.detach(), targets), 2 * torch.finfo(dtype).eps)
    full = linear_kl(hidden, weight, targets, bias=bias, weights=WEIGHTS)
    assert not torch.equal(found.tokens, full.tokens)
    inputs = (hidden, weight, bias)
    for ours, theirs in zip(gradients(found.loss, *inputs), gradients(full.loss, *inputs), strict=True):
        assert ours.dtype == torch.float32
        close(ours, theirs, 4 * torch.finfo(dtype).eps)
    assert torch.get_autocast_dtype("cpu") == torch.bfloat16


def test_under_autocast_the_backward_pass_may_lie_inside_or_outside():
    hidden, weight, bias, targets = batch(dtype=torch.float32)
    inputs = (hidden, weight, bias)
    with torch.autocast("cpu", torch.bfloat16):
        inside = gradients(linear_kl(hidden, weight, targets, bias=bias).loss, *inputs)
        loss = linear_kl(hidden, weight, targets, bias=bias).loss
    assert all(map(torch.equal, inside, gradients(loss, *inputs)))


def test_autocast_leaves_float64_alone():
    hidden, weight, bias, targets = batch()
    expected = linear_kl(hidden, weight, targets, bias=bias)
    with torch.autocast("cpu", torch.bfloat16):
        assert F.linear(hidden, weight, bias).dtype == torch.float64
        found = linear_kl(hidden, weight, targets, bias=bias)
    assert found.loss.dtype == torch.float64
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-12, atol=0)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_half_products_lose_nothing_to_the_scale_of_the_weights(scale):
    hidden, weight, bias, targets = batch(dtype=torch.float32)
    inputs = (hidden, weight, bias)
    with torch.autocast("cpu", torch.float16):
        plain = gradients(linear_kl(hidden, weight, targets, bias=bias, weights=WEIGHTS).loss, *inputs)
        found = gradients(
            linear_kl(hidden, weight, targets, bias=bias, weights=scale * WEIGHTS).loss, *inputs
        )
    for ours, theirs in zip(found, plain, strict=True):
        close(ours, scale * theirs, 1e-3)


@pytest.mark.parametrize("weight_dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gradients_come_in_the_type_of_what_they_belong_to(weight_dtype):
    hidden, weight, bias, targets = batch(dtype=torch.float32)
    matrix = weight.detach().to(weight_dtype).requires_grad_()
    offset = bias.detach().to(weight_dtype).requires_grad_()
    found = gradients(linear_kl(hidden, matrix, targets, bias=offset).loss, hidden, matrix, offset)
    assert [part.dtype for part in found] == [torch.float32, weight_dtype, weight_dtype]
    expected = gradients(linear_kl(hidden, weight, targets, bias=bias).loss, hidden, weight, bias)
    tolerance = 0.03 if weight_dtype == torch.bfloat16 else 1e-5
    for ours, theirs in zip(found, expected, strict=True):
        close(ours, theirs, tolerance)


# Empty batches.


@pytest.mark.parametrize(("b", "t"), [(0, 4), (2, 0)])
def test_an_empty_batch_has_a_loss_that_is_joined_to_the_graph(b, t):
    hidden = torch.zeros(b, t, D, requires_grad=True)
    weight = torch.zeros(V, D, requires_grad=True)
    found = linear_kl(hidden, weight, torch.zeros(b, t, dtype=torch.int64), shift=True)
    assert found.loss == 0
    assert found.scores.tolist() == [NO_SCORE] * b
    assert found.tokens.shape == (b, t)
    found.loss.backward()
    assert torch.equal(weight.grad, torch.zeros(V, D))
    assert hidden.grad.shape == (b, t, D)


@pytest.mark.parametrize(("b", "t"), [(0, 4), (2, 0)])
def test_an_empty_batch_without_gradients(b, t):
    with torch.no_grad():
        found = linear_kl(torch.zeros(b, t, D), torch.zeros(V, D), torch.zeros(b, t, dtype=torch.int64))
    assert found.predicted.shape == (b, t)
    assert found.predicted.dtype == torch.int64


def test_a_batch_of_nothing_but_padding_holds_no_sample():
    hidden, weight, bias, targets = batch()
    found = linear_kl(hidden, weight, targets, bias=bias, documents=torch.full((B, T), -1))
    assert found.scores.shape == (0,)
    assert found.loss == 0


# Errors: the rule, the value found, the next step.

H, W, IDS = torch.zeros(2, 4, 3), torch.zeros(5, 3), torch.zeros(2, 4, dtype=torch.int64)
ROWS = torch.full((2, 4, 5), 1 / 5)


@pytest.mark.parametrize(
    ("inputs", "options", "error", "message"),
    [
        ((H, W.T, IDS), {}, InvalidValue, r"weight must be \(V, D\).*states, 3\. Found \(3, 5\)\. Pass"),
        ((H, W[0], IDS), {}, InvalidValue, r"weight must be \(V, D\).*Found \(3,\)"),
        ((H[0], W, IDS[0]), {}, InvalidValue, r"\(B, T, D\) hidden states\. Found \(4, 3\)"),
        ((H, W[:1], IDS), {}, InvalidValue, r"at least 2 classes\. Found a vocabulary of 1"),
        ((H, W, IDS[:, :3]), {}, InvalidValue, r"\(2, 4\) or .*\(2, 4, 5\)\. Found shape \(2, 3\)"),
        ((H, W, IDS.float()), {}, InvalidValue, r"Found shape \(2, 4\) with torch\.float32"),
        ((H, W, ROWS[..., :3]), {}, InvalidValue, r"Found shape \(2, 4, 3\)"),
        ((H, W, IDS.tolist()), {}, InvalidType, r"`targets` must be a torch\.Tensor.*list"),
        ((H, W, changed(IDS, (1, 2), 5)), {}, InvalidValue, r"in \[0, 5\).*Found 5 at targets\[1, 2\]"),
        ((H, W, changed(ROWS, (1, 2), 0.3)), {}, InvalidValue, r"must sum to 1.*Found a sum of 1\.5"),
        ((H, W, IDS), {"bias": torch.zeros(3)}, InvalidValue, r"bias must be \(5,\)\. Found \(3,\)"),
        ((H, W, IDS), {"weights": torch.ones(3)}, InvalidValue, r"`weights` must be \(2,\).*Found \(3,\)"),
        ((H, W, IDS), {"weights": torch.ones(2, 4)}, InvalidValue, r"one a sample\. Found \(2, 4\)"),
        (
            (H, W, IDS),
            {"weights": torch.ones(2), "documents": IDS},
            InvalidValue,
            r"`weights` must be \(1,\)",
        ),
        ((H, W, IDS), {"temperature": math.nan}, InvalidValue, r"above 0 and finite\. Found nan"),
        ((H, W, IDS), {"ignore_index": None}, InvalidType, r"`ignore_index` must be a whole number"),
        ((H, W, IDS), {"documents": IDS.float()}, InvalidType, r"`documents` must hold whole numbers"),
        ((H, W, IDS), {"documents": IDS[:1]}, InvalidValue, r"one number a token, \(2, 4\)"),
        ((H, W, IDS), {"documents": IDS + 2, "samples": 2}, InvalidValue, r"`samples`, 2\. Found 2"),
        ((H, W, IDS), {"documents": IDS.to("meta")}, InvalidValue, r"not counted.*Pass samples"),
        ((H, W, IDS), {"teacher": (H, torch.zeros(5, 2))}, InvalidValue, r"the teacher's weight must be"),
        (
            (H, W, IDS),
            {"teacher": (H[:, :3], W)},
            InvalidValue,
            r"A teacher's states and weight must be.*Found \(2, 3, 3\) and \(5, 3\)",
        ),
        (
            (H, W, IDS),
            {"teacher": (H, W[:4])},
            InvalidValue,
            r"A teacher's states and weight must be.*Found \(2, 4, 3\) and \(4, 3\)",
        ),
        ((H.tolist(), W, IDS), {}, InvalidType, r"hidden.*torch\.Tensor.*list"),
        ((H, W.tolist(), IDS), {}, InvalidType, r"weight.*torch\.Tensor.*list"),
        ((H.long(), W, IDS), {}, InvalidType, r"hidden.*floating.*torch\.int64"),
        ((H[0, 0, 0], W, IDS), {}, InvalidValue, r"hidden states.*Found"),
        ((H, W, IDS), {"documents": IDS.tolist()}, InvalidType, r"`documents`.*list"),
        (
            (H, W, IDS),
            {"teacher": (torch.zeros(2, 4), torch.zeros(5, 4))},
            InvalidValue,
            r"A teacher's states",
        ),
    ],
)
def test_wrong_inputs(inputs, options, error, message):
    with pytest.raises(error, match=message):
        linear_kl(*inputs, **options)
