"""What every task promises on files: no input is lost, none is replaced, a second run makes only what is missing."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cases import grit_method
from encoders import saved
from generators import styled_model
from pixgraft.cli import main
from pixgraft.models import save_model
from training import make_images, tree
from using import random_model, refusal

JOBS = 4


@dataclass(frozen=True)
class Task:
    """A model of a task, inputs for it, and its command line."""

    name: str
    model: Path
    inputs: Path
    flags: tuple[object, ...]
    """Options that take the inputs from the folder IN, whose place they name."""
    files: int
    """Files of each job, without its report."""

    def command(self, inputs: Path, out: Path, *flags: object) -> list[str]:
        verb = "sample" if self.name == "sample" else "translate"
        given = [str(each).replace("IN", str(inputs)) for each in self.flags]
        return [verb, str(self.model), *given, "--out", str(out), "--device", "cpu", *map(str, flags)]

    def run(self, inputs: Path, out: Path, *flags: object) -> int:
        return main(self.command(inputs, out, *flags))


def label_maps(folder: Path) -> Path:
    folder.mkdir()
    for number in range(JOBS):
        pixels = np.arange(32 * 32).reshape(32, 32) // (5 + number) % 4
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task]:
    root = tmp_path_factory.mktemp("tasks")
    save_model(root / "grit", grit_method(), info={})
    pictures = make_images(root / "graft_in", JOBS)
    given = ("--condition", "IN", "--samples", 2)
    rows = [
        Task(
            "graft", random_model(root / "i2ilr"), pictures,
            ("--source", "IN", "--target", "IN", "--pairs", "name", "--grid"), 1,
        ),
        Task("synthesize", root / "grit", label_maps(root / "synthesize_in"), given, 5),
        Task("encode", saved(root / "ome", "ome"), make_images(root / "encode_in", JOBS), given, 5),
        Task("sample", styled_model(root / "styled"), root / "sample_in", ("--count", JOBS, "--seed", 3), 1),
    ]  # fmt: skip
    (root / "sample_in").mkdir()
    return {row.name: row for row in rows}


@pytest.fixture(params=["graft", "synthesize", "encode", "sample"])
def task(request: pytest.FixtureRequest, tasks: dict[str, Task]) -> Task:
    return tasks[request.param]


@pytest.fixture
def work(task: Task, tmp_path: Path) -> Path:
    """A copy of the task's inputs, to spoil."""
    folder = tmp_path / "work"
    folder.mkdir()
    for file in task.inputs.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def without_times(out: Path) -> dict[str, object]:
    """Every file, the reports without what differs between two runs."""
    files: dict[str, object] = {}
    for path in sorted(out.iterdir()):
        if path.suffix == ".json":
            report = json.loads(path.read_bytes())
            files[path.name] = {key: value for key, value in report.items() if key != "seconds"}
        else:
            files[path.name] = path.read_bytes()
    return files


def test_every_job_gives_its_files_and_a_report_in_one_schema(task: Task, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert task.run(task.inputs, out) == 0
    reports = {path.stem: json.loads(path.read_bytes()) for path in out.glob("0*.json")}
    assert len(reports) == JOBS
    names = {
        "format", "pixgraft", "task", "method", "model", "weights_sha256", "seed", "settings", "inputs", "outputs",
        "measures", "notes", "sizes", "seconds", "device", "threads", "precision", "engine",
    }  # fmt: skip
    for report in reports.values():
        assert set(report) == names and report["task"] == task.name and report["device"] == "cpu"
        assert len(report["outputs"]) == task.files and report["format"] == 2
        for output in report["outputs"]:
            assert len(output["sha256"]) == 64 and (out / output["file"]).is_file()
        for path in (out / output["file"] for output in report["outputs"]):
            if path.suffix == ".png":
                text = Image.open(path).text  # type: ignore[attr-defined]
                inside = json.loads(text["pixgraft"])
                assert {key: report[key] for key in inside} == inside
                assert inside["weights_sha256"] == report["weights_sha256"]
                assert "not a photograph" in text["Description"]


@pytest.mark.parametrize("task", ["graft", "synthesize", "encode"], indirect=True)  # a prior has no inputs
def test_a_bad_input_fails_alone(task: Task, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean, out = tmp_path / "clean", tmp_path / "out"
    assert task.run(work, clean) == task.run(work, out) == 0  # the second folder has an earlier run's outputs
    (work / "01.png").write_bytes(b"no image")
    (work / "notes.txt").write_text("mine")
    capsys.readouterr()
    assert task.run(work, out) == 1
    said = capsys.readouterr()
    assert f"0 made, {JOBS - 1} finished before, 1 failed" in said.out and said.out.count("01.png: not an image") == 1
    assert "notes.txt" in said.err
    assert not [path for path in out.iterdir() if path.name.startswith("01")], "what was made of the former input"
    fresh = tmp_path / "fresh"
    assert task.run(work, fresh) == 1
    assert f"{JOBS - 1} made, 0 finished before, 1 failed" in capsys.readouterr().out
    expected = {name: data for name, data in tree(clean).items() if name.endswith(".png") and name[:2] != "01"}
    expected.pop("grid.png", None)
    for folder in (out, fresh):
        pictures = {name: data for name, data in tree(folder).items() if name.endswith(".png") and name != "grid.png"}
        assert pictures == expected


def test_strict_refuses_before_anything_is_written(
    task: Task, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out"
    if task.name == "sample":
        (work / "latents.safetensors").write_bytes(b"none")
        command = task.command(work, out, "--strict", "--latents", work / "latents.safetensors")
        assert "latents.safetensors: not a safetensors file" in refusal(capsys, *command)
    else:
        (work / "02.png").write_bytes(b"no image")
        assert "02.png: not an image" in refusal(capsys, *task.command(work, out, "--strict"))
        (work / "01.png").unlink()
        assert "02.png: not an image" in refusal(capsys, *task.command(work, out, "--strict"))
    assert not out.parent.exists()


@pytest.mark.parametrize("task", ["graft", "synthesize", "encode"], indirect=True)  # a prior has no inputs
def test_where_nothing_is_usable_the_status_is_2(
    task: Task, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in work.iterdir():
        file.write_bytes(b"no image")
    said = refusal(capsys, *task.command(work, tmp_path / "deep" / "out"))
    assert said.startswith("00.png: not an image") and said.endswith(f"(and {JOBS - 1} more)")
    assert not (tmp_path / "deep").exists()


def test_a_second_run_makes_what_is_missing_or_stale(
    task: Task, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    def said(*flags: object) -> str:
        capsys.readouterr()
        assert task.run(work, out, *flags) == 0
        return capsys.readouterr().out

    def times() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in out.iterdir()}

    assert f"{JOBS} made, 0 finished before, 0 failed" in said()
    first, at = without_times(out), times()
    assert f"0 made, {JOBS} finished before, 0 failed" in said()
    assert times() == at, "nothing is touched"
    reports = sorted(path for path in out.glob("0*.json"))
    image = out / json.loads(reports[1].read_bytes())["outputs"][0]["file"]
    image.write_bytes(image.read_bytes()[:-3])
    reports[2].unlink()
    assert f"2 made, {JOBS - 2} finished before, 0 failed" in said()
    assert without_times(out) == first
    assert f"{JOBS} made, 0 finished before, 0 failed" in said("--again")
    assert without_times(out) == first
    assert f"{JOBS} made, 0 finished before, 0 failed" in said("--seed", 4), "other settings"
    if task.name != "sample":
        (work / "03.png").write_bytes((work / "00.png").read_bytes())
        assert f"1 made, {JOBS - 1} finished before, 0 failed" in said("--seed", 4), "another input"


KILLED = """
import os, signal, sys, json
from pixgraft.cli import main
from pixgraft.pipelines import files, loading
for command in json.load(open(sys.argv[1])):
    child = os.fork()
    if child == 0:
        left, real = [3], files.write_bytes
        def write(path, data):  # the kill comes between an output and its report
            real(path, data)
            left[0] -= path.name.endswith(".json") and path.name[0] == "0"
            if left[0] == 1 and path.suffix == ".png":
                os.kill(os.getpid(), signal.SIGKILL)
        files.write_bytes = write
        main(command)
        os._exit(0)
    print(os.waitpid(child, 0)[1])
"""


@pytest.fixture(scope="module")
def killed(tasks: dict[str, Task], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of each task, the run of which was killed after two jobs."""
    root = tmp_path_factory.mktemp("killed")
    commands = [task.command(task.inputs, root / task.name) for task in tasks.values()]
    (root / "commands.json").write_text(json.dumps(commands))
    arguments = [sys.executable, "-c", KILLED, str(root / "commands.json")]
    run = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert [line for line in run.stdout.splitlines() if line.isdigit()] == ["9"] * len(tasks), run.stderr
    return root


def test_after_a_kill_the_second_run_finishes(
    task: Task, killed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = killed / task.name
    assert task.run(task.inputs, out) == 0
    assert f"{JOBS - 2} made, 2 finished before, 0 failed" in capsys.readouterr().out
    assert task.run(task.inputs, tmp_path / "out") == 0
    assert without_times(out) == without_times(tmp_path / "out")


def test_no_input_is_replaced(task: Task, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if task.name == "sample":
        assert task.run(work, tmp_path / "out") == 0
        before = tree(tmp_path / "out")
        latents = tmp_path / "out" / "latents.safetensors"
        assert "would replace it" in refusal(capsys, *task.command(work, tmp_path / "out"), "--latents", latents)
        (tmp_path / "out" / "mine.safetensors").write_bytes(latents.read_bytes())
        before = tree(tmp_path / "out")
        own = ("--latents", tmp_path / "out" / "mine.safetensors")
        assert "is inside" in refusal(capsys, *task.command(work, tmp_path / "out"), *own)
        assert tree(tmp_path / "out") == before
        photos = tmp_path / "photos"
        photos.mkdir()
        for name in ("000000.png", "000007.png", "samples.json"):
            (photos / name).write_bytes(b'["mine"]')
        before = tree(photos)
        assert "choose another folder" in refusal(capsys, *task.command(work, photos))
        assert tree(photos) == before
        (tmp_path / "out" / f"{JOBS:06d}.png").write_bytes(b"mine")
        assert task.run(work, tmp_path / "out", "--seed", 8) == 0
        assert (tmp_path / "out" / f"{JOBS:06d}.png").read_bytes() == b"mine"
        return
    before = tree(work)
    assert "is inside" in refusal(capsys, *task.command(work, work))
    assert "is inside" in refusal(capsys, *task.command(work, work / "deep"))
    outputs = {"graft": "00__00.png", "synthesize": "00_0.png", "encode": "00_0.png"}

    def taken(folder: Path) -> Path:
        return folder / outputs[task.name]

    single = tmp_path / "single"
    single.mkdir()
    (single / "00.png").write_bytes((work / "00.png").read_bytes())
    named = [each.replace(str(work), str(single / "00.png")) for each in task.command(work, single)]
    for mine in (taken(single), single / f"{taken(single).stem.removesuffix('_0')}.json"):
        mine.write_bytes(b'{"mine": 1}')
        alone = tree(single)
        assert f"{mine}: is there, and no earlier run wrote it" in refusal(capsys, *named)
        assert tree(single) == alone
        mine.unlink()
    assert main(named) == 0, "the input's own folder takes outputs of other names"
    assert (single / "00.png").read_bytes() == (work / "00.png").read_bytes()
    links = tmp_path / "links"
    links.mkdir()
    (tmp_path / "photos").mkdir()
    photo = taken(tmp_path / "photos")
    photo.write_bytes((work / "00.png").read_bytes())
    (links / "00.png").symlink_to(photo)
    assert "an output would replace it" in refusal(capsys, *task.command(links, tmp_path / "photos"))
    assert photo.read_bytes() == (work / "00.png").read_bytes(), "reached through a link in the folder of inputs"
    again = tmp_path / "again"
    again.mkdir()
    (again / "00.png").symlink_to(taken(again).name)
    taken(again).write_bytes((work / "00.png").read_bytes())
    linked = [each.replace(str(work), str(again / "00.png")) for each in task.command(work, again)]
    assert "an output would replace it" in refusal(capsys, *linked)
    assert taken(again).read_bytes() == (work / "00.png").read_bytes() and tree(work) == before


EDITS: tuple[dict[str, object], ...] = (
    {"notes": 5}, {"notes": [5]}, {"seconds": "x"}, {"seconds": None}, {"outputs": [3]}, {"measures": 7}, {"inputs": 1},
    {"settings": None},
)  # fmt: skip


@pytest.mark.parametrize("change", EDITS)
def test_an_edited_report_ends_in_no_trace(task: Task, tmp_path: Path, change: dict[str, object]) -> None:
    out = tmp_path / "out"
    assert task.run(task.inputs, out) == 0
    report = next(out.glob("0*.json"))
    content = json.loads(report.read_bytes())
    for edited in (content | change, content | {"measures": {"codes_changed_by": ["x"], "difference": {"mean": "x"}}}):
        report.write_text(json.dumps(edited))
        assert task.run(task.inputs, out) == 0
    if task.name != "sample":
        bad = tmp_path / "bad"
        bad.mkdir()
        for file in task.inputs.iterdir():
            (bad / file.name).write_bytes(file.read_bytes() if file.name == "03.png" else b"no image")
        report.write_text(json.dumps(content | change))
        assert task.run(bad, out) == 1


def test_an_output_that_cannot_be_written_fails_alone(
    task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert task.run(task.inputs, out) == 0
    image = out / json.loads(sorted(out.glob("0*.json"))[1].read_bytes())["outputs"][0]["file"]
    image.unlink()
    image.mkdir()
    (image / "mine").touch()
    capsys.readouterr()
    assert task.run(task.inputs, out) == 1
    assert f"0 made, {JOBS - 1} finished before, 1 failed" in capsys.readouterr().out


def test_what_cannot_be_read_now_keeps_its_outputs(tasks: dict[str, Task], tmp_path: Path) -> None:
    task = tasks["encode"]
    work = tmp_path / "work"
    work.mkdir()
    for file in task.inputs.iterdir():
        (work / file.name).write_bytes(file.read_bytes())
    assert task.run(work, tmp_path / "out") == 0
    before = tree(tmp_path / "out")
    (work / "01.png").unlink()
    (work / "01.png").symlink_to(tmp_path / "nowhere.png")
    assert task.run(work, tmp_path / "out") == 1
    assert tree(tmp_path / "out") == before


def test_an_input_that_fails_under_other_settings_keeps_its_outputs(tasks: dict[str, Task], tmp_path: Path) -> None:
    task = tasks["encode"]
    work = tmp_path / "work"
    work.mkdir()
    (work / "large.png").write_bytes((task.inputs / "00.png").read_bytes())
    Image.open(task.inputs / "01.png").resize((20, 20)).save(work / "small.png")
    assert task.run(work, tmp_path / "out") == 0
    before = {name: data for name, data in tree(tmp_path / "out").items() if name.startswith("small")}
    assert task.run(work, tmp_path / "out", "--factor", 4) == 1
    assert before and before.items() <= tree(tmp_path / "out").items()


def test_a_pipe_is_refused_where_a_file_is_expected(
    tasks: dict[str, Task], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for name, option in (("sample", "--latents"), ("synthesize", "--palette")):
        task = tasks[name]
        assert "not a regular file" in refusal(capsys, *task.command(task.inputs, tmp_path / "out"), option, pipe)
    encode = ("translate", tasks["encode"].model, "--codes", pipe, "--out", tmp_path / "out")
    assert "not a regular file" in refusal(capsys, *encode)
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / "00.json")
    assert "no earlier run wrote it" in refusal(
        capsys, *tasks["encode"].command(tasks["encode"].inputs, tmp_path / "out")
    )


def test_another_tasks_outputs_named_grid_stay(tasks: dict[str, Task], tmp_path: Path) -> None:
    """A graft without --grid removes the grid of an earlier graft alone."""
    photo = tmp_path / "grid.png"
    photo.write_bytes((tasks["encode"].inputs / "00.png").read_bytes())
    out, encode, graft = tmp_path / "out", tasks["encode"], tasks["graft"]
    assert main(["translate", str(encode.model), "--condition", str(photo), "--out", str(out), "--device", "cpu"]) == 0
    before = tree(out)
    both = ["--source", str(photo), "--target", str(photo), "--out", str(out), "--device", "cpu"]
    assert main(["translate", str(graft.model), *both]) == 0
    assert before.items() <= tree(out).items()
    assert main(["translate", str(graft.model), *both[:-4], "--out", str(tmp_path / "two"), "--grid"]) == 0
    assert main(["translate", str(graft.model), *both[:-4], "--out", str(tmp_path / "two")]) == 0
    assert set(tree(tmp_path / "two")) == {"grid__grid.png", "grid__grid.json"}


SHARED = """
import json, os, sys
from pixgraft.cli import main
from pixgraft.engine import distributed
world = distributed.start("cpu")
for command in json.load(open(sys.argv[1])):
    status = main(command)
    if world.rank == 0:
        print("status", status)
distributed.stop()
sys.stdout.flush()
os._exit(0)  # as the program does: communication threads now and then abort an interpreter that ends
"""


def test_two_processes_give_what_one_gives(tasks: dict[str, Task], tmp_path: Path) -> None:
    """Each task, with a bad input that is the second process's; and one that `--strict` refuses."""
    commands = []
    for task in tasks.values():
        work = tmp_path / f"{task.name}_in"
        work.mkdir()
        for file in task.inputs.iterdir():
            (work / file.name).write_bytes(b"no image" if file.name == "01.png" else file.read_bytes())
        commands += [task.command(work, tmp_path / task.name)]
        commands += [task.command(work, tmp_path / "strict" / task.name, "--strict")] * (task.name != "sample")
        one = tmp_path / f"{task.name}_one"
        assert task.run(work, one) == (0 if task.name == "sample" else 1)
    walk = ["walk", str(tasks["sample"].model), "--points", "2", "--frames", "3", "--device", "cpu"]
    mix = ["mix", str(tasks["sample"].model), "--rows", "2", "--columns", "1", "--device", "cpu"]
    for name, verb in (("walk.gif", walk), ("mix.png", mix)):
        commands.append([*verb, "--out", str(tmp_path / "two" / name)])
        assert main([*verb, "--out", str(tmp_path / "one" / name)]) == 0
    (tmp_path / "commands.json").write_text(json.dumps(commands))
    (tmp_path / "shared.py").write_text(SHARED)
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [*program, str(tmp_path / "shared.py"), str(tmp_path / "commands.json")]
    run = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    statuses = [line.split()[1] for line in run.stdout.splitlines() if line.startswith("status")]
    assert statuses == ["1", "2", "1", "2", "1", "2", "0", "0", "0"], run.stdout + run.stderr
    for task in tasks.values():
        assert without_times(tmp_path / task.name) == without_times(tmp_path / f"{task.name}_one")
        assert not (tmp_path / "strict").exists()
    assert without_times(tmp_path / "two") == without_times(tmp_path / "one")
    assert run.stdout.count(f"{JOBS - 1} made, 0 finished before, 1 failed") == 3
