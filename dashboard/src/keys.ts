// Keys for the whole dashboard. Fields and dialogs have theirs to themselves.
import { signal } from '@preact/signals';
import { go } from './router';

/** `g` and then one of these. */
export const PLACES: readonly (readonly [string, string, string])[] = [
  ['o', 'overview', 'Overview'],
  ['d', 'drops', 'Drops'],
  ['l', 'alarms', 'Alarms'],
  ['c', 'clients', 'Clients'],
  ['s', 'subscriptions', 'Subscriptions'],
  ['t', 'topics', 'Topics'],
  ['r', 'rules', 'Rules'],
  ['f', 'flow', 'Flow'],
  ['a', 'actions', 'Actions'],
  ['n', 'connectors', 'Connectors'],
  ['u', 'users', 'Authentication'],
  ['p', 'permissions', 'Permissions'],
  ['b', 'bans', 'Bans'],
  ['x', 'traces', 'Traces'],
  ['e', 'settings', 'Settings'],
  ['h', 'audit', 'Audit log'],
  ['w', 'websocket', 'WebSocket client'],
];

export const help = signal(false);

let waitsForPlace = 0;

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || ['INPUT', 'TEXTAREA', 'SELECT'].includes(target.tagName));
}

function onKey(event: KeyboardEvent): void {
  if (event.key === 'Escape' && event.target instanceof HTMLElement && isTyping(event.target)) event.target.blur();
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || document.querySelector('dialog[open]')) return;
  if (Date.now() - waitsForPlace < 1500) {
    waitsForPlace = 0;
    const found = PLACES.find(([key]) => key === event.key);
    if (found) {
      event.preventDefault();
      go(`#/${found[1]}`);
    }
    return;
  }
  if (event.key === 'g') waitsForPlace = Date.now();
  if (event.key === '?') help.value = true;
  if (event.key === '/') {
    event.preventDefault();
    const field = document.querySelector<HTMLInputElement>('[data-search]');
    if (field) field.focus();
    else go('#/clients?focus=1');
  }
}

export function listen(): void {
  addEventListener('keydown', onKey);
}
