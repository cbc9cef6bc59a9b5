// The whole page: who is signed in decides what it shows.
import { useEffect, useRef, useState } from "preact/hooks";
import { Credentials } from "./credentials";
import { AccountDeleted } from "./account";
import { SignInAgain } from "./signin";
import { traffic } from "./api";
import { forget, listeners, SignInFailed, signIn, signInAs, start, type Config, type User } from "./session";

export function App() {
  const [config, setConfig] = useState<Config | null>(null);
  const [user, setUser] = useState<User | null>(null);
  const [asked, setAsked] = useState(false);
  const [deleted, setDeleted] = useState(false);
  const [failure, setFailure] = useState("");

  useEffect(() => {
    listeners.user = setUser;
    listeners.ask = setAsked;
    void begin();
  }, []);

  async function begin() {
    setFailure("");
    try {
      const response = await fetch("config", { signal: AbortSignal.timeout(30_000) });
      if (!response.ok) throw new Error();
      const loaded = (await response.json()) as Config;
      await start(loaded).catch((error) => {
        if (!(error instanceof SignInFailed)) throw error;
        setFailure(error.message);
      });
      setConfig(loaded);
    } catch {
      setFailure("The page cannot reach its service. Check your connection and try again.");
    }
  }

  function accountDeleted() {
    setDeleted(true);
    forget();
  }

  return (
    <>
      <Progress />
      {deleted ? <AccountDeleted />
        : user ? <Credentials key={user.sub} user={user} onAccountDeleted={accountDeleted} />
        : config ? <Front config={config} failure={failure} />
        : <main class="front" aria-busy={!failure}>
            <h1>Your credentials</h1>
            {failure ? <><p role="alert" class="problem">{failure}</p><button class="primary" onClick={() => void begin()}>Try again</button></> : <p class="quiet">Loading…</p>}
          </main>}
      {asked && user && config && <SignInAgain config={config} user={user} />}
    </>
  );
}

/** Front is what somebody sees who is not signed in. */
function Front({ config, failure }: { config: Config; failure: string }) {
  const [problem, setProblem] = useState(failure);
  const [busy, setBusy] = useState(false);

  async function attempt(work: () => Promise<void>) {
    setBusy(true);
    setProblem("");
    try {
      await work();
    } catch (error) {
      setProblem(error instanceof SignInFailed ? error.message : "The sign-in did not work. Please try again.");
      setBusy(false);
    }
  }

  function submit(event: SubmitEvent) {
    event.preventDefault();
    const name = String(new FormData(event.currentTarget as HTMLFormElement).get("name")).trim();
    if (name) void attempt(() => signInAs(name));
    else setProblem("Enter a name.");
  }

  return (
    <main class="front">
      <h1>Your credentials</h1>
      <p>See which services your agents can use for you, add keys of your own, and remove those that you no longer need.</p>
      {problem && <p role="alert" class="problem">{problem}</p>}
      {config.managed_login_url && <button class="primary" disabled={busy} onClick={() => void attempt(signIn)}>Sign in</button>}
      {config.sign_in_as && (
        <form onSubmit={submit} noValidate>
          <label for="name">Sign in as</label>
          <div class="together">
            <input id="name" name="name" autocomplete="username" maxLength={256} autofocus required />
            <button class="primary" disabled={busy}>Sign in</button>
          </div>
          <p class="quiet">This service runs on one machine, where any name will do.</p>
        </form>
      )}
      {!config.managed_login_url && !config.sign_in_as && <p class="problem">This deployment has no login pages, so nobody can sign in here.</p>}
    </main>
  );
}

/** Progress shows that a request is under way that takes longer than an instant. It takes no room. Texts say it to those who cannot see it. */
function Progress() {
  const [slow, setSlow] = useState(false);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => {
    traffic.changed = (underWay) => {
      clearTimeout(timer.current);
      if (underWay > 0) timer.current = setTimeout(() => setSlow(true), 400);
      else setSlow(false);
    };
  }, []);
  return <div class="progress" hidden={!slow} aria-hidden="true" />;
}
