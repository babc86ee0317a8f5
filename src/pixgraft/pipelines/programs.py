"""Programs: the pure functions of tensors by which a trained model is used, as they are exported and run elsewhere.

They follow from the task alone. Shape letters: N images, S side of an image, L side of an LR target, C channels of a
target or condition, M codes of an image, D and Z numbers of a code, K steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pixgraft.layers.conditions import stored_channels
from pixgraft.methods.base import Method
from pixgraft.methods.sampling import Sampling
from pixgraft.methods.tasks import Encoding, Graft, Synthesis


@dataclass(frozen=True)
class Program:
    """A function of tensors, each of which has an entry for each image along its first axis."""

    function: Callable[..., Sequence[Tensor]]
    inputs: dict[str, str]
    """What each input holds, by name."""
    outputs: dict[str, str]
    """What each output holds, by name."""
    draw: Callable[[int, torch.Generator], list[Tensor]]
    """Random inputs for that many images."""


class Traced(nn.Module):
    """A program as a module that holds the method's weights, for exporters."""

    def __init__(self, method: Method, program: Program) -> None:
        super().__init__()
        self.method, self.function = method, program.function

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The program's outputs."""
        return tuple(self.function(*inputs))


IMAGE = "(N, 3, S, S) in [-1, 1], RGB"


def programs(method: Method) -> dict[str, Program]:
    """The programs of a method's task, by name."""
    if isinstance(method, Graft):
        return _graft(method)
    if isinstance(method, Synthesis):
        return _synthesis(method)
    if isinstance(method, Encoding):
        return _encoding(method)
    assert isinstance(method, Sampling)
    return _sampling(method)


def _graft(method: Graft) -> dict[str, Program]:
    config = method.config
    shapes = (3, config.image_size, config.image_size), (config.lr_channels, config.lr_size, config.lr_size)
    inputs = {"source": IMAGE, "target": "(N, C, L, L) in [-1, 1], the LR target"}
    kinds = len(config.domains)

    def drawn(count: int, random: torch.Generator) -> list[Tensor]:
        images = [torch.rand(count, *shape, generator=random) * 2 - 1 for shape in shapes]
        return [*images, torch.randint(kinds, (count,), generator=random)] if kinds else images

    def translate(source: Tensor, target: Tensor, *domain: Tensor) -> list[Tensor]:
        return [method.translate_into(source, target, *domain) if domain else method.translate(source, target)]

    if kinds:
        inputs["domain"] = (
            f"int64 (N,), the target's: {', '.join(f'{n} {each}' for n, each in enumerate(config.domains))}"
        )
    return {"translate": Program(translate, inputs, {"image": IMAGE}, drawn)}


def _synthesis(method: Synthesis) -> dict[str, Program]:
    def sample(condition: Tensor, *given: Tensor) -> list[Tensor]:
        like = next(method.parameters())
        style, *noise = given if method.style_dim else (like.new_zeros(len(condition), 0), *given)
        made = method.samples(condition, style, [noise or None])[0]
        return [made.image, *(made.components[name] for name in method.components)]

    def drawn(count: int, random: torch.Generator) -> list[Tensor]:
        style = [method.random_style(count, random)] if method.style_dim else []
        return [_condition(method, count, random), *style, *method.draw_noise(count, random)]

    condition = {"condition": _condition_text(method)}
    condition |= {"style": "(N, D), a style code"} if method.style_dim else {}
    made = {
        "sample": Program(
            sample, condition | _noise_text(method),
            {"image": IMAGE, **dict.fromkeys(method.components, f"{IMAGE}, a part of the image")}, drawn,
        )
    }  # fmt: skip
    if method.style_dim:
        side = method.config.image_size
        made["style"] = Program(
            lambda image: [method.encode_style(image)], {"image": IMAGE}, {"style": "(N, D), the image's style code"},
            lambda count, random: [torch.rand(count, 3, side, side, generator=random) * 2 - 1],
        )  # fmt: skip
    return made


def _encoding(method: Encoding) -> dict[str, Program]:
    def encode(condition: Tensor) -> list[Tensor]:
        encoded = method.encode(condition)
        return [torch.stack(encoded.codes, 1), torch.stack(encoded.images, 1)]

    def codes(count: int, random: torch.Generator) -> list[Tensor]:
        start = method.start_codes.cpu()
        return [start + 0.1 * torch.randn(count, *start.shape, generator=random)]

    return {
        "encode": Program(
            encode, {"condition": _condition_text(method)},
            {"codes": "(N, K, M, D), after each step", "images": "(N, K, 3, S, S) in [-1, 1], RGB, after each step"},
            lambda count, random: [_condition(method, count, random)],
        ),
        "decode": Program(lambda codes: [method.decode(codes)], {"codes": "(N, M, D)"}, {"image": IMAGE}, codes),
    }  # fmt: skip


def _sampling(method: Sampling) -> dict[str, Program]:
    wide = bool(method.style_layers)

    def drawn(count: int, random: torch.Generator) -> list[Tensor]:
        latents = method.draw_latents(count, random).to(next(method.parameters()))
        codes = method.codes(latents)
        return [(method.spread(codes) if wide else codes).contiguous(), *method.draw_noise(count, random)]

    made = {
        "synthesize": Program(
            lambda codes, *noise: [method.synthesize(codes, noise=list(noise) or "none")],
            {"codes": "(N, L, D), a w for each layer" if wide else "(N, Z) from N(0, 1)"} | _noise_text(method),
            {"image": IMAGE}, drawn,
        )
    }  # fmt: skip
    if method.code_name == "w":
        made["map"] = Program(
            lambda z: [method.codes(z)], {"z": "(N, Z) from N(0, 1)"}, {"w": "(N, D)"},
            lambda count, random: [method.draw_latents(count, random)],
        )  # fmt: skip
    return made


def _condition(method: Synthesis | Encoding, count: int, random: torch.Generator) -> Tensor:
    spec = method.condition
    shape = (count, stored_channels(spec.kind), spec.size, spec.size)
    return torch.randint(0, spec.classes or 256, shape, generator=random, dtype=torch.uint8)


def _condition_text(method: Synthesis | Encoding) -> str:
    spec = method.condition
    content = f"class indices 0 to {spec.classes - 1}" if spec.kind == "labels" else "levels 0 to 255"
    return f"uint8 (N, {stored_channels(spec.kind)}, {spec.size}, {spec.size}), {content}"


def _noise_text(method: Synthesis | Sampling) -> dict[str, str]:
    shapes = [", ".join(map(str, each.shape[1:])) for each in method.draw_noise(1)]
    return {f"noise_{index}": f"(N, {shape}) from N(0, 1)" for index, shape in enumerate(shapes)}
