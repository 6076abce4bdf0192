// Why was this message dropped? Counters by reason, what each means, what to do, and who is affected.
import { useMemo, useState } from 'preact/hooks';
import * as api from '../api';
import { GROUPS, reasonOf, REASONS, reasonsOf, type Reason } from '../drops';
import { count, duration, exact, rate, time } from '../format';
import { now, number, recentRate, samples } from '../live';
import { ActionState } from '../parts/actions';
import { Button } from '../parts/button';
import { Chart } from '../parts/chart';
import { Gauge, Mark, Page, Panel, Search, type Tone } from '../parts/page';
import { Empty, Fetched, Loading } from '../parts/state';
import { Table } from '../parts/table';
import { usePoll } from '../poll';
import { go, href, place, setQuery } from '../router';

/** Clients that are looked at for full queues: more would be a load. */
const CLIENTS_LOOKED = 1000;
const SHOWN = 25;
/** Of the clients that were named, so many are asked for, one by one. */
const ASKED = 8;
const RECORDER = `[recorder]
events = ["$events/message/dropped", "$events/message/delivery_dropped"]`;

const WEIGHT: { [kind in Reason['kind']]: number } = { usual: 0, care: 1, grave: 2 };
const KINDS: { [kind in Reason['kind']]: Tone } = { usual: 'off', care: 'warn', grave: 'bad' };

/** The newest first; looks back further and further until there are enough. */
async function recorded(which: api.DropQuery, signal: AbortSignal): Promise<api.Drops> {
  for (const from of ['10s', '10m']) {
    const found = await api.drops({ ...which, from, limit: SHOWN }, signal);
    if (found.data.length >= SHOWN) return found;
  }
  return api.drops({ ...which, limit: SHOWN }, signal);
}

const kindOf = (reason: Reason): api.DropQuery => ({ reason: reason.event, event: reason.group === 'delivery' ? 'delivery.dropped' : 'message.dropped' });

const clientLink = (id: string) => (id ? <a href={href('clients', id)}>{id}</a> : <span class="dim">–</span>);

function Messages({ which, title }: { which: api.DropQuery; title: string }) {
  const found = usePoll((signal) => recorded(which, signal), 0, [JSON.stringify(which)]);
  return (
    <Panel title={title} note="as recorded" tools={<Button small onClick={found.refresh}>Look again</Button>}>
      <Fetched of={found}>
        {({ data: messages, looked }) =>
          messages.length === 0 ? (
            <Empty title={looked === 0 ? 'Nothing is recorded' : 'None among what is recorded'}>
              {looked === 0 && (
                <>
                  <p>With this in the configuration the broker remembers each dropped message, with its topic, its clients and the reason:</p>
                  <pre>{RECORDER}</pre>
                </>
              )}
            </Empty>
          ) : (
            <Table
              label={title}
              rows={messages}
              rowKey={(message) => `${message.at}${message.topic}${message.to_clientid ?? ''}${message.from_clientid}`}
              columns={[
                { title: 'At', cell: (message) => time(message.at) },
                { title: 'Topic', kind: 'cut', cell: (message) => <code title={message.topic}>{message.topic}</code> },
                { title: 'From', kind: 'cut', cell: (message) => clientLink(message.from_clientid) },
                { title: 'To', kind: 'cut', cell: (message) => clientLink(message.to_clientid ?? '') },
                { title: 'QoS', kind: 'num', cell: (message) => message.qos },
                {
                  title: 'Reason',
                  cell: (message) => {
                    const reason = REASONS.find((one) => one.event === message.reason);
                    return reason ? <a href={`#/drops/${reason.counter}`}>{reason.title}</a> : message.reason;
                  },
                },
              ]}
            />
          )
        }
      </Fetched>
    </Panel>
  );
}

async function there(id: string, signal: AbortSignal): Promise<api.Client | undefined> {
  try {
    return await api.client(id, signal);
  } catch {
    // It has gone since.
    return undefined;
  }
}

function AffectedClients({ reason }: { reason: Reason }) {
  const isDelivery = reason.group === 'delivery';
  const found = usePoll(
    async (signal) => {
      const named = (await api.drops({ ...kindOf(reason), from: '1h', limit: 1 }, signal)).clients;
      const page = reason.who === 'queues' ? (await api.clients({ limit: CLIENTS_LOOKED }, signal)).data : [];
      const full = page.filter((client) => !client.durable && client.mqueue_len > 0 && (client.mqueue_len >= client.mqueue_max * 0.75 || client.inflight_cnt >= client.inflight_max));
      const rows = await Promise.all(
        named.slice(0, SHOWN).map(async (one, i) => ({
          ...one,
          client: page.find((client) => client.clientid === one.clientid) ?? (isDelivery && i < ASKED ? await there(one.clientid, signal) : undefined),
        })),
      );
      const known = new Set(rows.map((row) => row.clientid));
      const others = full.filter((client) => !known.has(client.clientid)).map((client) => ({ clientid: client.clientid, dropped: 0, client }));
      return [...rows, ...others].slice(0, SHOWN);
    },
    5000,
    [reason.counter],
  );
  return (
    <Panel title={isDelivery ? 'Who does not get messages' : 'Who publishes them'} note="the last hour, and queues now">
      <Fetched of={found} lines={3}>
        {(rows) =>
          rows.length === 0 ? (
            <Empty title="Nobody now">{reason.who === 'queues' ? `No queue of the first ${exact(CLIENTS_LOOKED)} clients is nearly full, and no drop of the last hour is recorded.` : 'No drop of the last hour is recorded.'}</Empty>
          ) : (
            <Table
              label="Affected clients"
              rows={rows}
              rowKey={(row) => row.clientid}
              onOpen={(row) => go(href('clients', row.clientid))}
              columns={[
                { title: 'Client', kind: 'cut', cell: (row) => clientLink(row.clientid) },
                { title: 'Dropped', kind: 'num', cell: (row) => (row.dropped ? exact(row.dropped) : '–') },
                ...(isDelivery
                  ? ([
                      { title: 'Queue', cell: (row: (typeof rows)[number]) => (row.client ? row.client.durable ? `${exact(row.client.mqueue_len)} on disk` : <Gauge value={row.client.mqueue_len} max={row.client.mqueue_max} /> : '–') },
                      { title: 'In flight', cell: (row: (typeof rows)[number]) => (row.client ? <Gauge value={row.client.inflight_cnt} max={row.client.inflight_max} /> : '–') },
                    ] as const)
                  : []),
              ]}
            />
          )
        }
      </Fetched>
    </Panel>
  );
}

function AffectedSinks() {
  const waiting = (now.value?.actions ?? []).filter((action) => action.ledger.pending > 0 || action.status !== 'connected');
  return (
    <Panel title="Sinks that records wait for">
      {waiting.length === 0 ? (
        <Empty title="No record waits">All sinks take what comes. Look at durable sessions that are away: Clients, not connected.</Empty>
      ) : (
        <Table
          label="Sinks"
          rows={waiting}
          rowKey={(action) => action.name}
          onOpen={(action) => go(href('actions', action.name))}
          columns={[
            { title: 'Action', cell: (action) => <a href={href('actions', action.name)}>{action.name}</a> },
            { title: 'State', cell: (action) => <ActionState of={action} /> },
            { title: 'Waits', kind: 'num', cell: (action) => count(action.ledger.pending) },
            { title: 'Oldest', kind: 'num', cell: (action) => duration(action.oldest_secs) },
            { title: 'Why', kind: 'cut', cell: (action) => <span title={action.status_reason ?? ''}>{action.status_reason ?? '–'}</span> },
          ]}
        />
      )}
    </Panel>
  );
}

function Cause({ reason }: { reason: Reason }) {
  const all = samples.value.filter((one) => one.reasons !== null);
  return (
    <div class="stack">
      <Panel title={reason.title} note={reason.counter} body>
        <div class="stack">
          <p>{reason.means}</p>
          <div>
            <h3>What to do</h3>
            <ul style={{ paddingLeft: '18px' }}>
              {reason.todo.map((line) => (
                <li key={line}>{line}</li>
              ))}
            </ul>
          </div>
        </div>
      </Panel>
      {(reason.event || reason.who === 'queues') && <AffectedClients key={reason.counter} reason={reason} />}
      {reason.who === 'sinks' && <AffectedSinks />}
      {reason.counter === 'messages.dropped.hop_limit' && <p><a href="#/flow">See how rules feed each other</a></p>}
      <Panel title="A second" note="of this reason">
        <Chart label={reason.title} height={110} times={all.map((one) => one.at)} format={rate} series={[{ name: reason.title, colour: 'series-1', values: all.map((one) => one.reasons?.[reason.counter] ?? null) }]} />
      </Panel>
      {reason.event && <Messages key={`m${reason.counter}`} title="The latest of them" which={kindOf(reason)} />}
    </div>
  );
}

export function Drops({ path }: { path: readonly string[] }) {
  const [all, setAll] = useState(false);
  const latest = now.value;
  const wanted = place.value.query.get('q') ?? '';
  const rows = useMemo(
    () =>
      reasonsOf(latest?.metrics ?? {}).map((reason) => ({ reason, total: number(latest?.metrics, reason.counter), rate: recentRate(reason.counter) })),
    [latest],
  );
  if (!latest) return <Page title="Drops"><Loading /></Page>;
  const losses = rows.filter((row) => row.reason.group === 'delivery' || row.reason.group === 'message');
  const urgency = (row: (typeof rows)[number]): number => (row.rate > 0 ? 1 + WEIGHT[row.reason.kind] : 0);
  const worst = [...losses].sort((a, b) => urgency(b) - urgency(a) || b.rate - a.rate || b.total - a.total)[0];
  const chosen = (path[0] ? reasonOf(path[0]) : undefined) ?? (worst && worst.total > 0 ? worst.reason : undefined);
  const found = wanted.trim();
  const sinks = latest.actions.filter((action) => action.ledger.dropped + action.ledger.expired + action.ledger.dead_lettered > 0);
  return (
    <Page
      title="Drops"
      tools={
        <>
          <label class="check">
            <input type="checkbox" checked={all} onChange={(event) => setAll(event.currentTarget.checked)} /> all reasons
          </label>
          <Search label="Topic or client of a message" value={wanted} onInput={(next) => setQuery('q', next)} />
        </>
      }
    >
      <p class="lead">
        Every message that somebody did not get is counted by its reason. Choose a reason to see what it means, who is affected and what to do; or ask for one message by its topic or client.
      </p>
      <div class="cols-2" style={{ gridTemplateColumns: 'minmax(380px, 5fr) minmax(0, 7fr)' }}>
        <div class="stack">
          {GROUPS.map(([group, title, meaning]) => {
            const shown = rows.filter((row) => row.reason.group === group && (all || row.total > 0)).sort((a, b) => b.rate - a.rate || b.total - a.total);
            return (
              <Panel key={group} title={title} note={meaning}>
                {shown.length === 0 ? (
                  <p class="dim" style={{ padding: '8px 12px' }}>
                    None since the start.
                  </p>
                ) : (
                  <Table
                    label={title}
                    rows={shown}
                    rowKey={(row) => row.reason.counter}
                    selected={found ? '' : (chosen?.counter ?? '')}
                    onOpen={(row) => go(href('drops', row.reason.counter))}
                    columns={[
                      { title: 'Reason', cell: (row) => <Mark tone={row.rate > 0 ? KINDS[row.reason.kind] : 'off'}><a href={href('drops', row.reason.counter)}>{row.reason.title}</a></Mark> },
                      { title: 'Now, a second', kind: 'num', width: '110px', cell: (row) => (row.rate > 0 ? rate(row.rate) : <span class="dim">0</span>) },
                      { title: 'Since start', kind: 'num', width: '100px', cell: (row) => exact(row.total) },
                    ]}
                  />
                )}
              </Panel>
            );
          })}
          <Panel title="Records of actions" note="from rules, and not taken by their sink">
            {sinks.length === 0 ? (
              <p class="dim" style={{ padding: '10px 12px' }}>
                None: no record was dropped, expired or refused by its sink.
              </p>
            ) : (
              <Table
                label="Records of actions"
                rows={sinks}
                rowKey={(action) => action.name}
                onOpen={(action) => go(href('actions', action.name) + '?tab=letters')}
                columns={[
                  { title: 'Action', cell: (action) => <a href={`${href('actions', action.name)}?tab=letters`}>{action.name}</a> },
                  { title: 'Refused by sink', kind: 'num', cell: (action) => exact(action.ledger.dead_lettered) },
                  { title: 'Dropped', kind: 'num', cell: (action) => exact(action.ledger.dropped) },
                  { title: 'Expired', kind: 'num', cell: (action) => exact(action.ledger.expired) },
                ]}
              />
            )}
          </Panel>
        </div>
        {found ? (
          <Messages key={found} title={`Dropped messages of “${found}”`} which={{ about: found }} />
        ) : chosen ? (
          <Cause reason={chosen} />
        ) : (
          <Panel title="Nothing was dropped">
            <Empty title="Every message went where it was to go">Since the start no message and no delivery was dropped.</Empty>
          </Panel>
        )}
      </div>
    </Page>
  );
}

