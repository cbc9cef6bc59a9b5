// Who is signed in. Tokens are in this module's memory alone, and nothing else of a user is kept
// anywhere in the browser. What the way through Cognito's managed login needs to survive is in
// sessionStorage while it lasts: the state and PKCE's verifier, which are worth nothing without the
// code that they belong to.
//
// Managed login:
// https://docs.aws.amazon.com/cognito/latest/developerguide/cognito-userpools-server-contract-reference.html.

import * as oauth from "oauth4webapi";
import { config } from "./config";

export interface User {
  sub: string;
  name: string;
}

/** Abandoned ends a request whose user has left: there is nobody to tell. */
export class Abandoned extends Error {}

/** SignInFailed says, in a text for the user, why nobody could be signed in. */
export class SignInFailed extends Error {}

interface Tokens {
  access_token: string;
  refresh_token?: string;
  expires_in?: number;
  /** Whom the ID token is about, if it says so by an address. */
  email?: string;
}

/** The way to the login pages and back, for one sign-in. */
export interface Passage {
  url: string;
  state: string;
  verifier: string;
}

const inWindow = "window.";
const channel = "sign-in";
const passageKey = "sign-in";
const returningKey = "signed-in-before";

const server: oauth.AuthorizationServer = {
  issuer: config.managed_login_issuer,
  authorization_endpoint: `${config.managed_login_url}/oauth2/authorize`,
  token_endpoint: `${config.managed_login_url}/oauth2/token`,
};

const client: oauth.Client = {
  client_id: config.client_id,
  // The tokens have come straight from the login. By how much this machine's clock is wrong must
  // not keep anybody out.
  [oauth.clockTolerance]: 10 * 365 * 86_400,
};

/** request is how the login is asked. Without TLS it is on one machine alone, as the page is. */
const request = () => ({ signal: AbortSignal.timeout(30_000), [oauth.allowInsecureRequests]: location.protocol === "http:" });

let tokens: Tokens | null = null;
let user: User | null = null;
let timer: ReturnType<typeof setTimeout> | undefined;
let renewal: Promise<void> | null = null;
let waiting: { resolve: () => void; reject: (why: Error) => void } | null = null;

/** Who wants to hear: of the user (null: nobody), and of the need to sign in again, or its end. */
export const listeners = {
  user: (_: User | null): void => {},
  ask: (_: boolean): void => {},
};

export const accessToken = (): string => tokens?.access_token ?? "";

/**
 * returnedInWindow hands what the login pages said to the page that opened this window. It reports
 * false if this is no such window.
 */
export function returnedInWindow(): boolean {
  const answer = new URLSearchParams(location.search);
  if (!answer.get("state")?.startsWith(inWindow)) return false;
  history.replaceState(null, "", location.pathname);
  const to = new BroadcastChannel(channel);
  to.postMessage(Object.fromEntries(answer));
  to.close();
  window.close();
  return true;
}

/**
 * start signs in whom the login pages have sent back, if they have. It throws SignInFailed with the
 * reason if that does not work.
 */
export async function start(): Promise<void> {
  const answer = new URLSearchParams(location.search);
  const passage = take(passageKey);
  if (answer.has("code") || answer.has("error")) {
    history.replaceState(null, "", location.pathname);
    const { state, verifier } = JSON.parse(passage ?? "{}") as Partial<Passage>;
    await finish(answer, state, verifier);
  } else if (config.managed_login_url && take(returningKey)) {
    // A reload has lost the tokens; the login pages still know the browser and send it straight
    // back.
    await signIn();
    await new Promise(() => {});
  }
}

/** signIn leaves for the login pages. */
export async function signIn(): Promise<void> {
  const passage = await preparePassage("");
  sessionStorage.setItem(passageKey, JSON.stringify({ state: passage.state, verifier: passage.verifier }));
  location.assign(passage.url);
}

/** signInAs signs in under a name. It works on one machine alone. */
export async function signInAs(name: string): Promise<void> {
  accept(await tokenFor(name));
}

/**
 * signOut forgets the user, in this tab and every other one, makes the refresh token void, and has
 * the login pages forget them, too.
 */
export function signOut(): void {
  const refresh = tokens?.refresh_token;
  const sub = user?.sub;
  forget();
  tabs.postMessage(sub);
  if (!config.managed_login_url) return;
  if (refresh) {
    // It outlives the page, which leaves now. Nobody waits for the answer, so that it need not be
    // readable.
    const body = new URLSearchParams({ token: refresh, client_id: config.client_id });
    void fetch(`${config.managed_login_url}/oauth2/revoke`, { method: "POST", body, mode: "no-cors", keepalive: true }).catch(() => {});
  }
  location.assign(`${config.managed_login_url}/logout?${new URLSearchParams({ client_id: config.client_id, logout_uri: callback() })}`);
}

// Who has signed out in another tab.
const tabs = new BroadcastChannel("signed-out");
tabs.onmessage = (event) => {
  if (user && event.data === user.sub) forget();
};

/** forget drops the tokens, and whatever waits for others. */
export function forget(): void {
  clearTimeout(timer);
  sessionStorage.removeItem(returningKey);
  tokens = null;
  user = null;
  waiting?.reject(new Abandoned());
  waiting = null;
  listeners.ask(false);
  listeners.user(null);
}

/**
 * renew gets a new access token: silently if it can, else by asking the user, for as long as that
 * takes. Calls that come meanwhile wait for the same one. It throws Abandoned if somebody else has
 * signed in, or nobody.
 */
export function renew(): Promise<void> {
  renewal ??= renewSilently()
    .then((renewed) => {
      if (!renewed) return ask();
    })
    .finally(() => {
      renewal = null;
    });
  return renewal;
}

/**
 * renewSilently gets a new access token without a word to the user, and reports whether it could.
 * It throws Abandoned as renew does.
 */
export async function renewSilently(): Promise<boolean> {
  const of = user;
  try {
    if (config.sign_in_as && of) {
      accept(await tokenFor(of.name));
      return true;
    }
    if (!tokens?.refresh_token) return false;
    const fresh = await exchange(
      oauth.refreshTokenGrantRequest(server, client, oauth.None(), tokens.refresh_token, request()),
      oauth.processRefreshTokenResponse,
    );
    if (user !== of) throw new Abandoned();
    accept({ ...tokens, ...fresh });
    return true;
  } catch (error) {
    if (error instanceof SignInFailed) return false;
    throw error;
  }
}

function ask(): Promise<void> {
  return new Promise((resolve, reject) => {
    waiting = { resolve, reject };
    listeners.ask(true);
  });
}

/**
 * prepareWindow makes the way for signing in again in a window of its own. It comes before the
 * click, which alone may open one.
 */
export const prepareWindow = (): Promise<Passage> => preparePassage(inWindow);

/**
 * signInAgain opens the window and goes on once the user has signed in there. It throws
 * SignInFailed if no window opens, or in vain.
 */
export async function signInAgain(passage: Passage, stop: AbortSignal): Promise<void> {
  const from = new BroadcastChannel(channel);
  try {
    const answered = new Promise<URLSearchParams>((resolve, reject) => {
      from.onmessage = (event) => {
        const answer = new URLSearchParams(event.data as Record<string, string>);
        if (answer.get("state") === passage.state) resolve(answer);
      };
      stop.addEventListener("abort", () => reject(new Abandoned()));
    });
    const opened = window.open(passage.url, "_blank", "popup,width=480,height=680");
    if (!opened) throw new SignInFailed("The browser has blocked the window. Allow pop-ups for this page and try again.");
    await finish(await answered, passage.state, passage.verifier);
  } finally {
    from.close();
  }
}

/** signInAsAgain is the same on one machine. */
export async function signInAsAgain(): Promise<void> {
  accept(await tokenFor(user?.name ?? ""));
}

async function finish(answer: URLSearchParams, state: string | undefined, verifier: string | undefined): Promise<void> {
  if (!state || !verifier) throw new SignInFailed(notBegun);
  accept(
    await exchange(
      oauth.authorizationCodeGrantRequest(server, client, oauth.None(), codeIn(answer, state), callback(), verifier, request()),
      oauth.processAuthorizationCodeResponse,
    ),
  );
}

const notBegun = "This sign-in was not begun here, or is too old. Please sign in again.";

/**
 * codeIn is the answer of the login pages, if it is one to this page's own question and has a code.
 */
function codeIn(answer: URLSearchParams, state: string): URLSearchParams {
  try {
    return oauth.validateAuthResponse(server, client, answer, state);
  } catch (error) {
    if (!(error instanceof oauth.AuthorizationResponseError)) throw new SignInFailed(notBegun);
    throw new SignInFailed(`The sign-in did not work (${error.error_description ?? error.error}).`);
  }
}

/**
 * exchange sends a request for tokens and reads them. It throws SignInFailed if there is no answer,
 * or none with tokens for this page.
 */
async function exchange(
  sent: Promise<Response>,
  read: (s: oauth.AuthorizationServer, c: oauth.Client, r: Response) => Promise<oauth.TokenEndpointResponse>,
): Promise<Tokens> {
  const response = await sent.catch(() => {
    throw new SignInFailed(unreachable);
  });
  const got = await read(server, client, response).catch(() => {
    throw new SignInFailed(refused);
  });
  const email = oauth.getValidatedIdTokenClaims(got)?.email;
  return { ...got, ...(typeof email === "string" && { email }) };
}

/**
 * accept takes tokens over. If they are another user's than before, that user starts afresh:
 * nothing that was typed is theirs to send.
 */
function accept(fresh: Tokens): void {
  const claims = read(fresh.access_token);
  const name = fresh.email || claims.username || claims.sub;
  const same = user?.sub === claims.sub;
  const waited = waiting;
  waiting = null;
  tokens = fresh;
  clearTimeout(timer);
  if (fresh.refresh_token && fresh.expires_in) {
    timer = setTimeout(() => void renewSilently().catch(() => {}), fresh.expires_in * 900);
  }
  if (config.managed_login_url) sessionStorage.setItem(returningKey, "yes");
  if (!same) {
    user = { sub: claims.sub, name };
    listeners.user(user);
  }
  listeners.ask(false);
  if (same) waited?.resolve();
  else waited?.reject(new Abandoned());
}

const unreachable = "The sign-in service cannot be reached. Check the connection and try again.";
const refused = "The sign-in was refused. Please try again.";

/** tokenFor gets a token for a name, on one machine. */
async function tokenFor(name: string): Promise<Tokens> {
  const sent = fetch(config.sign_in_as, { method: "POST", body: JSON.stringify({ sub: name }), signal: AbortSignal.timeout(30_000) });
  const response = await sent.catch(() => {
    throw new SignInFailed(unreachable);
  });
  if (!response.ok) throw new SignInFailed(refused);
  return (await response.json()) as Tokens;
}

async function preparePassage(prefix: string): Promise<Passage> {
  const verifier = oauth.generateRandomCodeVerifier();
  const state = prefix + oauth.generateRandomState();
  const query = new URLSearchParams({
    response_type: "code",
    client_id: config.client_id,
    redirect_uri: callback(),
    scope: "openid email",
    state,
    code_challenge_method: "S256",
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
  });
  return { url: `${server.authorization_endpoint}?${query}`, state, verifier };
}

// The page itself, wherever it stands. It is always at a path that ends in a slash.
const callback = (): string => location.origin + location.pathname;

/**
 * read reads a token's claims, to know whom to greet. Whether it is genuine is for the API to say.
 */
function read(jwt: string): { sub: string; username?: string } {
  const bytes = Uint8Array.from(atob(jwt.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}

function take(key: string): string | null {
  const value = sessionStorage.getItem(key);
  sessionStorage.removeItem(key);
  return value;
}
