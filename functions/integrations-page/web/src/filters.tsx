// What of the list is shown.
import { type Credential, kindOf } from "./rules";
import { expiresSoon } from "./words";

export type Filter = "All" | "Yours" | "Managed" | "Platform" | "Expiring";

const filters: Filter[] = ["All", "Yours", "Managed", "Platform", "Expiring"];

/** kept reports whether a filter lets a credential through. What has expired is expiring, too. */
export function kept(c: Credential, filter: Filter, now: number): boolean {
  switch (filter) {
    case "All":
      return true;
    case "Expiring":
      return expiresSoon(c, now);
    default:
      return kindOf(c) === filter;
  }
}

/** keptAwaited is the same for a managed credential that is not there yet. */
export const keptAwaited = (filter: Filter): boolean => filter === "All" || filter === "Managed";

interface Props {
  credentials: Credential[];
  /** Whether the list has a managed credential that is not there yet. */
  awaited: boolean;
  chosen: Filter;
  onChoose: (filter: Filter) => void;
}

export function Filters({ credentials, awaited, chosen, onChoose }: Props) {
  const now = Date.now();
  const offered = filters.filter(
    (f) => f === chosen || f === "All" || (awaited && keptAwaited(f)) || credentials.some((c) => kept(c, f, now)),
  );
  if (offered.length < 3) return null; // One kind alone: there is nothing to choose.
  return (
    <div class="filters" role="group" aria-label="Show">
      {offered.map((f) => (
        <button key={f} type="button" class="filter" aria-pressed={f === chosen} onClick={() => onChoose(f)}>
          {f}
        </button>
      ))}
    </div>
  );
}
