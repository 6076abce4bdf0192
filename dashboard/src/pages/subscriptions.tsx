// Subscriptions of all clients.
import * as api from '../api';
import { ListOf } from '../parts/list';
import { Page, Panel, Search } from '../parts/page';
import { Empty } from '../parts/state';
import { go, href, place, setQuery } from '../router';

const WAYS = [
  ['match_topic', 'who gets this topic', 'Topic, as it is published'],
  ['topic', 'exactly this filter', 'Filter, as it is subscribed'],
  ['clientid', 'of this client', 'Client ID'],
  ['share_group', 'of this group', 'Group of shared subscriptions'],
] as const;

export function Subscriptions() {
  const { query } = place.value;
  const way = WAYS.find(([id]) => id === query.get('by')) ?? WAYS[0];
  const text = query.get('q') ?? '';
  return (
    <Page
      title="Subscriptions"
      tools={
        <>
          <select class="input" aria-label="Search for" value={way[0]} onChange={(event) => setQuery('by', event.currentTarget.value)}>
            {WAYS.map(([id, title]) => <option key={id} value={id}>{title}</option>)}
          </select>
          <Search label={way[2]} value={text} onInput={(next) => setQuery('q', next)} />
        </>
      }
    >
      <Panel>
        <ListOf
          label="Subscriptions"
          fetch={api.subscriptions}
          query={{ [way[0]]: text }}
          rowKey={(row) => `${row.clientid} ${row.topic}`}
          onOpen={(row) => go(href('clients', row.clientid))}
          empty={text ? <Empty title={way[0] === 'match_topic' ? 'Nobody gets this topic' : 'No subscription fits'}>{way[0] === 'match_topic' && 'A message to it is dropped with the reason “no subscribers”, unless a rule takes it.'}</Empty> : <Empty title="Nobody subscribes yet">Subscribe with <code>hookline sub -t '#'</code>, or in the <a href="#/websocket">WebSocket client</a>.</Empty>}
          columns={() => [
            { title: 'Filter', kind: 'cut', cell: (row) => <code title={row.topic}>{row.topic}</code> },
            { title: 'Client', kind: 'cut', cell: (row) => <a href={href('clients', row.clientid)}>{row.clientid}</a> },
            { title: 'QoS', kind: 'num', cell: (row) => row.qos },
            { title: 'No local', cell: (row) => (row.nl ? 'yes' : <span class="dim">no</span>) },
            { title: 'Retain as published', cell: (row) => (row.rap ? 'yes' : <span class="dim">no</span>) },
            { title: 'Retained messages', cell: (row) => <span class="soft">{['when subscribing', 'when new', 'never'][row.rh] ?? row.rh}</span> },
          ]}
        />
      </Panel>
    </Page>
  );
}
