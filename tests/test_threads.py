"""BLAS threads: one for small products, and as before afterwards."""

import pytest

from backprop_xp.compiler.cpu import blas_threads

threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")


def threads():
    return [lib.get_num_threads() for lib in blas_threads._libraries()]


def test_small_products_run_on_one_thread():
    before = threads()
    with blas_threads.fitted(10):
        assert set(threads()) == {1}
        with blas_threads.fitted(10):
            assert set(threads()) == {1}
        assert set(threads()) == {1}
    assert threads() == before


def test_large_products_keep_their_threads():
    before = threads()
    with blas_threads.fitted(blas_threads.ALONE + 1):
        assert threads() == before


def test_threads_are_given_back_after_an_error():
    before = threads()
    with pytest.raises(ZeroDivisionError), blas_threads.fitted(10):
        1 / 0  # noqa: B018
    assert threads() == before
