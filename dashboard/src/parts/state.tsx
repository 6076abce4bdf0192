// What a page shows while there is nothing to show: it loads, it is empty, it failed.
import type { ComponentChildren } from 'preact';
import { ApiError, isMissing } from '../api';
import type { Polled } from '../poll';
import { Button } from './button';

export function Loading({ lines = 4 }: { lines?: number }) {
  return (
    <div class="lines" role="status" aria-label="Loading">
      {Array.from({ length: lines }, (_, i) => (
        <i key={i} style={{ width: `${92 - ((i * 17) % 40)}%` }} />
      ))}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="state">
      <strong>{title}</strong>
      {children}
    </div>
  );
}

export function Failed({ error, retry }: { error: unknown; retry?: () => void }) {
  if (isMissing(error)) {
    return <Empty title="This broker does not offer that">Its version has no such part of the API. A newer one does.</Empty>;
  }
  const forbidden = error instanceof ApiError && error.status === 403;
  return (
    <div class="state failed" role="alert">
      <strong>{forbidden ? 'Your role may not see this' : 'That did not work'}</strong>
      <p>{message(error)}</p>
      {retry && !forbidden && <Button onClick={retry}>Try again</Button>}
    </div>
  );
}

export function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Shows what was fetched, or why there is nothing. A refresh that fails leaves what was there, and says so. */
export function Fetched<T>({ of, children, lines }: { of: Polled<T>; children: (data: T) => ComponentChildren; lines?: number }) {
  if (of.data === undefined) return of.error === undefined ? <Loading lines={lines} /> : <Failed error={of.error} retry={of.refresh} />;
  return (
    <>
      {of.error !== undefined && (
        <div class="note-box bad" role="alert">
          Not up to date: {message(of.error)}
        </div>
      )}
      {children(of.data)}
    </>
  );
}
