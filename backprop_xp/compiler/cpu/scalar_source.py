"""A program unrolled to scalar Python, for nets of some dozens of weights.

For so few, a NumPy call costs a hundred times its arithmetic. Every element of every array becomes a
variable or a subexpression, inlined where it is used once. All arithmetic is in float64;
where the state is float32 it is rounded to 24 bits after every step, so that a run gives the same
numbers however it is cut into scans.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..ir import ASSIGN, CREATION, OTHER_ELEMENTWISE, VIEWS, Op, Program, Ref, apply, leaves

MOST = 1200  # numbers in a step; above, arrays are faster
_DEEPEST = 12  # nested parentheses in one expression

FORMS = {
    "add": "{} + {}", "subtract": "{} - {}", "multiply": "{} * {}", "divide": "{} / {}",
    "pow": "power({}, {})", "equal": "{} == {}", "not_equal": "{} != {}", "less": "{} < {}",
    "less_equal": "{} <= {}", "greater": "{} > {}", "greater_equal": "{} >= {}", "negative": "-{}",
    "abs": "abs({})", "square": "{0} * {0}", "sqrt": "sqrt({})", "exp": "exp({})", "expm1": "expm1({})",
    "log": "log({})", "log1p": "log1p({})", "tanh": "tanh({})", "sin": "sin({})", "cos": "cos({})",
    "maximum": ">", "minimum": "<", "where": "{1} if {0} else {2}",
}  # fmt: skip
_EXTREMUM = {  # NaN propagates, as in NumPy; whether the second operand is a literal, which is not NaN
    True: "{1} if {1} %s {0} else {0}", False: "{0} if {0} %s {1} or {0} != {0} else {1}",
}  # fmt: skip
SPECIAL = frozenset({"matmul", "sum", "mean", "max", "min", "concat", "astype"})  # have methods of their own
NOT_UNROLLED = CREATION | OTHER_ELEMENTWISE | {  # a step that has one of these runs on arrays
    "remainder", "floor_divide", "positive", "isfinite", "isnan", "logical_and", "logical_or", "logical_not",
    "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_invert", "bitwise_left_shift", "bitwise_right_shift",
    "prod", "all", "any", "argmax", "argmin", "cumulative_sum", "stack", "take", ASSIGN,
}  # fmt: skip
_FUNCTIONS = {n: getattr(math, n) for n in ("sqrt", "exp", "expm1", "log", "log1p", "tanh", "sin", "cos")}
_FUNCTIONS |= {"power": math.pow, "nan": math.nan}  # math.pow raises where ** returns complex numbers


class NotUnrolled(Exception):
    """The step is too large, or has an operation that is not unrolled."""


class Number:
    """One number of the step: an expression of other numbers, or a variable."""

    __slots__ = ("args", "form", "label", "uses")

    def __init__(self, form: str, args: tuple["Number", ...] = (), label: str = "") -> None:
        self.form, self.args, self.label, self.uses = form, args, label, 0

    @property
    def literal(self) -> bool:
        """Whether its value is known; it is finite then."""
        return bool(self.label) and not self.label.isidentifier()


class Unrolled:
    """A scalar Python function that scans a step, made from its program.

    Args:
        program: of step(*state, *rows) -> (*new_state, *out), simplified; each of out is one number.
        donate: how many of its arguments are state.

    Raises:
        NotUnrolled: it cannot be unrolled, or would not be faster.
    """

    def __init__(self, program: Program, donate: int) -> None:
        self.program, self.made = program, 0
        self.views = {op.out: op for op in program.ops if op.name in VIEWS}
        self.cells: dict[int, Any] = {v: _literals(a) for v, a in program.constants.items()}
        state, rows = (leaves(part) for part in (program.inputs[:donate], program.inputs[donate:]))
        self.state = self._named(state, "s")
        self.rows = [self._named([ref], f"r{k}_") for k, ref in enumerate(rows)]
        kinds = [program.values[ref.value] for ref in state]
        self.single = [like.dtype == np.float32 for like in kinds for _ in range(like.size)]
        for op in program.ops:
            if op.name not in VIEWS:
                self._do(op)
        self.new = [n for ref in leaves(program.outputs[:donate]) for n in self.of(ref).reshape(-1)]
        out = [self.of(ref) for ref in leaves(program.outputs[donate:])]
        if not out or any(each.size != 1 for each in out):
            raise NotUnrolled
        self.function = self._function([each.reshape(-1)[0] for each in out])

    def scan(self, state: list[Any], rows: list[Any], out: list[Any]) -> bool:
        """One step for each row; False, with the state unchanged, if a number overflows or has no value.

        Args:
            state: its arrays, changed in place.
            rows: arrays of shape (steps, …), what each step is given.
            out: arrays of shape (steps,), which receive what each step returns.
        """
        numbers = [v for a in state for v in a.reshape(-1).tolist()]
        if not len(out[0]):
            return True
        given = [a.reshape(len(a), -1).tolist() for a in rows]
        new: list[Any] = []
        start = 0
        try:
            numbers, found = self.function(numbers, *given)
            for column, values in zip(out, found, strict=True):
                column[:] = values
            for a in state:
                new.append(np.asarray(numbers[start : start + a.size], dtype=a.dtype))
                start += a.size
        except (ArithmeticError, ValueError):
            return False
        for a, own in zip(state, new, strict=True):
            a.reshape(-1)[:] = own
        return True

    # ------------------------------------------------------------ arrays of numbers
    def _named(self, refs: list[Ref], letter: str) -> list[str]:
        labels: list[str] = []
        for ref in refs:
            like = self.program.values[ref.value]
            own = [f"{letter}{len(labels) + k}" for k in range(like.size)]
            self.cells[ref.value] = _array([Number("", label=label) for label in own], like.shape)
            labels += own
        return labels

    def of(self, a: Any) -> Any:
        """The numbers of an argument: of an array, of a view of one, or of a Python number."""
        if not isinstance(a, Ref):
            return _literals(a)
        if a.value in self.views:
            op = self.views[a.value]
            return apply(op.name, (self.of(op.args[0]), *op.args[1:]), op.kw)
        return self.cells[a.value]

    def _new(self, form: str, *args: Number) -> Number:
        self.made += 1
        if self.made > MOST:
            raise NotUnrolled
        return Number(form, args)

    def _extremum(self, sign: str, a: Number, b: Number) -> Number:
        """The larger or the smaller of two numbers; a literal, which is not NaN, goes second."""
        if a.literal:
            a, b = b, a
        return self._new(_EXTREMUM[b.literal] % sign, a, b)

    def _do(self, op: Op) -> None:
        if op.name == "matmul":
            a, b = (self.of(each) for each in op.args)
            result = _array([self._product(row, column) for row in a for column in b.T], (len(a), b.shape[1]))
        elif op.name in ("sum", "mean", "max", "min"):
            result = self._reduced(op)
        elif op.name == "concat":
            result = np.concatenate([self.of(each) for each in op.args[0]], **op.kw)
        elif op.name == "astype":
            result = self._converted(op)
        elif op.name in FORMS:
            parts = np.broadcast_arrays(*(self.of(each) for each in op.args))
            rows = zip(*(part.reshape(-1) for part in parts), strict=True)
            if op.name == "pow" and self.program.values[op.out].dtype.kind != "f":
                raise NotUnrolled
            make = self._extremum if op.name in ("maximum", "minimum") else self._new
            result = _array([make(FORMS[op.name], *row) for row in rows], parts[0].shape)
        else:
            raise NotUnrolled
        if op.inplace:
            self._overwrite(op.out, result)
        else:
            self.cells[op.out] = result

    def _overwrite(self, value: int, new: Any) -> None:
        steps = []
        while value in self.views:
            steps.append(self.views[value])
            value = steps[-1].args[0].value
        whole = self.cells[value] = self.cells[value].copy()
        places = np.arange(whole.size).reshape(whole.shape)
        for op in reversed(steps):
            places = apply(op.name, (places, *op.args[1:]), op.kw)
        whole.reshape(-1)[places.reshape(-1)] = np.broadcast_to(new, places.shape).reshape(-1)

    def _product(self, row: Iterable[Number], column: Iterable[Number]) -> Number:
        pairs = [each for pair in zip(row, column, strict=True) for each in pair]
        return self._new(" + ".join(["{} * {}"] * (len(pairs) // 2)), *pairs)

    def _reduced(self, op: Op) -> Any:
        source, like = self.of(op.args[0]), self.program.values[op.out]
        axis = op.kw.get("axis")
        axes = range(source.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        last = tuple(a % source.ndim for a in axes)
        rows = np.moveaxis(source, last, range(-len(last), 0)).reshape(max(1, like.size), -1)
        n = rows.shape[1]
        sums = " + ".join(["{}"] * n)
        form = {"sum": sums, "mean": f"({sums}) / {n}"}.get(op.name) or _extreme_of(op.name, n)
        form = "{}" if n == 1 else form
        return _array([self._new(form, *row) for row in rows], like.shape)

    def _converted(self, op: Op) -> Any:
        source, before = self.of(op.args[0]), self.program.values[op.args[0].value].dtype
        after = np.dtype(op.args[1])
        if before.kind == "b" and after.kind == "f":
            return _array([self._new("1.0 if {} else 0.0", n) for n in source.reshape(-1)], source.shape)
        if after.kind == "f":
            return source
        raise NotUnrolled

    # ------------------------------------------------------------ source
    def _function(self, out: list[Number]) -> Callable[..., Any]:
        """scan(state, *rows): lists in, the new state and what each step returns as lists out."""
        results, changes = self._write(out)
        targets = [f"({', '.join(names)},)" for names in self.rows]
        columns = [f"R{k}" for k in range(len(self.rows))]
        state = f"({', '.join(self.state)},)" if self.state else "()"
        assigned = [f"{', '.join(n for n, _ in changes)}, = {', '.join(v for _, v in changes)},"]
        lists = [f"out{k}" for k in range(len(results))]
        kept = [f"{name}.append({result})" for name, result in zip(lists, results, strict=True)]
        body = [*self.lines, *kept, *(assigned if changes else [])]
        source = "\n".join([
            f"def scan(state, {', '.join(columns)}):", f"    {state} = state",
            *(f"    {name} = []" for name in lists),
            f"    for {', '.join(targets)}, in zip({', '.join(columns)}):",
            *(f"        {line}" for line in body), f"    return {state}, [{', '.join(lists)}]",
        ])  # fmt: skip
        names: dict[str, Any] = dict(_FUNCTIONS)
        exec(compile(source, "<unrolled>", "exec"), names)  # made here, from the program
        return names["scan"]  # type: ignore[no-any-return]

    def _write(self, out: list[Number]) -> tuple[list[str], list[tuple[str, str]]]:
        """Write the lines of a step; the expressions of its results, and of its new state by name."""
        seen: set[int] = set()

        def count(number: Number) -> None:
            number.uses += 1
            if id(number) not in seen:
                seen.add(id(number))
                for arg in number.args:
                    number_uses = number.form.count("{0}") if "{0}" in number.form else 1
                    count(arg)
                    arg.uses += number_uses - 1

        for number in (*self.new, *out):
            count(number)
        lines: list[str] = []
        self.lines = lines

        def text(number: Number) -> tuple[str, int]:
            if number.label:
                return number.label, 0
            parts = [text(arg) for arg in number.args]
            depth = 1 + max((d for _, d in parts), default=0)
            written = number.form.format(*(p for p, _ in parts))
            if number.uses > 1 or depth > _DEEPEST:
                number.label = f"n{len(lines)}"
                lines.append(f"{number.label} = {written}")
                return number.label, 0
            return f"({written})", depth

        results = [text(number)[0] for number in out]
        changes = []
        for name, number, single in zip(self.state, self.new, self.single, strict=True):
            if number.label != name:
                new = text(number)[0]
                if single:  # Veltkamp's splitting: the upper 24 bits of 53
                    lines += [f"r_{name} = {new}", f"c_{name} = r_{name} * {1 + 2.0**29}"]
                    new = f"c_{name} - (c_{name} - r_{name})"
                changes.append((name, new))
        return results, changes


def _extreme_of(name: str, n: int) -> str:
    """The largest or smallest of n numbers; Python's own ignores NaN unless it comes first."""
    numbers = [f"{{{k}}}" for k in range(n)]
    known = " and ".join(f"{each} == {each}" for each in numbers)
    return f"{name}({', '.join(numbers)}) if {known} else nan"


def _array(numbers: list[Number], shape: tuple[int, ...]) -> Any:
    cells = np.empty(len(numbers), dtype=object)
    cells[:] = numbers
    return cells.reshape(shape)


def _literals(a: Any) -> Any:
    values = np.asarray(a)
    return _array([Number("", label=_literal(v)) for v in values.reshape(-1).tolist()], values.shape)


def _literal(v: Any) -> str:
    if isinstance(v, float) and not math.isfinite(v):
        raise NotUnrolled
    return f"({v!r})" if v < 0 else repr(v)
