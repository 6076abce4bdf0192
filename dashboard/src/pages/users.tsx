// How clients log in: users in the store, and what backends were asked.
import { useState } from 'preact/hooks';
import * as api from '../api';
import { exact, micros } from '../format';
import { Button } from '../parts/button';
import { Dialog, sure } from '../parts/dialog';
import { Field, Page, Panel, Search } from '../parts/page';
import { Empty, Fetched, message } from '../parts/state';
import { Table } from '../parts/table';
import { attempt, tell } from '../parts/toast';
import { usePoll } from '../poll';
import { href, place, setQuery } from '../router';

const SHOWN = 500;

function UserDialog({ name, onClose }: { name: string; onClose: (changed: boolean) => void }) {
  const [user, setUser] = useState(name);
  const [password, setPassword] = useState('');
  const [all, setAll] = useState(false);
  const [problem, setProblem] = useState('');
  const save = async (): Promise<void> => {
    try {
      await api.setUser(user, password, all);
      tell(`${user} may log in`);
      onClose(true);
    } catch (error) {
      setProblem(message(error));
    }
  };
  return (
    <Dialog title={name ? `Another password for ${name}` : 'New user'} onClose={() => onClose(false)} onSubmit={() => void save()} footer={<><Button onClick={() => onClose(false)}>Cancel</Button><Button kind="primary" submit needs="administrator">Save</Button></>}>
      <div class="form">
        <Field label="User name"><input class="input" required value={user} readOnly={name !== ''} onInput={(event) => setUser(event.currentTarget.value)} /></Field>
        <Field label="Password" hint="kept as a hash (argon2id)"><input class="input" type="password" autocomplete="new-password" required value={password} onInput={(event) => setPassword(event.currentTarget.value)} /></Field>
        <label class="check"><input type="checkbox" checked={all} onChange={(event) => setAll(event.currentTarget.checked)} /> Superuser: may publish and subscribe everywhere</label>
        {problem && <div class="note-box bad" role="alert">{problem}</div>}
      </div>
    </Dialog>
  );
}

export function Users() {
  const users = usePoll(api.users, 5000);
  const backends = usePoll(api.backends, 3000);
  const [editing, setEditing] = useState<string>();
  const text = place.value.query.get('q') ?? '';
  const number = (value: api.Json | undefined): number => (typeof value === 'number' ? value : 0);
  const remove = async (name: string): Promise<void> => {
    if (!(await sure(`Remove the user ${name}?`, 'Who is connected stays in; the next login is refused.', 'Remove'))) return;
    await attempt(`${name} is removed`, () => api.removeUser(name));
    users.refresh();
  };
  return (
    <Page title="Authentication" tools={<><Search label="User name" value={text} onInput={(next) => setQuery('q', next)} /><Button kind="primary" needs="administrator" onClick={() => setEditing('')}>New user</Button></>}>
      <div class="stack">
        <Panel title="Users in the store" note={'they may log in where [[authentication]] has type = "built_in"'}>
          <Fetched of={users}>
            {(all) => {
              const rows = all.filter((user) => user.user_id.includes(text));
              if (rows.length === 0) return text ? <Empty title="No user fits" /> : <Empty title="No users in the store">Add one here, or ask a database, a directory or tokens about clients: the configuration says whom.</Empty>;
              return (
                <>
                  <Table
                    label="Users"
                    rows={rows.slice(0, SHOWN)}
                    rowKey={(user) => user.user_id}
                    columns={[
                      { title: 'User', cell: (user) => <b>{user.user_id}</b> },
                      { title: 'May', cell: (user) => (user.is_superuser ? 'everything (superuser)' : <a href={href('permissions', 'users', user.user_id)}>what permissions say</a>) },
                      { title: '', kind: 'acts', cell: (user) => <><Button small needs="administrator" onClick={() => setEditing(user.user_id)}>Password</Button><Button small kind="danger" needs="administrator" onClick={() => void remove(user.user_id)}>Remove</Button></> },
                    ]}
                  />
                  <div class="pager">{rows.length > SHOWN ? `The first ${SHOWN} of ${exact(rows.length)}: search for others` : `${exact(rows.length)} in all`}</div>
                </>
              );
            }}
          </Fetched>
        </Panel>
        <Panel title="Backends" note="outside systems that are asked about clients" tools={<Button small needs="administrator" onClick={() => void attempt('Permissions are asked for anew', api.forgetPermissions)}>Ask for permissions anew</Button>}>
          <Fetched of={backends}>
            {(all) => {
              const rows = Object.entries(all);
              if (rows.length === 0) return <Empty title="No backend is asked">Everything is decided here: by the store, by files and by rules in the configuration.</Empty>;
              return (
                <Table
                  label="Backends"
                  rows={rows}
                  rowKey={([name]) => name}
                  columns={[
                    { title: 'Backend', cell: ([name]) => <b>{name}</b> },
                    { title: 'Asked', kind: 'num', cell: ([, of]) => exact(number(of.asked)) },
                    { title: 'From memory', kind: 'num', cell: ([, of]) => exact(number(of.remembered)) },
                    { title: 'Answered', kind: 'num', cell: ([, of]) => exact(number(of.answered)) },
                    { title: 'Failed', kind: 'num', cell: ([, of]) => <span class={number(of.failed) > 0 ? 'bad' : ''}>{exact(number(of.failed))}</span> },
                    { title: 'Spared', kind: 'num', cell: ([, of]) => exact(number(of.spared)) },
                    { title: 'An answer takes', kind: 'num', cell: ([, of]) => (number(of.answered) > 0 ? micros(number(of.answer_us) / number(of.answered)) : '–') },
                    { title: 'The longest', kind: 'num', cell: ([, of]) => micros(number(of.longest_us)) },
                  ]}
                />
              );
            }}
          </Fetched>
        </Panel>
      </div>
      {editing !== undefined && <UserDialog name={editing} onClose={(changed) => { setEditing(undefined); if (changed) users.refresh(); }} />}
    </Page>
  );
}
