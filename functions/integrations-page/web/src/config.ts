// How this deployment's users sign in, and whose page they see. The service writes it into the
// page, so that nothing has to be asked for first.

export interface Config {
  /** The origin of Cognito's login pages; "" if there are none. */
  managed_login_url: string;
  /** The `iss` of its ID tokens. */
  managed_login_issuer: string;
  client_id: string;
  /** Where any name gets a token; "" but on one machine. */
  sign_in_as: string;
  /**
   * What the platform is called, a picture in place of that, its colour, and where users find help;
   * each may be "".
   */
  brand_name: string;
  brand_logo_url: string;
  brand_accent: string;
  support_url: string;
}

export const config = JSON.parse(document.getElementById("config")!.textContent!) as Config;
