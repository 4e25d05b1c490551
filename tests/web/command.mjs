/** The JavaScript client as a command of the conformance kit: `node command.mjs URL`. */

import { EnergyClient, Refused } from '../../energyws/web/energyws.js';

const { WS_TOKEN, WS_TOKEN_URL, WS_KEYS, WS_SNAPSHOT } = process.env;

async function fetchToken() {
  const answer = await fetch(WS_TOKEN_URL);
  if (answer.status === 403) throw new Refused('signed out');
  if (!answer.ok) throw new Error('offline');
  return answer.text();
}

const client = new EnergyClient(process.argv[2], {
  token: WS_TOKEN_URL ? fetchToken : WS_TOKEN,
  keys: WS_KEYS?.split(' '),
  snapshot: WS_SNAPSHOT === '1',
});
try {
  for await (const { kind, data } of client) {
    if (kind === 'reading') console.log(JSON.stringify({ data }));
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
