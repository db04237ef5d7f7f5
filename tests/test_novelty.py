"""Inputs that are made as the training inputs are pass; noise, and what is too plain, do not."""

import subprocess
import sys

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import interpolate

from fallow.errors import InvalidValue
from fallow.gaps import LIMIT, InputNovelty, novelty

pytestmark = pytest.mark.usefixtures("_seed")


def digits():
    images = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(1))]


IMAGES = digits()
KNOWN, FRESH = IMAGES[:1000], IMAGES[1000:]
GREY = InputNovelty(KNOWN)


def colours(images, side=16):
    """Digits in warm colours on a dark ground, with a little noise."""
    warm = torch.tensor([1.0, 0.7, 0.3])[None, :, None, None]
    large = interpolate(images, (side, side), mode="bilinear")
    return 0.1 + 0.8 * large * warm + 0.03 * torch.randn(len(images), 3, side, side)


def passing(like, inputs):
    return float((like(inputs) <= LIMIT).float().mean())


def test_fresh_inputs_of_the_same_kind_pass():
    assert passing(GREY, FRESH) >= 0.98
    assert passing(GREY, KNOWN) >= 0.98
    assert GREY(FRESH).median() < 1


@pytest.mark.parametrize(("count", "noise"), [(100, 0.0), (400, 0.003)])
def test_training_inputs_and_near_copies_of_them_pass(count, noise):
    """Fewer than pixels: of an input that the directions come from, nothing is left off them."""
    smooth = interpolate(torch.randn(count + 200, 3, 8, 8), 16, mode="bilinear")
    images = smooth + 0.05 * torch.randn_like(smooth)
    like = InputNovelty(images[:count])
    own = images[:count] + noise * torch.randn_like(images[:count])
    assert passing(like, own) >= 0.95
    assert passing(like, images[count:]) >= 0.95
    assert passing(like, torch.randn_like(own)) <= 0.02


def test_nine_of_ten_training_inputs_that_are_left_out_stay_below_one():
    shares = [
        float((InputNovelty(IMAGES[torch.randperm(1797)[:900]])(FRESH) <= 1).float().mean()) for _ in range(3)
    ]
    assert shares == pytest.approx([0.9] * 3, abs=0.06)


def shuffled(images):
    return images.flatten(1)[:, torch.randperm(images[0].numel())].view(images.shape)


STRANGE = {
    "noise": torch.rand_like,
    "normal noise": torch.randn_like,
    "shuffled alike": shuffled,
    "shuffled each by itself": lambda x: torch.cat([shuffled(one[None]) for one in x]),
    "inverted": lambda x: 1 - x,
    "turned": lambda x: x.rot90(1, (2, 3)),
    "stripes": lambda x: (torch.arange(8) % 2).float().expand_as(x) * torch.rand(len(x), 1, 1, 1),
    "brighter": lambda x: 3 * x,
    "fainter": lambda x: 0.3 * x,
    "nearly the mean": lambda x: 0.8 * KNOWN.mean(0) + 0.2 * x,
    "the mean": lambda x: KNOWN.mean(0).expand_as(x),
    "black": torch.zeros_like,
    "grey": lambda x: torch.full_like(x, 0.5),
    "white": torch.ones_like,
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_made_in_another_way_is_caught(kind):
    assert passing(GREY, STRANGE[kind](FRESH[:300])) <= 0.01


def test_pixels_that_are_replaced_are_caught():
    where = torch.rand_like(FRESH) < 0.3
    assert passing(GREY, torch.where(where, torch.rand_like(FRESH).round(), FRESH)) < 0.15


def test_a_class_that_nobody_has_collected_is_not_strange():
    labels = load_digits().target
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1)).numpy()
    shares = []
    for hidden in (0, 3, 5, 6, 7):
        here = torch.tensor(labels[order] == hidden)
        shares.append(passing(InputNovelty(IMAGES[~here]), IMAGES[here]))
    assert min(shares) > 0.9


def test_detail_where_there_should_be_none_is_caught():
    """As much of it as usual, but on one half of the image."""
    like = InputNovelty(torch.randn(400, 1, 16, 16))
    uneven = torch.randn(200, 1, 16, 16)
    uneven[..., :8] *= 1.4
    uneven[..., 8:] *= 0.2
    assert passing(like, torch.randn(200, 1, 16, 16)) > 0.95
    assert passing(like, uneven) <= 0.02


def test_images_in_colour():
    images = colours(IMAGES)
    like, fresh = InputNovelty(images[:700]), images[700:900]
    assert passing(like, fresh) >= 0.97
    for strange in (torch.rand_like(fresh), fresh.flip(1), fresh.mean(1, keepdim=True).expand_as(fresh)):
        assert passing(like, strange) <= 0.02
    smooth = interpolate(interpolate(fresh, 8, mode="area"), 16, mode="bilinear")
    assert passing(like, smooth) <= 0.02


def test_vectors():
    scale = torch.logspace(0.5, -1.5, 30)
    turn = torch.linalg.qr(torch.randn(30, 30))[0]
    known, fresh = ((torch.randn(n, 30) * scale) @ turn for n in (600, 400))
    like = InputNovelty(known)
    assert passing(like, fresh) >= 0.97
    assert passing(like, torch.randn(400, 30) * scale.square().mean().sqrt()) <= 0.1
    assert passing(like, fresh + torch.randn(400, 30)) <= 0.1
    assert passing(like, 0.1 * fresh) <= 0.02
    assert passing(like, known.mean(0, keepdim=True)) == 0


def test_sequences_of_vectors():
    known = torch.randn(300, 6, 5).cumsum(1)
    like = InputNovelty(known)
    assert passing(like, torch.randn(200, 6, 5).cumsum(1)) >= 0.95
    assert passing(like, 3 * torch.randn(200, 6, 5)) <= 0.02


@pytest.mark.parametrize("factor", [3.0, 1e-3])
def test_the_unit_does_not_count(factor):
    change = lambda x: factor * x + 1  # noqa: E731
    for known, asked in ((KNOWN[:300], FRESH[:300]), (KNOWN[:300].flatten(1), FRESH.flatten(1))):
        one = InputNovelty(known)(asked)
        other = InputNovelty(change(known.double()))(change(asked.double()))
        judged = one < 1e3  # where pixels are always dark, what is not dark is strange beyond measure
        assert judged.float().mean() > 0.9
        torch.testing.assert_close(one[judged], other[judged], rtol=1e-3, atol=1e-3)
        assert (other[~judged] > 100).all()


def test_pixels_that_never_change():
    framed = torch.nn.functional.pad(IMAGES, (3, 3, 3, 3))
    like = InputNovelty(framed[:1000])
    assert passing(like, framed[1000:]) >= 0.97
    assert passing(like, torch.rand_like(framed[1000:])) == 0
    framed[1000:, :, 1, 1] = 1.0
    assert passing(like, framed[1000:]) == 0


def test_a_number_that_never_changed_may_change_a_little():
    steady = torch.cat([torch.randn(600, 10), torch.ones(600, 2)], 1)
    like = InputNovelty(steady[:400])
    steady[400:, 11] += 1e-3
    assert passing(like, steady[400:]) >= 0.95
    steady[400:, 11] += 3
    assert passing(like, steady[400:]) == 0


def test_inputs_that_are_all_the_same():
    for same in (torch.full((80, 1, 8, 8), 0.3), torch.zeros(80, 7)):
        like = InputNovelty(same)
        assert passing(like, same) == 1
        assert passing(like, same + torch.rand_like(same)) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_infinitely_strange_and_nothing_else(value):
    damaged = FRESH[:20].clone()
    damaged[3] = value
    damaged[7, 0, 2, 5] = value
    found = GREY(damaged)
    others = [row for row in range(20) if row not in (3, 7)]
    assert found[[3, 7]].tolist() == [float("inf")] * 2
    torch.testing.assert_close(found[others], GREY(FRESH[:20])[others])


def test_training_inputs_that_are_not_finite_do_not_count():
    some = KNOWN[:200].clone()
    some[5], some[8, 0, 1, 1] = float("nan"), float("inf")
    rest = torch.cat([some[:5], some[6:8], some[9:]])
    assert torch.equal(InputNovelty(some)(FRESH), InputNovelty(rest)(FRESH))
    few = torch.cat([KNOWN[:63], torch.full((9, 1, 8, 8), float("nan"))])
    with pytest.raises(
        InvalidValue, match=r"needs at least 64 finite training inputs\. Found 63\. Give more"
    ):
        InputNovelty(few)


def test_few_inputs_and_other_kinds_are_refused():
    with pytest.raises(InvalidValue, match=r"needs at least 64 finite training inputs\. Found 63"):
        InputNovelty(torch.rand(63, 4))
    for rows in (torch.zeros(100, 4, dtype=torch.uint8), torch.rand(100), torch.rand(100, 0, 3)):
        assert not InputNovelty.judges(rows)
        with pytest.raises(InvalidValue, match=r"must be floats, one row each\. Found torch\.\w+ \(100"):
            InputNovelty(rows)
    assert not InputNovelty.judges([0.5])


@pytest.mark.parametrize("count", [64, 65, 100])
def test_as_few_as_it_takes(count):
    like = InputNovelty(KNOWN[:count])
    assert passing(like, FRESH) > 0.9
    assert passing(like, KNOWN[:count]) > 0.9
    assert passing(like, torch.rand_like(FRESH)) <= 0.15


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 2, 9), (2, 16, 3), (1,), (1, 1, 300), (4, 5, 6, 2)])
def test_shapes_of_all_kinds(shape):
    like = InputNovelty(torch.randn(200, *shape))
    assert passing(like, torch.randn(200, *shape)) > 0.9
    assert passing(like, 30 * torch.randn(200, *shape)) < 0.2
    assert like(torch.zeros(0, *shape)).shape == (0,)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_numbers_of_other_precisions(kind):
    found = InputNovelty(KNOWN.to(kind))(FRESH.to(kind))
    assert found.dtype == torch.float64
    assert (found <= LIMIT).float().mean() > 0.95


def test_the_same_inputs_give_the_same_and_each_row_counts_by_itself():
    like = InputNovelty(KNOWN)
    assert torch.equal(like(FRESH), GREY(FRESH))
    alone = torch.cat([GREY(part) for part in FRESH[:40].split(7)])
    torch.testing.assert_close(alone, GREY(FRESH)[:40], rtol=1e-6, atol=1e-6)


def test_inputs_that_learn_are_left_as_they_are():
    inputs = KNOWN[:100].clone().requires_grad_()
    found = InputNovelty(inputs)(inputs)
    assert not found.requires_grad
    assert torch.equal(inputs, KNOWN[:100])


def test_few_large_images():
    images = interpolate(IMAGES[:128], 96, mode="bilinear").repeat(1, 3, 1, 1)
    images += 0.05 * torch.randn_like(images)
    like = InputNovelty(images[:64])
    assert passing(like, images[64:]) > 0.8
    assert passing(like, torch.rand_like(images[:8])) == 0


def test_many_channels_are_taken_in_parts(monkeypatch):
    images = torch.randn(300, 20, 8, 8).cumsum(1)
    whole = InputNovelty(images)(images)
    monkeypatch.setattr(novelty, "_VALUES", 40_000)
    found = InputNovelty(images)
    patches = found._half_bands[0][1]
    assert max(len(part) for part in patches._parts(images)) < 10
    assert len(patches._sample_patches(images)) < 500
    assert patches._sample_patches(images[:3]).shape[1] == 180
    torch.testing.assert_close(found(images).median(), whole.median(), rtol=0.3, atol=0.3)


def test_patches_are_the_same_in_any_parts(monkeypatch):
    monkeypatch.setattr(novelty, "_PATCHES", 1000)
    patches = GREY._half_bands[0][1]
    found = patches._sample_patches(KNOWN)
    monkeypatch.setattr(novelty, "_VALUES", 4000)
    few = patches._sample_patches(KNOWN[:100])
    assert torch.equal(few, patches._patches(KNOWN[:100]).flatten(0, 1)[::5])
    assert torch.equal(found, patches._patches(KNOWN).flatten(0, 1)[::36])


LARGE = """
import resource
import torch
from fallow.gaps import LIMIT, InputNovelty, novelty
torch.manual_seed(0)
images = torch.randn(2000, 3, 96, 96)
InputNovelty(torch.randn(64, 3, 8, 8))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = InputNovelty(images)(images[:300])
print(float((found <= LIMIT).float().mean()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_many_large_images_take_little_memory():
    """All patches of 2,000 of them would take 2.5 GB, and their numbers of double precision twice that."""
    printed = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True).stdout
    share, kilobytes = map(float, printed.split())
    assert share > 0.95
    assert kilobytes < 1_000_000
