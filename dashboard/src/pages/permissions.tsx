// Permissions in the store: of all clients, of a user, or of a client.
import { useEffect, useState } from 'preact/hooks';
import * as api from '../api';
import { Button } from '../parts/button';
import { sure } from '../parts/dialog';
import { Editor } from '../parts/editor';
import { Page, Panel } from '../parts/page';
import { Empty, Failed, Loading, message } from '../parts/state';
import { Table } from '../parts/table';
import { attempt, tell } from '../parts/toast';
import { usePoll } from '../poll';
import { go, href } from '../router';
import { may } from '../session';

const EXAMPLE: api.Json = [{ permission: 'allow', action: 'publish', topics: ['devices/${clientid}/#'] }, { permission: 'deny', topics: ['secret/#'] }];

function isPermission(value: api.Json): value is api.Permission & api.Row {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && 'permission' in value;
}

async function load(kind: string, name: string, signal: AbortSignal): Promise<api.Json> {
  try {
    return await api.permissions(kind, name, signal);
  } catch (error) {
    if (error instanceof api.ApiError && error.status === 404 && !api.isMissing(error)) return null;
    throw error;
  }
}

function Rules({ kind, name }: { kind: string; name: string }) {
  const found = usePoll((signal) => load(kind, name, signal), 0, [kind, name]);
  const [text, setText] = useState<string>();
  const [problem, setProblem] = useState('');
  useEffect(() => setText(undefined), [found.data]);
  if (found.data === undefined) return found.error === undefined ? <Loading /> : <Failed error={found.error} retry={found.refresh} />;
  const whom = kind === 'all' ? 'all clients' : `the ${kind === 'users' ? 'user' : 'client'} ${name}`;
  const rows = Array.isArray(found.data) ? found.data.filter(isPermission) : [];
  const edited = text ?? JSON.stringify(found.data ?? [], null, 2);
  const save = async (): Promise<void> => {
    setProblem('');
    try {
      await api.setPermissions(kind, name, JSON.parse(edited) as api.Json);
      tell(`Permissions of ${whom} are kept, and hold at once`);
      found.refresh();
    } catch (error) {
      setProblem(message(error));
    }
  };
  const remove = async (): Promise<void> => {
    if (!(await sure(`Remove the permissions of ${whom}?`, 'What other sources and the default say holds then, also for clients that are connected.', 'Remove'))) return;
    await attempt('The permissions are removed', () => api.removePermissions(kind, name));
    found.refresh();
  };
  return (
    <div class="cols-2">
      <Panel title={`Permissions of ${whom}`} note="the first that fits decides">
        {rows.length === 0 ? (
          <Empty title="None in the store">
            <p>The configuration and other sources decide about {whom}.</p>
            <Button needs="administrator" onClick={() => setText(JSON.stringify(EXAMPLE, null, 2))}>Begin with an example</Button>
          </Empty>
        ) : (
          <Table
            label="Permissions"
            rows={rows.map((row, i) => ({ row, i }))}
            rowKey={({ i }) => String(i)}
            columns={[
              { title: 'Says', cell: ({ row }) => <span class={row.permission === 'deny' ? 'bad' : ''}>{row.permission}</span> },
              { title: 'To', cell: ({ row }) => row.action ?? 'publish and subscribe' },
              { title: 'Topics', kind: 'wrap', cell: ({ row }) => <code class="break">{(row.topics ?? (row.topic ? [row.topic] : [])).join(', ') || 'all'}</code> },
              { title: 'Only', cell: ({ row }) => <code>{Object.entries(row).filter(([key]) => !['permission', 'action', 'topic', 'topics'].includes(key)).map(([key, value]) => `${key} ${JSON.stringify(value)}`).join(', ') || '–'}</code> },
            ]}
          />
        )}
      </Panel>
      <Panel title="Edit" note="JSON" tools={<><Button small kind="danger" needs="administrator" off={rows.length === 0 ? 'There are none' : undefined} onClick={() => void remove()}>Remove</Button><Button small kind="primary" needs="administrator" onClick={() => void save()}>Save</Button></>} body>
        <div class="stack">
          <Editor label="Permissions" language="json" value={edited} onChange={setText} readOnly={!may('administrator')} height="260px" />
          {problem && <div class="note-box bad" role="alert">{problem}</div>}
          <small class="dim">permission: allow or deny. action: publish, subscribe or all. topics: filters, with {'${clientid}'} and {'${username}'}. Also qos, retain, ipaddress.</small>
        </div>
      </Panel>
    </div>
  );
}

export function Permissions({ path }: { path: readonly string[] }) {
  const kind = path[0] === 'users' || path[0] === 'clients' ? path[0] : 'all';
  const name = path[1] ?? '';
  const [text, setText] = useState(name);
  useEffect(() => setText(name), [name]);
  return (
    <Page title="Permissions">
      <p class="lead">Who may publish and subscribe, as it stands in the store. It counts where <code>[[authorization.sources]]</code> has <code>type = "built_in"</code>; changes reach connected clients at once.</p>
      <form
        class="row"
        style={{ marginBottom: '12px' }}
        onSubmit={(event) => {
          event.preventDefault();
          if (kind !== 'all' && text) go(href('permissions', kind, text));
        }}
      >
        <select class="input" aria-label="Of" value={kind} onChange={(event) => go(event.currentTarget.value === 'all' ? '#/permissions' : href('permissions', event.currentTarget.value))}>
          <option value="all">of all clients</option>
          <option value="users">of a user</option>
          <option value="clients">of a client</option>
        </select>
        {kind !== 'all' && (
          <>
            <input class="input" data-search aria-label="Name" placeholder={kind === 'users' ? 'User name' : 'Client ID'} value={text} onInput={(event) => setText(event.currentTarget.value)} />
            <button type="submit" class="btn">Show</button>
          </>
        )}
      </form>
      {kind === 'all' || name ? <Rules key={`${kind} ${name}`} kind={kind} name={name} /> : <Panel><Empty title={kind === 'users' ? 'Which user?' : 'Which client?'}>Write the name above.</Empty></Panel>}
    </Page>
  );
}
