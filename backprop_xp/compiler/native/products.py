"""Matrix products by register tiles; large ones are left to the BLAS that NumPy has loaded.

C = A B in panels of columns. A panel of B is packed: its rows are stored one after the other, padded to
whole registers; a column-major B is transposed on the way. Then tiles of C are computed in registers, each
element by one chain of multiplications and additions in the order of k.
"""

from typing import Any, NamedTuple

import numpy as np

from .function import Function, Index, Register

BLAS_FROM = 4_000_000  # from so many multiplications on, BLAS is faster
_UNPACKED = 4  # up to so many rows of A, packing B takes longer than it saves
_ROW_MAJOR, _PLAIN, _TRANSPOSED = 101, 111, 112  # of the CBLAS


class Matrix(NamedTuple):
    """A matrix in memory: its first element, and the strides of its axes in elements."""

    pointer: str
    down: int
    across: int


class Product:
    """C = A B, to be written into a function.

    Args:
        f: the function.
        dtype: the dtype of all three.
        shape: m, n and k: A is (m, k), B is (k, n), C is (m, n).
        a: A.
        b: B.
        c: C; each of its rows is contiguous.
    """

    def __init__(
        self, f: Function, dtype: Any, shape: tuple[int, int, int], a: Matrix, b: Matrix, c: Matrix
    ) -> None:
        self.f, self.dtype, self.shape = f, np.dtype(dtype), shape
        self.a, self.b, self.c = a, b, c
        self.lanes = f.target.lanes([dtype])
        most = 4 if f.target.registers >= 32 else 2
        self.panel = self.lanes * min(most, -(-shape[1] // self.lanes))

    @property
    def packed(self) -> int:
        """How many elements a packed panel has; 0 if B is not packed."""
        return 0 if self.shape[0] <= _UNPACKED and self.b.across == 1 else self.shape[2] * self.panel

    def write(self, pack: str) -> None:
        """Write the product.

        Args:
            pack: a pointer to memory for a packed panel.
        """
        n = self.shape[1]
        full = n // self.panel * self.panel
        if full:
            with self.f.loop(full, self.panel) as start:
                self._panel(start, self.panel, pack)
        if n > full:
            self._panel(full, n - full, pack)

    def _panel(self, start: Index, width: int, pack: str) -> None:
        """Compute the columns of C in one panel."""
        m, columns = self.shape[0], -(-width // self.lanes)
        if self.packed:
            self._pack(pack, start, width, columns)
        rows = self._rows(columns)
        full = m // rows * rows
        if full:
            with self.f.loop(full, rows) as i:
                self._tile(i, rows, start, width, pack)
        if m > full:
            self._tile(full, m - full, start, width, pack)

    def _rows(self, columns: int) -> int:
        """The rows of a tile: as many as the registers allow, or somewhat fewer if these divide m."""
        most = min(8, (self.f.target.registers - columns - 1) // columns)
        m = self.shape[0]
        return next((r for r in range(most, most // 2, -1) if m % r == 0), most)

    # ------------------------------------------------------------ packing
    def _pack(self, pack: str, start: Index, width: int, columns: int) -> None:
        f, lanes, k = self.f, self.lanes, self.shape[2]
        stride = columns * lanes
        if self.b.down == 1 and self.b.across != 1:
            full = k // lanes * lanes
            if full:
                with f.loop(full, lanes) as i:
                    self._transpose(pack, stride, i, lanes, start, width)
            if k > full:
                self._transpose(pack, stride, full, k - full, start, width)
            return
        with f.loop(k) as i:
            for q in range(columns):
                own = min(lanes, width - q * lanes)
                column = f.plus(start, q * lanes)
                at = f.plus(f.times(i, self.b.down), f.times(column, self.b.across))
                found = f.load(self.b.pointer, at, self.dtype, own, self.b.across)
                f.store(f.padded(found, lanes), pack, f.plus(f.times(i, stride), q * lanes))

    def _transpose(self, pack: str, stride: int, i: Index, rows: int, start: Index, width: int) -> None:
        """Pack some rows of a column-major B: transpose a square at a time, in registers."""
        f, lanes = self.f, self.lanes
        for first in range(0, width, lanes):
            square = []
            for q in range(lanes):
                if first + q < width:
                    at = f.plus(i, f.times(f.plus(start, first + q), self.b.across))
                    square.append(f.padded(f.load(self.b.pointer, at, self.dtype, rows), lanes))
                else:
                    square.append(f.constant(0, self.dtype, lanes))
            for q, row in enumerate(transposed(f, square)[:rows]):
                f.store(row, pack, f.plus(f.times(f.plus(i, q), stride), first))

    # ------------------------------------------------------------ tiles
    def _tile(self, i: Index, rows: int, start: Index, width: int, pack: str) -> None:
        """Compute a tile: some rows of C, over the columns of a panel."""
        f, lanes, dtype = self.f, self.lanes, self.dtype
        columns = -(-width // lanes)
        own = [min(lanes, width - q * lanes) if not self.packed else lanes for q in range(columns)]
        sums = [[f.slot(dtype, n) for n in own] for _ in range(rows)]
        for row in sums:
            for slot, n in zip(row, own, strict=True):
                f.keep(slot, f.constant(0, dtype, n))
        with f.loop(self.shape[2]) as k:
            factors = [self._factor(k, q, n, columns, start, pack) for q, n in enumerate(own)]
            for r, row in enumerate(sums):
                at = f.plus(f.times(f.plus(i, r), self.a.down), f.times(k, self.a.across))
                left = f.load(self.a.pointer, at, dtype)
                for slot, right in zip(row, factors, strict=True):
                    so_far = f.kept(slot, dtype, right.lanes)
                    f.keep(slot, f.fma(f.splat(left, right.lanes), right, so_far))
        for r, row in enumerate(sums):
            for q, (slot, n) in enumerate(zip(row, own, strict=True)):
                found = f.first(f.kept(slot, dtype, n), min(lanes, width - q * lanes))
                at = f.plus(f.times(f.plus(i, r), self.c.down), f.plus(start, q * lanes))
                f.store(found, self.c.pointer, at)

    def _factor(self, k: Index, q: int, lanes: int, columns: int, start: Index, pack: str) -> Register:
        """Register q of row k of a panel of B."""
        f = self.f
        if self.packed:
            at = f.plus(f.times(k, columns * self.lanes), q * self.lanes)
            return f.load(pack, at, self.dtype, lanes)
        at = f.plus(f.times(k, self.b.down), f.plus(start, q * self.lanes))
        return f.load(self.b.pointer, at, self.dtype, lanes)

    # ------------------------------------------------------------ BLAS
    @property
    def for_blas(self) -> bool:
        """Whether BLAS is faster, and A and B have strides that it can read."""
        m, n, k = self.shape
        return m * n * k >= BLAS_FROM and all(1 in each[1:] for each in (self.a, self.b))

    def write_call(self, gemm: str, integer: str) -> None:
        """Write the product as a call of cblas_sgemm or cblas_dgemm.

        Args:
            gemm: the pointer to it.
            integer: the integer type of its sizes.
        """
        of = "float" if self.dtype == np.float32 else "double"
        (m, n, k), forms, leading = self.shape, [], []
        for each in (self.a, self.b):
            plain = each.across == 1
            forms.append(_PLAIN if plain else _TRANSPOSED)
            leading.append(each.down if plain else each.across)
        one, zero = (self.f.constant(v, self.dtype).name for v in (1, 0))
        sizes = f"{integer} {m}, {integer} {n}, {integer} {k}"
        self.f.do(
            f"call void {gemm}(i32 {_ROW_MAJOR}, i32 {forms[0]}, i32 {forms[1]}, {sizes}, {of} {one}, "
            f"ptr {self.a.pointer}, {integer} {leading[0]}, ptr {self.b.pointer}, {integer} {leading[1]}, "
            f"{of} {zero}, ptr {self.c.pointer}, {integer} {self.c.down})"
        )


def transposed(f: Function, square: list[Register]) -> list[Register]:
    """The transpose of n registers of n lanes, n a power of two: lane i of register j becomes lane j of i.

    Each of log₂ n rounds interleaves register i with register i + n/2.
    """
    n = len(square)
    low = [q for k in range(n // 2) for q in (k, n + k)]
    high = [q + n // 2 for q in low]
    for _ in range(n.bit_length() - 1):
        pairs = [(square[i], square[i + n // 2]) for i in range(n // 2)]
        square = [f.shuffled(a, b, lanes) for a, b in pairs for lanes in (low, high)]
    return square
