// Alarms: those that are active, and those that are over.
import * as api from '../api';
import { ago, duration, time, toDate } from '../format';
import { Mark, Page, Panel, Tabs } from '../parts/page';
import { Empty, Fetched } from '../parts/state';
import { Table } from '../parts/table';
import { usePoll } from '../poll';
import { place, setQuery } from '../router';

function lasted(alarm: api.Alarm): string {
  const [from, to] = [toDate(alarm.activate_at), toDate(alarm.deactivate_at)];
  return from && to ? duration((to.getTime() - from.getTime()) / 1000) : '–';
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
                  { title: 'Details', kind: 'cut', cell: (alarm) => <code>{alarm.details ? JSON.stringify(alarm.details) : '–'}</code> },
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
