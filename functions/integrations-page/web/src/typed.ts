// What can be said of typed values before the service is asked.

/**
 * How many bytes the secret fields of a credential may have, with their names and the type, as
 * JSON.
 */
export const secretLimit = 4096;

/**
 * Between these an expiry lies. A year of five digits, or milliseconds taken for seconds, is a
 * mistake.
 */
export const earliest = "2000-01-01T00:00";
export const latest = "9999-12-31T23:59";

/**
 * timeProblem says what is wrong with the value of a datetime-local input; "" if nothing is.
 * partial: the browser cannot read what is there.
 */
export function timeProblem(value: string, partial: boolean, now: number): string {
  if (partial) return "Complete the date and the time, or clear them.";
  if (!value) return "";
  const at = new Date(value).getTime();
  if (!(at >= new Date(earliest).getTime() && at <= new Date(latest).getTime())) return "Choose a time between the years 2000 and 9999.";
  return at <= now ? "This time has passed. Choose one to come." : "";
}

export interface HeaderRow {
  name: string;
  value: string;
}

/**
 * headersOf makes headers of rows. What is wrong with a row is under "header " and its number, and
 * with all of them under "headers".
 */
export function headersOf(rows: readonly HeaderRow[]): { headers: Record<string, string>; errors: Map<string, string> } {
  const headers = new Map<string, string>();
  const errors = new Map<string, string>();
  const taken = new Set<string>();
  rows.forEach(({ name: typed, value }, i) => {
    const name = typed.trim();
    if (!name && !value) return;
    if (!name) errors.set(`header ${i}`, "Enter the header’s name.");
    else if (taken.has(name.toLowerCase()))
      errors.set(`header ${i}`, `There is a header ${name} above. Upper and lower case are the same.`);
    else if (!value) errors.set(`header ${i}`, `Enter the value of ${name}, or remove the row.`);
    taken.add(name.toLowerCase());
    headers.set(name, value);
  });
  if (headers.size === 0) errors.set("headers", "Enter at least one header, with a name and a value.");
  return { headers: Object.fromEntries(headers), errors };
}

/**
 * sizeOf is how many bytes of the limit a type's fields take. Those that are shown in the list are
 * no part of the secret.
 */
export function sizeOf(type: string, fields: Record<string, unknown>): number {
  const open = new Set(["host", "scopes", ...(type === "oauth2" ? ["username"] : [])]);
  const secret = Object.entries(fields).filter(([name]) => !open.has(name));
  return new TextEncoder().encode(JSON.stringify(Object.fromEntries([...secret, ["type", type]]))).length;
}
