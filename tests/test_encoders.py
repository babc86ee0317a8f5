"""Training of pSp and OME: the borrowed generator, the steps, whole runs."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from cases import conditions, copied, encoding, pictures, tiny_prior, trainer_of
from pixgraft.cli import main
from pixgraft.config import replaced
from pixgraft.data.conditions import condition_kind
from pixgraft.engine import checkpoint as checkpoints
from pixgraft.errors import PixgraftError
from pixgraft.features.weights import WEIGHTS, WeightsFile
from pixgraft.layers.conditions import joined
from pixgraft.losses.identity import face_crop
from pixgraft.losses.latent import w_norm
from pixgraft.methods import METHODS
from pixgraft.methods.base import Batch, Method
from pixgraft.methods.encoding import PriorEncoding
from pixgraft.methods.ome import OME
from pixgraft.methods.progan import ProGAN
from pixgraft.methods.psp import PSP
from pixgraft.methods.stylegan2 import StyleGAN2
from pixgraft.models import load_model, save_model
from pixgraft.networks import progan, resnet, stylegan2
from pixgraft.networks.ome import static_fusion
from pixgraft.presets import preset
from pixgraft.training.experiment import Experiment
from pixgraft.training.trainer import Trainer
from test_feature_networks import random_trunk
from test_paired_runs import torchrun
from training import ALONE, CPU, assert_equal, log_lines, make_images, newest, tree

EACH = pytest.mark.parametrize("name", ["psp", "ome"])
RUN = ("train.log_every=4", "train.checkpoint_every=16", "train.keep=0", "train.sample_every=28", "train.images=48")
PROGAN = ("method.cut=4", "method.progan_codes=4")


def ready(name: str, *settings: str, prior: str = "stylegan2") -> PriorEncoding:
    """A method that has its generator, in eval mode, so that an image does not depend on its batch."""
    method = trainer_of(encoding(name, *settings, prior=prior)).method
    assert isinstance(method, PriorEncoding)
    return method.eval()


def batch(method: Method, count: int = 4, *, seed: int = 0) -> Batch:
    images = pictures(count, seed=seed)
    return Batch(images, {}, conditions(method.config, images) if method.config.condition != "self" else None)


def given(method: PriorEncoding, count: int = 4) -> Tensor:
    return method.condition_of(batch(method, count))


# --- the generator ---


@pytest.mark.parametrize(("name", "prior"), [("psp", "stylegan2"), ("ome", "stylegan2"), ("ome", "progan")])
def test_the_generator_does_not_change_by_a_bit(name: str, prior: str) -> None:
    own = PROGAN if prior == "progan" else ()
    trainer = trainer_of(encoding(name, *own, prior=prior))
    start = copied(trainer.method)
    theirs = load_model(tiny_prior(prior)).method
    assert isinstance(theirs, StyleGAN2 | ProGAN)
    for _ in range(3):
        trainer.step(batch(trainer.method))
    moved = {key for key, tensor in trainer.method.state_dict().items() if not torch.equal(tensor, start[key])}
    assert {key.split(".")[0] for key in moved} - {"fusion"} == {"encoder"}
    for key, tensor in theirs.generator.state_dict().items():
        assert torch.equal(trainer.method.state_dict()[f"generator.{key}"], tensor)


def test_a_generator_may_be_trained_too() -> None:
    trainer = trainer_of(encoding("psp", "method.train_generator=true"))
    start = copied(trainer.method)
    trainer.step(batch(trainer.method))
    moved = {key for key, tensor in trainer.method.state_dict().items() if not torch.equal(tensor, start[key])}
    assert any(key.startswith("generator.synthesis") for key in moved)
    assert not any(key.startswith("generator.mapping") for key in moved)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["method.base_channels=512"], "base_channels is 256, but the configuration's is 512"),
        (["method.image_size=64"], "image_size is 32, but the configuration's is 64: --set method.image_size=32"),
        (["method.prior="], "needs a trained generator: --set method.prior=MODEL"),
        (["method.prior=nowhere"], "nowhere: no such folder"),
        (["method.prior=nowhere"], "or give another prior with --set method.prior=MODEL"),
        (
            ["method.prior=stylegan2-portraits-128"],
            "stylegan2-portraits-128: no such model, but a preset: train it with `pixgraft train "
            "stylegan2-portraits-128 --data DATA --out stylegan2-portraits-128`, or give another prior with --set",
        ),
        (["method.generator=progan", *PROGAN], "a model of stylegan2, but method.generator is progan"),
    ],
)
def test_another_prior_is_refused(settings: list[str], message: str) -> None:
    with pytest.raises(PixgraftError, match=re.escape(message)):
        trainer_of(replaced(encoding("ome"), settings))


def test_a_generator_that_still_grows_is_refused(tmp_path: Path) -> None:
    grown = load_model(tiny_prior("progan")).method
    save_model(tmp_path / "young", grown, info={"images_seen": 30})
    with pytest.raises(PixgraftError, match="is still growing, now at 8 pixels"):
        trainer_of(encoding("ome", *PROGAN, f"method.prior={tmp_path / 'young'}", prior="progan"))


def test_codes_start_from_the_average(tmp_path: Path) -> None:
    prior = StyleGAN2(preset("stylegan2-tiny-32").method)
    prior.generator.w_mean.normal_()
    save_model(tmp_path / "prior", prior, info={})
    method = ready("ome", f"method.prior={tmp_path / 'prior'}")
    codes = method.start_codes
    assert torch.equal(codes, prior.generator.w_mean.expand(8, 16))
    assert isinstance(method.generator, stylegan2.Generator)
    with torch.no_grad():
        mean = method.generator.synthesis(codes.unsqueeze(0), noise="stored").clamp(-1, 1)
    assert torch.equal(method.decode(codes.unsqueeze(0)), mean)


# --- pretrained weights ---


def test_ome_begins_from_the_weights_of_imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file as torchvision publishes ResNet-34's, here of one block in each stage."""
    monkeypatch.setattr(resnet, "BLOCKS", (1, 1, 1, 1))
    state = resnet.ResNet(depth=34).state_dict()
    for tensor in state.values():
        tensor.random_(1, 9)
    file = tmp_path / "resnet34.pth"
    torch.save(state | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}, file)
    known = WeightsFile(file.name, "https://example.org", hashlib.sha256(file.read_bytes()).hexdigest())
    monkeypatch.setitem(WEIGHTS, "resnet34", known)
    imagenet = ("method.backbone=imagenet", "method.encoder_channels=64", "method.condition=sketch")
    for small_stem in (False, True):
        stem = (f"method.small_stem={str(small_stem).lower()}", f"method.input_size={32 if small_stem else 64}")
        trainer = Trainer(encoding("ome", *imagenet, *stem), CPU, ALONE, weights={"resnet34": file})
        assert trainer.features == {"backbone": f"resnet34 {known.sha256}"}
        for encoder in (trainer.method.get_submodule("encoder"), trainer.averages.modules["encoder"]):
            for name, tensor in encoder.get_submodule("trunk").state_dict().items():
                # The current image is behind the sketch's channel.
                copied = tensor[:, 1:] if name == "conv1.weight" else tensor
                begins = not (small_stem and name.startswith(("conv1.", "bn1.")))
                assert torch.equal(copied, state[name]) == begins, name
    monkeypatch.setitem(WEIGHTS, "resnet34", replace(known, sha256="0" * 64))
    with pytest.raises(PixgraftError, match=r"resnet34.pth: SHA-256 .* but the published resnet34.pth has 000000"):
        Trainer(encoding("ome", *imagenet, *stem), CPU, ALONE, weights={"resnet34": file})


def test_a_backbone_of_other_channels_is_refused() -> None:
    with pytest.raises(PixgraftError, match="backbone imagenet: its first layer has 64 channels"):
        encoding("ome", "method.backbone=imagenet")


def test_a_resumed_run_needs_no_backbone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file is read where a run begins, and its SHA-256 stays in every checkpoint."""
    required = {"backbone": "resnet34", "perceptual": "squeezenet"}
    monkeypatch.setattr(OME, "required_networks", lambda self: required)
    monkeypatch.setenv("PIXGRAFT_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    experiment = encoding("ome")
    with pytest.raises(PixgraftError, match=r"resnet34-b627a593.pth: not there.* --weights resnet34=FILE"):
        trainer_of(experiment)
    resumed = Trainer(experiment, CPU, ALONE, new=False)
    assert resumed.features.keys() == {"perceptual"}
    assert resumed.features.keys() == {"perceptual"}
    resumed.features["backbone"] = "resnet34 1234"
    resumed.save(tmp_path, fingerprint="")
    begun, _ = checkpoints.latest(tmp_path, resumed.check)
    assert begun is not None
    resumed = Trainer(experiment, CPU, ALONE, new=False)
    resumed.load(begun)
    assert resumed.features["backbone"] == "resnet34 1234"
    resumed.features["perceptual"] = "squeezenet 5678"
    with pytest.raises(PixgraftError, match=r"the run's losses used .* and here they have .*5678"):
        resumed.load(begun)


# --- the steps ---


def test_each_step_sees_the_image_of_the_one_before() -> None:
    method = ready("ome", "method.steps=3")
    assert isinstance(method, OME)
    condition = given(method)
    found = method.encode(condition)
    assert len(found.codes) == len(found.images) == 3
    start = method.start_codes.expand(4, -1, -1)
    seen = zip([start, *found.codes], [method.decode(start), *found.images], found.codes, strict=False)
    with torch.no_grad():
        for codes, image, moved in seen:
            offsets = method.encoder(joined(condition, image, kind="lr"))
            torch.testing.assert_close(moved, codes + offsets)
    assert (found.codes[1] - found.codes[0]).abs().max() > 1e-6
    fewer, more = (method.encode(condition, steps=steps) for steps in (1, 4))
    torch.testing.assert_close(fewer.images[-1], found.images[0])
    torch.testing.assert_close(more.images[2], found.images[2])
    with pytest.raises(PixgraftError, match="steps 0: choose a number from 1"):
        method.encode(condition, steps=0)


def test_without_offsets_there_is_one_pass() -> None:
    method = ready("ome", "method.offsets=false")
    assert [phase.name for phase in method.phases()] == ["step1"]
    assert len(method.encode(given(method)).codes) == 1
    assert [phase.name for phase in ready("ome", "method.steps=3").phases()] == ["step1", "step2", "step3"]
    psp = ready("psp")
    assert len(psp.encode(given(psp)).codes) == 1
    with pytest.raises(PixgraftError, match="steps 2: psp models take one step"):
        psp.encode(given(psp), steps=2)


def test_one_update_a_batch_has_the_sum_of_the_steps_gradients() -> None:
    once, each = ready("ome", "method.steps=3", "method.updates=each_batch"), ready("ome", "method.steps=3")
    once.load_state_dict(each.state_dict())
    assert [phase.name for phase in once.phases()] == ["steps"]
    torch.stack(list(once.phases()[0].losses(batch(once)).values())).sum().backward()
    shared = batch(each)
    for phase in each.phases():  # without updates in between
        torch.stack(list(phase.losses(shared).values())).sum().backward()
    for ours, theirs in zip(once.encoder.parameters(), each.encoder.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_no_gradient_goes_from_a_step_to_the_one_before() -> None:
    method = ready("ome")
    assert isinstance(method, OME)
    method.requires_grad_(True)
    seen = batch(method)
    method.step_losses(1, seen)
    assert not any(each.requires_grad for each in seen.shared.values())
    alone = method.step_losses(2, batch(method))["l2_2"]
    torch.testing.assert_close(method.step_losses(2, seen)["l2_2"], alone)


@pytest.mark.parametrize("dynamic", [True, False])
def test_progans_maps_are_fused(dynamic: bool) -> None:
    method = ready("ome", *PROGAN, f"method.dynamic_fusion={str(dynamic).lower()}", prior="progan")
    assert isinstance(method, OME) and isinstance(method.generator, progan.Generator)
    codes = torch.randn(2, 4, 16)
    with torch.no_grad():
        maps = torch.stack([method.generator.features(codes[:, m], layers=4) for m in range(4)], dim=1)
        fused = static_fusion(maps)
        assert (method.fusion is not None) == dynamic
        if method.fusion is not None:
            weights = method.fusion.weights(maps)
            torch.testing.assert_close(weights.sum(1), torch.ones(2, maps.shape[2]))
            fused = (maps * weights[..., None, None]).sum(1)
        expected = method.generator.from_features(fused, layers=4)
    torch.testing.assert_close(method.decode(codes), expected.clamp(-1, 1))


def test_one_code_for_progan_has_nothing_to_fuse() -> None:
    method = ready("ome", *PROGAN, "method.many_codes=false", "method.many_scales=false", prior="progan")
    assert isinstance(method, OME) and method.codes == 1 and method.fusion is None
    assert method.encode(given(method)).codes[-1].shape == (4, 1, 16)


SINGLE = {"psp": ("method.space=w",), "ome": ("method.many_codes=false", "method.many_scales=false")}


@pytest.mark.parametrize(("name", "settings"), SINGLE.items())
def test_a_single_code_is_that_of_all_layers(name: str, settings: tuple[str, ...]) -> None:
    method = ready(name, *settings)
    codes = method.encode(given(method)).codes[-1]
    assert (codes == codes[:, :1]).all() and codes.shape == (4, 8, 16)


# --- conditions ---


@EACH
@pytest.mark.parametrize(
    ("settings", "condition", "message"),
    [
        ((), torch.zeros(1, 1, 32, 32, dtype=torch.uint8), "are (1, 1, 32, 32): give (N, 3, 32, 32)"),
        ((), torch.zeros(1, 3, 32, 32), "torch.float32: give uint8"),
        (("method.condition=sketch",), torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
         "are (1, 3, 32, 32): give (N, 1, 32, 32)"),
        (("method.condition=self",), torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
         "are (1, 3, 64, 64): give (N, 3, 32, 32)"),
        (("method.condition=labels", "method.classes=4"), torch.full((1, 1, 32, 32), 4, dtype=torch.uint8),
         "class 4: there are 0 to 3"),
    ],
)  # fmt: skip
def test_a_condition_that_does_not_fit_is_refused(
    name: str, settings: tuple[str, ...], condition: Tensor, message: str
) -> None:
    with pytest.raises(PixgraftError, match=re.escape(message)):
        ready(name, *settings).encode(condition)


def test_codes_are_held_near_the_average() -> None:
    method = ready("psp", "method.lambda_w=5")
    assert isinstance(method, PSP)
    seen = batch(method)
    codes = method.codes_of(method.condition_of(seen))
    expected = 5 * w_norm(codes, method.start.codes)
    torch.testing.assert_close(method.encoder_losses(seen)["w_norm"], expected)
    assert expected > 0


def test_training_may_draw_the_noise_anew() -> None:
    losses = {}
    for noise in ("stored", "random"):
        method = ready("psp", f"method.noise={noise}", "method.lambda_w=0.0")
        with torch.no_grad():
            for name, each in method.generator.named_parameters():
                if name.endswith("noise_strength"):
                    each.fill_(1.0)
        assert isinstance(method, PSP)
        losses[noise] = [method.encoder_losses(batch(method))["l2"].item() for _ in range(2)]
    assert losses["stored"][0] == losses["stored"][1] and losses["random"][0] != losses["random"][1]


def test_small_images_are_enlarged_as_the_configuration_says() -> None:
    conditions = []
    for enlarging in ("bicubic", "bilinear"):
        method = ready("psp", f"method.enlarging={enlarging}")
        kind = condition_kind(method.condition)
        small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
        conditions.append(kind.fit(small, 32))
    expected = F.interpolate(torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1)[None].float(), size=(32, 32),
                             mode="bilinear", antialias=True)[0]  # fmt: skip
    assert (conditions[1].float() - expected).abs().max() <= 1
    assert (conditions[0].float() - expected).abs().max() > 10


@EACH
def test_inversion_takes_the_image_itself(name: str) -> None:
    method = ready(name, "method.condition=self")
    images = pictures(2)
    condition = method.condition_of(Batch(images, {}))
    assert torch.equal(condition, ((images + 1) * 127.5).round().to(torch.uint8))
    with pytest.raises(PixgraftError, match="images without conditions"):
        ready(name).condition_of(Batch(images, {}))


# --- losses ---


def test_the_losses_are_those_of_the_papers() -> None:
    settings = ["method.lambda_l2=2", "method.lambda_perceptual=3", "method.lambda_identity=4", "method.input_size=64"]
    method = PSP(replaced(encoding("psp"), settings).method)
    seen: dict[str, Tensor] = {}

    class Distance(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            seen["x"], seen["y"] = x, y
            return (x - y).abs().mean((1, 2, 3))

    class Embedding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[1:] == (3, 112, 112)
            return x.flatten(1)[:, :7]

    method.attach_network("perceptual", Distance())
    method.attach_network("identity", Embedding())
    images, targets = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 64, 64)
    losses = method.compared(images, targets)
    large = F.interpolate(images, (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(seen["x"], large)  # compared at the side that the encoder sees
    torch.testing.assert_close(losses["l2"], 2 * (large - targets).square().mean())
    torch.testing.assert_close(losses["perceptual"], 3 * (large - targets).abs().mean())
    mine, theirs = (face_crop(each).flatten(1)[:, :7] for each in (large, targets))
    cosine = F.cosine_similarity(mine, theirs)
    torch.testing.assert_close(losses["identity"], 4 * (1 - cosine.mean()))


@EACH
def test_lpips_without_weights_gives_way_by_name(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The configuration then says what was used, so that the run goes on the same where the weights are to be had."""
    monkeypatch.setenv("PIXGRAFT_CACHE", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    asked = ("method.lambda_perceptual=1", "train.images=8")
    assert main(arguments(name, data, tmp_path / "run", *asked, "method.perceptual=lpips-alex")) == 0
    assert 'perceptual = "squeezenet"' in (tmp_path / "run" / "config.toml").read_text()
    assert "perceptual network: squeezenet" in capsys.readouterr().out
    last = [line for line in log_lines(tmp_path / "run") if any(key.startswith("perceptual") for key in line)][-1]
    assert last["perceptual" if name == "psp" else "perceptual_2"] > 0
    (tmp_path / "alexnet-owt-7be5be79.pth").write_bytes(b"damaged")
    assert main(arguments(name, data, tmp_path / "other", *asked, "method.perceptual=lpips-alex")) == 2
    assert "SHA-256" in capsys.readouterr().err
    with pytest.raises(PixgraftError, match="irse50"):
        trainer_of(encoding(name, "method.lambda_identity=1"))


def test_weights_given_by_name_train_and_resume(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIXGRAFT_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    file, out = tmp_path / "alexnet.pth", tmp_path / "run"
    torch.save(random_trunk("alex"), file)
    known = WeightsFile("alexnet.pth", "https://example.org", hashlib.sha256(file.read_bytes()).hexdigest())
    monkeypatch.setitem(WEIGHTS, "alexnet", known)
    command = arguments("psp", data, out, "method.lambda_perceptual=1", "method.perceptual=lpips-alex")
    weights = ("--weights", f"alexnet={file}")
    assert main([*command, "--set", "train.images=4", *weights]) == 0
    assert "perceptual network: lpips-alex" in capsys.readouterr().out
    assert newest(out).meta["features"] == {"perceptual": f"lpips-alex {known.sha256}"}
    before = tree(out)
    assert main([*command, "--set", "train.images=8"]) == 2  # and does not go on with another network
    assert f"{tmp_path}/none/alexnet.pth: not there" in (said := capsys.readouterr().err)
    assert "--weights alexnet=FILE" in said and tree(out) == before
    assert main([*command, "--set", "train.images=8", *weights]) == 0
    assert newest(out).images_seen == 8
    for wrong, message in (
        ("alexnet", "write NAME=FILE"),
        (f"alexnet={tmp_path}/no", "no such file, given for alexnet"),
    ):
        assert main([*command, "--weights", wrong]) == 2
        assert message in capsys.readouterr().err


def refuse(*_: object, **__: object) -> None:
    raise URLError("no network")


# --- whole runs ---


def arguments(name: str, data: Path, out: Path, *settings: str) -> list[str]:
    each = [
        part for setting in (*RUN, f"method.prior={tiny_prior('stylegan2')}", *settings) for part in ("--set", setting)
    ]
    return ["train", f"{name}-tiny-32", "--data", str(data), "--out", str(out), "--device", "cpu", *each]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "images")


@EACH
def test_stopped_and_resumed_is_one_run(name: str, data: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(arguments(name, data, whole)) == 0
    assert main(arguments(name, data, parts, "train.images=28")) == 0
    assert main(arguments(name, data, parts)) == 0
    assert_equal(newest(parts), newest(whole))
    assert log_lines(parts) == log_lines(whole)
    assert tree(parts / "samples") == tree(whole / "samples")
    # The run carries its generator: it is used without the prior, and kept so.
    opened = load_model(whole).method
    assert main(["export", str(whole), str(tmp_path / "kept")]) == 0
    again = load_model(tmp_path / "kept").method
    moved = arguments(name, data, parts, "method.prior=gone", "train.images=52")
    assert main(moved) == 0  # nor does it need it to go on
    assert isinstance(opened, PriorEncoding) and isinstance(again, PriorEncoding)
    theirs = load_model(tiny_prior("stylegan2")).method
    assert torch.equal(
        opened.generator.state_dict()["synthesis.const"], theirs.state_dict()["generator.synthesis.const"]
    )
    condition = given(opened)
    assert torch.equal(opened.encode(condition).images[-1], again.encode(condition).images[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["psp", "ome"])
def test_two_processes_train_one_model(name: str, data: Path, tmp_path: Path) -> None:
    """Batch normalisation sees each process's share alone, so this is not what one process would do."""
    done = torchrun(*arguments(name, data, tmp_path / "run", "train.checkpoint_every=4", "train.images=8"))
    assert done.returncode == 0, done.stderr
    losses = [line for line in log_lines(tmp_path / "run") if any(key.startswith("l2") for key in line)]
    assert [line["images"] for line in losses] == [4, 8]


@EACH
def test_four_pictures_are_learned(name: str) -> None:
    experiment: Experiment = encoding(name, "method.condition=self", "method.lr=0.01", "train.average_decay=0.9")
    trainer = trainer_of(experiment)
    seen = Batch(pictures(4), {})

    def apart() -> float:
        with trainer.averaged() as method:
            assert isinstance(method, PriorEncoding)
            made = method.encode(method.condition_of(seen)).images[-1]
        return float((made - seen.images).square().mean())

    before = apart()
    for _ in range(40 if name == "psp" else 25):
        trainer.step(Batch(seen.images, {}))
    assert apart() < before * 0.7


def test_presets_of_the_papers_have_the_published_sizes() -> None:
    with torch.device("meta"):
        psp = METHODS["psp"](preset("psp-paper-1024").method)
        ome = METHODS["ome"](preset("ome-paper-stylegan2-1024").method)
        grown = METHODS["ome"](preset("ome-paper-progan-1024").method)
    assert isinstance(psp, PriorEncoding) and isinstance(ome, OME) and isinstance(grown, OME)
    assert (psp.codes, ome.codes, grown.codes) == (18, 18, 20)
    assert sum(p.numel() for p in psp.encoder.parameters()) == pytest.approx(267e6, rel=0.01)
    assert ome.steps == 5 and grown.fusion is not None and grown.fusion.channels == 512


def test_a_refused_run_leaves_nothing_behind(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that the same command with what it lacked is a new start."""
    out = tmp_path / "run"
    assert main(arguments("psp", data, out, "method.prior=")) == 2
    assert "--set method.prior=MODEL" in capsys.readouterr().err
    assert not out.exists()
    assert main(arguments("psp", data, data / "run")) == 2
    assert f"is inside {data}, so its grids would become data" in capsys.readouterr().err
    assert not (data / "run").exists()
