"""Training of generative priors: StyleGAN2's regularisation and adaptive augmentation, ProGAN's growing, whole runs."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cases import pictures, trainer_of
from pixgraft.cli import main
from pixgraft.config import replaced
from pixgraft.engine.distributed import World
from pixgraft.errors import PixgraftError
from pixgraft.losses.penalties import path_lengths, r1_of_logits
from pixgraft.methods.base import Batch
from pixgraft.methods.progan import ProGAN, ProGANConfig
from pixgraft.methods.sampling import Sampling
from pixgraft.methods.stylegan2 import StyleGAN2
from pixgraft.models import load_model, save_model
from pixgraft.presets import preset
from pixgraft.training.batches import Feed
from pixgraft.training.trainer import Trainer
from test_paired_runs import torchrun
from training import CPU, assert_equal, log_lines, make_images, newest, tree

RUN = ("train.log_every=4", "train.checkpoint_every=16", "train.keep=0", "train.sample_every=12", "train.images=48")
SMALL = ("method.base_channels=128", "method.max_channels=8")
FADING = (*SMALL, "method.fade_images=20", "method.settle_images=4")
"""ProGAN is at 8 pixels from image 4 on, at 16 from 28 and at 32 from 52: 48 images end in the fade of 16."""
KINDS = {
    "stylegan2": (*SMALL, "method.augment_images=40", "method.r1_every=3", "method.path_every=2"),
    "progan": FADING,
}
EACH = pytest.mark.parametrize("kind", KINDS)


def stylegan2(*settings: str) -> StyleGAN2:
    torch.manual_seed(0)
    return StyleGAN2(replaced(preset("stylegan2-tiny-32"), [*SMALL, *settings]).method)


def batch(count: int = 4) -> Batch:
    return Batch(pictures(count), {})


# --- StyleGAN2 ---


def test_path_lengths_are_the_jacobians() -> None:
    """Of a linear map the mean square over y is known: the square sum of the matrix, over the pixels."""
    torch.manual_seed(0)
    matrix = torch.randn(3 * 4 * 4, 5, dtype=torch.float64)
    codes = torch.randn(20_000, 1, 5, dtype=torch.float64, requires_grad=True)
    images = (codes[:, 0] @ matrix.T).reshape(-1, 3, 4, 4)
    found = path_lengths(images, codes)
    assert found.shape == (20_000,)
    assert float(found.square().mean()) == pytest.approx(float(matrix.square().sum() / 16), rel=0.02)


def test_path_lengths_are_over_the_layers_a_root_mean_square() -> None:
    codes = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(1)
    images = codes.sum((1, 2))[:, None, None, None].expand(2, 3, 4, 4)
    lengths = path_lengths(images, codes)
    torch.manual_seed(1)
    slope = (torch.randn(2, 3, 4, 4, dtype=torch.float64).sum((1, 2, 3)) / 4).abs()
    torch.testing.assert_close(lengths, slope * math.sqrt(5))  # each of 5 numbers moves every pixel by one


def test_lengths_are_held_at_their_running_mean() -> None:
    method = stylegan2("method.augment_target=0")
    seen = batch(8)
    torch.manual_seed(2)
    alone = method.path_losses(seen)["path"].item()
    length = float(seen.observed["path_length"])
    method.adapt(seen.observed, 8)
    assert float(method.path_mean) == pytest.approx(0.01 * length, rel=1e-5)
    method.path_mean.fill_(length)
    torch.manual_seed(2)
    assert method.path_losses(batch(8))["path"].item() < alone / 2


def test_the_mean_code_follows_the_mapping() -> None:
    method = stylegan2()
    trainer = trainer_of(replaced(preset("stylegan2-tiny-32"), [*SMALL, "train.batch=16"]))
    for _ in range(3):
        trainer.step(Batch(pictures(16), {}))
    trained = trainer.method
    assert isinstance(trained, StyleGAN2)
    assert float(trained.generator.w_mean.abs().max()) > 0
    observed = {"w_mean": torch.full((16,), 2.0)}
    for _ in range(2_000):
        method.adapt(observed, 4)
    torch.testing.assert_close(method.generator.w_mean, observed["w_mean"], rtol=1e-3, atol=0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_augmentation_grows_where_real_images_are_told(sign: float) -> None:
    method = stylegan2("method.augment_images=400")
    method.probability.fill_(0.5)
    for step in range(1, 9):
        method.adapt({"real_sign": torch.tensor(sign)}, 10)
        # It moves at every fourth step, by the four steps' 40 images in 400.
        assert float(method.probability) == pytest.approx(0.5 + sign * 0.1 * (step // 4))


def test_every_image_is_judged_augmented() -> None:
    """At a probability of 1 real and generated images are judged otherwise in every phase, the generator's too (or
    augmentation would leak into it), and what the generator's phase leaves is unchanged."""
    method = stylegan2()
    seen = batch()
    torch.manual_seed(3)
    method.generator_losses(seen)
    plain = seen.shared["image"]
    torch.manual_seed(4)
    before = method.discriminator_losses(seen)["real"].item()
    phases = (method.generator_losses, method.r1_losses)
    plainly = []
    for phase in phases:
        torch.manual_seed(5)
        plainly.append(sum(loss.item() for loss in phase(batch()).values()))
    method.probability.fill_(1.0)
    for phase, former in zip(phases, plainly, strict=True):
        torch.manual_seed(5)
        assert sum(loss.item() for loss in phase(batch()).values()) != pytest.approx(former, rel=1e-4)
    torch.manual_seed(4)
    assert method.discriminator_losses(seen)["real"].item() != before
    torch.manual_seed(3)
    again = batch()
    method.generator_losses(again)
    assert torch.equal(again.shared["image"], plain)
    assert float(seen.observed["augmentation"]) == 1


def test_the_penalties_have_their_weights() -> None:
    paths = []
    for gamma, weight in ((1.0, 1.0), (3.0, 2.0)):
        method = stylegan2(f"method.r1_gamma={gamma}", f"method.path_weight={weight}", "method.augment_target=0")
        images = pictures(4).requires_grad_()
        whole = gamma / 2 * r1_of_logits(images, method.discriminator(images)).item()
        assert method.r1_losses(batch())["r1"].item() == pytest.approx(whole, rel=1e-5)
        torch.manual_seed(2)
        paths.append(method.path_losses(batch())["path"].item())
    assert paths[1] == pytest.approx(2 * paths[0], rel=1e-5)


def test_lazy_phases_slow_their_optimizer_down() -> None:
    judge = stylegan2("method.r1_every=16", "method.discriminator_lr=0.017").optimizers()["discriminator"]
    assert judge.param_groups[0]["lr"] == pytest.approx(0.016)
    assert judge.param_groups[0]["betas"] == pytest.approx((0.0, 0.99 ** (16 / 17)))
    group = stylegan2("method.path_every=4", "method.generator_lr=0.01").optimizers()["generator"].param_groups[0]
    assert group["lr"] == pytest.approx(0.008)
    assert group["betas"] == pytest.approx((0.0, 0.99**0.8))
    plain = stylegan2("method.path_weight=0", "method.generator_lr=0.01").optimizers()["generator"].param_groups[0]
    assert plain["lr"] == 0.01


def test_mixed_codes_are_of_two_in_their_share() -> None:
    method = stylegan2("method.mixing=0.5")
    torch.manual_seed(0)
    codes, w = method.training_codes(400)
    torch.testing.assert_close(codes[:, 0], w)
    mixed = (codes[:, -1] != codes[:, 0]).any(1).float().mean()
    assert 0.4 < float(mixed) < 0.6
    assert method.training_codes(3)[0].shape == (3, method.style_layers, 16)


# --- ProGAN ---


@pytest.mark.parametrize(
    ("images_seen", "expected"),
    [(0, (4, 1.0)), (19, (4, 1.0)), (20, (8, 0.0)), (40, (8, 0.5)), (60, (8, 1.0)), (79, (8, 1.0)), (80, (16, 0.0)),
     (150, (32, 0.25)), (10**9, (32, 1.0))],
)  # fmt: skip
def test_growth_follows_the_images_seen(images_seen: int, expected: tuple[int, float]) -> None:
    assert ProGANConfig(image_size=32, fade_images=40, settle_images=20).grown(images_seen) == expected


def test_without_a_fade_sizes_change_at_once() -> None:
    config = ProGANConfig(image_size=16, start_size=8, fade_images=0, settle_images=20)
    assert [config.grown(seen) for seen in (0, 19, 20, 10**6)] == [(8, 1.0), (8, 1.0), (16, 1.0), (16, 1.0)]


def test_real_images_fade_as_generated_ones_do() -> None:
    method = ProGAN(replaced(preset("progan-tiny-32"), [*FADING]).method)
    images = pictures(4)
    method.set_progress(4)  # at 8 pixels nothing of the new size is there yet
    assert (method.resolution, method.alpha) == (8, 0.0)
    coarse = method.shrink(images)
    assert coarse.shape == (4, 3, 8, 8)
    torch.testing.assert_close(coarse[..., ::2, ::2], coarse[..., 1::2, 1::2])
    method.set_progress(14)
    half = method.shrink(images)
    method.set_progress(24)
    sharp = method.shrink(images)
    torch.testing.assert_close(half, (coarse + sharp) / 2)
    z = method.draw_latents(2, torch.Generator().manual_seed(0))
    made: list[Tensor] = []
    for seen in (4, 14, 24):
        method.set_progress(seen)
        made.append(method.generate_from(z))
    torch.testing.assert_close(made[1], (made[0] + made[2]) / 2)


def test_progan_is_penalised_between_real_and_generated_images(monkeypatch: pytest.MonkeyPatch) -> None:
    method = ProGAN(replaced(preset("progan-tiny-32"), [*SMALL, "method.drift_weight=0.5"]).method)
    seen, judged = batch(), []
    method.generator_losses(seen)
    plain = method.judged

    def recorded(images: Tensor) -> Tensor:
        judged.append((images.detach(), plain(images)))
        return judged[-1][1]

    monkeypatch.setattr(method, "judged", recorded)
    losses = method.discriminator_losses(seen)
    (real, real_logits), (fake, fake_logits), (between, _) = judged
    shares = (between - real).flatten(1).norm(dim=1) / (fake - real).flatten(1).norm(dim=1)
    torch.testing.assert_close(between, torch.lerp(real, fake, shares.view(-1, 1, 1, 1)), rtol=1e-4, atol=1e-5)
    assert len(set(shares.tolist())) == 4 and shares.min() > 0 and shares.max() < 1
    torch.testing.assert_close(losses["wasserstein"], fake_logits.mean() - real_logits.mean())
    torch.testing.assert_close(losses["drift"], 0.5 * real_logits.square().mean())


def test_a_model_that_still_grows_opens_at_its_size(tmp_path: Path) -> None:
    config = replaced(preset("progan-tiny-32"), [*FADING]).method
    save_model(tmp_path / "young", ProGAN(config), info={"images_seen": 30})
    save_model(tmp_path / "grown", ProGAN(config), info={})
    for name, side in (("young", 16), ("grown", 32)):
        method = load_model(tmp_path / name).method
        assert isinstance(method, ProGAN)
        assert method.image_size == side
        assert method.sample(method.draw_latents(2)).shape == (2, 3, side, side)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [("image_size=24", "power of two"), ("start_size=64", "power of two from 4 to 32"), ("z_dim=0", "1 or more"),
     ("fade_images=-1", "at least 0"), ("generator_lr=0", "above 0")],
)  # fmt: skip
def test_a_progan_that_cannot_be_is_refused(setting: str, reason: str) -> None:
    with pytest.raises(PixgraftError, match=reason):
        replaced(preset("progan-tiny-32"), [f"method.{setting}"])


@pytest.mark.parametrize(
    ("setting", "reason"),
    [("image_size=24", "powers of two"), ("mixing=1.5", "from 0 to 1"), ("r1_gamma=-1", "at least 0"),
     ("path_every=0", "1 or more"), ("augment=[\"bent\"]", "bent"), ("augment=[]", "augment_target without"),
     ("betas=[0.0, 1.0]", "below 1")],
)  # fmt: skip
def test_a_stylegan2_that_cannot_be_is_refused(setting: str, reason: str) -> None:
    with pytest.raises(PixgraftError, match=reason):
        replaced(preset("stylegan2-tiny-32"), [f"method.{setting}"])


# --- averages ---


def test_averages_have_a_half_life_in_images() -> None:
    settings = ["train.batch=4", "train.average_half_life=40", "train.average_ramp=0.5"]
    train = replaced(preset("stylegan2-tiny-32"), settings).train
    assert train.decay(0) == 0  # nothing is remembered of the untrained start
    assert train.decay(1_000) ** 10 == pytest.approx(0.5)  # ten steps of 4 images
    assert train.decay(16) ** 2 == pytest.approx(0.5)  # half of the images seen, 8, are two steps
    assert replaced(preset("stylegan2-tiny-32"), [*settings, "train.average_ramp=0"]).train.decay(0) ** 10 == (
        pytest.approx(0.5)
    )


# --- whole runs ---


def arguments(kind: str, data: Path, out: Path, *settings: str) -> list[str]:
    each = [part for setting in (*RUN, *KINDS[kind], *settings) for part in ("--set", setting)]
    return ["train", f"{kind}-tiny-32", "--data", str(data), "--out", str(out), "--device", "cpu", *each]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "images")


@EACH
@pytest.mark.parametrize("stop", [12, 36])
def test_stopped_and_resumed_is_one_run(kind: str, stop: int, data: Path, tmp_path: Path) -> None:
    """ProGAN stops in the fade of 8 pixels (12) and in that of 16 (36), so that the second part crosses a change of
    size too; StyleGAN2 between two moves of its augmentation, and with each lazy phase on either side."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(arguments(kind, data, whole)) == 0
    assert main(arguments(kind, data, parts, f"train.images={stop}")) == 0
    assert main(arguments(kind, data, parts)) == 0
    assert_equal(newest(parts), newest(whole))
    assert log_lines(parts) == log_lines(whole)
    assert tree(parts / "samples") == tree(whole / "samples")
    opened = load_model(parts).method
    assert isinstance(opened, Sampling)
    assert opened.image_size == (16 if kind == "progan" else 32)  # at 48 images ProGAN is there
    if kind == "stylegan2":
        assert {"path_length", "augmentation", "real_sign"} <= {name for line in log_lines(whole) for name in line}


def last_gradients(trainer: Trainer) -> dict[str, Tensor]:
    """The first moments, beta1 being 0, of the parameters that have any."""
    return {
        name: optimizer.state[parameter]["exp_avg"]
        for optimizer in trainer.optimizers.values()
        for name, parameter in trainer.method.named_parameters()
        if parameter in optimizer.state
    }


@pytest.mark.parametrize("kind", ["stylegan2", pytest.param("progan", marks=pytest.mark.slow)])
def test_two_processes_average_their_gradients_and_what_they_saw(kind: str, data: Path, tmp_path: Path) -> None:
    """Each draws codes of its own: so the gradients are the mean of what each has alone."""
    settings = ["train.images=4", "train.flip=false"]
    if kind == "stylegan2":
        settings += ["method.path_weight=0", "method.r1_gamma=0"]
    done = torchrun(*arguments(kind, data, tmp_path / "two", *settings))
    assert done.returncode == 0, done.stderr
    two = newest(tmp_path / "two")

    experiment = replaced(preset(f"{kind}-tiny-32"), [*RUN, *KINDS[kind], *settings])
    alone, observed = [], []
    for rank in (0, 1):
        trainer = Trainer(experiment, CPU, World(rank=rank, size=1, local_rank=0))
        feed = Feed(experiment, data)
        share = next(feed.batches(0, 4, rank=rank, ranks=2))
        feed.close()
        trainer.step(share)
        alone.append(last_gradients(trainer))
        observed += [each for name, each in trainer.method.named_buffers() if name == "generator.w_mean"]
    together = Trainer(experiment, CPU, World(rank=0, size=1, local_rank=0))
    together.load(two)
    if kind == "stylegan2":
        means = torch.stack(observed)
        torch.testing.assert_close(two.groups["networks"]["generator.w_mean"], means.mean(0), rtol=1e-3, atol=1e-6)
        assert not torch.allclose(observed[0], observed[1])
    found = last_gradients(together)
    assert found.keys() == alone[0].keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, (alone[0][name] + alone[1][name]) / 2, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", ["stylegan2", pytest.param("progan", marks=pytest.mark.slow)])
def test_a_few_pictures_are_learned(kind: str) -> None:
    """Overfitting: to each of four pictures some sample comes nearer than their mean is, the best of blurs."""
    settings = {
        "stylegan2": ["method.augment_target=0", "method.r1_gamma=0.1", "method.path_weight=0", "method.mixing=0",
                      "method.discriminator_base_channels=128", "method.discriminator_max_channels=32",
                      "method.generator_lr=0.005", "method.discriminator_lr=0.005"],
        "progan": ["method.start_size=8", "method.lambda_gradient=1",
                   "method.generator_lr=0.003", "method.discriminator_lr=0.003"],
    }[kind]  # fmt: skip
    tiny = ["method.image_size=8", "method.base_channels=128", "method.max_channels=32", "train.batch=8"]
    trainer = trainer_of(replaced(preset(f"{kind}-tiny-32"), [*tiny, *settings]))
    images = pictures(4, size=8)

    def distance() -> float:
        """Of each picture from the nearest of some samples, on average."""
        with trainer.averaged() as method:
            assert isinstance(method, Sampling)
            samples = method.sample(method.draw_latents(32, torch.Generator().manual_seed(0)))
        return float(torch.cdist(images.flatten(1), samples.flatten(1)).min(1).values.mean())

    mean = float((images - images.mean(0)).flatten(1).norm(dim=1).mean())
    assert distance() > mean
    for _ in range(400):
        trainer.step(Batch(images.repeat(2, 1, 1, 1), {}))
    assert distance() < 0.9 * mean
