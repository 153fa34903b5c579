// Arithmetic that laws and intervals need: arrays out of text, special functions, normal numbers from a key.

function bytesOf(text) {
  const raw = atob(text);
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) out[i] = raw.charCodeAt(i);
  return out;
}

// An array {shape, data} from its packed form: base64 of little-endian numbers, "f48" being the upper six bytes of a double, "f24" and "f16"
// the upper three and two of a single.
function unpack(packed) {
  const bytes = bytesOf(packed.data);
  const little = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
  const width = { f64: 8, f48: 6, f32: 4, f24: 3, f16: 2, i32: 4 }[packed.kind];
  const count = bytes.length / width;
  let data;
  if (packed.kind === "f64" && little) {
    data = new Float64Array(bytes.buffer, 0, count);
  } else {
    const view = new DataView(bytes.buffer);
    data = new Float64Array(count);
    const whole = new DataView(new ArrayBuffer(8));
    for (let i = 0; i < count; i += 1) {
      if (packed.kind === "f32") data[i] = view.getFloat32(4 * i, true);
      else if (packed.kind === "i32") data[i] = view.getInt32(4 * i, true);
      else if (packed.kind === "f64") data[i] = view.getFloat64(8 * i, true);
      else if (width < 4) {
        for (let b = 0; b < width; b += 1) whole.setUint8(4 - width + b, bytes[width * i + b]);
        data[i] = whole.getFloat32(0, true);
      } else {
        for (let b = 0; b < 6; b += 1) whole.setUint8(b + 2, bytes[6 * i + b]);
        data[i] = whole.getFloat64(0, true);
      }
    }
  }
  return { shape: packed.shape, data };
}

// Every packed array in nested plain data, unpacked in place of itself.
function unpackAll(value) {
  if (value === null || typeof value !== "object") return value;
  if (typeof value.data === "string" && value.kind) return unpack(value);
  if (Array.isArray(value)) return value.map(unpackAll);
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, unpackAll(one)]));
}

// log(exp(a) + exp(b)); either may be minus infinity
function logAddExp(a, b) {
  const top = Math.max(a, b);
  return top === -Infinity ? -Infinity : top + Math.log(Math.exp(a - top) + Math.exp(b - top));
}

function logSumExp(terms) {
  let top = -Infinity;
  for (const x of terms) if (x > top) top = x;
  if (top === -Infinity) return top;
  let sum = 0;
  for (const x of terms) sum += Math.exp(x - top);
  return top + Math.log(sum);
}

function sigmoid(x) {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
}

// The normal distribution function: a series near zero, a continued fraction in the tails, both to the last digits.
function normalBelow(x) {
  const z = Math.abs(x);
  if (!(z < 38)) return x > 0 ? 1 : x < 0 ? 0 : NaN;
  const density = Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI);
  if (z < 2.6) {
    let term = z;
    let sum = z;
    for (let k = 3; Math.abs(term) > 1e-18 * sum; k += 2) {
      term *= (z * z) / k;
      sum += term;
      if (term === 0) break;
    }
    const half = density * sum;
    return x >= 0 ? 0.5 + half : 0.5 - half;
  }
  let fraction = 0;
  for (let k = 60; k > 0; k -= 1) fraction = k / (z + fraction);
  const tail = density / (z + fraction);
  return x > 0 ? 1 - tail : tail;
}

const ERFINV = [
  [-3.6444120640178196996e-21, -1.685059138182016589e-19, 1.2858480715256400167e-18, 1.115787767802518096e-17,
    -1.333171662854620906e-16, 2.0972767875968561637e-17, 6.6376381343583238325e-15, -4.0545662729752068639e-14,
    -8.1519341976054721522e-14, 2.6335093153082322977e-12, -1.2975133253453532498e-11, -5.4154120542946279317e-11,
    1.051212273321532285e-9, -4.1126339803469836976e-9, -2.9070369957882005086e-8, 4.2347877827932403518e-7,
    -1.3654692000834678645e-6, -1.3882523362786468719e-5, 0.0001867342080340571352, -0.00074070253416626697512,
    -0.0060336708714301490533, 0.24015818242558961693, 1.6536545626831027356],
  [2.2137376921775787049e-9, 9.0756561938885390979e-8, -2.7517406297064545428e-7, 1.8239629214389227755e-8,
    1.5027403968909827627e-6, -4.013867526981545969e-6, 2.9234449089955446044e-6, 1.2475304481671778723e-5,
    -4.7318229009055733981e-5, 6.8284851459573175448e-5, 2.4031110387097893999e-5, -0.0003550375203628474796,
    0.00095328937973738049703, -0.0016882755560235047313, 0.0024914420961078508066, -0.0037512085075692412107,
    0.005370914553590063617, 1.0052589676941592334, 3.0838856104922207635],
  [-2.7109920616438573243e-11, -2.5556418169965252055e-10, 1.5076572693500548083e-9, -3.7894654401267369937e-9,
    7.6157012080783393804e-9, -1.4960026627149240478e-8, 2.9147953450901080826e-8, -6.7711997758452339498e-8,
    2.2900482228026654717e-7, -9.9298272942317002539e-7, 4.5260625972231537039e-6, -1.9681778105531670567e-5,
    7.5995277030017761139e-5, -0.00021503011930044477347, -0.00013871931833623122026, 1.0103004648645343977,
    4.8499064014085844221],
];

// The inverse of the error function (M. Giles, "Approximating the erfinv function", 2010), as XLA has it.
function erfInv(x) {
  const w = -Math.log1p(-x * x);
  const part = w < 6.25 ? 0 : w < 16 ? 1 : 2;
  const at = part === 0 ? w - 3.125 : Math.sqrt(w) - (part === 1 ? 3.25 : 5);
  let p = 0;
  for (const c of ERFINV[part]) p = c + p * at;
  return p * x;
}

const ROTATIONS = [[13, 15, 26, 6], [17, 29, 16, 24]];
const hashed = new Uint32Array(2);

// Threefry-2x32 with 20 rounds (Salmon et al. 2011), the generator of jax.random; the result lies in `hashed`.
function threefry(k0, k1, x0, x1) {
  const keys = [k0, k1, k0 ^ k1 ^ 0x1bd11bda];
  let a = (x0 + k0) | 0;
  let b = (x1 + k1) | 0;
  for (let round = 0; round < 5; round += 1) {
    for (const r of ROTATIONS[round % 2]) {
      a = (a + b) | 0;
      b = ((b << r) | (b >>> (32 - r))) ^ a;
    }
    a = (a + keys[(round + 1) % 3]) | 0;
    b = (b + keys[(round + 2) % 3] + round + 1) | 0;
  }
  hashed[0] = a;
  hashed[1] = b;
}

// The first numbers of jax.random.normal(key, shape) in double precision, in the order of its elements.
function normals(key, count) {
  const out = new Float64Array(count);
  const low = -1 + 2 ** -53;
  for (let i = 0; i < count; i += 1) {
    threefry(key[0] | 0, key[1] | 0, Math.floor(i / 4294967296), i | 0);
    const unit = (hashed[0] * 1048576 + (hashed[1] >>> 12)) * 2 ** -52;
    out[i] = Math.SQRT2 * erfInv(Math.max(low, unit * 2 + low));
  }
  return out;
}

// Quantiles of numbers, interpolated as numpy does; the array is sorted in place.
function quantiles(values, levels) {
  values.sort();
  return levels.map((p) => {
    const at = p * (values.length - 1);
    const i = Math.min(Math.floor(at), values.length - 2);
    return values.length < 2 ? values[0] : values[i] + (values[i + 1] - values[i]) * (at - i);
  });
}
