// The frame around every page: navigation, status bar, help.
import type { ComponentChildren } from 'preact';
import { logout } from '../app';
import { duration } from '../format';
import { help, PLACES } from '../keys';
import { findings, now, number, trouble } from '../live';
import { place } from '../router';
import { session } from '../session';
import { theme, toggle } from '../theme';
import { Button } from './button';
import { Dialog } from './dialog';
import { Logo } from './logo';

const NAV: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
  ['Now', [['overview', 'Overview'], ['drops', 'Drops'], ['alarms', 'Alarms'], ['slow', 'Slow subscribers'], ['traces', 'Traces']]],
  ['Traffic', [['clients', 'Clients'], ['subscriptions', 'Subscriptions'], ['topics', 'Topics'], ['retained', 'Retained and delayed'], ['websocket', 'WebSocket client']]],
  ['Data', [['rules', 'Rules'], ['flow', 'Flow'], ['actions', 'Actions'], ['connectors', 'Connectors']]],
  ['Access', [['users', 'Authentication'], ['permissions', 'Permissions'], ['bans', 'Bans']]],
  ['Broker', [['node', 'Node and store'], ['settings', 'Settings'], ['audit', 'Audit log'], ['people', 'Dashboard users']]],
];

function Badge({ page }: { page: string }) {
  const latest = now.value;
  if (!latest) return null;
  if (page === 'alarms' && latest.alarms.length > 0) return <span class="count bad">{latest.alarms.length}</span>;
  if (page === 'actions') {
    const down = latest.actions.filter((action) => action.status === 'disconnected' || action.status === 'retrying').length;
    const letters = latest.actions.some((action) => action.dead_letters > 0);
    if (down > 0) return <span class="count bad">{down}</span>;
    if (letters) return <span class="count warn">†</span>;
  }
  return null;
}

function Nav() {
  const here = place.value.path[0] ?? 'overview';
  return (
    <nav class="nav" aria-label="Pages">
      <a class="brand" href="#/overview">
        <Logo /> Hookline
      </a>
      {NAV.map(([title, pages]) => (
        <div key={title}>
          <h3>{title}</h3>
          <ul>
            {pages.map(([page, name]) => (
              <li key={page}>
                <a href={`#/${page}`} aria-current={here === page ? 'page' : undefined}>
                  {name}
                  <Badge page={page} />
                </a>
              </li>
            ))}
          </ul>
        </div>
      ))}
    </nav>
  );
}

function Health() {
  if (trouble.value !== undefined) {
    return (
      <a class="health" href="#/overview">
        <span class="dot bad" /> The broker does not answer
      </a>
    );
  }
  if (!now.value) return <span class="health">Connecting</span>;
  const [first, ...more] = findings.value;
  if (!first) {
    return (
      <a class="health" href="#/overview">
        <span class="dot ok" /> All is well
      </a>
    );
  }
  return (
    <a class="health" href={first.href} title={first.why}>
      <span class={`dot ${first.tone}`} />
      <span class="cut">
        {first.what}
        {more.length > 0 && ` and ${more.length} more`}
      </span>
    </a>
  );
}

function Bar() {
  const latest = now.value;
  return (
    <footer class="bar" aria-label="Status">
      <Health />
      <span class="spacer" />
      {latest && (
        <>
          <span>
            <b>{number(latest.stats, 'live_connections.count').toLocaleString('en')}</b> connected
          </span>
          <span>up {duration(latest.node.uptime / 1000)}</span>
          <span>
            {latest.node.node} · {latest.node.version}
          </span>
        </>
      )}
      <span>
        <b>{session.value?.name}</b> {session.value?.role}
      </span>
      <button type="button" onClick={toggle} aria-label={`Change to the ${theme.value === 'dark' ? 'light' : 'dark'} theme`}>
        {theme.value === 'dark' ? 'Light' : 'Dark'}
      </button>
      <button type="button" onClick={() => (help.value = true)} aria-label="Keys">
        Keys ?
      </button>
      <button type="button" onClick={logout}>
        Log out
      </button>
    </footer>
  );
}

function Help() {
  if (!help.value) return null;
  const close = (): void => {
    help.value = false;
  };
  return (
    <Dialog title="Keys" wide onClose={close} onSubmit={close} footer={<Button onClick={close}>Close</Button>}>
      <div class="cols-2">
        <dl class="kv">
          {([['/', 'search'], ['?', 'this list'], ['Esc', 'close, or leave a field'], ['↑ ↓ Home End', 'move in a table'], ['Enter', 'open the row'], ['Ctrl Space', 'completions in an editor'], ['Ctrl Enter', 'try the statement']] as const).map(([key, does]) => (
            <>
              <dt>
                <kbd>{key}</kbd>
              </dt>
              <dd>{does}</dd>
            </>
          ))}
        </dl>
        <dl class="kv">
          {PLACES.map(([key, , title]) => (
            <>
              <dt>
                <kbd>g</kbd> <kbd>{key}</kbd>
              </dt>
              <dd>{title}</dd>
            </>
          ))}
        </dl>
      </div>
    </Dialog>
  );
}

export function Shell({ children }: { children: ComponentChildren }) {
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById('main')?.focus(); }}>
        To the content
      </a>
      <Nav />
      <main class="main" id="main" tabIndex={-1}>
        {children}
      </main>
      <Bar />
      <Help />
    </div>
  );
}
