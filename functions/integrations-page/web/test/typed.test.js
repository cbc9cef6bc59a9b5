import assert from "node:assert/strict";
import { test } from "node:test";
import { mayAsk, nextLook, parseStandings } from "../src/standings";
import { headersOf, sizeOf, timeProblem } from "../src/typed";
import { wishOf } from "../src/wish";

test("a time is complete, of this age, and to come", () => {
  const now = Date.UTC(2026, 0, 1);
  for (const [value, partial, says] of [
    ["", false, ""],
    ["", true, "Complete"],
    ["2030-01-01T00:00", false, ""],
    ["2020-01-01T00:00", false, "has passed"],
    ["1999-12-31T23:59", false, "between"],
    ["12026-01-01T00:00", false, "between"],
  ]) {
    const problem = timeProblem(value, partial, now);
    assert.ok(says ? problem.includes(says) : problem === "", `${value}: ${problem}`);
  }
});

test("header rows are headers, and what is wrong is at its row", () => {
  const { headers, errors } = headersOf([
    { name: " X-A ", value: "1" },
    { name: "", value: "" },
    { name: "__proto__", value: "2" },
  ]);
  assert.deepEqual([Object.keys(headers), errors.size], [["X-A", "__proto__"], 0]);
  const wrong = headersOf([
    { name: "X-A", value: "1" },
    { name: "x-a", value: "2" },
    { name: "", value: "3" },
    { name: "X-B", value: "" },
  ]).errors;
  assert.deepEqual([...wrong.keys()], ["header 1", "header 2", "header 3"]);
  assert.deepEqual([...headersOf([{ name: "", value: "" }]).errors.keys()], ["headers"]);
});

test("the size is that of the secret fields, in bytes", () => {
  const empty = sizeOf("api_key", {});
  assert.equal(sizeOf("api_key", { api_key: "ä" }) - empty, '"api_key":"ä",'.length + 1);
  assert.equal(sizeOf("oauth2", { scopes: ["x"], username: "u" }), sizeOf("oauth2", {}));
  assert.notEqual(sizeOf("user_password", { username: "u" }), sizeOf("user_password", {}));
});

test("standings are read, and what is not known is left out", () => {
  const settled = { replaceable: null, replacing: false, retireAt: null };
  assert.deepEqual(parseStandings(null), []);
  assert.deepEqual(
    parseStandings(
      "agent_mail=ready;unusable;removable, z=ready;removable;replaceable=0;replacing;retire_at=7, open_router=failed;retry_at=12;removable, x=resting, __proto__=provisioning, y=offered;retry_at=9",
    ),
    [
      { provider: "agent_mail", state: "ready", retryAt: null, unusable: true, removable: true, ...settled },
      { provider: "z", state: "ready", retryAt: null, unusable: false, removable: true, replaceable: 0, replacing: true, retireAt: 7 },
      { provider: "open_router", state: "failed", retryAt: 12, unusable: false, removable: true, ...settled },
      { provider: "__proto__", state: "provisioning", retryAt: null, unusable: false, removable: false, ...settled },
      { provider: "y", state: "offered", retryAt: 9, unusable: false, removable: false, ...settled },
    ],
  );
});

test("the list is looked at again while it may change, more and more rarely", () => {
  const setUp = [{ provider: "a", state: "provisioning", retryAt: null }];
  assert.equal(nextLook([{ provider: "a", state: "ready", retryAt: null }], 0, 0), null);
  assert.equal(nextLook([{ provider: "a", state: "ready", retryAt: null, replacing: true }], 0, 0), 2000);
  assert.deepEqual(
    [0, 1, 2, 50].map((looks) => nextLook(setUp, looks, 0)),
    [2000, 3000, 4500, 30_000],
  );
  assert.equal(nextLook([{ provider: "a", state: "failed", retryAt: 60 }], 0, 0), 60_500);
  assert.equal(nextLook([{ provider: "a", state: "failed", retryAt: 1 }], 50, 60_000), 30_000);
});

test("what failed may be asked for at once, and what is offered once its pause is over", () => {
  for (const [state, retryAt, may] of [
    ["failed", 99, true],
    ["failed", null, true],
    ["offered", null, true],
    ["offered", 10, true],
    ["offered", 11, false],
    ["provisioning", null, false],
    ["unavailable", null, false],
    ["retracting", null, false],
  ]) {
    assert.equal(mayAsk({ provider: "a", state, retryAt }, 10_000), may, `${state} ${retryAt}`);
  }
  assert.equal(nextLook([{ provider: "a", state: "retracting", retryAt: null }], 0, 0), 2000);
  assert.equal(nextLook([{ provider: "a", state: "offered", retryAt: 60 }], 0, 0), null);
});

test("an address's words are a wish only if they are a provider and a type", () => {
  assert.deepEqual(wishOf({ provider: "github", type: "oauth2" }), { provider: "github", type: "oauth2" });
  assert.deepEqual(wishOf({ provider: "github", type: "constructor" }), { provider: "github", type: null });
  for (const provider of ["", "No such", "a".repeat(65), null, 5]) assert.equal(wishOf({ provider }), null);
});
