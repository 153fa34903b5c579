// What a fit says at a recipe, as in Python: the point, draws of it, intervals, accuracies and distances.

const EARLIEST = Math.log(100);
const NEAR = 0.2;
const LEAST_REST = 0.2;
const WAY = 0.5;

function earlyAmplitude(finished, logTokens, exponent) {
  const early = Math.log(Math.max(finished, 1e-300)) - logTokens;
  return Math.exp(exponent * Math.min(Math.max(early, 0), EARLIEST));
}

function squaredDistance(rows, at, weights) {
  let sum = 0;
  for (let k = 0; k < weights.length; k += 1) {
    const apart = rows.data[at * weights.length + k] - weights[k];
    sum += apart * apart;
  }
  return sum;
}

class Outlook {
  constructor(told) {
    Object.assign(this, told);
    this.center = makeLaw(told.law.center);
    this.members = makeLaw(told.law.members);
    const { draws, sets, domains } = told;
    this.slopes = normals(draws.slope_key, draws.count * sets.length * domains.length);
  }

  // The recipe in units of the table, with logarithms of its shares.
  scaled(recipe) {
    const { size, tokens } = this.units;
    return {
      total: recipe.total / size, active: recipe.active / size, tokens: recipe.tokens / tokens, weights: recipe.weights,
      supply: recipe.supply ? recipe.supply.map((x) => x / tokens) : null,
      logs: Float64Array.from(recipe.weights, (w) => Math.log(w)),
    };
  }

  // Logarithms of the losses of all members of a law, (count, V)
  memberLogs(law, count, recipe) {
    const scaled = this.scaled(recipe);
    const out = [];
    for (let m = 0; m < count; m += 1) {
      out.push(law(scaled, m).map((loss, v) => Math.log(loss * this.units.losses.data[v])));
    }
    return out;
  }

  leverage(recipe) {
    const d = this.discrepancy;
    const size = Math.max(Math.log(recipe.active) - Math.log(d.size), 0);
    const tokens = Math.max(Math.log(recipe.tokens) - Math.log(d.tokens), 0);
    return Math.sqrt(size ** 2 / (d.size_span ** 2 + d.width ** 2)
      + (d.tokens_share ** 2 * tokens ** 2) / (d.tokens_span ** 2 + d.width ** 2) + 1e-20);
  }

  nearest(weights) {
    let least = Infinity;
    const rows = this.discrepancy.mixtures;
    for (let g = 0; g < rows.shape[0]; g += 1) least = Math.min(least, squaredDistance(rows, g, weights));
    return Math.sqrt(least + 1e-20);
  }

  // Standard deviation of the log loss within the table, (V,)
  errorWithin(recipe) {
    const d = this.discrepancy;
    const near = Math.sqrt(1 + ((d.mixture_growth * this.nearest(recipe.weights)) / NEAR) ** 2);
    const early = earlyAmplitude(d.finished, Math.log(recipe.tokens), 0.4) / d.typical;
    return d.scale.data.map((x) => x * early * near);
  }

  // The correction near measured mixtures, (V,) in log loss
  fieldCorrection(recipe) {
    const f = this.field;
    const sets = this.sets.length;
    const out = new Float64Array(sets);
    if (!f) return out;
    const logSize = Math.log(recipe.active);
    const logTokens = Math.log(recipe.tokens);
    const here = earlyAmplitude(f.finished, logTokens, 0.5);
    const near = new Float64Array(f.mixtures.shape[0]);
    for (let g = 0; g < near.length; g += 1) {
      near[g] = Math.exp(-squaredDistance(f.mixtures, g, recipe.weights) / (2 * f.length ** 2));
    }
    for (let row = 0; row < f.which.data.length; row += 1) {
      const later = Math.exp(-Math.abs(logTokens - f.log_tokens.data[row]) / f.fade);
      const early = here * earlyAmplitude(f.finished, f.log_tokens.data[row], 0.5);
      const scale = Math.exp(-Math.abs(logSize - f.log_size.data[row]) / f.reach);
      const kernel = early * scale * (near[f.which.data[row]] * (f.steady + (1 - f.steady) * later) + f.common * later);
      if (kernel !== 0) for (let v = 0; v < sets; v += 1) out[v] += kernel * f.coefficients.data[row * sets + v];
    }
    return out;
  }

  // Mean over the center's members of the log losses, (V,)
  logCenter(recipe) {
    const logs = this.memberLogs(this.center, this.law.center_count, recipe);
    return Float64Array.from(this.sets, (_, v) => logs.reduce((sum, one) => sum + one[v], 0) / logs.length);
  }

  // Predicted losses, (V,): as decisions see them, or with the correction near measured mixtures as forecasts do. Beyond the table
  // corrections are shares of what the law falls there.
  point(recipe, corrected) {
    const d = this.discrepancy;
    const logs = this.logCenter(recipe);
    const beyond = recipe.active > d.size || recipe.tokens > d.tokens;
    const active = Math.min(recipe.active, d.size);
    const near = { ...recipe, total: recipe.total * (active / recipe.active), active, tokens: Math.min(recipe.tokens, d.tokens), supply: null };
    let fall = new Float64Array(logs.length);
    if (beyond) {
      const inside = this.logCenter(near);
      const fresh = recipe.supply ? this.logCenter({ ...recipe, supply: null }) : logs;
      fall = inside.map((x, v) => Math.max(x - fresh[v], 0));
    }
    const at = corrected ? this.fieldCorrection(recipe) : null;
    const inside = corrected && beyond ? this.fieldCorrection(near) : at;
    return logs.map((x, v) => {
      const field = corrected ? Math.min(at[v], inside[v] + d.field_share * fall[v]) : 0;
      return Math.exp(x + field + d.slowing.data[v] * fall[v]);
    });
  }

  // Deviations of the log losses of the members from their mean, (n, V), and their variance, (V,)
  spread(recipe) {
    const logs = this.memberLogs(this.members, this.law.member_count, recipe);
    const variance = new Float64Array(this.sets.length);
    for (let v = 0; v < variance.length; v += 1) {
      const mean = logs.reduce((sum, one) => sum + one[v], 0) / logs.length;
      for (const one of logs) {
        one[v] -= mean;
        variance[v] += one[v] ** 2 / logs.length;
      }
    }
    return { centered: logs, variance };
  }

  // Losses of every draw, flat (M, V)
  draw(recipe, point) {
    const { draws, discrepancy: d, domains } = this;
    const sets = this.sets.length;
    const count = domains.length;
    const { centered, variance } = this.spread(recipe);
    const z = Float64Array.from(recipe.weights, (w, k) => (w - d.mean.data[k]) / d.spread.data[k]);
    const within = this.errorWithin(recipe);
    const reach = this.leverage(recipe);
    const own = Math.sqrt(1 - d.mixture_share);
    const mix = Math.sqrt(d.mixture_share) / Math.sqrt(count);
    const error = new Float64Array(draws.count * sets);
    for (let at = 0; at < error.length; at += 1) {
      let mixed = 0;
      for (let k = 0; k < count; k += 1) mixed += this.slopes[at * count + k] * z[k];
      error[at] = within[at % sets] * (own * draws.bias.data[at] + mix * mixed) + reach * draws.beyond.data[at];
    }
    const out = new Float64Array(error.length);
    for (let v = 0; v < sets; v += 1) {
      let mean = 0;
      for (let at = v; at < error.length; at += sets) mean += error[at] / draws.count;
      let total = 1e-24;
      for (let at = v; at < error.length; at += sets) total += (error[at] - mean) ** 2 / draws.count;
      const rest = Math.sqrt(Math.max(1 - variance[v] / total, LEAST_REST ** 2));
      for (let m = 0; m < draws.count; m += 1) {
        const at = m * sets + v;
        out[at] = point[v] * Math.exp(centered[m % centered.length][v] + rest * (error[at] - mean));
      }
    }
    return out;
  }

  // The variance of the members, and beyond the table the square of the largest deviation on the way there, interpolated, (V,)
  varianceSoFar(recipe) {
    const d = this.discrepancy;
    const size = Math.max(Math.log(recipe.active) - Math.log(d.size), 0);
    const tokens = Math.max(Math.log(recipe.tokens) - Math.log(d.tokens), 0);
    const way = Math.hypot(size, tokens);
    if (way === 0) return this.spread(recipe).variance;
    const most = new Float64Array(this.sets.length);
    let before = most;
    for (let step = 0; step <= Math.ceil(way / WAY); step += 1) {
      const back = (step * WAY) / way - 1;
      const larger = Math.exp(back * size);
      const passed = { ...recipe, total: recipe.total * larger, active: recipe.active * larger, tokens: recipe.tokens * Math.exp(back * tokens) };
      before = most.slice();
      this.spread(passed).variance.forEach((x, v) => { most[v] = Math.max(most[v], Math.sqrt(x)); });
    }
    const part = way / WAY - Math.floor(way / WAY) || 1;
    return most.map((x, v) => (before[v] + part * (x - before[v])) ** 2);
  }

  // The interval of a measured loss, {point, low, high}, each (V,)
  forecast(recipe) {
    const point = this.point(recipe, true);
    const d = this.discrepancy;
    const variance = this.varianceSoFar(recipe);
    const within = this.errorWithin(recipe);
    const reach = this.leverage(recipe);
    const scenarios = d.weights.data.length;
    const sets = this.sets.length;
    const low = new Float64Array(sets);
    const high = new Float64Array(sets);
    for (let v = 0; v < sets; v += 1) {
      const means = [];
      const deviations = [];
      for (let h = 0; h < scenarios; h += 1) {
        means.push(reach * (d.common.data[h] + d.own.data[h * sets + v] - d.expected_slope.data[v]));
        const known = reach ** 2 * (d.common_variance.data[h] + d.own_variance.data[h]) + within[v] ** 2;
        deviations.push(Math.sqrt(Math.max(known, variance[v])));
      }
      const bound = (z, mass) => mixtureQuantile(means, deviations, d.weights.data, z, mass);
      low[v] = point[v] * Math.exp(Math.min(bound(-this.level.z, 0.5 - this.level.mass / 2), 0));
      high[v] = point[v] * Math.exp(Math.max(bound(this.level.z, 0.5 + this.level.mass / 2), 0));
    }
    return { point, low, high };
  }

  // Accuracies (T,) of one set of parameters of the benchmark law, from losses at `offset` of a flat array
  accuraciesOf(params, at, losses, offset) {
    const a = this.accuracy;
    const tasks = a.tasks.length;
    const read = a.columns.data.length;
    return Float64Array.from(a.tasks, (_, t) => {
      const row = at * tasks + t;
      let score = params.bias.data[row];
      for (let c = 0; c < read; c += 1) {
        const center = a.center.data[c];
        const scale = a.scale.data[c];
        const loss = Math.min(Math.max(losses[offset + a.columns.data[c]], center - 1e4 * scale), center + 1e4 * scale);
        score -= ((loss - center) / scale) * params.weights.data[row * read + c];
      }
      return params.floor.data[row] + (params.ceiling.data[row] - params.floor.data[row]) * sigmoid(score);
    });
  }

  accuracyPoint(losses) {
    return this.accuraciesOf(this.accuracy.params, 0, losses, 0);
  }

  // Accuracies of every draw, flat (M, T): the m-th losses, a refit and an error of the benchmark law
  accuracyDraws(losses, drawn) {
    const tasks = this.accuracy.tasks.length;
    const sets = this.sets.length;
    const rows = losses.length / sets;
    const out = new Float64Array(drawn.pick.data.length * tasks);
    for (let m = 0; m < drawn.pick.data.length; m += 1) {
      const one = this.accuraciesOf(this.accuracy.samples, drawn.pick.data[m], losses, (m % rows) * sets);
      for (let t = 0; t < tasks; t += 1) {
        out[m * tasks + t] = Math.min(Math.max(one[t] + drawn.error.data[m * tasks + t], 0), 1);
      }
    }
    return out;
  }

  // Central intervals of the columns of flat draws, (M, n)
  bounds(flat, columns) {
    const rows = flat.length / columns;
    const low = new Float64Array(columns);
    const high = new Float64Array(columns);
    const column = new Float64Array(rows);
    const levels = [0.5 - this.level.mass / 2, 0.5 + this.level.mass / 2];
    for (let c = 0; c < columns; c += 1) {
      for (let m = 0; m < rows; m += 1) column[m] = flat[m * columns + c];
      [low[c], high[c]] = quantiles(column, levels);
    }
    return { low, high };
  }

  // The interval of a measured accuracy, {point, low, high}, each (T,)
  accuracyForecast(recipe) {
    const losses = this.point(recipe, true);
    const point = this.accuracyPoint(losses);
    const flat = this.accuracyDraws(this.draw(recipe, losses), this.accuracy.forecast);
    const { low, high } = this.bounds(flat, point.length);
    return { point, low: low.map((x, t) => Math.min(x, point[t])), high: high.map((x, t) => Math.max(x, point[t])) };
  }

  // What decisions see of a recipe: points and draws of losses and accuracies, and the objective as a cost
  seen(recipe) {
    const point = this.point(recipe, false);
    const losses = this.draw(recipe, point);
    const accuracies = this.accuracy ? this.accuracyPoint(point) : null;
    const drawn = this.accuracy ? this.accuracyDraws(losses, this.accuracy.decision) : null;
    const { kind, weights, maximize } = this.objective;
    const values = kind === "accuracies" ? accuracies : point;
    const flat = kind === "accuracies" ? drawn : losses;
    const sign = maximize ? -1 : 1;
    const costs = new Float64Array(this.draws.count);
    let cost = 0;
    for (const [at, weight] of weights) {
      cost += sign * weight * values[at];
      for (let m = 0; m < costs.length; m += 1) costs[m] += sign * weight * flat[m * values.length + at];
    }
    return { point, losses, accuracies, drawn, cost, costs };
  }

  // Two recipes compared: outcome of the first, difference to the second, and the gain, all with intervals
  compare(one, other) {
    const sets = this.sets.length;
    const minus = (a, b) => a.map((x, i) => x - b[i]);
    const gains = Float64Array.from(one.costs, (x, m) => other.costs[m] - x);
    let better = 0;
    for (const x of gains) better += x > 0 ? 1 : x === 0 ? 0.5 : 0;
    const [low, high] = quantiles(Float64Array.from(gains), [0.5 - this.level.mass / 2, 0.5 + this.level.mass / 2]);
    const out = {
      gain: { point: other.cost - one.cost, low, high },
      better: better / gains.length,
      losses: { point: one.point, ...this.bounds(one.losses, sets) },
      lossDifference: { point: minus(one.point, other.point), ...this.bounds(minus(one.losses, other.losses), sets) },
    };
    if (this.accuracy) {
      const tasks = this.accuracy.tasks.length;
      out.accuracies = { point: one.accuracies, ...this.bounds(one.drawn, tasks) };
      out.accuracyDifference = {
        point: minus(one.accuracies, other.accuracies), ...this.bounds(minus(one.drawn, other.drawn), tasks),
      };
    }
    return out;
  }
}

// Quantile of a mixture of normals, by bisection; z is the quantile of the standard normal
function mixtureQuantile(means, deviations, weights, z, mass) {
  let low = Infinity;
  let high = -Infinity;
  for (let h = 0; h < means.length; h += 1) {
    const each = means[h] + z * deviations[h];
    low = Math.min(low, each);
    high = Math.max(high, each);
  }
  for (let step = 0; step < 30; step += 1) {
    const middle = 0.5 * (low + high);
    let below = 0;
    for (let h = 0; h < means.length; h += 1) below += weights[h] * normalBelow((middle - means[h]) / deviations[h]);
    if (below < mass) low = middle;
    else high = middle;
  }
  return 0.5 * (low + high);
}
