"""What every density promises, and the defects of others that none of them may have."""

import math

import pytest
import torch

import fallow.densities as family
from fallow.densities import Density, Gaussian, GaussianMixture, Halves
from fallow.densities.own import OwnDensity
from fallow.errors import InvalidType, InvalidValue, WrongState
from fallow.files.state_file import dump, parse

pytestmark = pytest.mark.usefixtures("_seed")


class Bell:
    """A density of somebody's own, without a base class: a Gaussian with a diagonal covariance."""

    def fit(self, x):
        self.normal = torch.distributions.Normal(x.mean(0), x.std(0) + 1e-6)

    def log_prob(self, x):
        return self.normal.log_prob(x).sum(1)


MAKE = {
    "Gaussian": Gaussian,
    "GaussianMixture": lambda: GaussianMixture(3),
    "Halves": lambda: Halves(GaussianMixture(3)),
}
closed_form = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
EVERY = {**MAKE, "own": lambda: OwnDensity(Bell())}
every_density = pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)


def rows(n=300, d=3, dtype=torch.float32):
    centres = torch.tensor([[0.0] * d, [6.0] * d, [-6.0] + [3.0] * (d - 1)])
    return (torch.randn(n, d) + centres[torch.arange(n) % 3]).to(dtype)


def test_the_family_is_found():
    found = [k for k in vars(family).values() if isinstance(k, type) and issubclass(k, Density)]
    assert {kind.__name__ for kind in found} == {"Density", *MAKE}
    assert len({kind.name for kind in found}) == len(MAKE) + 1


@every_density
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_one_finite_number_a_row(make, dtype):
    density = make().fit(rows(dtype=dtype))
    assert density.dim == 3
    assert density.count == pytest.approx(300)
    found = density.log_prob(rows(40, dtype=dtype))
    assert (found.shape, found.dtype) == ((40,), torch.float64)
    assert found.isfinite().all()
    assert density.log_prob(rows(0, dtype=dtype)).shape == (0,)


@every_density
def test_it_integrates_to_one(make):
    x = torch.randn(400, 1) + 3 * (torch.arange(400) % 2)[:, None]
    density = make().fit(x)
    at = torch.linspace(-40, 40, 160_001)[:, None]
    mass = torch.trapezoid(density.log_prob(at).exp(), at[:, 0].double())
    assert mass == pytest.approx(1.0, abs=0.02)


@every_density
def test_far_is_thinner_than_near(make):
    density = make().fit(rows())
    near, far = density.log_prob(rows(50)), density.log_prob(rows(50) * 10 + 40)
    assert far.max() < near.min()


@closed_form
def test_a_row_of_weight_two_is_two_rows(make):
    x, weights = rows(120), 1.0 + (torch.arange(120) % 4 == 0)
    index = torch.arange(120)
    twice = torch.cat([x, x[weights == 2]])
    names = torch.cat([index, index[weights == 2]])
    one = make().fit(x, weights=weights, index=index)
    two = make().fit(twice, index=names)
    at = rows(30)
    if isinstance(one, GaussianMixture | Halves):  # the start is drawn, so that they may end elsewhere
        assert one.count == two.count
        return
    torch.testing.assert_close(one.log_prob(at), two.log_prob(at), rtol=1e-9, atol=1e-9)


@closed_form
def test_the_order_of_rows_does_not_matter(make):
    x, order = rows(), torch.randperm(300)
    index = torch.arange(300)
    one = make().fit(x, index=index)
    two = make().fit(x[order], index=index[order])
    at = rows(20)
    torch.testing.assert_close(one.log_prob(at), two.log_prob(at), rtol=1e-6, atol=1e-6)


@every_density
def test_a_state_is_all_there_is(make):
    density = make().fit(rows())
    again = make()
    again.load_state_dict(parse(dump(density.state_dict()), "a state"))
    at = rows(20)
    assert torch.equal(again.log_prob(at), density.log_prob(at))
    assert (again.dim, again.count) == (density.dim, density.count)
    if density.leaves_out:
        index = torch.arange(20)
        assert torch.equal(again.left_out(at, index=index), density.left_out(at, index=index))


@closed_form
def test_merged_it_has_the_rows_of_both(make):
    x = rows()
    index = torch.arange(300)
    parts = [make().fit(x[half], index=index[half]) for half in (slice(150), slice(150, 300))]
    merged = parts[0].merge(parts[1])
    assert merged.count == pytest.approx(300)
    at = rows(50)
    if isinstance(merged, GaussianMixture | Halves):
        together = torch.stack([part.log_prob(at) for part in parts]).logsumexp(0) - math.log(2)
        torch.testing.assert_close(merged.log_prob(at), together, atol=0.3, rtol=0)
    else:
        whole = type(merged)(merged._shrunk.rows).fit(x)
        torch.testing.assert_close(merged.log_prob(at), whole.log_prob(at), rtol=1e-8, atol=1e-8)


def test_one_of_your_own_cannot_be_merged():
    own = OwnDensity(Bell()).fit(rows())
    with pytest.raises(InvalidValue, match=r"Bell cannot be merged\. .* Fit it to the rows of both"):
        own.merge(own)


@every_density
def test_only_its_like_merge(make):
    with pytest.raises(InvalidValue):
        make().fit(rows()).merge(make())


def test_what_cannot_leave_a_row_out_says_what_to_do():
    assert not GaussianMixture.leaves_out
    with pytest.raises(WrongState, match=r"Wrap it: Halves\(GaussianMixture"):
        GaussianMixture().left_out(rows())


WRONG = [
    (torch.zeros(5), InvalidValue, r"shape \(N, D\)\. Found \(5,\)"),
    (torch.zeros(5, 2, dtype=torch.int64), InvalidType, "tensor of floats. Found torch.int64"),
    ([[1.0]], InvalidType, "tensor of floats. Found list"),
    (torch.zeros(1, 3), InvalidValue, "at least"),
    (torch.tensor([[0.0], [float("nan")], [1.0], [2.0]]), InvalidValue, "finite. Found row 1 with nan"),
]


@every_density
@pytest.mark.parametrize(("x", "error", "words"), WRONG, ids=[words for *_, words in WRONG])
def test_wrong_rows(make, x, error, words):
    density = make()
    with pytest.raises(error, match=words):
        density.fit(x)
    assert density.dim == 0


@every_density
def test_wrong_use(make):
    with pytest.raises(WrongState, match="is not fitted"):
        make().log_prob(rows())
    density = make().fit(rows())
    with pytest.raises(InvalidValue, match="must have 3 numbers"):
        density.log_prob(rows(d=4))
    with pytest.raises(InvalidValue, match="`weights`"):
        make().fit(rows(), weights=torch.ones(7))
    with pytest.raises(InvalidValue, match="`weights`"):
        make().fit(rows(), weights=-torch.ones(300))
    with pytest.raises(InvalidValue, match="`index`"):
        make().fit(rows(), index=torch.zeros(300))


@closed_form
def test_rows_that_fill_few_directions(make):
    """Constant, repeated and dead columns break a Cholesky factor elsewhere."""
    x = rows(d=3)
    padded = torch.cat([x, x[:, :1], torch.zeros(300, 2), torch.full((300, 1), 7.0)], dim=1)
    density = make().fit(padded)
    assert density.log_prob(padded).isfinite().all()
    far = padded.clone()
    far[:, :4] = far[:, :4] * 10 + 40
    assert density.log_prob(far).max() < density.log_prob(padded).min()


@closed_form
def test_scores_far_out_are_finite_and_distinct(make):
    """exp(-d^2 / 2) in float32 gives 98.7 % of the rows of 256 numbers the same score."""
    x = torch.randn(1000, 256)
    density = make().fit(x[:500])
    found = density.log_prob(x[500:])
    assert found.isfinite().all()
    assert len(found.unique()) >= 0.999 * len(found)
    assert density.log_prob(1e3 * x[500:]).isfinite().all()


@closed_form
def test_repeated_rows_do_no_harm(make):
    x = torch.cat([torch.zeros(100, 2), torch.ones(100, 2), rows(100, 2)])
    assert make().fit(x).log_prob(x).isfinite().all()
