// A page in headless Chromium publishes and receives over WebSocket: browser.mjs URL (ws://…).
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { chromium } from 'playwright-core';

const [url] = process.argv.slice(2);
const library = join(dirname(createRequire(import.meta.url).resolve('mqtt/package.json')), 'dist', 'mqtt.min.js');
const page = `<!doctype html><title>MQTT in a page</title><pre id="log"></pre><script src="/mqtt.js"></script><script>
  const log = (text) => { document.getElementById('log').textContent += text + '\\n'; };
  const client = mqtt.connect('${url}/mqtt', { protocolVersion: 5, reconnectPeriod: 0 });
  client.on('connect', () => client.subscribe('page/#', { qos: 2 }, () => client.publish('page/hello', 'from a page', { qos: 2 })));
  client.on('message', (topic, payload) => { log(topic + ' ' + payload); document.title = 'received'; });
  client.on('error', (error) => log('error ' + error));
</script>`;
const server = createServer((request, response) => {
  const script = request.url === '/mqtt.js';
  response.writeHead(200, { 'content-type': script ? 'text/javascript' : 'text/html' });
  response.end(script ? readFileSync(library) : page);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const browser = await chromium.launch({ executablePath: process.env.HOOKLINE_TEST_CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
try {
  const tab = await browser.newPage();
  await tab.goto(`http://127.0.0.1:${server.address().port}/`);
  await tab.waitForFunction(() => document.title === 'received', null, { timeout: 15000 }).catch(async (error) => {
    throw new Error(`${error.message}; the page says: ${await tab.textContent('#log')}`);
  });
  const text = await tab.textContent('#log');
  if (text !== 'page/hello from a page\n') throw new Error(`the page says: ${text}`);
} finally {
  await browser.close();
  server.close();
}
