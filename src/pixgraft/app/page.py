"""The page: a tab for each task, in it each model, and in that what the model can be asked for."""

import html
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import processing_utils
from starlette.middleware import Middleware

from pixgraft.app.actions import COMPARED, NEEDED, Action, Answer, actions
from pixgraft.app.controls import Control
from pixgraft.app.drawing import SIDE, colours
from pixgraft.app.limits import Limits
from pixgraft.errors import PixgraftError, printable
from pixgraft.files import write_bytes
from pixgraft.pipelines.base import Pipeline

TITLES = {"graft": "Graft", "synthesize": "Synthesize", "encode": "Encode", "sample": "Sample"}
QUEUE = 20
"""Requests that may wait; further ones are refused."""
STYLES = """
.gradio-container { max-width: 1200px !important; }
.figures table, .figures tr { border: 0 !important; }
.figures td { padding: 2px 12px 2px 0 !important; border: 0 !important; }
.help p { font-size: var(--block-info-text-size); color: var(--block-info-text-color); margin: 0; }
.figures p { margin: 4px 0; }
button[role=tab][aria-selected=true] { color: var(--primary-700) !important; }
.dark button[role=tab][aria-selected=true] { color: var(--primary-300) !important; }
button:focus-visible, input:focus-visible, [tabindex]:focus-visible { outline: 2px solid var(--color-accent); }
@media (max-width: 480px) { .gradio-container { padding: 4px !important; } }
"""


def as_given(component: Any, path: Callable[[Any], str | None]) -> Any:
    """The component, which hands on a path of what the browser sent: nothing decodes it before the product does."""
    component.preprocess = lambda payload: None if payload is None else path(payload)
    return component


def limits(folder: Path, *, share: bool) -> list[Middleware]:
    """What stands before the page's server; `folder` holds uploads and results."""
    return [Middleware(Limits, folder=folder, share=share)]


def theme() -> gr.Theme:
    """Gradio's default with the system's fonts, and with contrasts of 4.5 and more."""
    plain = gr.themes.Default(
        primary_hue="blue", font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace")
    )
    return plain.set(
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300",
        button_primary_background_fill="*primary_700", button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700", button_primary_background_fill_hover_dark="*primary_800",
    )  # fmt: skip


def page(pipelines: Sequence[Pipeline]) -> gr.Blocks:
    """The page of these models."""
    by_task: dict[str, list[Pipeline]] = {}
    for pipeline in pipelines:
        by_task.setdefault(pipeline.model.method.task, []).append(pipeline)
    with gr.Blocks(title="pixgraft", analytics_enabled=False) as blocks:
        gr.Markdown("# pixgraft\nImages are made by neural networks, on the computer that serves this page.")
        with gr.Tabs():
            for task, models in by_task.items():
                with gr.Tab(TITLES.get(task, task.capitalize()), id=task):
                    _each(models, lambda each: each.model.name, lambda each, name: _model(each, name))
    return blocks.queue(max_size=QUEUE, default_concurrency_limit=1)


def _each(parts: Sequence[Any], title: Callable[[Any], str], show: Callable[[Any, str], None], name: str = "") -> None:
    """Show each part, in tabs if there are several; `name` is what the part's elements begin with."""
    if len(parts) == 1:
        show(parts[0], name)
        return
    with gr.Tabs():
        for number, each in enumerate(parts):
            with gr.Tab(title(each)):
                show(each, f"{name}{number}_")


def _model(pipeline: Pipeline, name: str) -> None:
    task = pipeline.model.method.task
    gr.Markdown("Model `{}`".format(printable(pipeline.model.name).replace("`", "'")))
    _each(actions(pipeline), lambda each: each.title, _action, f"{task}_{name}")


def _action(action: Action, name: str) -> None:
    """The controls of one action, and its results."""
    components: list[Any] = []
    parts: list[tuple[Control, int]] = []

    def add(control: Control) -> None:
        made = _components(control, action, name)
        components.extend(made)
        parts.append((control, len(made)))

    first = [each for each in action.controls if each.name in NEEDED]
    rest = [each for each in action.controls if each.name not in NEEDED]
    with gr.Row():
        with gr.Column(min_width=300):
            for control in first:
                add(control)
            button = gr.Button(action.title, variant="primary", elem_id=f"{name}run")
            with gr.Accordion("Options"):
                for control in rest:
                    add(control)
        with gr.Column(min_width=300):
            gallery = gr.Gallery(
                label="Results", columns=3, height="auto", object_fit="contain", elem_id=f"{name}results",
                buttons=["download", "fullscreen"], interactive=False,
            )  # fmt: skip
            slides = any(each.name in COMPARED for each in action.controls)
            slider = gr.ImageSlider(
                label="Input and output", visible=slides, interactive=False, elem_id=f"{name}slider", max_height=400,
            )  # fmt: skip
            figures = gr.HTML(elem_classes="figures", elem_id=f"{name}figures")
            files = gr.Files(label="Download: images and reports", interactive=False, elem_id=f"{name}files")
            with gr.Accordion("Report", open=False):
                report = gr.Code(label="Report (JSON)", language="json", interactive=False, elem_id=f"{name}report")

    def answer(*given: Any) -> tuple[Any, ...]:
        values, place = {}, 0
        for control, count in parts:
            taken = list(given[place : place + count])
            values[control.name] = taken if control.kind in ("picture", "drawing", "file") else taken[0]
            place += count
        return respond(action, values, gallery.GRADIO_CACHE)

    # The same event as Python functions in the API have: what the page sends is what they take.
    button.click(
        answer, components, [gallery, slider, figures, files, report], api_name=f"{name}run".strip("_"),
        concurrency_id="models", concurrency_limit=1, show_progress_on=[gallery],
    )  # fmt: skip


def respond(action: Action, values: dict[str, Any], cache: str) -> tuple[Any, ...]:
    """Values of the result's components: gallery, slider, figures, files and report; errors are one escaped line."""
    folder = Path(tempfile.mkdtemp(prefix="request-", dir=cache))
    try:
        outcome = action.perform(values, folder)

        def stored(path: Path) -> str:
            data = path.read_bytes()
            place = Path(cache) / processing_utils.hash_bytes(data)  # seeded at random: nobody guesses it
            place.mkdir(exist_ok=True)
            write_bytes(place / path.name, data)  # renamed into place: another request may be reading the same file
            return str(place / path.name)

        pictures = [(stored(path), caption) for path, caption in outcome.images]
        slides = None if outcome.compared is None else tuple(map(stored, outcome.compared))
        return (
            pictures,
            slides,
            _figures(outcome),
            list(map(stored, outcome.files)),
            json.dumps(outcome.report, indent=1),
        )
    except PixgraftError as error:
        raise _refusal(str(error)) from None
    except MemoryError:
        raise _refusal("out of memory: ask for less") from None
    except OSError as error:
        raise _refusal(f"a file cannot be read or written: {error.strerror}") from None
    except Exception as error:
        logging.getLogger(__name__).exception("a request failed")
        raise _refusal(f"the program failed ({type(error).__name__}): its terminal says where") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refusal(line: str) -> gr.Error:
    return gr.Error(html.escape(printable(line)), duration=None, title="Not made", print_exception=False)


def _figures(outcome: Answer) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(each)}</td><td>{html.escape(text)}</td></tr>" for each, text in outcome.figures
    )
    notes = "".join(f"<p>{html.escape(printable(note))}</p>" for note in outcome.notes)
    return f"<table>{rows}</table>{notes}" if rows or notes else ""


def _components(control: Control, action: Action, name: str) -> list[Any]:
    """The components of one control, beneath them its help."""
    if control.kind not in ("picture", "drawing", "file"):
        return [_component(control, {"label": control.label, "info": control.help, "elem_id": f"{name}{control.name}"})]
    made: list[Any] = []
    for number in range(1, control.count + 1):
        about = {"label": control.label, "elem_id": f"{name}{control.name}"}
        if number > 1:
            about = {key: f"{text}{' ' * (key == 'label')}{number}" for key, text in about.items()}
        if control.kind == "file":
            made.append(gr.File(type="filepath", height=120, **about))
        else:
            made.append(_upload(control, about))
    if control.kind == "drawing":
        made.append(_canvas(control, action, f"{name}canvas"))
    text = control.help
    if control.kind == "drawing" and action.pipeline.condition.kind == "labels":  # type: ignore[attr-defined]
        text += " Each colour of the brush is a class, from the first; what is not drawn on is the first class."
    gr.Markdown(text, elem_classes="help")
    return made


def _upload(control: Control, about: dict[str, str]) -> Any:
    drawing = control.kind == "drawing"
    label = f"{control.label} as a file, in place of a drawing" if drawing else about["label"]
    picture = gr.Image(
        type="filepath", height=160 if drawing else 280, sources=["upload", "webcam", "clipboard"], image_mode=None,
        alt_text=label, buttons=["fullscreen"], **about | {"label": label},
    )  # fmt: skip
    return as_given(picture, lambda payload: payload.path)


def _component(control: Control, about: dict[str, str]) -> Any:
    """The component of a control of one value."""
    if control.kind == "switch":
        return gr.Checkbox(value=control.shown, **about)
    if control.kind == "choice":
        return gr.Dropdown(choices=list(control.choices), value=control.shown, **about)
    if control.kind == "number" and control.least is not None and control.most is not None:
        if control.least >= control.most:
            return gr.Number(value=control.shown, interactive=False, **about)
        return gr.Slider(control.least, control.most, value=control.shown, step=control.step, **about)
    if control.kind == "number":
        return gr.Number(value=control.shown, precision=0 if control.step == 1 else None, **about)
    return gr.Textbox(value=control.shown, max_length=200, **about)


def _canvas(control: Control, action: Action, name: str) -> Any:
    spec = action.pipeline.condition  # type: ignore[attr-defined]
    palette = colours(spec)
    canvas = gr.ImageEditor(
        label=f"{control.label}: draw it", type="filepath", format="png", sources=(), transforms=(), layers=False,
        canvas_size=(SIDE, SIDE), fixed_canvas=True, elem_id=name, buttons=[],
        brush=gr.Brush(
            default_size=max(2, round(1.5 * SIDE / spec.size)), colors=list(palette), default_color=palette[-1],
            color_mode="fixed",
        ),
    )  # fmt: skip
    return as_given(canvas, lambda payload: payload.composite and payload.composite.path)
