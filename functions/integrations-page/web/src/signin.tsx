// Signing in again, over whatever the user is doing.
import { useEffect, useRef, useState } from "preact/hooks";
import { config } from "./config";
import { Modal } from "./modal";
import { Abandoned, type Passage, prepareWindow, SignInFailed, signInAgain, signInAsAgain, signOut, type User } from "./session";

export function SignInAgain({ user }: { user: User }) {
  const [passage, setPassage] = useState<Passage | null>(null);
  const [problem, setProblem] = useState("");
  const [waits, setWaits] = useState(false);
  const stop = useRef(new AbortController());

  useEffect(() => {
    if (config.managed_login_url) void prepareWindow().then(setPassage);
    return () => stop.current.abort();
  }, []);

  async function signIn() {
    // One window at a time is listened to: a second click begins anew.
    stop.current.abort();
    stop.current = new AbortController();
    setProblem("");
    setWaits(true);
    try {
      await (passage ? signInAgain(passage, stop.current.signal) : signInAsAgain());
    } catch (error) {
      if (error instanceof Abandoned) return;
      setWaits(false);
      setProblem(error instanceof SignInFailed ? error.message : "The sign-in did not work. Please try again.");
      if (passage) setPassage(await prepareWindow());
    }
  }

  return (
    <Modal title="Sign in again" onClose={() => {}}>
      <p>
        Your session has ended. Sign in again as <bdi translate={false}>{user.name}</bdi> and everything goes on where it was; nothing that
        you typed is lost.
      </p>
      {waits && (
        <p role="status" class="quiet">
          Waiting for the other window…
        </p>
      )}
      {problem && (
        <p role="alert" class="problem">
          {problem}
        </p>
      )}
      <div class="actions">
        <button onClick={signOut}>Sign out</button>
        <button class="primary" autofocus disabled={Boolean(config.managed_login_url) && !passage} onClick={() => void signIn()}>
          Sign in again
        </button>
      </div>
    </Modal>
  );
}
