"""Real shells that complete command lines: bash and zsh on a terminal, fish with `complete -C`."""

from __future__ import annotations

import os
import pty
import select
import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Union

from tests.helpers.run_kvmprobe import DEADLINE_S

_READY = b"ready> "
# Runs in place of kvmprobe and records its arguments. So a call during completion would be noticed too.
_STAND_IN = """
kvmprobe() { printf '%s\\n' "$@" END >>"$ANSWERS"; }
sudo() { "$@"; }
"""

# Ctrl-X a in both shells inserts all completions into the line; then Enter runs the stand-in with them.
_ALL = b"\x18a"
_BASH = f"""
PS1='' PS2=''
. /usr/share/bash-completion/bash_completion
{_STAND_IN}
bind 'set bell-style none' 'set enable-bracketed-paste off'
bind '"\\C-xa": insert-completions'
PS1='ready> '
"""
_ZSH = f"""
setopt no_beep no_prompt_cr no_prompt_sp
fpath=($SHARE/zsh/site-functions $fpath)
autoload -Uz compinit && compinit -D -u
zle -C all-matches complete-word _generic
bindkey '^Xa' all-matches
zstyle ':completion:all-matches::::' completer _all_matches _complete
zstyle ':completion:all-matches:*' insert true
unset zle_bracketed_paste
{_STAND_IN}
PROMPT='ready> '
"""


class Terminal:
    """A shell on its own terminal, in `folder`, with the completions in `share`."""

    def __init__(self, arguments: Sequence[str], start: str, share: Path, folder: Path) -> None:
        self._answers = folder.parent / f"answers-{arguments[0]}"
        startup = folder.parent / f"startup-{arguments[0]}"
        startup.write_text(start)
        environment = {
            "PATH": os.defpath,
            "HOME": str(folder.parent),
            "TERM": "dumb",
            "LC_ALL": "C.UTF-8",
            "SHARE": str(share),
            "XDG_DATA_DIRS": f"{share}:/usr/local/share:/usr/share",
            "ANSWERS": str(self._answers),
        }
        mine, theirs = pty.openpty()
        self._fd = mine
        self._shell = subprocess.Popen(
            arguments, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment, start_new_session=True
        )
        os.close(theirs)
        os.write(mine, f" . {shlex.quote(str(startup))}\n".encode())
        self._until_ready()

    def complete(self, line: str) -> set[str]:
        """The words that complete the end of `line`; files as the command would get them."""
        self._answers.write_text("")
        os.write(self._fd, line.encode() + _ALL)
        os.write(self._fd, b"\n")
        output = self._until_ready()
        answers = self._answers.read_text().splitlines()
        assert answers.count("END") == 1, f"{line!r}: kvmprobe ran {answers.count('END')} times: {output!r}"
        typed = shlex.split(line)
        arguments = len(typed) - typed.index("kvmprobe") - 1
        return set(answers[arguments - (not line.endswith(" ")) : -1])

    def close(self) -> None:
        """Ends the shell."""
        os.close(self._fd)
        try:
            self._shell.wait(DEADLINE_S)
        finally:
            self._shell.kill()
            self._shell.wait()

    def _until_ready(self) -> bytes:
        output = b""
        ends = time.monotonic() + DEADLINE_S
        while _READY not in output:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, ends - time.monotonic()))
            assert ready, f"no prompt: {output!r}"
            output += os.read(self._fd, 65536)
        return output


class Fish:
    """fish with its own `complete -C`."""

    def __init__(self, share: Path, folder: Path) -> None:
        self._script = share / "fish/vendor_completions.d/kvmprobe.fish"
        self._folder = folder

    def complete(self, line: str) -> set[str]:
        """The words that complete the end of `line`."""
        ask = f"function sudo; end; source {shlex.quote(str(self._script))}; complete -C {shlex.quote(line)}"
        done = subprocess.run(
            ["fish", "--private", "-c", ask],
            capture_output=True,
            text=True,
            cwd=self._folder,
            env={"PATH": os.defpath, "HOME": str(self._folder.parent), "LC_ALL": "C.UTF-8"},
            timeout=DEADLINE_S,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        answers = {answer.split("\t")[0].replace("\\", "") for answer in done.stdout.splitlines()}
        return {answer for answer in answers if answer.startswith(line.split(" ")[-1])}  # fish 3.1 adds similar ones

    def close(self) -> None:
        """Nothing runs."""


Shell = Union[Terminal, Fish]


def start(name: str, share: Path, folder: Path) -> Shell:
    """Starts the shell `name` in `folder`, with the completions in `share`."""
    if name == "fish":
        return Fish(share, folder)
    if name == "zsh":
        return Terminal(("zsh", "-f", "-i"), _ZSH, share, folder)
    return Terminal(("bash", "--norc", "--noprofile", "-i"), _BASH, share, folder)
