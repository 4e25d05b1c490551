/** The view of the protocol: every message, a connection to try things on, and copies. */

import { copy, subscribe } from './copies.js';
import { $, h, say } from './dom.js';
import { names } from './token.js';
import { clock, number } from './words.js';

const KEPT = 500;
const SHOWN = 200;
const LONG = 160;

export class Inspector {
  #messages = [];
  #paused = false;
  #chosen = '';
  #changed = true;
  #number = 0;
  #mine = null;
  #program = 'wscat';
  #url;
  #token;

  /** url: of the endpoint. token: a function that returns the page's. */
  constructor(url, token) {
    this.#url = url;
    this.#token = token;
    for (const id of ['s-streams', 's-begin', 's-value', 's-lag']) {
      $(id).addEventListener('input', () => this.#filled());
    }
    for (const button of document.querySelectorAll('[data-fill]')) {
      button.addEventListener('click', () => this.#fill(button.dataset.fill));
    }
    for (const button of document.querySelectorAll('[data-copy]')) {
      button.addEventListener('click', () => this.#choose(button));
    }
    $('copy-token').addEventListener('change', () => this.#showCopy());
    $('copy').addEventListener('click', () => void this.#copy());
    $('send').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#send($('s-text').value);
    });
    $('mine-end').addEventListener('click', () => this.#mine?.close());
    for (const id of ['w-filter', 'w-which', 'w-way']) {
      $(id).addEventListener('input', () => (this.#changed = true));
    }
    $('w-clear').addEventListener('click', () => {
      this.#messages = [];
      this.#changed = true;
    });
    $('w-pause').addEventListener('click', () => this.#pause(!this.#paused));
    this.#fill('subscribe');
  }

  /** which: 'page' or 'mine'. way: 'in', 'out', or null for what happens to the connection. */
  note(which, way, text) {
    this.#messages.push({ number: (this.#number += 1), at: Date.now(), which, way, text });
    // While it is paused, nothing that is shown is dropped.
    if (!this.#paused && this.#messages.length > KEPT) this.#messages.splice(0, 100);
    if (this.#paused && this.#messages.length > 4 * KEPT) this.#messages.splice(KEPT, 100);
    this.#changed = true;
  }

  show() {
    if (!this.#changed || this.#paused) return;
    this.#changed = false;
    const [filter, which, way] = ['w-filter', 'w-which', 'w-way'].map((id) => $(id).value);
    const wanted = this.#messages
      .filter((each) => (!which || each.which === which) && (!way || each.way === way))
      .filter((each) => !filter || each.text.toLowerCase().includes(filter.toLowerCase()))
      .slice(-SHOWN)
      .reverse();
    const list = $('wire');
    const chosen = [filter, which, way].join('\n');
    if (chosen !== this.#chosen) list.replaceChildren();
    this.#chosen = chosen;
    // What stays keeps its element, and so stays open.
    const newest = Number(list.firstElementChild?.dataset.number ?? 0);
    list.prepend(...wanted.filter((each) => each.number > newest).map(row));
    while (list.childElementCount > wanted.length) list.lastElementChild.remove();
  }

  #pause(paused) {
    this.#paused = paused;
    this.#changed = true;
    $('w-pause').setAttribute('aria-pressed', String(paused));
    say($('w-pause'), paused ? 'Go on' : 'Pause');
  }

  get #wanted() {
    return {
      streams: names($('s-streams').value),
      begin: $('s-begin').value,
      value: $('s-value').value.trim(),
      onLag: $('s-lag').value,
    };
  }

  #filled() {
    const begin = $('s-begin').value;
    const value = $('s-value');
    const first = { last: '10', since: new Date(Date.now() - 60_000).toISOString().slice(0, 19) + 'Z', resume: '' };
    value.disabled = !begin;
    if (value.dataset.begin !== begin) value.value = first[begin] ?? '';
    value.dataset.begin = begin;
    value.placeholder = begin === 'resume' ? 'the id of a message' : '';
    this.#fill('subscribe');
  }

  #fill(kind) {
    const { streams } = this.#wanted;
    const messages = {
      subscribe: () => subscribe(this.#wanted),
      unsubscribe: () => ({ type: 'unsubscribe', streams }),
      ping: () => ({ type: 'ping', worker: true }),
    };
    $('s-text').value = JSON.stringify(messages[kind]());
    this.#showCopy();
  }

  #send(text) {
    say($('s-error'), '');
    try {
      JSON.parse(text);
    } catch {
      // Still sent: how the service answers bad JSON is worth seeing.
      say($('s-error'), 'This is not JSON; sent as it is.');
    }
    if (this.#mine === null) this.#open([text]);
    else if (this.#mine.readyState === WebSocket.OPEN) this.#sendNow(text);
    else this.#mine.addEventListener('open', () => this.#sendNow(text));
  }

  #sendNow(text) {
    this.note('mine', 'out', text);
    this.#mine.send(text);
  }

  #open(texts) {
    const token = this.#token();
    const socket = new WebSocket(this.#url, token ? ['energyws', `bearer.${token}`] : ['energyws']);
    this.#mine = socket;
    say($('mine-state'), 'Connecting …');
    $('mine-end').hidden = false;
    socket.addEventListener('open', () => {
      say($('mine-state'), 'Your connection is open.');
      this.note('mine', null, 'opened');
      texts.forEach((text) => this.#sendNow(text));
    });
    socket.addEventListener('message', ({ data }) => this.note('mine', 'in', data));
    socket.addEventListener('close', ({ code, reason }) => {
      const words = `closed with ${code} ${reason}`.trim();
      this.note('mine', null, words);
      say($('mine-state'), `Your connection was ${words}. The next message opens another one.`);
      $('mine-end').hidden = true;
      this.#mine = null;
    });
  }

  #choose(button) {
    this.#program = button.dataset.copy;
    for (const each of document.querySelectorAll('[data-copy]')) {
      each.setAttribute('aria-pressed', String(each === button));
    }
    this.#showCopy();
  }

  #showCopy() {
    const token = $('copy-token').checked ? this.#token() : null;
    say($('copy-text'), copy(this.#program, this.#url, this.#wanted, token));
    say($('copied'), '');
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText($('copy-text').textContent);
      say($('copied'), 'Copied.');
    } catch {
      // Only pages over https, or of localhost, may write to the clipboard.
      getSelection().selectAllChildren($('copy-text'));
      say($('copied'), 'Selected: press Ctrl-C.');
    }
  }
}

function row({ number: id, at, which, way, text }) {
  const arrows = { in: '↓', out: '↑' };
  const spoken = { in: 'in', out: 'out' };
  const short = text.length > LONG ? `${text.slice(0, LONG)}…` : text;
  const head = h(
    'summary',
    {},
    h('time', {}, clock(at)),
    h('span', { class: 'way', 'aria-label': spoken[way] ?? 'connection', role: 'img' }, arrows[way] ?? '•'),
    h('span', { class: 'which' }, which),
    h('code', {}, short),
    h('span', { class: 'size' }, way ? `${number(text.length)} B` : ''),
  );
  const details = h('details', {}, head);
  details.addEventListener('toggle', () => {
    if (details.childElementCount === 1) details.append(h('pre', { tabindex: '0', role: 'region', 'aria-label': 'Message' }, pretty(text)));
  });
  return h('li', { 'data-number': id, class: way ?? 'note' }, details);
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
