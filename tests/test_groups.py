"""Ranks of which only some get different samples: real processes, with a network split over pairs of them."""

from contextlib import redirect_stderr
from io import StringIO

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.functional import cross_entropy

import fallow
from fallow import ErrorMass, Schedule, Subsampler, Threshold, Watch
from fallow.densities import Gaussian, GaussianMixture, Halves
from fallow.densities.own import as_density
from fallow.errors import FallowError
from ranks import in_ranks

EPOCHS = 5
NAMES = ("dp", "data", "data_parallel", "ddp", "fsdp", "dp_shard", "dp_replicate", "batch")
POLICIES = {"threshold": Threshold(0.2), "error mass": ErrorMass()}


def clusters():
    generator = torch.Generator().manual_seed(4)
    labels = torch.arange(240) % 3
    points = (
        torch.randn(240, 2, generator=generator, dtype=torch.float64)
        + 2.5 * nn.functional.one_hot(labels, 3)[:, :2]
    )
    return torch.utils.data.TensorDataset(points, labels), labels


def network():
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3)).double()


def train(policy, batch_size, mesh=None, group=None):
    """Train in float64, and return what each epoch used, each rank's indices, and the final weights."""
    data, labels = clusters()
    net = network()
    ranks = 1
    if mesh is not None:
        plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
        parallelize_module(net, mesh["tp"], plan)
        ranks = mesh["dp"].size()
    optimizer = torch.optim.SGD(net.parameters(), 0.3)
    sub = Subsampler(240, policy, Schedule(EPOCHS, readmit_every=2), seed=3, labels=labels)
    loader = sub.loader(data, batch_size, group=group)
    seen = []
    while sub.epoch < sub.epochs:
        for index, (points, target) in loader:
            logits = net(points)
            losses = cross_entropy(logits, target, reduction="none")
            # The shares of a batch differ in size by one at most: together they are its mean.
            loss = sub.record(index, losses, predicted=logits.argmax(1))
            optimizer.zero_grad()
            loss.backward()
            for weight in net.parameters():
                if ranks > 1:
                    gradient = weight.grad.to_local() if hasattr(weight.grad, "to_local") else weight.grad
                    dist.all_reduce(gradient, group=mesh["dp"].get_group())
                    gradient /= ranks
            optimizer.step()
            seen.append(index.tolist())
        sub.step()
    weights = [w.full_tensor() if hasattr(w, "full_tensor") else w for w in net.parameters()]
    return {
        "used": [record.used for record in sub.history],
        "seen": seen,
        "scores": sub.scores,
        "weights": [w.detach() for w in weights],
    }


def densities(part=slice(None), **options):
    """Fit every kind of density to rows, or to the part of them that this rank has."""
    draw = torch.Generator().manual_seed(8)
    rows = torch.randn(200, 3, generator=draw, dtype=torch.float64)
    rows[::2] += 4
    kinds = {
        "gaussian": Gaussian(),
        "mixture": GaussianMixture(2),
        "halves": Halves(Gaussian()),
        "own": as_density(Mean()),
    }
    for density in kinds.values():
        density.fit(rows[part], index=torch.arange(200)[part], **options)
    return {name: (density.count, density.log_prob(rows[:20])) for name, density in kinds.items()}


class Mean:
    """A density of one's own: the distance to the mean of the rows."""

    def fit(self, x):
        self.mean = x.mean(0)

    def log_prob(self, x):
        return -(x - self.mean).square().sum(1)


def place(name):
    """Return this rank's place among those that get different samples, along a dimension of that name."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("tp", name))
    sub = Subsampler(240, Threshold(0.2), Schedule(3))
    index, _ = next(iter(sub.loader(clusters()[0], 12, group=mesh)))
    return sub.under_way.scores.ranks.rank, sub.under_way.scores.ranks.size, index.tolist()


def told_at_the_end(mesh):
    """Return what this rank prints at the end of a training that is only watched."""
    sub = Subsampler(240, Watch(), Schedule(2))
    loader = sub.loader(clusters()[0], 12, group=mesh)
    with redirect_stderr(StringIO()) as printed:
        while sub.epoch < sub.epochs:
            for index, _ in loader:
                sub.record(index, torch.ones(len(index)))
            sub.step()
    return printed.getvalue()


def said(call):
    with pytest.raises(FallowError) as error:
        call()
    return str(error.value)


def work(rank, size, folder):
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    found = {
        name: train(policy, 12, mesh, group)
        for (name, policy), group in zip(POLICIES.items(), (mesh, mesh["dp"].get_group()), strict=True)
    }
    found["told"] = told_at_the_end(mesh)
    found["places"] = {name: place(name) for name in NAMES}
    part = slice(rank // 2, None, 2)  # both ranks of a pair have the same rows
    found["densities"] = densities(part, together=True, group=mesh["dp"].get_group())
    found["densities of all"] = densities(slice(rank, None, size), together=True)
    outside = [dist.new_group([other]) for other in range(size)][(rank + 1) % size]
    sub = Subsampler(240, Threshold(0.2), Schedule(3))
    data, _ = clusters()
    found["errors"] = [
        said(lambda: sub.loader(data, 12, group=init_device_mesh("cpu", (2, 2)))),
        said(
            lambda: sub.loader(data, 12, group=init_device_mesh("cpu", (2, 2), mesh_dim_names=("pp", "tp")))
        ),
        said(lambda: sub.loader(data, 12, group="dp")),
        said(lambda: sub.loader(data, 12, group=outside)),
    ]
    sub.loader(data, 12, group=mesh["dp"])  # what was refused has changed nothing
    found["errors"].append(said(lambda: sub.loader(data, 12, group=mesh["tp"])))
    found["ranks"] = (sub.under_way.scores.ranks.rank, sub.under_way.scores.ranks.size)
    torch.save(found, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    in_ranks(work, 4, str(folder))
    return [torch.load(folder / f"{rank}.pt") for rank in range(4)]


@pytest.mark.parametrize("name", POLICIES)
def test_two_halves_of_a_network_get_the_same_samples_and_the_run_is_that_of_one_process(ranks, name):
    alone = train(POLICIES[name], 24)
    assert any(not used.all() for used in alone["used"])
    for rank in ranks:
        assert all(map(torch.equal, rank[name]["used"], alone["used"]))
        assert torch.allclose(rank[name]["scores"], alone["scores"], rtol=0, atol=1e-6)
        for found, expected in zip(rank[name]["weights"], alone["weights"], strict=True):
            assert torch.allclose(found, expected, rtol=0, atol=1e-10)
    first, second = ranks[0][name]["seen"], ranks[2][name]["seen"]
    assert ranks[1][name]["seen"] == first
    assert ranks[3][name]["seen"] == second
    assert [a + b for a, b in zip(first, second, strict=True)] == alone["seen"]


def test_one_rank_alone_tells_what_was_watched(ranks):
    assert ranks[0]["told"].startswith("Watched 240 samples for 2 epochs")
    assert [rank["told"] for rank in ranks[1:]] == [""] * 3


@pytest.mark.parametrize("name", NAMES)
def test_the_dimension_of_a_mesh_is_found_by_its_name(ranks, name):
    assert [rank["places"][name][:2] for rank in ranks] == [(0, 2), (1, 2)] * 2
    first, second, *others = [rank["places"][name][2] for rank in ranks]
    assert others == [first, second]
    assert not set(first) & set(second)


def test_a_density_of_the_rows_of_a_group_counts_each_once(ranks):
    alone = densities()
    for rank in ranks:
        for name, (count, log_prob) in alone.items():
            for found in (rank["densities"], rank["densities of all"]):
                assert found[name][0] == pytest.approx(count) == pytest.approx(200)
                torch.testing.assert_close(found[name][1], log_prob, rtol=1e-9, atol=1e-9)


def test_another_group_is_refused_with_what_to_pass(ranks):
    for place, rank in enumerate(ranks):
        unnamed, no_data, text, outside, two = rank["errors"]
        assert "Found 2 dimensions without names. Pass the process group" in unnamed
        assert "named dp or data. Found pp, tp." in no_data
        assert text.startswith("`group` must be a process group or a DeviceMesh. Found str.")
        assert outside.startswith("`group` must hold this rank. Found a group of others.")
        assert two == "Loaders must agree on the group. Found two groups. Pass the same group to all of them."
        assert rank["ranks"] == (place // 2, 2)


def test_without_a_process_group_there_is_none_to_pass():
    sub = Subsampler(4, Threshold(0.2), Schedule(3))
    with pytest.raises(fallow.InvalidType, match="`group` must be a process group or a DeviceMesh"):
        sub.loader(range(4), 2, group=3)
