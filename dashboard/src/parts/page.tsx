// The frame of a page, and of what stands on it.
import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

interface PageProps {
  title: string;
  /** The page above this one. */
  up?: { title: string; href: string };
  tools?: ComponentChildren;
  children: ComponentChildren;
}

export function Page({ title, up, tools, children }: PageProps) {
  useEffect(() => {
    document.title = `${title} – Hookline`;
  }, [title]);
  return (
    <div class="page">
      <header class="page-head">
        {up && (
          <span class="crumb">
            <a href={up.href}>{up.title}</a> /
          </span>
        )}
        <h1 class="cut">{title}</h1>
        <div class="tools">{tools}</div>
      </header>
      {children}
    </div>
  );
}

export function Panel({ title, note, tools, children, body }: { title?: string; note?: string; tools?: ComponentChildren; children: ComponentChildren; body?: boolean }) {
  return (
    <section class="panel" aria-label={title}>
      {title && (
        <header>
          <h2>{title}</h2>
          {note && <small>{note}</small>}
          <div class="tools">{tools}</div>
        </header>
      )}
      {body ? <div class="body">{children}</div> : children}
    </section>
  );
}

export type Tone = 'ok' | 'warn' | 'bad' | 'off';

export function Mark({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return <span class={`mark ${tone}`}>{children}</span>;
}

export function Details({ of }: { of: readonly (readonly [string, ComponentChildren])[] }) {
  return (
    <dl class="kv">
      {of.map(([name, value]) => (
        <>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </>
      ))}
    </dl>
  );
}

/** How full something is: amber from three quarters on, red when it is full. */
export function Gauge({ value, max, label }: { value: number; max: number; label?: string }) {
  const part = max > 0 ? Math.min(1, value / max) : 0;
  const tone = part >= 1 ? 'bad' : part >= 0.75 ? 'warn' : '';
  return (
    <span class="gauge">
      <span>{label ?? `${value} / ${max}`}</span>
      <span class={`meter ${tone}`}>
        <i style={{ width: `${part * 100}%` }} />
      </span>
    </span>
  );
}

export function Tabs({ of, value, onChange }: { of: readonly (readonly [string, string])[]; value: string; onChange: (next: string) => void }) {
  return (
    <div class="tabs" role="tablist">
      {of.map(([id, title]) => (
        <button key={id} type="button" role="tab" aria-selected={id === value ? 'true' : 'false'} onClick={() => onChange(id)}>
          {title}
        </button>
      ))}
    </div>
  );
}

/** `onInput` hears what is typed a moment after it was. */
export function Search({ value, onInput, label }: { value: string; onInput: (text: string) => void; label: string }) {
  const field = useRef<HTMLInputElement>(null);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => {
    // What comes by a link; what is being typed stays.
    if (field.current && document.activeElement !== field.current) field.current.value = value;
  }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  return (
    <span class="search">
      <input
        ref={field}
        class="input"
        type="search"
        data-search
        placeholder={label}
        aria-label={label}
        defaultValue={value}
        onInput={(event) => {
          const text = event.currentTarget.value;
          clearTimeout(timer.current);
          timer.current = setTimeout(() => onInput(text), 200);
        }}
      />
      <kbd aria-hidden="true">/</kbd>
    </span>
  );
}

export function Field({ label, hint, children }: { label: string; hint?: string; children: ComponentChildren }) {
  return (
    <label class="field">
      <span>{label}</span>
      {children}
      {hint && <small>{hint}</small>}
    </label>
  );
}
