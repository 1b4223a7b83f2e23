"""Operations that run row by row, sums over the columns among them, as one CUDA kernel.

The lanes of a warp share a row of up to 256 columns. What is one number for the whole batch (the mean
loss, the scalars of an update rule) is computed at the end, by the block that is done last. The source
is written from the program: no formula stands here.
"""

from math import isfinite
from string import Template
from typing import Any

import numpy as np

from ...arrays import Array
from ..ir import ASSIGN, REDUCTIONS, Op, Ref, refs

WIDEST = 256  # columns: 8 of a lane, which registers hold
THREADS = 128  # of a block

_TYPES = {"float32": "float", "float64": "double", "int32": "int", "int64": "long long",
          "uint32": "unsigned int", "uint8": "unsigned char", "int8": "signed char",
          "bool": "bool"}  # fmt: skip
_COMPARED = {"equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=", "greater": ">",
             "greater_equal": ">="}  # fmt: skip
_INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "bitwise_and": "&", "bitwise_or": "|",
          "bitwise_xor": "^", "bitwise_left_shift": "<<", "bitwise_right_shift": ">>",
          "logical_and": "&&", "logical_or": "||", **_COMPARED}  # fmt: skip
_OF_FLOATS = ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "sin", "cos", "pow", "isfinite", "isnan")
_TEXTS = {
    **{name: f"{{0}} {sign} {{1}}" for name, sign in _INFIX.items()},
    **{name: f"{name}({{0}}, {{1}})" if name == "pow" else f"{name}({{0}})" for name in _OF_FLOATS},
    "abs": "fabs({0})", "negative": "-{0}", "positive": "{0}", "square": "{0} * {0}", "astype": "{0}",
    "where": "{0} ? {1} : {2}", "logical_not": "!{0}", "bitwise_invert": "~{0}", ASSIGN: "{1}",
    "maximum": "({0} >= {1} || {0} != {0}) ? {0} : {1}", "minimum": "({0} <= {1} || {0} != {0}) ? {0} : {1}",
}  # fmt: skip
_COMBINED = {"sum": "add", "mean": "add", "max": "maximum", "min": "minimum"}


# ---------------------------------------------------------------- what fits
def fits(ops: list[Op], values: list[Any], roots: Any) -> bool:
    """Whether operations can be one kernel of rows: none needs another row, but for numbers at the end."""
    shape = _shape(ops, values)
    if shape is None or not 1 < shape[1] <= WIDEST or not all(_known(op, values) for op in ops):
        return False
    made: dict[int, int] = {}
    for op in ops:
        out = values[op.out]
        if out.shape not in (shape, (shape[0], 1), shape[:1], ()) or (op.inplace and op.name != ASSIGN):
            return False
        for v in (r.value for r in refs(op.args)):
            here = roots[v] in made
            if (here and made[roots[v]] != v) or not _reaches(op, values[v], out, shape, here=here):
                return False
        made[roots[op.out]] = op.out
    return True


def _shape(ops: list[Op], values: list[Any]) -> tuple[int, int] | None:
    """Rows and columns of what is summed over its columns."""
    for op in ops:
        if op.name in REDUCTIONS and values[op.args[0].value].ndim == 2:
            return values[op.args[0].value].shape  # type: ignore[no-any-return]
    return None


def _reaches(op: Op, source: Any, out: Any, shape: tuple[int, int], *, here: bool) -> bool:
    """Whether a row of `out`, or the one number it is, has what it needs of `source`."""
    if op.name in REDUCTIONS:
        if out.ndim:
            return op.kw.get("axis") in (-1, 1) and bool(source.shape == shape)
        return here and _COMBINED[op.name] == "add" and source.shape in (shape[:1], (shape[0], 1))
    return not here or bool(source.ndim == out.ndim)


def _known(op: Op, values: list[Any]) -> bool:
    """Whether there is a text for an operation on these types."""
    types: list[np.dtype[Any]] = [values[v].dtype for v in (op.out, *(r.value for r in refs(op.args)))]
    if not all(dtype.name in _TYPES for dtype in types):
        return False
    if any(isinstance(a, float) and not isfinite(a) for a in op.args):
        return False
    if op.name in REDUCTIONS:
        return op.name in _COMBINED and op.kw.keys() <= {"axis", "keepdims"} and types[0].kind == "f"
    if op.name in (*_OF_FLOATS, "abs"):
        return types[-1].kind == "f"
    return op.name in _TEXTS


# ---------------------------------------------------------------- the source
_SOURCE = Template("""\
extern "C" __global__ void rows($parameters) {
    const long long place = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / $lanes;
    const int lane = threadIdx.x % $lanes;
    const long long row = place < $rows ? place : $rows - 1;
$body
}
""")
_EACH = """\
    #pragma unroll
    for (int k = 0; k < {deep}; ++k) {{
        const int j = lane + k * {lanes} < {columns} ? lane + k * {lanes} : {columns} - 1;
        {text}
    }}"""
_LAST = """\
    __threadfence();
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0) last = atomicInc(turn, gridDim.x - 1) == gridDim.x - 1;
    __syncthreads();
    if (!last) return;
    __threadfence();"""
_TOTAL = """\
    __shared__ {type} parts{v}[{threads}];
    {{
        const volatile {type}* each = q{source};
        {type} part = 0;
        for (long long i = threadIdx.x; i < {rows}; i += {threads}) part += each[i];
        parts{v}[threadIdx.x] = part;
        for (int half = {threads} / 2; half; half /= 2) {{
            __syncthreads();
            if (threadIdx.x < half) parts{v}[threadIdx.x] += parts{v}[threadIdx.x + half];
        }}
        __syncthreads();
    }}
    const {type} v{v} = parts{v}[0]{share};"""


class Source:
    """The text of a kernel of rows.

    Args:
        kernel: of operations that fit.
        values: of each number an array of its shape and dtype.
        strides: in elements, of each value that the kernel reads.

    Attributes:
        outputs: the values that are stored: those made for others, then those that are summed up.
        blocks: how many of them run.
        text: the source.
    """

    def __init__(self, kernel: Any, values: list[Any], strides: list[tuple[int, ...]]) -> None:
        ops, shape = kernel.ops, _shape(kernel.ops, values)
        assert shape is not None
        self.values, self.shape = values, shape
        self.strides = dict(zip(kernel.reads, strides, strict=True))
        self.lanes = min(32, 1 << (shape[1] - 1).bit_length())
        self.deep = -(-shape[1] // self.lanes)
        self.blocks = -(-shape[0] * self.lanes // THREADS)
        self.here: set[int] = set()
        early, late = [op for op in ops if values[op.out].ndim], [op for op in ops if not values[op.out].ndim]
        summed = [op.args[0].value for op in late if op.name in REDUCTIONS]
        self.outputs = tuple(dict.fromkeys((*kernel.makes, *summed)))
        lines = [self._line(op) for op in early]
        lines += [self._store(v) for v in self.outputs if values[v].ndim]
        if late:
            late.sort(key=lambda op: op.name not in REDUCTIONS)
            totals = [self._total(op) for op in late if op.name in REDUCTIONS]
            rest = [self._line(op) for op in late if op.name not in REDUCTIONS]
            rest += [f"    q{v}[0] = v{v};" for v in self.outputs if not values[v].ndim]
            lines += [_LAST, *totals, "    if (threadIdx.x) return;", *rest]
        parameters = [f"{self._type(v)}* p{v}" for v in kernel.reads]
        parameters += [f"{self._type(v)}* q{v}" for v in self.outputs]
        self.text = _SOURCE.substitute(
            parameters=", ".join([*parameters, "unsigned int* turn"]), lanes=self.lanes, rows=shape[0],
            body="\n".join(lines),
        )  # fmt: skip

    def _type(self, v: int) -> str:
        return _TYPES[self.values[v].dtype.name]

    def _wide(self, v: int) -> bool:
        return bool(self.values[v].shape == self.shape)

    def _each(self, text: str) -> str:
        return _EACH.format(deep=self.deep, lanes=self.lanes, columns=self.shape[1], text=text)

    # ------------------------------------------------------------ operations
    def _line(self, op: Op) -> str:
        if op.name in REDUCTIONS:
            return self._across(op)
        text = self._expression(op)
        known, v = op.out in self.here, op.out
        self.here.add(v)
        if op.name == ASSIGN:
            return f"    {'' if known else f'{self._type(v)} '}v{v} = {text};\n    p{v}[0] = v{v};"
        if self._wide(v):
            return f"    {self._type(v)} v{v}[{self.deep}];\n" + self._each(f"v{v}[k] = {text};")
        return f"    {self._type(v)} v{v} = {text};"

    def _expression(self, op: Op) -> str:
        """An operation on what it reads, each in the type in which NumPy computes it."""
        kind = self.values[op.out].dtype
        if op.name in _COMPARED or op.name in ("isfinite", "isnan"):
            kind = np.result_type(*(self.values[a.value].dtype if isinstance(a, Ref) else a for a in op.args))
        args = op.args[:1] if op.name == "astype" else op.args
        kinds = [_TYPES[kind.name]] * len(args)
        if op.name == "where":
            kinds[0] = "bool"
        texts = [f"(({kind}){self._read(a, op.out)})" for a, kind in zip(args, kinds, strict=True)]
        name = "logical_not" if op.name == "bitwise_invert" and kind == np.bool_ else op.name
        return f"({self._type(op.out)})({_TEXTS[name].format(*texts)})"

    def _read(self, a: Any, into: int) -> str:
        """An operand of an operation that makes `into`: a constant, a local or an element in memory."""
        if not isinstance(a, Ref):
            return f"({float(a)!r})" if isinstance(a, float) else f"({int(a)})"
        v, ndim = a.value, self.values[into].ndim
        if v in self.here:
            return f"v{v}[k]" if self._wide(v) else f"v{v}"
        axes = zip(("row", "j")[:ndim][::-1], self.values[v].shape[::-1], self.strides[v][::-1], strict=False)
        terms = [f"{name} * {stride}" for name, length, stride in axes if length > 1]
        return f"p{v}[{' + '.join(terms) or '0'}]"

    def _across(self, op: Op) -> str:
        """A sum, or the like, over the columns: of each lane's own, then of the lanes."""
        v, kind = op.out, self._type(op.out)
        element = f"(({kind}){self._read(op.args[0], op.args[0].value)})"
        combined = _TEXTS[_COMBINED[op.name]]
        own = f"if (k == 0) v{v} = {element}; else v{v} = {combined.format(f'v{v}', element)};"
        if _COMBINED[op.name] == "add":
            own = f"if (lane + k * {self.lanes} < {self.shape[1]}) v{v} += {element};"
        lines = [f"    {kind} v{v} = 0;", self._each(own)]
        for distance in (1 << bit for bit in reversed(range((self.lanes - 1).bit_length()))):
            other = f"const {kind} other = __shfl_xor_sync(0xffffffffu, v{v}, {distance});"
            lines.append(f"    {{ {other} v{v} = {combined.format(f'v{v}', 'other')}; }}")
        if op.name == "mean":
            lines.append(f"    v{v} /= {self.shape[1]};")
        self.here.add(v)
        return "\n".join(lines)

    def _store(self, v: int) -> str:
        if self._wide(v):
            there = f"place < {self.shape[0]} && lane + k * {self.lanes} < {self.shape[1]}"
            return self._each(f"if ({there}) q{v}[row * {self.shape[1]} + j] = v{v}[k];")
        return f"    if (place < {self.shape[0]} && lane == 0) q{v}[row] = v{v};"

    def _total(self, op: Op) -> str:
        """The sum or the mean of what each row has stored."""
        self.here.add(op.out)
        share = f" / {self.shape[0]}" if op.name == "mean" else ""
        return _TOTAL.format(v=op.out, type=self._type(op.out), source=op.args[0].value, rows=self.shape[0],
                             threads=THREADS, share=share)  # fmt: skip


def compiled(cupy: Any, kernel: Any, values: list[Any]) -> Any:
    """A kernel as a function of the arrays it reads; compiled when it first runs."""
    turn = cupy.zeros((1,), dtype=cupy.uint32)
    sources: dict[Any, tuple[Source, Any]] = {}

    def run(*given: Array) -> tuple[Array, ...]:
        key = tuple(a.strides for a in given)
        if key not in sources:
            strides = [tuple(s // a.dtype.itemsize for s in a.strides) for a in given]
            source = Source(kernel, values, strides)
            sources[key] = source, cupy.RawKernel(source.text, "rows")
        source, function = sources[key]
        made = [cupy.empty(values[v].shape, dtype=values[v].dtype) for v in source.outputs]
        function((source.blocks,), (THREADS,), (*given, *made, turn))
        return tuple(made[: len(kernel.makes)])

    return run
