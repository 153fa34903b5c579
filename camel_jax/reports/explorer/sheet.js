// Shares that add up to one, numbers as people read them, and the command that asks for a mixture.

// Shares after domain i moves to x: what is not locked makes room in proportion, or alike where it has nothing.
function moveShare(weights, locked, i, x) {
  const out = Float64Array.from(weights);
  let held = 0;
  let free = 0;
  let count = 0;
  weights.forEach((w, k) => {
    if (k === i) return;
    if (locked.has(k)) held += w;
    else {
      free += w;
      count += 1;
    }
  });
  if (count === 0) return out;
  const share = Math.min(Math.max(x, 0), Math.max(1 - held, 0));
  const room = Math.max(1 - held - share, 0);
  out.forEach((w, k) => {
    if (k === i) out[k] = share;
    else if (!locked.has(k)) out[k] = free > 0 ? (w / free) * room : room / count;
  });
  return out;
}

function formatCount(value) {
  for (const [power, suffix] of [[12, "T"], [9, "B"], [6, "M"], [3, "K"]]) {
    if (value >= 0.9995 * 10 ** power) return `${Number((value / 10 ** power).toPrecision(3))}${suffix}`;
  }
  return `${Number(value.toPrecision(3))}`;
}

function formatPercent(share, digits = 1) {
  return share > 0 && share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(digits)} %`;
}

function formatSigned(value, digits = 4) {
  const text = Math.abs(value).toFixed(digits);
  return `${value < 0 ? "\u2212" : "+"}${text}`;
}

function formatSpan(low, high, digits = 4) {
  return `${formatSigned(low, digits)} to ${formatSigned(high, digits)}`;
}

function quoted(text) {
  return /^[A-Za-z0-9_.,:=+\/-]+$/.test(text) ? text : `'${text.replace(/'/g, `'\\''`)}'`;
}

// Shares with few digits that still add up to one: the largest takes what rounding leaves.
function roundShares(weights, digits = 4) {
  const out = Array.from(weights, (w) => Number(w.toFixed(digits)));
  const largest = out.indexOf(Math.max(...out));
  const rest = 1 - out.reduce((sum, w, k) => sum + (k === largest ? 0 : w), 0);
  out[largest] = Number(rest.toFixed(digits));
  return out;
}

function asCommand(domains, weights, scale, objective) {
  const count = (x) => String(Number(x.toPrecision(6)));
  const size = scale.total > scale.active ? `${count(scale.total)}-A${count(scale.active)}` : count(scale.active);
  const fixed = roundShares(weights).map((w, k) => `--fix ${quoted(`${domains[k]}=${w}`)}`);
  const goal = objective === "mean-loss" ? "" : ` --objective ${quoted(objective)}`;
  return `camel-jax mix fit.npz --size ${size} --tokens ${count(scale.tokens)}${goal} --near 0 ${fixed.join(" ")}`;
}

// Names that share a beginning, up to the first "/", "-", "_" or ".": groups of three or more, and the rest.
function groupNames(names) {
  const groups = new Map();
  names.forEach((name, k) => {
    const head = name.split(/[\/\-_.]/)[0];
    if (!groups.has(head)) groups.set(head, []);
    groups.get(head).push(k);
  });
  const out = [];
  const rest = [];
  for (const [head, members] of groups) {
    if (members.length >= 3 && members.length < names.length) out.push({ head, members });
    else rest.push(...members);
  }
  return { groups: out, rest: rest.sort((a, b) => a - b) };
}
