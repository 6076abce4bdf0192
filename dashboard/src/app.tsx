// Login or frame, and which page stands in it.
import type { ComponentType } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { Login } from './pages/login';
import { Overview } from './pages/overview';
import { Questions } from './parts/dialog';
import { Shell } from './parts/shell';
import { Empty, Failed, Loading } from './parts/state';
import { Toasts } from './parts/toast';
import { place } from './router';
import { end, session } from './session';

type PageProps = { path: readonly string[] };
type Loader = () => Promise<ComponentType<PageProps>>;

const PAGES: { [name: string]: Loader } = {
  drops: async () => (await import('./pages/drops')).Drops,
  alarms: async () => (await import('./pages/alarms')).Alarms,
  slow: async () => (await import('./pages/slow')).SlowSubscribers,
  traces: async () => (await import('./pages/traces')).Traces,
  clients: async () => (await import('./pages/clients')).Clients,
  subscriptions: async () => (await import('./pages/subscriptions')).Subscriptions,
  topics: async () => (await import('./pages/topics')).Topics,
  retained: async () => (await import('./pages/retained')).RetainedAndDelayed,
  websocket: async () => (await import('./pages/websocket')).WebSocketClient,
  rules: async () => (await import('./pages/rules')).Rules,
  flow: async () => (await import('./pages/flow')).Flow,
  actions: async () => (await import('./pages/actions')).Actions,
  connectors: async () => (await import('./pages/connectors')).Connectors,
  users: async () => (await import('./pages/users')).Users,
  permissions: async () => (await import('./pages/permissions')).Permissions,
  bans: async () => (await import('./pages/bans')).Bans,
  node: async () => (await import('./pages/node')).NodeAndStore,
  settings: async () => (await import('./pages/settings')).Settings,
  audit: async () => (await import('./pages/audit')).Audit,
  people: async () => (await import('./pages/people')).People,
};

export function logout(): void {
  end();
}

const loaded = new Map<string, ComponentType<PageProps>>([['overview', Overview]]);

function Current() {
  const [name = 'overview', ...path] = place.value.path;
  const [failed, setFailed] = useState<unknown>(undefined);
  const [, setRound] = useState(0);
  const loader = PAGES[name];
  const Found = loaded.get(name);
  useEffect(() => {
    if (loaded.has(name) || !loader) return;
    setFailed(undefined);
    loader().then(
      (page) => {
        loaded.set(name, page);
        setRound((n) => n + 1);
      },
      (error: unknown) => setFailed(error),
    );
  }, [name]);
  useEffect(() => {
    document.getElementById('main')?.scrollTo(0, 0);
  }, [place.value.path.join('/')]);
  if (Found) return <Found key={name} path={path} />;
  if (!loader) {
    return (
      <Empty title="There is no such page">
        <a href="#/overview">To the overview</a>
      </Empty>
    );
  }
  return failed === undefined ? <Loading /> : <Failed error={failed} retry={() => location.reload()} />;
}

export function App() {
  return (
    <>
      {session.value ? (
        <Shell>
          <Current />
        </Shell>
      ) : (
        <Login />
      )}
      <Questions />
      <Toasts />
    </>
  );
}
