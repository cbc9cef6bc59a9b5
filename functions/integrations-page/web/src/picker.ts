// <credential-picker>: the credentials of one provider that a user may use, as a form control for
// the pages of other sites. It is a script of its own, which needs no framework and nothing else of
// the page. docs/page.md says how to use it.
import type { Credential } from "./rules";
import { type Kind, kindOf } from "./rules";
import { nextLook, parseStandings, type Standing } from "./standings";
import { lifeOf, nameOf, providerName, typesOf, when } from "./words";

/**
 * A token, or what gets one: it is asked before each request, and once more if the API refuses what
 * it got.
 */
type Token = string | (() => string | Promise<string>);

/** Where the API and the page are: this script is one of the page's files. */
const service = new URL("..", import.meta.url);

const groups: [kind: Kind, label: string][] = [
  ["Yours", "Yours"],
  ["Managed", "Managed by the platform"],
  ["Platform", "Provided by the platform"],
];

/** What is said of an answer without a list, by its status. */
const refusals: Record<number, string> = {
  401: "You are not signed in any more.",
  403: "This account is suspended.",
};

const sheet = new CSSStyleSheet();
sheet.replaceSync(`
  :host { display: inline-block; width: 20rem; max-width: 100%; }
  :host([hidden]) { display: none; }
  div { display: flex; gap: .5em; }
  select { flex: 1; min-width: 0; text-overflow: ellipsis; }
  select, button { font: inherit; color: inherit; background: Field; border: 1px solid; border-color: color-mix(in srgb, currentColor 60%, transparent); border-radius: .4em; min-height: 2.5em; padding: .2em .6em; }
  button { background: ButtonFace; white-space: nowrap; cursor: pointer; }
  :disabled { opacity: .6; cursor: default; }
  :focus-visible { outline: 2px solid; outline-offset: 2px; }
  p { margin: .3em 0 0; font-size: .9em; }
  p + button { margin-top: .4em; }
  p:empty, button[hidden] { display: none; }
`);

class CredentialPicker extends HTMLElement {
  static readonly formAssociated = true;
  static readonly observedAttributes = ["provider", "types", "required"];

  readonly #internals = this.attachInternals();
  readonly #select = document.createElement("select");
  readonly #add = button("Add…");
  readonly #status = document.createElement("p");
  readonly #again = button("Try again");

  #token: Token | null = null;
  #value = "";
  #credentials: Credential[] | null = null;
  #standings: Standing[] = [];
  #problem = "";
  #looks = 0;
  #loads = 0;
  #loadedAt = 0;
  #drawn = "";
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** The ids that there were when the user went to add one; null if they did not. */
  #before: ReadonlySet<string> | null = null;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open", delegatesFocus: true });
    root.adoptedStyleSheets = [sheet];
    this.#status.setAttribute("role", "status");
    const row = document.createElement("div");
    row.append(this.#select, this.#add);
    root.append(row, this.#status, this.#again);
    this.#select.addEventListener("change", () => this.#choose(this.#select.value));
    this.#select.addEventListener("focus", () => this.#name());
    this.#add.addEventListener("click", () => this.#goAdd());
    this.#again.addEventListener("click", () => void this.#load());
  }

  connectedCallback(): void {
    // What was set before the script was there hides the properties of the same name.
    for (const name of ["token", "value"] as const) {
      if (!Object.hasOwn(this, name)) continue;
      const set = this[name];
      delete (this as Partial<CredentialPicker>)[name];
      Object.assign(this, { [name]: set });
    }
    if (!this.#value) this.value = this.getAttribute("value") ?? "";
    document.addEventListener("visibilitychange", this.#back);
    addEventListener("focus", this.#back);
    this.#draw();
    void this.#load();
  }

  disconnectedCallback(): void {
    this.#loads++;
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#back);
    removeEventListener("focus", this.#back);
  }

  attributeChangedCallback(name: string): void {
    if (name === "required") this.#judge();
    else void this.#load();
  }

  formDisabledCallback(disabled: boolean): void {
    for (const control of [this.#select, this.#add]) control.disabled = disabled;
  }
  formResetCallback(): void {
    this.value = this.getAttribute("value") ?? "";
  }
  formStateRestoreCallback(state: string): void {
    this.value = state;
  }

  /** The access token for the API, or a function that gets one. */
  get token(): Token | null {
    return this.#token;
  }
  set token(token: Token | null) {
    this.#token = token;
    void this.#load();
  }

  /** The id of the credential that is chosen; "" for none. */
  get value(): string {
    return this.#value;
  }
  set value(id: string) {
    this.#value = id;
    this.#internals.setFormValue(id || null);
    this.#draw();
  }

  get form(): HTMLFormElement | null {
    return this.#internals.form;
  }
  get name(): string {
    return this.getAttribute("name") ?? "";
  }
  get type(): string {
    return this.localName;
  }
  get validity(): ValidityState {
    return this.#internals.validity;
  }
  get validationMessage(): string {
    return this.#internals.validationMessage;
  }
  get willValidate(): boolean {
    return this.#internals.willValidate;
  }
  checkValidity(): boolean {
    return this.#internals.checkValidity();
  }
  reportValidity(): boolean {
    return this.#internals.reportValidity();
  }

  get #provider(): string {
    return this.getAttribute("provider") ?? "";
  }
  get #types(): string[] {
    return (this.getAttribute("types") ?? "").split(/[\s,]+/).filter(Boolean);
  }

  /** load asks for the list. Of several answers the one that was asked for last counts. */
  async #load(): Promise<void> {
    const mine = ++this.#loads;
    clearTimeout(this.#timer);
    if (!this.isConnected || !this.#provider || this.#token === null) return;
    this.#internals.ariaBusy = "true";
    try {
      const response = await this.#ask();
      const credentials = response.ok ? ((await response.json()) as Credential[]) : null;
      if (mine !== this.#loads) return;
      this.#problem = credentials ? "" : (refusals[response.status] ?? "The list cannot be read right now.");
      if (credentials) {
        this.#credentials = credentials;
        this.#standings = parseStandings(response.headers.get("managed-credentials"));
        this.#loadedAt = Date.now();
      }
    } catch {
      if (mine !== this.#loads) return;
      this.#problem = "The list cannot be read. Check your connection, and that you are signed in.";
    }
    this.#internals.ariaBusy = null;
    this.#draw();
    this.#chooseAdded();
    const wait = nextLook(this.#standings, this.#looks, Date.now());
    if (wait === null) this.#looks = 0;
    else
      this.#timer = setTimeout(() => {
        if (!document.hidden) this.#look();
      }, wait);
  }

  #look(): void {
    this.#looks++;
    void this.#load();
  }

  /**
   * ask sends the request, once more with another token if the first was refused. A browser may
   * hide a refusal from another origin's page, so that it looks like no answer.
   */
  async #ask(): Promise<Response> {
    const url = new URL(`${encodeURIComponent(this.#provider)}/credentials`, service);
    const send = async () => {
      const token = typeof this.#token === "function" ? await this.#token() : this.#token;
      return fetch(url, { headers: { authorization: `Bearer ${token}` }, cache: "no-store", signal: AbortSignal.timeout(35_000) });
    };
    if (typeof this.#token !== "function") return send();
    const response = await send().catch(() => null);
    return response && response.status !== 401 ? response : send();
  }

  /**
   * back brings the list up to date when the user comes back to it: from adding one, or after a
   * while.
   */
  readonly #back = (): void => {
    if (!document.hidden && (this.#before || Date.now() - this.#loadedAt > 30_000)) void this.#load();
  };

  /** goAdd opens the page's form in another tab, unless the host has one of its own. */
  #goAdd(): void {
    this.#before = new Set(this.#credentials?.map((c) => c.id));
    if (!this.dispatchEvent(new Event("add", { bubbles: true, cancelable: true }))) return;
    const page = new URL(service);
    page.searchParams.set("add", this.#provider);
    if (this.#types[0]) page.searchParams.set("type", this.#types[0]);
    open(page, "_blank", "noopener");
  }

  /** chooseAdded chooses what the user has gone to add, once it is there. */
  #chooseAdded(): void {
    const added = this.#shown().filter((c) => this.#before && !this.#before.has(c.id) && kindOf(c) === "Yours");
    if (added.length !== 1) return;
    this.#before = null;
    this.#choose(added[0]!.id);
  }

  #choose(id: string): void {
    this.value = id;
    for (const type of ["input", "change"]) this.dispatchEvent(new Event(type, { bubbles: true }));
  }

  /** shown are the credentials of the types that are wanted. */
  #shown(): Credential[] {
    const types = this.#types;
    return (this.#credentials ?? []).filter((c) => types.length === 0 || types.includes(c.type));
  }

  /**
   * awaited is how the managed credential stands that is not there; null if there is nothing to
   * say.
   */
  #awaited(): Standing | null {
    const types = this.#types;
    const standing = this.#standings.find((s) => s.provider === this.#provider);
    if (!standing || this.#shown().some((c) => kindOf(c) === "Managed")) return null;
    return types.length === 0 || typesOf(standing.provider).some((t) => types.includes(t)) ? standing : null;
  }

  #draw(): void {
    this.#name();
    const now = Date.now();
    const shown = this.#shown();
    const awaited = this.#awaited();
    const options: HTMLElement[] = [option("", this.#credentials ? "Choose a credential" : "Loading…")];
    for (const [kind, label] of groups) {
      const group = document.createElement("optgroup");
      group.label = label;
      for (const c of shown.filter((c) => kindOf(c) === kind)) {
        const life = lifeOf(c, now);
        const says = [nameOf(c), kind === "Yours" && c.hint && `ends in ${c.hint}`, life.state && life.text.toLowerCase()]
          .filter(Boolean)
          .join(", ");
        group.append(option(c.id, says, life.state === "expired"));
      }
      if (kind === "Managed" && awaited) group.append(option("-", `${providerName(awaited.provider)}: ${stands(awaited, now)}`, true));
      if (group.childElementCount > 0) options.push(group);
    }
    // What was chosen and is gone keeps a place, so that the control does not show something else.
    const chosen = shown.find((c) => c.id === this.#value);
    if (this.#value && !chosen) options.push(option(this.#value, this.#credentials ? "No longer there" : "Loading…", true));
    // A list that is open stays open, unless it has changed.
    const drawn = options.map((o) => o.outerHTML).join("");
    if (drawn !== this.#drawn) this.#select.replaceChildren(...options);
    this.#drawn = drawn;
    this.#select.value = this.#value;
    this.#judge();
    this.#say(
      this.#problem ||
        this.#trouble() ||
        (awaited
          ? sentence(awaited, now)
          : this.#credentials && shown.length === 0
            ? `You have no credential of ${providerName(this.#provider)} yet.`
            : ""),
    );
    this.#again.hidden = this.#problem === "";
  }

  #say(text: string): void {
    if (this.#status.textContent !== text) this.#status.textContent = text;
  }

  /** trouble is what is wrong with what is chosen; "" if nothing is. */
  #trouble(): string {
    if (!this.#value || !this.#credentials) return "";
    const chosen = this.#shown().find((c) => c.id === this.#value);
    if (!chosen) return "The credential that was chosen is no longer there. Choose another.";
    return lifeOf(chosen, Date.now()).state === "expired" ? "The credential that was chosen has expired. Choose another." : "";
  }

  #judge(): void {
    const trouble = this.#trouble();
    const missing = this.hasAttribute("required") && !this.#value;
    this.#internals.setValidity(
      { valueMissing: missing, customError: trouble !== "" },
      missing ? "Choose a credential." : trouble,
      this.#select,
    );
    this.#select.ariaRequired = String(this.hasAttribute("required"));
    this.#select.ariaInvalid = String(trouble !== "");
  }

  /** name gives the control the text of its labels: those of the host do not reach into it. */
  #name(): void {
    const labels = [...this.#internals.labels]
      .map((l) => l.textContent?.trim())
      .filter(Boolean)
      .join(" ");
    const name = labels || `Credential of ${providerName(this.#provider)}`;
    this.#select.ariaLabel = name;
    this.#add.ariaLabel = `Add a credential: ${name}`;
  }
}

function button(text: string): HTMLButtonElement {
  const b = document.createElement("button");
  b.type = "button";
  b.textContent = text;
  return b;
}

function option(value: string, text: string, disabled = false): HTMLOptionElement {
  const o = new Option(text, value);
  o.disabled = disabled;
  return o;
}

/** stands says in a few words how a managed credential stands that is not there. */
function stands(s: Standing, now: number): string {
  return {
    ready: "in a moment",
    provisioning: "being set up",
    failed: s.retryAt === null ? "failed" : `failed, again ${when(s.retryAt, now)}`,
    unavailable: "unavailable",
    offered: "not set up",
    retracting: "being removed",
  }[s.state];
}

function sentence(s: Standing, now: number): string {
  const name = providerName(s.provider);
  switch (s.state) {
    case "ready":
    case "provisioning":
      return `${name} is being set up for you. It appears here by itself.`;
    case "failed":
      return `Setting up ${name} did not work. It is tried again ${s.retryAt === null ? "by itself" : when(s.retryAt, now)}.`;
    case "unavailable":
      return `The platform does not offer ${name} right now.`;
    case "offered":
      return `${name} is set up for you when you want it.`;
    case "retracting":
      return `${name} is being removed.`;
  }
}

customElements.define("credential-picker", CredentialPicker);
