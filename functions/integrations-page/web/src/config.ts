// How this deployment's users sign in. The service writes it into the page, so that nothing has to be asked for first.

export interface Config {
  /** The origin of Cognito's login pages; "" if there are none. */
  managed_login_url: string;
  client_id: string;
  /** Where any name gets a token; "" but on one machine. */
  sign_in_as: string;
}

export const config = JSON.parse(document.getElementById("config")!.textContent!) as Config;
