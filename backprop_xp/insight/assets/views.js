// The views: they read the document alone and compute nothing of their own.

const DATA = JSON.parse(document.getElementById("data").textContent);
const PHASES = ["forward", "loss", "backward", "update", "effect"];
const TITLES = { forward: "Forward", loss: "Loss", backward: "Backward", update: "Update", effect: "Effect" };
const ARROW = { 1: "▲", 0: "=", "-1": "▼" }, CLASS = { 1: "up", 0: "stay", "-1": "down" }, WORD = { 1: "rise", 0: "stay", "-1": "fall" };
const MOST_UNITS = 8, MOST_TAGS = 6, MOST_ROWS = 64;
const state = { run: 0, step: 0, phase: 0, weight: null, fractions: false, guess: false, guesses: {}, right: 0, asked: 0 };

const byId = id => document.getElementById(id);
const escaped = text => `${text}`.replace(/[&<>"']/g, c => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" })[c]);
const show = (text, options = {}) => escaped(number(text, { fractions: state.fractions, ...options }));
const showPair = (a, b) => pair(a, b, { fractions: state.fractions }).map(escaped);
const brief = (text, options = {}) => number(text, { digits: 3, ...options }).replace("≈ ", "");
const inBrackets = text => signOf(text) < 0 ? `(${show(text).replace("≈ ", "")})` : show(text).replace("≈ ", "");
const run = () => DATA.runs[state.run], step = () => run().steps[state.step], phase = () => PHASES[state.phase];
const sample = () => step().samples[0], single = () => step().rows.length === 1;
const keyOf = why => `${why.block}.${why.at.join(".")}`;
const chosen = () => step().why.find(why => keyOf(why) === state.weight) || step().why.find(why => signOf(why.change)) || step().why[0];
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

// ---------------------------------------------------------------- columns: a layer with weights and what only passes on its units
function columns() {
  const found = [];
  for (const layer of run().net.layers) {
    const before = found.find(column => layer.inputs.length === 1 && column.out === layer.inputs[0]);
    const used = run().net.layers.filter(other => layer.inputs.length && other.inputs.includes(layer.inputs[0])).length;
    if (before && !layer.blocks.length && layer.units === before.units && used === 1) {
      before.out = layer.name;
      before.passes.push(layer);
      before.labels = layer.labels;
    } else {
      found.push({ name: layer.name, out: layer.name, passes: [layer], layer, units: layer.units, labels: layer.labels, inputs: layer.inputs });
    }
  }
  return found;
}
const columnOf = name => columns().find(column => column.passes.some(layer => layer.name === name));
const activationOf = column => column.passes.map(layer => layer.activation).filter(each => each && each !== "Identity()").pop();
const slopeOf = (column, j) => {
  for (const layer of [...column.passes].reverse()) {
    const own = sample().backward[layer.name];
    if (own && own.slope && layer.activation && layer.activation !== "Identity()") return own.slope[j];
  }
  return null;
};
const weightName = why => {
  if (why.from) return `${why.from} → ${why.unit}`;
  return why.block.endsWith(".b") && why.at.length === 1 ? `bias of ${why.unit}` : `${why.block}[${why.at.join(", ")}]`;
};

// ---------------------------------------------------------------- sentences
function sentences(why) {
  const own = { unit: why.unit, from: why.from, change: number(why.change.replace(/^-/, ""), { fractions: state.fractions }) };
  for (const key of ["delta", "e", "net", "slope", "grad", "input"]) if (why[key]) own[key] = number(why[key], { fractions: state.fractions });
  Object.assign(own, why.votes || {});
  if (step().outcome) [own.o, own.t] = pair(step().outcome.o, step().outcome.t, { fractions: state.fractions });
  if (why.own_net) own.own_net = number(why.own_net, { plus: true, fractions: state.fractions });
  return why.says.map(key => {
    const slots = { ...own };
    if (key.startsWith("alone")) [slots.loss, slots.alone_loss] = pair(step().loss, why.alone_loss, { fractions: state.fractions });
    if (key.startsWith("share")) {
      [slots.loss, slots.loss_after] = pair(step().loss, step().loss_after, { fractions: state.fractions });
      slots.share = number(why.share, { plus: true, fractions: state.fractions });
      slots.percent = number(why.percent || "0", { digits: 3 }).replace("≈ ", "");
    }
    return [key, DATA.sentences[key].replace(/\{(\w+)\}/g, (_, slot) => slots[slot]).replace(/= ≈/g, "≈")];
  });
}

const hidden = why => state.guess && phase() === "update" && !(guessKey(why) in state.guesses);
const guessKey = why => `${run().id}/${state.step}/${keyOf(why)}`;

// ---------------------------------------------------------------- the diagram
function layout() {
  const all = columns(), upright = all.length > 3 || innerWidth < 640 || all.some(column => column.units > 6);
  const shown = all.map(column => Math.min(column.units, MOST_UNITS)), most = Math.max(...shown);
  const width = upright ? Math.max(360, most * 118) : 200 * (all.length - 1) + 260, height = upright ? all.length * 140 : Math.max(most * 96, 150) + 24;
  const place = (c, j) => {
    const across = (j + 0.5) / shown[c];
    return upright ? [across * width, 56 + c * 140] : [80 + c * 230 * (all.length > 2 ? 0.87 : 1), 20 + across * (height - 24)];
  };
  return { all, shown, width: upright ? width : Math.max(width, 80 + (all.length - 1) * 230 + 170), height, place, upright };
}

function edges(drawn) {
  const found = [];
  drawn.all.forEach((column, c) => {
    const first = column.layer;
    first.inputs.forEach(source => {
      const from = drawn.all.findIndex(other => other.passes.some(layer => layer.name === source));
      const dense = first.kind === "dense";
      for (let i = 0; i < drawn.shown[from]; i++) for (let j = 0; j < drawn.shown[c]; j++) {
        if (!dense && i !== j) continue;
        const why = dense && step().why.find(each => each.block === `${first.name}.w` && each.at[0] === i && each.at[1] === j);
        found.push({ from: [from, i], to: [c, j], why, block: dense ? `${first.name}.w` : null, i, j, layer: first.name });
      }
    });
  });
  return found;
}

function edgeLook(edge) {
  const block = edge.block && step().weights[edge.block];
  if (!edge.block) return { sign: 0, text: "", size: 1 };
  if (phase() === "forward" || phase() === "loss") {
    const terms = single() && sample().forward[edge.layer].terms, own = terms ? terms[edge.i][edge.j] : "0";
    return { sign: signOf(own), text: block ? brief(block.before[edge.i][edge.j]) : "", size: block ? 2 : 1 };
  }
  if (phase() === "backward") {
    const terms = single() && sample().backward[edge.layer] && sample().backward[edge.layer].terms;
    const own = terms ? terms[edge.i][edge.j] : "0";
    return { sign: signOf(own), text: terms && edge.from[0] ? brief(own) : "", size: terms && edge.from[0] ? 2 : 1 };
  }
  if (!edge.why) return { sign: 0, text: "", size: 1 };
  if (hidden(edge.why)) return { sign: 0, text: "?", size: 2 };
  const sign = signOf(edge.why.change);
  return { sign, text: sign ? `${ARROW[sign]} ${brief(edge.why.change, { plus: true })}` : "= stays", size: sign ? 4 : 1.5 };
}

function diagram() {
  const drawn = layout(), list = edges(drawn), tags = list.filter(edge => edge.block).length <= MOST_TAGS, half = 58, parts = [];
  list.forEach(edge => {
    const [x1, y1] = drawn.place(...edge.from), [x2, y2] = drawn.place(...edge.to), look = edgeLook(edge);
    const at = drawn.shown[edge.to[0]] === 1 ? 0.5 : 0.34 + 0.17 * (edge.j % 3), [ax, ay] = drawn.upright ? [0, 30] : [half, 0];
    const [sx, sy, ex, ey] = [x1 + ax, y1 + ay, x2 - ax, y2 - ay], [tx, ty] = [sx + (ex - sx) * at, sy + (ey - sy) * at];
    const isChosen = edge.why && edge.why === chosen() && state.phase >= 3, wide = Math.max(40, look.text.length * 7.6 + 14);
    const name = edge.why && `${weightName(edge.why)}: ${hidden(edge.why) ? "guess" : look.text}`;
    parts.push(`<g class="edge ${CLASS[look.sign]} ${isChosen ? "chosen" : ""}" ${edge.why && state.phase >= 3 && tags ? `tabindex="0" role="button" aria-label="${escaped(name)}" data-weight="${escaped(keyOf(edge.why))}"` : ""}>`
      + `<line x1="${sx}" y1="${sy}" x2="${ex}" y2="${ey}" stroke-width="${look.size}"/>`
      + ((tags || isChosen) && look.text ? `<rect class="tag" x="${tx - wide / 2}" y="${ty - 13}" width="${wide}" height="26" rx="13"/><text x="${tx}" y="${ty + 4.5}">${escaped(look.text)}</text>` : "") + "</g>");
  });
  drawn.all.forEach((column, c) => {
    for (let j = 0; j < drawn.shown[c]; j++) {
      const [x, y] = drawn.place(c, j), [small, big, closed] = boxTexts(column, c, j);
      parts.push(`<g><rect class="box ${closed ? "closed" : ""}" x="${x - half}" y="${y - 30}" width="${2 * half}" height="60" rx="10"/>`
        + `<text class="soft" x="${x}" y="${y - 8}">${escaped(small)}</text><text x="${x}" y="${y + 15}">${escaped(big)}</text></g>`);
    }
    if (drawn.shown[c] < column.units) {
      const [x, y] = drawn.place(c, drawn.shown[c] - 1);
      parts.push(`<text class="soft" x="${x}" y="${y + 46}">and ${column.units - drawn.shown[c]} more</text>`);
    }
  });
  if (step().outcome) parts.push(target(drawn, half));
  return `<svg viewBox="0 0 ${drawn.width} ${drawn.height + (drawn.upright ? 30 : 0)}" style="max-width:${drawn.width * 1.15}px;margin:auto" role="group" aria-label="${escaped(drawing())}">${parts.join("")}</svg>`;
}

function boxTexts(column, c, j) {
  const small = column.labels[j], kind = c ? activationOf(column) : null, shown = kind ? `${small} · ${kind.replace(/\(.*/, "").toLowerCase()}` : small;
  if (!single()) return [shown, "", false];
  const slope = c ? slopeOf(column, j) : null, closed = slope !== null && signOf(slope) === 0;
  if (c && state.phase >= 2 && state.phase <= 3) {
    const own = sample().backward[column.name];
    return [shown, own ? `δ = ${brief(own.delta[j])}${closed ? " ⊣" : ""}` : "not needed", closed];
  }
  return [shown, brief(sample().forward[column.out].o[j], { digits: 4 }), closed];
}

function target(drawn, half) {
  const [x, y] = drawn.place(drawn.all.length - 1, 0), t = step().outcome.t, out = drawn.all[drawn.all.length - 1];
  const back = sample().backward[out.out], text = [`expected ${brief(t)}`, back && state.phase ? `error ${brief(back.e[0])}` : ""];
  return drawn.upright ? `<text class="soft" x="${x}" y="${y + 48}">${escaped(text.filter(Boolean).join(", "))}</text>`
    : `<text class="soft" x="${x + half + 52}" y="${y - 6}">${escaped(text[0])}</text><text x="${x + half + 52}" y="${y + 15}">${escaped(text[1])}</text>`;
}

const drawing = () => `The net, ${TITLES[phase()].toLowerCase()}: ` + columns().map(column => plural(column.units, "unit")).join(", then ");

// ---------------------------------------------------------------- what stands beside it
function caption() {
  const rows = step().rows, all = step().why, up = all.filter(why => signOf(why.change) > 0).length, down = all.filter(why => signOf(why.change) < 0).length;
  const label = escaped(run().samples[rows[0]].label);
  switch (phase()) {
    case "forward": return single() ? `The inputs of sample ${label} go forward: each line carries input × weight, each unit adds up what arrives.` : `${rows.length} samples go forward together.`;
    case "loss": {
      const loss = `The loss is <b>${show(step().loss)}</b>.`;
      if (!step().outcome) return loss;
      const [o, wanted] = showPair(step().outcome.o, step().outcome.t), sign = compared(step().outcome.o, step().outcome.t);
      return (sign ? `The model gave ${o}, <b>${sign < 0 ? "lower" : "higher"}</b> than the expected ${wanted}. ` : `The model gave ${o}, as expected. `) + loss;
    }
    case "backward": {
      const waste = step().not_needed.length ? ` Not needed by any weight, so not computed: ${escaped(step().not_needed.join(", "))}.` : "";
      return (all.some(why => why.says.includes("blocked")) ? "The error starts back, but a closed ReLU lets nothing through: what there was to learn is lost."
        : "The error flows back. δ tells each unit which way its net input should go: negative means up, positive means down.") + waste;
    }
    case "update": {
      if (all.some(hidden)) return "Choose a weight and guess what it will do.";
      return `${plural(up, "weight")} up, ${down} down, ${all.length - up - down} stay. Choose one to read why.`;
    }
    default: {
      const worse = step().effect.filter(each => signOf(each.change) > 0).length, better = step().effect.filter(each => signOf(each.change) < 0).length;
      return `This update made the loss of ${plural(better, "sample")} smaller and of ${worse} larger.`;
    }
  }
}

function sums() {
  const parts = [], all = columns();
  if (!single()) return `<h2>A batch</h2><p>${step().rows.length} samples in one step: the gradient is that of their loss together, and each weight moves once.</p>`;
  if (phase() === "forward") {
    parts.push("<h2>How the numbers came about</h2>");
    all.slice(1).forEach(column => column.labels.slice(0, MOST_UNITS).forEach((label, j) => {
      const own = sample().forward[column.name], block = step().weights[`${column.name}.w`], bias = step().weights[`${column.name}.b`];
      const lines = [];
      if (block && own.terms && column.layer.inputs.length === 1) {
        const x = sample().forward[column.layer.inputs[0]].o;
        lines.push(`net = ${x.slice(0, MOST_UNITS).map((each, i) => `${inBrackets(each)} × ${inBrackets(block.before[i][j])}`).join(" + ")}${x.length > MOST_UNITS ? " + …" : ""}${bias ? ` + ${inBrackets(bias.before[j])}` : ""}`);
      }
      lines.push(`net = <b>${show(own.net[j])}</b>`);
      const kind = activationOf(column);
      lines.push(kind ? `o = ${escaped(kind.replace(/\(.*/, ""))}(net) = <b>${show(sample().forward[column.out].o[j])}</b>` : `o = net`);
      parts.push(`<h3>${escaped(label)}</h3><div class="sum" tabindex="0" role="region" aria-label="arithmetic of ${escaped(label)}">${lines.join("<br>")}</div>`);
    }));
  } else if (phase() === "loss") {
    const out = all[all.length - 1].out, o = sample().forward[out].o, t = run().samples[step().rows[0]].t;
    parts.push("<h2>How the loss came about</h2>");
    if (run().net.loss.startsWith("HalfSquaredError") && o.length === t.length) {
      parts.push(`<div class="sum" tabindex="0" role="region" aria-label="arithmetic of the loss">loss = ½ × (given − expected)²<br>= ½ × ${o.length > 1 ? "[" : ""}${o.map((each, j) => `(${show(each).replace("≈ ", "")} − ${inBrackets(t[j])})²`).join(" + ")}${o.length > 1 ? "]" : ""}<br>= <b>${show(step().loss)}</b></div>`);
      parts.push("<p class='soft'>Its slope, given − expected, is the error that flows back. Negative says: more, please. Positive says: less.</p>");
    } else {
      parts.push(`<div class="sum" tabindex="0" role="region" aria-label="the loss">${escaped(run().net.loss)} = <b>${show(step().loss)}</b></div>`);
    }
  } else {
    parts.push("<h2>How each δ came about</h2>");
    all.slice(1).reverse().forEach(column => column.labels.slice(0, MOST_UNITS).forEach((label, j) => {
      const last = sample().backward[column.out], own = sample().backward[column.name], slope = slopeOf(column, j);
      if (!last || !own) return;
      const paths = all.filter(other => other.layer.inputs.some(each => column.passes.some(layer => layer.name === each)));
      const ways = paths.flatMap(other => {
        const terms = sample().backward[other.name] && sample().backward[other.name].terms;
        return terms ? other.labels.map((to, k) => `through ${escaped(to)}: ${show(terms[j][k])}`) : [];
      });
      const lines = [ways.length > 1 ? `e = ${show(last.e[j])}, of which<br>&nbsp;&nbsp;${ways.join("<br>&nbsp;&nbsp;")}` : `e = ${show(last.e[j])}`];
      lines.push(slope === null ? `δ = ${activationOf(column) ? "" : "e = "}<b>${show(own.delta[j])}</b>` : `δ = e × slope = ${inBrackets(last.e[j])} × ${inBrackets(slope)} = <b>${show(own.delta[j])}</b>`);
      parts.push(`<h3>${escaped(label)}</h3><div class="sum" tabindex="0" role="region" aria-label="arithmetic of δ of ${escaped(label)}">${lines.join("<br>")}</div>`);
    }));
  }
  return parts.join("");
}

function whyCard() {
  const why = chosen(), name = escaped(weightName(why)), sign = signOf(why.change);
  if (hidden(why)) {
    return `<h2>What will ${name} do?</h2><p>It is ${show(why.before)}${why.input ? `; its input is ${show(why.input)}` : ""}.</p>`
      + `<div class="row" role="group" aria-label="Your guess"><button data-guess="1">▲ rise</button> <button data-guess="0">= stay</button> <button data-guess="-1">▼ fall</button></div>`;
  }
  const guessed = state.guesses[guessKey(why)];
  const parts = [`<h2>Why ${sign ? "did" : "does"} ${name} <span class="${CLASS[sign]}">${ARROW[sign]} ${WORD[sign]}</span>?</h2>`];
  if (guessed !== undefined) parts.push(`<p><b>${guessed === sign ? "Right." : "Not so."}</b> <span class="soft">${state.right} of ${state.asked} guessed right.</span></p>`);
  parts.push(`<ol class="why">${sentences(why).map(([key, text]) => `<li class="${key.startsWith("move") ? "move" : key === "proof.own" ? "checked" : ""}">${escaped(text)}</li>`).join("")}</ol>`);
  if (sign && why.delta && why.input !== undefined && /^GradientDescent\([^,]*\)$/.test(run().rule)) {
    const [before, after] = showPair(why.before, why.after);
    parts.push(`<div class="sum" tabindex="0" role="region" aria-label="arithmetic of the change">change = − rate × δ${why.input ? " × input" : ""} = <b class="${CLASS[sign]}">${show(why.change, { plus: true })}</b><br>${before} → ${after}</div>`);
  }
  if (why.sweep) parts.push(sweep(why, name));
  return parts.join("");
}

function sweep(why, name) {
  const xs = why.sweep.map(each => toFloat(each[0])), ys = why.sweep.map(each => toFloat(each[1]));
  const [low, high] = [Math.min(...ys), Math.max(...ys)], X = x => 30 + (x + 1) / 5 * 300, Y = y => 96 - (high > low ? (y - low) / (high - low) : 0.5) * 74;
  const marks = xs.map((x, k) => `<circle cx="${X(x)}" cy="${Y(ys[k])}" r="${x === 0 || x === 1 ? 6 : 3}" fill="${x === 1 ? "var(--up)" : "var(--soft)"}"/>`);
  return `<h3>If only ${name} moved</h3><svg viewBox="0 0 360 132" style="max-width:26rem" role="img" aria-label="${escaped(why.sweep.map(each => `${each[0]} times the change: loss ${number(each[1])}`).join("; "))}">`
    + `<line x1="20" x2="345" y1="104" y2="104" stroke="var(--line)"/><polyline points="${xs.map((x, k) => `${X(x)},${Y(ys[k])}`).join(" ")}" fill="none" stroke="var(--soft)" stroke-width="2"/>${marks.join("")}`
    + `<text class="soft" x="${X(0)}" y="122">as it was</text><text class="soft" x="${X(1)}" y="122">moved</text><text class="soft" x="${X(4)}" y="122">4 ×</text></svg>`;
}
const toFloat = text => {
  if (text in SPECIAL) return NaN;
  const value = Fraction.of(text);
  return Number(value.n * 10n ** 20n / value.d) / 1e20;
};

function below() {
  if (phase() === "effect") {
    const shares = Object.entries(step().effect[0].shares || {}).length > 0;
    const list = shares ? step().why.filter(why => step().effect[0].shares[why.block]).slice(0, 12) : [];
    const part = (each, why) => why.at.reduce((a, k) => a[k], each.shares[why.block]);
    return `<div class="wide" tabindex="0" role="region" aria-label="Effect on every sample"><table><caption>What this update did to every sample${list.length ? ", and which weight did it" : ""}</caption><thead><tr><th scope="col">sample</th><th scope="col">output</th><th scope="col">loss</th><th scope="col">so it is</th>${list.map(why => `<th scope="col">${escaped(weightName(why))}</th>`).join("")}</tr></thead><tbody>`
      + step().effect.map(each => {
        const sign = signOf(each.change), [a, b] = showPair(each.loss, each.loss_after);
        return `<tr><td>${escaped(run().samples[each.sample].label)}</td><td>${each.output.map((o, k) => showPair(o, each.output_after[k]).join(" → ")).join(", ")}</td><td>${a} → ${b}</td><td>${sign ? (sign > 0 ? "▲ worse" : "▼ better") : "= the same"}</td>${list.map(why => `<td class="${CLASS[signOf(part(each, why))]}">${show(part(each, why), { plus: true, digits: 3 })}</td>`).join("")}</tr>`;
      }).join("") + "</tbody></table></div>";
  }
  const late = state.phase >= 3;
  return `<div class="wide" tabindex="0" role="region" aria-label="All weights"><table><caption>The weights in this step</caption><thead><tr><th scope="col">weight</th><th scope="col">before</th><th scope="col">input</th><th scope="col">δ</th><th scope="col">change</th><th scope="col">after</th></tr></thead><tbody>`
    + step().why.slice(0, MOST_ROWS).map(why => {
      const sign = signOf(why.change), secret = !late || hidden(why), [before, after] = showPair(why.before, why.after);
      return `<tr class="${late && why === chosen() ? "chosen" : ""}"><td><button type="button" data-weight="${escaped(keyOf(why))}">${escaped(weightName(why))}</button></td><td>${before}</td><td>${why.input ? show(why.input) : "–"}</td><td>${why.delta && state.phase > 1 ? show(why.delta) : "–"}</td><td class="${secret ? "" : CLASS[sign]}">${secret ? "?" : `${ARROW[sign]} ${show(why.change, { plus: true })}`}</td><td>${secret ? "?" : after}</td></tr>`;
    }).join("") + "</tbody></table></div>";
}

function notes() {
  if (phase() === "loss" || phase() === "effect") return "";
  return Object.entries(step().verdict || {}).filter(([, own]) => own.branches.length && own.learns_exactly && !own.learns).slice(-1).map(([kind, own]) =>
    `<p class="note"><b>Floats take another branch.</b> The net input of ${escaped(columnOf(own.branches[0].layer).labels[own.branches[0].unit])} is exactly ${show(own.branches[0].exact)}; ${kind} makes it ${show(own.branches[0].float, { digits: 2 })}, and the ReLU closes. In ${kind} <b>nothing would be learnt</b> in this step.</p>`).join("");
}

function about() {
  const says = [run().about, run().article && `From “${run().article}”.`, run().arithmetic.exact ? "All numbers exact." : `Numbers in ${run().arithmetic.dtype}.`].filter(Boolean);
  return `<p class="soft">${escaped(says.join(" "))}</p><div id="samples" role="group" aria-label="Steps">${run().steps.map((each, k) =>
    `<button type="button" data-step="${k}" ${k === state.step ? 'aria-current="step"' : ""}>${k + 1} <small>${escaped(each.rows.map(row => run().samples[row].label).slice(0, 3).join(", "))}${each.rows.length > 3 ? " …" : ""}</small></button>`).join("")}</div>`;
}

// ---------------------------------------------------------------- moments
function render({ keep = null } = {}) {
  byId("about").innerHTML = about();
  byId("phases").innerHTML = PHASES.map((name, k) => `<button type="button" data-phase="${k}" ${k === state.phase ? 'aria-current="step"' : ""}>${TITLES[name]}</button>`).join("");
  byId("caption").innerHTML = caption();
  byId("diagram").innerHTML = diagram();
  byId("notes").innerHTML = notes();
  byId("why").innerHTML = state.phase < 3 ? sums() : whyCard();
  byId("below").innerHTML = below();
  byId("where").innerHTML = `Step ${state.step + 1} of ${run().steps.length}<br><b>${TITLES[phase()]}</b>`;
  byId("back").disabled = !state.step && !state.phase;
  byId("next").disabled = state.step === run().steps.length - 1 && state.phase === PHASES.length - 1;
  byId("fractions").setAttribute("aria-pressed", state.fractions);
  byId("fractions").disabled = !run().arithmetic.exact;
  byId("guess").setAttribute("aria-pressed", state.guess);
  byId("run").innerHTML = DATA.runs.map((each, k) => `<option value="${k}" ${k === state.run ? "selected" : ""}>${escaped(each.title || each.id)}</option>`).join("");
  history.replaceState(null, "", `#${[run().id, state.step + 1, phase(), keyOf(chosen())].map(encodeURIComponent).join("/")}`);
  if (keep) { const found = document.querySelector(keep); if (found) found.focus(); }
}

function go(by) {
  const at = state.step * PHASES.length + state.phase + by;
  if (at < 0 || at >= run().steps.length * PHASES.length) return;
  Object.assign(state, { step: Math.floor(at / PHASES.length), phase: at % PHASES.length });
  render();
}

function choose(by) {
  const all = step().why, at = (all.indexOf(chosen()) + by + all.length) % all.length;
  Object.assign(state, { weight: keyOf(all[at]), phase: Math.max(state.phase, 3) });
  render();
}

function guess(sign) {
  const why = chosen();
  state.guesses[guessKey(why)] = sign;
  state.asked += 1;
  state.right += sign === signOf(why.change);
  render();
}

function fromAddress() {
  const [id, at, name, weight] = location.hash.slice(1).split("/").map(decodeURIComponent), k = DATA.runs.findIndex(each => each.id === id);
  if (k < 0) return;
  Object.assign(state, { run: k, step: Math.min(Math.max(Number(at) || 1, 1), DATA.runs[k].steps.length) - 1, phase: Math.max(PHASES.indexOf(name), 0), weight: weight || null });
}

document.addEventListener("click", event => {
  const button = event.target.closest("[data-step], [data-phase], [data-weight], [data-guess]");
  if (!button) return;
  const { step: k, phase: p, weight, guess: g } = button.dataset;
  if (k) Object.assign(state, { step: Number(k) });
  if (p) Object.assign(state, { phase: Number(p) });
  if (weight) Object.assign(state, { weight, phase: Math.max(state.phase, 3) });
  if (g) return guess(Number(g));
  render({ keep: k ? `[data-step="${k}"]` : p ? `[data-phase="${p}"]` : `${button.tagName === "BUTTON" ? "button" : "g"}[data-weight="${CSS.escape(weight)}"]` });
});
document.addEventListener("keydown", event => {
  const tag = event.target.tagName, typing = ["INPUT", "SELECT", "TEXTAREA"].includes(tag) || byId("dialog").open;
  if (tag === "g" && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); event.target.dispatchEvent(new MouseEvent("click", { bubbles: true })); return; }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = { ArrowRight: () => go(1), ArrowLeft: () => go(-1), ArrowDown: () => choose(1), ArrowUp: () => choose(-1), f: () => byId("fractions").click(), g: () => byId("guess").click() }[event.key];
  if (act) { event.preventDefault(); act(); }
});
byId("back").onclick = () => go(-1);
byId("next").onclick = () => go(1);
byId("fractions").onclick = () => { state.fractions = !state.fractions; render(); };
byId("guess").onclick = () => { state.guess = !state.guess; if (state.guess) Object.assign(state, { phase: 3 }); render(); };
byId("run").onchange = event => { Object.assign(state, { run: Number(event.target.value), step: 0, phase: 0, weight: null }); render(); };
addEventListener("hashchange", () => { fromAddress(); render(); });
addEventListener("resize", () => { byId("diagram").innerHTML = diagram(); });

// ---------------------------------------------------------------- the reader's own net
const EXAMPLE = { inputs: "100 2000 100 -> 0\n200 0 0 -> 1\n0 2000 3000 -> 1", layers: "1 relu", rate: "1/10000000", bias: false, weights: "1/200 -3/11600 1/5800" };
function ownDialog() {
  byId("dialog").innerHTML = `<form method="dialog"><h2 id="dialog-title">Your own net, in fractions</h2>
    <label for="own-data">Samples, one a line: inputs -> expected outputs</label><textarea id="own-data">${escaped(EXAMPLE.inputs)}</textarea>
    <label for="own-layers">Layers, one a line: units, then identity, relu or leaky</label><textarea id="own-layers">${escaped(EXAMPLE.layers)}</textarea>
    <label for="own-weights">Weights of each layer, one layer a line: for each input its weights to the units; then the biases, if there are some</label><textarea id="own-weights">${escaped(EXAMPLE.weights)}</textarea>
    <label for="own-rate">Learning rate</label><input id="own-rate" value="${escaped(EXAMPLE.rate)}">
    <p id="own-error" class="error" role="alert"></p>
    <div class="row"><button type="submit" value="cancel" formnovalidate>Close</button><button type="button" id="own-go">Show what happens</button></div></form>`;
  byId("own-go").onclick = () => {
    try {
      showOwn(readOwn());
      byId("dialog").close();
    } catch (error) {
      byId("own-error").textContent = error.message;
    }
  };
  byId("dialog").showModal();
}
function showOwn(net) {
  const found = explained(net, net.rate, net.samples), at = DATA.runs.findIndex(each => each.id === "own");
  if (at < 0) DATA.runs.push(found); else DATA.runs[at] = found;
  Object.assign(state, { run: at < 0 ? DATA.runs.length - 1 : at, step: 0, phase: 0, weight: null });
  render();
}
function readOwn() {
  const lines = id => byId(id).value.split("\n").map(line => line.trim()).filter(Boolean), values = text => text.split(/[\s,;]+/).filter(Boolean).map(Fraction.of);
  const samples = lines("own-data").map((line, k) => {
    const [x, t] = line.split("->");
    if (t === undefined) throw new Error(`Sample ${k + 1} needs “->” between its inputs and what is expected.`);
    return { x: values(x), t: values(t) };
  });
  if (!samples.length) throw new Error("There is no sample yet.");
  const sizes = [samples[0].x.length], activations = [], kinds = { identity: "Identity()", relu: "ReLU()", leaky: "LeakyReLU()" };
  lines("own-layers").forEach((line, k) => {
    const [units, kind = "identity"] = line.split(/[\s,]+/);
    if (!/^[1-9]\d*$/.test(units) || Number(units) > 32) throw new Error(`Layer ${k + 1} needs a number of units from 1 to 32, not “${units}”.`);
    if (!(kind in kinds)) throw new Error(`The activation of layer ${k + 1} must be identity, relu or leaky, not “${kind}”.`);
    sizes.push(Number(units));
    activations.push(kinds[kind]);
  });
  if (!activations.length) throw new Error("There is no layer yet.");
  samples.forEach(({ x, t }, k) => {
    if (x.length !== sizes[0] || t.length !== sizes[sizes.length - 1]) throw new Error(`Sample ${k + 1} needs ${plural(sizes[0], "input")} and ${plural(sizes[sizes.length - 1], "expected output")}.`);
  });
  const given = lines("own-weights").map(values), weights = [], biases = [];
  activations.forEach((_, k) => {
    const [m, n] = [sizes[k], sizes[k + 1]], own = given[k] || [];
    if (own.length !== m * n && own.length !== m * n + n) throw new Error(`Layer ${k + 1} needs ${m} × ${n} = ${m * n} weights, or ${m * n + n} with biases; there are ${own.length}.`);
    weights.push([...Array(m)].map((_, i) => own.slice(i * n, (i + 1) * n)));
    biases.push(own.length > m * n ? own.slice(m * n) : null);
  });
  const rate = Fraction.of(byId("own-rate").value);
  if (rate.sign <= 0) throw new Error("The learning rate must be larger than 0.");
  return { weights, biases, activations, rate, samples };
}
byId("own").onclick = ownDialog;

window.backpropXp = { run, number, pair }; // for tests, and for a console
fromAddress();
render();
