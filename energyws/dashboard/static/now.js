/** The view of what is measured: the chosen meter large, all others small. */

import { $, gauge, h, roundUp, say } from './dom.js';
import { title, unit } from './readings.js';
import { clock, number } from './words.js';

export class Now {
  /** Called with the key of the meter that the reader chooses. */
  onChoose = () => {};
  #cards = new Map();
  #rows = new Map();
  #hero = null;

  /** meters: of Meters. chosen: one of its list, or null. newest: the newest record. */
  show(meters, chosen, newest) {
    this.#showHero(meters, chosen);
    this.#showCards(meters, chosen);
    this.#showTable(meters);
    $('raw').hidden = newest === null;
    if (newest !== null && $('raw').open) say($('raw').lastElementChild, JSON.stringify(newest, null, 2));
    // Records without any number: they are all there is to see.
    if (chosen === null && newest !== null) $('raw').open = true;
  }

  #showHero(meters, chosen) {
    if (chosen === null) {
      if (this.#hero !== null || $('hero').childElementCount === 0) {
        $('hero').replaceChildren(h('p', { class: 'sub' }, 'No readings yet'));
        this.#hero = null;
      }
      return;
    }
    this.#hero ??= this.#makeHero();
    const { name, value, box, arc, ends, phases } = this.#hero;
    const what = `${title(meters.path)} of ${chosen.name}`;
    const measured = `${number(chosen.latest)} ${unit(meters.path)}`.trim();
    const end = roundUp(chosen.most);
    say(name, chosen.name);
    say(value, number(chosen.latest));
    say(box.querySelector('.unit'), unit(meters.path));
    meter(box.firstElementChild, what, chosen.latest, end, measured);
    arc.set(Math.abs(chosen.latest) / end);
    say(ends, `to ${number(end)} ${unit(meters.path)}`.trim());
    this.#showPhases(phases, meters, chosen);
  }

  #makeHero() {
    const arc = gauge();
    const name = h('p', { class: 'eyebrow' });
    const value = h('span', { class: 'big' });
    const box = h('div', { class: 'dial' }, h('div', { class: 'over' }, arc.svg));
    const text = h('p', { class: 'reading', 'aria-hidden': 'true' }, value, h('span', { class: 'unit' }));
    const ends = h('p', { class: 'end', 'aria-hidden': 'true' });
    box.append(text, ends);
    const phases = h('div', { class: 'phases' });
    $('hero').replaceChildren(name, box, phases);
    return { name, value, box, arc, ends, phases };
  }

  #showPhases(host, meters, chosen) {
    const names = chosen.phases.map(([name]) => name);
    if ([...host.children].map((each) => each.dataset.name).join() !== names.join()) {
      host.replaceChildren(
        ...names.map((name) => {
          const row = h('div', { class: 'phase', 'data-name': name });
          row.append(h('span', {}, name), h('div', { class: 'track' }, h('i')), h('b'));
          return row;
        }),
      );
    }
    const end = roundUp(chosen.most);
    chosen.phases.forEach(([name, watts], index) => {
      const [, track, value] = host.children[index].children;
      const shown = `${number(watts)} ${unit(meters.path)}`.trim();
      meter(track, `Phase ${name} of ${chosen.name}`, watts, end, shown);
      fill(track, Math.abs(watts) / end);
      say(value, shown);
    });
  }

  #showCards(meters, chosen) {
    const { list } = meters;
    if (this.#cards.size > list.length) {
      this.#cards.clear();
      $('meters').replaceChildren();
    }
    $('meters').hidden = $('meters-title').hidden = list.length < 2;
    if (list.length < 2) return;
    if (this.#cards.size < list.length) {
      for (const each of list) {
        if (!this.#cards.has(each.key)) this.#cards.set(each.key, this.#makeCard(each));
      }
      $('meters').append(...list.map(({ key }) => this.#cards.get(key).item));
    }
    for (const each of list) {
      const card = this.#cards.get(each.key);
      const { button, value, track } = card;
      const shown = `${number(each.latest)} ${unit(meters.path)}`.trim();
      say(value, shown);
      meter(track, `${title(meters.path)} of ${each.name}`, each.latest, roundUp(each.most), shown);
      fill(track, Math.abs(each.latest) / roundUp(each.most));
      button.setAttribute('aria-pressed', String(each === chosen));
    }
  }

  #makeCard(each) {
    const button = h('button', { type: 'button' }, each.name);
    const value = h('b', { 'aria-hidden': 'true' });
    const track = h('div', { class: 'track' }, h('i'));
    button.addEventListener('click', () => this.onChoose(each.key));
    return { item: h('li', {}, button, value, track), button, value, track };
  }

  #showTable(meters) {
    const table = $('values');
    if (!table.closest('details').open) return;
    const { list, path } = meters;
    if (this.#rows.size > list.length || table.childElementCount === 0) {
      this.#rows.clear();
      const heads = ['Meter', path ? title(path) : 'Value', 'Phases', 'Time'];
      table.replaceChildren(
        h('thead', {}, h('tr', {}, ...heads.map((head) => h('th', { scope: 'col' }, head)))),
        h('tbody'),
      );
    }
    for (const each of list) {
      let row = this.#rows.get(each.key);
      if (row === undefined) {
        row = h('tr', {}, h('th', { scope: 'row' }, each.name), h('td'), h('td'), h('td'));
        this.#rows.set(each.key, row);
        table.lastElementChild.append(row);
      }
      const [, value, phases, time] = row.children;
      say(value, `${number(each.latest)} ${unit(path)}`.trim());
      say(phases, each.phases.map(([name, watts]) => `${name} ${number(watts)}`).join('  '));
      say(time, clock(each.at));
    }
  }
}

/** share: 0 to 1. Scaled, because another width would be a new layout in each frame. */
function fill(track, share) {
  track.firstElementChild.style.transform = `scaleX(${Math.min(1, share)})`;
}

/** Makes an element a meter for assistive technology; it must have a name. */
function meter(element, name, value, end, text) {
  const attributes = {
    role: 'meter',
    'aria-label': name,
    'aria-valuemin': 0,
    'aria-valuemax': end,
    'aria-valuenow': Math.min(end, Math.max(0, value)),
    'aria-valuetext': text,
  };
  for (const [key, each] of Object.entries(attributes)) {
    if (element.getAttribute(key) !== String(each)) element.setAttribute(key, each);
  }
}
