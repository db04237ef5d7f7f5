"""The divergence of tokens and of sequences from logits: values, gradients, what counts, and errors."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import fallow
from counted_tokens import Made, by_hand, changed, close, counted
from fallow import NO_SCORE
from fallow.core.batch_checks import mean_loss
from fallow.errors import InvalidType, InvalidValue
from fallow.scores import (
    Score,
    SequenceKL,
    is_no_score,
    kl_divergence,
    linear_kl,
    score_names,
    sequence,
    sequence_kl,
    token_kl,
)

pytestmark = pytest.mark.usefixtures("_seed")

every_form = pytest.mark.parametrize("form", ["ids", "soft"])
every_shift = pytest.mark.parametrize("shift", [False, True], ids=["plain", "shift"])
PACKED = torch.tensor([[0, 0, 0, 1, 1, -1], [2, 2, 3, -1, 4, 4], [5, 5, 5, 5, 5, 5]])
"""Documents of three rows; one of a single token, padding at an end and in the middle."""


def batch(form="ids", b=3, t=6, v=5, dtype=torch.float64, ignore_index=-100):
    """Random logits and targets, some of which are to be ignored."""
    logits = 2 * torch.randn(b, t, v, dtype=dtype)
    if form == "ids":
        targets = torch.randint(v, (b, t))
    else:
        targets = torch.randn(b, t, v, dtype=dtype).softmax(2)
        targets[..., 0] = 0
        targets /= targets.sum(2, keepdim=True)
    targets[0, 1] = ignore_index
    targets[-1, -2:] = ignore_index
    return logits, targets


def gradient_of(score, logits, *given, **options):
    logits = logits.detach().clone().requires_grad_()
    values = score(logits, *given, **options)
    weights = torch.linspace(0.5, 2, values.numel(), dtype=values.dtype).view(values.shape)
    (gradient,) = torch.autograd.grad((values * weights).sum(), logits)
    return values.detach(), gradient


def in_blocks_of(monkeypatch, size):
    """Let at most ``size`` logits be looked at in one go; return the numbers of blocks, as they come."""
    numbers, cut = [], sequence.chunks

    def small(rows, classes):
        found = cut(rows, classes, size)
        numbers.append(len(found))
        return found

    monkeypatch.setattr(sequence, "chunks", small)
    return numbers


# Values.


@every_shift
@every_form
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("documents", [None, PACKED], ids=["rows", "packed"])
def test_values_against_loops(form, shift, temperature, documents):
    logits, targets = batch(form)
    tokens, samples = by_hand(logits, targets, temperature=temperature, shift=shift, documents=documents)
    options = {"shift": shift, "temperature": temperature}
    found = sequence_kl(logits, targets, documents=documents, **options)
    torch.testing.assert_close(found, samples, rtol=1e-12, atol=1e-14)
    if documents is None:
        torch.testing.assert_close(token_kl(logits, targets, **options), tokens, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_ids_it_is_the_cross_entropy(dtype):
    logits, targets = batch(b=4, t=9, v=30, dtype=dtype)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    theirs = partial(F.cross_entropy, reduction="none")
    values, gradient = gradient_of(lambda z: token_kl(z, targets), logits)
    expected, their_gradient = gradient_of(lambda z: theirs(z.movedim(2, 1), targets), logits)
    assert values.dtype == dtype
    close(values, expected, tolerance)
    close(gradient, their_gradient, tolerance)
    assert (values[targets == -100] == NO_SCORE).all()


def test_with_probabilities_it_is_torchs_divergence():
    logits, teacher = torch.randn(2, 3, 7, 11, dtype=torch.float64)
    tau = 2.5
    soft = (teacher / tau).softmax(2)
    expected = F.kl_div((logits / tau).log_softmax(2), soft, reduction="none").sum(2)
    torch.testing.assert_close(token_kl(logits, soft, temperature=tau), expected, rtol=1e-12, atol=1e-14)
    close(sequence_kl(logits, soft, temperature=tau), expected.mean(1), 1e-12)
    assert token_kl(teacher, soft, temperature=tau).abs().max() < 1e-14


@every_form
def test_a_sequence_is_a_sample_of_dense_outputs(form):
    logits, targets = batch(form)
    expected = kl_divergence(logits.movedim(2, 1), targets if form == "ids" else targets.movedim(2, 1))
    close(sequence_kl(logits, targets), expected, 1e-14)


@every_form
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("options", [{}, {"shift": True, "documents": PACKED}], ids=str)
def test_gradients_against_finite_differences(form, temperature, options):
    logits, targets = batch(form)
    score = partial(sequence_kl, targets=targets, temperature=temperature, **options)
    assert torch.autograd.gradcheck(score, logits.requires_grad_())
    if "documents" not in options:
        score = partial(token_kl, targets=targets, temperature=temperature, **options)
        assert torch.autograd.gradcheck(score, logits)


@every_form
def test_a_class_ruled_out_by_an_infinite_logit_costs_nothing(form):
    logits, targets = batch(form)
    wide = torch.cat((logits, torch.full((3, 6, 1), -math.inf)), 2)
    if form == "soft":
        ignored = (targets == -100).all(2, keepdim=True)
        targets = torch.cat((targets, torch.where(ignored, -100.0, 0.0)), 2)
    values, gradient = gradient_of(token_kl, wide, targets)
    close(values, token_kl(logits, targets[..., :5] if form == "soft" else targets), 1e-14)
    assert gradient.isfinite().all()
    assert not gradient[..., 5].any()


@every_form
def test_no_rounding_makes_a_token_look_unscored(form):
    logits = torch.randn(40, 25, 5, dtype=torch.float32)
    targets = logits.softmax(2) if form == "soft" else logits.argmax(2)
    values = token_kl(logits if form == "soft" else 1e3 * logits, targets)
    assert not is_no_score(values).any()
    assert (values > -1e-6).all()


def test_a_divergence_far_below_the_resolution_is_not_read_as_no_score():
    q = torch.tensor([[[1.0, 1e-36]]])
    logits = torch.tensor([[[0.0, q[0, 0, 1].log().item() + 1e-4]]])
    assert not is_no_score(token_kl(logits, q)).any()
    found = linear_kl(logits.new_ones(1, 1, 1), logits[0].T, q)
    assert not is_no_score(found.tokens).any()
    assert not is_no_score(found.scores).any()


# Which tokens count.


@every_form
@pytest.mark.parametrize("ignore_index", [-100, -1, 7])
def test_ignored_tokens_have_no_score_and_no_gradient(form, ignore_index):
    logits, targets = batch(form, ignore_index=ignore_index)
    values, gradient = gradient_of(token_kl, logits, targets, ignore_index=ignore_index)
    ignored = torch.zeros(3, 6, dtype=torch.bool)
    ignored[0, 1] = ignored[2, 4:] = True
    assert torch.equal(values == NO_SCORE, ignored)
    assert torch.equal((gradient == 0).all(2), ignored)
    mean = sequence_kl(logits, targets, ignore_index=ignore_index)
    torch.testing.assert_close(mean[0], values[0, [0, 2, 3, 4, 5]].mean())
    assert mean[1] == pytest.approx(values[1].mean().item())


@every_form
def test_only_where_all_probabilities_are_the_ignored_value_is_a_token_left_out(form):
    logits, targets = batch("soft" if form == "soft" else "ids")
    if form == "soft":
        targets[targets == -100] = 0.25
        targets[..., 0] = 0
        targets[1, 2] = 0  # a row of zeros
        ignored = token_kl(logits, targets, ignore_index=0) == NO_SCORE
        assert ignored.nonzero().tolist() == [[1, 2]]
    else:
        targets[targets == -100] = 1
        ignored = token_kl(logits, targets, ignore_index=0) == NO_SCORE
        assert torch.equal(ignored, targets == 0)


@every_form
def test_with_shift_a_position_predicts_the_next_token(form):
    logits, targets = batch(form)
    values, gradient = gradient_of(token_kl, logits, targets, shift=True)
    torch.testing.assert_close(values[:, :-1], token_kl(logits[:, :-1], targets[:, 1:]), rtol=0, atol=0)
    assert (values[:, -1] == NO_SCORE).all()
    assert not gradient[:, -1].any()
    mean = sequence_kl(logits, targets, shift=True)
    close(mean, sequence_kl(logits[:, :-1], targets[:, 1:]), 1e-15)


@every_form
def test_with_shift_the_first_target_is_not_looked_at(form):
    logits, targets = batch(form)
    other = targets.clone()
    other[:, 0] = targets[:, 0].flip(-1) if form == "soft" else (targets[:, 0] + 1) % 5
    assert not torch.equal(other, targets)
    for score in (token_kl, sequence_kl):
        assert torch.equal(score(logits, targets, shift=True), score(logits, other, shift=True))


@every_form
def test_packed_documents_score_as_they_do_alone(form):
    logits, targets = batch(form)
    found = sequence_kl(logits, targets, documents=PACKED, shift=True)
    for document in range(6):
        row, at = torch.eq(PACKED, document).nonzero().T
        alone = sequence_kl(logits[row, at][None], targets[row, at][None], shift=True)
        torch.testing.assert_close(found[document : document + 1], alone, rtol=1e-13, atol=0)
    assert found[3] == NO_SCORE  # a single token predicts nothing


def test_nothing_is_predicted_across_the_end_of_a_document():
    logits, targets = batch()
    targets[:] = 1
    _, gradient = gradient_of(sequence_kl, logits, targets, documents=PACKED, shift=True)
    reached = {(row, at) for row, at, _, _ in counted(targets, shift=True, documents=PACKED)}
    assert reached == {*((0, at) for at in (0, 1, 3)), (1, 0), (1, 4), *((2, at) for at in range(5))}
    assert {tuple(place) for place in gradient.any(2).nonzero().tolist()} == reached


def test_a_document_may_lie_in_pieces_and_in_several_rows():
    logits, targets = batch(t=4)
    documents = torch.tensor([[0, 1, 0, 1], [1, 1, -1, 0], [2, 2, 2, 2]])
    for shift in (False, True):
        _, samples = by_hand(logits, targets, shift=shift, documents=documents)
        found = sequence_kl(logits, targets, shift=shift, documents=documents)
        torch.testing.assert_close(found, samples, rtol=1e-13, atol=0)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64])
def test_documents_that_a_batch_does_not_hold_have_no_score(dtype):
    logits, targets = batch()
    documents = torch.where(PACKED == 1, -1, PACKED).to(dtype)
    found = sequence_kl(logits, targets, documents=documents, samples=8)
    assert is_no_score(found).nonzero().flatten().tolist() == [1, 6, 7]
    torch.testing.assert_close(found[:6], sequence_kl(logits, targets, documents=documents))


def test_a_batch_of_nothing_but_padding_has_no_sample_with_a_score():
    logits, targets = batch()
    padding = torch.full((3, 6), -1)
    values, gradient = gradient_of(sequence_kl, logits, targets, documents=padding, samples=2)
    assert (values == NO_SCORE).all()
    assert not gradient.any()


@every_shift
def test_a_batch_of_nothing_but_padding_holds_no_sample(shift):
    logits, targets = batch()
    assert sequence_kl(logits, targets, documents=torch.full((3, 6), -1), shift=shift).shape == (0,)


@every_form
@every_shift
def test_an_ignored_sequence_has_no_score_and_no_gradient(form, shift):
    logits, targets = batch(form)
    expected = sequence_kl(logits, targets, shift=shift)
    targets[1] = -100
    values, gradient = gradient_of(sequence_kl, logits, targets, shift=shift)
    assert values[1] == NO_SCORE
    assert torch.equal(values[[0, 2]], expected[[0, 2]])
    assert not gradient[1].any()
    assert gradient[0].any()
    assert gradient[2].any()


@every_form
def test_an_ignored_batch_has_a_loss_that_is_joined_to_the_graph(form):
    logits, targets = batch(form)
    targets[:] = -100
    logits.requires_grad_()
    loss = mean_loss(sequence_kl(logits, targets), None)
    assert loss == 0
    loss.backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@every_form
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_do_no_harm_where_they_are_ignored(form, bad):
    logits, targets = batch(form)
    for score in (token_kl, sequence_kl):
        expected = gradient_of(score, logits, targets)
        spoiled = logits.clone()
        spoiled[0, 1] = bad
        spoiled[2, 4, 3] = bad
        found = gradient_of(score, spoiled, targets)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
        assert found[1].isfinite().all()
        assert not found[1][0, 1].any()


@every_form
def test_a_token_that_is_not_a_number_spoils_its_own_sequence_only(form):
    logits, targets = batch(form)
    expected = sequence_kl(logits, targets)
    logits[1, 3, 2] = math.nan
    values, gradient = gradient_of(sequence_kl, logits, targets)
    assert values.isnan().tolist() == [False, True, False]
    assert torch.equal(values[[0, 2]], expected[[0, 2]])
    assert gradient[[0, 2]].isfinite().all()
    assert token_kl(logits, targets).isnan().nonzero().tolist() == [[1, 3]]


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 4), st.integers(1, 6), st.integers(2, 4)),
    share=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    shift=st.booleans(),
    packed=st.booleans(),
    soft=st.booleans(),
    size=st.integers(1, 60),
    seed=st.integers(0, 2**31),
)
def test_any_mask_and_any_documents_against_loops(shape, share, shift, packed, soft, size, seed):
    rng = np.random.default_rng(seed)
    (b, t, v), samples = shape, 5
    logits = torch.from_numpy(rng.normal(size=shape))
    targets = torch.from_numpy(rng.dirichlet(np.ones(v), (b, t)) if soft else rng.integers(0, v, (b, t)))
    targets[torch.from_numpy(rng.random((b, t)) < share)] = -100
    documents = torch.from_numpy(rng.integers(-1, samples, (b, t))) if packed else None
    tokens, means = by_hand(
        logits, targets, shift=shift, documents=documents, samples=samples if packed else None
    )
    with pytest.MonkeyPatch.context() as patch:
        in_blocks_of(patch, size)
        found = sequence_kl(
            logits, targets, shift=shift, documents=documents, samples=samples if packed else None
        )
        torch.testing.assert_close(found, means, rtol=1e-10, atol=1e-13)
        if not packed:
            torch.testing.assert_close(token_kl(logits, targets, shift=shift), tokens, rtol=1e-10, atol=1e-13)


# Types, blocks and memory.


@every_form
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(form, dtype):
    logits, targets = batch(form, dtype=torch.float32)
    half = logits.to(dtype)
    for score in (token_kl, sequence_kl):
        expected, their_gradient = gradient_of(score, half.float(), targets)
        values, gradient = gradient_of(score, half, targets)
        assert values.dtype == torch.float32
        assert gradient.dtype == dtype
        assert torch.equal(values, expected)
        assert torch.equal(gradient, their_gradient.to(dtype))
        if form == "soft":
            torch.testing.assert_close(score(half, targets.to(dtype)), expected, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32])
def test_ids_of_any_whole_type(dtype):
    logits, targets = batch(ignore_index=7)
    expected = token_kl(logits, targets, ignore_index=7)
    assert torch.equal(token_kl(logits, targets.to(dtype), ignore_index=7), expected)


@every_form
def test_autocast_changes_nothing(form):
    logits, targets = batch(form, dtype=torch.float32)
    expected = gradient_of(sequence_kl, logits, targets)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradient_of(sequence_kl, logits, targets)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@every_form
@pytest.mark.parametrize("options", [{}, {"shift": True, "temperature": 0.7}], ids=str)
@pytest.mark.parametrize(("size", "blocks"), [(1, 18), (35, 3), (90, 1)])
def test_blocks_change_nothing(form, options, size, blocks, monkeypatch):
    logits, targets = batch(form)
    expected = gradient_of(token_kl, logits, targets, **options)
    numbers = in_blocks_of(monkeypatch, size)
    found = gradient_of(token_kl, logits, targets, **options)
    assert numbers == [blocks, blocks]  # forward, backward
    for ours, whole in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-13, atol=1e-15)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(0, 500), classes=st.integers(1, 60), size=st.integers(1, 2000))
def test_blocks_cover_the_rows_and_are_of_about_one_size(rows, classes, size):
    found = sequence.chunks(rows, classes, size)
    assert [row for block in found for row in range(block.start, block.stop)] == list(range(rows))
    lengths = [block.stop - block.start for block in found]
    assert all(0 < length <= max(1, size // classes) for length in lengths)
    assert not lengths or max(lengths) - min(lengths) <= 1


@every_shift
def test_no_second_tensor_of_the_size_of_the_logits_is_made_but_their_gradient(shift, monkeypatch):
    logits, targets = batch(b=4, t=16, v=32)
    in_blocks_of(monkeypatch, logits.numel() // 8)
    logits.requires_grad_()
    with Made() as made:
        loss = sequence_kl(logits, targets, shift=shift).sum()
        assert made.count(logits.numel() // 4, logits) == 0
        loss.backward()
    assert made.count(logits.numel() // 4, logits) == 1
    assert logits.grad.any()


def test_inputs_stay_as_they_were_and_targets_are_constants():
    logits, targets = batch("soft")
    before = logits.clone(), targets.clone()
    targets.requires_grad_()
    assert not token_kl(logits, targets, shift=True).requires_grad
    assert not sequence_kl(logits, targets, shift=True).requires_grad
    gradient_of(sequence_kl, logits, targets)
    assert torch.equal(logits, before[0])
    assert torch.equal(targets, before[1])


@every_form
def test_logits_that_do_not_lie_in_one_piece(form):
    logits, targets = batch(form)
    apart = logits.transpose(0, 1).contiguous().transpose(0, 1)
    assert not apart.is_contiguous()
    expected = gradient_of(sequence_kl, logits, targets)
    found = gradient_of(sequence_kl, apart, targets.transpose(0, 1).contiguous().transpose(0, 1))
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@every_shift
def test_an_empty_batch_and_empty_sequences(shift):
    for b, t in ((0, 4), (2, 0)):
        logits, targets = torch.zeros(b, t, 5), torch.zeros(b, t, dtype=torch.int64)
        assert token_kl(logits, targets, shift=shift).shape == (b, t)
        assert sequence_kl(logits, targets, shift=shift).tolist() == [NO_SCORE] * b


@every_form
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
def test_compiles_into_one_graph(form):
    logits, targets = batch(form)
    torch.compiler.reset()
    compiled = torch.compile(SequenceKL(shift=True), backend="eager", fullgraph=True)
    found = gradient_of(compiled, logits, targets)
    for ours, expected in zip(found, gradient_of(SequenceKL(shift=True), logits, targets), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-15)


# The class.


@pytest.mark.parametrize(
    "options",
    [{}, {"shift": True}, {"ignore_index": 1}, {"temperature": 2.0, "shift": True, "ignore_index": 0}],
    ids=str,
)
def test_the_class_is_the_function(options):
    logits, targets = batch()
    targets[targets == -100] = 1
    score = SequenceKL(**options)
    assert isinstance(score, Score)
    assert torch.equal(score(logits, targets), sequence_kl(logits, targets, **options))
    assert eval(repr(score)) == score
    assert (score.unit, score.range) == ("nats", (0.0, math.inf))
    with pytest.raises(AttributeError):
        score.shift = False


def test_it_has_no_name_among_the_scores_of_classes():
    assert SequenceKL not in score_names().values()
    assert fallow.scores.SequenceKL is SequenceKL
    assert (fallow.scores.token_kl, fallow.sequence_kl) == (token_kl, sequence_kl)


# Errors: the rule, the value found, the next step.

Z, IDS = torch.zeros(2, 4, 3), torch.zeros(2, 4, dtype=torch.int64)
ROWS = torch.full((2, 4, 3), 1 / 3)


@pytest.mark.parametrize(
    ("logits", "targets", "error", "message"),
    [
        (Z.numpy(), IDS, InvalidType, r"`logits` must be a torch\.Tensor.*numpy"),
        (Z, IDS.tolist(), InvalidType, r"`targets` must be a torch\.Tensor.*list.*as_tensor"),
        (Z.long(), IDS, InvalidType, r"`logits` must be floating\. Found torch\.int64"),
        (Z, ROWS + 0j, InvalidType, r"Found torch\.complex64"),
        (Z[0], IDS[0], InvalidValue, r"\(B, T, V\) logits.*Found \(4, 3\)\. .*kl_divergence"),
        (Z[None], IDS[None], InvalidValue, r"\(B, T, V\) logits.*Found \(1, 2, 4, 3\)"),
        (Z[..., :1], IDS, InvalidValue, r"at least 2 classes\. Found a vocabulary of 1"),
        (Z[..., :0], IDS, InvalidValue, r"at least 2 classes\. Found a vocabulary of 0"),
        (Z, IDS[:, :3], InvalidValue, r"shape \(2, 4\) or prob.* \(2, 4, 3\)\. Found shape \(2, 3\)"),
        (Z, IDS.T, InvalidValue, r"Found shape \(4, 2\) with torch\.int64"),
        (Z, IDS.float(), InvalidValue, r"Found shape \(2, 4\) with torch\.float32"),
        (Z, ROWS.long(), InvalidValue, r"Found shape \(2, 4, 3\) with torch\.int64"),
        (Z, ROWS[..., :2], InvalidValue, r"Found shape \(2, 4, 2\) with torch\.float32"),
        (Z, ROWS.movedim(2, 1), InvalidValue, r"Found shape \(2, 3, 4\)"),
        (Z, IDS.bool(), InvalidValue, r"Found shape \(2, 4\) with torch\.bool"),
        (Z, changed(IDS, (1, 2), 3), InvalidValue, r"in \[0, 3\).*Found 3 at targets\[1, 2\]"),
        (Z, changed(IDS, (1, 3), -1), InvalidValue, r"\(-100\)\. Found -1 at targets\[1, 3\]"),
        (Z, changed(ROWS, (1, 2, 0), -0.5), InvalidValue, r"at least 0\. Found -0\.5 at targets\[1, 2, 0\]"),
        (Z, changed(ROWS, (1, 2, 0), math.nan), InvalidValue, r"at least 0\. Found nan"),
        (Z, changed(ROWS, (1, 2), 0.5), InvalidValue, r"sum of 1\.5 at targets\[1, 2, :\](?!.*bernoulli)"),
    ],
)
def test_wrong_inputs(logits, targets, error, message):
    for score in (token_kl, sequence_kl):
        with pytest.raises(error, match=message):
            score(logits, targets)


@pytest.mark.parametrize("temperature", [0, 0.0, -1.0, math.inf, math.nan])
def test_wrong_temperatures(temperature):
    for make in (token_kl, sequence_kl):
        with pytest.raises(InvalidValue, match=r"`temperature` must be above 0 and finite\. Found"):
            make(Z, IDS, temperature=temperature)


@pytest.mark.parametrize("ignore_index", [None, 255.0, True])
def test_wrong_ignore_index(ignore_index):
    for make in (token_kl, sequence_kl):
        with pytest.raises(InvalidType, match=r"`ignore_index` must be a whole number\. Found"):
            make(Z, IDS, ignore_index=ignore_index)


@pytest.mark.parametrize(
    ("documents", "samples", "error", "message"),
    [
        (IDS.float(), None, InvalidType, r"`documents` must hold whole numbers\. Found torch\.float32"),
        (IDS.bool(), None, InvalidType, r"whole numbers\. Found torch\.bool"),
        (IDS[:1], None, InvalidValue, r"one number a token, \(2, 4\)\. Found \(1, 4\)"),
        (IDS[0], None, InvalidValue, r"one number a token, \(2, 4\)\. Found \(4,\)"),
        (changed(IDS, (1, 1), 2), 2, InvalidValue, r"below `samples`, 2\. Found 2"),
        (IDS.to("meta"), None, InvalidValue, r"not counted.*Found meta\. Pass samples=\.\.\."),
    ],
)
def test_wrong_documents(documents, samples, error, message):
    with pytest.raises(error, match=message):
        sequence_kl(Z, IDS, documents=documents, samples=samples)


@every_shift
def test_values_are_not_read_where_there_are_none(shift):
    # Meta tensors stand for an accelerator here: reading a value from one raises.
    logits = torch.zeros(2, 4, 3, device="meta")
    for targets in (IDS.to("meta"), ROWS.to("meta")):
        assert token_kl(logits, targets, shift=shift).shape == (2, 4)
        assert sequence_kl(logits, targets, shift=shift).shape == (2,)
        found = sequence_kl(logits, targets, shift=shift, documents=IDS.to("meta"), samples=7)
        assert found.shape == (7,)
