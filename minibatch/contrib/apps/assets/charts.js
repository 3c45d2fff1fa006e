// Charts of one stream over the last minutes, by uPlot; redrawn when the width or the colours of the page change.

/** Seconds that a chart shows; the server keeps as many. */
export const SPAN = 300;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const number = new Intl.NumberFormat('en', {maximumFractionDigits: 1});
const short = new Intl.NumberFormat('en', {notation: 'compact', maximumFractionDigits: 1});
const charts = new Set();

export class Chart {
  /**
   * @param {HTMLElement} place where it is drawn
   * @param {{label: string, stroke: string, dash?: number[]}[]} lines names, and the variables of their colours
   */
  constructor(place, lines) {
    this.place = place;
    this.lines = lines;
    this.data = [[], ...lines.map(() => [])];
    this.plot = null;
    this.width = 0;
    charts.add(this);
    new ResizeObserver(() => this.resize()).observe(place);
  }

  /** Show these columns: times in seconds, then a column for each line. */
  show(data) {
    this.data = data;
    if (this.plot) this.plot.setData(data);
  }

  resize() {
    const width = Math.floor(this.place.clientWidth);
    if (!width || width === this.width) return;
    this.width = width;
    if (this.plot) this.plot.setSize({width, height: 150});
    else this.draw();
  }

  draw() {
    if (this.plot) this.plot.destroy();
    if (!this.width) return;
    const axis = {stroke: colour('--soft'), grid: {stroke: colour('--line'), width: 1},
      ticks: {stroke: colour('--line'), width: 1}};
    this.plot = new uPlot({
      width: this.width, height: 150, padding: [8, 8, 0, 0],
      cursor: {y: false, drag: {setScale: false}},
      scales: {x: {time: true, range: (_, low, high) => span(low, high)},
        y: {range: (_, low, high) => [0, Math.max(1, high ?? 1) * 1.1]}},
      axes: [{...axis, space: 70}, {...axis, size: 52, values: (_, values) => values.map((each) => short.format(each))}],
      series: [{value: (_, at) => at == null ? '' : new Date(at * 1000).toLocaleTimeString()},
        ...this.lines.map((line) => ({label: line.label, stroke: colour(line.stroke), width: 2, dash: line.dash,
          points: {show: false}, value: (_, each) => each == null ? '–' : number.format(each)}))],
    }, this.data, this.place);
  }
}

/** Up to the last minutes; a minute at least. */
function span(low, high) {
  const end = high ?? Date.now() / 1000;
  return [Math.max(end - SPAN, Math.min(low ?? end, end - 60)), end];
}

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => charts.forEach((each) => each.draw()));
