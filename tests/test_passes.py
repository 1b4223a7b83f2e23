"""Every pass of the compiler keeps what a program computes: proven on fractions, for random nets.

On fractions nothing is rounded, so that a pass that keeps the algebra gives the same numbers, and one
that does not gives others. In float64 the passes keep every bit, since none of them reorders a sum.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import backprop_xp as bp
from backprop_xp import activations, backends, losses, updates
from backprop_xp.compiler import fusion
from backprop_xp.compiler.ir import Aliases, Op, Program, Ref, evaluate, leaves, refs
from backprop_xp.compiler.placement import concat_in_place, write_back
from backprop_xp.compiler.recorder import record
from backprop_xp.compiler.simplify import common_subexpressions, dead_code, fold_constants, simplify


def gate_from_output(program):
    ops = fusion._gate_from_output(list(program.ops), Aliases(program.ops))
    return Program(
        tuple(ops), *[getattr(program, name) for name in ("values", "inputs", "outputs", "constants")]
    )


PASSES = {
    "common subexpressions": common_subexpressions,
    "constants": fold_constants,
    "dead code": dead_code,
    "simplify": simplify,
    "write back": lambda program: write_back(program, donated=2),
    "parts in place": lambda program: concat_in_place(program, can_write=lambda _: True),
    "gate from output": gate_from_output,
    "all": lambda program: gate_from_output(
        concat_in_place(write_back(simplify(program), donated=2), can_write=lambda _: True)
    ),
}
RATIONAL = [activations.identity, bp.relu, activations.ReLU(">"), activations.LeakyReLU(0.25)]
LOSSES = [bp.half_squared_error, losses.squared_error, losses.mean_squared_error, losses.mean_absolute_error]


@st.composite
def learners(draw, kinds=RATIONAL, costs=LOSSES):
    """A random net of units that fractions know, its loss and its rule."""
    width, layers = draw(st.integers(1, 3)), []
    for k in range(draw(st.integers(1, 3))):
        layers.append(bp.named(f"a{k}", bp.Dense(width, draw(st.sampled_from(kinds)), draw(st.booleans()))))
        if k and draw(st.booleans()):
            layers.append(draw(st.sampled_from([bp.add, bp.concat]))("a0"))
    net = bp.chain(draw(st.integers(1, 3)), *layers, bp.Dense(2))
    frozen = draw(st.sets(st.sampled_from(sorted(net.shapes)), max_size=len(net.shapes) - 1))
    rate = draw(st.sampled_from([0.5, 0.1]))
    rule = draw(st.sampled_from([
        bp.GradientDescent(rate), bp.GradientDescent(rate, limit=1), updates.Momentum(rate, 0.5),
        updates.Momentum(rate, 0.5, nesterov=True),
        {"*.b": bp.GradientDescent(rate), "*": bp.GradientDescent(2 * rate)},
    ]))  # fmt: skip
    reduction, shards = draw(st.sampled_from(["mean", "sum"])), draw(st.sampled_from([1, 1, 2]))
    penalty = draw(st.sampled_from([None, updates.L2(0.125)]))
    return bp.Learner(net.freeze(*frozen), draw(st.sampled_from(costs)), rule, reduction,
                      to_input=draw(st.booleans()), penalty=penalty, shards=shards)  # fmt: skip


def recorded(learner, seed, weighted):
    """The program of its step, and inputs in float64."""
    rng = np.random.default_rng(seed)
    (features,), (units,) = learner.net.outputs[0], learner.net.outputs[-1]
    batch = [rng.integers(-3, 4, (3, features)) / 2, rng.integers(-3, 4, (3, units)) / 2]
    batch += [np.asarray([0.0, 1.0, 2.0])] if weighted else []
    w, s = learner.init(seed, dtype="float64")
    w = rng.integers(-4, 5, w.shape) / 4
    return record(learner.pure, w, s, *batch), (w, s, *batch)


def exactly(inputs):
    return leaves(inputs) and bp.arrays.mapped(inputs, lambda a: bp.asarray(a, backend="exact"))


@settings(max_examples=300)
@given(learners(), st.integers(0, 2**16), st.booleans())
def test_every_pass_keeps_the_numbers_of_a_step_exactly(learner, seed, weighted):
    program, inputs = recorded(learner, seed, weighted)
    settings = {"xp": backends.get("exact").xp, "floating": bp.exact.rational}
    inputs = exactly(inputs)
    want = [a.tolist() for a in leaves(evaluate(program, *inputs, **settings))]
    w, s, loss = learner.pure(*inputs, xp=settings["xp"])
    assert [a.tolist() for a in leaves((w, s, loss))] == want, "the program is the step"
    for name, each in PASSES.items():
        found = evaluate(each(program), *inputs, **settings)
        assert [a.tolist() for a in leaves(found)] == want, name


@settings(max_examples=60)
@given(learners([*RATIONAL, bp.tanh, bp.sigmoid], [*LOSSES, bp.softmax_cross_entropy]), st.integers(0, 2**16))
def test_every_pass_keeps_every_bit_in_float64(learner, seed):
    program, inputs = recorded(learner, seed, weighted=False)
    want = [np.asarray(a).tobytes() for a in leaves(evaluate(program, *inputs))]
    for name, each in PASSES.items():
        found = leaves(evaluate(each(program), *inputs))
        assert [np.asarray(a).tobytes() for a in found] == want, name


@settings(max_examples=60)
@given(learners(), st.integers(0, 2**16))
def test_state_written_back_is_where_the_old_state_was(learner, seed):
    program, inputs = recorded(learner, seed, weighted=False)
    placed = write_back(simplify(program), donated=2)
    in_place = Program(placed.ops, placed.values, placed.inputs, placed.inputs[:2], placed.constants)
    new = evaluate(program, *inputs)[:2]
    for one, other in zip(leaves(evaluate(in_place, *inputs)), leaves(new), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def wrong(program):
    """A pass that is none: the first product takes its first factor twice, or a sum its first part."""
    ops = list(program.ops)
    k = next(k for k, op in enumerate(ops) if op.name == "subtract")
    ops[k] = ops[k]._replace(args=(ops[k].args[0], ops[k].args[0]))
    return Program(tuple(ops), program.values, program.inputs, program.outputs, program.constants)


def test_a_pass_that_changes_the_numbers_is_found():
    learner = bp.Learner(bp.chain(2, bp.Dense(2, bp.relu), bp.Dense(2)), update=bp.GradientDescent(0.5))
    program, inputs = recorded(learner, 0, weighted=False)
    settings = {"xp": backends.get("exact").xp, "floating": bp.exact.rational}
    want = [a.tolist() for a in leaves(evaluate(program, *exactly(inputs), **settings))]
    assert [a.tolist() for a in leaves(evaluate(wrong(program), *exactly(inputs), **settings))] != want


def test_equal_operations_with_a_write_in_between_are_two():
    a, b, c = Ref(0), Ref(1), Ref(2)
    value = np.zeros(2)
    ops = (Op("add", (a, a), {}, 1), Op("add", (a, b), {}, 0, inplace=True), Op("add", (a, a), {}, 2))
    program = Program(ops, (value,) * 3, (a,), (b, c))
    first, second = evaluate(common_subexpressions(program), np.ones(2))
    assert (first.tolist(), second.tolist()) == ([2, 2], [6, 6])


@pytest.mark.parametrize("name", PASSES)
def test_passes_leave_their_program_as_it_is(name):
    learner = bp.Learner(bp.chain(2, bp.Dense(2, bp.relu)), update=updates.Momentum(0.1))
    program, _ = recorded(learner, 0, weighted=True)
    before = repr(program)
    changed = PASSES[name](program)
    assert repr(program) == before
    assert len(refs(changed.outputs)) == len(refs(program.outputs))
