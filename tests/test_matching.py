"""pix2pixHD and SPADE: their losses are the published ones, SPADE's styles are distributions, and what they refuse."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.error import URLError

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import pixgraft
from cases import conditions, copied, matching, pictures, trainer_of
from pixgraft.cli import main
from pixgraft.errors import PixgraftError
from pixgraft.layers.normalize import BatchNorm
from pixgraft.layers.spectral import SpectralConv2d
from pixgraft.methods import METHODS
from pixgraft.methods.base import Batch, Losses
from pixgraft.methods.matching import MatchingSynthesis
from pixgraft.methods.spade import SPADE
from pixgraft.models import load_model, save_model
from pixgraft.networks.patchgan import Discriminator
from pixgraft.pipelines.onnx import export_onnx
from pixgraft.pipelines.programs import programs
from pixgraft.training.loop import with_available_networks
from training import assert_equal, make_images, make_pairs, newest

BOTH = pytest.mark.parametrize("kind", ["pix2pixhd", "spade"])


def made(kind: str, *settings: str) -> MatchingSynthesis:
    """A tiny method; the weights are larger than at the start of training, at which all images are grey."""
    torch.manual_seed(0)
    method = METHODS[kind](matching(kind, *(f"method.{setting}" for setting in settings)).method)
    assert isinstance(method, MatchingSynthesis)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return method


def made_spade(*settings: str) -> SPADE:
    method = made("spade", *settings)
    assert isinstance(method, SPADE)
    return method


def batch_of(method: MatchingSynthesis, count: int = 4, *, seed: int = 0) -> Batch:
    images = pictures(count, seed=seed)
    return Batch(images, {}, conditions(method.config, images))


def condition_of(method: MatchingSynthesis, count: int = 4) -> Tensor:
    return conditions(method.config, pictures(count))


# --- losses ---


@BOTH
def test_terms_are_weighed(kind: str) -> None:
    """Feature matching: a sum over layers, a mean over scales. pix2pixHD sums the adversarial losses over scales."""
    method = made(kind, "lambda_features=3.0", *(["lambda_kl=0.5"] if kind == "spade" else []))
    batch = batch_of(method)
    torch.manual_seed(1)
    losses: Losses = method.generator_losses(batch) | method.discriminator_losses(batch)
    image = batch.shared["image"]
    condition = method.inputs(batch)
    real, fake = (method.discriminator(condition, images) for images in (batch.images, image))
    assert [len(layers) for layers in real] == [4, 4] and len(real[0]) == len(fake[0])
    distances = [(a - b).abs().mean() for ours, theirs in zip(fake, real, strict=True)
                 for a, b in zip(ours[:-1], theirs[:-1], strict=True)]  # fmt: skip
    logits = {name: [layers[-1] for layers in each] for name, each in (("real", real), ("fake", fake))}
    expected = {"features": 3.0 * sum(distances) / 2}
    if kind == "spade":
        assert isinstance(method, SPADE)
        mean, log_variance = method.style_encoder(batch.images)
        normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
        divergence = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0))
        expected |= {
            "kl": 0.5 * divergence.sum(1).mean(),
            "generator": -sum(each.mean() for each in logits["fake"]) / 2,
            "real": sum((1 - each).clamp(min=0).mean() for each in logits["real"]) / 2,
            "fake": sum((1 + each).clamp(min=0).mean() for each in logits["fake"]) / 2,
        }
    else:
        expected |= {
            "generator": sum((each - 1).square().mean() for each in logits["fake"]),
            "real": sum((each - 1).square().mean() for each in logits["real"]) / 2,
            "fake": sum(each.square().mean() for each in logits["fake"]) / 2,
        }
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-5, atol=1e-6)


@BOTH
def test_each_loss_reaches_what_makes_the_images(kind: str) -> None:
    method = made(kind)
    method.discriminator.requires_grad_(False)
    losses = method.generator_losses(batch_of(method))
    losses["features"].backward()
    networks = [method.get_submodule(name) for name in method.averaged]
    for parameter in (p for network in networks for name, p in network.named_parameters() if name.endswith("weight")):
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0


class Distance(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).square().mean((1, 2, 3))


def test_the_perceptual_network_is_asked_for_and_can_give_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert made("spade").required_networks() == {}
    method = made("pix2pixhd", "lambda_perceptual=2.0")
    assert method.required_networks() == {"perceptual": "lpips-vgg"}
    with pytest.raises(PixgraftError, match=r"pix2pixhd: .* perceptual network"):
        method.generator_losses(batch_of(method))
    method.attach_network("perceptual", Distance())
    batch = batch_of(method)
    loss = method.generator_losses(batch)["perceptual"]
    torch.testing.assert_close(loss, 2 * (batch.shared["image"] - batch.images).square().mean())
    monkeypatch.setenv("PIXGRAFT_CACHE", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", Mock(side_effect=URLError("no network")))
    experiment = with_available_networks(matching("spade", "method.lambda_perceptual=1.0"))
    assert experiment.method.perceptual_network == "squeezenet"


def test_spectral_norms_follow_the_weights() -> None:
    trainer = trainer_of(matching("spade"))
    method = trainer.method
    assert isinstance(method, SPADE)
    before = copied(method)
    for _ in range(2):
        trainer.step(batch_of(method))
    assert all(not torch.equal(u, before[name]) for name, u in method.state_dict().items() if name.endswith(".u"))
    for network in (*method.children(), *trainer.averages.modules.values()):
        layers = [layer for layer in network.modules() if isinstance(layer, SpectralConv2d)]
        assert layers
        for layer in layers:
            largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
            assert layer.sigma().item() == pytest.approx(largest.item(), rel=0.25)


# --- batch normalisation ---


def test_statistics_follow_passes_with_gradients_alone() -> None:
    norm, x = BatchNorm(3), torch.randn(4, 3, 5, 5) * 2 + 1
    before = copied(norm)
    with torch.no_grad():
        normed = norm(x)
    assert all(torch.equal(tensor, before[name]) for name, tensor in norm.state_dict().items())
    assert torch.equal(norm(x), normed)
    assert norm.running_mean is not None and norm.running_mean.abs().min() > 0.01 and norm.num_batches_tracked == 1


def test_in_use_an_image_does_not_depend_on_its_batch() -> None:
    method = made_spade().double()
    for _ in range(3):
        method.generator_losses(Batch(pictures(4).double(), {}, condition_of(method)))  # running statistics
    method.eval()
    condition, styles = condition_of(method), method.encode_style(pictures(4, seed=1).double())
    whole = method.translate(condition, styles).image
    backwards = method.translate(condition.flip(0), styles.flip(0)).image.flip(0)
    alone = torch.cat([method.translate(condition[i : i + 1], styles[i : i + 1]).image for i in range(4)])
    torch.testing.assert_close(backwards, whole)
    torch.testing.assert_close(alone, whole)
    assert whole.std(0).mean() > 1e-3


# --- styles ---


def test_a_style_is_a_distribution() -> None:
    """The noise is what its deviation multiplies: none is its mean, and a random style's samples are the prior's."""
    method = made_spade().eval()
    condition, images = condition_of(method), pictures(4, seed=1)
    codes = method.encode_style(images)
    mean, log_variance = method.style_encoder(images)
    assert torch.equal(codes, torch.cat((mean, (log_variance / 2).exp()), 1))
    (noise,) = method.draw_noise(4, torch.Generator().manual_seed(2))
    plain, moved = method.samples(condition, images, [None, [noise]])
    inputs = method.encode(condition)
    torch.testing.assert_close(plain.image, method.generator(inputs, mean))
    torch.testing.assert_close(moved.image, method.generator(inputs, mean + (log_variance / 2).exp() * noise))
    assert all((a - b).abs().mean() > 1e-4 for a, b in zip(plain.image, moved.image, strict=True))
    random = torch.Generator().manual_seed(3)
    drawn = method.random_style(20_000, random)
    (noise,) = method.draw_noise(20_000, random)
    mean, deviation = drawn.chunk(2, 1)
    styles = mean + deviation * noise
    torch.testing.assert_close(styles.std(0), torch.ones(4), rtol=0, atol=0.03)
    torch.testing.assert_close(mean.std(0), torch.full((4,), 0.5**0.5), rtol=0, atol=0.03)
    # Drawn one by one: a seed gives an image the same in any batch.
    again = torch.Generator().manual_seed(3)
    assert torch.equal(drawn[:2], torch.cat([method.random_style(1, again) for _ in range(2)]))


def test_what_depends_on_the_condition_alone_is_computed_once() -> None:
    method = made_spade().eval()
    calls: list[int] = []
    method.get_submodule("generator.blocks.0.norm1.shared").register_forward_hook(lambda *_: calls.append(1))
    method.samples(condition_of(method), pictures(4), [method.draw_noise(4) for _ in range(3)])
    assert calls == [1]


def test_without_a_style_there_is_one_image() -> None:
    for method in (made_spade("style_dim=0"), made("pix2pixhd")):
        method.eval()
        condition = condition_of(method)
        assert method.style_dim == 0 and method.draw_noise(2) == []
        first, second = method.samples(condition, method.random_style(4), [None, []])
        assert torch.equal(first.image, second.image) and first.image.std(0).mean() > 1e-3
        assert list(programs(method)) == ["sample"] and list(programs(method)["sample"].inputs) == ["condition"]
        assert method.preview(pictures(4), condition).diversity == 0
    assert made_spade().preview(pictures(4), condition).diversity > 0


def test_drawings_are_shrunk_by_means_and_maps_by_pixels() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    maps, drawings = (made_spade(f"condition={kind}").generator for kind in ("labels", "sketch"))
    assert maps.shrunk(x, 2).flatten().tolist() == [0, 2, 8, 10]
    assert drawings.shrunk(x, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


@pytest.mark.parametrize(
    ("kind", "setting", "reason"),
    [
        ("pix2pixhd", "downsamplings=4", "with image_size 32 choose from 1 to 3"),
        ("pix2pixhd", "blocks=-1", "choose a number from 0 to 64"),
        ("pix2pixhd", "discriminator_scales=4", "choose each from 1, and 5 together at most"),
        ("pix2pixhd", "image_size=48", "choose 32, 64"),
        ("pix2pixhd", "lambda_features=-1.0", "at least 0"),
        ("spade", "upsamplings=5", "with image_size 32 choose fewer"),
        ("spade", "hidden_channels=0", "at least 1"),
        ("spade", "generator_lr=0.0", "above 0"),
    ],
)
def test_what_cannot_be_is_refused(kind: str, setting: str, reason: str) -> None:
    with pytest.raises(PixgraftError, match=reason):
        made(kind, setting)


# --- from the command line ---


@BOTH
def test_it_is_trained_resumed_used_and_measured(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_pairs(tmp_path / "pairs", 6)
    sets = ("train.checkpoint_every=8", "train.sample_every=24", "method.discriminator_channels=4")

    def train(out: str, images: int) -> int:
        flags = [part for each in (*sets, f"train.images={images}") for part in ("--set", each)]
        run = ["--data", str(data), "--out", str(tmp_path / out), "--device", "cpu", "--quiet"]
        return main(["train", f"{kind}-tiny-32", *run, *flags])

    assert train("whole", 24) == train("run", 12) == train("run", 24) == 0
    assert_equal(newest(tmp_path / "run"), newest(tmp_path / "whole"))
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "model")]) == 0
    photos, masks = make_images(tmp_path / "photos", 1), data / "masks"
    style = ["--style", str(photos / "00.png")] if kind == "spade" else []
    command = ["translate", str(tmp_path / "model"), "--condition", str(masks), "--samples", "2", *style]
    capsys.readouterr()
    assert main([*command, "--seed", "1", "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert "6 made, 0 finished before, 0 failed" in capsys.readouterr().out
    result: Any = pixgraft.load(tmp_path / "model", device="cpu")(
        masks / "00.png", samples=2, seed=1, style=photos / "00.png" if style else None
    )
    written = [Image.open(tmp_path / "out" / f"00_{number}.png").tobytes() for number in range(2)]
    assert written == [image.tobytes() for image in result.images]
    table = ["evaluate", str(tmp_path / "run"), "--data", str(data), "--protocol", "grit-table1", "--bootstrap", "0"]
    assert main([*table, "--metrics", "l1", "psnr", "--out", str(tmp_path / "table"), "--device", "cpu"]) == 0
    measured = json.loads((tmp_path / "table" / "result.json").read_bytes())
    assert measured["rows"][0]["values"]
    assert measured["protocol"]["style"] == ("the pair's own image" if kind == "spade" else "none")


def test_a_discriminator_takes_its_published_steps() -> None:
    """A side of 256 gives maps of 34 and 18, as four convolutions with paddings of 2 do."""
    with torch.device("meta"):
        network = Discriminator(condition_channels=2)
        sides = [[each.shape[-1] for each in layers] for layers in network(torch.empty(1, 2, 256, 256),
                                                                           torch.empty(1, 3, 256, 256))]  # fmt: skip
    assert sides == [[129, 65, 33, 34, 35], [65, 33, 17, 18, 19]]


@pytest.mark.slow
@BOTH
def test_its_programs_run_elsewhere(kind: str, tmp_path: Path) -> None:
    """Without a style there is no input for it."""
    save_model(tmp_path / "model", made(kind), info={})
    assert max(export_onnx(load_model(tmp_path / "model"), tmp_path / "onnx").values()) < 1e-4
