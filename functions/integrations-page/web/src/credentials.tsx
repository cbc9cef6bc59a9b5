// The list of a user's credentials, and what they do with it.
import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { DeleteAccount } from "./account";
import { type Listing, list, Problem, read, type Seen, want } from "./api";
import { Brand, Support } from "./brand";
import { config } from "./config";
import { type Filter, Filters, kept, keptAwaited } from "./filters";
import { CredentialForm } from "./form";
import { Group } from "./group";
import { Name } from "./name";
import { Remove } from "./remove";
import { Replace } from "./replace";
import { Retract } from "./retract";
import { type Credential, kindOf, mayChange } from "./rules";
import { Abandoned, signOut, type User } from "./session";
import { nextLook, type Standing } from "./standings";
import { takeWish, type Wish } from "./wish";
import { awaitedName, count, detailOf, nameOf, plain, providerName, standsText, typeName } from "./words";

interface Props {
  user: User;
  onAccountDeleted: () => void;
}

type Open =
  | { what: "add"; wish: Wish | null }
  | { what: "edit"; seen: Seen }
  | { what: "remove"; these: Credential[] }
  | { what: "retract"; provider: string; called: string }
  | { what: "replace"; provider: string; called: string; overlap: number }
  | { what: "account" }
  | null;

export function Credentials({ user, onAccountDeleted }: Props) {
  const [listing, setListing] = useState<Listing | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [failures, setFailures] = useState(0); // In a row.
  const [query, setQuery] = useState("");
  const [filter, setFilter] = useState<Filter>("All");
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const [open, setOpen] = useState<Open>(null);
  const [news, tell] = useState<{ text: ComponentChildren; n: number }>({ text: "", n: 0 });
  const setNews = (text: ComponentChildren) => tell((old) => ({ text, n: old.n + 1 })); // Counted: the same text twice is said twice.
  const [fresh, setFresh] = useState("");
  const heading = useRef<HTMLHeadingElement>(null);
  const online = useOnline();
  const loads = useRef(0);
  const looks = useRef(0);

  /** load asks for the list. Of several answers the one that was asked for last counts. */
  async function load() {
    const mine = ++loads.current;
    try {
      const loaded = await list();
      if (mine !== loads.current) return;
      setListing(loaded);
      setProblem(null);
      setFailures(0);
    } catch (error) {
      if (mine !== loads.current || error instanceof Abandoned) return;
      if (error instanceof Problem && error.accountDeleted) onAccountDeleted();
      else {
        setProblem(error instanceof Problem ? error : new Problem(0, "The list cannot be read. Please try again."));
        setFailures((n) => n + 1);
      }
    }
  }

  /** edit opens the form on what is there now, which may be another than in the list. */
  async function edit(of: Credential) {
    try {
      setOpen({ what: "edit", seen: await read(of) });
    } catch (error) {
      if (error instanceof Abandoned) return;
      setNews(error instanceof Problem ? error.message : "That did not work. Please try again.");
      if (error instanceof Problem && error.status === 404) void load();
    }
  }

  useEffect(() => {
    heading.current?.focus(); // The form that had it is gone.
    void load();
    const wish = takeWish();
    if (wish) setOpen({ what: "add", wish });
    return () => {
      loads.current = -1;
    };
  }, []);
  useEffect(() => {
    if (online && problem?.status === 0) void load();
  }, [online]);
  useLook(listing, failures, looks, load);
  useReturn(load);

  // What a search finds, by provider. What is being set up is a row like the others.
  const credentials = listing?.credentials ?? [];
  const awaited = useMemo(() => awaitedOf(credentials, listing?.standings ?? []), [listing]);
  const found = useMemo(() => credentials.filter((c) => kept(c, filter, Date.now()) && matches(c, query)), [listing, query, filter]);
  const foundAwaited = useMemo(() => awaited.filter((s) => keptAwaited(filter) && matchesAwaited(s, query)), [awaited, query, filter]);
  const groups = useMemo(() => grouped(found, foundAwaited), [found, foundAwaited]);
  const rows = credentials.length + awaited.length;
  const foundRows = found.length + foundAwaited.length;
  const all = !query && filter === "All";
  const changeable = found.filter(mayChange);
  const chosen = changeable.filter((c) => selected.has(c.id));

  function select(these: Credential[], on: boolean) {
    setSelected((old) => {
      const next = new Set(old);
      for (const c of these.filter(mayChange)) on ? next.add(c.id) : next.delete(c.id);
      return next;
    });
  }

  function saved(c: Credential) {
    const added = open?.what === "add";
    setOpen(null);
    setFresh(c.id);
    if (added) showAll();
    setListing(
      (old) => old && { ...old, credentials: added ? [...old.credentials, c] : old.credentials.map((o) => (o.id === c.id ? c : o)) },
    );
    const back = open?.what === "add" && open.wish ? " You can go back to where you came from." : "";
    setNews(
      <>
        <Name of={c} /> {added ? `was added.${back}` : "was saved."}
      </>,
    );
    if (added) requestAnimationFrame(() => document.getElementById(`credential-${c.id}`)?.focus());
    void load();
  }

  function showAll() {
    setQuery("");
    setFilter("All");
  }

  /** setUp has a managed credential made now, and says what came of it. */
  async function setUp(provider: string) {
    const name = providerName(provider);
    try {
      const made = await want(provider);
      if (!("state" in made)) {
        setFresh(made.id);
        setListing((old) => old && { ...old, credentials: [...old.credentials.filter((c) => c.id !== made.id), made] });
        setNews(`${name} was set up.`);
        requestAnimationFrame(() => document.getElementById(`credential-${made.id}`)?.focus());
        void load();
        return;
      }
      setListing((old) => old && { ...old, standings: old.standings.map((s) => (s.provider === provider ? made : s)) });
      setNews(made.state === "provisioning" ? `${name} is being set up.` : `${name} could not be set up.`);
      requestAnimationFrame(() => {
        if (document.activeElement === document.body) document.getElementById(`managed-${provider}`)?.focus();
      });
    } catch (error) {
      if (error instanceof Abandoned) return;
      setNews(error instanceof Problem ? error.message : "That did not work. Please try again.");
      if (error instanceof Problem && error.status === 404) void load();
    }
  }

  /** retracted says that a managed credential is being removed, or that nothing is left of it. */
  function retracted(provider: string, called: string, standing: Standing | null) {
    setOpen(null);
    setListing(
      (old) =>
        old && {
          credentials: old.credentials.filter((c) => c.provider !== provider || kindOf(c) !== "Managed"),
          standings: standing ? old.standings.map((s) => (s.provider === provider ? standing : s)) : old.standings,
        },
    );
    setNews(
      <>
        <bdi translate={false}>{called}</bdi> {standing ? "is being removed." : "was removed."}
      </>,
    );
    requestAnimationFrame(() => (document.getElementById(`managed-${provider}`) ?? heading.current)?.focus()); // The button is gone.
    void load();
  }

  /** replaced says that the key of a managed credential is being replaced. */
  function replaced(provider: string, called: string, standing: Standing | null) {
    setOpen(null);
    if (standing) setListing((old) => old && { ...old, standings: old.standings.map((s) => (s.provider === provider ? standing : s)) });
    setNews(
      <>
        The key of <bdi translate={false}>{called}</bdi> is being replaced.
      </>,
    );
    const row = credentials.find((c) => c.provider === provider && kindOf(c) === "Managed");
    requestAnimationFrame(() => (document.getElementById(`credential-${row?.id}`) ?? heading.current)?.focus()); // The button is gone.
    void load();
  }

  async function copyId(c: Credential) {
    try {
      await navigator.clipboard.writeText(c.id);
      setNews(
        <>
          The id of <Name of={c} /> was copied.
        </>,
      );
    } catch {
      setNews(`The browser does not let this page copy. The id is ${c.id}`);
    }
  }

  function removed(gone: Credential[]) {
    const ids = new Set(gone.map((c) => c.id));
    setOpen(null);
    if (gone.length === 0) return;
    setSelected(new Set([...selected].filter((id) => !ids.has(id))));
    setListing((old) => old && { ...old, credentials: old.credentials.filter((c) => !ids.has(c.id)) });
    setNews(
      gone.length === 1 ? (
        <>
          <Name of={gone[0]!} /> was removed.
        </>
      ) : (
        `${count(gone.length, "credential")} were removed.`
      ),
    );
    requestAnimationFrame(() => heading.current?.focus()); // The row with the button is gone.
    void load();
  }

  const own = credentials.some(mayChange);
  const known = useMemo(() => new Set(credentials.map((c) => c.id)), [listing]);
  return (
    <>
      <header class="top">
        <div>
          <Brand />
          <span class="user" translate={false} title={user.name}>
            {user.name}
          </span>
          <button onClick={signOut}>Sign out</button>
        </div>
      </header>
      <main aria-busy={!listing && !problem}>
        <div class="head">
          <h1 ref={heading} tabIndex={-1}>
            Your credentials
          </h1>
          <button class="primary" disabled={!listing} onClick={() => setOpen({ what: "add", wish: null })}>
            Add credential
          </button>
        </div>
        {!online && (
          <p role="status" class="banner">
            You are offline. What you see may be out of date, and changes cannot be saved.
          </p>
        )}
        {problem && listing && (
          <div role="alert" class="banner">
            <span>The list could not be brought up to date. {problem.message}</span>
            <button onClick={() => void load()}>Try again</button>
          </div>
        )}
        {!listing &&
          (problem ? (
            <Failed
              problem={problem}
              onRetry={() => {
                setProblem(null);
                void load();
              }}
            />
          ) : (
            <Skeleton />
          ))}
        {listing && (
          <>
            {!own && <FirstStep any={rows > 0} onAdd={() => setOpen({ what: "add", wish: null })} />}
            {rows > 0 && (
              <div class="tools">
                <label class="search">
                  <span class="hidden">Search</span>
                  <input
                    type="search"
                    placeholder="Search by provider, title or type"
                    value={query}
                    onInput={(e) => setQuery(e.currentTarget.value)}
                  />
                </label>
                <p class="quiet" role="status">
                  {all ? count(rows, "credential") : `${foundRows.toLocaleString()} of ${count(rows, "credential")}`}
                </p>
                <Filters credentials={credentials} awaited={awaited.length > 0} chosen={filter} onChoose={setFilter} />
              </div>
            )}
            {own && (
              <div class="selection">
                <label class="choice">
                  <SelectAll all={changeable.length} chosen={chosen.length} onChange={(on) => select(changeable, on)} />
                  <span key={chosen.length}>
                    {chosen.length > 0 ? `${chosen.length.toLocaleString()} selected` : "Select all of yours"}
                  </span>
                </label>
                <button class="danger" disabled={chosen.length === 0} onClick={() => setOpen({ what: "remove", these: chosen })}>
                  Remove selected
                </button>
              </div>
            )}
            {groups.map(([provider, { rows, awaited }]) => (
              <Group
                key={provider}
                provider={provider}
                rows={rows}
                awaited={awaited}
                standing={listing.standings.find((s) => s.provider === provider)}
                selected={selected}
                fresh={fresh}
                onSelect={select}
                onCopyId={(c) => void copyId(c)}
                onEdit={(c) => void edit(c)}
                onWant={setUp}
                onRetract={(provider, called) => setOpen({ what: "retract", provider, called })}
                onReplace={(provider, called, overlap) => setOpen({ what: "replace", provider, called, overlap })}
                onRemove={(c) => setOpen({ what: "remove", these: [c] })}
              />
            ))}
            {!all && groups.length === 0 && (
              <div class="card">
                <p>
                  {query ? (
                    <>
                      Nothing{filter === "All" ? "" : " of these"} matches “<bdi>{query}</bdi>”.
                    </>
                  ) : (
                    "There is nothing of these any more."
                  )}
                </p>
                <button onClick={showAll}>{query ? "Clear the search" : "Show all"}</button>
              </div>
            )}
          </>
        )}
        {(listing || problem) && (
          <footer>
            <button class="link" onClick={() => setOpen({ what: "account" })}>
              Delete my account…
            </button>
            {config.support_url && <Support>Help</Support>}
          </footer>
        )}
      </main>
      <div class="news" role="status">
        {news.text && <News key={news.n} text={news.text} onDone={() => setNews("")} />}
      </div>
      {(open?.what === "add" || open?.what === "edit") && (
        <CredentialForm
          known={known}
          seen={open.what === "edit" ? open.seen : null}
          wish={open.what === "add" ? open.wish : null}
          onSaved={saved}
          onClose={() => setOpen(null)}
          onStale={() => void load()}
        />
      )}
      {open?.what === "remove" && <Remove these={open.these} onDone={removed} />}
      {open?.what === "retract" && (
        <Retract
          provider={open.provider}
          called={open.called}
          onClose={() => setOpen(null)}
          onDone={(standing) => retracted(open.provider, open.called, standing)}
        />
      )}
      {open?.what === "replace" && (
        <Replace
          provider={open.provider}
          called={open.called}
          overlap={open.overlap}
          onClose={() => setOpen(null)}
          onDone={(standing) => replaced(open.provider, open.called, standing)}
        />
      )}
      {open?.what === "account" && <DeleteAccount onClose={() => setOpen(null)} onDone={onAccountDeleted} />}
    </>
  );
}

/** awaitedOf are the managed credentials that are not there yet. */
function awaitedOf(credentials: Credential[], standings: Standing[]): Standing[] {
  const there = new Set(credentials.filter((c) => kindOf(c) === "Managed").map((c) => c.provider));
  return standings.filter((s) => !there.has(s.provider));
}

/** What is shown of one provider. */
interface Shown {
  rows: Credential[];
  awaited: Standing | undefined;
}

/** grouped sorts rows under their providers. */
function grouped(rows: Credential[], awaited: Standing[]): [provider: string, Shown][] {
  const groups = new Map<string, Shown>();
  const groupOf = (provider: string): Shown => {
    const group = groups.get(provider) ?? { rows: [], awaited: undefined };
    groups.set(provider, group);
    return group;
  };
  for (const c of rows) groupOf(c.provider).rows.push(c);
  for (const s of awaited) groupOf(s.provider).awaited = s;
  for (const { rows } of groups.values()) rows.sort(byTitle);
  return [...groups].sort(([a], [b]) => inOrder.compare(providerName(a), providerName(b)));
}

const inOrder = new Intl.Collator(undefined, { numeric: true });

/** byTitle keeps a row where it is from one list to the next. */
const byTitle = (a: Credential, b: Credential): number => inOrder.compare(nameOf(a), nameOf(b)) || (a.id < b.id ? -1 : 1);

const matches = (c: Credential, query: string): boolean =>
  has([c.provider, providerName(c.provider), c.title, typeName(c.type), kindOf(c), detailOf(c)], query);

const matchesAwaited = (s: Standing, query: string): boolean =>
  has([s.provider, awaitedName(s.provider), standsText(s, Date.now())], query);

/** has reports whether each word of a search is somewhere in the texts. */
function has(texts: (string | null)[], query: string): boolean {
  const all = plain(texts.join(" "));
  return plain(query)
    .split(/\s+/)
    .every((word) => all.includes(word));
}

function useOnline(): boolean {
  const [online, setOnline] = useState(navigator.onLine);
  useEffect(() => {
    const change = () => setOnline(navigator.onLine);
    addEventListener("online", change);
    addEventListener("offline", change);
    return () => {
      removeEventListener("online", change);
      removeEventListener("offline", change);
    };
  }, []);
  return online;
}

/** useLook looks again while something is being set up, but not for somebody who is not looking. */
function useLook(listing: Listing | null, failures: number, looks: { current: number }, load: () => Promise<void>) {
  useEffect(() => {
    if (!listing) return;
    const wait = nextLook(listing.standings, looks.current + failures, Date.now());
    if (wait === null) {
      looks.current = 0;
      return;
    }
    const look = () => {
      if (document.hidden) return;
      looks.current++;
      void load();
    };
    const timer = setTimeout(look, wait);
    const since = Date.now();
    const back = () => {
      if (Date.now() - since >= wait) look();
    };
    document.addEventListener("visibilitychange", back);
    return () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", back);
    };
  }, [listing, failures]);
}

/** useReturn brings a list up to date whose user comes back to it after a while. */
function useReturn(load: () => Promise<void>) {
  useEffect(() => {
    let left = Date.now();
    const change = () => {
      if (document.hidden) left = Date.now();
      else if (Date.now() - left > 30_000) void load();
    };
    document.addEventListener("visibilitychange", change);
    return () => document.removeEventListener("visibilitychange", change);
  }, []);
}

function SelectAll({ all, chosen, onChange }: { all: number; chosen: number; onChange: (on: boolean) => void }) {
  return (
    <input
      type="checkbox"
      disabled={all === 0}
      checked={all > 0 && chosen === all}
      ref={(box) => {
        if (box) box.indeterminate = chosen > 0 && chosen < all;
      }}
      onChange={(e) => onChange(e.currentTarget.checked)}
    />
  );
}

/** News says what has been done, for a while. */
function News({ text, onDone }: { text: ComponentChildren; onDone: () => void }) {
  useEffect(() => {
    const timer = setTimeout(onDone, 6000);
    return () => clearTimeout(timer);
  }, []);
  return <p>{text}</p>;
}

function FirstStep({ any, onAdd }: { any: boolean; onAdd: () => void }) {
  return (
    <section class="card" aria-labelledby="first-step">
      <h2 id="first-step">{any ? "None of these is your own yet" : "You have no credentials yet"}</h2>
      <p>
        A credential is a key, a token or a password with which your agents use a service for you. Its secret is encrypted, and never shown
        again.
      </p>
      <button onClick={onAdd}>Add your first credential</button>
    </section>
  );
}

function Failed({ problem, onRetry }: { problem: Problem; onRetry: () => void }) {
  return (
    <div class="card" role="alert">
      <h2>Your credentials could not be loaded</h2>
      <p>{problem.message}</p>
      <button class="primary" onClick={onRetry}>
        Try again
      </button>
    </div>
  );
}

/** Skeleton stands where the list will be. */
function Skeleton() {
  const [long, setLong] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLong(true), 2500);
    return () => clearTimeout(timer);
  }, []);
  return (
    <>
      <p role="status" class="quiet waiting">
        {long ? "Still loading. New managed credentials may take a few seconds to set up." : "Loading your credentials…"}
      </p>
      <div class="skeleton" aria-hidden="true">
        {[0, 1, 2].map((i) => (
          <div key={i}>
            <span />
            <span />
            <span />
          </div>
        ))}
      </div>
    </>
  );
}
