/** A subscription as a command or program for somebody else's terminal. */

/**
 * The fields of a `subscribe` message.
 *
 * begin: '', 'last', 'since' or 'resume', with its `value`; onLag: '' or a value of `on_lag`.
 */
export function subscribe({ streams, begin, value, onLag }) {
  const message = { type: 'subscribe', streams };
  if (begin === 'last') message.last = /^\d+$/.test(value) ? Number(value) : value;
  if (begin === 'since') message.since = value;
  if (begin === 'resume') message.resume = Object.fromEntries(streams.map((name) => [name, value]));
  if (onLag) message.on_lag = onLag;
  return message;
}

/** url: of the endpoint, ws: or wss:. token: null for a variable in its place. */
export function copy(program, url, wanted, token) {
  return { wscat, curl, javascript, python }[program](url, wanted, token);
}

function header(token) {
  return token === null ? '"Authorization: Bearer $TOKEN"' : `'Authorization: Bearer ${token}'`;
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function query({ begin, value, onLag }, fields = {}) {
  const found = new URLSearchParams(fields);
  if (begin && value) found.set(begin, value);
  if (onLag) found.set('on_lag', onLag);
  const text = found.toString();
  return text && `?${text}`;
}

function wscat(url, wanted, token) {
  const { streams, begin, value } = wanted;
  // With several streams, each position names its own.
  const several = begin === 'resume' && streams.length > 1;
  const [first, ...more] = streams.map((name) => `${name}:${value}`);
  let text = query(several ? { ...wanted, value: first } : wanted, { subscribe: streams.join(',') });
  if (several) text += more.map((each) => `&resume=${encodeURIComponent(each)}`).join('');
  return `wscat -H ${header(token)} \\\n  -c ${quoted(url + text)}`;
}

function curl(url, wanted, token) {
  const base = url.replace(/^ws/, 'http').replace(/\/ws\/energy$/, '');
  return wanted.streams
    .map((name) => {
      const address = `${base}/sse/${encodeURIComponent(name)}${query(wanted)}`;
      return `curl -N -H ${header(token)} \\\n  ${quoted(address)}`;
    })
    .join('\n');
}

function javascript(url, { streams, begin, value, onLag }, token) {
  const message = subscribe({ streams, begin, value, onLag: '' });
  const options = [
    `token: ${token === null ? 'process.env.TOKEN' : JSON.stringify(token)}`,
    `streams: ${JSON.stringify(streams)}`,
    ...(begin ? [`${begin}: ${JSON.stringify(message[begin])}`] : []),
    ...(onLag ? [`onLag: ${JSON.stringify(onLag)}`] : []),
  ];
  return [
    "import { EnergyClient } from './energyws.js';",
    '',
    `const client = new EnergyClient(${JSON.stringify(url)}, {`,
    ...options.map((each) => `  ${each},`),
    '});',
    'for await (const message of client) console.log(message);',
  ].join('\n');
}

function python(url, { streams, begin, value, onLag }, token) {
  const message = subscribe({ streams, begin, value, onLag: '' });
  const options = [
    `token=${token === null ? 'os.environ["TOKEN"]' : JSON.stringify(token)}`,
    `streams=${JSON.stringify(streams)}`,
    ...(begin ? [`${begin}=${JSON.stringify(message[begin])}`] : []),
    ...(onLag ? [`on_lag=${JSON.stringify(onLag)}`] : []),
  ];
  return [
    'import asyncio',
    ...(token === null ? ['import os'] : []),
    '',
    'from energyws.client import Client',
    '',
    '',
    'async def main() -> None:',
    '    client = Client(',
    `        ${JSON.stringify(url)},`,
    ...options.map((each) => `        ${each},`),
    '    )',
    '    async for message in client.messages():',
    '        print(message)',
    '',
    '',
    'asyncio.run(main())',
  ].join('\n');
}
