/**
 * The wire between the page's client and the service, with a plug that can be pulled.
 *
 * `Socket` is what EnergyClient takes as its WebSocket. Without the plug, open sockets are cut and
 * new ones fail as they do without a network, so the client's own backoff and resume run.
 */
export class Line {
  /** Whether the plug is out. */
  out = false;
  #open = new Set();
  #WebSocket;

  /** heard(way, text): every message in and out, and what happens to connections (`way` null). */
  constructor(heard, WebSocket = globalThis.WebSocket) {
    this.#WebSocket = WebSocket;
    const line = this;
    this.Socket = class extends EventTarget {
      #inner = null;
      #over = false;

      constructor(url, protocols) {
        super();
        if (line.out) {
          setTimeout(() => this.cut());
          return;
        }
        line.#open.add(this);
        this.#inner = new line.#WebSocket(url, protocols);
        this.#inner.addEventListener('open', () => this.#tell('open', {}, [null, 'opened']));
        this.#inner.addEventListener('error', () => this.#tell('error', {}));
        this.#inner.addEventListener('message', ({ data }) => this.#tell('message', { data }, ['in', data]));
        this.#inner.addEventListener('close', ({ code, reason }) => {
          line.#open.delete(this);
          this.#tell('close', { code, reason }, [null, `closed with ${code} ${reason}`.trim()]);
        });
      }

      get isOpen() {
        return this.#inner?.readyState === 1 && !this.#over;
      }

      send(text) {
        if (!this.isOpen) return;
        heard('out', text);
        this.#inner.send(text);
      }

      close() {
        this.#inner?.close();
      }

      /** The wire is gone: whatever the service still sends does not arrive. */
      cut() {
        this.#tell('error', {});
        this.#tell('close', { code: 1006, reason: '' }, this.#inner && [null, 'cut off']);
        this.#over = true;
        line.#open.delete(this);
        this.#inner?.close();
      }

      #tell(type, fields, report) {
        if (this.#over) return;
        if (report) heard(...report);
        this.dispatchEvent(Object.assign(new Event(type), fields));
      }
    };
  }

  pull() {
    this.out = true;
    for (const socket of [...this.#open]) socket.cut();
  }

  plug() {
    this.out = false;
  }

  /** Sends a message of the page's own beside the client's; dropped where nothing is open. */
  send(message) {
    for (const socket of this.#open) socket.send(JSON.stringify(message));
  }
}
