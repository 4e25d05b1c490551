/** The token: where it comes from, and what it says about itself. */

const KEY = 'energyws.token';

/** The claims of a JWT, not verified; null where it is none. */
export function claims(token) {
  try {
    const part = token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(part), (character) => character.charCodeAt(0));
    const found = JSON.parse(new TextDecoder().decode(bytes));
    return { ...found, exp: typeof found.exp === 'number' ? found.exp : null };
  } catch {
    return null;
  }
}

/**
 * `#token=…&streams=…`: taken out of the address bar, or it would be in every copy of the address.
 *
 * A fragment is never sent to a server, unlike a query.
 */
export function fromFragment({ location, history, sessionStorage }) {
  const given = new URLSearchParams(location.hash.slice(1));
  const token = given.get('token');
  if (token !== null) {
    history.replaceState(null, '', location.pathname + location.search);
    remember(sessionStorage, token);
  }
  const streams = given.get('streams');
  return { token: token ?? recall(sessionStorage), streams: streams ? names(streams) : null };
}

/** Keep it for reloads of this tab; some browsers forbid the storage. */
export function remember(storage, token) {
  try {
    storage.setItem(KEY, token);
  } catch {
    // The tab has it as long as it lives.
  }
}

function recall(storage) {
  try {
    return storage.getItem(KEY);
  } catch {
    return null;
  }
}

/** The stream names in a comma-separated list. */
export function names(text) {
  return text.split(',').map((name) => name.trim()).filter(Boolean);
}
