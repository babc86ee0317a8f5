"""ProGAN's networks: growing, cutting, the minibatch deviation; and the published layout with what it refuses."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.layers.minibatch import minibatch_deviation
from pixgraft.layers.resample import average_pool, enlarge
from pixgraft.layouts import from_state_dicts
from pixgraft.networks.progan import Discriminator, Generator, stage_widths

Z_DIM = 12


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generator(size: int = 32) -> Generator:
    torch.manual_seed(0)
    network = Generator(image_size=size, z_dim=Z_DIM, base_channels=128, max_channels=10).double()
    vary_biases(network)
    return network


def discriminator(size: int = 32) -> Discriminator:
    torch.manual_seed(1)
    network = Discriminator(image_size=size, base_channels=128, max_channels=10).double()
    vary_biases(network)
    return network


def vary_biases(network: nn.Module) -> None:
    """Biases start from zero; trained ones are not."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)


# --- sizes ---


def test_the_published_widths() -> None:
    assert stage_widths(1024, 2**14, 512) == [512, 512, 512, 512, 256, 128, 64, 32, 16]
    assert stage_widths(4, 2**14, 512) == [512]


def test_the_published_networks_have_the_published_size() -> None:
    """23.1 million trained parameters each (Table 2)."""
    with torch.device("meta"):
        networks = Generator(image_size=1024), Discriminator(image_size=1024)
    counts = [
        sum(p.numel() for name, p in network.named_parameters() if not name.startswith(("to_rgb", "from_rgb")))
        for network in networks
    ]
    assert [round(count / 1e6, 1) for count in counts] == [23.1, 23.1]


@pytest.mark.parametrize("size", [4, 8, 16, 64])
def test_every_size_gives_images_and_logits(size: int) -> None:
    images = generator(size)(noise(3, Z_DIM))
    assert images.shape == (3, 3, size, size)
    assert discriminator(size)(images).shape == (3, 1)


@pytest.mark.parametrize("size", [0, 2, 48, 2048])
def test_other_sizes_are_refused(size: int) -> None:
    for build in (Generator, Discriminator):
        with pytest.raises(PixgraftError, match=f"image size of {size}: "):
            build(image_size=size)
    with pytest.raises(PixgraftError, match=f"side of {size}: choose a power of two from 4 to 32"):
        generator()(noise(1, Z_DIM), resolution=size)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(PixgraftError, match="side of 64: "):
        discriminator()(noise(2, 3, 64, 64))


def test_too_few_channels_are_refused() -> None:
    with pytest.raises(PixgraftError, match="base_channels of 32: choose 64"):
        Generator(image_size=64, base_channels=32)


# --- growing ---


@pytest.mark.parametrize("resolution", [4, 8, 32])
def test_a_stage_of_the_generator_fades_in(resolution: int) -> None:
    network, z = generator(), noise(2, Z_DIM)
    old, new, half = (network(z, resolution=resolution, alpha=alpha) for alpha in (0.0, 1.0, 0.5))
    assert new.shape == (2, 3, resolution, resolution)
    if resolution == 4:
        assert torch.equal(old, new)
        return
    torch.testing.assert_close(old, enlarge(network(z, resolution=resolution // 2), 2))
    assert (old - new).abs().max() > 0.01
    torch.testing.assert_close(half, (old + new) / 2)


@pytest.mark.parametrize("resolution", [8, 32])
def test_a_stage_of_the_discriminator_fades_in(resolution: int) -> None:
    network, images = discriminator(), noise(4, 3, resolution, resolution)
    old, new, half = (network(images, alpha=alpha) for alpha in (0.0, 1.0, 0.5))
    torch.testing.assert_close(old, network(average_pool(images, resolution // 2)))
    assert (old - new).abs().max() > 1e-3
    assert (old - half).abs().max() > 1e-3 and (new - half).abs().max() > 1e-3


def test_a_stage_that_fades_in_is_mixed_before_the_rest() -> None:
    """Half of the new block's features and half of the shrunk images', not half of two logits."""
    network, images = discriminator(8), noise(4, 3, 8, 8)
    new = F.leaky_relu(network.from_rgb[1](images), 0.2)
    for name in ("conv1", "conv2"):
        new = F.leaky_relu(network.blocks[0].get_submodule(name)(new), 0.2)
    new = average_pool(new, 4)
    old = F.leaky_relu(network.from_rgb[0](average_pool(images, 4)), 0.2)
    h = minibatch_deviation(0.75 * old + 0.25 * new)
    h = F.leaky_relu(network.final(F.leaky_relu(network.joint(h), 0.2)), 0.2)
    torch.testing.assert_close(network(images, alpha=0.25), network.to_logit(h.flatten(1)))


def test_only_the_stages_in_use_are_trained() -> None:
    network, critic, z = generator(), discriminator(), noise(2, Z_DIM)
    critic(network(z, resolution=8)).sum().backward()
    reached = {name.rpartition(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert reached == {"layers.0", "layers.1", "layers.2", "layers.3", "to_rgb.1"}
    reached = {name.rpartition(".")[0] for name, p in critic.named_parameters() if p.grad is not None}
    assert reached == {"from_rgb.1", "blocks.0.conv1", "blocks.0.conv2", "joint", "final", "to_logit"}


def test_the_scale_of_a_code_does_not_matter() -> None:
    network, z = generator(), noise(2, Z_DIM)
    torch.testing.assert_close(network(3 * z), network(z), rtol=1e-6, atol=1e-6)


def test_the_generator_is_the_plain_formulas() -> None:
    network, z = generator(8), noise(2, Z_DIM)

    def normalised(x: Tensor) -> Tensor:
        return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()

    weights, biases = [], []
    for layer in (*network.layers, network.to_rgb[1]):
        weight = layer.get_parameter("weight")
        weights.append(weight * (2 / weight[0].numel()) ** 0.5)
        biases.append(layer.get_parameter("bias").view(-1, 1, 1))
    # A code's 4x4 features are a dense layer's: the convolution meets the one pixel with its weights turned around.
    h = torch.einsum("nz,czij->ncij", normalised(z), weights[0].flip(2, 3)) + biases[0]
    h = normalised(F.leaky_relu(h, 0.2))
    h = normalised(F.leaky_relu(F.conv2d(h, weights[1], padding=1) + biases[1], 0.2))
    h = normalised(F.leaky_relu(F.conv2d(enlarge(h, 2), weights[2], padding=1) + biases[2], 0.2))
    h = normalised(F.leaky_relu(F.conv2d(h, weights[3], padding=1) + biases[3], 0.2))
    expected = F.conv2d(h, weights[4] / 2**0.5) + biases[4]  # a gain of 1 where nothing is cut off
    torch.testing.assert_close(network(z), expected)


def test_images_are_float32_under_autocast() -> None:
    network, z = generator(16).float(), noise(2, Z_DIM).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert network(z, alpha=0.5).dtype == torch.float32
        assert discriminator(16).float()(network(z)).isfinite().all()


# --- cutting ---


@pytest.mark.parametrize("layers", range(9))
def test_the_generator_can_be_cut_after_any_layer(layers: int) -> None:
    network, z = generator(), noise(2, Z_DIM)
    features = network.features(z, layers=layers)
    side = 4 << (layers - 1) // 2 if layers else 1
    assert features.shape[2:] == (side, side)
    torch.testing.assert_close(network.from_features(features, layers=layers), network(z))


@pytest.mark.parametrize("layers", [-1, 9])
def test_a_cut_outside_is_refused(layers: int) -> None:
    with pytest.raises(PixgraftError, match="there are 8"):
        generator().features(noise(1, Z_DIM), layers=layers)
    with pytest.raises(PixgraftError, match="there are 8"):
        generator().from_features(noise(1, 10, 4, 4), layers=layers)


# --- the minibatch deviation ---


@pytest.mark.parametrize(("count", "members"), [(8, 4), (4, 4), (6, 3), (5, 1), (3, 3), (2, 2), (1, 1)])
def test_the_minibatch_deviation_is_the_plain_formula(count: int, members: int) -> None:
    x = noise(count, 5, 4, 3)
    out = minibatch_deviation(x)
    assert torch.equal(out[:, :5], x) and out.shape == (count, 6, 4, 3)
    for index in range(count):
        beside = x[index % (count // members) :: count // members]
        assert len(beside) == members
        expected = (beside.var(0, correction=0) + 1e-8).sqrt().mean()
        torch.testing.assert_close(out[index, 5], expected.expand(4, 3))


def test_the_minibatch_deviation_has_gradients_of_both_orders() -> None:
    x = noise(4, 2, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(minibatch_deviation, (x,))
    assert torch.autograd.gradgradcheck(minibatch_deviation, (x,))
    same = torch.zeros(4, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(minibatch_deviation(same).sum(), same)
    assert gradient.isfinite().all()


def test_a_generator_that_repeats_itself_is_seen() -> None:
    """Logits of the same image, once beside others and once beside its copies."""
    network, images = discriminator(), noise(4, 3, 32, 32)
    assert (network(images)[0] - network(images[:1].repeat(4, 1, 1, 1))[0]).abs() > 1e-3


# --- the published layout ---


def published(network: Generator, *, later: bool = False) -> dict[str, Tensor]:
    """Our generator's tensors under genforce/mganprior's names, or under those of genforce's later files."""
    tensors = {"lod": torch.zeros(())}
    for name, tensor in network.state_dict().items():
        kind, index, leaf = name.split(".")
        inner = "" if later else {"weight": "conv.", "bias": "wscale."}[leaf]
        tensors[f"{'layer' if kind == 'layers' else 'output'}{index}.{inner}{leaf}"] = tensor
    return tensors


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(("size", "base", "most"), [(4, 64, 6), (16, 32, 64), (16, 128, 10), (32, 1024, 5)])
def test_a_published_generator_is_read(size: int, base: int, most: int, later: bool) -> None:
    """Sizes and widths are read off the tensors."""
    torch.manual_seed(0)
    network = Generator(image_size=size, z_dim=Z_DIM, base_channels=base, max_channels=most)
    groups = {"generator": published(network, later=later), "generator_smooth": published(network), "optimizer": {}}
    read = from_state_dicts("progan-genforce", groups)
    assert read.keys() == {"generator", "generator_smooth"}
    z = noise(2, Z_DIM).float()
    for found in read.values():
        assert not found.training
        assert torch.equal(found(z), network(z))


def test_what_is_no_published_generator_is_refused() -> None:
    whole = published(generator(16).float())

    def refused(match: str, **changed: Tensor | None) -> None:
        tensors = copy.copy(whole)
        for name, tensor in changed.items():
            name = name.replace("__", ".")
            del tensors[name]
            if tensor is not None:
                tensors[name] = tensor
        with pytest.raises(PixgraftError, match=match):
            from_state_dicts("progan-genforce", {"generator": tensors})

    refused("lacks layers.3.bias", layer3__wscale__bias=None)
    refused("first or last layer is missing", layer0__conv__weight=None)
    refused("first or last layer is missing", layer5__conv__weight=None)
    refused("first or last layer is missing", layer0__conv__weight=torch.zeros(3))
    refused("layer2.conv.weight is ", layer2__conv__weight=torch.zeros(10, 10, 1, 1))
    refused("lod is 2, so it is not grown yet", lod=torch.tensor(2.0))
    with pytest.raises(PixgraftError, match="none of the groups generator, generator_smooth"):
        from_state_dicts("progan-genforce", {"g_ema": whole})
