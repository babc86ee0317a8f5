"""The feature networks: figures of the published weights, what comes with the package, and what is refused.

The reference weights are in `../shared/weights` beside the repository, or $PIXGRAFT_WEIGHTS; their images in
`../shared/data`, or $PIXGRAFT_DATA. Without these folders the tests that need them skip.
"""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import pixgraft
from pixgraft.data.images import to_tensor
from pixgraft.errors import PixgraftError
from pixgraft.layouts import from_state_dicts
from pixgraft.layouts.features import lpips_from_trunk
from pixgraft.layouts.reading import read_tensors
from pixgraft.networks.inception import InceptionV3
from pixgraft.networks.inputs import resized
from pixgraft.networks.irse import IRSE50
from pixgraft.networks.lpips import LPIPS, TRUNKS, WIDTHS, Trunk
from pixgraft.networks.mobilefacenet import MobileFaceNet
from pixgraft.networks.perceptual import differences
from pixgraft.networks.squeezenet import SqueezeNet, SqueezeNetDistance
from test_oracles import distance, oracle

ASSETS = Path(pixgraft.__file__).parent / "assets" / "features"
SHARED = Path(__file__).resolve().parents[2] / "shared"
KINDS: tuple[Trunk, ...] = ("alex", "vgg", "squeeze")

Tensors = dict[str, Tensor]


def made(count: int = 2, side: int = 96, seed: int = 0) -> Tensor:
    """Smooth pictures with some noise, (count, 3, side, side) in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 6, 6, generator=generator)
    noise = torch.randn(count, 3, side, side, generator=generator)
    return (F.interpolate(coarse, (side, side), mode="bicubic") * 0.5 + noise * 0.05).clamp(-1, 1)


def squeezenet() -> SqueezeNet:
    """The one that comes with the package."""
    network = from_state_dicts("squeezenet", {"x": read_tensors(ASSETS / "squeezenet1_0.safetensors")})["x"]
    assert isinstance(network, SqueezeNet)
    return network


def heads(kind: Trunk) -> Tensors:
    """The heads that come with the package for one trunk, in the published layout."""
    tensors = read_tensors(ASSETS / "lpips-heads.safetensors")
    return {name.partition(".")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"{kind}.")}


def random_trunk(kind: Trunk) -> Tensors:
    """Random weights for a whole classifier of torchvision's, of which LPIPS takes the convolutions."""
    torch.manual_seed(1)
    tensors = {f"features.{name}": tensor for name, tensor in TRUNKS[kind]().state_dict().items()}
    return {**tensors, "classifier.6.weight": torch.zeros(1000, 4096)}


def lpips(kind: Trunk) -> LPIPS:
    return lpips_from_trunk(random_trunk(kind), heads(kind))


# --- published weights ---


@pytest.fixture(scope="module")
def weights() -> Path:
    folder = Path(os.environ.get("PIXGRAFT_WEIGHTS") or SHARED / "weights")
    if not (folder / "expected.npz").is_file():
        pytest.skip(f"no reference weights in {folder}: set PIXGRAFT_WEIGHTS to their folder")
    return folder


@pytest.fixture(scope="module")
def expected(weights: Path) -> dict[str, Any]:
    with np.load(weights / "expected.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def pictures(expected: dict[str, Any]) -> list[Image.Image]:
    file = Path(os.environ.get("PIXGRAFT_DATA") or SHARED / "data") / "faces-128.zip"
    if not file.is_file():
        pytest.skip(f"no {file}: set PIXGRAFT_DATA to its folder")
    with zipfile.ZipFile(file) as archive:
        return [Image.open(io.BytesIO(archive.read(str(name)))).convert("RGB") for name in expected["names"]]


def sized(pictures: list[Image.Image], width: int, height: int) -> Tensor:
    size = (width, height)
    return torch.stack([to_tensor(each.resize(size, Image.Resampling.BILINEAR)) for each in pictures])


def test_mobilefacenet_gives_the_published_embeddings(
    weights: Path, expected: dict[str, Any], pictures: list[Image.Image]
) -> None:
    tensors = read_tensors(weights / "mobilefacenet_casia.safetensors")
    network = from_state_dicts("mobilefacenet", {"x": tensors})["x"]
    assert distance(network(sized(pictures, 96, 112)), expected["mobilefacenet"]) < 1e-4
    # Resized by itself, it has what Pillow rounds off.
    ours = F.cosine_similarity(network(sized(pictures, 128, 128)), torch.from_numpy(expected["mobilefacenet"]))
    assert ours.min() > 0.999


def test_squeezenet_gives_the_published_features(
    weights: Path, expected: dict[str, Any], pictures: list[Image.Image]
) -> None:
    tensors = read_tensors(weights / "squeezenet1_0_imagenet.safetensors")
    network = from_state_dicts("squeezenet", {"x": tensors})["x"]
    assert isinstance(network, SqueezeNet)
    images = sized(pictures, 227, 227)
    assert distance(network(images), expected["squeezenet_features_mean"]) < 1e-4
    logits = network.classifier(network.maps(images)[-1]).mean((2, 3))
    assert distance(logits, expected["squeezenet_logits"]) < 1e-4


def test_the_bundled_squeezenet_is_the_published_one_in_half_precision(
    weights: Path, expected: dict[str, Any], pictures: list[Image.Image]
) -> None:
    published = read_tensors(weights / "squeezenet1_0_imagenet.safetensors")
    bundled = read_tensors(ASSETS / "squeezenet1_0.safetensors")
    assert bundled.keys() == published.keys()
    assert all(torch.equal(bundled[name], tensor.half()) for name, tensor in published.items())
    features = torch.from_numpy(expected["squeezenet_features_mean"])
    off = (squeezenet()(sized(pictures, 227, 227)) - features).norm(dim=1) / features.norm(dim=1)
    assert off.max() < 1e-2


@pytest.mark.parametrize("kind", ["alex", "vgg"])
def test_the_bundled_heads_are_the_published_ones(kind: Trunk) -> None:
    entries = oracle(f"lpips_{kind}").groups["lpips"]
    bundled = heads(kind)
    assert bundled.keys() == {name for name in entries if name.startswith("lin") and not name.startswith("lins")}
    for name, tensor in bundled.items():
        assert torch.equal(tensor.flatten(), torch.tensor(entries[name]["value"]))


# --- what comes with the package ---


def test_the_assets_are_small_and_have_their_licences() -> None:
    assert (ASSETS / "squeezenet1_0.safetensors").stat().st_size < 2_600_000
    for name in ("squeezenet1_0", "lpips-heads"):
        assert "Redistributions in binary form must reproduce" in (ASSETS / f"{name}-LICENSE.txt").read_text()


def test_the_bundled_squeezenet_without_anything_else() -> None:
    """What it gave when it agreed with the published features; an input treated otherwise gives other figures."""
    network = squeezenet()
    rows = torch.arange(96.0).view(-1, 1)
    waves = [torch.sin(rows * a + rows.T * b) for a, b in ((0.1, 0.2), (0.3, -0.1), (0.05, 0.4))]
    images = torch.stack((torch.stack(waves), torch.stack(waves[::-1]).abs()))
    features = network(images)
    assert features.shape == (2, 512)
    assert features.norm(dim=1).tolist() == pytest.approx([493.99, 328.13], rel=1e-3)
    assert SqueezeNetDistance(network)(images[:1], images[1:]).item() == pytest.approx(0.82266, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bundled_heads_fit_their_trunk(kind: Trunk) -> None:
    tensors = heads(kind)
    assert [tensors[f"lin{i}.model.1.weight"].shape[1] for i in range(len(tensors))] == list(WIDTHS[kind])
    assert all(tensor.min() >= 0 and tensor.max() > 0 for tensor in tensors.values())


# --- what the networks compute ---


def test_a_feature_network_is_ready_to_measure_with() -> None:
    network = squeezenet()
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    images = made(1).requires_grad_()
    network(images).square().sum().backward()
    assert images.grad is not None
    assert images.grad.abs().max() > 0


@pytest.mark.parametrize("side", [64, 300])
def test_networks_resize_by_themselves(side: int) -> None:
    images = made(1, side)
    face = MobileFaceNet().eval()
    assert torch.equal(face(images), face(resized(images, 112, 96)))
    network = squeezenet()
    assert torch.equal(network(images), network(resized(images, 227, 227)))
    assert resized(images, side, side) is images


def test_inception_resizes_without_antialiasing() -> None:
    torch.manual_seed(0)
    network = InceptionV3().eval()
    images = made(1, 3 * 299)
    # At three times the size, bilinear sampling takes the middle one of three pixels and no other.
    with torch.no_grad():
        ours, plain, smooth = (network.maps(x)[0] for x in (images, images[..., 1::3, 1::3], resized(images, 299, 299)))
    assert distance(ours, plain.numpy()) < 1e-4
    assert distance(ours, smooth.numpy()) > 1e-1


def test_squeezenet_maps_lie_at_seven_depths() -> None:
    maps = squeezenet().maps(made(2, 64))
    shapes = [(96, 29), (128, 14), (256, 14), (384, 7), (384, 7), (512, 7), (512, 3)]
    assert [tuple(each.shape) for each in maps] == [(2, width, side, side) for width, side in shapes]
    assert all(each.min() >= 0 for each in maps)


def test_irse50_ends_in_unit_embeddings() -> None:
    torch.manual_seed(0)
    network = IRSE50().eval()
    faces = made(2, 64)
    with torch.no_grad():
        out = network(faces)
        body = network.body(network.input_layer(resized(faces, 112, 112)))
        assert body.shape == (2, 512, 7, 7)
        # Fresh batch normalisation divides by the root of 1 + 1e-5, once before the linear layer and once behind it.
        linear = network.output_layer[3]
        assert isinstance(linear, nn.Linear)
        plain = linear(body.flatten(1) / (1 + 1e-5) ** 0.5)
    assert torch.allclose(out, F.normalize(plain, dim=1), atol=1e-5)
    assert torch.allclose(out.norm(dim=1), torch.ones(2))


# --- distances ---

DISTANCES: dict[str, Callable[[], nn.Module]] = {
    "alex": lambda: lpips("alex"),
    "vgg": lambda: lpips("vgg"),
    "squeeze": lambda: lpips("squeeze"),
    "PD-SqueezeNet": lambda: SqueezeNetDistance(squeezenet()),
}


@pytest.mark.parametrize("name", DISTANCES)
def test_a_distance_grows_with_the_difference_and_has_gradients(name: str) -> None:
    network = DISTANCES[name]()
    x = made(2, 48)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
    near, far = x + noise * 0.02, x + noise * 0.2
    assert network(x, x).tolist() == [0, 0]
    assert torch.equal(network(x, near), network(near, x))
    assert (network(x, near) > 0).all()
    assert (network(x, near) < network(x, far)).all()
    for start in (near, torch.zeros_like(x), torch.full_like(x, -1), x):
        moving = start.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(moving, x).sum(), moving)
        assert gradient.isfinite().all()
        assert (gradient.abs().max() > 0) == (start is not x)


def test_where_no_channel_fires_the_gradient_is_finite() -> None:
    dead = torch.zeros(1, 4, 2, 2, requires_grad=True)
    for other in (torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)):
        (difference,) = differences([dead], [other])
        assert difference.sum().item() == pytest.approx(float(other.any()))
        (gradient,) = torch.autograd.grad(difference.sum(), dead)
        assert gradient.isfinite().all()


def test_the_equal_weights_are_those_of_lpips_equation_1() -> None:
    """Spelled out pixel by pixel, for one map."""
    network = squeezenet()
    x, y = made(1, 32), made(1, 32, seed=1)
    total = 0.0
    for a, b in zip(network.maps(x), network.maps(y), strict=True):
        _, _, height, width = a.shape
        parts = []
        for i in range(height):
            for j in range(width):
                u, v = a[0, :, i, j].double(), b[0, :, i, j].double()
                parts.append(float((u / u.norm() - v / v.norm()).square().sum()))
        total += sum(parts) / len(parts)
    assert SqueezeNetDistance(network)(x, y).item() == pytest.approx(total / 7, rel=1e-4)


def test_images_that_cannot_be_compared_are_refused() -> None:
    network = SqueezeNetDistance(squeezenet())
    with pytest.raises(PixgraftError, match=r"\(2, 3, 48, 48\) and \(1, 3, 48, 48\): a distance needs equal ones"):
        network(made(2, 48), made(1, 48))
    with pytest.raises(PixgraftError, match="31 x 31 pixels: a perceptual distance needs at least 32 x 32"):
        network(made(1, 31), made(1, 31))
    for name in DISTANCES:
        assert DISTANCES[name]()(made(1, 32), made(1, 32)).item() == 0
