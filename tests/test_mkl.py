"""Products by MKL: the numbers of NumPy to rounding, in plans and nowhere else."""

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp.backends import _mkl


@pytest.fixture(autouse=True)
def asked_for(monkeypatch):
    monkeypatch.setenv("BACKPROP_XP_MKL", "1")
    _mkl.loaded.cache_clear()
    if _mkl.loaded() is None:
        pytest.skip("mkl is not installed")
    yield
    _mkl.loaded.cache_clear()


DRAW = np.random.default_rng(0)


def matrix(rows, columns, dtype, turned):
    a = DRAW.standard_normal((columns, rows) if turned else (rows, columns)).astype(dtype)
    return a.T if turned else a


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 4), (17, 1, 5), (1, 31, 7), (64, 128, 33)])
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
def test_products_are_those_of_numpy(shape, turned, dtype):
    m, k, n = shape
    a, b, out = matrix(m, k, dtype, turned[0]), matrix(k, n, dtype, turned[1]), np.empty((m, n), dtype=dtype)
    _mkl.product(a, b, out)()
    np.testing.assert_allclose(out, a @ b, rtol=0, atol=4 * k * np.finfo(dtype).eps)


def test_what_mkl_does_not_take_is_left_to_numpy():
    a, out = np.ones((4, 4), dtype="f4"), np.empty((4, 4), dtype="f4")
    assert _mkl.product(a, a[:, ::2], np.empty((4, 2), dtype="f4")) is None
    assert _mkl.product(a, a, np.empty((8, 4), dtype="f4")[::2]) is None
    assert _mkl.product(a, a.astype("f8"), out) is None
    assert _mkl.product(np.ones((2, 4, 4), dtype="f4"), a, out) is None
    assert (
        _mkl.product(np.ones((4, 4), dtype=int), np.ones((4, 4), dtype=int), np.empty((4, 4), dtype=int))
        is None
    )


def test_large_products_of_a_plan_go_to_mkl(monkeypatch):
    learner = bp.Learner(bp.chain(20, bp.Dense(30, bp.relu), bp.Dense(3)), update=bp.Adam(0.01))
    x, t = DRAW.standard_normal((16, 20)).astype("f4"), DRAW.standard_normal((16, 3)).astype("f4")
    found = {}
    for pays in (0, float("inf")):
        monkeypatch.setattr(_mkl, "PAYS", pays)
        w, s = learner.init(seed=1)
        step = learner.compile(w)
        for _ in range(5):
            w, s, _ = step(w, s, x, t)
        found[pays] = w
    np.testing.assert_allclose(found[0], found[float("inf")], rtol=1e-4, atol=1e-6)


def test_mkl_that_is_not_asked_for_is_not_used(monkeypatch):
    monkeypatch.delenv("BACKPROP_XP_MKL")
    _mkl.loaded.cache_clear()
    assert _mkl.loaded() is None
