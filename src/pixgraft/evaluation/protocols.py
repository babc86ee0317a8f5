"""The papers' tables by name: which metrics, how many samples of a condition, and the figures that were published."""

from dataclasses import dataclass

from pixgraft.errors import PixgraftError


@dataclass(frozen=True)
class Published:
    """One row of a paper's table."""

    name: str
    values: dict[str, str]
    """By our metric's name, the figure as it is printed and what the paper measured with."""


@dataclass(frozen=True)
class Variant:
    """One row of a table whose rows are trained: a preset with other settings."""

    name: str
    folder: str
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Protocol:
    """How a table is measured."""

    name: str
    about: str
    metrics: tuple[str, ...]
    optional: tuple[str, ...] = ()
    """Metrics that are added where their network's weights are at hand."""
    samples: int = 10
    """Outputs of each condition."""
    published: tuple[Published, ...] = ()
    network: str = ""
    """The set network that the paper used; ours are named after what they used."""
    variants: tuple[Variant, ...] = ()
    """Rows to be trained: then MODEL is a preset, or the folder of an earlier call."""
    kind: str = "i2ilr"
    """The method that it measures."""
    parts: bool = False
    """Rows are the parts of a model's output: reconstruction, residual and sum."""


def _fid_lpips(name: str, fid: str, lpips: str) -> Published:
    return Published(name, {"fd": f"{fid} FID", "diversity": f"{lpips} LPIPS"})


def _density_coverage(name: str, density: str, coverage: str) -> Published:
    return Published(name, {"density": f"{density} VGG16", "coverage": f"{coverage} VGG16"})


def _five(name: str, l1: str, psnr: str, ssim: str, lpips: str, fid: str) -> Published:
    values = {"l1": l1, "psnr": psnr, "ssim": ssim, "perceptual": f"{lpips} LPIPS", "fd": f"{fid} FID"}
    return Published(name, values)


_GRIT = ("l1", "psnr", "ssim", "perceptual", "fd")
_GRAFT = ("consistency", "consistency-largest")
_FACES = ("identity", "identity-other")

PROTOCOLS = {
    "i2ilr-table1": Protocol(
        name="i2ilr-table1",
        about="Abid et al. 2021, Table 1: distance and diversity on CelebA-HQ, ten sources for each LR target",
        metrics=("fd", "diversity", *_GRAFT),
        optional=_FACES,
        network="inception",
        published=(
            _fid_lpips("I2I-LR, 128", "15.52", "0.34"),
            _fid_lpips("StarGAN v2, 128", "19.58", "0.22"),
            _fid_lpips("I2I-LR, 256", "25.89", "0.329"),
            _fid_lpips("StarGAN v2, 256", "23.8", "0.38"),
            _fid_lpips("MSGAN, 256", "39.6", "0.312"),
            _fid_lpips("DRIT, 256", "53.3", "0.311"),
            _fid_lpips("MUNIT, 256", "107.1", "0.176"),
        ),
    ),
    "i2ilr-table2": Protocol(
        name="i2ilr-table2",
        about="Abid et al. 2021, Table 2: density and coverage (k = 5) on CelebA-HQ, ten sources for each LR target",
        metrics=("density", "coverage", "precision", "recall", *_GRAFT),
        network="vgg16",
        published=(
            _density_coverage("I2I-LR, 128", "1.97", "0.98"),
            _density_coverage("StarGAN v2, 128", "1.63", "0.89"),
            _density_coverage("I2I-LR, 256", "1.87", "0.92"),
            _density_coverage("StarGAN v2, 256", "1.67", "0.69"),
        ),
    ),
    "i2ilr-table3": Protocol(
        name="i2ilr-table3",
        about="Abid et al. 2021, Table 3: Table 1's measures on AFHQ, a model for each of cats, dogs and wild",
        metrics=("fd", "diversity", *_GRAFT),
        network="inception",
        published=(
            _fid_lpips("I2I-LR, cats", "22.8", "0.40"),
            _fid_lpips("StarGAN v2, cats", "25.2", "0.42"),
            _fid_lpips("I2I-LR, dogs", "67.3", "0.47"),
            _fid_lpips("StarGAN v2, dogs", "56.5", "0.34"),
            _fid_lpips("I2I-LR, wild", "20.61", "0.23"),
            _fid_lpips("StarGAN v2, wild", "19.87", "0.46"),
        ),
    ),
    "i2ilr-table4": Protocol(
        name="i2ilr-table4",
        about="Abid et al. 2021, Table 4: Table 1's measures against the LR target's size, on CelebA-HQ",
        metrics=("fd", "diversity", *_GRAFT),
        optional=_FACES,
        network="inception",
        published=(
            _fid_lpips("LR 4", "15.13", "0.30"),
            _fid_lpips("LR 8", "15.34", "0.34"),
            _fid_lpips("LR 16", "19.45", "0.14"),
            _fid_lpips("LR 32", "13.55", "0.08"),
        ),
        variants=tuple(Variant(f"LR {size}", f"lr-{size}", (f"method.lr_size={size}",)) for size in (4, 8, 16, 32)),
    ),
    "grit-table1": Protocol(
        name="grit-table1",
        about="Suri et al., Table 1: CelebAMask-HQ labels to faces at 256, in the real image's style",
        metrics=_GRIT,
        network="inception",
        published=(
            _five("GRIT", "18.34", "19.54", "0.531", "0.245", "17.04"),
            _five("SPADE", "28.69", "16.21", "0.485", "0.283", "26.06"),
            _five("Pix2PixHD", "24.78", "17.53", "0.515", "0.256", "45.97"),
            _five("DINO", "51.84", "12.13", "0.401", "0.369", "37.24"),
            _five("MoNCE", "64.26", "10.32", "0.357", "0.380", "34.27"),
        ),
        kind="grit",
    ),
    "grit-table2": Protocol(
        name="grit-table2",
        about="Suri et al., Table 2: the same at 512",
        metrics=_GRIT,
        network="inception",
        published=(
            _five("GRIT", "19.02", "19.36", "0.555", "0.333", "16.91"),
            _five("SPADE", "31.44", "15.53", "0.490", "0.389", "20.80"),
            _five("Pix2PixHD", "24.80", "17.40", "0.534", "0.354", "24.79"),
        ),
        kind="grit",
    ),
    "grit-table3": Protocol(
        name="grit-table3",
        about="Suri et al., Table 3: what noise and residual add, at 256",
        metrics=_GRIT,
        network="inception",
        published=(
            _five("U-Net", "21.68", "18.25", "0.504", "0.222", "20.24"),
            _five("+ noise", "20.93", "18.55", "0.520", "0.219", "21.41"),
            _five("+ residual", "18.34", "19.54", "0.531", "0.245", "17.04"),
        ),
        variants=(
            Variant("U-Net", "unet", ("method.noise=false", "method.residual=false")),
            Variant("+ noise", "noise", ("method.residual=false",)),
            Variant("+ residual", "residual", ()),
        ),
        kind="grit",
    ),
    "grit-figure9": Protocol(
        name="grit-figure9",
        about="Suri et al., Figure 9: spectra of the reconstruction, the residual, their sum and the real images",
        metrics=("spectrum", "l1", "psnr"),
        kind="grit",
        parts=True,
    ),
}
"""Every protocol by its name."""


def protocol(name: str) -> Protocol:
    """The protocol of that name, or a PixgraftError that lists those there are."""
    if name not in PROTOCOLS:
        raise PixgraftError(f"--protocol {name}: choose from {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
