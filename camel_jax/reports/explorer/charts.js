// Charts that choose mixtures: parallel axes, a triangle for three domains, and a front; pointing at a mixture sets the sliders.

function drawn(tag, attributes = {}, ...children) {
  const one = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
  one.append(...children);
  return one;
}

function element(tag, attributes = {}, ...children) {
  const one = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
  one.append(...children);
  return one;
}

// Round numbers that divide a range, at most `most` of them
function ticksOf(low, high, most = 5) {
  const raw = (high - low) / most;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((x) => x * unit).find((x) => x >= raw);
  const out = [];
  for (let x = Math.ceil(low / step) * step; x <= high + step * 1e-9; x += step) out.push(Math.abs(x) < step / 1e6 ? 0 : x);
  return out;
}

// A list of mixtures in a chart: pointing shows one, a click or the keyboard takes it.
class Choice {
  constructor(chart, label, { show, take, back }) {
    this.chart = chart;
    this.options = [];
    this.at = -1;
    Object.assign(this, { show, take, back });
    chart.setAttribute("role", "listbox");
    chart.setAttribute("tabindex", "0");
    chart.setAttribute("aria-label", label);
    chart.addEventListener("keydown", (event) => this.key(event));
    chart.addEventListener("pointerleave", () => {
      this.mark(-1);
      this.back();
    });
  }

  add(node, label, value) {
    const at = this.options.length;
    node.id = `${this.chart.id}-${at}`;
    node.setAttribute("role", "option");
    node.setAttribute("aria-selected", "false");
    node.setAttribute("aria-label", label);
    node.classList.add("option");
    node.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "touch") return;
      this.mark(at);
      this.show(value);
    });
    node.addEventListener("click", () => {
      this.mark(at);
      this.take(value);
    });
    this.options.push({ node, value });
  }

  mark(at) {
    if (this.at >= 0) {
      this.options[this.at].node.classList.remove("on");
      this.options[this.at].node.setAttribute("aria-selected", "false");
    }
    this.at = at;
    if (at < 0) {
      this.chart.removeAttribute("aria-activedescendant");
      return;
    }
    this.options[at].node.classList.add("on");
    this.options[at].node.setAttribute("aria-selected", "true");
    this.chart.setAttribute("aria-activedescendant", this.options[at].node.id);
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const last = this.options.length - 1;
    let at = this.at;
    if (step) at = Math.min(Math.max(at + step, 0), last);
    else if (event.key === "Home") at = 0;
    else if (event.key === "End") at = last;
    else return;
    event.preventDefault();
    this.mark(at);
    this.take(this.options[at].value);
  }
}

const AXES = 16;

function described(weights, domains) {
  const order = Array.from(weights.keys()).sort((a, b) => weights[b] - weights[a]).slice(0, 6);
  return order.map((k) => `${domains[k]} ${formatPercent(weights[k])}`).join(", ");
}

// Parallel axes; returns a function that draws the current mixture
function parallelAxes(place, width, { samples, best, reference, measured, domains }, choice) {
  const spread = domains.map((_, k) => {
    const values = samples.map((w) => w[k]);
    return Math.max(...values) - Math.min(...values);
  });
  const shown = domains.length <= AXES ? domains.map((_, k) => k)
    : Array.from(spread.keys()).sort((a, b) => spread[b] - spread[a]).slice(0, AXES).sort((a, b) => a - b);
  const longest = Math.max(...shown.map((k) => Math.min(domains[k].length, 22)));
  const tilted = longest * 7.2 > (width - 70) / Math.max(shown.length - 1, 1);
  const foot = tilted ? 24 + longest * 4.6 : 30;
  const height = Math.min(Math.max(width * 0.55, 250), 430) + foot;
  const left = 46 + (tilted ? Math.min(longest, 12) * 2 : 8);
  const right = width - 34;
  const top = Math.max(...shown.map((k) => Math.max(best[k], reference[k], ...samples.map((w) => w[k])))) * 1.06;
  const x = (i) => (shown.length < 2 ? left : left + ((right - left) * i) / (shown.length - 1));
  const y = (w) => height - foot - ((height - foot - 14) * Math.min(w, top)) / top;
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "presentation" });
  for (const t of ticksOf(0, top, 5)) {
    svg.append(drawn("line", { class: "axis", x1: left - 6, x2: right + 6, y1: y(t), y2: y(t) }),
      drawn("text", { x: left - 12, y: y(t) + 4, "text-anchor": "end" }, formatPercent(t, top < 0.05 ? 1 : 0)));
  }
  shown.forEach((k, i) => {
    const [low, high] = [measured[0][k], measured[1][k]];
    svg.append(drawn("line", { class: "axis", x1: x(i), x2: x(i), y1: 14, y2: height - foot }));
    svg.append(drawn("rect", {
      class: "known", x: x(i) - 4, width: 8, y: y(Math.min(high, top)), height: Math.max(y(Math.min(low, top)) - y(Math.min(high, top)), 0),
    }));
    const name = domains[k].length > 22 ? `${domains[k].slice(0, 21)}…` : domains[k];
    const at = { x: x(i), y: height - foot + 17, "text-anchor": tilted ? "end" : "middle" };
    if (tilted) at.transform = `rotate(-35 ${x(i)} ${height - foot + 17})`;
    svg.append(drawn("text", at, name));
  });
  const path = (w) => shown.map((k, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(w[k]).toFixed(1)}`).join("");
  samples.forEach((w, n) => {
    const line = drawn("g", {}, drawn("path", { class: "hit", d: path(w) }), drawn("path", { class: "line", d: path(w) }));
    choice.add(line, `mixture ${n + 1} of ${samples.length}: ${described(w, domains)}`, w);
    svg.append(line);
  });
  svg.append(drawn("path", { class: "ref", d: path(reference) }), drawn("path", { class: "best", d: path(best) }));
  const current = drawn("path", { class: "current" });
  svg.append(current);
  place.append(svg);
  const words = "Thin: mixtures nearly as good; orange: recommended; dashed: reference; black: the sliders; gray: measured.";
  const told = shown.length < domains.length ? ` ${AXES} of ${domains.length} domains, those that can move most.` : "";
  place.append(element("p", { class: "small" }, words + told));
  const apart = (weights) => best.some((w, k) => Math.abs(w - weights[k]) > 5e-4); // else it would hide the recommended line
  return (weights) => current.setAttribute("d", apart(weights) ? path(weights) : "");
}

const CORNERS = [[0, 0], [1, 0], [0.5, Math.sqrt(0.75)]];

// A triangle of three domains; returns a function that draws the current mixture
function triangle(place, width, { samples, best, reference, domains }, choice) {
  const side = Math.min(width - 110, 470);
  const height = side * Math.sqrt(0.75) + 70;
  const left = (width - side) / 2;
  const point = (w) => {
    const [a, b] = [0, 1].map((axis) => w.reduce((sum, share, k) => sum + share * CORNERS[k][axis], 0));
    return [left + a * side, height - 38 - b * side];
  };
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "presentation" });
  const line = (a, b) => {
    const [[x1, y1], [x2, y2]] = [point(a), point(b)];
    svg.append(drawn("line", { class: "axis", x1, y1, x2, y2 }));
  };
  for (const t of [0, 0.25, 0.5, 0.75]) {
    line([t, 1 - t, 0], [t, 0, 1 - t]);
    line([1 - t, t, 0], [0, t, 1 - t]);
    line([1 - t, 0, t], [0, 1 - t, t]);
  }
  domains.forEach((name, k) => {
    const [x, y] = point([0, 1, 2].map((i) => (i === k ? 1 : 0)));
    svg.append(drawn("text", { x, y: y + (k === 2 ? -12 : 24), "text-anchor": "middle" }, `all ${name}`));
  });
  samples.forEach((w, n) => {
    const [cx, cy] = point(w);
    const dot = drawn("g", {}, drawn("circle", { class: "hit", cx, cy, r: 6 }), drawn("circle", { class: "dot", cx, cy, r: 4.5 }));
    choice.add(dot, `mixture ${n + 1} of ${samples.length}: ${described(w, domains)}`, w);
    svg.append(dot);
  });
  for (const [w, kind] of [[reference, "ref"], [best, "best"]]) {
    const [cx, cy] = point(w);
    svg.append(drawn("circle", { class: kind, cx, cy, r: 8 }));
  }
  const current = drawn("circle", { class: "point", r: 4 });
  svg.append(current);
  place.append(svg, element("p", { class: "small" },
    "Blue: mixtures nearly as good; orange ring: recommended; dashed ring: reference; black: the sliders."));
  return (weights) => {
    const [cx, cy] = point(Array.from(weights));
    current.setAttribute("cx", cx);
    current.setAttribute("cy", cy);
  };
}

// The front between two objectives, as gains over the reference with intervals
function frontChart(place, width, { weights, gains, chosen, labels, domains, measured }, choice) {
  const height = Math.min(Math.max(width * 0.6, 270), 420);
  const [left, foot] = [64, 48];
  const spans = [0, 1].map((axis) => {
    const all = [0, ...chosen[axis], ...gains.flatMap((one) => one[axis])];
    const [low, high] = [Math.min(...all), Math.max(...all)];
    return [low - 0.05 * (high - low), high + 0.05 * (high - low)];
  });
  const x = (v) => left + ((width - left - 16) * (v - spans[0][0])) / (spans[0][1] - spans[0][0]);
  const y = (v) => height - foot - ((height - foot - 14) * (v - spans[1][0])) / (spans[1][1] - spans[1][0]);
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "presentation" });
  const number = (t, ticks) => t.toFixed(Math.max(0, Math.min(5, -Math.floor(Math.log10(Math.abs(ticks[1] - ticks[0]))))));
  const [across, up] = [ticksOf(...spans[0], Math.max(3, Math.floor(width / 110))), ticksOf(...spans[1], 5)];
  for (const t of across) {
    svg.append(drawn("line", { class: "axis", x1: x(t), x2: x(t), y1: 14, y2: height - foot }),
      drawn("text", { x: x(t), y: height - foot + 17, "text-anchor": "middle" }, number(t, across)));
  }
  for (const t of up) {
    svg.append(drawn("line", { class: "axis", x1: left, x2: width - 16, y1: y(t), y2: y(t) }),
      drawn("text", { x: left - 8, y: y(t) + 4, "text-anchor": "end" }, number(t, up)));
  }
  const [below, aside] = labels.map((label) => (/loss/.test(label) ? " (nats)" : /accuracy/.test(label) ? " (share of 1)" : ""));
  svg.append(drawn("text", { x: (left + width) / 2, y: height - 8, "text-anchor": "middle" }, `gain in ${labels[0]} over the reference${below}`),
    drawn("text", { x: 14, y: height / 2 - 10, "text-anchor": "middle", transform: `rotate(-90 14 ${height / 2 - 10})` }, `gain in ${labels[1]}${aside}`));
  svg.append(drawn("path", { class: "current", d: gains.map((g, i) => `${i ? "L" : "M"}${x(g[0][0])} ${y(g[1][0])}`).join("") }));
  gains.forEach((gain, n) => {
    const [a, b] = [x(gain[0][0]), y(gain[1][0])];
    const dot = drawn("g", measured[n] ? {} : { class: "beyond" },
      drawn("line", { class: "cross", x1: x(gain[0][1]), x2: x(gain[0][2]), y1: b, y2: b }),
      drawn("line", { class: "cross", x1: a, x2: a, y1: y(gain[1][1]), y2: y(gain[1][2]) }),
      drawn("circle", { class: "hit", cx: a, cy: b, r: 9 }), drawn("circle", { class: "dot", cx: a, cy: b, r: 5 }));
    const beyond = measured[n] ? "" : "; beyond the measured shares";
    choice.add(dot, `trade-off ${n + 1} of ${gains.length}: gains ${formatSigned(gain[0][0])} and ${formatSigned(gain[1][0])}; `
      + described(weights[n], domains) + beyond, weights[n]);
    svg.append(dot);
  });
  svg.append(drawn("circle", { class: "best", cx: x(chosen[0][0]), cy: y(chosen[1][0]), r: 9 }),
    drawn("circle", { class: "ref", cx: x(0), cy: y(0), r: 7 }));
  const hollow = measured.every((x) => x) ? "" : "; hollow: beyond the measured shares";
  place.append(svg, element("p", { class: "small" },
    `Dots: best trade-offs, crosses their 90 % intervals${hollow}; orange ring: recommended; dashed ring: reference. Above and right of zero is better.`));
}
