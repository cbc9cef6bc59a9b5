// The page behind a path that a custom domain maps to the API, or a stage's name.
import assert from "node:assert/strict";
import { answer, check, focus, json, local, logo, look, mapped, row, svg } from "./world.js";

/** get is what the API answers some user here. */
async function get(user, path) {
  const { access_token } = await json(await fetch(`${new URL(mapped).origin}/local/token`, { method: "POST", body: JSON.stringify({ sub: user }) }));
  return json(await fetch(mapped + path, { headers: { authorization: `Bearer ${access_token}` } }));
}

/** handedOut is what an executor gets of some user's managed credential. */
const handedOut = async (user) => json(await fetch(`${new URL(mapped).origin}/local/resolve`, { method: "POST", body: JSON.stringify({ sub: user, provider: "agent_mail" }) }));

check("the page shows whose it is: a logo, a colour that can be read, and where help is", { elsewhere: [logo] }, async (page) => {
  await page.route(logo, (route) => route.fulfill({ contentType: "image/svg+xml", body: svg }));
  await page.goto(mapped);
  await page.getByRole("img", { name: "Acme" }).waitFor();
  assert.equal(await page.title(), "Your credentials – Acme");
  const help = page.getByRole("link", { name: "Help" });
  assert.deepEqual([await help.getAttribute("href"), await help.getAttribute("rel")], ["https://acme.example/help", "noopener noreferrer"]);
  await look(page, "brand-front"); // In which axe measures the contrast of the colour, a yellow.
  const colour = () => page.getByRole("button", { name: "Sign in" }).evaluate((b) => getComputedStyle(b).backgroundColor);
  const theirs = await colour();
  await page.getByLabel("Sign in as").fill("mara");
  await page.keyboard.press("Enter");
  await row(page, "Mail (managed by Acme)").waitFor();
  await page.getByRole("banner").getByRole("img", { name: "Acme" }).waitFor();
  await page.locator("footer").getByRole("link", { name: "Help" }).waitFor();
  await look(page, "brand-list");
  const [c] = await get("mara", "/agent_mail/credentials");
  assert.deepEqual([c.title, (await get("mara", `/agent_mail/credentials/${c.id}`)).title], ["Mail (managed by Acme)", "Mail (managed by Acme)"]);

  await page.goto(local);
  await page.getByRole("button", { name: "Sign in" }).waitFor();
  assert.deepEqual([await page.title(), await page.getByRole("img").count(), await help.count()], ["Your credentials", 0, 0]);
  assert.notEqual(await colour(), theirs);
});

check("the page works behind a mapped path, with and without a slash", { elsewhere: [logo] }, async (page) => {
  await page.route(logo, (route) => route.fulfill({ contentType: "image/svg+xml", body: svg }));
  await page.goto(mapped);
  assert.equal(page.url(), mapped + "/");
  await page.getByLabel("Sign in as").fill("mia");
  await page.keyboard.press("Enter");
  await row(page, "Mail (managed by Acme)").waitFor();
  await page.reload();
  assert.equal(page.url(), mapped + "/");
});

check("a managed credential is removed where the platform lets users, once they know what goes with it", { statuses: [409], elsewhere: [logo] }, async (page) => {
  await page.route(logo, (route) => route.fulfill({ contentType: "image/svg+xml", body: svg }));
  await page.goto(mapped);
  await page.getByLabel("Sign in as").fill("moss");
  await page.keyboard.press("Enter");
  const theirs = row(page, "Mail (managed by Acme)");
  const remove = theirs.getByRole("button", { name: "Remove" });
  await remove.waitFor();
  assert.deepEqual([await theirs.getByRole("button").allTextContents(), await theirs.locator("input").count()], [["Replace key", "Remove"], 0]);
  await look(page, "removable");
  await remove.click();
  const dialog = page.getByRole("dialog", { name: "Remove Mail (managed by Acme)?" });
  await dialog.getByText("This action cannot be undone. Your inboxes at AgentMail are deleted, with all mail in them.", { exact: true }).waitFor();
  await page.waitForFunction(() => document.activeElement.textContent === "Cancel");
  await look(page, "remove-managed");
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  await focus(page, "Remove Mail (managed by Acme)");
  assert.equal((await get("moss", "/agent_mail/credentials")).length, 1);

  // It may be worked on just then.
  await remove.click();
  await page.route("**/agent_mail/managed", (route) => route.fulfill(answer(409, { provider: "agent_mail", state: "provisioning", retry_at: null, detail: "It is being set up." })), { times: 1 });
  await dialog.getByRole("button", { name: "Remove", exact: true }).click();
  await dialog.getByRole("alert").getByText("It is being set up.").waitFor();
  await dialog.getByRole("button", { name: "Try again" }).click();
  await page.getByText("Mail (managed by Acme) is being removed.", { exact: true }).waitFor();
  const place = row(page, "AgentMail (managed)");
  await place.getByText("Being removed", { exact: true }).waitFor();
  assert.deepEqual(await get("moss", "/agent_mail/credentials"), []);
  assert.equal(await place.getByRole("button").count(), 0);
  await look(page, "being-removed");
});

check("the key of a managed credential is replaced where the platform lets users, once they know what becomes of it", { statuses: [429], elsewhere: [logo] }, async (page) => {
  await page.route(logo, (route) => route.fulfill({ contentType: "image/svg+xml", body: svg }));
  await page.goto(mapped);
  await page.getByLabel("Sign in as").fill("reed");
  await page.keyboard.press("Enter");
  const theirs = row(page, "Mail (managed by Acme)");
  const replace = theirs.getByRole("button", { name: "Replace key of Mail (managed by Acme)" });
  await replace.click();
  const dialog = page.getByRole("dialog", { name: "Replace the key of Mail (managed by Acme)?" });
  await dialog.getByText("The key that your agents have now works until the new one is there, and for 90 minutes after that.", { exact: true }).waitFor();
  await page.waitForFunction(() => document.activeElement.textContent === "Cancel");
  await look(page, "replace-key");
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  await focus(page, "Replace key of Mail (managed by Acme)");

  // They may have done so a short while ago.
  await replace.click();
  await page.route("**/agent_mail/managed/replace", (route) => route.fulfill(answer(429, { provider: "agent_mail", state: "ready", retry_at: 4102444800, detail: "This key was replaced a short while ago." })), { times: 1 });
  await dialog.getByRole("button", { name: "Replace key", exact: true }).click();
  await dialog.getByRole("alert").getByText(/^This key was replaced a short while ago\. You can do that at .+\.$/).waitFor();
  const before = await handedOut("reed");
  await dialog.getByRole("button", { name: "Try again" }).click();
  await page.getByText("The key of Mail (managed by Acme) is being replaced.", { exact: true }).waitFor();
  // The round of reconcile that makes it may have come already.
  await theirs.getByText(/^(A new key is being made\. The present one works until then\.|Its key was replaced\. The one before works until .+\.)$/).waitFor();
  assert.deepEqual(await theirs.getByRole("button").allTextContents(), ["Remove"]);
  await look(page, "replacing");
  await json(await fetch(`${new URL(mapped).origin}/local/reconcile`, { method: "POST" }));
  await theirs.getByText(/^Its key was replaced\. The one before works until .+\.$/).waitFor();
  const now = await handedOut("reed");
  assert.deepEqual([now.id, now.retiring_attempt, now.api_key === before.api_key], [before.id, before.attempt, false]);
  await look(page, "replaced");
});
