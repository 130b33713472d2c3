"""Makes a git history, one commit for each content of its only file, and bisects it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path


class GitHistory:
    """A repository in `folder`. Commit N is called "commit N" and has the content N in the file `file`."""

    def __init__(self, folder: Path, contents: Sequence[str], file: str) -> None:
        self._folder = folder
        self._first = f"HEAD~{len(contents) - 1}"
        self._git("init", "-q")
        for number, content in enumerate(contents):
            (folder / file).write_text(f"{content}\n{number}\n")
            self._git("add", file)
            self._git("commit", "-qm", f"commit {number}")

    def first_bad(self, *command: str) -> str:
        """The commit that `git bisect run` finds with a command, between the first and the last commit."""
        self._git("bisect", "start", "HEAD", self._first)
        self._git("bisect", "run", *command)
        return self._git("show", "-s", "--format=%s", "refs/bisect/bad").strip()

    def _git(self, *arguments: str) -> str:
        settings = ("user.name=tester", "user.email=tester@example.org", "commit.gpgsign=false")
        options = [option for setting in settings for option in ("-c", setting)]
        done = subprocess.run(["git", *options, *arguments], cwd=self._folder, capture_output=True, text=True)
        assert done.returncode == 0, done
        return done.stdout
