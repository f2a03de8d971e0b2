// Numbers as people read them: three digits, and the unit that suits.

export const NONE = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function digits(value) {
  const size = Math.abs(value);
  if (size >= 99.95) return whole.format(value);
  if (size >= 9.995) return value.toFixed(1);
  return value === 0 ? "0" : value.toFixed(2);
}

export function count(value) {
  return value == null ? NONE : whole.format(value);
}

export function per_s(value) {
  return value == null ? NONE : `${digits(value)} /s`;
}

export function ms(value) {
  if (value == null) return NONE;
  if (value > 0 && value < 1) return `${digits(value * 1000)} µs`;
  return value < 1000 ? `${digits(value)} ms` : seconds(value / 1000);
}

export function seconds(value) {
  if (value == null) return NONE;
  const size = Math.abs(value);
  if (size < 120) return `${digits(value)} s`;
  if (size < 7200) return `${digits(value / 60)} min`;
  return `${digits(value / 3600)} h`;
}

// The server's clock against the server's clock: the browser's may be wrong.
export function until(iso, now_s) {
  if (iso == null) return NONE;
  const left_s = Date.parse(iso) / 1000 - now_s;
  return left_s >= 0 ? `in ${seconds(left_s)}` : `${seconds(-left_s)} ago`;
}

export function time_of_day(iso) {
  return new Date(iso).toLocaleTimeString("en-GB");
}
