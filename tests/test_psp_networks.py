"""pSp's parts: encoders of all sizes, the published layout written down by hand, its losses."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from pixgraft.cli import main
from pixgraft.config import replaced
from pixgraft.convert import convert
from pixgraft.errors import PixgraftError
from pixgraft.layers.conditions import encoded
from pixgraft.layers.resample import average_pool, enlarge
from pixgraft.layouts import from_state_dicts
from pixgraft.layouts.psp import model
from pixgraft.layouts.reading import Content, read_content
from pixgraft.losses.identity import face_crop, identity
from pixgraft.losses.latent import w_norm
from pixgraft.losses.reconstruction import l2
from pixgraft.methods.psp import PSP, PSPConfig
from pixgraft.models import load_model
from pixgraft.networks.irse import IRSE50, STAGES, irse50_body
from pixgraft.networks.psp import SingleStyleEncoder, StyleEncoder
from pixgraft.networks.stylegan2 import Generator
from pixgraft.presets import preset
from test_stylegan2_layouts import published_generator

TINY = ((4, 1), (6, 1), (8, 2), (10, 1))
CODE = 12


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- the encoders ---


def style_encoder(*, channels: int = 3, styles: int = 8, size: int = 32) -> StyleEncoder:
    torch.manual_seed(0)
    return StyleEncoder(condition_channels=channels, styles=styles, code_dim=CODE, input_size=size, stages=TINY).eval()


@pytest.mark.parametrize(("size", "heads"), [(32, (1, 2, 3)), (64, (2, 3, 4)), (128, (3, 4, 5)), (256, (4, 5, 6))])
def test_heads_are_as_deep_as_the_features_that_they_see(size: int, heads: tuple[int, int, int]) -> None:
    encoder = style_encoder(channels=2, size=size)
    depths = [sum(isinstance(layer, nn.Conv2d) for layer in head.convs) for head in encoder.styles]  # type: ignore[union-attr]
    coarse, middle, fine = heads
    assert depths == [coarse] * 3 + [middle] * 4 + [fine]
    assert encoder(noise(2, 2, size, size)).shape == (2, 8, CODE)


def test_the_defaults_are_the_published_network() -> None:
    with torch.device("meta"):
        encoder = StyleEncoder(condition_channels=3, styles=18)
        body = irse50_body()
    assert STAGES == ((64, 3), (128, 4), (256, 14), (512, 3))
    assert len(body) == 24
    # As eladrich/pixel2style2pixel has it for 18 styles.
    assert round(sum(p.numel() for p in encoder.parameters()) / 1e6) == 267


def test_heads_may_be_narrower_than_codes() -> None:
    encoder = StyleEncoder(
        condition_channels=3, styles=8, code_dim=32, input_size=32, stages=((8, 1),) * 4, head_channels=4
    )
    head = encoder.styles[0]
    assert [each.shape[0] for each in head.state_dict().values()] == [4, 4, 32, 32]
    assert encoder(torch.zeros(2, 3, 32, 32)).shape == (2, 8, 32)


@pytest.mark.parametrize("maps", ["smallest", "largest"])
def test_all_styles_may_come_from_one_map(maps: Literal["smallest", "largest"]) -> None:
    torch.manual_seed(0)
    encoder = StyleEncoder(condition_channels=3, styles=8, code_dim=CODE, input_size=32, stages=TINY, maps=maps).eval()
    conditions = noise(2, 3, 32, 32)
    with torch.no_grad():
        before = encoder(conditions)
        for lateral in (encoder.latlayer2, encoder.latlayer1):
            assert isinstance(lateral.bias, Tensor)
            lateral.bias += 1
            after = encoder(conditions)
            changed = [not torch.equal(after[:, i], before[:, i]) for i in range(8)]
            assert changed == [maps == "largest"] * 8
            before = after


def test_a_backbone_is_what_training_begins_from() -> None:
    network = IRSE50()
    small = PSPConfig(
        image_size=16, w_dim=8, z_dim=8, base_channels=16, mapping_layers=1, lambda_identity=0.0, lambda_perceptual=0.0,
        input_size=32, backbone="irse50",
    )  # fmt: skip
    for channels, kind in ((3, "lr"), (1, "sketch")):
        method = PSP(replaced(small, [f"condition={kind}"]))
        assert method.required_networks() == {"backbone": "irse50"}
        method.attach_network("backbone", network)
        for name, tensor in method.encoder.body.state_dict().items():
            assert torch.equal(tensor, network.body.state_dict()[name])
        if channels == 3:
            assert torch.equal(next(method.encoder.input_layer.parameters()), next(network.input_layer.parameters()))
        assert all(parameter.requires_grad for parameter in method.encoder.parameters())
    with pytest.raises(PixgraftError, match="backbone irse50: its stages"):
        PSPConfig(backbone="irse50", stages=TINY)


def test_the_published_and_the_printed_settings_differ_as_listed() -> None:
    paper, official = preset("psp-paper-1024"), preset("psp-official-1024")
    assert (paper.method.lambda_w, official.method.lambda_w) == (0.0, 0.005)
    assert (max(paper.data.factors), max(official.data.factors)) == (16, 32)
    assert (official.method.backbone, official.method.noise, official.method.enlarging) == (
        "irse50",
        "random",
        "bilinear",
    )
    assert not official.train.flip and official.train.decay(10_000) == 0.0


def test_each_style_sees_its_own_features() -> None:
    """The first three depend on the body's end alone; the lateral layers enter where they should."""
    encoder, conditions = style_encoder(), noise(2, 3, 32, 32)
    with torch.no_grad():
        before = encoder(conditions)
        for lateral, first in ((encoder.latlayer2, 7), (encoder.latlayer1, 3)):
            assert isinstance(lateral.bias, Tensor)
            lateral.bias += 1
            after = encoder(conditions)
            changed = [not torch.equal(after[:, i], before[:, i]) for i in range(8)]
            assert changed == [i >= first for i in range(8)]
            before = after


def test_one_code_of_the_last_features_for_all_styles() -> None:
    torch.manual_seed(0)
    encoder = SingleStyleEncoder(condition_channels=3, styles=6, code_dim=CODE, input_size=32, stages=TINY).eval()
    conditions = noise(2, 3, 32, 32)
    codes = encoder(conditions)
    assert codes.shape == (2, 6, CODE)
    assert torch.equal(codes, codes[:, :1].expand_as(codes))
    features = encoder.body(encoder.input_layer(conditions)).mean((2, 3))
    expected = features @ encoder.linear.weight.T / math.sqrt(10)
    torch.testing.assert_close(codes[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_conditions_of_another_shape_are_refused() -> None:
    encoder = style_encoder()
    for shape in ((2, 1, 32, 32), (2, 3, 64, 64), (3, 32, 32)):
        with pytest.raises(PixgraftError, match=r"the encoder takes \(N, 3, 32, 32\)"):
            encoder(torch.zeros(shape))
    with pytest.raises(PixgraftError, match="input_size 48"):
        style_encoder(size=48)
    with pytest.raises(PixgraftError, match="four"):
        StyleEncoder(condition_channels=3, styles=4, stages=TINY[:3])


# --- the published layout ---


class Layout:
    """The published names of an encoder, written down by hand."""

    def __init__(self, channels: int) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._random = torch.Generator().manual_seed(3)
        self.add("input_layer.0.weight", TINY[0][0], channels, 3, 3)
        self.norm("input_layer.1", TINY[0][0])
        self.add("input_layer.2.weight", TINY[0][0])
        c_in, index = TINY[0][0], 0
        for c_out, blocks in TINY:
            for _ in range(blocks):
                self.block(f"body.{index}", c_in, c_out)
                c_in, index = c_out, index + 1

    def add(self, name: str, *shape: int) -> None:
        self.tensors[name] = torch.randn(shape, generator=self._random) * 0.3

    def norm(self, name: str, width: int) -> None:
        for leaf in ("weight", "bias", "running_mean"):
            self.add(f"{name}.{leaf}", width)
        self.tensors[f"{name}.running_var"] = torch.rand(width, generator=self._random) + 0.5
        self.tensors[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def block(self, name: str, c_in: int, c_out: int) -> None:
        if c_in != c_out:
            self.add(f"{name}.shortcut_layer.0.weight", c_out, c_in, 1, 1)
            self.norm(f"{name}.shortcut_layer.1", c_out)
        self.norm(f"{name}.res_layer.0", c_in)
        self.add(f"{name}.res_layer.1.weight", c_out, c_in, 3, 3)
        self.add(f"{name}.res_layer.2.weight", c_out)
        self.add(f"{name}.res_layer.3.weight", c_out, c_out, 3, 3)
        self.norm(f"{name}.res_layer.4", c_out)
        self.add(f"{name}.res_layer.5.fc1.weight", 1, c_out, 1, 1)
        self.add(f"{name}.res_layer.5.fc2.weight", c_out, 1, 1, 1)

    def linear(self, name: str, c_in: int) -> None:
        self.add(f"{name}.weight", CODE, c_in)
        self.add(f"{name}.bias", CODE)

    def style(self, name: str, halvings: int) -> None:
        for i in range(halvings):
            self.add(f"{name}.convs.{2 * i}.weight", CODE, CODE if i else TINY[-1][0], 3, 3)
            self.add(f"{name}.convs.{2 * i}.bias", CODE)
        self.linear(f"{name}.linear", CODE)

    def lateral(self, name: str, c_in: int) -> None:
        self.add(f"{name}.weight", TINY[-1][0], c_in, 1, 1)
        self.add(f"{name}.bias", TINY[-1][0])


def published_encoder(*, channels: int = 3, styles: int = 8, size: int = 64) -> dict[str, Tensor]:
    layout, last = Layout(channels), int(math.log2(size // 16))
    for i in range(styles):
        layout.style(f"styles.{i}", last + (i >= 3) + (i >= 7))
    layout.lateral("latlayer1", TINY[2][0])
    layout.lateral("latlayer2", TINY[1][0])
    return layout.tensors


def published_single(*, channels: int = 3) -> dict[str, Tensor]:
    layout = Layout(channels)
    layout.linear("linear", TINY[-1][0])
    return layout.tensors


def published(*, single: bool = False, channels: int = 3) -> dict[str, Any]:
    """A checkpoint of 32 x 32 images, as the published code saves it."""
    encoder = published_single(channels=channels) if single else published_encoder(channels=channels)
    decoder = published_generator(image_size=32, base=64, most=8, depth=2, w_dim=CODE)
    parts = {"encoder": encoder, "decoder": decoder}
    return {
        "state_dict": {f"{part}.{name}": tensor for part in parts for name, tensor in parts[part].items()},
        "latent_avg": noise(CODE, seed=4).repeat(1 if single else 8, 1),
        "opts": {
            "input_nc": channels,
            "label_nc": 0 if channels == 3 else channels,
            "output_size": 32,
            "encoder_type": "BackboneEncoderUsingLastLayerIntoW" if single else "GradualStyleEncoder",
            "start_from_latent_avg": True,
            "learn_in_w": single,
            "checkpoint_path": None,
            "learning_rate": 1e-4,
            "device": "cuda:0",
        },
    }


@pytest.mark.parametrize("channels", [3, 19])
@pytest.mark.parametrize("single", [False, True])
def test_a_published_checkpoint_gives_encoder_average_and_decoder(tmp_path: Path, single: bool, channels: int) -> None:
    content = published(single=single, channels=channels)
    torch.save(content, tmp_path / "psp.pt")
    parts, _ = model(read_content(tmp_path / "psp.pt"))
    assert isinstance(parts.generator, Generator)
    assert not parts.encoder.training and not parts.generator.training

    # The same, put together by hand.
    kind, size = (SingleStyleEncoder, 256) if single else (StyleEncoder, 64)
    encoder = kind(condition_channels=channels, styles=8, code_dim=CODE, input_size=size, stages=TINY).eval()
    tensors = content["state_dict"]
    encoder.load_state_dict({name[8:]: x for name, x in tensors.items() if name.startswith("encoder.")})
    g_ema = {name[8:]: x for name, x in tensors.items() if name.startswith("decoder.")}
    decoder = from_state_dicts("stylegan2-rosinality", {"g_ema": g_ema})["g_ema"]
    assert isinstance(decoder, Generator)
    conditions = noise(2, channels, size, size)
    with torch.no_grad():
        expected = decoder.synthesis(encoder(conditions) + content["latent_avg"], noise="stored")
        images = parts.generator.synthesis(parts.encoder(conditions) + parts.start.codes, noise="stored")
    assert images.shape == (2, 3, 32, 32)
    assert torch.equal(images, expected)
    assert parts.start.codes.shape == (8, CODE)
    assert torch.equal(parts.generator.w_mean, content["latent_avg"][0])

    networks = from_state_dicts("psp", read_content(tmp_path / "psp.pt").groups)
    assert list(networks) == ["encoder", "decoder"]
    assert torch.equal(networks["encoder"](conditions), parts.encoder(conditions))


@pytest.mark.parametrize(
    ("channels", "options", "condition"),
    [(3, {}, "self"), (3, {"dataset_type": "celebs_super_resolution"}, "lr"), (1, {}, "sketch"),
     (19, {}, "labels")],
)  # fmt: skip
def test_a_published_checkpoint_becomes_a_model(
    tmp_path: Path, channels: int, options: dict[str, Any], condition: str
) -> None:
    """Converted, opened and used: the image is that of encoder, average and decoder, put together."""
    content = published(channels=channels)
    content["opts"] |= options
    torch.save(content, tmp_path / "psp.pt")
    parts, _ = model(read_content(tmp_path / "psp.pt"))
    assert main(["convert", "psp", str(tmp_path / "psp.pt"), str(tmp_path / "model")]) == 0
    method = load_model(tmp_path / "model").method
    assert isinstance(method, PSP) and isinstance(parts.generator, Generator)
    assert method.config.condition == condition and method.condition.enlarging == "bilinear"
    given = torch.randint(0, channels if condition == "labels" else 256, (2, 3 if channels == 3 else 1, 64, 64))
    made = method.encode(given.to(torch.uint8))
    kind = "image" if condition == "self" else method.config.condition
    with torch.no_grad():
        conditions = encoded(given.to(torch.uint8), kind, channels)  # type: ignore[arg-type]
        if kind == "sketch":
            conditions = given / 255  # the published code does not normalise drawings
        codes = parts.encoder(conditions) + parts.start.codes
        expected = parts.generator.synthesis(codes, noise="stored").clamp(-1, 1)
    torch.testing.assert_close(made.codes[-1], codes)
    torch.testing.assert_close(made.images[-1], expected)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "pSp" in card and "self-check" in card and f"conditions ({condition})" in card


def test_the_average_may_be_one_code_or_missing() -> None:
    content = published()
    one, _ = model(Content({**content, "latent_avg": content["latent_avg"][0]}, {"opts": content["opts"]}))
    assert torch.equal(one.start.codes, content["latent_avg"])
    del content["latent_avg"], content["opts"]["start_from_latent_avg"]
    none, _ = model(Content(content, {"opts": content["opts"]}))
    assert torch.equal(none.start.codes, torch.zeros(8, CODE))
    assert isinstance(none.generator, Generator)
    assert none.generator.w_mean.abs().sum() > 0  # estimated


def test_an_encoder_may_come_alone() -> None:
    networks = from_state_dicts("psp", {"encoder": published_encoder(styles=5, size=32)})
    assert list(networks) == ["encoder"]
    assert networks["encoder"](noise(1, 3, 32, 32)).shape == (1, 5, CODE)


def without(part: str) -> Callable[[dict[str, Any]], object]:
    """What removes all tensors with that part in their names."""
    return lambda c: [c["state_dict"].pop(name) for name in list(c["state_dict"]) if part in name]


SPOILT: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda c: c["opts"].update(input_nc=1), "opts: input_nc is 1, and the tensors say 3"),
    (lambda c: c["opts"].update(label_nc=19), "opts: label_nc is 19, and the tensors say 3"),
    (lambda c: c["opts"].update(output_size=1024), "opts: output_size is 1024, and the tensors say 32"),
    (lambda c: c["opts"].update(n_styles=18), "opts: n_styles is 18, and the tensors say 8"),
    (lambda c: c["opts"].update(encoder_type="X"), "encoder_type is 'X', and the tensors say 'GradualStyleEncoder'"),
    (lambda c: c["opts"].update(learn_in_w=True), "opts: learn_in_w is True, and the tensors say False"),
    (lambda c: c["opts"].update(start_from_latent_avg=False), "latent_avg is False, and latent_avg says True"),
    (lambda c: c.pop("latent_avg"), "latent_avg is True, and latent_avg says False"),
    (lambda c: c.update(latent_avg=torch.zeros(3, CODE)), r"latent_avg is \(3, 12\), expected \(12,\), \(1, 12\) or"),
    (lambda c: c.update(latent_avg=torch.tensor(0.0)), r"latent_avg is \(\), expected \(12,\)"),
    (lambda c: c.update(latent_avg=torch.zeros(CODE, dtype=torch.long)), "latent_avg is no tensor of floats"),
    (without("encoder.latlayer1.bias"), "group encoder lacks latlayer1.bias"),
    (without("encoder.input_layer.0.weight"), "input_layer.0.weight is missing"),
    (without("encoder.styles.0.linear.weight"), "styles.0.linear.weight is missing"),
    (without("decoder.style.1.weight"), "group decoder.*style.1.weight is missing"),
    (without("decoder."), "no tensors of the decoder"),
    (without("encoder."), "no tensors of the encoder"),
    (without(".body.4."), "not of four stages"),
    (without(".styles.7."), "group encoder gives 7 codes of 12, and group decoder takes 8 of 12"),
    (lambda c: c.pop("state_dict"), "neither encoder nor decoder"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_what_is_no_psp_is_refused_in_one_line(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], object], message: str
) -> None:
    content = published()
    spoil(content)
    file = tmp_path / "psp.pt"
    torch.save(content, file)
    with pytest.raises(PixgraftError, match=message) as caught:
        convert(file, tmp_path / "model", "psp")
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_an_encoder_of_one_code_does_not_know_for_how_many_styles() -> None:
    with pytest.raises(PixgraftError, match="of one code"):
        from_state_dicts("psp", {"encoder": published_single()})


def test_lone_tensors_and_options_are_read_from_a_file(tmp_path: Path) -> None:
    content = published()
    content["opts"]["betas"] = [0.9, 0.99]  # no plain value
    torch.save({**content, "epoch": 3}, tmp_path / "psp.pt")
    found = read_content(tmp_path / "psp.pt")
    assert list(found.groups) == ["state_dict", "latent_avg"]
    assert torch.equal(found.groups["latent_avg"]["latent_avg"], content["latent_avg"])
    del content["opts"]["betas"]
    assert found.values == {"opts": content["opts"]}


def test_rosinalitys_mean_of_w_comes_through_a_file(tmp_path: Path) -> None:
    tensors = published_generator(image_size=8, base=64, most=8, depth=2, w_dim=10)
    torch.save({"g_ema": tensors, "latent_avg": noise(10)}, tmp_path / "stylegan2.pt")
    generator = from_state_dicts("stylegan2-rosinality", read_content(tmp_path / "stylegan2.pt").groups)["g_ema"]
    assert isinstance(generator, Generator)
    assert torch.equal(generator.w_mean, noise(10))


# --- losses ---


def test_w_norm_is_over_all_numbers_of_an_images_codes() -> None:
    average = noise(5, 4)
    codes = (average + torch.tensor([3.0, 0.0]).view(2, 1, 1)).requires_grad_()
    loss = w_norm(codes, average)
    assert loss.item() == pytest.approx(3 * math.sqrt(20) / 2, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, codes)
    assert gradient.isfinite().all() and not gradient[1].any()


def test_l2_and_identity() -> None:
    a, b = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[1.0, 0.0], [-0.6, -0.8]])
    assert l2(a, b).item() == pytest.approx((1.2**2 + 1.6**2) / 4)
    assert identity(a, a).item() == pytest.approx(0, abs=1e-6)
    assert identity(a, b).item() == pytest.approx(1)


def test_the_face_is_cut_out_as_published() -> None:
    images = noise(2, 3, 256, 256).clamp(-1, 1)
    crop = face_crop(images)
    assert crop.shape == (2, 3, 112, 112)
    for row, column in ((0, 0), (1, 1), (50, 7), (111, 111)):
        top, bottom = 35 + row * 188 // 112, 35 - (-(row + 1) * 188 // 112)
        left, right = 32 + column * 188 // 112, 32 - (-(column + 1) * 188 // 112)
        expected = images[..., top:bottom, left:right].mean((2, 3))
        torch.testing.assert_close(crop[..., row, column], expected)


def test_images_of_other_sides_are_brought_to_256_first() -> None:
    large, small = noise(1, 3, 512, 512), noise(1, 3, 64, 64)
    torch.testing.assert_close(face_crop(large), face_crop(average_pool(large, 256)))
    torch.testing.assert_close(face_crop(small), face_crop(enlarge(small, 4)))
