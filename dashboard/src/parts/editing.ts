// CodeMirror, set up for the languages here: rule SQL, TOML and JSON.
import { autocompletion, type CompletionContext, type CompletionResult } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands';
import { bracketMatching, HighlightStyle, StreamLanguage, syntaxHighlighting, type StreamParser } from '@codemirror/language';
import { toml } from '@codemirror/legacy-modes/mode/toml';
import { lintGutter, setDiagnostics, type Diagnostic } from '@codemirror/lint';
import { searchKeymap } from '@codemirror/search';
import { EditorState, type Extension } from '@codemirror/state';
import { EditorView, highlightActiveLine, highlightActiveLineGutter, keymap, lineNumbers } from '@codemirror/view';
import { tags } from '@lezer/highlight';

export type Language = 'sql' | 'toml' | 'json';

/** `at`: from 1 on, over the whole text; `line`: from 1 on. Without both the first line is marked. */
export interface Problem {
  message: string;
  at?: number;
  line?: number;
}

export interface Completion {
  label: string;
  kind: 'function' | 'column' | 'event' | 'keyword';
  detail?: string;
  info?: string;
}

export interface Editing {
  set(text: string): void;
  mark(problems: readonly Problem[]): void;
  /** Shows a line, from 1 on. */
  show(line: number): void;
  close(): void;
}

interface Settings {
  label: string;
  value: string;
  language: Language;
  readOnly: boolean;
  height: string;
  onChange: (text: string) => void;
  onRun: () => void;
  completions: () => readonly Completion[];
}

const KEYWORDS = /^(select|from|where|as|and|or|not|in|case|when|then|else|end|foreach|do|incase|group|by|div|mod|tumbling|hopping|session)$/i;

const sql: StreamParser<{ comment: boolean }> = {
  name: 'rule-sql',
  startState: () => ({ comment: false }),
  token(stream, state) {
    if (state.comment || stream.match('/*')) {
      state.comment = !stream.match(/^.*?\*\//);
      if (state.comment) stream.skipToEnd();
      return 'comment';
    }
    if (stream.eatSpace()) return null;
    if (stream.match(/^--.*/)) return 'comment';
    if (stream.match(/^'[^']*'?/) || stream.match(/^"[^"]*"?/)) return 'string';
    if (stream.match(/^\d+(\.\d+)?(e[+-]?\d+)?(ms|[smhd])?/i)) return 'number';
    if (stream.match(/^(true|false)\b/)) return 'atom';
    if (stream.match(/^[A-Za-z_]\w*(?=\s*\()/)) return KEYWORDS.test(stream.current()) ? 'keyword' : 'propertyName';
    if (stream.match(/^[A-Za-z_$]\w*/)) return KEYWORDS.test(stream.current()) ? 'keyword' : 'variableName';
    stream.next();
    return 'operator';
  },
};

const json: StreamParser<null> = {
  name: 'json',
  token(stream) {
    if (stream.eatSpace()) return null;
    if (stream.match(/^"(?:[^"\\]|\\.)*"(?=\s*:)/)) return 'propertyName';
    if (stream.match(/^"(?:[^"\\]|\\.)*"?/)) return 'string';
    if (stream.match(/^-?\d+(\.\d+)?(e[+-]?\d+)?/i)) return 'number';
    if (stream.match(/^(true|false|null)\b/)) return 'atom';
    stream.next();
    return null;
  },
};

const LANGUAGES: { [language in Language]: Extension } = {
  sql: StreamLanguage.define(sql),
  toml: StreamLanguage.define(toml),
  json: StreamLanguage.define(json),
};

const colours = HighlightStyle.define([
  { tag: tags.keyword, color: 'var(--accent)', fontWeight: '500' },
  { tag: [tags.string, tags.special(tags.string)], color: 'var(--code-text)' },
  { tag: [tags.number, tags.atom, tags.bool], color: 'var(--code-number)' },
  { tag: [tags.comment], color: 'var(--ink-3)', fontStyle: 'italic' },
  { tag: [tags.propertyName, tags.definition(tags.propertyName), tags.heading], color: 'var(--code-name)' },
]);

const TYPES: { [kind in Completion['kind']]: string } = { function: 'function', column: 'variable', event: 'text', keyword: 'keyword' };

function complete(settings: Settings) {
  return (context: CompletionContext): CompletionResult | null => {
    const quoted = context.matchBefore(/"[^"\n]*/);
    const word = context.matchBefore(/[\w$]+/);
    if (!quoted && !word && !context.explicit) return null;
    const wanted = settings.completions().filter((one) => (one.kind === 'event') === (quoted !== null));
    return {
      from: quoted ? quoted.from + 1 : (word?.from ?? context.pos),
      options: wanted.map((one) => ({ label: one.label, type: TYPES[one.kind], detail: one.detail, info: one.info, apply: one.kind === 'function' ? `${one.label}(` : one.label })),
      validFor: quoted ? /^[^"\n]*$/ : /^\w*$/,
    };
  };
}

function range(state: EditorState, problem: Problem): { from: number; to: number } {
  if (problem.at !== undefined) {
    const from = Math.min(Math.max(0, problem.at - 1), state.doc.length);
    const word = state.wordAt(from);
    const to = word ? word.to : Math.min(from + 1, state.doc.length);
    return from < to ? { from, to } : { from: Math.max(0, from - 1), to: from };
  }
  const line = state.doc.line(Math.min(problem.line ?? 1, state.doc.lines));
  return { from: line.from, to: line.to };
}

export function edit(parent: HTMLElement, settings: Settings): Editing {
  let quiet = false;
  const view = new EditorView({
    parent,
    doc: settings.value,
    extensions: [
      lineNumbers(),
      settings.readOnly ? [] : [highlightActiveLine(), highlightActiveLineGutter(), lintGutter()],
      history(),
      bracketMatching(),
      LANGUAGES[settings.language],
      syntaxHighlighting(colours),
      settings.language === 'sql' ? autocompletion({ override: [complete(settings)], icons: false }) : [],
      keymap.of([
        { key: 'Mod-Enter', run: () => (settings.onRun(), true) },
        // Escape leaves the editor, so that Tab is no trap for who has only a keyboard.
        { key: 'Escape', run: (editor) => (editor.contentDOM.blur(), true) },
      ]),
      keymap.of([...searchKeymap, ...historyKeymap, ...defaultKeymap, indentWithTab]),
      EditorState.readOnly.of(settings.readOnly),
      EditorView.lineWrapping,
      EditorView.contentAttributes.of({ 'aria-label': settings.label }),
      EditorView.theme({ '&': { height: settings.height }, '.cm-scroller': { overflow: 'auto' } }),
      EditorView.updateListener.of((update) => {
        if (update.docChanged && !quiet) settings.onChange(update.state.doc.toString());
      }),
    ],
  });
  return {
    set(text) {
      if (text === view.state.doc.toString()) return;
      quiet = true;
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } });
      quiet = false;
    },
    mark(problems) {
      const found = problems.map((problem): Diagnostic => ({ ...range(view.state, problem), severity: 'error', message: problem.message }));
      view.dispatch(setDiagnostics(view.state, found));
    },
    show(line) {
      const { from } = view.state.doc.line(Math.min(line, view.state.doc.lines));
      view.dispatch({ selection: { anchor: from }, effects: EditorView.scrollIntoView(from, { y: 'start', yMargin: 40 }) });
    },
    close: () => view.destroy(),
  };
}
