"""The kernels of the GPU, without a GPU: the source CuPy makes of each, compiled for an H100 by NVRTC.

Without CuPy all tests are skipped, without NVRTC those that compile. No driver is needed.
"""

import ctypes
import importlib.util
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import loss_scale
from backprop_xp.compiler.cuda import cublaslt, executable, feed, row_kernel
from backprop_xp.compiler.cuda.products import PRECISIONS
from backprop_xp.compiler.fusion import fuse
from backprop_xp.compiler.ir import abstract
from backprop_xp.compiler.recorder import record

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
compat = pytest.importorskip("array_api_compat.cupy", reason="CuPy is not installed")
ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
ARCHITECTURE = "sm_90"


def neighbour(name):
    """A module of this folder."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dense(*widths, gate=">"):
    hidden = [bp.Dense(n, bp.activations.ReLU(gate)) for n in widths[1:-1]]
    return bp.chain(widths[0], *hidden, bp.Dense(widths[-1]))


LEARNERS = {name: (learner, 4) for name, learner in neighbour("test_record").LEARNERS.items()}
STEPS = {
    "G1": (bp.Learner(dense(64, 64, 64, 64, 64), bp.softmax_cross_entropy, bp.Adam()), 256),
    "G2": (bp.Learner(dense(784, 512, 256, 10), bp.softmax_cross_entropy, bp.Adam()), 128),
    "G2, gate >=": (
        bp.Learner(dense(784, 512, 256, 10, gate=">="), bp.softmax_cross_entropy, bp.Adam()),
        128,
    ),
    "momentum": (bp.Learner(dense(784, 30, 10), bp.half_squared_error, bp.updates.Momentum()), 128),
    "per sample": (bp.Learner(dense(784, 30, 10), bp.softmax_cross_entropy, bp.GradientDescent(0.01)), 1),
}


# ---------------------------------------------------------------- what CuPy makes of a kernel
def array(shape, dtype):
    """A CuPy array over host memory: it has all that tracing looks at."""
    raw = np.zeros(shape, dtype)
    memory = cupy.cuda.UnownedMemory(raw.ctypes.data, max(raw.nbytes, 1), raw, device_id=0)
    return cupy.ndarray(raw.shape, raw.dtype, memptr=cupy.cuda.MemoryPointer(memory, 0))


def traced(function, given):
    """The kernel that `cupy.fuse` makes of a function of arrays."""
    from cupy._core import fusion

    history = fusion._thread_local.history = fusion._FusionHistory()
    fusion._thread_local.is_old_fusing = True
    try:
        return history.get_fusion(function, given, "chain")[0]
    finally:
        fusion._thread_local.history, fusion._thread_local.is_old_fusing = None, False


def dtypes(kernel, given):
    """Those that CuPy gives the results of an elementwise kernel."""
    return list(kernel._decide_params_type(tuple(a.dtype for a in given), ())[1])


def elementwise(kernel, given, made=()):
    """The source of an elementwise kernel for these arguments."""
    from cupy._core import _carray, _kernel, _scalar

    types = tuple(a.dtype if isinstance(a, cupy.ndarray) else None for a in given)
    into, out, names = kernel._decide_params_type(types, tuple(a.dtype for a in made))
    looped = [getattr(a, "ndim", 0) for a, p in zip(given, kernel.in_params, strict=True) if not p.raw]
    ndim = max(looped, default=0) or 1
    made = made or [array((2,) * ndim, dtype) for dtype in out]
    infos = []
    for a, p, dtype in zip((*given, *made), kernel.params, (*into, *out), strict=False):
        if isinstance(a, cupy.ndarray):
            dims = a.ndim if p.raw else ndim
            infos.append(_kernel._ArgInfo(1, cupy.ndarray, a.dtype, dims, a.ndim == dims, True))
        else:
            infos.append(_kernel._ArgInfo(3, _scalar.CScalar, np.dtype(dtype), 0, True, True))
    indexer = _kernel._ArgInfo(2, _carray.Indexer, None, ndim, True, True)
    return with_headers(
        _kernel._get_elementwise_kernel_code(
            (*infos, indexer), names, kernel.params, kernel.operation, kernel.name, kernel.preamble
        )
    )


def with_headers(source):
    from cupy._core import core

    return "".join(f"#include <{header}>\n" for header in core._cupy_header_list) + source


def fused(learner, rows):
    (features,), (units,) = learner.net.outputs[0], learner.net.outputs[-1]
    labels = learner.loss.targets == "distribution"
    t = abstract((rows,), np.int32) if labels else abstract((rows, units), np.float32)
    x = abstract((rows, features), np.int32 if learner.net.categories else np.float32)
    w, s = replace(learner, precision=None).init()
    if learner.precision == "float16":  # which NumPy does not have
        s = s._replace(scale=loss_scale.first_scale(w, xp=np, device=None))
    return fuse(record(learner.pure, w, s, x, t), 2)


def sources(learner, rows):
    """The kernels of a step that are not those of a library."""
    found = fused(learner, rows)
    values = found.program.values
    products = [kernel for kernel in found.kernels if kernel.kind == "matmul" and len(kernel.ops) > 1]
    epilogues = [kernel.split_epilogue()[1] for kernel in products]  # they run where cuBLASLt cannot
    for kernel in (*found.kernels, *epilogues):
        given = [array(values[v].shape, values[v].dtype) for v in kernel.reads]
        if kernel.kind == "rows":
            strides = [tuple(s // a.itemsize for s in a.strides) for a in given]
            yield row_kernel.Source(kernel, values, strides).text
        elif kernel.kind == "elementwise" and len(kernel.ops) > 1:
            made = traced(executable.chain(kernel, compat), given)
            assert type(made).__name__ == "ElementwiseKernel"
            assert dtypes(made, given) == [values[v].dtype for v in kernel.makes]
            yield elementwise(made, given)


def others():
    """The kernels around a step: gathering rows, stacking results, rounding factors."""
    index, step = array((5, 8), "int32"), array((1,), "int32")
    for t in (array((9,), "int32"), array((9, 3), "float32")):
        rows = [array((9, 4), "float32"), t, array((9,), "float64"), array((9, 2, 2), "uint8")]
        out, columns = [array((8, *a.shape[1:]), a.dtype) for a in rows], [4, t.size // 9, 1, 4]
        kernel = feed.gather_kernel(cupy, [a.dtype for a in rows])
        yield elementwise(kernel, [index, step, *rows, 8, 9, 4, *columns], out)
    for shapes in ([(), (1,)], [(3,), (2, 2)], []):
        made = [array(shape, dtype) for shape, dtype in zip(shapes, ("float32", "int32"), strict=False)]
        stacks, dtypes = [array((5, *a.shape), a.dtype) for a in made], [a.dtype for a in made]
        yield elementwise(feed.store_kernel(cupy, dtypes), made, [*stacks, step])
        if made:
            sizes = [a.size for a in made]
            yield elementwise(feed.stack_kernel(cupy, dtypes), [step, *made, *sizes], stacks)
    factor = array((8, 4), "float32")
    for narrow in ("float16", ml_dtypes.bfloat16):
        kernel = cupy.ElementwiseKernel("T x", "U y", "y = x", "rounded")  # what `astype` does
        yield elementwise(kernel, [factor], [array((8, 4), narrow)])


@pytest.mark.parametrize("name", LEARNERS | STEPS)
def test_every_chain_is_one_kernel_of_real_cupy(name):
    assert list(sources(*(LEARNERS | STEPS)[name]))


def test_real_cupy_has_the_operations_left_to_it():
    assert [name for name in executable.FROM_LIBRARY if not callable(getattr(compat, name, None))] == []
    assert all(hasattr(cupy.ndarray, method) for method in executable.IN_PLACE.values())


# ---------------------------------------------------------------- what NVRTC makes of it
@pytest.fixture(scope="module")
def compiled():
    """Compiles a source, once."""
    try:
        from cupy._core import core
        from cupy_backends.cuda.libs import nvrtc

        nvrtc.getVersion()
        options = (*core.assemble_cupy_compiler_options(()), f"-arch={ARCHITECTURE}")
    except (ImportError, RuntimeError) as reason:
        pytest.skip(f"NVRTC or the headers of CUDA are not installed: {reason}")

    @cache
    def run(source):
        program = nvrtc.createProgram(source, "kernel.cu", (), ())
        try:
            nvrtc.compileProgram(program, options)
        except nvrtc.NVRTCError:
            pytest.fail(f"{nvrtc.getProgramLog(program)}\n{source}")
        return nvrtc.getCUBIN(program)

    return run


@pytest.mark.parametrize("name", [*STEPS, "float16", "losses and rules"])
def test_the_kernels_of_a_step_compile(name, compiled):
    if name == "losses and rules":
        found = [source for learner, rows in LEARNERS.values() for source in sources(learner, rows)]
    elif name == "float16":
        learner, rows = STEPS["G2"]
        found = list(sources(replace(learner, precision="float16"), rows))
    else:
        found = list(sources(*STEPS[name]))
    assert found
    assert all(compiled(source) for source in found)


def test_the_kernels_around_a_step_compile(compiled):
    assert all(compiled(source) for source in others())


def test_what_does_not_compile_is_seen(compiled):
    with pytest.raises(pytest.fail.Exception, match="undefined"):
        compiled('extern "C" __global__ void rows(float* a) { a[0] = b; }')


# ---------------------------------------------------------------- what cuBLASLt makes of our descriptors
@pytest.fixture(scope="module")
def lt():
    """The real library; only its heuristic and its products need a driver."""
    try:
        return cublaslt.loaded()
    except bp.errors.BackendUnavailable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("epilogue", cublaslt.EPILOGUES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_real_cublaslt_accepts_every_descriptor(precision, epilogue, lt):
    of = PRECISIONS[precision]
    factors = [
        cublaslt.Matrix(512, 784, 512, transposed=False),
        cublaslt.Matrix(128, 784, 128, transposed=True),
    ]
    result = cublaslt.Matrix(512, 128, 512, transposed=False)
    product = cublaslt.new_product(lt, of, factors, epilogue)
    cublaslt.set_bias_pointer(lt, product, 4096)
    kinds = of.operands, of.operands, of.result
    layouts = [cublaslt.new_layout(lt, kind, m) for kind, m in zip(kinds, (*factors, result), strict=True)]
    told = ctypes.c_uint32(), ctypes.c_size_t()
    status = lt.cublasLtMatmulDescGetAttribute(
        product, ctypes.c_int(7), ctypes.byref(told[0]), ctypes.c_size_t(4), ctypes.byref(told[1])
    )
    assert (status, told[0].value) == (0, cublaslt.EPILOGUES[epilogue])
    with pytest.raises(
        RuntimeError, match="cuBLASLt failed: not initialized"
    ):  # as far as it comes: no driver
        cublaslt.algorithms(lt, None, product, layouts, (16,) * 4, "a product")


def test_the_real_cublaslt_tells_its_version(lt):
    assert lt.cublasLtGetVersion() > cublaslt.SUMS_OF_ONE_ROW > 120000
