"""Cases of a test that `make test-slow` alone runs."""

from __future__ import annotations

from typing import Any

import pytest


def then_slow(first: Any, *others: Any) -> list[Any]:
    """Values for ``pytest.mark.parametrize``, of which only the first is in `make test`."""
    return [first, *(pytest.param(one, marks=pytest.mark.slow) for one in others)]
