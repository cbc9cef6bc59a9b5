// Names for people.
import catalogue from "../../../../shared/catalogue/catalogue.json";
import type { Credential, Type } from "./rules";
import type { Standing } from "./standings";

export const typeNames: Record<Type, string> = {
  api_key: "API key",
  oauth2: "OAuth 2",
  user_password: "User name and password",
  host_scoped: "Headers for a host",
};

/** A provider of the catalogue, which the API knows, too. */
interface Entry {
  provider: string;
  name: string;
  /** The types of its credentials, the most usual one first. */
  types?: Type[];
  /** Where its API keys are made. */
  keys?: string;
  /** How they begin. */
  begins?: string[];
  /** What goes with a managed credential that is removed, as a sentence. */
  loses?: string;
}

// Keyed by names from outside: an object would know a provider called "constructor".
const known = new Map((catalogue as Entry[]).map((entry) => [entry.provider, entry]));

/** Providers that are suggested when one is added. */
export const suggestions = [...known.keys()];

export function providerName(provider: string): string {
  return (
    known.get(provider)?.name ??
    (provider
      .split("_")
      .filter(Boolean)
      .map((word) => word[0]!.toUpperCase() + word.slice(1))
      .join(" ") ||
      provider)
  );
}

const allTypes = Object.keys(typeNames) as Type[];

/**
 * typesOf are the types of a provider's credentials, the most usual one first. Of one that is not
 * in the catalogue they are all.
 */
export const typesOf = (provider: string): Type[] => known.get(provider)?.types ?? allTypes;

/** keysOf is where a provider's API keys are made; undefined if nobody knows. */
export const keysOf = (provider: string): string | undefined => known.get(provider)?.keys;

/**
 * doubtOf says what is odd about an API key of a provider; "" if nothing is. A provider may have
 * new ones: it is no error.
 */
export function doubtOf(provider: string, key: string): string {
  const begins = known.get(provider)?.begins;
  if (!begins || key.trim().length < 8 || begins.some((b) => key.trimStart().startsWith(b))) return "";
  return `A key of ${providerName(provider)} usually begins with ${begins.join(" or ")}. Is it this one?`;
}

/** lossOf says what is destroyed with a managed credential of a provider. */
export const lossOf = (provider: string): string =>
  known.get(provider)?.loses ?? `What was made for you at ${providerName(provider)} is deleted there, with all that is in it.`;

/**
 * slug is a provider as the API names it, from what people call it: "Open AI" is openai, and
 * "Google Drive" google_drive.
 */
export function slug(typed: string): string {
  if (/^[a-z0-9_]*$/.test(typed)) return typed;
  const squeezed = (name: string) => name.toLowerCase().replace(/[ ._-]+/g, "");
  const found = [...known.values()].find((e) => [e.provider, e.name].some((name) => squeezed(name) === squeezed(typed)));
  return found?.provider ?? typed.toLowerCase().replace(/[\s.-]+/g, "_");
}

/**
 * overlapOf says what becomes of a key that is replaced, which then works for so many seconds more.
 */
export function overlapOf(seconds: number): string {
  if (seconds === 0) return "The key that your agents have now stops working as soon as the new one is there.";
  const [n, unit] = seconds < 120 ? [seconds, "second"] : seconds < 7200 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"];
  return `The key that your agents have now works until the new one is there, and for ${count(Math.floor(n as number), unit as string)} after that.`;
}

/** rotationOf says how the replacing of a credential's key stands; "" if there is nothing to say. */
export function rotationOf(s: Pick<Standing, "replacing" | "retireAt"> | undefined, now: number): string {
  if (s?.replacing) return "A new key is being made. The present one works until then.";
  if (s?.retireAt && s.retireAt * 1000 > now) return `Its key was replaced. The one before works until ${at(s.retireAt)}.`;
  return "";
}

/** visible is a text without blanks at its ends; "" if nothing of it can be seen. */
export const visible = (text: string | null): string =>
  /^[\s\p{Cf}\p{Default_Ignorable_Code_Point}]*$/u.test(text ?? "") ? "" : text!.trim();

export const typeName = (type: string): string => (Object.hasOwn(typeNames, type) ? typeNames[type as Type] : type);

/** nameOf is what a credential is called in sentences. */
export const nameOf = (c: Credential): string => visible(c.title) || `${providerName(c.provider)} ${typeName(c.type)}`;

/** awaitedName is what a managed credential is called that is not there yet. */
export const awaitedName = (provider: string): string => `${providerName(provider)} (managed)`;

/** standsText says in a few words how a managed credential stands. */
export const standsText = ({ state, retryAt, unusable }: Pick<Standing, "state" | "retryAt" | "unusable">, now: number): string =>
  ({
    ready: unusable ? "Not working" : "Ready",
    provisioning: "Being set up",
    failed: retryAt === null ? "Failed" : `Failed, again ${when(retryAt, now)}`,
    unavailable: "Unavailable",
    offered: "Not set up",
    retracting: "Being removed",
  })[state];

/** changedElsewhere says, to whoever wanted to change it too, what has become of a credential. */
export function changedElsewhere(was: Credential, now: Credential): string {
  const what =
    nameOf(was) !== nameOf(now)
      ? `It was changed elsewhere, and is called “\u2068${nameOf(now)}\u2069” now.`
      : `Its secret was changed elsewhere${now.hint ? `, and ends in ${now.hint} now` : ""}.`;
  return `${what} Nothing of yours was saved. Save again to put it in the place of that.`;
}

/** foldedScopes is how many scopes a row shows one by one; more of them fold. */
export const foldedScopes = 6;

/** detailOf is what tells a credential from others of its type. */
export function detailOf(c: Credential): string {
  const scopes = c.scopes && c.scopes.length <= foldedScopes ? c.scopes.join(", ") : "";
  return [c.host, c.username, scopes, c.hint && `ends in ${c.hint}`].filter(Boolean).join(" · ");
}

const day = 86_400_000;
const soonDays = 30;

/** expiresSoon reports whether it has expired, or will within 30 days. */
export const expiresSoon = (c: Credential, now: number): boolean => Boolean(c.expires_at) && c.expires_at! * 1000 <= now + soonDays * day;

/**
 * lifeOf says when a credential was made and how long it works. expired and soon are for the eye.
 */
export function lifeOf(c: Credential, now: number): { text: string; state: "" | "soon" | "expired" } {
  const added = c.created_at ? `Added ${date(c.created_at * 1000)}` : "";
  if (!c.expires_at) return { text: added, state: "" };
  const left = c.expires_at * 1000 - now;
  if (left <= 0) return { text: "Expired", state: "expired" };
  const days = Math.ceil(left / day);
  if (days <= soonDays) return { text: days === 1 ? "Expires within a day" : `Expires in ${days} days`, state: days <= 7 ? "soon" : "" };
  return { text: `Expires ${date(c.expires_at * 1000)}`, state: "" };
}

// Made once: a list may have very many dates.
const dates = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });

const date = (ms: number): string => dates.format(ms);

// A day of the API's is one in UTC.
const days = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });

/** usedText says on which day a credential was last used; "" if that is not known. */
export const usedText = (c: Credential): string => (c.last_used_on ? `Last used ${days.format(Date.parse(c.last_used_on))}` : "");

/** plain is a text as a search compares it: without case and accents. */
export const plain = (text: string): string => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

/**
 * at is a moment, given in Unix seconds, in the user's own time; with the day only if it is another
 * one.
 */
function at(seconds: number): string {
  const moment = new Date(seconds * 1000);
  const day = moment.toDateString() === new Date().toDateString() ? {} : ({ day: "numeric", month: "short" } as const);
  return new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", ...day }).format(moment);
}

/**
 * when is a moment to come, given in Unix seconds, as a sentence goes on with it. One that has
 * passed is as good as now.
 */
export const when = (seconds: number, now: number): string => (seconds * 1000 > now ? `at ${at(seconds)}` : "in a moment");

export const count = (n: number, one: string, many = `${one}s`): string => `${n.toLocaleString()} ${n === 1 ? one : many}`;
