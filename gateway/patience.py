"""How many requests may be under way, so that a join is answered while its buyer still waits. Pure.

What is under way waits for each other: twice as many, twice the wait (Little's law). How many are too many depends on
the machine and on Redis, so nobody has to know: while joins take longer than they may, fewer are let in at a time, and
more again when they do not. A change is judged by joins that began after it, so one slow moment counts once.
"""

from typing import Final

from gateway.shares import Shares

LEAST: Final = 100  # enough to keep Redis and the processor busy, whatever else is slow
WINDOW: Final = 20  # joins between two judgements
SLOW_SHARE: Final = 0.1
LESS: Final = 0.7
MORE: Final = 0.05  # of all places: from least to most in about twenty rounds


class Patience:
    """Sets the number of places of ``shares`` between ``LEAST`` and what it began with."""

    def __init__(self, shares: Shares, *, within_s: float) -> None:
        self._shares = shares
        self._most = shares.most
        self._least = min(LEAST, shares.most)
        self._within_s = within_s
        self._changed_at = float("-inf")
        self._joins = self._slow = 0

    def took(self, began: float, ended: float) -> None:
        """A join was answered; both in seconds of one monotonic clock."""
        if began < self._changed_at:
            return
        self._joins += 1
        self._slow += ended - began > self._within_s
        if self._joins < WINDOW:
            return
        places = self._shares.most
        if self._slow > self._joins * SLOW_SHARE:
            places = max(self._least, int(places * LESS))
        else:
            places = min(self._most, places + max(1, int(self._most * MORE)))
        self._joins = self._slow = 0
        if places != self._shares.most:
            self._shares.most, self._changed_at = places, ended
