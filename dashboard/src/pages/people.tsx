// Who may use this dashboard and the API.
import { useState } from 'preact/hooks';
import * as api from '../api';
import { Button } from '../parts/button';
import { Dialog, sure } from '../parts/dialog';
import { Field, Page, Panel } from '../parts/page';
import { Empty, Fetched, message } from '../parts/state';
import { Table } from '../parts/table';
import { attempt, tell } from '../parts/toast';
import { usePoll } from '../poll';
import { session } from '../session';

const ROLES: readonly (readonly [api.Role, string])[] = [
  ['viewer', 'looks'],
  ['operator', 'also pauses actions, replays dead letters, ends connections'],
  ['administrator', 'also changes users, permissions and the configuration'],
];

function PersonDialog({ before, onClose }: { before: api.Person | undefined; onClose: (changed: boolean) => void }) {
  const [name, setName] = useState(before?.username ?? '');
  const [password, setPassword] = useState('');
  const [role, setRole] = useState<api.Role>(before?.role ?? 'viewer');
  const [problem, setProblem] = useState('');
  const save = async (): Promise<void> => {
    try {
      await api.setPerson(name, password, role);
      tell(`${name} may log in as ${role}`);
      onClose(true);
    } catch (error) {
      setProblem(message(error));
    }
  };
  return (
    <Dialog title={before ? `Change ${before.username}` : 'New dashboard user'} onClose={() => onClose(false)} onSubmit={() => void save()} footer={<><Button onClick={() => onClose(false)}>Cancel</Button><Button kind="primary" submit needs="administrator">Save</Button></>}>
      <div class="form">
        <Field label="Name"><input class="input" required value={name} readOnly={before !== undefined} onInput={(event) => setName(event.currentTarget.value)} /></Field>
        <Field label="Password" hint="at least 8 characters; it ends what was proven by an older one"><input class="input" type="password" autocomplete="new-password" required minLength={8} value={password} onInput={(event) => setPassword(event.currentTarget.value)} /></Field>
        <Field label="Role">
          <select class="input" value={role} onChange={(event) => setRole(ROLES.find(([id]) => id === event.currentTarget.value)?.[0] ?? 'viewer')}>
            {ROLES.map(([id, may]) => <option key={id} value={id}>{id}: {may}</option>)}
          </select>
        </Field>
        {problem && <div class="note-box bad" role="alert">{problem}</div>}
      </div>
    </Dialog>
  );
}

export function People() {
  const found = usePoll(api.people, 5000);
  const [editing, setEditing] = useState<{ person: api.Person | undefined }>();
  const remove = async (name: string): Promise<void> => {
    if (!(await sure(`Remove ${name}?`, 'The tokens of this user end at once.', 'Remove'))) return;
    await attempt(`${name} is removed`, () => api.removePerson(name));
    found.refresh();
  };
  return (
    <Page title="Dashboard users" tools={<Button kind="primary" needs="administrator" onClick={() => setEditing({ person: undefined })}>New user</Button>}>
      <p class="lead">People who may use this dashboard and the API. Programs come with keys, which stand in the configuration: <code>[[api.keys]]</code>.</p>
      <Panel>
        <Fetched of={found}>
          {(rows) =>
            rows.length === 0 ? (
              <Empty title="No people yet">Whoever is here came with a key of the configuration. Add people, so that the audit log names them.</Empty>
            ) : (
              <Table
                label="Dashboard users"
                rows={rows}
                rowKey={(row) => row.username}
                columns={[
                  { title: 'Name', cell: (row) => <><b>{row.username}</b>{row.username === session.value?.name && <span class="dim"> you</span>}</> },
                  { title: 'Role', cell: (row) => row.role },
                  { title: 'May', kind: 'wrap', cell: (row) => <span class="soft">{ROLES.find(([id]) => id === row.role)?.[1]}</span> },
                  { title: '', kind: 'acts', cell: (row) => <><Button small needs="administrator" onClick={() => setEditing({ person: row })}>Change</Button><Button small kind="danger" needs="administrator" off={row.username === session.value?.name ? 'That is you' : undefined} onClick={() => void remove(row.username)}>Remove</Button></> },
                ]}
              />
            )
          }
        </Fetched>
      </Panel>
      {editing && <PersonDialog before={editing.person} onClose={(changed) => { setEditing(undefined); if (changed) found.refresh(); }} />}
    </Page>
  );
}
