// Walks through every page of the dashboard in a real Chromium, on a broker with live traffic.
//
//   HOOKLINE_DASHBOARD=http://127.0.0.1:18083/ HOOKLINE_USER=keeper HOOKLINE_PASSWORD='keeps everything' \
//   HOOKLINE_WS=ws://127.0.0.1:8083/mqtt node tests/walk.mjs
//
// The broker has the configuration tests/broker.toml, a new data folder, and addresses of its own. It expects of it: the key keeper (administrator), a
// WebSocket listener, small queues, the recorder, users and permissions in the store, and the rules, actions and connectors by their names.
// HOOKLINE_SHOTS=FOLDER keeps a picture of every page, light and dark. HOOKLINE_CHROMIUM names another browser than /usr/bin/chromium.
// HOOKLINE_ALARM names an alarm that is active, HOOKLINE_SOURCE a source that has taken something in: then they are looked for.
// Ends with 0 when everything holds; each check is a line.
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { chromium } from 'playwright-core';
import { client, plant } from './traffic.mjs';

const ADDRESS = process.env.HOOKLINE_DASHBOARD ?? 'http://127.0.0.1:18083/';
const WS = process.env.HOOKLINE_WS ?? 'ws://127.0.0.1:8083/mqtt';
const USER = process.env.HOOKLINE_USER ?? 'keeper';
const PASSWORD = process.env.HOOKLINE_PASSWORD ?? 'keeps everything';
const SHOTS = process.env.HOOKLINE_SHOTS;
const { HOOKLINE_ALARM: ALARM, HOOKLINE_SOURCE: SOURCE } = process.env;
const BUNDLE_MAX = 400_000;
const FIRST_VIEW_MAX_MS = 1000;
const WAIT_MS = 15_000;
const CHECK_MAX_MS = 90_000;

let failures = 0;
/** What went wrong beside the checks: errors on the console, requests that failed or went elsewhere. */
const strays = [];
/** Answers that a check has asked for, such as that of a wrong statement. */
const expected = [];

async function check(what, work) {
  const from = Date.now();
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${CHECK_MAX_MS / 1000} s`)), CHECK_MAX_MS);
  });
  try {
    await Promise.race([work(), late]);
    console.log(`ok    ${what} (${Date.now() - from} ms)`);
  } catch (error) {
    failures += 1;
    console.log(`FAIL  ${what}: ${String(error.message ?? error).split('\n').slice(0, 6).join('\n      ')}`);
  } finally {
    clearTimeout(timer);
  }
}

function must(holds, problem) {
  if (!holds) throw new Error(problem);
}

async function until(what, holds, deadline = WAIT_MS) {
  const end = Date.now() + deadline;
  while (Date.now() < end) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`not within ${deadline} ms: ${what}`);
}

function bundleSize() {
  const folder = join(import.meta.dirname, '../dist');
  // The compressed forms that the build puts beside them are the same files.
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile() && !entry.name.endsWith('.gz'));
  const size = (entry) => {
    const bytes = readFileSync(join(entry.parentPath, entry.name));
    return entry.name.endsWith('.woff2') ? bytes.length : gzipSync(bytes, { level: 9 }).length;
  };
  return files.reduce((sum, entry) => sum + size(entry), 0);
}

function watch(page, name) {
  const own = new URL(ADDRESS).host;
  const broker = new URL(WS).host;
  page.on('pageerror', (error) => strays.push(`${name}: ${error.message}`));
  page.on('console', (entry) => {
    // Of an answer that is no success the browser writes a line of its own: the answer itself is judged below.
    if (['error', 'warning'].includes(entry.type()) && !entry.text().startsWith('Failed to load resource')) strays.push(`${name}: console: ${entry.text()}`);
  });
  page.on('request', (request) => {
    const { host, protocol } = new URL(request.url());
    if (protocol.startsWith('http') && host !== own) strays.push(`${name}: a request to ${host}`);
  });
  page.on('websocket', (socket) => {
    if (new URL(socket.url()).host !== broker) strays.push(`${name}: a WebSocket to ${socket.url()}`);
  });
  page.on('requestfailed', (request) => {
    // What a page asks for ends when the page is left.
    if (request.failure()?.errorText !== 'net::ERR_ABORTED') strays.push(`${name}: ${request.method()} ${request.url()} failed: ${request.failure()?.errorText}`);
  });
  page.on('response', (response) => {
    if (response.status() < 400) return;
    const told = `${response.status()} ${response.request().method()} ${new URL(response.url()).pathname}`;
    // A statement is tried while it is written, on an event that WHERE may not hold for.
    if (told === '412 POST /api/v5/rule_test') return;
    // Nobody has permissions in the store until they are given.
    if (told.startsWith('404 GET /api/v5/authorization/')) return;
    // Whom a message was dropped for may have gone since.
    if (told.startsWith('404 GET /api/v5/clients/')) return;
    const at = expected.findIndex((pattern) => pattern.test(told));
    if (at < 0) strays.push(`${name}: ${told}`);
  });
}

/** People of its own: a login by a key ends when the configuration changes. */
const PEOPLE = [
  { username: 'walking-admin', password: 'walks everywhere', role: 'administrator' },
  { username: 'walking-viewer', password: 'walks and looks', role: 'viewer' },
];
const [ADMIN, VIEWER] = PEOPLE;

async function api(method, path, body) {
  const authorization = `Basic ${Buffer.from(`${USER}:${PASSWORD}`).toString('base64')}`;
  const answer = await fetch(new URL(`api/v5${path}`, ADDRESS), { method, headers: { authorization, 'content-type': 'application/json' }, body: body && JSON.stringify(body) });
  must(answer.ok, `${method} ${path}: ${answer.status} ${await answer.text()}`);
}

async function login(page, { username, password } = ADMIN) {
  await page.fill('input[name=username]', username);
  await page.fill('input[name=password]', password);
  await page.click('button[type=submit]');
  await page.locator('.figures').first().waitFor({ timeout: WAIT_MS });
}

async function open(page, place) {
  await page.evaluate((next) => {
    location.hash = next;
  }, `#/${place}`);
}

const text = (page, wanted) => page.getByText(wanted).first().waitFor({ timeout: WAIT_MS });
const row = (page, table, wanted) => page.locator(`table[aria-label="${table}"] tbody tr`, { hasText: wanted }).first();
const confirm = (page) => page.locator('dialog[open] button.solid').click();

const PAGES = [
  ['overview', 'Overview'], ['drops', 'Drops'], ['alarms', 'Alarms'], ['slow', 'Slow subscribers'], ['traces', 'Traces'], ['clients', 'Clients'], ['clients/panel-stuck', 'panel-stuck'],
  ['subscriptions', 'Subscriptions'], ['topics', 'Topics'], ['retained', 'Retained and delayed'], ['websocket', 'WebSocket client'], ['rules', 'Rules'],
  ['rules/readings', 'readings'], ['flow', 'Flow'], ['actions', 'Actions'], ['actions/webhook', 'webhook'], ['connectors', 'Connectors'], ['users', 'Authentication'], ['permissions', 'Permissions'],
  ['bans', 'Bans'], ['node', 'Node and store'], ['settings', 'Settings'], ['settings?tab=exports', 'Settings'], ['audit', 'Audit log'], ['people', 'Dashboard users'],
];

/** Texts that are too faint for what is behind them (WCAG AA), and controls without a name. */
function faint() {
  const channels = (colour) => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = channels(getComputedStyle(at).backgroundColor);
      if (found[3] > 250) return found;
    }
    return [255, 255, 255];
  };
  const told = new Set();
  for (const element of document.querySelectorAll('#app *:not(svg *)')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest('[aria-disabled=true], .sr, .skip, .cm-editor, option')) continue;
    const style = getComputedStyle(element);
    const [a, b] = [luminance(channels(style.color)), luminance(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.5 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) told.add(`"${element.textContent.trim().slice(0, 30)}" has a contrast of ${ratio.toFixed(2)}`);
  }
  for (const control of document.querySelectorAll('button, input, select, textarea, a[href]')) {
    const name = control.getAttribute('aria-label') || control.textContent.trim() || control.labels?.[0]?.textContent.trim();
    if (!name) told.add(`a control without a name: ${control.outerHTML.slice(0, 80)}`);
  }
  return [...told];
}

async function everyPage(page, name) {
  for (const [place, title] of PAGES) {
    await open(page, place);
    await page.locator('h1', { hasText: title }).waitFor({ timeout: WAIT_MS });
    await until(`${place} has loaded`, async () => (await page.locator('.lines').count()) === 0);
    const failed = await page.locator('.state.failed').allTextContents();
    must(failed.length === 0, `${place}: ${failed.join()}`);
    must((await page.getByText('This broker does not offer that').count()) === 0, `${place}: the API does not have it`);
    const told = await page.evaluate(faint);
    must(told.length === 0, `${place}: ${told.slice(0, 4).join('; ')}`);
    if (SHOTS) {
      await page.waitForTimeout(600);
      await page.screenshot({ path: join(SHOTS, `${place.replace(/\W+/g, '-')}-${name}.png`) });
    }
  }
}

/** Puts another text into an editor. */
async function write(page, label, content) {
  const editor = page.locator(`.cm-content[aria-label="${label}"]`);
  await editor.click();
  await page.keyboard.press('Control+a');
  await page.keyboard.insertText(content);
}

async function walk(browser, traffic) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: 'light' });
  const page = await context.newPage();
  watch(page, 'light');
  page.setDefaultTimeout(WAIT_MS);

  await check('the first view comes within a second', async () => {
    const from = Date.now();
    await page.goto(ADDRESS);
    await page.locator('input[name=username]').waitFor();
    const login = Date.now() - from;
    must(login < FIRST_VIEW_MAX_MS, `the login took ${login} ms`);
  });
  await check('a wrong password is told', async () => {
    expected.push(/^401 POST \/api\/v5\/login$/);
    await page.fill('input[name=username]', ADMIN.username);
    await page.fill('input[name=password]', 'not this one');
    await page.click('button[type=submit]');
    await text(page, 'the name or the password is wrong');
    expected.length = 0;
  });
  await check('logs in', () => login(page));
  await check('the overview of a new visit comes within a second', async () => {
    const from = Date.now();
    await page.reload();
    await page.locator('.figures').first().waitFor();
    const took = Date.now() - from;
    must(took < FIRST_VIEW_MAX_MS, `it took ${took} ms`);
  });
  await check('the overview shows traffic, and what is not well', async () => {
    await until('messages come in', async () => Number.parseFloat((await page.locator('.figure', { hasText: 'Messages in' }).locator('.value').textContent()) ?? '0') > 5);
    await text(page, 'webhook does not deliver');
    await text(page, 'readings: 1 dead letter');
    await until('charts are drawn', async () => (await page.locator('.chart canvas').count()) >= 3);
    await page.locator('.bar', { hasText: 'connected' }).waitFor();
  });
  await check('two clicks from a drop to its cause', async () => {
    await page.locator('a.figure', { hasText: 'Dropped' }).click();
    await page.locator('section[aria-label="Who does not get messages"] table tbody tr', { hasText: 'panel-stuck' }).waitFor();
    await text(page, 'What to do');
    await page.locator('section[aria-label="Who does not get messages"] a', { hasText: 'panel-stuck' }).click();
    await text(page, 'This client does not acknowledge');
  });
  await check('a dropped message is found by its topic, with the reason', async () => {
    await open(page, 'drops?q=lost/gauge-1');
    await page.locator('td', { hasText: 'No subscribers' }).first().waitFor();
  });
  await check('a client is found by search, shown, and ended', async () => {
    const victim = await client(WS, 'walker-1');
    await victim.subscribeAsync('walker/only/#', { qos: 1 });
    const gone = new Promise((resolve) => victim.once('close', resolve));
    await open(page, 'clients');
    await page.locator('h1', { hasText: 'Clients' }).waitFor();
    await page.keyboard.press('/');
    await page.keyboard.type('lker-1');
    await until('only that one is listed', async () => (await page.locator('table[aria-label=Clients] tbody tr').count()) === 1);
    await row(page, 'Clients', 'walker-1').focus();
    await page.keyboard.press('Enter');
    await page.locator('h1', { hasText: 'walker-1' }).waitFor();
    await row(page, 'Subscriptions', 'walker/only/#').waitFor();
    await page.getByRole('button', { name: 'End connection' }).click();
    await confirm(page);
    await Promise.race([gone, new Promise((_, reject) => setTimeout(() => reject(new Error('the client is still connected')), WAIT_MS))]);
    await text(page, 'This client is not here any more');
  });
  await check('a client’s queue and window show their messages', async () => {
    await open(page, 'clients/panel-stuck?tab=queue');
    await row(page, 'mqueue', 'plant/').waitFor();
    await open(page, 'clients/panel-stuck?tab=inflight');
    await row(page, 'inflight', 'plant/').waitFor();
  });
  await check('subscriptions are searched by the topic that they match', async () => {
    await open(page, 'subscriptions?by=match_topic&q=plant/gauge-1/reading');
    await row(page, 'Subscriptions', 'board-1').waitFor();
    await open(page, 'topics');
    await row(page, 'Topics', 'plant/+/reading').waitFor();
  });
  await check('a retained message is shown and removed, a delayed one listed', async () => {
    await open(page, 'retained');
    await row(page, 'Retained messages', 'plant/gauge-1/info').getByRole('button', { name: 'Show' }).click();
    await page.locator('dialog pre', { hasText: 'G-20' }).waitFor();
    await page.keyboard.press('Escape');
    await row(page, 'Retained messages', 'plant/gauge-2/info').getByRole('button', { name: 'Remove' }).click();
    await confirm(page);
    await until('it is gone', async () => (await row(page, 'Retained messages', 'plant/gauge-2/info').count()) === 0);
    await open(page, 'retained?tab=delayed');
    await row(page, 'Delayed messages', 'plant/gauge-1/service').waitFor();
  });
  await check('a slow subscriber is listed', async () => {
    await open(page, 'slow');
    await row(page, 'Slow subscribers', 'printer-slow').waitFor();
  });
  await check('a rule is tried on an event and on what was recorded', async () => {
    await open(page, 'rules/readings');
    await write(page, 'Statement', 'SELECT payload.celsius * 2 AS twice FROM "plant/+/reading" WHERE payload.celsius > 20');
    await write(page, 'Event', '{"topic": "plant/7/reading", "payload": {"celsius": 21.5}}');
    await page.getByRole('button', { name: 'Run' }).click();
    await page.locator('[data-result]', { hasText: '"twice": 43' }).waitFor();
    await write(page, 'Event', '{"topic": "plant/7/reading", "payload": {"celsius": 1}}');
    await page.locator('.cm-content[aria-label="Statement"]').click();
    await page.keyboard.press('Control+Enter');
    await page.locator('[data-result]', { hasText: 'WHERE does not hold' }).waitFor();
    await page.getByLabel('What to try it on').selectOption('recorded');
    await page.getByRole('button', { name: 'Run' }).click();
    await row(page, 'Rows', 'twice').waitFor();
  });
  await check('a mistake in a statement is marked where it is, and names are completed', async () => {
    expected.push(/^400 POST \/api\/v5\/rule_test$/);
    await write(page, 'Statement', 'SELECT uper(topic) AS t FROM "plant/#"');
    await text(page, 'did you mean "upper"?');
    await page.locator('.cm-lintRange-error', { hasText: 'uper' }).waitFor();
    await write(page, 'Statement', '');
    await page.keyboard.type('SELECT clientid AS who, topic FROM "a/#"', { delay: 8 });
    await page.waitForTimeout(500);
    const kept = await page.locator('.cm-content[aria-label="Statement"]').textContent();
    must(kept === 'SELECT clientid AS who, topic FROM "a/#"', `what was typed is ${kept}`);
    await write(page, 'Statement', 'SELECT base6');
    await page.locator('.cm-tooltip-autocomplete', { hasText: 'base64_encode' }).waitFor();
    await page.keyboard.press('Escape');
    await page.waitForTimeout(600);
    expected.length = 0;
  });
  await check('a rule’s last error is shown with its event', async () => {
    await open(page, 'rules/fahrenheit?tab=errors');
    await row(page, 'Errors', 'payload is not JSON').focus();
    await page.keyboard.press('Enter');
    await page.locator('dialog pre', { hasText: 'no JSON' }).waitFor();
    await page.keyboard.press('Escape');
  });
  await check('the flow leads from the topic to the sink', async () => {
    await open(page, 'flow');
    for (const node of ['plant/+/reading', 'fahrenheit', 'webhook', 'nowhere']) await page.locator('.flow a', { hasText: node }).first().waitFor();
  });
  await check('a failing action says why; it is paused and goes on', async () => {
    await open(page, 'actions/webhook');
    await text(page, 'Connection refused');
    await page.getByRole('button', { name: 'Pause' }).click();
    await confirm(page);
    await page.locator('.mark', { hasText: 'paused' }).first().waitFor();
    await page.getByRole('button', { name: 'Resume' }).click();
    await page.getByRole('button', { name: 'Pause' }).waitFor();
    await text(page, 'it balances');
    await page.locator('.page-head a', { hasText: 'Settings' }).click();
    await page.locator('.cm-activeLine', { hasText: '[actions.webhook]' }).waitFor();
  });
  await check('a dead letter is shown, changed, and replayed', async () => {
    await open(page, 'actions/readings?tab=letters');
    await row(page, 'Dead letters', 'CHECK constraint failed').getByRole('button', { name: 'Inspect' }).click();
    const editor = page.locator('dialog .cm-content');
    await editor.waitFor();
    const content = (await editor.locator('.cm-line').allTextContents()).join('\n');
    must(content.includes('140'), `the row is ${content}`);
    await write(page, 'Row', content.replace('140', '40'));
    await page.getByRole('button', { name: 'Save and replay' }).click();
    await text(page, 'No dead letters');
  });
  await check('connectors and the actions that use them', async () => {
    await open(page, 'connectors');
    await row(page, 'Connectors', 'nowhere').locator('.mark.bad').waitFor();
    await row(page, 'Connectors', 'local').locator('a', { hasText: 'readings' }).waitFor();
  });
  await check('sources, and why nothing comes in', async () => {
    await row(page, 'Sources', 'cellar').locator('.mark.bad').waitFor();
    must(/refused/i.test(await row(page, 'Sources', 'cellar').innerText()), 'it does not say why');
    if (!SOURCE) return;
    await row(page, 'Sources', SOURCE).locator('.mark.ok').waitFor();
    await until('it has taken something in', async () => /\b[1-9]/.test(await row(page, 'Sources', SOURCE).innerText()));
  });
  if (ALARM) {
    await check('an alarm is told on the overview, and shown', async () => {
      await open(page, 'overview');
      await page.locator('a', { hasText: 'See the alarm' }).first().click();
      await row(page, 'Alarms', ALARM).getByText('still active').waitFor();
    });
  }
  await check('a user made here can log in, and one removed cannot', async () => {
    await open(page, 'users');
    await page.getByRole('button', { name: 'New user' }).click();
    await page.getByLabel('User name').last().fill('walker');
    await page.locator('dialog input[type=password]').fill('walks along');
    await page.locator('dialog button[type=submit]').click();
    await row(page, 'Users', 'walker').waitFor();
    await (await client(WS, 'walker-2', { username: 'walker', password: 'walks along' })).endAsync();
    await row(page, 'Users', 'walker').getByRole('button', { name: 'Remove' }).click();
    await confirm(page);
    await until('it is gone', async () => (await row(page, 'Users', 'walker').count()) === 0);
    const refused = await client(WS, 'walker-2', { username: 'walker', password: 'walks along' }).then(() => false, () => true);
    must(refused, 'the removed user still logs in');
  });
  await check('a permission set here holds at once', async () => {
    expected.push(/^404 GET \/api\/v5\/authorization/);
    await open(page, 'permissions/clients/walker-3');
    await text(page, 'None in the store');
    await write(page, 'Permissions', '[{"permission": "deny", "action": "subscribe", "topics": ["plant/#"]}]');
    await page.getByRole('button', { name: 'Save' }).click();
    await row(page, 'Permissions', 'plant/#').waitFor();
    const denied = await client(WS, 'walker-3');
    const granted = await denied.subscribeAsync('plant/#', { qos: 1 }).catch((error) => [{ qos: error.code ?? 135 }]);
    await denied.endAsync();
    must(granted[0].qos >= 128, 'it may still subscribe');
    await page.getByRole('button', { name: 'Remove' }).click();
    await confirm(page);
    await text(page, 'None in the store');
    expected.length = 0;
  });
  await check('a trace writes down what happens to a client', async () => {
    await open(page, 'traces');
    await page.getByRole('button', { name: 'Begin a trace' }).click();
    await page.locator('dialog').getByLabel('Name').fill('walk');
    await page.locator('dialog').getByLabel('Which').fill('walker-5');
    await page.locator('dialog button[type=submit]').click();
    await row(page, 'Traces', 'walk').locator('.mark.ok').waitFor();
    const watched = await client(WS, 'walker-5');
    await watched.publishAsync('walk/traced', 'seen', { qos: 1 });
    await watched.endAsync();
    await row(page, 'Traces', 'walk').getByRole('button', { name: 'Look' }).click();
    const log = page.locator('dialog[open] pre');
    await until('the log has it all', async () => {
      const told = (await log.count()) > 0 ? await log.innerText() : '';
      return ['client.connected', 'walk/traced', 'client.disconnected'].every((wanted) => told.includes(wanted));
    });
    await page.locator('dialog[open]').getByRole('button', { name: 'Close' }).click();
    await row(page, 'Traces', 'walk').getByRole('button', { name: 'End' }).click();
    await until('it has ended', async () => (await row(page, 'Traces', 'walk').innerText()).includes('stopped'));
    await row(page, 'Traces', 'walk').getByRole('button', { name: 'Remove' }).click();
    await confirm(page);
    await text(page, 'No trace');
  });
  await check('a ban keeps a client out until it is lifted', async () => {
    await open(page, 'bans');
    await page.getByRole('button', { name: 'Ban somebody' }).click();
    await page.locator('dialog').getByLabel('Who').fill('walker-4');
    await page.locator('dialog').getByLabel('Why').fill('a test');
    await page.locator('dialog button[type=submit]').click();
    await row(page, 'Bans', 'walker-4').waitFor();
    must(await client(WS, 'walker-4').then(() => false, () => true), 'it still connects');
    await row(page, 'Bans', 'walker-4').getByRole('button', { name: 'Lift' }).click();
    await confirm(page);
    await until('the ban is gone', async () => (await row(page, 'Bans', 'walker-4').count()) === 0);
    await (await client(WS, 'walker-4')).endAsync();
  });
  await check('listeners and durable queues', async () => {
    await open(page, 'node');
    await row(page, 'Listeners', 'ws:default').locator('.mark.ok').waitFor();
    await row(page, 'Durable queues', 'archive-7').waitFor();
  });
  await check('what is published in the WebSocket client arrives', async () => {
    await open(page, 'websocket');
    // What is written before the listeners are known, they would be written into.
    await until('an address is proposed', async () => (await page.getByLabel('Address').inputValue()) !== '');
    await page.getByLabel('Address').fill(WS);
    await page.getByRole('button', { name: 'Connect' }).click();
    await page.locator('.page-head .mark.ok').waitFor();
    await page.getByLabel('Filter').fill('walker/ws/+');
    await page.getByRole('button', { name: 'Subscribe' }).click();
    await page.locator('.tag', { hasText: 'walker/ws/+' }).waitFor();
    const outside = await client(WS, 'walker-5');
    await outside.subscribeAsync('walker/ws/#', { qos: 1 });
    const heard = new Promise((resolve) => outside.once('message', (_topic, payload) => resolve(payload.toString())));
    await page.getByLabel('Topic', { exact: true }).fill('walker/ws/1');
    await page.getByLabel('Payload').fill('from the dashboard');
    await page.getByRole('button', { name: 'Publish' }).click();
    must((await heard) === 'from the dashboard', 'another client got something else');
    await page.locator('table[aria-label=Messages] tr', { hasText: 'from the dashboard' }).filter({ has: page.locator('td', { hasText: /^in$/ }) }).waitFor();
    await outside.endAsync();
  });
  await check('a rule is made, changed and removed', async () => {
    await open(page, 'rules/new/rule');
    await page.getByLabel('Name').fill('walked');
    await write(page, 'Statement', 'SELECT clientid FROM "walker/rule"');
    await write(page, 'Actions', '["lines"]');
    await page.getByRole('button', { name: 'Create' }).click();
    await page.locator('h1', { hasText: 'walked' }).waitFor();
    await page.getByLabel('What it is for').fill('a walk');
    await page.getByRole('button', { name: 'Save and apply' }).click();
    await text(page, 'The rule walked runs');
    await open(page, 'rules');
    await row(page, 'Rules', 'a walk').waitFor();
    await open(page, 'rules/walked');
    await page.getByRole('button', { name: 'Remove' }).click();
    await confirm(page);
    await page.locator('h1', { hasText: 'Rules' }).waitFor();
    await until('it is gone', async () => (await row(page, 'Rules', 'walked').count()) === 0);
  });
  await check('the configuration is refused with its mistakes, applied, compared and brought back', async () => {
    await open(page, 'settings');
    const editor = page.locator('.cm-content[aria-label=Configuration]');
    await editor.waitFor();
    const before = await page.evaluate(async () => {
      const { token } = JSON.parse(sessionStorage.getItem('hookline.session'));
      return (await (await fetch('api/v5/configs', { headers: { authorization: `Bearer ${token}`, accept: 'application/json' } })).json()).content;
    });
    expected.push(/^(400|422) PUT \/api\/v5\/configs$/);
    await write(page, 'Configuration', before.replace('connector = "nowhere"', 'connector = "nobody"'));
    await page.getByRole('button', { name: 'Check and apply' }).click();
    await page.locator('.note-box.bad', { hasText: 'nobody' }).waitFor();
    await write(page, 'Configuration', before.replace('Who comes and goes, as lines of JSON', 'Who came and went'));
    await page.getByRole('button', { name: 'Check and apply' }).click();
    await text(page, 'The configuration is written and holds');
    await page.getByRole('tab', { name: 'History' }).click();
    await page.getByRole('button', { name: 'What changed' }).first().click();
    await page.locator('.diff .add', { hasText: 'Who came and went' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'Go back' }).first().click();
    await confirm(page);
    await text(page, 'holds again');
    await open(page, 'rules');
    await row(page, 'Rules', 'Who comes and goes').waitFor();
    expected.length = 0;
  });
  await check('an export is made, saved, brought back and imported; what is broken is refused', async () => {
    await open(page, 'settings?tab=exports');
    await page.getByRole('button', { name: 'Export', exact: true }).click();
    const made = row(page, 'Exports', 'hookline-export-');
    await made.waitFor();
    const saved = page.waitForEvent('download');
    await made.getByRole('button', { name: 'Download' }).click();
    const buffer = readFileSync(await (await saved).path());
    const bring = (name, content) => page.locator('input[type=file]').setInputFiles({ name, mimeType: 'application/gzip', buffer: content });
    const take = async (name) => {
      await row(page, 'Exports', name).getByRole('button', { name: 'Import' }).click();
      await confirm(page);
    };
    await bring('walked.tar.gz', buffer);
    await take('walked.tar.gz');
    const result = page.locator('dialog[open]', { hasText: 'walked.tar.gz is imported' });
    await result.getByText('Retained messages').waitFor();
    if (SHOTS) await page.screenshot({ path: join(SHOTS, 'imported-light.png') });
    await page.keyboard.press('Escape');
    expected.push(/^400 POST \/api\/v5\/data\/import$/);
    await bring('broken.tar.gz', buffer.subarray(0, buffer.length - 50));
    await take('broken.tar.gz');
    await page.locator('.note-box.bad', { hasText: 'Nothing was changed' }).waitFor();
    expected.length = 0;
    await row(page, 'Exports', 'broken.tar.gz').getByRole('button', { name: 'Remove' }).click();
    await confirm(page);
    await until('it is gone', async () => (await row(page, 'Exports', 'broken.tar.gz').count()) === 0);
  });
  await check('the audit log names who has changed what', async () => {
    await open(page, 'audit');
    await row(page, 'Audit log', '/configs').filter({ hasText: ADMIN.username }).waitFor();
    await row(page, 'Audit log', '/configs').focus();
    await page.keyboard.press('Enter');
    await page.locator('dialog', { hasText: ADMIN.username }).waitFor();
    await page.keyboard.press('Escape');
  });
  await check('a dashboard user is made and removed', async () => {
    await open(page, 'people');
    await page.getByRole('button', { name: 'New user' }).click();
    await page.locator('dialog input').first().fill('night-shift');
    await page.locator('dialog input[type=password]').fill('watches at night');
    await page.locator('dialog button[type=submit]').click();
    await row(page, 'Dashboard users', 'night-shift').getByRole('button', { name: 'Remove' }).click();
    await confirm(page);
    await until('it is gone', async () => (await row(page, 'Dashboard users', 'night-shift').count()) === 0);
  });
  await check('keys lead to pages, and ? lists them', async () => {
    await page.locator('h1').first().click();
    await page.keyboard.press('g');
    await page.keyboard.press('c');
    await page.locator('h1', { hasText: 'Clients' }).waitFor();
    await page.keyboard.press('?');
    await page.locator('dialog[aria-label=Keys]').waitFor();
    await page.keyboard.press('Escape');
    await until('Escape closes it', async () => (await page.locator('dialog[open]').count()) === 0);
  });
  await check('every page, light', () => everyPage(page, 'light'));
  await check('the theme is switched, and kept', async () => {
    await page.getByRole('button', { name: 'Change to the dark theme' }).click();
    must((await page.evaluate(() => document.documentElement.dataset.theme)) === 'dark', 'it is not dark');
    await page.reload();
    await page.locator('.bar').waitFor();
    must((await page.evaluate(() => document.documentElement.dataset.theme)) === 'dark', 'it is not dark any more');
    await page.getByRole('button', { name: 'Change to the light theme' }).click();
  });
  await check('a session that has ended leads to the login', async () => {
    expected.push(/^401 GET/);
    await page.evaluate(() => {
      const kept = JSON.parse(sessionStorage.getItem('hookline.session'));
      sessionStorage.setItem('hookline.session', JSON.stringify({ ...kept, token: 'no longer' }));
    });
    await page.reload();
    await text(page, 'Your session has ended');
    await page.waitForTimeout(800);
    expected.length = 0;
  });
  await context.close();

  const dark = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: 'dark' });
  const night = await dark.newPage();
  watch(night, 'dark');
  await check('every page, dark as the system says', async () => {
    await night.goto(ADDRESS);
    if (SHOTS) await night.screenshot({ path: join(SHOTS, 'login-dark.png') });
    await login(night);
    must((await night.evaluate(() => document.documentElement.dataset.theme)) === 'dark', 'it is not dark');
    await night.waitForTimeout(4500);
    await everyPage(night, 'dark');
  });
  await dark.close();

  const looking = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: 'light' });
  const viewer = await looking.newPage();
  watch(viewer, 'viewer');
  await check('a viewer sees, and cannot change', async () => {
    await viewer.goto(ADDRESS);
    await login(viewer, VIEWER);
    await open(viewer, 'actions/webhook');
    const pause = viewer.getByRole('button', { name: 'Pause' });
    await pause.waitFor();
    must((await pause.getAttribute('aria-disabled')) === 'true', 'the button is on');
    must(((await pause.getAttribute('title')) ?? '').includes('viewer'), 'it does not say why');
    expected.push(/^403 GET/);
    await open(viewer, 'settings');
    await text(viewer, 'Your role may not see this');
    await open(viewer, 'drops');
    await viewer.locator('h1', { hasText: 'Drops' }).waitFor();
    expected.length = 0;
    await open(viewer, 'drops?q=lost/gauge-1');
    await viewer.locator('td', { hasText: 'No subscribers' }).first().waitFor();
  });
  await looking.close();
  must(traffic.board.connected, 'the traffic has ended');
}

const size = bundleSize();
console.log(`the bundle has ${(size / 1000).toFixed(1)} kB compressed`);
if (size > BUNDLE_MAX) {
  failures += 1;
  console.log(`FAIL  the bundle is larger than ${BUNDLE_MAX / 1000} kB`);
}
if (SHOTS) mkdirSync(SHOTS, { recursive: true });
for (const person of PEOPLE) await api('POST', '/users', person);
const traffic = await plant(WS);
const browser = await chromium.launch({ executablePath: process.env.HOOKLINE_CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage'] });
try {
  await walk(browser, traffic);
} catch (error) {
  failures += 1;
  console.log(`FAIL  ${error.stack ?? error}`);
} finally {
  await browser.close();
  await traffic.end();
  for (const { username } of PEOPLE) await api('DELETE', `/users/${username}`);
}
await check('no error on the console, no request that failed or went elsewhere', async () => must(strays.length === 0, [...new Set(strays)].join('\n      ')));
console.log(failures === 0 ? 'everything holds' : `${failures} checks failed`);
process.exit(failures === 0 ? 0 : 1);
