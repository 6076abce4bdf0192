// Many durable sessions, to see how the dashboard is with them:
//   HOOKLINE_TCP=127.0.0.1:1883 SESSIONS=100000 node tests/crowd.mjs
import { connect } from 'node:net';

const [host, port] = (process.env.HOOKLINE_TCP ?? '127.0.0.1:1883').split(':');
const sessions = Number(process.env.SESSIONS ?? 100_000);
const DISCONNECT = Buffer.from([0xe0, 0x00]);

/** CONNECT of MQTT 5 with an expiry of an hour. */
function hello(clientId) {
  const id = Buffer.from(clientId);
  const body = Buffer.concat([Buffer.from([0, 4]), Buffer.from('MQTT'), Buffer.from([5, 0, 0, 60, 5, 17, 0, 0, 14, 16, 0, id.length]), id]);
  return Buffer.concat([Buffer.from([0x10, body.length]), body]);
}

function session(clientId) {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), host, () => socket.write(hello(clientId)));
    socket.once('data', () => socket.end(DISCONNECT));
    socket.once('close', resolve);
    socket.once('error', reject);
  });
}

let next = 0;
const from = Date.now();
await Promise.all(
  Array.from({ length: 100 }, async () => {
    while (next < sessions) {
      next += 1;
      await session(`meter-${String(next).padStart(6, '0')}`);
    }
  }),
);
console.log(`${sessions} sessions in ${Math.round((Date.now() - from) / 1000)} s`);
