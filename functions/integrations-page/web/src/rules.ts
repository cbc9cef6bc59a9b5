// What may be done with a credential. Every part of the page that offers a change asks here, and nothing else decides it.

/** A credential as the API shows it: never a secret. */
export interface Credential {
  id: string;
  provider: string;
  type: Type;
  title: string | null;
  scopes: string[] | null;
  username: string | null;
  host: string | null;
  autogpt_managed: boolean;
  is_system: boolean;
  /** Unix seconds; null if there is nothing to say. */
  created_at: number | null;
  expires_at: number | null;
  /** The last four characters of an API key. */
  hint: string | null;
  /** The names of the stored secret fields; a header's after "headers.". */
  stored: string[] | null;
}

export type Type = "api_key" | "oauth2" | "user_password" | "host_scoped";

export type Kind = "Yours" | "Managed" | "Platform";

/** kindOf goes by the API's own fields. What does not say that it is the user's is not taken for theirs. */
export function kindOf(c: Credential): Kind {
  if (c.is_system === true) return "Platform";
  if (c.autogpt_managed === false && c.is_system === false) return "Yours";
  return "Managed";
}

/** mayChange tells whether the user may edit and delete a credential. The API refuses both for all others. */
export const mayChange = (c: Credential): boolean => kindOf(c) === "Yours";

/** whyNot is the reason that a row shows in place of its actions. */
export const whyNot: Record<Kind, string> = {
  Yours: "",
  Managed: "Managed by the platform — cannot be changed or removed",
  Platform: "Provided by the platform — cannot be changed or removed",
};
