// Having the key of a managed credential replaced, where the platform lets users do that.
import { replace } from "./api";
import { Ask } from "./ask";
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
  return (
    <Ask
      title={
        <>
          Replace the key of <bdi translate={false}>{called}</bdi>?
        </>
      }
      verb="Replace key"
      doing="Asking…"
      button="primary"
      ask={async () => onDone(await replace(provider))}
      onClose={onClose}
    >
      <p>The platform makes a new key for you, which takes a minute or two. What is in your account there stays as it is.</p>
      <p>{overlapOf(overlap)}</p>
    </Ask>
  );
}
