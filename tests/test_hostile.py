"""Hostile inputs to the public API: each ends in a sentence that helps, and nothing is changed.

They were written from README.md and the docstrings alone. Each is a name, a call, and words of the message,
or the caller's own exception, which must come through. Where the call takes w and s, it changes neither.
"""

import re
import threading
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp.arrays import leaves


class Own(Exception):
    """What the caller's functions raise."""


def fails(*_, **__):
    msg = "mine"
    raise Own(msg)


class Rows:
    """A source of data that says one thing and returns another."""

    def __init__(self, rows, n=6, features=2, outputs=1, window=6):
        self.n, self.features, self.outputs, self.window, self._rows = n, features, outputs, window, rows

    def rows(self, start, stop):
        return self._rows(start, stop)


class Frame:
    """As a table of pandas: an array by `__array__`, but no array itself."""

    shape, ndim, dtypes = (6, 2), 2, ["float32", "float32"]
    values = np.ones((6, 2), dtype="float32")

    def __array__(self, dtype=None, copy=None):
        return self.values

    def __len__(self):
        return 6


class Sparse:
    """As a sparse matrix: a shape and a dtype, but no dense numbers."""

    shape, ndim, dtype, nnz = (6, 2), 2, np.dtype("float32"), 3

    def toarray(self):
        return np.zeros((6, 2), dtype="float32")


@pytest.fixture
def scene():
    learner = bp.Learner(bp.chain(2, bp.Dense(3, bp.tanh), bp.Dense(1)), update=bp.Adam(0.01))
    w, s = learner.init(3)
    draw = np.random.default_rng(0)
    x, t = draw.normal(size=(6, 2)).astype("float32"), draw.normal(size=(6, 1)).astype("float32")
    return SimpleNamespace(learner=learner, w=w, s=s, x=x, t=t, source=bp.data.Stored(x, t))


def step(a, x=None, t=None, *weight):
    return a.learner.step(a.w, a.s, a.x if x is None else x, a.t if t is None else t, *weight)


def fit(a, source=None, **settings):
    return bp.fit(a.learner, a.w, a.s, source or a.source, **settings)


def lying(a, rows, **settings):
    return fit(a, Rows(rows, **settings), batch_size=2)


def later(a, change):
    """Windows of which those after the first are changed."""

    def rows(start, stop):
        x, t = a.x[start:stop], a.t[start:stop]
        return (change(x) if start else x), t

    return lying(a, rows, window=2)


def overflowing(a):
    with np.errstate(over="ignore"):
        return init(a, weights={"dense2.b": [1e300]})


def scheduled(a, rate):
    learner = bp.Learner(a.learner.net, update=bp.GradientDescent(rate))
    w, s = learner.init(3)
    return learner.step(w, s, a.x, a.t)


def nested(depth):
    made = [1.0]
    for _ in range(depth):
        made = [made]
    return made


def recursive():
    made = [1.0]
    made.append(made)
    return made


def in_torch(a, **settings):
    torch = pytest.importorskip("torch")
    return torch.tensor(a, **settings)


def traced(a):
    jax = pytest.importorskip("jax")
    return jax.jit(lambda x: step(a, x)[2])(a.x)


def on_two_devices(a):
    strict = pytest.importorskip("array_api_strict")
    w, s = a.learner.init(backend="strict")
    x = strict.asarray(a.x, dtype=strict.float32, device=strict.Device("device1"))
    return a.learner.step(w, s, x, strict.asarray(a.t))


def watched_in_thread(a):
    found = []

    def run():
        try:
            step(a, a.x[:, :1])
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    raise found[0]


def init(a, seed=0, **settings):
    return a.learner.init(seed, **settings)


# fmt: off
CASES = [
    # the batch
    ("x is a list of lists", lambda a: step(a, a.x.tolist()), "inputs must be a numpy array of shape"),
    ("x is None", lambda a: a.learner.step(a.w, a.s, None, a.t), "inputs must be a numpy array of shape"),
    ("x is text", lambda a: step(a, "12"), "inputs must be a numpy array of shape"),
    ("x is a generator", lambda a: step(a, (row for row in a.x)), "inputs must be a numpy array of shape"),
    ("x is like a pandas table", lambda a: step(a, Frame()), "inputs must be a numpy array of shape"),
    ("x is like a sparse matrix", lambda a: step(a, Sparse()), "expected an array of 'cupy', 'exact',"),
    ("x is complex", lambda a: step(a, a.x.astype("complex64")), "inputs must have the weights' dtype"),
    ("x is a dict", lambda a: step(a, {"x": a.x}), "the inputs of this net must be one array, got a dict"),
    ("x is a dict in predict", lambda a: a.learner.predict(a.w, a.s, {"x": a.x}), "one array, got a dict"),
    ("a stored loss as text", lambda a: bp.data.Stored(a.x, a.t, "squared"), "the loss must be one such as"),
    ("x is of objects", lambda a: step(a, a.x.astype(object)), "an object array loses exact numbers"),
    ("x is of digits as text", lambda a: step(a, a.x.astype(str)), "inputs must have the weights' dtype"),
    ("x is of Decimals", lambda a: step(a, np.full((6, 2), Decimal(1))),
     "an object array loses exact numbers"),
    ("x is of dates", lambda a: step(a, np.zeros((6, 2), dtype="datetime64[s]")),
     "inputs must have the weights' dtype"),
    ("x has records", lambda a: step(a, np.zeros((6, 2), dtype=[("a", "f4")])),
     "inputs must have the weights' dtype"),
    ("x is of booleans", lambda a: step(a, a.x > 0), "inputs must have the weights' dtype"),
    ("x is float16", lambda a: step(a, a.x.astype("float16")), "cannot be of 16 bits"),
    ("x is big-endian", lambda a: step(a, a.x.astype(">f4")), "inputs must have the weights' dtype"),
    ("x is int64", lambda a: step(a, a.x.astype("int64")), "inputs must have the weights' dtype"),
    ("x is 0-d", lambda a: step(a, a.x[0, 0]), "inputs must be a numpy array of shape"),
    ("x is a 0-d array", lambda a: step(a, np.asarray(np.float32(1))),
     "inputs must be a numpy array of shape"),
    ("x is one sample", lambda a: step(a, a.x[0]), "inputs must be a numpy array of shape"),
    ("x has three axes", lambda a: step(a, a.x[None]), "inputs must be a numpy array of shape"),
    ("x has no rows", lambda a: step(a, a.x[:0], a.t[:0]), "inputs must be a numpy array of shape"),
    ("x has no columns", lambda a: step(a, a.x[:, :0]), "inputs must be a numpy array of shape"),
    ("x has a row less", lambda a: step(a, a.x[:5]), "targets must be a numpy array of shape (5,"),
    ("t is 1-d", lambda a: step(a, None, a.t[:, 0]), "targets must be a numpy array of shape (6,"),
    ("t is of labels", lambda a: step(a, None, np.zeros(6, dtype="int32")),
     "targets must be a numpy array of shape (6,"),
    ("t is a Torch tensor", lambda a: step(a, None, in_torch(a.t)),
     "targets must be a numpy array of shape (6,"),
    ("x is a Torch tensor with a gradient", lambda a: step(a, in_torch(a.x, requires_grad=True)),
     "inputs must be a numpy array of shape"),
    ("x is a tracer of JAX, w is not", traced, "inputs must be a numpy array of shape"),
    ("x is on another device", on_two_devices, "inputs must be on the weights' device"),
    ("a step in a thread", watched_in_thread, "inputs must be a numpy array of shape"),
    ("no targets", lambda a: a.learner.step(a.w, a.s, a.x), "a batch is inputs, targets and, if wanted,"),
    ("no batch", lambda a: a.learner.step(a.w, a.s), "a batch is inputs, targets and, if wanted,"),
    ("four parts of a batch", lambda a: step(a, None, None, a.t[:, 0], a.t[:, 0]),
     "a batch is inputs, targets and, if wanted,"),
    ("sample weights as a column", lambda a: step(a, None, None, a.t),
     "sample weights must be a numpy array of"),
    ("sample weights as integers", lambda a: step(a, None, None, np.ones(6, dtype="int64")),
     "sample weights must be a numpy array of"),
    ("labels are floats", lambda a: labelled(a, np.zeros(6, dtype="float32")),
     "targets must be a numpy array of shape (6,"),
    ("labels of fit are too large", lambda a: bp.data.Stored(a.x, np.full(6, 7), bp.softmax_cross_entropy, 3),
     "labels must be 0 to 2 for 3 output units,"),
    # weights and state
    ("w is a list", lambda a: a.learner.step(a.w.tolist(), a.s, a.x, a.t),
     "the weights w must be a vector of 13 real"),
    ("w is short", lambda a: a.learner.step(a.w[:-1], a.s, a.x, a.t),
     "the weights w must be a vector of 13 real"),
    ("w is a matrix", lambda a: a.learner.step(a.w[None], a.s, a.x, a.t),
     "the weights w must be a vector of 13 real"),
    ("w is None", lambda a: a.learner.step(None, a.s, a.x, a.t), "the weights w must be a vector of 13 real"),
    ("w is read-only", lambda a: read_only(a),  # noqa: PLW0108
     "these are read-only: pass copies"),
    ("s is None", lambda a: a.learner.step(a.w, None, a.x, a.t), "the state s must come from init of this"),
    ("s is of another rule", lambda a: a.learner.step(a.w, bp.Learner(a.learner.net).init()[1], a.x, a.t),
     "the state s must come from init of this"),
    ("s is a tuple", lambda a: a.learner.step(a.w, tuple(a.s), a.x, a.t),
     "the state s must come from init of this"),
    ("w and s are exchanged", lambda a: a.learner.step(a.s, a.w, a.x, a.t),
     "the state s must come from init of this"),
    ("w is NaN", lambda a: bp.fit(a.learner, a.w * np.float32("nan"), a.s, a.source),
     "weights must be finite numbers; 13 of 13"),
    ("s of fit is None", lambda a: bp.fit(a.learner, a.w, None, a.source),
     "the state s must come from init of this"),
    ("w of fit is None", lambda a: bp.fit(a.learner, None, a.s, a.source),
     "the weights w must be a vector of 13 real"),
    ("learner of fit is a net", lambda a: bp.fit(a.learner.net, a.w, a.s, a.source),
     "the learner must be a bp.Learner, got a Net"),
    # init
    ("seed is -1", lambda a: init(a, -1), "a seed must be an integer with 0"),
    ("seed is 2³²", lambda a: init(a, 2**32), "a seed must be an integer with 0"),
    ("seed is a float", lambda a: init(a, 1.5), "a seed must be an integer with 0"),
    ("seed is text", lambda a: init(a, "7"), "a seed must be an integer with 0"),
    ("seed is None", lambda a: init(a, None), "a seed must be an integer with 0"),
    ("seed is True", lambda a: init(a, True), "a seed must be an integer with 0"),
    ("backend has a funny name", lambda a: init(a, backend="nümpy"),
     "a backend must be one of 'cupy', 'exact',"),
    ("backend is a module", lambda a: init(a, backend=np), "a backend must be one of 'cupy', 'exact',"),
    ("backend is a number", lambda a: init(a, backend=5), "a backend must be one of 'cupy', 'exact',"),
    ("backend is a list", lambda a: init(a, backend=["numpy"]), "a backend must be one of 'cupy', 'exact',"),
    ("dtype is float16", lambda a: init(a, dtype="float16"), "cannot be of 16 bits"),
    ("dtype is an object", lambda a: init(a, dtype=np.int32),
     "the dtype of weights must be one of"),
    ("dtype is a list", lambda a: init(a, dtype=["float32"]), "a dtype of the numpy backend must be one of"),
    ("device is on the moon", lambda a: init(a, device="moon:0"),
     "the numpy backend runs on device 'cpu', got"),
    ("device of Torch is a list", lambda a: init(a, backend=has("torch"), device=["cpu"]),
     "Torch has no device ['cpu'] here: device()"),
    ("device of JAX is on the moon", lambda a: init(a, backend=has("jax"), device="moon:0"),
     "JAX has no device 'moon:0'; it has cpu:0"),
    ("device of JAX is a number", lambda a: init(a, backend=has("jax"), device=3.5),
     "JAX has no device '3.5'; it has cpu:0"),
    ("like is a list", lambda a: init(a, like=[1.0]), "expected an array of 'cupy', 'exact',"),
    ("weights are a list", lambda a: init(a, weights=[1]), "the net has no 1; weights can be given for"),
    ("weights have a wrong name", lambda a: init(a, weights={"dense9.w": [[1]]}),
     "the net has no 'dense9.w'; weights can be"),
    ("weights have a number for a name", lambda a: init(a, weights={5: [[1]]}),
     "the net has no 5; weights can be given for"),
    ("weights have a wrong shape", lambda a: init(a, weights={"dense1.w": [[1]]}),
     "weights 'dense1.w' must have shape (2, 3)"),
    ("weights are ragged", lambda a: init(a, weights={"dense1.w": [[1, 2, 3], [1]]}),
     "expected numbers, in nested lists of equal"),
    ("weights are text", lambda a: init(a, weights={"dense1.w": "abc"}),
     "expected an array of 'cupy', 'exact',"),
    ("weights are None", lambda a: init(a, weights={"dense1.b": None}),
     "expected an array of 'cupy', 'exact',"),
    ("weights are NaN", lambda a: init(a, weights={"dense2.b": [float("nan")]}),
     "weights 'dense2.b' must be finite numbers;"),
    ("weights are complex", lambda a: init(a, weights={"dense2.b": [1j]}),
     "expected numbers, in nested lists of equal"),
    ("weights contain themselves", lambda a: init(a, weights={"dense2.b": recursive()}),
     "expected numbers, in nested lists of equal"),
    ("weights overflow float32", overflowing,
     "weights 'dense2.b' must be finite numbers;"),
    # nets
    ("a net of None", lambda a: bp.chain(None, bp.Dense(1)), "a net is built from layers such as"),
    ("a net of a list", lambda a: bp.chain(2, [bp.Dense(1), bp.Dense(1)]),
     "a net is built from layers such as"),
    ("a net in a net", lambda a: bp.chain(2, bp.chain(2, bp.Dense(1))), "a net is built from layers such as"),
    ("a class as layer", lambda a: bp.chain(2, bp.Dense), "a net is built from layers such as"),
    ("an activation as layer", lambda a: bp.chain(2, bp.tanh), "a net is built from layers such as"),
    ("units are a float", lambda a: bp.Dense(2.0), "the number of units of a Dense layer must"),
    ("units are True", lambda a: bp.Dense(True), "the number of units of a Dense layer must"),
    ("units are -1", lambda a: bp.Dense(-1), "the number of units of a Dense layer must"),
    ("units are text", lambda a: bp.Dense("3"), "the number of units of a Dense layer must"),
    ("units are an array", lambda a: bp.Dense(np.asarray([3, 4])),
     "the number of units of a Dense layer must"),
    ("an activation by name", lambda a: bp.Dense(3, "relu"), "the activation of a layer must be one such"),
    ("an activation as a class", lambda a: bp.Dense(3, type(bp.tanh)),
     "the activation of a layer must be one such"),
    ("an activation of NumPy", lambda a: bp.Dense(3, np.tanh), "the activation of a layer must be one such"),
    ("two layers of a name", lambda a: bp.chain(2, bp.named("a", bp.Dense(1)), bp.named("a", bp.Dense(1))),
     "the names of a net's layers must be unique,"),
    ("a name with a star", lambda a: bp.chain(2, bp.named("*", bp.Dense(1))),
     "the name of a layer must be text without"),
    ("a name that is a number", lambda a: bp.chain(2, bp.named(3, bp.Dense(1))),
     "the name of a layer must be text without"),
    ("named nothing", lambda a: bp.chain(2, bp.named("a", None)), "a net is built from layers such as"),
    ("a skip to nowhere", lambda a: bp.chain(2, bp.Dense(2), bp.add("nowhere")),
     "'add1' needs the output of an earlier node,"),
    ("a skip to itself", lambda a: bp.chain(2, bp.Dense(2), bp.named("me", bp.add("me"))),
     "'me' needs the output of an earlier node,"),
    ("a skip to a layer", lambda a: bp.chain(2, bp.Dense(2), bp.add(bp.Dense(2))),
     "'add1' needs the output of an earlier node,"),
    ("a skip of another width", lambda a: bp.chain(2, bp.Dense(3), bp.add("input")),
     "Add needs inputs of one shape, got (3,),"),
    ("a skip to a list", lambda a: bp.chain(2, bp.Dense(2), bp.concat(["input"])),
     "'concat1' needs the output of an earlier"),
    ("freeze an unknown layer", lambda a: a.learner.net.freeze("dense7"),
     "there is no layer or block 'dense7' to"),
    ("freeze a number", lambda a: a.learner.net.freeze(7), "there is no layer or block 7 to freeze;"),
    ("freeze all", lambda a: bp.Learner(a.learner.net.freeze("*")),
     "there is no layer or block '*' to freeze;"),
    # learners
    ("a learner of a list", lambda a: bp.Learner([bp.Dense(1)]), "the net must be one such as bp.chain(8,"),
    ("a learner of None", lambda a: bp.Learner(None), "the net must be one such as bp.chain(8,"),
    ("a loss by name", lambda a: bp.Learner(a.learner.net, "half_squared_error"),
     "the loss must be one such as"),
    ("a loss as a class", lambda a: bp.Learner(a.learner.net, type(bp.half_squared_error)),
     "the loss must be one such as"),
    ("a rule by name", lambda a: bp.Learner(a.learner.net, update="adam"),
     "the update rule must be one such as"),
    ("a rule as a class", lambda a: bp.Learner(a.learner.net, update=bp.Adam),
     "the update rule must be one such as"),
    ("a rule as a number", lambda a: bp.Learner(a.learner.net, update=0.1),
     "the update rule must be one such as"),
    ("rules for no layer", lambda a: bp.Learner(a.learner.net, update={}),
     "update rules must name every block that"),
    ("rules for an unknown layer", lambda a: bp.Learner(a.learner.net, update={"x.w": bp.Adam()}),
     "the net has no 'x.w'; rules can be given for"),
    ("rules by number", lambda a: bp.Learner(a.learner.net, update={1: bp.Adam()}),
     "the net has no 1; rules can be given for"),
    ("rules that are none", lambda a: bp.Learner(a.learner.net, update={"*": 0.1}),
     "the update rule of '*' must be one such as"),
    ("an unknown reduction", lambda a: bp.Learner(a.learner.net, reduction="median"),
     "the reduction over the batch must be one of"),
    ("a reduction of a list", lambda a: bp.Learner(a.learner.net, reduction=["mean"]),
     "the reduction over the batch must be one of"),
    ("an unknown order", lambda a: bp.Learner(a.learner.net, order="backwards"),
     "the order of updates must be one of"),
    ("a penalty as a number", lambda a: bp.Learner(a.learner.net, penalty=0.1),
     "the penalty must be one such as"),
    ("a penalty of NaN", lambda a: bp.Learner(a.learner.net, penalty=bp.updates.L2(float("nan"))),
     "the strength of a penalty must be a number"),
    ("a penalty of text", lambda a: bp.updates.L2("a lot"), "the text of a strength must be a number"),
    ("a penalty below 0", lambda a: bp.updates.L2(-1), "the strength of a penalty must be a number"),
    ("a clip as a number", lambda a: bp.Learner(a.learner.net, clip=1.0), "clip= must be a bound such as"),
    ("a clip at 0", lambda a: bp.updates.ClipByNorm(0), "the largest norm of a gradient must be a"),
    ("a clip at NaN", lambda a: bp.updates.ClipByNorm(float("nan")),
     "the largest norm of a gradient must be a"),
    ("a clip at text", lambda a: bp.updates.ClipByNorm("1"), "the largest norm of a gradient must be a"),
    ("no shards", lambda a: bp.Learner(a.learner.net, shards=0),
     "the number of shards must be a positive integer,"),
    ("shards as text", lambda a: bp.Learner(a.learner.net, shards="2"),
     "the number of shards must be a positive integer,"),
    ("an unknown precision", lambda a: precise(a, "float8"), "the numpy backend multiplies in 'float32',"),
    ("a precision of 16 bits on NumPy", lambda a: precise(a, "bfloat16"),
     "the numpy backend multiplies in 'float32',"),
    ("a precision as a number", lambda a: precise(a, 16), "the numpy backend multiplies in 'float32',"),
    # rules
    ("a rate of NaN", lambda a: bp.GradientDescent(float("nan")), "a rate must be a positive finite number"),
    ("a rate of text", lambda a: bp.GradientDescent("fast"), "the text of a rate must be a number"),
    ("a rate of None", lambda a: bp.GradientDescent(None), "a rate must be a positive finite number"),
    ("a complex rate", lambda a: bp.Adam(1j), "a rate must be a positive finite number"),
    ("a rate of an array", lambda a: bp.Adam(np.asarray([0.1, 0.2])),
     "a rate must be a positive finite number"),
    ("a rate of a list", lambda a: bp.Adam([0.1]), "a rate must be a positive finite number"),
    ("a rate of True", lambda a: bp.Adam(True), "a rate must be a positive finite number"),
    ("rates of an unknown layer", lambda a: bp.Learner(a.learner.net, update=bp.GradientDescent({"x": 0.1})),
     "the net has no 'x'; rates can be given for"),
    ("rates of text", lambda a: bp.GradientDescent({"dense1": "fast"}),
     "the text of a rate must be a number"),
    ("a beta of 1", lambda a: bp.Adam(0.1, 1.0), "beta must be a number with 0"),
    ("a beta of text", lambda a: bp.Adam(0.1, "0.9"), "beta must be a number with 0"),
    ("an epsilon of 0", lambda a: bp.Adam(0.1, epsilon=0), "Adam's epsilon must be a positive finite"),
    ("an epsilon of text", lambda a: bp.Adam(0.1, epsilon="tiny"),
     "Adam's epsilon must be a positive finite"),
    ("a limit below the floor", lambda a: bp.GradientDescent(0.1, limit=1, floor=2), "weights need 0"),
    ("a limit of text", lambda a: bp.GradientDescent(0.1, limit="much"),
     "the text of a limit must be a number"),
    ("a momentum of 2", lambda a: bp.updates.Momentum(0.1, 2), "beta must be a number with 0"),
    ("a schedule that raises", lambda a: scheduled(a, fails), Own),
    ("a schedule of no xp", lambda a: scheduled(a, lambda count: 0.1),
     "a schedule of rates must be a function"),
    ("a schedule that returns None", lambda a: scheduled(a, lambda count, *, xp: None),
     "a schedule must return a finite number"),
    ("a schedule that returns text", lambda a: scheduled(a, lambda count, *, xp: "0.1"),
     "a schedule must return a finite number"),
    ("a schedule that returns a vector", lambda a: scheduled(a, lambda count, *, xp: xp.ones((2,))),
     "a schedule must return a finite number"),
    ("a schedule that returns as many as weights",
     lambda a: scheduled(a, lambda count, *, xp: xp.ones((13,))),
     "a schedule must return a finite number"),
    ("a schedule that returns NaN", lambda a: scheduled(a, lambda count, *, xp: float("nan")),
     "a schedule must return a finite number"),
    ("a schedule that is complex", lambda a: scheduled(a, lambda count, *, xp: 1j),
     "a schedule must return a finite number"),
    # training
    ("no epochs", lambda a: fit(a, epochs=0), "the number of epochs must be a positive"),
    ("half an epoch", lambda a: fit(a, epochs=0.5), "the number of epochs must be a positive"),
    ("epochs as text", lambda a: fit(a, epochs="3"), "the number of epochs must be a positive"),
    ("a batch of -1", lambda a: fit(a, batch_size=-1), "the batch size must be a positive integer,"),
    ("a batch of infinity", lambda a: fit(a, batch_size=float("inf")),
     "the batch size must be a positive integer,"),
    ("shuffle is text", lambda a: fit(a, shuffle="no"), "shuffle must be True or False, got 'no':"),
    ("shuffle is a seed", lambda a: fit(a, shuffle=42), "shuffle must be True or False, got 42: the"),
    ("progress is True", lambda a: fit(a, progress=True), "progress must be 'auto', None or a function"),
    ("progress is text", lambda a: fit(a, progress="bar"), "progress must be 'auto', None or a function"),
    ("progress takes nothing", lambda a: fit(a, progress=lambda: None), "a function of one argument"),
    ("a trace of nothing", lambda a: bp.trace(None, a.w, a.s), "bp.trace(learner, w, s, x, t)"),
    ("progress raises", lambda a: fit(a, progress=fails), Own),
    ("began is ahead", lambda a: fit(a, began=5), "began must be a step from 0 to 0, the"),
    ("began is text", lambda a: fit(a, began="0"), "began must be a step from 0 to 0, the"),
    ("began is a float", lambda a: fit(a, began=0.0), "began must be a step from 0 to 0, the"),
    ("step is a function", lambda a: fit(a, step=a.learner.step), "step must be what learner.compile(w)"),
    ("step is of another net", lambda a: fit(a, step=bp.Learner(bp.chain(2, bp.Dense(1))).compile(a.w)),
     "the weights w must be a vector of 3 real"),
    ("validate is an array", lambda a: fit(a, validate=a.x), "a source of data must be one such as"),
    ("validate is a pair", lambda a: fit(a, validate=(a.x, a.t)), "a source of data must be one such as"),
    ("validate has other features", lambda a: fit(a, validate=bp.data.Stored(a.t, a.t)),
     "inputs must be a numpy array of shape"),
    ("validate raises", lambda a: fit(a, validate=Rows(fails)), Own),
    ("data is a pair", lambda a: fit(a, (a.x, a.t)), "a source of data must be one such as"),
    ("data is None", lambda a: bp.fit(a.learner, a.w, a.s, None), "a source of data must be one such as"),
    ("data is a class", lambda a: fit(a, bp.data.Stored), "a source of data must be one such as"),
    ("data has rows alone", lambda a: fit(a, SimpleNamespace(rows=lambda start, stop: (a.x, a.t))),
     "a source of data must be one such as"),
    ("data has other features", lambda a: fit(a, bp.data.Stored(a.t, a.t)),
     "inputs must be a numpy array of shape"),
    ("data has other outputs", lambda a: fit(a, bp.data.Stored(a.x, a.x)),
     "targets must be a numpy array of shape (6,"),
    ("rows are too few", lambda a: lying(a, lambda start, stop: (a.x[:4], a.t[:4])),
     "must be (x, t) with 6 rows, got 4 and 4"),
    ("rows are too many", lambda a: lying(a, lambda start, stop: (np.tile(a.x, (2, 1)), a.t)),
     "must be (x, t) with 6 rows, got 12 and 6"),
    ("rows are None", lambda a: lying(a, lambda start, stop: None), "with 6 rows, got NoneType"),
    ("rows have another width", lambda a: lying(a, lambda start, stop: (a.t, a.t)),
     "inputs must be a numpy array of shape"),
    ("rows have another type", lambda a: lying(a, lambda start, stop: (a.x.astype("float64"), a.t)),
     "inputs must have the weights' dtype"),
    ("rows change their type", lambda a: later(a, lambda x: x.astype("float64")),
     "inputs must have the weights' dtype"),
    ("rows change their width", lambda a: later(a, lambda x: x[:, :1]),
     "inputs must be a numpy array of shape"),
    ("rows later are too few", lambda a: later(a, lambda x: x[:-1]),
     "must be (x, t) with 2 rows, got 1 and 2"),
    ("rows are lists", lambda a: lying(a, lambda start, stop: (a.x.tolist(), a.t.tolist())),
     "inputs must be a numpy array of shape"),
    ("rows are an array", lambda a: lying(a, lambda start, stop: a.x),
     "with 6 rows, got ndarray"),
    ("rows are x alone", lambda a: lying(a, lambda start, stop: (a.x,)),
     "a batch is inputs, targets and, if wanted,"),
    ("rows raise", lambda a: lying(a, fails), Own),
    ("data of 0 rows", lambda a: lying(a, lambda start, stop: (a.x, a.t), n=0),
     "a source of data must be one such as"),
    ("data of -1 rows", lambda a: lying(a, lambda start, stop: (a.x, a.t), n=-1),
     "a source of data must be one such as"),
    ("data of text rows", lambda a: lying(a, lambda start, stop: (a.x, a.t), n="6"),
     "a source of data must be one such as"),
    ("data of 6.5 rows", lambda a: lying(a, lambda start, stop: (a.x, a.t), n=6.5),
     "a source of data must be one such as"),
    ("data of None rows", lambda a: lying(a, lambda start, stop: (a.x, a.t), n=None),
     "a source of data must be one such as"),
    ("a window of 0", lambda a: lying(a, lambda start, stop: (a.x, a.t), window=0),
     "a source of data must be one such as"),
    ("a window of text", lambda a: lying(a, lambda start, stop: (a.x, a.t), window="all"),
     "a source of data must be one such as"),
    ("a window of None", lambda a: lying(a, lambda start, stop: (a.x, a.t), window=None),
     "a source of data must be one such as"),
    # stored and generated data
    ("stored lists", lambda a: bp.data.Stored([[1.0]], [[1.0]]), "expected an array of 'cupy', 'exact',"),
    ("stored text", lambda a: bp.data.Stored("x", "t"), "expected an array of 'cupy', 'exact',"),
    ("stored objects", lambda a: bp.data.Stored(a.x.astype(object), a.t),
     "an object array loses exact numbers"),
    ("stored NaN", lambda a: bp.data.Stored(a.x * np.float32("nan"), a.t),
     "inputs must be finite numbers; 12 of 12 are"),
    ("stored nothing", lambda a: bp.data.Stored(a.x[:0], a.t[:0]),
     "inputs must have shape (rows, features), at"),
    ("stored unequal", lambda a: bp.data.Stored(a.x[:5], a.t), "targets must have shape (5, units), or (5,)"),
    ("stored vectors", lambda a: bp.data.Stored(a.x[0], a.t), "inputs must have shape (rows, features), at"),
    ("stored on two libraries", lambda a: bp.data.Stored(a.x, in_torch(a.t)),
     "inputs and targets must be arrays of one"),
    ("stored weights of another length", lambda a: bp.data.Stored(a.x, a.t, weight=a.t[:3, 0]),
     "sample weights must be numbers of shape"),
    ("stored weights below 0", lambda a: bp.data.Stored(a.x, a.t, weight=-np.ones(6, "float32")),
     "sample weights must be 0 or more, got -1.0"),
    ("rows beyond the end", lambda a: a.source.rows(4, 9), "a slice of rows needs 0"),
    ("rows backwards", lambda a: a.source.rows(4, 2), "a slice of rows needs 0"),
    ("rows from below 0", lambda a: a.source.rows(-1, 2), "a slice of rows needs 0"),
    ("a teacher of -1", lambda a: bp.data.Teacher(-1, 10, 2), "a seed must be an integer with 0"),
    ("a teacher of text", lambda a: bp.data.Teacher(0, "10", 2), "the number of rows must be a positive"),
    ("a teacher of no features", lambda a: bp.data.Teacher(0, 10, 0),
     "the number of features must be a positive"),
    ("a teacher with hidden text", lambda a: bp.data.Teacher(0, 10, 2, hidden="16"),
     "the teacher's hidden layers are a tuple of"),
    ("a teacher with a hidden number", lambda a: bp.data.Teacher(0, 10, 2, hidden=16),
     "the teacher's hidden layers are a tuple of"),
    ("a teacher with noise as text", lambda a: bp.data.Teacher(0, 10, 2, noise="loud"),
     "the noise must be a number, got 'loud'"),
    ("a teacher with noise of 1e308", lambda a: bp.data.Teacher(0, 10, 2, noise=1e308),
     "the noise of regression must be a standard"),
    ("a teacher with noise of NaN", lambda a: bp.data.Teacher(0, 10, 2, noise=float("nan")),
     "the noise of regression must be a standard"),
    ("a teacher of an unknown task", lambda a: bp.data.Teacher(0, 10, 2, task="poetry"),
     "a task must be 'regression' or"),
    ("a teacher with a window of 0", lambda a: bp.data.Teacher(0, 10, 2, window=0),
     "the window of rows shuffled together must"),
    ("the floor of a name", lambda a: bp.data.Teacher(0, 10, 2).floor("half_squared_error"),
     "the floor of str on regression is not"),
    # arrays and backends
    ("asarray of text", lambda a: bp.asarray("12"), "expected an array of 'cupy', 'exact',"),
    ("asarray of None", lambda a: bp.asarray(None), "expected an array of 'cupy', 'exact',"),
    ("asarray of ragged lists", lambda a: bp.asarray([[1, 2], [3]]),
     "expected numbers, in nested lists of equal"),
    ("asarray of itself", lambda a: bp.asarray(recursive()), "expected numbers, in nested lists of equal"),
    ("asarray of 100 lists in lists", lambda a: bp.asarray(nested(100)),
     "expected numbers, in nested lists of equal"),
    ("asarray of complex numbers", lambda a: bp.asarray([1j]), "expected numbers, in nested lists of equal"),
    ("asarray of a set", lambda a: bp.asarray({1, 2}), "expected an array of 'cupy', 'exact',"),
    ("asarray of a generator", lambda a: bp.asarray(k for k in range(3)),
     "expected an array of 'cupy', 'exact',"),
    ("asarray of an unknown type", lambda a: bp.asarray([1], dtype="quad"),
     "a dtype of the numpy backend must be one of"),
    ("asarray of a huge integer", lambda a: bp.asarray([10**400]),
     "expected numbers, in nested lists of equal"),
    ("asarray of labels too large", lambda a: bp.asarray([2**40], dtype="int32"),
     "expected numbers, in nested lists of equal"),
    ("asarray of 300 as a byte", lambda a: bp.asarray([300], dtype="uint8"),
     "expected numbers, in nested lists of equal"),
    ("asarray of objects", lambda a: bp.asarray(np.asarray([object()])),
     "an object array loses exact numbers"),
    ("fractions of text", lambda a: bp.exact.asarray(["a third"]), "an exact number must be a finite int,"),
    ("fractions by 0", lambda a: bp.exact.asarray(["1/0"]), "an exact number must be a finite int,"),
    ("fractions of NaN", lambda a: bp.exact.asarray([float("nan")]), "an exact number must be a finite int,"),
    ("fractions of infinity", lambda a: bp.asarray([float("inf")], backend="exact", dtype="rational"),
     "an exact number must be a finite int,"),
    ("a backend of a number", lambda a: bp.backend(7).__enter__(),
     "a backend must be one of 'cupy', 'exact',"),
    # predictions, losses, traces
    ("predict of nothing", lambda a: a.learner.predict(a.w, a.s, a.x[:0]),
     "inputs must be a numpy array of shape"),
    ("predict of a list", lambda a: a.learner.predict(a.w, a.s, a.x.tolist()),
     "inputs must be a numpy array of shape"),
    ("predict of other features", lambda a: a.learner.predict(a.w, a.s, a.t),
     "inputs must be a numpy array of shape"),
    ("predict 0 at a time", lambda a: a.learner.predict(a.w, a.s, a.x, batch_size=0),
     "the batch size must be a positive integer,"),
    ("predict text at a time", lambda a: a.learner.predict(a.w, a.s, a.x, batch_size="2"),
     "the batch size must be a positive integer,"),
    ("losses of x alone", lambda a: a.learner.losses(a.w, a.s, a.x),
     "a batch is inputs, targets and, if wanted,"),
    ("gradient of other targets", lambda a: a.learner.gradient(a.w, a.s, a.x, a.x),
     "targets must be a numpy array of shape (6,"),
    ("trace of a list", lambda a: bp.trace(a.learner, a.w, a.s, a.x.tolist(), a.t),
     "inputs must be a numpy array of shape"),
    ("watch an unknown name", lambda a: a.learner.step(a.w, a.s, a.x, a.t, watch=["dense9.o"]),
     "this step has no 'dense9.o' to watch; it has"),
    ("watch a number", lambda a: a.learner.step(a.w, a.s, a.x, a.t, watch=[3]),
     "watch= takes names such as '*.o' or"),
    ("per_sample of lists", lambda a: bp.train.per_sample(a.learner, a.w, a.s, a.x.tolist(), a.t),
     "inputs must be a numpy array of shape"),
    ("per_sample of nothing", lambda a: bp.train.per_sample(a.learner, a.w, a.s, a.x[:0], a.t[:0]),
     "inputs must be a numpy array of shape"),
    ("per_sample without a batch", lambda a: bp.train.per_sample(a.learner, a.w, a.s),
     "a batch is inputs, targets and, if wanted,"),
    ("evaluate 0 at a time", lambda a: evaluate(a, batch_size=0),
     "the batch size must be a positive integer,"),
    ("evaluate an array", lambda a: evaluate(a, a.x), "a source of data must be one such as"),
    ("compile for None", lambda a: a.learner.compile(None), "expected an array of 'cupy', 'exact',"),
    ("scan with an index of floats", lambda a: scan(a, np.zeros((2, 3))),
     "an index must be an array of integers"),
    ("scan with an index beyond the rows", lambda a: scan(a, np.full((2, 3), 6)),
     "the rows of an index must be 0 to 5, got 6 to 6"),
    ("scan with an index below 0", lambda a: scan(a, np.full((2, 3), -7)),
     "the rows of an index must be 0 to 5, got -7 to -7"),
    ("scan with a flat index", lambda a: scan(a, np.arange(6)), "an index must be an array of integers"),
    ("scan with a list", lambda a: scan(a, [[0, 1], [2, 3]]), "an index must be an array of integers"),
    ("scan with a mask", lambda a: scan(a, np.ones((2, 3), dtype=bool)),
     "an index must be an array of integers"),
    ("scan with None", lambda a: scan(a, None), "an index must be an array of integers"),
    ("compiled step of a list", lambda a: a.learner.compile(a.w)(a.w, a.s, a.x.tolist(), a.t),
     "inputs must be a numpy array of shape"),
    ("compiled step without a batch", lambda a: a.learner.compile(a.w)(a.w, a.s),
     "a batch is inputs, targets and, if wanted,"),
    ("compiled step of other features", lambda a: a.learner.compile(a.w)(a.w, a.s, a.t, a.t),
     "inputs must be a numpy array of shape"),
    ("freeze without weights", lambda a: a.learner.freeze("dense1", None, None),
     "expected an array of 'cupy', 'exact',"),
    ("freeze what is unknown", lambda a: a.learner.freeze("dense9", a.w, a.s),
     "there is no layer or block 'dense9' to"),
    ("thaw what is unknown", lambda a: a.learner.thaw(["dense9"], a.w, a.s),
     "there is no layer or block 'dense9' to"),
]
# fmt: on


def labelled(a, t):
    learner = bp.Learner(bp.chain(2, bp.Dense(3)), bp.softmax_cross_entropy)
    return bp.fit(learner, *learner.init(), Rows(lambda start, stop: (a.x, t)))


def read_only(a):
    a.w.flags.writeable = False
    return step(a)


def has(name):
    pytest.importorskip(name)
    return name


def precise(a, name):
    learner = bp.Learner(a.learner.net, precision=name)
    return learner.step(*learner.init(), a.x, a.t)


def evaluate(a, source=None, **settings):
    return bp.train.evaluate(a.learner, a.w, a.s, a.source if source is None else source, **settings)


def scan(a, index):
    return a.learner.compile(a.w).scan(a.w, a.s, a.x, a.t, index)


def contents(a):
    return [np.asarray(value).tobytes() for value in leaves((a.w, a.s, a.x, a.t))]


@pytest.mark.parametrize(("call", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_it_ends_in_a_sentence_and_changes_nothing(call, expected, scene):
    before = contents(scene)
    with pytest.raises(bp.BackpropError if isinstance(expected, str) else expected) as why:
        call(scene)
    assert contents(scene) == before
    if isinstance(expected, str):
        assert expected in str(why.value)


@pytest.mark.parametrize("text", ["1e999999999", "1e-999999999", "-1E+99999"])
def test_a_text_whose_number_would_take_hours_is_refused(text):
    for call in (bp.Adam, bp.GradientDescent, lambda word: bp.exact.asarray([word])):
        with pytest.raises(bp.BackpropError, match=re.escape(text)):
            call(text)


def test_a_rate_beyond_all_floats_is_refused_in_a_short_sentence():
    for rate in ("1e400", 10**400, "-1e400"):
        with pytest.raises(bp.BackpropError, match="a positive finite number") as caught:
            bp.Adam(rate)
        assert len(str(caught.value)) < 150


def test_fractions_too_long_for_python_to_write_are_shown_by_their_length():
    a = bp.exact.asarray(["1e4000"])
    assert repr(a * a) == "exact.asarray(['a fraction of some 8,000 digits'])"
    learner = bp.Learner(bp.chain(1, bp.Dense(1)))
    w, s = learner.init(backend="exact", weights={"dense1.w": [["1e4000"]], "dense1.b": [0]})
    with pytest.raises(bp.BackpropError, match="too long to be written"):
        bp.explain(learner, w, s, bp.exact.asarray([[1]]), bp.exact.asarray([[1]]))


def test_a_batch_larger_than_any_array_is_the_whole_of_the_rows():
    learner = bp.Learner(bp.chain(2, bp.Dense(1)))
    data = bp.data.Stored(np.ones((5, 2), "float32"), np.ones((5, 1), "float32"))
    ended = [bp.fit(learner, *learner.init(), data, epochs=2, batch_size=size)[0] for size in (5, 10**30)]
    assert np.all(ended[0] == ended[1])


def test_units_of_ones_own_that_lack_a_part_are_told_which():
    class Bare(bp.layers.Layer):
        def forward(self, p, *x, ctx, xp):
            return self.made(x[0])

    class OnlyFlow(Bare):
        made = staticmethod(lambda x: bp.layers.Flow(x, x))

    class OnlyArray(Bare):
        made = staticmethod(lambda x: x)

    x, t = np.ones((2, 3), "float32"), np.ones((2, 1), "float32")
    for layer in (OnlyFlow(), OnlyArray()):
        learner = bp.Learner(bp.chain(3, layer, bp.Dense(1)))
        with pytest.raises(bp.BackpropError, match="must return a Flow and the new state"):
            learner.predict(*learner.init(), x)
        with pytest.raises(bp.BackpropError, match="must return a Flow and the new state"):
            learner.step(*learner.init(), x, t)
    with pytest.raises(bp.BackpropError, match="needs the method delta"):
        bp.Dense(2, lambda net, *, xp: net)
