/**
 * Runs clients for a test, in a page or in Node:
 *
 *     GET  /job     {"id", "url", "options", "renew", "busy"}, if there is another job
 *     POST /events  {"id", "events": […], "connects", "over"}: the events since the last post;
 *                   the answer is {"stop", "busy"}: whether to end the client, and whether its
 *                   application takes nothing for now
 *     GET  /token   a fresh token, for jobs that renew; 403: never, 500: not now
 */

import { EnergyClient, Refused } from '../../energyws/web/energyws.js';

const base = globalThis.location?.origin ?? process.argv[2];
const POST_EVERY_MS = 25;

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function fetchToken() {
  const answer = await fetch(`${base}/token`);
  if (answer.status === 403) throw new Refused('signed out');
  if (!answer.ok) throw new Error('offline');
  return answer.text();
}

async function consume(client, application, events) {
  try {
    for await (const { kind, data, ...more } of client) {
      if (kind === 'reading') events.push({ n: data.n });
      else if (kind === 'gap') events.push({ gap: more });
      else events.push({ removed: more.key });
      while (application.busy) await pause(POST_EVERY_MS);
    }
  } catch ({ name, message, code, close }) {
    events.push({ error: { name, message, code, close } });
  }
}

async function run({ id, url, options, renew, busy }) {
  const events = [];
  const application = { busy };
  const onState = (state, why) => events.push({ state, why });
  const token = renew ? fetchToken : options.token;
  const client = new EnergyClient(url, { ...options, token, onState });
  let over = false;
  const consumed = consume(client, application, events).then(() => (over = true));
  for (;;) {
    const posted = { id, events: events.splice(0), connects: client.connects, over };
    const answer = await fetch(`${base}/events`, { method: 'POST', body: JSON.stringify(posted) });
    if (posted.over) return;
    const { stop, ...told } = await answer.json();
    application.busy = told.busy;
    if (stop) {
      client.close();
      await consumed;
    }
    await pause(POST_EVERY_MS);
  }
}

for (;;) {
  const answer = await fetch(`${base}/job`);
  if (answer.status === 200) void run(await answer.json());
}
