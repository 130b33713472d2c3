"""The completion for bash: tables of what may stand where, and one function that looks things up in them.

It uses bash-completion, which is what loads it, and never runs kvmprobe.
"""

from __future__ import annotations

from collections.abc import Iterator

from manuals.model import ARGUMENTS, LIST, TAGGED_FILE, WORDS, Argument, Command, default

_SCRIPT = r"""# bash completion for kvmprobe, made by scripts/manual from the parser of its arguments.

_kvmprobe()
{
    local cur prev words cword split
    _init_completion -s -n : || return

    # What each command takes: commands, options, and "COMMAND OPTION", "COMMAND NUMBER" (* is any) and "COMMAND --".
    local -A commands=(
@COMMANDS@
    )
    local -A options=(
@OPTIONS@
    )
    local -A takes=(
@TAKES@
    )

    local at=kvmprobe i=1
    while [[ ${commands[$at]-} && $i -lt $cword && ${words[i]} != -* ]]; do
        at+=" ${words[i++]}"
    done
    [[ $at == kvmprobe && $i -lt $cword ]] && at='@DEFAULT@'

    # What stands before the word in question: an option that wants a value, how many arguments, --
    local value='' number=1 options_end=''
    for (( ; i < cword; i++ )); do
        if [[ $value ]]; then
            value=''
        elif [[ ${words[i]} == -- ]]; then
            case ${takes[$at --]-} in
                command) # whose place is that in COMP_WORDS, where = and : are words of their own
                    for (( i = 1; i < COMP_CWORD; i++ )); do [[ ${COMP_WORDS[i]} == -- ]] && break; done
                    _command_offset $((i + 1))
                    return
                    ;;
                arguments*) at="kvmprobe ${takes[$at --]#* }" ;;
                *) options_end=1 ;;
            esac
        elif [[ ${words[i]} == -* && ! $options_end ]]; then
            value=${takes[$at ${words[i]}]-}
        else
            (( number++ ))
        fi
    done
    [[ $split == true ]] && value=${takes[$at $prev]-}

    if [[ ! $value ]]; then
        if [[ ${commands[$at]-} && $cur != -* ]]; then
            value="words ${commands[$at]}"
        elif [[ $cur != -* || $options_end ]]; then
            value=${takes[$at $number]-${takes[$at *]-}}
        fi
        [[ $value ]] || value="words ${options[$at]-}"
    fi
    local known=${value#* }
    case $value in
        words*) mapfile -t COMPREPLY < <(compgen -W "$known" -- "$cur") ;;
        list*)
            compopt -o nospace
            local before='' word
            [[ $cur == *,* ]] && before=${cur%,*},
            for word in ${before//,/ }; do known=" $known "; known=${known/ $word / }; done
            mapfile -t COMPREPLY < <(compgen -P "$before" -W "$known" -- "${cur##*,}")
            ;;
        tagged*)
            if [[ $cur == *:* ]]; then
                local format=${cur%%:*}
                cur=${cur#*:}
                _filedir
                [[ $COMP_WORDBREAKS == *:* ]] || COMPREPLY=("${COMPREPLY[@]/#/$format:}")
            else
                compopt -o nospace
                mapfile -t COMPREPLY < <(compgen -S : -W "$known" -- "$cur")
            fi
            ;;
        file) _filedir ;;
        folder) _filedir -d ;;
        process) _pids ;;
    esac
} &&
    complete -F _kvmprobe kvmprobe
"""


def render(top: Command) -> str:
    """The script, to be installed as bash-completion/completions/kvmprobe."""
    checks = default(top)
    commands = {command.name: " ".join(below.name.split()[-1] for below in command.commands) for command in top.all()}
    options = {command.name: _options(command) for command in top.all()}
    options[top.name] = " ".join(dict.fromkeys(f"{options[top.name]} {_options(checks)}".split()))
    takes = {f"{command.name} {key}": value for command in top.all() for key, value in _takes(command)}
    takes.update((f"{top.name} {key}", value) for key, value in _takes(checks) if key.startswith("-"))
    script = _SCRIPT.replace("@DEFAULT@", checks.name)
    for name, table in (("@COMMANDS@", commands), ("@OPTIONS@", options), ("@TAKES@", takes)):
        rows = "\n".join(f"        ['{key}']='{value}'" for key, value in table.items() if value)
        script = script.replace(name, rows)
    return script


def _options(command: Command) -> str:
    dashes = ["--"] if command.after_dashes else []
    return " ".join([string for option in command.options for string in option.strings] + dashes)


def _takes(command: Command) -> Iterator[tuple[str, str]]:
    for option in command.options:
        if option.value is not None:
            yield from ((string, _kind(option)) for string in option.strings)
    for number, place in enumerate(command.places, 1):
        yield "*" if place.many else str(number), _kind(place)
    if command.after_dashes:
        kind, of = command.after_dashes
        yield "--", f"{ARGUMENTS} {of}" if kind == ARGUMENTS else kind


def _kind(argument: Argument) -> str:
    return " ".join((argument.kind, *argument.words)) if argument.kind in (WORDS, LIST, TAGGED_FILE) else argument.kind
