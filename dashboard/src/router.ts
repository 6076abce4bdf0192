// Where we are: #/page/detail?key=value.
import { computed, signal } from '@preact/signals';

const read = (): string => location.hash.replace(/^#\/?/, '');
const hash = signal(read());
addEventListener('hashchange', () => {
  hash.value = read();
});

interface Place {
  /** Decoded parts of the path. */
  path: string[];
  query: URLSearchParams;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export const place = computed<Place>(() => {
  const [path = '', query = ''] = hash.value.split('?', 2);
  return { path: path.split('/').filter(Boolean).map(decode), query: new URLSearchParams(query) };
});

export function href(...path: string[]): string {
  return `#/${path.map(encodeURIComponent).join('/')}`;
}

export function go(target: string): void {
  location.hash = target;
}

/** Sets a part of the query without an entry in the history. */
export function setQuery(name: string, value: string): void {
  const { path, query } = place.value;
  const next = new URLSearchParams(query);
  if (value) next.set(name, value);
  else next.delete(name);
  const text = next.toString();
  history.replaceState(null, '', href(...path) + (text ? `?${text}` : ''));
  hash.value = read();
}
