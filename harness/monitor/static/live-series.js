// The last minutes of some values, one row a second: it never grows beyond that.

const GAP_S = 5;

export class Series {
  // names: of the values; worst: those of which a second keeps its largest.
  constructor(names, { window_s = 300, worst = [] } = {}) {
    this.names = names;
    this.window_s = window_s;
    this.worst = new Set(worst);
    this.clear();
  }

  clear() {
    this.columns = [[], ...this.names.map(() => [])];
    this.said_s = 0;
  }

  get length() {
    return this.columns[0].length;
  }

  add(at_s, values) {
    const second = Math.floor(at_s);
    const last = this.columns[0].at(-1);
    if (last !== undefined && second < last) this.clear(); // Another server's clock.
    if (this.names.some((name) => values[name] != null)) this.said_s = second;
    if (second - this.said_s > this.window_s) {
      this.clear(); // Nothing of it is left to see.
      return;
    }
    if (second === this.columns[0].at(-1)) {
      this.names.forEach((name, index) => {
        const column = this.columns[index + 1];
        const value = values[name] ?? null;
        const keeps = this.worst.has(name) && column.at(-1) > value;
        if (value !== null && !keeps) column[column.length - 1] = value;
      });
      return;
    }
    // What nobody saw is a gap, not a straight line.
    if (this.length && second - last > GAP_S) this.#push(last + 1, {});
    this.#push(second, values);
    while (this.columns[0][0] < second - this.window_s) {
      for (const column of this.columns) column.shift();
    }
  }

  #push(second, values) {
    this.columns[0].push(second);
    this.names.forEach((name, index) => {
      this.columns[index + 1].push(values[name] ?? null);
    });
  }
}
