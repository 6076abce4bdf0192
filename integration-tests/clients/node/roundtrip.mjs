// Publishes and receives with mqtt.js at every QoS: roundtrip.mjs URL VERSION CA_FILE.
import { readFileSync } from 'node:fs';
import mqtt from 'mqtt';

const [url, version, caFile] = process.argv.slice(2);
const scheme = new URL(url).protocol.replace(':', '');
const address = scheme.startsWith('ws') ? `${url}/mqtt` : url;
const client = await mqtt.connectAsync(address, {
  clientId: `node-${scheme}-${version}`,
  protocolVersion: Number(version),
  ca: readFileSync(caFile),
  reconnectPeriod: 0,
  connectTimeout: 10000,
});
const got = [];
const all = new Promise((resolve) => client.on('message', (topic, payload, packet) => {
  got.push([topic, payload.toString(), packet.qos]);
  if (got.length === 3) resolve();
}));
const topic = `node/${scheme}/${version}`;
await client.subscribeAsync(`${topic}/#`, { qos: 2 });
for (const qos of [0, 1, 2]) await client.publishAsync(`${topic}/${qos}`, `payload ${qos}`.repeat(1000), { qos });
await Promise.race([all, new Promise((_, reject) => setTimeout(() => reject(new Error(`only ${got.length} of 3 came`)), 10000))]);
for (const qos of [0, 1, 2]) {
  const [name, payload, at] = got[qos];
  if (name !== `${topic}/${qos}` || payload !== `payload ${qos}`.repeat(1000) || at !== qos) throw new Error(`wrong: ${name} at ${at}`);
}
await client.endAsync();
process.exit(0);
