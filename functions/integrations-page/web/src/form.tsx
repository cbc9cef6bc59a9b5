// The form by which a credential is added, renamed and given other secrets. Its inputs hold what is typed, and nothing else does: the values
// are read when the form is sent, and are gone with it.
import { useRef, useState } from "preact/hooks";
import { create, Problem, update } from "./api";
import { Modal } from "./modal";
import type { Credential, Type } from "./rules";
import { Abandoned } from "./session";
import { nameOf, providerName, suggestions, typeNames } from "./words";

interface Props {
  /** The credential to edit; null adds one. */
  of: Credential | null;
  onSaved: (saved: Credential) => void;
  onClose: () => void;
}

type Errors = Record<string, string>;

/** A field of a type, named as the API names it. */
interface Field {
  name: string;
  label: string;
  kind: "text" | "secret" | "time" | "scopes" | "headers";
  required?: boolean;
  hint?: string;
}

const fieldsOf: Record<Type, Field[]> = {
  api_key: [
    { name: "api_key", label: "API key", kind: "secret", required: true },
    { name: "expires_at", label: "Expires", kind: "time" },
  ],
  oauth2: [
    { name: "access_token", label: "Access token", kind: "secret", required: true },
    { name: "access_token_expires_at", label: "Access token expires", kind: "time" },
    { name: "refresh_token", label: "Refresh token", kind: "secret" },
    { name: "refresh_token_expires_at", label: "Refresh token expires", kind: "time" },
    { name: "username", label: "User name", kind: "text" },
    { name: "scopes", label: "Scopes", kind: "scopes", hint: "Separated by spaces, such as: repo read:user" },
  ],
  user_password: [
    { name: "username", label: "User name", kind: "text", required: true },
    { name: "password", label: "Password", kind: "secret", required: true },
  ],
  host_scoped: [
    { name: "host", label: "Host", kind: "text", required: true, hint: "The headers are sent to this host alone, such as: api.example.com" },
    { name: "headers", label: "Headers", kind: "headers", required: true },
  ],
};

export function CredentialForm({ of, onSaved, onClose }: Props) {
  const [type, setType] = useState<Type>(of?.type ?? "api_key");
  const [replaces, setReplaces] = useState(of === null);
  const [errors, setErrors] = useState<Errors>({});
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const form = useRef<HTMLFormElement>(null);

  function refuse(found: Errors) {
    setErrors(found);
    // The first in the order of the page, once the messages are there to be read with it.
    requestAnimationFrame(() => form.current?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus());
  }

  async function submit(event: SubmitEvent) {
    event.preventDefault();
    if (busy) return;
    setProblem("");
    const data = new FormData(form.current!);
    const fields = replaces ? fieldsOf[type] : [];
    const found = missing(data, fields, of === null);
    if (Object.keys(found).length > 0) {
      refuse(found);
      return;
    }
    setErrors({});
    setBusy(true);
    try {
      // An empty title takes one away; a new credential has none to begin with.
      const body = { title: text(data, "title") || (of ? "" : null), ...(replaces && { type, ...values(data, fields) }) };
      onSaved(of ? await update(of, body) : await create(text(data, "provider"), body));
    } catch (error) {
      setBusy(false);
      if (error instanceof Abandoned) return;
      const p = error instanceof Problem ? error : new Problem(0, "That did not work. Please try again.");
      const field = fields.find((f) => f.name === p.field);
      const known = p.field === "title" || (!of && p.field === "provider") || field;
      if (known) refuse({ [p.field]: field?.kind === "time" ? "Choose a time after 1970." : p.message });
      else setProblem(p.message);
    }
  }

  return (
    <Modal title={of ? `Edit ${nameOf(of)}` : "Add a credential"} onClose={onClose} busy={busy}>
      <form ref={form} onSubmit={(event) => void submit(event)} noValidate autocomplete="off">
        {!of && (
          <>
            <Labelled name="provider" label="Provider" required hint="The service, in lower case, such as: github" error={errors.provider}>
              {(props) => <input {...props} list="providers" autofocus autocapitalize="none" spellcheck={false} maxLength={64} />}
            </Labelled>
            <datalist id="providers">{suggestions.map((p) => <option key={p} value={p}>{providerName(p)}</option>)}</datalist>
          </>
        )}
        <Labelled name="title" label="Title" hint={of ? undefined : "What you call it; helps to tell several apart"} error={errors.title}>
          {(props) => <input {...props} autofocus={Boolean(of)} defaultValue={of?.title ?? ""} maxLength={256} />}
        </Labelled>
        {of ? (
          <label class="choice"><input type="checkbox" checked={replaces} onChange={(e) => setReplaces(e.currentTarget.checked)} />
            <span>Replace the secret<small>It is not shown again. Leave this off to keep it.</small></span></label>
        ) : (
          <Labelled name="type" label="Type">
            {(props) => (
              <select {...props} value={type} onChange={(e) => { setType(e.currentTarget.value as Type); setErrors({}); }}>
                {Object.entries(typeNames).map(([value, name]) => <option key={value} value={value}>{name}</option>)}
              </select>
            )}
          </Labelled>
        )}
        {replaces && fieldsOf[type].map((field) => <Input key={type + field.name} field={field} of={of} error={errors[field.name]} />)}
        {problem && <p role="alert" class="problem">{problem}</p>}
        <div class="actions">
          <button type="button" disabled={busy} onClick={onClose}>Cancel</button>
          <button class="primary" aria-disabled={busy}>{busy ? "Saving…" : of ? "Save" : "Add"}</button>
        </div>
      </form>
    </Modal>
  );
}

function Input({ field, of, error }: { field: Field; of: Credential | null; error?: string }) {
  if (field.kind === "headers") return <Headers field={field} error={error} />;
  // What is no secret is there to begin with, since it is replaced along with the secrets.
  const shown: Record<string, string | undefined> = { username: of?.username ?? "", host: of?.host ?? "", scopes: of?.scopes?.join(" ") };
  return (
    <Labelled name={field.name} label={field.label} required={field.required} hint={field.hint} error={error}>
      {(props) => field.kind === "secret"
        // A password's input, and not one that a password manager should fill with the user's own or keep.
        ? <input {...props} type="password" autocomplete="new-password" spellcheck={false} />
        : field.kind === "time" ? <input {...props} type="datetime-local" />
        : <input {...props} defaultValue={shown[field.name]} autocapitalize="none" spellcheck={false} />}
    </Labelled>
  );
}

/** Headers are rows of a name and a value, as many as wanted. */
function Headers({ field, error }: { field: Field; error?: string }) {
  const [rows, setRows] = useState([0]);
  const next = useRef(1);
  const last = useRef<HTMLInputElement>(null);

  function add() {
    setRows([...rows, next.current++]);
    requestAnimationFrame(() => last.current?.focus());
  }
  function remove(row: number) {
    setRows(rows.filter((r) => r !== row));
    requestAnimationFrame(() => last.current?.focus());
  }
  return (
    <fieldset aria-describedby={error ? "headers-error" : undefined}>
      <legend>{field.label}</legend>
      {rows.map((row, i) => (
        <div class="header" key={row}>
          <input name="header-name" ref={i === rows.length - 1 ? last : undefined} aria-label={`Name of header ${i + 1}`} placeholder="Name" spellcheck={false}
            autocapitalize="none" aria-invalid={Boolean(error)} aria-describedby={error ? "headers-error" : undefined} />
          <input name="header-value" type="password" autocomplete="new-password" aria-label={`Value of header ${i + 1}`} placeholder="Value" />
          <button type="button" class="icon" disabled={rows.length === 1} aria-label={`Remove header ${i + 1}`} onClick={() => remove(row)}>✕</button>
        </div>
      ))}
      <button type="button" class="link" onClick={add}>Add another header</button>
      {error && <p class="problem" id="headers-error">{error}</p>}
    </fieldset>
  );
}

interface InputProps {
  id: string;
  name: string;
  required?: boolean;
  "aria-invalid": boolean;
  "aria-describedby"?: string;
}

interface LabelledProps {
  name: string;
  label: string;
  required?: boolean;
  hint?: string;
  error?: string;
  children: (props: InputProps) => preact.JSX.Element;
}

/** Labelled is an input with what belongs to it: its label, a hint, and what is wrong with it. */
function Labelled({ name, label, required, hint, error, children }: LabelledProps) {
  const described = [hint && `${name}-hint`, error && `${name}-error`].filter(Boolean).join(" ") || undefined;
  return (
    <div class="field">
      <label for={name}>{label}{!required && name !== "type" && <span class="quiet"> (optional)</span>}</label>
      {children({ id: name, name, required, "aria-invalid": Boolean(error), "aria-describedby": described })}
      {hint && <p class="hint" id={`${name}-hint`}>{hint}</p>}
      {error && <p class="problem" id={`${name}-error`}>{error}</p>}
    </div>
  );
}

const text = (data: FormData, name: string): string => String(data.get(name) ?? "").trim();

/** missing says what has to be there and is not. The rest is for the API to judge. */
function missing(data: FormData, fields: Field[], adds: boolean): Errors {
  const errors: Errors = {};
  const provider = text(data, "provider");
  if (adds && !provider) errors.provider = "Enter a provider.";
  else if (adds && !/^[a-z0-9_]{1,64}$/.test(provider)) errors.provider = "Use small letters, digits and _ only.";
  for (const field of fields) {
    if (!field.required) continue;
    if (field.kind === "headers") {
      if (Object.keys(headers(data)).length === 0) errors.headers = "Enter at least one header, with a name and a value.";
    } else if (!String(data.get(field.name) ?? "")) {
      errors[field.name] = "Enter this field.";
    }
  }
  return errors;
}

function headers(data: FormData): Record<string, string> {
  const values = data.getAll("header-value");
  return Object.fromEntries(data.getAll("header-name").map((name, i) => [String(name).trim(), String(values[i])]).filter(([name, value]) => name && value));
}

/** values are a type's fields as the API wants them. A secret is sent as it was typed, space and all. */
function values(data: FormData, fields: Field[]): Record<string, unknown> {
  return Object.fromEntries(fields.map(({ name, kind, required }) => {
    const value = String(data.get(name) ?? "");
    switch (kind) {
      case "headers": return [name, headers(data)];
      case "scopes": return [name, value.split(/[\s,]+/).filter(Boolean)];
      case "time": return [name, value ? Math.floor(new Date(value).getTime() / 1000) : null];
      case "text": return [name, value.trim() || (required ? "" : null)];
      case "secret": return [name, value || null];
    }
  }));
}
