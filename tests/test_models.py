"""The networks we ship: shapes, sizes, a batch of one, and that they learn."""

import pytest
import torch
from torch import nn

from fallow.errors import FallowError, InvalidValue
from fallow.models import IMAGE_MODELS, ResNet9, SmallConvNet, SmallResNet, image_model

CASES = (
    [("small-conv", size) for size in (1, 5, 8, 28, 30, 96, (9, 100))]
    + [("resnet", size) for size in (8, 28, (9, 40))]
    + [("small-resnet", size) for size in (1, 8, 14, 31, 32, 96, (9, 100))]
)


@pytest.mark.parametrize(("name", "size"), CASES)
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(name, size, channels):
    height, width = (size, size) if isinstance(size, int) else size
    model = image_model(name, channels=channels, size=size, classes=7)
    images = torch.randn(2, channels, height, width)
    logits = model(images)
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", sorted(IMAGE_MODELS))
def test_batch_of_one_trains_and_leaves_finite_statistics(name):
    model = image_model(name, channels=1, size=8, classes=3)
    logits = model(torch.randn(1, 1, 8, 8))
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(buffer.isfinite().all() for buffer in model.buffers())


def test_batch_norm_agrees_with_torch():
    from fallow.models.batch_norm import BatchNorm

    for reference, shape in ((nn.BatchNorm1d(3), (5, 3)), (nn.BatchNorm2d(3), (5, 3, 2, 2))):
        ours = BatchNorm(3)
        x = torch.randn(*shape)
        assert torch.equal(ours(x), reference(x))
        assert torch.equal(ours.running_var, reference.running_var)
        before = ours.running_mean.clone()
        ours(x[:1] if x.ndim == 2 else x[:1, :, :1, :1])
        assert torch.equal(ours.running_mean, before)
        assert torch.equal(ours.eval()(x), reference.eval()(x))


@pytest.mark.parametrize(("size", "linear"), [(8, 256), (28, 1024), (32, 1024), (224, 1024)])
def test_small_conv_keeps_its_linear_layer(size, linear):
    layers = [layer for layer in SmallConvNet(3, size, 10).modules() if isinstance(layer, nn.Linear)]
    assert [layer.in_features for layer in layers] == [linear, 256]


@pytest.mark.parametrize(
    ("size", "factor"),
    [(1, 1), (8, 1), (14, 1), (28, 2), (32, 2), (64, 4), (112, 8), (224, 8), ((28, 400), 2), ((400, 28), 2)],
)
def test_small_resnet_unshuffles_to_about_16_positions_a_side(size, factor):
    assert SmallResNet(1, size, 10).factor == factor


def test_small_resnet_pads_to_whole_blocks_of_pixels():
    model = SmallResNet(1, (31, 29), 4).eval()
    images = torch.randn(2, 1, 31, 29)
    padded = torch.zeros(2, 1, 32, 30)
    padded[..., :31, :29] = images
    assert torch.equal(model(images), model(padded))


@pytest.mark.parametrize("size", [28, 32])
def test_small_resnet_is_small(size):
    """Parameters and multiplications of a forward pass, beside those of the large one."""

    def work(model):
        total = 0

        def add(module, inputs, output):
            nonlocal total
            positions = output[0].numel() / output.shape[1] if output.ndim == 4 else 1
            total += module.weight.numel() * positions

        hooks = [
            module.register_forward_hook(add)
            for module in model.modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
        ]
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, size, size))
        for hook in hooks:
            hook.remove()
        return total, sum(parameter.numel() for parameter in model.parameters())

    small, large = work(SmallResNet(3, size, 10)), work(ResNet9(3, size, 10))
    assert 60 < large[0] / small[0] < 80  # "about a seventieth"
    assert small[1] < 150_000 < large[1]


def test_padding_is_zero_at_the_right_and_bottom():
    model = SmallConvNet(1, 30, 4).eval()
    images = torch.randn(2, 1, 30, 30)
    padded = torch.zeros(2, 1, 32, 32)
    padded[..., :30, :30] = images
    assert torch.equal(model(images), model(padded))


def test_width_scales_the_parameters():
    def count(width):
        return sum(p.numel() for p in ResNet9(3, 32, 10, width=width).parameters())

    assert 6.5e6 < count(64) < 6.6e6
    assert count(32) < 0.3 * count(64)


def test_wrong_arguments():
    with pytest.raises(InvalidValue, match=r"Unknown model.*Did you mean 'small-conv'"):
        image_model("smallconv", 1, 28, 10)
    with pytest.raises(InvalidValue, match=r"at least 8 pixels.*Found 7.*small-conv"):
        image_model("resnet", 1, (7, 20), 10)
    for arguments in ((0, 28, 10), (1, 0, 10), (1, 28, 0), (1, (28, 0), 10)):
        for name in IMAGE_MODELS:
            with pytest.raises(FallowError):
                image_model(name, *arguments)
