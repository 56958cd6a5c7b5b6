"""The running counts of a sale, as its scripts keep them: one flat map of fields.

Fields are ``SKU:STATE``, ``SKU:joined``, ``SKU:asked``, ``SKU:admitted_total``, ``SKU:DECLINED:reason`` and
``SKU:refused:code``; refusals whose sku is unknown stand under the empty sku, and so in the totals alone. A shop may
give any reason: ``MOST_REASONS`` of a sku are told apart, those that come after them count as ``OTHER``.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fairline.states import State

MOST_REASONS: Final = 50
OTHER: Final = "other"
_TOTALS: Final = ("joined", "asked", "admitted_total")
_CODES: Final = {"key_reused": "idempotency_key_reused"}  # join.lua's word -> the code its client read


class Sums:
    """The counts of one sku, or of all."""

    def __init__(self) -> None:
        self._plain: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._declined: Counter[str] = Counter()

    def add(self, field: str, number: int) -> None:
        """Count a field without its sku."""
        kind, _, detail = field.partition(":")
        if kind == "refused":
            self._refused[_CODES.get(detail, detail)] += number
        elif detail:
            self._declined[detail] += number
        else:
            self._plain[kind] += number

    def fields(self) -> dict[str, Any]:
        """As operators read them: every state in lower case, the totals, refusals by code, declined by reason."""
        return {
            **{total: self._plain[total] for total in _TOTALS},
            **{state.lower(): self._plain[state] for state in State},
            "refused": dict(sorted(self._refused.items())),
            "declined_by_reason": dict(sorted(self._declined.items())),
        }


def few(reasons: Counter[str]) -> Counter[str]:
    """The most frequent reasons, and all the others as one."""
    told = Counter(dict(reasons.most_common(MOST_REASONS)))
    rest = reasons.total() - told.total()
    return told + Counter({OTHER: rest})


def sums_of(counts: Mapping[str, int], skus: Iterable[str]) -> tuple[Sums, dict[str, Sums]]:
    """The counts of the whole sale, and of each of these skus."""
    total, by_sku = Sums(), {sku: Sums() for sku in skus}
    for name, number in counts.items():
        sku, _, field = name.partition(":")
        total.add(field, number)
        if sku in by_sku:
            by_sku[sku].add(field, number)
    return total, by_sku
