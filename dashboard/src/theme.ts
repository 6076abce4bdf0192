// Dark or light: as the system says, or as was chosen here.
import { effect, signal } from '@preact/signals';

type Choice = 'system' | 'light' | 'dark';

const KEY = 'hookline.theme';
const system = matchMedia('(prefers-color-scheme: dark)');
const stored = localStorage.getItem(KEY);

const choice = signal<Choice>(stored === 'light' || stored === 'dark' ? stored : 'system');
const systemDark = signal(system.matches);
system.addEventListener('change', (event) => {
  systemDark.value = event.matches;
});

/** What is shown now. Charts are drawn anew when it changes. */
export const theme = signal<'light' | 'dark'>('light');

effect(() => {
  const next = choice.value === 'system' ? (systemDark.value ? 'dark' : 'light') : choice.value;
  document.documentElement.dataset.theme = next;
  theme.value = next;
});

export function toggle(): void {
  choice.value = theme.value === 'dark' ? 'light' : 'dark';
  localStorage.setItem(KEY, choice.value);
}

export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
