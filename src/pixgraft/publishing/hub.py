"""`pixgraft publish`: a model's own files, and their upload to a repository of a Hugging Face hub."""

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from pixgraft.errors import PixgraftError, reason
from pixgraft.files import json_sha256, read_bytes, write_bytes
from pixgraft.models import CARD, DESCRIPTION, WEIGHTS, Model, find_model, load_model, model_files
from pixgraft.publishing.card import LIMIT, card, linked, measured, pictures

REPOSITORY = r"[A-Za-z0-9_][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}"
PICTURE_LIMIT = 16 * 2**20
"""Bytes of the largest picture of a card."""
MODEL_LIMIT = 2**36
REFUSALS = {
    401: "the hub does not know this token: `hf auth login`, or set HF_TOKEN",
    403: "this token may not write there: take one with write access, and a repository of your own",
    404: "the hub has no such owner, or hides it from this token: check the name",
}
"""By HTTP status."""


def files_to_publish(
    name: str, repository: str, *, result: Path | None = None, license: str = "", credit: str = ""
) -> dict[str, bytes]:  # fmt: skip
    """The files of the model `name` as they are uploaded: weights, description, card, and the pictures that it shows.

    A run gives its averaged weights. No path of this machine is among them. `result` is a result.json of `pixgraft
    evaluate`; `license` and `credit` replace what the model says.

    Raises PixgraftError if there is no such model, it is damaged, or the result is not its own.
    """
    if not re.fullmatch(REPOSITORY, repository):
        raise PixgraftError(f"{repository}: no repository: write OWNER/NAME, with your name on the hub as OWNER")
    model, folder = load_model(name), find_model(name)
    figures = None if result is None else measured(result, model)
    if (folder / DESCRIPTION).is_file():
        description = json.loads(read_bytes(folder / DESCRIPTION, LIMIT))
        files = {WEIGHTS: read_bytes(folder / WEIGHTS, MODEL_LIMIT)}
    else:
        made = model_files(model.method, info=exported_info(model))
        description, files = json.loads(made[DESCRIPTION]), {WEIGHTS: made[WEIGHTS]}
    given = {"license": license, "credit": credit}
    text = card_text(folder)
    for picture in pictures(text):
        if (folder / picture).is_file() and not (folder / picture).is_symlink():
            files[picture] = read_bytes(folder / picture, PICTURE_LIMIT)
    description = without_paths(description) | {key: value for key, value in given.items() if value}
    description["config_sha256"] = json_sha256(description["config"])
    files[DESCRIPTION] = (json.dumps(description, indent=1) + "\n").encode()
    readme = card(repository, model, license=license, credit=credit, text=linked(text, files), figures=figures)
    return {CARD: readme.encode(), **dict(sorted(files.items()))}


def exported_info(model: Model) -> dict[str, Any]:
    """What the description of an exported model says beside its method and weights. It names the weights that it was
    first exported from, by which results of `pixgraft evaluate` know it."""
    info = {key: value for key, value in model.info.items() if key not in ("format", "method", "weights")}
    return info | {"exported_from_sha256": info.get("exported_from_sha256", model.weights_sha256)}


def card_text(folder: Path) -> str:
    """The card in a model's folder; empty if there is none, or the folder is a run's, whose notes are its owner's."""
    if not (folder / DESCRIPTION).is_file() or not (folder / CARD).is_file():
        return ""
    return read_bytes(folder / CARD, LIMIT).decode(errors="replace")


def without_paths(value: Any) -> Any:
    """Plain values, in which of a path, such as that of the prior in a configuration, only the last part remains."""
    if isinstance(value, dict):
        return {key: without_paths(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_paths(each) for each in value]
    if not isinstance(value, str) or not {"/", "\\"} & set(value):
        return value
    is_sentence = " " in value and not re.match(r"[~./\\]|[A-Za-z]:[/\\]", value)
    if is_sentence or (re.fullmatch(REPOSITORY, value) and not Path(value).exists()):
        return value
    return re.split(r"[/\\]", value.rstrip("/\\"))[-1]


def publish(files: dict[str, bytes], repository: str, *, public: bool, message: str) -> str:
    """Upload files in one commit, into a repository that is made if it is missing, private or `public`; its URL.

    Raises PixgraftError for what the hub refuses, without a token, and if it cannot be reached.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
    if get_token() is None:
        raise PixgraftError(f"{repository}: no token of the hub: `hf auth login`, or set HF_TOKEN")
    try:
        url = api.create_repo(repository, private=not public, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="pixgraft-") as folder:
            for name, data in files.items():
                write_bytes(Path(folder) / name, data)
            api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
    except HfHubHTTPError as error:
        status = error.response.status_code
        refused = REFUSALS.get(status, reason(error))
        raise PixgraftError(f"{repository}: {refused} (HTTP {status})") from None
    except Exception as error:
        # The hub's library has had three HTTP clients, whose errors have no common class.
        named = {each.__name__ for each in type(error).__mro__}
        if isinstance(error, PixgraftError) or not named & {"TransportError", "OSError", "ValueError"}:
            raise
        raise PixgraftError(f"{repository}: not to be uploaded to {api.endpoint} ({reason(error)}): check the "
                            "network, then run it again") from None  # fmt: skip
    return str(url)
