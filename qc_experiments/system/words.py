"""Words that hang on a number."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: ``1 run``, ``1,200 runs``.

    Args:
        count: how many.
        noun: for one.
        plural: for any other number; None adds an s.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
