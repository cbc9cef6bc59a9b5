// How the managed providers stand: the header Managed-Credentials of a list, a dictionary in the
// sense of RFC 9651.

export interface Standing {
  provider: string;
  state: "ready" | "provisioning" | "failed" | "unavailable" | "offered" | "retracting";
  /**
   * When it is tried again, in Unix seconds, where it failed; or from when on it may be asked for,
   * where it is offered.
   */
  retryAt: number | null;
  /** Whether its provider says that its key does not work. */
  unusable: boolean;
  /** Whether the user may have it removed. */
  removable: boolean;
  /** For how many seconds its key serves on if the user has it replaced; null if they may not. */
  replaceable: number | null;
  /** Whether another key is being made. */
  replacing: boolean;
  /** Until when the key before this one works, in Unix seconds; null if it does not. */
  retireAt: number | null;
}

/**
 * parseStandings reads the header. A member or a state that it does not know is left out: a newer
 * service may say more.
 */
export function parseStandings(header: string | null): Standing[] {
  const standings: Standing[] = [];
  for (const member of (header ?? "").split(",")) {
    const found = /^\s*([a-z0-9_]+)=(ready|provisioning|failed|unavailable|offered|retracting)((?:;[^,]*)?)\s*$/.exec(member);
    if (!found) continue;
    const parameters = found[3] ?? "";
    const number = (name: string): number | null => {
      const found = new RegExp(`;\\s*${name}=(\\d+)`).exec(parameters);
      return found ? Number(found[1]) : null;
    };
    const has = (name: string): boolean => new RegExp(`;\\s*${name}\\s*(;|$)`).test(parameters);
    standings.push({
      provider: found[1]!,
      state: found[2] as Standing["state"],
      retryAt: number("retry_at"),
      unusable: has("unusable"),
      removable: has("removable"),
      replaceable: number("replaceable"),
      replacing: has("replacing"),
      retireAt: number("retire_at"),
    });
  }
  return standings;
}

/** mayAsk reports whether the user may have it made now. */
export const mayAsk = (s: Standing, now: number): boolean =>
  s.state === "failed" || (s.state === "offered" && (s.retryAt === null || s.retryAt * 1000 <= now));

/**
 * nextLook is in how many milliseconds a list may have changed by itself, given how often it was
 * looked at in vain; null if it will not. A list that waits for a provider is itself slow to
 * answer, so there is no hurry.
 */
export function nextLook(standings: Standing[], looks: number, now: number): number | null {
  const waits: number[] = [];
  const patience = Math.min(2000 * 1.5 ** looks, 30_000);
  for (const s of standings) {
    if (s.state === "provisioning" || s.state === "retracting" || s.replacing) waits.push(patience);
    if (s.state === "failed" && s.retryAt !== null) waits.push(Math.max(s.retryAt * 1000 - now + 500, patience));
  }
  return waits.length === 0 ? null : Math.min(...waits);
}
