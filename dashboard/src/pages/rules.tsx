// Rules: all with their counters, and one with its statement, its trial, its actions and its errors.
import { useEffect, useMemo, useState } from 'preact/hooks';
import * as api from '../api';
import { count, exact, time } from '../format';
import { Button } from '../parts/button';
import { Dialog, sure } from '../parts/dialog';
import { Editor } from '../parts/editor';
import { Field, Mark, Page, Panel, Search, Tabs } from '../parts/page';
import { sampleFor, SqlEditor } from '../parts/sql';
import { Empty, Failed, Fetched, message } from '../parts/state';
import { Table } from '../parts/table';
import { attempt, tellChanged } from '../parts/toast';
import { usePoll } from '../poll';
import { go, href, place, setQuery } from '../router';
import { may, refusal } from '../session';

export function actionName(action: api.RuleAction): string {
  if (typeof action === 'string') return action;
  return action.action ?? (action.function === 'republish' ? `republish to ${action.topic ?? '?'}` : (action.function ?? '?'));
}

function RuleState({ of }: { of: api.Rule }) {
  if (!of.enable) return <Mark tone="off">off</Mark>;
  return of.metrics['failed.exception'] > 0 ? <Mark tone="warn">has errors</Mark> : <Mark tone="ok">on</Mark>;
}

function RuleList() {
  const found = usePoll(api.rules, 3000);
  const text = (place.value.query.get('q') ?? '').toLowerCase();
  return (
    <Page
      title="Rules"
      tools={
        <>
          <Search label="Name, topic or action" value={text} onInput={(next) => setQuery('q', next)} />
          <a class="btn" href="#/flow">Flow</a>
          <Button kind="primary" needs="administrator" onClick={() => go('#/rules/new/rule')}>New rule</Button>
        </>
      }
    >
      <Panel>
        <Fetched of={found}>
          {({ data }) => {
            const rows = data.filter((rule) => [rule.name, rule.description, ...rule.from, ...rule.actions.map(actionName)].join(' ').toLowerCase().includes(text));
            if (rows.length === 0) {
              return text ? <Empty title="No rule fits">Search for another name, topic or action.</Empty> : <Empty title="No rules yet">A rule picks from messages and events with SQL, and hands what it finds to actions.</Empty>;
            }
            return (
              <Table
                label="Rules"
                rows={rows}
                rowKey={(rule) => rule.id}
                onOpen={(rule) => go(href('rules', rule.id))}
                columns={[
                  { title: 'Rule', cell: (rule) => <a href={href('rules', rule.id)}>{rule.name}</a> },
                  { title: 'State', cell: (rule) => <RuleState of={rule} /> },
                  { title: 'What it is for', kind: 'cut', cell: (rule) => <span class="soft" title={rule.description}>{rule.description || '–'}</span> },
                  { title: 'From', kind: 'cut', cell: (rule) => <code title={rule.from.join('\n')}>{rule.from.join(', ')}</code> },
                  { title: 'Actions', kind: 'cut', cell: (rule) => rule.actions.map(actionName).join(', ') || '–' },
                  { title: 'Matched', kind: 'num', cell: (rule) => count(rule.metrics.matched) },
                  { title: 'Passed', kind: 'num', cell: (rule) => count(rule.metrics.passed) },
                  { title: 'Filtered', kind: 'num', cell: (rule) => count(rule.metrics['failed.no_result']) },
                  { title: 'Errors', kind: 'num', cell: (rule) => (rule.metrics['failed.exception'] > 0 ? <span class="warn">{count(rule.metrics['failed.exception'])}</span> : '0') },
                ]}
              />
            );
          }}
        </Fetched>
      </Panel>
    </Page>
  );
}

type Outcome = { kind: 'rows'; rows: api.Json[] } | { kind: 'none'; text: string } | { kind: 'failed'; text: string };

/** `asked` counts how often it was asked for from elsewhere. */
function Trial({ sql, events, context, setContext, asked }: { sql: string; events: readonly api.RuleEvent[]; context: string; setContext: (text: string) => void; asked: number }) {
  const [mode, setMode] = useState<'sample' | 'recorded'>('sample');
  const [from, setFrom] = useState('1h');
  const [outcome, setOutcome] = useState<Outcome>();
  const [recorded, setRecorded] = useState<api.Backtest>();
  const [problem, setProblem] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const off = refusal('operator');

  const tryIt = async (): Promise<void> => {
    let columns: api.Row;
    try {
      columns = JSON.parse(context) as api.Row;
    } catch (error) {
      return setOutcome({ kind: 'failed', text: `The event is no JSON: ${message(error)}` });
    }
    try {
      const result = await api.testRule(sql, columns);
      setOutcome({ kind: 'rows', rows: Array.isArray(result) ? result : [result] });
    } catch (error) {
      const none = error instanceof api.ApiError && error.code === 'NOT_MATCH';
      setOutcome({ kind: none ? 'none' : 'failed', text: message(error) });
    }
  };
  const tryRecorded = async (): Promise<void> => {
    setBusy(true);
    setProblem(undefined);
    try {
      setRecorded(await api.backtest(sql, from, 100));
    } catch (error) {
      setProblem(error);
    }
    setBusy(false);
  };
  const run = (): void => void (off ? undefined : mode === 'sample' ? tryIt() : tryRecorded());
  useEffect(() => {
    if (asked > 0) run();
  }, [asked]);

  return (
    <Panel
      title="Try it"
      note="nothing is sent or stored"
      tools={
        <>
          <select class="input" aria-label="What to try it on" value={mode} onChange={(event) => setMode(event.currentTarget.value === 'recorded' ? 'recorded' : 'sample')}>
            <option value="sample">on one event</option>
            <option value="recorded">on what was recorded</option>
          </select>
          {mode === 'sample' ? (
            <select class="input" aria-label="Event" value="" onChange={(event) => {
              const chosen = events.find((one) => one.event === event.currentTarget.value);
              if (chosen) setContext(JSON.stringify(chosen.sample, null, 2));
            }}>
              <option value="">sample of…</option>
              {events.map((event) => <option key={event.event}>{event.event}</option>)}
            </select>
          ) : (
            <select class="input" aria-label="Since" value={from} onChange={(event) => setFrom(event.currentTarget.value)}>
              {[['5m', '5 minutes'], ['1h', 'an hour'], ['1d', 'a day'], ['7d', 'a week']].map(([value, title]) => <option key={value} value={value}>the last {title}</option>)}
            </select>
          )}
          <Button kind="primary" needs="operator" onClick={run}>{busy ? 'Running' : 'Run'}</Button>
        </>
      }
    >
      {mode === 'sample' ? (
        <div class="cols-2 body">
          <div class="stack" style={{ gap: '6px' }}>
            <h3>Event</h3>
            <Editor label="Event" language="json" value={context} onChange={setContext} onRun={run} height="210px" />
          </div>
          <div class="stack" style={{ gap: '6px' }}>
            <h3>Result</h3>
            {outcome === undefined && <div class="note-box">Run it to see the row that the actions would get. Columns that are missing are those of a sample.</div>}
            {outcome?.kind === 'rows' && (
              <>
                <div class="note-box ok">{outcome.rows.length === 1 ? 'One row' : `${outcome.rows.length} rows`}</div>
                <pre class="code" data-result>{outcome.rows.map((row) => JSON.stringify(row, null, 2)).join('\n')}</pre>
              </>
            )}
            {outcome?.kind === 'none' && <div class="note-box warn" data-result>No row: {outcome.text}</div>}
            {outcome?.kind === 'failed' && <div class="note-box bad" role="alert" data-result>{outcome.text}</div>}
          </div>
        </div>
      ) : problem !== undefined ? (
        <Failed error={problem} retry={run} />
      ) : recorded === undefined ? (
        <Empty title="On recorded traffic">
          <p>Runs the statement over what the broker has recorded, and shows each row with the time at which it would have come. What is recorded says <code>[recorder]</code> in the configuration.</p>
        </Empty>
      ) : recorded.summary.looked === 0 ? (
        <Empty title="Nothing is recorded">
          <p>Name topics or events in the configuration, and the broker keeps the newest of them:</p>
          <pre>{'[recorder]\ntopics = ["devices/#"]'}</pre>
        </Empty>
      ) : (
        <>
          <p class="soft" style={{ padding: '10px 12px 6px' }}>
            {exact(recorded.summary.looked)} looked at, {exact(recorded.summary.selected)} selected by FROM, {exact(recorded.summary.matched)} matched, {exact(recorded.summary.rows)} rows, {exact(recorded.summary.failed)} failed.
            {!recorded.summary.complete && ' It ended with the limit.'}
          </p>
          {recorded.summary.failures[0] && <div class="note-box bad" style={{ margin: '0 12px 8px' }}>{recorded.summary.failures[0].problem}</div>}
          <Table label="Rows" rows={recorded.rows.map((row, i) => ({ ...row, i }))} rowKey={(row) => String(row.i)} columns={[{ title: 'At', cell: (row) => time(row.at), width: '160px' }, { title: 'Row', kind: 'wrap', cell: (row) => <code class="break">{JSON.stringify(row.row)}</code> }]} />
        </>
      )}
    </Panel>
  );
}

function Counters({ of, window }: { of: api.RuleMetrics; window: api.RuleDetail['window'] }) {
  const figures: [string, number, string?, string?][] = [
    ['Matched', of.matched, 'events for it'],
    ['Passed', of.passed, 'gave rows'],
    ['Filtered', of['failed.no_result'], 'by WHERE'],
    ['Errors', of['failed.exception'], 'not computed', of['failed.exception'] > 0 ? 'warn' : ''],
    ['Rows to actions', of['actions.total'], `${exact(of['actions.success'])} taken`],
    ['Actions failed', of['actions.failed'], 'could not take it', of['actions.failed'] > 0 ? 'bad' : ''],
  ];
  return (
    <>
      <div class="figures">
        {figures.map(([name, value, note, tone]) => (
          <div key={name} class={`figure ${tone ?? ''}`}>
            <div class="name">{name}</div>
            <div class="value">{count(value)}</div>
            <div class="note">{note}</div>
          </div>
        ))}
      </div>
      {window && <p class="soft">Window: {Object.entries(window).map(([name, value]) => `${name} ${String(value)}`).join(', ')}</p>}
    </>
  );
}

const NO_EVENTS: readonly api.RuleEvent[] = [];

interface Draft {
  sql: string;
  description: string;
  enable: boolean;
  actions: string;
}

function draftOf(rule: api.Rule): Draft {
  return { sql: rule.sql.trimEnd(), description: rule.description, enable: rule.enable, actions: JSON.stringify(rule.actions.map(slim), null, 2) };
}

/** Without what stands for nothing, as it would be written by hand. */
function slim(action: api.RuleAction): api.Json {
  if (typeof action === 'string') return action;
  const kept = Object.entries(action).filter(([, value]) => value !== null && value !== undefined && !(typeof value === 'object' && !Array.isArray(value) && Object.keys(value).length === 0));
  return Object.fromEntries(kept) as api.Row;
}

function Actions({ text, onChange, readOnly }: { text: string; onChange: (text: string) => void; readOnly: boolean }) {
  const known = usePoll(api.actions, 0);
  const add = (name: string): void => {
    try {
      const list = JSON.parse(text) as api.Json[];
      onChange(JSON.stringify([...list, name], null, 2));
    } catch {
      onChange(JSON.stringify([name], null, 2));
    }
  };
  return (
    <div class="stack" style={{ gap: '6px' }}>
      <div class="row">
        <h3 class="grow">Actions</h3>
        {!readOnly && (
          <select class="input" aria-label="Add an action" value="" onChange={(event) => event.currentTarget.value && add(event.currentTarget.value)}>
            <option value="">add…</option>
            {(known.data ?? []).map((action) => <option key={action.name}>{action.name}</option>)}
          </select>
        )}
      </div>
      <Editor label="Actions" language="json" value={text} onChange={onChange} readOnly={readOnly} height="150px" />
      <small class="dim">Names of actions, or objects such as {'{"action": "alarms", "when": "celsius > 90"}'} and {'{"function": "republish", "topic": "hot/${device}"}'}.</small>
    </div>
  );
}

function RuleEditor({ id, before, detail, refresh }: { id: string | undefined; before: Draft; detail: api.RuleDetail | undefined; refresh: () => void }) {
  const events = usePoll(api.ruleEvents, 0).data ?? NO_EVENTS;
  const [draft, setDraft] = useState(before);
  const [name, setName] = useState('');
  const [context, setContext] = useState('');
  const [problem, setProblem] = useState('');
  const [asked, setAsked] = useState(0);
  const tab = place.value.query.get('tab') ?? 'statement';
  const fresh = id === undefined;
  const changed = fresh || JSON.stringify(draft) !== JSON.stringify(before);
  const change = (part: Partial<Draft>): void => setDraft((was) => ({ ...was, ...part }));
  useEffect(() => {
    if (context === '' && events.length > 0) setContext(JSON.stringify(sampleFor(draft.sql, events), null, 2));
  }, [events]);
  const save = async (): Promise<void> => {
    setProblem('');
    let actions: api.Json;
    try {
      actions = JSON.parse(draft.actions) as api.Json;
    } catch (error) {
      return setProblem(`The actions are no JSON: ${message(error)}`);
    }
    const item = { sql: draft.sql, description: draft.description, enable: draft.enable, actions };
    try {
      const changed = await (fresh ? api.createRule({ id: name, ...item }) : api.updateRule(id, item));
      tellChanged(`The rule ${fresh ? name : id} ${draft.enable ? 'runs' : 'is kept, and off'}`, changed);
      if (fresh) go(href('rules', name));
      else refresh();
    } catch (error) {
      setProblem(message(error));
    }
  };
  const remove = async (): Promise<void> => {
    if (fresh || !(await sure(`Remove the rule ${id}?`, 'It is taken out of the configuration. Records that wait in the queues of its actions are still delivered.', 'Remove'))) return;
    if (await attempt(`The rule ${id} was removed`, () => api.removeRule(id))) go('#/rules');
  };
  return (
    <Page
      title={fresh ? 'New rule' : id}
      up={{ title: 'Rules', href: '#/rules' }}
      tools={
        <>
          {!fresh && <Button kind="danger" needs="administrator" onClick={() => void remove()}>Remove</Button>}
          {!fresh && changed && <Button onClick={() => setDraft(before)}>Discard changes</Button>}
          <Button kind="primary" needs="administrator" off={!changed ? 'Nothing has changed' : fresh && name === '' ? 'Give it a name first' : undefined} onClick={() => void save()}>{fresh ? 'Create' : 'Save and apply'}</Button>
        </>
      }
    >
      <div class="stack">
        {detail && <Counters of={detail.metrics} window={detail.window} />}
        {problem && <div class="note-box bad" role="alert"><pre>{problem}</pre></div>}
        {!fresh && (
          <Tabs value={tab} onChange={(next) => setQuery('tab', next)} of={[['statement', 'Statement'], ['errors', `Last errors${detail && detail.last_errors.length > 0 ? ` (${detail.last_errors.length})` : ''}`]]} />
        )}
        {tab === 'errors' && !fresh ? (
          <Errors of={detail?.last_errors ?? []} onTry={(event) => {
            setContext(JSON.stringify(event, null, 2));
            setQuery('tab', '');
          }} />
        ) : (
          <>
            <div class="cols-side">
              <Panel title="Statement" body>
                <SqlEditor value={draft.sql} onChange={(sql) => change({ sql })} events={events} onRun={() => setAsked((n) => n + 1)} height="292px" />
              </Panel>
              <Panel title="Rule" body>
                <div class="form">
                  {fresh && <Field label="Name" hint="as it stands in the configuration: [rules.NAME]"><input class="input" value={name} onInput={(event) => setName(event.currentTarget.value)} /></Field>}
                  <Field label="What it is for"><input class="input" value={draft.description} onInput={(event) => change({ description: event.currentTarget.value })} /></Field>
                  <label class="check"><input type="checkbox" checked={draft.enable} onChange={(event) => change({ enable: event.currentTarget.checked })} /> It runs</label>
                  <Actions text={draft.actions} onChange={(actions) => change({ actions })} readOnly={!may('administrator')} />
                </div>
              </Panel>
            </div>
            <Trial sql={draft.sql} events={events} context={context} setContext={setContext} asked={asked} />
          </>
        )}
      </div>
    </Page>
  );
}

function Errors({ of, onTry }: { of: api.RuleDetail['last_errors']; onTry: (event: api.Row) => void }) {
  const [shown, setShown] = useState<api.RuleDetail['last_errors'][number]>();
  if (of.length === 0) return <Panel><Empty title="No errors">Every event that matched could be computed since the start.</Empty></Panel>;
  return (
    <Panel title="The last events that could not be computed">
      <Table
        label="Errors"
        rows={[...of].reverse().map((one, i) => ({ ...one, i }))}
        rowKey={(one) => String(one.i)}
        onOpen={setShown}
        columns={[
          { title: 'At', cell: (one) => time(one.at), width: '160px' },
          { title: 'Error', kind: 'wrap', cell: (one) => <span class="break">{one.error}</span> },
          { title: 'Event', kind: 'cut', cell: (one) => <code>{one.event ? JSON.stringify(one.event) : '–'}</code> },
          { title: '', kind: 'acts', cell: (one) => one.event && <Button small onClick={() => one.event && onTry(one.event)}>Try with this event</Button> },
        ]}
      />
      {shown && (
        <Dialog title="Error" wide onClose={() => setShown(undefined)} footer={<Button onClick={() => setShown(undefined)}>Close</Button>}>
          <div class="note-box bad">{shown.error}</div>
          <pre class="code">{JSON.stringify(shown.event, null, 2)}</pre>
        </Dialog>
      )}
    </Panel>
  );
}

const NEW: Draft = { sql: 'SELECT clientid AS device, payload.temperature AS celsius, timestamp\nFROM "devices/+/data"\nWHERE payload.temperature > 30', description: '', enable: true, actions: '[]' };

function RuleDetail({ id }: { id: string }) {
  const rule = usePoll((signal) => api.rule(id, signal), 0, [id]);
  const detail = usePoll((signal) => api.ruleMetrics(id, signal), 2000, [id]);
  const before = useMemo(() => rule.data && draftOf(rule.data), [rule.data]);
  if (!before) return <Page title={id} up={{ title: 'Rules', href: '#/rules' }}><Panel><Fetched of={rule}>{() => null}</Fetched></Panel></Page>;
  return <RuleEditor key={JSON.stringify(before)} id={id} before={before} detail={detail.data} refresh={rule.refresh} />;
}

export function Rules({ path }: { path: readonly string[] }) {
  const [id, second] = path;
  if (id === undefined) return <RuleList />;
  if (id === 'new' && second === 'rule') return <RuleEditor id={undefined} before={NEW} detail={undefined} refresh={() => {}} />;
  return <RuleDetail key={id} id={id} />;
}
