// A net and data that the reader has typed in: forward, backward and update in fractions, as the library does it.

const ACTIVATIONS = {
  "Identity()": { of: net => net, slope: () => ONE },
  "ReLU()": { of: net => net.sign < 0 ? ZERO : net, slope: net => net.sign < 0 ? ZERO : ONE },
  "LeakyReLU()": { of: net => net.sign < 0 ? net.times(SLOPE) : net, slope: net => net.sign < 0 ? SLOPE : ONE },
};
const SLOPE = new Fraction(1n, 100n);
const SWEEP = ["-1", "-1/2", "0", "1/2", "1", "3/2", "2", "3", "4"];
const strings = a => Array.isArray(a) ? a.map(strings) : `${a}`;

// The layers of a net: weights[k] has a row for each input and a column for each unit; biases[k] is null where there are none.
function forwardPass(net, x) {
  const outputs = [x], nets = [x], terms = [null];
  net.weights.forEach((w, k) => {
    const before = outputs[k], own = w.map((row, i) => row.map(each => before[i].times(each)));
    const total = w[0].map((_, j) => sum(own.map(row => row[j])).plus(net.biases[k] ? net.biases[k][j] : ZERO));
    terms.push(own);
    nets.push(total);
    outputs.push(total.map(each => ACTIVATIONS[net.activations[k]].of(each)));
  });
  return { outputs, nets, terms };
}

const lossOf = (o, t) => sum(o.map((each, j) => each.minus(t[j]).times(each.minus(t[j])))).over(new Fraction(2n));

function backwardPass(net, pass, t) {
  const last = net.weights.length;
  const errors = { [last]: pass.outputs[last].map((o, j) => o.minus(t[j])) }, deltas = {}, slopes = {}, terms = {}, grads = {};
  for (let k = last; k >= 1; k--) {
    const w = net.weights[k - 1];
    slopes[k] = pass.nets[k].map(each => ACTIVATIONS[net.activations[k - 1]].slope(each));
    deltas[k] = errors[k].map((e, j) => e.times(slopes[k][j]));
    terms[k] = w.map(row => row.map((each, j) => each.times(deltas[k][j])));
    grads[k] = { w: w.map((row, i) => row.map((_, j) => pass.outputs[k - 1][i].times(deltas[k][j]))), b: deltas[k] };
    errors[k - 1] = terms[k].map(row => sum(row));
  }
  return { errors, deltas, slopes, terms, grads };
}

function moved(net, back, rate) {
  const down = (a, g) => a.minus(rate.times(g));
  return {
    ...net,
    weights: net.weights.map((w, k) => w.map((row, i) => row.map((each, j) => down(each, back.grads[k + 1].w[i][j])))),
    biases: net.biases.map((b, k) => b && b.map((each, j) => down(each, back.grads[k + 1].b[j]))),
  };
}

// The explained updates of one sample after the other, in the form of the library's document.
function explained(net, rate, samples, labels = {}) {
  const sizes = [net.weights[0].length, ...net.weights.map(w => w[0].length)], depth = net.weights.length;
  const name = k => k ? `dense${k}` : "input";
  const unitNames = sizes.map((n, k) => k === 0 ? labels.inputs || [...Array(n)].map((_, j) => `x${j + 1}`)
    : n === 1 ? [name(k)] : [...Array(n)].map((_, j) => `${name(k)}.${j + 1}`));
  const run = {
    id: "own", title: "Your own net", arithmetic: { backend: "exact", dtype: "rational", exact: true },
    net: {
      layers: sizes.map((units, k) => ({
        name: name(k), kind: k ? "dense" : "input", activation: k ? net.activations[k - 1] : null, units,
        inputs: k ? [name(k - 1)] : [], labels: unitNames[k],
        blocks: k ? [`${name(k)}.w`, ...(net.biases[k - 1] ? [`${name(k)}.b`] : [])] : [],
      })),
      loss: "HalfSquaredError()", reduction: "mean",
    },
    rule: `GradientDescent(${rate})`, frozen: [],
    samples: samples.map((each, k) => ({ x: strings(each.x), t: strings(each.t), label: `${k + 1}` })), steps: [],
  };
  for (const [row, { x, t }] of samples.entries()) {
    const pass = forwardPass(net, x), back = backwardPass(net, pass, t), next = moved(net, back, rate);
    const loss = lossOf(pass.outputs[depth], t), after = lossOf(forwardPass(next, x).outputs[depth], t);
    const o = pass.outputs[depth];
    const step = {
      rows: [row], outcome: o.length === 1 ? { o: `${o[0]}`, t: `${t[0]}` } : null, loss: `${loss}`, loss_after: `${after}`, weights: {}, not_needed: ["input"], why: [], verdict: {},
      samples: [{ row, forward: {}, backward: {} }],
      effect: samples.map((each, k) => {
        const [before, later] = [net, next].map(own => forwardPass(own, each.x).outputs[depth]);
        const [first, second] = [before, later].map(own => lossOf(own, each.t));
        return {
          sample: k, output: strings(before), output_after: strings(later), loss: `${first}`, loss_after: `${second}`,
          change: `${second.minus(first)}`, shares: {},
        };
      }),
    };
    for (let k = 0; k <= depth; k++) {
      step.samples[0].forward[name(k)] = { net: strings(pass.nets[k]), o: strings(pass.outputs[k]), ...(k && { terms: strings(pass.terms[k]) }) };
      if (!k) continue;
      step.samples[0].backward[name(k)] = {
        e: strings(back.errors[k]), delta: strings(back.deltas[k]), slope: strings(back.slopes[k]), terms: strings(back.terms[k]),
      };
      for (const p of net.biases[k - 1] ? ["w", "b"] : ["w"]) {
        const [before, later, grad] = p === "w" ? [net.weights[k - 1], next.weights[k - 1], back.grads[k].w] : [net.biases[k - 1], next.biases[k - 1], back.grads[k].b];
        const change = (a, b) => Array.isArray(a) ? a.map((each, i) => change(each, b[i])) : b.minus(a);
        step.weights[`${name(k)}.${p}`] = { before: strings(before), grad: strings(grad), change: strings(change(before, later)), after: strings(later) };
        const places = p === "w" ? before.flatMap((line, i) => line.map((_, j) => [i, j])) : before.map((_, j) => [j]);
        for (const at of places) step.why.push(whyOf({ net, pass, back, x, t, loss, k, p, at, rate, unitNames, name }));
      }
    }
    run.steps.push(step);
    net = next;
  }
  return run;
}

function whyOf({ net, pass, back, x, t, loss, k, p, at, rate, unitNames, name }) {
  const j = at[at.length - 1], i = at[0], depth = net.weights.length;
  const at_ = a => p === "w" ? a[i][j] : a[j];
  const before = at_(p === "w" ? net.weights[k - 1] : net.biases[k - 1]), grad = at_(back.grads[k][p]);
  const change = ZERO.minus(rate.times(grad)), after = before.plus(change), input = p === "w" ? pass.outputs[k - 1][i] : null;
  const alone = factor => {
    const own = structured(net), move = change.times(factor);
    if (p === "w") own.weights[k - 1][i][j] = before.plus(move); else own.biases[k - 1][j] = before.plus(move);
    return forwardPass(own, x);
  };
  const why = {
    block: `${name(k)}.${p}`, at, before: `${before}`, change: `${change}`, after: `${after}`, grad: `${grad}`,
    unit: unitNames[k][j], from: p === "w" ? unitNames[k - 1][i] : "", input: input && `${input}`,
    delta: `${back.deltas[k][j]}`, e: `${back.errors[k][j]}`, net: `${pass.nets[k][j]}`, slope: `${back.slopes[k][j]}`, votes: null,
  };
  if (change.sign) {
    const first = alone(ONE), own = first.nets[k][j].minus(pass.nets[k][j]), lossAlone = lossOf(first.outputs[depth], t);
    Object.assign(why, {
      own_net: `${own}`, alone_loss: `${lossAlone}`, worse: lossAlone.minus(loss).sign > 0,
      sweep: SWEEP.map(factor => [factor, `${lossOf(alone(Fraction.of(factor)).outputs[depth], t)}`]),
    });
  }
  why.says = situation(why, net.activations[k - 1], pass.outputs[depth], t, p === "b", k === depth);
  return why;
}

const structured = net => ({ ...net, weights: net.weights.map(w => w.map(row => [...row])), biases: net.biases.map(b => b && [...b]) });

function situation(why, activation, o, t, bias, last) {
  const says = [], [delta, e, net] = [why.delta, why.e, why.net].map(signOf);
  const outcome = o.length === 1 ? o[0].minus(t[0]).sign : null;
  if (outcome !== null) says.push(outcome < 0 ? "lower" : outcome > 0 ? "higher" : "equal");
  if (!delta) {
    if (e) says.push("blocked");
    else if (outcome !== 0) says.push(last ? "settled" : "cancelled");
  } else {
    if (activation !== "Identity()" && net < 0) says.push("leaky");
    says.push(delta < 0 ? "want.up" : "want.down");
    says.push(bias ? "input.bias" : `input.${["-", "0", "+"][signOf(why.input) + 1]}`);
  }
  const change = signOf(why.change);
  says.push(change > 0 ? "move.up" : change < 0 ? "move.down" : "move.stay");
  if (change) says.push(signOf(why.own_net) === -delta ? "proof.own" : "proof.own.no", why.worse ? "alone.worse" : "alone");
  return says;
}
