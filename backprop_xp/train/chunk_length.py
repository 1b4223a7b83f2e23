"""How many steps are made between two reads of the losses."""

from dataclasses import dataclass

LONGEST = 4096  # steps handed to a backend at once
_SECONDS = 0.2


@dataclass
class ChunkLength:
    """Steps in a chunk and between two reads, chosen so that losses are read about five times a second.

    The length of a chunk is a power of two at most: a window is cut into chunks of one length. It changes
    only if it is wrong by a factor, the tolerance: 4, and more where each new length is compiled anew, which
    takes time and memory. The first read after a change is ignored, as its time may include the compilation.

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
    tolerance: int = 4

    def due(self, step: int) -> bool:
        """Whether it is time to read, after so many steps."""
        return step - self.step >= self.between

    def read(self, step: int, second: float) -> None:
        """Record that all steps up to `step` were done at this time in seconds; adapt the length."""
        made, spent = step - self.step, max(second - self.second, 1e-9)
        self.step, self.second = step, second
        if self.fresh or not made:
            self.fresh = False
            return
        wanted = max(1, int(_SECONDS * made / spent))
        length = 1 << wanted.bit_length() - 1
        if length >= self.tolerance * self.length or self.tolerance * length <= self.length:
            length = min(length, LONGEST)
            self.length, self.fresh = length, length != self.length
        self.between = max(self.length, wanted)
