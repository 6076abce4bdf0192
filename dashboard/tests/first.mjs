// The end of the README's five minutes: somebody logs in with the password of the first start, and sees what goes on.
//   HOOKLINE_DASHBOARD=http://127.0.0.1:18083/ HOOKLINE_PASSWORD=… node tests/first.mjs
// Messages must come in meanwhile. Ends with 0 when the overview's chart shows them.
import { chromium } from 'playwright-core';

const WAIT_MS = 30_000;

const browser = await chromium.launch({ executablePath: process.env.HOOKLINE_CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
try {
  const page = await browser.newPage();
  await page.goto(process.env.HOOKLINE_DASHBOARD);
  await page.fill('input[name=username]', 'admin');
  await page.fill('input[name=password]', process.env.HOOKLINE_PASSWORD);
  await page.click('button[type=submit]');
  // The chart says in words what it draws, for who cannot see it.
  await page.locator('.chart[aria-label^="Messages a second: in "]:not([aria-label^="Messages a second: in 0,"]) canvas').waitFor({ timeout: WAIT_MS });
  console.log(await page.locator('.chart[aria-label^="Messages a second"]').getAttribute('aria-label'));
  await page.evaluate(() => {
    location.hash = '#/websocket';
  });
  await page.locator('h1', { hasText: 'WebSocket client' }).waitFor({ timeout: WAIT_MS });
  await page.locator('.lines').waitFor({ state: 'detached', timeout: WAIT_MS });
  if ((await page.getByText('has no WebSocket listener').count()) > 0) throw new Error('there is no WebSocket listener');
} finally {
  await browser.close();
}
