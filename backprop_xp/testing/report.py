"""What was checked, and the error where something is wrong."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..printed import settings, table


class CheckFailed(AssertionError):
    """A unit fails a check: the message names it, the place, the figures, and what to look at."""


class NotApplicable(Exception):
    """A check does not apply to this unit or on this machine; the message says why."""


class Check(NamedTuple):
    """One check of a family.

    Attributes:
        name: of the check.
        held: whether the check was made and passed; False where it does not apply.
        note: what was checked, or why it does not apply.
    """

    name: str
    held: bool
    note: str


@dataclass(frozen=True)
class Report:
    """The checks of a unit and their results.

    Attributes:
        unit: as it is made.
        checks: in the order they were made.

    >>> print(Report("Cube()", (Check("shapes", True, "o, delta"), Check("torch", False, "not installed"))))
    Cube()
    shapes  held            o, delta
    torch   not applicable  not installed
    """

    unit: str
    checks: tuple[Check, ...]

    def __str__(self) -> str:
        rows = [[c.name, "held" if c.held else "not applicable", c.note] for c in self.checks]
        return f"{self.unit}\n{table(rows)}"

    def held(self, name: str) -> bool:
        """Whether a check was made and passed."""
        return any(c.held for c in self.checks if c.name == name)


def run(unit: Any, checks: Mapping[str, Callable[[], str]]) -> Report:
    """Make the checks in their order.

    Raises:
        CheckFailed: one did not pass; the message begins with the unit.
    """
    name, found = settings(unit), []
    for check, make in checks.items():
        try:
            found.append(Check(check, True, make()))
        except NotApplicable as why:
            found.append(Check(check, False, str(why)))
        except CheckFailed as error:
            msg = f"{name}, check '{check}': {error}"
            raise CheckFailed(msg) from error
        except Exception as error:
            msg = f"{name}, check '{check}': {told(error)}"
            raise CheckFailed(msg) from error
    return Report(name, tuple(found))


def told(error: BaseException) -> str:
    """An error of a library in one line."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
