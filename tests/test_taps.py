"""Where activations come from: layers found in order, pooled to a row, without a trace in training."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from fallow.activations.taps import Taps, chosen_layers, pooled
from fallow.errors import InvalidValue, WrongState
from fallow.models.resnet import ResNet9
from fallow.models.small_conv import SmallConvNet
from fallow.models.small_resnet import SmallResNet


@pytest.mark.parametrize(
    ("shape", "width"),
    [((5, 7), 7), ((5, 9, 16), 16), ((5, 8, 12, 12), 128), ((5, 64, 4, 4), 256), ((5, 512, 7, 7), 512),
     ((5, 2048, 7, 7), 2048), ((5, 4, 6, 6, 6), 256), ((5, 8, 2, 1), 16), ((5, 32, 7, 7), 128)],
)  # fmt: skip
def test_a_row_a_sample(shape, width):
    x = torch.randn(shape, requires_grad=True)
    rows = pooled(x)
    assert rows.shape == (5, width)
    assert not rows.requires_grad
    places = x.detach().flatten(2).mean(2) if len(shape) > 3 else x.detach()
    if len(shape) == 3:
        torch.testing.assert_close(rows, x.detach().mean(1))
    elif len(shape) > 3:
        means = rows.view(5, shape[1], -1)
        if all(side % 4 == 0 for side in shape[2:]):  # squares of one size
            torch.testing.assert_close(means.mean(2), places)
        if len(shape) == 4:  # torch's own way, which is slower
            side = round(means.shape[2] ** 0.5) if min(shape[2:]) > 1 else shape[2:]
            want = nn.functional.adaptive_avg_pool2d(x.detach(), side)
            torch.testing.assert_close(means, want.flatten(2))


def test_channels_are_where_a_layer_has_them():
    sequence = nn.Sequential(nn.Conv1d(3, 7, 3), nn.Conv1d(7, 5, 3))
    taps = Taps(sequence)
    sequence(torch.randn(4, 3, 30))
    assert [len(row[0]) for row in taps.take(4)] == [7]
    last = nn.Sequential(nn.Linear(3, 6), nn.Linear(6, 9))
    taps = Taps(last)
    last(torch.randn(4, 8, 8, 3))
    assert [len(row[0]) for row in taps.take(4)] == [6]


def test_a_row_is_not_changed_by_what_is_done_in_place_later():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True))
    taps = Taps(net, "0")
    net(torch.randn(50, 4))
    assert taps.take(50)[0].min() < 0


def test_a_layer_without_a_tensor_is_told():
    class Dicts(nn.Module):
        def forward(self, x):
            return {"x": x}

    net = nn.Sequential(Dicts())
    Taps(net, "0")
    with pytest.raises(InvalidValue, match="must return a tensor"):
        net(torch.zeros(2, 2))


def test_tokens_that_do_not_count_are_left_out():
    x = torch.randn(3, 5, 4)
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    rows = pooled(x, mask)
    torch.testing.assert_close(rows[0], x[0, :2].mean(0))
    torch.testing.assert_close(rows[1], x[1].mean(0))
    assert torch.equal(rows[2], torch.zeros(4))


class TestParts:
    """A batch that passes in parts leaves the rows of the batch."""

    PARTS = torch.tensor([3, 0]), torch.tensor([1, 4, 2])

    def net(self):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))

    def test_rows_are_where_the_batch_has_them(self):
        net, x = self.net(), torch.randn(5, 7, 4)
        mask = torch.arange(7) < torch.tensor([2, 7, 5, 1, 6])[:, None]
        taps = Taps(net, ["0", "1"])
        taps.expect(mask)
        net(x)
        want = taps.take(5)
        taps.expect(mask, list(self.PARTS))
        for part in self.PARTS:
            net(x[part, : int(mask[part].sum(1).max())])
        for ours, theirs in zip(taps.take(5), want, strict=True):
            torch.testing.assert_close(ours, theirs)

    def test_what_backward_passes_again_leaves_what_it_left(self):
        net, x = self.net(), torch.randn(5, 4)
        taps = Taps(net, ["0"])
        taps.expect(None, list(self.PARTS))
        found = [checkpoint(net, x[part], use_reentrant=False) for part in self.PARTS]
        torch.cat(found).sum().backward()  # the last part first
        torch.testing.assert_close(taps.take(5)[0], net[0](x).detach())

    def test_a_batch_that_went_wrong_leaves_nothing_for_the_next(self):
        net, x = self.net(), torch.randn(5, 4)
        taps = Taps(net, ["0"])
        taps.expect(None, list(self.PARTS))
        net(x[self.PARTS[0]])  # and no more
        taps.expect(None, list(self.PARTS))
        for part in self.PARTS:
            net(x[part])
        torch.testing.assert_close(taps.take(5)[0], net[0](x).detach())
        taps.expect()
        net(x[:2])
        assert len(taps.take(2)[0]) == 2


def test_halves_of_a_float_are_read_before_they_are_added():
    x = torch.full((2, 4096, 1), 3.0, dtype=torch.bfloat16)
    assert torch.equal(pooled(x), torch.full((2, 1), 3.0))


def test_other_shapes_are_refused():
    with pytest.raises(InvalidValue, match=r"Found \(3,\)"):
        pooled(torch.zeros(3))


@pytest.mark.parametrize(
    ("network", "names"),
    [
        (SmallConvNet(1, 28, 10), ["convolutions.4", "head.1"]),
        (SmallResNet(3, 32, 10), None),
        (ResNet9(3, 32, 10), None),
        (nn.Linear(4, 2), [""]),
    ],
)
def test_layers_from_a_quarter_of_the_way_to_the_last(network, names):
    taps = Taps(network)
    channels, size = {nn.Linear: (4, None)}.get(type(network), (1 if names else 3, 28 if names else 32))
    x = torch.randn(6, channels) if size is None else torch.randn(6, channels, size, size)
    network.train()(x)
    rows = taps.take(6)
    assert taps.names == (names or taps.names)
    assert len(taps.names) == len(rows) == (1 if names == [""] else 2)
    assert all(len(row) == 6 and row.dim() == 2 for row in rows)
    assert len(taps._hooks) == len(rows), "the other layers cost nothing from now on"


def test_chosen_layers_are_different_and_in_order():
    for length in range(1, 60):
        names = chosen_layers([str(i) for i in range(length)])
        assert 1 <= len(names) <= 2
        assert names == sorted(set(names), key=int)
        assert length == 1 or "0" not in names, "the first layer sees the sample itself"


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def test_named_layers_give_their_output():
    net = network()
    taps = Taps(net, ["1", "2"])
    x = torch.randn(5, 4)
    out = net(x)
    hidden, last = taps.take(5)
    torch.testing.assert_close(last, out.detach())
    torch.testing.assert_close(hidden, net[1](net[0](x)).detach())


def test_wrong_layers_and_wrong_moments():
    with pytest.raises(InvalidValue, match=r"Unknown layer\. Found 'heat'"):
        Taps(nn.ModuleDict({"head": nn.Linear(2, 2)}), "heat")
    with pytest.raises(InvalidValue, match="must name a layer"):
        Taps(network(), [])
    with pytest.raises(InvalidValue, match="needs linear or convolutional layers"):
        Taps(nn.ReLU())
    taps = Taps(network())
    with pytest.raises(WrongState, match="No forward pass"):
        taps.take(5)
    taps.model(torch.zeros(4, 4))
    with pytest.raises(InvalidValue, match=r"The layer .* must see 5 samples\. Found 4"):
        taps.take(5)


def test_an_evaluation_leaves_no_trace():
    net = network()
    taps = Taps(net, "1")
    x = torch.randn(5, 4)
    net.train()(x)
    net.eval()(torch.randn(9, 4))
    net.train()
    torch.testing.assert_close(taps.take(5)[0], net[1](net[0](x)).detach())
    taps.in_evaluation = True
    net.eval()(torch.randn(9, 4))
    assert len(taps.take(9)[0]) == 9


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_layer_that_is_computed_again_in_backward_counts_once(reentrant):
    net = network()
    taps = Taps(net, "1")
    x = torch.randn(5, 4, requires_grad=True)
    out = checkpoint(net, x, use_reentrant=reentrant)
    before = taps.take(5)[0]
    out.sum().backward()
    net(torch.ones(3, 4))
    assert len(taps.take(3)[0]) == 3
    assert before.shape == (5, 8)


def test_a_forward_pass_that_fails_is_forgotten():
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x, *, fails=False):
            hidden = self.first(x)
            if fails:
                raise ValueError("no")
            return self.last(hidden)

    net = Failing()
    taps = Taps(net)
    net(torch.zeros(3, 4))
    taps.take(3)
    with pytest.raises(ValueError, match="no"):
        net(torch.ones(7, 4), fails=True)
    net(torch.ones(3, 4))
    assert len(taps.take(3)[0]) == 3


def test_compiled_networks_are_looked_at():
    net = network()
    taps = Taps(net, "1")
    compiled = torch.compile(net, backend="eager")
    x = torch.randn(6, 4)
    compiled(x)
    torch.testing.assert_close(taps.take(6)[0], net[1](net[0](x)).detach())
    assert Taps(compiled, "1").model is net


def test_under_autocast_rows_are_whole_floats():
    net = network()
    taps = Taps(net, "1")
    with torch.autocast("cpu", torch.bfloat16):
        net(torch.randn(4, 4))
    assert taps.take(4)[0].dtype == torch.float32


def test_hooks_go_when_they_are_told_to():
    net = network()
    taps = Taps(net)
    taps.remove()
    net(torch.zeros(2, 4))
    with pytest.raises(WrongState):
        taps.take(2)
