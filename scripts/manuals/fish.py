"""The completion for fish: a line for each option and argument, with the command at which it may stand."""

from __future__ import annotations

from collections.abc import Iterator

from manuals.model import COMMAND_LINE, FILE, FOLDER, LIST, PROCESS, TAGGED_FILE, WORDS, Argument, Command, default

_HEAD = r"""# fish completion for kvmprobe, made by scripts/manual from the parser of its arguments.

# Whether the command line is at one of the commands $argv; at "watch --" it is behind watch's --.
function __kvmprobe_at
    set -l words (commandline -opc)
    set -e words[1]
    set -l at kvmprobe
    for word in $words
        if test "$word" = --
            set at "$at --"
            break
        else if contains -- "$at" @GROUPS@
            if string match -q -- '-*' $word
                test "$at" = kvmprobe; and set at '@DEFAULT@'
            else
                set at "$at $word"
            end
        end
    end
    contains -- "$at" $argv
end

# What stands behind -- is a command line of its own, before which stands $argv.
function __kvmprobe_behind_dashes
    set -l words (commandline -opc)
    set -l at (contains -i -- -- $words)
    set -l line $argv
    test $at -lt (count $words); and set -a line $words[(math $at + 1)..-1]
    complete -C (string join ' ' -- (string escape -- $line) (commandline -ct))
end

# Files that begin with $argv, as for a command that fish knows nothing about.
function __kvmprobe_files
    complete -C "'' $argv"
end

# The word that is being completed, without --option=
function __kvmprobe_current
    string replace -r -- '^--[a-z-]+=' '' (commandline -ct)
end

# Some of $argv with commas between them.
function __kvmprobe_list
    set -l before (string match -r -- '.*,' (__kvmprobe_current))
    for word in $argv
        contains -- $word (string split -- , "$before"); or echo -- "$before$word"
    end
end

# FORMAT:FILE, where the formats are $argv.
function __kvmprobe_tagged
    set -l format (string match -r -- '^[^:]*:' (__kvmprobe_current))
    if test -n "$format"
        printf '%s\n' $format(__kvmprobe_files (string replace -- $format '' (__kvmprobe_current)))
    else
        printf '%s:\n' $argv
    end
end

complete -c kvmprobe -f
"""

_VALUES = {FILE: "-r -F", FOLDER: "-x -a '(__fish_complete_directories)'", PROCESS: "-x -a '(__fish_complete_pids)'"}


def render(top: Command) -> str:
    """The script, to be installed as fish/vendor_completions.d/kvmprobe.fish."""
    checks = default(top)
    groups = " ".join(_quoted(command.name) for command in top.all() if command.commands)
    head = _HEAD.replace("@GROUPS@", groups).replace("@DEFAULT@", checks.name)
    return head + "".join(f"{line}\n" for command in top.all() for line in _lines(command, command is checks))


def _lines(command: Command, is_default: bool) -> Iterator[str]:
    """All that may stand at a command; the options of the default one may stand where none is named, too."""
    alone = _at(command.name)
    here = _at(command.name, "kvmprobe") if is_default else alone
    yield ""
    for below in command.commands:
        yield f"{alone} -a {below.path.split()[-1]} -d {_quoted(below.summary)}"
    for option in command.options:
        names = (f"-l {string[2:]}" if string.startswith("--") else f"-s {string[1:]}" for string in option.strings)
        at = alone if "--help" in option.strings else here  # kvmprobe has a --help of its own
        yield " ".join(filter(None, (at, *names, _value(option), "-d", _quoted(option.help))))
    for value in dict.fromkeys(_value(place, option=False) for place in command.places):
        yield f"{alone} {value}"
    if command.after_dashes:
        kind, of = command.after_dashes
        before = "" if kind == COMMAND_LINE else f" kvmprobe {of}"
        yield f"{_at(command.name + ' --')} -f -a '(__kvmprobe_behind_dashes{before})'"


def _at(*names: str) -> str:
    quoted = " ".join(f'"{name}"' for name in names)
    return f"complete -c kvmprobe -n '__kvmprobe_at {quoted}'"


def _value(argument: Argument, option: bool = True) -> str:
    if argument.value is None:
        return ""
    words = " ".join(argument.words)
    need = "-x" if option else "-f"
    if argument.kind == WORDS:
        return f"{need} -a '{words}'"
    if argument.kind == LIST:
        return f"{need} -a '(__kvmprobe_list {words})'"
    if argument.kind == TAGGED_FILE:
        return f"{need} -a '(__kvmprobe_tagged {words})'"
    if argument.kind == FILE and not option:
        return "-f -a '(__kvmprobe_files (commandline -ct))'"  # before fish 3.2 -F is for options alone
    return _VALUES.get(argument.kind, "-x")


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
