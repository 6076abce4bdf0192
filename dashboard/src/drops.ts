// Why messages are dropped: each counter with what it means, what to do, and whom to look at.

export type Group = 'message' | 'delivery' | 'publisher' | 'connection';

export interface Reason {
  /** The name of the counter in GET /metrics. */
  counter: string;
  group: Group;
  title: string;
  short: string;
  means: string;
  todo: readonly string[];
  /** `usual` happens in a healthy system, `care` wants a look, `grave` wants one now. */
  kind: 'usual' | 'care' | 'grave';
  /** The reason in the events message.dropped and delivery.dropped. */
  event?: string;
  /** Whose queues are to be looked at. */
  who?: 'queues' | 'sinks';
}

export const GROUPS: readonly (readonly [Group, string, string])[] = [
  ['delivery', 'Deliveries', 'taken, but one of its subscribers does not get it'],
  ['message', 'Messages', 'it goes to nobody'],
  ['publisher', 'Publishers refused', 'they were told, and can send it again'],
  ['connection', 'Connections turned away', 'nothing was lost, but they are not in'],
];

const delivery = (name: string, rest: Omit<Reason, 'counter' | 'group' | 'event'>): Reason => ({ counter: `delivery.dropped.${name}`, group: 'delivery', event: name, ...rest });
const message = (name: string, rest: Omit<Reason, 'counter' | 'group' | 'event'>): Reason => ({ counter: `messages.dropped.${name}`, group: 'message', event: name, ...rest });
const turned = (name: string, title: string, means: string, todo: string): Reason => ({
  counter: `client.turned_away.${name}`,
  group: 'connection',
  title,
  short: means,
  means,
  todo: [todo],
  kind: 'usual',
});

export const REASONS: readonly Reason[] = [
  delivery('queue_full', {
    title: 'Queue full',
    short: 'Clients acknowledge more slowly than messages come for them.',
    means: 'The client has its whole window in flight and does not acknowledge, and the queue of its session is at its limit: the oldest message goes. Or the queue of a durable session or an action is at its limit: then the publisher was refused, and knows.',
    todo: [
      'Look at the clients below: a full window (in flight) means that the client is stuck or too slow.',
      'Is one stuck, end its connection: it comes back and starts anew.',
      'Are all of them slow, raise mqtt.mqueue_max or mqtt.inflight_max, or share the load with $share/GROUP/FILTER.',
      'What must never be lost belongs in a durable session (session expiry above 0): then the publisher is refused, and nothing is dropped.',
    ],
    kind: 'care',
    who: 'queues',
  }),
  delivery('qos0_msg', {
    title: 'QoS 0 not kept',
    short: 'The receiver is away or does not read, and QoS 0 is not kept for it.',
    means: 'A message of QoS 0 was for a session that is away, or for a client that does not read its socket. QoS 0 promises nothing, so it goes.',
    todo: ['Publish or subscribe with QoS 1 where it matters.', 'mqtt.mqueue_store_qos0 = true keeps QoS 0 for durable sessions that are away.', 'A client that does not read has a large output buffer: mqtt.output_bytes_max bounds it.'],
    kind: 'care',
    who: 'queues',
  }),
  delivery('expired', {
    title: 'Expired',
    short: 'The message’s own expiry ran out before it could be delivered.',
    means: 'The publisher gave the message a Message-Expiry-Interval, and it passed while the message waited for its receiver.',
    todo: ['Usual for telemetry with an expiry. Otherwise: let the publisher give a longer one, or look at why the receiver was away.'],
    kind: 'usual',
    who: 'queues',
  }),
  delivery('too_large', {
    title: 'Too large for the client',
    short: 'The client said at CONNECT that it takes no packets of this size.',
    means: 'The receiver’s Maximum-Packet-Size is smaller than the message with its topic and properties.',
    todo: ['Raise Maximum-Packet-Size in the client, or publish smaller messages.'],
    kind: 'care',
  }),
  delivery('no_local', {
    title: 'No local',
    short: 'The subscription asked not to get the client’s own messages.',
    means: 'The subscriber has set the option No Local and was the publisher itself. That is what it asked for.',
    todo: ['Nothing: this is as it should be.'],
    kind: 'usual',
  }),
  message('no_subscribers', {
    title: 'No subscribers',
    short: 'Nobody subscribes to the topic, and no rule takes it.',
    means: 'No subscription matches the topic. MQTT 5 publishers of QoS 1 and 2 are told by reason code 16. A message that a rule’s action has taken is kept there all the same.',
    todo: ['Compare the topic below with what is subscribed: a wrong level or a missing slash is the usual cause.', 'Does nobody need it, let the device not send it.'],
    kind: 'usual',
  }),
  message('refused', {
    title: 'Refused by a hook',
    short: 'A validation, transformation or permission said no.',
    means: 'A validation or transformation failed, or the client may not publish there. The publisher got a reason code, or was disconnected where its version has none.',
    todo: ['Look at the validations of the topic, and at who may publish there (Permissions).', 'Failures of validations are events: "$events/schema_validation/failed".'],
    kind: 'care',
  }),
  message('hop_limit', {
    title: 'Loop of rules',
    short: 'Rules feed each other: a message was republished too often.',
    means: 'A message that a rule has republished matched a rule again, mqtt.republish_hops_max times in a row.',
    todo: ['Look at the flow of rules: the topic that a rule republishes to must not match its own FROM.'],
    kind: 'care',
  }),
  message('store_failed', {
    title: 'Store failed',
    short: 'The disk did not take it. Publishers are not acknowledged.',
    means: 'A write to the store failed. Nothing was acknowledged, so publishers of QoS 1 and 2 still have their messages.',
    todo: ['Look at the alarms and at the disk: is it full, or read-only?', 'The log says what failed. The broker opens the store again by itself.'],
    kind: 'grave',
  }),
  message('overload', {
    title: 'Overload',
    short: 'The broker is at its memory limit and drops QoS 0.',
    means: 'Memory is above node.memory_high_bytes. QoS 0 is dropped and new connections are refused until it falls by 5 %.',
    todo: ['Find what holds the memory: many full queues (Clients), or too many connections.', 'Raise node.memory_high_bytes where the machine has more.'],
    kind: 'grave',
    who: 'queues',
  }),
  {
    counter: 'packets.publish.refused',
    group: 'publisher',
    title: 'Promise could not be kept',
    short: 'A durable queue is full, or the store takes nothing: the publisher was refused.',
    means: 'The queue of a durable session or of an action is at its limit (queue.records_max, mqtt.durable_queue_max), or the disk is full. Rather than acknowledge falsely, the broker refuses.',
    todo: ['Look at the sinks below: one that does not deliver fills its queue.', 'Look at durable sessions that are away for long: their queues fill.', 'Raise the limit, or let the action drop the oldest: queue.when_full.'],
    kind: 'grave',
    who: 'sinks',
  },
  {
    counter: 'packets.publish.auth_error',
    group: 'publisher',
    title: 'Not permitted',
    short: 'The client may not publish to the topic.',
    means: 'A permission denies the topic to the client, or none allows it and authorization.no_match is deny.',
    todo: ['Look at the permissions of the client and its user.'],
    kind: 'care',
  },
  {
    counter: 'messages.retained.refused',
    group: 'publisher',
    title: 'Retained message refused',
    short: 'Retained messages are at their limit.',
    means: 'mqtt.retained_max, retained_bytes_max or retained_payload_bytes_max is reached.',
    todo: ['Remove retained messages that nobody needs, let them expire (mqtt.retained_expiry_secs), or raise the limit.'],
    kind: 'care',
  },
  turned('connect_refused', 'Login refused', 'CONNECT was answered with a refusal: wrong password, unknown user, bad client identifier.', 'Look at Authentication: which backend says no, and whether one fails.'),
  turned('banned', 'Banned', 'A ban holds for the client, user or address.', 'Look at Bans.'),
  turned('too_many_connections', 'Too many connections', 'A listener is at connections_max.', 'Raise connections_max, or look at who connects.'),
  turned('too_many_half_open', 'Too many half-open connections', 'More connections at a time than half_open_max have not sent their CONNECT yet.', 'A storm of reconnects passes by itself; otherwise somebody probes the port.'),
  turned('too_many_half_open_of_address', 'Too many half-open of one address', 'One address has more than half_open_per_address_max connections without a CONNECT.', 'Devices behind one gateway may need a higher limit.'),
  turned('address_forbidden', 'Address forbidden', 'The access rules of the listener deny the address.', 'Look at the listener’s access.'),
  turned('memory', 'Memory', 'Memory is above node.memory_high_bytes: nobody new comes in.', 'Look at the alarms.'),
  turned('tls', 'TLS failed', 'The TLS handshake failed: certificate, version, or no TLS at all.', 'Look at the client’s certificate and at what it trusts.'),
  turned('websocket', 'WebSocket failed', 'The WebSocket handshake failed: path, origin or subprotocol.', 'Look at the listener’s websocket.path and origins.'),
  turned('proxy_protocol', 'PROXY protocol', 'No PROXY header came, or from an address that may not send one.', 'Look at the balancer and at proxy_protocol_from.'),
  turned('connect_timeout', 'No CONNECT in time', 'The client did not send a whole CONNECT within mqtt.idle_timeout_secs.', 'Usual for port scans and health checks of balancers.'),
  turned('no_connect', 'No MQTT', 'What came was no CONNECT.', 'Usual for port scans.'),
];

/** One that a newer broker counts, and that is not described here. */
function unknown(counter: string): Reason {
  const title = (counter.split('.').at(-1) ?? counter).replace(/_/g, ' ');
  const group = counter.startsWith('client') ? 'connection' : counter.startsWith('delivery') ? 'delivery' : 'message';
  const means = 'This dashboard does not know the reason; the documentation of the broker does.';
  return { counter, group, title, short: means, means, todo: ['Look for the counter in docs/broker.md.'], kind: 'care', event: counter.split('.').at(-1) };
}

const COUNTED = /^(messages\.dropped|delivery\.dropped|client\.turned_away)\./;

/** The reasons of all that the broker counts. */
export function reasonsOf(metrics: { [counter: string]: unknown }): readonly Reason[] {
  const more = Object.keys(metrics).filter((counter) => COUNTED.test(counter) && !REASONS.some((reason) => reason.counter === counter));
  return [...REASONS, ...more.map(unknown)];
}

export function reasonOf(counter: string): Reason | undefined {
  return REASONS.find((reason) => reason.counter === counter) ?? (COUNTED.test(counter) ? unknown(counter) : undefined);
}
