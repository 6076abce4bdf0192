// One request to the API, and what comes of it.
import { end, session } from '../session';

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    /** Where several things are wrong, each of them. */
    readonly errors: readonly string[] = [],
  ) {
    super(message);
  }
}

export type Query = { [name: string]: string | number | boolean | undefined };

export interface Options {
  query?: Query;
  body?: unknown;
  /** Sent as it is, as text/plain. */
  text?: string;
  form?: FormData;
  headers?: { [name: string]: string };
  signal?: AbortSignal;
}

const BASE = 'api/v5';

export function part(text: string): string {
  return encodeURIComponent(text);
}

function address(path: string, query: Query = {}): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== '');
  const search = new URLSearchParams(given.map(([name, value]): [string, string] => [name, String(value)])).toString();
  return search ? `${BASE}${path}?${search}` : BASE + path;
}

const SILENT = 'The broker does not answer. It may be stopped or restarting.';

async function problem(response: Response): Promise<ApiError> {
  // So says a proxy before it.
  if ([502, 504].includes(response.status)) return new ApiError(response.status, 'UNREACHABLE', SILENT);
  const text = await response.text();
  try {
    const { code, message, errors } = JSON.parse(text) as { code?: string; message?: string; errors?: string[] };
    return new ApiError(response.status, code ?? '', message ?? text, errors);
  } catch {
    return new ApiError(response.status, '', text || `${response.status} ${response.statusText}`);
  }
}

export async function send(method: string, path: string, options: Options = {}): Promise<Response> {
  const headers: { [name: string]: string } = { accept: 'application/json', ...options.headers };
  const token = session.value?.token;
  if (token) headers.authorization = `Bearer ${token}`;
  let body: string | FormData | undefined;
  if (options.form !== undefined) {
    // What it is called, with the boundary, the browser knows.
    body = options.form;
  } else if (options.text !== undefined) {
    headers['content-type'] = 'text/plain';
    body = options.text;
  } else if (options.body !== undefined) {
    headers['content-type'] = 'application/json';
    body = JSON.stringify(options.body);
  }
  let response: Response;
  try {
    // Without credentials, so that a refusal never opens the browser's own question for a password.
    response = await fetch(address(path, options.query), { method, headers, body, signal: options.signal, credentials: 'omit', cache: 'no-store' });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError(0, 'UNREACHABLE', SILENT);
  }
  if (response.status === 401 && token) end('Your session has ended. Log in again to go on.');
  if (!response.ok) throw await problem(response);
  return response;
}

export async function call<T>(method: string, path: string, options: Options = {}): Promise<T> {
  const response = await send(method, path, options);
  const text = await response.text();
  return (text ? JSON.parse(text) : undefined) as T;
}
