// The node: its listeners, and what its store holds.
import * as api from '../api';
import { bytes, count, duration, exact } from '../format';
import { now } from '../live';
import { Details, Mark, Page, Panel } from '../parts/page';
import { Empty, Fetched } from '../parts/state';
import { Table } from '../parts/table';
import { usePoll } from '../poll';
import { go, href } from '../router';

export function NodeAndStore() {
  const listeners = usePoll(api.listeners, 4000);
  const store = usePoll(api.store, 4000);
  const queues = usePoll((signal) => api.storeQueues(20, signal), 4000);
  const latest = now.value;
  return (
    <Page title="Node and store">
      <div class="stack">
        <Panel title="Listeners">
          <Fetched of={listeners}>
            {(rows) =>
              rows.length === 0 ? <Empty title="No listener">Without a listener nobody can connect.</Empty> : (
                <Table
                  label="Listeners"
                  rows={rows}
                  rowKey={(row) => row.id}
                  columns={[
                    { title: 'Listener', cell: (row) => <b>{row.id}</b> },
                    { title: 'State', cell: (row) => <Mark tone={row.running ? 'ok' : 'bad'}>{row.running ? 'running' : 'stopped'}</Mark> },
                    { title: 'Address', cell: (row) => <code>{row.bind}</code> },
                    { title: 'Zone', cell: (row) => row.zone },
                    { title: 'Connections', kind: 'num', cell: (row) => exact(row.current_connections) },
                    { title: 'At most', kind: 'num', cell: (row) => (typeof row.max_connections === 'number' ? exact(row.max_connections) : (row.max_connections ?? '–')) },
                  ]}
                />
              )
            }
          </Fetched>
        </Panel>
        <div class="cols-2">
          <Panel title="Node">
            {latest && <Details of={[['Name', latest.node.node], ['Version', latest.node.version], ['Up', duration(latest.node.uptime / 1000)], ['Memory', bytes(latest.monitor.memory_bytes)], ['Processor time', latest.monitor.cpu_seconds === undefined ? '–' : duration(latest.monitor.cpu_seconds)], ['Sessions', exact(latest.node.sessions)]]} />}
          </Panel>
          <Panel title="Store">
            <Fetched of={store}>
              {(of) => <Details of={[['Folder', <code>{of.folder}</code>], ['An acknowledgement waits for', of.level], ['State', of.is_full ? <Mark tone="bad">full: publishers are refused</Mark> : of.unbalanced > 0 ? <Mark tone="bad">{of.unbalanced} queues do not balance</Mark> : <Mark tone="ok">takes what comes, every queue balances</Mark>], ['On disk', bytes(of.disk_bytes)], ['Waits in queues', `${count(of.pending)} records, ${bytes(of.pending_bytes)}, in ${count(of.queue_count)} queues`], ['Retained', `${count(of.retained)} messages, ${bytes(of.retained_bytes)}`]]} />}
            </Fetched>
          </Panel>
        </div>
        <Panel title="Durable queues" note="the longest">
          <Fetched of={queues}>
            {(rows) =>
              rows.length === 0 ? <Empty title="No durable queues">Durable sessions and actions have one each.</Empty> : (
                <Table
                  label="Durable queues"
                  rows={rows}
                  rowKey={(row) => `${row.kind} ${row.name}`}
                  onOpen={(row) => go(href(row.kind === 'action' ? 'actions' : 'clients', row.name))}
                  columns={[
                    { title: 'Queue', kind: 'cut', cell: (row) => <a href={href(row.kind === 'action' ? 'actions' : 'clients', row.name)}>{row.name}</a> },
                    { title: 'Of', cell: (row) => (row.kind === 'action' ? 'an action' : 'a session') },
                    { title: 'Waits', kind: 'num', cell: (row) => count(row.pending) },
                    { title: 'Bytes', kind: 'num', cell: (row) => bytes(row.pending_bytes) },
                    { title: 'Oldest', kind: 'num', cell: (row) => (row.oldest_secs === null ? '–' : duration(row.oldest_secs)) },
                    { title: 'Accepted', kind: 'num', cell: (row) => count(row.accepted) },
                    { title: 'Delivered', kind: 'num', cell: (row) => count(row.delivered) },
                    { title: 'Ledger', cell: (row) => (row.balances ? <Mark tone="ok">balances</Mark> : <Mark tone="bad">does not balance</Mark>) },
                  ]}
                />
              )
            }
          </Fetched>
        </Panel>
      </div>
    </Page>
  );
}
