'use client';

/**
 * The client as a React hook; react.d.ts documents it.
 *
 * @typedef {import('./react.js').Energy<Record<string, unknown>, Removed>} Energy
 * @typedef {import('./react.js').EnergyOptions} EnergyOptions
 * @typedef {import('./energyws.js').Message | Removed} Message
 * @typedef {import('./energyws.js').Options} Options
 * @typedef {import('./energyws.js').Reading} Reading
 * @typedef {import('./energyws.js').Refused} Refused
 * @typedef {import('./energyws.js').Removed} Removed
 * @typedef {import('./energyws.js').State} State
 */

import { useCallback, useEffect, useRef, useSyncExternalStore } from 'react';

import { EnergyClient } from './energyws.js';

// A replay has thousands of messages a second; nobody sees more pictures than these.
const RENDER_MS = 50;
// React's StrictMode unmounts and mounts again, and so does a change of page.
const LINGER_MS = 1_000;
const KEEP = 100;

/** @type {Energy} */
const IDLE = {
  state: 'idle',
  why: '',
  latest: null,
  messages: [],
  positions: {},
  snapshots: {},
  conflated: 0,
  error: null,
};

/**
 * The connections in use, by URL and options.
 *
 * @type {Map<string, Store>}
 */
const stores = new Map();

/**
 * @param {string | URL} url
 * @param {EnergyOptions} options
 * @returns {any}
 */
export function useEnergy(url, options = {}) {
  const key = JSON.stringify([url, options]);
  const latest = useRef(options);
  useEffect(() => {
    latest.current = options;
  });
  const subscribe = useCallback(
    /** @param {() => void} render */ (render) => {
      const store = stores.get(key) ?? new Store(key, url, latest.current);
      return store.add(render, latest);
    },
    // The URL is part of the key.
    [key],
  );
  const snapshot = () => stores.get(key)?.snapshot ?? IDLE;
  return useSyncExternalStore(subscribe, snapshot, () => IDLE);
}

/** One connection, for every component with its key. */
class Store {
  /** Replaced at every change: React compares snapshots by identity. */
  snapshot = IDLE;
  #key;
  #client;
  #keep;
  /**
   * The components' render functions, and where each has its newest options.
   *
   * @type {Map<() => void, { current: EnergyOptions }>}
   */
  #users = new Map();
  /** @type {Message[]} */
  #messages = [];
  /** @type {Reading | null} */
  #latest = null;
  /** @type {State} */
  #state = 'idle';
  #why = '';
  /** @type {Refused | null} */
  #error = null;
  /** @type {Promise<void> | undefined} */
  #reading;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #render;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #linger;

  /**
   * @param {string} key
   * @param {string | URL} url
   * @param {EnergyOptions} given
   */
  constructor(key, url, { keep = KEEP, ...options }) {
    this.#key = key;
    this.#keep = keep;
    this.#client = new EnergyClient(url, {
      ...options,
      // A function may be a new one at every render: it is never the first one that is called.
      token: typeof options.token === 'function' ? () => this.#token() : options.token,
      onState: (state, why) => {
        this.#state = state;
        this.#why = why;
        this.#changed();
      },
    });
    stores.set(key, this);
  }

  /**
   * @param {() => void} render
   * @param {{ current: EnergyOptions }} options
   * @returns {() => void} ends it
   */
  add(render, options) {
    clearTimeout(this.#linger);
    this.#users.set(render, options);
    // Only now is there somebody to ask for a token.
    this.#reading ??= this.#read();
    return () => {
      this.#users.delete(render);
      if (this.#users.size === 0) this.#linger = setTimeout(() => this.#close(), LINGER_MS);
    };
  }

  #token() {
    const token = [...this.#users.values()].at(-1)?.current.token;
    return typeof token === 'function' ? token() : token;
  }

  #close() {
    clearTimeout(this.#render);
    stores.delete(this.#key);
    this.#client.close();
  }

  async #read() {
    try {
      for await (const message of this.#client) {
        this.#messages.push(message);
        // Rarely, because it moves all that stay.
        if (this.#messages.length > 2 * this.#keep) this.#messages = this.#newest();
        if (message.kind === 'reading') this.#latest = message;
        this.#changed();
      }
    } catch (error) {
      this.#error = /** @type {Refused} */ (error);
      this.#changed();
    }
  }

  #newest() {
    return this.#keep > 0 ? this.#messages.slice(-this.#keep) : [];
  }

  #changed() {
    this.#render ??= setTimeout(() => {
      this.#render = undefined;
      this.snapshot = {
        state: this.#state,
        why: this.#why,
        latest: this.#latest,
        messages: this.#newest(),
        positions: this.#client.positions,
        snapshots: this.#client.snapshots,
        conflated: this.#client.conflated,
        error: this.#error,
      };
      for (const render of this.#users.keys()) render();
    }, RENDER_MS);
  }
}
