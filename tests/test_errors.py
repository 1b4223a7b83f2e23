"""What cannot be used is an error at the edge: what was expected, what came, what to write instead."""

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import backends, losses
from backprop_xp.checks import check_data

NET = bp.chain(3, bp.Dense(4, bp.relu), bp.Dense(2))
LEARNER = bp.Learner(NET, bp.half_squared_error)
LABELS = bp.Learner(NET, bp.softmax_cross_entropy)
AS_X, AS_T, LABELS_5 = "bp.asarray(x, like=w)", "bp.asarray(t, like=w)", "integer labels of shape (5,)"
ONE = bp.Learner(bp.chain(3, bp.Dense(1)), bp.half_squared_error)


def ones(*shape, dtype="float32"):
    return np.ones(shape, dtype=dtype)


def refused(action, *words):
    """The action raises the library's own error, and its message has these words."""
    with pytest.raises(bp.BackpropError) as caught:
        action()
    message = str(caught.value)
    assert type(caught.value).__module__.startswith("backprop_xp"), caught.type
    for word in words:
        assert word in message, (word, message)


# ---------------------------------------------------------------- batches that do not fit
BATCHES = {
    "too few features": (LEARNER, ones(5, 2), ones(5, 2), ["(batch, 3)", "(5, 2)"]),
    "too many features": (LEARNER, ones(5, 4), ones(5, 2), ["(batch, 3)", "(5, 4)"]),
    "a sample without batch axis": (LEARNER, ones(3), ones(2), ["(batch, 3)", "(3,)", "x[None, :]"]),
    "an axis too many": (LEARNER, ones(5, 1, 3), ones(5, 2), ["(batch, 3)", "(5, 1, 3)"]),
    "no sample": (LEARNER, ones(0, 3), ones(0, 2), ["at least one row", "empty"]),
    "integer inputs": (LEARNER, ones(5, 3, dtype="int64"), ones(5, 2), ["float32", "int64", AS_X]),
    "boolean inputs": (LEARNER, ones(5, 3, dtype="bool"), ones(5, 2), ["float32", "bool", AS_X]),
    "inputs of another precision": (LEARNER, ones(5, 3, dtype="float64"), ones(5, 2), ["float32", "float64"]),
    "object inputs": (LEARNER, ones(5, 3, dtype="object"), ones(5, 2), ["bp.exact.asarray"]),
    "a list as inputs": (LEARNER, [[1.0, 1.0, 1.0]], ones(1, 2), ["numpy array", "list", AS_X]),
    "None as inputs": (LEARNER, None, ones(1, 2), ["numpy array", "None", AS_X]),
    "targets (n,) for outputs (n, 1)": (ONE, ones(5, 3), ones(5), ["(5, 1)", "(5,)", "t[:, None]"]),
    "targets (n, 1) for outputs (n, 2)": (LEARNER, ones(5, 3), ones(5, 1), ["(5, 2)", "(5, 1)"]),
    "fewer targets than inputs": (LEARNER, ones(5, 3), ones(4, 2), ["(5, 2)", "(4, 2)"]),
    "one target for all": (LEARNER, ones(5, 3), ones(1, 2), ["(5, 2)", "(1, 2)"]),
    "integer targets": (LEARNER, ones(5, 3), ones(5, 2, dtype="int64"), ["float32", "int64", AS_T]),
    "object targets": (LEARNER, ones(5, 3), ones(5, 2, dtype="object"), ["bp.exact.asarray"]),
    "a list as targets": (LEARNER, ones(1, 3), [[1.0, 1.0]], ["numpy array", "list", AS_T]),
    "labels for numbers": (LEARNER, ones(5, 3), ones(5, dtype="int64"), ["(5, 2)", "(5,)", "int64"]),
    "labels as floats": (LABELS, ones(5, 3), ones(5), ["(5, 2)", LABELS_5, "float32"]),
    "labels as booleans": (LABELS, ones(5, 3), ones(5, dtype="bool"), ["integer labels", "bool"]),
    "labels as a column": (LABELS, ones(5, 3), ones(5, 1, dtype="int64"), [LABELS_5, "(5, 1)"]),
    "too few labels": (LABELS, ones(5, 3), ones(4, dtype="int64"), [LABELS_5, "(4,)"]),
    "exact inputs": (LEARNER, bp.exact.asarray([[1, 1, 1]]), ones(1, 2), ["numpy array", "exact array"]),
    "exact targets": (LEARNER, ones(1, 3), bp.exact.asarray([[1, 1]]), ["numpy array", "exact array"]),
}  # fmt: skip


@pytest.mark.parametrize("method", ["step", "losses", "gradient", "predict"])
@pytest.mark.parametrize("case", BATCHES)
def test_a_batch_that_does_not_fit_is_refused_and_changes_nothing(case, method):
    learner, x, t, words = BATCHES[case]
    about_inputs = "target" not in case and "label" not in case
    w, s = learner.init(weights={})
    before = [np.copy(a).tobytes() for a in leaves((w, s))]
    if method == "predict":
        if about_inputs:
            refused(lambda: learner.predict(w, s, x), *words)
    else:
        refused(lambda: getattr(learner, method)(w, s, x, t), *words)
    assert [np.copy(a).tobytes() for a in leaves((w, s))] == before


MISFITS = {
    "too few features": ((5, 2), (5, 2), ["(batch, 3)", "(5, 2)"]),
    "no batch axis": ((3,), (2,), ["(batch, 3)", "(3,)"]),
    "no sample": ((0, 3), (0, 2), ["empty"]),
    "one target for all": ((5, 3), (1, 2), ["(5, 2)", "(1, 2)"]),
    "targets without units": ((5, 3), (5,), ["(5, 2)", "(5,)"]),
    "one target for all units": ((5, 3), (5, 1), ["(5, 2)", "(5, 1)"]),
    "more targets than inputs": ((5, 3), (6, 2), ["(5, 2)", "(6, 2)"]),
    "more inputs than targets": ((6, 3), (5, 2), ["(6, 2)", "(5, 2)"]),
}


@pytest.fixture(scope="module")
def compiled(any_place):
    """A step that was compiled for batches of five and six, and w and s after these."""
    w, s = any_place.init(LEARNER)
    step = LEARNER.compile(w)
    for n in (5, 6):
        w, s, _ = step(w, s, any_place.array(ones(n, 3)), any_place.array(ones(n, 2)))
    return step, w, s


@pytest.mark.parametrize("case", MISFITS)
def test_compiled_steps_refuse_what_does_not_fit_after_batches_that_did(case, any_place, compiled):
    *misfit, words = MISFITS[case]
    step, w, s = compiled
    before = [np.copy(backends.host(a)).tobytes() for a in leaves((w, s))]
    x, t = (any_place.array(ones(*shape)) for shape in misfit)
    refused(lambda: step(w, s, x, t), *words)
    assert [np.copy(backends.host(a)).tobytes() for a in leaves((w, s))] == before


def test_compiled_steps_refuse_other_dtypes_and_libraries_after_batches_that_fit(place):
    w, s = LEARNER.init(like=place.array([1.0]))
    step, x, t = LEARNER.compile(w), place.array(ones(5, 3)), place.array(ones(5, 2))
    w, s, _ = step(w, s, x, t)
    before = [np.copy(backends.host(a)).tobytes() for a in leaves((w, s))]
    for a, b in (
        (place.array(ones(5, 3), "float32"), t),
        (x, place.array(ones(5, 2), "float32")),
        (place.array(ones(5, 3), "int64"), t),
        (bp.exact.asarray(ones(5, 3)), t),
        (x, bp.exact.asarray(ones(5, 2))),
        (x, [[1.0, 1.0]] * 5),
        ([[1.0, 1.0, 1.0]] * 5, t),
    ):
        refused(lambda a=a, b=b: step(w, s, a, b), "bp.asarray(")
    assert [np.copy(backends.host(a)).tobytes() for a in leaves((w, s))] == before


@pytest.mark.parametrize("row", [-1, 5])
def test_rows_that_are_not_there_are_refused_before_a_step_is_made(row, any_place):
    w, s = any_place.init(LEARNER)
    step, x, t = LEARNER.compile(w), any_place.array(ones(5, 3)), any_place.array(ones(5, 2))
    before = [np.copy(backends.host(a)).tobytes() for a in leaves((w, s))]
    index = np.asarray([[0, 1], [2, row]])
    here = [any_place.array(index, "int64")] if any_place.name in ("numpy", "torch") else []
    for given in (index, index.astype("int32"), *here):
        refused(lambda given=given: step.scan(w, s, x, t, given), f"must be 0 to 4, got {min(row, 0)} to")
    assert [np.copy(backends.host(a)).tobytes() for a in leaves((w, s))] == before
    assert step.scan(w, s, x, t, index % 5)[2].shape == (2,)


@pytest.mark.parametrize("index", [[[0, 1]], np.arange(4), np.ones((1, 2)), np.ones((1, 2), dtype=bool)])
def test_an_index_of_another_form_is_refused(index, any_place):
    w, s = any_place.init(LEARNER)
    step, x, t = LEARNER.compile(w), any_place.array(ones(5, 3)), any_place.array(ones(5, 2))
    refused(lambda: step.scan(w, s, x, t, index), "array of integers of shape (steps, batch), got")


def raising(error):
    def step(*_, **__):
        raise error

    return step


@pytest.mark.parametrize("graphs", [False, True])
def test_torch_without_memory_says_what_to_reduce_and_what_is_left(graphs, monkeypatch):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from backprop_xp.compiler.torch import Graphed

    w, s = LEARNER.init(backend="torch")
    step, x, t = LEARNER.compile(w), torch.ones(5, 3), torch.ones(5, 2)
    full = raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"))
    monkeypatch.setattr(step, "function", full)
    monkeypatch.setattr(step, "_recorded", lambda w: False)  # as on a GPU
    monkeypatch.setattr(Graphed, "runs_on", staticmethod(lambda w: graphs))
    monkeypatch.setattr(Graphed, "_captured", lambda self: self._run())
    kept = "w and s can still be used" if graphs else "continue from a snapshot"
    words = [
        "no memory left for a step of 2 rows (CUDA out of memory. Tried to allocate 2 GiB)",
        "smaller batch",
    ]
    refused(lambda: step.scan(w, s, x, t, np.zeros((3, 2), dtype=int)), *words, kept)
    assert step.eager is None
    refused(lambda: step(w, s, x, t), "a step of 5 rows", "continue from a snapshot")
    monkeypatch.setattr(step, "function", raising(RuntimeError("something else")))
    with pytest.raises(RuntimeError, match="something else"):
        step(w, s, x, t)


def test_jax_without_memory_says_what_to_reduce_and_what_is_left(monkeypatch):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    w, s = LEARNER.init(backend="jax")
    step, x, t = LEARNER.compile(w), jax.numpy.ones((5, 3), "float32"), jax.numpy.ones((5, 2), "float32")
    full = raising(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."))
    monkeypatch.setattr(type(step), "compilations", 0)  # which jitted functions count
    monkeypatch.setattr(step, "_one", full)
    words = ["(RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.)", "smaller batch"]
    refused(lambda: step(w, s, x, t), "a step of 5 rows", *words, "w and s can still be used")
    monkeypatch.setattr(step, "_many", lambda w, *rest: [a.delete() for a in jax.tree.leaves(w)] and full())
    index = np.zeros((3, 2), dtype=int)
    refused(lambda: step.scan(w, s, x, t, index), "a step of 2 rows", *words, "continue from a snapshot")
    monkeypatch.setattr(step, "_one", raising(jax.errors.JaxRuntimeError("INTERNAL: else")))
    with pytest.raises(RuntimeError, match="INTERNAL: else"):
        step(w, s, x, t)


def leaves(value):
    return [leaf for each in value for leaf in leaves(each)] if isinstance(value, tuple) else [value]


@pytest.mark.parametrize(
    ("w", "words"),
    [
        (ones(25), ["26 real numbers", "(25,)", "learner.init"]),
        (ones(26, 1), ["26 real numbers", "(26, 1)"]),
        (None, ["26 real numbers", "None", "learner.init"]),
        ([1.0] * 26, ["26 real numbers", "list", "learner.init"]),
        (ones(26, dtype="int64"), ["26", "int64"]),
        (ones(26, dtype="bool"), ["26", "bool"]),
        (ones(26, dtype="object"), ["bp.exact.asarray"]),
    ],
)
def test_weights_that_no_init_gave_are_refused(w, words):
    _, s = LEARNER.init()
    like = ones(1) if not hasattr(w, "dtype") else w
    x, t = ones(5, 3, dtype=like.dtype), ones(5, 2, dtype=like.dtype)
    refused(lambda: LEARNER.step(w, s, x, t), *words)
    refused(lambda: LEARNER.predict(w, s, x), *words)


def test_arrays_of_another_library_are_refused(any_place):
    home = LEARNER.init(dtype="float64" if any_place.dtype == "float64" else "float32")
    x, t = any_place.array(np.ones((5, 3))), any_place.array(np.ones((5, 2)))
    if any_place.name == "numpy":
        assert LEARNER.step(*home, x, t)[2].shape == ()
    else:
        refused(lambda: LEARNER.step(*home, x, t), "numpy array", any_place.name, AS_X)
        here = ones(5, 3, dtype=home[0].dtype)
        refused(lambda: LEARNER.step(*home, here, t), "numpy array", any_place.name, AS_T)


def test_arrays_on_another_device_are_refused():
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    w, s = LEARNER.init(backend="strict", device="device1")
    before = backends.host(w).tobytes()
    there, here = (
        [strict.ones(shape, dtype=strict.float32, device=strict.Device(name)) for shape in ((5, 3), (5, 2))]
        for name in ("device1", "CPU_DEVICE")
    )
    assert LEARNER.losses(w, s, *there).shape == (5,)
    refused(lambda: LEARNER.step(w, s, here[0], there[1]), "inputs", "device1", "CPU_DEVICE", "like=w")
    refused(lambda: LEARNER.step(w, s, there[0], here[1]), "targets", "device1", "CPU_DEVICE", "like=w")
    assert backends.host(w).tobytes() == before


# ---------------------------------------------------------------- values of data
X, T = ones(4, 3), ones(4, 2)


def spoiled(a, value):
    bad = a.copy()
    bad[1, 1] = value
    return bad


VALUES = {
    "NaN in inputs": (spoiled(X, np.nan), T, None, None, ["inputs", "finite", "1 of 12"]),
    "infinity in inputs": (spoiled(X, np.inf), T, None, None, ["inputs", "finite", "1 of 12"]),
    "NaN in targets": (X, spoiled(T, np.nan), None, None, ["targets", "finite", "1 of 8"]),
    "infinity in targets": (X, spoiled(T, -np.inf), bp.half_squared_error, None, ["targets", "finite"]),
    "a label too high": (X, np.asarray([0, 1, 2, 1]), bp.softmax_cross_entropy, 2, ["0 to 1", "0 to 2"]),
    "a label below 0": (
        X,
        np.asarray([0, 1, -1, 1]),
        bp.losses.categorical_cross_entropy,
        2,
        ["0 to 1", "-1 to 1"],
    ),
    "a probability over 1": (
        X,
        spoiled(T, 1.5),
        bp.losses.sigmoid_cross_entropy,
        None,
        ["probabilities", "1.5"],
    ),
    "a probability below 0": (
        X,
        spoiled(T, -0.5),
        bp.losses.binary_cross_entropy,
        None,
        ["probabilities", "-0.5"],
    ),
    "a count below 0": (X, spoiled(T, -0.5), losses.poisson, None, ["Poisson", "counts, 0 or more", "row 1"]),
    "a sign of 0": (
        X,
        spoiled(T, 0),
        losses.hinge,
        None,
        ["Hinge", "-1 or 1", "2 t - 1", "is 0.0, in row 1"],
    ),
    "a label beside the ignored one": (
        X,
        np.asarray([0, -1, -2, 1]),
        losses.SoftmaxCrossEntropy(ignored=-1),
        2,
        ["0 to 1", "or -1, which is ignored", "is -2, in row 2"],
    ),
    "a distribution over 1": (X, spoiled(T, 2.0), bp.softmax_cross_entropy, 2, ["probabilities", "2.0"]),
}


@pytest.mark.parametrize("case", VALUES)
def test_values_that_cannot_be_learned_from_are_refused(case):
    x, t, loss, units, words = VALUES[case]
    refused(lambda: check_data(x, t, loss, units), *words)


@pytest.mark.parametrize("loss", losses.ALL.values(), ids=losses.ALL)
def test_values_that_can_be_learned_from_pass(loss, any_place):
    check_data(any_place.array(X), any_place.array(-T if loss.targets == "signs" else T / 2), loss, 2)
    if loss.targets == "distribution":
        check_data(any_place.array(X), any_place.array([0, 1, 1, 0], dtype="int64"), loss, 2)
    if loss.targets == "numbers":
        check_data(any_place.array(X), any_place.array(-5 * T), loss, 2)


# ---------------------------------------------------------------- first weights
GIVEN = {
    "NaN": ({"dense1.w": spoiled(ones(3, 4), np.nan)}, ["'dense1.w'", "finite", "1 of 12"]),
    "infinity": ({"dense2.b": [np.inf, 0.0]}, ["'dense2.b'", "finite", "1 of 2"]),
    "the shape transposed": ({"dense1.w": ones(4, 3)}, ["'dense1.w'", "(3, 4)", "(in × out)", "(4, 3)"]),
    "a bias as a row": ({"dense1.b": ones(1, 4)}, ["'dense1.b'", "(4,)", "(1, 4)"]),
    "a block there is not": ({"dense3.w": ones(1)}, ["'dense3.w'", "'dense1.w'", "'dense2.b'"]),
    "a layer for a block": ({"dense1": ones(3, 4)}, ["'dense1'", "'dense1.w'"]),
    "objects": ({"dense1.b": ones(4, dtype="object")}, ["bp.exact.asarray"]),
    "text": ({"dense1.b": ["one", "two", "three", "four"]}, ["expected numbers", "'one'"]),
    "ragged lists": ({"dense1.w": [[1.0], [1.0, 2.0]]}, ["numbers", "lists of equal lengths"]),
}


@pytest.mark.parametrize("case", GIVEN)
def test_weights_that_do_not_fit_are_refused(case):
    weights, words = GIVEN[case]
    refused(lambda: LEARNER.init(weights=weights), *words)


INITS = {
    "an unknown backend": ({"backend": "numpie"}, ["'numpie'", "'numpy'", "'torch'"]),
    "an unknown dtype": ({"dtype": "float23"}, ["'float23'", "'float32'", "'float64'"]),
    "an integer dtype": ({"dtype": "int32"}, ["'int32'", "'float32'", "'float64'"]),
    "fractions on numpy": ({"dtype": "rational"}, ["'rational'", "'float32'"]),
    "floats on exact": ({"backend": "exact", "dtype": "float64"}, ["'float64'", "'rational'"]),
    "an unknown device": ({"device": "gpu7"}, ["'cpu'", "'gpu7'"]),
    "like and another backend": ({"like": X, "backend": "torch"}, ["like=", "numpy", "'torch'"]),
    "like that is no array": ({"like": [1.0]}, ["list", "bp.asarray"]),
    "a negative seed": ({"seed": -1}, ["0 <= seed", "-1"]),
    "a seed too large": ({"seed": 2**32}, ["seed < 2**32", str(2**32)]),
    "a seed that is a float": ({"seed": 1.0}, ["integer", "1.0"]),
    "a seed that is a truth": ({"seed": True}, ["integer", "True"]),
}


@pytest.mark.parametrize("case", INITS)
def test_a_start_that_cannot_be_made_is_refused(case):
    settings, words = INITS[case]
    refused(lambda: LEARNER.init(**settings), *words)


@pytest.mark.parametrize(
    ("backend", "device", "words"),
    [
        ("torch", "cuda:99", ["Torch", "'cuda:99'"]),
        ("torch", "toaster", ["Torch", "'toaster'"]),
        ("jax", "gpu:99", ["JAX", "'gpu:99'"]),
        ("jax", "toaster", ["JAX", "'toaster'"]),
        ("strict", "device9", ["'device1'", "'device9'"]),
        ("exact", "gpu", ["'cpu'", "'gpu'"]),
    ],
)
def test_a_device_that_is_not_there_is_refused(backend, device, words):
    if backend in ("torch", "jax", "strict"):
        library = {"strict": "array_api_strict"}.get(backend, backend)
        pytest.importorskip(library, reason=f"{library} is not installed")
    refused(lambda: LEARNER.init(backend=backend, device=device), *words)


def test_the_environment_cannot_name_an_unknown_backend(monkeypatch):
    monkeypatch.setenv("BACKPROP_XP_BACKEND", "numpie")
    refused(LEARNER.init, "'numpie'", "'numpy'")


# ---------------------------------------------------------------- settings of learners, rules and layers
RATES = [0, 0.0, -0.1, float("nan"), float("inf"), True, b"0.1", None, [0.1], 1j]


@pytest.mark.parametrize("rate", RATES, ids=repr)
def test_a_constant_rate_is_positive_and_finite(rate):
    refused(lambda: bp.GradientDescent(rate), "positive finite number", "0.1", repr(rate))
    refused(lambda: bp.GradientDescent({"dense1": rate}), "positive finite number", repr(rate))


SETTINGS = {
    "an unknown reduction": (lambda: bp.Learner(NET, reduction="none"), ["'mean', 'sum'", "'none'"]),
    "an unknown order": (lambda: bp.Learner(NET, order="backwards"), ["'together'", "'backwards'"]),
    "a loss by name": (lambda: bp.Learner(NET, "mse"), ["bp.softmax_cross_entropy", "'mse'"]),
    "a loss as class": (lambda: bp.Learner(NET, losses.SquaredError), ["bp.softmax_cross_entropy"]),
    "a list as net": (lambda: bp.Learner([3, 1]), ["bp.chain", "[3, 1]"]),
    "a number as update rule": (lambda: bp.Learner(NET, update=0.1), ["bp.GradientDescent(0.1)", "got 0.1"]),
    "a net of no weights": (lambda: bp.Learner(bp.chain(3)), ["nothing learns"]),
    "all frozen": (lambda: bp.Learner(NET.freeze("dense1", "dense2")), ["nothing learns", "thaw"]),
    "a rate mapping lacking a layer": (
        lambda: bp.Learner(NET, update=bp.GradientDescent({"dense1": 0.1})),
        ["'dense2'", "'dense1'"],
    ),
    "a rate for a layer there is not": (
        lambda: bp.Learner(NET, update=bp.GradientDescent({"dense1": 0.1, "dense2": 0.1, "dense9": 1})),
        ["'dense9'"],
    ),
    "a floor above the limit": (lambda: bp.GradientDescent(0.1, limit=1, floor=2), ["floor=2", "limit=1"]),
    "a negative limit": (lambda: bp.GradientDescent(0.1, limit=-1), ["floor < limit", "-1"]),
    "an unknown gate": (lambda: bp.activations.ReLU(">>"), ["'>='", "'>'", "'>>'"]),
    "an unknown leaky gate": (lambda: bp.activations.LeakyReLU(0.1, "<"), ["'>='", "'<'"]),
    "a slope of NaN": (lambda: bp.activations.LeakyReLU(float("nan")), ["finite", "0.01", "nan"]),
    "a slope as text": (lambda: bp.activations.LeakyReLU("steep"), ["finite", "0.01", "'steep'"]),
    "an infinite threshold": (lambda: bp.activations.ThresholdedReLU(float("inf")), ["finite", "1.0", "inf"]),
    "an alpha of 0": (lambda: bp.activations.ELU(0), ["ELU", "positive", "1.0", "got 0"]),
    "an alpha below 0": (lambda: bp.activations.CELU(-1.5), ["CELU", "positive", "1.0", "-1.5"]),
    "no units": (lambda: bp.Dense(0), ["positive integer", "0"]),
    "units as float": (lambda: bp.Dense(2.0), ["positive integer", "2.0"]),
    "an activation by name": (lambda: bp.Dense(2, "relu"), ["bp.relu", "'relu'"]),
    "an activation of its own layer by name": (lambda: bp.layers.Activate("relu"), ["bp.relu", "'relu'"]),
    "no features": (lambda: bp.chain(0, bp.Dense(1)), ["features", "positive integer", "0"]),
    "text for a net": (lambda: bp.chain("8", bp.Dense(1)), ["bp.Dense", "'8'"]),
    "a number for a layer": (lambda: bp.chain(8, 4), ["bp.Dense", "4"]),
    "an activation for a layer": (lambda: bp.chain(8, bp.relu), ["bp.Dense"]),
    "no input": (lambda: bp.chain(bp.Dense(1)), ["number of features", "bp.chain(8"]),
    "an input that nothing takes": (
        lambda: bp.chain(8, bp.named("more", bp.layers.Input(8)), bp.Dense(1)),
        ["nothing uses 'input'"],
    ),
    "an input with inputs": (
        lambda: bp.net.Net((
            bp.net.Node(bp.layers.Input(2), "input", ()),
            bp.net.Node(bp.layers.Input(2), "more", ("input",)),
        )),
        ["'more'", "takes the output of no other node"],
    ),
    "a layer without inputs": (
        lambda: bp.net.Net((bp.net.Node(bp.layers.Input(2), "input", ()), bp.net.Node(bp.Dense(2), "a", ()))),
        ["'a'", "needs the output of another"],
    ),
    "categories for a Dense layer": (
        lambda: bp.chain(bp.layers.Integers(2), bp.Dense(1)),
        ["'dense1'", "takes numbers", "'input' has integers", "bp.layers.Embedding"],
    ),
    "numbers for an Embedding": (
        lambda: bp.chain(2, bp.Dense(3), bp.layers.Embedding(4, 2)),
        ["'embedding1'", "takes integers", "'dense1' has numbers", "bp.layers.Integers"],
    ),
    "no categories": (lambda: bp.layers.Embedding(0, 2), ["number of categories", "positive integer", "0"]),
    "an Embedding of no width": (lambda: bp.layers.Embedding(2, -1), ["width", "positive integer", "-1"]),
    "all left out": (lambda: bp.layers.Dropout(1), ["0 <= p < 1", "got 1"]),
    "less than none left out": (lambda: bp.layers.Dropout(-0.1), ["0 <= p < 1", "-0.1"]),
    "a share as text": (lambda: bp.layers.Dropout("half"), ["0 <= p < 1", "'half'"]),
    "a share of NaN": (lambda: bp.layers.Dropout(float("nan")), ["0 <= p < 1", "nan"]),
    "an eps of zero": (lambda: bp.layers.LayerNorm(0), ["eps", "positive finite number", "0"]),
    "an eps without end": (lambda: bp.layers.BatchNorm(float("inf")), ["eps", "positive finite", "inf"]),
    "a momentum of two": (lambda: bp.layers.BatchNorm(momentum=2), ["from 0 to 1", "2"]),
    "a block of nothing": (bp.residual, ["at least one layer", "bp.residual("]),
    "an activation in a block": (lambda: bp.residual(bp.relu), ["bp.Dense"]),
    "a block that changes the units": (
        lambda: bp.chain(2, bp.residual(bp.Dense(3))),
        ["one shape", "(3,), (2,)", "residual(..., skip=bp.Dense(units))"],
    ),
    "a gate of unequal shapes": (
        lambda: bp.chain(2, bp.Dense(3), bp.multiply("input")),
        ["Multiply", "one shape"],
    ),
    "names that are double": (
        lambda: bp.chain(2, bp.named("a", bp.Dense(2)), bp.named("a", bp.Dense(2))),
        ["'a'", "more than once"],
    ),
    "a name that a layer has by kind": (
        lambda: bp.chain(2, bp.Dense(2), bp.named("dense1", bp.Dense(2))),
        ["'dense1'", "more than once"],
    ),
    "a skip from an unknown layer": (lambda: bp.chain(2, bp.Dense(2), bp.add("a")), ["'a'", "'dense1'"]),
    "a skip from a later layer": (
        lambda: bp.chain(2, bp.Dense(2), bp.add("dense2"), bp.Dense(2)),
        ["'dense2'", "'dense1'"],
    ),
    "an output that nothing takes": (
        lambda: bp.net.Net((
            bp.net.Node(bp.layers.Input(2), "input", ()),
            bp.net.Node(bp.Dense(2), "a", ("input",)),
            bp.net.Node(bp.Dense(2), "b", ("input",)),
        )),
        ["nothing uses 'a'"],
    ),
    "a sum of unequal shapes": (
        lambda: bp.chain(2, bp.Dense(3), bp.add("input")),
        ["one shape", "(3,)", "(2,)"],
    ),
    "a net of nothing": (lambda: bp.net.Net(()), ["number of features"]),
    "an unknown layer to freeze": (lambda: NET.freeze("dense3"), ["'dense3'", "freeze", "'dense1.w'"]),
    "an unknown block to freeze": (lambda: NET.freeze("dense1.c"), ["'dense1.c'", "'dense1.b'"]),
    "an unknown layer to thaw": (lambda: NET.thaw("dense3"), ["'dense3'", "thaw", "'dense1.w'"]),
    "an unknown block asked of the learner": (
        lambda: LEARNER.freeze("dense3", *LEARNER.init()),
        ["'dense3'", "'dense1.w'"],
    ),
    "the last layer that learns frozen": (
        lambda: LEARNER.freeze(["dense1", "dense2"], *LEARNER.init()),
        ["nothing learns"],
    ),
    "an unknown backend for a block": (lambda: bp.backend("numpie").__enter__(), ["'numpie'", "'numpy'"]),
    "an unknown backend for an array": (lambda: bp.asarray([1.0], backend="numpie"), ["'numpie'", "'numpy'"]),
    "an array of nothing": (lambda: bp.asarray(None), ["NoneType", "bp.asarray"]),
}  # fmt: skip


@pytest.mark.parametrize("case", SETTINGS)
def test_a_setting_that_cannot_be_is_refused(case):
    build, words = SETTINGS[case]
    refused(build, *words)


def test_layer_by_layer_goes_with_gradient_descent_alone():
    class Other:
        rate, moments = 0.1, 0

        def scalars(self, state, *, dtype, xp):
            return (0.1,)

        def element(self, g, w, *rest, xp):
            return (w,)

    refused(lambda: bp.Learner(NET, update=Other(), order="layer by layer"), "GradientDescent", "'together'")


def test_errors_are_value_errors():
    assert issubclass(bp.BackpropError, ValueError)
    assert issubclass(bp.errors.BackendUnavailable, bp.BackpropError)
    assert issubclass(bp.errors.BackendUnavailable, ImportError)
    assert issubclass(bp.errors.Diverged, bp.BackpropError)
