// The statement's editor: completes events, columns and functions, and marks what the broker says is wrong.
import { useEffect, useState } from 'preact/hooks';
import functions from 'virtual:sql-functions';
import * as api from '../api';
import { may } from '../session';
import type { Completion, Problem } from './editing';
import { Editor } from './editor';

const KEYWORDS = ['SELECT', 'FROM', 'WHERE', 'AS', 'AND', 'OR', 'NOT', 'IN', 'CASE', 'WHEN', 'THEN', 'ELSE', 'END', 'FOREACH', 'DO', 'INCASE', 'GROUP BY', 'TUMBLING(10s)', 'HOPPING(1m, 10s)', 'SESSION(30s)'];

function completionsOf(events: readonly api.RuleEvent[]): Completion[] {
  const columns = new Map<string, Set<string>>();
  for (const event of events) {
    for (const column of event.columns) columns.set(column, (columns.get(column) ?? new Set()).add(event.event));
  }
  return [
    ...functions.map(({ name, doc, example }): Completion => ({ label: name, kind: 'function', detail: example, info: doc })),
    ...[...columns].map(([label, of]): Completion => ({ label, kind: 'column', detail: of.size > 3 ? `of ${of.size} events` : [...of].join(', ') })),
    ...KEYWORDS.map((label): Completion => ({ label, kind: 'keyword' })),
    ...events.flatMap((event) => event.from.filter((name) => name.startsWith('$')).map((label): Completion => ({ label, kind: 'event', detail: event.event }))),
  ];
}

/** Columns of a sample that stand for the first thing behind FROM. */
export function sampleFor(sql: string, events: readonly api.RuleEvent[]): api.Row {
  const from = /FROM\s+['"]([^'"]+)['"]/i.exec(sql)?.[1] ?? 't/a';
  const event = from.startsWith('$events/') ? events.find((one) => one.from.includes(from)) : undefined;
  if (event) return event.sample;
  const topic = from.replace(/\+/g, '7').replace(/\/?#$/, '/a').replace(/^\//, '') || 't/a';
  return { clientid: 'sensor-7', topic, qos: 1, payload: { temperature: 31.5 } };
}

/** Where the message names a column, it counts the characters of the whole statement. */
function problemOf(message: string): Problem {
  const at = /at column (\d+)/.exec(message)?.[1];
  return at === undefined ? { message } : { message: message.replace(/ at column \d+/, ''), at: Number(at) };
}

const NONE: readonly Problem[] = [];

/** What the broker says of a statement a moment after it was typed. Values that do not fit the sample are no mistake of the statement. */
function useProblems(sql: string, events: readonly api.RuleEvent[]): readonly Problem[] {
  const [problems, setProblems] = useState<readonly Problem[]>(NONE);
  useEffect(() => {
    if (!may('operator') || events.length === 0 || sql.trim() === '') return setProblems(NONE);
    let gone = false;
    const timer = setTimeout(() => {
      api.testRule(sql, sampleFor(sql, events)).then(
        () => !gone && setProblems(NONE),
        (error: unknown) => {
          if (gone) return;
          const told = error instanceof api.ApiError && error.code === 'BAD_REQUEST' ? problemOf(error.message) : undefined;
          setProblems(told?.at === undefined ? NONE : [told]);
        },
      );
    }, 350);
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [sql, events]);
  return problems;
}

export function SqlEditor({ value, onChange, events, onRun, height }: { value: string; onChange: (sql: string) => void; events: readonly api.RuleEvent[]; onRun: () => void; height: string }) {
  const problems = useProblems(value, events);
  return (
    <div>
      <Editor label="Statement" language="sql" value={value} onChange={onChange} problems={problems} completions={completionsOf(events)} onRun={onRun} height={height} />
      {problems.map((problem) => (
        <p key={problem.message} class="bad" role="alert" style={{ padding: '6px 2px 0' }}>
          {problem.message}
          {problem.at !== undefined && <span class="dim"> at character {problem.at}</span>}
        </p>
      ))}
    </div>
  );
}
