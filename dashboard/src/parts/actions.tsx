// How the state of an action is told.
import type { Action, ActionStatus } from '../api';
import { Mark, type Tone } from './page';

const TONES: { [status in ActionStatus]: Tone } = { connected: 'ok', connecting: 'off', retrying: 'bad', disconnected: 'bad', paused: 'warn' };

export function ActionState({ of }: { of: Action }) {
  return <Mark tone={TONES[of.status]}>{of.status}</Mark>;
}
