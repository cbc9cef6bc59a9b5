// Names for people.
import type { Credential, Type } from "./rules";

export const typeNames: Record<Type, string> = {
  api_key: "API key",
  oauth2: "OAuth 2",
  user_password: "User name and password",
  host_scoped: "Headers for a host",
};

const known: Record<string, string> = {
  agent_mail: "AgentMail", anthropic: "Anthropic", aws: "AWS", discord: "Discord", github: "GitHub", gitlab: "GitLab", google: "Google",
  groq: "Groq", http: "HTTP", hubspot: "HubSpot", linear: "Linear", notion: "Notion", open_router: "OpenRouter", openai: "OpenAI",
  slack: "Slack", smtp: "SMTP", twitter: "Twitter",
};

/** Providers that are suggested when one is added. */
export const suggestions = Object.keys(known);

export function providerName(provider: string): string {
  return known[provider] ?? provider.split("_").filter(Boolean).map((word) => word[0]!.toUpperCase() + word.slice(1)).join(" ");
}

/** nameOf is what a credential is called in sentences. */
export const nameOf = (c: Credential): string => c.title || `${providerName(c.provider)} ${typeNames[c.type] ?? c.type}`;

/** detailOf is what tells a credential from others of its type. */
export function detailOf(c: Credential): string {
  return [c.host, c.username, c.scopes?.length ? c.scopes.join(", ") : null].filter(Boolean).join(" · ");
}

/** at is a moment, given in Unix seconds, in the user's own time; with the day only if it is another one. */
export function at(seconds: number): string {
  const moment = new Date(seconds * 1000);
  const day = moment.toDateString() === new Date().toDateString() ? {} : { day: "numeric", month: "short" } as const;
  return new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", ...day }).format(moment);
}

export const count = (n: number, one: string, many = one + "s"): string => `${n.toLocaleString()} ${n === 1 ? one : many}`;
