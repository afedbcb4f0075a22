#!/usr/bin/env python3
"""The real client `openai` from PyPI against a server: openai_client.py URL MODEL TOOLS THINKER INFILL EMBED

MODEL writes sensible text; the templates of TOOLS and THINKER know tools and thinking, INFILL's vocabulary has tokens to fill
in, EMBED makes embeddings. Ends with status 0 when all of it came as the client's own types promise."""
import asyncio
import json
import math
import sys

import openai
from common import CITY, PIXEL, WEATHER, expect, expect_city, expect_failure, run

URL, MODEL, TOOLS, THINKER, INFILL, EMBED = sys.argv[1:]
client = openai.OpenAI(base_url=URL + "/v1", api_key="none", max_retries=0)
USER = [{"role": "user", "content": "Say hello."}]
FUNCTION = {"type": "function", "function": {"name": "weather", "description": "Weather of a city", "parameters": WEATHER}}


def ask(**more):
    fields = {"model": MODEL, "messages": USER, "max_tokens": 12, "seed": 1} | more
    return client.chat.completions.create(**fields)


def models():
    ids = [m.id for m in client.models.list()]
    for name in (MODEL, TOOLS, THINKER, INFILL, EMBED):
        expect(any(i.split(":")[0] == name for i in ids), f"{name} in {ids}")
    one = client.models.retrieve(MODEL)
    expect(one.object == "model" and one.created > 0 and one.owned_by, "a model")


def chat():
    whole = ask()
    choice = whole.choices[0]
    expect(whole.object == "chat.completion" and whole.id.startswith("chatcmpl-") and choice.message.role == "assistant"
           and choice.message.content and choice.finish_reason in ("stop", "length"), "a chat")
    usage = whole.usage
    expect(usage.prompt_tokens > 5 and 0 < usage.completion_tokens <= 12
           and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, "usage")
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    expect(text == choice.message.content, "a stream has another text")
    expect(not chunks[-1].choices and chunks[-1].usage.completion_tokens == usage.completion_tokens, "usage of a stream")
    expect(all(c.usage is None for c in chunks[:-1]), "usage comes once")
    expect(all(c.usage is None for c in ask(stream=True)), "no usage unless it is asked for")
    with client.chat.completions.stream(model=MODEL, messages=USER, max_tokens=12, seed=1) as stream:
        for _ in stream:
            pass
        expect(stream.current_completion_snapshot.choices[0].message.content == text, "the stream helper")
    short = ask(max_tokens=openai.omit, max_completion_tokens=3)
    expect(short.usage.completion_tokens <= 3, "max_completion_tokens")
    parts = ask(messages=[{"role": "developer", "content": "Be terse."},
                          {"role": "user", "content": [{"type": "text", "text": "Say "}, {"type": "text", "text": "hi."}]}])
    expect(parts.choices[0].message.content, "a content in parts")


def sampling():
    one, two, both = (ask(temperature=1, **more) for more in ({}, {"seed": 2}, {"n": 2}))
    expect([c.index for c in both.choices] == [0, 1], "n choices")
    expect([c.message.content for c in both.choices] ==
           [one.choices[0].message.content, two.choices[0].message.content], "choices are those of seeds one by one")
    chunks = [c for c in ask(temperature=1, n=2, stream=True) if c.choices]
    texts = ["".join(c.choices[0].delta.content or "" for c in chunks if c.choices[0].index == i) for i in (0, 1)]
    expect(texts == [c.message.content for c in both.choices], "n choices in a stream")
    logged = ask(temperature=0, logprobs=True, top_logprobs=3)
    tokens = logged.choices[0].logprobs.content
    expect(len(tokens) == logged.usage.completion_tokens, "a logprob for each token")
    for token in tokens:
        expect(token.logprob <= 0 and len(token.top_logprobs) == 3 and token.logprob == token.top_logprobs[0].logprob
               and bytes(token.bytes).decode() == token.token, f"logprobs {token}")
    first = bytes(tokens[0].bytes).decode()
    stopped = ask(temperature=0, stop=[tokens[2].token], max_tokens=12).choices[0]
    expect(tokens[2].token not in stopped.message.content and stopped.finish_reason == "stop"
           and stopped.message.content.startswith(first), "stop")
    free = ask(temperature=0).choices[0].message.content
    ids = client.with_options(base_url=URL).post("/tokenize", cast_to=dict, body={"model": MODEL, "content": first})
    banned = ask(temperature=0, logit_bias={str(ids["tokens"][0]): -100}).choices[0].message.content
    expect(not banned.startswith(first) and banned != free, "logit_bias")
    expect(ask(temperature=0, top_p=0.5, frequency_penalty=1.5, presence_penalty=1.5).choices[0].message.content,
           "penalties")


def formats():
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    expect_city(ask(response_format=schema, max_tokens=200).choices[0].message.content)
    free = ask(response_format={"type": "json_object"}, max_tokens=60).choices[0]
    expect(free.message.content.lstrip().startswith("{"), "an object")
    if free.finish_reason == "stop":
        expect(isinstance(json.loads(free.message.content), dict), "json_object")
    import pydantic

    class City(pydantic.BaseModel):
        model_config = {"extra": "forbid"}
        city: str = pydantic.Field(max_length=12)
        capital: bool

    parsed = client.chat.completions.parse(model=MODEL, messages=USER, response_format=City, max_tokens=120)
    expect(isinstance(parsed.choices[0].message.parsed, City), "parse")
    grammar = ask(extra_body={"grammar": 'root ::= "yes" | "no"'}).choices[0].message.content
    expect(grammar in ("yes", "no"), "grammar")


def check_call(call):
    expect(call.type == "function" and call.id and call.function.name == "weather", f"a call: {call}")
    expect(json.loads(call.function.arguments)["city"] in ("Paris", "Rome"), f"arguments: {call.function.arguments}")


def tools():
    named = {"type": "function", "function": {"name": "weather"}}
    for choice in ("required", named):
        fields = {"model": TOOLS, "tools": [FUNCTION], "tool_choice": choice, "max_tokens": 200, "parallel_tool_calls": False}
        reply = ask(**fields).choices[0]
        expect(reply.finish_reason == "tool_calls" and len(reply.message.tool_calls) == 1, "tool_choice")
        check_call(reply.message.tool_calls[0])
        chunks = list(ask(**fields, stream=True))
        deltas = [d for c in chunks for d in c.choices[0].delta.tool_calls or []]
        arguments = "".join(d.function.arguments or "" for d in deltas)
        expect(deltas[0].function.name == "weather" and json.loads(arguments)["city"], "a call in a stream")
        expect(len(deltas) > 3, "arguments come while they are written")
        expect(chunks[-1].choices[0].finish_reason == "tool_calls", "its end")
    several = ask(model=TOOLS, tools=[FUNCTION], tool_choice="required", max_tokens=1600).choices[0].message.tool_calls
    expect(1 <= len(several) <= 16 and len({c.id for c in several}) == len(several), "several calls")
    for call in several:
        check_call(call)
    without = ask(model=TOOLS, tools=[FUNCTION], tool_choice="none")
    none = without.choices[0]
    expect(none.message.tool_calls is None and none.finish_reason != "tool_calls", "tool_choice none")
    ask(model=TOOLS, tools=[FUNCTION], tool_choice="auto", parallel_tool_calls=False)
    call = reply.message.tool_calls[0]
    more = ask(model=TOOLS, tools=[FUNCTION], messages=USER + [
        {"role": "assistant", "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"}])
    expect(more.usage.prompt_tokens > without.usage.prompt_tokens, "a tool's result")


def thinking():
    reply = ask(model=THINKER)
    expect(reply.choices[0].message.reasoning_content, "reasoning_content")
    expect(reply.usage.completion_tokens_details.reasoning_tokens > 0, "reasoning_tokens")
    expect_failure(lambda: ask(model=TOOLS, reasoning_effort="low"), openai.BadRequestError, "thinking", 400)
    ask(reasoning_effort="none")


def completions():
    fields = {"model": MODEL, "max_tokens": 8, "temperature": 0}
    whole = client.completions.create(prompt="One, two, three,", logprobs=2, **fields)
    log = whole.choices[0].logprobs
    expect("".join(log.tokens) == whole.choices[0].text and len(log.top_logprobs[0]) == 2, "logprobs of a completion")
    chunks = list(client.completions.create(prompt="One, two, three,", stream=True, **fields))
    expect("".join(c.choices[0].text for c in chunks) == whole.choices[0].text, "a stream has another text")
    many = client.completions.create(prompt=["One, two, three,", "A, B, C,"], n=2, **fields)
    expect(len(many.choices) == 4 and many.choices[0].text == whole.choices[0].text, "several prompts")
    echo = client.completions.create(prompt="One, two, three,", echo=True, **fields)
    expect(echo.choices[0].text == "One, two, three," + whole.choices[0].text, "echo")
    fields["model"] = INFILL
    with_suffix = client.completions.create(prompt="def f(", suffix="return x", **fields)
    longer = client.completions.create(prompt="def f(", suffix="return x and some more words", **fields)
    expect(longer.usage.prompt_tokens > with_suffix.usage.prompt_tokens > 5, "suffix")
    fields["model"] = MODEL
    expect_failure(lambda: client.completions.create(prompt="a", suffix="b", **fields), openai.BadRequestError, "insert", 400)


def embeddings():
    two = client.embeddings.create(model=EMBED, input=["a cat sat on a mat", "stocks fell"])  # the client asks for base64
    floats = client.embeddings.create(model=EMBED, input="a cat sat on a mat", encoding_format="float")
    for item in two.data:
        expect(abs(math.sqrt(sum(x * x for x in item.embedding)) - 1) < 1e-4, "a norm of 1")
    expect(all(abs(a - b) < 1e-6 for a, b in zip(two.data[0].embedding, floats.data[0].embedding)), "base64 and floats")
    expect(len(client.embeddings.create(model=EMBED, input="x", dimensions=16).data[0].embedding) == 16, "dimensions")
    expect(two.usage.prompt_tokens > 5, "usage")


# ---- responses ----

TOOL = {"type": "function", "name": "weather", "description": "Weather of a city", "parameters": WEATHER, "strict": True}


def respond(**more):
    return client.responses.create(**({"model": MODEL, "input": "Say hello.", "max_output_tokens": 12, "temperature": 0} | more))


def check_events(events):
    """Numbered without a gap; created first, completed last; each item opens, has its parts and closes."""
    expect([e.sequence_number for e in events] == list(range(len(events))), "sequence numbers")
    kinds = [e.type for e in events]
    expect(kinds[:2] == ["response.created", "response.in_progress"], f"the first events: {kinds[:3]}")
    expect(kinds[-1] in ("response.completed", "response.incomplete"), f"the last event: {kinds[-1]}")
    expect(kinds.count("response.output_item.added") == kinds.count("response.output_item.done") > 0, "items close")
    expect(kinds.count("response.content_part.added") == kinds.count("response.content_part.done"), "parts close")
    for kind in ("output_text", "reasoning_text", "function_call_arguments"):
        deltas = {}
        for e in events:
            if e.type == f"response.{kind}.delta":
                deltas[e.item_id] = deltas.get(e.item_id, "") + e.delta
            if e.type == f"response.{kind}.done":
                text = e.arguments if kind == "function_call_arguments" else e.text
                expect(text == deltas.get(e.item_id, ""), f"{kind}: the deltas are the text")
    done = [e.item for e in events if e.type == "response.output_item.done"]
    expect([i.model_dump() for i in done] == [i.model_dump() for i in events[-1].response.output], "items are the output")
    return events[-1].response


def responses():
    whole = respond()
    expect(whole.object == "response" and whole.status in ("completed", "incomplete") and whole.output_text, "a response")
    expect(whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens > 5, "usage")
    cut = respond(max_output_tokens=2)
    expect(cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens", "incomplete")
    streamed = check_events(list(respond(stream=True)))
    expect(streamed.output_text == whole.output_text and streamed.usage.output_tokens == whole.usage.output_tokens,
           "a stream has another text")
    with client.responses.stream(model=MODEL, input="Say hello.", extra_body={"grammar": 'root ::= "yes, hello"'}) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
        expect(final.output_text == "yes, hello" and final.status == "completed", "the stream helper")
    chat_text = client.chat.completions.create(
        model=MODEL, messages=[{"role": "system", "content": "Be terse."}] + USER, max_tokens=12, temperature=0)
    told = respond(instructions="Be terse.", input=[{"role": "user", "content": [{"type": "input_text", "text": "Say hello."}]}])
    expect(told.output_text == chat_text.choices[0].message.content, "instructions")
    more = respond(input=[{"role": "user", "content": "Say hello."}] + [i.model_dump() for i in whole.output] +
                   [{"role": "user", "content": "Again."}])
    expect(more.usage.input_tokens > whole.usage.input_tokens + whole.usage.output_tokens, "the output goes back in")
    logged = respond(include=["message.output_text.logprobs"], top_logprobs=2)
    log = logged.output[0].content[0].logprobs
    expect("".join(t.token for t in log).startswith(logged.output_text) and len(log[0].top_logprobs) == 2, "logprobs")
    expect_city(respond(text={"format": {"type": "json_schema", "name": "city", "schema": CITY}}, max_output_tokens=200).output_text)
    expect(respond(text={"format": {"type": "json_object"}}, max_output_tokens=20).output_text.lstrip()[0] == "{", "json_object")


def responses_tools():
    for choice in ("required", {"type": "function", "name": "weather"}):
        fields = {"model": TOOLS, "tools": [TOOL], "tool_choice": choice, "max_output_tokens": 200,
                  "parallel_tool_calls": False}
        whole, streamed = respond(**fields), check_events(list(respond(stream=True, **fields)))
        for reply in (whole, streamed):
            call = reply.output[0]
            expect(len(reply.output) == 1 and call.type == "function_call" and call.name == "weather" and call.call_id,
                   f"a call: {reply.output}")
            expect(json.loads(call.arguments)["city"] in ("Paris", "Rome"), "arguments")
    told = respond(model=TOOLS, tools=[TOOL], input=[
        {"role": "user", "content": "hi"}, call.model_dump(),
        {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}])
    expect(told.output_text is not None and told.usage.input_tokens > whole.usage.input_tokens, "a call's output")
    expect(all(i.type == "message" for i in respond(model=TOOLS, tools=[TOOL], tool_choice="none").output), "none")
    thought = check_events(list(respond(model=THINKER, stream=True)))
    expect(thought.output[0].type == "reasoning" and thought.output[0].content[0].text, "reasoning")
    expect(thought.usage.output_tokens_details.reasoning_tokens > 0, "reasoning tokens")
    back = respond(model=THINKER, input=[{"role": "user", "content": "a"}, thought.output[0].model_dump(),
                                         {"role": "user", "content": "b"}])
    expect(back.usage.input_tokens > thought.usage.input_tokens, "reasoning goes back in")
    bad = openai.BadRequestError
    expect_failure(lambda: respond(previous_response_id="resp_1"), bad, "previous_response_id", 400)
    expect_failure(lambda: respond(store=True), bad, "store", 400)
    expect_failure(lambda: respond(background=True), bad, "background", 400)
    expect_failure(lambda: respond(tools=[{"type": "web_search"}]), bad, "web_search", 400)
    expect_failure(lambda: respond(input=[]), bad, "input", 400)
    expect_failure(lambda: respond(reasoning={"effort": "high"}, model=TOOLS), bad, "thinking", 400)
    expect_failure(lambda: respond(model="no-such-model"), openai.NotFoundError, "no-such-model", 404)
    expect_failure(lambda: client.responses.retrieve("resp_1"), openai.NotFoundError, "resp_1", 404)


# ---- what is wrong ----

def failures():
    bad = openai.BadRequestError
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + PIXEL}}]}]
    expect_failure(lambda: ask(messages=image), bad, "images", 400)
    expect_failure(lambda: ask(messages=[]), bad, "messages", 400)
    expect_failure(lambda: ask(temperature=-1), bad, "temperature", 400)
    expect_failure(lambda: ask(n=1000), bad, "\"n\"", 400)
    expect_failure(lambda: ask(top_logprobs=3), bad, "logprobs", 400)
    expect_failure(lambda: ask(tools=[FUNCTION], tool_choice={"type": "function", "function": {"name": "x"}}, model=TOOLS),
                   bad, "'x'", 400)
    odd = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array", "contains": {"type": "null"}}}}
    expect_failure(lambda: ask(response_format=odd), bad, "contains", 400)
    expect_failure(lambda: ask(messages=[{"role": "user", "content": "word " * 9000}]), bad, "tokens", 400)
    expect_failure(lambda: ask(model="no-such-model"), openai.NotFoundError, "no-such-model", 404)
    expect_failure(lambda: client.models.retrieve("no-such-model"), openai.NotFoundError, "no-such-model", 404)


def asynchronous():
    async def go():
        async with openai.AsyncOpenAI(base_url=URL + "/v1", api_key="none") as c:
            fields = {"model": MODEL, "messages": USER, "max_tokens": 8, "temperature": 0}
            whole = await asyncio.gather(*(c.chat.completions.create(**fields) for _ in range(4)))
            stream = await c.chat.completions.create(stream=True, **fields)
            text = "".join([x.choices[0].delta.content or "" async for x in stream])
            expect(all(w.choices[0].message.content == text for w in whole), "four at once and a stream")
            events = [e async for e in await c.responses.create(model=MODEL, input="Say hello.", max_output_tokens=8,
                                                                temperature=0, stream=True)]
            expect(check_events(events).output_text == text, "an asynchronous response")
    asyncio.run(go())


run([models, chat, sampling, formats, tools, thinking, completions, embeddings, responses, responses_tools, failures,
     asynchronous])
