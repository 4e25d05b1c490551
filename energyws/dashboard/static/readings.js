/** What a record says: its meter, the value to draw, phases. Any JSON object will do. */

const MAX_FIELDS = 40;
const MAX_DEPTH = 4;
// The value to draw first: the reader's own total, then what usually is one.
const HEADLINES = [
  /^activeActualConsumption\.total$/,
  /(^|[._])(active_?)?power(_?total|\.total)?$/i,
  /watts?$/i,
  /power|load|consumption/i,
  /value|temperature|level|price|total/i,
];
const NO_VALUE = /time|date|(^|[._])(ts|id|uid|version|epoch|seq|serial|type)$/i;
const NAMES = [/serial/i, /device|meter|sensor|station|machine/i, /(^|[._])(id|name|uuid|key)$/i];
// What the SaveEye reader says where it has no serial number of the meter.
const NO_NAME = /^(|not found|unknown|none)$/i;
const UNITS = [
  [/^(active|reactive)Actual|power(?!_?factor)|watt/i, 'W'],
  [/volt/i, 'V'],
  [/^rmsCurrent|^fields\.current/, 'mA'],
  [/temperature/i, '°C'],
];

/** Every number in an object by its path, `a.b.c`; the first MAX_FIELDS of them. */
export function numbersIn(data) {
  return leaves(data, 'number');
}

function leaves(data, type) {
  const found = new Map();
  const visit = (value, path, depth) => {
    for (const [key, each] of Object.entries(value)) {
      if (found.size >= MAX_FIELDS) return;
      const here = path ? `${path}.${key}` : key;
      if (typeof each === type) found.set(here, each);
      else if (each !== null && typeof each === 'object' && depth < MAX_DEPTH) visit(each, here, depth + 1);
    }
  };
  visit(data, '', 1);
  return found;
}

/** The paths that may be drawn; the one to draw first is the first. */
export function drawable(data) {
  const paths = [...numbersIn(data).keys()].filter((path) => !NO_VALUE.test(path));
  for (const form of HEADLINES) {
    const best = paths.find((path) => form.test(path));
    if (best !== undefined) return [best, ...paths.filter((path) => path !== best)];
  }
  return paths;
}

/** The name of what was measured; null where the record has none. */
export function nameIn(data) {
  const texts = [...leaves(data, 'string')].filter(
    ([, text]) => text.length <= 48 && !NO_NAME.test(text.trim()),
  );
  for (const form of NAMES) {
    const named = texts.find(([path]) => form.test(path) && !/type$/i.test(path));
    if (named) return named[1];
  }
  return null;
}

/** The value at a path; null where there is no number. */
export function at(data, path) {
  let value = data;
  for (const key of path.split('.')) value = value?.[key];
  return typeof value === 'number' ? value : null;
}

/** The phases beside a value: `[["L1", 638], …]`; empty where there are none. */
export function phases(data, path) {
  const keys = path.split('.').slice(0, -1);
  let parent = data;
  for (const key of keys) parent = parent?.[key];
  if (parent === null || typeof parent !== 'object') return [];
  return Object.entries(parent).filter(
    ([key, value]) => /^(l|phase_?)[123]$/i.test(key) && typeof value === 'number',
  );
}

/** The unit of a value, as far as its name tells; else empty. */
export function unit(path) {
  return UNITS.find(([form]) => form.test(path))?.[1] ?? '';
}

/** A path in words: `activeActualConsumption.total` is "Power". */
export function title(path) {
  if (path === 'activeActualConsumption.total') return 'Power';
  const words = path.replace(/\.total$/, '').split('.').slice(-2).join(' ');
  const spaced = words.replace(/([a-z])([A-Z])/g, '$1 $2').replaceAll('_', ' ').toLowerCase();
  const named = spaced.replace(/\bl([123])\b/g, 'L$1');
  return named.charAt(0).toUpperCase() + named.slice(1);
}
