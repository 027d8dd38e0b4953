"""What layers note in a step, on the way forward, for its end."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ranvier import regularizers
from ranvier._core import Buffer, activity_penalty

__all__ = ["ActivityPenalty", "activity_penalties", "state_updates"]


class _ActivityPenalties(threading.local):
    """Outputs that a regularizer penalises, noted on the way forward until the loss is known."""

    def __init__(self) -> None:
        self.noted: list[ActivityPenalty] | None = None  # None: nobody asks

    def collect(self) -> list[ActivityPenalty]:
        """Begin to note; returns the list."""
        self.noted = []
        return self.noted

    def stop(self) -> None:
        self.noted = None


class ActivityPenalty:
    def __init__(self, regularizer: regularizers.Regularizer, y: Buffer) -> None:
        self.regularizer, self.y = regularizer, y
        self.dy: Buffer | None = None

    def value(self) -> Buffer:
        """The penalty, a Buffer (1,); its derivative is kept for the way back."""
        value, self.dy = activity_penalty(self.y, self.regularizer.l1, self.regularizer.l2)
        return value


activity_penalties = _ActivityPenalties()


class _StateUpdates(threading.local):
    """Changes of what layers remember from step to step, such as moving averages. In a training
    step they wait until all of it is known to work; elsewhere they are made at once."""

    def __init__(self) -> None:
        self.noted: list[Callable[[], None]] | None = None  # None: no training step

    def collect(self) -> None:
        """Begin to note."""
        self.noted = []

    def add(self, update: Callable[[], None]) -> None:
        if self.noted is None:
            update()
        else:
            self.noted.append(update)

    def take(self) -> None:
        """Make the changes noted."""
        for update in self.noted or ():
            update()

    def stop(self) -> None:
        self.noted = None


state_updates = _StateUpdates()
