// A list that the API gives page by page, searched on the server.
import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import type { List } from '../api';
import type { Query } from '../api/http';
import { usePoll, type Polled } from '../poll';
import { Fetched } from './state';
import { Pager, Table, type Column } from './table';

interface Props<T> {
  label: string;
  fetch: (query: Query, signal: AbortSignal) => Promise<List<T>>;
  /** What is searched for; with another question the first page comes. */
  query: Query;
  columns: (list: Polled<List<T>>) => readonly Column<T>[];
  rowKey: (row: T) => string;
  onOpen?: (row: T) => void;
  empty: ComponentChildren;
  limit?: number;
  every?: number;
}

function Pages<T>({ label, fetch, query, columns, rowKey, onOpen, empty, limit = 50, every = 4000 }: Props<T>) {
  const [page, setPage] = useState(1);
  const found = usePoll((signal) => fetch({ ...query, page, limit }, signal), every, [query, page]);
  return (
    <Fetched of={found} lines={8}>
      {({ data, meta }) =>
        data.length === 0 && page === 1 ? (
          empty
        ) : (
          <>
            <Table label={label} columns={columns(found)} rows={data} rowKey={rowKey} onOpen={onOpen} />
            <Pager meta={meta} shown={data.length} page={page} limit={limit} onPage={setPage} />
          </>
        )
      }
    </Fetched>
  );
}

export function ListOf<T>(props: Props<T>) {
  return <Pages key={JSON.stringify(props.query)} {...props} />;
}
