// What people look for in the list every day, and what happens when two change the same.
import assert from "node:assert/strict";
import { answer, api, check, focus, isList, local, look, own, resolve, row, signIn } from "./world.js";

const strange = { provider: "acme", type: "api_key", title: "Plain", scopes: null, username: null, host: null, is_managed: false, autogpt_managed: false, is_system: false,
  created_at: 1700000000, expires_at: null, hint: null, stored: ["api_key"], last_used_on: null };
const titles = (page) => page.getByRole("heading", { level: 3 }).allTextContents();

check("the list shows only whose it is, or what expires, if one wants it to", {}, async (page) => {
  await own("flora", "github", "Work");
  await api("flora", "POST", "/github/credentials", { type: "api_key", api_key: "k", title: "Soon", expires_at: Math.floor(Date.now() / 1000) + 20 * 86_400 });
  await signIn(page, "flora");
  const filter = (name) => page.getByRole("group", { name: "Show" }).getByRole("button", { name, exact: true });
  for (const [name, shown] of [["Yours", ["Soon", "Work"]], ["Managed", ["AgentMail (managed by AutoGPT)"]], ["Platform", ["Use Credits for OpenAI"]], ["Expiring", ["Soon"]]]) {
    await filter(name).click();
    assert.equal(await filter(name).getAttribute("aria-pressed"), "true");
    await page.getByText(`${shown.length} of 4 credentials`).waitFor();
    assert.deepEqual(await titles(page), shown, name);
  }
  await look(page, "filtered");
  await page.getByRole("searchbox").fill("nothing");
  await page.getByText("Nothing of these matches “nothing”.").waitFor();
  await page.getByRole("button", { name: "Clear the search" }).click();
  await page.getByText("4 credentials", { exact: true }).waitFor();
  assert.equal(await filter("All").getAttribute("aria-pressed"), "true");
});

check("who has signed in is at the top of their list", {}, async (page) => {
  await signIn(page, "nell");
  await page.waitForFunction(() => document.activeElement.tagName === "H1" && document.activeElement.textContent === "Your credentials");
});

check("what is done twice is said twice", {}, async (page, context) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: local });
  await own("ivo", "github", "Mine");
  await signIn(page, "ivo");
  const copy = page.getByRole("button", { name: "Copy id of Mine" });
  await copy.click();
  const said = await page.locator(".news p").elementHandle();
  await copy.click();
  // A screen reader announces what is new in the place, not what has stayed.
  await page.waitForFunction((said) => !said.isConnected && document.querySelector(".news p"), said);
});

check("the bar of what is selected stays in sight", {}, async (page) => {
  const many = Array.from({ length: 60 }, (_, i) => ({ ...strange, id: `id-${i}`, title: `Key ${i}` }));
  await page.route(isList, (route) => route.fulfill(answer(200, many)));
  await signIn(page, "sticky");
  await row(page, "Key 59").scrollIntoViewIfNeeded();
  await page.waitForFunction(() => scrollY > 500 && document.querySelector(".selection").getBoundingClientRect().top === 0);
  await look(page, "selection-in-sight", { judge: false });
});

check("a list that was left for a while is read again when one comes back", {}, async (page) => {
  await page.clock.install();
  await signIn(page, "rene");
  await row(page, "Use Credits for OpenAI").waitFor();
  const turn = (hidden) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  await turn(true);
  await own("rene", "github", "From elsewhere");
  await page.clock.fastForward(31_000);
  await turn(false);
  await row(page, "From elsewhere").waitFor();
});

check("the id of a credential is copied", {}, async (page, context) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: local });
  const c = await own("ines", "github", "Mine");
  await signIn(page, "ines");
  await page.getByRole("button", { name: "Copy id of Mine" }).click();
  await page.getByText("The id of Mine was copied.").waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), c.id);
});

check("a provider is known by what people call it, with its types, its keys' place and their beginning", {}, async (page) => {
  await signIn(page, "kate");
  await page.getByRole("button", { name: "Add credential" }).click();
  const form = page.getByRole("dialog");
  await form.getByLabel("Provider").fill("smtp");
  assert.equal(await form.getByLabel("Type").inputValue(), "user_password");
  await form.getByLabel("Provider").fill("Git Hub");
  assert.equal(await form.getByLabel("Type").inputValue(), "api_key");
  assert.deepEqual(await form.getByLabel("Type").locator("> option").allTextContents(), ["API key", "OAuth 2"]);
  const link = form.getByRole("link", { name: "Where your keys are made" });
  assert.deepEqual([await link.getAttribute("href"), await link.getAttribute("rel")], ["https://github.com/settings/tokens", "noopener noreferrer"]);
  await form.getByLabel("API key", { exact: true }).fill("sk-something-else");
  await form.getByText("A key of GitHub usually begins with ghp_ or github_pat_. Is it this one?").waitFor();
  await look(page, "catalogue");
  await form.getByLabel("API key", { exact: true }).fill("ghp_something");
  assert.equal(await form.getByText("usually begins with").count(), 0);
  await form.getByRole("button", { name: "Add", exact: true }).click();
  await row(page, "GitHub API key").waitFor();
  // A type that was chosen stays.
  await page.getByRole("button", { name: "Add credential" }).click();
  await form.getByLabel("Type").selectOption("oauth2");
  await form.getByLabel("Provider").fill("smtp");
  assert.equal(await form.getByLabel("Type").inputValue(), "oauth2");
});

check("an addition that is tried again has the same key, and another one once something is changed", { statuses: [503] }, async (page) => {
  await signIn(page, "mona");
  const keys = [];
  let works = false;
  await page.route(/\/acme\/credentials$/, async (route) => {
    keys.push(route.request().headers()["idempotency-key"]);
    // What is made and not answered; the list does not know of it either.
    await route.fetch();
    await (works ? route.continue() : route.fulfill(answer(503, { message: "Service Unavailable" })));
  });
  await row(page, "Use Credits for OpenAI").waitFor();
  await page.route(isList, async (route) => (works ? route.continue() : route.fulfill(answer(503, {}))));
  await page.getByRole("button", { name: "Add credential" }).click();
  const form = page.getByRole("dialog");
  await form.getByLabel("Provider").fill("acme");
  await form.getByLabel("Title").fill("Once");
  await form.getByLabel("API key", { exact: true }).fill("first");
  const add = form.getByRole("button", { name: "Add", exact: true });
  await add.click();
  await form.getByText("The service cannot answer right now. Please try again.").waitFor();
  works = true;
  await add.click();
  await form.waitFor({ state: "detached" });
  await row(page, "Once").waitFor();
  assert.match(keys[0], /^[0-9a-f-]{36}$/);
  assert.deepEqual(keys, [keys[0], keys[0]]);
  assert.equal((await api("mona", "GET", "/acme/credentials")).length, 1);

  works = false;
  await page.getByRole("button", { name: "Add credential" }).click();
  await form.getByLabel("Provider").fill("acme");
  await form.getByLabel("API key", { exact: true }).fill("second");
  await add.click();
  await form.getByText("The service cannot answer right now. Please try again.").waitFor();
  await form.getByLabel("Title").fill("Other");
  works = true;
  await add.click();
  await row(page, "Other").waitFor();
  assert.notEqual(keys[2], keys[0]);
  assert.notEqual(keys[3], keys[2]);
});

check("a form shows what is there now, and sends only what was changed in it", {}, async (page) => {
  const c = await own("nils", "github", "Old");
  await signIn(page, "nils");
  await row(page, "Old").waitFor();
  await api("nils", "PUT", `/github/credentials/${c.id}`, { title: "Renamed" });
  await page.getByRole("button", { name: "Edit Old" }).click();
  const form = page.getByRole("dialog", { name: "Edit Renamed" });
  assert.equal(await form.getByLabel("Title").inputValue(), "Renamed");
  const sent = page.waitForRequest((r) => r.method() === "PUT");
  await form.getByLabel("Replace the secret").check();
  await form.getByLabel("API key", { exact: true }).fill("another");
  await form.getByRole("button", { name: "Save" }).click();
  assert.deepEqual(Object.keys((await sent).postDataJSON()).sort(), ["api_key", "expires_at", "type"]);
  await row(page, "Renamed").waitFor();

  // Nothing changed: nothing is sent.
  let puts = 0;
  page.on("request", (r) => { if (r.method() === "PUT") puts++; });
  await page.getByRole("button", { name: "Edit Renamed" }).click();
  await form.getByRole("button", { name: "Save" }).click();
  await form.waitFor({ state: "detached" });
  assert.equal(puts, 0);
});

check("what was changed elsewhere meanwhile is shown, and not written over", { statuses: [412] }, async (page) => {
  const c = await own("olga", "github", "Old");
  await signIn(page, "olga");
  await page.getByRole("button", { name: "Edit Old" }).click();
  const form = page.getByRole("dialog");
  await form.getByLabel("Replace the secret").check();
  await form.getByLabel("API key", { exact: true }).fill("mine");
  await api("olga", "PUT", `/github/credentials/${c.id}`, { title: "Theirs" });
  await form.getByRole("button", { name: "Save" }).click();
  await form.getByRole("alert").getByText("It was changed elsewhere, and is called “\u2068Theirs\u2069” now. Nothing of yours was saved. Save again to put it in the place of that.").waitFor();
  await look(page, "changed-elsewhere");
  assert.equal((await resolve("olga", c)).api_key, "secret-of-Old");
  assert.equal(await form.getByLabel("Title").inputValue(), "Theirs"); // It was not touched here.
  await form.getByRole("button", { name: "Save" }).click();
  await form.waitFor({ state: "detached" }); // The list has had the other title since the refusal.
  await row(page, "Theirs").waitFor();
  assert.equal((await resolve("olga", c)).api_key, "mine");

  await page.getByRole("button", { name: "Edit Theirs" }).click();
  await form.getByLabel("Title").fill("My own");
  await api("olga", "PUT", `/github/credentials/${c.id}`, { api_key: "a-new-secret-that-is-long-enough-9x8y", expires_at: null });
  await form.getByRole("button", { name: "Save" }).click();
  await form.getByText("Its secret was changed elsewhere, and ends in 9x8y now.", { exact: false }).waitFor();
  assert.equal(await form.getByLabel("Title").inputValue(), "My own");
  await form.getByRole("button", { name: "Save" }).click();
  await row(page, "My own").waitFor();
  assert.equal((await resolve("olga", c)).api_key, "a-new-secret-that-is-long-enough-9x8y");
});

check("a title that runs the other way turns nothing around it, and is not translated", {}, async (page) => {
  const title = "\u202eotherwise";
  await api("omar", "POST", "/github/credentials", { type: "api_key", api_key: "secret", title });
  await signIn(page, "omar");
  /** turned reports whether what stands after a title in a sentence is turned around with it. */
  const turned = (of) =>
    of.evaluate((e) => {
      const name = e.querySelector("[translate=no]");
      const range = document.createRange();
      range.selectNodeContents(e);
      range.setStartAfter(name);
      return range.getBoundingClientRect().right <= name.getBoundingClientRect().right;
    });
  const all = page.locator("li.row").filter({ hasText: "otherwise" });
  await all.getByRole("button", { name: "Remove" }).click();
  const dialog = page.getByRole("dialog");
  assert.equal(await turned(dialog.getByRole("heading")), false, "the dialog's title");
  await look(page, "title-that-turns");
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await all.getByRole("button", { name: "Edit" }).click();
  assert.equal(await dialog.getByRole("heading").locator("bdi[translate=no]").textContent(), title);
  await dialog.getByLabel("Replace the secret").check();
  await dialog.getByLabel("API key", { exact: true }).fill("another");
  await dialog.getByRole("button", { name: "Save" }).click();
  const news = page.locator(".news p");
  await news.waitFor();
  assert.equal(await turned(news), false, "the news");
});

check("a search that leaves a managed credential out does not say that it is being set up", {}, async (page) => {
  await own("paul", "agent_mail", "Mine");
  await signIn(page, "paul");
  await row(page, "AgentMail (managed by AutoGPT)").waitFor();
  await page.getByRole("searchbox").fill("mine");
  await page.getByText("1 of 3 credentials", { exact: true }).waitFor();
  assert.deepEqual(await titles(page), ["Mine"]);
});

check("what is gone when one wants to edit it is said, and leaves the list", { statuses: [404] }, async (page) => {
  const c = await own("pete", "github", "Gone");
  await signIn(page, "pete");
  await row(page, "Gone").waitFor();
  await api("pete", "DELETE", `/github/credentials/${c.id}`);
  await page.getByRole("button", { name: "Edit Gone" }).click();
  await page.getByText("This credential does not exist any more.").waitFor();
  await row(page, "Gone").waitFor({ state: "detached" });
});

check("an address opens the form on what it names, also through the sign-in", {}, async (page) => {
  await page.goto(`${local}/?add=open_router&type=oauth2`);
  assert.equal(page.url(), local + "/");
  await page.getByLabel("Sign in as").fill("rosa");
  await page.keyboard.press("Enter");
  const form = page.getByRole("dialog", { name: "Add a credential" });
  assert.deepEqual([await form.getByLabel("Provider").inputValue(), await form.getByLabel("Type").inputValue()], ["open_router", "oauth2"]);
  await focus(page, "title");
  await form.getByLabel("Access token", { exact: true }).fill("token");
  await form.getByRole("button", { name: "Add", exact: true }).click();
  await page.getByText("OpenRouter OAuth 2 was added. You can go back to where you came from.").waitFor();

  for (const nonsense of ["?add=No%20such", "?add=", "?add=github&type=constructor"]) {
    await page.goto(local + "/" + nonsense);
    await page.getByLabel("Sign in as").fill("rosa");
    await page.keyboard.press("Enter");
    await row(page, "OpenRouter OAuth 2").waitFor();
    assert.equal(await page.getByRole("dialog").count(), nonsense.includes("github") ? 1 : 0, nonsense);
  }
});

check("a list that could not be read is looked at again by itself, more and more rarely", { statuses: [503] }, async (page) => {
  let state = "agent_mail=provisioning";
  let failing = false;
  // The page's clock says when the list was asked for: how long this test takes is of no account.
  await page.clock.install();
  await page.addInitScript(() => {
    const real = window.fetch;
    window.asked = [];
    window.fetch = (to, ...rest) => {
      if (to === "credentials") window.asked.push(Date.now());
      return real(to, ...rest);
    };
  });
  await page.route(isList, (route) => route.fulfill(failing ? answer(503, {}) : answer(200, [strange], { "managed-credentials": state })));
  await signIn(page, "stan");
  await row(page, "AgentMail (managed)").waitFor();
  const asked = () => page.evaluate(() => window.asked);
  const failed = page.getByText("The list could not be brought up to date.", { exact: false });
  failing = true;
  await page.clock.pauseAt(await page.evaluate(() => Date.now() + 3_600_000));
  while (!(await failed.count())) await page.clock.runFor(500);
  for (let failures = 1; failures <= 3; failures++) {
    const before = await asked();
    const answered = page.waitForResponse((r) => isList(new URL(r.url())));
    while ((await asked()).length === before.length) await page.clock.runFor(500);
    await answered;
    const pause = (await asked()).at(-1) - before.at(-1);
    assert.ok(pause >= 2000 * 1.5 ** failures, `there are ${pause} ms after ${failures} failures`);
    await failed.waitFor();
  }
  failing = false;
  state = "agent_mail=failed;retry_at=1";
  while (await failed.count()) await page.clock.runFor(500);
  await page.getByText("Failed, again in a moment", { exact: true }).waitFor();
});
