/** What the page has received: series by meter, and the figures of the proof. Times: Unix ms. */

import { at, drawable, nameIn, phases } from './readings.js';

const KEEP_MS = 3_600_000;
const DELAYS = 2_000;
// A pause of this many usual ones breaks the line.
const BREAK = 3.5;

/** The readings of one meter in the last hour. */
export class Meter {
  times = [];
  values = [];
  /** The highest value so far, for the gauge's end. */
  most = 0;
  phases = [];
  data = null;
  #first = 0;

  constructor(key, name, stream) {
    Object.assign(this, { key, name, stream });
  }

  get latest() {
    return this.values.at(-1) ?? null;
  }

  get at() {
    return this.times.at(-1) ?? null;
  }

  add(time, value, data, path) {
    // Partitions are interleaved, so that a record may be older than the one before it.
    let index = this.times.length;
    while (index > 0 && this.times[index - 1] > time) index -= 1;
    if (index === this.times.length) {
      this.data = data;
      this.phases = phases(data, path);
      this.times.push(time);
      this.values.push(value);
    } else {
      this.times.splice(index, 0, time);
      this.values.splice(index, 0, value);
    }
    this.most = Math.max(this.most, Math.abs(value));
    // Cut in large pieces: each cut copies the rest.
    const oldest = this.times.at(-1) - KEEP_MS;
    while (this.times[this.#first] < oldest) this.#first += 1;
    if (this.#first > 1_000) {
      this.times.splice(0, this.#first);
      this.values.splice(0, this.#first);
      this.#first = 0;
    }
  }

  /**
   * The means of `count` buckets of `step` ms from `begin`: undefined where a bucket has no reading,
   * null where the line breaks because none came for much longer than usual.
   */
  buckets(begin, step, count) {
    const sums = new Array(count).fill(0);
    const found = new Array(count).fill(0);
    const out = new Array(count).fill(undefined);
    // The usual time between two readings, which may change: a moving mean that a pause hardly moves.
    let usual = Infinity;
    let last = -1;
    for (let index = lowerBound(this.times, begin); index < this.times.length; index += 1) {
      const bucket = Math.floor((this.times[index] - begin) / step);
      if (bucket >= count) break;
      const pause = index > 0 ? this.times[index] - this.times[index - 1] : 0;
      if (last >= 0 && pause > BREAK * Math.max(usual, step)) out.fill(null, last + 1, bucket);
      if (pause > 0) {
        usual = usual === Infinity ? pause : 0.8 * usual + 0.2 * Math.min(pause, 4 * usual);
      }
      sums[bucket] += this.values[index];
      found[bucket] += 1;
      last = bucket;
    }
    found.forEach((n, bucket) => {
      if (n > 0) out[bucket] = sums[bucket] / n;
    });
    return out;
  }
}

function lowerBound(sorted, value) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** All meters. `path`: the value that is drawn, null until a reading has one. */
export class Meters {
  path = null;
  paths = [];
  #meters = new Map();

  /** By name. */
  get list() {
    return [...this.#meters.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  get(key) {
    return this.#meters.get(key) ?? null;
  }

  /** Draws another value, from the readings to come. */
  choose(path) {
    this.path = path;
    this.clear();
  }

  clear() {
    this.#meters.clear();
  }

  /** The meter of a reading; null where the reading has no number to draw. */
  add(stream, time, data, recordKey) {
    if (this.path === null || at(data, this.path) === null) {
      const paths = drawable(data);
      for (const path of paths) if (!this.paths.includes(path)) this.paths.push(path);
      this.path ??= paths[0] ?? null;
    }
    const value = this.path === null ? null : at(data, this.path);
    if (value === null) return null;
    const name = nameIn(data) ?? recordKey ?? stream;
    const key = `${stream}/${recordKey ?? name}`;
    let meter = this.#meters.get(key);
    if (meter === undefined) this.#meters.set(key, (meter = new Meter(key, name, stream)));
    meter.add(time, value, data, this.path);
    return meter;
  }
}

/** The newest delays, and their quantiles. */
export class Delays {
  #values = [];
  #next = 0;

  get count() {
    return this.#values.length;
  }

  add(ms) {
    this.#values[this.#next] = ms;
    this.#next = (this.#next + 1) % DELAYS;
  }

  /** The nearest-rank quantile, 0 < share <= 1; null without any delay. */
  quantile(share) {
    if (this.#values.length === 0) return null;
    const sorted = Float64Array.from(this.#values).sort();
    return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  }
}

/**
 * The service's clock, seen from here: the offset of the quickest of the last answers.
 *
 * An answer only tells that the offset is within half of its round trip (RFC 5905 section 8): where
 * zero is within, as on one machine, the clocks count as equal.
 */
export class Clock {
  #answers = [];

  /** sent, came: by this clock; told: by the service's. */
  add(sent, came, told) {
    this.#answers = [...this.#answers.slice(-7), { trip: came - sent, offset: told - (sent + came) / 2 }];
  }

  get offset() {
    const [best] = [...this.#answers].sort((a, b) => a.trip - b.trip);
    return best && Math.abs(best.offset) > best.trip / 2 ? best.offset : 0;
  }
}
