"""What may stand in a formula, which room may import from which, and how long anything may grow.

Formula code is written once for every array library. Read as syntax trees, it shows whether it keeps to
what all of them can do; the table of planted errors shows that the reading sees what it should.
"""

import ast
from pathlib import Path

import pytest

import backprop_xp as bp
from backprop_xp import activations, layers, losses, updates

PACKAGE = Path(bp.__file__).parent
FORMULAS = ("activations", "arrays", "layers", "losses", "net", "params", "rng", "step", "updates")
ROOMS = (  # left to right: a module imports only from its left
    {"arrays"},
    {"rng", "params", "activations", "losses", "updates", "backends"},
    {"layers", "checks", "drawing"},
    {"net"},
    {"step"},
    {"learner"},
    {"data", "train", "insight"},
    {"articles"},
    {"cli"},
    {"__main__", "__init__"},
)
ARRAY_LIBRARIES = {"numpy", "cupy", "jax", "torch", "array_api_compat", "array_api_strict", "numba"}
FILES = sorted(PACKAGE.rglob("*.py"))
LINES_A_FILE, LINES_A_FUNCTION = 300, 40

METHODS = {
    "all", "any", "argmax", "argmin", "argsort", "astype", "clip", "conj", "copy", "cumprod", "cumsum", "dot",
    "fill", "flatten", "item", "max", "mean", "min", "nonzero", "numpy", "prod", "ravel", "repeat", "reshape",
    "round", "sort", "squeeze", "std", "sum", "swapaxes", "take", "to", "tobytes", "tolist", "transpose",
    "var", "view",
}  # fmt: skip
DATA_DEPENDENT = {
    "nonzero",
    "unique",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
    "argwhere",
}
HIDDEN_READS = {"clip", "sign"}
CREATION = {"arange", "asarray", "empty", "eye", "full", "linspace", "ones", "zeros"}
ON_THE_HOST = {"permutation"}  # says in its docstring that it runs at once, on the host
SETTINGS = ("check_", "__post_init__")  # look at what the caller wrote, never at an array
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


# ---------------------------------------------------------------- the lint
class Lint(ast.NodeVisitor):
    """Collects what D1 and D4 of the design forbid in formula code, as (line, reason)."""

    def __init__(self):
        self.found: list[tuple[int, str]] = []
        self.functions: list[ast.AST] = []

    def say(self, node, reason):
        self.found.append((node.lineno, reason))

    @property
    def inside(self):
        return {getattr(f, "name", "") for f in self.functions}

    def visit_FunctionDef(self, node):
        self.functions.append(node)
        self.generic_visit(node)
        self.functions.pop()

    def visit_Import(self, node):
        for alias in node.names:
            self.imported(node, alias.name)

    def visit_ImportFrom(self, node):
        if not node.level:
            self.imported(node, node.module or "")

    def imported(self, node, module):
        if module.partition(".")[0] in ARRAY_LIBRARIES:
            self.say(node, "imports an array library; formulas take xp from their caller")

    def visit_BinOp(self, node):
        if isinstance(node.op, ast.MatMult):
            self.say(node, "multiplies by @; write xp.matmul")
        self.generic_visit(node)

    def visit_Attribute(self, node):
        if node.attr in ("T", "mT"):
            self.say(node, f"takes .{node.attr}; write xp.matrix_transpose")
        self.generic_visit(node)

    def visit_Call(self, node):
        if isinstance(node.func, ast.Attribute):
            self.attribute_call(node, node.func)
        elif isinstance(node.func, ast.Name):
            settings = any(name.startswith(SETTINGS) for name in self.inside)
            if node.func.id in ("float", "int", "bool", "complex") and not settings:
                self.say(node, f"reads a value by {node.func.id}()")
        self.generic_visit(node)

    def attribute_call(self, node, function):
        if not of_xp(function):
            if function.attr in METHODS:
                self.say(node, f"calls the array method .{function.attr}()")
        elif function.attr in DATA_DEPENDENT:
            self.say(node, f"calls xp.{function.attr}, whose shape depends on values")
        elif function.attr in HIDDEN_READS:
            self.say(node, f"calls xp.{function.attr}, which may read values on the host")
        elif function.attr in CREATION:
            placed = any(keyword.arg == "device" for keyword in node.keywords)
            if not placed and not self.inside & ON_THE_HOST:
                self.say(node, f"calls xp.{function.attr} without device=")

    def visit_Subscript(self, node):
        for part in ast.walk(node.slice):
            if isinstance(part, ast.Compare) or (
                isinstance(part, ast.UnaryOp) and isinstance(part.op, (ast.Invert, ast.Not))
            ):
                self.say(node, "indexes by a mask; write xp.where")
                break
        if isinstance(node.ctx, ast.Store) and not self.local_literal(node.value):
            self.say(node, "assigns into an array")
        self.generic_visit(node)

    def condition(self, node):
        if self.inside & ON_THE_HOST:
            return
        calls = [n for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
        if any(of_xp(call.func) and call.func.attr != "isdtype" for call in calls):
            self.say(node, "decides by a value; write xp.where")

    def visit_If(self, node):
        self.condition(node.test)
        self.generic_visit(node)

    visit_IfExp = visit_While = visit_Assert = visit_If

    def visit_AugAssign(self, node):
        if "element" in self.inside and isinstance(node.target, ast.Name):
            if node.target.id not in handed_in(self.functions[-1]):
                self.say(node, f"augments {node.target.id} in an element: only w and moments may be")
        elif not self.local_literal(node.target):
            self.say(node, "augments what may be an array outside the element of an update rule")
        self.generic_visit(node)

    def local_literal(self, node):
        """Whether a name is a plain number, list or dict of this function, and so no array."""
        return (
            isinstance(node, ast.Name) and bool(self.functions) and node.id in plain_names(self.functions[-1])
        )


def of_xp(function):
    return isinstance(function.value, ast.Name) and function.value.id == "xp"


def handed_in(function):
    """In element(self, g, w, *rest): w, and the names first unpacked from rest."""
    names = {argument.arg for argument in function.args.args} - {"self", "g"}
    rest = function.args.vararg.arg if function.args.vararg else None
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id == rest:
            names |= {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    return names


def plain_names(function):
    """The names that a function binds to numbers, lists and dicts, or takes as int."""
    names = {
        a.arg for a in function.args.args if isinstance(a.annotation, ast.Name) and a.annotation.id == "int"
    }
    for node in ast.walk(function):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            pairs = [(node.target, node.value)]
        elif isinstance(node, ast.Assign):
            pairs = [pair for target in node.targets for pair in paired(target, node.value)]
        else:
            continue
        literal = (ast.Constant, ast.List, ast.Dict, ast.ListComp, ast.DictComp)
        names |= {t.id for t, value in pairs if isinstance(t, ast.Name) and isinstance(value, literal)}
    return names


def paired(target, value):
    """Targets with the values they are given: a, b = 0, [] gives two pairs."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]


def lint(source):
    """What is forbidden in a piece of formula code."""
    reader = Lint()
    reader.visit(ast.parse(source))
    return reader.found


@pytest.mark.parametrize("room", FORMULAS)
def test_formulas_keep_to_what_every_library_can_do(room):
    found = lint((PACKAGE / f"{room}.py").read_text(encoding="utf-8"))
    assert not found, "\n".join(f"{room}.py:{line}: {reason}" for line, reason in found)


PLANTED = {
    "def f(a, b, *, xp): return a @ b": "@",
    "def f(a, *, xp): return xp.matmul(a.T, a)": ".T",
    "def f(a, *, xp): return a.mT": ".mT",
    "def f(a, *, xp): return a.sum(axis=0)": ".sum()",
    "def f(a, *, xp): return (a * 2).mean()": ".mean()",
    "def f(a, *, xp): return a.reshape((-1,))": ".reshape()",
    "def f(a, *, xp): return xp.abs(a).max()": ".max()",
    "def f(a, *, xp): return a[a > 0]": "mask",
    "def f(a, *, xp): return a[~xp.isnan(a)]": "mask",
    "def f(a, *, xp): return xp.nonzero(a)": "xp.nonzero",
    "def f(a, *, xp): return xp.unique_values(a)": "xp.unique_values",
    "def f(a, *, xp): return xp.clip(a, 0, 1)": "xp.clip",
    "def f(a, *, xp): return xp.sign(a)": "xp.sign",
    "def f(a, *, xp): return float(a)": "float()",
    "def f(a, *, xp): return int(xp.sum(a))": "int()",
    "def f(a, *, xp): return bool(a)": "bool()",
    "def f(a, *, xp):\n    if xp.any(a > 0):\n        return a": "decides",
    "def f(a, *, xp): return a if xp.max(a) > 1 else 0": "decides",
    "def f(a, *, xp):\n    while xp.all(a):\n        a = a - 1": "decides",
    "def f(a, *, xp):\n    assert xp.all(a > 0)": "decides",
    "import numpy": "array library",
    "import numpy as np": "array library",
    "from jax import numpy": "array library",
    "def f():\n    import torch": "array library",
    "def f(g, w, *, xp):\n    w -= g\n    return w": "augments",
    "def f(a, *, xp):\n    b = a\n    b *= 2\n    return b": "augments",
    "def f(a, *, xp):\n    a[0] += 1": "augments",
    "class R:\n    def step(self, a):\n        self.w -= a": "augments",
    "class R:\n    def element(self, g, w, *rest, xp):\n        g *= 2": "augments g",
    "class R:\n    def element(self, g, w, *rest, xp):\n        w[0:2] -= g": "augments",
    "class R:\n    def element(self, g, w, *rest, xp):\n        n = w * 2\n        n += g": "augments n",
    "def f(a, *, xp):\n    a[0] = 1": "assigns into",
    "def f(a, *, xp): return xp.zeros((2,))": "device=",
    "def f(a, *, xp): return xp.asarray(0.5, dtype=a.dtype)": "device=",
}


@pytest.mark.parametrize("source", PLANTED)
def test_the_lint_sees_planted_errors(source):
    assert any(PLANTED[source] in reason for _, reason in lint(source)), lint(source)


ALLOWED = [
    "def f(a, b, *, xp): return xp.sum(xp.matmul(a, b), axis=0)",
    "def f(a, *, xp): return xp.where(a > 0, a, 0)",
    "def f(a, *, xp): return a[0:2] if a.ndim == 1 else a[:, 0:2]",
    "def f(a, *, xp): return xp.zeros((2,), device=a.device)",
    "def f(a, *, xp): return a if xp.isdtype(a.dtype, 'integral') else -a",
    "def f(parts):\n    k, found = 0, []\n    for p in parts:\n        found += [p]\n        k += 1",
    "def f(names):\n    counts = {}\n    for n in names:\n        counts[n] = counts.get(n, 0) + 1",
    "class R:\n    def element(self, g, w, *rest, xp):\n        m, rate = rest\n        m *= 0.9",
    "def check_rate(rate):\n    return float(rate) > 0",
]


@pytest.mark.parametrize("source", ALLOWED)
def test_the_lint_lets_good_formulas_pass(source):
    assert lint(source) == []


@pytest.mark.parametrize("room", FORMULAS)
def test_formulas_call_functions_of_the_standard_alone(room):
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    tree = ast.parse((PACKAGE / f"{room}.py").read_text(encoding="utf-8"))
    used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and of_xp(n)}
    assert not {name for name in used if not hasattr(strict, name)}


# ---------------------------------------------------------------- rooms
def room_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imported_rooms(path):
    """The rooms of this package that a file imports from, at any depth of its code."""
    here, found = path.relative_to(PACKAGE).parts, set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = here[: len(here) - node.level]
            modules = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {(*above, *module.split("."))[0] for module in modules}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            found |= {name.split(".")[1] for name in names if name.startswith("backprop_xp.")}
    return found


def rank(room):
    (place,) = (k for k, rooms in enumerate(ROOMS) if room in rooms)
    return place


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_one_way(path):
    room = room_of(path)
    for other in imported_rooms(path) - {room, "__version__"}:
        assert rank(other) < rank(room), f"{room} imports from {other}, which is not to its left"


def test_the_rooms_that_are_imported_are_seen():
    assert imported_rooms(PACKAGE / "learner.py") >= {"backends", "rng", "arrays", "checks", "net", "step"}
    assert imported_rooms(PACKAGE / "backends" / "numpy.py") >= {"arrays", "backends"}
    assert imported_rooms(PACKAGE / "__init__.py") >= {"activations", "learner", "train"}
    assert imported_rooms(PACKAGE / "data" / "teacher.py") >= {"layers", "losses", "data"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_backends_alone_know_array_libraries(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    reader = Lint()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            reader.visit(node)
    assert not reader.found or room_of(path) == "backends"


def test_backends_know_each_other_by_file_name_alone():
    for path in (PACKAGE / "backends").glob("[a-z]*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                modules = [node.module] if node.module else [alias.name for alias in node.names]
                assert all(module.startswith("_") for module in modules), (path.name, modules)


# ---------------------------------------------------------------- lists and sizes
@pytest.mark.parametrize(
    ("module", "base", "kind"),
    [
        (activations, None, "delta"),
        (losses, losses.Loss, "error"),
        (layers, layers.Layer, "forward"),
        (updates, None, "element"),
    ],
    ids=lambda value: getattr(value, "__name__", "").rpartition(".")[2],
)
def test_every_class_is_in_its_list(module, base, kind):
    own = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
    concrete = {
        v for v in own if hasattr(v, kind) and v is not base and not getattr(v, "_is_protocol", False)
    }
    listed = {value if isinstance(value, type) else type(value) for value in module.ALL.values()}
    assert concrete == listed
    assert len(concrete) >= 1
    assert all(
        hasattr(bp, v.__name__) or hasattr(bp, name) for name, v in module.ALL.items() if isinstance(v, type)
    )
    assert all(hasattr(bp, name) for name, v in module.ALL.items() if not isinstance(v, type))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_file_grows_too_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_A_FILE


def length(function):
    """The lines of a function, its docstring not counted."""
    total = function.end_lineno - function.lineno + 1
    first = function.body[0]
    told = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    return total - (first.end_lineno - first.lineno + 1 if told else 0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_function_grows_too_long(path):
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    long = {n.name: length(n) for n in nodes if isinstance(n, FUNCTIONS[:2]) and length(n) > LINES_A_FUNCTION}
    assert not long


def test_the_length_of_a_function_leaves_out_its_docstring():
    (function,) = ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n').body
    assert length(function) == 2
