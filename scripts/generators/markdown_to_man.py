"""Converts the subset of Markdown that docs/kvmprobe.8.md uses to man(7), in ASCII: for man-db with groff, and mandoc.

The subset: headings of two levels, paragraphs, a backslash at the end of a line for a line break, fenced code without
empty lines, comments, and definition lists. A definition is a term on one line, then ":   " and its text; further
paragraphs of the text are indented by four spaces. Within a line: **bold**, *italic*, `literal` (bold), and a backslash
before a character that stands for itself.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

_ROFF = {
    "\\": r"\e",
    "-": r"\-",  # groff would print a typographic hyphen, which nobody can search for or paste
    "'": r"\(aq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
    "\u2026": "...",
    "\u2192": r"\(->",
}
_INLINE = re.compile(r"\\(?P<plain>.)|\*\*(?P<bold>.+?)\*\*|\*(?P<italic>.+?)\*|`(?P<literal>[^`]+)`")
_FONT = {"plain": "%s", "bold": r"\fB%s\fR", "italic": r"\fI%s\fR", "literal": r"\fB%s\fR"}
_WIDTH = 80  # of a line in the source; man breaks lines anew


def convert(markdown: str) -> str:
    """The text as man(7), without the line .TH: that is the caller's."""
    lines: list[str] = []
    for block in re.split(r"\n(?:[ \t]*\n)+", markdown.strip()):
        lines.extend(_block(block, after_heading=bool(lines) and lines[-1].startswith((".SH", ".SS"))))
    return "".join(f"{line}\n" for line in lines)


def escape(text: str) -> str:
    """`text` as Markdown in which no character is interpreted."""
    return re.sub(r"([\\*`])", r"\\\1", text)


def _block(block: str, after_heading: bool) -> Iterator[str]:
    first, _, rest = block.partition("\n")
    if first.startswith("<!--"):
        return
    if first.startswith("# "):
        yield f".SH {_inline(first[2:])}"
    elif first.startswith("## "):
        yield f'.SS "{_inline(first[3:])}"'
    elif first.startswith("```"):
        yield from (".PP", ".RS 4", ".nf", *map(_escaped, rest.splitlines()[:-1]), ".fi", ".RE")
    elif rest.startswith(":   "):
        yield from (".TP", _inline(first), *_prose(rest[1:]))
    else:
        if first.startswith("    "):
            yield ".IP"
        elif not after_heading:
            yield ".PP"
        yield from _prose(block)


def _prose(text: str) -> Iterator[str]:
    for number, part in enumerate(text.split("\\\n")):
        if number:
            yield ".br"
        words = " ".join(part.split())
        for line in textwrap.wrap(_inline(words), _WIDTH, break_long_words=False, break_on_hyphens=False):
            yield rf"\&{line}" if line.startswith(".") else line


def _inline(text: str) -> str:
    roff, end = "", 0
    for match in _INLINE.finditer(text):
        (font, marked), *_ = ((name, found) for name, found in match.groupdict().items() if found is not None)
        roff += _escaped(text[end : match.start()]) + _FONT[font] % _escaped(marked)
        end = match.end()
    return roff + _escaped(text[end:])


def _escaped(text: str) -> str:
    return "".join(_ROFF.get(char) or (char if char.isascii() else rf"\[u{ord(char):04X}]") for char in text)
