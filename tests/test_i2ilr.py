"""I2I-LR: that it learns, that its terms are the paper's, and that its presets are what they say."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cases import CASES, pictures, trainer_of, unfilled
from pixgraft.config import replaced
from pixgraft.errors import PixgraftError
from pixgraft.layers.normalize import SPAdaIN
from pixgraft.layers.resample import matched, upsample
from pixgraft.methods.base import Batch
from pixgraft.methods.i2ilr import I2ILR, I2ILRConfig
from pixgraft.presets import preset

# --- that it learns ---


def lr_difference(method: I2ILR, images: Tensor) -> tuple[float, float]:
    """How far translations are from shrinking to their targets, and how far the sources themselves are."""
    own, partner = method.pairs(images)
    with torch.no_grad():
        made = method.downscale(method.generator(images, partner))
    return float((made - partner).abs().mean()), float((own - partner).abs().mean())


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_i2ilr_overfits_four_images(seed: int) -> None:
    settings = ["method.lr_size=16", "method.augment=[]", "method.generator_lr=3e-3", "method.discriminator_lr=3e-3"]
    trainer = trainer_of(replaced(preset("i2ilr-tiny-32"), [*settings, f"train.seed={seed}"]))
    method, images = trainer.method, pictures(4, seed=seed)
    assert isinstance(method, I2ILR)
    before, _ = lr_difference(method, images)
    first = trainer.step(Batch(images, {}))["cycle"]
    for _ in range(100):
        last = trainer.step(Batch(images, {}))["cycle"]
    after, copying = lr_difference(method, images)
    assert last < first / 2
    assert after < before / 2
    assert after < copying / 2  # giving the source back, whatever the target, would not do


# --- its terms ---


def test_the_cycle_weight_falls_geometrically() -> None:
    settings = ["lambda_cycle=0.1", "lambda_cycle_start=10.0", "lambda_cycle_images=1000"]
    method, constant = (I2ILR(replaced(CASES[0].experiment.method, each)) for each in (settings, settings[:1]))
    weights = []
    for images_seen in (0, 500, 1000, 5000):
        method.set_progress(images_seen)
        constant.set_progress(images_seen)
        weights.append(method.cycle_weight)
        assert constant.cycle_weight == 0.1
    assert weights == pytest.approx([10, 1, 0.1, 0.1])
    method.set_progress(500)
    losses = [each.generator_losses(Batch(pictures(4), {}))["cycle"] for each in (method, constant)]
    constant.load_state_dict(method.state_dict())
    losses[1] = constant.generator_losses(Batch(pictures(4), {}))["cycle"]
    torch.testing.assert_close(losses[0], 10 * losses[1])


def test_the_lr_difference_may_be_a_loss_of_its_own() -> None:
    method = I2ILR(replaced(CASES[0].experiment.method, ["lambda_consistency=3.0"]))
    batch = Batch(pictures(4), {})
    losses = method.generator_losses(batch)
    _, partner = method.pairs(batch.images)
    apart = (F.avg_pool2d(batch.shared["translation"], 4) - partner).abs().mean()
    torch.testing.assert_close(losses["consistency"], 3 * apart)
    assert "consistency" not in I2ILR(CASES[0].experiment.method).generator_losses(batch)


def test_an_exact_generator_shrinks_to_its_targets_and_learns_through_that() -> None:
    given = replaced(CASES[0].experiment.method, ["consistency=exact"])
    method = I2ILR(given)
    batch = Batch(pictures(4), {})
    losses = method.generator_losses(batch)
    _, partner = method.pairs(batch.images)
    torch.testing.assert_close(method.downscale(batch.shared["translation"]), partner, atol=1e-5, rtol=0)
    assert float(method.difference(batch.shared["translation"], partner).abs().max()) == 0  # nothing tells fakes by it
    losses["generator"].backward()
    assert all(
        float(each.grad.abs().max()) > 0 for each in method.generator.to_rgb.parameters() if each.grad is not None
    )
    assert method.state_dict().keys() == I2ILR(CASES[0].experiment.method).state_dict().keys()


def test_an_edit_begins_as_the_source_and_has_a_gain_and_offsets() -> None:
    method = I2ILR(replaced(CASES[0].experiment.method, ["output=edit", "consistency=exact"]))
    batch = Batch(pictures(4), {})
    losses = method.generator_losses(batch)
    _, partner = method.pairs(batch.images)
    torch.testing.assert_close(batch.shared["translation"], matched(batch.images, partner))
    sum(losses.values(), torch.zeros(())).backward()
    convolution = method.generator.to_rgb
    assert isinstance(convolution, torch.nn.Conv2d)
    assert all(float(each.grad.abs().max()) > 0 for each in convolution.parameters() if each.grad is not None)

    method = I2ILR(replaced(CASES[0].experiment.method, ["output=edit"]))
    convolution = method.generator.to_rgb
    assert isinstance(convolution, torch.nn.Conv2d)
    with torch.no_grad():
        convolution.bias = torch.nn.Parameter(torch.tensor([0.1, 0.2, 0.3, -0.25]))
        edited = method.generator(batch.images, partner)
    expected = 0.75 * batch.images + torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    torch.testing.assert_close(edited, expected)


def test_the_exact_step_is_a_constant_of_exported_programs() -> None:
    """ONNX has no inverse."""

    class Step(torch.nn.Module):
        def forward(self, images: Tensor, target: Tensor) -> Tensor:
            return matched(images, target)

    given = pictures(2), torch.rand(2, 3, 8, 8) * 2 - 1
    program = torch.export.export(Step(), given)
    assert "linalg" not in str(program.graph)
    torch.testing.assert_close(program.module()(*given), matched(*given))


def test_cycle_noise_is_seen_by_the_second_pass_alone() -> None:
    method = I2ILR(replaced(CASES[0].experiment.method, ["cycle_noise=2.0"]))
    given: list[Tensor] = []
    method.generator.register_forward_hook(lambda network, inputs, output: given.extend((inputs[0], output)))
    batch = Batch(pictures(4), {})
    method.generator_losses(batch)
    _, translation, noisy, _ = given
    assert torch.equal(batch.shared["translation"], translation)
    noise = (noisy - translation).detach() * 127.5
    assert 1.9 < float(noise.std()) < 2.1 and abs(float(noise.mean())) < 0.1


@pytest.mark.parametrize(
    "setting", ["lambda_cycle=-1.0", "cycle_noise=-1.0", "lambda_consistency=-1.0", "lambda_cycle_start=1.0"]
)
def test_i2ilr_refuses_cycle_settings_that_mean_nothing(setting: str) -> None:
    with pytest.raises(PixgraftError, match=setting.split("=")[0]):
        replaced(CASES[0].experiment.method, [setting])


def test_an_equalized_discriminator_is_not_bounded_by_spectral_norms() -> None:
    torch.manual_seed(0)
    method = I2ILR(replaced(CASES[0].experiment.method, ["discriminator_norm=equalized"]))
    assert not any("u" in dict(layer.named_buffers()) for layer in method.discriminator.modules())
    images = pictures(4)
    lr = method.downscale(images)
    before = method.judge(images, lr)
    with torch.no_grad():
        for each in method.discriminator.parameters():
            each.mul_(2)
    assert method.judge(images, lr).std().item() > 4 * before.std().item()  # a spectral norm would undo the factor


def test_a_last_spadain_paints_the_target_at_full_size() -> None:
    method = I2ILR(replaced(CASES[0].experiment.method, ["final_norm=spadain"]))
    norm, target = method.generator.to_rgb_norm, torch.rand(2, 3, 8, 8) * 2 - 1
    assert isinstance(norm, SPAdaIN)
    with torch.no_grad():
        for parameter in norm.gamma.parameters():
            parameter.zero_()
        full = upsample(target, method.config.image_size // 8, align_corners=method.config.align_corners)
        expected = method.generator.to_rgb(F.leaky_relu(norm.beta(full), 0.2))
        assert torch.allclose(method.generator(pictures(2), target), expected, atol=1e-6)


def test_i2ilr_pairs_are_neighbours() -> None:
    method = I2ILR(CASES[0].experiment.method)
    images = pictures(6)
    own, partner = method.pairs(images)
    torch.testing.assert_close(own, F.avg_pool2d(images, 4))
    assert torch.equal(partner, own[[1, 0, 3, 2, 5, 4]])


def test_i2ilr_difference_is_what_the_configuration_says() -> None:
    images, lr = pictures(2), F.avg_pool2d(pictures(2, seed=1), 4)
    small, step = F.avg_pool2d(images, 4), 8 / 255
    levels = ((lr + 1) / step).round() - ((small + 1) / step).round()
    expected = {
        ("image", False): levels.abs() * step,
        ("image", True): levels.abs(),
        ("difference", False): ((lr - small).abs() / step).round() * step,
        ("difference", True): ((lr - small).abs() / step).round(),
    }
    for (rounded, in_steps), value in expected.items():
        settings = [f"difference={rounded}", f"difference_in_steps={str(in_steps).lower()}", f"difference_step={step}"]
        method = I2ILR(replaced(CASES[0].experiment.method, settings))
        torch.testing.assert_close(method.difference(images, lr), value, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["i2ilr-paper-128", "i2ilr-official-128", "i2ilr-small-64"])
def test_an_image_that_shrinks_to_its_target_has_no_difference(name: str) -> None:
    config = replaced(preset(name).method, ["image_size=32", "generator_max_channels=64"])
    method = I2ILR(replaced(config, ["discriminator_channels=8", "discriminator_max_channels=8"]))
    images = pictures(4)
    own = method.downscale(images)
    assert not method.difference(images, own).any()
    images = images.requires_grad_()
    real = method.judge(images)
    torch.testing.assert_close(real, method.judge(images, own))
    penalty = torch.autograd.grad(real.sum(), images)[0].square().sum() / len(images)
    if method.config.r1_of == "logits":
        gamma = method.config.r1_gamma / 2 * (2 if method.config.adversarial_on_cycle else 1)
        torch.testing.assert_close(method.r1_losses(Batch(images, {}))["r1"], gamma * penalty)


def test_levels_of_8_bits_lie_on_the_paper_grid() -> None:
    method = I2ILR(replaced(CASES[0].experiment.method, ["difference=image", "difference_step=0.00784313725490196"]))
    levels = torch.arange(192).view(1, 3, 8, 8) / 127.5 - 1
    images = levels.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert method.config.image_size == 32 and method.config.lr_size == 8
    in_steps = 1 if method.config.difference_in_steps else 127.5
    assert not method.difference(images, levels).any()
    torch.testing.assert_close(
        method.difference(images + 3 / 127.5, levels) * in_steps, torch.full_like(levels, 3.0), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize(("on_cycle", "times"), [(False, 1), (True, 2)])
def test_i2ilr_weighs_its_terms(on_cycle: bool, times: int) -> None:
    settings = [f"adversarial_on_cycle={str(on_cycle).lower()}", "lambda_cycle=0.25", "r1_gamma=3.0"]
    torch.manual_seed(0)
    method = I2ILR(replaced(CASES[0].experiment.method, settings))
    batch = Batch(pictures(4).requires_grad_(), {})
    losses = method.generator_losses(batch) | method.discriminator_losses(batch) | method.r1_losses(batch)
    own, partner = method.pairs(batch.images)
    translation = method.generator(batch.images, partner)
    cycle = method.generator(translation, own)
    assert not method.difference(batch.images, own).any()
    real = method.judge(batch.images)
    expected = {
        "generator": F.softplus(-method.judge(translation, partner)).mean(),
        "cycle": 0.25 * (cycle - batch.images).abs().mean(),
        "real": times * F.softplus(-real).mean(),
        "fake": F.softplus(method.judge(translation, partner)).mean(),
        "r1": times * 3.0 / 2 * torch.autograd.grad(real.sum(), batch.images)[0].square().sum() / 4,
    }
    if on_cycle:
        expected["generator_cycle"] = F.softplus(-method.judge(cycle, own)).mean()
        expected["fake_cycle"] = F.softplus(method.judge(cycle, own)).mean()
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-7)


def test_i2ilr_outputs_stay_in_range_and_repeat() -> None:
    torch.manual_seed(0)
    method = I2ILR(CASES[0].experiment.method)
    source, target = pictures(3), F.avg_pool2d(pictures(3, seed=1), 4)
    first = method.translate(source, target)
    assert first.shape == source.shape and first.abs().max() <= 1 and not first.requires_grad
    assert torch.equal(method.translate(source, target), first)
    preview = method.preview(pictures(4))
    assert preview.grid.shape == (3, 4, 3, 32, 32)  # two targets under a row of sources; target, LR, two outputs
    assert preview.diversity > 0


@pytest.mark.parametrize(
    ("size", "lr_size", "named"),
    [(48, 8, "image_size is 48"), (64, 64, "lr_size is 64"), (64, 3, "lr_size is 3"), (64, 24, "lr_size is 24")],
)
def test_i2ilr_refuses_sizes_that_do_not_halve(size: int, lr_size: int, named: str) -> None:
    with pytest.raises(PixgraftError, match=named) as caught:
        I2ILRConfig(image_size=size, lr_size=lr_size)
    assert "choose" in str(caught.value) and "\n" not in str(caught.value)


# --- presets ---


def test_the_portrait_generator_fits_in_16_mib_of_half_precision() -> None:
    tensors = unfilled("i2ilr-portraits-128").get_submodule("generator").state_dict().values()
    assert 2 * sum(tensor.numel() for tensor in tensors) <= 16 * 2**20


@pytest.mark.parametrize(("network", "millions"), [("generator", 21.6), ("discriminator", 23.2)])
def test_the_official_networks_have_the_published_size(network: str, millions: float) -> None:
    parameters = unfilled("i2ilr-official-128").get_submodule(network).parameters()
    assert round(sum(parameter.numel() for parameter in parameters) / 1e6, 1) == millions


PAPER_AND_CODE = {
    # field: (what the paper says, what its published code does)
    "head": ("single", "patch"),
    "statistic": ("variance", "deviation"),
    "spectral_spadain": (True, False),
    "difference": ("image", "difference"),
    "difference_step": (2 / 255, 8 / 255),
    "difference_in_steps": (True, False),
    "adversarial": ("minimax", "non_saturating"),
    "adversarial_on_cycle": (False, True),
    "r1_of": ("logits", "loss"),
    "r1_gamma": (0.5, 10.0),
    "r1_batch": (8, 4),
}
SHARED = {
    "generator_channels": 64,
    "generator_max_channels": 512,
    "discriminator_channels": 128,
    "shortcut": "dynamic",
    "gain": "gamma",
    "align_corners": True,
    "lambda_cycle": 1.0,
    "generator_lr": 1e-3,
    "discriminator_lr": 4e-3,
    "betas": (0.0, 0.99),
    "augment": (),
}


def test_the_paper_and_its_code_differ_as_listed_and_in_nothing_else() -> None:
    paper, official = preset("i2ilr-paper-128"), preset("i2ilr-official-128")
    for name in (f.name for f in dataclasses.fields(I2ILRConfig)):
        values = getattr(paper.method, name), getattr(official.method, name)
        if name in PAPER_AND_CODE:
            assert values == PAPER_AND_CODE[name], name
        else:
            assert values == (values[0], values[0]) and values[0] == SHARED.get(name, values[0]), name
    # A batch of 8 is 8 pairs in the paper, and split into 4 sources and 4 targets in the code.
    assert (paper.train.batch, official.train.batch) == (16, 8)
    for train in (paper.train, official.train):
        assert train.flip and train.average_decay == 0.999


def test_the_paper_weakens_the_cycle_at_256() -> None:
    assert preset("i2ilr-paper-256").method.lambda_cycle == 0.1
