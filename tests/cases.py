"""What the tests of methods share: a tiny experiment of each method and variant, and pictures with conditions for it.

To add a method: rows in `CASES`.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.config import replaced
from pixgraft.engine.distributed import World
from pixgraft.methods import METHODS
from pixgraft.methods.base import Batch, Method
from pixgraft.methods.encoding import EncodingConfig
from pixgraft.methods.grit import GRIT
from pixgraft.methods.tasks import SynthesisConfig
from pixgraft.models import save_model
from pixgraft.presets import preset
from pixgraft.training.experiment import Experiment
from pixgraft.training.trainer import Trainer


@dataclass(frozen=True)
class Case:
    """A tiny experiment of a method, and what its step may cost."""

    name: str
    experiment: Experiment
    forwards: Mapping[str, float] = field(default_factory=dict)
    """How often a whole step, of every phase, calls each network that makes images: for each image of the batch."""
    draws: bool = False
    """Whether its losses draw random numbers, so that another split of the batch gives other values."""
    idle: str = "nothing"
    """A pattern of the weights that its phases leave alone, as those of sizes that are not grown to yet."""

    def batch(self, count: int = 4, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Batch:
        """Pictures, and their conditions or their domains, in turn, if the method takes any."""
        images = pictures(count, seed=seed).to(dtype)
        config = self.experiment.method
        if config.domains:
            return Batch(images, {}, (torch.arange(count) % len(config.domains)).to(torch.uint8).view(-1, 1, 1, 1))
        takes = isinstance(config, SynthesisConfig | EncodingConfig) and config.condition != "self"
        return Batch(images, {}, conditions(config, images) if takes else None)


SMALL = [
    "method.generator_channels=4",
    "method.generator_max_channels=8",
    "method.discriminator_channels=4",
    "method.discriminator_max_channels=8",
    "train.batch=4",
]


def i2ilr(name: str, *settings: str) -> Experiment:
    return replaced(preset(name), [*SMALL, "method.image_size=32", *settings])


def grit(*settings: str) -> Experiment:
    return replaced(preset("grit-tiny-32"), [*SMALL, "method.style_channels=[4, 8]", *settings])


def matching(kind: str, *settings: str) -> Experiment:
    """pix2pixHD or SPADE."""
    own = ["method.discriminator_channels=4", "train.batch=4"]
    return replaced(preset(f"{kind}-tiny-32"), [*own, *settings])


def prior(kind: str, *settings: str) -> Experiment:
    return replaced(preset(f"{kind}-tiny-32"), ["method.base_channels=128", "method.max_channels=8", *settings])


@lru_cache
def tiny_prior(kind: str) -> str:
    """A model folder of the tiny preset, untrained."""
    folder = Path(tempfile.mkdtemp()) / kind
    torch.manual_seed(0)
    save_model(folder, METHODS[kind](preset(f"{kind}-tiny-32").method), info={})
    return str(folder)


def encoding(name: str, *settings: str, prior: str = "stylegan2") -> Experiment:
    """pSp or OME on that prior."""
    own = [f"method.prior={tiny_prior(prior)}", f"method.generator={prior}", "train.batch=4"]
    return replaced(preset(f"{name}-tiny-32"), [*own, *settings])


DEAD = r"res_layer\.5\.fc"  # a squeezed channel of so few may be behind a ReLU that is off
HALVES = {"generator": 6}  # in either half of a step a translation, another one and a cycle
TWICE = {"generator": 2}  # the translation and its cycle; the discriminator's phase makes none
ONCE = {"generator": 1, "style_encoder": 1}
PENALIZED = ("method.r1_gamma=1.0", "method.r1_every=2", "method.discriminator_norm=false")
APART = ("method.noise_start=0.1", "method.noise_into=residual")
CASES = [
    Case("i2ilr", i2ilr("i2ilr-tiny-32", "method.augment=[]"), TWICE),
    Case("i2ilr-augmented", i2ilr("i2ilr-tiny-32"), TWICE, draws=True),
    Case("i2ilr-grey", i2ilr("i2ilr-tiny-32", "method.target=grey", "method.augment=[]"), TWICE),
    Case("i2ilr-official", i2ilr("i2ilr-official-128"), TWICE),
    Case("i2ilr-paper", i2ilr("i2ilr-paper-128"), TWICE),
    Case("starganv2", preset("starganv2-tiny-32"), HALVES, draws=True),
    Case(
        "starganv2-domains",
        replaced(preset("starganv2-tiny-32"), ['method.domains=["cat", "dog"]', "method.lambda_diversity=0"]),
        {"generator": 4},
        draws=True,
    ),
    # GRIT draws its noise image by image: another split of the batch gives the same.
    Case("grit", grit(), ONCE),
    Case("grit-unet", grit("method.noise=false", "method.residual=false"), ONCE),
    Case("grit-noise", grit("method.residual=false", "method.condition=image"), ONCE),
    # The residual's last layer starts at zero: in the first step nothing reaches the noise that it alone uses.
    Case("grit-sketch-r1", grit("method.condition=sketch", *PENALIZED, *APART), ONCE, idle=r"decoder\..*noise\.weight"),
    Case(
        "grit-diverse", grit("method.lambda_diversity=1.0", *APART), {"generator": 2, "style_encoder": 1}, draws=True,
        idle=r"decoder\..*noise\.weight",
    ),
    Case("pix2pixhd", matching("pix2pixhd"), {"generator": 1}),
    # Batch normalisation makes an image's loss depend on its batch.
    Case("spade", matching("spade"), ONCE, draws=True),
    Case("spade-instance", matching("spade", "method.norm=instance", "method.condition=sketch"), ONCE),
    Case(
        "spade-plain",
        matching("spade", "method.style_dim=0", "method.discriminator_norm=false", "method.lambda_features=0"),
        {"generator": 1},
        draws=True,
    ),
    Case("stylegan2", prior("stylegan2", "method.augment_target=0"), {"generator.synthesis": 1.5}, draws=True),
    Case("stylegan2-augmented", prior("stylegan2", "method.r1_every=2"), {"generator.synthesis": 1.5}, draws=True),
    Case(
        "stylegan2-plain",
        prior("stylegan2", "method.mixing=0", "method.path_weight=0", "method.r1_gamma=0"),
        {"generator.synthesis": 1},
        draws=True,
    ),
    Case("progan", prior("progan"), {"generator": 1}, draws=True, idle=r"(to|from)_rgb\.[012]\."),
    Case("psp", encoding("psp"), {"generator.synthesis": 1}, draws=True, idle=DEAD),
    Case("psp-w", encoding("psp", "method.space=w"), draws=True, idle=DEAD),
    Case(
        "psp-tuned",
        encoding("psp", "method.train_generator=true", "method.condition=labels", "method.classes=4"),
        draws=True,
        idle=DEAD,
    ),
    # Two steps for each image, and the average code's image once for all.
    Case("ome", encoding("ome"), {"generator.synthesis": 2.25}, draws=True),
    Case(
        "ome-single",
        encoding(
            "ome",
            "method.offsets=false",
            "method.many_codes=false",
            "method.many_scales=false",
            "method.condition=self",
        ),
        {"generator.synthesis": 1.25},
        draws=True,
    ),
    Case(
        "ome-progan",
        encoding("ome", "method.cut=4", "method.progan_codes=4", prior="progan"),
        draws=True,
        idle=r"fusion\.",
    ),
    Case(
        "ome-progan-static",
        encoding(
            "ome",
            "method.cut=4",
            "method.progan_codes=4",
            "method.dynamic_fusion=false",
            "method.condition=sketch",
            prior="progan",
        ),
        draws=True,
    ),
    Case("grit-into-residual", grit("method.adversarial_into=residual", "method.pixel_norm=false"), ONCE),
]


def grit_method(*settings: str, trained: bool = True) -> GRIT:
    """A tiny GRIT; as `trained`, its residual and its noise have weights that are not zero."""
    torch.manual_seed(0)
    method = GRIT(grit(*(f"method.{setting}" for setting in settings)).method)
    if trained:
        with torch.no_grad():
            for name, parameter in method.generator.named_parameters():
                if name.endswith("noise.weight") or name == "to_residual.weight":
                    parameter.normal_()
    return method


def grit_batch(method: GRIT, count: int = 4, *, seed: int = 0) -> Batch:
    images = pictures(count, seed=seed)
    return Batch(images, {}, conditions(method.config, images))


def grit_condition(method: GRIT, count: int = 4, *, seed: int = 0) -> Tensor:
    condition = grit_batch(method, count, seed=seed).condition
    assert condition is not None
    return condition


def trainer_of(experiment: Experiment) -> Trainer:
    return Trainer(experiment, torch.device("cpu"), World(rank=0, size=1, local_rank=0))


def pictures(count: int, *, size: int = 32, seed: int = 0) -> Tensor:
    """Patches of strong colour under a little noise, (count, 3, size, size): targets that differ, and some detail."""
    generator = torch.Generator().manual_seed(seed)
    patches = F.interpolate(torch.rand(count, 3, 4, 4, generator=generator) * 1.6 - 0.8, size=size)
    return (patches + 0.15 * torch.randn(count, 3, size, size, generator=generator)).clamp(-1, 1)


def conditions(config: SynthesisConfig | EncodingConfig, images: Tensor) -> Tensor:
    """What such pictures could be made from, as data keeps it: the levels or the classes of their patches' lightness,
    or their colours."""
    patches = F.interpolate(F.avg_pool2d(images, images.shape[-1] // 4), size=images.shape[-1])
    levels = (patches + 1) * 127.5
    if config.condition in ("image", "lr"):
        return levels.to(torch.uint8)
    lightness = levels.mean(1, keepdim=True)
    return (lightness / 256 * config.classes if config.condition == "labels" else lightness).to(torch.uint8)


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def unfilled(name: str) -> Method:
    """The preset's method without memory for its weights."""
    experiment = preset(name)
    with torch.device("meta"):
        return METHODS[experiment.kind](experiment.method)
