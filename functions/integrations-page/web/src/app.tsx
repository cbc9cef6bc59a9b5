// The whole page: who is signed in decides what it shows.
import { useEffect, useRef, useState } from "preact/hooks";
import { AccountDeleted } from "./account";
import { traffic } from "./api";
import { Brand, Support } from "./brand";
import { config } from "./config";
import { Credentials } from "./credentials";
import { forget, listeners, SignInFailed, signIn, signInAs, signOut, start, type User } from "./session";
import { SignInAgain } from "./signin";

export function App() {
  const [ready, setReady] = useState(false);
  const [user, setUser] = useState<User | null>(null);
  const [asked, setAsked] = useState(false);
  const [deleted, setDeleted] = useState(false);
  const [failure, setFailure] = useState("");

  useEffect(() => {
    listeners.user = setUser;
    listeners.ask = setAsked;
    start()
      .catch((error) => setFailure(error instanceof SignInFailed ? error.message : "The sign-in did not work. Please try again."))
      .finally(() => setReady(true));
  }, []);

  function accountDeleted() {
    setDeleted(true);
    forget();
  }

  /** leave has the login pages forget the account, too. */
  function leave() {
    setDeleted(false);
    signOut();
  }

  return (
    <>
      <Progress />
      {deleted ? (
        <AccountDeleted onLeave={leave} />
      ) : user ? (
        <Credentials key={user.sub} user={user} onAccountDeleted={accountDeleted} />
      ) : ready ? (
        <Front failure={failure} />
      ) : (
        <main class="front" aria-busy="true">
          <Brand />
          <h1>Your credentials</h1>
          <p class="quiet">Loading…</p>
        </main>
      )}
      {asked && user && <SignInAgain user={user} />}
    </>
  );
}

/** Front is what somebody sees who is not signed in. */
function Front({ failure }: { failure: string }) {
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
      <Brand />
      <h1>Your credentials</h1>
      <p>See which services your agents can use for you, add keys of your own, and remove those that you no longer need.</p>
      {problem && (
        <p role="alert" class="problem">
          {problem}
        </p>
      )}
      {config.managed_login_url && (
        <button class="primary" disabled={busy} onClick={() => void attempt(signIn)}>
          Sign in
        </button>
      )}
      {config.sign_in_as && (
        <form onSubmit={submit} noValidate>
          <label for="name">Sign in as</label>
          <div class="together">
            <input id="name" name="name" autocomplete="username" maxLength={256} autofocus required />
            <button class="primary" disabled={busy}>
              Sign in
            </button>
          </div>
          <p class="quiet">This service runs on one machine, where any name will do.</p>
        </form>
      )}
      {!config.managed_login_url && !config.sign_in_as && (
        <p class="problem">This deployment has no login pages, so nobody can sign in here.</p>
      )}
      {config.support_url && (
        <p class="quiet">
          <Support>Help</Support>
        </p>
      )}
    </main>
  );
}

/**
 * Progress shows that a request is under way that takes longer than an instant. It takes no room.
 * Texts say it to those who cannot see it.
 */
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
