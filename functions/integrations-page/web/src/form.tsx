// The form by which a credential is added, renamed and given other secrets. Its inputs hold what is
// typed, and nothing else does: the values are read when the form is sent, and are gone with it.
import { useEffect, useRef, useState } from "preact/hooks";
import { create, list, Problem, read as readAgain, type Seen, update } from "./api";
import { Modal } from "./modal";
import { Name } from "./name";
import type { Credential, Type } from "./rules";
import { readSecret, SecretInput } from "./secret";
import { Abandoned } from "./session";
import { earliest, type HeaderRow, headersOf, latest, secretLimit, sizeOf, timeProblem } from "./typed";
import type { Wish } from "./wish";
import { changedElsewhere, doubtOf, keysOf, providerName, slug, suggestions, typeNames, typesOf, visible } from "./words";

interface Props {
  /** The credential to edit, as it was just read; null adds one. */
  seen: Seen | null;
  /** What a form begins with that adds one. */
  wish: Wish | null;
  onSaved: (saved: Credential) => void;
  onClose: () => void;
  /** The ids that the list had when the form was opened. */
  known: ReadonlySet<string>;
  /** Called when the credential to edit is not there any more, or is another one. */
  onStale: () => void;
}

/** Errors are texts by the name of a field, or "header " and the number of a row. */
type Errors = ReadonlyMap<string, string>;

const none: Errors = new Map();

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
    {
      name: "host",
      label: "Host",
      kind: "text",
      required: true,
      hint: "The headers are sent to this host alone, such as: api.example.com",
    },
    { name: "headers", label: "Headers", kind: "headers", required: true },
  ],
};

export function CredentialForm({ seen: opened, wish, onSaved, onClose, known, onStale }: Props) {
  // What is there, as far as it is known: another one once a change was refused because of it.
  const [there, setThere] = useState(opened);
  const of = there?.credential ?? null;
  const [provider, setProvider] = useState(of?.provider ?? wish?.provider ?? "");
  const [type, setType] = useState<Type>(of?.type ?? wish?.type ?? typesOf(provider)[0] ?? "api_key");
  const [chosen, setChosen] = useState(Boolean(wish?.type));
  // The types that were looked at. Their fields stay, so that switching back and forth loses
  // nothing.
  const [seen, setSeen] = useState<readonly Type[]>([type]);
  const [replaces, setReplaces] = useState(of === null);
  const [errors, setErrors] = useState<Errors>(none);
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const [asks, setAsks] = useState(false);
  const [filled, setFilled] = useState(false);
  const [size, setSize] = useState(0);
  const [doubt, setDoubt] = useState("");
  const [before] = useState(known); // The list may change while the form is open.
  const form = useRef<HTMLFormElement>(null);
  // What makes a repeat of the same addition safe; "" before the first try, and after each change.
  const once = useRef("");

  useEffect(() => {
    if (!filled) return;
    const ask = (event: BeforeUnloadEvent) => event.preventDefault();
    addEventListener("beforeunload", ask);
    return () => removeEventListener("beforeunload", ask);
  }, [filled]);

  /** fields are the inputs of the type that is shown: those of the others are disabled. */
  const fields = replaces ? fieldsOf[type] : [];
  const inputsOf = (name: string) => [...form.current!.querySelectorAll<HTMLInputElement>(`[name="${name}"]`)];
  const inputs = (name: string) => [...form.current!.querySelectorAll<HTMLInputElement>(`fieldset:enabled [name="${name}"]`)];
  const read = (name: string): string => inputs(name).map(readSecret)[0] ?? "";
  const removed = (name: string): boolean => inputs(`${name}-removed`).some((box) => box.checked);
  const rows = (): HeaderRow[] =>
    inputs("header-value").map((value, i) => ({ name: inputs("header-name")[i]?.value ?? "", value: readSecret(value) }));

  function typed() {
    setFilled(true);
    once.current = "";
    setDoubt(replaces && type === "api_key" ? doubtOf(provider, read("api_key")) : "");
    setSize(replaces ? sizeOf(type, values(fields, read, rows(), of)) : 0);
  }

  function refuse(found: Errors) {
    setErrors(found);
    // The first in the order of the page, once the messages are there to be read with it.
    requestAnimationFrame(() => form.current?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus());
  }

  /**
   * wrong says what has to be there and is not, or cannot be read. The rest is for the API to
   * judge.
   */
  function wrong(): Errors {
    const found = new Map<string, string>();
    if (!of && !provider) found.set("provider", "Enter a provider.");
    else if (!of && !/^[a-z0-9_]{1,64}$/.test(provider)) found.set("provider", "Use small letters, digits and _ only.");
    for (const { name, kind, required } of fields) {
      if (kind === "headers") for (const [row, text] of headersOf(rows()).errors) found.set(row, text);
      else if (kind === "time") {
        const text = timeProblem(read(name), inputs(name)[0]?.validity.badInput ?? false, Date.now());
        if (text) found.set(name, text);
      } else if (required && !read(name)) found.set(name, "Enter this field.");
      if (!found.has(name) && replaced(of, name, required) && !read(name) && !removed(name))
        found.set(name, "Enter it again, or remove what is stored.");
    }
    return found;
  }

  async function submit(event: SubmitEvent) {
    event.preventDefault();
    if (busy) return;
    setProblem("");
    const found = wrong();
    if (found.size > 0) {
      refuse(found);
      return;
    }
    setErrors(none);
    setBusy(true);
    try {
      // What was not changed is not sent: somebody may have changed it elsewhere. An empty title
      // takes one away.
      const title = visible(inputsOf("title")[0]?.value ?? "");
      const body = { ...(title !== (of?.title ?? "") && { title }), ...(replaces && { type, ...values(fields, read, rows(), of) }) };
      if (!there) onSaved(await added(title, body));
      else if (Object.keys(body).length === 0) onClose();
      else onSaved(await update(there, body));
    } catch (error) {
      setBusy(false);
      if (error instanceof Abandoned) return;
      const p = error instanceof Problem ? error : new Problem(0, "That did not work. Please try again.");
      if (p.status === 412 && there) return lookAgain(there);
      if (p.status === 404) onStale();
      const placed = p.field === "title" || (!of && p.field === "provider") || fields.some((f) => f.name === p.field);
      if (placed) refuse(new Map([[p.field, p.message]]));
      else setProblem(p.message);
    }
  }

  /**
   * lookAgain shows what is there now. What was typed stays; a title that was not touched becomes
   * the one that is there.
   */
  async function lookAgain(was: Seen) {
    onStale();
    try {
      const now = await readAgain(was.credential);
      const title = inputsOf("title")[0];
      if (title && visible(title.value) === (was.credential.title ?? "")) title.value = now.credential.title ?? "";
      setThere(now);
      setProblem(changedElsewhere(was.credential, now.credential));
    } catch (error) {
      if (!(error instanceof Abandoned)) setProblem(error instanceof Problem ? error.message : "That did not work. Please try again.");
    }
  }

  /**
   * added adds a credential. If nobody can say whether that has worked, it looks. A second try of
   * the same makes no other one.
   */
  async function added(title: string, body: object): Promise<Credential> {
    once.current ||= crypto.randomUUID();
    try {
      return await create(provider, body, once.current);
    } catch (error) {
      if (!(error instanceof Problem) || (error.status !== 0 && error.status < 500)) throw error;
      const now = await list().catch(() => {
        throw error;
      });
      const made = now.credentials.find(
        (c) => !before.has(c.id) && c.provider === provider && c.type === type && (c.title ?? "") === title,
      );
      if (!made) throw error;
      return made;
    }
  }

  function name(typed: string) {
    const now = slug(typed.trim());
    setProvider(now);
    const usual = typesOf(now)[0];
    if (!chosen && usual) choose(usual);
  }

  function choose(t: Type) {
    setType(t);
    if (!seen.includes(t)) setSeen([...seen, t]);
    setErrors(none);
    setSize(0);
    setDoubt("");
  }

  function leave() {
    if (filled && !asks) setAsks(true);
    else if (asks) setAsks(false);
    else onClose();
  }

  return (
    <Modal
      title={
        of ? (
          <>
            Edit <Name of={of} />
          </>
        ) : (
          "Add a credential"
        )
      }
      onClose={leave}
      busy={busy}
    >
      <form ref={form} onSubmit={(event) => void submit(event)} onInput={typed} noValidate autocomplete="off">
        {!of && (
          <>
            <Labelled name="provider" label="Provider" required hint="The service, such as: GitHub" error={errors.get("provider")}>
              {(props) => (
                <input
                  {...props}
                  list="providers"
                  autofocus={!wish}
                  defaultValue={wish?.provider}
                  onInput={(e) => name(e.currentTarget.value)}
                  autocapitalize="none"
                  spellcheck={false}
                  maxLength={64}
                />
              )}
            </Labelled>
            <datalist id="providers">
              {suggestions.map((p) => (
                <option key={p} value={p}>
                  {providerName(p)}
                </option>
              ))}
            </datalist>
          </>
        )}
        <Labelled
          name="title"
          label="Title"
          hint={of ? undefined : "What you call it; helps to tell several apart"}
          error={errors.get("title")}
        >
          {(props) => <input {...props} autofocus={Boolean(of ?? wish)} defaultValue={of?.title ?? ""} maxLength={256} />}
        </Labelled>
        {of ? (
          <label class="choice">
            <input type="checkbox" checked={replaces} onInput={(e) => setReplaces(e.currentTarget.checked)} />
            <span>
              Replace the secret<small>It is not shown again. Leave this off to keep it.</small>
            </span>
          </label>
        ) : (
          <Labelled name="type" label="Type">
            {(props) => (
              <Types
                {...props}
                usual={typesOf(provider)}
                value={type}
                onChoose={(t) => {
                  setChosen(true);
                  choose(t);
                }}
              />
            )}
          </Labelled>
        )}
        {replaces &&
          seen.map((t) => (
            <fieldset key={t} class="fields" hidden={t !== type} disabled={t !== type}>
              {fieldsOf[t].map((field) => (
                <Input
                  key={field.name}
                  id={t === type ? field.name : `${t}-${field.name}`}
                  field={field}
                  of={of}
                  keys={keysOf(provider)}
                  doubt={doubt}
                  errors={t === type ? errors : none}
                  onRows={typed}
                />
              ))}
            </fieldset>
          ))}
        {size > secretLimit / 4 && (
          <p role="status" class={size > secretLimit ? "problem" : "hint"}>
            {size.toLocaleString()} of {secretLimit.toLocaleString()} bytes, all secret fields together
          </p>
        )}
        {problem && (
          <p role="alert" class="problem">
            {problem}
          </p>
        )}
        {asks ? (
          <div role="alert" class="banner">
            <span>Throw away what you have typed?</span>
            <div class="actions">
              <button type="button" autofocus ref={(b) => b?.focus()} onClick={() => setAsks(false)}>
                Keep editing
              </button>
              <button type="button" class="danger" onClick={onClose}>
                Throw away
              </button>
            </div>
          </div>
        ) : (
          <div class="actions">
            <button type="button" disabled={busy} onClick={onClose}>
              Cancel
            </button>
            <button class="primary" aria-disabled={busy}>
              {busy ? "Saving…" : of ? "Save" : "Add"}
            </button>
          </div>
        )}
      </form>
    </Modal>
  );
}

interface TypesProps extends InputProps {
  /** The types that are usual with the provider. */
  usual: Type[];
  value: Type;
  onChoose: (type: Type) => void;
}

/** Types offers what is usual with a provider first. */
function Types({ usual, value, onChoose, ...props }: TypesProps) {
  const options = (types: string[]) =>
    types.map((t) => (
      <option key={t} value={t}>
        {typeNames[t as Type]}
      </option>
    ));
  const others = Object.keys(typeNames).filter((t) => !usual.includes(t as Type));
  return (
    <select {...props} value={value} onInput={(e) => onChoose(e.currentTarget.value as Type)}>
      {options(usual)}
      {others.length > 0 && <optgroup label="Less usual">{options(others)}</optgroup>}
    </select>
  );
}

interface FieldProps {
  id: string;
  field: Field;
  of: Credential | null;
  /** Where the provider's API keys are made. */
  keys: string | undefined;
  /** What is odd about the API key that was typed. */
  doubt: string;
  errors: Errors;
  /** Called when a header's row comes or goes. */
  onRows: () => void;
}

function Input({ id, field, of, keys, doubt, errors, onRows }: FieldProps) {
  if (field.kind === "headers") return <Headers field={field} of={of} errors={errors} onRows={onRows} />;
  // What is no secret is there to begin with, since it is replaced along with the secrets.
  const shown: Record<string, string | undefined> = { username: of?.username ?? "", host: of?.host ?? "", scopes: of?.scopes?.join(" ") };
  const again = replaced(of, field.name, field.required);
  return (
    <>
      <Labelled
        name={field.name}
        id={id}
        label={field.label}
        required={field.required}
        hint={again ? "One is stored, which is not shown. Enter it again, or remove it." : field.hint}
        error={errors.get(field.name)}
      >
        {(props) =>
          field.kind === "secret" ? (
            <SecretInput {...props} label={field.label} />
          ) : field.kind === "time" ? (
            <input {...props} type="datetime-local" min={earliest} max={latest} />
          ) : (
            <input {...props} defaultValue={shown[field.name]} autocapitalize="none" autocomplete="off" spellcheck={false} />
          )
        }
      </Labelled>
      {field.name === "api_key" && (
        <>
          {doubt && (
            <p role="status" class="hint doubt">
              {doubt}
            </p>
          )}
          {keys && (
            <p class="hint">
              <a href={keys} target="_blank" rel="noopener noreferrer">
                Where your keys are made
              </a>
            </p>
          )}
        </>
      )}
      {again && (
        <label class="choice">
          <input type="checkbox" name={`${field.name}-removed`} aria-label={`Remove what is stored: ${field.label}`} />
          Remove what is stored
        </label>
      )}
    </>
  );
}

/**
 * replaced reports whether a field that may be empty has a value that the page cannot show: it is
 * entered again, or removed.
 */
const replaced = (of: Credential | null, name: string, required = false): boolean => !required && Boolean(of?.stored?.includes(name));

/** headersIn are the names of the headers that a credential has. */
const headersIn = (of: Credential | null): string[] =>
  of?.stored?.flatMap((name) => (name.startsWith("headers.") ? [name.slice("headers.".length)] : [])) ?? [];

/**
 * Headers are rows of a name and a value, as many as wanted. To begin with they have the names that
 * are stored.
 */
function Headers({ field, of, errors, onRows }: Pick<FieldProps, "field" | "of" | "errors" | "onRows">) {
  const names = headersIn(of);
  const [rows, setRows] = useState(() => (names.length > 0 ? names : [""]).map((name, key) => ({ name, key })));
  const next = useRef(rows.length);
  const last = useRef<HTMLInputElement>(null);
  const whole = errors.get(field.name);

  function add() {
    setRows([...rows, { name: "", key: next.current++ }]);
    onRows();
    requestAnimationFrame(() => last.current?.focus());
  }
  function remove(key: number) {
    setRows(rows.filter((r) => r.key !== key));
    onRows();
    requestAnimationFrame(() => last.current?.focus());
  }
  return (
    <fieldset aria-describedby={whole ? "headers-error" : undefined}>
      <legend>{field.label}</legend>
      {names.length > 0 && <p class="hint">These are stored. Enter the value of each anew, or remove its row.</p>}
      {rows.map(({ name, key }, i) => {
        const error = errors.get(`header ${i}`);
        const invalid = {
          "aria-invalid": Boolean(error ?? whole),
          "aria-describedby": error ? `header-${i}-error` : whole ? "headers-error" : undefined,
        };
        return (
          <div class="header" key={key}>
            <input
              name="header-name"
              ref={i === rows.length - 1 ? last : undefined}
              defaultValue={name}
              aria-label={`Name of header ${i + 1}`}
              placeholder="Name"
              spellcheck={false}
              autocapitalize="none"
              autocomplete="off"
              translate={false}
              {...invalid}
            />
            <SecretInput id={`header-${i}`} name="header-value" label={`Value of header ${i + 1}`} named {...invalid} />
            <button
              type="button"
              class="icon"
              disabled={rows.length === 1}
              aria-label={`Remove header ${i + 1}`}
              onClick={() => remove(key)}
            >
              ✕
            </button>
            {error && (
              <p class="problem" id={`header-${i}-error`}>
                {error}
              </p>
            )}
          </div>
        );
      })}
      <button type="button" class="link" onClick={add}>
        Add another header
      </button>
      {whole && (
        <p class="problem" id="headers-error">
          {whole}
        </p>
      )}
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
  /** As the name, unless it is said. */
  id?: string;
  label: string;
  required?: boolean;
  hint?: string;
  error?: string;
  children: (props: InputProps) => preact.JSX.Element;
}

/** Labelled is an input with what belongs to it: its label, a hint, and what is wrong with it. */
function Labelled({ name, id = name, label, required, hint, error, children }: LabelledProps) {
  const described = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ") || undefined;
  return (
    <div class="field">
      <label for={id}>
        {label}
        {!required && name !== "type" && <span class="quiet"> (optional)</span>}
      </label>
      {children({ id, name, required, "aria-invalid": Boolean(error), "aria-describedby": described })}
      {hint && (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
      {error && (
        <p class="problem" id={`${id}-error`}>
          {error}
        </p>
      )}
    </div>
  );
}

/** values are a type's fields as the API wants them. */
function values(fields: Field[], read: (name: string) => string, rows: HeaderRow[], of: Credential | null): Record<string, unknown> {
  return Object.fromEntries(
    fields.map((field) => [field.name, field.kind === "headers" ? headersToSend(rows, of) : typedValue(field, read(field.name))]),
  );
}

/** headersToSend removes, by null, a header that is stored and has no row any more. */
function headersToSend(rows: HeaderRow[], of: Credential | null): Record<string, string | null> {
  const { headers } = headersOf(rows);
  const given = new Set(Object.keys(headers).map((header) => header.toLowerCase()));
  const gone = headersIn(of).filter((header) => !given.has(header.toLowerCase()));
  return { ...headers, ...Object.fromEntries(gone.map((header) => [header, null])) };
}

/**
 * typedValue is what one input says; null removes. A secret is sent as it was typed, space and all.
 */
function typedValue({ kind, required }: Field, typed: string): unknown {
  switch (kind) {
    case "scopes":
      return typed.split(/[\s,]+/).filter(Boolean);
    case "time":
      return typed ? Math.floor(new Date(typed).getTime() / 1000) : null;
    case "text":
      return typed.trim() || (required ? "" : null);
    default:
      return typed || null;
  }
}
