"""What the scripts of this folder share."""
import json

WEATHER = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"],
           "additionalProperties": False}
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}},
        "required": ["city", "people"], "additionalProperties": False}
PIXEL = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def expect(condition, what):
    if not condition:
        raise SystemExit(f"failed: {what}")


def expect_city(text):
    reply = json.loads(text)
    expect(set(reply) == {"city", "people"} and isinstance(reply["people"], int), f"schema: {text}")


def expect_failure(call, kind, word, status):
    """The call raises the client's own class of error, which says the word and has the status."""
    try:
        got = call()
    except kind as e:
        code = e.status_code
        expect(code == status and word in str(e), f"{code}: {e}, expected {status} and '{word}'")
    else:
        raise SystemExit(f"failed: no error where {status} was due ({word}): {got}")


def run(steps):
    for step in steps:
        step()
        print(step.__name__, "ok", flush=True)
