"""The completions for bash, zsh and fish, written by shtab from the parser.

The scripts contain every command, option and value. They never run kvmprobe.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable

import shtab

from kvmprobe.cli import parser as command_line
from kvmprobe.judge.causes import CAUSES
from kvmprobe.judge.features.feature_table import FEATURES
from kvmprobe.judge.requirements.requirement_table import QUANTITIES, REQUIREMENTS
from kvmprobe.judge.sev import SEV_CAUSES
from kvmprobe.lab.kernels import DEBIAN
from kvmprobe.lab.scenarios import SCENARIOS
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.verdict_status import EXIT_STATUS
from scripts.generators import parser_text

Hook = dict[str, str]  # by shell: the code that completes a value, in the terms of shtab's `.complete`

FILES = {
    "bash": "bash-completion/completions/kvmprobe",
    "zsh": "zsh/site-functions/_kvmprobe",
    "fish": "fish/vendor_completions.d/kvmprobe.fish",
}

_KERNELS = tuple(kernel.suite for kernel in DEBIAN)
_STATUSES = tuple(status.replace(" ", "-") for status in EXIT_STATUS)

# By the name that --help shows for a value: the words it can be. Other values are free text.
_WORDS: dict[str, tuple[str, ...]] = {
    "REASON|CAUSE|FEATURE|REQUIREMENT": tuple(
        dict.fromkeys((*REASONS, *CAUSES, *SEV_CAUSES, *FEATURES, *REQUIREMENTS, *QUANTITIES))
    ),
    "VERDICT|REASON": (*_STATUSES, *REASONS),
    "KERNEL": _KERNELS,
}
_LISTS = {
    "KERNEL,…": ("kernels", _KERNELS),
    "SCENARIO,…": ("scenarios", ("help", *(scenario.name for scenario in SCENARIOS))),
}
# shtab's own hook for fish does not complete the file of --option=FILE.
_FILE = {**shtab.FILE, "fish": "(__fish_complete_path (string replace -r -- '^--[a-z-]+=' '' (commandline -ct)))"}
_PROCESS = {"bash": "_kvmprobe_processes", "zsh": "_pids", "fish": "(__fish_complete_pids)"}
_COMMAND = {"bash": "_kvmprobe_nothing", "zsh": "_kvmprobe_command", "fish": "(__kvmprobe_command)"}
_HOOKS = {
    **dict.fromkeys(("FILE", "VMLINUZ", "REPORT", "OLD", "NEW"), _FILE),
    "DIR": shtab.DIRECTORY,
    "PID": _PROCESS,
    "FORMAT:FILE": {"bash": "_kvmprobe_also", "zsh": " _kvmprobe_also", "fish": "(__kvmprobe_also)"},
}

_BASH = r"""
_kvmprobe_nothing() { :; }
_kvmprobe_processes() { compgen -W "$(cd /proc && echo [0-9]*)" -- "$1"; }
_kvmprobe_also() {
  case $1 in
    *:*) compgen -P "${1%%:*}:" -f -- "${1#*:}" ;;
    *) compgen -S : -W "@FORMATS@" -- "$1" ;;
  esac
}
"""
_BASH_LIST = """
_kvmprobe_@NAME@() {
  local before=
  [[ $1 == *,* ]] && before=${1%,*},
  compgen -P "$before" -W "@WORDS@" -- "${1##*,}"
}
"""
# bash splits the line at = and :, which shtab's function does not expect. bash-completion knows the words as typed.
_BASH_END = r"""
_kvmprobe() {
  local at cur words cword word
  for ((at = 2; at < COMP_CWORD; at++)); do
    [[ ${COMP_WORDS[1]} == watch && ${COMP_WORDS[at]} == -- ]] && { _command_offset $((at + 1)); return; }
  done
  _get_comp_words_by_ref -n : cur words cword || return
  local COMP_WORDS=() COMP_CWORD=-1
  for word in "${words[@]:0:cword+1}"; do
    [[ $word == = ]] || COMP_WORDS[++COMP_CWORD]=$word
  done
  [[ $word == = ]] && COMP_WORDS[++COMP_CWORD]=
  _shtab_kvmprobe
  [[ ${COMPREPLY[0]-} == *: ]] && compopt -o nospace
  __ltrim_colon_completions "$cur"
}
complete -F _kvmprobe kvmprobe
"""
_ZSH = r"""
_kvmprobe_also() {
  if compset -P '*:'; then _files; else compadd -S : -- @FORMATS@; fi
}
_kvmprobe_command() {
  local -i dashes=$words[(i)--]
  (( dashes < CURRENT )) || return
  shift $dashes words
  (( CURRENT -= dashes ))
  _normal
}
"""
_FISH = r"""
function __kvmprobe_also
  set -l word (string replace -r -- '^--[a-z-]+=' '' (commandline -ct))
  set -l format (string match -r -- '^[^:]*:' $word)
  if test -n "$format"
    printf '%s\n' $format(__fish_complete_path (string replace -- $format '' $word))
  else
    printf '%s:\n' @FORMATS@
  end
end
function __kvmprobe_command
  set -l words (commandline -opc)
  if set -l at (contains -i -- -- $words)
    set -l line $words[(math $at + 1)..-1]
    complete -C (string join ' ' -- (string escape -- $line) (commandline -ct))
  end
end
"""


def render(shell: str) -> str:
    """The script for `shell`, one of FILES."""
    top = command_line.parser()
    commands = parser_text.commands(top)
    _add_missing(top, commands["check"])  # without a command it is check
    # What follows -- is not an argument of the parser.
    commands["watch"].add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    actions = dict.fromkeys(action for parser in (top, *commands.values()) for action in parser._actions)
    for action in actions:
        _attach(action)
    formats = next(action.choices for action in actions if "--format" in action.option_strings)
    preamble = {"bash": _BASH + "".join(map(_bash_list, _LISTS)), "zsh": _ZSH, "fish": _FISH}[shell]
    preamble = preamble.replace("@FORMATS@", " ".join(map(str, formats or ())))
    if shell == "zsh":
        _spell_for_zsh(actions)
    script: str = shtab.complete(top, shell, preamble=preamble)
    return {"bash": script + _BASH_END, "zsh": _correct_zsh(script), "fish": script}[shell]


def _correct_zsh(script: str) -> str:
    """Corrects what shtab's script for zsh asks _arguments for.

    "(*)" becomes "*": shtab means any number of arguments, _arguments means one. A group's own options end at the name
    of the command: without -A, its --exit-status would complete that of the command.
    """
    script = script.replace('"(*)', '"*')
    return re.sub(r"^  _arguments -C -s (?=\$)", "  _arguments -C -s -A '-*' ", script, flags=re.MULTILINE)


def _spell_for_zsh(actions: Iterable[argparse.Action]) -> None:
    """Writes --option= where an option takes a value: shtab gives the names to zsh's _arguments as they are."""
    for action in actions:
        if action.nargs != 0:
            action.option_strings = [f"{name}=" if name.startswith("--") else name for name in action.option_strings]
        if isinstance(action.metavar, str):
            action.metavar = action.metavar.replace(":", " ")


def _add_missing(parser: argparse.ArgumentParser, other: argparse.ArgumentParser) -> None:
    known = {string for action in parser._actions for string in action.option_strings}
    for action in other._actions:
        if action.option_strings and not known.intersection(action.option_strings):
            parser._add_action(action)


def _attach(action: argparse.Action) -> None:
    """Attaches to one argument what its value can be."""
    name = action.metavar if isinstance(action.metavar, str) else ""
    if name in _WORDS:
        action.choices = _WORDS[name]
    elif name in _LISTS:
        action.complete = _list(name)  # type: ignore[attr-defined]
    elif name == "COMMAND" and action.nargs == argparse.REMAINDER:
        action.complete = _COMMAND  # type: ignore[attr-defined]
    elif name in _HOOKS:
        action.complete = _HOOKS[name]  # type: ignore[attr-defined]


def _list(name: str) -> Hook:
    """Some of the words, with commas between them."""
    function, words = _LISTS[name][0], " ".join(_LISTS[name][1])
    return {
        "bash": f"_kvmprobe_{function}",
        "zsh": f"_values -s , {function} {words}",
        "fish": f"(__fish_append , {words})",
    }


def _bash_list(name: str) -> str:
    function, words = _LISTS[name]
    return _BASH_LIST.replace("@NAME@", function).replace("@WORDS@", " ".join(words))
