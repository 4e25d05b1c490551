/** What the page decides without a document. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { grid, scale } from '../../energyws/dashboard/static/chart.js';
import { copy, subscribe } from '../../energyws/dashboard/static/copies.js';
import { roundUp } from '../../energyws/dashboard/static/dom.js';
import { Keys } from '../../energyws/dashboard/static/keys.js';
import { Line } from '../../energyws/dashboard/static/line.js';
import { at, drawable, nameIn, phases, title, unit } from '../../energyws/dashboard/static/readings.js';
import { Clock, Delays, Meter, Meters } from '../../energyws/dashboard/static/store.js';
import { claims, fromFragment, names } from '../../energyws/dashboard/static/token.js';
import { expiry, outage, refusal, span } from '../../energyws/dashboard/static/words.js';

const METER = {
  activeActualConsumption: { L1: 300, L2: 200, L3: 100, total: 600 },
  fields: { active_power_total: 600, voltage_l1: 230 },
  meterSerialNumber: 'Not found',
  saveeyeDeviceSerialNumber: '765GPH5X',
  timestamp: '2026-01-01T00:00:00',
  ts: '2026-01-01T00:00:00Z',
};

const jwt = (payload) => `e30.${Buffer.from(JSON.stringify(payload)).toString('base64url')}.sig`;

test('a meter reading shows its power, phases and serial number', () => {
  const [path] = drawable(METER);
  assert.equal(path, 'activeActualConsumption.total');
  assert.equal(at(METER, path), 600);
  assert.deepEqual(phases(METER, path), [['L1', 300], ['L2', 200], ['L3', 100]]);
  assert.equal(nameIn(METER), '765GPH5X');
  assert.deepEqual([title(path), unit(path)], ['Power', 'W']);
  assert.deepEqual([title('rmsVoltage.L1'), unit('rmsVoltage.L1')], ['Rms voltage L1', 'V']);
});

test('any other object shows a number that is no time and no id', () => {
  const data = { id: 7, ts: 1700000000, room: { temperature: 21.5, humidity: 40 }, sensor: 'attic' };
  assert.equal(drawable(data)[0], 'room.temperature');
  assert.equal(nameIn(data), 'attic');
  assert.deepEqual(phases(data, 'room.temperature'), []);
  assert.deepEqual(drawable({ text: 'no number', list: [] }), []);
  assert.equal(nameIn({ a: 1 }), null);
});

test('meters are told apart, and what has no number is none', () => {
  const meters = new Meters();
  meters.add('energy', 1000, METER);
  meters.add('energy', 2000, { ...METER, saveeyeDeviceSerialNumber: 'A' });
  meters.add('energy', 3000, METER);
  assert.equal(meters.add('energy', 4000, { note: 'x' }), null);
  assert.deepEqual(meters.list.map((each) => [each.name, each.times.length]), [['765GPH5X', 2], ['A', 1]]);
  meters.choose('fields.voltage_l1');
  assert.equal(meters.add('energy', 5000, METER).latest, 230);
});

test('meters with keys are told apart by them', () => {
  const meters = new Meters();
  meters.add('energy', 1000, METER, 'a');
  meters.add('energy', 2000, METER, 'b');
  meters.add('energy', 3000, { activeActualConsumption: { total: 5 } }, 'c');
  assert.deepEqual(meters.list.map((each) => [each.key, each.name]), [
    ['energy/a', '765GPH5X'],
    ['energy/b', '765GPH5X'],
    ['energy/c', 'c'],
  ]);
  meters.clear();
  assert.deepEqual(meters.list, []);
});

test('the keys of a stream can be chosen, whether the token or a reading names them', () => {
  const keys = new Keys();
  keys.heard({ type: 'data', stream: 'sensors' });
  assert.ok(!keys.areThere);
  keys.heard({ type: 'subscribed', keys: { energy: 2 } });
  assert.ok(keys.areThere);
  assert.equal(keys.chosen, undefined);
  keys.choose(['b']);
  keys.heard({ type: 'data', stream: 'water', key: 'w' });
  assert.deepEqual(keys.chosen, { energy: ['b'], water: ['b'] });
  assert.deepEqual(keys.known(null), ['w']);
  assert.deepEqual(keys.known({ keys: 'b' }), ['b', 'w']);
  assert.deepEqual(keys.known({ keys: ['a', '735*', '*'] }), ['a', 'w']);
  assert.deepEqual(keys.known({ keys: { energy: ['b', 'a'], water: 'w' } }), ['a', 'b', 'w']);
  keys.choose([]);
  assert.equal(keys.chosen, undefined);
});

test('a reading that comes late takes its place', () => {
  const meter = new Meter('k', 'n', 's');
  for (const [time, value] of [[1000, 1], [3000, 3], [2000, 2]]) meter.add(time, value, METER, 'x');
  assert.deepEqual([meter.times, meter.values, meter.latest], [[1000, 2000, 3000], [1, 2, 3], 3]);
});

test('a meter keeps one hour', () => {
  const meter = new Meter('k', 'n', 's');
  for (let second = 0; second < 9_000; second += 1) meter.add(second * 1000, 1, METER, 'x');
  assert.ok(meter.times.length >= 3_600 && meter.times.length <= 4_602, meter.times.length);
});

test('a long pause breaks the line, a slower pace does not', () => {
  const meter = new Meter('k', 'n', 's');
  for (const second of [0, 1, 2, 3, 10, 11, 12]) meter.add(second * 1000, second, METER, 'x');
  const line = meter.buckets(0, 1000, 13);
  assert.deepEqual(line, [0, 1, 2, 3, null, null, null, null, null, null, 10, 11, 12]);
  const slower = new Meter('k', 'n', 's');
  for (const second of [0, 2, 4, 7, 10]) slower.add(second * 1000, second, METER, 'x');
  assert.deepEqual(slower.buckets(0, 1000, 11).filter((each) => each === null), []);
});

test('a bucket is the mean of its readings', () => {
  const meter = new Meter('k', 'n', 's');
  for (const [time, value] of [[0, 10], [400, 20], [1200, 5]]) meter.add(time, value, METER, 'x');
  assert.deepEqual(meter.buckets(0, 1000, 2), [15, 5]);
});

test('the grid stays where it is while time goes on', () => {
  const [first, second] = [grid(1_000_000, 120_000), grid(1_000_050, 120_000)];
  assert.equal(first.step, 200);
  assert.equal(first.begin, second.begin);
});

test('a scale begins at zero unless the values lie far above it', () => {
  assert.equal(scale(100, 800)[0], 0);
  assert.ok(scale(228, 232)[0] > 220);
  assert.deepEqual(scale(null, null), [0, 1]);
  assert.deepEqual([430, 1001, 0].map(roundUp), [500, 1500, 1]);
});

test('quantiles are of the newest delays', () => {
  const delays = new Delays();
  assert.equal(delays.quantile(0.5), null);
  for (let ms = 1; ms <= 2_100; ms += 1) delays.add(ms);
  assert.deepEqual([delays.count, delays.quantile(0.5), delays.quantile(1)], [2_000, 1_100, 2_100]);
});

test('the clock believes the quickest answer', () => {
  const clock = new Clock();
  assert.equal(clock.offset, 0);
  clock.add(1000, 1400, 6000);
  clock.add(2000, 2010, 7005);
  assert.equal(clock.offset, 5000);
  clock.add(3000, 3002, 3002);
  assert.equal(clock.offset, 0);
});

test('times are in words', () => {
  assert.deepEqual([0, 1, 59, 60, 7_200, 200_000].map(span), [
    ...['0 seconds', '1 second', '59 seconds', '1 minute', '2 hours', '2 days'],
  ]);
  assert.equal(expiry(1_720, 1_000), 'expires in 12 minutes');
  assert.equal(expiry(940, 1_000), 'expired 1 minute ago');
});

test('a refusal says what to do', () => {
  const error = (code, message = `${code}: Invalid token`) => ({ code, message });
  assert.match(refusal(error('UNAUTHORIZED'), { exp: 900 }, 1000).title, /expired 1 minute ago/);
  assert.match(refusal(error('UNAUTHORIZED'), { exp: 2000 }, 1000).remedy, /Paste/);
  assert.match(refusal(error('FORBIDDEN_STREAM'), { exp: 2000, streams: ['gas'] }, 1000).remedy, /allows: gas/);
  const keyless = error('FORBIDDEN_KEY', 'The token does not allow these keys: it names none of stream \'energy\'');
  assert.match(refusal(keyless, null, 1000).title, /names no keys/);
  assert.match(refusal(error('FORBIDDEN_KEY'), null, 1000).remedy, /Leave the field empty/);
  assert.match(refusal(error('FORBIDDEN_ORIGIN'), null, 0, 'https://a').remedy, /https:\/\/a .*allowed_origins/);
  assert.match(refusal(error('UNKNOWN_STREAM', "UNKNOWN_STREAM: 'x'; known are gas"), null, 0).remedy, /gas/);
  assert.match(refusal(error(null, 'the token is not a JWT'), null, 0).title, /not a token/);
  assert.equal(outage('no connection'), 'The service cannot be reached.');
  assert.equal(outage('TOO_MANY_CONNECTIONS: x'), 'The service is full.');
  assert.equal(outage('closed with 1006'), 'The connection was lost.');
});

test('the token leaves the address bar and stays in the tab', () => {
  const kept = new Map();
  const replaced = [];
  const page = {
    location: { hash: '#token=a.b.c&streams=gas, energy', pathname: '/', search: '?x' },
    history: { replaceState: (...given) => replaced.push(given[2]) },
    sessionStorage: { getItem: (key) => kept.get(key) ?? null, setItem: (key, text) => kept.set(key, text) },
  };
  assert.deepEqual(fromFragment(page), { token: 'a.b.c', streams: ['gas', 'energy'] });
  assert.deepEqual(replaced, ['/?x']);
  page.location.hash = '';
  assert.equal(fromFragment(page).token, 'a.b.c');
  assert.equal(replaced.length, 1);
});

test('claims are read, also with other alphabets, or not at all', () => {
  assert.deepEqual(claims(jwt({ sub: 'ä?>', exp: 5 })), { sub: 'ä?>', exp: 5 });
  assert.equal(claims(jwt({})).exp, null);
  assert.equal(claims('nonsense'), null);
  assert.deepEqual(names(' a, ,b'), ['a', 'b']);
});

test('copies name the token by a variable unless it is asked for', () => {
  const url = 'ws://h:1/ws/energy';
  const wanted = { streams: ['energy'], begin: 'last', value: '10', onLag: 'latest' };
  for (const program of ['wscat', 'curl', 'javascript', 'python']) {
    assert.match(copy(program, url, wanted, null), /TOKEN/);
    assert.match(copy(program, url, wanted, 'a.b.c'), /a\.b\.c/);
    assert.doesNotMatch(copy(program, url, wanted, 'a.b.c'), /TOKEN/);
  }
  assert.match(copy('wscat', url, wanted, null), /\?subscribe=energy&last=10&on_lag=latest'$/);
  assert.match(copy('curl', url, wanted, null), /'http:\/\/h:1\/sse\/energy\?last=10&on_lag=latest'$/);
  assert.match(copy('python', url, wanted, null), /last=10,/);
  const two = { streams: ['a', 'b'], begin: 'resume', value: 'ff-1', onLag: '' };
  assert.match(copy('wscat', url, two, null), /resume=a%3Aff-1&resume=b%3Aff-1/);
  assert.deepEqual(subscribe(two), { type: 'subscribe', streams: ['a', 'b'], resume: { a: 'ff-1', b: 'ff-1' } });
  assert.equal(copy('curl', url, two, null).split('\ncurl').length, 2);
});

class Wire extends EventTarget {
  static all = [];
  readyState = 0;
  sent = [];

  constructor() {
    super();
    Wire.all.push(this);
  }

  says(type, fields = {}) {
    if (type === 'open') this.readyState = 1;
    this.dispatchEvent(Object.assign(new Event(type), fields));
  }

  send(text) {
    this.sent.push(text);
  }

  close() {
    this.readyState = 2;
  }
}

test('without the plug, sockets are cut and new ones fail; with it, they work again', async () => {
  const heard = [];
  const line = new Line((way, text) => heard.push([way, text]), Wire);
  const events = (socket, list = []) => {
    for (const type of ['open', 'message', 'error', 'close']) {
      socket.addEventListener(type, (event) => list.push(event.code ?? event.data ?? type));
    }
    return list;
  };
  const first = events(new line.Socket('ws://h', []));
  const [wire] = Wire.all;
  wire.says('open');
  wire.says('message', { data: 'one' });
  line.send({ type: 'ping' });
  assert.deepEqual(wire.sent, ['{"type":"ping"}']);
  line.pull();
  wire.says('message', { data: 'lost' });
  wire.says('close', { code: 1005, reason: '' });
  assert.deepEqual(first, ['open', 'one', 'error', 1006]);
  const second = events(new line.Socket('ws://h', []));
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual([second, Wire.all.length], [['error', 1006], 1]);
  line.plug();
  const third = events(new line.Socket('ws://h', []));
  Wire.all[1].says('open');
  assert.deepEqual(third, ['open']);
  assert.deepEqual(heard.map(([way]) => way), [null, 'in', 'out', null, null]);
});
