// Who may not connect.
import { useState } from 'preact/hooks';
import * as api from '../api';
import { ago, time } from '../format';
import { Button } from '../parts/button';
import { Dialog, sure } from '../parts/dialog';
import { ListOf } from '../parts/list';
import { Field, Page, Panel } from '../parts/page';
import { Empty, message } from '../parts/state';
import { attempt, tell } from '../parts/toast';

const KINDS: readonly (readonly [api.Ban['as'], string, string])[] = [
  ['clientid', 'Client ID', 'gauge-7'],
  ['username', 'User name', 'line-2'],
  ['peerhost', 'Address', '203.0.113.7'],
  ['peerhost_net', 'Network', '203.0.113.0/24'],
];
const SPANS: readonly (readonly [string, string, number])[] = [['', 'for ever', 0], ['h', 'for an hour', 3600], ['d', 'for a day', 86400], ['w', 'for a week', 604800]];

function BanDialog({ onClose }: { onClose: (changed: boolean) => void }) {
  const [kind, setKind] = useState<api.Ban['as']>('clientid');
  const [who, setWho] = useState('');
  const [reason, setReason] = useState('');
  const [span, setSpan] = useState('');
  const [problem, setProblem] = useState('');
  const save = async (): Promise<void> => {
    const secs = SPANS.find(([id]) => id === span)?.[2] ?? 0;
    const until = secs > 0 ? new Date(Date.now() + secs * 1000).toISOString() : undefined;
    try {
      await api.ban({ as: kind, who, ...(reason && { reason }), ...(until && { until }) });
      tell(`${who} is banned`);
      onClose(true);
    } catch (error) {
      setProblem(message(error));
    }
  };
  return (
    <Dialog title="Ban" onClose={() => onClose(false)} onSubmit={() => void save()} footer={<><Button onClick={() => onClose(false)}>Cancel</Button><button type="submit" class="btn danger solid">Ban</button></>}>
      <div class="form">
        <Field label="What">
          <select class="input" value={kind} onChange={(event) => setKind(KINDS.find(([id]) => id === event.currentTarget.value)?.[0] ?? 'clientid')}>
            {KINDS.map(([id, title]) => <option key={id} value={id}>{title}</option>)}
          </select>
        </Field>
        <Field label="Who" hint="Whoever it fits is disconnected, and refused from now on."><input class="input" required value={who} placeholder={KINDS.find(([id]) => id === kind)?.[2]} onInput={(event) => setWho(event.currentTarget.value)} /></Field>
        <Field label="Why"><input class="input" value={reason} onInput={(event) => setReason(event.currentTarget.value)} /></Field>
        <Field label="How long">
          <select class="input" value={span} onChange={(event) => setSpan(event.currentTarget.value)}>
            {SPANS.map(([id, title]) => <option key={id} value={id}>{title}</option>)}
          </select>
        </Field>
        {problem && <div class="note-box bad" role="alert">{problem}</div>}
      </div>
    </Dialog>
  );
}

export function Bans() {
  const [asking, setAsking] = useState(false);
  const [round, setRound] = useState(0);
  const lift = async (entry: api.Ban, refresh: () => void): Promise<void> => {
    if (!(await sure(`Lift the ban of ${entry.who}?`, 'It may connect again at once.', 'Lift'))) return;
    if (await attempt(`${entry.who} may connect again`, () => api.unban(entry))) refresh();
  };
  return (
    <Page title="Bans" tools={<Button kind="primary" needs="operator" onClick={() => setAsking(true)}>Ban somebody</Button>}>
      <Panel>
        <ListOf
          key={round}
          label="Bans"
          fetch={api.bans}
          query={{}}
          rowKey={(row) => `${row.as} ${row.who}`}
          empty={<Empty title="Nobody is banned">A ban keeps a client, a user, an address or a network out, for a time or for ever.</Empty>}
          columns={(list) => [
            { title: 'What', cell: (row) => KINDS.find(([id]) => id === row.as)?.[1] ?? row.as },
            { title: 'Who', cell: (row) => <b>{row.who}</b> },
            { title: 'Why', kind: 'cut', cell: (row) => row.reason || <span class="dim">–</span> },
            { title: 'By', cell: (row) => row.by ?? '–' },
            { title: 'Since', cell: (row) => <span title={time(row.at)}>{ago(row.at)}</span> },
            { title: 'Until', cell: (row) => (row.until && row.until !== 'infinity' ? time(row.until) : 'for ever') },
            { title: '', kind: 'acts', cell: (row) => <Button small needs="operator" onClick={() => void lift(row, list.refresh)}>Lift</Button> },
          ]}
        />
      </Panel>
      {asking && <BanDialog onClose={(changed) => { setAsking(false); if (changed) setRound((n) => n + 1); }} />}
    </Page>
  );
}
