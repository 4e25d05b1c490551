/** A WebSocket whose server is the test, and a client that uses it. */

import { EnergyClient } from '../../energyws/web/energyws.js';

export const URL = 'ws://127.0.0.1:8080/ws/energy';

/** The instances of the constructor are in `made`. */
export function scriptedWebSocket(made) {
  return class {
    listeners = { open: [], message: [], error: [], close: [] };
    sent = [];
    isClosed = false;

    constructor(url, protocols) {
      this.url = url;
      this.protocols = protocols;
      made.push(this);
    }

    addEventListener(type, listener) {
      this.listeners[type].push(listener);
    }

    send(text) {
      this.sent.push(JSON.parse(text));
    }

    close() {
      this.isClosed = true;
    }

    emit(type, event = {}) {
      for (const listener of this.listeners[type]) listener(event);
    }

    accept() {
      this.emit('open');
      return this;
    }

    say(message) {
      this.emit('message', { data: JSON.stringify(message) });
      return this;
    }

    subscribed(position, fields = {}) {
      const positions = { energy: { position, ...fields } };
      return this.say({ type: 'subscribed', streams: ['energy'], positions });
    }

    data(n, id) {
      const timestamp = '2026-01-01T00:00:00.000Z';
      return this.say({ type: 'data', stream: 'energy', timestamp, data: { n }, id });
    }

    fail(code, message) {
      return this.say({ type: 'error', code, message });
    }

    end(code, reason = '') {
      this.emit('close', { code, reason });
      return this;
    }
  };
}

/** Waits until all promises are settled that need neither a timer nor an event. */
export function settle() {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A client, its sockets, and the messages that a loop has collected from it. */
export class Scene {
  sockets = [];
  got = [];
  error = null;
  isOver = false;
  states = [];

  constructor(options = {}) {
    this.client = new EnergyClient(URL, {
      WebSocket: scriptedWebSocket(this.sockets),
      onState: (state, why) => this.states.push(why ? `${state}: ${why}` : state),
      ...options,
    });
  }

  /** Begins to iterate; `consume` may be slow. Returns once the first socket is there. */
  async begin(consume = () => {}) {
    void this.#iterate(consume);
    await settle();
    return this.socket;
  }

  async #iterate(consume) {
    try {
      for await (const message of this.client) {
        this.got.push(message);
        await consume(message);
      }
    } catch (error) {
      this.error = error;
    }
    this.isOver = true;
  }

  /** The newest socket. */
  get socket() {
    return this.sockets.at(-1);
  }

  /** The subscribe message of the newest socket. */
  get request() {
    return this.socket.sent[0];
  }

  get numbers() {
    return this.got.filter(({ kind }) => kind === 'reading').map(({ data }) => data.n);
  }

  get gaps() {
    return this.got.filter(({ kind }) => kind === 'gap');
  }
}
