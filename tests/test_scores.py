"""What every score promises, and what each one is, against other people's implementations."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr, xlogy
from scipy.stats import entropy

import fallow.scores as scores
from counted_tokens import changed
from fallow.errors import InvalidType, InvalidValue
from fallow.scores import (
    NO_SCORE,
    Hellinger,
    JensenShannon,
    KLDivergence,
    RelativeToBatch,
    Renyi,
    ReverseKL,
    Score,
    TotalVariation,
    hellinger,
    is_no_score,
    kl_divergence,
    renyi,
    reverse_kl,
    score_by_name,
    score_names,
    total_variation,
)

pytestmark = pytest.mark.usefixtures("_seed")

FAMILY = sorted(set(score_names().values()), key=lambda score: score.__name__)
every_score = pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
every_target = pytest.mark.parametrize("form", ["ids", "soft"])
"""One-hot rows take the path of soft ones."""


def batch(form, b=6, c=4, spatial=(), dtype=torch.float32, scale=2.0):
    """Random logits and targets of one of the forms; soft ones hold zeros."""
    logits = scale * torch.randn(b, c, *spatial, dtype=dtype)
    ids = torch.randint(c, (b, *spatial))
    if form == "ids":
        return logits, ids
    q = F.one_hot(ids, c).movedim(-1, 1).to(dtype)
    if form == "soft":
        q = 0.3 * q + 0.7 * torch.randn_like(logits).softmax(1)
        q[:, 0] = 0
        q = q / q.sum(1, keepdim=True)
    return logits, q


def value_and_gradient(score, logits, targets):
    logits = logits.detach().clone().requires_grad_()
    value = score(logits, targets)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    return value.detach(), gradient


DEFINITIONS = {
    KLDivergence: lambda p, q: entropy(q, p, axis=1),
    ReverseKL: lambda p, q: rel_entr(p, 0.99 * q + 0.01 / q.shape[1]).sum(1),
    JensenShannon: lambda p, q: jensenshannon(p, q, axis=1) ** 2,
    TotalVariation: lambda p, q: np.maximum(q - p, 0).sum(1),
    Hellinger: lambda p, q: np.sqrt(((np.sqrt(q) - np.sqrt(p)) ** 2).sum(1) / 2),
    Renyi: lambda p, q: -2 * np.log(np.sqrt(p * q).sum(1)),
}
"""In numpy and scipy, for rows p and q of float64."""


# The contract, for every class in `scores.__all__`.


def test_the_family_is_found():
    assert {"KLDivergence", "ReverseKL", "Renyi"} <= {kind.__name__ for kind in FAMILY}
    assert Score not in FAMILY
    assert all(getattr(scores, name) is not None for name in scores.__all__)


@every_score
@every_target
@pytest.mark.parametrize(("b", "c"), [(1, 2), (6, 4), (0, 3)])
def test_shape_dtype_and_range(kind, form, b, c):
    values, gradient = value_and_gradient(kind(), *batch(form, b, c))
    low, high = kind.range
    assert values.shape == (b,)
    assert values.dtype == torch.float32
    assert values.isfinite().all()
    assert gradient.isfinite().all()
    assert not is_no_score(values).any()
    assert ((values >= low - 1e-6) & (values <= high + 1e-6)).all()


@every_score
def test_declares_what_it_measures(kind):
    score = kind()
    assert score.unit in ("nats", "")
    assert score.range[0] < score.range[1]
    assert eval(repr(score), vars(scores)) == score
    with pytest.raises(AttributeError):
        score.ignore_index = 3


@every_score
@every_target
def test_rows_do_not_see_each_other(kind, form):
    logits, targets = batch(form)
    score, order = kind(), torch.randperm(len(logits))
    whole = score(logits, targets)
    torch.testing.assert_close(score(logits[order], targets[order]), whole[order], rtol=1e-6, atol=0)
    halves = [score(logits[part], targets[part]) for part in (slice(0, 2), slice(2, None))]
    torch.testing.assert_close(torch.cat(halves), whole)


@every_score
@every_target
def test_a_shift_of_the_logits_changes_nothing(kind, form):
    logits, targets = batch(form, dtype=torch.float64)
    shift = 50 * torch.randn(len(logits), 1, dtype=torch.float64)
    torch.testing.assert_close(kind()(logits + shift, targets), kind()(logits, targets))


@every_score
@pytest.mark.parametrize("form", ["ids", "one-hot", "soft"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_any_scale_gives_finite_values_and_gradients(kind, form, scale):
    logits, targets = batch(form, b=32, scale=scale)
    logits[0] = scale * torch.tensor([1.0, -1.0, -1.0, -1.0])
    values, gradient = value_and_gradient(kind(), logits, targets)
    assert values.isfinite().all()
    assert gradient.isfinite().all()
    assert (values >= -1e-6 * max(1.0, scale)).all()
    assert (values <= kind.range[1] + 1e-6).all()
    assert not is_no_score(values).any()


@every_score
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_where_output_and_label_agree(kind, dtype):
    logits = 3 * torch.randn(20, 5, dtype=dtype)
    q = logits.softmax(1)
    score = kind(smoothing=1e-9) if kind is ReverseKL else kind()
    values, gradient = value_and_gradient(score, logits, q)
    assert (values.abs() < (1e-6 if dtype == torch.float32 else 1e-7)).all()
    assert gradient.isfinite().all()
    assert not is_no_score(values).any()


@every_score
@every_target
def test_a_saturated_answer_has_a_finite_gradient(kind, form):
    logits = torch.tensor([[1e4, -1e4], [40.0, 0.0], [17.0, 0.0], [-1e4, 1e4]])
    targets = torch.zeros(4, dtype=torch.int64)
    if form != "ids":
        targets = F.one_hot(targets, 2).float()
    values, gradient = value_and_gradient(kind(), logits, targets)
    assert values.isfinite().all()
    assert gradient.isfinite().all()
    assert values[0] <= 0.0101
    assert not is_no_score(values).any()


@every_score
def test_one_hot_rows_and_class_ids_agree(kind):
    logits, ids = batch("ids", 64, 5, dtype=torch.float64)
    by_id = value_and_gradient(kind(), logits, ids)
    by_row = value_and_gradient(kind(), logits, F.one_hot(ids, 5).double())
    torch.testing.assert_close(by_id, by_row, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", DEFINITIONS, ids=lambda kind: kind.__name__)
@every_target
def test_value_against_its_definition(kind, form):
    logits, targets = batch(form, b=20, dtype=torch.float64)
    q = F.one_hot(targets, 4).double() if form == "ids" else targets
    expected = DEFINITIONS[kind](logits.softmax(1).numpy(), q.numpy())
    np.testing.assert_allclose(kind()(logits, targets).numpy(), expected, rtol=1e-9, atol=1e-12)


@every_score
@every_target
def test_gradient_against_finite_differences(kind, form):
    logits, targets = batch(form, b=3, c=3, spatial=(2,), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: kind()(z, targets), logits.requires_grad_())


@every_score
@every_target
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(kind, form, dtype):
    logits, targets = batch(form)
    half = logits.to(dtype)
    expected, _ = value_and_gradient(kind(), half.float(), targets)
    values, gradient = value_and_gradient(kind(), half, targets)
    assert values.dtype == torch.float32
    assert gradient.dtype == dtype
    assert torch.equal(values, expected)
    if form != "ids":
        torch.testing.assert_close(kind()(half, targets.to(dtype)), expected, rtol=0.1, atol=0.02)


@every_score
@every_target
def test_autocast_changes_nothing(kind, form):
    logits, targets = batch(form)
    expected = kind()(logits, targets)
    with torch.autocast("cpu", torch.bfloat16):
        values = kind()(logits, targets)
        double = kind()(logits.double(), targets)
    assert torch.equal(values, expected)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), expected, rtol=1e-4, atol=1e-6)


@every_score
@every_target
def test_dense_is_the_mean_over_pixels(kind, form):
    logits, targets = batch(form, b=3, c=4, spatial=(2, 5), dtype=torch.float64)
    score = kind(ignore_index=9)
    if form == "ids":
        targets[0, 0, :3], targets[1] = 9, 9
    else:
        targets[0, :, 0, :3], targets[1] = 9, 9
    values, gradient = value_and_gradient(score, logits, targets)
    for i in range(3):
        rows = logits[i].flatten(1).T
        labels = targets[i].flatten() if form == "ids" else targets[i].flatten(1).T
        pixels = score(rows, labels)
        valid = ~is_no_score(pixels)
        assert int(valid.sum()) == [7, 0, 10][i]
        expected = pixels[valid].mean() if valid.any() else torch.tensor(NO_SCORE).double()
        torch.testing.assert_close(values[i], expected)
    assert not gradient[0, :, 0, :3].any()
    assert not gradient[1].any()


@every_score
@every_target
def test_an_ignored_sample_has_no_score_and_no_gradient(kind, form):
    logits, targets = batch(form)
    expected = kind()(logits, targets)
    targets[1::2] = -100
    values, gradient = value_and_gradient(kind(), logits, targets)
    assert torch.equal(values[::2], expected[::2])
    assert (values[1::2] == NO_SCORE).all()
    assert not gradient[1::2].any()
    assert gradient[::2].any()


@pytest.mark.parametrize("kind", DEFINITIONS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 3), (2, 3, 4)])
def test_bernoulli_is_the_mean_over_two_class_problems(kind, shape):
    logits, t = 2 * torch.randn(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64)
    t.flatten()[0], t.flatten()[1] = 0, 1
    p = torch.stack((-logits, logits), -1).flatten(0, -2)
    p = F.logsigmoid(p).exp().numpy()
    q = torch.stack((1 - t, t), -1).flatten(0, -2).numpy()
    expected = DEFINITIONS[kind](p, q).reshape(shape[0], -1).mean(1)
    score = kind(bernoulli=True)
    np.testing.assert_allclose(score(logits, t).numpy(), expected, rtol=1e-9, atol=1e-12)
    assert torch.autograd.gradcheck(lambda z: score(z, t), logits.requires_grad_())


@every_score
def test_bernoulli_takes_labels_of_any_kind_and_ignores(kind):
    logits, labels = torch.randn(5, 3), torch.randint(2, (5, 3))
    score = kind(bernoulli=True, ignore_index=2)
    expected = score(logits, labels)
    for same in (labels.bool(), labels.to(torch.uint8), labels.float(), labels.half()):
        torch.testing.assert_close(score(logits, same), expected)
    labels[0, 0], labels[1] = 2, 2
    for same in (labels, labels.float()):
        values, gradient = value_and_gradient(score, logits, same)
        assert values[1] == NO_SCORE
        assert not gradient[0, 0].any()
        assert not gradient[1].any()
        rest = score(logits[:1, 1:], same[:1, 1:])
        torch.testing.assert_close(values[:1], rest)
    assert torch.equal(kind()(logits[:, 0], labels[:, 0] % 2), score(logits[:, 0], labels[:, 0] % 2))


@every_score
@every_target
def test_a_class_ruled_out_by_an_infinite_logit_costs_nothing(kind, form):
    logits, targets = batch("ids" if form == "ids" else "one-hot")
    ruled_out = torch.full((len(logits), 1), -math.inf)
    wide = targets if form == "ids" else torch.cat((targets, torch.zeros(len(logits), 1)), 1)
    # A smoothed label does see the number of classes.
    score = kind(smoothing=1e-30) if kind is ReverseKL else kind()
    values, gradient = value_and_gradient(score, torch.cat((logits, ruled_out), 1), wide)
    torch.testing.assert_close(values, score(logits, targets), rtol=0.01, atol=1e-6)
    assert gradient.isfinite().all()


@every_score
@every_target
def test_a_row_that_is_not_a_number_stays_alone(kind, form):
    logits, targets = batch(form)
    expected = kind()(logits, targets)
    logits[2] = math.nan
    values = kind()(logits, targets)
    assert values[2].isnan()
    keep = torch.arange(len(logits)) != 2
    assert torch.equal(values[keep], expected[keep])


@every_score
@every_target
def test_targets_are_constants(kind, form):
    logits, targets = batch(form)
    if form != "ids":
        targets = targets.requires_grad_()
    before = targets.detach().clone()
    assert not kind()(logits, targets).requires_grad
    assert torch.equal(targets, before)


@every_score
@every_target
def test_compiles_into_one_graph(kind, form):
    logits, targets = batch(form)
    torch.compiler.reset()
    compiled = torch.compile(kind(), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, targets), kind()(logits, targets))


# Kullback-Leibler is the cross-entropy.


@pytest.mark.parametrize("shape", [(1, 2), (33, 1000), (2, 3, 8, 8)])
@pytest.mark.parametrize("ignored", [False, True])
def test_kl_with_class_ids_is_cross_entropy_to_the_last_bit(shape, ignored):
    logits, ids = 5 * torch.randn(shape), torch.randint(shape[1], (shape[0], *shape[2:]))
    if ignored:
        ids[torch.rand(ids.shape) < 0.3] = 255

    def expected(z, y):
        loss = F.cross_entropy(z, y, reduction="none", ignore_index=255)
        if loss.dim() == 1:
            return loss
        return loss.flatten(1).sum(1) / (y != 255).flatten(1).sum(1)

    value, gradient = value_and_gradient(KLDivergence(ignore_index=255), logits, ids)
    theirs, their_gradient = value_and_gradient(expected, logits, ids)
    scored = ~is_no_score(value)
    assert scored.any() or shape[0] == 1
    assert torch.equal(value[scored], theirs[scored])
    assert torch.equal(gradient, their_gradient)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_kl_is_cross_entropy_less_the_entropy_of_the_label(smoothing):
    logits, ids = batch("ids", 50, 8, dtype=torch.float64)
    q = (1 - smoothing) * F.one_hot(ids, 8) + smoothing / 8
    q = q.double()
    loss, gradient = value_and_gradient(
        lambda z, y: F.cross_entropy(z, y, reduction="none", label_smoothing=smoothing), logits, ids
    )
    value, our_gradient = value_and_gradient(kl_divergence, logits, q)
    floor = -torch.from_numpy(xlogy(q.numpy(), q.numpy())).sum(1)
    torch.testing.assert_close(value, loss - floor)
    torch.testing.assert_close(our_gradient, gradient)


def test_bernoulli_kl_is_binary_cross_entropy_for_hard_labels():
    logits, labels = torch.randn(7, 5), torch.randint(2, (7, 5)).float()
    expected = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1)
    torch.testing.assert_close(kl_divergence(logits, labels, bernoulli=True), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16])
def test_class_ids_of_any_integer_dtype(dtype):
    logits, ids = batch("ids")
    assert torch.equal(kl_divergence(logits, ids.to(dtype)), kl_divergence(logits, ids))


def test_an_ignore_index_that_is_a_class_id_leaves_that_class_out():
    logits = torch.randn(3, 4)
    values = kl_divergence(logits, torch.tensor([0, 1, 0]), ignore_index=0)
    assert is_no_score(values).tolist() == [True, False, True]
    # In a row of probabilities one zero means nothing.
    rows = torch.tensor([[0.0, 1.0, 0.0, 0.0]]).expand(3, 4)
    assert not is_no_score(kl_divergence(logits, rows, ignore_index=0)).any()


# The parameters.


@pytest.mark.parametrize("alpha", [0.01, 0.5, 0.9, 1.5, 2.0, 10.0])
def test_renyi_of_any_order(alpha):
    logits, q = batch("soft", b=20, dtype=torch.float64)
    p = logits.softmax(1)
    expected = (q**alpha * p ** (1 - alpha)).sum(1).log() / (alpha - 1)
    torch.testing.assert_close(Renyi(alpha)(logits, q), expected)
    ids = torch.randint(4, (20,))
    assert torch.equal(Renyi(alpha)(logits, ids), kl_divergence(logits, ids))
    one_hot = F.one_hot(ids, 4).double()
    torch.testing.assert_close(Renyi(alpha)(logits, one_hot), kl_divergence(logits, ids))
    assert torch.autograd.gradcheck(lambda z: Renyi(alpha)(z, q), logits.requires_grad_())


def test_renyi_grows_with_its_order_towards_kl():
    logits, q = batch("soft", b=20, dtype=torch.float64)
    orders = torch.stack([renyi(logits, q, alpha=a) for a in (0.1, 0.5, 0.999999, 1.000001, 3.0)])
    assert (orders.diff(dim=0) >= -1e-9).all()
    torch.testing.assert_close(orders[2], kl_divergence(logits, q), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("smoothing", [1e-6, 0.01, 0.5])
def test_reverse_kl_is_bounded(smoothing):
    logits = torch.tensor([[1e4, 0.0, 0.0], [0.0, 1e4, 0.0]])
    right, wrong = reverse_kl(logits, torch.tensor([0, 0]), smoothing=smoothing)
    assert right.item() == pytest.approx(-math.log(1 - smoothing + smoothing / 3), abs=1e-6)
    assert wrong.item() == pytest.approx(math.log(3 / smoothing), rel=1e-5)


def test_class_ids_cost_no_second_tensor_of_the_size_of_the_logits(monkeypatch):
    # One-hot rows would be written by scatter_: only the reverse divergence may.
    def forbidden(*_args, **_kwargs):
        raise AssertionError

    monkeypatch.setattr(torch.Tensor, "scatter_", forbidden)
    for kind in DEFINITIONS.keys() - {ReverseKL}:
        kind()(*batch("ids"))


# No score.


def test_no_score_moves_nothing():
    assert torch.tensor(NO_SCORE).item() == NO_SCORE == -torch.finfo(torch.float32).tiny
    losses = torch.tensor([0.5, NO_SCORE, 0.0])
    assert losses.sum() == 0.5


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NO_SCORE, True),
        (1e6 * NO_SCORE, True),
        (0.1 * NO_SCORE, True),
        (-1e-29, False),
        (-1e-9, False),
        (-1.0, False),
        (0.0, False),
        (-0.0, False),
        (1e-38, False),
        (math.nan, False),
        (-math.inf, False),
    ],
)
def test_what_is_read_as_no_score(value, expected):
    for dtype in (torch.float32, torch.float64):
        assert is_no_score(torch.tensor([value], dtype=dtype)).item() is expected


def test_no_divergence_is_rounded_into_no_score():
    # The only term that is not zero here is far below float32's resolution, and negative.
    q = torch.tensor([[1.0, 1e-36]])
    logits = torch.tensor([[0.0, q[0, 1].log().item() + 1e-4]])
    for kind in FAMILY:
        assert not is_no_score(kind()(logits, q)).any()


# A score less the mean of its batch.


def test_a_relative_score_lies_about_the_mean_of_its_batch():
    logits, targets = batch("soft", b=9, dtype=torch.float64)
    whole = Hellinger()(logits, targets)
    torch.testing.assert_close(RelativeToBatch(Hellinger())(logits, targets), whole - whole.mean())
    halves = [RelativeToBatch(Hellinger())(logits[part], targets[part]) for part in (slice(4), slice(4, 9))]
    assert all(half.mean().abs() < 1e-12 for half in halves)
    assert RelativeToBatch(Hellinger()).range == (-math.inf, math.inf)
    assert torch.autograd.gradcheck(
        lambda z: RelativeToBatch(KLDivergence())(z, targets), logits.requires_grad_()
    )


def test_rows_without_a_score_and_bad_rows_are_left_out_of_the_mean_of_a_batch():
    logits, targets = batch("ids")
    targets[1], logits[3, 0] = -100, math.nan
    values = RelativeToBatch(KLDivergence())(logits, targets)
    keep = torch.tensor([True, False, True, False, True, True])
    torch.testing.assert_close(values[keep], RelativeToBatch(KLDivergence())(logits[keep], targets[keep]))
    assert is_no_score(values).tolist() == [False, True, False, False, False, False]
    assert values[3].isnan()
    alone = RelativeToBatch(KLDivergence())(logits[1:2], targets[1:2])
    assert is_no_score(alone).all()


@pytest.mark.parametrize("rows", [1, 4])
def test_a_relative_score_of_0_is_a_score(rows):
    logits = torch.randn(1, 3).expand(rows, 3)
    values = RelativeToBatch(KLDivergence())(logits, torch.zeros(rows, dtype=torch.int64))
    assert not is_no_score(values).any()
    assert (values.abs() < 1e-6).all()


def test_a_difference_too_small_to_be_told_from_no_score_is_0():
    class Tiny(Score):
        def __call__(self, outputs, targets):
            return outputs

    values = RelativeToBatch(Tiny())(torch.tensor([1e-32, 3e-32], dtype=torch.float64), None)
    assert values[0] == 0
    assert not is_no_score(values).any()


# Names.


def test_every_score_has_its_names():
    names = score_names()
    assert {"kl", "reverse-kl", "js", "tv", "hellinger", "renyi"} <= names.keys()
    assert {"kl-divergence", "jensen-shannon", "total-variation"} <= names.keys()
    assert all(names[kind.name] is kind for kind in FAMILY)
    assert score_by_name("tv", bernoulli=True) == TotalVariation(bernoulli=True)


def test_an_unknown_name_or_option_is_an_error():
    with pytest.raises(InvalidValue, match=r"Unknown score\. Found 'helinger'\. Did you mean 'hell"):
        score_by_name("helinger")
    with pytest.raises(InvalidValue, match=r"Unknown option of the score 'renyi'.*'alpha'\?"):
        score_by_name("renyi", alpah=2.0)


# Errors: the rule, the value found, the next step.

Z, IDS = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)
ROWS = torch.full((4, 3), 1 / 3)


@pytest.mark.parametrize(
    ("logits", "targets", "error", "message"),
    [
        (np.zeros((4, 3)), IDS, InvalidType, r"`logits` must be a torch\.Tensor.*numpy"),
        (Z, [0, 1, 2, 0], InvalidType, r"`targets` must be a torch\.Tensor.*list.*as_tensor"),
        (Z.long(), IDS, InvalidType, r"`logits` must be floating\. Found torch\.int64"),
        (Z, ROWS + 0j, InvalidType, r"class ids or probabilities\. Found torch\.complex64"),
        (Z[0, 0], IDS, InvalidValue, r"batch dimension\. Found a 0-d tensor.*unsqueeze"),
        (Z[:, :1], IDS, InvalidValue, r"at least 2 classes.*\(4, 1\).*`bernoulli=True`"),
        (Z[:, :0], IDS, InvalidValue, r"at least 2 classes.*\(4, 0\)"),
        (Z, IDS.float(), InvalidType, r"integer dtype\. Found torch\.float32.*long\(\)"),
        (Z, IDS.bool(), InvalidType, r"integer dtype\. Found torch\.bool"),
        (Z, ROWS.long(), InvalidType, r"floating dtype\. Found torch\.int64.*float\(\)"),
        (Z, IDS[:3], InvalidValue, r"shape \(4,\) or probabilities of shape \(4, 3\).*\(3,\)"),
        (Z, IDS[:, None], InvalidValue, r"Found shape \(4, 1\) with torch\.int64\. Reshape"),
        (Z, ROWS[:, :2], InvalidValue, r"Found shape \(4, 2\) with torch\.float32"),
        (Z, ROWS.T, InvalidValue, r"Found shape \(3, 4\)"),
        (Z, changed(IDS, 2, 3), InvalidValue, r"in \[0, 3\).*Found 3 at targets\[2\]"),
        (
            Z,
            changed(IDS, 1, -1),
            InvalidValue,
            r"`ignore_index` \(-100\)\. Found -1 at targets\[1\]",
        ),
        (Z, changed(IDS, 3, 255).to(torch.uint8), InvalidValue, r"Found 255 at targets\[3\]"),
        (Z, changed(ROWS, (1, 2), -0.5), InvalidValue, r"at least 0.*-0\.5 at targets\[1, 2\]"),
        (Z, changed(ROWS, (1, 2), math.nan), InvalidValue, r"nan at targets\[1, 2\]"),
        (Z, changed(ROWS, 2, 0.5), InvalidValue, r"sum to 1.*sum of 1\.5 at targets\[2, :\]"),
        (Z, changed(ROWS, 2, 0.0), InvalidValue, r"sum of 0 at targets\[2, :\]. Divide"),
        (Z[:, 0], IDS[:3], InvalidValue, r"shape of `logits`, here \(4,\)\. Found \(3,\)"),
        (Z[:, 0], changed(IDS, 1, 2), InvalidValue, r"in \[0, 1\].*Found 2 at targets\[1\]"),
        (Z[:, 0], changed(IDS.float(), 1, 1.5), InvalidValue, r"Found 1\.5 at targets\[1\]"),
        (Z[:, 0], changed(IDS.float(), 1, math.nan), InvalidValue, r"Found nan at targets\[1\]"),
    ],
)
def test_wrong_inputs(logits, targets, error, message):
    with pytest.raises(error, match=message):
        kl_divergence(logits, targets)


def test_wrong_inputs_between_ignored_ones():
    ids = changed(changed(IDS, 0, -100), 2, 7)
    with pytest.raises(InvalidValue, match=r"Found 7 at targets\[2\]"):
        total_variation(Z, ids)
    rows = changed(changed(ROWS, 0, -100), 2, 0.5)
    with pytest.raises(InvalidValue, match=r"sum of 1\.5 at targets\[2, :\]"):
        total_variation(Z, rows)
    dense = changed(ROWS[:, :, None].repeat(1, 1, 2), (3, slice(None), 1), 0.5)
    with pytest.raises(InvalidValue, match=r"sum of 1\.5 at targets\[3, :, 1\]"):
        hellinger(torch.zeros(4, 3, 2), dense)
    answers = changed(changed(ROWS, 0, -100), (3, 1), 2.0)
    with pytest.raises(InvalidValue, match=r"Found 2 at targets\[3, 1\]"):
        kl_divergence(Z, answers, bernoulli=True)
    with pytest.raises(InvalidValue, match=r"In Bernoulli mode.*here \(4, 3\)\. Found \(4,\)"):
        kl_divergence(Z, IDS, bernoulli=True)


@pytest.mark.parametrize("ignore_index", [None, 255.0, True])
def test_wrong_ignore_index(ignore_index):
    with pytest.raises(InvalidType, match=r"`ignore_index` must be a whole number\. Found"):
        kl_divergence(Z, IDS, ignore_index=ignore_index)


@pytest.mark.parametrize("alpha", [0, 1, 1.0, -0.5, math.inf, math.nan])
def test_wrong_alpha(alpha):
    for make in (lambda: Renyi(alpha), lambda: renyi(Z, IDS, alpha=alpha)):
        with pytest.raises(InvalidValue, match=r"`alpha` must be above 0, finite and not 1\. Found"):
            make()


def test_a_parameter_that_is_no_number():
    for make in (lambda: Renyi("1"), lambda: ReverseKL(True), lambda: renyi(Z, IDS, alpha=None)):
        with pytest.raises(InvalidType, match=r"must be a number\. Found"):
            make()


@pytest.mark.parametrize("smoothing", [0, 1, -0.1, math.nan])
def test_wrong_smoothing(smoothing):
    for make in (lambda: ReverseKL(smoothing), lambda: reverse_kl(Z, IDS, smoothing=smoothing)):
        with pytest.raises(InvalidValue, match=r"`smoothing` must be in \(0, 1\)\. Found"):
            make()


def test_values_are_not_read_where_there_are_none():
    # Meta tensors stand for an accelerator here: reading a value from one raises.
    logits = torch.zeros(4, 3, device="meta")
    for kind in FAMILY:
        for targets in (IDS.to("meta"), ROWS.to("meta")):
            assert kind()(logits, targets).shape == (4,)
        assert kind(bernoulli=True)(logits, ROWS.to("meta")).shape == (4,)


def test_the_command_line_knows_the_names_without_importing_scores():
    from fallow.options.score_names import score_names as read_from_source

    assert read_from_source() == score_names().keys()
