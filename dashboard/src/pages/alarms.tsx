// Alarms: those that are active, and those that are over.
import * as api from '../api';
import { ago, bytes, duration, exact, time, toDate } from '../format';
import { Mark, Page, Panel, Tabs } from '../parts/page';
import { Empty, Fetched } from '../parts/state';
import { Table } from '../parts/table';
import { usePoll } from '../poll';
import { place, setQuery } from '../router';

function lasted(alarm: api.Alarm): string {
  const [from, to] = [toDate(alarm.activate_at), toDate(alarm.deactivate_at)];
  return from && to ? duration((to.getTime() - from.getTime()) / 1000) : '–';
}

/** What is in the details, without their brackets: a name and a value in each line. */
function leaves(of: api.Json | undefined, name = ''): [string, string][] {
  if (of === null || of === undefined) return [];
  if (Array.isArray(of)) return of.flatMap((one) => leaves(one, name));
  if (typeof of === 'object') return Object.entries(of).flatMap(([key, value]) => leaves(value, key));
  return [[name, typeof of !== 'number' ? String(of) : name.includes('bytes') ? bytes(of) : exact(of)]];
}

function Leaves({ of }: { of: api.Json | undefined }) {
  const found = leaves(of);
  if (found.length === 0) return <span class="dim">–</span>;
  return <>{found.map(([name, value], i) => <div key={i}><span class="soft">{name.replaceAll('_', ' ')}</span> <code class="break">{value}</code></div>)}</>;
}

export function Alarms() {
  const over = place.value.query.get('tab') === 'over';
  const found = usePoll((signal) => api.alarms(!over, signal), 3000, [over]);
  return (
    <Page title="Alarms">
      <Tabs value={over ? 'over' : 'active'} onChange={(next) => setQuery('tab', next === 'over' ? 'over' : '')} of={[['active', 'Active'], ['over', 'Over']]} />
      <Panel>
        <Fetched of={found}>
          {(rows) =>
            rows.length === 0 ? (
              <Empty title={over ? 'No alarm has ended since the start' : 'No alarm is active'}>
                {!over && 'The broker raises one when memory or the disk runs short, or when the store was damaged.'}
              </Empty>
            ) : (
              <Table
                label="Alarms"
                rows={rows.map((alarm, i) => ({ ...alarm, i }))}
                rowKey={(alarm) => String(alarm.i)}
                columns={[
                  { title: 'Alarm', cell: (alarm) => <Mark tone={over ? 'off' : 'bad'}>{alarm.name}</Mark> },
                  { title: 'What', kind: 'wrap', cell: (alarm) => alarm.message },
                  { title: 'Details', kind: 'wrap', cell: (alarm) => <Leaves of={alarm.details} /> },
                  { title: 'Began', cell: (alarm) => <span title={time(alarm.activate_at)}>{ago(alarm.activate_at)}</span> },
                  { title: 'Lasted', cell: (alarm) => (over ? lasted(alarm) : 'still active') },
                ]}
              />
            )
          }
        </Fetched>
      </Panel>
    </Page>
  );
}
