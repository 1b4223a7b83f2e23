"""How many steps are passed to the backend at once, and how many lie between two reads of the losses."""

from dataclasses import dataclass

LONGEST = 4096  # steps handed to a backend at once
_SECONDS = 0.2


@dataclass
class ChunkLength:
    """Steps in a chunk and between two reads, chosen so that losses are read about five times a second.

    The length is a power of two, and changes only if it is wrong by a factor of four, since each new
    length may have to be compiled. The first read after a change is ignored, as its time may include
    the compilation.

    Attributes:
        length: steps in a chunk, at most.
        between: steps between two reads, at least.
        step: the step of the last read.
        second: the time of the last read.
        fresh: whether the next read is ignored.

    >>> chunk = ChunkLength()
    >>> chunk.due(1), chunk.length
    (True, 1)
    >>> chunk.read(1, 10.0)
    >>> chunk.read(2, 10.001)
    >>> chunk.length, chunk.due(100), chunk.due(300)
    (128, False, True)
    """

    length: int = 1
    between: int = 1
    step: int = 0
    second: float = 0.0
    fresh: bool = True

    def due(self, step: int) -> bool:
        """Whether to read the losses now, after `step` steps in all."""
        return step - self.step >= self.between

    def read(self, step: int, second: float) -> None:
        """Note that the losses of all steps up to `step` were read at this time; adapt the length."""
        made, spent = step - self.step, max(second - self.second, 1e-9)
        self.step, self.second = step, second
        if self.fresh or not made:
            self.fresh = False
            return
        wanted = max(1, int(_SECONDS * made / spent))
        length = min(1 << wanted.bit_length() - 1, LONGEST)
        if length >= 4 * self.length or 4 * length <= self.length:
            self.length, self.fresh = length, True
        self.between = max(self.length, wanted)
