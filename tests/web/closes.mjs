/**
 * Prints whether the client gives up on each close code and HTTP status, as JSON.
 *
 *     node closes.mjs '{"closes": [1000, …], "statuses": [401, …]}'
 */

import { Scene, settle } from './scripted.mjs';

async function isRefused(...strike) {
  const scene = new Scene({ token: 'header.payload.signature' });
  const socket = await scene.begin();
  socket.emit(...strike);
  await settle();
  const refused = scene.error?.name === 'Refused';
  scene.client.close();
  return refused;
}

const { closes, statuses } = JSON.parse(process.argv[2]);
const found = { closes: {}, statuses: {} };
for (const code of closes) {
  found.closes[code] = await isRefused('close', { code, reason: 'because' });
}
for (const status of statuses) {
  const message = `Unexpected server response: ${status}`;
  found.statuses[status] = await isRefused('error', { message });
}
console.log(JSON.stringify(found));
