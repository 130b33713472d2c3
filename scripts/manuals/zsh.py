"""The completion for zsh: a function for each command, which gives zsh's _arguments what the command takes."""

from __future__ import annotations

from collections.abc import Iterator

from manuals.model import (
    COMMAND_LINE,
    FILE,
    FOLDER,
    LIST,
    PROCESS,
    TAGGED_FILE,
    WORDS,
    Argument,
    Command,
    default,
)

_HEAD = """\
#compdef kvmprobe
# zsh completion for kvmprobe, made by scripts/manual from the parser of its arguments.

# FORMAT:FILE, where the formats are $@.
__kvmprobe_tagged() {
  if compset -P '*:'; then _files; else compadd -S : -- $@; fi
}
"""

_FOOT = """
if [[ $funcstack[1] == _kvmprobe ]]; then
  _kvmprobe "$@"
else
  compdef _kvmprobe kvmprobe
fi
"""

_ACTIONS = {FILE: "_files", FOLDER: "_files -/", PROCESS: "_pids"}


def render(top: Command) -> str:
    """The script, to be installed as zsh/site-functions/_kvmprobe."""
    return _HEAD + "".join(_function(command, default(top)) for command in reversed([*top.all()])) + _FOOT


def _function(command: Command, checks: Command) -> str:
    body = _of_group(command, checks) if command.commands else _of_command(command)
    return f"\n{_name(command.path)}() {{\n" + "".join(f"  {line}\n" for line in body) + "}\n"


def _name(path: str) -> str:
    return "_".join(("_kvmprobe", *path.split()))


def _of_group(group: Command, checks: Command) -> Iterator[str]:
    """A command that has commands: its word is $words[1], theirs $words[2]."""
    top = not group.path
    known = {string for option in checks.options for string in option.strings} if top else ()
    more = [option for option in group.options if not set(option.strings).intersection(known)]
    options = " ".join(_quoted(spec) for option in more for spec in _option(option))
    yield "if (( CURRENT == 2 )) && [[ $PREFIX != -* ]]; then"
    yield "  local -a commands=("
    for command in group.commands:
        yield f"    {_quoted(_escaped(command.path.split()[-1], ':') + ':' + command.summary)}"
    yield "  )"
    yield "  _describe command commands"
    yield "elif [[ $words[2] == -* ]]; then"
    yield f"  {_name(checks.path)} {options}" if top else f"  _arguments -S : {options}"
    yield f"elif (( $+functions[{_name(group.path)}_$words[2]] )); then"
    yield "  shift words; (( CURRENT-- ))"
    yield f"  {_name(group.path)}_$words[1]"
    yield "fi"


def _of_command(command: Command) -> Iterator[str]:
    """A command that is run: its word is $words[1]. Its caller may give options besides its own."""
    if command.after_dashes:
        kind, of = command.after_dashes
        yield "local -i dashes=$words[(ie)--]"
        yield "if (( dashes < CURRENT )); then"
        if kind == COMMAND_LINE:
            yield "  shift $dashes words; (( CURRENT -= dashes ))"
            yield "  _normal"
        else:
            yield f'  words=({of} "${{(@)words[dashes+1,-1]}}"); (( CURRENT -= dashes - 1 ))'
            yield f"  {_name(of)}"
        yield "  return"
        yield "fi"
    yield "_arguments -s -S : \\"
    for option in command.options:
        for spec in _option(option):
            yield f"  {_quoted(spec)} \\"
    for number, place in enumerate(command.places, 1):
        where = "*" if place.many else f"{number}{'' if place.required else ':'}"
        yield f"  {_quoted(f'{where}:{_value(place)}')} \\"
    yield '  "$@"'


def _option(option: Argument) -> Iterator[str]:
    """Its specifications, as zshcompsys(1) describes them: one for each way to write it."""
    others = "" if option.many else " ".join(option.strings)
    excluded = f"{others} {' '.join(sorted(option.rivals))}".strip()
    for string in option.strings:
        value = "" if option.value is None else f":{_value(option)}"
        takes = "" if option.value is None else "=" if string.startswith("--") else "+"
        front = f"({excluded})" if excluded else ""
        yield f"{front}{'*' if option.many else ''}{string}{takes}[{_escaped(option.help, '[]')}]{value}"


def _value(argument: Argument) -> str:
    words = " ".join(argument.words)
    message = _escaped(argument.value or "", ":")
    if argument.kind == WORDS:
        return f"{message}:({words})"
    if argument.kind == LIST:
        return f"{message}:_values -s , {message} {words}"
    if argument.kind == TAGGED_FILE:
        return f"{message}: __kvmprobe_tagged {words}"  # the blank: nothing is added to the words
    return f"{message}:{_ACTIONS.get(argument.kind, ' ')}"


def _escaped(text: str, characters: str) -> str:
    return "".join(f"\\{char}" if char in f"\\{characters}" else char for char in text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
