// An editor whose code comes when it is first needed. Until then, and where it cannot be loaded, a plain field does.
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Completion, Editing, Language, Problem } from './editing';

interface Props {
  label: string;
  value: string;
  language: Language;
  onChange?: (text: string) => void;
  problems?: readonly Problem[];
  completions?: readonly Completion[];
  readOnly?: boolean;
  height?: string;
  /** The line that is shown first, from 1 on. */
  line?: number;
  /** Ctrl-Enter. */
  onRun?: () => void;
}

export function Editor(props: Props) {
  const holder = useRef<HTMLDivElement>(null);
  const editing = useRef<Editing | null>(null);
  const latest = useRef(props);
  latest.current = props;
  /** What was typed and has not come back as the value yet: it must not be set over what was typed since. */
  const typed = useRef<string[]>([]);
  const [plain, setPlain] = useState(true);
  useEffect(() => {
    let gone = false;
    void import('./editing').then(({ edit }) => {
      if (gone || !holder.current) return;
      setPlain(false);
      const { label, value, language, readOnly = false, height = '200px' } = latest.current;
      editing.current = edit(holder.current, {
        label,
        value,
        language,
        readOnly,
        height,
        onChange: (text) => {
          typed.current.push(text);
          latest.current.onChange?.(text);
        },
        onRun: () => latest.current.onRun?.(),
        completions: () => latest.current.completions ?? [],
      });
      editing.current.mark(latest.current.problems ?? []);
      if (latest.current.line !== undefined) editing.current.show(latest.current.line);
    });
    return () => {
      gone = true;
      editing.current?.close();
      editing.current = null;
    };
  }, []);
  useEffect(() => {
    const at = typed.current.indexOf(props.value);
    typed.current = typed.current.slice(at < 0 ? typed.current.length : at + 1);
    if (at < 0) editing.current?.set(props.value);
  }, [props.value]);
  useEffect(() => editing.current?.mark(props.problems ?? []), [props.problems]);
  return (
    <div class="editor" ref={holder}>
      {plain && <textarea class="input" aria-label={props.label} style={{ border: 0, height: props.height ?? '200px' }} value={props.value} readOnly />}
    </div>
  );
}
