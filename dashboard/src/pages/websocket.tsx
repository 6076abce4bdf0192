// A client over WebSocket, to try publishing and subscribing from here.
import type { MqttClient } from 'mqtt';
import { useEffect, useRef, useState } from 'preact/hooks';
import * as api from '../api';
import { time } from '../format';
import { Button } from '../parts/button';
import { Field, Mark, Page, Panel } from '../parts/page';
import { Empty, message } from '../parts/state';
import { tell } from '../parts/toast';
import { usePoll } from '../poll';

interface Message {
  id: number;
  at: number;
  way: 'in' | 'out';
  topic: string;
  text: string;
  qos: number;
  retain: boolean;
}

const KEPT = 500;
const FIELD = 'hookline.websocket';

/** Where the first WebSocket listener of the broker most likely is, as seen from here; null: it has none. */
async function guess(signal: AbortSignal): Promise<string | null> {
  const listener = (await api.listeners(signal)).find((one) => one.running && (one.type === 'ws' || one.type === 'wss'));
  return listener ? `${listener.type}://${location.hostname}:${listener.bind.split(':').at(-1)}/mqtt` : null;
}

const QOS = [0, 1, 2] as const;
type QoS = (typeof QOS)[number];

function QosChoice({ value, onChange }: { value: QoS; onChange: (next: QoS) => void }) {
  return (
    <select class="input" aria-label="QoS" value={String(value)} onChange={(event) => onChange(QOS.find((one) => String(one) === event.currentTarget.value) ?? 0)}>
      {QOS.map((one) => <option key={one} value={String(one)}>QoS {one}</option>)}
    </select>
  );
}

export function WebSocketClient() {
  const guessed = usePoll(guess, 0).data;
  const [url, setUrl] = useState(sessionStorage.getItem(FIELD) ?? '');
  const [name, setName] = useState(`dashboard-${Math.random().toString(36).slice(2, 8)}`);
  const [user, setUser] = useState('');
  const [password, setPassword] = useState('');
  const [state, setState] = useState<'off' | 'connecting' | 'connected'>('off');
  const [filters, setFilters] = useState<readonly string[]>([]);
  const [filter, setFilter] = useState('#');
  const [filterQos, setFilterQos] = useState<QoS>(1);
  const [topic, setTopic] = useState('demo/hello');
  const [payload, setPayload] = useState('{"celsius": 21.5}');
  const [qos, setQos] = useState<QoS>(1);
  const [retain, setRetain] = useState(false);
  const [messages, setMessages] = useState<readonly Message[]>([]);
  const client = useRef<MqttClient | undefined>(undefined);
  const count = useRef(0);

  useEffect(() => {
    if (guessed && url === '') setUrl(guessed);
  }, [guessed]);
  useEffect(() => () => void client.current?.end(true), []);

  const add = (entry: Omit<Message, 'id' | 'at'>): void => {
    count.current += 1;
    const next: Message = { ...entry, id: count.current, at: Date.now() };
    setMessages((was) => [next, ...was].slice(0, KEPT));
  };
  const connect = async (): Promise<void> => {
    setState('connecting');
    try {
      sessionStorage.setItem(FIELD, url);
      const { default: mqtt } = await import('mqtt');
      // Timers of a worker would come from a blob, which the policy of the page forbids.
      const opened = await mqtt.connectAsync(url, { clientId: name, protocolVersion: 5, reconnectPeriod: 0, connectTimeout: 5000, timerVariant: 'native', ...(user && { username: user, password }) });
      client.current = opened;
      opened.on('message', (on, bytes, packet) => add({ way: 'in', topic: on, text: new TextDecoder().decode(bytes), qos: packet.qos, retain: packet.retain }));
      opened.on('error', (error) => tell(message(error), true));
      opened.on('close', () => {
        setState('off');
        setFilters([]);
      });
      setState('connected');
    } catch (error) {
      tell(`Not connected: ${message(error)}`, true);
      setState('off');
    }
  };
  const subscribe = async (): Promise<void> => {
    try {
      const granted = await client.current?.subscribeAsync(filter, { qos: filterQos });
      const refused = granted?.find((one) => one.qos >= 128);
      if (refused) return tell(`Refused with code ${refused.qos}`, true);
      setFilters((was) => [...was.filter((one) => one !== filter), filter]);
    } catch (error) {
      tell(message(error), true);
    }
  };
  const unsubscribe = async (one: string): Promise<void> => {
    await client.current?.unsubscribeAsync(one);
    setFilters((was) => was.filter((other) => other !== one));
  };
  const publish = async (): Promise<void> => {
    try {
      await client.current?.publishAsync(topic, payload, { qos, retain });
      add({ way: 'out', topic, text: payload, qos, retain });
    } catch (error) {
      tell(message(error), true);
    }
  };
  const off = state === 'connected' ? undefined : 'Connect first';
  return (
    <Page title="WebSocket client" tools={<Mark tone={state === 'connected' ? 'ok' : 'off'}>{state === 'off' ? 'not connected' : state}</Mark>}>
      <div class="stack">
        {guessed === null && (
          <div class="note-box warn">
            This broker has no WebSocket listener. Add one to the <a href="#/settings">configuration</a>: <code>[listeners.ws.default]</code>
          </div>
        )}
        <Panel title="Connection" body>
          <form class="row" style={{ alignItems: 'end' }} onSubmit={(event) => { event.preventDefault(); if (state === 'off') void connect(); }}>
            <div style={{ flex: '2 1 260px' }}><Field label="Address"><input class="input" required value={url} onInput={(event) => setUrl(event.currentTarget.value)} /></Field></div>
            <div style={{ flex: '1 1 150px' }}><Field label="Client ID"><input class="input" required value={name} onInput={(event) => setName(event.currentTarget.value)} /></Field></div>
            <div style={{ flex: '1 1 120px' }}><Field label="User name"><input class="input" value={user} autocomplete="off" onInput={(event) => setUser(event.currentTarget.value)} /></Field></div>
            <div style={{ flex: '1 1 120px' }}><Field label="Password"><input class="input" type="password" autocomplete="off" value={password} onInput={(event) => setPassword(event.currentTarget.value)} /></Field></div>
            {state === 'connected' ? <Button onClick={() => client.current?.end()}>Disconnect</Button> : <Button kind="primary" submit>{state === 'connecting' ? 'Connecting' : 'Connect'}</Button>}
          </form>
        </Panel>
        <div class="cols-2">
          <Panel title="Subscribe" body>
            <form class="form" onSubmit={(event) => { event.preventDefault(); if (!off) void subscribe(); }}>
              <div class="row">
                <input class="input grow" aria-label="Filter" required value={filter} onInput={(event) => setFilter(event.currentTarget.value)} />
                <QosChoice value={filterQos} onChange={setFilterQos} />
                <Button submit off={off}>Subscribe</Button>
              </div>
              <span class="tags">
                {filters.length === 0 && <span class="dim">No subscription yet</span>}
                {filters.map((one) => (
                  <span key={one} class="tag">
                    <code>{one}</code> <button type="button" aria-label={`Unsubscribe ${one}`} style={{ border: 0, background: 'none', cursor: 'pointer', padding: 0 }} onClick={() => void unsubscribe(one)}>✕</button>
                  </span>
                ))}
              </span>
            </form>
          </Panel>
          <Panel title="Publish" body>
            <form class="form" onSubmit={(event) => { event.preventDefault(); if (!off) void publish(); }}>
              <div class="row">
                <input class="input grow" aria-label="Topic" required value={topic} onInput={(event) => setTopic(event.currentTarget.value)} />
                <QosChoice value={qos} onChange={setQos} />
                <label class="check"><input type="checkbox" checked={retain} onChange={(event) => setRetain(event.currentTarget.checked)} /> retain</label>
                <Button kind="primary" submit off={off}>Publish</Button>
              </div>
              <textarea class="input" aria-label="Payload" rows={3} value={payload} onInput={(event) => setPayload(event.currentTarget.value)} />
            </form>
          </Panel>
        </div>
        <Panel title="Messages" note={messages.length > 0 ? `${messages.length}, the newest first` : undefined} tools={<Button small off={messages.length === 0 ? 'There are none' : undefined} onClick={() => setMessages([])}>Clear</Button>}>
          {messages.length === 0 ? (
            <Empty title="No messages yet">Connect, subscribe to a filter, and publish to a topic that it matches.</Empty>
          ) : (
            <div class="tablebox" style={{ maxHeight: '52vh', overflowY: 'auto' }}>
              <table aria-label="Messages">
                <thead><tr><th style={{ width: '90px' }}>At</th><th style={{ width: '50px' }}>Way</th><th>Topic</th><th class="num" style={{ width: '50px' }}>QoS</th><th>Payload</th></tr></thead>
                <tbody>
                  {messages.map((one) => (
                    <tr key={one.id}>
                      <td class="soft">{time(one.at)}</td>
                      <td>{one.way === 'in' ? 'in' : <span class="dim">out</span>}</td>
                      <td class="cut"><code>{one.topic}</code>{one.retain && <span class="tag" style={{ marginLeft: '6px' }}>retained</span>}</td>
                      <td class="num">{one.qos}</td>
                      <td class="wrap"><code class="break">{one.text.slice(0, 400)}</code></td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Panel>
      </div>
    </Page>
  );
}
