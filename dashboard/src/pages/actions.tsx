// Actions: whether their sinks take what comes, their accounts, and their dead letters.
import { useState } from 'preact/hooks';
import * as api from '../api';
import { bytes, count, duration, exact, micros, time } from '../format';
import { samples } from '../live';
import { ActionState } from '../parts/actions';
import { Button } from '../parts/button';
import { Chart } from '../parts/chart';
import { Dialog, sure } from '../parts/dialog';
import { Editor } from '../parts/editor';
import { Details, Mark, Page, Panel, Tabs } from '../parts/page';
import { Empty, Failed, Fetched, message } from '../parts/state';
import { Table } from '../parts/table';
import { attempt, tell } from '../parts/toast';
import { usePoll } from '../poll';
import { go, href, place, setQuery } from '../router';
import { may } from '../session';

const LIMIT = 50;

async function toggle(action: api.Action): Promise<void> {
  if (action.status === 'paused') {
    await attempt(`${action.name} goes on`, () => api.resume(action.name));
  } else if (await sure(`Pause ${action.name}?`, 'Records wait in its queue, also over a restart, until it is resumed. When the queue is full, publishers are refused.', 'Pause')) {
    await attempt(`${action.name} is paused`, () => api.pause(action.name));
  }
}

function ActionList() {
  const found = usePoll(api.actions, 2000);
  return (
    <Page title="Actions" tools={<a class="btn" href="#/flow">Flow</a>}>
      <Panel>
        <Fetched of={found}>
          {(rows) =>
            rows.length === 0 ? (
              <Empty title="No actions yet">An action brings the rows of rules into a system, by way of a connector. Add one in the <a href="#/settings">configuration</a>.</Empty>
            ) : (
              <Table
                label="Actions"
                rows={rows}
                rowKey={(action) => action.name}
                onOpen={(action) => go(href('actions', action.name))}
                columns={[
                  { title: 'Action', cell: (action) => <a href={href('actions', action.name)}>{action.name}</a> },
                  { title: 'State', cell: (action) => <ActionState of={action} /> },
                  { title: 'To', cell: (action) => <span class="soft">{action.connector} ({action.type})</span> },
                  { title: 'Why', kind: 'cut', width: '34%', cell: (action) => <span class="soft" title={action.status_reason ?? ''}>{action.status_reason ?? '–'}</span> },
                  { title: 'Waits', kind: 'num', cell: (action) => count(action.ledger.pending) },
                  { title: 'Oldest', kind: 'num', cell: (action) => (action.oldest_secs === null ? '–' : duration(action.oldest_secs)) },
                  { title: 'Delivered', kind: 'num', cell: (action) => count(action.ledger.delivered) },
                  { title: 'Dead letters', kind: 'num', cell: (action) => (action.dead_letters > 0 ? <a href={`${href('actions', action.name)}?tab=letters`}>{exact(action.dead_letters)}</a> : '0') },
                  { title: '', kind: 'acts', cell: (action) => <Button small needs="operator" onClick={() => void toggle(action).then(found.refresh)}>{action.status === 'paused' ? 'Resume' : 'Pause'}</Button> },
                ]}
              />
            )
          }
        </Fetched>
      </Panel>
    </Page>
  );
}

function Ledger({ of }: { of: api.Action }) {
  const { ledger } = of;
  return (
    <Panel title="Ledger" note="since the queue was made" tools={of.balances ? <Mark tone="ok">it balances</Mark> : <Mark tone="bad">it does not balance</Mark>}>
      <Details
        of={[
          ['Accepted', exact(ledger.accepted)],
          ['= delivered', exact(ledger.delivered)],
          ['+ dead letters', <>{exact(ledger.dead_lettered)} <span class="dim">of which {exact(of.dead_letters)} are there</span></>],
          ['+ dropped', exact(ledger.dropped)],
          ['+ expired', exact(ledger.expired)],
          ['+ waits', <>{exact(ledger.pending)} <span class="dim">{bytes(ledger.pending_bytes)}</span></>],
        ]}
      />
    </Panel>
  );
}

function State({ of }: { of: api.Action }) {
  const { activity } = of;
  const past = samples.value.filter((one) => one.pending !== null);
  return (
    <div class="cols-2">
      <Panel title="Records that wait">
        <Chart label="Records that wait" whole times={past.map((one) => one.at)} format={count} height={180} series={[{ name: of.name, colour: 'series-1', values: past.map((one) => one.pending?.[of.name] ?? null) }]} />
      </Panel>
      <Ledger of={of} />
      <Panel title="Action">
        <Details
          of={[
            ['State', <ActionState of={of} />],
            ['Connector', <><a href="#/connectors">{of.connector}</a> ({of.type})</>],
            ['Rules', of.rules.length > 0 ? <span class="tags">{of.rules.map((rule) => <a key={rule} class="tag" href={href('rules', rule)}>{rule}</a>)}</span> : 'none: nothing comes'],
            ['Oldest record', of.oldest_secs === null ? 'nothing waits' : duration(of.oldest_secs)],
          ]}
        />
      </Panel>
      <Panel title="Delivery" note="since the start">
        <Details
          of={[
            ['Attempts', exact(activity.attempts)],
            ['Failed attempts', <span class={activity.attempts_failed > 0 ? 'warn' : ''}>{exact(activity.attempts_failed)}</span>],
            ['Failed in a row', exact(of.attempts)],
            ['An attempt takes', activity.attempts > 0 ? micros(activity.busy_us / activity.attempts) : '–'],
            ['The longest took', micros(activity.longest_us)],
          ]}
        />
      </Panel>
    </div>
  );
}

/** What makes one object of the other by RFC 7396: keys that are gone are null. */
function mergePatch(before: api.Row, after: api.Row): api.Row {
  const patch: api.Row = {};
  for (const key of Object.keys(before)) if (!(key in after)) patch[key] = null;
  for (const [key, value] of Object.entries(after)) {
    const was = before[key];
    const bothMaps = [was, value].every((one) => typeof one === 'object' && one !== null && !Array.isArray(one));
    if (JSON.stringify(was) === JSON.stringify(value)) continue;
    patch[key] = bothMaps ? mergePatch(was as api.Row, value as api.Row) : value;
  }
  return patch;
}

function LetterDialog({ action, letter, onClose }: { action: string; letter: api.Letter; onClose: (changed: boolean) => void }) {
  const before = JSON.stringify(letter.row, null, 2);
  const [text, setText] = useState(before);
  const [problem, setProblem] = useState('');
  const edited = text !== before;
  const save = async (): Promise<boolean> => {
    try {
      const after = JSON.parse(text) as api.Row;
      await api.editLetter(action, letter.sequence, mergePatch(letter.row ?? {}, after));
      return true;
    } catch (error) {
      setProblem(message(error));
      return false;
    }
  };
  const replay = async (): Promise<void> => {
    if (edited && !(await save())) return;
    if (await attempt('The record is in the queue again', () => api.replayLetter(action, letter.sequence))) onClose(true);
  };
  const remove = async (): Promise<void> => {
    if (!(await sure('Delete this dead letter?', 'The record is lost for good: its system has never got it.', 'Delete'))) return;
    if (await attempt('The dead letter is deleted', () => api.removeLetter(action, letter.sequence))) onClose(true);
  };
  return (
    <Dialog
      title={`Dead letter ${letter.sequence}`}
      wide
      onClose={() => onClose(false)}
      footer={
        <>
          <span class="grow"><Button kind="danger" needs="operator" onClick={() => void remove()}>Delete</Button></span>
          <Button onClick={() => onClose(false)}>Close</Button>
          <Button needs="operator" off={edited ? undefined : 'Nothing has changed'} onClick={() => void save().then((done) => { if (done) { tell('The change is kept'); onClose(true); } })}>Save</Button>
          <Button kind="primary" needs="operator" onClick={() => void replay()}>{edited ? 'Save and replay' : 'Replay'}</Button>
        </>
      }
    >
      <p class="soft">Refused {time(letter.at)} by the sink of <b>{action}</b>, for good:</p>
      <div class="note-box bad">{letter.error}</div>
      {letter.row === null ? (
        <div class="note-box">The record is damaged: its row cannot be shown.</div>
      ) : (
        <>
          <h3>Row</h3>
          <Editor label="Row" language="json" value={text} onChange={setText} readOnly={!may('operator')} height="240px" />
          <small class="dim">Change what the sink did not like, and replay: the record goes to the end of the queue as a new one.</small>
        </>
      )}
      {problem && <div class="note-box bad" role="alert">{problem}</div>}
    </Dialog>
  );
}

function Letters({ action, refresh }: { action: api.Action; refresh: () => void }) {
  const [starts, setStarts] = useState<readonly number[]>([0]);
  const [shown, setShown] = useState<api.Letter>();
  const from = starts.at(-1) ?? 0;
  const found = usePoll((signal) => api.letters(action.name, from, LIMIT, signal), 4000, [action.name, from]);
  const again = (): void => {
    found.refresh();
    refresh();
  };
  const replayAll = async (): Promise<void> => {
    if (!(await sure('Replay all dead letters?', `${exact(action.dead_letters)} records go to the end of the queue of ${action.name}. What the sink refuses again becomes a dead letter again.`, 'Replay all'))) return;
    try {
      const { replayed, kept, problem } = await api.replayLetters(action.name);
      tell(`${exact(replayed)} replayed${kept > 0 ? `, ${exact(kept)} kept: ${problem ?? ''}` : ''}`, kept > 0);
    } catch (error) {
      tell(message(error), true);
    }
    again();
  };
  const removeAll = async (): Promise<void> => {
    if (!(await sure('Delete all dead letters?', `${exact(action.dead_letters)} records of ${action.name} are lost for good: their system has never got them.`, 'Delete all'))) return;
    await attempt('All dead letters are deleted', () => api.removeLetters(action.name));
    again();
  };
  return (
    <Panel
      title="Dead letters"
      note="records that the sink refused for good, the oldest first"
      tools={
        <>
          <Button small kind="danger" needs="operator" off={action.dead_letters === 0 ? 'There are none' : undefined} onClick={() => void removeAll()}>Delete all</Button>
          <Button small needs="operator" off={action.dead_letters === 0 ? 'There are none' : undefined} onClick={() => void replayAll()}>Replay all</Button>
        </>
      }
    >
      <Fetched of={found}>
        {({ data, meta }) =>
          data.length === 0 ? (
            <Empty title="No dead letters">The sink has refused nothing that is still here.</Empty>
          ) : (
            <>
              <Table
                label="Dead letters"
                rows={data}
                rowKey={(letter) => String(letter.sequence)}
                onOpen={setShown}
                columns={[
                  { title: 'Number', kind: 'num', width: '80px', cell: (letter) => letter.sequence },
                  { title: 'At', width: '160px', cell: (letter) => time(letter.at) },
                  { title: 'Error', kind: 'wrap', cell: (letter) => <span class="break">{letter.error}</span> },
                  { title: 'Row', kind: 'cut', cell: (letter) => <code>{JSON.stringify(letter.row)}</code> },
                  { title: '', kind: 'acts', cell: (letter) => <><Button small onClick={() => setShown(letter)}>Inspect</Button><Button small needs="operator" onClick={() => void attempt('The record is in the queue again', () => api.replayLetter(action.name, letter.sequence)).then(again)}>Replay</Button></> },
                ]}
              />
              <div class="pager">
                <span class="grow">{exact(action.dead_letters)} in all</span>
                <Button small off={starts.length === 1 ? 'This is the first page' : undefined} onClick={() => setStarts(starts.slice(0, -1))}>Previous</Button>
                <Button small off={meta.hasnext ? undefined : 'This is the last page'} onClick={() => setStarts([...starts, (data.at(-1)?.sequence ?? 0) + 1])}>Next</Button>
              </div>
            </>
          )
        }
      </Fetched>
      {shown && <LetterDialog key={shown.sequence} action={action.name} letter={shown} onClose={(changed) => { setShown(undefined); if (changed) again(); }} />}
    </Panel>
  );
}

function ActionDetail({ name }: { name: string }) {
  const found = usePoll((signal) => api.action(name, signal), 2000, [name]);
  const tab = place.value.query.get('tab') ?? 'state';
  const up = { title: 'Actions', href: '#/actions' };
  const action = found.data;
  if (!action) return <Page title={name} up={up}><Panel>{found.error === undefined ? <Fetched of={found}>{() => null}</Fetched> : <Failed error={found.error} retry={found.refresh} />}</Panel></Page>;
  return (
    <Page title={name} up={up} tools={<><ActionState of={action} />{may('administrator') && <a class="btn" href={`#/settings?at=actions.${encodeURIComponent(name)}`}>Settings</a>}<Button needs="operator" onClick={() => void toggle(action).then(found.refresh)}>{action.status === 'paused' ? 'Resume' : 'Pause'}</Button></>}>
      <div class="stack">
        {action.status_reason && (
          <div class="note-box bad">
            <b>{action.status_reason}</b>
            <div class="soft">
              {action.ledger.pending > 0 ? `${exact(action.ledger.pending)} records wait, the oldest for ${duration(action.oldest_secs)}. ` : ''}
              It is tried again for ever, and nothing is lost. {exact(action.attempts)} attempts have failed in a row.
            </div>
          </div>
        )}
        <Tabs value={tab} onChange={(next) => setQuery('tab', next)} of={[['state', 'State and ledger'], ['letters', `Dead letters${action.dead_letters > 0 ? ` (${exact(action.dead_letters)})` : ''}`]]} />
        {tab === 'letters' ? <Letters action={action} refresh={found.refresh} /> : <State of={action} />}
      </div>
    </Page>
  );
}

export function Actions({ path }: { path: readonly string[] }) {
  const name = path[0];
  return name === undefined ? <ActionList /> : <ActionDetail key={name} name={name} />;
}
