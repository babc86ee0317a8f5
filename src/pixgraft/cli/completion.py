"""Shell completion, made from the verbs' own functions: verbs, options, presets and bundled models."""

import dataclasses
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from pixgraft.cli.app import Verbs, app

Shell = Literal["bash", "zsh", "fish"]


@dataclass(frozen=True)
class Words:
    """What may follow a verb: names in the first place, and options."""

    names: tuple[str, ...]
    options: tuple[str, ...]


@app.command
def completion(shell: Positional[Shell], /) -> int:
    """Print a script for your shell by which the tab key completes verbs, options, presets and bundled models.

    bash: add `source <(pixgraft completion bash)` to ~/.bashrc. zsh: the same with zsh, in ~/.zshrc after compinit.
    fish: pixgraft completion fish > ~/.config/fish/completions/pixgraft.fish

    Args:
        shell: The shell.
    """
    from pixgraft.engine.terminal import Terminal

    verbs, groups = _words(app), {name: _words(each) for name, each in app.groups.items()}
    terminal = Terminal()
    for line in (_fish(verbs, groups) if shell == "fish" else _bash(verbs, groups, zsh=shell == "zsh")).splitlines():
        terminal.say(line)
    return 0


def _words(verbs: Verbs) -> dict[str, Words]:
    """What may follow each verb."""
    return {name: _of(function) for name, function in verbs.functions.items()}


def _of(function: Callable[..., int]) -> Words:
    from pixgraft.cli.use import OPTIONS
    from pixgraft.models import bundled
    from pixgraft.pipelines.options import RunOptions
    from pixgraft.presets import PRESETS

    hints = typing.get_type_hints(function, include_extras=True)
    names: list[str] = []
    options: list[str] = []
    for name, parameter in inspect.signature(function).parameters.items():
        described = getattr(hints[name], "__metadata__", ())
        kind = hints[name].__origin__ if described else hints[name]
        if dataclasses.is_dataclass(kind):
            options += [field.name for field in dataclasses.fields(kind)]
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            options.append(next((each.name for each in described if getattr(each, "name", None)), name))
        elif not names:
            shown = {str(getattr(each, "metavar", "")) for each in described}
            names += bundled() if shown & {"MODEL", "[MODEL]"} else []
            names += PRESETS if shown & {"PRESET", "[MODEL]"} else []
            names += [*typing.get_args(kind)] if typing.get_origin(kind) is Literal else []
    if function.__name__ == "translate":
        options += [field.name for each in (*OPTIONS.values(), RunOptions) for field in dataclasses.fields(each)]
    flags = tuple(f"--{each.replace('_', '-')}" for each in dict.fromkeys(options))
    return Words(tuple(names), (*flags, "--help"))


def _bash(verbs: dict[str, Words], groups: dict[str, dict[str, Words]], *, zsh: bool) -> str:
    """A function for bash; zsh has a layer for those."""
    cases = [_case(name, words) for name, words in verbs.items()]
    for group, inner in groups.items():
        cases += [_case(f"{group} {name}", words) for name, words in inner.items()]
        cases.append(f'    "{group} "*) place=2; names="{" ".join(inner)}";;')
    layer = "autoload -U +X bashcompinit && bashcompinit\n" * zsh
    first = " ".join([*verbs, *groups])
    return f"""{layer}_pixgraft() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" names="" options="" place=2
  case "${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}}" in
{chr(10).join(cases)}
  esac
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W "{first} --version --help" -- "$current"))
  elif [ "$COMP_CWORD" -eq "$place" ] && [ "${{current#-}}" = "$current" ]; then
    COMPREPLY=($(compgen -W "$names" -- "$current"))
  elif [ "${{current#-}}" != "$current" ]; then COMPREPLY=($(compgen -W "$options" -- "$current"))
  fi
}}
complete -o default -F _pixgraft pixgraft"""


def _case(name: str, words: Words) -> str:
    """A line of the function: what may follow these verbs."""
    place = 2 + name.count(" ")
    pattern = f'"{name} "*' if place == 2 else f'"{name}"'
    return f'    {pattern}) place={place}; names="{" ".join(words.names)}"; options="{" ".join(words.options)}";;'


def _fish(verbs: dict[str, Words], groups: dict[str, dict[str, Words]]) -> str:
    """Lines of `complete` for fish."""
    seen = "__fish_seen_subcommand_from"
    lines = [f"complete -c pixgraft -f -n __fish_use_subcommand -a '{' '.join([*verbs, *groups])}'"]
    places = {f"{seen} {name}": words for name, words in verbs.items()}
    for group, inner in groups.items():
        lines.append(
            f"complete -c pixgraft -f -n '{seen} {group}; and not {seen} {' '.join(inner)}' -a '{' '.join(inner)}'"
        )
        places |= {f"{seen} {group}; and {seen} {name}": words for name, words in inner.items()}
    for condition, words in places.items():
        lines += [f"complete -c pixgraft -n '{condition}' -a '{' '.join(words.names)}'"] * bool(words.names)
        lines += [f"complete -c pixgraft -n '{condition}' -l {option[2:]}" for option in words.options]
    return "\n".join(lines)
