// Data that is fetched again and again, while somebody looks.
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';

export interface Polled<T> {
  data: T | undefined;
  error: unknown;
  /** Nothing has come yet. */
  loading: boolean;
  refresh: () => void;
}

type Fetch<T> = (signal: AbortSignal) => Promise<T>;

/** Runs `work` now and every so often while the page is visible; gives back what ends it. */
export function whileVisible(work: (signal: AbortSignal) => Promise<void>, every: number): () => void {
  const ended = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let busy = false;
  const turn = async (): Promise<void> => {
    clearTimeout(timer);
    if (busy || ended.signal.aborted) return;
    if (!document.hidden) {
      busy = true;
      await work(ended.signal);
      busy = false;
    }
    if (!ended.signal.aborted && every > 0) timer = setTimeout(() => void turn(), every);
  };
  const onVisible = (): void => {
    if (!document.hidden) void turn();
  };
  document.addEventListener('visibilitychange', onVisible);
  void turn();
  return () => {
    ended.abort();
    clearTimeout(timer);
    document.removeEventListener('visibilitychange', onVisible);
  };
}

/** `every` in milliseconds; 0 fetches once. What changes the question stands in `deps`. */
export function usePoll<T>(fetch: Fetch<T>, every: number, deps: readonly unknown[] = []): Polled<T> {
  const [state, setState] = useState<{ data: T | undefined; error: unknown }>({ data: undefined, error: undefined });
  const [round, setRound] = useState(0);
  const latest = useRef(fetch);
  latest.current = fetch;
  const asked = useRef('');
  const question = JSON.stringify(deps);
  useEffect(() => {
    if (asked.current !== question) {
      asked.current = question;
      setState((was) => ({ data: was.data, error: undefined }));
    }
    return whileVisible(async (signal) => {
      try {
        const data = await latest.current(signal);
        if (!signal.aborted) setState({ data, error: undefined });
      } catch (error) {
        if (!signal.aborted) setState((was) => ({ data: was.data, error }));
      }
    }, every);
  }, [question, every, round]);
  const refresh = useCallback(() => setRound((n) => n + 1), []);
  return { ...state, loading: state.data === undefined && state.error === undefined, refresh };
}
