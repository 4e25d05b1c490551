/** The chart: the chosen meter in the accent, the others faint, and what broke the lines. */

import { clock, number } from './words.js';

// A point each 1.6 pixels of a wide chart; more would be drawn over each other.
const BUCKETS = 600;
// More lines than these are a carpet: then the chosen meter is alone.
const MANY = 8;
const NONE = [[0, 1], [null, null]];

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** begin, step (ms): buckets that stay where they are while time goes on, so that lines stay still. */
export function grid(now, range) {
  const step = range / BUCKETS;
  const count = BUCKETS + 1;
  return { step, count, begin: Math.floor((now - range) / step) * step };
}

export class Chart {
  /** The time under the pointer: Unix ms, or null. */
  onPoint = () => {};
  #host;
  #plot = null;
  #drawn = '';
  #scene = { outages: [], gaps: [], now: 0, range: 1 };

  constructor(host) {
    this.#host = host;
    new ResizeObserver(() => this.#fit()).observe(host);
  }

  /**
   * chosen: the Meter in the accent, or null. others: drawn faint if they are few. range: ms.
   * outages: {from, to}, `to` null while it lasts. gaps: {at, missed}. Times: Unix ms.
   */
  draw({ chosen, others, range, now, outages, gaps }) {
    this.#scene = { outages, gaps, now, range };
    const { begin, step, count } = grid(now, range);
    const lines = [...(others.length < MANY ? others : []), ...(chosen ? [chosen] : [])];
    const xs = Array.from({ length: count }, (_, index) => (begin + (index + 0.5) * step) / 1000);
    const ys = lines.map((meter) => meter.buckets(begin, step, count));
    const drawn = `${lines.length} ${chosen !== null}`;
    if (this.#plot === null || drawn !== this.#drawn) this.#make(lines.length, chosen !== null);
    this.#drawn = drawn;
    this.#plot.setData(lines.length ? [xs, ...ys] : NONE, false);
    this.#plot.setScale('x', { min: (now - range) / 1000, max: now / 1000 });
  }

  /** Draws again in the colours of now. */
  recolour() {
    this.#plot?.redraw(false);
  }

  #fit() {
    const { clientWidth: width, clientHeight: height } = this.#host;
    if (width && height) this.#plot?.setSize({ width, height });
  }

  #make(count, chosen) {
    this.#plot?.destroy();
    const series = Array.from({ length: Math.max(1, count) }, (_, index) =>
      chosen && index === count - 1
        ? { stroke: () => css('--accent'), width: 2, fill: () => css('--accent-wash'), points: { show: false } }
        : { stroke: () => css('--faint'), width: 1, points: { show: false } },
    );
    const axis = {
      stroke: () => css('--muted'),
      font: '12px system-ui, sans-serif',
      grid: { stroke: () => css('--line'), width: 1 },
      ticks: { show: false },
    };
    const seconds = () => this.#scene.range <= 300_000;
    this.#plot = new globalThis.uPlot(
      {
        width: this.#host.clientWidth || 600,
        height: this.#host.clientHeight || 280,
        pxAlign: 0,
        padding: [8, 12, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
        scales: { x: { time: true }, y: { range: (_, low, high) => scale(low, high) } },
        axes: [
          {
            ...axis,
            grid: { show: false },
            size: 30,
            space: 90,
            values: (_, splits) => splits.map((each) => clock(each * 1000, seconds())),
          },
          { ...axis, size: 58, values: ({ data }, splits) => splits.map((each) => (data === NONE ? '' : number(each))) },
        ],
        series: [{}, ...series],
        hooks: {
          drawClear: [(plot) => this.#under(plot)],
          draw: [(plot) => this.#over(plot)],
          setCursor: [
            ({ cursor, posToVal }) =>
              this.onPoint(cursor.left >= 0 ? 1000 * posToVal(cursor.left, 'x') : null),
          ],
        },
      },
      NONE,
      this.#host,
    );
  }

  #under(plot) {
    const { outages, now } = this.#scene;
    for (const { from, to } of outages) {
      const area = band(plot, from, to ?? now);
      if (area === null) continue;
      const { ctx } = plot;
      ctx.save();
      ctx.fillStyle = css(to === null ? '--bad-wash' : '--mend-wash');
      ctx.fillRect(area.left, area.top, area.width, area.height);
      if (to === null) hatch(ctx, area, css('--bad'));
      ctx.restore();
    }
  }

  #over(plot) {
    const { outages, gaps, now } = this.#scene;
    for (const { from, to, filled } of outages) {
      if (to === null) label(plot, band(plot, from, now), 'no connection', css('--bad'));
      else label(plot, band(plot, from, to), `${filled} filled in`, css('--accent'));
    }
    for (const { at, missed } of gaps) {
      const area = band(plot, at - 1, at + 1);
      if (area === null) continue;
      plot.ctx.fillStyle = css('--bad');
      plot.ctx.fillRect(area.left, area.top, 2 * devicePixelRatio, area.height);
      label(plot, area, missed === null ? 'missed' : `${missed} missed`, css('--bad'));
    }
  }
}

/** From zero, unless the values lie far above it. */
export function scale(low, high) {
  if (low === null || high === null || low === undefined) return [0, 1];
  if (low >= 0 && low < 0.5 * high) return [0, high * 1.12];
  const room = (high - low || Math.abs(high) || 1) * 0.15;
  return [low - room, high + room];
}

function band(plot, from, to) {
  const { left, top, width, height } = plot.bbox;
  const [begin, end] = [from, to].map((ms) => plot.valToPos(ms / 1000, 'x', true));
  const [first, last] = [Math.max(left, begin), Math.min(left + width, end)];
  return last > first ? { left: first, top, width: last - first, height } : null;
}

function hatch(ctx, { left, top, width, height }, colour) {
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  ctx.strokeStyle = colour;
  ctx.globalAlpha = 0.35;
  ctx.lineWidth = devicePixelRatio;
  ctx.beginPath();
  // Anchored to the chart and not to the band, whose end moves.
  const step = 9 * devicePixelRatio;
  for (let x = left - height - ((left - height) % step); x < left + width; x += step) {
    ctx.moveTo(x, top + height);
    ctx.lineTo(x + height, top);
  }
  ctx.stroke();
}

function label({ ctx, bbox }, area, text, colour) {
  if (area === null) return;
  ctx.save();
  ctx.font = `600 ${11 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textAlign = 'left';
  ctx.textBaseline = 'top';
  const room = 5 * devicePixelRatio;
  const width = ctx.measureText(text).width + 2 * room;
  const middle = area.left + area.width / 2 - width / 2;
  const x = Math.min(Math.max(middle, bbox.left), bbox.left + bbox.width - width);
  ctx.fillStyle = css('--panel');
  ctx.fillRect(x, area.top, width, 11 * devicePixelRatio + 2 * room);
  ctx.fillStyle = colour;
  ctx.fillText(text, x + room, area.top + room);
  ctx.restore();
}
