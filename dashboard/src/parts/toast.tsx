// Short notes at the edge: done, or why not.
import { signal } from '@preact/signals';
import type { Changed } from '../api';
import { message } from './state';

interface Note {
  id: number;
  text: string;
  bad: boolean;
}

const notes = signal<Note[]>([]);
let last = 0;

function drop(id: number): void {
  notes.value = notes.value.filter((note) => note.id !== id);
}

export function tell(text: string, bad = false): void {
  last += 1;
  const id = last;
  notes.value = [...notes.value.slice(-3), { id, text, bad }];
  setTimeout(() => drop(id), bad ? 9000 : 4000);
}

/** Does something for the user and says what came of it. */
export async function attempt(done: string, work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    if (done) tell(done);
    return true;
  } catch (error) {
    tell(message(error), true);
    return false;
  }
}

/** What was applied; and what could not be started, or waits for a restart. */
export function tellChanged(done: string, { applied }: Changed): void {
  tell(done);
  if (applied && applied.failed.length > 0) tell(`Not started: ${applied.failed.join(', ')}`, true);
  if (applied && applied.restart.length > 0) tell(`Holds after a restart: ${applied.restart.join(', ')}`, true);
}

export function Toasts() {
  return (
    <div class="toasts" aria-live="polite">
      {notes.value.map((note) => (
        <div key={note.id} class={note.bad ? 'toast bad' : 'toast'} role={note.bad ? 'alert' : 'status'}>
          <span>{note.text}</span>
          <button type="button" aria-label="Dismiss" onClick={() => drop(note.id)}>
            ✕
          </button>
        </div>
      ))}
    </div>
  );
}
