// What an address asks for: the form that adds a credential, of some provider and type. Other pages
// lead here by it.

import type { Type } from "./rules";
import { typeNames } from "./words";

export interface Wish {
  provider: string;
  type: Type | null;
}

const key = "wish";

/**
 * noteWish takes the wish out of the address. It outlives the way through the login pages, in this
 * tab alone.
 */
export function noteWish(): void {
  const query = new URLSearchParams(location.search);
  const provider = query.get("add");
  if (provider === null) return;
  sessionStorage.setItem(key, JSON.stringify({ provider, type: query.get("type") }));
  history.replaceState(null, "", location.pathname);
}

/**
 * takeWish is the wish, once; null if there is none. Its words are somebody else's: what is no
 * provider or type is left out.
 */
export function takeWish(): Wish | null {
  const noted = sessionStorage.getItem(key);
  sessionStorage.removeItem(key);
  return noted === null ? null : wishOf(JSON.parse(noted));
}

export function wishOf({ provider, type }: { provider?: unknown; type?: unknown }): Wish | null {
  if (typeof provider !== "string" || !/^[a-z0-9_]{1,64}$/.test(provider)) return null;
  return { provider, type: typeof type === "string" && Object.hasOwn(typeNames, type) ? (type as Type) : null };
}
