// The API, as far as the page uses it.
import type { components } from "./openapi";
import type { Credential } from "./rules";
import { accessToken, renew, renewSilently } from "./session";
import { parseStandings, type Standing } from "./standings";
import { when } from "./words";

/** Problem is what went wrong with a request, in a text for the user. */
export class Problem extends Error {
  constructor(
    /** The HTTP status; 0 if there was no answer. */
    readonly status: number,
    text: string,
    /** The field that the text is about, as the API calls it; "" for the whole. */
    readonly field = "",
    /** Whether the account is gone, and the token with it. */
    readonly accountDeleted = false,
  ) {
    super(text);
  }
}

export interface Listing {
  credentials: Credential[];
  standings: Standing[];
}

/** What is still to be done of a deletion. */
export type Pending = components["schemas"]["Pending"];

/** Who wants to hear how many requests are under way. */
export const traffic = { changed: (_: number): void => {} };
let underWay = 0;

export async function list(): Promise<Listing> {
  const response = await call("GET", "credentials");
  return { credentials: await response.json(), standings: parseStandings(response.headers.get("managed-credentials")) };
}

/** A credential as it was read, and the revision that it had then. */
export interface Seen {
  credential: Credential;
  revision: string;
}

export async function read(c: Credential): Promise<Seen> {
  const response = await call("GET", pathOf(c));
  return { credential: await response.json(), revision: response.headers.get("etag") ?? "*" };
}

/**
 * create adds a credential. With the same key it is safe to repeat: it makes one, however often it
 * is sent.
 */
export async function create(provider: string, fields: object, key: string): Promise<Credential> {
  return (await call("POST", `${encodeURIComponent(provider)}/credentials`, { fields, headers: { "idempotency-key": key } })).json();
}

/**
 * update changes a credential. If it is not what was seen any more, nothing is changed, and the
 * status of the Problem is 412.
 */
export async function update(seen: Seen, fields: object): Promise<Credential> {
  return (await call("PUT", pathOf(seen.credential), { fields, headers: { "if-match": seen.revision } })).json();
}

/**
 * want has a managed credential made now. It returns the credential, or how it stands if it is not
 * there yet. Safe to repeat.
 */
export async function want(provider: string): Promise<Credential | Standing> {
  const response = await call("PUT", `${encodeURIComponent(provider)}/managed`);
  const [standing] = parseStandings(response.headers.get("managed-credentials"));
  if (response.status === 200) return response.json();
  if (!standing) throw new Problem(0, "The service cannot answer right now. Please try again.");
  return standing;
}

/**
 * retract has a managed credential removed, with all that is in it at the third party. It returns
 * how it stands then, or null if nothing is left. Safe to repeat.
 */
export async function retract(provider: string): Promise<Standing | null> {
  const response = await call("DELETE", `${encodeURIComponent(provider)}/managed`);
  return response.status === 204 ? null : (parseStandings(response.headers.get("managed-credentials"))[0] ?? null);
}

/**
 * replace has the key of a managed credential replaced, and returns how it stands then. Safe to
 * repeat: while one is being made, no other is.
 */
export async function replace(provider: string): Promise<Standing | null> {
  const response = await call("POST", `${encodeURIComponent(provider)}/managed/replace`);
  return parseStandings(response.headers.get("managed-credentials"))[0] ?? null;
}

/** remove deletes a credential. One that is gone already is no problem. */
export async function remove(c: Credential): Promise<void> {
  try {
    await call("DELETE", pathOf(c));
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 404) throw error;
  }
}

/**
 * deleteAccount deletes the account, or asks how far that has come. It returns what is still to be
 * revoked. Once it has begun there may be nobody left who could sign in again, so that the user is
 * not asked to.
 */
export async function deleteAccount(begun: boolean): Promise<Pending[]> {
  const response = await call("DELETE", "account", {}, begun ? renewSilently : renew);
  return response.status === 204 ? [] : ((await response.json()) as { pending: Pending[] }).pending;
}

const pathOf = (c: Credential): string => `${encodeURIComponent(c.provider)}/credentials/${encodeURIComponent(c.id)}`;

/** What a request carries. */
interface Load {
  fields?: object;
  headers?: Record<string, string>;
}

/**
 * call sends a request, once more with a new token if the API wants one. The path is relative to
 * the page, before which a stage's name or a mapped path may stand. It throws Problem for every
 * answer but 2xx. again gets the token; false from it means that there is none to be had.
 */
async function call(method: string, path: string, load: Load = {}, again: () => Promise<unknown> = renew): Promise<Response> {
  let response = await send(method, path, load);
  if (response.status === 401) {
    const problem = await problemOf(response);
    if (problem.accountDeleted || (await again()) === false) throw problem;
    response = await send(method, path, load);
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function send(method: string, path: string, { fields, headers }: Load): Promise<Response> {
  const all: Record<string, string> = { ...headers, authorization: `Bearer ${accessToken()}` };
  if (fields) all["content-type"] = "application/json";
  traffic.changed(++underWay);
  try {
    return await fetch(path, {
      method,
      headers: all,
      body: fields && JSON.stringify(fields),
      cache: "no-store",
      signal: AbortSignal.timeout(35_000),
    });
  } catch (error) {
    const late = error instanceof DOMException && error.name === "TimeoutError";
    throw new Problem(0, late ? "The service takes too long to answer." : "The service cannot be reached. Check your connection.");
  } finally {
    traffic.changed(--underWay);
  }
}

async function problemOf(response: Response): Promise<Problem> {
  const body = (await response.json().catch(() => ({}))) as { detail?: string; retry_at?: number | null };
  const detail = body.detail ?? "";
  const again = body.retry_at ? ` You can do that ${when(body.retry_at, Date.now())}.` : "";
  switch (response.status) {
    case 401: // API Gateway says no more than "Unauthorized"; the API itself speaks of a deleted account alone.
      return new Problem(401, detail || "You are not signed in any more.", "", detail !== "");
    case 404:
      return new Problem(404, "This credential does not exist any more.");
    case 422: {
      const [, field = "", text = detail] = /^([a-z0-9_]+): (.*)$/s.exec(detail) ?? [];
      return new Problem(422, sentence(text), field === "body" ? "" : field);
    }
    case 429:
      return new Problem(429, detail ? detail + again : "There are too many requests right now. Please try again in a moment.");
    default:
      return new Problem(response.status, detail ? sentence(detail) + again : "The service cannot answer right now. Please try again.");
  }
}

const sentence = (text: string): string => text && text[0]!.toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
