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
    kinds: tuple[str, ...] = ("i2ilr",)
    """The methods that it measures."""
    parts: bool = False
    """Rows are the parts of a model's output: reconstruction, residual and sum."""
    factors: tuple[int, ...] = (1,)
    """Of an encoder's inputs, which are the references shrunk by each in turn; 1: the references themselves."""
    steps: bool = False
    """Rows are the steps of an encoder, and their columns curves over these."""
    notes: tuple[str, ...] = ()
    """What a reader of the paper's own table should know."""


def _fid_lpips(name: str, fid: str, lpips: str) -> Published:
    return Published(name, {"fd": f"{fid} FID", "diversity": f"{lpips} LPIPS"})


def _density_coverage(name: str, density: str, coverage: str) -> Published:
    return Published(name, {"density": f"{density} VGG16", "coverage": f"{coverage} VGG16"})


def _five(name: str, l1: str, psnr: str, ssim: str, lpips: str, fid: str) -> Published:
    values = {"l1": l1, "psnr": psnr, "ssim": ssim, "perceptual": f"{lpips} LPIPS", "fd": f"{fid} FID"}
    return Published(name, values)


def _timed(name: str, psnr: str, lpips: str, seconds: str, ssim: str = "") -> Published:
    values = {"psnr": psnr, "perceptual": f"{lpips} LPIPS", "seconds": f"{seconds} s"}
    return Published(name, values | ({"ssim": ssim} if ssim else {}))


def _shrunk(name: str, psnr: str, lpips: str, piqe: str) -> Published:
    return Published(name, {"psnr": psnr, "perceptual": f"{lpips} LPIPS", "piqe": piqe})


def _ablation(name: str, folder: str, generator: str, *, ob: bool, mc: bool, ms: bool, df: bool = True) -> Variant:
    """A row of OME's ablations: offsets, many codes, many scales, dynamic fusion; all of them inversion."""
    switches = {"offsets": ob, "many_codes": mc, "many_scales": ms, "dynamic_fusion": df}
    settings = (f"method.{field}={'true' if on else 'false'}" for field, on in switches.items())
    return Variant(name, folder, ("method.condition=self", f"method.generator={generator}", *settings))


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
        kinds=("grit",),
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
        kinds=("grit",),
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
        kinds=("grit",),
    ),
    "grit-figure9": Protocol(
        name="grit-figure9",
        about="Suri et al., Figure 9: spectra of the reconstruction, the residual, their sum and the real images",
        metrics=("spectrum", "l1", "psnr"),
        kinds=("grit",),
        parts=True,
    ),
    "ome-table1": Protocol(
        name="ome-table1",
        about="Guo et al. 2023, Table 1: inversion, an image encoded and made anew",
        metrics=("psnr", "perceptual", "seconds"),
        published=(
            _timed("Ma et al., faces", "20.95", "0.3366", "162"),
            _timed("Gu et al., faces", "29.31", "0.1619", "655"),
            _timed("Zhu et al., faces", "17.11", "0.3127", "0.02"),
            _timed("OME, faces", "21.43", "0.1600", "0.51"),
            _timed("Ma et al., churches", "16.54", "0.5173", "93"),
            _timed("Gu et al., churches", "24.29", "0.1569", "587"),
            _timed("Zhu et al., churches", "13.49", "0.3055", "0.02"),
            _timed("OME, churches", "19.24", "0.1582", "0.50"),
            _timed("Ma et al., bedrooms", "17.10", "0.6061", "93"),
            _timed("Gu et al., bedrooms", "26.10", "0.2213", "587"),
            _timed("Zhu et al., bedrooms", "14.24", "0.3929", "0.02"),
            _timed("OME, bedrooms", "17.79", "0.2661", "0.50"),
        ),
        kinds=("ome", "psp"),
    ),
    "ome-table2": Protocol(
        name="ome-table2",
        about="Guo et al. 2023, Table 2: what offsets (OB), many codes (MC), many scales (MS) and dynamic fusion (DF) "
        "add to inversion with ProGAN",
        metrics=("psnr", "perceptual", "ssim", "seconds"),
        published=(
            _timed("one code", "17.1075", "0.3127", "0.0219", "0.5142"),
            _timed("MC", "20.0149", "0.2234", "0.0822", "0.5873"),
            _timed("MS", "20.2618", "0.2189", "0.1009", "0.5960"),
            _timed("MS DF", "20.8705", "0.1865", "0.1031", "0.6153"),
            _timed("OB", "18.8219", "0.2394", "0.0981", "0.5641"),
            _timed("OB MC", "20.5240", "0.1993", "0.4023", "0.5959"),
            _timed("OB MS", "20.5681", "0.1978", "0.4988", "0.5999"),
            _timed("OB MS DF", "21.4278", "0.1600", "0.5090", "0.6171"),
        ),
        variants=(
            _ablation("one code", "single", "progan", ob=False, mc=False, ms=False, df=False),
            _ablation("MC", "mc", "progan", ob=False, mc=True, ms=False, df=False),
            _ablation("MS", "ms", "progan", ob=False, mc=True, ms=True, df=False),
            _ablation("MS DF", "ms-df", "progan", ob=False, mc=True, ms=True),
            _ablation("OB", "ob", "progan", ob=True, mc=False, ms=False, df=False),
            _ablation("OB MC", "ob-mc", "progan", ob=True, mc=True, ms=False, df=False),
            _ablation("OB MS", "ob-ms", "progan", ob=True, mc=True, ms=True, df=False),
            _ablation("OB MS DF", "ob-ms-df", "progan", ob=True, mc=True, ms=True),
        ),
        kinds=("ome",),
        notes=(
            "The paper's ticks are read by its text and times: a row of MS has many codes, from many scales, and only "
            "the last row of each half has DF.",
        ),
    ),
    "ome-table3": Protocol(
        name="ome-table3",
        about="Guo et al. 2023, Table 3: what multi-scale codes (MS) and offsets (OB) add to inversion with StyleGAN2",
        metrics=("psnr", "perceptual", "ssim", "seconds"),
        published=(
            _timed("single code", "18.3693", "0.2362", "0.0643", "0.5611"),
            _timed("multi-scale codes", "20.9662", "0.1620", "0.0805", "0.6191"),
            _timed("+ offsets", "22.4731", "0.1130", "0.5807", "0.6502"),
        ),
        variants=(
            _ablation("single code", "single", "stylegan2", ob=False, mc=False, ms=False),
            _ablation("multi-scale codes", "multi-scale", "stylegan2", ob=False, mc=True, ms=True),
            _ablation("+ offsets", "offsets", "stylegan2", ob=True, mc=True, ms=True),
        ),
        kinds=("ome",),
    ),
    "ome-table4": Protocol(
        name="ome-table4",
        about="Guo et al. 2023, Table 4: super-resolution by factors of 8, 16 and 32",
        metrics=("psnr", "perceptual", "piqe", "seconds"),
        published=(
            _shrunk("Pix2PixHD, x8", "25.0831", "0.1593", "24.1864"),
            _shrunk("mGANprior, x8", "26.9686", "0.1965", "44.2474"),
            _shrunk("Pulse, x8", "22.1668", "0.2875", "23.5917"),
            _shrunk("pSp, x8", "19.4106", "0.2128", "25.7223"),
            _shrunk("OME, x8", "20.1552", "0.2103", "19.3761"),
            _shrunk("Pix2PixHD, x16", "22.5389", "0.2301", "24.5360"),
            _shrunk("mGANprior, x16", "25.0774", "0.2263", "39.7751"),
            _shrunk("Pulse, x16", "20.6444", "0.3274", "22.6326"),
            _shrunk("pSp, x16", "19.3405", "0.2291", "25.7913"),
            _shrunk("OME, x16", "19.9642", "0.2242", "19.1270"),
            _shrunk("Pix2PixHD, x32", "22.5389", "0.2970", "25.7628"),
            _shrunk("mGANprior, x32", "22.0454", "0.2701", "36.3191"),
            _shrunk("Pulse, x32", "18.2372", "0.3882", "21.6511"),
            _shrunk("pSp, x32", "18.8439", "0.2611", "25.6459"),
            _shrunk("OME, x32", "18.9831", "0.2568", "19.8668"),
        ),
        kinds=("ome", "psp"),
        factors=(8, 16, 32),
        notes=("The paper prints one PSNR, 22.5389, for Pix2PixHD at two factors.",),
    ),
    "ome-figure7": Protocol(
        name="ome-figure7",
        about="Guo et al. 2023, Figure 7 and eq. 16: how far each step moves the codes of each scale",
        metrics=("change-coarse", "change-middle", "change-fine"),
        kinds=("ome",),
        steps=True,
    ),
    "ome-figure8": Protocol(
        name="ome-figure8",
        about="Guo et al. 2023, Figure 8: the distance to the target after each step",
        metrics=("perceptual", "l2"),
        kinds=("ome",),
        steps=True,
    ),
    "samples": Protocol(
        name="samples",
        about="A prior's samples against real images; the papers' distances are those of 50,000 samples",
        metrics=("fd", "kd", "precision", "recall", "density", "coverage"),
        samples=1000,
        published=(
            Published("StyleGAN2, FFHQ 1024", {"fd": "2.84 FID"}),
            Published("ProGAN, CelebA-HQ 1024", {"fd": "7.30 FID"}),
        ),
        network="inception",
        kinds=("stylegan2", "progan"),
    ),
}
"""Every protocol by its name."""

WAITING = {"psp-table1": "is a rating by people, which is not built: measure super-resolution by ome-table4"}
"""Tables that have no protocol yet, and why."""


def protocol(name: str) -> Protocol:
    """The protocol of that name, or a PixgraftError that lists those there are."""
    if name in WAITING:
        raise PixgraftError(f"--protocol {name}: {WAITING[name]}")
    if name not in PROTOCOLS:
        raise PixgraftError(f"--protocol {name}: choose from {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
