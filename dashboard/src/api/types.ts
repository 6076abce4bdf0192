// The shapes of the API's answers.

export type Role = 'viewer' | 'operator' | 'administrator';
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Row = { [key: string]: Json };

export interface Meta {
  page?: number;
  limit: number;
  count?: number;
  hasnext: boolean;
}
export interface List<T> {
  data: T[];
  meta: Meta;
}

export interface Token {
  token: string;
  version: string;
  role: Role;
}
export interface Node {
  node: string;
  node_status: string;
  version: string;
  /** Milliseconds. */
  uptime: number;
  connections: number;
  live_connections: number;
  sessions: number;
}
/** `NAME.count` and `NAME.max`, or counters; and the node's name. */
export type Counts = { node: string } & { [name: string]: number | string };

export interface MonitorPoint {
  time_stamp: number;
  connections: number;
  received_msg_rate: number;
  sent_msg_rate: number;
  dropped_msg_rate: number;
  commit_latency_us?: number | null;
}
export interface MonitorNow {
  commit_latency_us?: number | null;
  memory_bytes?: number | null;
  cpu_seconds?: number | null;
}

export interface Client {
  clientid: string;
  username: string | null;
  node: string;
  connected: boolean;
  ip_address: string | null;
  port: number | null;
  listener: string;
  zone: string;
  mountpoint: string;
  proto_name: string;
  proto_ver: number;
  keepalive: number;
  clean_start: boolean;
  expiry_interval: number;
  durable: boolean;
  is_bridge: boolean;
  created_at: string;
  connected_at: string | null;
  disconnected_at: string | null;
  subscriptions_cnt: number;
  subscriptions_max: number;
  mqueue_len: number;
  mqueue_max: number;
  inflight_cnt: number;
  inflight_max: number;
  awaiting_rel_cnt: number;
  client_attrs: Row;
}
export interface Subscription {
  clientid: string;
  node: string;
  topic: string;
  qos: number;
  nl: number;
  rap: number;
  rh: number;
}
export interface Topic {
  topic: string;
  node: string;
}
export interface Waiting {
  msgid?: string;
  topic: string;
  qos: number;
  payload: string;
  publish_at: string | number | null;
  mqueue_insert_at?: string | number | null;
}
export interface Retained {
  msgid?: string;
  topic: string;
  qos: number;
  publish_at: string | null;
  from_clientid: string | null;
  from_username: string | null;
  payload?: string;
}
export interface Delayed {
  msgid: string;
  topic: string;
  qos: number;
  delayed_interval: number;
  delayed_remaining: number;
  expected_at: string;
  publish_at: string;
  from_clientid: string | null;
  payload?: string;
}

export interface RuleMetrics {
  matched: number;
  passed: number;
  failed: number;
  'failed.exception': number;
  'failed.no_result': number;
  'actions.total': number;
  'actions.success': number;
  'actions.failed': number;
}
export type RuleAction = string | { action?: string; function?: string; topic?: string; when?: string | null; [key: string]: Json | undefined };
export interface Rule {
  id: string;
  name: string;
  enable: boolean;
  description: string;
  sql: string;
  from: string[];
  actions: RuleAction[];
  metrics: RuleMetrics;
}
export interface RuleDetail {
  id: string;
  metrics: RuleMetrics;
  window: { [key: string]: number } | null;
  last_errors: { at: string; error: string; event: Row | null }[];
}
export interface RuleEvent {
  event: string;
  from: string[];
  columns: string[];
  sample: Row;
}
export type DropEvent = 'message.dropped' | 'delivery.dropped';

export type DropQuery = { event?: DropEvent; reason?: string | undefined; about?: string; from?: string; limit?: number };

export interface Drops {
  data: { at: string; event: DropEvent; reason: string; topic: string; qos: number | null; from_clientid: string; to_clientid: string | null }[];
  clients: { clientid: string; dropped: number }[];
  found: number;
  looked: number;
  complete: boolean;
}

export interface Backtest {
  rows: { at: string; row: Row }[];
  summary: {
    looked: number;
    selected: number;
    matched: number;
    rows: number;
    failed: number;
    failures: { at: string; problem: string; event: Row | null }[];
    first: string | null;
    last: string | null;
    complete: boolean;
  };
}

export interface Ledger {
  accepted: number;
  delivered: number;
  dead_lettered: number;
  dropped: number;
  expired: number;
  pending: number;
  pending_bytes: number;
}
export type ActionStatus = 'connecting' | 'connected' | 'retrying' | 'disconnected' | 'paused';
export interface Action {
  name: string;
  type: string;
  connector: string;
  status: ActionStatus;
  status_reason: string | null;
  attempts: number;
  rules: string[];
  ledger: Ledger;
  balances: boolean;
  dead_letters: number;
  oldest_secs: number | null;
  activity: { attempts: number; attempts_failed: number; records_failed: number; busy_us: number; longest_us: number };
}
export interface Letter {
  sequence: number;
  at: string;
  error: string;
  row: Row | null;
}
export interface Replayed {
  replayed: number;
  kept: number;
  problem: string | null;
}
export interface Connector {
  name: string;
  type: string;
  status?: string;
  actions: string[];
  sources: string[];
  [key: string]: Json | undefined;
}
export interface Source {
  name: string;
  type: string;
  connector: string;
  status: string;
  status_reason: string | null;
  taken: { received: number; published: number; rejected: number };
}
export interface StoreQueue extends Ledger {
  kind: 'session' | 'action';
  name: string;
  balances: boolean;
  dead_letters: number;
  oldest_secs: number | null;
}
export interface StoreStats {
  node: string;
  folder: string;
  level: string;
  is_full: boolean;
  disk_bytes: number;
  memory_bytes: number;
  sessions: number;
  retained: number;
  retained_bytes: number;
  delayed: number;
  dead_letters: number;
  queue_count: number;
  pending: number;
  pending_bytes: number;
  unbalanced: number;
}

export interface Alarm {
  name: string;
  message: string;
  details: Row | null;
  /** Microseconds since 1970. */
  activate_at: number | string;
  deactivate_at: number | string;
  activated: boolean;
}
export interface Ban {
  as: 'clientid' | 'username' | 'peerhost' | 'peerhost_net';
  who: string;
  by?: string | null;
  reason?: string | null;
  at?: string | number | null;
  until?: string | number | null;
}
export interface ExportFile {
  filename: string;
  created_at: string;
  size: number;
}

export interface Imported {
  filename: string;
  node: string;
  version: string;
  created_at: string;
  imported: { [part: string]: number };
  skipped: { part: string; what: string; reason: string }[];
  skipped_count: number;
  configuration?: Changed;
}

export interface NewTrace {
  name: string;
  type: 'clientid' | 'topic' | 'ip_address';
  clientid?: string;
  topic?: string;
  ip_address?: string;
  end_at?: string;
  payload_encode?: 'text' | 'hex' | 'hidden';
}
export interface Trace extends NewTrace {
  start_at: string;
  end_at: string;
  status: 'waiting' | 'running' | 'stopped';
  log_size: { [node: string]: number };
  dropped: number;
}
export interface TraceLog {
  items: string;
}
export interface Listener {
  id: string;
  type: string;
  bind: string;
  running: boolean;
  current_connections: number;
  max_connections: number | string | null;
  zone: string;
}
export interface Slow {
  clientid: string;
  node: string;
  topic: string;
  timespan: number;
  last_update_time: string | number;
}
export interface User {
  user_id: string;
  is_superuser: boolean;
}
export interface Person {
  username: string;
  role: Role;
}
export type Backend = { [key: string]: Json };
export interface Permission {
  permission: 'allow' | 'deny';
  action?: string;
  topic?: string;
  topics?: string[];
  [key: string]: Json | undefined;
}
export interface ConfigFile {
  content: string;
  version: number;
  changed_at?: string | null;
  changed_by?: string | null;
}
/** What a change of the configuration has changed in the broker that runs. */
export interface Changed {
  version: number;
  applied?: { failed: string[]; restart: string[] };
}
export interface ConfigVersion {
  version: number;
  changed_at: string | null;
  changed_by: string | null;
  summary: string | null;
  content?: string;
}
export interface AuditEntry {
  seq: number;
  created_at: string;
  operator: string | null;
  role: string | null;
  source: string;
  source_ip: string | null;
  method: string;
  path: string;
  status: number;
  before?: Json;
  after?: Json;
  duration_ms: number;
}
