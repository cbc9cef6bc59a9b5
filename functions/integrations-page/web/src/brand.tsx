// Whose page this is, as far as the deployment says: a name or logo, a colour, and where users find
// help.
import type { ComponentChildren } from "preact";
import { config } from "./config";

/**
 * showBrand gives the page the platform's colour, and the window its name. The style sheet has the
 * colour so that it can be read.
 */
export function showBrand(): void {
  const root = document.documentElement;
  if (config.brand_accent) root.style.setProperty("--brand", config.brand_accent);
  root.classList.toggle("branded", config.brand_accent !== "");
  if (config.brand_name) document.title += ` – ${config.brand_name}`;
}

export function Brand() {
  if (!config.brand_name && !config.brand_logo_url) return null;
  return (
    <p class="brand" translate={false}>
      {config.brand_logo_url ? <img src={config.brand_logo_url} alt={config.brand_name} /> : config.brand_name}
    </p>
  );
}

/** Support is a link to where users find help, or the words alone if there is none. */
export function Support({ children }: { children: ComponentChildren }) {
  if (!config.support_url) return children;
  return (
    <a href={config.support_url} target="_blank" rel="noopener noreferrer">
      {children}
    </a>
  );
}
