// The states in which people meet the page.
import assert from "node:assert/strict";
import { agentMail, answer, check, fault, isList, json, listed, local, logo, look, mapped, own, row, signIn, svg } from "./world.js";

check("the page comes with a strict policy, compressed, and under 60 KB in all", {}, async (page) => {
  const response = await page.goto(local);
  const headers = response.headers();
  assert.match(headers["content-security-policy"], /^default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; /);
  for (const name of ["x-content-type-options", "x-frame-options", "referrer-policy", "strict-transport-security", "cross-origin-opener-policy", "permissions-policy"]) assert.ok(headers[name], name);
  await page.getByLabel("Sign in as").waitFor();
  const sizes = await page.evaluate(() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].map((r) => [r.name, r.transferSize]));
  // The page, its style and its script: what it has to know is in it.
  assert.deepEqual(sizes.map(([name]) => name.replace(/^.*\//, "").replace(/-[A-Z0-9]{8}\./, ".")).filter((name) => !name.endsWith(".svg")), ["", "style.css", "main.js"]);
  const total = sizes.reduce((sum, [, size]) => sum + size, 0);
  assert.ok(total > 10_000 && total < 60 * 1024, `${total} bytes`);
  console.log(`the page is ${total} bytes, compressed and with headers: ${JSON.stringify(sizes)}`);
  await look(page, "front");
});

check("a page without JavaScript says what to do", {}, async (page, context) => {
  const without = await context.browser().newContext({ javaScriptEnabled: false });
  try {
    const plain = await without.newPage();
    await plain.goto(local);
    await plain.getByRole("heading", { name: "Your credentials" }).waitFor();
    assert.match(await plain.locator("main noscript").textContent(), /This page needs JavaScript to show your credentials/);
  } finally {
    await without.close();
  }
});

check("the heading is there before the script, and stays where it is", { elsewhere: [logo] }, async (page) => {
  await page.route(logo, (route) => route.fulfill({ contentType: "image/svg+xml", body: svg }));
  let release;
  const released = new Promise((resolve) => { release = resolve; });
  await page.route(/\/main-[^/]*\.js$/, async (route) => { await released; await route.continue(); });
  await page.goto(mapped, { waitUntil: "commit" });
  const heading = page.getByRole("heading", { name: "Your credentials" });
  await heading.waitFor();
  const before = await heading.boundingBox();
  await look(page, "before-the-script", { judge: false });
  release();
  await page.getByLabel("Sign in as").waitFor();
  assert.deepEqual(await heading.boundingBox(), before);
  assert.ok((await page.evaluate(() => window.shifts)) < 0.01, "the layout shifts");
});

check("a list that is slow shows its place, and no more than that moves", {}, async (page) => {
  let release;
  const released = new Promise((resolve) => { release = resolve; });
  await page.route(isList, async (route) => { await released; await route.continue(); }, { times: 1 });
  await signIn(page, "pia");
  await page.getByText("Loading your credentials…").waitFor();
  await page.locator(".progress").waitFor();
  await look(page, "loading");
  await page.getByText("Still loading. New managed credentials may take a few seconds to set up.").waitFor();
  await page.evaluate(() => { window.shifts = 0; });
  release();
  await row(page, "Use Credits for OpenAI").waitFor();
  await page.locator(".progress").waitFor({ state: "hidden" });
  assert.ok((await page.evaluate(() => window.shifts)) < 0.01, "the layout shifts");
});

check("somebody with nothing of their own is told the first step", {}, async (page) => {
  await signIn(page, "quin");
  await page.getByRole("heading", { name: "None of these is your own yet" }).waitFor();
  await look(page, "none-own");
  await page.getByRole("button", { name: "Add your first credential" }).click();
  await page.getByRole("dialog", { name: "Add a credential" }).waitFor();
});

check("somebody with nothing at all is told what this is", {}, async (page) => {
  await page.route(isList, (route) => route.fulfill(answer(200, [])));
  await signIn(page, "rita");
  await page.getByRole("heading", { name: "You have no credentials yet" }).waitFor();
  await look(page, "empty");
});

check("offline is said, and over by itself", { offline: true }, async (page, context) => {
  await signIn(page, "sam");
  await row(page, "Use Credits for OpenAI").waitFor();
  await context.setOffline(true);
  await page.getByText("You are offline.", { exact: false }).waitFor();
  await look(page, "offline");
  await page.getByRole("button", { name: "Add credential" }).click();
  const form = page.getByRole("dialog");
  await form.getByLabel("Provider").fill("github");
  await form.getByLabel("API key", { exact: true }).fill("key");
  await form.getByRole("button", { name: "Add", exact: true }).click();
  await form.getByText("The service cannot be reached. Check your connection.").waitFor();
  await context.setOffline(false);
  await page.getByText("You are offline.", { exact: false }).waitFor({ state: "detached" });
  await form.getByRole("button", { name: "Add", exact: true }).click();
  await row(page, "GitHub API key").waitFor();
});

check("a service that cannot answer is said so, with a way to try again", { statuses: [503] }, async (page) => {
  await page.route(isList, (route) => route.fulfill(answer(503, { detail: "The service cannot answer right now. Please try again." })), { times: 1 });
  await signIn(page, "tom");
  await page.getByRole("alert").getByText("The service cannot answer right now. Please try again.").waitFor();
  await look(page, "unavailable");
  await page.getByRole("button", { name: "Try again" }).click();
  await row(page, "Use Credits for OpenAI").waitFor();
});

check("on one machine a token that has run out is got anew", { statuses: [401] }, async (page) => {
  await page.route(isList, (route) => route.fulfill(answer(401, { message: "Unauthorized" })), { times: 1 });
  await signIn(page, "ulla");
  await row(page, "Use Credits for OpenAI").waitFor();
});

check("what is being set up appears by itself", {}, async (page) => {
  await own("vera", "github", "Vera's key");
  let setUp = false;
  await page.route(isList, async (route) => {
    const response = await route.fetch();
    if (setUp) return route.fulfill({ response });
    const without = (await response.json()).filter((c) => !c.autogpt_managed);
    await route.fulfill({ response, json: without, headers: { ...response.headers(), "managed-credentials": "agent_mail=provisioning" } });
  });
  await signIn(page, "vera");
  await row(page, "AgentMail (managed)").getByText("Being set up").waitFor();
  assert.equal(await row(page, "AgentMail (managed)").locator("button, input").count(), 0);
  await look(page, "being-set-up");
  // It is counted, filtered and found like the other rows.
  await page.getByText("3 credentials", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Managed", exact: true }).click();
  await page.getByText("1 of 3 credentials", { exact: true }).waitFor();
  await row(page, "AgentMail (managed)").waitFor();
  await page.getByRole("button", { name: "All", exact: true }).click();
  const search = page.getByRole("searchbox", { name: "Search" });
  await search.fill("mail set up");
  await page.getByText("1 of 3 credentials", { exact: true }).waitFor();
  assert.deepEqual(await page.getByRole("heading", { level: 3 }).allTextContents(), ["AgentMail (managed)"]);
  await search.fill("vera");
  await page.getByText("1 of 3 credentials", { exact: true }).waitFor();
  assert.deepEqual(await page.getByRole("heading", { level: 3 }).allTextContents(), ["Vera's key"]);
  await search.fill("");
  setUp = true;
  await row(page, "AgentMail (managed by AutoGPT)").getByText("Ready").waitFor();
});

check("an account is deleted once its name is typed, and nothing of it is left", {}, async (page) => {
  await own("will", "github", "Will's key");
  await signIn(page, "will");
  await page.getByRole("button", { name: "Delete my account…" }).click();
  const dialog = page.getByRole("dialog", { name: "Delete your account?" });
  await page.waitForFunction(() => document.activeElement.id === "phrase");
  await dialog.getByRole("button", { name: "Delete my account" }).click();
  await dialog.getByText("Type “delete my account” to go on.").waitFor();
  await look(page, "account");
  assert.equal((await listed("will")).length, 3);
  await page.getByLabel("to confirm").fill("delete my account");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Your account has been deleted" }).waitFor();
  await look(page, "account-deleted");
  await page.getByRole("button", { name: "Sign in with another account" }).click();
  await page.getByLabel("Sign in as").waitFor();
  assert.ok(!JSON.stringify(await json(await fetch(`${agentMail}/_fake/state`))).includes('"will'), "something is left at AgentMail");
});

check("somebody whose account is gone is told so, and not asked to sign in", { statuses: [401] }, async (page) => {
  await signIn(page, "xena");
  await row(page, "Use Credits for OpenAI").waitFor();
  await json(await fetch(`${local}/local/delete-user`, { method: "POST", body: JSON.stringify({ sub: "xena" }) }));
  await page.getByRole("button", { name: "Add credential" }).click();
  const form = page.getByRole("dialog");
  await form.getByLabel("Provider").fill("github");
  await form.getByLabel("API key", { exact: true }).fill("key");
  await form.getByRole("button", { name: "Add", exact: true }).click();
  await form.getByText("This account has been deleted.").waitFor();
});

check("somebody who is suspended is told so, and finds everything once they are enabled", { statuses: [403] }, async (page) => {
  const operate = (command) => fetch(`${local}/local/operate`, { method: "POST", body: JSON.stringify({ command, user_id: "zita", by: "an operator", reason: "a test" }) });
  await json(await operate("suspend"));
  await signIn(page, "zita");
  await page.getByRole("alert").getByText("This account is suspended.").waitFor();
  await look(page, "suspended");
  await json(await operate("enable"));
  await page.getByRole("button", { name: "Try again" }).click();
  await row(page, "AgentMail (managed by AutoGPT)").waitFor();
});

check("what is still being revoked is shown until it is done", {}, async (page) => {
  await signIn(page, "yuri");
  await row(page, "AgentMail (managed by AutoGPT)").waitFor();
  const over = await fault({ operation: "delete_key", instead: { status: 429 } });
  const too = await fault({ operation: "delete_pod", instead: { status: 429 } });
  await page.getByRole("button", { name: "Delete my account…" }).click();
  await page.getByLabel("to confirm").fill("delete my account");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Your account is being deleted" }).waitFor();
  await page.getByRole("dialog").getByText("Being revoked, again at", { exact: false }).waitFor();
  await look(page, "account-pending");
  await over();
  await too();
  await page.getByRole("heading", { name: "Your account has been deleted" }).waitFor({ timeout: 300_000 });
});

check("what failed or is offered is set up when one asks for it", {}, async (page) => {
  const states = ["failed;retry_at=4102444800", "offered"];
  for (const [i, state] of states.entries()) {
    const user = `xaver-${i}`;
    await listed(user);
    let there = false;
    await page.route(isList, async (route) => {
      const response = await route.fetch();
      if (there) return route.fulfill({ response });
      const without = (await response.json()).filter((c) => !c.autogpt_managed);
      await route.fulfill({ response, json: without, headers: { ...response.headers(), "managed-credentials": `agent_mail=${state}` } });
    });
    await page.route("**/agent_mail/managed", (route) => {
      there = true;
      return route.continue();
    });
    await signIn(page, user);
    const button = page.getByRole("button", { name: `${["Try now", "Set up"][i]}: AgentMail (managed)` });
    await button.waitFor();
    if (state === "offered") await look(page, "offered");
    await button.click();
    await page.getByText("AgentMail was set up.").waitFor();
    await row(page, "AgentMail (managed by AutoGPT)").getByText("Ready").waitFor();
    await page.unroute(isList);
  }
});

// The last: for some seconds a process remembers a provider that failed, and spares it other users.
check("what could not be set up says when it is tried again, and then appears", {}, async (page) => {
  const over = await fault({ operation: "create_pod", instead: { status: 429 } });
  await signIn(page, "zoe");
  await row(page, "AgentMail (managed)").getByText(/^Failed, again at \d\d:\d\d/).waitFor();
  await look(page, "failed");
  // It can be asked for at once, in vain as long as AgentMail refuses.
  const now = page.getByRole("button", { name: "Try now: AgentMail (managed)" });
  await now.click();
  await page.getByText("AgentMail could not be set up.").waitFor();
  await over();
  await row(page, "AgentMail (managed by AutoGPT)").waitFor({ timeout: 300_000 });
});
