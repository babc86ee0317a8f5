"""GRIT: its two losses are decoupled, its noise does what it should, its terms are the paper's, and it learns."""

import dataclasses

import pytest
import torch
from torch import Tensor

from cases import grit_batch, grit_condition, grit_method, pictures, trainer_of
from pixgraft.config import replaced
from pixgraft.layers.conditions import class_colors
from pixgraft.layers.resample import enlarge
from pixgraft.losses.reconstruction import l1
from pixgraft.methods.base import Batch, Losses
from pixgraft.methods.grit import GRIT, PRIOR_LR, GRITConfig
from pixgraft.presets import preset


def losses_of(method: GRIT, batch: Batch, *, seed: int = 0) -> Losses:
    torch.manual_seed(seed)
    return method.generator_losses(batch)


def reached(loss: Tensor, method: GRIT) -> set[str]:
    """The parameters of the generator and the style encoder on which the loss depends."""
    named = {
        f"{name}.{key}": parameter
        for name in ("generator", "style_encoder")
        for key, parameter in method.get_submodule(name).named_parameters()
    }
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {name for name, g in zip(named, gradients, strict=True) if g is not None and g.abs().sum() > 0}


HEADS = ("generator.to_reconstruction.weight", "generator.to_residual.weight")
NOISE = "generator.decoder.1.conv2.noise.weight"
TRUNK = ("generator.encoder.0.conv.weight", NOISE, "style_encoder.to_code.weight")


# --- the decoupling of eq. 2 ---


def test_each_loss_moves_its_own_part() -> None:
    """L_rec gives nothing to what only the residual uses; L_adv reaches both through the sum."""
    method = grit_method()
    losses = losses_of(method, grit_batch(method))
    by_reconstruction, by_adversarial = (reached(losses[name], method) for name in ("reconstruction", "generator"))
    assert HEADS[0] in by_reconstruction and HEADS[1] not in by_reconstruction
    assert set(HEADS) <= by_adversarial
    assert set(TRUNK) <= by_reconstruction & by_adversarial
    assert reached(losses["style"], method) <= {name for name in by_adversarial if name.startswith("style_encoder")}
    assert reached(losses["prior"], method) == {"style_encoder.prior.mean", "style_encoder.prior.whitening"}


def test_the_adversarial_loss_can_be_kept_from_the_reconstruction() -> None:
    method = grit_method("adversarial_into=residual")
    by_adversarial = reached(losses_of(method, grit_batch(method))["generator"], method)
    assert HEADS[0] not in by_adversarial and HEADS[1] in by_adversarial and set(TRUNK) <= by_adversarial


def test_each_loss_sees_its_own_image_alone() -> None:
    method = grit_method()
    before = losses_of(method, grit_batch(method))
    with torch.no_grad():
        assert method.generator.to_residual is not None
        method.generator.to_residual.weight.add_(0.5)
    after = losses_of(method, grit_batch(method))
    assert torch.equal(after["reconstruction"], before["reconstruction"])
    assert not torch.equal(after["generator"], before["generator"])


def test_without_a_residual_both_losses_are_of_one_image() -> None:
    method = grit_method("residual=false")
    batch = grit_batch(method)
    output, _ = method.generate(batch)
    assert output.residual is None and output.image is output.reconstruction
    assert method.generator.to_residual is None
    losses = losses_of(method, batch)
    assert HEADS[0] in reached(losses["reconstruction"], method) & reached(losses["generator"], method)
    translated = method.translate(grit_condition(method), batch.images)
    assert torch.equal(translated.image, translated.components.pop("reconstruction")) and not translated.components


def test_the_image_is_the_sum_and_training_starts_from_the_reconstruction() -> None:
    method = grit_method()
    output, _ = method.generate(grit_batch(method))
    assert output.residual is not None and output.residual.abs().max() > 0.1
    assert torch.equal(output.image, output.reconstruction + output.residual)
    untrained, _ = grit_method(trained=False).generate(grit_batch(method))
    assert torch.equal(untrained.image, untrained.reconstruction)


def test_the_decoder_sees_the_encoders_features_of_each_size() -> None:
    method = grit_method()
    generator = method.generator
    encoded: list[Tensor] = []
    seen: list[Tensor] = []
    for down in generator.encoder:
        down.register_forward_hook(lambda _, __, output: encoded.append(output))
    for layer in (*generator.decoder, generator.to_reconstruction):
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    method.generate(grit_batch(method))
    assert [each.shape[-1] for each in seen] == [8, 16, 32]
    for features, own in zip(seen, reversed(encoded), strict=True):
        assert torch.equal(features[:, own.shape[1] :], own) and own.abs().sum() > 0


# --- noise ---


def test_equal_noise_gives_equal_bits_and_other_noise_another_image() -> None:
    method = grit_method()
    condition, images = grit_condition(method), pictures(4)

    def made(seed: int | None) -> Tensor:
        noise = None if seed is None else method.draw_noise(4, torch.Generator().manual_seed(seed))
        return method.translate(condition, images, noise).image

    assert torch.equal(made(1), made(1)) and torch.equal(made(None), made(None))
    for other in (made(2), made(None)):
        assert all((a - b).abs().mean() > 1e-3 for a, b in zip(made(1), other, strict=True))


def test_noise_is_drawn_image_by_image() -> None:
    """So that a seed gives an image the same noise in any batch; and it is torch's own where no generator is given."""
    method = grit_method()
    five = method.draw_noise(5, torch.Generator().manual_seed(3))
    random = torch.Generator().manual_seed(3)
    split = [method.draw_noise(count, random) for count in (2, 3)]
    torch.manual_seed(3)
    own = method.draw_noise(5)
    assert [tuple(part.shape) for part in five] == [(5, 1, side, side) for side in (16, 16, 32, 32)]
    for index, part in enumerate(five):
        assert torch.equal(part, torch.cat([each[index] for each in split])) and torch.equal(part, own[index])
        assert len({image.numpy().tobytes() for image in part}) == 5
    values = torch.cat([part.flatten() for part in five])
    assert values.mean().abs() < 0.05 and abs(values.std() - 1) < 0.05
    assert [len(part) for part in method.draw_noise(0)] == [0, 0, 0, 0]


@pytest.mark.parametrize("place", range(4))
def test_noise_acts_at_every_place(place: int) -> None:
    method = grit_method()
    condition, codes = grit_condition(method), method.encode_style(pictures(4))
    noise = [torch.zeros_like(part) for part in method.draw_noise(4)]
    silent = method.translate(condition, codes, noise)
    assert torch.equal(silent.image, method.translate(condition, codes).image)
    noise[place] = method.draw_noise(4)[place]
    assert not torch.equal(silent.image, method.translate(condition, codes, noise).image)


def test_noise_may_be_the_residuals_alone() -> None:
    """The reconstruction loss then has no say in it, and the reconstruction is that of no noise, to the bit."""
    both, apart = grit_method(), grit_method("noise_into=residual")
    apart.load_state_dict(both.state_dict())
    condition, images = grit_condition(both), pictures(4)
    noise = both.draw_noise(4)
    quiet, noisy = (apart.translate(condition, images, each) for each in (None, noise))
    together = both.translate(condition, images, noise)
    without, with_noise, of_both = (each.components for each in (quiet, noisy, together))
    assert torch.equal(with_noise["reconstruction"], without["reconstruction"])
    assert not torch.equal(with_noise["reconstruction"], of_both["reconstruction"])
    assert torch.equal(with_noise["residual"], of_both["residual"])
    assert not torch.equal(with_noise["residual"], without["residual"])
    assert torch.equal(quiet.image, both.translate(condition, images).image)
    losses = losses_of(apart, grit_batch(apart))
    assert NOISE in reached(losses["generator"], apart) - reached(losses["reconstruction"], apart)
    alone = grit_method("noise_into=residual", "residual=false")
    first, second = (alone.translate(condition, images, each).image for each in (None, noise))
    assert not torch.equal(first, second)


def test_samples_that_differ_too_little_with_the_noise_can_cost() -> None:
    """The loss is what their mean difference lacks of a bound, image by image, in means of 4x4 pixels; it moves the
    noise's weights."""
    bound = 0.07  # some of the four differences are below it
    method = grit_method("noise_into=residual", "lambda_diversity=3", f"diversity_bound={bound}")
    batch = grit_batch(method)
    losses = losses_of(method, batch)
    assert NOISE in reached(losses["diversity"], method)
    assert not reached(losses["diversity"], method) & {HEADS[0]}
    torch.manual_seed(0)
    first, codes = method.generate(batch)
    second = method.sampled(batch, codes)
    squares = (first.image - second.image).unflatten(3, (-1, 4)).unflatten(2, (-1, 4)).mean((3, 5))
    differences = squares.abs().mean((1, 2, 3))
    lacking = (bound - differences).clamp_min(0)
    assert 0 < (lacking > 0).sum() < 4, differences
    torch.testing.assert_close(losses["diversity"], 3 * lacking.mean(), rtol=1e-4, atol=1e-6)


def test_the_noises_weights_start_as_configured() -> None:
    still, moving = (grit_method(f"noise_start={start}", trained=False) for start in (0.0, 0.25))
    weights = {
        method: torch.cat([p for name, p in method.generator.named_parameters() if name.endswith("noise.weight")])
        for method in (still, moving)
    }
    assert not weights[still].any()
    assert 0.15 < weights[moving].std() < 0.35 and (weights[moving] < 0).any() and (weights[moving] > 0).any()


def test_without_noise_nothing_is_drawn() -> None:
    method = grit_method("noise=false")
    assert method.draw_noise(4) == []
    assert not [name for name, _ in method.generator.named_parameters() if "noise" in name]
    first, second = (losses_of(method, grit_batch(method), seed=seed) for seed in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    noisy = grit_method()
    first, second = (losses_of(noisy, grit_batch(noisy), seed=seed) for seed in (0, 1))
    assert not torch.equal(first["reconstruction"], second["reconstruction"])


# --- terms ---


def test_the_discriminators_norms_can_be_left_out() -> None:
    """Their offsets are then the convolutions' own."""
    with_norms, without = (grit_method(f"discriminator_norm={on}", trained=False) for on in ("true", "false"))
    assert [name for name, _ in with_norms.discriminator.named_parameters() if ".norms." in name]
    names = {name for name, _ in without.discriminator.named_parameters()}
    assert not [name for name in names if ".norms." in name]
    assert {"scales.0.convs.0.bias", "scales.1.convs.1.bias"} <= names


def test_terms_are_weighed() -> None:
    settings = ["lambda_reconstruction=3.0", "lambda_adversarial=0.5", "lambda_style=0.25", "r1_gamma=4.0"]
    method = grit_method("noise=false", *settings)
    batch = grit_batch(method)
    losses = losses_of(method, batch) | method.discriminator_losses(batch) | method.r1_losses(batch)
    condition = method.encode(grit_condition(method))
    codes = method.style_encoder(batch.images)
    output = method.generator(condition, codes)
    images = batch.images.clone().requires_grad_()
    real = method.discriminator(condition, images)
    means = torch.stack([each.mean((1, 2, 3)) for each in real])
    gradients = torch.autograd.grad(means.sum(), images, retain_graph=True)
    fake = method.discriminator(condition, output.image)
    assert len(real) == len(fake) == 2
    expected = {
        "reconstruction": 3.0 * (output.reconstruction - batch.images).abs().mean(),
        "generator": 0.5 * sum(((each - 1) ** 2).mean() for each in fake),
        "style": 0.25 * (codes**2).mean(),
        "prior": 0.5 * (codes**2).sum(1).mean(),  # the prior starts as a unit normal one
        "real": sum(((each - 1) ** 2).mean() for each in real),
        "fake": sum((each**2).mean() for each in fake),
        "r1": 4.0 / 2 * gradients[0].square().sum() / 4,
    }
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "stored", "encoded"), [(["classes=4"], 1, 4), (["condition=sketch"], 1, 1), (["condition=lr"], 3, 3)]
)
def test_conditions_become_floats(settings: list[str], stored: int, encoded: int) -> None:
    method = grit_method(*settings)
    condition = grit_condition(method)
    assert condition.dtype == torch.uint8 and condition.shape == (4, stored, 32, 32)
    floats = method.encode(condition)
    assert floats.dtype == torch.float32 and floats.shape == (4, encoded, 32, 32)
    if encoded == 4:
        assert torch.equal(floats.argmax(1, keepdim=True), condition.long()) and torch.equal(
            floats.sum(1), torch.ones(4, 32, 32)
        )
        assert len(condition.unique()) > 2
    else:
        torch.testing.assert_close((floats + 1) * 127.5, condition.float())
        assert floats.min() < -0.3 and floats.max() > 0.3
    assert method.condition.pictured(condition).shape == (4, 3, 32, 32)


@pytest.mark.parametrize("classes", [2, 8, 19])
def test_classes_have_colors_of_their_own(classes: int) -> None:
    colors = class_colors(classes)
    assert colors.shape == (classes, 3) and colors.abs().max() <= 1
    assert (torch.cdist(colors, colors) + 9 * torch.eye(classes)).min() > 0.1


# --- that it learns ---


def test_each_part_learns_at_its_own_rate() -> None:
    rates = ["generator_lr=0.5", "style_lr=0.25", "discriminator_lr=0.125", "betas=[0.25, 0.75]"]
    method = grit_method(*rates)
    names = {parameter: name for name, parameter in method.named_parameters()}
    found: dict[str, float] = {}
    for optimizer in method.optimizers().values():
        for group in optimizer.param_groups:
            assert group["betas"] == (0.25, 0.75)
            found |= {names[parameter]: group["lr"] for parameter in group["params"]}
    assert found.pop("style_encoder.prior.mean") == found.pop("style_encoder.prior.whitening") == PRIOR_LR
    expected = {"generator": 0.5, "style_encoder": 0.25, "discriminator": 0.125}
    assert found == {name: expected[name.split(".")[0]] for name in found}


def painted(seed: int) -> Batch:
    """Four patchworks of classes, each painted in four colours of its own."""
    generator = torch.Generator().manual_seed(seed)
    labels = enlarge(torch.randint(0, 4, (4, 1, 4, 4), generator=generator), 8)
    colors = torch.rand(4, 4, 3, generator=generator) * 1.6 - 0.8
    images = torch.stack([own[label[0]].permute(2, 0, 1) for own, label in zip(colors, labels, strict=True)])
    return Batch(images, {}, labels.to(torch.uint8))


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_grit_overfits_four_pairs(seed: int) -> None:
    """What no one image for all reaches, nor the condition in another's style, nor the style on another's condition."""
    settings = [f"train.seed={seed}", "method.generator_lr=1e-2", "method.style_lr=5e-3"]
    trainer = trainer_of(replaced(preset("grit-tiny-32"), settings))
    method, batch = trainer.method, painted(seed)
    assert isinstance(method, GRIT) and batch.condition is not None
    for _ in range(130):
        trainer.step(batch)

    def apart(condition: Tensor, styles: Tensor) -> float:
        return l1(method.translate(condition, styles).components["reconstruction"], batch.images).item()

    reached = apart(batch.condition, batch.images)
    assert reached < 0.7 * l1(batch.images.median(0, keepdim=True).values, batch.images)
    assert reached < 0.5 * apart(batch.condition, batch.images.roll(1, 0))
    assert reached < 0.5 * apart(batch.condition.roll(1, 0), batch.images)


# --- presets ---


def test_the_paper_presets_are_the_paper_and_step() -> None:
    paper = preset("grit-paper-256")
    expected = {
        "image_size": 256,
        "condition": "labels",
        "classes": 19,
        "noise": True,
        "residual": True,
        "noise_start": 0.0,
        "noise_into": "both",
        "reconstruction": "l1",
        "perceptual": "lpips-vgg",
        "adversarial_into": "sum",
        "generator_channels": 32,
        "generator_max_channels": 512,
        "downsamplings": 3,
        "blocks": 4,
        "pixel_norm": True,
        "style_dim": 8,
        "style_channels": (64, 128, 192, 256),
        "discriminator_channels": 32,
        "discriminator_max_channels": 512,
        "discriminator_layers": 3,
        "discriminator_scales": 3,
        "discriminator_norm": True,
        "lambda_reconstruction": 10.0,
        "lambda_adversarial": 1.0,
        "lambda_style": 0.01,
        "lambda_diversity": 0.0,
        "diversity_bound": 0.05,
        "r1_gamma": 0.0,
        "r1_every": 16,
        "generator_lr": 1e-3,
        "style_lr": 1e-4,
        "discriminator_lr": 1e-3,
        "betas": (0.0, 0.99),
    }
    assert dataclasses.asdict(paper.method) == expected
    assert (paper.train.batch, paper.train.average_decay) == (8, 0.999)
    assert preset("grit-paper-512").method == dataclasses.replace(paper.method, image_size=512)
    assert GRITConfig() == paper.method
