// Numbers, sizes and times as people read them.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });

/** 1,234 and 12.3 k. */
export function count(value: number | undefined | null): string {
  if (value === undefined || value === null || !Number.isFinite(value)) return '–';
  if (value >= 1e9) return `${one.format(value / 1e9)} G`;
  if (value >= 1e7) return `${one.format(value / 1e6)} M`;
  if (value >= 1e5) return `${one.format(value / 1e3)} k`;
  return whole.format(value);
}

export function exact(value: number): string {
  return whole.format(value);
}

/** Per second. */
export function rate(value: number | undefined | null): string {
  if (value === undefined || value === null || !Number.isFinite(value)) return '–';
  return value > 0 && value < 10 ? one.format(value) : count(Math.round(value));
}

export function bytes(value: number | undefined | null): string {
  if (value === undefined || value === null) return '–';
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let at = 0;
  let rest = value;
  while (rest >= 1000 && at < units.length - 1) {
    rest /= 1000;
    at += 1;
  }
  return `${at === 0 ? whole.format(rest) : one.format(rest)} ${units[at]}`;
}

export function micros(value: number | undefined | null): string {
  if (value === undefined || value === null) return '–';
  if (value < 1000) return `${whole.format(value)} µs`;
  if (value < 1e6) return `${one.format(value / 1000)} ms`;
  return `${one.format(value / 1e6)} s`;
}

export function duration(secs: number | undefined | null): string {
  if (secs === undefined || secs === null || !Number.isFinite(secs)) return '–';
  const s = Math.max(0, Math.floor(secs));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

type Moment = string | number | null | undefined;

/** RFC 3339 texts, and seconds, milliseconds or microseconds since 1970. */
export function toDate(value: Moment): Date | null {
  if (value === null || value === undefined || value === '' || value === 'infinity') return null;
  if (typeof value === 'string' && Number.isNaN(Number(value))) {
    const parsed = new Date(value);
    return Number.isNaN(parsed.getTime()) ? null : parsed;
  }
  const number = Number(value);
  if (number > 1e14) return new Date(number / 1000);
  return new Date(number > 1e11 ? number : number * 1000);
}

const two = (value: number): string => String(value).padStart(2, '0');

export function time(value: Moment): string {
  const at = toDate(value);
  if (!at) return '–';
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  if (at.toDateString() === new Date().toDateString()) return clock;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock}`;
}

export function ago(value: Moment): string {
  const at = toDate(value);
  return at ? `${duration((Date.now() - at.getTime()) / 1000)} ago` : '–';
}

/** A payload in base64: as text where it is UTF-8, as bytes otherwise. */
export function payloadText(base64: string): string {
  let raw: Uint8Array;
  try {
    raw = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  } catch {
    return base64;
  }
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(raw);
    try {
      return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      return text;
    }
  } catch {
    return Array.from(raw, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
  }
}
