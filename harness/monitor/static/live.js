// The live part of the dashboard: what `metrics_update` says, as tiles and charts.
import { Chart } from "./live-chart.js";
import { count, ms, per_s, seconds, time_of_day, until } from "./live-format.js";
import { Link } from "./live-link.js";
import { Errors, Panel, Tiles } from "./live-panel.js";
import { Series } from "./live-series.js";

const DRAW_MS_MIN = 250;
const place = document.getElementById("live");
const link = document.getElementById("link");

function box(class_name, name = "div") {
  const element = document.createElement(name);
  element.className = class_name;
  place.append(element);
  return element;
}

const title = box("live-title", "h1");
const progress = document.createElement("progress");
const progress_words = document.createElement("span");
const progress_line = box("progress", "p");
progress_line.append(progress, " ", progress_words);
const notes = box("lead", "p");
const tiles = new Tiles(place);
const charts_place = box("charts");
const panels_place = box("panels");

const series = {
  pool: new Series(["in_use", "idle", "waiting", "cap"], { worst: ["waiting"] }),
  times: new Series(["p50", "p95", "p99"]),
  throughput: new Series(["done"]),
  rows: new Series(["input", "processed"]),
};
const charts = {
  pool: new Chart(charts_place, {
    id: "pool",
    title: "Pool",
    series: series.pool,
    format: count,
    lines: [
      { name: "in_use", label: "in use", colour: "--now", fill: true },
      { name: "idle", label: "idle", colour: "--before" },
      { name: "waiting", label: "waiting", colour: "--bad" },
      { name: "cap", label: "cap", colour: "--quiet", dash: [4, 4] },
    ],
  }),
  times: new Chart(charts_place, {
    id: "times",
    title: "Response time",
    series: series.times,
    format: ms,
    lines: [
      { name: "p50", label: "p50", colour: "--now" },
      { name: "p95", label: "p95", colour: "--link" },
      { name: "p99", label: "p99", colour: "--warn" },
    ],
  }),
  throughput: new Chart(charts_place, {
    id: "throughput",
    title: "Throughput",
    series: series.throughput,
    format: per_s,
    lines: [{ name: "done", label: "done", colour: "--now", fill: true }],
  }),
  rows: new Chart(charts_place, {
    id: "rows",
    title: "Stream rows",
    series: series.rows,
    format: per_s,
    lines: [
      { name: "input", label: "arriving", colour: "--link" },
      { name: "processed", label: "processed", colour: "--now", fill: true },
    ],
  }),
};
const panels = {
  health: new Panel(panels_place, "health", "Health"),
  errors: new Panel(panels_place, "errors", "Errors"),
  pool: new Panel(panels_place, "pools", "Pools"),
  token: new Panel(panels_place, "token", "Token"),
  streams: new Panel(panels_place, "streams", "Streams"),
  agents: new Panel(panels_place, "agents", "Agents"),
};
const last_errors = new Errors(panels.errors.element, time_of_day);

let before = null; // The update before: growth between the two is a rate.
let cases_done = null;
let newest = null;
let drawn_at = 0;
let drawing = null;

function rate_of(pool, at_s) {
  const old = before?.pools.get(pool.name);
  const passed_s = at_s - (before?.at_s ?? at_s);
  // Less than before: another pool of the same name, counting from 0.
  if (old === undefined || passed_s <= 0 || pool.checkins_total < old) return null;
  return (pool.checkins_total - old) / passed_s;
}

function figures_of(data, at_s) {
  const pool = data.pool;
  const load = data.load;
  const times = load?.response_time ?? pool?.usage_time ?? null;
  const rate = load ? load.throughput_per_s : pool ? rate_of(pool, at_s) : null;
  return { pool, load, times, rate };
}

function note(message) {
  const at_s = Date.parse(message.timestamp) / 1000;
  const figures = figures_of(message.data, at_s);
  const { pool, times, rate } = figures;
  // What is no longer said is a gap, and no value of before stands for it.
  const { in_use, idle, waiting, size_max: cap } = pool ?? {};
  series.pool.add(at_s, { in_use, idle, waiting, cap });
  series.times.add(at_s, { p50: times?.p50_ms, p95: times?.p95_ms, p99: times?.p99_ms });
  series.throughput.add(at_s, { done: rate });
  const streams = message.data.streams;
  const sum = (key) =>
    streams.length ? streams.reduce((all, each) => all + (each[key] ?? 0), 0) : null;
  series.rows.add(at_s, {
    input: sum("input_rows_per_s"),
    processed: sum("processed_rows_per_s"),
  });
  // Rates of moments shorter than this would only flicker.
  if (!before || at_s - before.at_s >= 0.9 || at_s < before.at_s) {
    const pools = message.data.pools.map((each) => [each.name, each.checkins_total]);
    before = { at_s, pools: new Map(pools) };
  }
  newest = { data: message.data, at_s, ...figures };
  tell_report(message.data.benchmark);
}

// The report below has a new case: it need not ask again and again.
function tell_report(benchmark) {
  const done = benchmark ? `${benchmark.state} ${benchmark.cases_done}` : null;
  if (cases_done !== null && done !== cases_done) {
    document.dispatchEvent(new Event("lakegauge:measured"));
  }
  cases_done = done ?? "";
}

function draw() {
  drawing = null;
  drawn_at = performance.now();
  if (!newest || document.hidden) return;
  place.hidden = false;
  const { data, load, at_s } = newest;
  show_head(data);
  show_tiles(newest);
  charts.times.rename(load?.response_time ? "Response time" : "Time a connection is used");
  charts.throughput.rename(load ? "Throughput" : "Connections used and returned");
  for (const chart of Object.values(charts)) chart.draw();
  show_panels(data, at_s);
}

function show_head(data) {
  const run = data.benchmark;
  const between = run?.state === "running" ? "Between two cases" : "";
  const words = run?.case ?? data.pool?.name ?? between;
  title.hidden = !words; // The report below says what it is.
  if (title.textContent !== words) show_title(words, run?.case);
  title.classList.toggle("is-case", Boolean(run?.case));
  progress_line.hidden = !run?.cases_total;
  if (run?.cases_total) {
    const failed = run.cases_failed ? `, ${count(run.cases_failed)} failed` : "";
    const at_work = run.case_index ? `case ${run.case_index} of ` : "";
    progress.max = run.cases_total;
    progress.value = run.cases_done + run.cases_failed;
    progress.setAttribute("aria-label", "cases done");
    const text = `${run.state}: ${at_work}${run.cases_total}, ${run.cases_done} done${failed}`;
    if (progress_words.textContent !== text) progress_words.textContent = text;
  }
  const said = data.notes.join(" · ");
  if (notes.textContent !== said) notes.textContent = said;
  notes.hidden = !said;
}

// The file of a case is said more quietly than its name.
function show_title(words, node_id) {
  const at = node_id ? words.lastIndexOf("::") + 2 : 0;
  const file = document.createElement("span");
  file.className = "file";
  file.textContent = at > 1 ? words.slice(0, at) : "";
  const name = at > 1 ? words.slice(at) : words;
  title.replaceChildren(file, document.createElement("wbr"), name);
}

function show_tiles({ data, pool, load, times, rate }) {
  const failed = data.errors.total_errors;
  const health = data.health?.status;
  const worry = { healthy: "", warning: "warn" }[health] ?? "bad";
  tiles.show("health", "health", health, health ?? "", worry);
  const { in_use, size_max: cap, waiting } = pool ?? {};
  const full = in_use >= cap ? "warn" : "";
  tiles.show("in_use", `in use of ${count(cap)}`, in_use, count(in_use), full);
  tiles.show("waiting", "waiting", waiting ?? undefined, count(waiting), waiting > 0 ? "bad" : "");
  const { workers, in_flight } = load ?? {};
  const callers = `at work of ${count(workers)}`;
  tiles.show("callers", callers, workers == null ? undefined : in_flight, count(in_flight));
  tiles.show("rate", "throughput", pool || load ? rate : undefined, per_s(rate));
  const p99 = times ? times.p99_ms : undefined;
  tiles.show("p99", load?.response_time ? "response p99" : "time in use p99", p99, ms(p99));
  // Where nobody counts, that is not the same as none.
  const counts = failed > 0 || data.performance || load || data.health;
  const counted = counts ? failed : undefined;
  tiles.show("errors", "errors", counted, count(failed), failed > 0 ? "bad" : "");
}

function show_panels(data, at_s) {
  panels.health.show(
    Object.values(data.health?.components ?? {}).map((part) => ({
      key: part.component,
      state: part.status,
      about: part.message,
      figures:
        part.response_time_ms == null
          ? []
          : [["to answer", part.response_time_ms, ms(part.response_time_ms)]],
    })),
  );
  const counts = Object.entries(data.errors.error_counts_by_category);
  counts.sort((one, other) => other[1] - one[1]);
  panels.errors.show(
    counts.map(([key, value]) => ({ key, figures: [["errors", value, count(value), true]] })),
  );
  last_errors.show(data.errors.recent_errors);
  panels.pool.show(data.pools.map(pool_item));
  panels.token.show(data.token ? [token_item(data.token, at_s)] : []);
  panels.streams.show(data.streams.map(stream_item));
  panels.agents.show(data.agents.map(agent_item));
}

function pool_item(pool) {
  const troubles = ["checkout_timeouts_total", "connection_errors_total", "leaks_total"];
  const names = { checkout_timeouts_total: "timeouts", connection_errors_total: "failed to connect", leaks_total: "leaks" };
  return {
    key: pool.name,
    figures: [
      ["in use", pool.in_use, `${count(pool.in_use)} of ${count(pool.size_max)}`],
      ["open", pool.size, count(pool.size)],
      ["waiting", pool.waiting, count(pool.waiting), pool.waiting > 0],
      ["checkouts", pool.checkouts_total, count(pool.checkouts_total)],
      ["checkout wait p99", pool.checkout_wait.p99_ms, ms(pool.checkout_wait.p99_ms)],
      ["connect time p99", pool.connect_time.p99_ms, ms(pool.connect_time.p99_ms)],
      ...troubles.map((key) => [names[key], pool[key], count(pool[key]), pool[key] > 0]),
    ],
  };
}

function token_item(token, at_s) {
  return {
    key: "credential",
    figures: [
      ["age", token.age_s, seconds(token.age_s)],
      ["next refresh", token.next_refresh_at, until(token.next_refresh_at, at_s)],
      ["expires", token.expires_at, until(token.expires_at, at_s)],
      ["minted", token.minted_total, count(token.minted_total)],
      ["failures", token.failures_total, count(token.failures_total), token.failures_total > 0],
    ],
  };
}

function stream_item(stream) {
  return {
    key: stream.name,
    state: stream.is_active ? "" : "stopped",
    figures: [
      ["arriving", stream.input_rows_per_s, per_s(stream.input_rows_per_s)],
      ["processed", stream.processed_rows_per_s, per_s(stream.processed_rows_per_s)],
      ["batch duration", stream.batch_duration_ms, ms(stream.batch_duration_ms)],
      ["watermark lag", stream.watermark_lag_s, seconds(stream.watermark_lag_s)],
      ["backlog rows", stream.backlog_rows, count(stream.backlog_rows)],
      ["state rows", stream.state_rows, count(stream.state_rows)],
      ["batch", stream.batch_id, count(stream.batch_id)],
    ],
  };
}

function agent_item(agent) {
  const { ttft, end_to_end: whole } = agent;
  return {
    key: agent.name,
    figures: [
      ["in flight", agent.in_flight, count(agent.in_flight)],
      ["requests", agent.requests_total, count(agent.requests_total)],
      ["errors", agent.errors_total, count(agent.errors_total), agent.errors_total > 0],
      ["TTFT p50", ttft?.p50_ms, ms(ttft?.p50_ms)],
      ["TTFT p99", ttft?.p99_ms, ms(ttft?.p99_ms)],
      ["end to end p50", whole?.p50_ms, ms(whole?.p50_ms)],
      ["end to end p99", whole?.p99_ms, ms(whole?.p99_ms)],
    ],
  };
}

// However often updates come, a person sees four a second.
function draw_soon() {
  if (drawing !== null) return;
  const wait_ms = Math.max(0, drawn_at + DRAW_MS_MIN - performance.now());
  drawing = setTimeout(() => requestAnimationFrame(draw), wait_ms);
}

function show_state(state, words) {
  place.classList.toggle("stale", state === "lost");
  link.classList.toggle("lost", state !== "live");
  if (link.textContent !== words) link.textContent = words;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of Object.values(charts)) chart.repaint();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) draw_soon();
});
new Link({
  on_state: show_state,
  on_update: (message) => {
    note(message);
    draw_soon();
  },
}).connect();
