// Having the key of a managed credential replaced, where the platform lets users do that.
import { useState } from "preact/hooks";
import { Problem, replace } from "./api";
import { Modal } from "./modal";
import { Abandoned } from "./session";
import type { Standing } from "./standings";
import { overlapOf } from "./words";

interface Props {
  provider: string;
  /** What its row calls it. */
  called: string;
  /** For how many seconds the key serves on that is there now. */
  overlap: number;
  onClose: () => void;
  /** Called with how it stands once its key is being replaced. */
  onDone: (standing: Standing | null) => void;
}

export function Replace({ provider, called, overlap, onClose, onDone }: Props) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");

  async function attempt() {
    setBusy(true);
    setProblem("");
    try {
      onDone(await replace(provider));
    } catch (error) {
      if (error instanceof Abandoned) return;
      setBusy(false);
      setProblem(error instanceof Problem ? error.message : "That did not work. Please try again.");
    }
  }

  return (
    <Modal
      title={
        <>
          Replace the key of <bdi translate={false}>{called}</bdi>?
        </>
      }
      busy={busy}
      onClose={onClose}
    >
      <p>The platform makes a new key for you, which takes a minute or two. What is in your account there stays as it is.</p>
      <p>{overlapOf(overlap)}</p>
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
          class="primary"
          aria-disabled={busy}
          onClick={() => {
            if (!busy) void attempt();
          }}
        >
          {busy ? "Asking…" : problem ? "Try again" : "Replace key"}
        </button>
      </div>
    </Modal>
  );
}
