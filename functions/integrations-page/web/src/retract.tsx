// Having a managed credential removed, where the platform lets users do that.
import { useState } from "preact/hooks";
import { Problem, retract } from "./api";
import { Modal } from "./modal";
import { Abandoned } from "./session";
import type { Standing } from "./standings";
import { lossOf } from "./words";

interface Props {
  provider: string;
  /** What its row calls it. */
  called: string;
  onClose: () => void;
  /** Called with how it stands once it is being removed, or null if nothing is left of it. */
  onDone: (standing: Standing | null) => void;
}

export function Retract({ provider, called, onClose, onDone }: Props) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");

  async function attempt() {
    setBusy(true);
    setProblem("");
    try {
      onDone(await retract(provider));
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
          Remove <bdi translate={false}>{called}</bdi>?
        </>
      }
      busy={busy}
      onClose={onClose}
    >
      <p>This action cannot be undone. {lossOf(provider)}</p>
      <p>Agents using this credential will lose access immediately. None is set up again unless you ask for it.</p>
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
          class="danger solid"
          aria-disabled={busy}
          onClick={() => {
            if (!busy) void attempt();
          }}
        >
          {busy ? "Removing…" : problem ? "Try again" : "Remove"}
        </button>
      </div>
    </Modal>
  );
}
