"""A hint as people read it: what they do in numbered steps, with commands on lines of their own; statements plain."""

from __future__ import annotations

import re
from collections.abc import Iterator

# A sentence ends before a space and a capital letter, and never within a command in backticks.
_SENTENCE = re.compile(r"((?:`[^`]*`|.)+?(?:[.!?](?=\s+[A-Z`'])|$))\s*")
# A command has arguments, and it does not begin the sentence (unless it is all of it) or stand in parentheses. Other
# names in backticks stay in their sentence.
_COMMAND = re.compile(r"(?:(?<=\s)|^(?=`[^`]*`\W*$))`([A-Za-z/][^`]* [^`]*)`[.,;:]?")

# What the reader does begins with one of these verbs, perhaps after one of the words of _BEFORE, or after a condition.
_VERBS = frozenset(
    "add allow ask boot change check choose correct create disable do edit enable end find follow free get give have "
    "install keep load look make mount power raise read reboot reload remount remove report resize run save see select "
    "set show sign start stop switch trust turn unload update use watch write".split()
)
_BEFORE = frozenset("then else also or".split())
_CONDITIONS = frozenset("if where on in with for to until as after before while".split())


def sentences(hint: str) -> list[str]:
    """The sentences of a hint (one line). Their commands are still in backticks."""
    return [match[1] for match in _SENTENCE.finditer(hint)]


def parts(sentence: str) -> list[tuple[str, bool]]:
    """A sentence in pieces: text, and whether it is a command, which is to stand on a line of its own."""
    pieces = ((piece.strip(), index % 2 == 1) for index, piece in enumerate(_COMMAND.split(sentence)))
    return [(text, is_command) for text, is_command in pieces if text]


def is_action(sentence: str) -> bool:
    """Whether a sentence is something that the reader does, in place of a statement."""
    return _is_request(sentence) or any(is_command for _, is_command in parts(sentence))


def _is_request(sentence: str) -> bool:
    words = sentence.split()
    while words and _plain(words[0]) in _BEFORE:
        words = words[1:]
    if words and _plain(words[0]) in _CONDITIONS:
        before = zip(words, words[1:])
        return any(word[-1] in ",:" and _plain(following) in _VERBS for word, following in before)
    return bool(words) and _plain(words[0]) in _VERBS


def _plain(word: str) -> str:
    return word.rstrip(",.:;").lower()


def lines(hint: str, numbered: bool) -> Iterator[tuple[str, str]]:
    """The lines of a hint: what stands before each, and its text.

    `numbered`: actions have numbers where there are several. A statement between two of them stands below the first;
    others stand as they are.
    """
    found = [(sentence, numbered and is_action(sentence)) for sentence in sentences(hint)]
    count = sum(is_step for _, is_step in found)
    number = 0
    for sentence, is_step in found:
        number += is_step
        mark = f"{number}. " if is_step and count > 1 else " " * len(f"{number}. ") if 0 < number < count else ""
        for text, is_command in parts(sentence):
            yield f"  {mark}{'    ' if is_command else ''}", text
            mark = " " * len(mark)
