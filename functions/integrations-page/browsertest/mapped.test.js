// The page behind a path that a custom domain maps to the API, or a stage's name.
import assert from "node:assert/strict";
import { check, mapped, row } from "./world.js";

check("the page works behind a mapped path, with and without a slash", {}, async (page) => {
  await page.goto(mapped);
  assert.equal(page.url(), mapped + "/");
  await page.getByLabel("Sign in as").fill("mia");
  await page.keyboard.press("Enter");
  await row(page, "AgentMail (managed by AutoGPT)").waitFor();
  await page.reload();
  assert.equal(page.url(), mapped + "/");
});
