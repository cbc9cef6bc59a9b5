import assert from "node:assert/strict";
import { test } from "node:test";
import { kept, keptAwaited } from "../src/filters";
import { kindOf } from "../src/rules";
import {
  awaitedName,
  changedElsewhere,
  detailOf,
  doubtOf,
  keysOf,
  lifeOf,
  lossOf,
  nameOf,
  overlapOf,
  plain,
  providerName,
  rotationOf,
  slug,
  standsText,
  typesOf,
  usedText,
  visible,
  when,
} from "../src/words";

const now = Date.UTC(2026, 0, 1);
const in_ = (days) => now / 1000 + days * 86_400;
const own = {
  id: "1",
  provider: "github",
  type: "api_key",
  title: null,
  scopes: null,
  username: null,
  host: null,
  is_managed: false,
  autogpt_managed: false,
  is_system: false,
  created_at: null,
  expires_at: null,
  hint: null,
  stored: null,
  last_used_on: null,
};

test("providers have names, also those that nobody knows, and that are called like parts of an object", () => {
  for (const [provider, name] of [
    ["github", "GitHub"],
    ["acme_tools", "Acme Tools"],
    ["constructor", "Constructor"],
    ["__proto__", "Proto"],
    ["_", "_"],
  ]) {
    assert.equal(providerName(provider), name);
  }
});

test("what is destroyed with a managed credential is said of every provider", () => {
  assert.match(lossOf("agent_mail"), /inboxes .* all mail/);
  assert.match(lossOf("ayrshare"), /profile .* posts .* linked/);
  assert.equal(lossOf("constructor"), "What was made for you at Constructor is deleted there, with all that is in it.");
});

test("what people type leads to the provider's name in the API", () => {
  for (const [typed, provider] of [
    ["GitHub", "github"],
    ["Open AI", "openai"],
    ["open-router", "open_router"],
    ["Hugging Face", "hugging_face"],
    ["Google Drive", "google_drive"],
    ["openai", "openai"],
    ["huggingface", "huggingface"],
    ["", ""],
    ["Ünï", "ünï"],
  ]) {
    assert.equal(slug(typed), provider, typed);
  }
});

test("the catalogue knows types, places and beginnings, and doubts only what is long enough to judge", () => {
  assert.deepEqual(typesOf("smtp"), ["user_password"]);
  assert.deepEqual(typesOf("acme"), ["api_key", "oauth2", "user_password", "host_scoped"]);
  assert.equal(keysOf("acme"), undefined);
  assert.equal(keysOf("openai"), "https://platform.openai.com/api-keys");
  for (const [provider, key, doubts] of [
    ["github", "ghp_1234567", false],
    ["github", " github_pat_12", false],
    ["github", "sk-12345678", true],
    ["github", "sk-", false],
    ["acme", "anything at all", false],
  ]) {
    assert.equal(doubtOf(provider, key) !== "", doubts, key);
  }
});

test("an expiry is told by what is left", () => {
  for (const [expires_at, text, state, expiring] of [
    [null, "", "", false],
    [in_(-1), "Expired", "expired", true],
    [in_(0.5), "Expires within a day", "soon", true],
    [in_(3), "Expires in 3 days", "soon", true],
    [in_(20), "Expires in 20 days", "", true],
    [in_(31), "Expires 1 Feb 2026", "", false],
  ]) {
    const life = lifeOf({ ...own, expires_at }, now);
    assert.equal(life.state, state);
    if (text !== "Expires 1 Feb 2026") assert.equal(life.text, text); // That one is as the reader's language has it.
    assert.equal(kept({ ...own, expires_at }, "Expiring", now), expiring, String(expires_at));
  }
});

test("a moment that has passed is not told as one to come", () => {
  assert.equal(when(in_(-1), now), "in a moment");
  assert.match(when(in_(1), now), /^at /);
});

test("a title that cannot be seen is none, and what tells credentials apart is said", () => {
  assert.equal(visible("\u200b\u2060 "), "");
  assert.equal(nameOf({ ...own, title: "\u200b" }), "GitHub API key");
  assert.equal(nameOf({ ...own, title: " Work " }), "Work");
  assert.equal(detailOf({ ...own, host: "a.example", hint: "7f3a" }), "a.example · ends in 7f3a");
  assert.equal(detailOf({ ...own, scopes: Array(7).fill("x") }), "");
  assert.equal(plain("Clé Élève"), "cle eleve");
});

test("what has become of a credential is said by what differs", () => {
  assert.match(changedElsewhere(own, { ...own, title: "New" }), /is called “\u2068New\u2069” now/);
  assert.match(changedElsewhere(own, { ...own, hint: "9x8y" }), /^Its secret was changed elsewhere, and ends in 9x8y now/);
  assert.match(changedElsewhere(own, own), /^Its secret was changed elsewhere\./);
});

test("what is not there yet is told as it stands, and is managed", () => {
  assert.equal(awaitedName("agent_mail"), "AgentMail (managed)");
  for (const [state, retryAt, text] of [
    ["ready", null, "Ready"],
    ["provisioning", null, "Being set up"],
    ["failed", null, "Failed"],
    ["failed", in_(-1), "Failed, again in a moment"],
    ["unavailable", null, "Unavailable"],
    ["offered", null, "Not set up"],
    ["retracting", null, "Being removed"],
  ]) {
    assert.equal(standsText({ state, retryAt, unusable: false }, now), text);
  }
  assert.equal(standsText({ state: "ready", retryAt: null, unusable: true }, now), "Not working");
  assert.deepEqual(["All", "Yours", "Managed", "Platform", "Expiring"].filter(keptAwaited), ["All", "Managed"]);
});

test("what does not say that it is the user's is not taken for theirs", () => {
  assert.equal(kindOf(own), "Yours");
  for (const c of [
    {},
    { is_system: false },
    { autogpt_managed: false },
    { autogpt_managed: true, is_system: false },
    { autogpt_managed: "false", is_system: false },
  ]) {
    assert.equal(kindOf(c), "Managed");
  }
  assert.equal(kindOf({ is_system: true, autogpt_managed: true }), "Platform");
  assert.ok(kept(own, "Yours", now) && !kept(own, "Managed", now) && kept(own, "All", now));
});

test("what becomes of a key that is replaced is said, and how that stands", () => {
  assert.match(overlapOf(0), /stops working as soon as the new one is there/);
  for (const [seconds, text] of [
    [1, "1 second"],
    [60, "60 seconds"],
    [5400, "90 minutes"],
    [7200, "2 hours"],
    [2_592_000, "720 hours"],
  ]) {
    assert.ok(overlapOf(seconds).endsWith(`, and for ${text} after that.`), overlapOf(seconds));
  }
  assert.equal(rotationOf(undefined, now), "");
  assert.equal(rotationOf({ replacing: false, retireAt: in_(-1) }, now), "");
  assert.match(rotationOf({ replacing: true, retireAt: in_(1) }, now), /is being made/);
  assert.match(rotationOf({ replacing: false, retireAt: in_(1) }, now), /works until/);
});

test("the day of the last use is that of UTC, wherever somebody is", () => {
  assert.equal(usedText(own), "");
  const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
  assert.equal(usedText({ ...own, last_used_on: "2026-11-30" }), `Last used ${day.format(Date.UTC(2026, 10, 30, 12))}`);
});
