"""The two ways a run can say no.

Everything a user can cause is an `InputError`; everything a measurement must refuse to put a
number on is a `Refusal`. Any other exception is a defect of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """What was given cannot be used. The command line prints it on one line and exits with 2.

    Args:
        where: `file:line:column: dotted.path`, or the argument's name.
        got: what was found there, as the user wrote it.
        expected: what would have been accepted.
        do: what to change, where that is not plain from `expected`.
    """

    def __init__(self, where: str, got: object, expected: str, do: str = "") -> None:
        self.where, self.got, self.expected, self.do = where, str(got), expected, do
        text = f"{where}: got {got}; expected {expected}" + (f". {do}" if do else "")
        # One line, whatever a file's name or a key may hold.
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))

    def __reduce__(self):
        return type(self), (self.where, self.got, self.expected, self.do)


class Refusal(Exception):
    """A measurement or a training that must not yield a number; the record carries the reason.

    `status` is `"failed"` (training broke) or `"undecided"` (it ran, but the figure would mean
    nothing).
    """

    def __init__(self, reason: str, status: str = "failed") -> None:
        self.reason, self.status = reason, status
        super().__init__(reason)

    def __reduce__(self):
        return type(self), (self.reason, self.status)


def nearest(word: str, known: Iterable[str]) -> str:
    """`"did you mean 'width'? "` for the known name closest to `word`, or an empty string."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean '{match[0]}'?" if match else ""
