// What people really paste and type, and forms that lose nothing of it.
import assert from "node:assert/strict";
import { answer, api, check, isList, listed, local, look, own, resolve, row, signIn } from "./world.js";

/** paste puts a text into an input as the clipboard does. */
async function paste(input, text) {
  await input.focus();
  await input.evaluate((i, text) => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", text);
    const event = new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true });
    if (i.dispatchEvent(event)) document.execCommand("insertText", false, text);
  }, text);
}

const pem = (end) => ["-----BEGIN PRIVATE KEY-----", ...Array.from({ length: 26 }, (_, i) => `${i}`.padStart(64, "s3cret")), "-----END PRIVATE KEY-----", ""].join(end);

async function openForm(page, user, provider, title) {
  await signIn(page, user);
  await page.getByRole("button", { name: "Add credential" }).click();
  const form = page.getByRole("dialog");
  await form.getByLabel("Provider").fill(provider);
  await form.getByLabel("Title").fill(title);
  return form;
}
const add = (form) => form.getByRole("button", { name: "Add", exact: true }).click();

for (const [name, end] of [["line feeds", "\n"], ["both characters of Windows", "\r\n"]]) {
  check(`a key of many lines that end in ${name} is kept byte for byte, masked`, {}, async (page) => {
    const user = `pem-${end.length}`;
    const form = await openForm(page, user, "acme", "PEM");
    const input = form.getByLabel("API key", { exact: true });
    assert.equal(await input.getAttribute("autocomplete"), "one-time-code");
    await paste(input, pem(end));
    assert.equal(await input.evaluate((i) => `${i.tagName} ${getComputedStyle(i).webkitTextSecurity} ${document.activeElement === i}`), "TEXTAREA disc true");
    assert.equal(await input.getAttribute("autocomplete"), "one-time-code");
    await form.getByText(/^1,\d\d\d of 4,096 bytes, all secret fields together$/).waitFor();
    await look(page, "several-lines");
    await form.getByRole("button", { name: "Show API key" }).click();
    assert.equal(await input.evaluate((i) => getComputedStyle(i).webkitTextSecurity), "none");
    await form.getByRole("button", { name: "Hide API key" }).click();
    await add(form);
    await row(page, "PEM").waitFor();
    const [c] = await api(user, "GET", "/acme/credentials");
    assert.equal((await resolve(user, c)).api_key, pem(end));
  });
}

check("a secret of one line is shown and hidden, and stays what it is", {}, async (page) => {
  const form = await openForm(page, "shown", "acme", "One line");
  const input = form.getByLabel("API key", { exact: true });
  await paste(input, "s3cret");
  assert.equal(await input.getAttribute("type"), "password");
  await form.getByRole("button", { name: "Show API key" }).click();
  assert.equal(await input.getAttribute("type"), "text");
  assert.equal(await input.inputValue(), "s3cret");
});

check("an expiry that is half typed, far off or past is an error at its field", {}, async (page) => {
  const form = await openForm(page, "half", "acme", "Half");
  await form.getByLabel("API key", { exact: true }).fill("key");
  const expires = form.getByLabel("Expires");
  for (const [spoil, text] of [
    [async () => { await expires.focus(); await page.keyboard.type("0505"); }, "Complete the date and the time, or clear them."],
    [() => expires.fill("12026-01-01T00:00"), "Choose a time between the years 2000 and 9999."],
    [() => expires.fill("2020-01-01T00:00"), "This time has passed. Choose one to come."],
  ]) {
    await spoil();
    await add(form);
    await form.getByText(text, { exact: true }).waitFor();
    await page.waitForFunction(() => document.activeElement.id === "expires_at");
  }
  await look(page, "expiry-past");
  assert.deepEqual(await api("half", "GET", "/acme/credentials"), []);
});

check("header rows have the stored names, and say what is wrong with each", {}, async (page) => {
  const c = await api("rows", "POST", "/acme/credentials", { type: "host_scoped", title: "Rows", host: "api.example.com", headers: { "X-One": "1", "X-Two": "2", "X-Three": "3" } });
  await signIn(page, "rows");
  await page.getByRole("button", { name: "Edit Rows" }).click();
  const form = page.getByRole("dialog");
  await form.getByLabel("Replace the secret").check();
  assert.deepEqual(await form.getByLabel(/^Name of header/).evaluateAll((all) => all.map((i) => i.value)), ["X-One", "X-Three", "X-Two"]);
  await form.getByLabel("Value of header 1", { exact: true }).fill("new-1");
  await form.getByLabel("Name of header 2").fill("x-ONE");
  await form.getByLabel("Value of header 2", { exact: true }).fill("new-2");
  await form.getByRole("button", { name: "Save" }).click();
  await form.getByText("There is a header x-ONE above. Upper and lower case are the same.").waitFor();
  await form.getByText("Enter the value of X-Two, or remove the row.").waitFor();
  await look(page, "header-rows");
  assert.deepEqual((await resolve("rows", c)).headers, { "X-One": "1", "X-Two": "2", "X-Three": "3" });
  await form.getByRole("button", { name: "Remove header 3" }).click();
  await form.getByLabel("Name of header 2").fill("X-Three");
  await form.getByRole("button", { name: "Save" }).click();
  await form.waitFor({ state: "detached" });
  assert.deepEqual((await resolve("rows", c)).headers, { "X-One": "new-1", "X-Three": "new-2" });
});

check("a token is replaced together with what is stored beside it, or that is removed", {}, async (page) => {
  const c = await api("whole", "POST", "/acme/credentials", { type: "oauth2", title: "Whole", access_token: "old", access_token_expires_at: 1935403200, refresh_token: "old-refresh", scopes: ["repo"] });
  await signIn(page, "whole");
  await page.getByRole("button", { name: "Edit Whole" }).click();
  const form = page.getByRole("dialog");
  await form.getByLabel("Replace the secret").check();
  await form.getByLabel("Access token", { exact: true }).fill("new");
  await form.getByRole("button", { name: "Save" }).click();
  const missing = form.getByText("Enter it again, or remove what is stored.", { exact: true });
  await missing.nth(1).waitFor();
  assert.equal(await missing.count(), 2);
  await page.waitForFunction(() => document.activeElement.id === "access_token_expires_at");
  await look(page, "replace-token");
  assert.equal((await resolve("whole", c)).access_token, "old");
  await form.getByLabel("Remove what is stored: Access token expires").check();
  await form.getByLabel("Refresh token (optional)", { exact: true }).fill("new-refresh");
  await form.getByRole("button", { name: "Save" }).click();
  await form.waitFor({ state: "detached" });
  const now = await resolve("whole", c);
  assert.deepEqual([now.access_token, now.access_token_expires_at, now.refresh_token, now.scopes], ["new", null, "new-refresh", ["repo"]]);
});

check("a filled form is not lost to Escape, a reload or another type", {}, async (page) => {
  const form = await openForm(page, "kept", "acme", "Kept");
  const key = form.getByLabel("API key", { exact: true });
  await paste(key, pem("\n"));
  await form.getByLabel("Type").selectOption("user_password");
  await form.getByLabel("Password", { exact: true }).fill("pass");
  await form.getByLabel("Type").selectOption("api_key");
  assert.equal(await key.inputValue(), pem("\n"));
  await form.getByLabel("Type").selectOption("user_password");
  assert.equal(await form.getByLabel("Password", { exact: true }).inputValue(), "pass");
  await form.getByLabel("Type").selectOption("api_key");

  const asked = page.waitForEvent("dialog");
  const reloaded = page.evaluate(() => location.reload());
  const dialog = await asked;
  assert.equal(dialog.type(), "beforeunload");
  await dialog.dismiss();
  await reloaded;
  await form.getByLabel("Title").focus();
  await page.keyboard.press("Escape");
  await form.getByText("Throw away what you have typed?").waitFor();
  await look(page, "throw-away");
  await form.getByRole("button", { name: "Keep editing" }).click();
  await add(form);
  await row(page, "Kept").waitFor();
  const [c] = await api("kept", "GET", "/acme/credentials");
  assert.deepEqual([c.type, (await resolve("kept", c)).api_key], ["api_key", pem("\n")]);

  await page.getByRole("button", { name: "Edit Kept" }).click();
  await form.getByLabel("Title").fill("Other");
  await page.keyboard.press("Escape");
  await form.getByRole("button", { name: "Throw away" }).click();
  await form.waitFor({ state: "detached" });
  await row(page, "Kept").waitFor();
});

check("an addition whose answer is lost is looked for, not made twice", { statuses: [503] }, async (page) => {
  const form = await openForm(page, "lost", "acme", "Lost");
  await form.getByLabel("API key", { exact: true }).fill("key");
  await page.route(/\/acme\/credentials$/, async (route) => {
    await route.fetch();
    await route.fulfill(answer(503, { message: "Service Unavailable" }));
  });
  await add(form);
  await form.waitFor({ state: "detached" });
  await page.getByText("Lost was added.").waitFor();
  assert.equal((await api("lost", "GET", "/acme/credentials")).length, 1);
});

const strange = { provider: "acme", type: "api_key", title: "Plain", scopes: null, username: null, host: null, is_managed: false, autogpt_managed: false, is_system: false,
  created_at: 1700000000, expires_at: null, hint: null, stored: ["api_key"], last_used_on: null };

check("providers that are called like the parts of an object are providers", {}, async (page) => {
  const names = ["constructor", "__proto__", "toString", "hasOwnProperty"];
  await page.route(isList, (route) => route.fulfill(answer(200, names.map((provider, i) => ({ ...strange, id: `id-${i}`, provider, title: `Key ${i}` })))));
  await signIn(page, "proto");
  for (const i of names.keys()) await row(page, `Key ${i}`).waitFor();
  assert.equal(await page.locator("li.row").count(), names.length);
});

check("titles that cannot be seen are none, many scopes fold, and dates are told", {}, async (page) => {
  const soon = Math.floor(Date.now() / 1000) + 3 * 86_400 - 600;
  const scopes = Array.from({ length: 20 }, (_, i) => `scope:${i}`);
  await page.route(isList, (route) => route.fulfill(answer(200, [
    { ...strange, id: "1", title: "\u200b\u2060 " }, { ...strange, id: "2", title: "Twenty", type: "oauth2", scopes },
    { ...strange, id: "3", title: "Soon", expires_at: soon, hint: "7f3a" }, { ...strange, id: "4", title: "Late", expires_at: 1700000000 },
    { ...strange, id: "5", title: "مفتاح العمل 2" }, { ...strange, id: "6", title: "Clé élève" }, { ...strange, id: "7", title: "W".repeat(64) },
  ])));
  await signIn(page, "folds");
  await row(page, "Acme API key").waitFor();
  const twenty = row(page, "Twenty");
  assert.ok(await twenty.getByText("20 scopes", { exact: true }).isVisible());
  assert.ok(!(await twenty.getByText("scope:19", { exact: false }).isVisible()));
  await twenty.getByText("20 scopes", { exact: true }).click();
  assert.ok(await twenty.getByText("scope:19", { exact: false }).isVisible());
  await row(page, "Soon").getByText("Expires in 3 days", { exact: true }).waitFor();
  await row(page, "Soon").getByText("ends in 7f3a", { exact: true }).waitFor();
  await row(page, "Late").getByText("Expired", { exact: true }).waitFor();
  await row(page, "Twenty").getByText("Added 14 Nov 2023", { exact: true }).waitFor();
  assert.equal(await row(page, "مفتاح العمل 2").getByRole("heading").evaluate((h) => getComputedStyle(h).direction), "rtl");
  // A browser that translates leaves alone what is the user's own.
  assert.equal(await page.locator("li.row h3:not([translate=no])").count(), 0);
  assert.deepEqual(await page.getByRole("heading", { level: 3 }).allTextContents(), ["Acme API key", "Clé élève", "Late", "Soon", "Twenty", "W".repeat(64), "مفتاح العمل 2"]);
  await look(page, "dates-and-folds");
  await page.getByRole("searchbox").fill("cle ELEVE");
  await page.getByText("1 of 7 credentials").waitFor();
});

check("a fault of the page itself is said, with what to do", {}, async (page) => {
  await page.route(isList, (route) => route.fulfill(answer(200, [null])));
  await signIn(page, "fault");
  await page.getByRole("heading", { name: "This page has stopped" }).waitFor();
  await look(page, "stopped");
  await page.unroute(isList);
  await page.getByRole("button", { name: "Reload" }).click();
  await page.getByLabel("Sign in as").waitFor();
});

check("the removal of many says how far it is, and can be stopped", {}, async (page) => {
  const many = Array.from({ length: 400 }, (_, i) => ({ ...strange, id: `id-${i}`, title: `Key ${i}` }));
  await page.route(isList, (route) => route.fulfill(answer(200, many)));
  let removed = 0;
  let release;
  const released = new Promise((resolve) => { release = resolve; });
  await page.route(/\/acme\/credentials\/id-/, async (route) => {
    if (++removed > 100) await released;
    await route.fulfill(answer(200, { deleted: true, revoked: null }));
  });
  await signIn(page, "stops");
  await page.getByLabel("Select all of yours").check();
  await page.getByRole("button", { name: "Remove selected" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Remove", exact: true }).click();
  await dialog.getByText("100 of 400", { exact: true }).waitFor();
  await dialog.getByRole("button", { name: "Cancel" }).click();
  release();
  await dialog.getByText("104 removed, 296 not.").waitFor();
  await look(page, "removal-stopped", { judge: false });
  assert.equal(removed, 104);
  await dialog.getByRole("button", { name: "Go on" }).click();
  await dialog.getByText("All of them were removed.").waitFor();
});
