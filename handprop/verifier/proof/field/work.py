"""Work that is counted, so that a search goes as far on a busy machine as on an idle one."""

import time

__all__ = ["OVER", "Work"]

A_SECOND = 1e6  # units that an idle core of 2025 does in a second
OVER, LATE = "its share of the budget is used up", "the time that was left is used up"
STEP, ENTRY = 250.0, 0.1  # units of a step, and of each entry of its results


class Work:
    """Steps done so far, against the most that are to be done. The deadline, a ``time.monotonic()`` moment, is a last
    guard: it cuts where a machine is several times slower than it was reckoned with.

    >>> work = Work(seconds=1.0)
    >>> work.add(1000)
    >>> work.spent, work.left == 1e6 - work.spent
    (350.0, True)
    """

    def __init__(self, seconds: float = float("inf"), deadline: float = float("inf")):
        self.spent, self.most, self.deadline = 0.0, seconds * A_SECOND, deadline

    def add(self, entries: int, steps: int = 1) -> None:
        self.spent += STEP * steps + ENTRY * entries

    @property
    def left(self) -> float:
        return self.most - self.spent

    @property
    def over(self) -> str:
        """What ran out, empty where nothing did."""
        if self.left < 0:
            return OVER
        return LATE if self.late else ""

    def reached(self, seconds: float) -> bool:
        """Whether work of so many seconds is done, or it is late."""
        return self.spent >= seconds * A_SECOND or self.late

    @property
    def late(self) -> bool:
        return time.monotonic() > self.deadline
