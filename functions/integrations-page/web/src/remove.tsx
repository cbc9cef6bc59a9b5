// Removing credentials, one or several at once, with a result for each.
import { useEffect, useRef, useState } from "preact/hooks";
import { Problem, remove } from "./api";
import { memo } from "./memo";
import { Modal } from "./modal";
import { Name } from "./name";
import { type Credential, mayChange } from "./rules";
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
  const [stopped, setStopped] = useState(false);
  const queue = useRef<Credential[]>([]);
  useEffect(
    () => () => {
      queue.current = [];
    },
    [],
  );
  const gone = these.filter((c) => results.get(c.id) === "gone");
  const failed = these.filter((c) => results.get(c.id) instanceof Problem);
  const one = these.length === 1 ? these[0]! : null;

  async function removeAll() {
    const left = these.filter((c) => mayChange(c) && results.get(c.id) !== "gone");
    const now = new Map(results);
    for (const c of left) now.set(c.id, "waits");
    // Drawn once a frame, however many are done in it: else the time would grow with the square of
    // their number.
    let frame = 0;
    const draw = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        setResults(new Map(now));
      });
    };
    setResults(new Map(now));
    setStopped(false);
    setBusy(true);
    queue.current = left;
    const work = async () => {
      for (let c = queue.current.shift(); c; c = queue.current.shift()) {
        now.set(c.id, await removeOne(c));
        draw();
      }
    };
    try {
      await Promise.all(Array.from({ length: abreast }, work));
    } catch (error) {
      if (error instanceof Abandoned) return;
      throw error;
    }
    cancelAnimationFrame(frame);
    for (const [id, result] of now) if (result === "waits") now.delete(id);
    setResults(now);
    setBusy(false);
    if (one && now.get(one.id) === "gone") onDone([one]);
  }

  /** stop lets what is under way end, and begins nothing more. */
  function stop() {
    queue.current = [];
    setStopped(true);
  }

  const asks = results.size === 0 && !stopped;
  const done = gone.length + failed.length;
  return (
    <Modal
      title={
        one ? (
          <>
            Remove <Name of={one} />?
          </>
        ) : (
          `${asks ? "Remove" : "Removing"} ${count(these.length, "credential")}${asks ? "?" : ""}`
        )
      }
      busy={busy}
      onClose={() => onDone(gone)}
    >
      {(asks || one) && (
        <p>This action cannot be undone. Agents using {one ? "this credential" : "these credentials"} will lose access immediately.</p>
      )}
      {one && failed.length > 0 && (
        <p role="alert" class="problem">
          {(results.get(one.id) as Problem).message}
        </p>
      )}
      {!one && !asks && !busy && (
        <p role="status">
          {gone.length === these.length
            ? "All of them were removed."
            : `${gone.length.toLocaleString()} removed, ${(these.length - gone.length).toLocaleString()} not.`}
        </p>
      )}
      {!one && busy && (
        <p role="status">
          {done.toLocaleString()} of {these.length.toLocaleString()}
        </p>
      )}
      {!one && (
        <ul class="results" tabIndex={0} aria-label="Credentials to remove">
          {these.map((c) => (
            <Item key={c.id} c={c} result={results.get(c.id)} />
          ))}
        </ul>
      )}
      <div class="actions">
        {asks || busy || (one && failed.length > 0) ? (
          <>
            <button autofocus disabled={busy && (one !== null || stopped)} onClick={() => (busy ? stop() : onDone(gone))}>
              {stopped ? "Stopping…" : "Cancel"}
            </button>
            <button
              class="danger solid"
              aria-disabled={busy}
              onClick={() => {
                if (!busy) void removeAll();
              }}
            >
              {busy ? "Removing…" : failed.length > 0 ? "Try again" : "Remove"}
            </button>
          </>
        ) : (
          <>
            {gone.length < these.length && (
              <button onClick={() => void removeAll()}>{failed.length > 0 ? "Try those again" : "Go on"}</button>
            )}
            <button class="primary" onClick={() => onDone(gone)}>
              Close
            </button>
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

/** Item is drawn anew only when its own result has changed. */
const Item = memo(
  function Item({ c, result }: { c: Credential; result: Result | undefined }) {
    return (
      <li>
        <span dir="auto" translate={false}>
          {nameOf(c)}
          <small>{providerName(c.provider)}</small>
        </span>
        <Outcome of={result} />
      </li>
    );
  },
  (a, b) => a.c === b.c && a.result === b.result,
);

function Outcome({ of }: { of: Result | undefined }) {
  if (of === undefined) return null;
  if (of === "waits") return <span class="quiet">Waiting…</span>;
  if (of === "gone") return <span class="tag ready">Removed</span>;
  return <span class="problem">{of.message}</span>;
}
