// Clients: a page of them by search on the server, and one with its session, subscriptions, queue and window.
import { useState } from 'preact/hooks';
import * as api from '../api';
import { ago, duration, exact, payloadText, time } from '../format';
import { Button } from '../parts/button';
import { sure } from '../parts/dialog';
import { Details, Gauge, Mark, Page, Panel, Search, Tabs } from '../parts/page';
import { Empty, Failed, Fetched } from '../parts/state';
import { Pager, Table } from '../parts/table';
import { attempt } from '../parts/toast';
import { usePoll } from '../poll';
import { go, href, place, setQuery } from '../router';

const LIMIT = 50;

async function end(id: string): Promise<boolean> {
  const yes = await sure(`End the connection of ${id}?`, 'Its session ends, too: subscriptions and messages that wait for it are gone. Most clients connect again by themselves.', 'End it');
  return yes && attempt(`${id} was disconnected`, () => api.kick(id));
}

function State({ of }: { of: api.Client }) {
  return of.connected ? <Mark tone="ok">connected</Mark> : <Mark tone="off">away</Mark>;
}

function ClientList() {
  const { query } = place.value;
  const [page, setPage] = useState(1);
  const text = query.get('q') ?? '';
  const by = query.get('by') === 'username' ? 'username' : 'clientid';
  const state = query.get('state') ?? '';
  const found = usePoll((signal) => api.clients({ page, limit: LIMIT, [`like_${by}`]: text, conn_state: state }, signal), 3000, [page, text, by, state]);
  const change = (name: string, value: string): void => {
    setPage(1);
    setQuery(name, value);
  };
  return (
    <Page
      title="Clients"
      tools={
        <>
          <select class="input" aria-label="State" value={state} onChange={(event) => change('state', event.currentTarget.value)}>
            <option value="">all states</option>
            <option value="connected">connected</option>
            <option value="disconnected">away</option>
          </select>
          <select class="input" aria-label="Search in" value={by} onChange={(event) => change('by', event.currentTarget.value)}>
            <option value="clientid">client ID</option>
            <option value="username">user name</option>
          </select>
          <Search label={by === 'username' ? 'Part of a user name' : 'Part of a client ID'} value={text} onInput={(next) => change('q', next)} />
        </>
      }
    >
      <Panel>
        <Fetched of={found} lines={12}>
          {({ data, meta }) =>
            data.length === 0 ? (
              <Empty title={text || state ? 'No client fits' : 'Nobody is here yet'}>
                {text || state ? 'Search for another part of the name, or among all states.' : <p>Connect one: <code>hookline sub -t '#'</code>, or try the <a href="#/websocket">WebSocket client</a>.</p>}
              </Empty>
            ) : (
              <>
                <Table
                  label="Clients"
                  rows={data}
                  rowKey={(client) => client.clientid}
                  onOpen={(client) => go(href('clients', client.clientid))}
                  columns={[
                    { title: 'Client ID', kind: 'cut', cell: (client) => <a href={href('clients', client.clientid)}>{client.clientid}</a> },
                    { title: 'User', kind: 'cut', width: '12%', cell: (client) => client.username ?? <span class="dim">–</span> },
                    { title: 'State', cell: (client) => <State of={client} /> },
                    { title: 'Address', cell: (client) => <span class="soft">{client.ip_address ? `${client.ip_address}:${client.port}` : '–'}</span> },
                    { title: 'Listener', cell: (client) => <span class="soft">{client.listener}</span> },
                    { title: 'Session', cell: (client) => (client.durable ? 'durable' : <span class="soft">in memory</span>) },
                    { title: 'Subscriptions', kind: 'num', cell: (client) => exact(client.subscriptions_cnt) },
                    { title: 'Queue', kind: 'num', cell: (client) => (client.mqueue_len > 0 ? <span class={client.mqueue_len >= client.mqueue_max && !client.durable ? 'bad' : ''}>{exact(client.mqueue_len)}</span> : <span class="dim">0</span>) },
                    { title: 'In flight', kind: 'num', cell: (client) => (client.inflight_cnt > 0 ? <span class={client.inflight_cnt >= client.inflight_max ? 'warn' : ''}>{client.inflight_cnt}</span> : <span class="dim">0</span>) },
                    { title: 'Since', cell: (client) => <span class="soft">{ago(client.connected ? client.connected_at : client.disconnected_at)}</span> },
                    { title: '', kind: 'acts', cell: (client) => <Button small needs="operator" label={`End ${client.clientid}`} onClick={() => void end(client.clientid).then((done) => done && found.refresh())}>End</Button> },
                  ]}
                />
                <Pager meta={meta} shown={data.length} page={page} limit={LIMIT} onPage={setPage} />
              </>
            )
          }
        </Fetched>
      </Panel>
    </Page>
  );
}

function Waiting({ id, kind }: { id: string; kind: 'mqueue' | 'inflight' }) {
  const found = usePoll((signal) => api.clientQueue(id, kind, signal), 3000, [id, kind]);
  const what = kind === 'mqueue' ? 'waits in its queue' : 'is in flight';
  return (
    <Panel title={kind === 'mqueue' ? 'What waits for it' : 'Sent, and not acknowledged yet'} note="the first 50">
      <Fetched of={found}>
        {(messages) =>
          messages.length === 0 ? (
            <Empty title={`Nothing ${what}`} />
          ) : (
            <Table
              label={kind}
              rows={messages.map((message, i) => ({ ...message, i }))}
              rowKey={(message) => String(message.i)}
              columns={[
                { title: 'Topic', kind: 'cut', cell: (message) => <code>{message.topic}</code> },
                { title: 'QoS', kind: 'num', cell: (message) => message.qos },
                { title: 'Published', cell: (message) => time(message.publish_at) },
                { title: 'Payload', kind: 'cut', width: '48%', cell: (message) => <code title={payloadText(message.payload)}>{payloadText(message.payload).slice(0, 160)}</code> },
              ]}
            />
          )
        }
      </Fetched>
    </Panel>
  );
}

function ClientSubscriptions({ id }: { id: string }) {
  const found = usePoll((signal) => api.clientSubscriptions(id, signal), 4000, [id]);
  return (
    <Panel title="Subscriptions">
      <Fetched of={found}>
        {(rows) =>
          rows.length === 0 ? (
            <Empty title="It subscribes to nothing">It only publishes, or has not subscribed yet.</Empty>
          ) : (
            <Table
              label="Subscriptions"
              rows={rows}
              rowKey={(row) => row.topic}
              columns={[
                { title: 'Filter', cell: (row) => <code>{row.topic}</code> },
                { title: 'QoS', kind: 'num', cell: (row) => row.qos },
                { title: 'Options', cell: (row) => <span class="soft">{[row.nl ? 'no local' : '', row.rap ? 'retain as published' : '', ['', 'retained only when new', 'no retained'][row.rh] ?? ''].filter(Boolean).join(', ') || '–'}</span> },
              ]}
            />
          )
        }
      </Fetched>
    </Panel>
  );
}

function ClientDetail({ id }: { id: string }) {
  const found = usePoll((signal) => api.client(id, signal), 2000, [id]);
  const tab = place.value.query.get('tab') ?? 'session';
  const up = { title: 'Clients', href: '#/clients' };
  if (found.error instanceof api.ApiError && found.error.status === 404) {
    return (
      <Page title={id} up={up}>
        <Panel>
          <Empty title="This client is not here any more">
            <p>It has disconnected and left no session. When it comes back, it is shown here.</p>
            <Button onClick={found.refresh}>Look again</Button>
          </Empty>
        </Panel>
      </Page>
    );
  }
  const client = found.data;
  if (!client) return <Page title={id} up={up}><Panel>{found.error === undefined ? <Fetched of={found}>{() => null}</Fetched> : <Failed error={found.error} retry={found.refresh} />}</Panel></Page>;
  const stuck = client.connected && client.inflight_cnt >= client.inflight_max && client.mqueue_len > 0;
  return (
    <Page
      title={id}
      up={up}
      tools={
        <>
          <a class="btn" href={`#/drops?q=${encodeURIComponent(id)}`}>What was dropped for it</a>
          <a class="btn" href={`#/permissions/clients/${encodeURIComponent(id)}`}>Permissions</a>
          <Button kind="danger" needs="operator" onClick={() => void end(id).then((done) => done && found.refresh())}>End connection</Button>
        </>
      }
    >
      <div class="stack">
        {stuck && (
          <div class="note-box warn">
            This client does not acknowledge: its window of {client.inflight_max} is full and {exact(client.mqueue_len)} messages wait. {client.durable ? 'Its queue is durable: nothing is dropped, but publishers are refused when it is full.' : 'When its queue is full, the oldest messages are dropped.'}
          </div>
        )}
        <div class="figures">
          <div class="figure"><div class="name">State</div><div class="value" style={{ fontSize: '16px', lineHeight: '30px' }}><State of={client} /></div><div class="note">{client.connected ? `for ${duration((Date.now() - Date.parse(client.connected_at ?? '')) / 1000)}` : ago(client.disconnected_at)}</div></div>
          <div class="figure"><div class="name">Queue</div><div class="value">{exact(client.mqueue_len)}</div><div class="note">{client.durable ? 'on disk' : <Gauge value={client.mqueue_len} max={client.mqueue_max} label={`of ${client.mqueue_max}`} />}</div></div>
          <div class="figure"><div class="name">In flight</div><div class="value">{client.inflight_cnt}</div><div class="note"><Gauge value={client.inflight_cnt} max={client.inflight_max} label={`of ${client.inflight_max}`} /></div></div>
          <div class="figure"><div class="name">Subscriptions</div><div class="value">{exact(client.subscriptions_cnt)}</div><div class="note">of {exact(client.subscriptions_max)}</div></div>
          <div class="figure"><div class="name">QoS 2 open</div><div class="value">{exact(client.awaiting_rel_cnt)}</div><div class="note">wait for PUBREL</div></div>
        </div>
        <Tabs value={tab} onChange={(next) => setQuery('tab', next)} of={[['session', 'Session'], ['queue', 'Queue'], ['inflight', 'In flight']]} />
        {tab === 'session' && (
          <div class="cols-2">
            <Panel title="Connection and session">
              <Details
                of={[
                  ['User', client.username ?? '–'],
                  ['Address', client.ip_address ? `${client.ip_address}:${client.port}` : '–'],
                  ['Listener', `${client.listener}, zone ${client.zone}`],
                  ['Protocol', `${client.proto_name} ${client.proto_ver === 5 ? '5.0' : client.proto_ver === 4 ? '3.1.1' : '3.1'}`],
                  ['Keep alive', `${client.keepalive} s`],
                  ['Clean start', client.clean_start ? 'yes' : 'no'],
                  ['Session expiry', client.expiry_interval === 0 ? 'with the connection' : duration(client.expiry_interval)],
                  ['Kept', client.durable ? 'durable, in the store' : 'in memory'],
                  ['Mountpoint', client.mountpoint || '–'],
                  ['Session since', time(client.created_at)],
                  ['Connected', time(client.connected_at)],
                  ['Disconnected', time(client.disconnected_at)],
                  ['Attributes', Object.keys(client.client_attrs).length > 0 ? <code>{JSON.stringify(client.client_attrs)}</code> : '–'],
                ]}
              />
            </Panel>
            <ClientSubscriptions id={id} />
          </div>
        )}
        {tab === 'queue' && <Waiting key="q" id={id} kind="mqueue" />}
        {tab === 'inflight' && <Waiting key="i" id={id} kind="inflight" />}
      </div>
    </Page>
  );
}

export function Clients({ path }: { path: readonly string[] }) {
  const id = path[0];
  return id === undefined ? <ClientList /> : <ClientDetail key={id} id={id} />;
}
