/**
 * Renders the hook with React, in a page without a browser, and prints what the page shows.
 *
 *     node react.mjs URL TOKEN FORGED
 *
 * It prints a line of JSON at each step; see test_package.py.
 */

import { createInterface } from 'node:readline';
import { Window } from 'happy-dom';

const window = new Window({ url: 'http://localhost/' });
Object.assign(globalThis, { window, document: window.document });
globalThis.navigator ??= window.navigator;
globalThis.IS_REACT_ACT_ENVIRONMENT = true;
const { act, createElement, StrictMode } = await import('react');
const { flushSync } = await import('react-dom');
const { createRoot } = await import('react-dom/client');
const { renderToString } = await import('react-dom/server');
const { useEnergy } = await import('energyws/react');

const [url, token, forged] = process.argv.slice(2);
const PATIENCE_MS = 30_000;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const problems = [];
console.error = (...what) => problems.push(what.join(' '));

let opened = 0;
let closed = 0;
class Counting extends WebSocket {
  constructor(...args) {
    super(...args);
    opened += 1;
    this.addEventListener('close', () => (closed += 1));
  }
}

const shown = {};
let renders = 0;

function Meter({ name, give }) {
  renders += 1;
  const energy = useEnergy(url, { token: give, last: 3, WebSocket: Counting });
  shown[name] = energy;
  const { state, messages, latest, error } = energy;
  const text = error ? `${error.name} ${error.code}` : `${state} ${messages.length}`;
  return createElement('p', { id: name }, latest ? `${text} ${typeof latest.data.n}` : text);
}

const page = (...meters) => createElement(StrictMode, null, ...meters);
// A new function at every render, as applications write it.
const meter = (name) => createElement(Meter, { key: name, name, give: async () => token });
const text = (name) => document.getElementById(name)?.textContent;

async function until(condition) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not within time: ${condition}`);
    await act(() => new Promise((resolve) => setTimeout(resolve, 20)));
  }
}

function report(step, found) {
  console.log(JSON.stringify({ step, ...found }));
}

report('server', { html: renderToString(meter('server')), opened });

const root = createRoot(document.body);
await act(() => root.render(page(meter('one'), meter('two'))));
await until(() => ['one', 'two'].every((name) => text(name) === 'live 3 number'));
const numbers = () => shown.one.messages.map((message) => message.data.n);
report('replay', { opened, same: shown.one === shown.two, numbers: numbers() });

// Records may come before this line does.
await act(() => lines.next());
const ALL = 2_003;
const sum = (position) => position.split('-')[1].split('.').reduce((total, n) => total + Number(n), 0);
await until(() => ['one', 'two'].every((name) => sum(shown[name].positions.energy) === ALL));
report('live', { opened, kept: numbers().length, renders });

// In one turn of the event loop, so that no time passes between the two.
await act(() => {
  flushSync(() => root.render(page()));
  flushSync(() => root.render(page(meter('three'))));
});
report('remount', { opened, closed, text: text('three') });

await act(() => root.render(page(createElement(Meter, { name: 'bad', give: forged }))));
await until(() => text('bad')?.startsWith('Refused'));
report('refused', { text: text('bad') });

await act(() => root.unmount());
await until(() => closed === opened);
report('end', { opened, problems });
window.happyDOM.abort();
process.exit(0);
