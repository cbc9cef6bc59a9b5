// Signing in by Cognito's managed login, and staying so.
import assert from "node:assert/strict";
import { answer, check, isList, login, look, managed, row } from "./world.js";

/** signIn goes through the login pages. */
async function signIn(page, name) {
  await page.goto(managed);
  await page.getByRole("button", { name: "Sign in" }).click();
  await submit(page, name);
  await page.getByRole("heading", { name: "Your credentials" }).waitFor();
  await row(page, "Use Credits for OpenAI").waitFor();
}

async function submit(page, name) {
  await page.getByLabel("User name").fill(name);
  await page.getByRole("button", { name: "Sign in" }).click();
}

/** tokens resolves to what the token endpoint answers next. */
const tokens = async (page) => (await page.waitForResponse(`${login}/oauth2/token`)).json();

/** expire has the API refuse every token until the next one is got. */
async function expire(page) {
  let old;
  const refuse = async (route) => {
    const token = route.request().headers().authorization;
    old ??= token;
    if (token === old) await route.fulfill(answer(401, { message: "Unauthorized" }));
    else await route.fallback();
  };
  await page.route((url) => url.origin === managed && url.pathname.includes("credentials"), refuse);
}

const revoke = (refresh) => fetch(`${login}/oauth2/revoke`, { method: "POST", body: new URLSearchParams({ token: refresh, client_id: "local" }) });

check("the code is exchanged with PKCE, and tokens are kept in memory alone", {}, async (page, context) => {
  await page.goto(managed);
  await page.getByRole("button", { name: "Sign in" }).waitFor();
  await look(page, "front-managed");
  const asked = page.waitForRequest((r) => r.url().startsWith(`${login}/oauth2/authorize`));
  await page.getByRole("button", { name: "Sign in" }).click();
  const query = new URL((await asked).url()).searchParams;
  assert.equal(query.get("code_challenge_method"), "S256");
  assert.match(query.get("code_challenge"), /^[\w-]{43}$/);
  assert.equal(query.get("redirect_uri"), managed + "/");
  const exchanged = page.waitForRequest(`${login}/oauth2/token`);
  const got = tokens(page);
  await submit(page, "ida");
  assert.match(new URLSearchParams((await exchanged).postData()).get("code_verifier"), /^[\w-]{43}$/);
  const { access_token, refresh_token, id_token } = await got;
  await page.getByText("ida@example.com").waitFor();
  assert.equal(page.url(), managed + "/");
  const kept = await page.evaluate(async () => JSON.stringify({ ...localStorage, ...sessionStorage }) + document.cookie + document.documentElement.outerHTML + JSON.stringify(await indexedDB.databases()));
  for (const token of [access_token, refresh_token, id_token]) assert.ok(!kept.includes(token));
  assert.deepEqual((await context.cookies(managed)).map((c) => c.name), ["cognito"]); // The login's own: a port is no part of a cookie's host.

  await page.reload();
  await page.getByText("ida@example.com").waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("button", { name: "Sign in" }).waitFor();
  await page.reload();
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByLabel("User name").waitFor(); // The login pages have forgotten them, too.
});

check("a sign-in that was not begun here is refused", {}, async (page) => {
  await page.goto(`${managed}/?code=stolen&state=forged`);
  await page.getByText("This sign-in was not begun here, or is too old. Please sign in again.").waitFor();
  assert.equal(page.url(), managed + "/");
  await look(page, "sign-in-failed");
});

check("tokens of another issuer, or for another client, sign nobody in", {}, async (page) => {
  for (const claims of [{ iss: "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Other" }, { aud: "another-client" }]) {
    await page.route(`${login}/oauth2/token`, async (route) => {
      const response = await route.fetch();
      const got = await response.json();
      const [head, body, signature] = got.id_token.split(".");
      const other = { ...JSON.parse(Buffer.from(body, "base64url").toString()), ...claims };
      await route.fulfill({ response, json: { ...got, id_token: [head, Buffer.from(JSON.stringify(other)).toString("base64url"), signature].join(".") } });
    }, { times: 1 });
    await page.context().clearCookies();
    await page.goto(managed);
    await page.getByRole("button", { name: "Sign in" }).click();
    await submit(page, "otto");
    await page.getByText("The sign-in was refused. Please try again.").waitFor();
  }
});

check("a clock that is wrong keeps nobody out", {}, async (page) => {
  await page.clock.setFixedTime("2034-05-06T07:08:09Z");
  await signIn(page, "petra");
  await page.getByText("petra@example.com").waitFor();
});

check("tokens are renewed before they run out", {}, async (page) => {
  await page.route(`${login}/oauth2/token`, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...(await response.json()), expires_in: 1 } });
  }, { times: 1 });
  const renewed = page.waitForRequest((r) => r.url() === `${login}/oauth2/token` && r.postData().includes("grant_type=refresh_token"));
  await signIn(page, "jack");
  await renewed;
});

check("a token that has run out is renewed silently, and the request repeated", { statuses: [401] }, async (page) => {
  await signIn(page, "kim");
  await expire(page);
  await page.getByRole("button", { name: "Add credential" }).click();
  const form = page.getByRole("dialog");
  await form.getByLabel("Provider").fill("github");
  await form.getByLabel("Title").fill("Late");
  await form.getByLabel("API key", { exact: true }).fill("key");
  await form.getByRole("button", { name: "Add", exact: true }).click();
  await row(page, "Late").waitFor();
});

/** loseSession has the session end while a form is filled, and sends the form. */
async function loseSession(page, user) {
  await page.goto(managed);
  await page.getByRole("button", { name: "Sign in" }).click();
  const got = tokens(page);
  await submit(page, user);
  await row(page, "Use Credits for OpenAI").waitFor();
  await revoke((await got).refresh_token);
  await expire(page);
  await page.getByRole("button", { name: "Add credential" }).click();
  const form = page.getByRole("dialog", { name: "Add a credential" });
  await form.getByLabel("Provider").fill("github");
  await form.getByLabel("Title").fill("Typed before");
  await form.getByLabel("API key", { exact: true }).fill("key");
  await form.getByRole("button", { name: "Add", exact: true }).click();
  await page.getByRole("dialog", { name: "Sign in again" }).waitFor();
  return form;
}

check("when the session is over the user signs in in a pop-up, and goes on", { statuses: [400, 401] }, async (page, context) => {
  const form = await loseSession(page, "lea");
  await look(page, "sign-in-again");
  assert.equal(await form.getByLabel("Title").inputValue(), "Typed before");
  await context.clearCookies(); // Else the login pages would not even ask.
  const opened = context.waitForEvent("page");
  await page.getByRole("button", { name: "Sign in again" }).click();
  const popup = await opened;
  await submit(popup, "lea");
  await row(page, "Typed before").waitFor();
  if (!popup.isClosed()) await popup.waitForEvent("close");
  assert.equal(await page.getByRole("dialog").count(), 0);
});

check("another user who signs in in the pop-up gets nothing that was typed", { statuses: [400, 401] }, async (page, context) => {
  await loseSession(page, "mia");
  await context.clearCookies();
  const sent = [];
  page.on("request", (r) => { if (r.method() === "POST" && r.url().startsWith(managed)) sent.push(r.url()); });
  const opened = context.waitForEvent("page");
  await page.getByRole("button", { name: "Sign in again" }).click();
  await submit(await opened, "nora");
  await page.getByText("nora@example.com").waitFor();
  await row(page, "Use Credits for OpenAI").waitFor();
  assert.equal(await page.getByRole("dialog").count(), 0);
  assert.deepEqual(sent, []);
});

check("a list that is refused for good leads back to the front", { statuses: [401] }, async (page) => {
  await page.goto(managed);
  await page.route(isList, (route) => route.fulfill(answer(401, { message: "Unauthorized" })));
  await page.getByRole("button", { name: "Sign in" }).click();
  await submit(page, "otto");
  await page.getByText("You are not signed in any more.").waitFor(); // Not again and again: a new token did not help.
});

check("signing out ends it in every tab, and makes the refresh token void", {}, async (page, context) => {
  await page.goto(managed);
  await page.getByRole("button", { name: "Sign in" }).click();
  const got = tokens(page);
  await submit(page, "paul");
  await row(page, "Use Credits for OpenAI").waitFor();
  const { refresh_token } = await got;
  const other = await context.newPage();
  await other.goto(managed);
  await other.getByRole("button", { name: "Sign in" }).click(); // The login pages know the browser.
  await row(other, "Use Credits for OpenAI").waitFor();

  const revoked = page.waitForRequest(`${login}/oauth2/revoke`);
  await page.getByRole("button", { name: "Sign out" }).click();
  assert.equal(new URLSearchParams((await revoked).postData()).get("token"), refresh_token);
  await other.getByRole("button", { name: "Sign in" }).waitFor();
  assert.equal(await other.locator("li.row").count(), 0);
});
