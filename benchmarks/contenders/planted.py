"""Contenders that fail and that hang: the tests see that nobody else's result is lost by it."""

from time import sleep
from typing import Any

from ..data import Data
from ..works import Work
from .plain import Plain


class Failing:
    """Is never ready."""

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        msg = "planted"
        raise RuntimeError(msg)


class Hanging:
    """Never answers."""

    def __init__(self, work: Work, data: Data, threads: int) -> None:
        sleep(600)


class HangingLate(Plain):
    """Is ready, then does not answer in the second round."""

    runs = 0

    def run(self, steps: int) -> Any:
        self.runs += 1
        if self.runs > 7:
            sleep(600)
        return super().run(steps)
