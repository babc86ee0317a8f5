"""The networks of OME: trunk, pyramid, code heads, fusion, and the joining of condition and image."""

from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.layers.conditions import Condition, condition_channels, joined
from pixgraft.networks.ome import DynamicFusion, Encoder, Order, Pyramid, code_head, codes_per_scale, static_fusion
from pixgraft.networks.resnet import ResNet

Depth = Literal[34, 50]

DIM = 10


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def encoder(**changes: Any) -> Encoder:
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "in_channels": 5,
        "image_size": 32,
        "codes": 8,
        "code_dim": DIM,
        "depth": 34,
        "base_channels": 4,
        "small_stem": True,
        "width": 6,
    }
    return Encoder(**(options | changes))


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def depths(network: Encoder) -> list[int]:
    """The convolutions of each code's network."""
    return [sum(isinstance(module, nn.Conv2d) for module in head.modules()) for head in network.heads]


# --- the trunk ---


@pytest.mark.parametrize(("depth", "parameters", "fc"), [(34, 21_797_672, 513_000), (50, 25_557_032, 2_049_000)])
def test_a_trunk_has_the_published_parameters(depth: Depth, parameters: int, fc: int) -> None:
    with torch.device("meta"):
        assert size(ResNet(depth=depth)) == parameters - fc


@pytest.mark.parametrize(("depth", "tensors", "convolutions"), [(34, 218, 2), (50, 320, 3)])
def test_a_trunk_has_the_published_names(depth: Depth, tensors: int, convolutions: int) -> None:
    with torch.device("meta"):
        names = ResNet(depth=depth).state_dict().keys()
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"conv1.weight", *(f"bn1.{leaf}" for leaf in norm)}
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            prefix = f"layer{stage}.{block}"
            for index in range(1, convolutions + 1):
                expected |= {f"{prefix}.conv{index}.weight", *(f"{prefix}.bn{index}.{leaf}" for leaf in norm)}
            if block == 0 and (stage > 1 or depth == 50):
                expected |= {f"{prefix}.downsample.0.weight", *(f"{prefix}.downsample.1.{leaf}" for leaf in norm)}
    assert names == expected
    assert len(names) == tensors - 2  # fc.weight and fc.bias


@pytest.mark.parametrize("depth", [34, 50])
@pytest.mark.parametrize(("small_stem", "strides"), [(False, (4, 8, 16, 32)), (True, (1, 2, 4, 8))])
def test_a_trunk_gives_four_maps(depth: Depth, small_stem: bool, strides: tuple[int, ...]) -> None:
    trunk = ResNet(depth=depth, in_channels=7, base_channels=2, small_stem=small_stem)
    wider = 1 if depth == 34 else 4
    assert trunk.channels == (2 * wider, 4 * wider, 8 * wider, 16 * wider)
    assert trunk.strides == strides
    maps = trunk(noise(2, 7, 64, 64))
    assert [each.shape for each in maps] == [
        (2, channels, 64 // stride, 64 // stride) for channels, stride in zip(trunk.channels, strides, strict=True)
    ]


@pytest.mark.parametrize(("depth", "strided"), [(34, "conv1"), (50, "conv2")])
def test_a_block_is_the_plain_formula(depth: Depth, strided: str) -> None:
    """The first block of the second stage, from its tensors; the statistics are those of a new network: 0 and 1."""
    trunk = ResNet(depth=depth, base_channels=2).eval()
    block, x = trunk.layer2[0], noise(2, trunk.channels[0], 8, 8)
    unit = (1 + 1e-5) ** -0.5  # batch normalisation with a variance of 1
    last = "conv2" if depth == 34 else "conv3"
    h = x
    for name in ("conv1", "conv2", "conv3")[: 2 if depth == 34 else 3]:
        weight = block.get_parameter(f"{name}.weight")
        h = F.conv2d(h, weight, stride=2 if name == strided else 1, padding=weight.shape[-1] // 2) * unit
        h = h if name == last else h.relu()
    shortcut = F.conv2d(x, block.get_parameter("downsample.0.weight"), stride=2) * unit
    torch.testing.assert_close(block(x), (h + shortcut).relu())


# --- the pyramid and the codes ---


def test_a_pyramid_adds_what_is_coarser() -> None:
    pyramid = Pyramid((3, 5, 7), 4)
    maps = [noise(2, 3, 8, 8), noise(2, 5, 4, 4), noise(2, 7, 2, 2)]
    plain = pyramid(maps)
    assert [each.shape for each in plain] == [(2, 4, 8, 8), (2, 4, 4, 4), (2, 4, 2, 2)]
    middle = pyramid.lateral[1](maps[1]) + F.interpolate(pyramid.lateral[2](maps[2]), scale_factor=2, mode="nearest")
    torch.testing.assert_close(plain[1], pyramid.smooth[1](middle))
    fine = pyramid.lateral[0](maps[0]) + F.interpolate(middle, scale_factor=2, mode="nearest")
    torch.testing.assert_close(plain[0], pyramid.smooth[0](fine))
    torch.testing.assert_close(plain[2], pyramid.smooth[2](pyramid.lateral[2](maps[2])))


@pytest.mark.parametrize("side", [2, 8, 32])
def test_a_head_halves_down_to_one_pixel(side: int) -> None:
    head, x = code_head(6, side, DIM), noise(3, 6, side, side)
    code = head(x)
    for conv in (layer for layer in head.convs if isinstance(layer, nn.Conv2d)):
        x = F.leaky_relu(F.conv2d(x, conv.weight, stride=2, padding=1), 0.01)
    assert x.shape == (3, DIM, 1, 1)
    torch.testing.assert_close(code, x.flatten(1) @ head.linear.weight.T / DIM**0.5)  # biases start from zero


@pytest.mark.parametrize(
    ("codes", "order", "expected"),
    [
        (18, "styles", (3, 4, 11)),
        (10, "styles", (3, 4, 3)),
        (8, "styles", (3, 4, 1)),
        (6, "styles", (3, 2, 1)),
        (4, "styles", (2, 1, 1)),
        (3, "styles", (1, 1, 1)),
        (20, "even", (7, 7, 6)),
        (4, "even", (2, 1, 1)),
        (3, "even", (1, 1, 1)),
    ],
)
def test_each_scale_has_its_codes(codes: int, order: Order, expected: tuple[int, int, int]) -> None:
    assert codes_per_scale(codes, order) == expected
    made = encoder(codes=codes, order=order)
    assert tuple(made.scales.count(scale) for scale in range(3)) == expected
    assert list(made.scales) == sorted(made.scales)
    # Side 4 is the coarsest: 2 convolutions, then 3 and 4.
    assert depths(made) == [2 + scale for scale in made.scales]


def test_the_paper_sizes() -> None:
    """18 styles at 256, as for StyleGAN2 at 1024 and faces; 20 codes for ProGAN and scenes."""
    with torch.device("meta"):
        faces = Encoder(in_channels=6, codes=18)
        scenes = Encoder(in_channels=6, codes=20, order="even", depth=34)
        single = Encoder(in_channels=6, codes=20, depth=34, many_codes=False, many_scales=False)
    assert depths(faces) == [3] * 3 + [4] * 4 + [5] * 11
    assert len(scenes.heads) == 20
    assert len(single.heads) == 1
    # From the formula of each part, the trunk's published count with 3 more channels in: 7 x 7 x 64 x 3.
    trunk = 25_557_032 - 2_049_000 + 7 * 7 * 64 * 3
    pyramid = (512 + 1024 + 2048) * 256 + 3 * 256 + 3 * (256 * 256 * 9 + 256)
    first, more, linear = 256 * 512 * 9 + 512, 512 * 512 * 9 + 512, 512 * 512 + 512
    assert size(faces) == trunk + pyramid + 18 * (first + linear) + (3 * 2 + 4 * 3 + 11 * 4) * more


@pytest.mark.parametrize("many_scales", [True, False])
@pytest.mark.parametrize("depth", [34, 50])
def test_codes_come_out(many_scales: bool, depth: Depth) -> None:
    codes = encoder(many_scales=many_scales, depth=depth)(noise(2, 5, 32, 32))
    assert codes.shape == (2, 8, DIM)
    assert len({tuple(code.tolist()) for code in codes[0]}) == 8


def test_heads_may_be_narrower_than_codes() -> None:
    head = code_head(6, 4, DIM, channels=3)
    assert [each.shape[0] for each in head.state_dict().values()] == [3, 3, 3, 3, DIM, DIM]
    assert head(noise(2, 6, 4, 4)).shape == (2, DIM)


def test_one_code_is_repeated() -> None:
    codes = encoder(many_codes=False, many_scales=False)(noise(2, 5, 32, 32))
    assert codes.shape == (2, 8, DIM)
    assert torch.equal(codes, codes[:, :1].expand(2, 8, DIM))
    assert not torch.equal(codes[0], codes[1])


def test_a_code_follows_its_own_scale() -> None:
    """What the coarse map holds reaches every code by the pyramid, what the finest holds only the fine codes."""
    network = encoder()
    assert network.pyramid is not None
    reached = {}
    for level, lateral in enumerate(network.pyramid.lateral):
        weight = lateral.get_parameter("weight")
        gradients = torch.autograd.grad(
            network(noise(2, 5, 32, 32)).sum((0, 2)), weight, torch.eye(8), is_grads_batched=True
        )[0]
        reached[level] = gradients.flatten(1).abs().amax(1) > 0
    scales = torch.tensor(network.scales)
    assert torch.equal(reached[2], scales >= 0)
    assert torch.equal(reached[1], scales >= 1)
    assert torch.equal(reached[0], scales >= 2)


@pytest.mark.parametrize("many_codes", [True, False])
def test_the_first_offsets_are_small(many_codes: bool) -> None:
    codes = encoder(depth=50, base_channels=8, many_codes=many_codes, many_scales=many_codes)(noise(4, 5, 32, 32))
    assert 1e-5 < codes.detach().std() < 0.1


def test_codes_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder()(noise(2, 5, 32, 32)).dtype == torch.float32


# --- what is switched off is not there ---


@pytest.mark.parametrize(
    ("many_codes", "many_scales", "heads", "pyramid"),
    [(True, True, 8, True), (True, False, 8, False), (False, False, 1, False)],
)
@pytest.mark.parametrize("depth", [34, 50])
def test_every_parameter_there_is_learns(
    many_codes: bool, many_scales: bool, heads: int, pyramid: bool, depth: Depth
) -> None:
    network = encoder(many_codes=many_codes, many_scales=many_scales, depth=depth)
    assert {int(name.split(".")[1]) for name in network.state_dict() if name.startswith("heads.")} == {*range(heads)}
    assert any(name.startswith("pyramid.") for name in network.state_dict()) == pyramid
    codes = network(noise(4, 5, 32, 32))
    (codes * noise(*codes.shape, seed=1)).sum().backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_many_scales_are_none_of_one_code() -> None:
    with pytest.raises(PixgraftError, match="switch both off"):
        encoder(many_codes=False)
    with pytest.raises(PixgraftError, match="codes is 2: three scales"):
        encoder(codes=2)
    with pytest.raises(PixgraftError, match="codes is 0"):
        encoder(codes=0, many_scales=False)


@pytest.mark.parametrize(("side", "small_stem", "match"), [(32, False, "64, or a small_stem"), (8, True, "from 16")])
def test_an_image_too_small_is_refused(side: int, small_stem: bool, match: str) -> None:
    with pytest.raises(PixgraftError, match=match):
        encoder(image_size=side, small_stem=small_stem)
    with pytest.raises(PixgraftError, match="image_size is 96"):
        encoder(image_size=96)


def test_the_smallest_image_trains_alone() -> None:
    """With 2 pixels a side batch normalisation can measure a single image."""
    assert encoder(image_size=16)(noise(1, 5, 16, 16)).isfinite().all()
    assert encoder(image_size=64, small_stem=False)(noise(1, 5, 64, 64)).isfinite().all()


@pytest.mark.parametrize("shape", [(2, 4, 32, 32), (2, 5, 16, 16), (5, 32, 32)])
def test_another_input_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PixgraftError, match=r"\(5, 32, 32\) is expected"):
        encoder()(noise(*shape))


# --- fusion ---


def test_fusion_is_the_plain_formulas() -> None:
    fusion, features = DynamicFusion(16), noise(2, 5, 16, 4, 4)
    w0, w1 = fusion.get_parameter("fc0.weight"), fusion.get_parameter("fc1.weight")
    assert w0.shape == (2, 16) and w1.shape == (16, 2)  # reduced by 8
    assert size(fusion) == 2 * 32
    beta = torch.empty(2, 5, 16)
    expected = torch.zeros(2, 16, 4, 4)
    for n in range(2):
        alpha = torch.stack([torch.sigmoid(w1 @ torch.relu(w0 @ features[n, m].mean((1, 2)))) for m in range(5)])
        beta[n] = alpha.exp() / alpha.exp().sum(0)
        expected[n] = sum(features[n, m] * beta[n, m, :, None, None] for m in range(5))
    torch.testing.assert_close(fusion.weights(features), beta)
    torch.testing.assert_close(fusion(features), expected)


def test_fusion_weights_sum_to_one_over_the_codes() -> None:
    fusion = DynamicFusion(16)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.mul_(50)  # far apart, so that no weight is 1 / M by chance
    weights = fusion.weights(noise(3, 6, 16, 4, 4))
    assert weights.shape == (3, 6, 16)
    torch.testing.assert_close(weights.sum(1), torch.ones(3, 16))
    assert weights.std(1).max() > 0.02
    assert (weights.amax(1) / weights.amin(1)).max() < torch.e + 1e-4


def test_fusion_depends_on_no_order_and_keeps_what_is_equal() -> None:
    fusion, features = DynamicFusion(16), noise(2, 5, 16, 4, 4)
    torch.testing.assert_close(fusion(features.flip(1)), fusion(features))
    torch.testing.assert_close(fusion(features[:, :1].expand(2, 5, 16, 4, 4)), features[:, 0])
    fusion(features).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in fusion.parameters())


def test_static_fusion_is_the_mean() -> None:
    features = noise(2, 5, 16, 4, 4)
    expected = (features[:, 0] + features[:, 1] + features[:, 2] + features[:, 3] + features[:, 4]) / 5
    torch.testing.assert_close(static_fusion(features), expected)
    fusion = DynamicFusion(16)
    nn.init.zeros_(fusion.get_parameter("fc1.weight"))
    torch.testing.assert_close(fusion(features), expected)


def test_fusion_refuses_other_channels() -> None:
    with pytest.raises(PixgraftError, match=r"\(2, 5, 8, 4, 4\) where \(N, M, 16, H, W\)"):
        DynamicFusion(16)(noise(2, 5, 8, 4, 4))


# --- condition and image side by side ---


def stored(*shape: int, below: int = 256) -> Tensor:
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_a_label_map_and_an_image() -> None:
    labels, image = stored(2, 1, 8, 8, below=5), noise(2, 3, 8, 8)
    both = joined(labels, image, kind="labels", classes=5)
    assert both.shape == (2, condition_channels("labels", 5) + 3, 8, 8)
    torch.testing.assert_close(both[:, :5], F.one_hot(labels[:, 0].long(), 5).permute(0, 3, 1, 2).float())
    assert torch.equal(both[:, 5:], image)


@pytest.mark.parametrize(("kind", "channels"), [("sketch", 1), ("image", 3), ("lr", 3)])
def test_a_picture_and_an_image(kind: Condition, channels: int) -> None:
    levels, image = stored(2, channels, 8, 8), noise(2, 3, 8, 8).double()
    both = joined(levels, image, kind=kind)
    assert both.shape == (2, condition_channels(kind) + 3, 8, 8) and both.dtype == torch.float64
    torch.testing.assert_close(both[:, :channels], levels.double() / 127.5 - 1)
    assert torch.equal(both[:, channels:], image)


def test_the_image_takes_the_size_of_the_condition() -> None:
    condition = stored(2, 1, 8, 8)
    large = noise(2, 3, 32, 32)
    cells = large.reshape(2, 3, 8, 4, 8, 4).mean((3, 5))
    torch.testing.assert_close(joined(condition, large, kind="sketch")[:, 1:], cells)
    for side in (4, 12):
        ramp = torch.linspace(-1, 1, side).expand(2, 3, side, side)
        found = joined(condition, ramp, kind="sketch")[:, 1:]
        assert found.shape == (2, 3, 8, 8)
        assert (found.diff(dim=-1) >= 0).all() and found.diff(dim=-2).abs().max() < 1e-5
        assert found.mean().abs() < 1e-6


def test_the_gradient_reaches_the_image() -> None:
    image = noise(1, 3, 16, 16).requires_grad_()
    joined(stored(1, 1, 8, 8), image, kind="sketch").sum().backward()
    assert image.grad is not None and image.grad.all()


@pytest.mark.parametrize(
    ("kind", "channels", "expected"),
    [("labels", 3, 1), ("labels", 5, 1), ("sketch", 3, 1), ("image", 1, 3), ("lr", 1, 3), ("image", 4, 3)],
)
def test_a_condition_of_other_channels_is_refused(kind: Condition, channels: int, expected: int) -> None:
    with pytest.raises(PixgraftError, match=rf"{channels} channels?, but one of kind {kind} has {expected}\b"):
        joined(stored(2, channels, 8, 8, below=5), noise(2, 3, 8, 8), kind=kind, classes=5)


def test_what_is_no_condition_or_no_image_is_refused() -> None:
    condition, image = stored(2, 1, 8, 8), noise(2, 3, 8, 8)
    with pytest.raises(PixgraftError, match=r"torch.float32, not torch.uint8"):
        joined(noise(2, 1, 8, 8), image, kind="sketch")
    with pytest.raises(PixgraftError, match=r"shape \(2, 8, 8\), but one of kind sketch has 1"):
        joined(condition[:, 0], image, kind="sketch")
    with pytest.raises(PixgraftError, match="image: 1 channels, but it has 3"):
        joined(condition, image[:, :1], kind="sketch")
    with pytest.raises(PixgraftError, match="2 conditions and 1 images"):
        joined(condition, image[:1], kind="sketch")
    with pytest.raises(PixgraftError, match=r"\(9, 32, 32\) where \(5, 32, 32\)"):
        encoder()(joined(stored(2, 1, 32, 32, below=6), noise(2, 3, 32, 32), kind="labels", classes=6))
