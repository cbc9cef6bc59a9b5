// What may be done with a credential. Every part of the page that offers a change asks here, and
// nothing else decides it.
import type { components } from "./openapi";
import type { Standing } from "./standings";

/** A credential as the API shows it: never a secret. */
export type Credential = components["schemas"]["Credential"];

export type Type = components["schemas"]["Type"];

export type Kind = "Yours" | "Managed" | "Platform";

/**
 * kindOf goes by the API's own fields. What does not say that it is the user's is not taken for
 * theirs.
 */
export function kindOf(c: Credential): Kind {
  if (c.is_system === true) return "Platform";
  if (c.autogpt_managed === false && c.is_system === false) return "Yours";
  return "Managed";
}

/**
 * mayChange tells whether the user may edit and delete a credential. The API refuses both for all
 * others.
 */
export const mayChange = (c: Credential): boolean => kindOf(c) === "Yours";

/**
 * mayRetract tells whether the user may have a managed credential removed, with all that is in it
 * at the third party. Only the owner's setting allows it, of which the list tells.
 */
export const mayRetract = (s: Standing | undefined): boolean => s?.removable === true;

/**
 * mayReplace tells whether the user may have the key of a managed credential replaced. That, too,
 * is the owner's setting, of which the list tells.
 */
export const mayReplace = (s: Standing | undefined): boolean => typeof s?.replaceable === "number";

/** whyNot is the reason that a row shows in place of its actions. */
export const whyNot: Record<Kind, string> = {
  Yours: "",
  Managed: "Managed by the platform — cannot be changed or removed",
  Platform: "Provided by the platform — cannot be changed or removed",
};
