"""`pixgraft card`: figures by group worked out again from the images themselves, the gaps in words, what it refuses."""

import csv
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cases import grit_method, tiny_prior
from encoders import saved
from pixgraft.cli import main
from pixgraft.data.images import from_uint8
from pixgraft.data.labels import labels_of, read_labels
from pixgraft.evaluation import measure
from pixgraft.evaluation.card import CARDS, markdown
from pixgraft.evaluation.columns import Column
from pixgraft.evaluation.groups import gap
from pixgraft.evaluation.options import CardOptions
from pixgraft.evaluation.pages import literal
from pixgraft.evaluation.result import Row
from pixgraft.evaluation.subjects import Group
from pixgraft.evaluation.tables import MODEL_TABLES
from pixgraft.features import Feature
from pixgraft.metrics.consistency import consistency
from pixgraft.metrics.estimate import Estimate
from pixgraft.metrics.frechet import Moments, frechet_distance
from pixgraft.models import save_model
from pixgraft.pipelines.loading import load
from training import make_images, make_pairs
from using import refusal

COUNT = 32
BOB = "*Bob*\x1b[2J<b>"
"""A group's name that is no harmless text."""
Captured = pytest.CaptureFixture[str]


class Cells(nn.Module):
    """A feature network of twelve numbers: the colours of an image's quarters."""

    def forward(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images, 2).flatten(1)

    embed = forward


@pytest.fixture(autouse=True)
def cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every feature network is `Cells`."""
    monkeypatch.setattr(measure, "open_feature", lambda name, *_, **__: Feature(name, Cells().eval(), "0" * 64))


def group_of(name: str) -> str:
    """Sixteen images are of each group, the 13 first and the 3 last of them of one."""
    return "Ann|a" if int(Path(name).stem) < 13 or int(Path(name).stem) >= 29 else BOB


def write_labels(file: Path, rows: list[list[str]]) -> Path:
    with file.open("w", newline="", encoding="utf-8-sig") as stream:
        csv.writer(stream).writerows(rows)
    return file


ROWS = [
    ["name", "split", "kind", "few", "original"],
    *([f"{index:02d}.png", "test", group_of(f"{index}"), "yes" if index < 4 else "no", f"x/{index}, y"]
      for index in range(COUNT)),
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of 32 x 32, images and masks, with labels at the root."""
    folder = make_pairs(tmp_path_factory.mktemp("data") / "set", COUNT, side=32)
    write_labels(folder / "labels.csv", ROWS)
    return folder


@pytest.fixture(scope="module")
def models(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "grit", grit_method(), info={})
    encoder = saved(folder / "psp", "psp", "condition=self")
    return {"graft": model, "synthesize": folder / "grit", "encode": encoder, "sample": Path(tiny_prior("progan"))}


def carded(model: Path, data: Path, out: Path, *more: object) -> dict[str, Any]:
    command = ["card", model, "--data", data, "--out", out, "--device", "cpu", "--threads", 1, "--quiet", *more]
    assert main([str(each) for each in command]) == 0
    result: dict[str, Any] = json.loads((out / "card.json").read_text())
    return result


def figures(result: dict[str, Any], attribute: str = "kind") -> dict[str | None, dict[str, float]]:
    """The figures by group and label."""
    return {row["group"]: {label: each["value"] for label, each in row["values"].items()}
            for row in result["rows"] if row["attribute"] == attribute}  # fmt: skip


FACES = ("--features", "squeezenet", "mobilefacenet", "--bootstrap", 4)
IDENTITY = "identity (MobileFaceNet)"


def groups_made(task: str, model: Path, options: CardOptions) -> Iterator[Group]:
    """The outputs that a card measures, unit by unit."""
    table = MODEL_TABLES[task]([("it", load(str(model), device="cpu"))], CARDS[task], options)
    subject = table.subjects([])[0]
    return (subject.group(unit) for unit in range(subject.units))


@pytest.mark.parametrize("task", ["graft", "synthesize", "encode"])
def test_a_group_has_the_figures_of_its_own_images(
    task: str, models: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    """Whose image it is, is found by its pixels. Identity is the cosine, the distances are those of the features."""
    where = data if task == "synthesize" else data / "images"
    samples = 2 if task == "graft" else 0
    options = CardOptions(data=where, samples=samples)
    given = ("--labels", data / "labels.csv", "--samples", samples)
    result = carded(models[task], where, tmp_path / "out", *given, *FACES)
    real = measured_images(data)
    names = {image.numpy().tobytes(): name for name, image in real.items()}
    person = "source" if task == "graft" else "reference"
    by_group: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {"Ann|a": [], BOB: []}
    people = set()
    for made in groups_made(task, models[task], options):
        for place, image in enumerate(made.images):
            truth = made.inputs[person][place]
            name = names[truth.numpy().tobytes()]
            assert Path(made.people[place]).name == name
            people.add(name)
            target = made.inputs.get("lr", torch.zeros(1, 1))[place : place + 1]
            by_group[group_of(name)].append((image, truth, target))
    found = figures(result)
    for group, made_of in by_group.items():
        images, truths = (torch.stack(each) for each in list(zip(*made_of, strict=True))[:2])
        of_images, of_truths = (Cells()(from_uint8(each)) for each in (images, truths))
        assert found[group][IDENTITY] == pytest.approx(float(F.cosine_similarity(of_images, of_truths).mean()))
        if task == "graft":
            apart = [consistency(image[None], target)[0].mean for image, _, target in made_of]
            assert found[group]["LR difference"] == pytest.approx(sum(apart) / len(apart))
        else:
            squares = (of_images - of_truths).square().sum(1)
            assert found[group]["PD-SqueezeNet"] == pytest.approx(float(squares.mean()), rel=1e-5)
            reals = torch.stack([image for name, image in real.items() if group_of(name) == group])
            moments = [Moments(12), Moments(12)]
            for each, features in zip(moments, (Cells()(from_uint8(reals)), of_images), strict=True):
                each.update(features, torch.arange(len(features)))
            assert found[group]["FD-SqueezeNet"] == pytest.approx(frechet_distance(*moments), rel=1e-4)
    rows = {row["group"]: row for row in result["rows"] if row["attribute"] == "kind"}
    for group, made_of in by_group.items():
        assert rows[group]["images"] == len(made_of)
        assert rows[group]["people"] == sum(group_of(name) == group for name in people)
        assert rows[group]["values"][IDENTITY]["units"] == rows[group]["people"]
    assert found[None].keys() == found[BOB].keys()
    assert found[None][IDENTITY] != found[None]["identity to another (MobileFaceNet)"]


def measured_images(data: Path) -> dict[str, Tensor]:
    """The real images by name, uint8 (3, 32, 32), as they are measured."""
    table = MODEL_TABLES["sample"](
        [("it", load(tiny_prior("progan"), device="cpu"))], CARDS["sample"], CardOptions(data=data / "images")
    )
    return {name: table.real[index] for index, name in enumerate(table.real.names)}


def test_a_priors_samples_cover_a_share_of_each_group(models: dict[str, Path], data: Path, tmp_path: Path) -> None:
    result = carded(models["sample"], data, tmp_path / "out", "--split", "images", "--samples", 40, "--bootstrap", 0)
    real = measured_images(data)
    reals = Cells()(from_uint8(torch.stack(list(real.values())))).double()
    options = CardOptions(data=data / "images", samples=40)
    fakes = Cells()(from_uint8(torch.cat([each.images for each in groups_made("sample", models["sample"], options)])))
    radii = torch.cdist(reals, reals).sort().values[:, 5]
    fake_radii = torch.cdist(fakes.double(), fakes.double()).sort().values[:, 5]
    apart = torch.cdist(reals, fakes.double())
    covered, recalled = (apart < radii[:, None]).any(1).double(), (apart < fake_radii).any(1).double()
    for group in ("Ann|a", BOB):
        chosen = torch.tensor([group_of(name) == group for name in real])
        found = figures(result)[group]
        assert found["coverage (SqueezeNet)"] == pytest.approx(float(covered[chosen].mean()))
        assert found["recall (SqueezeNet)"] == pytest.approx(float(recalled[chosen].mean()))
    assert [row["people"] for row in result["rows"]] == [32, 16, 16, 32, 28, 4]
    assert "few" in result["protocol"]["by"] and figures(result, "few")["yes"] == {}  # four people are too few


def test_the_card_says_in_words_what_it_holds(
    models: dict[str, Path], data: Path, tmp_path: Path, capsys: Captured
) -> None:
    """The file is in a zip, images without a label are counted, and no group's name is taken for Markdown."""
    file = tmp_path / "set.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted((data / "images").iterdir()):
            archive.write(path, f"test/{path.name}")
        rows = [row for row in ROWS if row[0] != "05.png"]
        archive.write(write_labels(tmp_path / "some.csv", rows), "labels.csv")
    metrics = ("--metrics", "fd", "consistency", "--by", "kind", "--bootstrap", 4, "--samples", 2)
    result = carded(models["graft"], file, tmp_path / "out", "--split", "test", *metrics)
    text = (tmp_path / "out" / "card.md").read_text()
    assert text == markdown(result)
    assert "\x1b" not in text + capsys.readouterr().out
    bob, ann = (row["people"] for row in result["rows"][1:])
    assert (
        f"| \\*Bob\\*\\x1b\\[2J&lt;b> | {bob} |" in text and f"| Ann\\|a | {ann} |" in text and bob <= 16 and ann <= 15
    )
    assert "kind: 1 of 32 images have no label and are left out." in text
    fewest = min(row["images"] for row in result["rows"])
    assert f"groups are compared at equal ones: kind {fewest} outputs and 15 reals." in text
    assert "as of fewer images 12 features have no covariance of full rank" in text
    (difference,) = [each for each in result["gaps"] if each["label"] == "LR difference"]
    low, high = (figures(result)[difference[side]]["LR difference"] for side in ("lowest", "highest"))
    assert difference["difference"] == pytest.approx(high - low)
    assert literal(difference["sentence"]) in text
    again = carded(models["graft"], file, tmp_path / "out", "--split", "test", *metrics)  # an earlier card is replaced
    assert again["rows"] == result["rows"]
    assert main(["compare", *[str(tmp_path / "out" / "card.json")] * 2]) == 0


def row(group: str | None, value: float, low: float, high: float) -> Row:
    return Row(str(group), {"SSIM": Estimate(value, low, high, 9), "L1": Estimate(value, low, high, 9)}, 9,
               {"group": group})  # fmt: skip


def test_the_largest_gap_is_between_the_ends() -> None:
    rows = [row(None, 9, 9, 9), row("a", 0.5, 0.4, 0.6), row("b", 0.7, 0.65, 0.8), row("c", 0.6, 0.5, 0.7)]
    for name, ends in (("ssim", "a, the worst (0.5000), and b, the best (0.7000)"),
                       ("l1", "a, the best (0.5000), and b, the worst (0.7000)")):  # fmt: skip
        found = gap("kind", rows, Column(name))
        assert found is not None and found["overlap"] is False
        text = f"{Column(name).label}: the largest gap is 0.2000, between {ends}; their intervals do not overlap."
        assert found["sentence"] == text
    rows[2] = row("b", 0.7, 0.55, 0.8)
    assert str((gap("kind", rows, Column("l1")) or {})["sentence"]).endswith("; their intervals overlap.")
    alone = [row("a", 0.5, 0.5, 0.5), row("b", 0.7, 0.7, 0.7)]
    assert str((gap("kind", alone, Column("l1")) or {})["sentence"]).endswith("the worst (0.7000).")
    assert gap("kind", rows[:2], Column("l1")) is None
    same = gap("kind", [alone[0], row("b", 0.5, 0.5, 0.5)], Column("l1"))
    assert same is not None and same["sentence"] == "L1: all groups have 0.5000."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "no column name (its columns: none)"),
        (b"file,age\na.png,9\n", "no column name (its columns: file, age): head the files' names with it"),
        (b"name,age,age\n", "two columns age: rename one"),
        (b"name,age\na.png,1\na.png,2\n", "line 3 has the name a.png for a second time: remove one row"),
        (b"name,age\na.png\n", "line 2 has 1 fields, the heading 2: mend it"),
        (b"name,age\n\xff,1\n", "not UTF-8: save it as CSV in UTF-8"),
        (b'name,age\n"a.png,1\n', "no CSV table (unexpected end of data): save it anew"),
    ],
)
def test_labels_that_are_no_table_are_refused(
    text: bytes, said: str, models: dict[str, Path], data: Path, tmp_path: Path, capsys: Captured
) -> None:
    file = tmp_path / "mine.csv"
    file.write_bytes(text)
    command = ("card", models["sample"], "--data", data / "images", "--labels", file, "--device", "cpu")
    assert refusal(capsys, *command).startswith(f"{file}: {said}")


def test_labels_are_read_as_csv() -> None:
    labels = labels_of('\ufeffname,"a, b"\r\n"x,1.png","two\nlines "\r\nz/y.png,\r\n\r\n'.encode(), "it")
    assert labels.columns == ("a, b",)
    assert labels.of(["x,1.png", "1.png", "z/y.png", "y.png"]) == {"x,1.png": {"a, b": "two\nlines"}, "z/y.png": {}}


def test_what_cannot_be_grouped_is_refused(
    models: dict[str, Path], data: Path, tmp_path: Path, capsys: Captured
) -> None:
    images = data / "images"
    command = ("card", models["graft"], "--data", images, "--device", "cpu")
    labelled = (*command, "--labels", data / "labels.csv")
    assert refusal(capsys, *command) == f"{images}: no labels.csv beside the images: name a CSV file with --labels"
    missing = tmp_path / "none.csv"
    assert refusal(capsys, *command, "--labels", missing).startswith(f"{missing}: no such file: ")
    assert "cannot be read: Is a directory" in refusal(capsys, *command, "--labels", tmp_path)
    assert "(--by) named kinds: did you mean kind?" in refusal(capsys, *labelled, "--by", "kinds")
    assert "labels.csv: these images have 1 value of split: group by a column with 2 to 20" in refusal(
        capsys, *labelled, "--by", "split"
    )
    assert "have 32 values of original" in refusal(capsys, *labelled, "--by", "original")
    other = write_labels(tmp_path / "other.csv", [["name", "age"], ["b.png", "\x1b[2Jold"]])
    said = refusal(capsys, *command, "--labels", other)
    assert said.startswith(f"{other}: no row for any of 32 images (the first image is 00.png, the first row b.png)")
    one = write_labels(tmp_path / "one.csv", [["name", "age"], *([each[0], "9"] for each in ROWS[1:])])
    assert refusal(capsys, *command, "--labels", one).startswith(f"{one}: no column has 2 to 20 values")
    assert "--metrics diversity: is not that of one person" in refusal(capsys, *labelled, "--metrics", "diversity")
    prior = ("card", models["sample"], "--data", images, "--labels", data / "labels.csv", "--device", "cpu")
    assert "--metrics fd: is not that of one person" in refusal(capsys, *prior, "--metrics", "fd")
    assert "--palette x: has no part in the task sample" in refusal(capsys, *prior, "--palette", "x")
    assert "say what images to measure it on" in refusal(capsys, "card", models["sample"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "card.md").write_text("mine")
    assert "no earlier report is" in refusal(capsys, *labelled, "--out", tmp_path / "out")
    copy = tmp_path / "in" / "card.json"
    copy.parent.mkdir()
    copy.write_bytes((data / "labels.csv").read_bytes())
    assert "an output would replace it" in refusal(capsys, *command, "--labels", copy, "--out", copy.parent)


def test_one_row_names_one_image(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "images", 1)
    labels = read_labels(write_labels(folder / "labels.csv", [["name", "age"], ["00.png", "9"], ["b/00.png", "8"]]))
    assert labels.of(["a/00.png", "b/00.png"]) == {"a/00.png": {"age": "9"}, "b/00.png": {"age": "8"}}
    with pytest.raises(Exception, match=r"00\.png is the end of a/00\.png and of c/00\.png: write whole paths"):
        labels.of(["a/00.png", "c/00.png"])
