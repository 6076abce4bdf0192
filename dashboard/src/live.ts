// The broker's pulse: sampled every two seconds while somebody looks, kept for half an hour. What the broker has remembered itself comes first.
import { computed, effect, signal } from '@preact/signals';
import * as api from './api';
import { reasonsOf } from './drops';
import { whileVisible } from './poll';
import { session } from './session';

const EVERY = 2000;
const KEEP = 900;
const SEED_SECS = 1800;

export interface Sample {
  at: number;
  connections: number;
  received: number | null;
  sent: number | null;
  dropped: number | null;
  commit: number | null;
  /** Per second, by counter. */
  reasons: { [counter: string]: number } | null;
  /** Records that wait, by action. */
  pending: { [action: string]: number } | null;
}

export interface Now {
  at: number;
  node: api.Node;
  stats: api.Counts;
  metrics: api.Counts;
  actions: api.Action[];
  alarms: api.Alarm[];
  monitor: api.MonitorNow;
}

export const now = signal<Now | undefined>(undefined);
export const samples = signal<readonly Sample[]>([]);
/** Why nothing new comes. */
export const trouble = signal<unknown>(undefined);

export function number(counts: api.Counts | undefined, name: string): number {
  const value = counts?.[name];
  return typeof value === 'number' ? value : 0;
}

let hasMonitor = true;

async function seed(signal: AbortSignal): Promise<void> {
  try {
    const points = await api.monitor(SEED_SECS, signal);
    samples.value = points
      .map((point): Sample => ({
        at: point.time_stamp,
        connections: point.connections,
        received: point.received_msg_rate,
        sent: point.sent_msg_rate,
        dropped: point.dropped_msg_rate,
        commit: point.commit_latency_us ?? null,
        reasons: null,
        pending: null,
      }))
      .sort((a, b) => a.at - b.at);
  } catch (error) {
    if (api.isMissing(error)) hasMonitor = false;
  }
}

function sample(before: Now | undefined, next: Now): Sample {
  const secs = before ? (next.at - before.at) / 1000 : 0;
  // After a pause, or a restart of the broker, there is nothing to compare with.
  const comparable = before !== undefined && secs > 0 && secs < 10 && next.node.uptime >= before.node.uptime;
  const per = (name: string): number => Math.max(0, number(next.metrics, name) - number(before?.metrics, name)) / secs;
  return {
    at: next.at,
    connections: number(next.stats, 'live_connections.count'),
    received: comparable ? per('messages.received') : null,
    sent: comparable ? per('messages.sent') : null,
    dropped: comparable ? per('messages.dropped') + per('delivery.dropped') : null,
    commit: next.monitor.commit_latency_us ?? null,
    reasons: comparable ? Object.fromEntries(reasonsOf(next.metrics).map((reason) => [reason.counter, per(reason.counter)])) : null,
    pending: Object.fromEntries(next.actions.map((action) => [action.name, action.ledger.pending])),
  };
}

async function look(signal: AbortSignal): Promise<void> {
  try {
    const [node, stats, metrics, actions, alarms, monitor] = await Promise.all([
      api.node(signal),
      api.stats(signal),
      api.metrics(signal),
      api.actions(signal),
      api.alarms(true, signal),
      hasMonitor ? api.monitorNow(signal) : {},
    ]);
    if (!node || !stats || !metrics) throw new Error('The broker answers, but names no node.');
    const next: Now = { at: Date.now(), node, stats, metrics, actions, alarms, monitor };
    samples.value = [...samples.value, sample(now.value, next)].slice(-KEEP);
    now.value = next;
    trouble.value = undefined;
  } catch (error) {
    if (!signal.aborted) trouble.value = error;
  }
}

effect(() => {
  if (!session.value) {
    now.value = undefined;
    samples.value = [];
    return undefined;
  }
  let seeded = false;
  return whileVisible(async (signal) => {
    if (!seeded) await seed(signal);
    seeded = true;
    await look(signal);
  }, EVERY);
});

/** How much of it there was a second, of late. */
export function recentRate(counter: string): number {
  const known = samples.value.slice(-15).flatMap((one) => one.reasons?.[counter] ?? []);
  return known.reduce((sum, rate) => sum + rate, 0) / Math.max(1, known.length);
}

interface Finding {
  tone: 'warn' | 'bad';
  what: string;
  why: string;
  href: string;
  link: string;
}

/** What is not well: what, why, and where to look. The worst comes first. */
export const findings = computed<readonly Finding[]>(() => {
  const latest = now.value;
  if (!latest) return [];
  const found: Finding[] = [];
  for (const alarm of latest.alarms) found.push({ tone: 'bad', what: `Alarm ${alarm.name}`, why: alarm.message, href: '#/alarms', link: 'See the alarm' });
  for (const action of latest.actions) {
    const to = `#/actions/${encodeURIComponent(action.name)}`;
    const waits = action.ledger.pending > 0 ? `${action.ledger.pending.toLocaleString('en')} records wait. ` : '';
    if (!action.balances) found.push({ tone: 'bad', what: `${action.name} does not balance`, why: 'Its account does not add up: run hookline store check.', href: to, link: 'See the ledger' });
    if (action.status === 'disconnected' || action.status === 'retrying') {
      found.push({ tone: 'bad', what: `${action.name} does not deliver`, why: waits + (action.status_reason ?? 'Its sink does not take what comes.'), href: to, link: 'See the action' });
    }
    if (action.status === 'paused') found.push({ tone: 'warn', what: `${action.name} is paused`, why: `${waits}Somebody has paused it.`, href: to, link: 'Resume it' });
    if (action.dead_letters > 0) {
      const many = action.dead_letters === 1 ? '1 dead letter' : `${action.dead_letters.toLocaleString('en')} dead letters`;
      found.push({ tone: 'warn', what: `${action.name}: ${many}`, why: 'Records that the sink refused for good wait for a decision.', href: `${to}?tab=letters`, link: 'Inspect' });
    }
  }
  for (const reason of reasonsOf(latest.metrics).filter((one) => one.kind !== 'usual')) {
    const mean = recentRate(reason.counter);
    if (mean > 0) {
      const tone = reason.kind === 'grave' ? 'bad' : 'warn';
      const amount = mean < 0.1 ? 'A few' : `${mean.toLocaleString('en', { maximumFractionDigits: 1 })} a second`;
      found.push({ tone, what: `Dropped: ${reason.title.toLowerCase()}`, why: `${amount} now. ${reason.short}`, href: `#/drops/${reason.counter}`, link: 'See why' });
    }
  }
  return found.sort((a, b) => Number(b.tone === 'bad') - Number(a.tone === 'bad'));
});
