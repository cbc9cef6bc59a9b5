// An executor in TypeScript: resolve <user> <provider> [<attempt that was rejected>].
import { setTimeout } from "node:timers/promises";
import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";

// The SDK repeats what did not reach the function.
const functions = new LambdaClient({ maxAttempts: 4 });

// The service's own answer: to ask again at once does not help.
class Refused extends Error {
  constructor(
    readonly status: number,
    detail: string,
  ) {
    super(`${status}: ${detail}`);
  }
}

// What resolve-credential answers. A failed invocation is safe to repeat.
async function invoke(request: object) {
  for (const pause of [200, 1000, 5000, 0]) {
    const answer = await functions.send(
      new InvokeCommand({ FunctionName: "resolve-credential", Payload: JSON.stringify(request) }),
    );
    if (!answer.FunctionError) return JSON.parse(answer.Payload!.transformToString());
    await setTimeout(pause);
  }
  throw new Error("resolve-credential fails");
}

// The credential with its secret fields; the managed one without a credential_id.
async function resolve(user_id: string, provider: string, credential_id?: string) {
  const said = await invoke({ user_id, provider, credential_id });
  if ("status" in said) throw new Refused(said.status, said.detail);
  return said;
}

// Says that the third party has refused the managed key of this attempt. 202: it is being checked,
// resolve again in a minute. 409: it has been replaced, resolve again now. 429: it was reported
// before, and works by all that the service knows.
async function report(user_id: string, provider: string, rejected_attempt: number): Promise<number> {
  return (await invoke({ user_id, provider, rejected_attempt })).status;
}

const [user, provider, attempt] = process.argv.slice(2) as [string, string, string?];
if (attempt) {
  console.log(await report(user, provider, Number(attempt)));
} else {
  const credential = await resolve(user, provider);
  console.log(credential.api_key, credential.attempt);
}
