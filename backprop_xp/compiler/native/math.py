"""exp, log, expm1, log1p and tanh from polynomials, in registers.

All arithmetic is in float64. For float32 the polynomials are shorter and the result is rounded once, so
that it differs from the exact one by hardly more than half a unit in the last place; in float64 it is
less than two. exp and expm1: x = n ln 2 + r with |r| ≤ ½ ln 2 (Cody, Waite: Software manual for the
elementary functions, 1980). log and log1p: 2 artanh(f / (2 + f)) for a fraction 1 + f, as in Sun's
fdlibm (1993). NaN stays, infinities are as in NumPy.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import inf, log, nan

import numpy as np

from .function import Function, Register

_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # n times the first is exact
_SQRT_HALF = 0x3FE6A09E << 32  # the upper bits of √½
_FRACTION = (1 << 52) - 1  # the bits of a float64 below its exponent
_SHIFT = 1.5 * 2.0**52  # added to a small number, it leaves its nearest integer in the lowest bits
_TINY = 2.0**-60  # below it expm1, log1p and tanh are the identity

# Arguments are clamped to these, by bytes of the dtype; beyond them the result stays the same or is infinite.
_ENDS = {
    "exp": {4: (-104.0, 89.0), 8: (-746.0, 710.0)},
    "expm1": {4: (-40.0, 89.0), 8: (-40.0, 710.0)},
    "tanh": {4: (-22.0, 22.0), 8: (-22.0, 22.0)},
}

# (eʳ − 1 − r) / r² on |r| ≤ 0.3468 and (2 artanh(s) − 2 s) / s³ in s² on |s| ≤ 0.1716, interpolated at
# Chebyshev's points, lowest power first; of float32, whose results need fewer bits, and of float64.
_EXP = {
    4: (0.5000000013510598, 0.16666666681672973, 0.041666464478050266, 0.008333310875814182,
        0.0013933699610442548, 0.00019891045921387787),
    8: (0.5, 0.1666666666666667, 0.04166666666666667, 0.008333333333326103, 0.0013888888888883726,
        0.00019841269874932202, 2.4801587325627418e-05, 2.755725525875986e-06, 2.7557273542102106e-07,
        2.5105275841936966e-08, 2.0914728984148772e-09),
}  # fmt: skip
_LOG = {
    4: (0.6666666655430018, 0.4000012200081688, 0.2855080255327671, 0.2333096405177204),
    8: (0.666666666666667, 0.3999999999989924, 0.2857142862609589, 0.2222221111514416, 0.18182890556695602,
        0.1533167403016786, 0.1461703754879165),
}  # fmt: skip

Formula = Callable[["_Doubles", Register], Register]


class _Doubles:
    """Arithmetic on registers of float64 and numbers.

    Args:
        f: the function being written.
        lanes: the lanes of the registers.
        size: the bytes of the result's dtype.
    """

    def __init__(self, f: Function, lanes: int, size: int) -> None:
        self.f, self.lanes, self.size = f, lanes, size

    def of(self, a: Register | float) -> Register:
        return a if isinstance(a, Register) else self.f.constant(a, np.float64, self.lanes)

    def whole(self, a: int) -> Register:
        return self.f.constant(a, np.int64, self.lanes)

    def add(self, a: Register | float, b: Register | float) -> Register:
        return self.f.binary("fadd", self.of(a), self.of(b))

    def sub(self, a: Register | float, b: Register | float) -> Register:
        return self.f.binary("fsub", self.of(a), self.of(b))

    def mul(self, a: Register | float, b: Register | float) -> Register:
        return self.f.binary("fmul", self.of(a), self.of(b))

    def div(self, a: Register | float, b: Register | float) -> Register:
        return self.f.binary("fdiv", self.of(a), self.of(b))

    def fma(self, a: Register | float, b: Register | float, c: Register | float) -> Register:
        return self.f.fma(self.of(a), self.of(b), self.of(c))

    def where(self, x: Register, condition: str, bound: float, a: Register | float, b: Register) -> Register:
        """a where the comparison of x with the bound holds, else b."""
        return self.f.select(self.f.compare(f"fcmp {condition}", x, self.of(bound)), self.of(a), b)

    def polynomial(self, x: Register, coefficients: Sequence[float]) -> Register:
        """Σ cₖ xᵏ by Estrin's scheme (1960): terms in pairs, in parallel; Horner's rule is one long chain."""
        parts: list[Register | float] = list(coefficients)
        while len(parts) > 1:
            pairs = [self.fma(b, x, a) for a, b in zip(parts[::2], parts[1::2], strict=False)]
            parts = [*pairs, *parts[len(parts) // 2 * 2 :]]
            x = self.mul(x, x)
        return self.of(parts[0])

    def bits(self, a: Register) -> Register:
        return self.f.convert("bitcast", a, np.int64)

    def power_of_two(self, n: Register) -> Register:
        """2ⁿ for integers −1022 ≤ n ≤ 1023."""
        biased = self.f.binary("add", n, self.whole(1023))
        return self.f.convert("bitcast", self.f.binary("shl", biased, self.whole(52)), np.float64)

    def reduced(self, x: Register) -> tuple[Register, Register, Register | float]:
        """n, r and the rounding error of r, with x = n ln 2 + r; for float32 the error does not matter."""
        shifted = self.fma(x, 1 / log(2), _SHIFT)
        n, whole = (
            self.sub(shifted, _SHIFT),
            self.f.binary("sub", self.bits(shifted), self.bits(self.of(_SHIFT))),
        )
        if self.size == 4:
            return whole, self.fma(n, -log(2), x), 0.0
        high = self.sub(x, self.mul(n, _LN2_HIGH))
        low = self.mul(n, _LN2_LOW)
        r = self.sub(high, low)
        missing = self.sub(self.sub(high, r), low)
        return whole, r, missing

    def float_of(self, n: Register) -> Register:
        """A small integer as float64."""
        shifted = self.f.binary("add", n, self.bits(self.of(_SHIFT)))
        return self.sub(self.f.convert("bitcast", shifted, np.float64), _SHIFT)


def _exp(d: _Doubles, x: Register) -> Register:
    """2ⁿ (1 + r + r² q(r)); in float64 scaled in two parts, so that a subnormal result is rounded once."""
    n, r, missing = d.reduced(x)
    if d.size == 4:  # no such power of two is subnormal in float64, and the sum has bits to spare
        return d.mul(d.polynomial(r, (1.0, 1.0, *_EXP[d.size])), d.power_of_two(n))
    tail = d.fma(d.mul(r, r), d.polynomial(r, _EXP[d.size]), missing)
    p = d.add(d.add(r, tail), 1.0)
    half = d.f.binary("ashr", n, d.whole(1))
    rest = d.f.binary("sub", n, half)
    return d.mul(d.mul(p, d.power_of_two(half)), d.power_of_two(rest))


def _expm1_parts(d: _Doubles, x: Register) -> tuple[Register, Register]:
    """½ (2ⁿ − 1 + 2ⁿ r) rounded, and the remainder: ½ 2ⁿ r² q(r) plus the rounding error.

    Halved, so that 2ⁿ does not overflow.
    """
    n, r, missing = d.reduced(x)
    lacks = missing if isinstance(missing, float) else d.fma(missing, r, missing)
    tail = d.fma(d.mul(r, r), d.polynomial(r, _EXP[d.size]), lacks)
    scale = d.power_of_two(d.f.binary("sub", n, d.whole(1)))
    big, small = d.sub(scale, 0.5), d.mul(scale, r)
    total = d.add(big, small)
    return total, d.fma(scale, tail, d.sub(small, d.sub(total, big)))


def _expm1(d: _Doubles, x: Register) -> Register:
    """The sum of both parts, twice."""
    found = d.mul(d.add(*_expm1_parts(d, x)), 2.0)
    if d.size == 8:
        found = d.where(x, "oge", 710.0, inf, found)
    return d.where(d.f.intrinsic("llvm.fabs", x), "olt", _TINY, x, found)


def _fraction(d: _Doubles, x: Register) -> tuple[Register, Register]:
    """n and m with x = 2ⁿ m, √½ ≤ m < √2, for normal x > 0."""
    f, bits = d.f, d.bits(x)
    moved = f.binary("sub", bits, d.whole(_SQRT_HALF))
    n = f.binary("ashr", moved, d.whole(52))
    m = f.binary("add", f.binary("and", moved, d.whole(_FRACTION)), d.whole(_SQRT_HALF))
    return d.float_of(n), f.convert("bitcast", m, np.float64)


def _log_of_fraction(d: _Doubles, n: Register, f: Register, missing: Register | float) -> Register:
    """n ln 2 + ln(1 + f) + missing; ln(1 + f) = f − (f²/2 − s (f²/2 + R(s²))), s = f / (2 + f)."""
    s = d.div(f, d.add(f, 2.0))
    z = d.mul(s, s)
    series = d.mul(z, d.polynomial(z, _LOG[d.size]))
    square = d.mul(d.mul(f, 0.5), f)
    low = d.add(d.mul(n, _LN2_LOW), missing)
    inner = d.add(d.mul(s, d.add(square, series)), low)
    return d.add(d.add(d.sub(inner, square), f), d.mul(n, _LN2_HIGH))


def _ends_of_log(d: _Doubles, x: Register, zero: float, found: Register) -> Register:
    """−∞ at the end of the domain, NaN beyond it; +∞ and NaN stay."""
    found = d.where(x, "oeq", zero, -inf, found)
    found = d.where(x, "olt", zero, nan, found)
    found = d.where(x, "oeq", inf, inf, found)
    return d.where(x, "uno", 0.0, x, found)


def _log(d: _Doubles, x: Register) -> Register:
    """Subnormals are multiplied by 2⁵⁴ first."""
    small = 2.0**-1022
    n, m = _fraction(d, d.where(x, "olt", small, d.mul(x, 2.0**54), x))
    n = d.where(x, "olt", small, d.sub(n, 54.0), n)
    return _ends_of_log(d, x, 0.0, _log_of_fraction(d, n, d.sub(m, 1.0), 0.0))


def _log1p(d: _Doubles, x: Register) -> Register:
    """ln u + (x − (u − 1)) / u for u = 1 + x rounded; where the exponent n of u is 0, f is x itself."""
    u = d.add(x, 1.0)
    n, m = _fraction(d, u)
    lost = d.where(x, "ogt", 1.0, d.sub(1.0, d.sub(u, x)), d.sub(x, d.sub(u, 1.0)))
    missing = d.where(n, "oeq", 0.0, 0.0, d.div(lost, u))
    f = d.where(n, "oeq", 0.0, x, d.sub(m, 1.0))
    found = _ends_of_log(d, x, -1.0, _log_of_fraction(d, n, f, missing))
    return d.where(d.f.intrinsic("llvm.fabs", x), "olt", _TINY, x, found)


def _tanh(d: _Doubles, x: Register) -> Register:
    """t / (t + 2) with t = e^(2 |x|) − 1; the sign is that of x.

    In float64 the quotient is corrected for the rounding errors of t and of t + 2.
    """
    size = d.f.intrinsic("llvm.fabs", x)
    total, rest = _expm1_parts(d, d.mul(size, 2.0))
    half = d.add(total, rest)  # t / (t + 2) = ½ t / (½ t + 1)
    below = d.add(half, 1.0)
    found = d.div(half, below)
    if d.size == 8:
        lost = d.sub(rest, d.sub(half, total))
        one = d.sub(below, half)
        lost_below = d.add(d.add(d.sub(1.0, one), d.sub(half, d.sub(below, one))), lost)
        found = d.add(found, d.div(d.sub(lost, d.mul(found, lost_below)), below))
    found = d.where(size, "olt", _TINY, size, found)
    return d.f.intrinsic("llvm.copysign", found, x)


FORMULAS: dict[str, Formula] = {
    "exp": _exp, "expm1": _expm1, "log": _log, "log1p": _log1p, "tanh": _tanh,
}  # fmt: skip


def function_of(f: Function, name: str, x: Register) -> Register:
    """One of these functions of float32 or float64; x is clamped in its own dtype, which is cheapest."""
    size = x.dtype.itemsize
    if name in _ENDS:
        for condition, end in zip(("olt", "ogt"), _ENDS[name][size], strict=True):
            bound = f.constant(end, x.dtype, x.lanes)
            x = f.select(f.compare(f"fcmp {condition}", x, bound), bound, x)  # NaN stays
    formula = partial(FORMULAS[name], _Doubles(f, x.lanes, size))
    if size == 8:
        return formula(x)
    return f.convert("fptrunc", formula(f.convert("fpext", x, np.float64)), x.dtype)
