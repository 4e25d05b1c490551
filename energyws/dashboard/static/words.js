/** Times, numbers and errors in words for people. */

const UNITS = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
  ['second', 1],
];

/** A duration in its largest unit: "12 minutes". */
export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const [unit, size] = UNITS.find(([, each]) => whole >= each) ?? UNITS.at(-1);
  const count = Math.floor(whole / size);
  return `${count} ${unit}${count === 1 ? '' : 's'}`;
}

/** When a token ends, seen from `now` (both Unix seconds). */
export function expiry(exp, now) {
  if (exp === null) return 'does not expire';
  return exp > now ? `expires in ${span(exp - now)}` : `expired ${span(now - exp)} ago`;
}

const numbers = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat('en', { maximumSignificantDigits: 4 });

/** A measured value, with as many digits as people read. */
export function number(value) {
  if (value === null || value === undefined) return '–';
  return Math.abs(value) >= 1000 || Number.isInteger(value)
    ? numbers.format(value)
    : fine.format(value);
}

/** A delay in milliseconds, with its unit. */
export function milliseconds(value) {
  if (value === null) return '–';
  if (value >= 10_000) return `${(value / 1000).toFixed(1)} s`;
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`;
}

/** A time of day; `ms`: Unix milliseconds. */
export function clock(ms, seconds = true) {
  const options = { hour: '2-digit', minute: '2-digit', hour12: false };
  return new Date(ms).toLocaleTimeString('en-GB', seconds ? { ...options, second: '2-digit' } : options);
}

/**
 * Why the service refuses, and what to do about it.
 *
 * error: the client's Refused. claims: of the token, or null. now: Unix seconds.
 */
export function refusal(error, claims, now, origin) {
  const message = error.message.replace(/^[A-Z_]+: /, '');
  if (claims?.exp != null && claims.exp <= now) {
    return {
      title: `Your token ${expiry(claims.exp, now)}.`,
      remedy: 'Paste a fresh one: the page goes on where it stopped.',
      token: true,
    };
  }
  // The client does not send what cannot be one.
  if (error.code === null && /not a JWT/.test(message)) {
    return { title: 'This is not a token.', remedy: 'A token has three parts with dots between them.', token: true };
  }
  switch (error.code) {
    case 'UNAUTHORIZED':
      return {
        title: 'The service does not accept this token.',
        remedy: 'It may be of another service, or cut short. Paste another one.',
        token: true,
      };
    case 'FORBIDDEN_STREAM':
      return {
        title: 'Your token does not allow this stream.',
        remedy: Array.isArray(claims?.streams)
          ? `It allows: ${claims.streams.join(', ') || 'none'}. Choose one of these, or paste another token.`
          : 'Paste a token that allows it, or choose another stream.',
        token: true,
      };
    case 'UNKNOWN_STREAM':
      return { title: 'The service has no such stream.', remedy: `${message}.`, token: true };
    case 'FORBIDDEN_KEY':
      if (/names none/.test(message)) {
        return {
          title: 'Your token names no keys of this stream.',
          remedy: 'Paste one that does; for development, energyws token --sub me --key KEY makes it.',
          token: true,
        };
      }
      return {
        title: 'Your token does not allow these keys.',
        remedy: 'Leave the field empty for all that it allows, or paste another token.',
        token: true,
      };
    case 'NOT_KEYED':
    case 'TOO_MANY_KEYS':
      return { title: 'The service does not take these keys.', remedy: `${message}.`, token: false };
    case 'NOT_FILTERED':
      return {
        title: 'The service knows no keys.',
        remedy: 'It would send every record. Leave the field empty to get them.',
        token: false,
      };
    case 'FORBIDDEN_ORIGIN':
      return {
        title: 'The service does not allow pages from this address.',
        remedy: `Its operator can add ${origin} to server.allowed_origins.`,
        token: false,
      };
    default:
      return { title: 'The service refuses this page.', remedy: message, token: true };
  }
}

/** Why a connection was lost or cannot be made, from the client's `why`. */
export function outage(why) {
  if (why === 'no connection') return 'The service cannot be reached.';
  if (why === 'silence' || why === 'no answer to the handshake') return 'The service does not answer.';
  const [, code] = /^([A-Z_]+): /.exec(why) ?? [];
  if (code === 'TOO_MANY_CONNECTIONS') return 'The service is full.';
  if (code === 'SHUTTING_DOWN') return 'The service is shutting down.';
  if (code) return `${why.replace(/^[A-Z_]+: /, '')}.`;
  const [, status] = /^closed with (\d+)/.exec(why) ?? [];
  if (status === '1012') return 'The service asked this page to reconnect.';
  return 'The connection was lost.';
}
