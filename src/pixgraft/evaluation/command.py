"""`pixgraft evaluate` from its options to the written result."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pixgraft import devices
from pixgraft.data.outputs import Given, check_outside, check_spared, check_writable, write_image
from pixgraft.engine import distributed
from pixgraft.engine.bars import Bars
from pixgraft.engine.terminal import Terminal
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.columns import columns
from pixgraft.evaluation.measure import measure, output_names, write
from pixgraft.evaluation.model_table import TASK_OPTIONS
from pixgraft.evaluation.options import EvaluationOptions
from pixgraft.evaluation.protocols import PROTOCOLS, Protocol, Variant, protocol
from pixgraft.evaluation.result import RESULT, is_result
from pixgraft.evaluation.rows import NamedRow, OutputFolder, named_rows
from pixgraft.evaluation.sweep import losses_over_training, trained
from pixgraft.evaluation.tables import MODEL_TABLES, folder_measurement, model_measurement, model_table
from pixgraft.features import parse_weights
from pixgraft.files import removed_if_empty, unfinished, write_bytes
from pixgraft.pipelines.base import Pipeline
from pixgraft.pipelines.loading import load
from pixgraft.presets import PRESETS
from pixgraft.version import __version__

TRAINING_OPTIONS = ("set", "train_split")
"""Options for tables whose rows are trained."""


def evaluate(model: str, options: EvaluationOptions) -> tuple[dict[str, Any], list[Path]] | None:
    """Measure a model or, without one, folders: the result as plain values, and the files written.

    None on all processes but the first. Raises PixgraftError for options that do not fit together, and for everything
    that cannot be measured.
    """
    rows = named_rows(model, options.row)
    chosen = _checked(model, options)
    weights = parse_weights(options.weights)
    if options.out:
        models = [row.path for row in rows if row.is_model]
        images = (options.data, options.real, options.fake, *_folders(rows))
        check_out(options.out, output_names(), images, (options.palette, *models, *weights.values()))
    devices.set_threads(options.threads)
    curves: dict[str, Any] = {}
    world = distributed.start(devices.pick(options.device).type)  # one group for training and measuring
    try:
        if chosen is not None and chosen.variants:
            columns(options.metrics or chosen.metrics, options.features, all_used=False)  # before hours of training
            layout = {"images": options.images, "conditions": options.conditions, "palette": options.palette or ""}
            settings = [f"data.{name}={json.dumps(str(value))}" for name, value in layout.items()]
            speaks = world.rank == 0 and not options.quiet
            of_rows = trained(
                model, chosen, options, weights, settings=(*settings, *options.set),
                note=Terminal().say if speaks else lambda line: None,
            )  # fmt: skip
            curves = losses_over_training(of_rows, chosen.curve) if chosen.curve else {}
            rows = [NamedRow(name, str(run), True) for name, run in of_rows]
        with Bars(quiet=options.quiet or world.rank > 0) as bars:
            if chosen is None:
                table = folder_measurement(options)
            else:
                table = model_measurement(_opened(rows, options, world.local_rank), chosen, options, weights)
            added = bool(options.row and options.out and (options.out / RESULT).is_file())
            measured = measure(
                table, weights, devices.pick(options.device, world.local_rank), seed=options.seed,
                replicates=options.bootstrap, world=world, bars=bars, earlier=options.out if added else None,
            )  # fmt: skip
        if measured is None:
            return None
        for row in measured.result["rows"]:
            row |= {"training": curves[row["name"]]} if row["name"] in curves else {}
        return measured.result, write(measured, table, options.out) if options.out else []
    finally:
        distributed.stop()


def write_inputs(model: str, options: EvaluationOptions, out: Path) -> list[str]:
    """Write what a protocol's rows are made of to a new folder `out`; returns lines that say what there is.

    Raises PixgraftError as `evaluate` does, and for a folder that is there.
    """
    rows = named_rows(model, options.row)
    chosen = _checked(model, options)
    if chosen is None or chosen.fixed_rows:
        reason = f"{chosen.name}'s rows are {chosen.fixed_rows}" if chosen else "give a model and a protocol"
        raise PixgraftError(f"--inputs-only: {reason}: leave it out")
    assert options.data is not None
    options.check_unset(("out",), "with --inputs-only nothing is measured")
    check_outside(out, options.data, *_folders(rows))
    check_writable(out)
    if out.exists():
        raise PixgraftError(f"{out}: is there: choose a new folder for the inputs")
    devices.set_threads(options.threads)
    table = model_table(_opened(rows, options, 0), chosen, options)
    pairs = table.input_pairs()
    form = (
        f"{len(pairs):,} outputs, which pairs.csv names" if pairs else "NAME.png, or NAME_0.png, NAME_1.png for several"
    )
    about = {"pixgraft": __version__, "protocol": chosen.name, **table.description(), "side": table.size}
    try:
        with removed_if_empty(out.parent), unfinished(out.resolve()) as beside:
            for name, image in table.inputs():
                write_image(beside / name, image)
            if pairs:
                text = "".join(f"{','.join(map(_quoted, each))}\n" for each in [("output", "target", "source"), *pairs])
                write_bytes(beside / "pairs.csv", text.encode())
            write_bytes(beside / "inputs.json", (json.dumps(about | {"outputs": form}, indent=1) + "\n").encode())
            beside.rename(out)
    except OSError as error:
        raise PixgraftError(f"{out}: cannot be written: {error.strerror or error}: choose another folder") from error
    return [str(out), f"outputs: {form}, of {table.size} x {table.size} pixels"]


def _quoted(text: str) -> str:
    """A cell of a CSV file."""
    return '"' + text.replace('"', '""') + '"' if {",", '"'} & set(text) else text


def _folders(rows: Sequence[NamedRow]) -> list[Path]:
    """The folders of outputs."""
    return [Path(row.path) for row in rows if not row.is_model]


def _opened(
    rows: Sequence[NamedRow], options: EvaluationOptions, local_rank: int
) -> list[tuple[str, Pipeline | OutputFolder]]:
    """The rows' models and folders of outputs by name."""
    opened: list[tuple[str, Pipeline | OutputFolder]] = []
    for row in rows:
        model = load(row.path, device=options.device, local_rank=local_rank) if row.is_model else None
        opened.append((row.name, model or OutputFolder(row.name, row.path)))
    return opened


def check_out(
    out: Path, names: Sequence[str], images: Iterable[Path | None], files: Iterable[Path | str | None]
) -> None:
    """PixgraftError if the outputs, of which the last is the result, would replace what they are made of, folders of
    images and other files, or files that no earlier result is."""
    folders = [each for each in images if each]
    check_outside(out, *folders)
    outputs = [out / name for name in names]
    check_spared(Given([*folders, *files]), outputs)
    if not is_result(outputs[-1]):
        for path in outputs:
            if path.exists():
                raise PixgraftError(f"{path}: is there, and no earlier report is: move it, or choose another folder")
    check_writable(out)


def _checked(model: str, options: EvaluationOptions) -> Protocol | None:
    """The protocol if a model is measured. Raises PixgraftError for options that do not say what to measure."""
    options.check_bootstrap()
    named = model or " ".join(f"--row {text}" for text in options.row[:1])
    if not named:
        others = (
            "data", "split", "classes", "inputs_only", *TRAINING_OPTIONS,
            *(name for name in TASK_OPTIONS if "real" not in name),
        )  # fmt: skip
        options.check_unset(others, "measures a model")
        if options.real is None or options.fake is None:
            raise PixgraftError("say what to measure: MODEL --data D --protocol P, or --real A --fake B")
        options.check_unset(("protocol",), "measures a model: name it and give --data")
        return None
    options.check_unset(("fake", "fake_split", "pairs"), f"a model ({named}) is measured by its own images")
    if options.data is None:
        raise PixgraftError(f"{named}: say what images to measure it on: --data D")
    if not options.protocol:
        raise PixgraftError(f"{named}: say by which protocol: --protocol {', '.join(PROTOCOLS)}")
    chosen = protocol(options.protocol)
    if options.classes:
        chosen = _by_class(chosen, options)
    if options.row and chosen.fixed_rows:
        raise PixgraftError(f"--row {options.row[0]}: the rows of {chosen.name} are {chosen.fixed_rows}: leave it out")
    taken = MODEL_TABLES[chosen.task].options_taken
    options.check_unset((name for name in TASK_OPTIONS if name not in taken), f"has no part in {chosen.name}")
    if not chosen.variants or (model not in PRESETS and Path(model).is_dir()):
        rows = "of trained runs " if chosen.variants else ""
        options.check_unset(TRAINING_OPTIONS, f"{chosen.name} {rows}trains nothing")
    elif options.out is None:
        raise PixgraftError(f"--protocol {chosen.name}: trains {len(chosen.variants)} models: give --out for them")
    elif not options.split:
        trains = f"--protocol {chosen.name}: trains on --train-split {options.train_split}"
        raise PixgraftError(f"{trains}: say what to measure on with --split, such as test")
    return chosen


def _by_class(chosen: Protocol, options: EvaluationOptions) -> Protocol:
    """The protocol with a row for each of --classes. Raises PixgraftError if it has other rows, or for a class that
    cannot be a folder's name."""
    classes = options.classes
    if chosen.task != "graft" or chosen.variants:
        fitting = [each.name for each in PROTOCOLS.values() if each.task == "graft" and not each.variants]
        raise PixgraftError(f"--classes {classes[0]}: has no part in {chosen.name}: choose {', '.join(fitting)}")
    for name in classes:
        if not name.strip(". ") or {"/", "\\", "\0"} & set(name) or name in output_names() or classes.count(name) > 1:
            raise PixgraftError(f"--classes {name}: name folders within the splits, each once")
    return replace(chosen, by_class=True, variants=tuple(Variant(name, name, ()) for name in classes))
