// Connectors: what the broker is connected to, and which actions and sources use it.
import * as api from '../api';
import { exact } from '../format';
import { Mark, Page, Panel, type Tone } from '../parts/page';
import { Empty, Fetched } from '../parts/state';
import { Table } from '../parts/table';
import { usePoll } from '../poll';
import { href } from '../router';
import { may } from '../session';

const TONES: { [status: string]: Tone } = { connected: 'ok', connecting: 'off', retrying: 'bad', disconnected: 'bad', paused: 'warn' };

function Status({ of }: { of: string | undefined }) {
  return of === undefined ? <span class="dim">–</span> : <Mark tone={TONES[of] ?? 'off'}>{of}</Mark>;
}

const text = (value: api.Json | undefined): string => (value === undefined || value === null ? '–' : typeof value === 'object' ? JSON.stringify(value) : String(value));

export function Connectors() {
  const connectors = usePoll(api.connectors, 3000);
  const sources = usePoll(api.sources, 3000);
  return (
    <Page title="Connectors">
      <div class="stack">
        <Panel title="Connectors" note="connections to outside systems">
          <Fetched of={connectors}>
            {(rows) =>
              rows.length === 0 ? (
                <Empty title="No connectors yet">A connector is a connection to an outside system such as Kafka or PostgreSQL. Add one in the <a href="#/settings">configuration</a>.</Empty>
              ) : (
                <Table
                  label="Connectors"
                  rows={rows}
                  rowKey={(row) => row.name}
                  columns={[
                    { title: 'Connector', cell: (row) => <b>{row.name}</b> },
                    { title: 'Type', cell: (row) => row.type },
                    { title: 'State', cell: (row) => <Status of={row.status} /> },
                    { title: 'Why', kind: 'cut', width: '38%', cell: (row) => <span class="soft" title={text(row.status_reason)}>{text(row.status_reason)}</span> },
                    { title: 'Actions', kind: 'wrap', cell: (row) => <span class="tags">{row.actions.map((name) => <a key={name} class="tag" href={href('actions', name)}>{name}</a>)}</span> },
                    { title: 'Sources', kind: 'wrap', cell: (row) => <span class="tags">{row.sources.map((name) => <span key={name} class="tag">{name}</span>)}</span> },
                    { title: 'Decides on clients', cell: (row) => (row.decides ? <a href="#/users">yes</a> : <span class="dim">no</span>) },
                    { title: '', kind: 'acts', cell: (row) => may('administrator') && <a href={`#/settings?at=connectors.${encodeURIComponent(row.name)}`}>Settings</a> },
                  ]}
                />
              )
            }
          </Fetched>
        </Panel>
        <Panel title="Sources" note="what comes in from outside systems">
          <Fetched of={sources}>
            {(rows) =>
              rows.length === 0 ? (
                <Empty title="No sources">A source takes messages from Kafka or another MQTT server and publishes them here.</Empty>
              ) : (
                <Table
                  label="Sources"
                  rows={rows}
                  rowKey={(row) => row.name}
                  columns={[
                    { title: 'Source', cell: (row) => <b>{row.name}</b> },
                    { title: 'Type', cell: (row) => row.type },
                    { title: 'Connector', cell: (row) => row.connector },
                    { title: 'State', cell: (row) => <Status of={row.status} /> },
                    { title: 'Why', kind: 'cut', width: '30%', cell: (row) => <span class="soft" title={text(row.status_reason)}>{text(row.status_reason)}</span> },
                    { title: 'Received', kind: 'num', cell: (row) => exact(row.taken.received) },
                    { title: 'Published', kind: 'num', cell: (row) => exact(row.taken.published) },
                    { title: 'Rejected', kind: 'num', cell: (row) => exact(row.taken.rejected) },
                    { title: '', kind: 'acts', cell: (row) => may('administrator') && <a href={`#/settings?at=sources.${encodeURIComponent(row.name)}`}>Settings</a> },
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
