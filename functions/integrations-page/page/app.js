"use strict";

const form = document.getElementById("sign-in");
const status = document.getElementById("status");
const table = document.getElementById("credentials");
let token = ""; // in memory only

// The one place that says what a user may change: the API refuses the rest.
const mayChange = (credential) => !credential.autogpt_managed && !credential.is_system;

const kind = (credential) =>
  credential.is_system ? "Platform" : credential.autogpt_managed ? "Managed by the platform: cannot be changed or removed" : "Yours";

// On one machine there is an endpoint that gives out tokens, so a name is enough to sign in.
async function offerNames() {
  const answer = await fetch("/local/token", { method: "POST", body: "{}" });
  const local = answer.status === 422;
  document.getElementById("name-label").hidden = !local;
  document.getElementById("token-label").hidden = local;
}

async function tokenFor(name) {
  const answer = await fetch("/local/token", { method: "POST", body: JSON.stringify({ sub: name }) });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail);
  return body.access_token;
}

async function call(method, path) {
  const answer = await fetch(path, { method, headers: { authorization: `Bearer ${token}` } });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail ?? body.message);
  return body;
}

function row(credential) {
  const tr = document.createElement("tr");
  for (const text of [credential.provider, credential.title ?? "", credential.type, kind(credential)]) {
    tr.insertCell().textContent = text;
  }
  const actions = tr.insertCell();
  if (mayChange(credential)) {
    const remove = document.createElement("button");
    remove.textContent = "Delete";
    remove.ariaLabel = `Delete ${credential.title ?? credential.provider}`;
    remove.addEventListener("click", () => confirmAndRemove(credential));
    actions.append(remove);
  }
  return tr;
}

function confirmAndRemove(credential) {
  const text = `Remove ${credential.title ?? credential.provider}?\n\nThis action cannot be undone. Agents using this credential will lose access immediately.`;
  if (!confirm(text)) return;
  attempt("Deleting…", async () => {
    await call("DELETE", `/${credential.provider}/credentials/${credential.id}`);
    await show();
  });
}

async function show() {
  const credentials = await call("GET", "/credentials");
  table.tBodies[0].replaceChildren(...credentials.map(row));
  table.hidden = credentials.length === 0;
  status.textContent = credentials.length === 0 ? "You have no credentials yet." : "";
}

async function attempt(doing, work) {
  status.textContent = doing;
  try {
    await work();
  } catch (error) {
    status.textContent = `That did not work: ${error.message}`;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const fields = new FormData(form);
  attempt("Loading…", async () => {
    token = document.getElementById("name-label").hidden ? fields.get("token") : await tokenFor(fields.get("name"));
    await show();
  });
});

offerNames();
