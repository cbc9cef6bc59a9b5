// Names for people.
import type { Credential, Type } from "./rules";

export const typeNames: Record<Type, string> = {
  api_key: "API key",
  oauth2: "OAuth 2",
  user_password: "User name and password",
  host_scoped: "Headers for a host",
};

// Keyed by names from outside: an object would know a provider called "constructor".
const known = new Map([
  ["agent_mail", "AgentMail"], ["anthropic", "Anthropic"], ["aws", "AWS"], ["discord", "Discord"], ["github", "GitHub"], ["gitlab", "GitLab"], ["google", "Google"],
  ["groq", "Groq"], ["http", "HTTP"], ["hubspot", "HubSpot"], ["linear", "Linear"], ["notion", "Notion"], ["open_router", "OpenRouter"], ["openai", "OpenAI"],
  ["slack", "Slack"], ["smtp", "SMTP"], ["twitter", "Twitter"],
]);

/** Providers that are suggested when one is added. */
export const suggestions = [...known.keys()];

export function providerName(provider: string): string {
  return known.get(provider) ?? (provider.split("_").filter(Boolean).map((word) => word[0]!.toUpperCase() + word.slice(1)).join(" ") || provider);
}

/** slug is a provider as the API names it, from what people call it: "Open AI" is openai, and "Google Drive" google_drive. */
export function slug(typed: string): string {
  const squeezed = (name: string) => name.toLowerCase().replace(/[\s._-]+/g, "");
  const found = suggestions.find((p) => squeezed(p) === squeezed(typed));
  return /^[a-z0-9_]*$/.test(typed) ? typed : found ?? typed.toLowerCase().replace(/[\s.-]+/g, "_");
}

/** visible is a text without blanks at its ends; "" if nothing of it can be seen. */
export const visible = (text: string | null): string => (/^[\s\p{Cf}\p{Default_Ignorable_Code_Point}]*$/u.test(text ?? "") ? "" : text!.trim());

export const typeName = (type: string): string => (Object.hasOwn(typeNames, type) ? typeNames[type as Type] : type);

/** nameOf is what a credential is called in sentences. */
export const nameOf = (c: Credential): string => visible(c.title) || `${providerName(c.provider)} ${typeName(c.type)}`;

/** foldedScopes is how many scopes a row shows one by one; more of them fold. */
export const foldedScopes = 6;

/** detailOf is what tells a credential from others of its type. */
export function detailOf(c: Credential): string {
  const scopes = c.scopes && c.scopes.length <= foldedScopes ? c.scopes.join(", ") : "";
  return [c.host, c.username, scopes, c.hint && `ends in ${c.hint}`].filter(Boolean).join(" · ");
}

/** lifeOf says when a credential was made and how long it works. expired and soon are for the eye. */
export function lifeOf(c: Credential, now: number): { text: string; state: "" | "soon" | "expired" } {
  const added = c.created_at ? `Added ${day(c.created_at * 1000)}` : "";
  if (!c.expires_at) return { text: added, state: "" };
  const left = c.expires_at * 1000 - now;
  if (left <= 0) return { text: "Expired", state: "expired" };
  const days = Math.ceil(left / 86_400_000);
  if (days <= 30) return { text: days === 1 ? "Expires within a day" : `Expires in ${days} days`, state: days <= 7 ? "soon" : "" };
  return { text: `Expires ${day(c.expires_at * 1000)}`, state: "" };
}

const day = (ms: number): string => new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" }).format(ms);

/** plain is a text as a search compares it: without case and accents. */
export const plain = (text: string): string => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

/** at is a moment, given in Unix seconds, in the user's own time; with the day only if it is another one. */
export function at(seconds: number): string {
  const moment = new Date(seconds * 1000);
  const day = moment.toDateString() === new Date().toDateString() ? {} : { day: "numeric", month: "short" } as const;
  return new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", ...day }).format(moment);
}

export const count = (n: number, one: string, many = one + "s"): string => `${n.toLocaleString()} ${n === 1 ? one : many}`;
