"""StarGAN v2: that it learns, its terms, domains from folders to outputs, and its published checkpoints."""

import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

import pixgraft
from cases import pictures, trainer_of
from pixgraft.cli import main
from pixgraft.config import replaced
from pixgraft.errors import PixgraftError
from pixgraft.layers.resample import average_pool, upsample
from pixgraft.layouts import from_state_dicts
from pixgraft.layouts.starganv2 import read
from pixgraft.methods.base import Batch
from pixgraft.methods.starganv2 import StarGANv2, StarGANv2Config
from pixgraft.models import load_model, save_model
from pixgraft.presets import preset
from training import assert_equal, make_images, newest
from using import refusal

TINY = preset("starganv2-tiny-32")


def method_of(*settings: str) -> StarGANv2:
    torch.manual_seed(0)
    return StarGANv2(replaced(TINY.method, list(settings)))


def batch_of(domains: Sequence[int]) -> Batch:
    index = torch.tensor(domains, dtype=torch.uint8).view(-1, 1, 1, 1)
    return Batch(pictures(len(domains)), {}, index)


# --- that it learns ---


def test_it_overfits_four_images() -> None:
    trainer = trainer_of(replaced(TINY, ["method.generator_lr=3e-3", "method.discriminator_lr=3e-3"]))
    batch = Batch(pictures(4), {})
    first = trainer.step(batch)
    for _ in range(12):
        last = trainer.step(batch)
    for name in ("cycle_latent", "cycle_reference"):
        assert last[name] < 0.9 * first[name], name


# --- its terms ---


def test_the_weight_of_diversity_falls_to_nothing() -> None:
    method, constant = method_of("diversity_images=1000", "lambda_diversity=2"), method_of("diversity_images=0")
    weights = []
    for images_seen in (0, 250, 1000, 5000):
        method.set_progress(images_seen)
        constant.set_progress(images_seen)
        weights.append(method.diversity_weight)
        assert constant.diversity_weight == 1
    assert weights == [2, 1.5, 0, 0]
    assert method_of().diversity_weight == 0  # as at the end of training


def test_references_are_two_others_of_one_domain() -> None:
    method = method_of('domains=["cat", "dog", "wild"]')
    first, second = method.references(batch_of([0, 0, 1, 1, 2, 1]))
    assert first.tolist() == [1, 2, 3, 4, 5, 0]
    assert second.tolist() == [0, 3, 5, 4, 2, 1]  # the fourth image's reference is alone in its domain
    assert [each.tolist() for each in method_of().references(batch_of([0, 0, 0, 0]))] == [[1, 2, 3, 0], [2, 3, 0, 1]]


def test_every_term_is_the_papers() -> None:
    """Against the formulas, written out image by image."""
    method, batch = method_of('domains=["cat", "dog"]', "lambda_cycle=3", "lambda_style=5"), batch_of([0, 1, 1, 0])
    method.set_progress(0)
    x = batch.images
    seen = upsample(average_pool(x, 8), 4, align_corners=False)
    losses = method.reference_losses(batch)
    discriminator = method.discriminator_reference_losses(batch)
    expected: dict[str, list[Tensor]] = {name: [] for name in (*losses, *discriminator)}
    domains, first, second = [0, 1, 1, 0], [1, 2, 3, 0], [2, 1, 0, 3]
    for i in range(4):
        own, target = (torch.tensor([d]) for d in (domains[i], domains[first[i]]))
        source = x[i : i + 1]
        style, other = (method.style_encoder(seen[j : j + 1], target) for j in (first[i], second[i]))
        fake, different = method.generator(source, style), method.generator(source, other)
        again = method.style_encoder(upsample(average_pool(fake, 8), 4, align_corners=False), target)
        back = method.generator(fake, method.style_encoder(seen[i : i + 1], own))
        judged, real = method.discriminator(fake, target), method.discriminator(source, own)
        expected["adversarial_reference"].append(-judged.sigmoid().log())
        expected["style_reference"].append(5 * (again - style).abs().mean())
        expected["cycle_reference"].append(3 * (back - source).abs().mean())
        expected["diversity_reference"].append(-(fake - different).abs().mean())
        expected["real_reference"].append(-real.sigmoid().log())
        expected["fake_reference"].append(-(1 - judged.sigmoid()).log())
    for name, value in (losses | discriminator).items():
        assert value.item() == pytest.approx(torch.stack([*map(torch.mean, expected[name])]).mean().item(), rel=1e-4)


def test_sharp_references_are_seen_as_they_are() -> None:
    method, images = method_of("lr_size=32"), pictures(2)
    with torch.no_grad():
        assert torch.equal(method.encode(images, None), method.style_encoder(images))
    assert torch.equal(method.translate(images, images), method.render(images, method.encode(images, None)))


def test_styles_of_latent_codes_differ_by_code_and_domain() -> None:
    method = method_of('domains=["cat", "dog"]')
    style = method.random_style(torch.randn(2, 4), torch.tensor([0, 1]))
    assert method.render(pictures(2), style).shape == (2, 3, 32, 32)
    assert not torch.equal(style[0], method.random_style(torch.zeros(1, 4))[0])


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("image_size=48", "choose 32, 64"), ("lr_size=64", "choose one of 4, 8, 16, 32"), ("channels=0", "at least 1"),
        ('domains=["a"]', "two to"), ('domains=["a", "a"]', "different"), ('domains=["a", "b/c"]', "without a slash"),
        ("lambda_style=-1", "lambda_style is -1"), ("mapping_lr=0", "above 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(setting: str, said: str) -> None:
    with pytest.raises(PixgraftError, match=said):
        method_of(setting)


# --- domains, from folders to outputs ---


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images, in train/cat and train/dog by turns."""
    root = tmp_path_factory.mktemp("domains")
    for index, file in enumerate(sorted(make_images(root / "made", 8).iterdir())):
        folder = root / "data" / "train" / ("cat", "dog")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.move(file, folder / file.name)
    return root / "data"


def train(data: Path, out: Path, images: int, *settings: str) -> list[str]:
    given = ('method.domains=["cat", "dog"]', "train.checkpoint_every=8", f"train.images={images}", *settings)
    named = [part for setting in given for part in ("--set", setting)]
    return ["train", TINY.name, "--data", str(data), "--out", str(out), "--device", "cpu", "--quiet", *named]


def test_several_domains_are_trained_resumed_used_and_measured(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, run, model = tmp_path / "whole", tmp_path / "run", tmp_path / "model"
    assert main(train(data, whole, 16)) == 0
    assert main(train(data, run, 8)) == 0
    assert main(train(data, run, 16)) == 0
    assert_equal(newest(run), newest(whole))
    assert main(["export", str(run), str(model)]) == 0

    cat, dog = (data / "train" / folder for folder in ("cat", "dog"))
    command = ["translate", str(model), "--source", str(cat / "00.png"), "--device", "cpu", "--out"]
    assert main([*command, str(tmp_path / "by-folder"), "--target", str(data / "train")]) == 0
    assert main([*command, str(tmp_path / "as-cat"), "--target", str(dog), "--domain", "cat"]) == 0
    by_folder, as_cat = ((tmp_path / name / "00__01.png").read_bytes() for name in ("by-folder", "as-cat"))
    assert by_folder != as_cat
    assert json.loads((tmp_path / "as-cat" / "00__01.json").read_bytes())["settings"]["domain"] == "cat"
    pipeline = pixgraft.load(model, device="cpu")
    result = pipeline(cat / "00.png", dog / "01.png")
    assert torch.equal(result.pixels, pipeline(cat / "00.png", dog / "01.png", domain="dog").pixels)
    assert not torch.equal(result.pixels, pipeline(cat / "00.png", dog / "01.png", domain="cat").pixels)

    alone = make_images(tmp_path / "alone", 1)
    said = refusal(capsys, *command, tmp_path / "no", "--target", alone / "00.png")
    assert said.endswith("has cat, dog: say which the target is of (--domain)")
    assert "domain cow" in refusal(capsys, *command, tmp_path / "no", "--target", dog, "--domain", "cow")
    measured = ["evaluate", str(model), "--data", str(data), "--protocol", "i2ilr-table1", "--samples", "2"]
    measured += ["--bootstrap", "0", "--metrics", "consistency", "diversity", "--device", "cpu"]
    assert main([*measured, "--out", str(tmp_path / "table")]) == 0
    rows = json.loads((tmp_path / "table" / "result.json").read_bytes())["rows"]
    assert len(rows) == 3 and rows[0]["values"]


@pytest.mark.slow
def test_another_engine_is_given_the_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXGRAFT_CACHE", str(tmp_path / "cache"))
    save_model(tmp_path / "model", method_of('domains=["cat", "dog"]'), info={})
    ours, theirs = pixgraft.load(tmp_path / "model"), pixgraft.load(tmp_path / "model", engine="onnxruntime")
    source, target = pictures(2), average_pool(pictures(2, seed=1), 8)
    for domain in ("cat", "dog"):
        pixels = [each(source, target, domain=domain).pixels.int() for each in (ours, theirs)]
        assert (pixels[0] - pixels[1]).abs().max() <= 1


def test_folders_that_are_not_the_domains_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = train(data, tmp_path / "run", 8)
    for domains, said in (
        ('["cat", "wild"]', "train/dog/01.png: in none of the folders cat/, wild/"),
        ('["cat", "dog", "wild"]', "no images in wild/: the domains are cat/, dog/, wild/"),
    ):
        assert said in refusal(capsys, *command, "--set", f"method.domains={domains}")
    assert not (tmp_path / "run").exists()


# --- published checkpoints ---


class Published:
    """The tensors of clovaai/stargan-v2, names and shapes written down by hand."""

    def __init__(self, size: int, first: int, most: int, domains: int, *, high_pass: bool = False) -> None:
        self.groups: dict[str, dict[str, Tensor]] = {}
        halvings = size.bit_length() - 3
        widths = [min(first << level, most) for level in range(halvings + 1)]
        inner = halvings - (1 if high_pass else 2)
        self.generator(widths[: inner + 1])
        self.mapping(domains)
        self.trunk("style_encoder", "shared", widths)
        for index in range(domains):
            self.add("style_encoder", f"unshared.{index}", 64, widths[-1])
        if high_pass:
            self.add("fan", "conv1", 64, 3, 7, 7)

    def add(self, group: str, name: str, *shape: int, bias: bool = True) -> None:
        tensors = self.groups.setdefault(group, {})
        tensors[f"{name}.weight"] = torch.randn(shape) / (sum(shape[1:]) or 1)
        if bias:
            tensors[f"{name}.bias"] = torch.randn(shape[0]) / 10

    def generator(self, widths: list[int]) -> None:
        sides = [*itertools.pairwise(widths), (widths[-1], widths[-1]), (widths[-1], widths[-1])]
        self.add("generator", "from_rgb", widths[0], 3, 3, 3)
        for index, (a, b) in enumerate(sides):
            name, mirrored = f"encode.{index}", f"decode.{len(sides) - 1 - index}"
            for norm in ("norm1", "norm2"):
                self.add("generator", f"{name}.{norm}", a)
            self.block("generator", name, a, a, b)
            self.block("generator", mirrored, b, a, a)
            self.add("generator", f"{mirrored}.norm1.fc", 2 * b, 64)
            self.add("generator", f"{mirrored}.norm2.fc", 2 * a, 64)
        self.add("generator", "to_rgb.0", widths[0])
        self.add("generator", "to_rgb.2", 3, widths[0], 1, 1)

    def block(self, group: str, name: str, a: int, b: int, c: int) -> None:
        self.add(group, f"{name}.conv1", b, a, 3, 3)
        self.add(group, f"{name}.conv2", c, b, 3, 3)
        if a != c:
            self.add(group, f"{name}.conv1x1", c, a, 1, 1, bias=False)

    def mapping(self, domains: int) -> None:
        for index in range(4):
            self.add("mapping_network", f"shared.{2 * index}", 512, 512 if index else 16)
            for domain in range(domains):
                self.add("mapping_network", f"unshared.{domain}.{2 * index}", 64 if index == 3 else 512, 512)

    def trunk(self, group: str, sequence: str, widths: list[int]) -> None:
        self.add(group, f"{sequence}.0", widths[0], 3, 3, 3)
        for index, (a, b) in enumerate(itertools.pairwise(widths)):
            self.block(group, f"{sequence}.{index + 1}", a, a, b)
        self.add(group, f"{sequence}.{len(widths) + 1}", widths[-1], widths[-1], 4, 4)


def test_a_published_checkpoint_is_converted_and_translates(tmp_path: Path) -> None:
    groups = Published(32, 4, 8, 3).groups
    named = {group: {f"module.{name}": tensor for name, tensor in each.items()} for group, each in groups.items()}
    torch.save(named, tmp_path / "100000_nets_ema.ckpt")
    assert main(["convert", str(tmp_path / "100000_nets_ema.ckpt"), str(tmp_path / "ours")]) == 0
    opened = load_model(tmp_path / "ours")
    config = opened.method.config
    assert config == StarGANv2Config(
        image_size=32, lr_size=32, domains=("cat", "dog", "wild"), channels=4, max_channels=8
    )
    networks, (source, target) = from_state_dicts("starganv2", groups), pictures(2).split(1)
    with torch.no_grad():
        style = networks["style_encoder"](target, torch.tensor([1]))
        expected = networks["generator"](source, style).clamp(-1, 1)
    result = pixgraft.load(tmp_path / "ours", device="cpu")(source, target, domain="dog")
    assert (result.tensors - expected).abs().max() < 0.01
    photo = make_images(tmp_path / "wild", 1) / "00.png"
    sides = ["--source", str(photo), "--target", str(photo), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["translate", str(tmp_path / "ours"), *sides]) == 0  # the folder's name says which domain


def test_the_model_for_celebahq_is_read_without_its_landmarks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(Published(32, 4, 8, 2, high_pass=True).groups, tmp_path / "x.ckpt")
    assert main(["convert", str(tmp_path / "x.ckpt"), str(tmp_path / "ours")]) == 0
    assert "left out the fan: the high-pass features" in "".join(capsys.readouterr())
    config = load_model(tmp_path / "ours").method.config
    assert (config.residual, config.domains) == (False, ("female", "male"))


@pytest.mark.parametrize(("domains", "high_pass"), [(3, False), (2, True)], ids=["AFHQ", "CelebA-HQ"])
def test_the_published_sizes_at_256(domains: int, high_pass: bool) -> None:
    with torch.device("meta"):
        method = StarGANv2(StarGANv2Config(domains=tuple("abc"[:domains]), residual=not high_pass))
        groups = Published(256, 64, 512, domains, high_pass=high_pass).groups
    for group in method.averaged:
        ours = [tuple(each.shape) for each in method.get_submodule(group).parameters()]
        assert sorted(ours) == sorted(tuple(each.shape) for each in groups[group].values())


def test_what_is_no_such_checkpoint_is_refused() -> None:
    whole = Published(32, 4, 8, 2).groups
    encoder = whole["style_encoder"]
    for groups, said in (
        ({name: each for name, each in whole.items() if name != "mapping_network"}, "lacks mapping_network"),
        (whole | {"style_encoder": {"unshared.0.weight": torch.zeros(2)}}, "0 blocks"),
        (whole | {"style_encoder": encoder | {"shared.5.weight": torch.zeros(4)}}, "shared.5.weight is missing or of"),
        (whole | {"generator": whole["generator"] | {"extra": torch.zeros(1)}}, "unknown extra"),
    ):
        with pytest.raises(PixgraftError, match=said):
            read(groups)
