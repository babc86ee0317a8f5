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
from pixgraft.data.images import from_uint8, to_tensor
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.columns import columns
from pixgraft.evaluation.protocols import PROTOCOLS
from pixgraft.features import KINDS as FEATURES
from pixgraft.features import networks, open_feature
from pixgraft.features.weights import WEIGHTS
from pixgraft.layouts import from_state_dicts
from pixgraft.layouts.features import lpips_from_trunk
from pixgraft.layouts.reading import read_tensors
from pixgraft.networks import inception
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
    images = made(1, 3 * 299)
    # At three times the size, bilinear sampling takes the middle one of three pixels and no other.
    ours = inception.INPUTS["pytorch-fid"](images)
    assert distance(ours, images[..., 1::3, 1::3].numpy()) < 1e-4
    assert distance(ours, resized(images, 299, 299).numpy()) > 1e-1


@pytest.mark.parametrize("side", [64, 299, 700])
def test_the_forms_of_inception_resize_as_published(side: int) -> None:
    """clean-fid resizes each channel in floats and divides by 128; StarGAN v2 resizes the stored image."""
    size, levels = (299, 299), np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    images = from_uint8(torch.from_numpy(levels).permute(2, 0, 1)[None])
    channels = [
        Image.fromarray(levels[..., i].astype(np.float32)).resize(size, Image.Resampling.BICUBIC) for i in range(3)
    ]
    clean = (np.stack([np.asarray(each) for each in channels]) - 128) / 128
    assert np.abs(clean - inception.INPUTS["clean-fid"](images)[0].numpy()).max() < 1e-5
    small = np.asarray(Image.fromarray(levels).resize(size, Image.Resampling.BILINEAR)) / 255
    expected = ((small - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)).transpose(2, 0, 1)
    assert np.abs(expected - inception.INPUTS["torchvision"](images)[0].numpy()).max() < 1e-5


def test_inception_of_torchvision_layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's definition written down anew: every average pool counts its padding, and there is no max pool in
    the last block. At 75 x 75, the least that it takes."""
    monkeypatch.setattr(inception, "SIDE", 75)
    torch.manual_seed(0)
    with torch.device("meta"):
        state = {name: torch.empty(each.shape, device="cpu") for name, each in InceptionV3().state_dict().items()}
    for name, tensor in state.items():
        if name.endswith("conv.weight"):
            tensor.normal_(0, tensor[0].numel() ** -0.5)
        else:
            tensor.uniform_(0.5, 1.5) if name.endswith(("weight", "var")) else tensor.normal_(0, 0.1)
    whole = state | {
        "AuxLogits.conv0.conv.weight": torch.zeros(1),
        "fc.weight": torch.zeros(1),
        "fc.bias": torch.zeros(1),
    }
    network = from_state_dicts("inception-torchvision", {"x": whole})["x"]

    def conv(x: Tensor, name: str, stride: int = 1, padding: int | tuple[int, int] = 0) -> Tensor:
        mean, var, weight, bias = (
            state[f"{name}.bn.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        x = F.conv2d(x, state[f"{name}.conv.weight"], None, stride, padding)
        return F.batch_norm(x, mean, var, weight, bias, eps=0.001).relu()

    def branch(x: Tensor, block: str, *layers: tuple[str, int | tuple[int, int]]) -> Tensor:
        for name, padding in layers:
            x = conv(x, f"{block}.{name}", 1, padding)
        return x

    def pooled(x: Tensor, block: str) -> Tensor:
        return conv(F.avg_pool2d(x, kernel_size=3, stride=1, padding=1), f"{block}.branch_pool")

    across, down = (0, 3), (3, 0)
    paddings: tuple[int | tuple[int, int], ...] = (0, down, across, down, across)
    images = made(2, 75)
    x = ((images + 1) * 127.5).round() / 255 - torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
    x = x / torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
    x = conv(conv(conv(x, "Conv2d_1a_3x3", 2), "Conv2d_2a_3x3"), "Conv2d_2b_3x3", 1, 1)
    x = conv(conv(F.max_pool2d(x, 3, 2), "Conv2d_3b_1x1"), "Conv2d_4a_3x3")
    x = F.max_pool2d(x, 3, 2)
    for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        double = branch(x, block, ("branch3x3dbl_1", 0), ("branch3x3dbl_2", 1), ("branch3x3dbl_3", 1))
        five = branch(x, block, ("branch5x5_1", 0), ("branch5x5_2", 2))
        x = torch.cat((conv(x, f"{block}.branch1x1"), five, double, pooled(x, block)), 1)
    double = branch(x, "Mixed_6a", ("branch3x3dbl_1", 0), ("branch3x3dbl_2", 1))
    double = conv(double, "Mixed_6a.branch3x3dbl_3", 2)
    x = torch.cat((conv(x, "Mixed_6a.branch3x3", 2), double, F.max_pool2d(x, 3, 2)), 1)
    for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        seven = branch(x, block, ("branch7x7_1", 0), ("branch7x7_2", across), ("branch7x7_3", down))
        names = [f"branch7x7dbl_{i}" for i in range(1, 6)]
        double = branch(x, block, *zip(names, paddings, strict=True))
        x = torch.cat((conv(x, f"{block}.branch1x1"), seven, double, pooled(x, block)), 1)
    three = conv(conv(x, "Mixed_7a.branch3x3_1"), "Mixed_7a.branch3x3_2", 2)
    seven = branch(x, "Mixed_7a", ("branch7x7x3_1", 0), ("branch7x7x3_2", across), ("branch7x7x3_3", down))
    x = torch.cat((three, conv(seven, "Mixed_7a.branch7x7x3_4", 2), F.max_pool2d(x, 3, 2)), 1)
    for block in ("Mixed_7b", "Mixed_7c"):
        three = conv(x, f"{block}.branch3x3_1")
        double = branch(x, block, ("branch3x3dbl_1", 0), ("branch3x3dbl_2", 1))
        parts = [conv(x, f"{block}.branch1x1")]
        for source, name in ((three, "branch3x3_2"), (double, "branch3x3dbl_3")):
            parts += [conv(source, f"{block}.{name}a", 1, (0, 1)), conv(source, f"{block}.{name}b", 1, (1, 0))]
        x = torch.cat((*parts, pooled(x, block)), 1)
    expected = F.adaptive_avg_pool2d(x, 1).flatten(1)
    assert expected.std() > 0
    assert distance(network(images), expected.numpy()) < 1e-4


def test_the_variants_of_fid_have_their_networks_and_their_labels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with torch.device("meta"):
        state = InceptionV3().state_dict()
    tensors = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in state.items()}
    monkeypatch.setattr(networks, "read_tensors", lambda file: tensors)
    monkeypatch.setattr(networks, "file_sha256", lambda file, limit: WEIGHTS[file.name].sha256)
    monkeypatch.setattr(networks, "find_weights", lambda name, files, note: tmp_path / name)
    for name, form, label in (
        ("inception", "pytorch-fid", "FID"),
        ("inception-clean", "clean-fid", "FID (clean)"),
        ("inception-torchvision", "torchvision", "FID (torchvision)"),
    ):
        network = open_feature(name, {}, torch.device("cpu")).network
        assert isinstance(network, InceptionV3) and network.form == form and not network.training
        (fd, kd, precision) = columns(["fd", "kd", "precision"], [name])
        assert (fd.label, kd.label) == (label, label.replace("FID", "KID"))
        assert precision.label == f"precision ({FEATURES[name].label})"
    named = {each.network for each in PROTOCOLS.values() if each.name.startswith("i2ilr-") and "fd" in each.metrics}
    assert named == {"inception-torchvision"}  # whose tables follow StarGAN v2's procedure


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
