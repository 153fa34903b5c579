// The laws of the package, each as in Python: losses of all validation sets at one recipe, in units of the table.
// A recipe is {total, active, tokens, weights, supply}; supply is null, or unique tokens of every domain.
// A law is made from its parameters, arrays with a leading axis of members, and called with a recipe and a member.

const DEFAULT_REPEAT = 15.4;

function effectiveTokens(tokens, supply, repeat) {
  if (!(Number.isFinite(supply) && supply > 0) || tokens <= supply) return tokens;
  return supply * (1 - repeat * Math.expm1(-(tokens / supply - 1) / repeat));
}

function uniqueTokens(recipe, i) {
  const seen = recipe.weights[i] * recipe.tokens;
  return recipe.supply ? Math.min(seen, recipe.supply[i]) : seen;
}

function effectiveData(recipe, repeat) {
  if (!recipe.supply) return recipe.tokens;
  let sum = 0;
  for (let i = 0; i < recipe.weights.length; i += 1) {
    sum += effectiveTokens(recipe.weights[i] * recipe.tokens, recipe.supply[i], repeat);
  }
  return sum;
}

function effectiveSize(recipe, size, perToken, excess) {
  let sum = 0;
  for (let i = 0; i < recipe.weights.length; i += 1) {
    const useful = perToken * uniqueTokens(recipe, i);
    sum += effectiveTokens(recipe.weights[i] * size, useful > 0 ? useful : Infinity, excess);
  }
  return sum;
}

// p has ceiling, size, steepness, epochs and onset
function overfitting(recipe, size, p) {
  if (!recipe.supply) return 0;
  let sum = 0;
  for (let i = 0; i < recipe.weights.length; i += 1) {
    const unique = uniqueTokens(recipe, i);
    const repeats = unique === 0 ? 0 : Math.max((recipe.weights[i] * recipe.tokens) / unique - 1, 0);
    const ratio = unique === 0 ? 0 : (recipe.weights[i] * size) / unique;
    const many = sigmoid(p.steepness * (Math.log(ratio > 0 ? ratio : 1) - Math.log(p.size)));
    const again = -Math.expm1(-repeats / p.epochs);
    sum += p.ceiling * recipe.weights[i] * many * (again > 0 ? Math.exp(p.onset * Math.log(again)) : 0);
  }
  return sum;
}

function overfittingAt(params, recipe, size, at, ceilingAt) {
  if (!params.overfit_size) return 0;
  const of = (name, i) => params[`overfit_${name}`].data[i];
  return overfitting(recipe, size, {
    ceiling: of("ceiling", ceilingAt), size: of("size", at), steepness: of("steepness", at), epochs: of("epochs", at),
    onset: of("onset", at),
  });
}

// Size and data term of a separable law, joined; scales may be those of the joint form of SODM.
function joinedTerms(params, recipe, at, scales) {
  const has = (name) => params[`${name}_scale`] || (scales && name in scales);
  const scale = (name) => (scales && name in scales ? scales[name] : params[`${name}_scale`].data[at]);
  const terms = [];
  if (has("size")) {
    const worth = params.size_per_token
      ? effectiveSize(recipe, recipe.active, params.size_per_token.data[at], params.excess.data[at]) : recipe.active;
    terms.push(Math.log(scale("size")) - params.size_exponent.data[at] * Math.log(worth));
  }
  if (has("data")) {
    const seen = effectiveData(recipe, params.repeat ? params.repeat.data[at] : DEFAULT_REPEAT);
    terms.push(Math.log(scale("data")) - params.data_exponent.data[at] * Math.log(seen));
  }
  if (!terms.length) return 0;
  if (params.coupling) {
    const p = params.coupling.data[at];
    return Math.exp((terms.length === 2 ? logAddExp(p * terms[0], p * terms[1]) : p * terms[0]) / p);
  }
  return terms.reduce((sum, term) => sum + Math.exp(term), 0);
}

// A separable law: `mixture(at, recipe)` gives what it adds, `finish` what becomes of the sum, `scales` those of the terms.
function separable(params, { mixture, finish, scales }) {
  const sets = params.floor.shape[1];
  return (recipe, member) => {
    const out = new Float64Array(sets);
    for (let v = 0; v < sets; v += 1) {
      const at = member * sets + v;
      const joint = joinedTerms(params, recipe, at, scales ? scales(at, recipe) : null);
      const lost = overfittingAt(params, recipe, recipe.active, at, at);
      const sum = params.floor.data[at] + (mixture ? mixture(at, recipe) : 0) + joint + lost;
      out[v] = finish ? finish(sum, at, recipe) : sum;
    }
    return out;
  };
}

function sodmDemand(params, at, recipe) {
  const count = recipe.weights.length;
  let sum = 0;
  for (let i = 0; i < count; i += 1) {
    if (recipe.weights[i] > 0) {
      sum += params.mixture_scale.data[at * count + i]
        * Math.exp(params.mixture_exponent.data[at * count + i] * recipe.logs[i]);
    }
  }
  return sum;
}

function linear(array, at, weights) {
  let sum = 0;
  for (let i = 0; i < weights.length; i += 1) sum += array.data[at * weights.length + i] * weights[i];
  return sum;
}

function power(base, exponent) {
  return base > 0 ? Math.exp(exponent * Math.log(base)) : 0;
}

function sodmScales(params) {
  return (at, recipe) => {
    const out = {};
    for (const term of ["size", "data"]) {
      if (params[`${term}_mixture`]) {
        out[term] = power(0.2 * linear(params[`${term}_mixture`], at, recipe.weights), params[`${term}_power`].data[at]);
      }
    }
    return out;
  };
}

const SMALLEST = 1e-4;

function concaveFactor(sum, params, at, recipe) {
  const count = recipe.weights.length;
  const g = params.power.data[at];
  const middle = (1 / count + SMALLEST) ** g;
  let effect = 0;
  for (let i = 0; i < count; i += 1) {
    effect += params.slope.data[at * count + i] * ((recipe.weights[i] + SMALLEST) ** g - middle);
  }
  return sum * Math.exp(effect);
}

// Capacities of the skills in log: the closed form, or the exact split by Newton's method on a convex falling function.
function allocate(price, exponents, logCapacity, exact) {
  const count = price.length;
  const out = new Float64Array(count);
  if (!exact) {
    const mean = exponents.reduce((a, b) => a + b, 0) / count;
    const logZ = logSumExp(price.map((c) => c / (1 + mean)));
    const finite = logZ === -Infinity ? 0 : logZ;
    for (let s = 0; s < count; s += 1) {
      out[s] = (price[s] + (1 + mean) * (logCapacity - finite)) / (1 + exponents[s]);
    }
    return out;
  }
  let nu = -Infinity;
  for (let s = 0; s < count; s += 1) nu = Math.max(nu, price[s] - logCapacity * (1 + exponents[s]));
  for (let step = 0; step < 100; step += 1) {
    let top = -Infinity;
    for (let s = 0; s < count; s += 1) {
      out[s] = (price[s] - nu) / (1 + exponents[s]);
      top = Math.max(top, out[s]);
    }
    let sum = 0;
    let slope = 0;
    for (let s = 0; s < count; s += 1) {
      const part = Math.exp(out[s] - top);
      sum += part;
      slope -= part / (1 + exponents[s]);
    }
    const move = -(top + Math.log(sum) - logCapacity) / (slope / sum);
    nu += move;
    if (Math.abs(move) < 1e-14 * (1 + Math.abs(nu))) break;
  }
  for (let s = 0; s < count; s += 1) out[s] = (price[s] - nu) / (1 + exponents[s]);
  return out;
}

function camel(params, settings) {
  const [, domains, skills] = params.transfer.shape;
  const sets = params.floors.shape[1];
  const r = params.repetition || {};
  const repeats = Boolean(r.size_per_token);
  return (recipe, member) => {
    const alpha = params.capacity_exponents.data.subarray(member * skills, (member + 1) * skills);
    const transfer = params.transfer.data.subarray(member * domains * skills, (member + 1) * domains * skills);
    const ask = (shares) => {
      const out = new Float64Array(skills);
      for (let i = 0; i < domains; i += 1) {
        if (shares[i] !== 0) for (let s = 0; s < skills; s += 1) out[s] += shares[i] * transfer[i * skills + s];
      }
      return out;
    };
    const demand = ask(recipe.weights);
    const rho = params.active_share.data[member];
    const plain = rho * Math.log(recipe.active) + (1 - rho) * Math.log(recipe.total);
    const logCapacity = repeats
      ? Math.log(effectiveSize(recipe, Math.exp(plain), r.size_per_token.data[member], r.excess.data[member])) : plain;
    const price = new Float64Array(skills);
    for (let s = 0; s < skills; s += 1) {
      price[s] = Math.log(demand[s]) + Math.log(params.amplitudes.data[member * skills + s]) + Math.log(alpha[s]);
    }
    const logM = allocate(price, alpha, logCapacity, settings.exact);
    let seen = demand.map((q) => q * recipe.tokens);
    if (recipe.supply) {
      const repeat = params.repeat.data[member];
      seen = ask(recipe.weights.map((w, i) => effectiveTokens(w * recipe.tokens, recipe.supply[i], repeat)));
    }
    const terms = new Float64Array(skills);
    for (let s = 0; s < skills; s += 1) {
      const at = member * skills + s;
      const p = params.couplings.data[at];
      const data = Math.log(params.data_scales.data[at]) - params.data_exponents.data[at] * Math.log(seen[s]);
      terms[s] = Math.exp(logAddExp(-p * alpha[s] * logM[s], p * data) / p);
    }
    const out = new Float64Array(sets);
    for (let v = 0; v < sets; v += 1) {
      const at = member * sets + v;
      let sum = params.floors.data[at];
      for (let s = 0; s < skills; s += 1) sum += params.coefficients.data[at * skills + s] * terms[s];
      out[v] = repeats ? sum + overfittingAt(r, recipe, Math.exp(plain), member, at) : sum;
    }
    return out;
  };
}

// CAMEL in the setting of its paper: one skill a domain, and a leak between them.
function camelPaper(p) {
  const skills = p.amplitudes.shape[1];
  const sets = p.floors.shape[1];
  return (recipe, member) => {
    const row = (array) => array.data.subarray(member * skills, (member + 1) * skills);
    const [alpha, beta, amplitudes] = [p.capacity_exponents, p.data_exponents, p.amplitudes].map(row);
    const leak = p.leak.data[member];
    const demand = recipe.weights.map((w) => (1 - leak) * w + leak / skills);
    const size = p.size_per_token
      ? effectiveSize(recipe, recipe.active, p.size_per_token.data[member], p.excess.data[member]) : recipe.active;
    const price = Float64Array.from(demand, (q, s) => Math.log(q) + Math.log(amplitudes[s]) + Math.log(alpha[s]));
    const logM = allocate(price, alpha, Math.log(size), false);
    let seen = demand.map((q) => q * recipe.tokens);
    if (recipe.supply) {
      const repeat = p.repeat ? p.repeat.data[member] : DEFAULT_REPEAT;
      const own = Array.from(recipe.weights, (w, i) => effectiveTokens(w * recipe.tokens, recipe.supply[i], repeat));
      const mean = own.reduce((a, b) => a + b, 0) / own.length;
      seen = own.map((x) => (1 - leak) * x + leak * mean);
    }
    return Float64Array.from({ length: sets }, (_, v) => {
      const at = member * sets + v;
      let sum = p.floors.data[at] + overfittingAt(p, recipe, recipe.active, member, at);
      for (let s = 0; s < skills; s += 1) {
        sum += p.capacity_coefficients.data[at * skills + s] * Math.exp(-alpha[s] * logM[s]);
        sum += p.data_coefficients.data[at * skills + s] * Math.exp(-beta[s] * Math.log(seen[s]));
      }
      return sum;
    });
  };
}

// The recipe at which a part is compared with the first: that of the table where the part has no term of size or of tokens.
function asKnown(params, recipe) {
  if (!params.floor) return recipe;
  const out = { ...recipe };
  if (!params.size_scale && !params.size_mixture) {
    out.total = recipe.total / recipe.active;
    out.active = 1;
  }
  if (!params.data_scale && !params.data_mixture) out.tokens = 1;
  return out;
}

function blend(law) {
  const [first, ...others] = law.parts.map(makeLaw);
  const count = others.length;
  return (recipe, member) => {
    const logs = first(recipe, member).map(Math.log);
    const said = Float64Array.from(logs);
    others.forEach((other, i) => {
      const share = law.params.share.data[member * count + i];
      if (share === 0) return;
      const near = asKnown(law.parts[i + 1].params, recipe);
      const base = near.active === recipe.active && near.tokens === recipe.tokens ? logs : first(near, member).map(Math.log);
      other(near, member).forEach((loss, v) => { said[v] += share * (Math.log(loss) - base[v]); });
    });
    return said.map(Math.exp);
  };
}

// A law from its description {name, settings, params, parts}.
function makeLaw(law) {
  const p = law.params;
  switch (law.name) {
    case "camel":
      return camel(p, law.settings);
    case "camel_paper":
      return camelPaper(p);
    case "chinchilla":
      return separable(p, {});
    case "dml":
      return separable(p, {
        mixture: (at, recipe) => p.mixture_scale.data[at] * Math.exp(linear(p.mixture_slope, at, recipe.weights)),
      });
    case "sodm":
    case "sodm_joint":
      return separable(p, {
        mixture: (at, recipe) => 1 / sodmDemand(p, at, recipe), scales: law.name === "sodm" ? null : sodmScales(p),
      });
    case "concave":
      return separable(p, { finish: (sum, at, recipe) => concaveFactor(sum, p, at, recipe) });
    case "blend":
      return blend(law);
    default:
      throw new Error(`no evaluator of the law ${law.name}`);
  }
}
