// The configuration as TOML: edit and apply as a whole, its history, and the way back. What was set up, as a file for another broker.
import { useEffect, useState } from 'preact/hooks';
import * as api from '../api';
import { ago, time } from '../format';
import { Button } from '../parts/button';
import { Dialog, sure } from '../parts/dialog';
import { Editor } from '../parts/editor';
import type { Problem } from '../parts/editing';
import { Page, Panel, Tabs } from '../parts/page';
import { Empty, Failed, Fetched, Loading, message } from '../parts/state';
import { Table } from '../parts/table';
import { attempt, tell, tellChanged } from '../parts/toast';
import { usePoll } from '../poll';
import { place, setQuery } from '../router';
import { may } from '../session';
import { Exports } from './exports';

/** `connectors.kafka.topic: missing` is marked where that table or key stands; a line that is named, there. */
function problemsOf(told: readonly string[], content: string): Problem[] {
  const lines = content.split('\n');
  return told.map((text) => {
    const named = /line (\d+)/.exec(text)?.[1];
    if (named) return { message: text, line: Number(named) };
    return { message: text, line: lineOf(/^([\w."-]+(?:\[\d+\])?)/.exec(text)?.[1] ?? '', lines) ?? 1 };
  });
}

/** Where a path such as actions.lines.connector stands, from 1 on: the key, or else the nearest table around it. */
function lineOf(path: string, lines: readonly string[]): number | undefined {
  const keys = path.split('.');
  for (let depth = keys.length; depth > 0; depth -= 1) {
    const header = `[${keys.slice(0, depth).join('.')}]`;
    const at = lines.findIndex((line) => line.trim() === header || line.trim() === `[${header}]`);
    if (at < 0) continue;
    const key = keys[depth];
    const inside = key === undefined ? -1 : lines.findIndex((line, i) => i > at && new RegExp(`^\\s*"?${key.replace(/\W/g, '.')}"?\\s*=`).test(line));
    return (inside > at ? inside : at) + 1;
  }
  return undefined;
}

function Diff({ text }: { text: string }) {
  if (text.trim() === '') return <Empty title="No difference" />;
  return (
    <pre class="code diff">
      {text.split('\n').map((line, i) => (
        <span key={i} class={line.startsWith('+') ? 'add' : line.startsWith('-') ? 'del' : line.startsWith('@@') ? 'hunk' : ''}>
          {line}
          {'\n'}
        </span>
      ))}
    </pre>
  );
}

/** One entry for each thing that is wrong. */
function mistakes(problem: unknown): readonly string[] {
  if (problem === undefined) return [];
  return problem instanceof api.ApiError && problem.errors.length > 0 ? problem.errors : [message(problem)];
}

function Current({ file, refresh }: { file: api.ConfigFile; refresh: () => void }) {
  const [text, setText] = useState(file.content);
  const [problem, setProblem] = useState<unknown>();
  useEffect(() => {
    setText(file.content);
    setProblem(undefined);
  }, [file.version]);
  const changed = text !== file.content;
  const apply = async (): Promise<void> => {
    setProblem(undefined);
    try {
      tellChanged('The configuration is written and holds', await api.putConfig(text, file.version));
      refresh();
    } catch (error) {
      setProblem(error);
    }
  };
  const told = mistakes(problem);
  return (
    <Panel
      title={`Version ${file.version}`}
      note={file.changed_at ? `${file.changed_by ? `by ${file.changed_by}, ` : ''}${ago(file.changed_at)}` : undefined}
      tools={
        <>
          <Button small off={changed ? undefined : 'Nothing has changed'} onClick={() => setText(file.content)}>Discard changes</Button>
          <Button small kind="primary" needs="administrator" off={changed ? undefined : 'Nothing has changed'} onClick={() => void apply()}>Check and apply</Button>
        </>
      }
      body
    >
      <div class="stack">
        {told.length > 0 && (
          <div class="note-box bad" role="alert">
            <b>{problem instanceof api.ApiError && (problem.status === 409 || problem.status === 412) ? 'Somebody has changed it meanwhile. ' : 'Nothing was changed. '}</b>
            <ul style={{ paddingLeft: '18px' }}>
              {told.map((one) => (
                <li key={one}><code class="break">{one}</code></li>
              ))}
            </ul>
          </div>
        )}
        <Editor label="Configuration" language="toml" value={text} onChange={setText} problems={problemsOf(told, text)} readOnly={!may('administrator')} height="calc(100vh - 260px)" line={lineOf(place.value.query.get('at') ?? '', text.split('\n'))} />
      </div>
    </Panel>
  );
}

function DiffDialog({ from, to, onClose }: { from: number; to: number; onClose: () => void }) {
  const found = usePoll((signal) => api.configDiff(from, to, signal), 0, [from, to]);
  return (
    <Dialog title={`From version ${from} to ${to}`} wide onClose={onClose} footer={<Button onClick={onClose}>Close</Button>}>
      <Fetched of={found}>{(text) => <Diff text={text} />}</Fetched>
    </Dialog>
  );
}

function History({ version, refresh }: { version: number; refresh: () => void }) {
  const found = usePoll(api.configHistory, 5000);
  const [shown, setShown] = useState<{ from: number; to: number }>();
  const back = async (to: number): Promise<void> => {
    if (!(await sure(`Go back to version ${to}?`, 'The file becomes what it was then, and is applied at once. The present version stays in the history.', 'Go back'))) return;
    try {
      tellChanged(`Version ${to} holds again`, await api.rollback(to));
    } catch (error) {
      tell(mistakes(error).join('; '), true);
    }
    found.refresh();
    refresh();
  };
  return (
    <Panel title="History">
      <Fetched of={found}>
        {(all) => {
          if (all.length === 0) return <Empty title="No history yet">Each change by the API or this dashboard becomes a version that can be compared and brought back.</Empty>;
          const rows = [...all].sort((a, b) => b.version - a.version);
          return (
            <Table
              label="History"
              rows={rows}
              rowKey={(row) => String(row.version)}
              columns={[
                { title: 'Version', kind: 'num', width: '80px', cell: (row) => row.version },
                { title: 'When', cell: (row) => time(row.changed_at) },
                { title: 'Who', cell: (row) => row.changed_by ?? '–' },
                { title: 'What', kind: 'cut', cell: (row) => <span title={row.summary ?? ''}>{row.summary ?? '–'}</span> },
                {
                  title: '',
                  kind: 'acts',
                  cell: (row) => {
                    const before = rows.find((one) => one.version < row.version);
                    return (
                      <>
                        {before && <Button small onClick={() => setShown({ from: before.version, to: row.version })}>What changed</Button>}
                        {row.version === version ? <span class="tag">in force</span> : (
                          <>
                            <Button small onClick={() => setShown({ from: row.version, to: version })}>Compare with now</Button>
                            <Button small kind="danger" needs="administrator" onClick={() => void back(row.version)}>Go back</Button>
                          </>
                        )}
                      </>
                    );
                  },
                },
              ]}
            />
          );
        }}
      </Fetched>
      {shown && <DiffDialog key={`${shown.from} ${shown.to}`} {...shown} onClose={() => setShown(undefined)} />}
    </Panel>
  );
}

export function Settings() {
  const asked = place.value.query.get('tab');
  const tab = asked === 'history' || asked === 'exports' ? asked : 'file';
  const found = usePoll(api.config, 0);
  const reload = async (): Promise<void> => {
    if (await attempt('The file was read again', api.reload)) found.refresh();
  };
  return (
    <Page title="Settings" tools={<Button needs="administrator" onClick={() => void reload()}>Read the file again</Button>}>
      <p class="lead">
        {tab === 'exports'
          ? 'What was set up, as a file that another broker takes over. It is looked at as a whole before; where anything is wrong, nothing changes.'
          : 'The whole configuration. It is checked as a whole and applied as a whole while messages flow; what needs a restart waits for it, and says so.'}
      </p>
      <Tabs value={tab} onChange={(next) => setQuery('tab', next === 'file' ? '' : next)} of={[['file', 'Configuration'], ['history', 'History'], ['exports', 'Export and import']]} />
      {tab === 'exports' ? <Exports onImported={found.refresh} /> : found.error instanceof api.ApiError && found.error.status === 409 ? (
        <Panel>
          <Empty title="This broker runs without a configuration file">
            <p>{found.error.message}</p>
          </Empty>
        </Panel>
      ) : found.data === undefined ? <Panel>{found.error === undefined ? <Loading lines={10} /> : <Failed error={found.error} retry={found.refresh} />}</Panel> : tab === 'history' ? <History version={found.data.version} refresh={found.refresh} /> : <Current file={found.data} refresh={found.refresh} />}
    </Page>
  );
}
