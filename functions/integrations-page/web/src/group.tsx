// One provider's credentials.
import { useState } from "preact/hooks";
import { memo } from "./memo";
import { type Credential, kindOf, mayChange, mayReplace, mayRetract, whyNot } from "./rules";
import { mayAsk, type Standing } from "./standings";
import {
  awaitedName,
  detailOf,
  foldedScopes,
  lifeOf,
  nameOf,
  providerName,
  rotationOf,
  standsText,
  typeName,
  usedText,
  when,
} from "./words";

interface Actions {
  onSelect: (these: Credential[], on: boolean) => void;
  onCopyId: (c: Credential) => void;
  onEdit: (c: Credential) => void;
  onRemove: (c: Credential) => void;
  /** Has the managed credential of a provider made now. */
  onWant: (provider: string) => Promise<void>;
  /** Asks whether a managed credential, which the row calls so, is to be removed. */
  onRetract: (provider: string, called: string) => void;
  /** Asks whether a managed credential's key, which serves on for a while, is to be replaced. */
  onReplace: (provider: string, called: string, overlap: number) => void;
}

interface GroupProps extends Actions {
  provider: string;
  rows: Credential[];
  /** How the managed credential stands that is not there yet. */
  awaited: Standing | undefined;
  standing: Standing | undefined;
  selected: ReadonlySet<string>;
  fresh: string;
}

export function Group({ provider, rows, awaited, standing, selected, fresh, ...actions }: GroupProps) {
  const id = `provider-${provider}`;
  return (
    <section class="group" aria-labelledby={id}>
      <div class="called">
        <Letter provider={provider} />
        <h2 id={id} translate={false}>
          {providerName(provider)}
        </h2>
      </div>
      <ul>
        {awaited && <Awaited standing={awaited} actions={actions} />}
        {rows.map((c) => (
          <Row
            key={c.id}
            c={c}
            standing={kindOf(c) === "Managed" ? standing : undefined}
            selected={selected.has(c.id)}
            fresh={fresh === c.id}
            actions={actions}
          />
        ))}
      </ul>
    </section>
  );
}

interface RowProps {
  c: Credential;
  /** How it stands, if it is a managed one. */
  standing: Standing | undefined;
  selected: boolean;
  fresh: boolean;
  actions: Actions;
}

/** Letter stands for a provider's picture. Its colour is always the same one. */
function Letter({ provider }: { provider: string }) {
  const hue = [...provider].reduce((sum, letter) => sum + letter.charCodeAt(0), 0) % 4;
  return (
    <span class={`letter hue${hue}`} aria-hidden="true" translate={false}>
      {[...providerName(provider)][0]}
    </span>
  );
}

/**
 * Row is one credential. It is drawn anew only if something that it shows has changed: there may be
 * very many.
 */
const Row = memo(
  function Row({ c, standing, selected, fresh, actions }: RowProps) {
    const kind = kindOf(c);
    const detail = detailOf(c);
    const life = lifeOf(c, Date.now());
    const used = usedText(c);
    const rotation = rotationOf(standing, Date.now());
    return (
      <li id={`credential-${c.id}`} class={fresh ? "row fresh" : "row"} tabIndex={-1} data-kind={kind}>
        {mayChange(c) ? (
          <label class="box">
            <input
              type="checkbox"
              checked={selected}
              aria-label={`Select ${nameOf(c)}`}
              onChange={(e) => actions.onSelect([c], e.currentTarget.checked)}
            />
          </label>
        ) : (
          <span class="box" aria-hidden="true">
            <Lock />
          </span>
        )}
        <div class="what">
          <h3 dir="auto" translate={false}>
            {nameOf(c)}
          </h3>
          <p class="quiet">
            <span>{typeName(c.type)}</span>
            {detail && (
              <>
                {" "}
                ·{" "}
                <bdi class="detail" translate={false}>
                  {detail}
                </bdi>
              </>
            )}
          </p>
          {c.scopes && c.scopes.length > foldedScopes && (
            <details class="quiet">
              <summary>{c.scopes.length} scopes</summary>
              <span translate={false}>{c.scopes.join(", ")}</span>
            </details>
          )}
          {life.text && <p class={`quiet ${life.state}`}>{life.text}</p>}
          {standing?.unusable && (
            <p class="quiet">
              The provider says that its key does not work: it is switched off, its limit is spent, or it has expired. Ask the platform.
            </p>
          )}
          {used && <p class="quiet">{used}</p>}
          {rotation && (
            <p class="quiet" role="status">
              {rotation}
            </p>
          )}
        </div>
        <div class="tags">
          <span class={`tag ${kind.toLowerCase()}`}>{kind}</span>
          {standing && <State of={standing} />}
        </div>
        {mayChange(c) ? (
          <div class="do">
            <button aria-label={`Edit ${nameOf(c)}`} onClick={() => actions.onEdit(c)}>
              Edit
            </button>
            <button class="danger" aria-label={`Remove ${nameOf(c)}`} onClick={() => actions.onRemove(c)}>
              Remove
            </button>
            <CopyId c={c} onCopyId={actions.onCopyId} />
          </div>
        ) : mayReplace(standing) || mayRetract(standing) ? (
          <div class="do">
            {mayReplace(standing) && (
              <button
                aria-label={`Replace key of ${nameOf(c)}`}
                onClick={() => actions.onReplace(c.provider, nameOf(c), standing!.replaceable!)}
              >
                Replace key
              </button>
            )}
            {mayRetract(standing) && (
              <button class="danger" aria-label={`Remove ${nameOf(c)}`} onClick={() => actions.onRetract(c.provider, nameOf(c))}>
                Remove
              </button>
            )}
          </div>
        ) : (
          <p class="do why">{whyNot[kind]}</p>
        )}
      </li>
    );
  },
  (a, b) => a.c === b.c && a.standing === b.standing && a.selected === b.selected && a.fresh === b.fresh,
);

/** CopyId is for those who set up executors and clients, which go by the id. */
function CopyId({ c, onCopyId }: { c: Credential; onCopyId: (c: Credential) => void }) {
  return (
    <button class="icon" title="Copy id" aria-label={`Copy id of ${nameOf(c)}`} onClick={() => onCopyId(c)}>
      <svg
        viewBox="0 0 16 16"
        width="16"
        height="16"
        fill="none"
        stroke="currentColor"
        stroke-width="1.5"
        stroke-linejoin="round"
        aria-hidden="true"
      >
        <rect x="5.5" y="5.5" width="8" height="8" rx="1.5" />
        <path d="M10.500 2.500h-7a1 1 0 0 0-1 1v7" />
      </svg>
    </button>
  );
}

/** Awaited is the place of a managed credential that is not there. */
function Awaited({ standing, actions }: { standing: Standing; actions: Actions }) {
  const [busy, setBusy] = useState(false);
  const now = Date.now();
  const name = awaitedName(standing.provider);
  const says = {
    ready: "This appears in a moment.",
    provisioning: "The platform is setting this up for you. It appears here by itself.",
    failed:
      standing.retryAt === null
        ? "Setting this up did not work. It is tried again by itself."
        : `Setting this up did not work. It is tried again by itself ${when(standing.retryAt, now)}.`,
    unavailable: "The platform does not offer this right now.",
    offered:
      standing.retryAt === null || mayAsk(standing, now)
        ? "The platform sets this up for you when you want it."
        : `You can have this set up again ${when(standing.retryAt, now)}.`,
    retracting: "This is being removed.",
  }[standing.state];
  const doIt = standing.state === "failed" ? "Try now" : "Set up";

  async function ask() {
    if (busy) return;
    setBusy(true);
    await actions.onWant(standing.provider);
    setBusy(false);
  }
  return (
    <li id={`managed-${standing.provider}`} class="row" tabIndex={-1} data-kind="Managed">
      <span class="box" aria-hidden="true">
        <Lock />
      </span>
      <div class="what">
        <h3>{name}</h3>
        <p class="quiet" role="status">
          {says}
        </p>
      </div>
      <div class="tags">
        <span class="tag managed">Managed</span>
        <State of={standing} />
      </div>
      {mayAsk(standing, now) ? (
        <div class="do">
          <button aria-label={`${doIt}: ${name}`} aria-disabled={busy} onClick={() => void ask()}>
            {busy ? "Setting up…" : doIt}
          </button>
          {mayRetract(standing) && (
            <button class="danger" aria-label={`Remove ${name}`} onClick={() => actions.onRetract(standing.provider, name)}>
              Remove
            </button>
          )}
        </div>
      ) : (
        standing.state !== "retracting" && <p class="do why">{whyNot.Managed}</p>
      )}
    </li>
  );
}

function State({ of }: { of: Standing }) {
  const text = standsText(of, Date.now());
  return (
    <span key={text} class={`tag ${of.unusable ? "failed" : of.state}`}>
      {text}
    </span>
  );
}

const Lock = () => (
  <svg
    viewBox="0 0 16 16"
    width="16"
    height="16"
    fill="none"
    stroke="currentColor"
    stroke-width="1.5"
    stroke-linecap="round"
    stroke-linejoin="round"
  >
    <rect x="3" y="7" width="10" height="7" rx="1.5" />
    <path d="M5 7V5a3 3 0 0 1 6 0v2" />
  </svg>
);
