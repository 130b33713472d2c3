"""Lines of the text report: how they wrap, and what of them is coloured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kvmprobe.model.printable import BOLD, clean, paint, wrap

_NARROWEST = 40  # columns: on a narrower terminal the words matter more than the edge


_UNBROKEN = "\N{NO-BREAK SPACE}"  # `clean` lets none through, so it can stand for a space at which no line breaks
_SHORT = 45  # characters of a text that need not be broken


class Line:
    """One line, cleaned. `hang`: where it goes on below its beginning, in columns, if it has to be wrapped.

    The first `painted` characters are in `colour`.
    """

    def __init__(self, text: str, hang: int = 2, painted: int = 0, colour: str = "") -> None:
        self.text = clean(text)
        self.hang = hang
        self.painted = painted
        self.colour = colour


def packed(title: str, texts: Iterable[str]) -> Line:
    """A line with a title and several texts. Where it is wrapped, it breaks between short texts, not within them."""
    line = heading(title)
    cleaned = (clean(text) for text in texts)
    line.text += " " + "; ".join(text.replace(" ", _UNBROKEN) if len(text) <= _SHORT else text for text in cleaned)
    return line


def heading(text: str) -> Line:
    """The line above a section."""
    return Line(text, painted=len(text), colour=BOLD)


def rendered(lines: Iterable[Line], colour: bool, width: int | None) -> Iterator[str]:
    """The lines as they are printed: wrapped where `width` is a number of columns, coloured where that is wanted."""
    for line in lines:
        first, *others = wrap(line.text, width and max(width, _NARROWEST), rest=" " * min(line.hang, _NARROWEST // 2))
        first = paint(first[: line.painted], line.colour, colour) + first[line.painted :]
        yield from (text.replace(_UNBROKEN, " ") for text in (first, *others))
