// What happens to one client, on a topic, or from an address, written down for a while.
import { useState } from 'preact/hooks';
import * as api from '../api';
import { bytes, exact, time } from '../format';
import { Button } from '../parts/button';
import { Dialog, sure } from '../parts/dialog';
import { Field, Mark, Page, Panel } from '../parts/page';
import { Empty, Fetched, message } from '../parts/state';
import { Table } from '../parts/table';
import { attempt, tell } from '../parts/toast';
import { usePoll } from '../poll';

const KINDS: readonly (readonly [api.Trace['type'], string, string])[] = [
  ['clientid', 'Client ID', 'gauge-7'],
  ['topic', 'Topic filter', 'site/+/state'],
  ['ip_address', 'Address', '203.0.113.7'],
];
const SPANS: readonly (readonly [string, number])[] = [['for ten minutes', 600], ['for an hour', 3600], ['for a day', 86400], ['for a week', 604800]];
const PAYLOADS: readonly (readonly [NonNullable<api.NewTrace['payload_encode']>, string])[] = [['text', 'as text'], ['hex', 'in hexadecimal'], ['hidden', 'left out']];
/** The end of a log that is shown. */
const SHOWN_BYTES = 64 * 1024;

const size = (trace: api.Trace): number => Object.values(trace.log_size).reduce((sum, one) => sum + one, 0);

function TraceDialog({ onClose }: { onClose: (changed: boolean) => void }) {
  const [name, setName] = useState('');
  const [kind, setKind] = useState<api.Trace['type']>('clientid');
  const [what, setWhat] = useState('');
  const [span, setSpan] = useState(600);
  const [payload, setPayload] = useState<api.NewTrace['payload_encode']>('text');
  const [problem, setProblem] = useState('');
  const save = async (): Promise<void> => {
    try {
      await api.startTrace({ name, type: kind, [kind]: what, payload_encode: payload, end_at: new Date(Date.now() + span * 1000).toISOString() });
      tell(`${name} is running`);
      onClose(true);
    } catch (error) {
      setProblem(message(error));
    }
  };
  return (
    <Dialog title="Trace" onClose={() => onClose(false)} onSubmit={() => void save()} footer={<><Button onClick={() => onClose(false)}>Cancel</Button><button type="submit" class="btn primary">Begin</button></>}>
      <div class="form">
        <Field label="Name" hint="Letters, digits, _ and -"><input class="input" required value={name} onInput={(event) => setName(event.currentTarget.value)} /></Field>
        <Field label="By">
          <select class="input" value={kind} onChange={(event) => setKind(KINDS.find(([id]) => id === event.currentTarget.value)?.[0] ?? 'clientid')}>
            {KINDS.map(([id, title]) => <option key={id} value={id}>{title}</option>)}
          </select>
        </Field>
        <Field label="Which"><input class="input" required value={what} placeholder={KINDS.find(([id]) => id === kind)?.[2]} onInput={(event) => setWhat(event.currentTarget.value)} /></Field>
        <Field label="How long">
          <select class="input" value={span} onChange={(event) => setSpan(Number(event.currentTarget.value))}>
            {SPANS.map(([title, secs]) => <option key={secs} value={secs}>{title}</option>)}
          </select>
        </Field>
        <Field label="Payloads">
          <select class="input" value={payload} onChange={(event) => setPayload(PAYLOADS.find(([id]) => id === event.currentTarget.value)?.[0])}>
            {PAYLOADS.map(([id, title]) => <option key={id} value={id}>{title}</option>)}
          </select>
        </Field>
        {problem && <div class="note-box bad" role="alert">{problem}</div>}
      </div>
    </Dialog>
  );
}

function Log({ trace, onClose }: { trace: api.Trace; onClose: () => void }) {
  const found = usePoll(async (signal) => {
    const now = (await api.traces(signal)).find((one) => one.name === trace.name) ?? trace;
    const from = Math.max(0, size(now) - SHOWN_BYTES);
    const log = await api.traceLog(trace.name, from, SHOWN_BYTES, signal);
    // The first line may have begun before.
    return from > 0 ? log.items.slice(log.items.indexOf('\n') + 1) : log.items;
  }, 2000);
  const save = async (): Promise<void> => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(await api.traceFile(trace.name));
    link.download = `${trace.name}.log`;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  return (
    <Dialog title={`The end of ${trace.name}`} wide onClose={onClose} footer={<><Button onClick={() => void attempt('The log is saved', save)}>Save all of it</Button><Button onClick={onClose}>Close</Button></>}>
      <Fetched of={found}>{(text) => (text ? <pre class="code" tabIndex={0} aria-label="Log">{text}</pre> : <Empty title="Nothing has happened yet">What happens from now on appears here.</Empty>)}</Fetched>
    </Dialog>
  );
}

export function Traces() {
  const found = usePoll(api.traces, 3000);
  const [asking, setAsking] = useState(false);
  const [shown, setShown] = useState<api.Trace>();
  const stop = async (trace: api.Trace): Promise<void> => {
    await attempt(`${trace.name} has ended`, () => api.stopTrace(trace.name));
    found.refresh();
  };
  const remove = async (trace: api.Trace): Promise<void> => {
    if (!(await sure(`Remove ${trace.name}?`, 'Its log goes with it.', 'Remove'))) return;
    await attempt(`${trace.name} is removed`, () => api.removeTrace(trace.name));
    found.refresh();
  };
  return (
    <Page title="Traces" tools={<Button kind="primary" needs="operator" onClick={() => setAsking(true)}>Begin a trace</Button>}>
      <Panel>
        <Fetched of={found}>
          {(rows) =>
            rows.length === 0 ? (
              <Empty title="No trace">A trace writes down everything that happens to a client, on a topic or from an address: connects, subscriptions, messages in and out, drops with their reasons.</Empty>
            ) : (
              <Table
                label="Traces"
                rows={rows}
                rowKey={(row) => row.name}
                columns={[
                  { title: 'Name', cell: (row) => <b>{row.name}</b> },
                  { title: 'By', cell: (row) => KINDS.find(([id]) => id === row.type)?.[1] ?? row.type },
                  { title: 'Which', kind: 'cut', cell: (row) => <code>{row[row.type]}</code> },
                  { title: 'State', cell: (row) => <Mark tone={row.status === 'running' ? 'ok' : 'off'}>{row.status}</Mark> },
                  { title: 'Until', cell: (row) => time(row.end_at) },
                  { title: 'Log', kind: 'num', cell: (row) => bytes(size(row)) },
                  { title: 'Left out', kind: 'num', cell: (row) => exact(row.dropped) },
                  {
                    title: '',
                    kind: 'acts',
                    cell: (row) => (
                      <>
                        <Button small needs="operator" onClick={() => setShown(row)}>Look</Button>
                        {row.status !== 'stopped' && <Button small needs="operator" onClick={() => void stop(row)}>End</Button>}
                        <Button small needs="operator" onClick={() => void remove(row)}>Remove</Button>
                      </>
                    ),
                  },
                ]}
              />
            )
          }
        </Fetched>
      </Panel>
      {asking && <TraceDialog onClose={(changed) => { setAsking(false); if (changed) found.refresh(); }} />}
      {shown && <Log trace={shown} onClose={() => setShown(undefined)} />}
    </Page>
  );
}
