"""The kernels we generate, compiled as C++ and run on the processor, a thread for each CUDA thread.

Results equal those of NumPy for the same operations, except for the order in which a row is summed.
"""

import ctypes
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp.compiler import rowwise
from backprop_xp.compiler.cuda import feed, row_kernel
from backprop_xp.compiler.cuda.executable import chain
from backprop_xp.compiler.fusion import fuse
from backprop_xp.compiler.ir import ASSIGN, OPERATIONS, abstract
from backprop_xp.compiler.recorder import record


def neighbour(name):
    """A module of this folder."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


recorded = neighbour("test_record")

GPU = """\
#include <barrier>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>
using namespace std;
struct Place { unsigned x; };
static thread_local Place threadIdx, blockIdx;
static Place blockDim, gridDim;
static unique_ptr<barrier<>> everyone;
static vector<unique_ptr<barrier<>>> warps;
static char exchanged[1024][8];
static void __syncthreads() { everyone->arrive_and_wait(); }
static void __threadfence() {}
static unsigned atomicInc(unsigned* at, unsigned limit) {
    unsigned old = *at;
    *at = old >= limit ? 0 : old + 1;
    return old;
}
template <class T> static T __shfl_xor_sync(unsigned, T mine, int distance) {
    T other;
    memcpy(exchanged[threadIdx.x], &mine, sizeof mine);
    warps[threadIdx.x / 32]->arrive_and_wait();
    memcpy(&other, exchanged[threadIdx.x ^ distance], sizeof other);
    warps[threadIdx.x / 32]->arrive_and_wait();
    return other;
}
static void launch(unsigned blocks, unsigned size, function<void()> kernel) {
    gridDim.x = blocks, blockDim.x = size;
    for (unsigned block = 0; block < blocks; ++block) {
        everyone = make_unique<barrier<>>(size);
        warps.clear();
        for (unsigned k = 0; k < size / 32; ++k) warps.push_back(make_unique<barrier<>>(32));
        vector<thread> threads;
        for (unsigned k = 0; k < size; ++k)
            threads.emplace_back([=] { threadIdx.x = k, blockIdx.x = block; kernel(); });
        for (auto& each : threads) each.join();
    }
}
#define __global__
#define __shared__ static
"""


def learner(loss, units, update=None, **more):
    return bp.Learner(bp.chain(4, bp.Dense(units)), loss, update or bp.Adam(0.01), **more)


def falling_rate(n, *, xp):
    return 0.1 * xp.cos(n) ** 3


LEARNERS = {name: (each, 4) for name, each in recorded.LEARNERS.items()}
SHAPES = {
    f"{units} columns, {rows} rows": (learner(bp.softmax_cross_entropy, units), rows)
    for units, rows in ((2, 1), (3, 70), (33, 5), (200, 19), (256, 3), (10, 100))
} | {
    "a sum of squares": (learner(bp.half_squared_error, 64, reduction="sum"), 40),
    "a rate schedule": (learner(bp.losses.mean_absolute_error, 5, bp.updates.Momentum(falling_rate)), 9),
}  # fmt: skip
CASES = [(name, "float32") for name in LEARNERS] + [(n, d) for n in SHAPES for d in ("float32", "float64")]
LEARNERS |= SHAPES


def row_kernels(learner, rows, dtype="float32"):
    """The row kernels of a step, and an abstract array of each value."""
    (features,), (units,) = learner.net.outputs[0], learner.net.outputs[-1]
    labels = learner.loss.targets == "distribution"
    t = abstract((rows,), np.int32) if labels else abstract((rows, units), dtype)
    categories = learner.net.nodes[0].layer.integers
    x = abstract((rows, features), np.int32 if categories else dtype)
    fused = fuse(record(learner.pure, *learner.init(dtype=dtype), x, t), 2)
    return [kernel for kernel in fused.kernels if kernel.kind == "rows"], fused.program.values


def arguments(kernel, values, draw):
    """Arrays for a kernel to read, matrices among them columns of a wider array."""
    for v in kernel.reads:
        like = values[v]
        kinds = {"f": draw.standard_normal, "b": lambda n: draw.random(n) < 0.5}
        drawn = kinds.get(like.dtype.kind, lambda n: draw.integers(0, 3, n))
        shape = (*like.shape[:-1], like.shape[-1] + 3) if like.ndim == 2 else like.shape
        made = np.asarray(drawn(shape)).astype(like.dtype)
        yield made[:, : like.shape[1]] if like.ndim == 2 else made


AROUND = f"""
extern "C" void gather(
    int* index, int* step, float* from0, int* from1, double* from2, long long batch, long long rows,
    long long widest, long long columns0, long long columns1, long long columns2,
    float* to0, int* to1, double* to2, long long size
) {{ for (long long i = 0; i < size; ++i) {{ {feed.gather_source(3)} }} }}
extern "C" void stack(
    int* step, float* from0, double* from1, long long size0, long long size1, float* to0, double* to1,
    long long size
) {{ for (long long i = 0; i < size; ++i) {{ {feed.stack_source(2)} }} }}
extern "C" void store(float* from0, double* from1, float* to0, double* to1, int* step)
{{ {feed.store_source(2)} }}
"""


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Every kernel of every learner, compiled together."""
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler (g++) is here")
    folder, text, found = tmp_path_factory.mktemp("rows"), [GPU, AROUND], {}
    draw = np.random.default_rng(0)
    for name, dtype in CASES:
        kernels, values = row_kernels(*LEARNERS[name], dtype)
        for kernel in kernels:
            arrays = list(arguments(kernel, values, draw))
            strides = [tuple(s // a.itemsize for s in a.strides) for a in arrays]
            source = row_kernel.Source(kernel, values, strides)
            k = len(text)
            kinds = re.search(r"rows\((.*)\)", source.text)[1].split(", ")
            passed = ", ".join(f"({kind.rpartition(' ')[0]})given[{n}]" for n, kind in enumerate(kinds))
            text += [
                source.text.replace(" rows(", f" rows_{k}("),
                f'extern "C" void launch_{k}(void** given) {{',
                f"    launch({source.blocks}, {row_kernel.THREADS}, [=] {{ rows_{k}({passed}); }});\n}}",
            ]
            found.setdefault((name, dtype), []).append((k, kernel, values, source, arrays))
    (folder / "rows.cpp").write_text("\n".join(text))
    command = ["g++", "-std=c++20", "-w", "-shared", "-fPIC", "-pthread", "rows.cpp", "-o", "rows.so"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:5000]
    return ctypes.CDLL(str(folder / "rows.so")), found


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_the_source_of_a_kernel_does_what_its_operations_do(name, dtype, cases):
    library, found = cases
    assert (name, dtype) in found, "the loss of each learner is a row kernel"
    for k, kernel, values, source, arrays in found[name, dtype]:
        made = [np.full(values[v].shape, 77, values[v].dtype) for v in source.outputs]
        finished = np.zeros(1, np.uint32)
        mine, theirs = ([np.array(a) if not a.ndim else a for a in arrays] for _ in range(2))
        for _ in range(2):  # twice: the last block resets the counter
            pointers = [a.ctypes.data for a in (*mine, *made, finished)]
            library[f"launch_{k}"]((ctypes.c_void_p * len(pointers))(*pointers))
            with np.errstate(all="ignore"):
                expected = chain(kernel, np)(*theirs)
        expected = expected if isinstance(expected, tuple) else (expected,) * bool(kernel.makes)
        close = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-12}
        for one, other in zip((*made[: len(kernel.makes)], *mine), (*expected, *theirs), strict=True):
            np.testing.assert_allclose(one, other, **close)
        assert finished[0] == 0


def called(function, *given):
    """A C function, given the addresses of arrays and long integers."""
    function(*(ctypes.c_longlong(a) if isinstance(a, int) else ctypes.c_void_p(a.ctypes.data) for a in given))


def test_rows_are_gathered_and_results_are_stacked(cases):
    library, _ = cases
    draw = np.random.default_rng(0)
    data = (
        draw.standard_normal((9, 4)).astype("f4"),
        draw.integers(0, 100, (9, 6)).astype("i4"),
        draw.random(9),
    )
    index = draw.integers(-9, 18, (5, 8)).astype("i4")  # a row that does not exist wraps around
    step = np.zeros(1, "i4")
    numbers, arrays = (np.zeros(5, "f4"), np.zeros(5)), (np.zeros((5, 3), "f4"), np.zeros((5, 2, 2)))
    for k in range(5):
        rows = [np.zeros((8, *a.shape[1:]), a.dtype) for a in data]
        called(library.gather, index, step, *data, 8, 9, 6, 4, 6, 1, *rows, 48)
        for found, a in zip(rows, data, strict=True):
            np.testing.assert_array_equal(found, a[index[k] % 9])
        large = [np.full(a.shape[1:], k + 1, a.dtype) for a in arrays]
        called(library.stack, step, *large, 3, 4, *arrays, 4)
        called(library.store, *(np.asarray(k, a.dtype) for a in numbers), *numbers, step)
    assert [a.tolist() for a in numbers] == [[0, 1, 2, 3, 4]] * 2
    assert [a.reshape(5, -1)[:, [0, -1]].tolist() for a in arrays] == [[[k + 1, k + 1] for k in range(5)]] * 2
    assert step[0] == 5


def in_row_kernels(step, columns=4):
    """The operations of a step that are in row kernels."""
    w, s, x, t = (abstract(shape, "float32") for shape in ((3,), (), (6, columns), (6,)))
    kernels = fuse(record(step, w, s, x, t), 2).kernels
    return [op for kernel in kernels if kernel.kind == "rows" for op in kernel.ops]


def counted(w, s, x, t, *, xp):
    s += 1
    return w * 2, s, xp.mean(xp.sum(x * x, axis=-1))


def softmaxed(w, s, x, t, *, xp):
    z = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return w * 2, s * 2, xp.mean(xp.sum(z / xp.sum(z, axis=-1, keepdims=True), axis=-1))


def test_operations_that_need_other_rows_are_in_other_kernels():
    names = [
        op.name for op in in_row_kernels(lambda w, s, x, t, *, xp: (w, s, xp.max(xp.sum(x * x, axis=-1))))
    ]
    assert "max" not in names
    assert "sum" in [op.name for op in in_row_kernels(counted)]
    assert not any(op.inplace and op.name == "add" for op in in_row_kernels(counted))
    assert in_row_kernels(softmaxed)
    assert not in_row_kernels(softmaxed, columns=1)


def test_every_operation_has_an_expression_or_is_left_to_the_library():
    written = {*row_kernel.EXPRESSIONS, *rowwise.COMBINED}
    assert written | rowwise.NOT_ROWWISE == OPERATIONS | {ASSIGN}
    assert not written & rowwise.NOT_ROWWISE


def test_a_row_kernel_is_given_the_arguments_its_source_declares():
    calls, compiled = [], []

    class RawKernel:
        def __init__(self, text, name):
            compiled.append(re.search(rf"{name}\((.*)\)", text)[1].split(", "))

        def __call__(self, grid, block, args):
            calls.append((grid, block, args))

    cupy = SimpleNamespace(zeros=np.zeros, empty=np.empty, uint32=np.uint32, RawKernel=RawKernel)
    (kernel, *_), values = row_kernels(*LEARNERS["33 columns, 5 rows"])
    arrays = list(arguments(kernel, values, np.random.default_rng(0)))
    run = row_kernel.compiled(cupy, kernel, values)
    made, _ = (run(*arrays) for _ in range(2))
    (parameters,) = compiled
    assert [kind.rpartition("* ")[0] for kind in parameters] == [
        {"float32": "float", "int32": "int", "uint32": "unsigned int", "bool": "bool"}[a.dtype.name]
        for a in calls[0][2]
    ]
    assert calls[0][2][-1] is calls[1][2][-1]
    assert [a.shape for a in made] == [values[v].shape for v in kernel.makes]
    (grid, block, _), _ = calls
    assert grid[0] * block[0] >= 5 * 32 > (grid[0] - 1) * block[0]
