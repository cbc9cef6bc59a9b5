// <credential-picker> in docs/picker.html, from another origin than the service.
import assert from "node:assert/strict";
import { answer, api, check, host, look, own, token } from "./world.js";

const select = (page) => page.getByRole("combobox", { name: "Mail account" });
const options = (page) => select(page).locator("option").allTextContents();
const picker = (page) => page.locator("credential-picker");
const isList = (url) => url.pathname === "/agent_mail/credentials";

/** open goes to the host's page, as some user. */
async function open(page, user) {
  await page.goto(host);
  await page.getByLabel("Access token").fill(await token(user));
  await page.keyboard.press("Tab");
}

check("the picker lists what its user may use, and gives the form the id", {}, async (page) => {
  const mine = await own("tara", "agent_mail", "Mine");
  await api("tara", "POST", "/agent_mail/credentials", { type: "user_password", title: "Another type", username: "u", password: "p" });
  await own("tara", "github", "Another provider");
  await open(page, "tara");
  await select(page).locator("option", { hasText: "Mine" }).waitFor({ state: "attached" });
  assert.deepEqual(await options(page), ["Choose a credential", "Mine", "AgentMail (managed by AutoGPT)"]);
  assert.deepEqual(await select(page).locator("optgroup").evaluateAll((all) => all.map((g) => g.label)), ["Yours", "Managed by the platform"]);
  await look(page, "picker");

  await page.getByRole("button", { name: "Save" }).click();
  assert.ok(await picker(page).evaluate((p) => p.matches(":invalid") && p.validity.valueMissing && document.activeElement === p));
  assert.equal(await page.getByText("Saved:").count(), 0);
  await select(page).selectOption({ label: "Mine" });
  await page.getByText(`Chosen: ${mine.id}`).waitFor();
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText(`Saved: ${mine.id}`).waitFor();
  // A page may set it, and a form is reset.
  const managed = (await api("tara", "GET", "/agent_mail/credentials")).find((c) => c.is_managed);
  await picker(page).evaluate((p, id) => { p.value = id; }, managed.id);
  assert.equal(await select(page).inputValue(), managed.id);
  await page.locator("form").evaluate((f) => f.reset());
  assert.equal(await picker(page).evaluate((p) => p.value), "");
});

check("the picker works by keyboard alone, and has its label, also when that is pressed", {}, async (page) => {
  await open(page, "uma");
  await select(page).locator("option", { hasText: "AgentMail" }).waitFor({ state: "attached" });
  await page.getByText("Mail account", { exact: true }).click();
  const inside = () => page.evaluate(() => document.activeElement.shadowRoot?.activeElement.tagName);
  assert.equal(await inside(), "SELECT");
  await page.keyboard.press("ArrowDown");
  await page.getByText("Chosen: ").waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await inside(), "BUTTON");
  assert.ok(await page.getByRole("button", { name: "Add a credential: Mail account" }).isVisible());
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.getByText("Saved: ").waitFor();
  await picker(page).evaluate((p) => { p.closest("form").inert = false; p.setAttribute("disabled", ""); });
  assert.ok(await select(page).isDisabled());
});

check("what is being set up has its place in the picker, appears by itself, and is said if it fails", {}, async (page) => {
  let says = "agent_mail=provisioning";
  await page.route(isList, async (route) => {
    const response = await route.fetch();
    if (!says) return route.fulfill({ response });
    return route.fulfill({ response, json: [], headers: { ...response.headers(), "managed-credentials": says } });
  });
  await open(page, "vito");
  await page.getByText("AgentMail is being set up for you. It appears here by itself.").waitFor();
  assert.deepEqual(await options(page), ["Choose a credential", "AgentMail: being set up"]);
  assert.ok(await select(page).locator("option").nth(1).evaluate((o) => o.disabled));
  await look(page, "picker-setting-up");
  says = "agent_mail=failed;retry_at=1";
  await page.getByText("Setting up AgentMail did not work. It is tried again in a moment.").waitFor();
  await look(page, "picker-failed");
  says = "";
  await select(page).locator("option", { hasText: "AgentMail (managed by AutoGPT)" }).waitFor({ state: "attached" });
  assert.equal(await picker(page).locator("p").textContent(), "");
});

check("the picker leads to the page's form, and chooses what was added there", {}, async (page, context) => {
  await open(page, "wanda");
  await select(page).locator("option", { hasText: "AgentMail" }).waitFor({ state: "attached" });
  const opened = context.waitForEvent("page");
  await page.getByRole("button", { name: "Add a credential: Mail account" }).click();
  const form = await opened;
  await form.getByLabel("Sign in as").fill("wanda");
  await form.keyboard.press("Enter");
  await form.getByLabel("API key", { exact: true }).fill("am_us_key-that-is-long-enough-7f3a");
  await form.getByLabel("Title").fill("My mail");
  await form.getByRole("button", { name: "Add", exact: true }).click();
  await form.getByText("My mail was added. You can go back to where you came from.").waitFor();
  assert.equal(await form.evaluate(() => window.opener), null);
  await form.close();
  await page.bringToFront();
  await page.evaluate(() => dispatchEvent(new Event("focus")));
  const [added] = (await api("wanda", "GET", "/agent_mail/credentials")).filter((c) => !c.is_managed);
  await page.getByText(`Chosen: ${added.id}`).waitFor();
  assert.equal(await select(page).locator("option:checked").textContent(), "My mail, ends in 7f3a");

  // A host may have a form of its own.
  await picker(page).evaluate((p) => p.addEventListener("add", (event) => { event.preventDefault(); document.title = "The host's own"; }));
  await page.getByRole("button", { name: "Add a credential: Mail account" }).click();
  assert.equal(await page.title(), "The host's own");
  assert.equal(context.pages().length, 1);
});

check("what was chosen and is gone, or has expired, is said and does not pass", {}, async (page) => {
  const c = await own("xaver", "agent_mail", "Mine");
  await open(page, "xaver");
  await select(page).selectOption({ label: "Mine" });
  await api("xaver", "DELETE", `/agent_mail/credentials/${c.id}`);
  await page.getByLabel("Access token").fill(await token("xaver"));
  await page.keyboard.press("Tab");
  await page.getByText("The credential that was chosen is no longer there. Choose another.").waitFor();
  assert.equal(await picker(page).evaluate((p) => p.value), c.id);
  assert.ok(await picker(page).evaluate((p) => p.validity.customError));
  await look(page, "picker-gone");
  await select(page).selectOption({ label: "AgentMail (managed by AutoGPT)" });
  assert.ok(await picker(page).evaluate((p) => p.validity.valid));
  assert.equal(await picker(page).locator("p").textContent(), "");
});

check("a token that is refused is asked for once more, and then said", { statuses: [401, 403, 503], hidden: true }, async (page) => {
  await page.goto(host);
  await picker(page).evaluate((p, good) => {
    window.asked = 0;
    p.token = async () => (++window.asked === 1 ? "old" : good);
  }, await token("yola"));
  await select(page).locator("option", { hasText: "AgentMail" }).waitFor({ state: "attached" });
  assert.equal(await page.evaluate(() => window.asked), 2);

  await page.route(isList, (route) => route.fulfill(answer(401, { message: "Unauthorized" }, { "access-control-allow-origin": host })));
  await picker(page).evaluate((p) => { p.token = "refused"; });
  await page.getByText("You are not signed in any more.").waitFor();
  await page.unroute(isList);
  const suspended = { detail: "This account is suspended." };
  await page.route(isList, (route) => route.fulfill(answer(403, suspended, { "access-control-allow-origin": host })));
  await picker(page).evaluate((p) => { p.token = "suspended"; });
  await page.getByText("This account is suspended.").waitFor();
  await page.unroute(isList);
  await page.route(isList, (route) => route.fulfill(answer(503, {}, { "access-control-allow-origin": host })), { times: 1 });
  await picker(page).evaluate((p, good) => { p.token = good; }, await token("yola"));
  await page.getByText("The list cannot be read right now.").waitFor();
  await look(page, "picker-problem");
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByText("The list cannot be read right now.").waitFor({ state: "detached" });
});
