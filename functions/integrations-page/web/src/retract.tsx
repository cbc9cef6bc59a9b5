// Having a managed credential removed, where the platform lets users do that.
import { retract } from "./api";
import { Ask } from "./ask";
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
  return (
    <Ask
      title={
        <>
          Remove <bdi translate={false}>{called}</bdi>?
        </>
      }
      verb="Remove"
      doing="Removing…"
      button="danger solid"
      ask={async () => onDone(await retract(provider))}
      onClose={onClose}
    >
      <p>This action cannot be undone. {lossOf(provider)}</p>
      <p>Agents using this credential will lose access immediately. None is set up again unless you ask for it.</p>
    </Ask>
  );
}
