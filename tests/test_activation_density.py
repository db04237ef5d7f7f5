"""The density of activations while a network trains: what scores mean, and that nothing disturbs them."""

import math
import resource
import subprocess
import sys

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

import fallow.activations.monitor as watching
from fallow import NO_SCORE
from fallow.activations import ActivationDensity
from fallow.densities import Gaussian, GaussianMixture
from fallow.errors import InvalidType, InvalidValue, WrongState
from fallow.files.state_file import dump, parse
from fallow.scores.base import is_no_score
from ranks import in_ranks

pytestmark = pytest.mark.usefixtures("_seed")


class Same(nn.Module):
    """A network whose activations are its input: what is scored is known."""

    def __init__(self, d=6):
        super().__init__()
        self.inner = nn.Identity()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.inner(x * self.scale)


def blobs(n=2000, d=6, k=4, seed=0, apart=4.0):
    draw = torch.Generator().manual_seed(seed)
    centres = apart * torch.randn(k, d, generator=torch.Generator().manual_seed(99))
    return centres[torch.arange(n) % k] + torch.randn(n, d, generator=draw)


def epoch(watch, x, batch=100, order=None):
    """One pass over rows, in order; return the scores by sample."""
    found = torch.full((len(x),), math.nan)
    order = torch.arange(len(x)) if order is None else order
    for start in range(0, len(order), batch):
        index = order[start : start + batch]
        watch.taps.model(x[index])
        found[index] = watch.scores(index)
    return found


def watched(density=None, **options):
    net = Same()
    options = {"dim": 6, "panel": 1000} | options
    return ActivationDensity(net, "inner", density or GaussianMixture(4), **options)


def truth(x):
    """The log density that the rows of :func:`blobs` were drawn from."""
    centres = 4 * torch.randn(4, 6, generator=torch.Generator().manual_seed(99))
    return (-0.5 * torch.cdist(x, centres).square()).logsumexp(1)


def test_before_it_is_to_be_trusted_no_sample_has_a_score():
    watch = watched()
    watch.taps.model(torch.randn(8, 6))
    found = watch.scores(torch.arange(8))
    assert is_no_score(found).all()
    assert found.tolist() == [pytest.approx(NO_SCORE)] * 8


@pytest.mark.parametrize("density", [GaussianMixture(4), Gaussian()], ids=lambda d: d.name)
def test_scores_are_percentiles_of_the_density(density):
    x, watch = blobs(), watched(density)
    for _ in range(3):
        scores = epoch(watch, x)
    assert watch.ready
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores.mean() == pytest.approx(0.5, abs=0.03)
    if not isinstance(density, Gaussian):
        assert spearmanr(scores, -truth(x)).statistic > 0.9


def test_activations_of_another_scale_score_alike():
    """Twice the activations move log densities by p log 2, and no percentile."""
    watch, x = watched(), blobs()
    for _ in range(3):
        before = epoch(watch, x)
    with torch.no_grad():
        watch.taps.model.scale *= 2
    for _ in range(4):
        after = epoch(watch, x)
    assert (after - before).abs().mean() < 0.02


def test_the_density_follows_activations_that_drift():
    """A density that is never fitted again must fail where the one that is holds."""
    watch, stale, x = watched(), watched(), blobs(4000)
    turn = torch.linalg.qr(torch.randn(6, 6)).Q
    step = torch.matrix_exp(0.06 * (turn - turn.T))
    moved = x
    for _ in range(2):
        epoch(watch, moved)
        epoch(stale, moved)
    stale._period = stale.every = 10**9
    stale.refresh = lambda: None
    for _ in range(8):
        moved = moved @ step
        fresh = epoch(watch, moved)
        old = epoch(stale, moved)
        assert spearmanr(fresh, -truth(x)).statistic > 0.9
    assert spearmanr(old, -truth(x)).statistic < 0.6


def test_removed_samples_do_not_become_rare():
    """The density of the whole training set, though ten epochs train on its thin half only."""
    watch, x = watched(), blobs(3000)
    for _ in range(2):
        scores = epoch(watch, x)
    first = scores.clone()
    for _ in range(10):
        kept = (scores > scores.nanmedian()).nonzero()[:, 0]
        found = epoch(watch, x, order=kept)
        scores = torch.where(found.isnan(), scores, found)
    again = epoch(watch, x)
    assert spearmanr(again, first).statistic > 0.9


def test_junk_scores_above_a_rare_group():
    rare, junk = torch.full((40, 6), 20.0) + 0.7 * torch.randn(40, 6), 60 * (torch.rand(40, 6) - 0.5)
    x = torch.cat([blobs(3920), rare, junk])
    watch = ActivationDensity(Same(), "inner", dim=6, panel=4000)
    for _ in range(3):
        scores = epoch(watch, x, order=torch.randperm(4000))
    out = scores > torch.quantile(scores, 0.985)
    assert out[3960:].float().mean() >= 0.8
    assert out[3920:3960].float().mean() <= 0.05


def test_few_samples_are_told_and_none_has_a_score():
    watch = ActivationDensity(Same(), "inner", GaussianMixture(16), dim=6, panel=200)
    x = torch.randn(150, 6)
    with pytest.warns(UserWarning, match=r"two halves of the panel agree by .* too few samples"):
        scores = [epoch(watch, x, batch=50) for _ in range(60)][-1]
    assert is_no_score(scores).all()


def test_a_row_that_is_not_finite_is_bad_and_harms_nobody():
    watch, x = watched(), blobs()
    for _ in range(3):
        want = epoch(watch, x)
    x = x.clone()
    x[7, 2], x[9, 1] = float("nan"), float("inf")
    found = epoch(watch, x)
    assert found.isnan().nonzero()[:, 0].tolist() == [7, 9]
    others = torch.ones(2000, dtype=torch.bool)
    others[[7, 9]] = False
    assert (found - want)[others].abs().mean() < 0.02
    assert epoch(watch, blobs()).isfinite().all()


def train(watch, epochs, steps=1000, start=0):
    """Train a small network with batch norm and dropout; return all scores."""
    net, found = watch.taps.model, []
    x, y = blobs(600), torch.arange(600) % 4
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    place = 0
    for turn in range(epochs):
        order = torch.randperm(600, generator=torch.Generator().manual_seed(turn))
        for at in range(0, 600, 60):
            place += 1
            if place <= start:
                continue
            if place > steps:
                return found
            index = order[at : at + 60]
            loss = nn.functional.cross_entropy(net(x[index]), y[index])
            found.append(watch.scores(index))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return found


def small():
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4)
    )


@pytest.mark.parametrize("stop", [*(pytest.param(stop, marks=pytest.mark.slow) for stop in (0, 3, 55)), 27])
@pytest.mark.parametrize("density", [GaussianMixture(4), Gaussian()], ids=lambda d: d.name)
def test_resumed_at_any_step_it_gives_the_same_scores_to_the_bit(stop, density):
    watching_options = {"density": density, "dim": 8, "panel": 300}
    whole = train(ActivationDensity(small(), **watching_options), 8)
    first = ActivationDensity(small(), **watching_options)
    begun = train(first, 8, steps=stop)
    net, again = small(), None
    net.load_state_dict(first.taps.model.state_dict())
    again = ActivationDensity(net, **watching_options)
    again.load_state_dict(parse(dump(first.state_dict()), "a state"))
    rest = train(again, 8, start=stop)
    assert len(begun) + len(rest) == len(whole)
    for one, other in zip(whole, begun + rest, strict=True):
        assert torch.equal(one.nan_to_num(-7), other.nan_to_num(-7))
    assert again.refreshes > 3


@pytest.mark.parametrize("mean", [0.0, 30.0, 1e5])
def test_activations_far_from_zero_score_as_others_do(mean):
    """Rounded to float16, rows seem to vary in directions in which they do not."""
    mixing = torch.randn(8, 64, generator=torch.Generator().manual_seed(3))
    x = torch.randn(2000, 8, generator=torch.Generator().manual_seed(4)) @ mixing + mean
    watch = ActivationDensity(Same(), "inner", Gaussian(), dim=32, panel=500)
    for _ in range(4):
        scores = epoch(watch, x)
    assert watch.ready
    assert watch.layers[0].subspace.dim in (8, 32)
    assert scores.mean() == pytest.approx(0.5, abs=0.06)


def test_a_mixed_precision_step_scores_in_full_precision():
    watch, x = watched(), blobs()
    for _ in range(3):
        epoch(watch, x)
    watch.refresh, index = (lambda: None), torch.arange(100)
    watch.taps.model(x[index])
    plain = watch.scores(index)
    watch.taps.model(x[index])
    with torch.autocast("cpu", torch.bfloat16):
        mixed = watch.scores(index)
    assert torch.equal(plain, mixed)


def test_a_local_state_changes_nothing():
    watch, x = watched(), blobs(500)
    watch.taps.model(x[:100])
    watch.scores(torch.arange(100))
    assert len(watch.state_dict(local=True)["panel"]["index"]) == 100
    assert len(watch.panel._new) == 1


def test_a_state_of_other_layers_is_refused():
    watch = watched()
    epoch(watch, blobs(300))
    with pytest.raises(InvalidValue, match="Unknown layer"):
        ActivationDensity(nn.Linear(6, 2)).load_state_dict(watch.state_dict())


def test_it_disturbs_neither_the_training_nor_any_generator():
    def weights(watched_too):
        net = small()
        watch = ActivationDensity(net, density=Gaussian(), panel=300) if watched_too else None
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        torch.manual_seed(1)
        for _ in range(40):
            index = torch.randint(600, (60,))
            x = blobs(600)[index] + torch.rand(60, 6)
            loss = nn.functional.cross_entropy(net(x), index % 4)
            if watch:
                watch.scores(index)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    assert torch.equal(weights(True), weights(False))


def on_rank(rank, size, place):
    """Train on a slice of each global batch, wrapped in DDP; save what the density says."""
    on_data_rank(rank, size, f"{place}/{size}-{rank}.pt")


def in_pairs(rank, size, place):
    """Train where the two ranks of a pair get the same samples."""
    mesh = init_device_mesh("cpu", (size // 2, 2), mesh_dim_names=("dp", "tp"))
    on_data_rank(rank // 2, size // 2, f"{place}/pairs-{rank}.pt", mesh["dp"].get_group(), mesh)


def on_data_rank(rank, size, path, group=None, mesh=None):
    net = small().double()
    ddp = DistributedDataParallel(net, process_group=group)
    watch = ActivationDensity(ddp.module, density=GaussianMixture(4), dim=8, panel=300, group=mesh)
    x, y = blobs(600).double(), torch.arange(600) % 4
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    net.eval()  # batch norm would see other batches on other numbers of ranks
    watch.taps.in_evaluation = True
    for turn in range(5):
        scores = torch.zeros(600)
        order = torch.randperm(600, generator=torch.Generator().manual_seed(turn))
        for at in range(0, 600, 58):
            index = torch.tensor_split(order[at : at + 58], size)[rank]
            if not len(index):
                continue
            loss = nn.functional.cross_entropy(ddp(x[index]), y[index], reduction="sum") * size / 58
            scores[index] = watch.scores(index)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.save(
        {"values": watch.percentile.values, "index": torch.from_numpy(watch.panel.index), "scores": scores,
         "means": watch.layers[0].density.halves[0].means, "refreshes": watch.refreshes},
        path,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(1, 2), pytest.param((1, 4), marks=pytest.mark.slow)])
def test_any_number_of_ranks_has_the_same_density(tmp_path, sizes):
    for size in sizes:
        in_ranks(on_rank, size, str(tmp_path))
    found = {
        (size, rank): torch.load(tmp_path / f"{size}-{rank}.pt", weights_only=True)
        for size in sizes
        for rank in range(size)
    }
    one = found[1, 0]
    assert one["refreshes"] > 2
    for other in found.values():
        assert torch.equal(other["index"], one["index"])
        torch.testing.assert_close(other["means"], one["means"], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(other["values"], one["values"], rtol=1e-10, atol=1e-10)
    for size in sizes[1:]:
        together = sum(found[size, rank]["scores"] for rank in range(size))
        torch.testing.assert_close(together, one["scores"], rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_ranks_with_the_same_samples_count_once(tmp_path):
    in_ranks(on_rank, 2, str(tmp_path))
    in_ranks(in_pairs, 4, str(tmp_path))
    for rank in range(4):
        found = torch.load(tmp_path / f"pairs-{rank}.pt", weights_only=True)
        expected = torch.load(tmp_path / f"2-{rank // 2}.pt", weights_only=True)
        assert found["refreshes"] == expected["refreshes"] > 2
        for name in ("index", "values", "means", "scores"):
            assert torch.equal(found[name], expected[name])


def diverging(rank, size, place):
    net = Same()
    watch = ActivationDensity(net, "inner", panel=300, seed=rank)
    try:
        for start in range(0, 600, 100):
            net(blobs(600)[start : start + 100] + rank)
            watch.scores(torch.arange(start, start + 100))
            watch.panel._of_all_ranks = lambda new: new
    except WrongState as error:
        (place / f"{rank}").write_text(str(error))


@pytest.mark.slow
def test_ranks_that_differ_are_told(tmp_path):
    in_ranks(diverging, 2, tmp_path)
    assert all("different densities" in (tmp_path / str(rank)).read_text() for rank in range(2))


BILLION = """
import numpy as np, resource, torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from fallow.activations.panel import Panel
panel = Panel(4096)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = [torch.zeros(1 << 20, 4)]
for start in range(0, 10**8, 1 << 20):
    panel.add(np.arange(start, start + (1 << 20)), rows)
panel.settle()
print(len(panel), panel.population(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RUSAGE_SELF"), reason="needs getrusage")
def test_a_hundred_million_samples_need_no_more_memory_than_a_panel():
    done = subprocess.run([sys.executable, "-c", BILLION], capture_output=True, text=True, check=True)
    size, population, kilobytes = map(int, done.stdout.split())
    assert size == 4096
    assert 0.9e8 < population < 1.1e8
    assert kilobytes * 1024 < 3 * 10**8


def test_wrong_use():
    with pytest.raises(InvalidType, match=r"`model` must be an nn\.Module"):
        ActivationDensity("resnet")
    with pytest.raises(
        InvalidType,
        match=r"`density` must be an object with fit\(x\) and log_prob\(x\)\. Found str without fit",
    ):
        ActivationDensity(Same(), "inner", "gmm")
    with pytest.raises(InvalidValue, match="`panel` must be at least 64"):
        watched(panel=3)
    with pytest.raises(WrongState, match="No forward pass"):
        watched().scores(torch.arange(3))
    with pytest.raises(WrongState, match="There is no density yet"):
        watched().survey()
    with pytest.raises(WrongState, match="A density scores activations"):
        ActivationDensity.score(torch.zeros(2, 2), torch.zeros(2))
    assert ActivationDensity.score.range == (0.0, 1.0)
    assert watching.EVERY > watching.FIRST


def test_without_names_rows_are_counted():
    watch, x = watched(), blobs(1000)
    for _ in range(4):
        for start in range(0, 1000, 100):
            watch.taps.model(x[start : start + 100])
            scores = watch.scores()
    assert len(watch.panel) == 1000
    assert scores.shape == (100,)
    assert not is_no_score(scores).any()


def test_two_fits_to_the_same_rows_do_not_make_it_ready():
    watch, x = watched(), blobs(1000)
    epoch(watch, x)
    for _ in range(5):
        watch.refresh()
    assert not watch.ready
    for _ in range(2):
        epoch(watch, x)
    assert watch.ready
