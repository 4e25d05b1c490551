/**
 * A client that reconnects, resumes, and reports the readings that it missed.
 *
 *     const client = new EnergyClient('/ws/energy', { token: fetchToken });
 *     for await (const message of client) {
 *       if (message.kind === 'reading') show(message.timestamp, message.data);
 *       else warn(message.missed, message.reason);
 *     }
 *
 * energyws.d.ts documents it; its protocol is docs/protocol.md in the repository.
 *
 * @typedef {import('./energyws.js').Removed} Removed
 * @typedef {import('./energyws.js').EnergyClient<Record<string, unknown>, Removed>} Contract
 * @typedef {import('./energyws.js').Keys} Keys
 * @typedef {import('./energyws.js').Message | Removed} Message
 * @typedef {import('./energyws.js').Options} Options
 * @typedef {import('./energyws.js').Snapshot} Snapshot
 * @typedef {import('./energyws.js').Socket} Socket
 * @typedef {import('./energyws.js').State} State
 */

const BACKOFF_FIRST_MS = 250;
const BACKOFF_MAX_MS = 15_000;
const CONNECT_MS = 10_000;
// After this long without a message the client sends a `ping` message; after this long again, the
// connection is half open. Browsers do not show WebSocket pings.
const SILENCE_MS = 20_000;
// What is queued for the application. A WebSocket cannot be left unread: beyond these limits it is
// closed, and the client resumes once the queue is consumed. Node may read hundreds at once.
const QUEUE_MESSAGES = 5_000;
const QUEUE_CHARACTERS = 8 << 20;

// Stands for every key that the token allows.
const ALL = '*';

const SUBPROTOCOL = 'energyws';
// RFC 9110 section 5.6.2: the characters of a subprotocol; a JWT has no others.
const SUBPROTOCOL_TEXT = /^[\w!#$%&'*+.^`|~-]+$/;
// Close codes, and HTTP statuses where the WebSocket shows them, that every attempt would get.
const FATAL = new Set([1002, 1007, 1009, 4403, 403, 404]);
const UNAUTHORIZED = new Set([4401, 401]);
// The subscription cannot work on any connection.
const FATAL_ERRORS = new Set([
  'UNKNOWN_STREAM',
  'FORBIDDEN_STREAM',
  'BAD_MESSAGE',
  'FORBIDDEN_KEY',
  'NOT_KEYED',
  'TOO_MANY_KEYS',
  'SNAPSHOT_UNAVAILABLE',
  // The client's own: the service does not confirm the keys, and would send other records as well.
  'NOT_FILTERED',
]);
// What is queued for the application, besides `subscribed`.
const QUEUED = new Set(['data', 'lagged', 'snapshot', 'removed', 'position']);
// RFC 6455 section 7.4.1; abnormal: the connection ended without a close frame.
const NORMAL = 1000;
const ABNORMAL = 1006;

// Of a position, as in the service.
const MAX_OFFSET = '9223372036854775807';
const MAX_PARTITIONS = 1024;
const POSITION = /^([0-9a-f]{1,16})-((?:0|[1-9]\d{0,18})(?:\.(?:0|[1-9]\d{0,18}))*)$/;

export class Refused extends Error {
  /**
   * @param {string} message
   * @param {string | null} code
   * @param {number | null} close
   */
  constructor(message, code = null, close = null) {
    super(message);
    this.name = 'Refused';
    this.code = code;
    this.close = close;
  }
}

/** @implements {Contract} */
export class EnergyClient {
  #url;
  #options;
  #WebSocket;
  #keys;
  /** @type {Map<string, string>} */
  #positions;
  /** @type {Map<string, Snapshot>} */
  #snapshots = new Map();
  #conflated = 0;
  /** @type {State} */
  #state = 'idle';
  /** @type {Run | null} */
  #run = null;
  #closed = false;
  #connects = 0;
  #failures = 0;
  #unauthorized = false;

  /**
   * @param {string | URL} url
   * @param {Options} options
   */
  constructor(url, options = {}) {
    const { streams = ['energy'], keys, resume = {}, since, last } = options;
    const { WebSocket = globalThis.WebSocket } = options;
    if (WebSocket === undefined) {
      throw new TypeError(
        'there is no WebSocket here: use Node >= 22, or start Node 20 with ' +
          '--experimental-websocket, or pass that of the package ws as options.WebSocket',
      );
    }
    const starts = [Object.keys(resume).length > 0, since !== undefined, last !== undefined];
    if (starts.filter(Boolean).length > 1) {
      throw new TypeError('resume, since and last exclude each other');
    }
    this.#url = webSocketUrl(url);
    this.#options = options;
    this.#keys = keysByStream(keys, streams);
    this.#WebSocket = WebSocket;
    this.#positions = new Map(Object.entries(resume));
  }

  get state() {
    return this.#state;
  }

  get connects() {
    return this.#connects;
  }

  get positions() {
    return Object.fromEntries(this.#positions);
  }

  get snapshots() {
    return Object.fromEntries(this.#snapshots);
  }

  get conflated() {
    return this.#conflated;
  }

  close() {
    this.#closed = true;
    this.#run?.stop();
  }

  [Symbol.asyncIterator]() {
    const run = new Run();
    const messages = this.#messages(run);
    return {
      next: () => messages.next(),
      // The generator's own `return` would wait for the next message first.
      return: () => {
        run.stop();
        return messages.return(undefined);
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  /**
   * @param {Run} run
   * @returns {AsyncGenerator<Message, void, undefined>}
   */
  async *#messages(run) {
    if (this.#closed) return;
    if (this.#run !== null) throw new Error('this client is being iterated already');
    this.#run = run;
    try {
      while (!run.stopped) {
        this.#enter('connecting');
        const connection = await this.#connect(run);
        while (!run.stopped) {
          const message = await connection.next();
          if (message === null || run.stopped) break;
          yield* this.#interpret(message);
        }
        if (!run.stopped) await run.sleep(this.#judge(connection));
      }
    } finally {
      run.stop();
      this.#run = null;
      this.#enter('idle');
    }
  }

  /** @param {Run} run */
  async #connect(run) {
    /** @type {Connection} */
    const connection = new Connection(
      (message) => this.#arrived(connection, message),
      () => this.#enter('waiting', connection.why),
    );
    run.stops = () => connection.abandon();
    let token;
    try {
      token = await run.unlessStopped(this.#freshToken());
    } catch (error) {
      if (error instanceof Refused) throw error;
      connection.end(ABNORMAL, `no token: ${error}`);
    }
    if (connection.ended) return connection;
    const protocols = [SUBPROTOCOL];
    if (token !== undefined && token !== null) {
      // Checked here, because the error of a WebSocket would contain the token.
      if (!SUBPROTOCOL_TEXT.test(token)) throw new Refused('the token is not a JWT');
      protocols.push(`bearer.${token}`);
    }
    let socket;
    try {
      socket = new this.#WebSocket(this.#url, protocols);
    } catch (error) {
      const name = error instanceof Error ? error.name : 'unknown';
      throw new Refused(`this WebSocket may not be opened: ${name}`);
    }
    connection.open(socket, () => {
      this.#connects += 1;
      connection.send(this.#subscribe());
    });
    return connection;
  }

  async #freshToken() {
    const { token } = this.#options;
    return typeof token === 'function' ? token() : token;
  }

  #subscribe() {
    const { streams = ['energy'], snapshot, maxRate, since, last, onLag } = this.#options;
    /** @type {Record<string, unknown>} */
    const request = { type: 'subscribe', streams, on_lag: onLag, keys: this.#keys };
    Object.assign(request, { snapshot: snapshot || undefined, max_rate: maxRate });
    if (this.#positions.size > 0) return { ...request, resume: this.positions };
    // JSON leaves out undefined fields.
    return { ...request, since, last };
  }

  /**
   * Does what must not wait until the application has consumed the earlier messages.
   *
   * @param {Connection} connection
   * @param {any} message
   * @returns {boolean} whether the message is to be queued for the application
   */
  #arrived(connection, message) {
    connection.remark = ['error', 'notice'].includes(message.type) ? message : null;
    if (QUEUED.has(message.type)) return true;
    switch (message.type) {
      case 'subscribed':
        if (!this.#confirms(connection, message)) return false;
        this.#failures = 0;
        this.#unauthorized = false;
        this.#enter('live');
        return true;
      case 'reconnect':
        connection.afterMs = message.after_ms;
        return false;
      case 'authenticated':
        connection.renewals = 0;
        connection.awaitsAuth = false;
        return false;
      case 'notice':
      case 'error':
        // Older services send an error where newer ones send a notice.
        this.#remark(connection, message);
        return false;
      default:
        return false;
    }
  }

  /**
   * Whether the service confirms the keys; if not, the connection is over. A service that knows no
   * keys ignores them, and would send every record. Whoever asks for all that it may have gets no
   * number where that is everything.
   *
   * @param {Connection} connection
   * @param {any} subscribed
   */
  #confirms(connection, { streams, keys }) {
    const asked = Object.entries(this.#keys ?? {}).filter(([, each]) => !each.includes(ALL));
    const ignored = asked
      .map(([stream]) => stream)
      .filter((stream) => streams.includes(stream) && !(stream in (keys ?? {})));
    if (ignored.length === 0) return true;
    connection.remark = { code: 'NOT_FILTERED' };
    connection.end(NORMAL, `the service does not filter ${ignored.join(', ')} by key`);
    return false;
  }

  /**
   * @param {Connection} connection
   * @param {any} message
   */
  #remark(connection, message) {
    const { code } = message;
    if (code === 'TOKEN_EXPIRING') {
      void this.#renew(connection);
    } else if (code === 'KEYS_UNAVAILABLE' && connection.asked) {
      void this.#renew(connection, jitter(connection.renewals++));
    } else if (code === 'STREAM_UNAVAILABLE') {
      this.#enter(this.#state, inWords(message));
    } else if (code === 'BAD_MESSAGE' && connection.awaitsAuth) {
      // The fresh token does not allow the streams of this connection.
      connection.remark = null;
      connection.end(NORMAL, inWords(message));
    } else if (FATAL_ERRORS.has(code)) {
      connection.end(NORMAL, inWords(message));
    }
  }

  /**
   * @param {Connection} connection
   * @param {number | null} afterMs
   */
  async #renew(connection, afterMs = null) {
    if (typeof this.#options.token !== 'function' || connection.isRenewing) return;
    connection.asked = connection.isRenewing = true;
    for (let ms = afterMs; ; ms = jitter(connection.renewals++)) {
      if (ms !== null) await connection.sleep(ms);
      if (connection.ended) break;
      try {
        const token = await this.#freshToken();
        if (typeof token === 'string') {
          connection.send({ type: 'auth', token });
          connection.awaitsAuth = true;
        }
        break;
      } catch (error) {
        // The service ends the connection when its token expires; the next one tries again.
        if (error instanceof Refused) break;
      }
    }
    connection.isRenewing = false;
  }

  /**
   * @param {any} message
   * @returns {Generator<Message, void, undefined>}
   */
  *#interpret(message) {
    const { type, stream, timestamp, data, key } = message;
    if (type === 'data') {
      const position = this.#advance(stream, message.id);
      yield { kind: 'reading', stream, timestamp, data, position, ...(key !== undefined && { key }) };
    } else if (type === 'snapshot') {
      yield { kind: 'reading', stream, timestamp, data, position: '', key, isSnapshot: true };
    } else if (type === 'removed') {
      const position = this.#advance(stream, message.id);
      // Only an application that knows of keys can know what it means that one goes.
      if (this.#keys || this.#options.snapshot) {
        yield { kind: 'removed', stream, timestamp, key, position };
      }
    } else if (type === 'position') {
      this.#advance(stream, message.id);
      this.#conflated += message.conflated ?? 0;
      // The service has dropped keys while the snapshot came.
      if (message.snapshot) this.#told(stream, message.snapshot);
    } else if (type === 'lagged') {
      const { missed, reason } = message;
      const position = this.#advance(stream, message.to);
      yield { kind: 'gap', stream, missed, missing: null, reason, earliest: null, position };
    } else {
      for (const [name, told] of Object.entries(message.positions)) {
        yield* this.#begin(name, told, message.snapshots?.[name]);
      }
    }
  }

  /**
   * @param {string} stream
   * @param {any} told
   * @param {any} snapshot
   * @returns {Generator<Message, void, undefined>}
   */
  *#begin(stream, told, snapshot) {
    const asked = this.#positions.has(stream) || this.#options.since !== undefined;
    if (snapshot) {
      this.#told(stream, snapshot);
      // It ends with the first position to resume from: whoever loses the connection before that
      // needs all of it again.
      this.#positions.delete(stream);
    } else {
      // Not merged: if readings are missing, the old position says nothing about what comes now.
      this.#positions.set(stream, told.position);
    }
    if (told.recovered === false && asked) {
      const { position, reason, missing = null, earliest = null } = told;
      const missed = missing && sum(missing);
      yield { kind: 'gap', stream, missed, missing, reason, earliest, position };
    }
  }

  /**
   * @param {string} stream
   * @param {any} snapshot
   */
  #told(stream, { complete, since, keys }) {
    this.#snapshots.set(stream, { complete, since, keys });
  }

  /**
   * @param {string} stream
   * @param {string} text
   */
  #advance(stream, text) {
    const position = merge(this.#positions.get(stream), text);
    this.#positions.set(stream, position);
    return position;
  }

  /**
   * @param {Connection} connection
   * @returns {number} milliseconds until the next attempt; throws Refused where none would help
   */
  #judge({ code, remark, afterMs, overflowed, why }) {
    // A fresh token may still be good when the last one was refused, but not after two refusals.
    const renewable = typeof this.#options.token === 'function' && !this.#unauthorized;
    const unauthorized = UNAUTHORIZED.has(code);
    if (FATAL.has(code) || (unauthorized && !renewable)) {
      throw new Refused(why, remark?.code, code);
    }
    if (FATAL_ERRORS.has(remark?.code)) throw new Refused(why, remark.code);
    this.#unauthorized = unauthorized;
    if (afterMs !== null) return afterMs;
    const ms = jitter(this.#failures);
    if (!overflowed) this.#failures += 1;
    return ms;
  }

  /**
   * @param {State} state
   * @param {string} why
   */
  #enter(state, why = '') {
    this.#state = state;
    const { onState } = this.#options;
    // Called later: an exception in it must not interrupt the caller of this method.
    if (onState) queueMicrotask(() => onState(state, why));
  }
}

/** One iteration: its waits for anything but messages, and how to stop them. */
class Run {
  stopped = false;
  /** Called when the iteration is stopped. */
  stops = () => {};
  #interrupt = () => {};

  stop() {
    this.stopped = true;
    this.stops();
    this.#interrupt();
  }

  /**
   * @template T
   * @param {Promise<T>} work
   * @returns {Promise<T | undefined>} undefined once it is stopped
   */
  unlessStopped(work) {
    return new Promise((resolve, reject) => {
      this.#interrupt = () => resolve(undefined);
      work.then(resolve, reject);
    });
  }

  /** @param {number} ms */
  async sleep(ms) {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    await this.unlessStopped(new Promise((resolve) => (timer = setTimeout(resolve, ms))));
    clearTimeout(timer);
  }
}

/** One connection: a bounded queue of messages, in order until the connection ends. */
class Connection {
  ended = false;
  code = ABNORMAL;
  why = '';
  overflowed = false;
  /**
   * When to reconnect, if the service has said so.
   *
   * @type {number | null}
   */
  afterMs = null;
  /**
   * The last message, if it was an error or a notice: the reason for a close that follows.
   *
   * @type {any}
   */
  remark = null;
  /** Whether the service has asked for a fresh token; `renewals` counts the failures since. */
  asked = false;
  isRenewing = false;
  renewals = 0;
  /** Whether the service has not replied to a fresh token yet. */
  awaitsAuth = false;

  #arrived;
  #onEnd;
  /** @type {Socket | null} */
  #socket = null;
  /** @type {{ message: any, size: number }[]} */
  #queue = [];
  #characters = 0;
  #wake = () => {};
  #interrupt = () => {};
  #heard = false;
  #pinged = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {(message: any) => boolean} arrived returns whether to queue a message
   * @param {() => void} onEnd
   */
  constructor(arrived, onEnd) {
    this.#arrived = arrived;
    this.#onEnd = onEnd;
  }

  /**
   * @param {Socket} socket
   * @param {() => void} opened
   */
  open(socket, opened) {
    let isOpen = false;
    this.#socket = socket;
    this.#timer = setTimeout(() => this.end(ABNORMAL, 'no answer to the handshake'), CONNECT_MS);
    // Never removed: the package ws throws an error that has no listener.
    socket.addEventListener('open', () => {
      if (this.ended) return;
      isOpen = true;
      clearTimeout(this.#timer);
      this.#timer = setInterval(() => this.#look(), SILENCE_MS);
      opened();
    });
    socket.addEventListener('message', (event) => this.#take(event.data));
    socket.addEventListener('error', (event) => {
      // An open WebSocket closes next, with a code; in Node, one that failed to open does not.
      if (isOpen) return;
      // Only the WebSocket of the package ws shows the HTTP status.
      const [, status] = /^Unexpected server response: (\d{3})$/.exec(event.message) ?? [];
      if (status === undefined) this.end(ABNORMAL, 'no connection');
      else this.end(Number(status), `HTTP ${status}`);
    });
    socket.addEventListener('close', ({ code, reason }) => {
      const why = reason ? `closed with ${code}: ${reason}` : `closed with ${code}`;
      this.end(code, this.remark ? inWords(this.remark) : why);
    });
  }

  /** @returns {Promise<any>} the next message, null after the last one */
  async next() {
    while (this.#queue.length === 0 && !this.ended) {
      await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
    }
    const first = this.#queue.shift();
    if (first === undefined) return null;
    this.#characters -= first.size;
    return first.message;
  }

  /**
   * Waits for this time, or until the connection ends.
   *
   * @param {number} ms
   * @returns {Promise<void>}
   */
  sleep(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#interrupt = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** @param {Record<string, unknown>} message */
  send(message) {
    if (!this.ended) this.#socket?.send(JSON.stringify(message));
  }

  /**
   * Ends the connection; `next` still gives the queued messages.
   *
   * @param {number} code
   * @param {string} why
   */
  end(code, why) {
    if (this.ended) return;
    this.ended = true;
    this.code = code;
    this.why = why;
    // HTML section 8.7: this clears intervals as well.
    clearTimeout(this.#timer);
    this.#socket?.close();
    this.#onEnd();
    this.#interrupt();
    this.#wake();
  }

  /** Ends the connection without calling `onEnd`. */
  abandon() {
    this.#onEnd = () => {};
    this.end(NORMAL, '');
  }

  /** @param {string} text */
  #take(text) {
    if (this.ended) return;
    this.#heard = true;
    let message;
    try {
      message = Object(JSON.parse(text));
    } catch {
      this.end(ABNORMAL, 'a message that is not JSON');
      return;
    }
    if (!this.#arrived(message)) return;
    this.#queue.push({ message, size: text.length });
    this.#characters += text.length;
    this.#wake();
    const { length } = this.#queue;
    if (length > QUEUE_MESSAGES || (length > 1 && this.#characters > QUEUE_CHARACTERS)) {
      this.overflowed = true;
      this.end(NORMAL, 'the application is slower than the stream');
    }
  }

  #look() {
    if (this.#heard) {
      this.#heard = this.#pinged = false;
    } else if (this.#pinged) {
      this.end(ABNORMAL, 'silence');
    } else {
      this.#pinged = true;
      this.send({ type: 'ping' });
    }
  }
}

/**
 * The component-wise maximum: the position of a client that has reached both. Replicas interleave
 * partitions differently. A position of another epoch replaces the known one.
 *
 * @param {string | undefined} known
 * @param {string} text
 */
function merge(known, text) {
  const [epoch, offsets] = parsed(text);
  const [knownEpoch, knownOffsets] = parsed(known ?? '');
  if (offsets === undefined) return known ?? text;
  if (knownOffsets === undefined || knownEpoch !== epoch) return text;
  const [longer, shorter] =
    knownOffsets.length > offsets.length ? [knownOffsets, offsets] : [offsets, knownOffsets];
  const merged = longer.map((offset, partition) => larger(offset, shorter[partition] ?? '0'));
  return `${epoch}-${merged.join('.')}`;
}

/**
 * The epoch and the offsets of a position; nothing for another text.
 *
 * @param {string} text
 * @returns {[string, string[]] | []}
 */
function parsed(text) {
  const [, epoch, joined] = POSITION.exec(text) ?? [];
  if (epoch === undefined || joined === undefined) return [];
  const offsets = joined.split('.');
  const tooLarge = offsets.some((offset) => larger(offset, MAX_OFFSET) !== MAX_OFFSET);
  return tooLarge || offsets.length > MAX_PARTITIONS ? [] : [epoch, offsets];
}

/**
 * The larger of two decimals without leading zeros, which may exceed a number.
 *
 * @param {string} a
 * @param {string} b
 */
function larger(a, b) {
  if (a.length !== b.length) return a.length > b.length ? a : b;
  return a > b ? a : b;
}

/**
 * A random time up to a bound that doubles (full jitter).
 *
 * @param {number} failures
 * @returns {number} milliseconds
 */
function jitter(failures) {
  return Math.random() * Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** failures);
}

/** @param {any} remark */
function inWords({ code, message }) {
  return `${code}: ${message}`;
}

/**
 * The keys of each stream; undefined without any.
 *
 * @param {Keys | undefined} keys
 * @param {readonly string[]} streams
 */
function keysByStream(keys, streams) {
  if (keys === undefined || keys === null) return undefined;
  const isForAll = typeof keys === 'string' || Array.isArray(keys);
  // A number, a Map and a Set have no entries, and would ask for everything.
  const isPlain = isForAll || Object.prototype.toString.call(keys) === '[object Object]';
  const entries = isForAll ? streams.map((stream) => [stream, keys]) : Object.entries(keys);
  if (!isPlain || !entries.flat(2).every((part) => typeof part === 'string')) {
    throw new TypeError('keys are strings: one, a list, or an object that has these by stream');
  }
  // One key may be given without its list.
  return Object.fromEntries(entries.map(([stream, each]) => [stream, [each].flat()]));
}

/** @param {number[]} numbers */
function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0);
}

/** @param {string | URL} url */
function webSocketUrl(url) {
  let parsed;
  try {
    parsed = new URL(url, globalThis.location?.href);
  } catch {
    // Without the URL: it may contain a token.
    throw new TypeError('not a URL: expected ws://… or wss://…');
  }
  parsed.protocol = parsed.protocol.replace(/^http/, 'ws');
  if (!/^wss?:$/.test(parsed.protocol)) {
    throw new TypeError(`not a WebSocket URL: expected ws: or wss:, not ${parsed.protocol}`);
  }
  return parsed.href;
}
