// Deleting the account, and watching until nothing of it is left.
import { useEffect, useRef, useState } from "preact/hooks";
import { deleteAccount, type Pending, Problem } from "./api";
import { Modal } from "./modal";
import { Abandoned } from "./session";
import { providerName, when } from "./words";

const phrase = "delete my account";

interface Props {
  onClose: () => void;
  /** Called once nothing is left. */
  onDone: () => void;
}

export function DeleteAccount({ onClose, onDone }: Props) {
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const [pending, setPending] = useState<Pending[] | null>(null);
  const there = useRef(true);
  useEffect(
    () => () => {
      there.current = false;
    },
    [],
  );

  async function attempt() {
    setBusy(true);
    setProblem("");
    try {
      const left = await deleteAccount(pending !== null);
      if (!there.current) return;
      setPending(left);
      if (left.length === 0) onDone();
    } catch (error) {
      if (error instanceof Abandoned || !there.current) return;
      setProblem(error instanceof Problem ? error.message : "That did not work. Please try again.");
    } finally {
      setBusy(false);
    }
  }

  // From the first answer on there is no way back, and the page asks until all is done.
  useEffect(() => {
    if (!pending || pending.length === 0 || busy) return;
    const soonest = Math.min(...pending.map((p) => p.retry_at)) * 1000 - Date.now();
    const timer = setTimeout(() => void attempt(), Math.min(Math.max(soonest, 3000), 30_000));
    return () => clearTimeout(timer);
  }, [pending, busy]);

  if (pending) {
    return (
      <Modal key="pending" title="Your account is being deleted" onClose={() => {}} busy>
        <p tabIndex={-1} autofocus>
          Your credentials can no longer be used. What was made for you elsewhere is being revoked. This goes on by itself, even if you
          close the page.
        </p>
        <ul class="results" aria-live="polite">
          {pending.map((p) => (
            <li key={p.provider}>
              <span>{providerName(p.provider)}</span>
              <span class="tag failed">
                {p.state === "parked" ? "Waits for the platform’s operators" : `Being revoked, again ${when(p.retry_at, Date.now())}`}
              </span>
            </li>
          ))}
        </ul>
        {problem && (
          <p role="alert" class="problem">
            {problem}
          </p>
        )}
        <p class="quiet">This page looks again by itself.</p>
      </Modal>
    );
  }
  return (
    <Modal title="Delete your account?" onClose={onClose} busy={busy}>
      <form
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          if (busy) return;
          if (typed.trim().toLowerCase() === phrase) void attempt();
          else setProblem(`Type “${phrase}” to go on.`);
        }}
      >
        <p>
          This action cannot be undone. All your credentials are deleted, those that the platform manages for you are revoked, and your
          agents lose access immediately.
        </p>
        <div class="field">
          <label for="phrase">
            Type <b>{phrase}</b> to confirm
          </label>
          <input
            id="phrase"
            autofocus
            autocomplete="off"
            autocapitalize="none"
            spellcheck={false}
            value={typed}
            onInput={(e) => setTyped(e.currentTarget.value)}
            aria-invalid={problem !== ""}
            aria-describedby={problem ? "phrase-error" : undefined}
          />
          {problem && (
            <p role="alert" class="problem" id="phrase-error">
              {problem}
            </p>
          )}
        </div>
        <div class="actions">
          <button type="button" disabled={busy} onClick={onClose}>
            Cancel
          </button>
          <button class="danger solid" aria-disabled={busy}>
            {busy ? "Deleting…" : "Delete my account"}
          </button>
        </div>
      </form>
    </Modal>
  );
}

/** AccountDeleted is all that is left to say, and the way back for whoever has another account. */
export function AccountDeleted({ onLeave }: { onLeave: () => void }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  return (
    <main class="front">
      <h1 ref={heading} tabIndex={-1}>
        Your account has been deleted
      </h1>
      <p>Your credentials are gone, and those that were made for you have been revoked. You can close this page.</p>
      <button onClick={onLeave}>Sign in with another account</button>
    </main>
  );
}
