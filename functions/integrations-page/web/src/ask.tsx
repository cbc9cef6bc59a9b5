// A question before something is asked of the service for a managed credential.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { Problem } from "./api";
import { Modal } from "./modal";
import { Abandoned } from "./session";

interface Props {
  title: ComponentChildren;
  /** What the button says, and what it says meanwhile. */
  verb: string;
  doing: string;
  /** The class of the button. */
  button: string;
  /** Asks the service. What it says when that fails is shown, and the user may try again. */
  ask: () => Promise<void>;
  onClose: () => void;
  children: ComponentChildren;
}

export function Ask({ title, verb, doing, button, ask, onClose, children }: Props) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");

  async function attempt() {
    setBusy(true);
    setProblem("");
    try {
      await ask();
    } catch (error) {
      if (error instanceof Abandoned) return;
      setBusy(false);
      setProblem(error instanceof Problem ? error.message : "That did not work. Please try again.");
    }
  }

  return (
    <Modal title={title} busy={busy} onClose={onClose}>
      {children}
      {problem && (
        <p role="alert" class="problem">
          {problem}
        </p>
      )}
      <div class="actions">
        <button autofocus disabled={busy} onClick={onClose}>
          Cancel
        </button>
        <button
          class={button}
          aria-disabled={busy}
          onClick={() => {
            if (!busy) void attempt();
          }}
        >
          {busy ? doing : problem ? "Try again" : verb}
        </button>
      </div>
    </Modal>
  );
}
