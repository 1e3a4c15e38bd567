"""Rates with intervals, and whether two systems differ by more than chance on the same questions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

Z_95 = 1.959963984540054
"""Standard normal quantile of a two-sided 95 % interval."""
LEVEL = 0.05
"""Chance of a false "better" that a test may have, over all comparisons of a group."""
POWER = 0.8
"""Chance of a true difference to show, for `Paired.needed`."""


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Lower and upper end of the 95 % score interval of a share (Wilson 1927).

    Args:
        hits: how often it was so.
        count: how often it was measured; at least 1.
    """
    p = hits / count
    centre = (p + Z_95**2 / (2 * count)) / (1 + Z_95**2 / count)
    half = Z_95 * math.sqrt(p * (1 - p) / count + Z_95**2 / (4 * count**2)) / (1 + Z_95**2 / count)
    # At 0 and 1 the ends are exact; rounding would leave 1e-17 beside them.
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    high = 1.0 if hits == count else min(1.0, centre + half)
    return low, high


@dataclass(frozen=True)
class Rate:
    """A share with its count and its 95 % interval.

    Attributes:
        hits: how often it was so.
        count: how often it was measured.
    """

    hits: int
    count: int

    @property
    def value(self) -> float | None:
        """Hits over count; None when nothing was counted."""
        return self.hits / self.count if self.count else None

    def interval(self) -> tuple[float, float] | tuple[None, None]:
        """Lower and upper end of the score interval (Wilson 1927)."""
        return wilson(self.hits, self.count) if self.count else (None, None)

    def plain(self) -> dict[str, float | int | None]:
        """As it stands in ``report.json``."""
        low, high = self.interval()
        return {
            "value": self.value,
            "hits": self.hits,
            "count": self.count,
            "low": low,
            "high": high,
        }


@dataclass(frozen=True)
class Mean:
    """A mean that is no share, and so has no interval of ours.

    Attributes:
        value: the mean; None when nothing was counted.
        count: how often it was measured.
    """

    value: float | None
    count: int
    hits: None = None

    def interval(self) -> tuple[None, None]:
        """None: the outcomes' spread is not known."""
        return None, None

    def plain(self) -> dict[str, float | int | None]:
        """As it stands in ``report.json``."""
        return dict.fromkeys(("value", "hits", "count", "low", "high")) | {
            "value": self.value,
            "count": self.count,
        }


def rate(outcomes: Iterable[bool | None]) -> Rate:
    """Share of True among the outcomes that were measured."""
    measured = [outcome for outcome in outcomes if outcome is not None]
    return Rate(sum(measured), len(measured))


@dataclass(frozen=True)
class Paired:
    """Two systems on the same questions: the 2x2 table and what follows from it.

    Attributes:
        both: questions that both answer correctly.
        only_first: that only the first does.
        only_second: that only the second does.
        neither: that neither does.
    """

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def count(self) -> int:
        """Questions that were measured for both."""
        return self.both + self.only_first + self.only_second + self.neither

    def difference(self) -> float | None:
        """Accuracy of the second less that of the first; None when nothing was counted."""
        return (self.only_second - self.only_first) / self.count if self.count else None

    def interval(self) -> tuple[float, float] | tuple[None, None]:
        """95 % interval of the difference (Newcombe 1998, Stat. Med. 17:2635, method 10).

        It is made of the two accuracies' Wilson intervals and the correlation between the systems,
        and unlike Wald's stays within -1 and 1 and does not collapse where they never differ.
        """
        n = self.count
        if not n:
            return None, None
        first, second = self.both + self.only_first, self.both + self.only_second
        (low_1, high_1), (low_2, high_2) = wilson(first, n), wilson(second, n)
        p_1, p_2 = first / n, second / n
        phi = self._correlation(first, second)
        difference = p_2 - p_1
        down, up = p_2 - low_2, high_1 - p_1
        low = difference - math.sqrt(max(0.0, down**2 - 2 * phi * down * up + up**2))
        up, down = high_2 - p_2, p_1 - low_1
        high = difference + math.sqrt(max(0.0, up**2 - 2 * phi * up * down + down**2))
        return max(-1.0, low), min(1.0, high)

    def _correlation(self, first: int, second: int) -> float:
        n = self.count
        margins = first * (n - first) * second * (n - second)
        if margins == 0:
            return 0.0
        product: float = self.both * self.neither - self.only_first * self.only_second
        if product > 0:
            product = max(product - n / 2, 0)  # Newcombe's continuity correction
        return product / math.sqrt(margins)

    def p_value(self) -> float | None:
        """Two-sided exact p of McNemar's test (1947): chance of so uneven a split of the discordant.

        None when nothing was counted; 1 where the systems never differ.
        """
        if not self.count:
            return None
        discordant = self.only_first + self.only_second
        fewer = min(self.only_first, self.only_second)
        tail = sum(math.comb(discordant, k) for k in range(fewer + 1))
        return min(1.0, 2 * tail / 2**discordant)

    def needed(self, difference: float, tests: int = 1) -> int:
        """Questions on which a true difference would show in `POWER` of such comparisons.

        Connor's formula (1987, Biometrics 43:207) with McNemar's continuity correction, as his is for
        the test without it and the exact one is about as strict as the corrected: n solves
        ``n d - 1 = z_alpha sqrt(n s) + z_beta sqrt(n (s - d^2))``. Here s is the share of questions on
        which the systems differ: as seen; where they never do, what its 95 % interval still allows
        (3 / n: Hanley and Lippman-Hand 1983, JAMA 249:1743); and never less than d.

        Args:
            difference: d, of the accuracies; above 0, at most 1.
            tests: that are made, among which `LEVEL` is divided.
        """
        discordant = self.only_first + self.only_second
        seen = discordant / self.count if discordant else 3 / max(self.count, 3)
        share = max(seen, difference)
        z_alpha, z_beta = (NormalDist().inv_cdf(p) for p in (1 - LEVEL / tests / 2, POWER))
        spread = z_alpha * math.sqrt(share) + z_beta * math.sqrt(share - difference**2)
        root = (spread + math.sqrt(spread**2 + 4 * difference)) / (2 * difference)
        return math.ceil(root**2)

    def plain(self) -> dict[str, float | int | None]:
        """As it stands in ``report.json``."""
        low, high = self.interval()
        return {
            **asdict(self),
            "count": self.count,
            "difference": self.difference(),
            "low": low,
            "high": high,
            "mcnemar_p": self.p_value(),
        }


def paired(first: Sequence[bool | None], second: Sequence[bool | None]) -> Paired:
    """Count two systems' outcomes on the same questions; those not measured for both are left out."""
    table = Counter(zip(first, second, strict=True))
    return Paired(table[True, True], table[True, False], table[False, True], table[False, False])
