"""Exact arithmetic: every element of every result is a fraction, an integer or a truth, never a float."""

import math
import operator
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backprop_xp as bp
from backprop_xp import backends
from backprop_xp.exact import namespace as xp

F = Fraction
fractions = st.fractions(max_denominator=1000, min_value=-1000, max_value=1000)
rows = st.lists(fractions, min_size=1, max_size=6)


def elements(a):
    """Every element as Python keeps it."""
    return list(a._data.ravel().tolist()) if a.dtype is not xp.rational else list(a._data.flat)


def kind_of(a):
    """The one type of all elements, and the dtype that says so."""
    assert isinstance(a, xp.ExactArray), type(a)
    types = {type(value) for value in elements(a)}
    assert len(types) == 1, types
    (found,) = types
    assert {Fraction: "rational", int: "int", bool: "bool"}[found] == (
        "rational" if a.dtype is xp.rational else a.dtype.name.rstrip("0123456789").lstrip("u")
    )
    return found


R = xp.asarray([[F(1, 3), F(-2, 5), F(0)], [F(7), F(1, 2), F(-1)]])
POSITIVE = xp.asarray([[F(1, 3), F(2, 5), F(3)], [F(7), F(1, 2), F(4)]])
WHOLE = xp.asarray([[1, 2, 3], [4, 5, 6]], dtype=xp.int64)
TRUTH = xp.asarray([[True, False, True], [False, True, True]])


# ---------------------------------------------------------------- operators
ARITHMETIC = {
    operator.add: F,
    operator.sub: F,
    operator.mul: F,
    operator.truediv: F,
    operator.floordiv: F,
    operator.mod: F,
    **dict.fromkeys((operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge), bool),
}
OTHERS = {
    "an int": 2,
    "a large int": 10**30,
    "a float": 0.1,
    "a fraction": F(3, 7),
    "a truth": True,
    "fractions": POSITIVE,
    "a row": POSITIVE[0, :],
    "integers": WHOLE,
}


def meant(value):
    """The fractions that a value means, broadcast as NumPy does."""
    if isinstance(value, xp.ExactArray):
        flat = [F(v) for v in elements(value)]
        return np.asarray(flat, dtype=object).reshape(value.shape)
    return np.asarray(F(str(value)) if isinstance(value, float) else F(value), dtype=object)


def same(got, want):
    """Equal numbers, element by element, in the same shape."""
    want = np.asarray(want)
    assert got.shape == want.shape
    assert elements(got) == list(want.flat)


@pytest.mark.parametrize("swapped", [False, True], ids=["array first", "array second"])
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("op", ARITHMETIC, ids=lambda op: op.__name__)
def test_operators_give_exact_elements(op, other, swapped):
    a, b = (OTHERS[other], POSITIVE) if swapped else (POSITIVE, OTHERS[other])
    got = op(a, b)
    assert kind_of(got) is ARITHMETIC[op]
    same(got, op(meant(a), meant(b)))


@pytest.mark.parametrize("other", ["an int", "integers", "a truth"])
@pytest.mark.parametrize("op", ARITHMETIC, ids=lambda op: op.__name__)
def test_operators_keep_integers_but_for_division(op, other):
    got = op(WHOLE, OTHERS[other])
    assert kind_of(got) is (Fraction if op is operator.truediv else int if ARITHMETIC[op] is F else bool)
    same(got, op(meant(WHOLE), meant(OTHERS[other])))


@pytest.mark.parametrize(
    ("got", "want", "kind"),
    [
        (lambda: -R, [[F(-1, 3), F(2, 5), 0], [-7, F(-1, 2), 1]], F),
        (lambda: +R, [[F(1, 3), F(-2, 5), 0], [7, F(1, 2), -1]], F),
        (lambda: abs(R), [[F(1, 3), F(2, 5), 0], [7, F(1, 2), 1]], F),
        (lambda: R**2, [[F(1, 9), F(4, 25), 0], [49, F(1, 4), 1]], F),
        (lambda: R**2.0, [[F(1, 9), F(4, 25), 0], [49, F(1, 4), 1]], F),
        (lambda: R**0, [[1, 1, 1], [1, 1, 1]], F),
        (lambda: POSITIVE**-1, [[3, F(5, 2), F(1, 3)], [F(1, 7), 2, F(1, 4)]], F),
        (lambda: WHOLE**2, [[1, 4, 9], [16, 25, 36]], int),
        (lambda: 2**WHOLE, [[2, 4, 8], [16, 32, 64]], int),
        (lambda: -WHOLE, [[-1, -2, -3], [-4, -5, -6]], int),
        (lambda: ~TRUTH, [[False, True, False], [True, False, False]], bool),
        (lambda: TRUTH & ~TRUTH, [[False] * 3] * 2, bool),
        (lambda: TRUTH | ~TRUTH, [[True] * 3] * 2, bool),
        (lambda: TRUTH ^ True, [[False, True, False], [True, False, False]], bool),
        (lambda: WHOLE & 1, [[1, 0, 1], [0, 1, 0]], int),
        (lambda: WHOLE | 8, [[9, 10, 11], [12, 13, 14]], int),
        (lambda: WHOLE ^ 1, [[0, 3, 2], [5, 4, 7]], int),
        (lambda: WHOLE << 1, [[2, 4, 6], [8, 10, 12]], int),
        (lambda: WHOLE >> 1, [[0, 1, 1], [2, 2, 3]], int),
        (lambda: 1 << WHOLE, [[2, 4, 8], [16, 32, 64]], int),
        (lambda: R @ R.T, [[F(61, 225), F(32, 15)], [F(32, 15), F(201, 4)]], F),
        (lambda: WHOLE @ R.T, [[F(1, 3) - F(4, 5), 5], [F(4, 3) - 2, F(49, 2)]], F),
    ],
)  # fmt: skip
def test_unary_operators_powers_and_bits_are_exact(got, want, kind):
    assert kind_of(got()) is kind
    same(got(), want)


def test_augmented_assignment_makes_a_new_array():
    old = new = xp.asarray([0.5])
    new -= 0.1 * xp.asarray([1])
    assert elements(old) == [F(1, 2)]
    assert elements(new) == [F(2, 5)]


@given(rows, fractions)
def test_arithmetic_equals_arithmetic_of_fractions(row, c):
    a = xp.asarray(row)
    same(a + c, [v + c for v in row])
    same(c - a, [c - v for v in row])
    same(a * a, [v * v for v in row])
    same(a / (abs(c) + 1), [v / (abs(c) + 1) for v in row])
    same(xp.maximum(a, c), [max(v, c) for v in row])
    same(xp.sum(a, axis=0), sum(row, F(0)))
    same(xp.mean(a), sum(row, F(0)) / len(row))
    same(a <= c, [v <= c for v in row])


# ---------------------------------------------------------------- every function of the namespace
A, B, C = [F(1, 3), F(-2, 5), F(0)], [F(7), F(1, 2), F(-1)], [F(7, 3), F(1, 5), F(-1)]
FUNCTIONS = {
    "add": (lambda: xp.add(R, 1), F, [[v + 1 for v in A], [v + 1 for v in B]]),
    "subtract": (lambda: xp.subtract(R, R), F, [[0] * 3] * 2),
    "multiply": (lambda: xp.multiply(R, 0.5), F, [[v / 2 for v in A], [v / 2 for v in B]]),
    "divide": (lambda: xp.divide(WHOLE, 2), F, [[F(1, 2), 1, F(3, 2)], [2, F(5, 2), 3]]),
    "floor_divide": (lambda: xp.floor_divide(R, 1), F, [[0, -1, 0], [7, 0, -1]]),
    "remainder": (lambda: xp.remainder(R, 1), F, [[F(1, 3), F(3, 5), 0], [0, F(1, 2), 0]]),
    "pow": (lambda: xp.pow(R, 3), F, [[v**3 for v in A], [v**3 for v in B]]),
    "square": (lambda: xp.square(R), F, [[v * v for v in A], [v * v for v in B]]),
    "negative": (lambda: xp.negative(R), F, [[-v for v in A], [-v for v in B]]),
    "positive": (lambda: xp.positive(R), F, [A, B]),
    "abs": (lambda: xp.abs(R), F, [[abs(v) for v in A], [abs(v) for v in B]]),
    "sign": (lambda: xp.sign(R), F, [[1, -1, 0], [1, 1, -1]]),
    "maximum": (lambda: xp.maximum(R, 0), F, [[F(1, 3), 0, 0], [7, F(1, 2), 0]]),
    "minimum": (lambda: xp.minimum(R, 0), F, [[0, F(-2, 5), 0], [0, 0, -1]]),
    "equal": (lambda: xp.equal(R, 0), bool, [[False, False, True], [False] * 3]),
    "not_equal": (lambda: xp.not_equal(R, 0), bool, [[True, True, False], [True] * 3]),
    "less": (lambda: xp.less(R, 0), bool, [[False, True, False], [False, False, True]]),
    "less_equal": (lambda: xp.less_equal(R, 0), bool, [[False, True, True], [False, False, True]]),
    "greater": (lambda: xp.greater(R, 0), bool, [[True, False, False], [True, True, False]]),
    "greater_equal": (lambda: xp.greater_equal(R, 0), bool, [[True, False, True], [True, True, False]]),
    "logical_and": (lambda: xp.logical_and(TRUTH, True), bool, [[True, False, True], [False, True, True]]),
    "logical_or": (lambda: xp.logical_or(TRUTH, True), bool, [[True] * 3] * 2),
    "logical_not": (lambda: xp.logical_not(TRUTH), bool, [[False, True, False], [True, False, False]]),
    "bitwise_and": (lambda: xp.bitwise_and(WHOLE, 1), int, [[1, 0, 1], [0, 1, 0]]),
    "bitwise_or": (lambda: xp.bitwise_or(WHOLE, 8), int, [[9, 10, 11], [12, 13, 14]]),
    "bitwise_xor": (lambda: xp.bitwise_xor(WHOLE, 1), int, [[0, 3, 2], [5, 4, 7]]),
    "bitwise_invert": (lambda: xp.bitwise_invert(WHOLE), int, [[-2, -3, -4], [-5, -6, -7]]),
    "bitwise_left_shift": (lambda: xp.bitwise_left_shift(WHOLE, 1), int, [[2, 4, 6], [8, 10, 12]]),
    "bitwise_right_shift": (lambda: xp.bitwise_right_shift(WHOLE, 1), int, [[0, 1, 1], [2, 2, 3]]),
    "isfinite": (lambda: xp.isfinite(R), bool, [[True] * 3] * 2),
    "isnan": (lambda: xp.isnan(R), bool, [[False] * 3] * 2),
    "isinf": (lambda: xp.isinf(R), bool, [[False] * 3] * 2),
    "asarray": (lambda: xp.asarray([[0.5, 1], ["1/3", F(2)]]), F, [[F(1, 2), 1], [F(1, 3), 2]]),
    "zeros": (lambda: xp.zeros((2,)), F, [0, 0]),
    "ones": (lambda: xp.ones((2, 1)), F, [[1], [1]]),
    "full": (lambda: xp.full((2,), 0.1), F, [F(1, 10)] * 2),
    "eye": (lambda: xp.eye(2), F, [[1, 0], [0, 1]]),
    "arange": (lambda: xp.arange(3), int, [0, 1, 2]),
    "zeros_like": (lambda: xp.zeros_like(R), F, [[0] * 3] * 2),
    "ones_like": (lambda: xp.ones_like(WHOLE), int, [[1] * 3] * 2),
    "astype": (lambda: xp.astype(TRUTH, xp.rational), F, [[1, 0, 1], [0, 1, 1]]),
    "reshape": (lambda: xp.reshape(R, (-1,)), F, [*A, *B]),
    "permute_dims": (lambda: xp.permute_dims(R, (1, 0)), F, list(zip(A, B, strict=True))),
    "matrix_transpose": (lambda: xp.matrix_transpose(R), F, list(zip(A, B, strict=True))),
    "expand_dims": (lambda: xp.expand_dims(R, axis=0), F, [[A, B]]),
    "squeeze": (lambda: xp.squeeze(xp.expand_dims(R, axis=0), axis=0), F, [A, B]),
    "broadcast_to": (lambda: xp.broadcast_to(R[0, :], (2, 3)), F, [A, A]),
    "flip": (lambda: xp.flip(R, axis=1), F, [A[::-1], B[::-1]]),
    "concat": (lambda: xp.concat([R, WHOLE], axis=0), F, [A, B, [1, 2, 3], [4, 5, 6]]),
    "stack": (lambda: xp.stack([R[0, :], R[1, :]]), F, [A, B]),
    "take": (lambda: xp.take(R, xp.arange(2), axis=0), F, [A, B]),
    "matmul": (lambda: xp.matmul(R, xp.asarray([[1], [1], [1]])), F, [[F(-1, 15)], [F(13, 2)]]),
    "sum": (lambda: xp.sum(R, axis=0), F, [F(22, 3), F(1, 10), -1]),
    "prod": (lambda: xp.prod(R, axis=0), F, [F(7, 3), F(-1, 5), 0]),
    "max": (lambda: xp.max(R, axis=-1, keepdims=True), F, [[F(1, 3)], [7]]),
    "min": (lambda: xp.min(R, axis=-1), F, [F(-2, 5), -1]),
    "mean": (lambda: xp.mean(WHOLE, axis=0), F, [F(5, 2), F(7, 2), F(9, 2)]),
    "argmax": (lambda: xp.argmax(R, axis=1), int, [0, 0]),
    "argmin": (lambda: xp.argmin(R, axis=1), int, [1, 2]),
    "all": (lambda: xp.all(R, axis=1), bool, [False, True]),
    "any": (lambda: xp.any(R - R), bool, False),
    "where": (lambda: xp.where(R >= 0, R, 0.1), F, [[F(1, 3), F(1, 10), 0], [7, F(1, 2), F(1, 10)]]),
}  # fmt: skip
IRRATIONAL = ["exp", "expm1", "log", "log1p", "sqrt", "tanh", "sin", "cos"]
OTHER_NAMES = {"isdtype"}  # tested by itself below


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_give_exact_elements(name):
    call, kind, want = FUNCTIONS[name]
    assert kind_of(call()) is kind
    same(call(), want)


def test_every_function_of_the_namespace_is_in_the_table():
    public = {
        name
        for name, value in vars(xp).items()
        if name[0] != "_" and callable(value) and getattr(value, "__module__", "") == xp.__name__
    }
    assert public == {*FUNCTIONS, *IRRATIONAL, *OTHER_NAMES}


@pytest.mark.parametrize("name", IRRATIONAL)
def test_functions_without_rational_values_name_the_float_backends(name):
    with pytest.raises(bp.BackpropError, match=f"{name} of a fraction") as caught:
        getattr(xp, name)(R)
    assert "backend='numpy'" in str(caught.value)
    assert "float64" in str(caught.value)


@pytest.mark.parametrize("f", ["sigmoid", "tanh", "softmax"])
def test_activations_without_rational_values_name_the_float_backends(f):
    learner = bp.Learner(bp.chain(2, bp.Dense(2, getattr(bp, f))))
    w, s = learner.init(backend="exact")
    with pytest.raises(bp.BackpropError, match="use backend='numpy' with dtype='float64'"):
        learner.predict(w, s, bp.asarray([[1, 2]], like=w))


@pytest.mark.parametrize("name", ["sum", "prod", "any", "all"])
def test_reductions_of_nothing_have_their_neutral_element(name):
    nothing = xp.zeros((0, 2))
    want = {"sum": F(0), "prod": F(1), "any": False, "all": True}[name]
    for got in (getattr(xp, name)(nothing), getattr(xp, name)(nothing, axis=0)):
        assert kind_of(got) is type(want)
        assert set(elements(got)) == {want}


def test_products_over_nothing_are_zero():
    same(xp.matmul(xp.zeros((2, 0)), xp.zeros((0, 2))), [[F(0)] * 2] * 2)
    assert kind_of(xp.matmul(xp.zeros((2, 0)), xp.zeros((0, 2)))) is Fraction


# ---------------------------------------------------------------- what numbers mean
@pytest.mark.parametrize(
    ("written", "meant_by_it"),
    [
        (0.01, F(1, 100)),
        (-0.2, F(-1, 5)),
        (1e-7, F(1, 10**7)),
        (1e22, F(10**22)),
        (0.1 + 0.2, F("0.30000000000000004")),
        (5e-324, F(5, 10**324)),
        (np.float64(0.01), F(1, 100)),
        (np.float32(0.01), F(1, 100)),
        (np.float16(0.5), F(1, 2)),
        (np.int64(7), F(7)),
        (np.uint8(7), F(7)),
        (True, F(1)),
        (3, F(3)),
        ("1/3", F(1, 3)),
        ("-0.25", F(-1, 4)),
        (F(2, 6), F(1, 3)),
    ],
    ids=repr,
)
def test_numbers_mean_the_decimal_that_was_written(written, meant_by_it):
    assert xp.fraction(written) == meant_by_it
    for made in (
        xp.asarray([written], dtype=xp.rational),
        xp.asarray(np.asarray([written], dtype=object)),
        xp.full((1,), written),
        *([xp.asarray(np.asarray([written]), dtype=xp.rational)] if not isinstance(written, F) else []),
    ):
        assert elements(made) == [meant_by_it]
        assert kind_of(made) is Fraction


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_mean_their_shortest_decimal(number):
    want = F(repr(number))
    assert xp.fraction(number) == want
    assert elements(xp.asarray([number])) == [want]
    assert elements(xp.asarray(np.asarray([number]))) == [want]
    assert elements(xp.ones((1,)) * number) == [want]


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float32_means_its_own_shortest_decimal(number):
    want = F(str(np.float32(number)))
    assert elements(xp.asarray(np.asarray([number], dtype=np.float32))) == [want]
    assert elements(xp.asarray([np.float32(number)])) == [want]


@pytest.mark.parametrize(
    "bad", [math.nan, math.inf, -math.inf, np.float32("nan"), "one", None, 1j, [1]], ids=repr
)
def test_what_is_no_finite_number_is_refused(bad):
    with pytest.raises(bp.BackpropError, match="finite int, float, Fraction or text"):
        xp.fraction(bad)


@pytest.mark.parametrize("bad", [math.nan, math.inf, np.float64("-inf")], ids=repr)
def test_nan_and_infinity_are_refused_wherever_they_enter(bad):
    for enter in (
        lambda: xp.asarray([bad]),
        lambda: xp.asarray(np.asarray([1.0, bad])),
        lambda: xp.full((2,), bad),
        lambda: R * float(bad),
        lambda: xp.where(R > 0, R, float(bad)),
        lambda: bp.asarray([bad], backend="exact"),
    ):
        with pytest.raises(bp.BackpropError, match="finite"):
            enter()


OTHER_TYPES = [
    np.ones(3),
    np.ones(3, dtype=int),
    np.float64(0.5),
    np.int64(2),
    [1, 2, 3],
    (1, 2),
    "1/3",
    None,
    1j,
]


@pytest.mark.parametrize("other", OTHER_TYPES, ids=repr)
@pytest.mark.parametrize("op", ARITHMETIC, ids=lambda op: op.__name__)
def test_exact_arrays_do_not_mix_with_other_types(op, other):
    formatting = op is operator.mod and isinstance(other, str)  # text % array is Python's own
    for a, b in ((R, other), (R, other) if formatting else (other, R)):
        with pytest.raises(
            bp.BackpropError, match="exact arrays combine only with exact arrays and Python numbers"
        ) as caught:
            op(a, b)
        assert "bp.exact.asarray" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["sum", "negative", "reshape", "matmul", "where", "concat", "take", "astype"]
)
def test_functions_take_exact_arrays_alone(name):
    function, plain = getattr(xp, name), np.ones((2, 2))
    arguments = {
        "reshape": (plain, (4,)),
        "matmul": (R, plain),
        "where": (plain > 0, R, R),
        "concat": ([R, plain],),
        "take": (R, np.asarray([0])),
        "astype": (plain, xp.rational),
    }
    with pytest.raises(bp.BackpropError, match=r"bp\.exact\.asarray"):
        function(*arguments.get(name, (plain,)))


def test_matrix_products_with_numpy_are_refused():
    for a, b in ((R, np.ones((3, 1))), (np.ones((1, 2)), R)):
        with pytest.raises(bp.BackpropError, match=r"bp\.exact\.asarray"):
            a @ b


@pytest.mark.parametrize(
    "divide",
    [
        lambda: R / 0,
        lambda: 1 / R,
        lambda: R / xp.zeros((3,)),
        lambda: R // 0,
        lambda: R % 0.0,
        lambda: R**-1,
        lambda: WHOLE / 0,
        lambda: xp.mean(xp.zeros((0,))),
    ],
)
def test_division_by_zero_is_an_error(divide):
    with pytest.raises(bp.BackpropError, match="division by zero"):
        divide()


def test_powers_take_integer_exponents_alone():
    with pytest.raises(bp.BackpropError, match="integer exponent"):
        R**0.5


@pytest.mark.parametrize("leak", [[0.5], [1], [True], [None], [F(1), 2]])
def test_the_array_type_lets_nothing_but_fractions_in(leak):
    with pytest.raises(bp.BackpropError, match="fractions alone"):
        xp.ExactArray(np.asarray(leak, dtype=object))
    with pytest.raises(bp.BackpropError, match="fractions, integers or booleans"):
        xp.ExactArray(np.asarray([0.5]))


# ---------------------------------------------------------------- the standard
def test_exact_arrays_name_their_namespace():
    assert R.__array_namespace__() is xp
    assert backends.of(R).xp is xp
    assert bp.exact.asarray is xp.asarray
    assert (R.shape, R.ndim, R.size, R.device, len(R)) == ((2, 3), 2, 6, "cpu", 2)
    assert R.dtype is xp.rational
    same(R.T, list(zip(A, B, strict=True)))


@pytest.mark.parametrize(
    "kind", ["bool", "signed integer", "unsigned integer", "integral", "real floating", "numeric"]
)
def test_isdtype_tells_kinds_as_the_standard_does(kind):
    kinds = {
        xp.rational: {"real floating", "numeric"},
        xp.int64: {"signed integer", "integral", "numeric"},
        xp.int32: {"signed integer", "integral", "numeric"},
        xp.uint32: {"unsigned integer", "integral", "numeric"},
        xp.bool: {"bool"},
    }
    for dtype, own in kinds.items():
        assert xp.isdtype(dtype, kind) == (kind in own)
        assert xp.isdtype(dtype, (kind, "complex floating")) == (kind in own)
        assert xp.isdtype(dtype, dtype)
    assert not xp.isdtype(xp.rational, xp.int64)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_named_and_called_as_in_the_standard(name, monkeypatch):
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    assert hasattr(strict, name)
    if name in (
        "asarray",
        "divide",
        "mean",
        "concat",
    ):  # given text or integers, which the standard does not take
        return
    call, kind, want = FUNCTIONS[name]
    for own, dtype in (("R", "float64"), ("WHOLE", "int64"), ("TRUTH", "bool")):
        values = globals()[own].to_numpy()
        monkeypatch.setitem(globals(), own, strict.asarray(values, dtype=getattr(strict, dtype)))
    namespace = SimpleNamespace(**{n: getattr(strict, n) for n in dir(strict) if n[0] != "_"})
    namespace.rational = strict.float64
    monkeypatch.setitem(globals(), "xp", namespace)
    got = np.asarray(backends.host(call()))
    np.testing.assert_allclose(got.astype(float), np.asarray(want, dtype=float), rtol=1e-15, atol=1e-15)
    assert {F: "f", int: "iu", bool: "b"}[kind].find(got.dtype.kind) >= 0


# ---------------------------------------------------------------- whole nets
class Momentum:
    """v ← ½ v + g, w ← w − η v."""

    rate, moments = F(1, 10), 1

    def scalars(self, state, *, dtype, xp):
        return (self.rate,)

    def element(self, g, w, *rest, xp):
        v, rate = rest
        v = v * 0.5 + g
        return w - rate * v, v


@pytest.mark.parametrize(
    "loss",
    [
        bp.half_squared_error,
        bp.losses.squared_error,
        bp.losses.mean_squared_error,
        bp.losses.mean_absolute_error,
    ],
)
@pytest.mark.parametrize(
    "f",
    [
        bp.activations.identity,
        bp.relu,
        bp.activations.leaky_relu,
        bp.activations.ReLU(">"),
        bp.activations.LeakyReLU(F(1, 3)),
        bp.activations.ThresholdedReLU(F(1, 3)),
        bp.activations.hard_sigmoid,
    ],
    ids=repr,
)
def test_a_step_holds_fractions_alone(f, loss):
    net = bp.chain(2, bp.named("a", bp.Dense(3, f)), bp.Dense(3, f), bp.add("a"), bp.concat("a"), bp.Dense(2))
    for update in (Momentum(), bp.GradientDescent(0.01), bp.GradientDescent(0.1, limit=0.5, floor=0.01)):
        learner = bp.Learner(net.freeze("dense1.b"), loss, update)
        w, s = learner.init(backend="exact")
        x, t = bp.asarray([[0.5, -1], [0.1, 2]], like=w), bp.asarray([[1, 0], [0.3, -1]], like=w)
        seen = learner.pure.forward_loss(w, s, x, t, xp=xp)
        for _ in range(2):
            w, s, loss_value = learner.step(w, s, x, t)
        found = [w, loss_value, seen.loss, seen.e, *(a for flow in seen.flows for a in (flow.net, flow.o))]
        found += [*s.rule.moments, *learner.gradient(w, s, x, t).values(), learner.predict(w, s, x)]
        assert len(s.rule.moments) == update.moments
        for a in found:
            assert kind_of(a) is Fraction
        for a in (s.step, s.rule.count, s.seed):
            assert kind_of(a) is int


def test_a_step_equals_its_computation_by_hand():
    learner = bp.Learner(bp.chain(1, bp.Dense(1, bp.relu, bias=False), bp.Dense(1)), bp.half_squared_error)
    w, s = learner.init(
        backend="exact", weights={"dense1.w": [[0.3]], "dense2.w": [[-0.2]], "dense2.b": [0.1]}
    )
    w, s, loss = learner.step(w, s, bp.asarray([[2]], like=w), bp.asarray([[1]], like=w))
    o1, o2 = F(6, 10), F(-12, 100) + F(1, 10)
    e = o2 - 1
    assert elements(loss) == [e * e / 2]
    assert elements(w) == [
        F(3, 10) - F(1, 10) * (e * F(-2, 10) * 2),
        F(-2, 10) - F(1, 10) * (e * o1),
        F(1, 10) - F(1, 10) * e,
    ]


@pytest.mark.parametrize("name", ["numpy", "exact"])
def test_plain_object_arrays_are_an_error_that_names_exact_asarray(name):
    plain = np.asarray([[F(1, 2), F(1)]], dtype=object)
    learner = bp.Learner(bp.chain(2, bp.Dense(1)))
    w, s = learner.init(backend=name)
    x, t = bp.asarray([[1, 2]], like=w), bp.asarray([[1]], like=w)
    vector = np.asarray([F(1), F(2), F(3)], dtype=object)
    for use in (
        lambda: backends.of(plain),
        lambda: learner.init(like=plain),
        lambda: learner.init(like=w, weights={"dense1.w": plain.T}),
        lambda: learner.step(w, s, plain, t),
        lambda: learner.step(w, s, x, plain[:, :1]),
        lambda: learner.step(vector, s, plain, plain[:, :1]),
        lambda: learner.predict(w, s, plain),
        lambda: bp.asarray(plain, like=w),
        lambda: bp.asarray([1.0], like=plain),
    ):
        with pytest.raises(bp.BackpropError, match=r"bp\.exact\.asarray"):
            use()
    assert elements(bp.exact.asarray(plain)) == [F(1, 2), F(1)]


def test_exact_first_weights_are_the_floats_of_other_backends():
    learner = bp.Learner(bp.chain(3, bp.Dense(4, bp.relu)))
    floats, _ = learner.init(5, dtype="float64")
    w, _ = learner.init(5, backend="exact")
    assert elements(w) == [F(repr(float(v))) for v in floats]
