"""Activations against Torch, SciPy and mpmath, at their kinks, and at the ends of float32 and float64."""

from fractions import Fraction as F

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import activations, backends, functions
from backprop_xp.activations import ALL, CELU, ELU, LeakyReLU, ReLU, ThresholdedReLU

DTYPES = ["float32", "float64"]
OF_ROWS = ("softmax", "log_softmax")
HALVED = (*OF_ROWS, "selu")  # differences of two numbers, or λ net, are to be numbers too
EPS = {dtype: float(np.finfo(dtype).eps) for dtype in DTYPES}
OTHERS = {
    "relu >": ReLU(">"),
    "leaky_relu >": LeakyReLU(gate=">"),
    "elu 2": ELU(2.0),
    "celu 1/2": CELU(0.5),
    "thresholded_relu -1/2": ThresholdedReLU(-0.5),
}
EVERY = ALL | OTHERS


def points(dtype="float64", name="tanh"):
    """10,000 net inputs, (2500, 4): of every size, many near 0, the kinks, and the ends of the dtype."""
    draw, top = np.random.default_rng(0), np.finfo(dtype)
    ends = [top.max, top.tiny, top.smallest_subnormal, top.eps, 1e4, 40, 30, 20, 3, 1, 0.5, 0]
    sizes = 2.0 ** draw.uniform(np.log2(top.tiny) / 2, np.log2(top.max) - 1, 1976)
    near = [draw.normal(0, 2, 4000), draw.uniform(-45, 45, 4000), draw.choice([-1, 1], 1976) * sizes]
    found = np.concatenate([ends, [-v for v in ends], *near]).astype(dtype).reshape(2500, 4)
    return found / found.dtype.type(2) if name in HALVED else found


def quiet():
    """Any warning of floating point is an error, but for a small number that becomes 0."""
    return np.errstate(all="raise", under="ignore")


def delta(f, net, e=None, xp=np):
    """e f′(net); e = 1 where none is given."""
    return f.delta(xp.ones_like(net) if e is None else e, net, f(net, xp=xp), xp=xp)


def torch_function(name):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    own = {
        "identity": lambda z: z,
        "thresholded_relu": lambda z: torch.nn.functional.threshold(z, 1.0, 0.0),
        "thresholded_relu -1/2": lambda z: torch.nn.functional.threshold(z, -0.5, 0.0),
        "elu 2": lambda z: torch.nn.functional.elu(z, 2.0),
        "celu 1/2": lambda z: torch.nn.functional.celu(z, 0.5),
        "softplus": lambda z: torch.nn.functional.softplus(z, threshold=1e4),
        "gelu_tanh": lambda z: torch.nn.functional.gelu(z, approximate="tanh"),
        # Torch's own has 1/6 in float32 as its derivative
        "hard_sigmoid": lambda z: torch.where(abs(z) < 3, (z + 3) / 6, (z > 0).to(z.dtype)),
        "softmax": lambda z: torch.softmax(z, dim=1),
        "log_softmax": lambda z: torch.log_softmax(z, dim=1),
    }
    label = name.removesuffix(" >")
    return torch, own.get(label) or getattr(torch.nn.functional, label.replace("hard_", "hard"))


# ---------------------------------------------------------------- against Torch and SciPy
@pytest.mark.parametrize("name", EVERY)
def test_activations_equal_torch(name):
    torch, f = torch_function(name)
    net = points(name=name)
    want = f(torch.tensor(net)).numpy()
    # Torch forms 1 + erf and 1 + tanh, which are known to a few units of 1e-16: times net
    atol = 4 * EPS["float64"] * np.minimum(abs(net), 40) if name.startswith("gelu") else 0
    assert np.all(abs(EVERY[name](net, xp=np) - want) <= 1e-13 * abs(want) + atol)


@pytest.mark.parametrize("name", [name for name in EVERY if name not in ("relu", "leaky_relu")])
def test_derivatives_equal_autograd_at_the_kinks_too(name):
    torch, f = torch_function(name)
    net, e = points(name=name), np.random.default_rng(1).normal(size=(2500, 4))
    leaf = torch.tensor(net, requires_grad=True)
    f(leaf).backward(torch.tensor(e))
    want = leaf.grad.numpy()
    known = np.isfinite(want)
    assert np.mean(known) > (0.8 if name == "gelu_tanh" else 0.999)  # its cubes overflow in Torch
    # what is left of 1 − tanh² and the like, known to 1e-16, times net; where f′ is a sum, so is its error
    off = abs(EVERY[name].delta(e, net, EVERY[name](net, xp=np), xp=np) - want)[known]
    size = np.sum(abs(e), axis=1, keepdims=True) * np.ones((1, 4))
    assert np.all(off <= 1e-13 * abs(want[known]) + 1e-14 * size[known])


def test_gelu_and_softplus_equal_scipy_and_numpy_far_left_too():
    special = pytest.importorskip("scipy.special", reason="scipy is not installed")
    net = points()
    far = net[net > -37.5]  # beyond, Φ has fewer digits than a float
    phi = special.ndtr(far)  # its exponent and ours are rounded, each to 1e-13 far left
    np.testing.assert_allclose(activations.gelu(far, xp=np), far * phi, rtol=3e-13)
    np.testing.assert_allclose(functions.normal_cdf(far, xp=np), phi, rtol=3e-13)
    np.testing.assert_allclose(activations.softplus(net, xp=np), np.logaddexp(0, net), rtol=1e-15)
    np.testing.assert_allclose(
        activations.log_softmax(net / 2, xp=np), special.log_softmax(net / 2, axis=1), rtol=1e-15, atol=1e-15
    )


@pytest.mark.parametrize("name", EVERY)
def test_float32_is_float64_rounded(name):
    """To a few units; the exponent of a normal density has a²/4 of them, and sums lose what cancels."""
    f, net = EVERY[name], points("float32", name)
    for narrow, wide in (
        (f(net, xp=np), f(net.astype("float64"), xp=np)),
        (delta(f, net, np.tile(net[::-1, :1] > 0, 4).astype("float32")),
         delta(f, net.astype("float64"), np.tile(net[::-1, :1] > 0, 4).astype("float64"))),
    ):  # fmt: skip
        assert narrow.dtype == "float32"
        rtol = 50 if name.startswith("gelu") or name in OF_ROWS else 8
        np.testing.assert_allclose(narrow, wide, rtol=rtol * EPS["float32"], atol=16 * EPS["float32"])


# ---------------------------------------------------------------- the normal distribution
def test_the_normal_distribution_has_all_its_digits():
    mpmath = pytest.importorskip("mpmath", reason="mpmath is not installed")
    x = np.concatenate([np.linspace(-37.5, 9, 400), [-1e-300, -1e-9, 0.0, 1e-9, 1e-300]])
    with mpmath.workdps(40):
        want = [mpmath.ncdf(mpmath.mpf(v)) for v in x.tolist()]
    for found, eps in (
        (functions.normal_cdf(x, xp=np), EPS["float64"]),
        (functions.normal_cdf(x[x > -12].astype("float32"), xp=np), EPS["float32"]),
    ):
        at = x if found.dtype == "float64" else x[x > -12].astype("float32").astype("float64")
        exact = want if found.dtype == "float64" else [mpmath.ncdf(mpmath.mpf(v)) for v in at.tolist()]
        off = [abs(float(mpmath.mpf(float(a)) / b - 1)) for a, b in zip(found, exact, strict=True)]
        assert np.all(off <= eps * (5 + at**2 / 4 * (at < 0)))


def test_the_coefficients_of_the_normal_distribution_are_those_of_its_docstring():
    mpmath = pytest.importorskip("mpmath", reason="mpmath is not installed")
    n = 11
    with mpmath.workdps(60):
        equations, right = mpmath.matrix(2 * n), mpmath.matrix(2 * n, 1)
        for i in range(2 * n):
            u = mpmath.cos((2 * i + 1) * mpmath.pi / (4 * n))
            a = 4 * (1 + u) / (1 - u)
            tail, size = mpmath.ncdf(-a) * mpmath.exp(a * a / 2), (1 + a) ** n
            equations[i, :] = mpmath.matrix(
                [[*(a**k / size for k in range(n)), *(-tail * a**k / size for k in range(1, n + 1))]]
            )
            right[i] = tail / size
        found = [float(c) for c in mpmath.lu_solve(equations, right)]
    p, q = ([*reversed(coefficients)] for coefficients in functions._TAIL)
    np.testing.assert_allclose([*p, *q[1:]], found, rtol=1e-15)
    assert q[0] == 1


# ---------------------------------------------------------------- kinks
KINKS = {
    "relu": {0: 1}, "relu >": {0: 0}, "leaky_relu": {0: 1}, "leaky_relu >": {0: 0.01},
    "thresholded_relu": {1: 0}, "thresholded_relu -1/2": {-0.5: 0},
    "elu 2": {0: 2}, "selu": {0: 1.0507009873554805 * 1.6732632423543772},
    "hard_sigmoid": {-3: 0, 3: 0}, "hard_swish": {-3: 0, 3: 1},
}  # fmt: skip


@pytest.mark.parametrize("name", KINKS)
def test_derivatives_at_kinks_are_what_is_documented(name):
    for kink, slope in KINKS[name].items():
        net = np.asarray([[kink, -0.0 if kink == 0 else kink]])
        assert delta(EVERY[name], net).tolist() == [[slope, slope]]
        left, right = (delta(EVERY[name], np.nextafter(net, to)).tolist()[0][0] for to in (-np.inf, np.inf))
        jump = name.startswith("thresholded")
        assert slope in (left, right)
        assert jump or left != pytest.approx(right), "it is a kink"


@pytest.mark.parametrize("name", EVERY)
def test_derivatives_equal_central_differences_off_the_kinks(name):
    draw, h = np.random.default_rng(2), 1e-5
    net, e, v = draw.uniform(-6, 6, (1000, 3)), draw.normal(size=(1000, 3)), draw.normal(size=(1000, 3))
    for kink in KINKS.get(name, {}):
        net = np.where(abs(net - kink) < 1e-3, kink + 0.1, net)
    f = EVERY[name]
    differences = np.sum(e * (f(net + h * v, xp=np) - f(net - h * v, xp=np)), axis=1) / (2 * h)
    np.testing.assert_allclose(np.sum(delta(f, net, e) * v, axis=1), differences, rtol=1e-8, atol=3e-9)


# ---------------------------------------------------------------- the ends of the floats
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EVERY)
def test_the_ends_of_the_floats_give_numbers_without_a_warning(name, dtype):
    f, net = EVERY[name], points(dtype, name)
    with quiet():
        made = f(net, xp=np), delta(f, net), delta(f, net, -net)
        assert all(a.dtype == dtype and np.all(np.isfinite(a)) for a in made)
        if name not in OF_ROWS:
            for v in net[:6].ravel():
                single = np.asarray(v)
                assert np.asarray(f(single, xp=np)).dtype == np.asarray(delta(f, single)).dtype == dtype
                assert np.isfinite(f(single, xp=np))
                assert np.isfinite(delta(f, single))


def test_outputs_at_the_ends_are_the_limits():
    top = float(np.finfo("float64").max)
    ends = np.asarray([[-top, top]])
    for name in ("relu", "elu", "celu", "softplus", "gelu", "gelu_tanh", "silu", "hard_swish", "mish"):
        left = -1 if name in ("elu", "celu") else 0
        assert ALL[name](ends, xp=np).tolist() == [[left, top]], name
        assert delta(ALL[name], ends).tolist() == [[0, 1]], name
    for name, left in {"sigmoid": 0, "hard_sigmoid": 0, "tanh": -1, "softsign": -1}.items():
        assert ALL[name](ends, xp=np).tolist() == [[left, 1]], name
        assert delta(ALL[name], ends).tolist() == [[0, 0]], name


def test_settings_of_numpy_keep_float32():
    net = np.ones((1, 2), dtype="float32")
    for kind in (LeakyReLU, ELU, CELU, ThresholdedReLU):
        f = kind(np.float64(0.5))
        assert type(next(iter(vars(f).values()))) is float
        assert f(net, xp=np).dtype == delta(f, net).dtype == "float32"


# ---------------------------------------------------------------- fractions and JAX
RATIONAL = {  # o and f′ of a fraction
    "hard_sigmoid": (lambda z: min(max(z / 6 + F(1, 2), 0), 1), lambda z: F(1, 6) if -3 < z < 3 else 0),
    "hard_swish": (
        lambda z: z * min(max(z / 6 + F(1, 2), 0), 1),
        lambda z: z / 3 + F(1, 2) if -3 < z < 3 else F(z > 0),
    ),
    "softsign": (lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2),
    "thresholded_relu": (lambda z: z if z > 1 else 0, lambda z: F(z > 1)),
}


@pytest.mark.parametrize("name", RATIONAL)
def test_rational_activations_are_exact_on_fractions(name):
    values = [F(k, 7) for k in range(-28, 29)]
    there, net = backends.get("exact").xp, bp.asarray([[str(v) for v in values]], backend="exact")
    o = ALL[name](net, xp=there)
    slopes = ALL[name].delta(there.ones_like(net), net, o, xp=there)
    for found, want in zip((o, slopes), RATIONAL[name], strict=True):
        assert found.tolist() == [[want(v) for v in values]]


def test_under_jit_activations_are_what_they_are_on_numpy():
    jax = pytest.importorskip("jax", reason="jax is not installed")
    net = points(name="selu")
    net[abs(net) < np.finfo("float64").tiny] = 0  # as XLA does

    def every(net, xp=jax.numpy):
        return {name: (f(net, xp=xp), delta(f, net, xp=xp)) for name, f in EVERY.items()}

    want, found = every(net, np), jax.jit(every)(net)
    for name, pair in want.items():
        for one, other in zip(pair, found[name], strict=True):
            assert one.dtype == other.dtype == "float64"
            # a fused product and sum is rounded once; in an exponent of 700 that is 700 units
            np.testing.assert_allclose(other, one, rtol=1e-13, atol=1e-14, err_msg=name)


# ---------------------------------------------------------------- first weights
def test_rectified_are_those_that_shut_on_the_left_and_pass_on_the_right():
    ends = np.asarray([[-1e3, 1e3]])
    for name, f in ALL.items():
        if name in OF_ROWS:
            continue
        left, right = f(ends, xp=np)[0]
        rectifies = abs(left) <= 10 and right == 1e3 and f(np.zeros(1), xp=np) == 0
        assert getattr(f, "rectified", False) == rectifies, name
