"""A hint as steps that a reader can follow: one sentence for each step, its commands on lines of their own."""

from __future__ import annotations

import re

# A sentence ends before a space and a capital letter, and never within a command in backticks.
_SENTENCE = re.compile(r"((?:`[^`]*`|.)+?(?:[.!?](?=\s+[A-Z`'])|$))\s*")
# A command has arguments, and it does not begin the sentence (unless it is all of it) or stand in parentheses. Other
# names in backticks stay in their sentence.
_COMMAND = re.compile(r"(?:(?<=\s)|^(?=`[^`]*`\W*$))`([A-Za-z/][^`]* [^`]*)`[.,;:]?")


def steps(hint: str) -> list[str]:
    """The sentences of a hint (one line). Their commands are still in backticks."""
    return [match[1] for match in _SENTENCE.finditer(hint)]


def parts(step: str) -> list[tuple[str, bool]]:
    """A sentence in pieces: text, and whether it is a command, which is to stand on a line of its own."""
    pieces = ((piece.strip(), index % 2 == 1) for index, piece in enumerate(_COMMAND.split(step)))
    return [(text, is_command) for text, is_command in pieces if text]
