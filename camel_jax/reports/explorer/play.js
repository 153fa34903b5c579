// The part of the page that moves: sliders, what follows from them, and the charts that set them.

const byId = (id) => document.getElementById(id);

class Play {
  constructor(told) {
    this.told = told.decision;
    this.outlook = new Outlook(unpackAll(told.fit));
    const d = this.told;
    this.named = told.fit.domains; // as the table has them; what is shown has nothing that acts on a page
    this.domains = d.shown.domains;
    this.sets = d.shown.sets;
    this.supply = d.supply ? d.supply.map((x) => (x === null ? Infinity : x)) : null;
    this.ratio = d.target.total / d.target.active;
    this.weights = Float64Array.from(d.best);
    this.scale = { active: d.target.active, tokens: d.target.tokens };
    this.locked = new Set();
    this.kept = null;
    this.corrected = false;
    this.known = new Map();
    this.rows = [];
  }

  recipe(weights) {
    const { active, tokens } = this.scale;
    return { total: active * this.ratio, active, tokens, weights, supply: this.supply };
  }

  // Whether this browser computes what Python did; the largest relative difference of the losses of two mixtures
  difference() {
    let worst = 0;
    for (const check of this.told.checks) {
      const losses = this.outlook.point(this.recipe(Float64Array.from(check.weights)), false);
      losses.forEach((x, v) => { worst = Math.max(worst, Math.abs(x / check.losses[v] - 1)); });
    }
    return worst;
  }

  start() {
    this.makeShares();
    this.makeScale();
    const equal = Float64Array.from(this.domains, () => 1 / this.domains.length);
    const buttons = { "to-best": [this.told.best, "recommended"], "to-reference": [this.told.reference, "reference"], "to-equal": [equal, "equal shares"] };
    for (const [id, [weights, words]] of Object.entries(buttons)) {
      byId(id).addEventListener("click", () => this.take(weights, words));
    }
    byId("copy").addEventListener("click", () => this.copy());
    byId("download").addEventListener("click", () => this.download());
    byId("as-decision").addEventListener("click", () => this.predictAs(false));
    byId("as-forecast").addEventListener("click", () => this.predictAs(true));
    byId("digits").textContent = this.outlook.digits;
    byId("play").hidden = false;
    this.makeCharts();
    this.update();
    document.documentElement.classList.add("js");
    this.resized();
    this.markSection();
  }

  // Which section is being read, in the navigation
  markSection() {
    const links = new Map();
    for (const link of document.querySelectorAll("nav a")) {
      const part = byId(link.hash.slice(1));
      if (part && part.tagName === "SECTION") links.set(part, link);
    }
    let now = null;
    const mark = () => {
      let found = null;
      for (const part of links.keys()) if (!found || part.getBoundingClientRect().top < 120) found = part;
      if (found === now) return;
      now = found;
      for (const [part, link] of links) {
        if (part === now) link.setAttribute("aria-current", "location");
        else link.removeAttribute("aria-current");
      }
      const link = links.get(now);
      const list = link.closest("ul");
      list.scrollLeft = Math.max(link.offsetLeft - list.offsetLeft - 40, 0);
    };
    window.addEventListener("scroll", mark, { passive: true });
    mark();
  }

  makeShares() {
    const place = byId("shares");
    const { groups, rest } = this.domains.length > 20 ? groupNames(this.domains) : { groups: [], rest: [...this.domains.keys()] };
    for (const k of rest) place.append(this.makeSlider(k));
    for (const { head, members } of groups) {
      const group = element("details", { class: "group" }, element("summary", {}, element("bdi", {}, head), ` (${members.length}) `, element("output")));
      for (const k of members) group.append(this.makeSlider(k));
      group.members = members;
      place.append(group);
    }
    if (this.domains.length > 12) {
      byId("search-box").hidden = false;
      byId("search").addEventListener("input", () => this.find(byId("search").value.trim().toLowerCase()));
    }
  }

  find(words) {
    this.rows.forEach((row, k) => { row.box.hidden = !this.domains[k].toLowerCase().includes(words); });
    for (const group of byId("shares").querySelectorAll(".group")) {
      const found = group.members.some((k) => !this.rows[k].box.hidden);
      group.hidden = !found;
      group.open = Boolean(words) && found;
    }
  }

  makeSlider(k) {
    const id = `share-${k}`;
    const input = element("input", { type: "range", id, min: 0, max: 1000, step: 1 });
    const output = element("output", { for: id });
    const lock = element("input", { type: "checkbox", id: `lock-${k}` });
    lock.setAttribute("aria-label", `Lock ${this.domains[k]}`);
    const marks = drawn("svg", { "aria-hidden": "true" });
    const [low, high] = [this.told.limits.low[k], this.told.limits.high[k]];
    const known = [this.told.measured[0][k], this.told.measured[1][k]];
    const strip = (kind, from, to, y) => drawn("rect", { class: kind, x: `${100 * from}%`, width: `${Math.max(100 * (to - from), 0.4)}%`, y, height: 2.6 });
    marks.append(strip("known", ...known, 4));
    if (low > 0 || high < 1) marks.append(strip("allowed", low, high, 0));
    const beyond = element("p", { class: "beyond warn" });
    beyond.hidden = true;
    const box = element("div", { class: "slider" },
      element("label", { for: id }, element("bdi", {}, this.domains[k])), element("label", { class: "lock" }, lock, "lock"), output,
      element("div", { class: "track" }, input, marks), beyond);
    input.addEventListener("input", () => {
      this.weights = moveShare(this.weights, this.locked, k, input.valueAsNumber / 1000);
      this.kept = null;
      this.later(k);
    });
    lock.addEventListener("change", () => {
      if (lock.checked) this.locked.add(k);
      else this.locked.delete(k);
      this.showShares(-1);
    });
    this.rows[k] = { box, input, output, lock, beyond };
    return box;
  }

  makeScale() {
    const ranges = { active: [this.told.size_range, "active parameters"], tokens: [this.told.tokens_range, "training tokens"] };
    this.scaleRows = {};
    for (const [what, [fitted, words]] of Object.entries(ranges)) {
      const low = Math.log10(Math.min(fitted[0], this.scale[what]));
      const high = Math.log10(Math.max(fitted[1], this.scale[what]) * 10);
      const id = `scale-${what}`;
      const input = element("input", { type: "range", id, min: 0, max: 1000, step: 1 });
      const output = element("output", { for: id });
      const at = (x) => 100 * ((Math.log10(x) - low) / (high - low));
      const marks = drawn("svg", { "aria-hidden": "true" }, drawn("rect", { class: "known", x: `${at(fitted[0])}%`, width: `${at(fitted[1]) - at(fitted[0])}%`, y: 0, height: 2.6 }));
      const target = this.scale[what];
      input.value = Math.round(1000 * ((Math.log10(target) - low) / (high - low)));
      const start = input.value;
      input.addEventListener("input", () => {
        this.scale[what] = input.value === start ? target : 10 ** (low + ((high - low) * input.valueAsNumber) / 1000);
        this.later(-1);
      });
      byId("scale").append(element("div", { class: "slider" }, element("label", { for: id }, words), element("span"), output,
        element("div", { class: "track" }, input, marks)));
      this.scaleRows[what] = { input, output };
    }
  }

  makeCharts() {
    const { samples, trade } = this.told;
    const act = {
      show: (w) => {
        if (!this.kept) this.kept = Float64Array.from(this.weights);
        this.set(w);
      },
      take: (w) => {
        this.kept = null;
        this.set(w);
      },
      back: () => {
        if (this.kept) this.set(this.kept);
        this.kept = null;
      },
    };
    this.draws = [];
    const near = byId("near-chart");
    if (near && samples.length) {
      this.draws.push((width) => {
        near.replaceChildren();
        const fresh = near.cloneNode(false);
        near.replaceWith(fresh);
        return this.nearChart(fresh, width, samples, act);
      });
    }
    const front = byId("front-chart");
    if (front && trade) {
      this.draws.push((width) => {
        const place = byId("front-chart");
        const fresh = place.cloneNode(false);
        place.replaceWith(fresh);
        fresh.hidden = false;
        const choice = new Choice(fresh, `Trade-offs; arrow keys choose, the sliders follow`, act);
        frontChart(fresh, width, { ...trade, domains: this.domains }, choice);
        return null;
      });
    }
    let last = 0;
    this.resized = () => {
      const place = byId("near-chart") || byId("front-chart");
      const width = place ? Math.round(Math.min(place.parentElement.clientWidth, 860)) : 0;
      if (!width || Math.abs(width - last) < 2) return;
      last = width;
      this.current = this.draws.map((draw) => draw(width)).find((one) => one) || null;
      if (this.current) this.current(this.weights);
    };
    window.addEventListener("resize", () => this.resized());
  }

  nearChart(place, width, samples, act) {
    place.hidden = false;
    const choice = new Choice(place, "Mixtures nearly as good; arrow keys choose, the sliders follow", act);
    const given = { samples, best: this.told.best, reference: this.told.reference, measured: this.told.measured, domains: this.domains };
    const draw = this.domains.length === 3 ? triangle : parallelAxes;
    return draw(place, width, given, choice);
  }

  set(weights) {
    this.weights = Float64Array.from(weights);
    this.later(-1);
  }

  take(weights, words) {
    this.kept = null;
    this.set(weights);
    byId("status").textContent = `Sliders at ${words}`;
  }

  predictAs(corrected) {
    this.corrected = corrected;
    byId("as-decision").setAttribute("aria-pressed", String(!corrected));
    byId("as-forecast").setAttribute("aria-pressed", String(corrected));
    this.later(-1);
  }

  // Once a frame, however often sliders move
  later(held) {
    this.held = held;
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.update(this.held);
    });
  }

  update(held = -1) {
    const began = performance.now();
    this.showShares(held);
    this.showScale();
    const key = `${this.scale.active} ${this.scale.tokens}`;
    if (!this.known.has(key)) {
      this.known.clear();
      this.known.set(key, this.outlook.seen(this.recipe(Float64Array.from(this.told.reference))));
    }
    const recipe = this.recipe(this.weights);
    const all = this.outlook.compare(this.outlook.seen(recipe), this.known.get(key));
    this.showGain(all, recipe);
    this.showOutcomes(all, recipe);
    if (this.current) this.current(this.weights);
    this.milliseconds = performance.now() - began;
  }

  showShares(held) {
    this.rows.forEach((row, k) => {
      const w = this.weights[k];
      if (k !== held) row.input.value = Math.round(1000 * w);
      row.output.textContent = formatPercent(w);
      row.input.setAttribute("aria-valuetext", formatPercent(w));
      row.input.disabled = this.locked.has(k);
      const [low, high] = [this.told.limits.low[k], this.told.limits.high[k]];
      const outside = w > high + 5e-4 ? `above its limit of ${formatPercent(high)}` : w < low - 5e-4 ? `below its limit of ${formatPercent(low)}` : "";
      row.beyond.textContent = outside;
      row.beyond.hidden = !outside;
    });
    for (const group of byId("shares").querySelectorAll(".group")) {
      group.querySelector("output").textContent = formatPercent(group.members.reduce((sum, k) => sum + this.weights[k], 0));
    }
  }

  // What the charts show was found at the scale of the decision
  showWhere() {
    const { active, tokens } = this.told.target;
    const moved = this.scale.active !== active || this.scale.tokens !== tokens;
    const words = moved ? `Found for ${formatCount(active)} parameters on ${formatCount(tokens)} tokens, not for the size and tokens of the sliders.` : "";
    for (const id of ["near-where", "front-where"]) if (byId(id)) byId(id).textContent = words;
  }

  showScale() {
    this.showWhere();
    for (const [what, row] of Object.entries(this.scaleRows)) {
      row.output.textContent = formatCount(this.scale[what]);
      row.input.setAttribute("aria-valuetext", formatCount(this.scale[what]));
    }
  }

  showGain(all, recipe) {
    const { label, kind } = this.outlook.objective;
    const unit = kind === "accuracies" ? "share of 1" : "nats";
    const { gain } = all;
    byId("gain-label").textContent = `Gain in ${label} over the reference, ${unit}`;
    byId("gain").textContent = formatSigned(gain.point);
    const better = this.told.unmixed ? "" : `; better in ${(100 * all.better).toFixed(0)} % of draws`;
    byId("gain-text").textContent = `90 % interval ${formatSpan(gain.low, gain.high)}${better}`;
    const reach = 1.15 * Math.max(Math.abs(gain.low), Math.abs(gain.high), Math.abs(gain.point), this.widest || 1e-9);
    this.widest = Math.max(this.widest || 0, reach / 1.3);
    const at = (x) => `${50 + (48 * x) / reach}%`;
    const [from, to] = [0, gain.point].sort((a, b) => a - b);
    byId("gain-bar").replaceChildren(
      drawn("line", { class: "zero", x1: "50%", x2: "50%", y1: 2, y2: 32 }),
      drawn("rect", { class: gain.point >= 0 ? "better" : "worse", x: at(from), width: `${(48 * (to - from)) / reach}%`, y: 9, height: 16 }),
      drawn("line", { class: "whisker", x1: at(gain.low), x2: at(gain.high), y1: 17, y2: 17 }));
    const [low, high] = this.told.measured;
    const beyond = this.domains.map((_, k) => Math.max(this.weights[k] - high[k], low[k] - this.weights[k]));
    const outside = [...beyond.keys()].filter((k) => beyond[k] > 5e-4).sort((a, b) => beyond[b] - beyond[a]);
    const few = outside.slice(0, 3).map((k) => this.domains[k]).join(", ") + (outside.length > 3 ? ` and ${outside.length - 3} more` : "");
    byId("distance").textContent = `Nearest measured mixture: ${this.outlook.nearest(recipe.weights).toFixed(3)} away (distance of shares)`
      + (outside.length ? `; beyond measured shares: ${few}` : "");
  }

  showOutcomes(all, recipe) {
    const losses = this.corrected ? this.outlook.forecast(recipe) : all.losses;
    byId("kind").textContent = this.corrected
      ? "What a run would measure: corrected near measured mixtures, as camel-jax predict does."
      : "What mixtures are compared by, as camel-jax mix does.";
    fillTable(byId("losses"), "validation set", this.sets, losses, all.lossDifference, 3, -1);
    if (!this.outlook.accuracy) return;
    byId("accuracy-part").hidden = false;
    const accuracies = this.corrected ? this.outlook.accuracyForecast(recipe) : all.accuracies;
    const flags = this.outlook.accuracy.flags;
    const names = this.outlook.accuracy.tasks.map((task, t) => this.told.shown.tasks[t] + (flags[task] === "ok" ? "" : ` (${flags[task]})`));
    fillTable(byId("accuracies"), "task", names, accuracies, all.accuracyDifference, 3, 1);
  }

  copy() {
    const scale = { total: this.scale.active * this.ratio, ...this.scale };
    const text = asCommand(this.named, this.weights, scale, this.told.request.objective);
    const done = () => { byId("copied").textContent = "Copied: it asks for this mixture's prediction."; };
    const shown = () => { byId("copied").replaceChildren(element("code", {}, text)); };
    this.command = text;
    if (navigator.clipboard && window.isSecureContext) navigator.clipboard.writeText(text).then(done, shown);
    else shown();
  }

  download() {
    const weights = Object.fromEntries(roundShares(this.weights, 6).map((w, k) => [this.named[k], w]));
    const told = { size: this.scale.active, tokens: this.scale.tokens, domains: this.named, weights };
    const link = element("a", { href: URL.createObjectURL(new Blob([`${JSON.stringify(told, null, 2)}\n`], { type: "application/json" })), download: "mixture.json" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
}

function fillTable(table, what, names, values, differences, digits, good) {
  if (table.rows.length !== names.length + 1) {
    const head = element("tr", {}, ...[what, "predicted", "90 % interval", "to the reference"].map((x) => element("th", { scope: "col" }, x)));
    const rows = names.map((name) => element("tr", {}, element("th", { scope: "row" }, element("bdi", {}, name)), element("td"), element("td"), element("td")));
    table.replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
  }
  names.forEach((_, i) => {
    const cells = table.rows[i + 1].cells;
    cells[1].textContent = values.point[i].toFixed(digits);
    cells[2].textContent = `${values.low[i].toFixed(digits)} to ${values.high[i].toFixed(digits)}`;
    cells[3].textContent = formatSigned(differences.point[i], digits);
    cells[3].className = differences.low[i] * differences.high[i] <= 0 ? "" : differences.point[i] * good > 0 ? "sure-better" : "sure-worse";
  });
}

const play = new Play(JSON.parse(byId("data").textContent));
if (play.difference() < 1e-6) play.start();
else byId("play").replaceWith(element("p", { class: "warn" }, "This browser computes other numbers than those that this page was made with, so it does not move."));
window.decisionPage = Object.assign(play, { tools: { Outlook, unpackAll } });
