/** The page: one subscription of the project's client, and three views of what comes. */

import { Chart } from './chart.js';
import { $, h, say } from './dom.js';
import { EnergyClient, Refused } from './energyws.js';
import { Inspector } from './inspector.js';
import { Keys } from './keys.js';
import { Line } from './line.js';
import { Now } from './now.js';
import { Proof } from './proof.js';
import { title, unit } from './readings.js';
import { Meters } from './store.js';
import { claims, fromFragment, names, remember } from './token.js';
import { clock, expiry, number, outage, refusal, span } from './words.js';

const HOUR_MS = 3_600_000;
// An hour of three meters at one reading a second is 10,800 readings, or 12 MB. Where an hour has
// more than that, the chart begins with its end, and fills up while the page is open.
const MOST = 12_000;
const LAST = 5_000;
const FRAME_MS = 250;
const PING_MS = 5_000;
const SPEAK_MS = 10_000;
const WORDS = { live: 'Live', connecting: 'Connecting', waiting: 'Reconnecting', idle: 'Not connected' };
// Before a token ends, this is said in words.
const SOON_SECONDS = 120;

const url = new URL('ws/energy', document.baseURI);
url.protocol = url.protocol.replace('http', 'ws');

const keys = new Keys();
const meters = new Meters();
const proof = new Proof();
const now = new Now();
const line = new Line(heard);
const chart = new Chart($('chart'));
const given = fromFragment(globalThis);
// A page around these files may provide fresh tokens; docs/page.md says how.
const renew = typeof globalThis.energywsToken === 'function' ? globalThis.energywsToken : null;

let token = given.token;
let streams = given.streams ?? allowed(token) ?? ['energy'];
let client = null;
let newest = null;
let chosen = null;
let range = HOUR_MS;
let view = 'now';
let plugTimer = null;
let pluggedAt = 0;
let point = null;
let cause = '';
let spokenAt = 0;
let refused = null;
let wantsHour = false;

const inspector = new Inspector(url.href, () => token);

function heard(way, text) {
  inspector.note('page', way, text);
  if (way !== 'in') return;
  let message;
  try {
    message = JSON.parse(text);
  } catch {
    // The client ends such a connection, and says so.
    return;
  }
  proof.heard(message);
  keys.heard(message);
  if (message.type !== 'subscribed') return;
  ask();
  if (wantsHour && proof.replaying > MOST) setTimeout(() => run(null, true));
  wantsHour = false;
}

function ask() {
  proof.pinged();
  line.send({ type: 'ping', worker: true });
}

/**
 * Subscribes: from the positions of an earlier client if there is one, else with the last hour, or
 * with its end only.
 */
async function run(resume = null, endOnly = false) {
  client?.close();
  refused = null;
  const since = new Date(proof.now - HOUR_MS).toISOString();
  const goesOn = resume !== null && Object.keys(resume).length > 0;
  wantsHour = !goesOn && !endOnly;
  const begin = goesOn ? { resume } : endOnly ? { last: LAST } : { since };
  proof.restart(goesOn);
  const mine = new EnergyClient(url, {
    token: renew === null ? () => token : async () => (token = await renew()),
    streams,
    keys: keys.chosen,
    ...begin,
    WebSocket: line.Socket,
    onState: (state, reason) => {
      if (client !== mine) return;
      // While it connects again, the cause is still the last one.
      if (state !== 'connecting' || reason) cause = reason;
      proof.enter(state, reason, line.out);
      draw();
    },
  });
  client = mine;
  try {
    for await (const message of mine) take(message);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (client !== mine) return;
    refused = refusal(error, claims(token ?? ''), Date.now() / 1000, location.origin);
    proof.happened(refused.title, 'bad');
    if (refused.token) openAccess();
    draw();
  }
}

function take(message) {
  if (message.kind === 'removed') {
    proof.happened(`${message.key} has no readings any more.`);
    return;
  }
  const time = message.kind === 'reading' ? Date.parse(message.timestamp) : null;
  proof.counted(message, time);
  if (message.kind !== 'reading') return;
  newest = message.data;
  meters.add(message.stream, time, message.data, message.key);
}

// ---- the token

function allowed(text) {
  const list = claims(text ?? '')?.streams;
  return Array.isArray(list) && list.length ? list : null;
}

/** The meter that is shown large. */
function current() {
  return meters.get(chosen) ?? meters.list[0] ?? null;
}

function openAccess(open = true) {
  $('access').hidden = !open;
  $('expiry').setAttribute('aria-expanded', String(open));
  $('streams').value = streams.join(', ');
  if (open) $('token').focus();
}

$('expiry').addEventListener('click', () => openAccess($('access').hidden));
$('access').addEventListener('submit', (event) => {
  event.preventDefault();
  const before = streams.join();
  token = $('token').value.trim().replace(/^Bearer\s+/i, '');
  streams = names($('streams').value);
  $('token').value = '';
  remember(sessionStorage, token);
  openAccess(false);
  // A fresh token goes on where the last one ended.
  void run(before === streams.join() ? (client?.positions ?? null) : null);
});

// ---- the keys

$('pick').addEventListener('submit', (event) => {
  event.preventDefault();
  keys.choose(names($('keys').value));
  meters.clear();
  chosen = newest = null;
  void run();
});

function showKeys() {
  $('pick').hidden = !keys.areThere;
  const known = keys.known(claims(token ?? ''));
  if ($('known').childElementCount === known.length) return;
  $('known').replaceChildren(...known.map((key) => h('option', { value: key })));
}

// ---- the plug

function pull() {
  const seconds = Number($('pull-seconds').value);
  pluggedAt = Date.now() + 1000 * seconds;
  plugTimer = setTimeout(plug, 1000 * seconds);
  line.pull();
  draw();
}

function plug() {
  clearTimeout(plugTimer);
  plugTimer = null;
  line.plug();
  proof.happened('The plug is back in; the client tries again by itself.');
  draw();
}

$('pull').addEventListener('click', () => (line.out ? plug() : pull()));

// ---- the views

const TABS = ['now', 'proof', 'inspector'];

function select(name, focus = false) {
  view = name;
  for (const each of TABS) {
    const tab = $(`tab-${each}`);
    tab.setAttribute('aria-selected', String(each === name));
    tab.tabIndex = each === name ? 0 : -1;
    $(`panel-${each}`).hidden = each !== name;
    if (each === name && focus) tab.focus();
  }
  if (name !== 'inspector') {
    $(`chart-${name}`).append($('figure'));
    // A hole of some seconds is invisible in an hour.
    setRange(name === 'proof' ? 120 : 3_600);
  }
  draw();
}

TABS.forEach((name, index) => {
  $(`tab-${name}`).addEventListener('click', () => select(name));
  $(`tab-${name}`).addEventListener('keydown', ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: TABS.length - 1 }[key];
    if (step) select(TABS[(index + step) % TABS.length], true);
  });
});

function setRange(seconds) {
  range = 1000 * seconds;
  for (const button of document.querySelectorAll('[data-range]')) {
    button.setAttribute('aria-pressed', String(Number(button.dataset.range) === seconds));
  }
}

for (const button of document.querySelectorAll('[data-range]')) {
  button.addEventListener('click', () => {
    setRange(Number(button.dataset.range));
    draw();
  });
}

now.onChoose = (key) => {
  chosen = key;
  draw();
};
chart.onPoint = (at) => (point = at);
$('field').addEventListener('change', () => {
  meters.choose($('field').value);
  chosen = null;
  void run();
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => chart.recolour());

function draw() {
  // A hidden page goes on receiving; it has nobody to draw for.
  if (document.hidden) return;
  // Before the first connection there is nothing to show but the form.
  $('panel-now').classList.toggle('bare', client === null);
  showHead();
  showTrouble();
  showPlug();
  if (view === 'now') {
    now.show(meters, current(), newest);
    showKeys();
  }
  if (view === 'proof') proof.show();
  if (view === 'inspector') inspector.show();
  else showChart();
}

function showHead() {
  $('pill').dataset.state = proof.shown;
  const worker = proof.shown === 'live' && proof.worker ? `· worker ${proof.worker.slot}` : '';
  say($('pill').children[1], WORDS[proof.shown]);
  say($('pill').lastElementChild, worker);
  const told = claims(token ?? '');
  $('expiry').hidden = token === null;
  const words = told ? `Token ${expiry(told.exp, Date.now() / 1000)}` : 'Token, not a JWT';
  // On a phone there is room for the time only.
  const [, long, short] = /^(Token(?: expires in)? )?(.*)$/.exec(words);
  say($('expiry').firstElementChild, long ?? '');
  say($('expiry').lastElementChild, short);
  $('expiry').setAttribute('aria-label', words);
  const soon = told?.exp != null && told.exp - Date.now() / 1000 < SOON_SECONDS;
  $('expiry').classList.toggle('bad', soon && renew === null);
}

function showTrouble() {
  const box = $('trouble');
  let words = null;
  if (refused) words = [refused.title, refused.remedy];
  else if (proof.shown === 'waiting' && !line.out && cause) {
    words = [outage(cause), 'The page tries again by itself, and then gets what it missed.'];
  }
  box.hidden = words === null;
  if (words && box.textContent !== words.join(' ')) {
    box.replaceChildren(h('b', {}, words[0]), ' ', words[1]);
  }
}

function showPlug() {
  const left = Math.max(0, Math.ceil((pluggedAt - Date.now()) / 1000));
  say($('pull'), line.out ? 'Plug it in now' : 'Pull the plug');
  $('pull').classList.toggle('out', line.out);
  $('pull-seconds').disabled = line.out;
  const hint = line.out
    ? `Cut off. The plug goes back in after ${span(left)}.`
    : 'Cuts this page off. Watch the line stop, and its hole close.';
  say($('pull-hint'), hint);
}

function showChart() {
  const meter = current();
  const others = meters.list.filter((each) => each !== meter);
  const end = proof.now;
  chart.draw({ chosen: meter, others, range, now: end, outages: proof.outages, gaps: proof.gaps });
  if (meter === null) {
    say($('caption'), 'Waiting for readings');
    say($('readout'), '');
    return;
  }
  const several = meters.paths.length > 1;
  const words = [several ? '' : title(meters.path), unit(meters.path), meter.name];
  say($('caption'), words.filter(Boolean).join(' · '));
  say($('readout'), readout(meter));
  $('field-label').hidden = !several;
  if (several && $('field').childElementCount !== meters.paths.length) {
    $('field').replaceChildren(...meters.paths.map((path) => h('option', { value: path, title: path }, title(path))));
    $('field').value = meters.path;
  }
}

function readout(meter) {
  if (point === null) {
    return range > 600_000 ? `Each point is the mean of ${number(range / 600_000)} seconds.` : '';
  }
  const index = meter.times.findLastIndex((time) => time <= point);
  return index < 0 ? '' : `${clock(meter.times[index])} · ${number(meter.values[index])} ${unit(meters.path)}`;
}

function speak() {
  if (Date.now() - spokenAt < SPEAK_MS) return;
  const meter = current();
  const cut = proof.shown === 'live' ? '' : `${WORDS[proof.shown]}. `;
  const value = meter ? `${meter.name}: ${number(meter.latest)} ${unit(meters.path)}.` : '';
  if (!cut && !value) return;
  spokenAt = Date.now();
  say($('spoken'), cut + value);
  if (meter) {
    const seen = meter.values.slice(meter.times.findIndex((time) => time >= proof.now - range));
    const minutes = span(range / 1000);
    const [low, high] = seen.reduce(([a, b], each) => [Math.min(a, each), Math.max(b, each)], [Infinity, -Infinity]);
    const label = `Line chart of ${title(meters.path)}, ${meter.name}, the last ${minutes}: from ${number(low)} to ${number(high)} ${unit(meters.path)}`;
    $('chart').setAttribute('aria-label', label.trim());
  }
}

// Motion that somebody does not want is once a second; so is what moves by less than a pixel.
const still = matchMedia('(prefers-reduced-motion: reduce)');
let turns = 0;
setInterval(() => {
  turns += 1;
  if (turns % 4 === 0) speak();
  if (turns % 4 === 0 || (range <= 120_000 && !still.matches)) draw();
}, FRAME_MS);
setInterval(() => {
  if (proof.state === 'live') ask();
}, PING_MS);
document.addEventListener('visibilitychange', draw);

select('now');
if (token === null && renew === null) openAccess();
else void run();
