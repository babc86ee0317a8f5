"""Configurations as TOML: what goes out comes back equal, and every fault is one line that names the field."""

import dataclasses
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixgraft.config import dumps, loads, replaced
from pixgraft.errors import PixgraftError
from pixgraft.presets import PRESETS, preset
from pixgraft.records import from_dict, to_dict
from pixgraft.training.experiment import Experiment

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TINY = preset("i2ilr-tiny-32")
PARTS = ("method", "train", "data")


def refused(toml: str) -> str:
    """The one line that refuses it."""
    with pytest.raises(PixgraftError) as caught:
        loads(Experiment, toml, "config.toml")
    message = str(caught.value)
    assert message.startswith("config.toml: ") and "\n" not in message
    return message


def refused_setting(*settings: str) -> str:
    with pytest.raises(PixgraftError) as caught:
        replaced(TINY, list(settings))
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- out and in ---


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_the_round_trip(name: str) -> None:
    experiment = preset(name)
    assert experiment.name == name
    text = dumps(experiment)
    again = loads(Experiment, text, "config.toml")
    assert again == experiment
    assert dumps(again) == text
    for part in (again, *(getattr(again, key) for key in PARTS)):
        for field in dataclasses.fields(part):
            assert type(getattr(part, field.name)) is not list, field.name  # a tuple stays one: it is hashed


@pytest.mark.parametrize("name", PRESETS)
def test_no_field_is_left_out(name: str) -> None:
    experiment = preset(name)
    written = tomllib.loads(dumps(experiment))
    for part, table in ((experiment, written), *((getattr(experiment, key), written[key]) for key in PARTS)):
        present = [field.name for field in dataclasses.fields(part) if getattr(part, field.name) is not None]
        assert list(table) == present  # TOML has no null


@given(
    rate=st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False),
    seed=st.integers(0, 2**63 - 1),
    name=st.text(st.characters(exclude_categories=["Cs"])),
    augment=st.lists(st.sampled_from(["translation", "cutout", "color"])),
)
def test_any_values_survive_the_round_trip(rate: float, seed: int, name: str, augment: list[str]) -> None:
    values = to_dict(TINY)
    values["name"], values["method"]["generator_lr"], values["train"]["seed"] = name, rate, seed
    values["method"]["augment"] = augment
    experiment = from_dict(Experiment, values, "values")
    assert loads(Experiment, dumps(experiment), "config.toml") == experiment


def test_fields_left_out_keep_their_defaults() -> None:
    experiment = loads(Experiment, 'name = "mine"\nkind = "i2ilr"\n[method]\n[train]\nbatch = 4\n', "config.toml")
    paper = preset("i2ilr-paper-128")
    assert experiment == dataclasses.replace(paper, name="mine", train=dataclasses.replace(experiment.train, batch=4))
    assert experiment.method == paper.method


# --- faults in a file ---

HEAD = 'name = "mine"\nkind = "i2ilr"\n'


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        (HEAD + "surplus = 1\n[method]\n[train]\n", ["surplus", "kind, method"]),
        (HEAD + "[method]\nlearning = 1\n[train]\n", ["method", "learning", "generator_lr"]),
        (HEAD + "[method]\n", ["train"]),
        (HEAD + "method = 3\n[train]\n", ["method", "table", "3"]),
        (HEAD + '[method]\nimage_size = "64"\n[train]\n', ["method", "image_size", "int", "'64'"]),
        (HEAD + "[method]\nimage_size = 64.0\n[train]\n", ["method", "image_size", "int", "64.0"]),
        (HEAD + "[method]\ngenerator_lr = true\n[train]\n", ["method", "generator_lr", "float", "True"]),
        (HEAD + "[method]\n[train]\nflip = 1\n", ["train", "flip", "bool", "1"]),
        (HEAD + "[method]\n[train]\nseed = true\n", ["train", "seed", "int", "True"]),
        (HEAD + '[method]\nhead = "double"\n[train]\n', ["method", "head", "'double'", "'single', 'patch'"]),
        (HEAD + "[method]\nhead = 1\n[train]\n", ["method", "head", "1", "'patch'"]),
        (HEAD + '[method]\naugment = "color"\n[train]\n', ["method", "augment", "list"]),
        (HEAD + '[method]\naugment = ["colour"]\n[train]\n', ["method", "augment", "'colour'", "'color'"]),
        (HEAD + "[method]\nbetas = [0.5]\n[train]\n", ["method", "betas", "2 values", "1"]),
        (HEAD + '[method]\nbetas = [0.0, "x"]\n[train]\n', ["method", "betas", "float", "'x'"]),
        ('name = "mine"\nkind = "other"\n[method]\n[train]\n', ["kind", "'other'", "'i2ilr'"]),
        ("name = mine", ["not TOML", "line 1"]),
        ("", ["name", "kind", "method", "train"]),
    ],
)
def test_a_fault_in_a_file_names_the_field(toml: str, named: list[str]) -> None:
    message = refused(toml)
    for words in named:
        assert words in message


def test_a_value_out_of_range_names_the_field() -> None:
    with pytest.raises(PixgraftError, match=r"train\.batch is 3: choose"):
        loads(Experiment, HEAD + "[method]\n[train]\nbatch = 3\n", "config.toml")


def test_whole_numbers_stand_for_floats() -> None:
    experiment = loads(Experiment, HEAD + "[method]\nbetas = [0, 0]\nlambda_cycle = 2\n[train]\n", "config.toml")
    assert [type(value) for value in (*experiment.method.betas, experiment.method.lambda_cycle)] == [float] * 3


# --- settings ---


def test_settings_change_the_named_fields_alone() -> None:
    settings = [
        "method.head=single",
        'method.target="grey"',
        "method.augment=[]",
        "method.generator_lr = 2e-4",
        "method.betas=[0.5, 0.9]",
        "train.flip=false",
        "train.batch=8",
        "name=a bare = word",
    ]
    changed = replaced(TINY, settings)
    method = dataclasses.replace(
        TINY.method, head="single", target="grey", augment=(), generator_lr=2e-4, betas=(0.5, 0.9)
    )
    train = dataclasses.replace(TINY.train, flip=False, batch=8)
    assert changed == dataclasses.replace(TINY, name="a bare = word", method=method, train=train)
    assert preset("i2ilr-tiny-32") == TINY


def test_no_settings_change_nothing_and_the_last_one_counts() -> None:
    assert replaced(TINY, []) == TINY
    assert replaced(TINY, ["train.seed=1", "train.seed=2"]).train.seed == 2


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("train.batch", ["train.batch", "field=value"]),
        ("", ["field=value"]),
        ("train.batsch=8", ["train.batsch", "train.batch"]),
        ("batch=8", ["batch", "train.batch"]),
        ("trains.batch=8", ["trains.batch", "train.batch"]),
        ("train.batch.size=8", ["train.batch.size", "train.batch"]),
        ("method=8", ["method", "method.head"]),
        ("=8", ["no such field"]),
        ("train.batch=many", ["train", "batch", "int", "'many'"]),
        ("train.batch=", ["train", "batch", "int", "''"]),
        ("train.batch=8.5", ["train", "batch", "int", "8.5"]),
        ("train.batch=7", ["train.batch", "7", "multiple of 2"]),
        ("train.flip=True", ["train", "flip", "bool", "'True'"]),
        ("method.head=double", ["method", "head", "'double'", "'patch'"]),
        ("method.augment=color", ["method", "augment", "list", "'color'"]),
        ("method.lr_size=3", ["lr_size", "3"]),
        ("train.precision=float16", ["train", "precision", "'float16'", "'bfloat16'"]),
    ],
)
def test_a_fault_in_a_setting_names_the_field(setting: str, named: list[str]) -> None:
    message = refused_setting(setting)
    for words in named:
        assert words in message
