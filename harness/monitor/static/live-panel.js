// A titled group of things that come and go, each with its figures. What is already
// on the page is changed in place: focus, selection and scroll position stay.

function make(name, class_name, text) {
  const element = document.createElement(name);
  if (class_name) element.className = class_name;
  if (text !== undefined) element.textContent = text;
  return element;
}

function set_text(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export class Panel {
  constructor(parent, id, title) {
    this.id = id;
    this.items = new Map();
    this.element = make("section", "panel");
    this.element.dataset.panel = id;
    this.body = make("div", "items");
    this.element.append(make("h2", "", title), this.body);
    this.element.hidden = true;
    parent.append(this.element);
  }

  // things: [{key, state?, about?, figures: [[label, value, text, is_bad?]]}]
  show(things) {
    this.element.hidden = things.length === 0;
    const seen = new Set();
    for (const thing of things) {
      seen.add(thing.key);
      let item = this.items.get(thing.key);
      if (!item) {
        item = new Item(this.id, thing.key);
        this.items.set(thing.key, item);
        this.body.append(item.element);
      }
      item.show(thing);
    }
    for (const [key, item] of this.items) {
      if (seen.has(key)) continue;
      item.element.remove();
      this.items.delete(key);
    }
  }
}

class Item {
  constructor(panel_id, key) {
    this.name = `${panel_id}.${key}`;
    this.element = make("article", "item");
    this.state = make("span", "state");
    this.about = make("p", "about");
    this.list = make("dl", "figures");
    this.figures = new Map();
    const head = make("h3", "", key);
    head.append(" ", this.state);
    this.element.append(head, this.about, this.list);
  }

  show({ state = "", about = "", figures = [] }) {
    set_text(this.state, state);
    this.state.dataset.state = state;
    this.state.hidden = !state;
    set_text(this.about, about);
    this.about.hidden = !about;
    for (const figure of figures) this.#figure(...figure);
  }

  #figure(label, value, text, is_bad = false) {
    let data = this.figures.get(label);
    if (!data) {
      data = make("data");
      data.dataset.name = `${this.name}.${label}`;
      const row = make("div");
      const definition = make("dd");
      definition.append(data);
      row.append(make("dt", "", label), definition);
      this.list.append(row);
      this.figures.set(label, data);
    }
    set_text(data, text);
    data.value = value ?? "";
    data.classList.toggle("bad", is_bad);
  }
}

// The few numbers to see from across the room.
export class Tiles {
  constructor(parent) {
    this.element = make("dl", "tiles");
    this.tiles = new Map();
    parent.append(this.element);
  }

  show(name, label, value, text, mark = "") {
    let tile = this.tiles.get(name);
    if (!tile) {
      tile = { box: make("div"), label: make("dt"), data: make("data") };
      tile.data.dataset.name = `tile.${name}`;
      const definition = make("dd");
      definition.append(tile.data);
      tile.box.append(tile.label, definition);
      this.element.append(tile.box);
      this.tiles.set(name, tile);
    }
    tile.box.hidden = value === undefined;
    set_text(tile.label, label);
    set_text(tile.data, text);
    tile.data.value = value ?? "";
    tile.data.className = mark;
  }
}

// The last errors, newest first.
export class Errors {
  constructor(parent, time_of_day) {
    this.time_of_day = time_of_day;
    this.list = make("ol", "errors");
    this.shown = "";
    parent.append(this.list);
  }

  show(errors) {
    this.list.hidden = errors.length === 0;
    const now = JSON.stringify(errors);
    if (now === this.shown) return;
    this.shown = now;
    this.list.replaceChildren(
      ...errors.map((error) => {
        const row = make("li");
        const time = make("time", "", this.time_of_day(error.timestamp));
        time.dateTime = error.timestamp;
        const about = [error.operation, error.message].filter(Boolean).join(": ");
        row.append(time, " ", make("b", "", error.category), " ", make("span", "", about));
        return row;
      }),
    );
  }
}
