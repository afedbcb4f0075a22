#!/usr/bin/env python3
"""The real client `ollama` from PyPI against a server: ollama_client.py URL MODEL [tools] [embed=MODEL]

Ends with status 0 when all of it came as the client's own types promise. `tools`: the model's template shows tools."""
import json
import math
import sys

import ollama


def expect(condition, what):
    if not condition:
        raise SystemExit(f"failed: {what}")


def check_end(reply, most):
    expect(reply.done and reply.done_reason in ("stop", "length"), f"end {reply.done_reason}")
    expect(0 < reply.eval_count <= most, f"eval_count {reply.eval_count}")
    expect(reply.prompt_eval_count > 0, "prompt_eval_count")
    expect(reply.total_duration >= reply.eval_duration > 0, f"durations {reply.total_duration} {reply.eval_duration}")


def generate(client, model):
    options = {"temperature": 0, "num_predict": 16}
    whole = client.generate(model, "The capital of France is", options=options)
    check_end(whole, 16)
    parts = list(client.generate(model, "The capital of France is", options=options, stream=True))
    expect("".join(p.response for p in parts) == whole.response, "a stream has another text")
    expect(len(parts) > 1 and [p.done for p in parts] == [False] * (len(parts) - 1) + [True], "done of a stream")
    check_end(parts[-1], 16)
    expect(list(parts[-1].context) == list(whole.context), "context")
    more = client.generate(model, "And of Italy?", context=whole.context, options=options)
    expect(list(more.context)[: len(whole.context)] == list(whole.context), "a context goes on")
    seeded = [client.generate(model, "Once", raw=True, options={"seed": 7, "temperature": 1, "num_predict": 12}).response
              for _ in range(2)]
    expect(seeded[0] == seeded[1], "same seed, same text")
    stopped = client.generate(model, "Count: one two three", raw=True, options={"stop": [" "], "temperature": 0})
    expect(" " not in stopped.response and stopped.done_reason == "stop", "stop")


def chat(client, model):
    messages = [{"role": "system", "content": "You are terse."}, {"role": "user", "content": "Say hello."}]
    options = {"temperature": 0, "num_predict": 16}
    whole = client.chat(model, messages, options=options)
    check_end(whole, 16)
    expect(whole.message.role == "assistant" and whole.message.content, "a message")
    parts = list(client.chat(model, messages, options=options, stream=True))
    expect("".join(p.message.content or "" for p in parts) == whole.message.content, "a stream has another text")
    check_end(parts[-1], 16)
    logged = client.chat(model, messages, options=options, logprobs=True, top_logprobs=3)
    expect(len(logged.logprobs) > 0 and all(len(l.top_logprobs) == 3 and l.logprob <= 0 for l in logged.logprobs),
           "logprobs")


def formats(client, model):
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}},
              "required": ["city", "people"], "additionalProperties": False}
    ask = [{"role": "user", "content": "Describe Paris as JSON."}]
    reply = json.loads(client.chat(model, ask, format=schema, options={"num_predict": 200}).message.content)
    expect(set(reply) == {"city", "people"} and isinstance(reply["people"], int), f"schema: {reply}")
    reply = client.generate(model, "Describe Paris as short JSON.", format="json", options={"num_predict": 120})
    if reply.done_reason == "stop":  # a small model may well fill its limit
        expect(isinstance(json.loads(reply.response), dict), "format json")
    expect(reply.response.lstrip().startswith("{"), "an object")


def add_two_numbers(a: int, b: int) -> int:
    """Add two numbers.

    Args:
      a: the first number
      b: the second number
    """
    return a + b


def tools(client, model):
    messages = [{"role": "user", "content": "Use the tool to add 17 and 25."}]
    for stream in (False, True):
        reply = client.chat(model, messages, tools=[add_two_numbers], stream=stream,
                            options={"temperature": 0, "num_predict": 100})
        parts = list(reply) if stream else [reply]
        calls = [c for p in parts for c in p.message.tool_calls or []]
        print("tool calls:", [(c.function.name, dict(c.function.arguments)) for c in calls])
        for c in calls:
            expect(c.function.name == "add_two_numbers", "a tool's name")
    messages += [{"role": "assistant", "content": "", "tool_calls": [
        {"function": {"name": "add_two_numbers", "arguments": {"a": 17, "b": 25}}}]},
        {"role": "tool", "tool_name": "add_two_numbers", "content": "42"}]
    reply = client.chat(model, messages, tools=[add_two_numbers], options={"temperature": 0, "num_predict": 40})
    expect(reply.message.content, "an answer after a tool's result")
    print("after the result:", reply.message.content)


def lists(client, model):
    names = [m.model for m in client.list().models]
    expect(any(n.split(":")[0] == model.split(":")[0] for n in names), f"{model} in {names}")
    client.generate(model, keep_alive="10m")
    running = client.ps().models
    expect(any(m.model.split(":")[0] == model.split(":")[0] and m.size > 0 for m in running), "ps")
    shown = client.show(model)
    expect(shown.modelinfo["general.architecture"] and "completion" in shown.capabilities and shown.details.format == "gguf",
           "show")


def embed(client, model):
    one = client.embed(model, "a cat sat on a mat")
    two = client.embed(model, ["a cat sat on a mat", "stocks fell"])
    expect(len(one.embeddings) == 1 and len(two.embeddings) == 2, "how many embeddings")
    for v in [*one.embeddings, *two.embeddings]:
        expect(abs(math.sqrt(sum(x * x for x in v)) - 1) < 1e-4, "a norm of 1")
    expect(sum(a * b for a, b in zip(one.embeddings[0], two.embeddings[0])) > 0.9999, "the same text")
    expect(len(client.embed(model, "x", dimensions=16).embeddings[0]) == 16, "dimensions")
    expect(len(client.embeddings(model, "x").embedding) == len(one.embeddings[0]), "the old route")


def failures(client, model):
    for call, status in ((lambda: client.generate("no-such-model", "x"), 404),
                         (lambda: client.chat(model, [{"role": "nobody", "content": "x"}]), 400),
                         (lambda: client.generate(model, "x", options={"temperature": "hot"}), 400),
                         (lambda: list(client.generate("no-such-model", "x", stream=True)), 404)):
        try:
            call()
        except ollama.ResponseError as e:
            expect(e.status_code == status and e.error, f"{e.status_code}: {e.error}")
        else:
            raise SystemExit(f"failed: no error where {status} was due")


def main():
    url, model, *more = sys.argv[1:]
    client = ollama.Client(host=url)
    steps = [lists, generate, chat, formats, failures] + ([tools] if "tools" in more else [])
    for step in steps:
        step(client, model)
        print(step.__name__, "ok", flush=True)
    embed(client, next((m[6:] for m in more if m.startswith("embed=")), model))
    print("embed ok")
    client.generate(model, keep_alive=0)


if __name__ == "__main__":
    main()
