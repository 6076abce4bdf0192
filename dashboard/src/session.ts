// Who is logged in: kept for this tab, and gone with it.
import { computed, signal } from '@preact/signals';
import type { Role } from './api/types';

export interface Session {
  token: string;
  name: string;
  role: Role;
}

const KEY = 'hookline.session';
const ROLES: Role[] = ['viewer', 'operator', 'administrator'];

function load(): Session | null {
  try {
    const found: unknown = JSON.parse(sessionStorage.getItem(KEY) ?? 'null');
    if (typeof found !== 'object' || found === null) return null;
    const { token, name, role } = found as Partial<Session>;
    return token && name && role ? { token, name, role } : null;
  } catch {
    return null;
  }
}

export const session = signal<Session | null>(load());
/** Said on the login page: why it is shown again. */
export const loginNote = signal('');
export const role = computed<Role>(() => session.value?.role ?? 'viewer');

export function begin(next: Session): void {
  sessionStorage.setItem(KEY, JSON.stringify(next));
  loginNote.value = '';
  session.value = next;
}

export function end(note = ''): void {
  sessionStorage.removeItem(KEY);
  loginNote.value = note;
  session.value = null;
}

/** Whether who is logged in has at least that role. */
export function may(needs: Role): boolean {
  return ROLES.indexOf(role.value) >= ROLES.indexOf(needs);
}

/** Why a control is off, or undefined where it is not. */
export function refusal(needs: Role): string | undefined {
  if (may(needs)) return undefined;
  return `Your role is ${role.value}; this needs ${needs === 'operator' ? 'an operator or administrator' : 'an administrator'}.`;
}
