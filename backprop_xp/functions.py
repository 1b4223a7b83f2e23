"""Functions that activations, losses and update rules share. None of them overflows."""

from math import pi, sqrt

from .arrays import Array, Namespace

_TAIL = (  # P and Q of normal_cdf, from the highest power to the constant
    (
        3.444844248133779e-07, 1.0054509410486508e-05, 0.00014553684829116332, 0.0013539352612631115,
        0.00888536708955921, 0.04276593666335417, 0.15255574190361323, 0.39847762044180396,
        0.7320234267813366, 0.8608879306762593, 0.5,
    ),
    (
        8.634943994072101e-07, 2.5202917575868965e-05, 0.000365670273326713, 0.0034190153254793935,
        0.022635392167119316, 0.11054171261622948, 0.4039518693304244, 1.0994979979374775,
        2.176350294818652, 2.9744450028664335, 2.5196604221553853, 1.0,
    ),
)  # fmt: skip


def exp(x: Array, *, xp: Namespace) -> Array:
    """e^x, at most e^88 in float32 and e^709 in float64, just below the largest number of each.

    >>> import numpy as np
    >>> exp(np.asarray([0.0, 1000.0]), xp=np).tolist()
    [1.0, 8.218407461554972e+307]
    """
    return xp.exp(xp.minimum(x, 88 if x.dtype == xp.float32 else 709))


def sigmoid(x: Array, *, xp: Namespace) -> Array:
    """σ(x) = 1 / (1 + e^(−x)), computed as e^x / (1 + e^x) for x < 0, so that nothing overflows.

    >>> import numpy as np
    >>> sigmoid(np.asarray([0.0, -1000.0]), xp=np).tolist()
    [0.5, 0.0]
    """
    z = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1, z) / (1 + z)


def sign(x: Array, *, xp: Namespace) -> Array:
    """−1, 0 or 1, and NaN where x is NaN.

    It is written as comparisons, which also run on fractions and in compiled scans.

    >>> import numpy as np
    >>> sign(np.asarray([-3.0, 0.0, 0.5]), xp=np).tolist()
    [-1.0, 0.0, 1.0]
    """
    return xp.where(x > 0, 1, xp.where(x < 0, -1, x))


def softmax(x: Array, *, xp: Namespace) -> Array:
    """e^(x_k) / Σ_j e^(x_j) over the last axis; the largest x is subtracted first to avoid overflow.

    >>> import numpy as np
    >>> softmax(np.asarray([[1000.0, 1000.0]]), xp=np).tolist()
    [[0.5, 0.5]]
    """
    z = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return z / xp.sum(z, axis=-1, keepdims=True)


def log_softmax(x: Array, *, xp: Namespace) -> Array:
    """x_k − log Σ_j e^(x_j) over the last axis; the largest x is subtracted first to avoid overflow.

    >>> import numpy as np
    >>> log_softmax(np.asarray([[1000.0, 0.0]]), xp=np).tolist()
    [[0.0, -1000.0]]
    """
    z = x - xp.max(x, axis=-1, keepdims=True)
    return z - xp.log(xp.sum(xp.exp(z), axis=-1, keepdims=True))


def softplus(x: Array, *, xp: Namespace) -> Array:
    """log(1 + e^x), computed as max(x, 0) + log(1 + e^(−|x|)), so that nothing overflows.

    >>> import numpy as np
    >>> softplus(np.asarray([1000.0, -1000.0]), xp=np).tolist()
    [1000.0, 0.0]
    """
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


def hard_sigmoid(x: Array, *, xp: Namespace) -> Array:
    """(x + 3) / 6 clipped to [0, 1].

    >>> import numpy as np
    >>> hard_sigmoid(np.asarray([-5.0, 0.0, 3.0]), xp=np).tolist()
    [0.0, 0.5, 1.0]
    """
    return xp.minimum(xp.maximum(x + 3, 0), 6) / 6


def normal_cdf(x: Array, *, xp: Namespace) -> Array:
    """Φ(x), the standard normal distribution function: (1 + erf(x/√2)) / 2, without erf.

    With a = |x|, Φ(−a) = e^(−a²/2) P(a) / Q(a) and Φ(a) = 1 − Φ(−a). The polynomials P and Q, of degrees
    10 and 11, are chosen so that P/Q equals Φ(−a) e^(a²/2) at the 22 points a = 4 (1 + u) / (1 − u), u the
    zeros of the Chebyshev polynomial of degree 22. Between these points the relative error is at most
    3e-17, up to a = 40, where e^(−a²/2) is 0. All coefficients are positive, so no digits cancel. What
    remains is rounding: a few units in the last place, and a²/4 units from rounding the exponent a²/2.
    That is a relative error of 1e-13 at x = −38 in float64, and of 5e-6 at x = −13 in float32.

    >>> import numpy as np
    >>> normal_cdf(np.asarray([0.0, 1.96, -40.0]), xp=np).round(4).tolist()
    [0.5, 0.975, 0.0]
    """
    a = xp.minimum(xp.abs(x), 40)
    p, q = (_polynomial(coefficients, a) for coefficients in _TAIL)
    tail = xp.exp(-a * a / 2) * (p / q)
    return xp.where(x > 0, 1 - tail, tail)


def normal_pdf(x: Array, *, xp: Namespace) -> Array:
    """φ(x) = e^(−x²/2) / √(2π), the density of the standard normal distribution.

    >>> import numpy as np
    >>> normal_pdf(np.asarray([0.0, 1e300]), xp=np).round(4).tolist()
    [0.3989, 0.0]
    """
    a = xp.minimum(xp.abs(x), 40)
    return xp.exp(-a * a / 2) / sqrt(2 * pi)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Σ_k c_k x^k by Horner's scheme, the coefficient of the highest power first."""
    value: Array = coefficients[0]
    for c in coefficients[1:]:
        value = value * x + c
    return value
