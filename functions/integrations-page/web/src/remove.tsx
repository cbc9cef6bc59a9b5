// Removing credentials, one or several at once, with a result for each.
import { useState } from "preact/hooks";
import { Problem, remove } from "./api";
import { Modal } from "./modal";
import { mayChange, type Credential } from "./rules";
import { Abandoned } from "./session";
import { count, nameOf, providerName } from "./words";

interface Props {
  these: Credential[];
  /** Called with those that are gone, none of them if the user has thought better of it. */
  onDone: (gone: Credential[]) => void;
}

type Result = "waits" | "gone" | Problem;

/** How many are removed at a time. */
const abreast = 4;

export function Remove({ these, onDone }: Props) {
  const [results, setResults] = useState<ReadonlyMap<string, Result>>(new Map());
  const [busy, setBusy] = useState(false);
  const gone = these.filter((c) => results.get(c.id) === "gone");
  const failed = these.filter((c) => results.get(c.id) instanceof Problem);
  const one = these.length === 1 ? these[0]! : null;

  async function removeAll() {
    const left = these.filter((c) => mayChange(c) && results.get(c.id) !== "gone");
    const now = new Map(results);
    for (const c of left) now.set(c.id, "waits");
    setResults(new Map(now));
    setBusy(true);
    const queue = [...left];
    const work = async () => {
      for (let c = queue.shift(); c; c = queue.shift()) {
        now.set(c.id, await removeOne(c));
        setResults(new Map(now));
      }
    };
    try {
      await Promise.all(Array.from({ length: abreast }, work));
    } catch (error) {
      if (error instanceof Abandoned) return;
      throw error;
    }
    setBusy(false);
    if (one && now.get(one.id) === "gone") onDone([one]);
  }

  const asks = results.size === 0;
  return (
    <Modal title={one ? `Remove ${nameOf(one)}?` : asks ? `Remove ${count(these.length, "credential")}?` : `Removing ${count(these.length, "credential")}`} busy={busy} onClose={() => onDone(gone)}>
      {(asks || one) && <p>This action cannot be undone. Agents using {one ? "this credential" : "these credentials"} will lose access immediately.</p>}
      {one && failed.length > 0 && <p role="alert" class="problem">{(results.get(one.id) as Problem).message}</p>}
      {!one && !asks && !busy && (
        <p role="status">{failed.length === 0 ? "All of them were removed." : `${gone.length.toLocaleString()} removed, ${failed.length.toLocaleString()} not.`}</p>
      )}
      {!one && (
        <ul class="results" tabIndex={0} aria-label="Credentials to remove">
          {these.map((c) => <li key={c.id}><span>{nameOf(c)}<small>{providerName(c.provider)}</small></span><Outcome of={results.get(c.id)} /></li>)}
        </ul>
      )}
      <div class="actions">
        {asks || busy || (one && failed.length > 0) ? (
          <>
            <button autofocus disabled={busy} onClick={() => onDone(gone)}>Cancel</button>
            <button class="danger solid" aria-disabled={busy} onClick={() => { if (!busy) void removeAll(); }}>{busy ? "Removing…" : failed.length > 0 ? "Try again" : "Remove"}</button>
          </>
        ) : (
          <>
            {failed.length > 0 && <button onClick={() => void removeAll()}>Try those again</button>}
            <button class="primary" onClick={() => onDone(gone)}>Close</button>
          </>
        )}
      </div>
    </Modal>
  );
}

async function removeOne(c: Credential): Promise<Result> {
  try {
    await remove(c);
    return "gone";
  } catch (error) {
    if (error instanceof Problem) return error;
    throw error;
  }
}

function Outcome({ of }: { of: Result | undefined }) {
  if (of === undefined) return null;
  if (of === "waits") return <span class="quiet">Waiting…</span>;
  if (of === "gone") return <span class="tag ready">Removed</span>;
  return <span class="problem">{of.message}</span>;
}
