// The page behind a path that a custom domain maps to the API, or a stage's name.
import assert from "node:assert/strict";
import { check, json, local, look, mapped, row } from "./world.js";

const logo = "https://acme.example/logo.svg";
const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="96" height="32"><rect width="96" height="32" rx="8" fill="#ffe600"/></svg>`;

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
  const { access_token } = await json(await fetch(`${new URL(mapped).origin}/local/token`, { method: "POST", body: JSON.stringify({ sub: "mara" }) }));
  const get = async (path) => json(await fetch(mapped + path, { headers: { authorization: `Bearer ${access_token}` } }));
  const [c] = await get("/agent_mail/credentials");
  assert.deepEqual([c.title, (await get(`/agent_mail/credentials/${c.id}`)).title], ["Mail (managed by Acme)", "Mail (managed by Acme)"]);

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
