"""Operations that run row by row, with reductions over the columns, as one CUDA kernel.

The lanes of a warp share a row of up to 256 columns. Scalars of the whole batch (the mean loss, those of
an update rule) are computed at the end, by the last block to finish. The CUDA source is generated from
the program.
"""

from collections.abc import Callable, Sequence
from string import Template
from typing import Any

import numpy as np

from ...arrays import Array
from ..ir import ASSIGN, REDUCTIONS, Op, Ref
from ..kernel import Kernel
from ..rowwise import COMBINED, shape_of

THREADS = 128  # of a block

_TYPES = {"float32": "float", "float64": "double", "int32": "int", "int64": "long long",
          "uint32": "unsigned int", "uint8": "unsigned char", "int8": "signed char",
          "bool": "bool"}  # fmt: skip
_COMPARISONS = {"equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=", "greater": ">",
                "greater_equal": ">="}  # fmt: skip
_INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "bitwise_and": "&", "bitwise_or": "|",
          "bitwise_xor": "^", "bitwise_left_shift": "<<", "bitwise_right_shift": ">>",
          "logical_and": "&&", "logical_or": "||", **_COMPARISONS}  # fmt: skip
_OF_FLOATS = ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "sin", "cos", "pow", "isfinite", "isnan")
EXPRESSIONS = {
    **{name: f"{{0}} {sign} {{1}}" for name, sign in _INFIX.items()},
    **{name: f"{name}({{0}}, {{1}})" if name == "pow" else f"{name}({{0}})" for name in _OF_FLOATS},
    "abs": "fabs({0})", "negative": "-{0}", "positive": "{0}", "square": "{0} * {0}", "astype": "{0}",
    "where": "{0} ? {1} : {2}", "logical_not": "!{0}", "bitwise_invert": "~{0}", ASSIGN: "{1}",
    "maximum": "({0} >= {1} || {0} != {0}) ? {0} : {1}", "minimum": "({0} <= {1} || {0} != {0}) ? {0} : {1}",
}  # fmt: skip


# ---------------------------------------------------------------- the source
_KERNEL = Template("""\
extern "C" __global__ void rows($parameters) {
    const long long group = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / $lanes;
    const int lane = threadIdx.x % $lanes;
    const long long row = group < $rows ? group : $rows - 1;
$body
}
""")
_FOR_COLUMNS = """\
    #pragma unroll
    for (int k = 0; k < {columns_of_a_lane}; ++k) {{
        const int j = lane + k * {lanes} < {columns} ? lane + k * {lanes} : {columns} - 1;
        {statement}
    }}"""
_ONLY_LAST_BLOCK = """\
    __threadfence();
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0) last = atomicInc(finished, gridDim.x - 1) == gridDim.x - 1;
    __syncthreads();
    if (!last) return;
    __threadfence();"""
_SUM_OVER_ROWS = """\
    __shared__ {type} parts{v}[{threads}];
    {{
        const volatile {type}* stored = q{source};
        {type} part = 0;
        for (long long i = threadIdx.x; i < {rows}; i += {threads}) part += stored[i];
        parts{v}[threadIdx.x] = part;
        for (int half = {threads} / 2; half; half /= 2) {{
            __syncthreads();
            if (threadIdx.x < half) parts{v}[threadIdx.x] += parts{v}[threadIdx.x + half];
        }}
        __syncthreads();
    }}
    const {type} v{v} = parts{v}[0]{divided};"""


class Source:
    """The CUDA source of a kernel: local v7 is value 7, p7 points to it as an input, q7 as an output.

    Args:
        kernel: operations for which `rowwise.fits` holds.
        values: for each value, by number, an array of its shape and dtype.
        strides: the strides of each value that the kernel reads, in elements.

    Attributes:
        outputs: the values that are stored: those for other kernels, then those summed over all rows.
        blocks: the size of the grid.
        text: the source.
    """

    def __init__(self, kernel: Kernel, values: Sequence[Any], strides: list[tuple[int, ...]]) -> None:
        shape = shape_of(kernel.ops, values)
        assert shape is not None
        self.values, self.shape = values, shape
        self.strides = dict(zip(kernel.reads, strides, strict=True))
        self.lanes = min(32, 1 << (shape[1] - 1).bit_length())
        self.columns_of_a_lane = -(-shape[1] // self.lanes)
        self.blocks = -(-shape[0] * self.lanes // THREADS)
        self.locals: set[int] = set()
        by_row = [op for op in kernel.ops if values[op.out].ndim]
        of_batch = [op for op in kernel.ops if not values[op.out].ndim]
        sums = [op for op in of_batch if op.name in REDUCTIONS]
        self.outputs = tuple(dict.fromkeys((*kernel.makes, *(op.args[0].value for op in sums))))
        lines = [self._statement(op) for op in by_row]
        lines += [self._store(v) for v in self.outputs if values[v].ndim]
        if of_batch:
            lines += [_ONLY_LAST_BLOCK, *map(self._sum_over_rows, sums), "    if (threadIdx.x) return;"]
            lines += [self._statement(op) for op in of_batch if op.name not in REDUCTIONS]
            lines += [f"    q{v}[0] = v{v};" for v in self.outputs if not values[v].ndim]
        parameters = [f"{self._type(v)}* p{v}" for v in kernel.reads]
        parameters += [f"{self._type(v)}* q{v}" for v in self.outputs]
        parameters += ["unsigned int* finished"]
        self.text = _KERNEL.substitute(
            parameters=", ".join(parameters), lanes=self.lanes, rows=shape[0], body="\n".join(lines)
        )

    def _type(self, v: int) -> str:
        return _TYPES[self.values[v].dtype.name]

    def _has_columns(self, v: int) -> bool:
        return bool(self.values[v].shape == self.shape)

    def _for_columns(self, statement: str) -> str:
        """A loop over the columns of a lane; its k-th column is column j of the row."""
        return _FOR_COLUMNS.format(
            columns_of_a_lane=self.columns_of_a_lane,
            lanes=self.lanes,
            columns=self.shape[1],
            statement=statement,
        )

    def _statement(self, op: Op) -> str:
        if op.name in REDUCTIONS:
            return self._reduction_over_columns(op)
        v, kind, expression = op.out, self._type(op.out), self._expression(op)
        declared = v in self.locals
        self.locals.add(v)
        if op.name == ASSIGN:
            return f"    {'' if declared else f'{kind} '}v{v} = {expression};\n    p{v}[0] = v{v};"
        if self._has_columns(v):
            loop = self._for_columns(f"v{v}[k] = {expression};")
            return f"    {kind} v{v}[{self.columns_of_a_lane}];\n{loop}"
        return f"    {kind} v{v} = {expression};"

    def _expression(self, op: Op) -> str:
        """An operation on its arguments, each cast to the type in which NumPy computes."""
        dtype = self.values[op.out].dtype
        if op.name in _COMPARISONS or op.name in ("isfinite", "isnan"):
            given = (self.values[a.value].dtype if isinstance(a, Ref) else a for a in op.args)
            dtype = np.result_type(*given)
        args = op.args[:1] if op.name == "astype" else op.args
        kinds = [_TYPES[dtype.name]] * len(args)
        if op.name == "where":
            kinds[0] = "bool"
        operands = [f"(({kind}){self._operand(a, op.out)})" for a, kind in zip(args, kinds, strict=True)]
        name = "logical_not" if op.name == "bitwise_invert" and dtype == np.bool_ else op.name
        return f"({self._type(op.out)})({EXPRESSIONS[name].format(*operands)})"

    def _operand(self, a: Any, out: int) -> str:
        """An argument of the operation that makes `out`: a constant, a local, or an element in memory."""
        if not isinstance(a, Ref):
            return f"({float(a)!r})" if isinstance(a, float) else f"({int(a)})"
        v, ndim = a.value, self.values[out].ndim
        if v in self.locals:
            return f"v{v}[k]" if self._has_columns(v) else f"v{v}"
        indices = ("row", "j")[:ndim][::-1]  # aligned at the last axis, as broadcasting is
        axes = zip(indices, self.values[v].shape[::-1], self.strides[v][::-1], strict=False)
        terms = [f"{index} * {stride}" for index, length, stride in axes if length > 1]
        return f"p{v}[{' + '.join(terms) or '0'}]"

    def _reduction_over_columns(self, op: Op) -> str:
        """Reduce the columns of each lane, then over the lanes."""
        v, kind = op.out, self._type(op.out)
        element = f"(({kind}){self._operand(op.args[0], op.args[0].value)})"
        combine = EXPRESSIONS[COMBINED[op.name]]
        if COMBINED[op.name] == "add":
            of_lane = f"if (lane + k * {self.lanes} < {self.shape[1]}) v{v} += {element};"
        else:
            of_lane = f"if (k == 0) v{v} = {element}; else v{v} = {combine.format(f'v{v}', element)};"
        lines = [f"    {kind} v{v} = 0;", self._for_columns(of_lane)]
        for distance in (1 << bit for bit in reversed(range((self.lanes - 1).bit_length()))):
            other = f"const {kind} other = __shfl_xor_sync(0xffffffffu, v{v}, {distance});"
            lines.append(f"    {{ {other} v{v} = {combine.format(f'v{v}', 'other')}; }}")
        if op.name == "mean":
            lines.append(f"    v{v} /= {self.shape[1]};")
        self.locals.add(v)
        return "\n".join(lines)

    def _store(self, v: int) -> str:
        rows, columns = self.shape
        if self._has_columns(v):
            exists = f"group < {rows} && lane + k * {self.lanes} < {columns}"
            return self._for_columns(f"if ({exists}) q{v}[row * {columns} + j] = v{v}[k];")
        return f"    if (group < {rows} && lane == 0) q{v}[row] = v{v};"

    def _sum_over_rows(self, op: Op) -> str:
        """The sum or the mean of the numbers that all rows have stored."""
        self.locals.add(op.out)
        rows = self.shape[0]
        return _SUM_OVER_ROWS.format(
            v=op.out,
            type=self._type(op.out),
            source=op.args[0].value,
            rows=rows,
            threads=THREADS,
            divided=f" / {rows}" if op.name == "mean" else "",
        )


def compiled(cupy: Any, kernel: Kernel, values: Sequence[Any]) -> Callable[..., tuple[Array, ...]]:
    """A kernel as a function of the arrays it reads; compiled at the first call."""
    finished = cupy.zeros((1,), dtype=cupy.uint32)  # a count of blocks; the last one resets it to 0
    sources: dict[Any, tuple[Source, Any]] = {}

    def run(*given: Array) -> tuple[Array, ...]:
        key = tuple(a.strides for a in given)
        if key not in sources:
            strides = [tuple(s // a.dtype.itemsize for s in a.strides) for a in given]
            source = Source(kernel, values, strides)
            sources[key] = source, cupy.RawKernel(source.text, "rows")
        source, function = sources[key]
        made = [cupy.empty(values[v].shape, dtype=values[v].dtype) for v in source.outputs]
        function((source.blocks,), (THREADS,), (*given, *made, finished))
        return tuple(made[: len(kernel.makes)])

    return run
