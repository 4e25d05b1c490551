import { EnergyClient } from './energyws.js';

const token = new URLSearchParams(location.hash.slice(1)).get('token');
history.replaceState(null, '', location.pathname + location.search);
const state = document.getElementById('state');
const client = new EnergyClient(new URL('ws/energy', document.baseURI), {
  token,
  last: 1,
  onState: (name, why) => (state.textContent = `${name} ${why}`),
});
try {
  for await (const message of client) state.textContent = JSON.stringify(message);
} catch (error) {
  state.textContent = error.message;
}
