// At a glance: is all well, and if not, what, where and why.
import { bytes, count, duration, micros, rate, time } from '../format';
import { reasonOf, reasonsOf } from '../drops';
import { findings, now, number, samples, trouble, type Sample } from '../live';
import { ActionState } from '../parts/actions';
import { Chart, PALETTE, type Series } from '../parts/chart';
import { Figure } from '../parts/figure';
import { Page, Panel } from '../parts/page';
import { Empty, Failed, Loading, message } from '../parts/state';
import { Table } from '../parts/table';
import { go, href } from '../router';

const SPARK = 90;

function Verdict() {
  const found = findings.value;
  const tone = found.some((one) => one.tone === 'bad') ? 'bad' : found.length > 0 ? 'warn' : '';
  const latest = now.value;
  if (!latest) return null;
  if (trouble.value !== undefined) {
    return (
      <section class="verdict bad" role="alert" aria-label="Health">
        <header>
          <strong>Nothing new comes</strong>
          <span class="soft">
            {message(trouble.value)} What is below is of {time(latest.at)}; it is asked again every 2 s.
          </span>
        </header>
      </section>
    );
  }
  const sinks = latest.actions.length;
  return (
    <section class={`verdict ${tone}`} aria-label="Health">
      <header>
        <strong>{found.length === 0 ? 'All is well' : found.length === 1 ? 'One thing needs a look' : `${found.length} things need a look`}</strong>
        {found.length === 0 && (
          <span class="soft">
            No alarm is active, {sinks === 1 ? 'the sink takes' : `all ${sinks} sinks take`} what comes, no dead letters wait, and nothing is dropped that should not be.
          </span>
        )}
      </header>
      {found.length > 0 && (
        <ul>
          {found.map((one) => (
            <li key={one.what}>
              <span class={`mark ${one.tone}`}>
                <span class="cut">{one.what}</span>
              </span>
              <span class="why cut" title={one.why}>
                {one.why}
              </span>
              <a href={one.href}>{one.link}</a>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function seriesOf(all: readonly Sample[], names: readonly string[], pick: (sample: Sample, name: string) => number | null, title: (name: string) => string): Series[] {
  return names.map((name, i) => ({ name: title(name), values: all.map((sample) => pick(sample, name)), colour: PALETTE[i % PALETTE.length] ?? 'series-1' }));
}

export function Overview() {
  const latest = now.value;
  const all = samples.value;
  if (!latest) return <Page title="Overview">{trouble.value === undefined ? <Loading lines={8} /> : <Failed error={trouble.value} />}</Page>;
  const last = all.at(-1);
  const past = (pick: (sample: Sample) => number | null): (number | null)[] => all.slice(-SPARK).map(pick);
  const times = all.map((sample) => sample.at);
  const dropped = number(latest.metrics, 'messages.dropped') + number(latest.metrics, 'delivery.dropped');
  const waiting = latest.actions.reduce((sum, action) => sum + action.ledger.pending, 0);
  const oldest = Math.max(0, ...latest.actions.map((action) => action.oldest_secs ?? 0));
  const letters = latest.actions.reduce((sum, action) => sum + action.dead_letters, 0);
  const reasons = reasonsOf(latest.metrics)
    .filter((reason) => reason.group === 'delivery' || reason.group === 'message')
    .map((reason) => ({ reason, total: number(latest.metrics, reason.counter) }))
    .filter(({ total }) => total > 0)
    .sort((a, b) => b.total - a.total);
  const titleOf = (counter: string): string => reasonOf(counter)?.title ?? counter;
  const lagging = latest.actions.filter((action) => all.some((sample) => (sample.pending?.[action.name] ?? 0) > 0)).map((action) => action.name);
  // What was before this page was opened has no figures of single sinks.
  const live = all.filter((sample) => sample.pending !== null);
  const hasCommit = all.some((sample) => sample.commit !== null);
  return (
    <Page title="Overview" tools={<span class="dim">every 2 s, the last {duration(((all.at(-1)?.at ?? 0) - (all[0]?.at ?? 0)) / 1000)}</span>}>
      <div class="stack">
        <Verdict />
        <div class="figures">
          <Figure name="Connections" value={count(number(latest.stats, 'live_connections.count'))} note={`${count(number(latest.stats, 'sessions.count'))} sessions, at most ${count(number(latest.stats, 'connections.max'))}`} href="#/clients" past={past((s) => s.connections)} />
          <Figure name="Messages in" value={rate(last?.received)} unit="/s" note={`${count(number(latest.metrics, 'messages.received'))} since the start`} past={past((s) => s.received)} />
          <Figure name="Messages out" value={rate(last?.sent)} unit="/s" note={`${count(number(latest.metrics, 'messages.sent'))} since the start`} past={past((s) => s.sent)} />
          <Figure name="Dropped" value={rate(last?.dropped)} unit="/s" note={`${count(dropped)} since the start`} href="#/drops" tone={findings.value.some((one) => one.href.startsWith('#/drops')) ? 'warn' : undefined} past={past((s) => s.dropped)} />
          {hasCommit && <Figure name="Commit latency" value={micros(last?.commit)} note="until an ack may leave" past={past((s) => s.commit)} />}
          <Figure name="Waits for sinks" value={count(waiting)} unit="records" note={waiting > 0 ? `the oldest for ${duration(oldest)}` : 'nothing waits'} href="#/actions" tone={oldest > 60 ? 'warn' : undefined} past={past((s) => (s.pending ? Object.values(s.pending).reduce((sum, n) => sum + n, 0) : null))} />
          <Figure name="Dead letters" value={count(letters)} note={letters > 0 ? 'wait for a decision' : 'none'} href="#/actions" tone={letters > 0 ? 'warn' : undefined} />
        </div>
        <div class="cols-2">
          <Panel title="Messages" note="a second">
            <Chart label="Messages a second" times={times} format={rate} series={[{ name: 'in', values: all.map((s) => s.received), colour: 'series-1' }, { name: 'out', values: all.map((s) => s.sent), colour: 'series-2' }]} />
          </Panel>
          <Panel title="Drops by reason" note="a second" tools={<a href="#/drops">Why?</a>}>
            <Chart label="Drops a second" times={times} format={rate} empty="Nothing was dropped since the start" series={reasons.length === 0 ? [] : [...seriesOf(all, reasons.slice(0, 5).map(({ reason }) => reason.counter), (s, name) => s.reasons?.[name] ?? null, titleOf), { name: 'all', values: all.map((s) => s.dropped), colour: 'ink-3' }]} />
          </Panel>
          <Panel title="Connections">
            <Chart label="Connections" whole times={times} format={count} series={[{ name: 'connected', values: all.map((s) => s.connections), colour: 'series-1' }]} height={130} />
          </Panel>
          <Panel title="Sink lag" note="records that wait">
            <Chart label="Records that wait" times={live.map((s) => s.at)} format={count} whole height={130} empty="No record waits for a sink" series={seriesOf(live, lagging.slice(0, 6), (s, name) => s.pending?.[name] ?? null, (name) => name)} />
          </Panel>
          {hasCommit && (
            <Panel title="Commit latency" note="from a message to the disk">
              <Chart label="Commit latency" times={times} format={micros} height={130} series={[{ name: 'commit', values: all.map((s) => s.commit), colour: 'series-1' }]} />
            </Panel>
          )}
        </div>
        <Panel title="Sinks" tools={<a href="#/actions">All actions</a>}>
          {latest.actions.length === 0 ? (
            <Empty title="No actions yet">A rule hands rows to an action, and the action brings them into a system such as Kafka or PostgreSQL.</Empty>
          ) : (
            <Table
              label="Sinks"
              rows={latest.actions.slice(0, 12)}
              rowKey={(action) => action.name}
              onOpen={(action) => go(href('actions', action.name))}
              columns={[
                { title: 'Action', cell: (action) => <a href={href('actions', action.name)}>{action.name}</a> },
                { title: 'State', cell: (action) => <ActionState of={action} /> },
                { title: 'To', cell: (action) => <span class="soft">{action.type}</span> },
                { title: 'Waits', kind: 'num', cell: (action) => count(action.ledger.pending) },
                { title: 'Oldest', kind: 'num', cell: (action) => (action.oldest_secs === null ? '–' : duration(action.oldest_secs)) },
                { title: 'Bytes', kind: 'num', cell: (action) => bytes(action.ledger.pending_bytes) },
                { title: 'Delivered', kind: 'num', cell: (action) => count(action.ledger.delivered) },
                { title: 'Dead letters', kind: 'num', cell: (action) => (action.dead_letters > 0 ? <span class="warn">{count(action.dead_letters)}</span> : '0') },
              ]}
            />
          )}
        </Panel>
      </div>
    </Page>
  );
}
