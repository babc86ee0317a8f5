"""The papers' tables by name: task, metrics, number of samples, and the published figures."""

from dataclasses import dataclass
from typing import Literal

from pixgraft.errors import PixgraftError, unknown


@dataclass(frozen=True)
class Published:
    """One row of a paper's table."""

    name: str
    values: dict[str, str]
    """Published figures by metric name, with what the paper measured them by, for example {"fd": "15.52 FID"}."""


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
    task: str
    """The task of the models that it measures: "graft", "synthesize", "encode" or "sample"; empty for folders."""
    title: str
    metrics: tuple[str, ...]
    optional: tuple[str, ...] = ()
    """Metrics of faces, added where the weights of a face network are there."""
    samples: int = 1
    """Outputs of each condition."""
    published: tuple[Published, ...] = ()
    network: str = ""
    """The feature network by which the paper compared sets."""
    variants: tuple[Variant, ...] = ()
    """Rows to be trained: then MODEL is a preset, or the folder of an earlier call."""
    components: bool = False
    """The rows are the components of a model's images, and their sum."""
    factors: tuple[int, ...] = (1,)
    """Factors by which references are shrunk to an encoder's inputs; 1: the references themselves."""
    by_step: bool = False
    """The rows are the steps of an encoder, and the columns are drawn as curves over these."""
    tradeoff: bool = False
    """The rows are an encoder's passes, and the pictures of searches by step, which are drawn against their seconds."""
    kinds: tuple[str, ...] = ()
    """Kinds of condition of the encoders that it measures; empty: all, but inversion where images are shrunk."""
    curve: Literal["", "identity", "perceptual"] = ""
    """The loss that is drawn over the training of each row."""
    by_class: bool = False
    """Each row is a class of images: trained and measured on the folder of its name within the splits."""
    notes: tuple[str, ...] = ()
    """Remarks on the paper's table."""

    @property
    def networks(self) -> tuple[str, ...]:
        """Feature networks to take where their weights are there: the paper's, and those of distances and faces."""
        named = (self.network,) if self.network else ()
        return (*named, "lpips-alex", "mobilefacenet", "irse50")

    @property
    def fixed_rows(self) -> str:
        """What the rows are, if no others can stand beside them; empty if models and folders of outputs can."""
        if self.by_class:
            return "classes"
        trained = "runs that it trains" if self.variants else ""
        parts = "the components of one model's images" if self.components else ""
        return trained or parts or ("the steps of one model" if self.by_step else "")


def _published(metrics: str, rows: dict[str, str]) -> tuple[Published, ...]:
    """Rows of figures, by name and in the order of `metrics`; "fd:FID" names what the paper measured with."""
    columns = [metric.partition(":") for metric in metrics.split()]
    published = []
    for name, text in rows.items():
        figures = zip(columns, text.split(), strict=True)
        published.append(Published(name, {metric: f"{figure} {by}".strip() for (metric, _, by), figure in figures}))
    return tuple(published)


def _ablation(name: str, folder: str, generator: str, switches: str, *settings: str, fusion: bool) -> Variant:
    """A row of OME's ablations, all of them inversion: offsets (OB), many codes (MC), many scales (MS)."""
    on = {
        "offsets": "OB" in switches, "many_codes": "MC" in switches or "MS" in switches,
        "many_scales": "MS" in switches, "dynamic_fusion": fusion,
    }  # fmt: skip
    switched = (f"method.{field}={str(value).lower()}" for field, value in on.items())
    return Variant(name, folder, ("method.condition=self", f"method.generator={generator}", *switched, *settings))


def _progan_ablation(name: str) -> Variant:
    """The row of Table 2 whose name lists its switches."""
    folder = "single" if name == "one code" else name.lower().replace(" ", "-")
    return _ablation(name, folder, "progan", name, fusion="DF" in name)


_JOINT = ("method.noise=false", "method.residual=false", "method.adversarial_into=sum")
"""GRIT's settings for one image that takes both losses."""
_GRIT = ("l1", "psnr", "ssim", "perceptual", "fd")
_GRIT_PUBLISHED = "l1 psnr ssim perceptual:LPIPS fd:FID"
_GRAFT = ("consistency", "consistency-largest")
_SOURCES = 10
"""Sources for each LR target, where the paper says ten."""
_CONDITIONAL = ("drawing", "perceptual", "psnr")
_SHOWN = (
    "The paper's figure shows images alone, and speaks of their semantic alignment (hair, smile, glasses), for which "
    "the difference of the drawings stands here."
)
FACES = ("identity", "identity-other")
"""The metrics that take a face network."""
_FID_LPIPS = "fd:FID diversity:LPIPS"
_TIMED = "psnr perceptual:LPIPS seconds:s"

_PROTOCOLS = (
    Protocol(
        "i2ilr-table1", "graft",
        "Abid et al. 2021, Table 1: distance and diversity on CelebA-HQ, ten sources for each LR target",
        ("fd", "diversity", *_GRAFT), optional=FACES, network="inception-torchvision",
        samples=_SOURCES,
        published=_published(_FID_LPIPS, {
            "I2I-LR, 128": "15.52 0.34", "StarGAN v2, 128": "19.58 0.22", "I2I-LR, 256": "25.89 0.329",
            "StarGAN v2, 256": "23.8 0.38", "MSGAN, 256": "39.6 0.312", "DRIT, 256": "53.3 0.311",
            "MUNIT, 256": "107.1 0.176",
        }),
    ),
    Protocol(
        "i2ilr-table2", "graft",
        "Abid et al. 2021, Table 2: density and coverage (k = 5) on CelebA-HQ, ten sources for each LR target",
        ("density", "coverage", "precision", "recall", *_GRAFT), network="vgg16",
        samples=_SOURCES,
        published=_published("density:VGG16 coverage:VGG16", {
            "I2I-LR, 128": "1.97 0.98", "StarGAN v2, 128": "1.63 0.89", "I2I-LR, 256": "1.87 0.92",
            "StarGAN v2, 256": "1.67 0.69",
        }),
    ),
    Protocol(
        "i2ilr-table3", "graft",
        "Abid et al. 2021, Table 3: Table 1's measures on AFHQ, a model for each of cats, dogs and wild",
        ("fd", "diversity", *_GRAFT), network="inception-torchvision",
        samples=_SOURCES,
        published=_published(_FID_LPIPS, {
            "I2I-LR, cats": "22.8 0.40", "StarGAN v2, cats": "25.2 0.42", "I2I-LR, dogs": "67.3 0.47",
            "StarGAN v2, dogs": "56.5 0.34", "I2I-LR, wild": "20.61 0.23", "StarGAN v2, wild": "19.87 0.46",
        }),
    ),
    Protocol(
        "i2ilr-table4", "graft",
        "Abid et al. 2021, Table 4: Table 1's measures against the LR target's size, on CelebA-HQ",
        ("fd", "diversity", *_GRAFT), optional=FACES, network="inception-torchvision",
        samples=_SOURCES,
        published=_published(
            _FID_LPIPS, {"LR 4": "15.13 0.30", "LR 8": "15.34 0.34", "LR 16": "19.45 0.14", "LR 32": "13.55 0.08"}
        ),
        variants=tuple(Variant(f"LR {size}", f"lr-{size}", (f"method.lr_size={size}",)) for size in (4, 8, 16, 32)),
    ),
    Protocol(
        "i2ilr-colour", "graft",
        "Abid et al. 2021, section 4.4: Table 1's measures for LR targets in colour and in grey, on CelebA-HQ",
        ("fd", "diversity", *_GRAFT), optional=FACES, network="inception-torchvision",
        samples=_SOURCES,
        variants=tuple(Variant(name, name, (f"method.target={target}",)) for name, target in (
            ("colour", "color"), ("grey", "grey"),
        )),
        notes=("The paper's figures are in its supplement, which is not to be had.",),
    ),
    Protocol(
        "grit-table1", "synthesize",
        "Suri et al., Table 1: CelebAMask-HQ labels to faces at 256, in the real image's style",
        _GRIT, network="inception",
        published=_published(_GRIT_PUBLISHED, {
            "GRIT": "18.34 19.54 0.531 0.245 17.04", "SPADE": "28.69 16.21 0.485 0.283 26.06",
            "Pix2PixHD": "24.78 17.53 0.515 0.256 45.97", "DINO": "51.84 12.13 0.401 0.369 37.24",
            "MoNCE": "64.26 10.32 0.357 0.380 34.27",
        }),
    ),
    Protocol(
        "grit-table2", "synthesize", "Suri et al., Table 2: the same at 512", _GRIT, network="inception",
        published=_published(_GRIT_PUBLISHED, {
            "GRIT": "19.02 19.36 0.555 0.333 16.91", "SPADE": "31.44 15.53 0.490 0.389 20.80",
            "Pix2PixHD": "24.80 17.40 0.534 0.354 24.79",
        }),
    ),
    Protocol(
        "grit-table3", "synthesize", "Suri et al., Table 3: what noise and residual add, at 256",
        _GRIT, network="inception",
        published=_published(_GRIT_PUBLISHED, {
            "U-Net": "21.68 18.25 0.504 0.222 20.24", "+ noise": "20.93 18.55 0.520 0.219 21.41",
            "+ residual": "18.34 19.54 0.531 0.245 17.04",
        }),
        variants=(
            Variant("U-Net", "unet", ("method.noise=false", "method.residual=false")),
            Variant("+ noise", "noise", ("method.residual=false",)),
            Variant("+ residual", "residual", ()),
        ),
    ),
    Protocol(
        "grit-losses", "synthesize",
        "Suri et al., section 4.3: L1 and a loss of VGG's features as L_rec", _GRIT, network="inception",
        variants=(
            Variant("L1", "l1", ("method.reconstruction=l1",)),
            Variant("perceptual", "perceptual", ("method.reconstruction=perceptual",)),
        ),
        notes=("The paper's figures are in its supplement, which is not to be had; they are said to favour L1.",),
    ),
    Protocol(
        "grit-figure3", "synthesize",
        "Suri et al., Figure 3: objectives of one image, L1, perceptual, perceptual and adversarial; and GRIT's, which "
        "are decoupled", _GRIT, network="inception",
        variants=(
            Variant("L1", "l1", (*_JOINT, "method.reconstruction=l1", "method.lambda_adversarial=0")),
            Variant("perceptual", "perceptual",
                    (*_JOINT, "method.reconstruction=perceptual", "method.lambda_adversarial=0")),
            Variant("perceptual + adversarial", "joint", (*_JOINT, "method.reconstruction=perceptual")),
            Variant("decoupled", "decoupled", ("method.reconstruction=l1",)),
        ),
        notes=("The paper's figure shows images alone, and not GRIT's.",),
    ),
    Protocol(
        "grit-figure7", "synthesize",
        "Suri et al., Figure 7: the deviation of each pixel over 20 samples of a condition with different noise",
        ("deviation", "diversity"), samples=20,
        notes=("The paper's figure shows images alone: images.png has the deviation, the largest of an image white.",),
    ),
    Protocol(
        "grit-figure9", "synthesize",
        "Suri et al., Figure 9: spectra of the reconstruction, the residual, their sum and the real images",
        ("spectrum", "l1", "psnr"), components=True,
    ),
    Protocol(
        "ome-table1", "encode", "Guo et al. 2023, Table 1: inversion, an image encoded and made anew",
        ("psnr", "perceptual", "seconds"),
        published=_published(_TIMED, {
            "Ma et al., faces": "20.95 0.3366 162", "Gu et al., faces": "29.31 0.1619 655",
            "Zhu et al., faces": "17.11 0.3127 0.02", "OME, faces": "21.43 0.1600 0.51",
            "Ma et al., churches": "16.54 0.5173 93", "Gu et al., churches": "24.29 0.1569 587",
            "Zhu et al., churches": "13.49 0.3055 0.02", "OME, churches": "19.24 0.1582 0.50",
            "Ma et al., bedrooms": "17.10 0.6061 93", "Gu et al., bedrooms": "26.10 0.2213 587",
            "Zhu et al., bedrooms": "14.24 0.3929 0.02", "OME, bedrooms": "17.79 0.2661 0.50",
        }),
    ),
    Protocol(
        "ome-table2", "encode",
        "Guo et al. 2023, Table 2: what offsets (OB), many codes (MC), many scales (MS) and dynamic fusion (DF) add to "
        "inversion with ProGAN",
        ("psnr", "perceptual", "ssim", "seconds"),
        published=_published(f"{_TIMED} ssim", {
            "one code": "17.1075 0.3127 0.0219 0.5142", "MC": "20.0149 0.2234 0.0822 0.5873",
            "MS": "20.2618 0.2189 0.1009 0.5960", "MS DF": "20.8705 0.1865 0.1031 0.6153",
            "OB": "18.8219 0.2394 0.0981 0.5641", "OB MC": "20.5240 0.1993 0.4023 0.5959",
            "OB MS": "20.5681 0.1978 0.4988 0.5999", "OB MS DF": "21.4278 0.1600 0.5090 0.6171",
        }),
        variants=tuple(
            _progan_ablation(name)
            for name in ("one code", "MC", "MS", "MS DF", "OB", "OB MC", "OB MS", "OB MS DF")
        ),
        notes=(
            "The paper's ticks are read by its text and times: a row of MS has many codes, from many scales, and only "
            "the last row of each half has DF.",
        ),
    ),
    Protocol(
        "ome-table3", "encode",
        "Guo et al. 2023, Table 3: what multi-scale codes (MS) and offsets (OB) add to inversion with StyleGAN2",
        ("psnr", "perceptual", "ssim", "seconds"),
        published=_published(f"{_TIMED} ssim", {
            "single code": "18.3693 0.2362 0.0643 0.5611", "multi-scale codes": "20.9662 0.1620 0.0805 0.6191",
            "+ offsets": "22.4731 0.1130 0.5807 0.6502",
        }),
        variants=(
            _ablation("single code", "single", "stylegan2", "", fusion=True),
            _ablation("multi-scale codes", "multi-scale", "stylegan2", "MS", fusion=True),
            _ablation("+ offsets", "offsets", "stylegan2", "OB MS", fusion=True),
            # With an update after each of five steps, the row above has five times the updates of the other two.
            _ablation(
                "+ offsets, one update a batch", "offsets-once", "stylegan2", "OB MS", "method.updates=each_batch",
                fusion=True,
            ),
        ),
    ),
    Protocol(
        "ome-table4", "encode", "Guo et al. 2023, Table 4: super-resolution by factors of 8, 16 and 32",
        ("psnr", "perceptual", "piqe", "seconds"), factors=(8, 16, 32),
        published=_published("psnr perceptual:LPIPS piqe", {
            "Pix2PixHD, x8": "25.0831 0.1593 24.1864", "mGANprior, x8": "26.9686 0.1965 44.2474",
            "Pulse, x8": "22.1668 0.2875 23.5917", "pSp, x8": "19.4106 0.2128 25.7223",
            "OME, x8": "20.1552 0.2103 19.3761", "Pix2PixHD, x16": "22.5389 0.2301 24.5360",
            "mGANprior, x16": "25.0774 0.2263 39.7751", "Pulse, x16": "20.6444 0.3274 22.6326",
            "pSp, x16": "19.3405 0.2291 25.7913", "OME, x16": "19.9642 0.2242 19.1270",
            "Pix2PixHD, x32": "22.5389 0.2970 25.7628", "mGANprior, x32": "22.0454 0.2701 36.3191",
            "Pulse, x32": "18.2372 0.3882 21.6511", "pSp, x32": "18.8439 0.2611 25.6459",
            "OME, x32": "18.9831 0.2568 19.8668",
        }),
        notes=("The paper prints one PSNR, 22.5389, for Pix2PixHD at two factors.",),
    ),
    Protocol(
        "psp-consistency", "encode",
        "pSp's super-resolution by a factor of 8: the share of images that shrink to their inputs within 1e-3",
        ("consistent", "downscaling", "psnr", "perceptual"), factors=(8,), kinds=("lr",),
        published=_published("consistent", {"every method": "1"}),
        notes=(
            "The paper says that all images of all methods are within 1e-3 for the downscaling loss, which is PULSE's. "
            "pSp's own losses have no term for it.",
        ),
    ),
    Protocol(
        "ome-figure6", "encode",
        "Guo et al. 2023, Figure 6: the identity loss over training, as offsets (OB), many codes (MC), many scales "
        "(MS) and dynamic fusion (DF) are added one by one",
        ("psnr", "perceptual"), optional=("identity",), curve="identity",
        variants=tuple(
            _progan_ablation(name) for name in ("one code", "OB", "OB MC", "OB MS", "OB MS DF")
        ),
        notes=("The figure has no numbers in its text. Rows and folders are those of ome-table2.",),
    ),
    Protocol(
        "ome-figure7", "encode",
        "Guo et al. 2023, Figure 7 and eq. 16: how far each step moves the codes of each scale",
        ("change-coarse", "change-middle", "change-fine"), by_step=True,
    ),
    Protocol(
        "ome-figure8", "encode", "Guo et al. 2023, Figure 8: the distance to the target after each step",
        ("perceptual", "l2"), by_step=True,
    ),
    Protocol(
        "ome-figure11", "encode", "Guo et al. 2023, Figure 11: faces from label maps",
        _CONDITIONAL, kinds=("labels",), notes=(_SHOWN,),
    ),
    Protocol(
        "ome-figure12", "encode", "Guo et al. 2023, Figure 12: faces from sketches",
        _CONDITIONAL, kinds=("sketch",), notes=(_SHOWN,),
    ),
    Protocol(
        "invert-tradeoff", "encode",
        "Quality against time of ways to invert one prior: the passes of encoders, and searches by step",
        ("psnr", "ssim", "perceptual", "processor", "seconds"), tradeoff=True, kinds=("self", "lr"),
        published=_published("seconds:s psnr perceptual:LPIPS", {
            "Gu et al. (mGANprior), faces": "655 29.31 0.1619", "OME, faces": "0.51 21.43 0.1600",
        }),
        notes=(
            "A search's row is the best that it had so far. Its learning rate falls towards its last step: a shorter "
            "search is not the beginning of a longer one.",
        ),
    ),
    Protocol(
        "samples", "sample",
        "A prior's samples against real images; the papers' distances are those of 50,000 samples",
        ("fd", "kd", "precision", "recall", "density", "coverage"), samples=1000, network="inception",
        published=_published("fd:FID", {"StyleGAN2, FFHQ 1024": "2.84", "ProGAN, CelebA-HQ 1024": "7.30"}),
    ),
)  # fmt: skip
PROTOCOLS = {each.name: each for each in _PROTOCOLS}
"""Every protocol by its name."""

WAITING = {
    "psp-table1": "is a rating by people: `pixgraft study make` makes its page; ome-table4 and psp-consistency measure"
}
"""Tables without a protocol, and the reason."""


def protocol(name: str) -> Protocol:
    """The protocol of that name. Raises PixgraftError, which suggests similar names, if there is none."""
    if name in WAITING:
        raise PixgraftError(f"--protocol {name}: {WAITING[name]}")
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
