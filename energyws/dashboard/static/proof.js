/** The view of the promise: what was missed, how late readings are, and what happened. */

import { $, h, say } from './dom.js';
import { Clock, Delays } from './store.js';
import { clock, milliseconds, number, outage, span } from './words.js';

const EVENTS = 40;
// An outage of which nothing is on the chart any more.
const KEEP_MS = 3_600_000;

/** What is counted; times are Unix ms by the service's clock. */
export class Proof {
  delays = new Delays();
  clock = new Clock();
  received = 0;
  missed = 0;
  twice = 0;
  resumes = 0;
  worker = null;
  state = 'idle';
  /** {from, to, filled, plug}: `to` null while it lasts. */
  outages = [];
  /** {at, missed} */
  gaps = [];
  /** How many messages of history are still to come, at most. */
  replaying = 0;
  /** {at, text, kind}, the newest first. */
  events = [];
  #since = 0;
  // By this browser's clock.
  #subscribedAt = 0;
  #caughtUpAt = 0;
  #tried = false;
  // Nothing was asked for but what there is: what is not there was not missed.
  #beginning = true;
  #pinged = null;
  #newest = new Map();
  #told = null;

  get now() {
    return Date.now() + this.clock.offset;
  }

  get outage() {
    const last = this.outages.at(-1);
    return last?.to === null ? last : null;
  }

  /** The state as people see it: between two attempts to reconnect, it goes on reconnecting. */
  get shown() {
    return this.state === 'connecting' && this.#tried ? 'waiting' : this.state;
  }

  /** The client's state, and why. */
  enter(state, why, pulled) {
    const before = this.state;
    const shown = this.shown;
    this.state = state;
    if (state === 'waiting') this.#tried = true;
    if (state === 'live' || state === 'idle') this.#tried = false;
    if (this.shown !== shown) this.#since = this.now;
    if (state === 'waiting' && this.outage === null && before === 'live') {
      this.outages.push({ from: this.now, to: null, filled: 0 });
      const text = pulled ? 'You pulled the plug.' : outage(why);
      this.happened(text, why === 'closed with 1012' ? '' : 'bad');
    }
    if (state === 'live' && before !== 'live') this.#back();
  }

  #back() {
    const last = this.outage;
    if (last === null) {
      this.happened('Connected.', 'good');
      return;
    }
    last.to = this.now;
    this.resumes += 1;
    this.#told = this.happened(`Resumed after ${span((last.to - last.from) / 1000)}.`, 'good');
  }

  happened(text, kind = '') {
    const event = { at: this.now, text, kind };
    this.events = [event, ...this.events].slice(0, EVENTS);
    const oldest = this.now - KEEP_MS;
    this.outages = this.outages.filter(({ to }) => to === null || to > oldest);
    this.gaps = this.gaps.filter(({ at }) => at > oldest);
    return event;
  }

  /** The quantile of the delays, by the service's clock as it is known now; null without any. */
  delay(share) {
    const found = this.delays.quantile(share);
    return found === null ? null : Math.max(0, found + this.clock.offset);
  }

  pinged() {
    this.#pinged = Date.now();
  }

  /** A message as it came, before the client reads it. */
  heard(message) {
    switch (message.type) {
      case 'subscribed':
        this.replaying = Object.values(message.positions).reduce((sum, each) => sum + (each.replayed ?? 0), 0);
        this.#subscribedAt = this.#caughtUpAt = Date.now();
        break;
      case 'data':
        this.#arrived(Date.parse(message.timestamp));
        break;
      case 'pong':
        if (this.#pinged !== null) this.clock.add(this.#pinged, Date.now(), Date.parse(message.timestamp));
        this.#pinged = null;
        this.#meet(message.worker ?? null);
        break;
    }
  }

  /** Notes the delay of a live record; time: of the record, by the service's clock. */
  #arrived(time) {
    const sent = time - this.clock.offset;
    if (this.replaying > 0) {
      // The number is an upper bound; a record from after the subscription is a live one.
      this.replaying = sent < this.#subscribedAt ? this.replaying - 1 : 0;
      this.#caughtUpAt = Date.now();
    }
    // Replayed records are late because this page was away, and those behind them wait for them.
    if (sent >= this.#caughtUpAt) this.delays.add(Date.now() - time);
  }

  #meet(worker) {
    if (worker && this.worker && worker.pid !== this.worker.pid) {
      this.happened(`Now served by worker ${worker.slot} (process ${worker.pid}).`);
    }
    this.worker = worker;
  }

  /** A message of the client. */
  counted(message, time) {
    const { stream, position } = message;
    if (message.kind === 'gap' && this.#beginning) {
      this.happened('The topic does not reach back a whole hour.');
      return;
    }
    this.#beginning = false;
    if (message.kind === 'gap') {
      this.missed += message.missed ?? 1;
      this.gaps.push({ at: this.now, missed: message.missed });
      const count = message.missed === null ? 'An unknown number of' : number(message.missed);
      this.happened(`${count} readings missed: ${message.reason}.`, 'bad');
      return;
    }
    this.received += 1;
    // The client keeps the larger offsets, so a record that came before moves nothing.
    if (this.#newest.get(stream) === position) this.twice += 1;
    this.#newest.set(stream, position);
    const last = this.outages.at(-1);
    if (last && last.to !== null && time >= last.from && time <= last.to) {
      last.filled += 1;
      if (this.#told) this.#told.text = filledIn(last);
    }
  }

  /** Another subscription begins. goesOn: where the last one ended. */
  restart(goesOn) {
    this.#newest.clear();
    this.#beginning = !goesOn;
    if (!goesOn) this.received = 0;
  }

  show() {
    say($('missed'), number(this.missed));
    $('missed').classList.toggle('bad', this.missed > 0);
    say($('received'), number(this.received));
    say($('twice'), number(this.twice));
    const words = { live: 'Live', connecting: 'Connecting', waiting: 'Cut off', idle: 'Not connected' };
    say($('p-state'), words[this.shown]);
    say($('p-since'), this.#since ? `for ${span((this.now - this.#since) / 1000)}` : '');
    say($('p-median'), milliseconds(this.delay(0.5)));
    say($('p-p99'), milliseconds(this.delay(0.99)));
    say($('p-frames'), this.delays.count ? `of the newest ${number(this.delays.count)} live readings` : '');
    say($('p-resumes'), number(this.resumes));
    const last = this.outages.findLast(({ to }) => to !== null);
    say($('p-resumed'), last ? `the last one filled in ${number(last.filled)}` : '');
    say($('p-worker'), this.worker ? `Worker ${this.worker.slot}` : '–');
    say($('p-pid'), this.worker ? `process ${this.worker.pid}` : 'the service does not say');
    this.#showEvents();
  }

  #showEvents() {
    const shown = this.events.map(({ at, text, kind }) => `${at} ${kind} ${text}`).join('\n');
    if ($('events').dataset.shown === shown) return;
    $('events').dataset.shown = shown;
    $('events').replaceChildren(
      ...this.events.map(({ at, text, kind }) =>
        h('li', { class: kind || null }, h('time', {}, clock(at)), h('span', {}, text)),
      ),
    );
  }
}

function filledIn({ from, to, filled }) {
  const readings = filled === 1 ? '1 reading' : `${number(filled)} readings`;
  return `Resumed after ${span((to - from) / 1000)}: ${readings} filled in.`;
}
