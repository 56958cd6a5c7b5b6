"""A limit that several parties share so that none of them can starve another. Pure.

A party may hold as many places as are still free. So one that surges alone has half of them, each of two a third, and
so on: whoever comes next finds a place at once, without a number being set aside for it. (Switches share the memory of
their queues like this.)
"""


class Shares:
    """``most`` places, and who holds how many."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self._of: dict[str, int] = {}  # only those that hold any, so at most ``most``

    @property
    def crowded(self) -> bool:
        """Whether anybody could be refused at all: the cheap question before ``full``."""
        return 2 * self.taken >= self.most

    def full(self, party: str) -> bool:
        """Whether this party may have no more now."""
        return self._of.get(party, 0) >= self.most - self.taken

    def enter(self, party: str) -> bool:
        """Take a place; whether there was one."""
        held = self._of.get(party, 0)
        if held >= self.most - self.taken:
            return False
        self._of[party] = held + 1
        self.taken += 1
        return True

    def leave(self, party: str) -> None:
        """Give a place back that ``enter`` took."""
        held = self._of.pop(party) - 1
        if held:
            self._of[party] = held
        self.taken -= 1
