"""Work is counted instead of timed, so that a search goes as far on a busy machine as on an idle one."""

import time

__all__ = ["OVER", "Work"]

A_SECOND = 1e6  # units that an idle core of 2025 does in a second
OVER, LATE = "its share of the budget is used up", "its share of the time is used up"
STEP, ENTRY = 250.0, 0.1  # units of a step, and of each entry of its results


class Work:
    """The work done so far and its limit. The deadline, a value of ``time.monotonic()``, is a backstop for machines
    that are several times slower than assumed.

    >>> work = Work(seconds=1.0)
    >>> work.add(1000)
    >>> work.spent, work.left == 1e6 - work.spent
    (350.0, True)
    """

    def __init__(self, seconds: float = float("inf"), deadline: float = float("inf")):
        self.spent, self.most, self.deadline, self.limited = 0.0, seconds * A_SECOND, deadline, False

    def limit(self, share: float) -> None:
        """Lower what is left to do to this share of the whole, and the time too, once."""
        if self.limited:
            return
        now = time.monotonic()
        self.most, self.limited = min(self.most, self.spent + share * self.most), True
        self.deadline = min(self.deadline, now + share * max(self.deadline - now, 0.0))

    def add(self, entries: int, steps: int = 1) -> None:
        self.spent += STEP * steps + ENTRY * entries

    @property
    def left(self) -> float:
        return self.most - self.spent

    @property
    def over(self) -> str:
        """Which limit is reached, empty if none is."""
        if self.left < 0:
            return OVER
        return LATE if self.late else ""

    def reached(self, seconds: float) -> bool:
        """Whether this many seconds' worth of work is done, or the deadline has passed."""
        return self.spent >= seconds * A_SECOND or self.late

    @property
    def late(self) -> bool:
        return time.monotonic() > self.deadline
