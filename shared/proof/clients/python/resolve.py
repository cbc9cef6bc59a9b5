"""An executor in Python: resolve.py <user> <provider> [<attempt that was rejected>]."""

import json
import sys
import time

import boto3
from botocore.config import Config

# The SDK repeats what did not reach the function. It gives up later than the function does.
functions = boto3.client("lambda", config=Config(read_timeout=30, retries={"mode": "standard", "total_max_attempts": 4}))


class Refused(Exception):
    """The service's own answer: to ask again at once does not help."""


def invoke(request):
    """What resolve-credential answers. A failed invocation is safe to repeat."""
    for pause in (0.2, 1, 5, 0):
        answer = functions.invoke(FunctionName="resolve-credential", Payload=json.dumps(request))
        said = json.load(answer["Payload"])
        if "FunctionError" not in answer:
            return said
        time.sleep(pause)
    raise RuntimeError(f"resolve-credential fails: {said.get('errorType')}")


def resolve(user, provider, **which):
    """The credential with its secret fields; the managed one without a credential_id."""
    said = invoke({"user_id": user, "provider": provider, **which})
    if "status" in said:
        raise Refused(said["status"], said["detail"])
    return said


def report(user, provider, attempt):
    """Says that the third party has refused the managed key of this attempt. 202: it is being
    checked, resolve again in a minute. 409: it has been replaced, resolve again now. 429: it was
    reported before, and works by all that the service knows."""
    return invoke({"user_id": user, "provider": provider, "rejected_attempt": attempt})["status"]


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(report(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    else:
        credential = resolve(sys.argv[1], sys.argv[2])
        print(credential["api_key"], credential["attempt"])
