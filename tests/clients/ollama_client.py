#!/usr/bin/env python3
"""The real client `ollama` from PyPI against a server: ollama_client.py URL MODEL TOOLS THINKER INFILL EMBED

MODEL writes sensible text; the templates of TOOLS and THINKER know tools and thinking, INFILL's vocabulary has tokens to fill
in, EMBED makes embeddings. Ends with status 0 when all of it came as the client's own types promise."""
import asyncio
import json
import math
import sys

import ollama
from common import CITY, PIXEL, WEATHER, expect, expect_city, expect_failure, run

URL, MODEL, TOOLS, THINKER, INFILL, EMBED = sys.argv[1:]
client = ollama.Client(host=URL)
FIXED = {"temperature": 0, "num_predict": 16}
USER = [{"role": "user", "content": "Say hello."}]
TOOL = {"type": "function", "function": {"name": "weather", "description": "Weather of a city", "parameters": WEATHER}}


def same(name, model):
    return name.split(":")[0] == model


def check_end(reply, most):
    expect(reply.done and reply.done_reason in ("stop", "length"), f"end {reply.done_reason}")
    expect(0 < reply.eval_count <= most, f"eval_count {reply.eval_count}")
    expect(reply.prompt_eval_count > 0, "prompt_eval_count")
    expect(reply.total_duration >= reply.eval_duration + reply.prompt_eval_duration > 0 and reply.load_duration >= 0,
           f"durations {reply}")


def lists():
    names = [m.model for m in client.list().models]
    for name in (MODEL, TOOLS, THINKER, INFILL, EMBED):
        expect(any(same(n, name) for n in names), f"{name} in {names}")
    one = next(m for m in client.list().models if same(m.model, MODEL))
    expect(one.size > 1e7 and one.digest and one.details.format == "gguf" and one.modified_at.year > 2000, f"an entry {one}")
    shown = client.show(MODEL)
    expect(shown.modelinfo["general.architecture"] and "completion" in shown.capabilities and shown.template
           and shown.details.quantization_level, "show")
    expect("tools" in client.show(TOOLS).capabilities and "thinking" in client.show(THINKER).capabilities
           and "insert" in client.show(INFILL).capabilities and "embedding" in client.show(EMBED).capabilities, "capabilities")


def loads():
    loaded = client.generate(MODEL, keep_alive="10m")
    expect(loaded.done_reason == "load" and loaded.response == "", "load")
    running = [m for m in client.ps().models if same(m.model, MODEL)]
    expect(len(running) == 1 and running[0].size > 1e7 and running[0].context_length > 0
           and running[0].expires_at.timestamp() > 0, "ps")
    expect(client.chat(TOOLS, []).done_reason == "load", "load by chat")
    expect(client.chat(TOOLS, [], keep_alive=0).done_reason == "unload", "unload")
    for _ in range(100):
        if not any(same(m.model, TOOLS) for m in client.ps().models):
            break
        asyncio.run(asyncio.sleep(0.05))
    expect(not any(same(m.model, TOOLS) for m in client.ps().models), "it is gone")
    client.generate(MODEL, keep_alive=-1)
    left = next(m for m in client.ps().models if same(m.model, MODEL)).expires_at.year
    expect(left > 2100, f"for ever: {left}")


def generate():
    whole = client.generate(MODEL, "The capital of France is", options=FIXED)
    check_end(whole, 16)
    parts = list(client.generate(MODEL, "The capital of France is", options=FIXED, stream=True))
    expect("".join(p.response for p in parts) == whole.response, "a stream has another text")
    expect(len(parts) > 1 and [p.done for p in parts] == [False] * (len(parts) - 1) + [True], "done of a stream")
    check_end(parts[-1], 16)
    expect(list(parts[-1].context) == list(whole.context), "context")
    more = client.generate(MODEL, "And of Italy?", context=whole.context, options=FIXED)
    expect(list(more.context)[: len(whole.context)] == list(whole.context), "a context goes on")
    terse = client.generate(MODEL, "The capital of France is", system="Speak like a pirate.", options=FIXED)
    expect(terse.prompt_eval_count != whole.prompt_eval_count, "system")
    mine = client.generate(MODEL, "Hi", template="{{ .System }}|{{ .Prompt }}|", system="s", options=FIXED)
    raw = client.generate(MODEL, "s|Hi|", raw=True, options=FIXED)
    expect(mine.response == raw.response and raw.context is None, "template and raw")
    short = client.generate(INFILL, "def f(", suffix="return x", options=FIXED)
    longer = client.generate(INFILL, "def f(", suffix="return x and some more words", options=FIXED)
    expect(longer.prompt_eval_count > short.prompt_eval_count > 5, "suffix")


def options():
    seeded = [client.generate(MODEL, "Once", raw=True, options={"seed": s, "temperature": 1, "num_predict": 12}).response
              for s in (7, 7, 8)]
    expect(seeded[0] == seeded[1] != seeded[2], "same seed, same text")
    stopped = client.generate(MODEL, "Count: one two three", raw=True, options={"stop": [" "], "temperature": 0})
    expect(" " not in stopped.response and stopped.done_reason == "stop", "stop")
    greedy = client.generate(MODEL, "Once", raw=True, options=FIXED).response
    for name, value in (("top_k", 1), ("top_p", 1e-6), ("min_p", 1.0)):
        same_text = client.generate(MODEL, "Once", raw=True, options={"temperature": 1, "num_predict": 16, name: value})
        expect(same_text.response == greedy, name)
    penalised = client.generate(MODEL, "a a a a a a", raw=True, options={**FIXED, "repeat_penalty": 2.0, "repeat_last_n": 32,
                                                                          "presence_penalty": 1.0, "frequency_penalty": 1.0})
    free = client.generate(MODEL, "a a a a a a", raw=True, options=FIXED)
    expect(penalised.response != free.response, "penalties")
    idle = {"num_gpu": 99, "main_gpu": 0, "low_vram": True, "f16_kv": True, "numa": False, "use_mlock": False, "tfs_z": 1.0,
            "penalize_newline": True, "num_keep": 4, "num_batch": 64, "use_mmap": True}
    expect(client.generate(MODEL, "Once", raw=True, options={**FIXED, **idle}).response == greedy, "options without meaning")
    big = client.generate(TOOLS, "word " * 300, raw=True, options={"num_predict": 4, "num_ctx": 128})
    expect(big.done and big.prompt_eval_count <= 128, f"num_ctx {big.prompt_eval_count}")


def chat():
    messages = [{"role": "system", "content": "You are terse."}] + USER
    whole = client.chat(MODEL, messages, options=FIXED)
    check_end(whole, 16)
    expect(whole.message.role == "assistant" and whole.message.content, "a message")
    parts = list(client.chat(MODEL, messages, options=FIXED, stream=True))
    expect("".join(p.message.content or "" for p in parts) == whole.message.content, "a stream has another text")
    check_end(parts[-1], 16)
    logged = client.chat(MODEL, messages, options=FIXED, logprobs=True, top_logprobs=3)
    expect(len(logged.logprobs) == logged.eval_count, "a logprob for each token")
    for token in logged.logprobs:
        expect(len(token.top_logprobs) == 3 and token.logprob <= 0
               and token.top_logprobs[0].token == token.token, f"logprobs {token}")
    streamed = list(client.generate(MODEL, "Hi", options=FIXED, logprobs=True, stream=True))
    expect(sum(len(p.logprobs or []) for p in streamed) == streamed[-1].eval_count, "logprobs of a stream")


def formats():
    ask = [{"role": "user", "content": "Describe Paris as JSON."}]
    expect_city(client.chat(MODEL, ask, format=CITY, options={"num_predict": 200}).message.content)
    parts = client.generate(MODEL, "Describe Paris.", format=CITY, options={"num_predict": 200, "temperature": 2}, stream=True)
    expect_city("".join(p.response for p in parts))
    reply = client.generate(MODEL, "Describe Paris as short JSON.", format="json", options={"num_predict": 120})
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


def tools():
    grammar_call = {"name": "weather", "arguments": {"city": "Rome"}}
    for stream in (False, True):
        reply = client.chat(TOOLS, USER, tools=[TOOL, add_two_numbers], stream=stream, options=FIXED)
        for part in list(reply) if stream else [reply]:
            for call in part.message.tool_calls or []:
                expect(call.function.name in ("weather", "add_two_numbers"), "a tool's name")
    plain = client.chat(TOOLS, USER, options=FIXED)
    told = client.chat(TOOLS, USER, tools=[add_two_numbers], options=FIXED)
    expect(told.prompt_eval_count > plain.prompt_eval_count, "the template shows tools")
    messages = USER + [{"role": "assistant", "content": "", "tool_calls": [{"function": grammar_call}]},
                       {"role": "tool", "tool_name": "weather", "content": "sunny"}]
    after = client.chat(TOOLS, messages, tools=[TOOL], options=FIXED)
    expect(after.prompt_eval_count > told.prompt_eval_count, "a call and its result")
    chosen = client._client.post("/api/chat", json={  # what the client has no argument for
        "model": TOOLS, "messages": USER, "tools": [TOOL], "tool_choice": "required", "stream": False,
        "options": {"num_predict": 200}}).json()
    call = ollama.ChatResponse(**chosen).message.tool_calls[0].function
    expect(call.name == "weather" and call.arguments["city"] in ("Paris", "Rome"), f"a call {call}")


def thinking():
    whole = client.chat(THINKER, USER, think=True, options=FIXED)
    expect(whole.message.thinking and not whole.message.content, "thinking of a chat")
    parts = list(client.chat(THINKER, USER, think=True, options=FIXED, stream=True))
    expect("".join(p.message.thinking or "" for p in parts) == whole.message.thinking, "thinking of a stream")
    expect(client.generate(THINKER, "hi", think=True, options=FIXED).thinking, "thinking of generate")
    expect_failure(lambda: client.chat(TOOLS, USER, think=True), ollama.ResponseError, "does not support thinking", 400)
    client.chat(MODEL, USER, think=False, options=FIXED)


def embed():
    one = client.embed(EMBED, "a cat sat on a mat")
    two = client.embed(EMBED, ["a cat sat on a mat", "stocks fell"])
    expect(len(one.embeddings) == 1 and len(two.embeddings) == 2, "how many embeddings")
    for v in [*one.embeddings, *two.embeddings]:
        expect(abs(math.sqrt(sum(x * x for x in v)) - 1) < 1e-4, "a norm of 1")
    expect(sum(a * b for a, b in zip(one.embeddings[0], two.embeddings[0])) > 0.9999, "the same text")
    expect(len(client.embed(EMBED, "x", dimensions=16).embeddings[0]) == 16, "dimensions")
    expect(len(client.embeddings(EMBED, "x").embedding) == len(one.embeddings[0]), "the old route")
    expect(one.prompt_eval_count > 5 and one.total_duration > 0, "counts")
    expect_failure(lambda: client.embed(EMBED, "word " * 9000, truncate=False), ollama.ResponseError, "tokens", 400)
    client.embed(EMBED, "word " * 9000)


def failures():
    kind = ollama.ResponseError
    expect_failure(lambda: client.generate("no-such-model", "x"), kind, "no-such-model", 404)
    expect_failure(lambda: list(client.generate("no-such-model", "x", stream=True)), kind, "no-such-model", 404)
    expect_failure(lambda: client.show("no-such-model"), kind, "no-such-model", 404)
    expect_failure(lambda: client.chat(MODEL, [{"role": "nobody", "content": "x"}]), kind, "role", 400)
    expect_failure(lambda: client.generate(MODEL, "x", options={"temperature": "hot"}), kind, "temperature", 400)
    expect_failure(lambda: client.generate(MODEL, "x", raw=True, system="y"), kind, "raw", 400)
    expect_failure(lambda: client.generate(MODEL, "x", images=[PIXEL]), kind, "images", 400)
    expect_failure(lambda: client.chat(MODEL, [{"role": "user", "content": "x", "images": [PIXEL]}]), kind, "images", 400)
    expect_failure(lambda: client.generate(MODEL, "a", suffix="b"), kind, "does not support insert", 400)
    expect_failure(lambda: client.chat(MODEL, USER, tools=[TOOL]), kind, "does not support tools", 400)
    expect_failure(lambda: client.chat(EMBED, USER), kind, "", 400)
    odd = {"type": "array", "contains": {"type": "null"}}
    expect_failure(lambda: client.chat(MODEL, USER, format=odd), kind, "contains", 400)


def asynchronous():
    async def go():
        c = ollama.AsyncClient(host=URL)
        whole = await asyncio.gather(*(c.chat(MODEL, USER, options=FIXED) for _ in range(4)))
        text = "".join([p.message.content or "" async for p in await c.chat(MODEL, USER, options=FIXED, stream=True)])
        expect(all(w.message.content == text for w in whole), "four at once and a stream")
        expect(any(same(m.model, MODEL) for m in (await c.list()).models), "list")
        expect(len((await c.embed(EMBED, ["a", "b"])).embeddings) == 2, "embed")
    asyncio.run(go())


run([lists, loads, generate, options, chat, formats, tools, thinking, embed, failures, asynchronous])
