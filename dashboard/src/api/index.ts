// Every endpoint that the dashboard uses, in one place.
import { ApiError, call, part, send, type Query } from './http';
import type * as T from './types';

export { ApiError } from './http';
export type * from './types';

type S = AbortSignal | undefined;
const get = <R>(path: string, signal: S, query?: Query): Promise<R> => call<R>('GET', path, { query, signal });
const post = <R>(path: string, body?: unknown): Promise<R> => call<R>('POST', path, { body });
const remove = (path: string): Promise<void> => call<void>('DELETE', path);
/** Some answers are a list of the API's form, some a plain array. */
const plain = async <R>(answer: Promise<T.List<R> | R[]>): Promise<R[]> => {
  const found = await answer;
  return Array.isArray(found) ? found : found.data;
};

const USERS = '/authentication/password_based:built_in_database/users';
const PERMISSIONS = '/authorization/sources/built_in_database/rules';

export const login = (username: string, password: string) => post<T.Token>('/login', { username, password });
export const node = async (s?: S) => (await get<T.Node[]>('/nodes', s))[0];
export const stats = async (s?: S) => (await get<T.Counts[]>('/stats', s))[0];
export const metrics = async (s?: S) => (await get<T.Counts[]>('/metrics', s))[0];
export const monitor = (latest: number, s?: S) => get<T.MonitorPoint[]>('/monitor', s, { latest });
export const monitorNow = (s?: S) => get<T.MonitorNow>('/monitor_current', s);

export const clients = (query: Query, s?: S) => get<T.List<T.Client>>('/clients', s, query);
export const client = (id: string, s?: S) => get<T.Client>(`/clients/${part(id)}`, s);
export const clientSubscriptions = (id: string, s?: S) => get<T.Subscription[]>(`/clients/${part(id)}/subscriptions`, s);
export const clientQueue = (id: string, kind: 'mqueue' | 'inflight', s?: S) => plain(get<T.List<T.Waiting>>(`/clients/${part(id)}/${kind}_messages`, s, { limit: 50 }));
export const kick = (id: string) => remove(`/clients/${part(id)}`);

export const subscriptions = (query: Query, s?: S) => get<T.List<T.Subscription>>('/subscriptions', s, query);
export const topics = (query: Query, s?: S) => get<T.List<T.Topic>>('/topics', s, query);
export const retained = (query: Query, s?: S) => get<T.List<T.Retained>>('/mqtt/retainer/messages', s, query);
export const retainedOne = (topic: string, s?: S) => get<T.Retained>(`/mqtt/retainer/message/${part(topic)}`, s);
export const removeRetained = (topic: string) => remove(`/mqtt/retainer/message/${part(topic)}`);
export const delayed = (query: Query, s?: S) => get<T.List<T.Delayed>>('/mqtt/delayed/messages', s, query);
export const removeDelayed = (id: string) => remove(`/mqtt/delayed/messages/${part(id)}`);

export const rules = (s?: S) => get<T.List<T.Rule>>('/rules', s, { limit: 1000 });
export const rule = (id: string, s?: S) => get<T.Rule>(`/rules/${part(id)}`, s);
export const ruleMetrics = (id: string, s?: S) => get<T.RuleDetail>(`/rules/${part(id)}/metrics`, s);
export const ruleEvents = (s?: S) => get<T.RuleEvent[]>('/rule_events', s);
export const testRule = (sql: string, context: T.Row) => post<T.Json>('/rule_test', { sql, context });
export const backtest = (sql: string, from: string, limit: number, s?: S) => call<T.Backtest>('POST', '/rule_backtest', { body: { sql, from, limit }, signal: s });
export const drops = (which: T.DropQuery, s?: S) => get<T.Drops>('/drops', s, which);
export const createRule = (rule: T.Row) => post<T.Changed>('/rules', rule);
export const updateRule = (id: string, rule: T.Row) => call<T.Changed>('PUT', `/rules/${part(id)}`, { body: rule });
export const removeRule = (id: string) => remove(`/rules/${part(id)}`);

export const actions = (s?: S) => plain(get<T.Action[]>('/actions', s));
export const action = (name: string, s?: S) => get<T.Action>(`/actions/${part(name)}`, s);
export const pause = (name: string) => post<T.Action>(`/actions/${part(name)}/pause`);
export const resume = (name: string) => post<T.Action>(`/actions/${part(name)}/resume`);
const letter = (name: string, sequence: number) => `/actions/${part(name)}/dead_letters/${sequence}`;
export const letters = (name: string, from: number, limit: number, s?: S) => get<T.List<T.Letter>>(`/actions/${part(name)}/dead_letters`, s, { from, limit });
export const editLetter = (name: string, sequence: number, patch: T.Row) => call<T.Letter>('PATCH', letter(name, sequence), { body: patch });
export const replayLetter = (name: string, sequence: number) => post<T.Replayed>(`${letter(name, sequence)}/replay`);
export const removeLetter = (name: string, sequence: number) => remove(letter(name, sequence));
export const replayLetters = (name: string) => post<T.Replayed>(`/actions/${part(name)}/dead_letters/replay`);
export const removeLetters = (name: string) => remove(`/actions/${part(name)}/dead_letters`);

export const connectors = (s?: S) => plain(get<T.Connector[]>('/connectors', s));
export const sources = (s?: S) => plain(get<T.Source[]>('/sources', s));
export const store = (s?: S) => get<T.StoreStats>('/store', s);
export const storeQueues = (limit: number, s?: S) => plain(get<T.StoreQueue[]>('/store/queues', s, { limit }));

export const alarms = (activated: boolean, s?: S) => plain(get<T.List<T.Alarm>>('/alarms', s, { activated }));
export const bans = (query: Query, s?: S) => get<T.List<T.Ban>>('/banned', s, query);
export const ban = (entry: T.Ban) => post<T.Ban>('/banned', entry);
export const unban = (entry: T.Ban) => remove(`/banned/${part(entry.as)}/${part(entry.who)}`);
export const listeners = (s?: S) => plain(get<T.Listener[]>('/listeners', s));
export const traces = (s?: S) => plain(get<T.List<T.Trace> | T.Trace[]>('/trace', s));
export const startTrace = (trace: T.NewTrace) => post<T.Trace>('/trace', trace);
export const stopTrace = (name: string) => call<T.Json>('PUT', `/trace/${part(name)}/stop`);
export const removeTrace = (name: string) => remove(`/trace/${part(name)}`);
export const traceLog = (name: string, position: number, bytes: number, s?: S) => get<T.TraceLog>(`/trace/${part(name)}/log`, s, { position, bytes });
export const traceFile = async (name: string) => (await send('GET', `/trace/${part(name)}/download`)).blob();
export const slow = (s?: S) => plain(get<T.List<T.Slow> | T.Slow[]>('/slow_subscriptions', s));
export const forgetSlow = () => remove('/slow_subscriptions');

export const backends = (s?: S) => get<{ [name: string]: T.Backend }>('/access', s);
export const forgetPermissions = () => remove('/authorization/cache');
export const users = (s?: S) => plain(get<T.User[]>(USERS, s));
export const setUser = (user_id: string, password: string, is_superuser: boolean) => post<T.User>(USERS, { user_id, password, is_superuser });
export const removeUser = (id: string) => remove(`${USERS}/${part(id)}`);
const subject = (kind: string, name: string) => (kind === 'all' ? `${PERMISSIONS}/all` : `${PERMISSIONS}/${kind}/${part(name)}`);
export const permissions = (kind: string, name: string, s?: S) => get<T.Json>(subject(kind, name), s);
export const setPermissions = (kind: string, name: string, rules: T.Json) => call<T.Json>('PUT', subject(kind, name), { body: rules });
export const removePermissions = (kind: string, name: string) => remove(subject(kind, name));
export const people = (s?: S) => plain(get<T.Person[]>('/users', s));
export const setPerson = (username: string, password: string, role: T.Role) => post<T.Person>('/users', { username, password, role });
export const removePerson = (name: string) => remove(`/users/${part(name)}`);

export const config = (s?: S) => get<T.ConfigFile>('/configs', s);
export const putConfig = (content: string, version: number) => call<T.Changed>('PUT', '/configs', { text: content, headers: { 'if-match': String(version) } });
export const configHistory = (s?: S) => plain(get<T.List<T.ConfigVersion> | T.ConfigVersion[]>('/configs/history', s));
export const configDiff = async (from: number, to: number, signal?: S) => (await send('GET', '/configs/diff', { query: { from, to }, signal, headers: { accept: 'text/plain' } })).text();
export const rollback = (version: number) => post<T.Changed>('/configs/rollback', { version });
export const reload = () => post<T.Json>('/configs/reload');
export const exports = (s?: S) => plain(get<T.List<T.ExportFile> | T.ExportFile[]>('/data/files', s));
export const makeExport = () => post<T.ExportFile>('/data/export');
export const exportFile = async (name: string) => (await send('GET', `/data/files/${part(name)}`)).blob();
export const removeExport = (name: string) => remove(`/data/files/${part(name)}`);
export const bringExport = (file: File) => {
  const form = new FormData();
  form.append('filename', file, file.name);
  return call<T.Json>('POST', '/data/files', { form });
};
export const importExport = (filename: string) => post<T.Imported>('/data/import', { filename });
export const audit = (query: Query, s?: S) => get<T.List<T.AuditEntry>>('/audit', s, query);

/** What this version of the broker does not have, told apart from what is not there. */
export const isMissing = (error: unknown): boolean => error instanceof ApiError && error.status === 404 && error.message.includes('no such resource');
