// Who changed what, and what came of it.
import { useState } from 'preact/hooks';
import * as api from '../api';
import { time } from '../format';
import { Button } from '../parts/button';
import { Dialog } from '../parts/dialog';
import { ListOf } from '../parts/list';
import { Details, Page, Panel, Search } from '../parts/page';
import { Empty } from '../parts/state';
import { place, setQuery } from '../router';

const SPANS: readonly (readonly [string, string, number])[] = [['', 'all', 0], ['1h', 'the last hour', 3600], ['1d', 'the last day', 86400], ['7d', 'the last week', 604800]];

export function Audit() {
  const [shown, setShown] = useState<api.AuditEntry>();
  const { query } = place.value;
  const span = query.get('span') ?? '';
  const secs = SPANS.find(([id]) => id === span)?.[2] ?? 0;
  // To the minute, so that the question stays the same while the page is looked at.
  const from = secs > 0 ? new Date(Math.floor(Date.now() / 60000) * 60000 - secs * 1000).toISOString() : undefined;
  const operator = query.get('operator') ?? '';
  const path = query.get('q') ?? '';
  return (
    <Page
      title="Audit log"
      tools={
        <>
          <select class="input" aria-label="Since" value={span} onChange={(event) => setQuery('span', event.currentTarget.value)}>
            {SPANS.map(([id, title]) => <option key={id} value={id}>{title}</option>)}
          </select>
          <input class="input" aria-label="Who" placeholder="Who" value={operator} onChange={(event) => setQuery('operator', event.currentTarget.value)} />
          <Search label="Part of the path" value={path} onInput={(next) => setQuery('q', next)} />
        </>
      }
    >
      <Panel>
        <ListOf
          label="Audit log"
          fetch={api.audit}
          query={{ from, operator, path }}
          rowKey={(row) => String(row.seq)}
          onOpen={setShown}
          every={5000}
          empty={<Empty title={path || operator || span ? 'No entry fits' : 'Nothing was changed yet'}>Every change by the API, this dashboard and the command line is listed here, with who made it.</Empty>}
          columns={() => [
            { title: 'At', cell: (row) => time(row.created_at) },
            { title: 'Who', cell: (row) => <b>{row.operator ?? '–'}</b> },
            { title: 'Role', cell: (row) => <span class="soft">{row.role ?? '–'}</span> },
            { title: 'From', cell: (row) => <span class="soft">{row.source_ip ?? row.source}</span> },
            { title: 'Method', cell: (row) => <code>{row.method}</code> },
            { title: 'Path', kind: 'cut', width: '34%', cell: (row) => <code title={row.path}>{row.path}</code> },
            { title: 'Status', kind: 'num', cell: (row) => <span class={row.status >= 400 ? 'bad' : ''}>{row.status}</span> },
            { title: 'Took', kind: 'num', cell: (row) => `${row.duration_ms} ms` },
          ]}
        />
      </Panel>
      {shown && (
        <Dialog title={`${shown.method} ${shown.path}`} wide onClose={() => setShown(undefined)} footer={<Button onClick={() => setShown(undefined)}>Close</Button>}>
          <Details of={[['At', time(shown.created_at)], ['Who', `${shown.operator ?? '–'} (${shown.role ?? '–'})`], ['From', `${shown.source} ${shown.source_ip ?? ''}`], ['Status', shown.status]]} />
          <div class="cols-2">
            <div><h3>Before</h3><pre class="code">{shown.before === undefined || shown.before === null ? '–' : JSON.stringify(shown.before, null, 2)}</pre></div>
            <div><h3>After</h3><pre class="code">{shown.after === undefined || shown.after === null ? '–' : JSON.stringify(shown.after, null, 2)}</pre></div>
          </div>
        </Dialog>
      )}
    </Page>
  );
}
