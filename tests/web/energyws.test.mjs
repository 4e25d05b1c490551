/** The client with a scripted WebSocket; the test controls timers and random numbers. */

import assert from 'node:assert/strict';
import { beforeEach, describe, mock, test } from 'node:test';
import { inspect } from 'node:util';

import { EnergyClient, Refused } from '../../energyws/web/energyws.js';
import { Scene, URL as ENDPOINT, scriptedWebSocket, settle } from './scripted.mjs';

const JWT = 'header.payload.signature';
let chance = 0;

/** The running timers, which would keep a process alive. */
let pending;

beforeEach(() => {
  mock.reset();
  mock.timers.reset();
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  pending = new Set();
  const { setTimeout, setInterval, clearTimeout } = globalThis;
  mock.method(globalThis, 'setTimeout', (work, ms) => {
    const timer = setTimeout(() => {
      pending.delete(timer);
      work();
    }, ms);
    pending.add(timer);
    return timer;
  });
  mock.method(globalThis, 'setInterval', (work, ms) => {
    const timer = setInterval(work, ms);
    pending.add(timer);
    return timer;
  });
  mock.method(globalThis, 'clearTimeout', (timer) => {
    pending.delete(timer);
    clearTimeout(timer);
  });
  chance = 0;
  mock.method(Math, 'random', () => chance);
});

async function pass(ms) {
  await settle();
  mock.timers.tick(ms);
  await settle();
}

/** A subscribed client at this position. */
async function live(options, position = 'aa-0.0') {
  const scene = new Scene(options);
  (await scene.begin()).accept().subscribed(position);
  await settle();
  return scene;
}

describe('positions', () => {
  const cases = [
    ['nothing yet', 'aa-0.0', [], 'aa-0.0'],
    ['the newest', 'aa-0.0', ['aa-1.0', 'aa-1.1'], 'aa-1.1'],
    ['the larger of each partition', 'aa-0.0', ['aa-5.0', 'aa-2.3'], 'aa-5.3'],
    ['a partition that was added', 'aa-4', ['aa-3.1'], 'aa-4.1'],
    ['a replica that does not know of it yet', 'aa-4.1', ['aa-5'], 'aa-5.1'],
    ['decimals, not texts', 'aa-9', ['aa-10', 'aa-9'], 'aa-10'],
    [
      'offsets beyond 2^53',
      'aa-9007199254740993',
      ['aa-9007199254740992', 'aa-9223372036854775806'],
      'aa-9223372036854775806',
    ],
    ['another epoch instead', 'aa-9.9', ['bb-1.0'], 'bb-1.0'],
    ['nothing that is no position', 'aa-3', ['', 'aa', 'aa-', 'aa-01', 'AA-9', 'aa-9.'], 'aa-3'],
  ];
  for (const [name, from, ids, expected] of cases) {
    test(`keep ${name}`, async () => {
      const scene = await live({}, from);
      ids.forEach((id, n) => scene.socket.data(n, id));
      await settle();
      assert.deepEqual(scene.client.positions, { energy: expected });
      if (ids.length > 0) assert.equal(scene.got.at(-1).position, expected);
      scene.socket.end(1012);
      await pass(1);
      scene.socket.accept();
      assert.deepEqual(scene.request.resume, { energy: expected });
      scene.client.close();
    });
  }

  test('are those of the last message given to the application', async () => {
    const scene = new Scene();
    const { client } = scene;
    const seen = [];
    const reading = (async () => {
      for await (const { data } of client) {
        seen.push(data.n);
        if (seen.length === 2) break;
      }
    })();
    await settle();
    scene.socket.accept().subscribed('aa-0');
    for (const n of [0, 1, 2, 3]) scene.socket.data(n, `aa-${n + 1}`);
    await reading;
    assert.deepEqual(seen, [0, 1]);
    assert.deepEqual(client.positions, { energy: 'aa-2' });
    assert.equal(client.state, 'idle');
    assert.ok(scene.socket.isClosed);

    const rest = client[Symbol.asyncIterator]();
    const next = rest.next();
    await settle();
    assert.deepEqual(scene.socket.accept().sent[0].resume, { energy: 'aa-2' });
    scene.socket.subscribed('aa-2', { recovered: true, replayed: 2 }).data(2, 'aa-3');
    assert.equal((await next).value.data.n, 2);
    const never = rest.next();
    assert.deepEqual(await rest.return(), { value: undefined, done: true });
    assert.deepEqual(await never, { value: undefined, done: true });
  });
});

describe('subscribe', () => {
  const cases = [
    [{}, {}],
    [{ streams: ['a', 'b'] }, { streams: ['a', 'b'] }],
    [{ last: 0 }, { last: 0 }],
    [{ since: '2026-01-01T00:00:00Z' }, { since: '2026-01-01T00:00:00Z' }],
    [{ resume: { energy: 'aa-1' } }, { resume: { energy: 'aa-1' } }],
    [{ resume: {}, last: 10 }, { last: 10 }],
    [{ onLag: 'latest' }, { on_lag: 'latest' }],
    [{ keys: '735' }, { keys: { energy: ['735'] } }],
    [{ keys: ['1', '2'], streams: ['a'] }, { keys: { a: ['1', '2'] }, streams: ['a'] }],
    [{ keys: { energy: '735*' } }, { keys: { energy: ['735*'] } }],
    [{ snapshot: true, maxRate: 0.5 }, { snapshot: true, max_rate: 0.5 }],
    [{ snapshot: false }, {}],
  ];
  for (const [options, expected] of cases) {
    test(`has the options ${JSON.stringify(options)}`, async () => {
      const scene = new Scene(options);
      (await scene.begin()).accept();
      assert.deepEqual(scene.request, { type: 'subscribe', streams: ['energy'], ...expected });
      scene.client.close();
    });
  }

  test('has `last` until it is answered, and then positions', async () => {
    const scene = new Scene({ last: 5 });
    (await scene.begin()).accept().end(1012);
    await pass(1);
    assert.equal(scene.socket.accept().sent[0].last, 5);
    scene.socket.subscribed('aa-3', { recovered: false, replayed: 1, reason: 'HISTORY_EXCEEDED' });
    scene.socket.end(1012);
    await pass(1);
    scene.socket.accept();
    assert.equal(scene.request.last, undefined);
    assert.deepEqual(scene.request.resume, { energy: 'aa-3' });
    // There never were more readings, so none is missing.
    assert.deepEqual(scene.got, []);
    scene.client.close();
  });
});

describe('gaps', () => {
  const unrecovered = { recovered: false, replayed: 0, reason: 'RETENTION', earliest: 'aa-5.0' };
  const gap = { kind: 'gap', stream: 'energy', reason: 'RETENTION', earliest: 'aa-5.0' };
  const cases = [
    ['counted', 'aa-5.2', { missing: [3, 1] }, { missed: 4, missing: [3, 1], position: 'aa-5.2' }],
    ['uncounted', 'aa-5.2', { missing: null }, { missed: null, missing: null, position: 'aa-5.2' }],
    [
      'after a bad position',
      'aa-7.7',
      { reason: 'BAD_POSITION' },
      { reason: 'BAD_POSITION', missed: null, missing: null, position: 'aa-7.7' },
    ],
    [
      'in another epoch',
      'bb-0.0',
      { reason: 'EPOCH_CHANGED', earliest: 'bb-0.0', missing: null },
      {
        reason: 'EPOCH_CHANGED',
        earliest: 'bb-0.0',
        missed: null,
        missing: null,
        position: 'bb-0.0',
      },
    ],
  ];
  for (const [name, position, more, expected] of cases) {
    for (const start of [{ resume: { energy: 'aa-2.1' } }, { since: '2026-01-01T00:00:00Z' }]) {
      test(`report missing readings, ${name}, with ${Object.keys(start)}`, async () => {
        const scene = new Scene(start);
        (await scene.begin()).accept().subscribed(position, { ...unrecovered, ...more });
        scene.socket.data(1, position);
        await settle();
        assert.deepEqual(scene.got[0], { ...gap, ...expected });
        assert.deepEqual(scene.numbers, [1]);
        assert.deepEqual(scene.client.positions, { energy: position });
        scene.client.close();
      });
    }
  }

  test('come where readings are missing', async () => {
    const scene = await live({}, 'aa-0');
    scene.socket.data(0, 'aa-1');
    scene.socket.say({
      type: 'lagged',
      stream: 'energy',
      missed: 4,
      from: 'aa-1',
      to: 'aa-5',
      reason: 'LAGGED',
    });
    scene.socket.data(5, 'aa-6');
    await settle();
    assert.deepEqual(
      scene.got.map(({ kind }) => kind),
      ['reading', 'gap', 'reading'],
    );
    assert.deepEqual(scene.gaps, [
      {
        kind: 'gap',
        stream: 'energy',
        missed: 4,
        missing: null,
        reason: 'LAGGED',
        earliest: null,
        position: 'aa-5',
      },
    ]);
    scene.client.close();
  });

  test('of one stream leave the others as they are', async () => {
    const scene = new Scene({ streams: ['a', 'b'], resume: { a: 'aa-1' } });
    const positions = { a: { position: 'cc-0', ...unrecovered }, b: { position: 'bb-9' } };
    (await scene.begin()).accept().say({ type: 'subscribed', streams: ['a', 'b'], positions });
    await settle();
    assert.deepEqual(
      scene.gaps.map(({ stream }) => stream),
      ['a'],
    );
    assert.deepEqual(scene.client.positions, { a: 'cc-0', b: 'bb-9' });
    scene.client.close();
  });
});

describe('keys', () => {
  const timestamp = '2026-01-01T00:00:00.000Z';
  const removed = { type: 'removed', stream: 'energy', timestamp, key: 'a', id: 'aa-3' };
  const moved = (id, more) => ({ type: 'position', stream: 'energy', id, ...more });

  function confirmed(scene, position, fields = {}) {
    const positions = { energy: { position, ...fields } };
    const keys = { energy: 1 };
    return scene.socket.say({ type: 'subscribed', streams: ['energy'], positions, keys });
  }

  test('are asked for again, from the last position', async () => {
    const scene = new Scene({ keys: 'a' });
    (await scene.begin()).accept();
    const data = { type: 'data', stream: 'energy', timestamp, data: { n: 1 }, key: 'a', id: 'aa-1' };
    confirmed(scene, 'aa-0').say(data).say(moved('aa-1000', { conflated: 4 })).end(1012);
    await pass(1);
    scene.socket.accept();
    assert.deepEqual(scene.request.resume, { energy: 'aa-1000' });
    assert.deepEqual(scene.request.keys, { energy: ['a'] });
    assert.deepEqual(
      scene.got.map(({ kind, key, position }) => [kind, key, position]),
      [['reading', 'a', 'aa-1']],
    );
    assert.equal(scene.client.conflated, 4);
    scene.client.close();
  });

  test('of a stream without them are not in its readings', async () => {
    const scene = await live();
    scene.socket.data(1, 'aa-1');
    await settle();
    assert.ok(!('key' in scene.got[0]));
    scene.client.close();
  });

  for (const [name, keys] of [
    ['no', undefined],
    ['only other', { water: 1 }],
  ]) {
    test(`must be confirmed; ${name} keys are not enough`, async () => {
      const scene = new Scene({ keys: 'secret' });
      (await scene.begin()).accept();
      const positions = { energy: { position: 'aa-0' } };
      scene.socket.say({ type: 'subscribed', streams: ['energy'], positions, keys });
      scene.socket.data(1, 'aa-1');
      await settle();
      assert.ok(scene.error instanceof Refused);
      assert.equal(scene.error.code, 'NOT_FILTERED');
      assert.equal(scene.error.message, 'the service does not filter energy by key');
      assert.deepEqual(scene.got, []);
      assert.ok(scene.socket.isClosed);
    });
  }

  test('are not counted where they stand for all', async () => {
    const scene = new Scene({ keys: '*' });
    (await scene.begin()).accept().subscribed('aa-0').data(1, 'aa-1');
    await settle();
    assert.deepEqual(scene.numbers, [1]);
    scene.client.close();
  });

  for (const [options, told] of [
    [{}, 0],
    [{ snapshot: true }, 1],
  ]) {
    test(`are removed, with ${JSON.stringify(options)}`, async () => {
      const scene = await live(options, 'aa-0');
      scene.socket.say(removed);
      await settle();
      const expected = { kind: 'removed', stream: 'energy', timestamp, key: 'a', position: 'aa-3' };
      assert.deepEqual(scene.got, told ? [expected] : []);
      assert.deepEqual(scene.client.positions, { energy: 'aa-3' });
      scene.client.close();
    });
  }

  test('have a snapshot, which begins again if it is broken', async () => {
    const scene = new Scene({ snapshot: true, resume: { energy: 'aa-1' } });
    const state = { complete: false, since: timestamp, keys: 2 };
    const answer = (fields) => ({
      type: 'subscribed',
      streams: ['energy'],
      positions: { energy: { position: 'aa-9', ...fields } },
      snapshots: { energy: { position: 'aa-9', ...state } },
    });
    const snapshot = { type: 'snapshot', stream: 'energy', key: 'a', timestamp, data: { n: 1 } };
    const lost = { recovered: false, replayed: 0, reason: 'RETENTION', earliest: 'aa-5' };
    (await scene.begin()).accept().say(answer(lost)).say(snapshot).end(1012);
    await pass(1);
    scene.socket.accept();
    assert.equal(scene.request.resume, undefined);
    assert.equal(scene.request.snapshot, true);
    scene.socket.say(answer({})).say(snapshot);
    await settle();
    assert.deepEqual(scene.client.positions, {});
    scene.socket.say(moved('aa-9'));
    await settle();
    assert.deepEqual(scene.client.positions, { energy: 'aa-9' });
    assert.deepEqual(scene.client.snapshots, { energy: state });
    const less = { ...state, since: '2025-12-26T13:00:00.000Z' };
    scene.socket.say(moved('aa-9', { snapshot: { position: 'aa-9', ...less } }));
    await settle();
    assert.deepEqual(scene.client.snapshots, { energy: less });
    const reading = { kind: 'reading', stream: 'energy', timestamp, data: { n: 1 }, key: 'a' };
    const expected = { ...reading, position: '', isSnapshot: true };
    assert.deepEqual(scene.got.slice(1), [expected, expected]);
    assert.equal(scene.gaps.length, 1);
    scene.client.close();
  });
});

describe('backoff', () => {
  const bounds = [250, 500, 1000, 2000, 4000, 8000, 15000, 15000];
  for (const share of [0, 0.5, 1]) {
    test(`waits ${share} of a bound that doubles up to a maximum`, async () => {
      chance = share;
      const scene = new Scene();
      await scene.begin();
      for (const [attempt, bound] of bounds.entries()) {
        scene.socket.emit('error', { message: 'no' });
        await settle();
        if (share > 0) await pass(share * bound - 1);
        assert.equal(scene.sockets.length, attempt + 1);
        await pass(1);
        assert.equal(scene.sockets.length, attempt + 2);
      }
      scene.client.close();
    });
  }

  test('begins again once a subscription is answered', async () => {
    chance = 1;
    const scene = new Scene();
    await scene.begin();
    for (const bound of [250, 500]) {
      scene.socket.end(1006);
      await settle();
      await pass(bound);
    }
    scene.socket.accept().subscribed('aa-0').end(1012);
    await settle();
    await pass(250);
    assert.equal(scene.sockets.length, 4);
    scene.client.close();
  });

  test('is replaced once by the time that the service gives', async () => {
    const scene = await live();
    scene.socket.say({ type: 'reconnect', after_ms: 730 }).end(1012, 'service restart');
    await pass(729);
    assert.equal(scene.sockets.length, 1);
    await pass(1);
    assert.equal(scene.sockets.length, 2);
    scene.socket.end(1006);
    await pass(1);
    assert.equal(scene.sockets.length, 3);
    scene.client.close();
  });

  test('follows a handshake without an answer', async () => {
    const scene = new Scene();
    const first = await scene.begin();
    await pass(10_000);
    await pass(1);
    assert.ok(first.isClosed);
    assert.equal(scene.sockets.length, 2);
    first.accept().subscribed('aa-0');
    assert.deepEqual(first.sent, []);
    assert.equal(scene.client.connects, 0);
    assert.equal(scene.client.state, 'connecting');
    scene.client.close();
  });
});

describe('refusals', () => {
  for (const code of ['UNKNOWN_STREAM', 'FORBIDDEN_STREAM', 'BAD_MESSAGE', 'FORBIDDEN_KEY']) {
    test(`${code} ends the iteration`, async () => {
      const scene = new Scene();
      (await scene.begin()).accept().fail(code, 'no');
      await settle();
      assert.ok(scene.error instanceof Refused);
      assert.equal(scene.error.message, `${code}: no`);
      assert.deepEqual([scene.error.code, scene.error.close], [code, null]);
      assert.ok(scene.socket.isClosed);
      assert.equal(scene.client.state, 'idle');
    });
  }

  test('have the error of the service', async () => {
    const scene = new Scene();
    (await scene.begin()).accept().fail('FORBIDDEN_ORIGIN', 'not you').end(4403, 'forbidden');
    await settle();
    assert.equal(scene.error.message, 'FORBIDDEN_ORIGIN: not you');
    assert.deepEqual([scene.error.code, scene.error.close], ['FORBIDDEN_ORIGIN', 4403]);
  });

  test('have the close code and the error before it', async () => {
    const scene = await live();
    scene.socket.emit('error', { message: 'broken' });
    scene.socket.end(4403, 'forbidden');
    await settle();
    assert.equal(scene.error.message, 'closed with 4403: forbidden');
  });

  test('do not have an earlier error', async () => {
    const scene = new Scene();
    (await scene.begin()).accept().fail('STREAM_UNAVAILABLE', 'wait').subscribed('aa-0');
    scene.socket.end(1009, 'message too big');
    await settle();
    assert.equal(scene.error.message, 'closed with 1009: message too big');
    assert.deepEqual([scene.error.code, scene.error.close], [null, 1009]);
  });

  test('of a message that violates the protocol end the connection', async () => {
    const scene = await live();
    scene.socket.say({ type: 'subscribed' });
    await settle();
    assert.ok(scene.error instanceof TypeError);
    assert.ok(scene.socket.isClosed);
    assert.equal(pending.size, 0);
  });

  test('come after all earlier messages', async () => {
    const scene = new Scene();
    (await scene.begin()).accept().subscribed('aa-0').data(0, 'aa-1').data(1, 'aa-2').end(4403);
    await settle();
    assert.deepEqual(scene.numbers, [0, 1]);
    assert.ok(scene.error instanceof Refused);
  });

  test('do not follow from other errors and unknown messages', async () => {
    const scene = new Scene();
    (await scene.begin()).accept().fail('STREAM_UNAVAILABLE', 'wait').say({ type: 'news' });
    scene.socket.say(null).say([1]).subscribed('aa-0').data(1, 'aa-1');
    await settle();
    assert.deepEqual(scene.numbers, [1]);
    scene.client.close();
  });

  for (const data of ['{', new Uint8Array(2)]) {
    test(`do not follow from a message that is not JSON (${typeof data})`, async () => {
      const scene = await live();
      scene.socket.emit('message', { data });
      await pass(1);
      assert.equal(scene.sockets.length, 2);
      assert.equal(scene.error, null);
      scene.client.close();
    });
  }
});

describe('token', () => {
  test('is sent in a subprotocol and nowhere else', async () => {
    const scene = new Scene({ token: JWT });
    const socket = await scene.begin();
    assert.deepEqual(socket.protocols, ['energyws', `bearer.${JWT}`]);
    assert.equal(socket.url, ENDPOINT);
    socket.accept();
    assert.ok(!JSON.stringify(socket.sent).includes(JWT));
    scene.client.close();
  });

  for (const token of [undefined, null, () => null, async () => undefined]) {
    test(`may be missing (${token})`, async () => {
      const scene = new Scene({ token });
      assert.deepEqual((await scene.begin()).protocols, ['energyws']);
      scene.client.close();
    });
  }

  for (const token of ['CANARY with spaces', 'CANARY,bearer', 'CANARY=', 'CANARYé', '']) {
    test(`that is invalid (${token}) is refused, and not shown`, async () => {
      const scene = new Scene({ token });
      await scene.begin();
      assert.ok(scene.error instanceof Refused);
      assert.ok(!`${scene.error.stack}${scene.states}`.includes('CANARY'));
      assert.deepEqual(scene.sockets, []);
    });
  }

  test('in the error of a WebSocket is not shown', async () => {
    const scene = new Scene({
      token: JWT,
      WebSocket: class {
        constructor(url, protocols) {
          throw new SyntaxError(`The subprotocol '${protocols[1]}' is invalid.`);
        }
      },
    });
    await scene.begin();
    assert.equal(scene.error.message, 'this WebSocket may not be opened: SyntaxError');
    assert.equal(scene.error.cause, undefined);
  });

  test('is fresh for every connection', async () => {
    let count = 0;
    const scene = new Scene({ token: async () => `token-${++count}` });
    await scene.begin();
    scene.socket.end(1006);
    await pass(1);
    assert.deepEqual(
      scene.sockets.map(({ protocols }) => protocols[1]),
      ['bearer.token-1', 'bearer.token-2'],
    );
    scene.client.close();
  });

  test('is renewed on its connection when it expires soon', async () => {
    let count = 0;
    const scene = await live({ token: () => `token-${++count}` });
    scene.socket.fail('TOKEN_EXPIRING', 'soon');
    await settle();
    assert.deepEqual(scene.socket.sent.slice(1), [{ type: 'auth', token: 'token-2' }]);
    assert.equal(scene.sockets.length, 1);
    scene.client.close();
  });

  test('that is fixed cannot be renewed', async () => {
    const scene = await live({ token: JWT });
    scene.socket.fail('TOKEN_EXPIRING', 'soon');
    await settle();
    assert.equal(scene.socket.sent.length, 1);
    scene.socket.end(4401, 'token expired');
    await settle();
    assert.ok(scene.error instanceof Refused);
    assert.equal(scene.error.close, 4401);
  });

  test('is renewed while the application is busy', async () => {
    const scene = new Scene({ token: () => JWT });
    (await scene.begin(() => new Promise(() => {}))).accept().subscribed('aa-0').data(0, 'aa-1');
    scene.socket.data(1, 'aa-2').fail('TOKEN_EXPIRING', 'soon');
    await settle();
    assert.deepEqual(scene.numbers, [0]);
    assert.deepEqual(scene.socket.sent.at(-1), { type: 'auth', token: JWT });
    scene.client.close();
  });

  test('that fails to be renewed leaves the connection as it is', async () => {
    let count = 0;
    const scene = await live({
      token: () => {
        if (++count > 1) throw new Error('offline');
        return JWT;
      },
    });
    scene.socket.fail('TOKEN_EXPIRING', 'soon').data(0, 'aa-1');
    await settle();
    assert.deepEqual(scene.numbers, [0]);
    assert.equal(scene.socket.sent.length, 1);
    scene.client.close();
  });

  test('that comes after the end of the connection is not sent', async () => {
    const requests = [];
    const scene = new Scene({ token: () => new Promise((give) => requests.push(give)) });
    await scene.begin();
    requests[0](JWT);
    await settle();
    const [first] = scene.sockets;
    first.accept().subscribed('aa-0').fail('TOKEN_EXPIRING', 'soon').end(1012);
    await settle();
    requests[1](JWT);
    await settle();
    assert.equal(first.sent.length, 1);
    scene.client.close();
  });

  for (const strike of [
    (socket) => socket.accept().fail('UNAUTHORIZED', 'Invalid token').end(4401),
    (socket) => socket.emit('error', { message: 'Unexpected server response: 401' }),
  ]) {
    test(`from a function is requested once more before giving up: ${strike}`, async () => {
      const scene = new Scene({ token: () => JWT });
      strike(await scene.begin());
      await pass(1);
      assert.equal(scene.error, null);
      assert.equal(scene.sockets.length, 2);
      strike(scene.socket);
      await settle();
      assert.ok(scene.error instanceof Refused);
    });
  }

  test('that has expired is replaced every time', async () => {
    const scene = new Scene({ token: () => JWT });
    await scene.begin();
    for (const count of [1, 2, 3]) {
      assert.equal(scene.sockets.length, count);
      scene.socket.accept().subscribed('aa-0', { recovered: true }).end(4401, 'token expired');
      await pass(1);
    }
    assert.equal(scene.error, null);
    scene.client.close();
  });

  test('that cannot be fetched is tried again', async () => {
    let count = 0;
    const scene = new Scene({
      token: async () => {
        if (++count < 3) throw new TypeError('offline');
        return JWT;
      },
    });
    await scene.begin();
    assert.deepEqual(scene.sockets, []);
    assert.equal(scene.states.at(-1), 'waiting: no token: TypeError: offline');
    await pass(1);
    await pass(1);
    assert.equal(scene.sockets.length, 1);
    scene.client.close();
  });

  test('that the application refuses to give ends the iteration', async () => {
    const signedOut = new Refused('signed out');
    const scene = new Scene({ token: () => Promise.reject(signedOut) });
    await scene.begin();
    assert.equal(scene.error, signedOut);
  });
});

describe('half-open connections', () => {
  const pings = (socket) => socket.sent.filter(({ type }) => type === 'ping').length;

  test('get a ping, and are ended', async () => {
    const scene = await live({}, 'aa-4');
    const [first] = scene.sockets;
    await pass(20_000);
    assert.equal(pings(first), 0);
    await pass(20_000);
    assert.equal(pings(first), 1);
    assert.equal(scene.sockets.length, 1);
    await pass(20_000);
    await pass(1);
    assert.ok(first.isClosed);
    assert.equal(scene.sockets.length, 2);
    assert.deepEqual(scene.socket.accept().sent[0].resume, { energy: 'aa-4' });
    // Later messages are ignored: the next connection brings them again.
    first.data(4, 'aa-5');
    await settle();
    assert.deepEqual(scene.got, []);
    scene.client.close();
  });

  for (const [name, answer] of [
    ['a pong', (socket) => socket.say({ type: 'pong' })],
    ['a reading', (socket) => socket.data(0, 'aa-1')],
    ['an error', (socket) => socket.fail('RATE_LIMITED', 'slower')],
  ]) {
    test(`do not receive ${name}`, async () => {
      const scene = await live();
      for (let count = 1; count < 5; count += 1) {
        await pass(20_000);
        await pass(20_000);
        assert.equal(pings(scene.socket), count);
        answer(scene.socket);
      }
      assert.equal(scene.sockets.length, 1);
      scene.client.close();
    });
  }

  test('are detected also before the subscription is answered', async () => {
    const scene = new Scene();
    (await scene.begin()).accept();
    await pass(20_000);
    assert.equal(pings(scene.socket), 1);
    await pass(20_000);
    await pass(1);
    assert.equal(scene.sockets.length, 2);
    scene.client.close();
  });
});

describe('a slow application', () => {
  /** A client whose application takes one message whenever `take` is called. */
  async function slow() {
    const waiting = [];
    const scene = new Scene();
    (await scene.begin(() => new Promise((resolve) => waiting.push(resolve)))).accept();
    scene.socket.subscribed('aa-0').data(0, 'aa-1');
    await settle();
    const take = async (count) => {
      for (let n = 0; n < count; n += 1) {
        waiting.shift()();
        await settle();
      }
    };
    return { scene, take };
  }

  test('has the connection closed, and misses nothing', async () => {
    const { scene, take } = await slow();
    const [first] = scene.sockets;
    for (let n = 1; n <= 5_000; n += 1) first.data(n, `aa-${n + 1}`);
    assert.ok(!first.isClosed);
    assert.equal(scene.client.state, 'live');
    first.data(5_001, 'aa-5002');
    assert.ok(first.isClosed);
    assert.equal(scene.client.state, 'waiting');
    // Some implementations still deliver messages after close().
    for (let n = 5_002; n < 6_000; n += 1) first.data(n, `aa-${n + 1}`);
    // The close event of an ended connection is ignored.
    first.end(4403);
    await take(5_001);
    assert.equal(scene.sockets.length, 1);
    await take(1);
    await pass(1);
    scene.socket.accept();
    assert.deepEqual(scene.request.resume, { energy: 'aa-5002' });
    scene.socket.subscribed('aa-5002', { recovered: true, replayed: 1 }).data(5_002, 'aa-5003');
    await settle();
    assert.deepEqual(scene.numbers, [...Array(5_003).keys()]);
    assert.deepEqual(scene.gaps, []);
    scene.client.close();
  });

  test('is limited also in characters', async () => {
    const { scene } = await slow();
    const large = 'x'.repeat(5 << 20);
    scene.socket.data(large, 'aa-2');
    assert.ok(!scene.socket.isClosed);
    scene.socket.data(large, 'aa-3');
    assert.ok(scene.socket.isClosed);
    scene.client.close();
  });

  test('may receive a single very large reading', async () => {
    const scene = await live();
    for (const id of ['aa-1', 'aa-2', 'aa-3']) {
      scene.socket.data('x'.repeat(9 << 20), id);
      await settle();
    }
    scene.socket.data(3, 'aa-4').data(4, 'aa-5');
    await settle();
    assert.equal(scene.got.length, 5);
    assert.ok(!scene.socket.isClosed);
    scene.client.close();
  });

  test('does not delay the next attempt', async () => {
    chance = 1;
    const { scene, take } = await slow();
    for (let n = 1; n <= 5_001; n += 1) scene.socket.data(n, `aa-${n + 1}`);
    await take(5_002);
    await pass(250);
    assert.equal(scene.sockets.length, 2);
    scene.socket.end(1006);
    await settle();
    await pass(250);
    assert.equal(scene.sockets.length, 3);
    scene.client.close();
  });
});

describe('states', () => {
  test('are reported in order, with the cause', async () => {
    const scene = await live();
    scene.socket.end(1012, 'service restart');
    await pass(1);
    scene.socket.emit('error', { message: 'ECONNREFUSED' });
    await settle();
    scene.client.close();
    await settle();
    assert.deepEqual(scene.states, [
      'connecting',
      'live',
      'waiting: closed with 1012: service restart',
      'connecting',
      'waiting: no connection',
      'idle',
    ]);
    assert.ok(scene.isOver);
    assert.equal(scene.client.connects, 1);
  });

  const situations = {
    idle: async (scene) => scene,
    'requesting a token': async (scene) => scene.begin(),
    connecting: async (scene) => scene.begin(),
    live: async (scene) => (await scene.begin()).accept().subscribed('aa-0'),
    'about to give out': async (scene) => {
      (await scene.begin()).accept().subscribed('aa-0');
      await settle();
      scene.socket.data(0, 'aa-1').data(1, 'aa-2');
    },
    'about to wait': async (scene) => (await scene.begin()).end(1006),
    waiting: async (scene) => {
      (await scene.begin()).end(1006);
      await settle();
    },
  };
  for (const [name, arrange] of Object.entries(situations)) {
    test(`close ends the iteration for good while it is ${name}`, async () => {
      chance = 1;
      const token = name === 'requesting a token' ? () => new Promise(() => {}) : JWT;
      const scene = new Scene({ token });
      await arrange(scene);
      scene.client.close();
      scene.client.close();
      await scene.begin();
      assert.ok(scene.isOver);
      assert.equal(pending.size, 0);
      await pass(60_000);
      assert.equal(scene.error, null);
      assert.deepEqual(scene.got, []);
      assert.ok(scene.sockets.length <= 1);
      assert.ok(scene.sockets.every(({ isClosed }) => isClosed));
      assert.equal(scene.states.some((state) => /waiting/.test(state)), name.includes('wait'));
      assert.equal(scene.client.state, 'idle');
    });
  }

  test('reported to a callback that throws interrupt nothing', async () => {
    const thrown = [];
    mock.method(globalThis, 'queueMicrotask', (task) => {
      Promise.resolve()
        .then(task)
        .catch((error) => thrown.push(error));
    });
    const fault = new Error('of the application');
    const scene = await live({
      onState: () => {
        throw fault;
      },
    });
    scene.socket.data(0, 'aa-1');
    await settle();
    assert.deepEqual(scene.numbers, [0]);
    assert.deepEqual(thrown, [fault, fault]);
    scene.client.close();
  });

  test('a second loop at the same time is an error', async () => {
    const scene = await live();
    await assert.rejects(scene.client[Symbol.asyncIterator]().next(), /iterated already/);
    scene.socket.data(0, 'aa-1');
    await settle();
    assert.deepEqual(scene.numbers, [0]);
    scene.client.close();
  });
});

describe('construction', () => {
  const made = [];
  const WebSocket = scriptedWebSocket(made);

  test('without any WebSocket throws an error with advice', () => {
    const { WebSocket: own } = globalThis;
    delete globalThis.WebSocket;
    try {
      assert.throws(() => new EnergyClient(ENDPOINT), /Node >= 22.*--experimental-websocket.* ws /);
    } finally {
      if (own) globalThis.WebSocket = own;
    }
  });

  for (const [url, expected] of [
    ['ws://127.0.0.1/ws/energy', 'ws://127.0.0.1/ws/energy'],
    ['wss://127.0.0.1/ws/energy?x=1', 'wss://127.0.0.1/ws/energy?x=1'],
    ['http://127.0.0.1:81/ws/energy', 'ws://127.0.0.1:81/ws/energy'],
    [new URL('https://127.0.0.1/ws/energy'), 'wss://127.0.0.1/ws/energy'],
  ]) {
    test(`accepts ${url}`, async () => {
      const client = new EnergyClient(url, { WebSocket });
      void client[Symbol.asyncIterator]().next();
      await settle();
      assert.equal(made.at(-1).url, expected);
      client.close();
    });
  }

  test('accepts a path in a page', async () => {
    globalThis.location = { href: 'https://app.test/dashboard/' };
    try {
      const client = new EnergyClient('/ws/energy', { WebSocket });
      void client[Symbol.asyncIterator]().next();
      await settle();
      assert.equal(made.at(-1).url, 'wss://app.test/ws/energy');
      client.close();
    } finally {
      delete globalThis.location;
    }
  });

  for (const url of ['/ws/energy?token=CANARY', 'ftp://127.0.0.1/CANARY', 'ws://?CANARY']) {
    test(`refuses ${url}, and does not show it`, () => {
      assert.throws(
        () => new EnergyClient(url, { WebSocket }),
        (error) => error instanceof TypeError && !error.stack.includes('CANARY'),
      );
    });
  }

  for (const keys of [4711, true, [4711], [null], new Set(['4711']), new Map([['energy', '4711']])]) {
    test(`refuses keys that are no strings: ${inspect(keys)}`, () => {
      assert.throws(
        () => new EnergyClient(ENDPOINT, { WebSocket, keys }),
        (error) => error instanceof TypeError && !error.message.includes('4711'),
      );
    });
  }

  for (const options of [
    { since: '2026-01-01T00:00:00Z', last: 1 },
    { resume: { energy: 'aa-1' }, last: 1 },
    { resume: { energy: 'aa-1' }, since: '2026-01-01T00:00:00Z' },
  ]) {
    test(`refuses ${Object.keys(options).join(' and ')} together`, () => {
      assert.throws(() => new EnergyClient(ENDPOINT, { WebSocket, ...options }), /exclude/);
    });
  }
});

/** Seeded random numbers: mulberry32. */
function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

describe('every reading comes once, in the order of its partition', () => {
  const PARTITIONS = 3;
  const RECORDS = 100;

  /** The messages of a replica after a position; each interleaves partitions differently. */
  function* replica(position, random) {
    const offsets = position.slice('aa-'.length).split('.').map(Number);
    for (;;) {
      const open = [...offsets.keys()].filter((p) => offsets[p] < RECORDS);
      if (open.length === 0) return;
      const partition = open[Math.floor(random() * open.length)];
      const n = partition * RECORDS + offsets[partition];
      offsets[partition] += 1;
      yield [n, `aa-${offsets.join('.')}`];
    }
  }

  for (let seed = 1; seed <= 20; seed += 1) {
    test(`over connections that end at any time (seed ${seed})`, async () => {
      const random = generator(seed);
      const scene = new Scene({ resume: { energy: 'aa-0.0.0' } });
      await scene.begin(() => (random() < 0.2 ? settle() : undefined));
      while (scene.got.length < PARTITIONS * RECORDS) {
        const { socket } = scene;
        socket.accept().subscribed(scene.request.resume.energy, { recovered: true, replayed: 1 });
        const budget = Math.floor(random() * 40);
        let sent = 0;
        for (const [n, id] of replica(scene.request.resume.energy, random)) {
          if (sent++ === budget) break;
          socket.data(n, id);
          if (random() < 0.3) await settle();
        }
        socket.end(random() < 0.5 ? 1006 : 1012);
        while (scene.socket === socket) await pass(1);
      }
      assert.deepEqual(
        [...scene.numbers].sort((a, b) => a - b),
        [...Array(PARTITIONS * RECORDS).keys()],
      );
      for (let partition = 0; partition < PARTITIONS; partition += 1) {
        const own = scene.numbers.filter((n) => Math.floor(n / RECORDS) === partition);
        assert.deepEqual(own, [...own].sort((a, b) => a - b));
      }
      scene.client.close();
    });
  }
});
