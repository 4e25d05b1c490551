/** Short forms for the document. */

/** The element with this id. */
export const $ = (id) => document.getElementById(id);

/** A new element; `attributes` with null values are left out. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** Sets a text only where it changes: assistive technology would notice each write. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const SVG = 'http://www.w3.org/2000/svg';

/** A gauge: an arc of 240 degrees that `share` (0 to 1) of is filled. */
export function gauge() {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 200 150');
  svg.setAttribute('class', 'gauge');
  svg.setAttribute('aria-hidden', 'true');
  const arcs = ['track', 'fill'].map((kind) => {
    const arc = document.createElementNS(SVG, 'path');
    arc.setAttribute('d', 'M 22.06 145 A 90 90 0 1 1 177.94 145');
    arc.setAttribute('pathLength', '100');
    arc.setAttribute('class', kind);
    return arc;
  });
  svg.append(...arcs);
  const set = (share) => arcs[1].setAttribute('stroke-dasharray', `${100 * Math.min(1, Math.max(0, share))} 200`);
  set(0);
  return { svg, set };
}

/** The round number at or above a value, for the end of a scale. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * size).find((step) => step >= value);
}
