"""An Array API namespace whose arrays are names of tensors in an ONNX graph.

A formula that is called with it adds a node for each operation, so that layers, activations and links are
exported by their own forward. What is known already, such as weights, are NumPy arrays: NumPy computes with
them, and an array combined with a tensor becomes a constant of the graph. A function of the standard that is
missing here raises AttributeError; arguments that are not supported raise TypeError.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from .. import backends

HOST = backends.get("numpy").xp
Scalar = (bool, int, float)


@dataclass(frozen=True)
class Rows:
    """The number of rows, or a multiple of it: known only when the graph runs."""

    times: int = 1


Shape = tuple[int | Rows, ...]


@dataclass(frozen=True, eq=False)
class Tensor:
    """The name of a tensor of the graph, with its dtype and shape; operators add nodes."""

    graph: "Graph"
    name: str
    dtype: str
    shape: Shape
    __array_ufunc__: ClassVar[None] = None  # NumPy leaves mixed operators to this class
    __hash__ = None  # type: ignore[assignment]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __bool__(self) -> bool:
        msg = "a tensor of the graph has no value that an if or a while could read: write xp.where"
        raise TypeError(msg)

    def __neg__(self) -> "Tensor":
        return self.graph.node("Neg", self)


def _operator(name: str, *, swapped: bool = False) -> Callable[[Tensor, Any], Any]:
    def apply(self: Tensor, other: Any) -> Any:
        return getattr(self.graph, name)(*((other, self) if swapped else (self, other)))

    return apply


DTYPES = ("bool", "int32", "int64", "float32", "float64")
UNARY = {
    "abs": "Abs", "ceil": "Ceil", "cos": "Cos", "exp": "Exp", "floor": "Floor", "log": "Log",
    "negative": "Neg", "logical_not": "Not", "sign": "Sign", "sin": "Sin", "sqrt": "Sqrt", "tanh": "Tanh",
}  # fmt: skip
BINARY = {
    "add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "pow": "Pow",
    "maximum": "Max", "minimum": "Min",
}  # fmt: skip
COMPARISONS = {
    "equal": "Equal", "greater": "Greater", "greater_equal": "GreaterOrEqual", "less": "Less",
    "less_equal": "LessOrEqual", "logical_and": "And", "logical_or": "Or",
}  # fmt: skip
REDUCTIONS = {"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin"}
OPERATORS = {
    "__add__": "add", "__sub__": "subtract", "__mul__": "multiply", "__truediv__": "divide", "__pow__": "pow",
    "__matmul__": "matmul",
    "__eq__": "equal", "__gt__": "greater", "__ge__": "greater_equal", "__lt__": "less",
    "__le__": "less_equal", "__and__": "logical_and", "__or__": "logical_or",
}  # fmt: skip
for _name, _function in OPERATORS.items():
    setattr(Tensor, _name, _operator(_function))
for _name in ("add", "sub", "mul", "truediv", "pow", "matmul", "and", "or"):
    setattr(Tensor, f"__r{_name}__", _operator(OPERATORS[f"__{_name}__"], swapped=True))


class Graph:
    """The namespace, and the graph it builds.

    Args:
        opset: the version of ONNX's operators.
        dtype: the name of the dtype of weights and numbers.
        names: names of arrays, such as weights, by their `id`.
    """

    def __init__(self, opset: int, dtype: str, names: Mapping[int, str]) -> None:
        import onnx

        self.helper, self.numpy_helper, self.types = onnx.helper, onnx.numpy_helper, onnx.TensorProto
        self.opset, self.dtype, self.names = opset, dtype, names
        self.layer = ""
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.constants: dict[Any, Any] = {}
        self.kept: list[Any] = []  # arrays, so that no other one gets the same `id`

    # ------------------------------------------------------------ tensors and nodes
    def input(self, name: str, dtype: str, columns: int) -> Tensor:
        """An input of the graph, shape (rows, columns)."""
        self.inputs.append(self.helper.make_tensor_value_info(name, self.type_of(dtype), ["rows", columns]))
        return Tensor(self, name, dtype, (Rows(), columns))

    def type_of(self, dtype: str) -> int:
        """ONNX's number for a dtype."""
        return int(self.helper.np_dtype_to_tensor_dtype(HOST.dtype(dtype)))

    def node(
        self,
        operator: str,
        *inputs: Any,
        dtype: str | None = None,
        shape: Shape | None = None,
        **attributes: Any,
    ) -> Tensor:
        """Add a node; its output has the dtype and shape of the first input unless they are given."""
        given = [self.tensor(a) for a in inputs]
        name = f"{self.layer}.{operator.lower()}{len(self.nodes)}"
        self.nodes.append(
            self.helper.make_node(operator, [a.name for a in given], [name], name, **attributes)
        )
        return Tensor(self, name, dtype or given[0].dtype, given[0].shape if shape is None else shape)

    def tensor(self, a: Any) -> Tensor:
        """A tensor as it is; a NumPy array as a constant of the graph."""
        if isinstance(a, Tensor):
            return a
        known = self.names.get(id(a))
        key = known or (str(a.dtype), a.shape, a.tobytes())
        if key not in self.constants:
            name = known or f"constant{len(self.constants)}"
            self.constants[key] = self.numpy_helper.from_array(
                HOST.ascontiguousarray(a).reshape(a.shape), name
            )
        return Tensor(self, self.constants[key].name, str(a.dtype), a.shape)

    def _alike(self, *values: Any) -> list[Any]:
        """Operands with the same dtype: Python numbers take that of the others."""
        if any(isinstance(a, Rows) for a in values):
            msg = "the number of rows is not known before the graph runs"
            raise TypeError(msg)
        kinds = {str(a.dtype) for a in values if not isinstance(a, Scalar)}
        if len(kinds) != 1:
            msg = f"operands must have the same dtype, got {sorted(kinds)}: write xp.astype"
            raise TypeError(msg)
        kind = kinds.pop()
        return [HOST.asarray(a, dtype=kind) if isinstance(a, Scalar) else a for a in values]

    def __getattr__(self, name: str) -> Any:
        """Names of dtypes, and functions of the tables; on NumPy arrays alone they are NumPy's own."""
        if name in DTYPES:
            return name
        kinds = (
            (UNARY, self._unary),
            (BINARY, self._binary),
            (COMPARISONS, self._binary),
            (REDUCTIONS, self._reduced),
        )
        for table, add in kinds:
            if name in table:
                return self._function(name, table[name], add)
        msg = f"the export has no function {name!r}"
        raise AttributeError(msg)

    def _function(self, name: str, operator: str, add: Callable[..., Any]) -> Callable[..., Any]:
        def function(*a: Any, **settings: Any) -> Any:
            if not any(isinstance(each, Tensor) for each in a):
                return getattr(HOST, name)(*a, **settings)
            return add(operator, *a, **settings)

        return function

    def _unary(self, operator: str, a: Tensor) -> Tensor:
        return self.node(operator, a)

    def _binary(self, operator: str, a: Any, b: Any) -> Tensor:
        a, b = self._alike(a, b)
        compares = operator in COMPARISONS.values()
        return self.node(
            operator, a, b, dtype="bool" if compares else None, shape=broadcast(a.shape, b.shape)
        )

    def _reduced(self, operator: str, a: Tensor, *, axis: Any = None, keepdims: bool = False) -> Tensor:
        given: Any = range(a.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        axes = [each % a.ndim for each in given]
        shape = tuple(1 if k in axes else n for k, n in enumerate(a.shape) if keepdims or k not in axes)
        if self.opset < 18 and operator != "ReduceSum":
            return self.node(operator, a, shape=shape, axes=axes, keepdims=int(keepdims))
        return self.node(operator, a, HOST.asarray(axes), shape=shape, keepdims=int(keepdims))

    # ------------------------------------------------------------ the standard's other functions
    def where(self, condition: Any, a: Any, b: Any) -> Any:
        """a where the condition holds, else b."""
        if not any(isinstance(each, Tensor) for each in (condition, a, b)):
            return HOST.where(condition, a, b)
        a, b = self._alike(a, b)
        shape = broadcast(broadcast(condition.shape, a.shape), b.shape)
        return self.node("Where", condition, a, b, dtype=str(a.dtype), shape=shape)

    def square(self, a: Any) -> Any:
        """The square: a a."""
        return a * a

    def expm1(self, a: Any) -> Any:
        """e^a − 1 = tanh(a / 2) (e^a + 1), which keeps its digits near 0."""
        return self.tanh(a / 2) * (self.exp(a) + 1)

    def log1p(self, a: Any) -> Any:
        """log(1 + a) = log(u) a / (u − 1) with u = 1 + a, and a where u is 1 (Kahan)."""
        u = 1 + a
        d = u - 1
        return self.where(d == 0, a, self.log(u) * a / self.where(d == 0, 1, d))

    def matmul(self, a: Any, b: Any) -> Any:
        """The product of two matrices."""
        if not isinstance(a, Tensor) and not isinstance(b, Tensor):
            return HOST.matmul(a, b)
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[1] != b.shape[0]:
            msg = f"matmul needs shapes (m, k) and (k, n), got {a.shape} and {b.shape}"
            raise TypeError(msg)
        return self.node("MatMul", *self._alike(a, b), shape=(a.shape[0], b.shape[1]))

    def matrix_transpose(self, a: Any) -> Any:
        """The transpose of a matrix."""
        if not isinstance(a, Tensor):
            return HOST.matrix_transpose(a)
        return self.node("Transpose", a, shape=a.shape[::-1], perm=[1, 0])

    def concat(self, arrays: Sequence[Any], *, axis: int = 0) -> Any:
        """Arrays concatenated along an axis."""
        arrays = self._alike(*arrays)
        first, axis = arrays[0].shape, axis % len(arrays[0].shape)
        sizes = [a.shape[axis] for a in arrays]
        shape = (*first[:axis], sum(sizes), *first[axis + 1 :])
        return self.node("Concat", *arrays, shape=shape, axis=axis)

    def reshape(self, a: Any, shape: tuple[Any, ...]) -> Any:
        """The same numbers in another shape; one axis may be -1."""
        if not isinstance(a, Tensor):
            return HOST.reshape(a, shape)
        rest = prod(n for n in shape if isinstance(n, int) and n != -1)
        whole = prod(n if isinstance(n, int) else n.times for n in a.shape) // rest
        left = Rows(whole) if any(isinstance(n, Rows) for n in a.shape) else whole
        found = tuple(n if isinstance(n, int) and n != -1 else left for n in shape)
        if any(isinstance(n, Rows) and n != left for n in shape):
            msg = f"an array of shape {a.shape} cannot be reshaped to {shape}"
            raise TypeError(msg)
        wanted = HOST.asarray([n if isinstance(n, int) else -1 for n in found])
        return self.node("Reshape", a, wanted, shape=found)

    def expand_dims(self, a: Any, *, axis: int) -> Any:
        """A new axis of length 1."""
        if not isinstance(a, Tensor):
            return HOST.expand_dims(a, axis=axis)
        axis %= a.ndim + 1
        shape = (*a.shape[:axis], 1, *a.shape[axis:])
        return self.node("Unsqueeze", a, HOST.asarray([axis]), shape=shape)

    def take(self, a: Any, index: Any, *, axis: int) -> Any:
        """The entries of an axis at these indices."""
        if not isinstance(a, Tensor) and not isinstance(index, Tensor):
            return HOST.take(a, index, axis=axis)
        axis %= len(a.shape)
        shape = (*a.shape[:axis], *index.shape, *a.shape[axis + 1 :])
        return self.node("Gather", a, index, shape=shape, axis=axis)

    def astype(self, a: Any, dtype: str, *, copy: bool = True) -> Any:
        """The numbers in another dtype."""
        if not isinstance(a, Tensor):
            return HOST.astype(a, HOST.dtype(dtype), copy=copy)
        return a if a.dtype == dtype else self.node("Cast", a, dtype=dtype, to=self.type_of(dtype))

    def isdtype(self, dtype: Any, kind: Any) -> bool:
        """Whether a dtype is of this kind."""
        return bool(HOST.isdtype(HOST.dtype(dtype), kind))

    def asarray(self, a: Any, *, dtype: Any = None, device: Any = None, copy: Any = None) -> Any:
        """Numbers as an array; a tensor as it is."""
        return a if isinstance(a, Tensor) else HOST.asarray(a, dtype=dtype)

    def arange(self, *bounds: int, dtype: Any = None, device: Any = None) -> Any:
        """Evenly spaced numbers, as NumPy's arange."""
        return HOST.arange(*bounds, dtype=dtype)

    def zeros_like(self, a: Any) -> Any:
        """Zeros in the shape of an array."""
        if not isinstance(a, Tensor):
            return HOST.zeros_like(a)
        shape = self.node("Shape", a, dtype="int64", shape=(a.ndim,))
        zero = self.numpy_helper.from_array(HOST.zeros(1, dtype=a.dtype))
        return self.node("ConstantOfShape", shape, dtype=a.dtype, shape=a.shape, value=zero)

    def ones_like(self, a: Any) -> Any:
        """Ones in the shape of an array."""
        return self.zeros_like(a) + 1


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape to which two shapes broadcast."""
    n = max(len(a), len(b))
    pairs = zip((1,) * (n - len(a)) + tuple(a), (1,) * (n - len(b)) + tuple(b), strict=True)
    found = []
    for one, other in pairs:
        if one != other and 1 not in {one, other}:
            msg = f"arrays of shapes {a} and {b} cannot be broadcast together"
            raise TypeError(msg)
        found.append(other if one == 1 else one)
    return tuple(found)
