"""GRIT in use: the network it borrows, translations, random styles, previews, and what it refuses."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.error import URLError

import pytest
import torch
from pytest import MonkeyPatch
from torch import Tensor, nn
from torch.optim import Adam

from cases import copied, grit, grit_batch, grit_condition, grit_method, pictures, trainer_of
from pixgraft.config import replaced
from pixgraft.errors import PixgraftError
from pixgraft.methods.base import Batch
from pixgraft.methods.grit import GRIT
from pixgraft.networks.grit import Discriminator, Generator, StylePrior
from pixgraft.presets import preset
from pixgraft.training.loop import with_available_networks

# --- frozen feature networks ---


class Distance(nn.Module):
    """A perceptual distance with a weight, so that its type and its rights can be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 3, 1, 1), 2.0))
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        difference: Tensor = self.drop(x - y) * self.weight
        return difference.square().mean((1, 2, 3))


def test_the_perceptual_network_is_used_but_not_the_methods_own() -> None:
    network = ("method.reconstruction=perceptual", "method.perceptual=squeezenet")
    experiment = grit(*network, "method.noise=false", "method.lambda_reconstruction=0.5")
    trainer = trainer_of(experiment)
    method = trainer.method
    assert isinstance(method, GRIT) and method.required_networks() == {"perceptual": "squeezenet"}
    assert grit_method().required_networks() == {}
    names = set(method.state_dict())
    distance = Distance()
    method.attach_network("perceptual", distance)
    assert set(method.state_dict()) == names and "perceptual" not in dict(method.named_children())
    assert not [p for p in method.parameters() if p is distance.weight]
    batch = grit_batch(method)
    output, _ = method.generate(batch)
    expected = 0.5 * 4 * (output.reconstruction - batch.images).square().mean()
    torch.testing.assert_close(method.generator_losses(batch)["reconstruction"], expected)
    trainer.step(batch)
    assert torch.equal(distance.weight, torch.full((1, 3, 1, 1), 2.0)) and distance.weight.grad is None
    method.double()  # it moves with the method
    assert distance.weight.dtype == torch.float64
    other = Distance()
    method.attach_network("perceptual", other)  # and to where the method stands
    assert other.weight.dtype == torch.float64 and not other.weight.requires_grad and not other.training


def test_a_missing_perceptual_network_is_named() -> None:
    method = grit_method("reconstruction=perceptual")
    with pytest.raises(PixgraftError, match=r"grit: .* perceptual network"):
        method.generator_losses(grit_batch(method))


def test_missing_weights_of_lpips_give_way_to_the_bundled_network(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setenv("PIXGRAFT_CACHE", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", Mock(side_effect=URLError("no network")))
    experiment = with_available_networks(grit("method.reconstruction=perceptual"))
    assert experiment.method.perceptual_network == "squeezenet"
    assert with_available_networks(grit()) == grit()  # L1 takes none


def test_without_weight_the_adversarial_loss_trains_no_discriminator() -> None:
    """The rows of Figure 3 that have the reconstruction loss alone."""
    trainer = trainer_of(grit("method.lambda_adversarial=0.0", "method.residual=false", "method.r1_gamma=1.0"))
    method = trainer.method
    assert isinstance(method, GRIT)
    before = copied(method)
    assert trainer.step(grit_batch(method)).keys() == {"reconstruction", "style", "prior"}
    changed = {
        name.partition(".")[0] for name, weight in copied(method).items() if not torch.equal(weight, before[name])
    }
    assert changed == {"generator", "style_encoder"}


# --- use ---


def test_translations_are_in_range_whatever_the_style_is_given_as() -> None:
    method = grit_method()
    condition, images = grit_condition(method, 3), pictures(3, seed=1)
    by_image = method.translate(condition, images)
    assert torch.equal(method.translate(condition, method.encode_style(images)).image, by_image.image)
    assert not torch.allclose(method.translate(condition, pictures(3, seed=2)).image, by_image.image, atol=1e-3)
    reconstruction, residual = (by_image.components[name] for name in method.components)
    for part in (reconstruction, residual, by_image.image):
        assert part.shape == (3, 3, 32, 32) and part.abs().max() <= 1 and not part.requires_grad
    assert torch.equal(by_image.image, (reconstruction + residual).clamp(-1, 1))
    assert not torch.equal(method.translate(condition.flip(0), images).image, by_image.image)


def test_random_styles_are_like_the_codes_that_the_prior_saw() -> None:
    random = torch.Generator().manual_seed(0)
    mixing = torch.tensor([[0.3, 0.0, 0.0], [0.2, 0.05, 0.0], [-0.5, 0.1, 1.0]])
    codes = torch.randn(512, 3, generator=random) @ mixing.T + torch.tensor([1.0, -0.5, 0.0])
    prior = StylePrior(3)
    optimizer = Adam(prior.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        prior(codes).mean().backward()
        optimizer.step()
    with torch.no_grad():
        drawn = prior.draw(4096, random)
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), rtol=0, atol=0.05)
    torch.testing.assert_close(drawn.T.cov(), codes.T.cov(), rtol=0.1, atol=0.03)
    # What it minimises is the likelihood of torch's own distribution, but for a constant.
    normal = torch.distributions.MultivariateNormal(torch.zeros(3), torch.eye(3))
    torch.testing.assert_close(StylePrior(3)(codes), -normal.log_prob(codes) + normal.log_prob(torch.zeros(3)))


def test_random_styles_repeat() -> None:
    method = grit_method()
    first, again, other = (method.random_style(2, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == (2, 8) and torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(("settings", "rows"), [([], 7), (["residual=false"], 6), (["noise=false"], 7)])
def test_the_preview_shows_its_parts(settings: list[str], rows: int) -> None:
    method = grit_method(*settings)
    images, condition = pictures(4), grit_condition(method)
    preview = method.preview(images, condition)
    assert preview.grid.shape == (rows, 4, 3, 32, 32) and preview.grid.abs().max() <= 1
    assert torch.equal(preview.grid[1], images)
    assert torch.equal(preview.grid, method.preview(images, condition).grid)
    assert (preview.diversity > 0) == method.config.noise
    assert torch.equal(preview.grid[-3], preview.grid[-2]) != method.config.noise


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float64])
def test_outputs_keep_their_precision(precision: torch.dtype) -> None:
    method = grit_method()
    batch = grit_batch(method)
    if precision == torch.float64:
        method.double()
        batch.images = batch.images.double()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        output, codes = method.generate(batch)
    expected = torch.float64 if precision == torch.float64 else torch.float32
    assert {codes.dtype, *(part.dtype for part in output if part is not None)} == {expected}
    assert output.image.isfinite().all()


def test_half_precision_trains() -> None:
    trainer = trainer_of(replaced(preset("grit-tiny-32"), ["train.precision=bfloat16", "train.channels_last=true"]))
    assert isinstance(trainer.method, GRIT)
    batch = grit_batch(trainer.method)
    losses = [trainer.step(batch) for _ in range(3)]
    assert all(loss.isfinite() for each in losses for loss in each.values())
    assert all(parameter.isfinite().all() for parameter in trainer.method.parameters())


# --- bad input ---


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["image_size=48"], "image_size is 48"),
        (["classes=1"], "classes is 1"),
        (["residual=false", "adversarial_into=residual"], "adversarial_into"),
        (["downsamplings=0"], "downsamplings is 0"),
        (["downsamplings=4"], "downsamplings is 4: with image_size 32 choose from 1 to 3"),
        (["discriminator_layers=4"], "discriminator_layers and discriminator_scales are 4 and 2: .* 5 together"),
        (["discriminator_scales=0"], "discriminator_scales are 2 and 0"),
        (["style_channels=[8]"], "style_channels has 1 widths"),
        (["style_channels=[8, 8, 8, 8, 8, 8]"], "style_channels has 6 widths: with image_size 32 choose 2 to 5"),
        (["style_channels=[8, 0]"], "at least 1"),
        (["blocks=-1"], "blocks 0"),
        (["lambda_style=-1.0"], "at least 0"),
        (["diversity_bound=-1.0"], "at least 0"),
        (["lambda_diversity=1.0", "noise=false"], "noise is false"),
        (["style_lr=0.0"], "learning rates"),
        (["betas=[0.0, 1.0]"], "betas"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(settings: list[str], named: str) -> None:
    with pytest.raises(PixgraftError, match=named) as caught:
        grit(*(f"method.{setting}" for setting in settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [32, 64, 128, 256, 512])
def test_the_largest_configuration_at_each_size_runs(size: int) -> None:
    deepest, layers = size.bit_length() - 3, size.bit_length() - 2
    generator = Generator(image_size=size, condition_channels=2, max_channels=2, downsamplings=deepest, blocks=1)
    with torch.no_grad():
        output = generator(torch.zeros(1, 2, size, size), torch.zeros(1, 8), generator.draw_noise(1))
        assert output.image.shape == (1, 3, size, size) and output.image.isfinite().all()
        for each, scales in ((layers, 1), (1, layers)):
            discriminator = Discriminator(condition_channels=2, max_channels=2, layers=each, scales=scales)
            logits = discriminator(torch.zeros(1, 2, size, size), output.image)
            assert len(logits) == scales and all(one.shape[:2] == (1, 1) for one in logits)


def test_an_image_comes_out_the_same_in_any_company() -> None:
    method = grit_method().double()
    condition, images = grit_condition(method, 3), pictures(3).double()
    noise = [part.double() for part in method.draw_noise(3)]
    together = method.translate(condition, images, noise).image
    alone = method.translate(condition[1:2], images[1:2], [part[1:2] for part in noise]).image
    torch.testing.assert_close(alone, together[1:2])
    encoded = method.encode(condition, torch.float64)
    pairs = zip(method.discriminator(encoded[1:2], alone), method.discriminator(encoded, together), strict=True)
    for one, of_all in pairs:
        torch.testing.assert_close(one, of_all[1:2])


@pytest.mark.parametrize("into", ["both", "residual"])
@pytest.mark.parametrize("residual", [True, False])
def test_many_samples_are_those_made_one_by_one(into: str, residual: bool) -> None:
    """To the bit; and the encoder runs once for all of them."""
    method = grit_method(f"noise_into={into}", f"residual={str(residual).lower()}")
    condition, images = grit_condition(method, 2), pictures(2)
    noises = [method.draw_noise(2), None, method.draw_noise(2)]
    runs: list[str] = []
    for name in ("content", "decoder.0"):
        method.generator.get_submodule(name).register_forward_hook(lambda *_, name=name: runs.append(name))
    samples = method.samples(condition, images, noises)
    quiet = residual and into == "residual"
    assert runs.count("content") == 1 and runs.count("decoder.0") == len(noises) + quiet
    for noise, sample in zip(noises, samples, strict=True):
        alone = method.translate(condition, images, noise)
        assert torch.equal(sample.image, alone.image)
        assert sample.components.keys() == alone.components.keys() == set(method.components)
        assert all(torch.equal(part, alone.components[name]) for name, part in sample.components.items())
    assert not torch.equal(samples[0].image, samples[2].image)


def test_bad_inputs_are_named() -> None:
    method = grit_method()
    condition, images = grit_condition(method), pictures(4)
    too_high = condition.clone()
    too_high[0, 0, 0, 0] = 4
    bad: list[tuple[Any, str]] = [
        (lambda: method.translate(condition[..., :16], images), r"are \(4, 1, 32, 16\): give \(N, 1, 32, 32\)"),
        (lambda: method.translate(too_high, images), "class 4: there are 0 to 3"),
        (lambda: method.translate(condition, images, method.draw_noise(3)), "noise"),
        (lambda: method.translate(condition, images, method.draw_noise(4)[:2]), "noise"),
        (lambda: method.translate(condition, images, [part[..., :1, :1] for part in method.draw_noise(4)]), "noise"),
        (lambda: method.translate(condition, images[:3]), r"are \(3, 3, 32, 32\) for 4 conditions: give as many"),
        (lambda: method.translate(condition, torch.zeros(1, 8)), r"give as many images, or codes \(4, 8\)"),
        (lambda: method.translate(condition, torch.zeros(4, 5)), r"are \(4, 5\) for 4 conditions"),
        (lambda: method.samples(condition, images, [method.draw_noise(4), method.draw_noise(3)]), "noise"),
        (lambda: method.generator_losses(Batch(images, {})), "without conditions"),
        (lambda: method.preview(images), "without conditions"),
    ]
    for call, named in bad:
        with pytest.raises(PixgraftError, match=named) as caught:
            call()
        assert "\n" not in str(caught.value)
