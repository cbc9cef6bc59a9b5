// What the tests share: a browser, the service as seen from outside, and what holds for every page
// that is opened.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const pictures = new URL("screenshots/", import.meta.url).pathname;

export const local = required("LOCAL_URL");
export const managed = required("MANAGED_URL");
/** Where the page stands behind a mapped path. */
export const mapped = required("MAPPED_URL");
export const login = required("LOGIN_URL");
/** The page of another site, whose origin the service on one machine allows. */
export const host = required("HOST_URL");
export const agentMail = required("LOCAL_AGENTMAIL_URL");

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} has to be set: run this by go test`);
  return value;
}

let browser;
before(async () => {
  mkdirSync(pictures, { recursive: true });
  browser = await chromium.launch({
    executablePath: required("CHROMIUM"),
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
});
after(() => browser?.close());

/** What the page behind a mapped path has as its logo. */
export const logo = "https://acme.example/logo.svg";
export const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="96" height="32"><rect width="96" height="32" rx="8" fill="#ffe600"/></svg>`;

export const phone = { width: 390, height: 844 };
export const desktop = { width: 1280, height: 860 };

/**
 * check is a test in a browser of its own that must write no error to the console and ask nobody
 * but the service and, of the login, the token endpoint. statuses are answers that the test
 * provokes: the browser itself writes those to the console. So it does of a refusal that it hides
 * from another origin's page. elsewhere are addresses of others that the page may ask for besides.
 */
export function check(name, { statuses = [], offline = false, hidden = false, elsewhere = [] } = {}, body) {
  test(name, { timeout: 600_000 }, async () => {
    const context = await browser.newContext({ viewport: desktop, locale: "en-GB", timezoneId: "UTC" });
    context.setDefaultTimeout(60_000); // Pages look again after 30 s at the most.
    const wrong = [];
    context.on("page", (page) => {
      page.on("pageerror", (error) => wrong.push(`uncaught: ${error}`));
      page.on("console", (message) => {
        if (message.type() !== "error" && message.type() !== "warning") return;
        const text = message.text();
        if (statuses.some((s) => text.includes(`the server responded with a status of ${s}`))) return;
        if (hidden && (text.includes("blocked by CORS policy") || text.includes("net::ERR_FAILED"))) return;
        if (offline && text.includes("net::ERR_INTERNET_DISCONNECTED")) return;
        if (!page.url().startsWith(login)) wrong.push(`console: ${text}`);
      });
      page.on("request", (request) => {
        const url = request.url();
        const page = request.isNavigationRequest();
        const allowed = elsewhere.includes(url) || [local, managed, host, new URL(mapped).origin].some((o) => url.startsWith(o + "/")) || [`${login}/oauth2/token`, `${login}/oauth2/revoke`].includes(url) || (page && url.startsWith(login + "/"))
          || request.frame().url().startsWith(login); // The login page's own affair.
        if (!allowed) wrong.push(`a request to ${url}`);
      });
    });
    // Layout shifts, those aside that follow at once upon what the user did.
    await context.addInitScript(() => {
      window.shifts = 0;
      new PerformanceObserver((list) => { for (const e of list.getEntries()) if (!e.hadRecentInput) window.shifts += e.value; }).observe({ type: "layout-shift", buffered: true });
    });
    // What has been done is said for six seconds. A test that is starved must not miss it.
    await context.addInitScript(() => {
      const later = window.setTimeout;
      window.setTimeout = (body, ms, ...rest) => later(body, ms === 6000 ? 600_000 : ms, ...rest);
    });
    try {
      await body(await context.newPage(), context);
      assert.deepEqual(wrong, []);
    } finally {
      await context.close();
    }
  });
}

/**
 * look takes the pictures of a state and, unless it is not to, has axe judge it: at two widths, in
 * both themes.
 */
export async function look(page, name, { judge = true } = {}) {
  for (const [width, viewport] of Object.entries({ phone, desktop })) {
    for (const colorScheme of ["light", "dark"]) {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
      await page.screenshot({ path: `${pictures}${name}-${width}-${colorScheme}.png` });
      if (!judge) continue;
      if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe);
      const violations = await page.evaluate(async () => (await window.axe.run(document, { preload: false })).violations
        .map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.target.join(" ") + " " + n.failureSummary).join("; ")}`));
      assert.deepEqual(violations, [], `axe, ${name}, ${width}, ${colorScheme}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(wide <= 0, `${name} scrolls sideways, ${width}`);
    }
  }
}

/** signIn opens the page of one machine and signs in. It returns before the list is there. */
export async function signIn(page, name) {
  await page.goto(local);
  await page.getByLabel("Sign in as").fill(name);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Your credentials" }).waitFor();
}

/** token is an access token of some user. */
export async function token(user) {
  return (await json(await fetch(`${local}/local/token`, { method: "POST", body: JSON.stringify({ sub: user }) }))).access_token;
}

/** api calls the service as some user, past the page. */
export async function api(user, method, path, body) {
  return json(await fetch(local + path, { method, headers: { authorization: `Bearer ${await token(user)}` }, body: body && JSON.stringify(body) }));
}

export const listed = (user) => api(user, "GET", "/credentials");

/** own gives a user a credential of their own. */
export const own = (user, provider, title) => api(user, "POST", `/${provider}/credentials`, { type: "api_key", api_key: "secret-of-" + title, title });

/** resolve is what an executor gets of a credential. */
export async function resolve(user, c) {
  return json(await fetch(`${local}/local/resolve`, { method: "POST", body: JSON.stringify({ sub: user, provider: c.provider, credential_id: c.id }) }));
}

export async function json(response) {
  const text = await response.text();
  assert.ok(response.ok, `${response.url}: ${response.status} ${text}`);
  return text && JSON.parse(text);
}

/** fault has requests to AgentMail go wrong until the returned function is called. */
export async function fault(rule) {
  const { id } = await json(await fetch(`${agentMail}/_fake/faults`, { method: "POST", body: JSON.stringify(rule) }));
  return () => fetch(`${agentMail}/_fake/faults/${id}`, { method: "DELETE" });
}

/** row is the row of a credential, by its title. */
export const row = (page, title) => page.locator("li.row").filter({ has: page.getByRole("heading", { name: title, exact: true }) });

/** isList tells the page's request for the list. */
export const isList = (url) => url.pathname === "/credentials";

export const answer = (status, body, headers = {}) => ({ status, contentType: "application/json", headers, body: JSON.stringify(body) });

/** focus waits until something has the focus: what focused says of it. */
export async function focus(page, name) {
  await page.waitForFunction((name) => {
    const e = document.activeElement;
    return (e.getAttribute("aria-label") || e.id || e.textContent) === name;
  }, name);
}

export const focused = (page) => page.evaluate(() => document.activeElement.getAttribute("aria-label") || document.activeElement.id || document.activeElement.textContent);
