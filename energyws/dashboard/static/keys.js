/** The keys of the streams: which there are, and which the page asks for. */

// More would make a list that nobody reads.
const MOST = 200;

export class Keys {
  /** By stream. */
  #known = new Map();
  #chosen = [];

  /** Whether any stream has keys. */
  get areThere() {
    return this.#known.size > 0;
  }

  /** What the client asks for, by stream; undefined for all that the token allows. */
  get chosen() {
    if (this.#chosen.length === 0) return undefined;
    return Object.fromEntries([...this.#known.keys()].map((stream) => [stream, this.#chosen]));
  }

  choose(keys) {
    this.#chosen = keys;
  }

  /** A message as it came, before the client reads it. */
  heard({ type, stream, key, keys }) {
    if (type === 'subscribed') for (const each of Object.keys(keys ?? {})) this.#of(each);
    if (typeof key !== 'string') return;
    const known = this.#of(stream);
    if (known.size < MOST) known.add(key);
  }

  /** The keys to offer: those that came, and those that the token names. claims: its, or null. */
  known(claims) {
    const named = [claims?.keys ?? []].flat().map((each) => (each && typeof each === 'object' ? Object.values(each) : each));
    const exact = named.flat(2).filter((key) => typeof key === 'string' && !key.endsWith('*'));
    return [...new Set([...exact, ...[...this.#known.values()].flatMap((each) => [...each])])].sort();
  }

  #of(stream) {
    if (!this.#known.has(stream)) this.#known.set(stream, new Set());
    return this.#known.get(stream);
  }
}
