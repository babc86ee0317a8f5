"""The card of a converted model: its method, sizes and origin, the result of its self-check, and commands to use it."""

import shlex

from pixgraft.layouts.selfcheck import FLAT, LARGEST, NOISE, SATURATED, SMALLEST, STRIPES, Checked, Marks
from pixgraft.methods.base import Method

_TITLES = {
    "i2ilr": "I2I-LR (Abid et al. 2021)",
    "starganv2": "StarGAN v2 (Choi et al. 2020)",
    "stylegan2": "StyleGAN2 (Karras et al. 2020)",
    "progan": "ProGAN (Karras et al. 2018)",
    "psp": "pSp (Richardson et al. 2021)",
    "pix2pixhd": "pix2pixHD (Wang et al. 2018)",
    "spade": "SPADE (Park et al. 2019)",
}
_SIZES = {
    "starganv2": "sources and outputs of {image_size}x{image_size}, targets (the styles) of {lr_size}x{lr_size}",
    "i2ilr": "sources and outputs of {image_size}x{image_size}, targets of {lr_size}x{lr_size}",
    "stylegan2": "images of {image_size}x{image_size}, codes z of {z_dim} and w of {w_dim} numbers",
    "progan": "images of {image_size}x{image_size}, codes of {z_dim} numbers",
    "pix2pixhd": "conditions ({condition}) and images of {image_size}x{image_size}",
    "spade": "conditions ({condition}) and images of {image_size}x{image_size}, styles of {style_dim} numbers",
    "psp": "conditions ({condition}) of {input_size}x{input_size}, images of {image_size}x{image_size}",
}
_USES = {
    "starganv2": (
        "translate {} --source SOURCES --target TARGETS --domain NAME --out OUT",
        "export {} HALF --half",
    ),
    "i2ilr": ("translate {} --source SOURCES --target TARGETS --out OUT", "export {} HALF --half"),
    "stylegan2": ("sample {} --out SAMPLES", "walk {} --out walk.gif"),
    "progan": ("sample {} --out SAMPLES", "walk {} --out walk.gif"),
    "pix2pixhd": ("translate {} --condition CONDITIONS --out OUT", "export {} HALF --half"),
    "spade": ("translate {} --condition CONDITIONS --out OUT", "export {} HALF --half"),
    "psp": ("translate {} --condition IMAGES --out OUT", "translate {} --condition IMAGES --samples 4 --out MANY"),
}
"""Two commands for each method, with a place for the model."""


def outcome(checked: Checked | None) -> list[str]:
    """The result of a self-check in words, one line for each finding; None if there was no self-check."""
    if checked is None:
        return [f"no self-check: its images are smaller than {SMALLEST}x{SMALLEST}"]
    if not checked.findings:
        return [f"self-check of {checked.count} images: no signs of a wrong layout"]
    return [f"warning: self-check of {checked.count} images: {finding}" for finding in checked.findings]


def model_card(
    name: str,
    method: Method,
    networks: tuple[str, ...],
    *,
    origin: dict[str, str],
    notes: list[str],
    marks: Marks | None,
) -> str:
    """The text of README.md for a model of that name, with these `networks` in it.

    `origin` has the name of the published file ("source"), its SHA-256 ("source_sha256"), and its "layout".
    """
    counts = {each: sum(tensor.numel() for tensor in method.get_submodule(each).parameters()) for each in networks}
    listed = ", ".join(f"{each} ({number / 1e6:.2f} M parameters)" for each, number in counts.items())
    lines = [
        f"# {name}",
        "",
        f"{_TITLES[method.name]}, converted by pixgraft from a published file.",
        "",
        f"- method: {method.name}",
        f"- sizes: {_SIZES[method.name].format_map(vars(method.config))}",
        f"- networks: {listed}",
        f"- from: `{origin['source']}`, SHA-256 `{origin['source_sha256']}`",
        f"- layout: {origin['layout']}",
        *(f"- {note}" for note in notes),
        "",
    ]
    if marks is not None:
        lines += ["## Self-check", "", *_figures(marks), ""]
    commands = (f"pixgraft {use.format(shlex.quote(name))}" for use in _USES[method.name])
    lines += ["## Use", "", "```bash", *commands, "```", "", "Its licence is that of the published file."]
    return "\n".join(lines) + "\n"


def _figures(marks: Marks) -> list[str]:
    rows = [
        (f"{direction} stripes: energy against that of the frequencies below", f"{ratio:.2f}", f"at most {STRIPES:g}")
        for direction, (ratio, _) in marks.stripes.items()
    ]
    rows += [
        ("values at or beyond black and white", f"{marks.saturated:.1%}", f"at most {SATURATED:.0%}"),
        ("largest value", f"{marks.largest:.2f}", f"at most {LARGEST:g}"),
        ("deviation within an image, in grey levels", f"{marks.within:.1f}", f"at least {FLAT:g}"),
        ("deviation between images, in grey levels", f"{marks.between:.1f}", f"at least {FLAT:g}"),
        ("correlation of neighbouring pixels", f"{marks.correlation:.3f}", f"at least {NOISE:g}"),
    ]
    return ["| | found | of pictures |", "| --- | ---: | ---: |", *(f"| {' | '.join(row)} |" for row in rows)]
