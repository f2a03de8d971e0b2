// One chart over one series. The words above it are its legend: the newest values,
// or those under the pointer. Arrow keys move the pointer as well.
/* global uPlot */

const HEIGHT_PX = 190;
// A run that has just begun fills its charts; later they hold all of their window.
const SPAN_S_MIN = 60;

const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Chart {
  // lines: [{name, label, colour, dash?, fill?}] in the order of the series.
  constructor(parent, { id, title, series, lines, format }) {
    this.series = series;
    this.lines = lines;
    this.format = format;
    this.title = title;
    this.element = document.createElement("article");
    this.element.className = "chart";
    this.element.dataset.chart = id;
    this.heading = document.createElement("h2");
    this.legend = document.createElement("p");
    this.legend.className = "legend";
    this.plot_place = document.createElement("div");
    this.plot_place.className = "plot";
    this.plot_place.tabIndex = 0;
    this.plot_place.setAttribute("role", "img");
    this.values = lines.map((line) => {
      const item = document.createElement("span");
      item.className = "key";
      item.dataset.colour = line.colour;
      const value = document.createElement("data");
      value.dataset.name = `${id}.${line.name}`;
      item.append(`${line.label} `, value);
      this.legend.append(item);
      return value;
    });
    this.heading.textContent = title;
    this.element.append(this.heading, this.legend, this.plot_place);
    this.element.hidden = true;
    parent.append(this.element);
    this.plot_place.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#resize()).observe(this.plot_place);
  }

  rename(title) {
    if (this.title === title) return;
    this.title = title;
    this.heading.textContent = title;
  }

  draw() {
    this.element.hidden = this.series.length === 0;
    if (this.element.hidden) return;
    if (this.plot) {
      this.plot.batch(() => {
        this.plot.setData(this.series.columns, false);
        this.plot.setScale("x", this.#span());
      });
    } else {
      this.#make();
    }
    this.#tell(this.plot?.cursor.idx);
  }

  // Colours are read when it is made.
  repaint() {
    this.plot?.destroy();
    this.plot = null;
    this.draw();
  }

  #make() {
    const width = this.plot_place.clientWidth;
    if (!width) return;
    const axis = {
      stroke: colour("--quiet"),
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
      font: "12px system-ui, sans-serif",
    };
    const span = this.#span();
    this.plot = new uPlot(
      {
        width,
        height: HEIGHT_PX,
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false } },
        hooks: { setCursor: [(plot) => this.#tell(plot.cursor.idx)] },
        scales: {
          x: { ...span, auto: false },
          y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.1 : 1] },
        },
        axes: [
          { ...axis, size: 28, space: 54, values: "{HH}:{mm}:{ss}" },
          {
            ...axis,
            size: 62,
            space: 34,
            values: (_plot, ticks) => ticks.map((tick) => this.format(tick)),
          },
        ],
        series: [
          {},
          ...this.lines.map((line) => ({
            stroke: colour(line.colour),
            width: 2 / devicePixelRatio + 0.5,
            dash: line.dash,
            fill: line.fill ? `${colour(line.colour)}22` : undefined,
            points: { show: (plot) => plot.data[0].length < 2, size: 5 },
          })),
        ],
      },
      this.series.columns,
      this.plot_place,
    );
    this.plot.setScale("x", span);
  }

  #span() {
    const seconds = this.series.columns[0];
    const max = seconds.at(-1);
    const from = Math.min(seconds[0], max - SPAN_S_MIN);
    return { min: Math.max(from, max - this.series.window_s), max };
  }

  #tell(index) {
    const columns = this.series.columns;
    const at = index ?? columns[0].length - 1;
    this.values.forEach((element, line) => {
      const value = columns[line + 1][at];
      const text = this.format(value);
      if (element.textContent !== text) element.textContent = text;
      element.value = value ?? "";
    });
    const words = this.values.map(
      (element, line) => `${this.lines[line].label} ${element.textContent}`,
    );
    this.plot_place.setAttribute("aria-label", `${this.title}: ${words.join(", ")}`);
  }

  #key(event) {
    if (!this.plot) return;
    const last = this.series.length - 1;
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -last, End: last };
    if (event.key === "Escape") {
      this.plot.setCursor({ left: -10, top: -10 });
    } else if (event.key in steps) {
      const from = this.plot.cursor.idx ?? last;
      const to = Math.min(last, Math.max(0, from + steps[event.key]));
      const left = this.plot.valToPos(this.series.columns[0][to], "x");
      this.plot.setCursor({ left, top: 10 });
      event.preventDefault();
    }
  }

  #resize() {
    const width = this.plot_place.clientWidth;
    if (!width) return;
    if (!this.plot) this.draw();
    else if (this.plot.width !== width) this.plot.setSize({ width, height: HEIGHT_PX });
  }
}
