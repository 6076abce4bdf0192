// Tables: rows by arrow keys, Enter opens; pages where the API gives pages.
import type { ComponentChildren } from 'preact';
import type { Meta } from '../api';
import { exact } from '../format';
import { Button } from './button';

export interface Column<T> {
  title: string;
  cell: (row: T) => ComponentChildren;
  kind?: 'num' | 'cut' | 'wrap' | 'acts';
  width?: string;
}

interface Props<T> {
  label: string;
  columns: readonly Column<T>[];
  rows: readonly T[];
  rowKey: (row: T) => string;
  onOpen?: (row: T) => void;
  selected?: string;
}

function onArrow(event: KeyboardEvent, open: () => void): void {
  if (event.target !== event.currentTarget || !(event.currentTarget instanceof HTMLElement)) return;
  const row = event.currentTarget;
  const body = row.parentElement;
  const targets: { [key: string]: Element | null | undefined } = {
    ArrowDown: row.nextElementSibling,
    ArrowUp: row.previousElementSibling,
    Home: body?.firstElementChild,
    End: body?.lastElementChild,
  };
  if (event.key === 'Enter') {
    event.preventDefault();
    open();
  } else if (event.key in targets) {
    event.preventDefault();
    const target = targets[event.key];
    if (target instanceof HTMLElement) target.focus();
  }
}

export function Table<T>({ label, columns, rows, rowKey, onOpen, selected }: Props<T>) {
  return (
    <div class="tablebox">
      <table aria-label={label}>
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column.title} scope="col" class={column.kind ?? ''} style={column.width ? { width: column.width } : undefined}>
                {column.title || <span class="sr">Actions</span>}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, i) => {
            const key = rowKey(row);
            const open = (): void => onOpen?.(row);
            return (
              <tr
                key={key}
                class={onOpen ? 'open' : ''}
                tabIndex={i === 0 ? 0 : -1}
                aria-selected={selected === undefined ? undefined : selected === key ? 'true' : 'false'}
                onClick={(event) => {
                  if (!(event.target instanceof Element) || !event.target.closest('a, button, input')) open();
                }}
                onKeyDown={(event) => onArrow(event, open)}
              >
                {columns.map((column) => (
                  <td key={column.title} class={column.kind ?? ''}>
                    {column.cell(row)}
                  </td>
                ))}
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

/** Where a page of a list is, and the way to the next. */
export function Pager({ meta, shown, page, limit, onPage }: { meta: Meta; shown: number; page: number; limit: number; onPage: (page: number) => void }) {
  if (page === 1 && !meta.hasnext) return <div class="pager">{shown === 1 ? '1 entry' : `${exact(shown)} entries`}</div>;
  const first = (page - 1) * limit + 1;
  return (
    <div class="pager">
      <span class="grow">
        {exact(first)}–{exact(first + shown - 1)}
        {meta.count !== undefined && ` of ${exact(meta.count)}`}
      </span>
      <Button small off={page === 1 ? 'This is the first page' : undefined} onClick={() => onPage(page - 1)}>
        Previous
      </Button>
      <Button small off={meta.hasnext ? undefined : 'This is the last page'} onClick={() => onPage(page + 1)}>
        Next
      </Button>
    </div>
  );
}
