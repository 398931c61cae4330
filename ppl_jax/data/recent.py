"""What was computed lately, as long as it takes no more than a given room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Keeps values by number; the one that was not asked for longest goes first.

    Args:
      room: how much is kept, in the units of the sizes.
    """

    def __init__(self, room: int):
        self._room = room
        self._used = 0
        self._kept: OrderedDict[int, tuple[T, int]] = OrderedDict()

    def get(self, number: int, make: Callable[[int], tuple[T, int]]) -> T:
        """The value of a number; ``make(number)`` gives one that is not kept, and its size."""
        found = self._kept.get(number)
        if found is None:
            found = self._kept[number] = make(number)
            self._used += found[1]
            while self._used > self._room and len(self._kept) > 1:
                self._used -= self._kept.popitem(last=False)[1][1]
        else:
            self._kept.move_to_end(number)
        return found[0]
