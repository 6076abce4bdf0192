// Live traffic for the dashboard's test, and for looking at it while developing:
//   HOOKLINE_WS=ws://127.0.0.1:8083/mqtt node tests/traffic.mjs
import mqtt from 'mqtt';

/** Connects, with a name; resolves when the broker has let it in. */
export async function client(url, clientId, options = {}) {
  return mqtt.connectAsync(url, { clientId, protocolVersion: 5, reconnectPeriod: 0, ...options });
}

/** A plant: gauges that publish readings, a board that subscribes to them, and a panel that has stopped to acknowledge. */
export async function plant(url, gauges = 6) {
  const open = [];
  const join = async (...args) => {
    const joined = await client(url, ...args);
    joined.on('error', () => {});
    open.push(joined);
    return joined;
  };
  const board = await join('board-1');
  await board.subscribeAsync({ 'plant/+/reading': { qos: 1 }, 'converted/#': { qos: 0 }, '$share/boards/plant/+/state': { qos: 1 } });
  const panel = await join('panel-stuck', { keepalive: 0 });
  await panel.subscribeAsync('plant/#', { qos: 1 });
  // What is never called back is never acknowledged: the window fills, then the queue, then messages are dropped.
  panel.handleMessage = () => {};
  // One that takes its time.
  const slow = await join('printer-slow', { keepalive: 0, properties: { receiveMaximum: 2 } });
  await slow.subscribeAsync('plant/gauge-2/reading', { qos: 1 });
  slow.handleMessage = (_packet, done) => setTimeout(done, 400);
  const away = await client(url, 'archive-7', { clean: false, properties: { sessionExpiryInterval: 3600 } });
  await away.subscribeAsync('plant/+/reading', { qos: 1 });
  await away.endAsync();
  const devices = [];
  for (let i = 1; i <= gauges; i += 1) devices.push(await join(`gauge-${i}`));
  const [first] = devices;
  await first.publishAsync('plant/gauge-1/info', JSON.stringify({ model: 'G-20', since: 2024 }), { qos: 1, retain: true });
  await first.publishAsync('plant/gauge-2/info', 'second hall', { qos: 1, retain: true });
  await first.publishAsync('$delayed/600/plant/gauge-1/service', 'due', { qos: 1 });
  // One reading that no table takes, and one that an alarm is about.
  await first.publishAsync('plant/gauge-1/reading', JSON.stringify({ celsius: 140 }), { qos: 1 });
  await first.publishAsync('plant/gauge-1/reading', JSON.stringify({ celsius: 95.5 }), { qos: 1 });
  // A payload that no rule can read.
  await first.publishAsync('plant/gauge-1/reading', 'no JSON', { qos: 1 });
  let turn = 0;
  const timer = setInterval(() => {
    turn += 1;
    devices.forEach((device, i) => {
      if (!device.connected) return;
      const celsius = Math.round((20 + 8 * Math.sin(turn / 20 + i) + Math.random()) * 10) / 10;
      device.publish(`plant/gauge-${i + 1}/reading`, JSON.stringify({ celsius }), { qos: 1 });
      if (turn % 5 === 0) device.publish(`lost/gauge-${i + 1}`, 'nobody reads this', { qos: 0 });
    });
  }, 100);
  return {
    devices,
    board,
    panel,
    end: async () => {
      clearInterval(timer);
      await Promise.all(open.map((one) => one.endAsync(true).catch(() => {})));
    },
  };
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const url = process.env.HOOKLINE_WS ?? 'ws://127.0.0.1:8083/mqtt';
  await plant(url, Number(process.env.GAUGES ?? 6));
  console.log(`traffic to ${url}; Ctrl-C ends it`);
}
