"""Our networks against what published implementations computed, as numbers (their weights follow a rule, see there).

The reference folder is `../shared/oracles` beside the repository, or $PIXGRAFT_ORACLES; without it these tests skip.
$PIXGRAFT_DEVICE computes ours on another device than the CPU, $PIXGRAFT_TF32 sets TF32 there (0 or 1),
$PIXGRAFT_TOLERANCE replaces `TOLERANCE`, and $PIXGRAFT_DISTANCES is a file for a line of JSON for each comparison.
To add a network: a function that computes every array of its file, and a row for each file in `COMPUTED`.
"""

import copy
import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pixgraft.config import replaced
from pixgraft.layers.conditions import one_hot
from pixgraft.layers.resample import average_pool
from pixgraft.layers.straight_through import round_to
from pixgraft.layouts import from_state_dicts
from pixgraft.losses.adversarial import fake_loss, non_saturating_generator_loss, real_loss
from pixgraft.losses.penalties import r1_of_logits, r1_of_loss
from pixgraft.losses.reconstruction import l1
from pixgraft.methods.base import Batch
from pixgraft.methods.i2ilr import I2ILR
from pixgraft.networks.inception import InceptionV3
from pixgraft.networks.progan import Generator as ProGANGenerator
from pixgraft.networks.stylegan2 import Generator as StyleGAN2Generator
from pixgraft.presets import preset

DEVICE = torch.device(os.environ.get("PIXGRAFT_DEVICE", "cpu"))
TOLERANCE = float(os.environ.get("PIXGRAFT_TOLERANCE", "1e-4"))
"""Of an array's standard deviation, or of a scalar's magnitude."""


if "PIXGRAFT_TF32" in os.environ:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = os.environ["PIXGRAFT_TF32"] == "1"


@dataclass(frozen=True)
class Oracle:
    """One reference file: what was computed (`expected`), and what rebuilds its networks and inputs."""

    name: str
    config: dict[str, Any]
    groups: dict[str, dict[str, Any]]
    expected: dict[str, np.ndarray]
    rule: ModuleType

    def state_dicts(self) -> dict[str, dict[str, Tensor]]:
        """Every group's tensors by the rule, in the published layout."""
        made: dict[str, dict[str, Tensor]] = {}
        for group, entries in self.groups.items():
            spectral = [name for name, entry in entries.items() if entry["kind"] == "spectral"]
            others = {name: entry for name, entry in entries.items() if name not in spectral}
            made[group] = {name: torch.from_numpy(array) for name, array in self.rule.make_state_dict(others).items()}
            # The rule's own singular value decompositions take ten times as long as all the rest of it.
            for base in {name.rsplit("_", 1)[0] for name in spectral}:
                made[group][f"{base}_u"], made[group][f"{base}_v"] = singular_vectors(made[group][f"{base}_orig"])
        return made

    def input(self, name: str, *shape: int) -> Tensor:
        return self.given(f"{self.name}/{name}", *shape)

    def given(self, name: str, *shape: int) -> Tensor:
        return torch.from_numpy(self.rule.input_for(name, list(shape))).to(DEVICE)

    def networks(self, layout: str) -> dict[str, nn.Module]:
        return {name: network.to(DEVICE) for name, network in from_state_dicts(layout, self.state_dicts()).items()}


def singular_vectors(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The first left and right singular vectors of a convolution's weight, seen as (out_channels, all others)."""
    matrix = weight.flatten(1).double()
    left = torch.linalg.eigh(matrix @ matrix.T).eigenvectors[:, -1]  # ascending, so the last is the largest's
    return left.float(), nn.functional.normalize(matrix.T @ left, dim=0).float()


def oracle(name: str) -> Oracle:
    """The reference file of that name; skips the test where the folder is not there."""
    repository = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("PIXGRAFT_ORACLES") or repository.parent / "shared" / "oracles")
    if not (folder / "weights_rule.py").is_file():
        pytest.skip(f"no reference outputs in {folder}: set PIXGRAFT_ORACLES to their folder")
    spec = importlib.util.spec_from_file_location("weights_rule", folder / "weights_rule.py")
    assert spec is not None and spec.loader is not None
    rule = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rule)
    manifest = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    with np.load(folder / f"{name}.npz") as file:
        expected = {key: file[key] for key in file.files}
    return Oracle(name, manifest["config"], manifest["state_dicts"], expected, rule)


def distance(ours: Tensor, expected: np.ndarray) -> float:
    """Largest difference as a share of the expected deviation; of a scalar, of its magnitude.

    A file may keep only the first images of a batch.
    """
    computed = ours.detach().cpu().numpy()
    if expected.ndim == 0:
        return float(abs(computed - expected) / abs(expected))
    kept = computed[: len(expected)]
    assert kept.shape == expected.shape
    return float(np.abs(kept - expected).max() / expected.std())


def assert_close(ours: dict[str, Tensor], expected: dict[str, np.ndarray]) -> None:
    """Each of ours is as near as `TOLERANCE` asks."""
    distances = {name: distance(tensor, expected[name]) for name, tensor in ours.items()}
    if path := os.environ.get("PIXGRAFT_DISTANCES"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(distances) + "\n")
    far = {name: found for name, found in distances.items() if not found <= TOLERANCE}
    assert not far, f"off by more than allowed: {far}"


# --- I2I-LR (Medabid1/I2I-LR) ---


@lru_cache(maxsize=1)  # rebuilding takes seconds; two files' networks at once are not needed
def i2ilr_networks(name: str) -> dict[str, nn.Module]:
    return oracle(name).networks("i2ilr")


def i2ilr_images(reference: Oracle) -> tuple[Tensor, Tensor]:
    size = reference.config["image_size"]
    batch = reference.config["batch"]
    x_a, x_b = ((reference.input(x, batch, 3, size, size) * 0.5).clamp(-1, 1) for x in ("x_a", "x_b"))
    return x_a, x_b


def i2ilr(reference: Oracle) -> dict[str, Tensor]:
    """Everything in an I2I-LR file, from the layers and losses alone."""
    networks = i2ilr_networks(reference.name)
    generator, discriminator = networks["Gen"], networks["Dis"]
    x_a, x_b = i2ilr_images(reference)
    lr_a, lr_b = (average_pool(x, reference.config["lr_size"]) for x in (x_a, x_b))
    zero = torch.zeros_like(lr_a)

    g_ab = generator(x_a, lr_b)
    with torch.no_grad():
        g_cycle = generator(g_ab, lr_a)
    diff_ab = round_to((lr_b - average_pool(g_ab, reference.config["lr_size"])).abs(), 8 / 255)
    x_a.requires_grad_()
    d_real, d_fake = discriminator(x_a, zero), discriminator(g_ab, diff_ab)
    loss_g = non_saturating_generator_loss(d_fake)
    exact = copy.deepcopy(discriminator).double()
    gradients = torch.autograd.grad(loss_g, list(generator.parameters()), retain_graph=True)
    return {
        "x_a": x_a,
        "lr_b": lr_b,
        "g_ab": g_ab,
        "g_cycle": g_cycle,
        "diff_ab": diff_ab,
        # Logits lie near 0.35 and spread by a hundredth of that: in float32 our rounding would add to the reference's.
        "d_real": exact(x_a.double(), zero.double()),
        "d_fake": exact(g_ab.double(), diff_ab.double()),
        "loss_d_real": real_loss(d_real),
        "loss_d_fake": fake_loss(d_fake),
        "loss_g": loss_g,
        "loss_cycle": l1(g_cycle, x_a),
        "r1_grad_of_loss": r1_of_loss(x_a, d_real, reference.config["batch"]),
        "r1_grad_of_logit": r1_of_logits(x_a, d_real),
        "grad_norm_g": nn.utils.get_total_norm(gradients),
    }


def test_the_official_experiment_is_made_of_the_reference_terms() -> None:
    """The method's own wiring: pairs, rounded difference, judgement, and R1 with its factors."""
    reference = oracle("i2ilr_64_8")
    networks = i2ilr_networks(reference.name)
    size, width, count = (reference.config[key] for key in ("image_size", "max_channels", "batch"))
    widths = [f"generator_max_channels={width}", f"discriminator_channels={2**14 // size}"]
    official = preset("i2ilr-official-128").method
    config = replaced(official, [f"image_size={size}", f"r1_batch={count}", *widths])
    with torch.device("meta"):
        method = I2ILR(config)
    method.generator.load_state_dict(networks["Gen"].state_dict(), assign=True)
    method.discriminator.load_state_dict(networks["Dis"].state_dict(), assign=True)
    x_a, x_b = i2ilr_images(reference)

    # The first image of each, as a pair: the reference goes from a to b only, so ours is compared in that direction.
    batch = Batch(torch.cat((x_a[:1], x_b[:1])), {})
    expected = {name: array[:1] for name, array in reference.expected.items() if array.ndim}
    with torch.no_grad():
        losses = method.generator_losses(batch)
        _, partner = method.pairs(batch.images)
        translation, cycle = batch.shared["translation"], batch.shared["cycle"]
        d_fake = method.judge(translation, partner)
        ours = {
            "lr_b": partner,
            "g_ab": translation,
            "g_cycle": cycle,
            "diff_ab": method.difference(translation, partner),
            "d_real": method.judge(batch.images),
            "d_fake": d_fake,
        }
    assert_close({name: tensor[:1] for name, tensor in ours.items()}, expected)
    # Both directions, each with a weight of one.
    assert losses["generator"].item() == pytest.approx(non_saturating_generator_loss(d_fake).item(), rel=TOLERANCE)
    assert losses["cycle"].item() == pytest.approx(l1(cycle, batch.images).item(), rel=TOLERANCE)
    # gamma is 10, halved; every real image counts twice.
    penalty = method.r1_losses(Batch(x_a, {}))["r1"] / (2 * 10 / 2)
    assert_close({"r1_grad_of_loss": penalty}, reference.expected)


# --- feature networks ---


def inception(reference: Oracle) -> dict[str, Tensor]:
    """InceptionV3 as FID uses it; the file's inputs lie in [0, 1] and have names of their own."""
    network = reference.networks("inception-fid")["inception"]
    assert isinstance(network, InceptionV3)
    images = reference.given("inception/x", 2, 3, 64, 64).sigmoid() * 2 - 1
    maps = network.maps(images)
    assert torch.equal(network(images), maps[-1].mean((2, 3)))
    return {"pool3": maps[-1].mean((2, 3))} | {f"block{i}_mean": maps[i].mean((2, 3)) for i in range(3)}


def lpips(reference: Oracle) -> dict[str, Tensor]:
    """LPIPS with the published heads, on a trunk by the rule."""
    # Distances lie near 0.1 and spread by a hundredth of that: in float32 our rounding would add to the reference's.
    network = reference.networks("lpips")["lpips"].double()
    x, y = (reference.given(f"lpips/{name}", 3, 3, 96, 96) * 0.5 for name in "xy")
    return {"distance": network(x.clamp(-1, 1).double(), y.clamp(-1, 1).double())}


# --- ProGAN (genforce/mganprior) ---


@torch.inference_mode()
def progan(reference: Oracle) -> dict[str, Tensor]:
    """The generator cut after layer 7: one code's image, and that of twenty codes' features averaged there."""
    generator = reference.networks("progan-genforce")["generator"]
    assert isinstance(generator, ProGANGenerator)
    codes = reference.input("z", reference.config["codes"], reference.config["z_dim"])
    features = generator.features(codes, layers=8)
    halves = {"image": features[:1], "composed": features.mean(0, keepdim=True)}
    images = {name: generator.from_features(half, layers=8) for name, half in halves.items()}
    return {
        "features_after_layer7_mean": features.mean((2, 3)),
        **{f"{name}_64": average_pool(image, 64) for name, image in images.items()},
        **{f"{name}_crop": image[..., 100:132, 100:132] for name, image in images.items()},
    }


# --- StyleGAN2 (rosinality/stylegan2-pytorch) ---


@torch.inference_mode()
def stylegan2(reference: Oracle) -> dict[str, Tensor]:
    """Both networks, with the stored noise; the larger file keeps the first image alone."""
    networks = reference.networks("stylegan2-rosinality")
    generator, discriminator = networks["g_ema"], networks["d"]
    assert isinstance(generator, StyleGAN2Generator)
    size, kept = reference.config["image_size"], len(reference.expected["image"])
    w = generator.mapping(reference.input("z", 2, 512))
    codes = {
        "image": generator.spread(w[:kept]),
        "image_w_plus": reference.input("w_plus", 2, generator.synthesis.layers, 512)[:kept],
        "image_mixed": generator.mix(w[:1], w[1:], reference.config["mixing_crossover"]),
    }
    images = {name: generator.synthesis(w_plus, noise="stored") for name, w_plus in codes.items()}
    # At 256 the logits spread by so little that the reference's own rounding takes most of what is allowed.
    exact = torch.float64 if size > 64 else torch.float32
    d_logits = discriminator.to(exact)((reference.input("x", 4, 3, size, size) * 0.5).to(exact))
    return {"w": w, **images, "d_logits": d_logits}


# --- StarGAN v2 (clovaai/stargan-v2) ---


@torch.inference_mode()
def starganv2(reference: Oracle) -> dict[str, Tensor]:
    """All four networks, two images of two domains; the file's inputs have names of their own."""
    networks = reference.networks("starganv2")
    x, ref = (reference.given(f"starganv2/{name}", 2, 3, 128, 128) * 0.5 for name in ("x", "ref"))
    domain = torch.arange(2, device=DEVICE)
    style = networks["style_encoder"](ref, domain)
    return {
        "style_ref": style,
        "style_z": networks["mapping_network"](reference.given("starganv2/z", 2, 16), domain),
        "image": networks["generator"](x, style),
        "d": networks["discriminator"](x, domain),
    }


# --- pSp (eladrich/pixel2style2pixel) ---


@torch.inference_mode()
def psp_encoder(reference: Oracle) -> dict[str, Tensor]:
    """The codes before the average code is added."""
    encoder = reference.networks("psp")["encoder"]
    size = reference.config["image_size"]
    return {"codes": encoder(reference.input("x", 1, reference.config["in_channels"], size, size) * 0.5)}


# --- pix2pixHD (NVIDIA/pix2pixHD) and SPADE (NVlabs/SPADE) ---


@torch.inference_mode()
def pix2pixhd(reference: Oracle) -> dict[str, Tensor]:
    """An image, and the logits and the mean of each layer's features for a condition and an image."""
    networks, size, labels = (
        reference.networks("pix2pixhd"),
        *(reference.config[key] for key in ("image_size", "labels")),
    )
    condition, pair = (
        reference.given(f"pix2pixhd/{name}", 1, labels + more, size, size)
        for name, more in (("labels", 0), ("pair", 3))
    )
    scales = networks["discriminator"](pair[:, :labels], pair[:, labels:])
    return {
        "image": networks["generator"](condition),
        **{f"d_scale{index}": layers[-1] for index, layers in enumerate(scales)},
        "d_feat_means": torch.stack([features.mean() for layers in scales for features in layers]),
    }


@torch.inference_mode()
def spade(reference: Oracle) -> dict[str, Tensor]:
    """An image in a style; the label map is the channel with the largest input."""
    size, labels, z_dim = (reference.config[key] for key in ("image_size", "labels", "z_dim"))
    classes = reference.given("spade/labels", 1, labels, size, size).argmax(1)
    condition = one_hot(classes.unsqueeze(1), labels)
    image = reference.networks("spade")["netG"](condition, reference.given("spade/z", 1, z_dim))
    return {"image": image, "labels": classes}


COMPUTED: dict[str, Callable[[Oracle], dict[str, Tensor]]] = {
    "i2ilr_64_8": i2ilr,
    "i2ilr_64_16": i2ilr,
    "i2ilr_128_8": i2ilr,
    "inception_fid": inception,
    "lpips_alex": lpips,
    "lpips_vgg": lpips,
    "stylegan2_64": stylegan2,
    "stylegan2_256": stylegan2,
    "starganv2_128": starganv2,
    "progan_256": progan,
    "progan_1024": progan,
    "pix2pixhd_128": pix2pixhd,
    "spade_128": spade,
    "psp_encoder_3in_14styles": psp_encoder,
    "psp_encoder_19in_18styles": psp_encoder,
}


SLOW = {"i2ilr_128_8", "i2ilr_64_16", "progan_1024", "stylegan2_256", "psp_encoder_19in_18styles", "starganv2_128"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in COMPUTED])
def test_every_array_is_what_the_reference_computed(name: str) -> None:
    reference = oracle(name)
    ours = COMPUTED[name](reference)
    assert ours.keys() == reference.expected.keys()
    assert_close(ours, reference.expected)
