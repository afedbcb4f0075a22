#!/usr/bin/env python3
"""The real client `anthropic` from PyPI against a server: anthropic_client.py URL MODEL TOOLS THINKER

MODEL writes sensible text; the templates of TOOLS and THINKER know tools and thinking. Ends with status 0 when all of it came
as the client's own types promise."""
import asyncio
import sys

import anthropic
from common import CITY, PIXEL, WEATHER, expect, expect_city, expect_failure, run

URL, MODEL, TOOLS, THINKER = sys.argv[1:]
client = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0)
USER = [{"role": "user", "content": "Say hello."}]
TOOL = {"name": "weather", "description": "Weather of a city", "input_schema": WEATHER}
GREEDY = {"temperature": 0}  # this client has no argument for it
FIELDS = {"model": MODEL, "messages": USER, "max_tokens": 12, "extra_body": GREEDY}


def ask(**more):
    return client.messages.create(**(FIELDS | more))


def streamed(**more):
    """The message that the client puts together of a stream; its events come in their order."""
    with client.messages.stream(**(FIELDS | more)) as stream:
        kinds = [e.type for e in stream]
        message = stream.get_final_message()
    expect(kinds[0] == "message_start" and kinds[-1] == "message_stop" and "message_delta" in kinds, f"events {kinds}")
    expect(kinds.count("content_block_start") == kinds.count("content_block_stop") == len(message.content), "blocks")
    return message


def texts():
    whole = ask()
    expect(whole.type == "message" and whole.role == "assistant" and whole.id.startswith("msg_"), "a message")
    expect(whole.content[0].type == "text" and whole.content[0].text, "its text")
    expect(whole.stop_reason in ("end_turn", "max_tokens") and 0 < whole.usage.output_tokens <= 12, "its end")
    again = streamed()
    expect(again.content[0].text == whole.content[0].text and again.stop_reason == whole.stop_reason
           and again.usage.output_tokens == whole.usage.output_tokens, "a stream has another text")
    raw = "".join(e.delta.text for e in ask(stream=True) if e.type == "content_block_delta")
    expect(raw == whole.content[0].text, "the raw events")
    expect(ask(max_tokens=2).stop_reason == "max_tokens", "max_tokens")
    told = ask(system=[{"type": "text", "text": "Be "}, {"type": "text", "text": "terse."}],
               messages=[{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, {"role": "assistant", "content": "Yes?"},
                         {"role": "user", "content": "Say hello."}])
    expect(told.content[0].text, "a conversation")


def stops():
    text = ask().content[0].text
    word = text.split()[1]
    reply = ask(stop_sequences=["never ever", word])
    expect(reply.stop_reason == "stop_sequence" and reply.stop_sequence == word, f"stop {reply.stop_reason}")
    expect(word not in reply.content[0].text and text.startswith(reply.content[0].text), "the text up to it")
    expect(ask(extra_body={"top_k": 1, "temperature": 1}).content[0].text == text, "top_k")
    expect(ask(extra_body={"top_p": 0.01, "temperature": 1}).content[0].text == text, "top_p")


def tools():
    for choice in ({"type": "any", "disable_parallel_tool_use": True}, {"type": "tool", "name": "weather"}):
        for reply in (ask(model=TOOLS, tools=[TOOL], tool_choice=choice, max_tokens=100),
                      streamed(model=TOOLS, tools=[TOOL], tool_choice=choice, max_tokens=100)):
            use = reply.content[0]
            expect(reply.stop_reason == "tool_use" and use.type == "tool_use" and use.name == "weather" and use.id, "a call")
            expect(use.input["city"] in ("Paris", "Rome"), f"input {use.input}")
    several = ask(model=TOOLS, tools=[TOOL], tool_choice={"type": "any"}, max_tokens=1600).content
    expect(1 <= len(several) <= 16 and all(c.type == "tool_use" and c.input["city"] for c in several), "several calls")
    none = ask(model=TOOLS, tools=[TOOL], tool_choice={"type": "none"})
    expect(none.stop_reason != "tool_use", "none")
    ask(model=TOOLS, tools=[TOOL], tool_choice={"type": "auto"})
    more = ask(model=TOOLS, tools=[TOOL], messages=USER + [
        {"role": "assistant", "content": [use.model_dump()]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}]}])
    expect(more.usage.output_tokens > 0, "a tool's result")
    shown = [client.messages.count_tokens(model=TOOLS, tools=[TOOL], messages=USER + [
        {"role": "assistant", "content": [use.model_dump()]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny", "is_error": failed}]}])
        .input_tokens for failed in (False, True)]
    expect(shown[1] > shown[0], "that a tool failed is shown")


def thinking():
    for reply in (ask(model=THINKER, thinking={"type": "enabled", "budget_tokens": 1024}), streamed(model=THINKER)):
        expect(reply.content[0].type == "thinking" and reply.content[0].thinking, "thinking")
    off = {"type": "enabled", "budget_tokens": 1024}
    expect_failure(lambda: ask(model=TOOLS, thinking=off), anthropic.BadRequestError, "thinking", 400)


def formats():
    expect_city(ask(max_tokens=200, output_config={"format": {"type": "json_schema", "schema": CITY}}).content[0].text)


def counts():
    count = client.messages.count_tokens(model=MODEL, messages=USER)
    usage = ask().usage
    expect(count.input_tokens == usage.input_tokens + usage.cache_read_input_tokens, "count_tokens")
    expect(client.messages.count_tokens(model=TOOLS, messages=USER, tools=[TOOL], system="x").input_tokens > 5, "with tools")


def models():
    everything = client.models.list()
    expect(len(everything.data) >= 3 and not everything.has_more, "the list")
    expect(all(m.type == "model" and m.display_name and m.created_at.year > 2000 for m in everything.data), "its models")
    paged = [m.id for m in client.models.list(limit=1)]
    expect(paged == [m.id for m in everything.data], f"pages of one: {paged}")
    back = client.models.list(limit=1, before_id=paged[-1])
    expect(back.data[0].id == paged[-2] and [m.id for m in back] == paged[-2::-1], "backwards")
    one = client.models.retrieve(paged[0])
    expect(one == everything.data[0], "one of them")
    expect(client.models.retrieve(MODEL).id.startswith(MODEL), "by its short name")
    expect_failure(lambda: client.models.retrieve("no-such-model"), anthropic.NotFoundError, "no-such-model", 404)


def failures():
    bad = anthropic.BadRequestError
    image = [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png",
                                                                         "data": PIXEL}}]}]
    expect_failure(lambda: ask(messages=image), bad, "images", 400)
    expect_failure(lambda: ask(messages=[]), bad, "messages", 400)
    expect_failure(lambda: ask(max_tokens=0), bad, "max_tokens", 400)
    expect_failure(lambda: ask(tools=[{"type": "web_search_20250305", "name": "web_search"}]), bad, "input_schema", 400)
    expect_failure(lambda: ask(messages=[{"role": "user", "content": "word " * 9000}]), bad, "tokens", 400)
    expect_failure(lambda: ask(model="no-such-model"), anthropic.NotFoundError, "no-such-model", 404)
    try:
        ask(model="no-such-model")
    except anthropic.NotFoundError as e:
        expect(e.body["type"] == "error" and e.body["error"]["type"] == "not_found_error", f"its body {e.body}")


def asynchronous():
    async def go():
        async with anthropic.AsyncAnthropic(base_url=URL, api_key="none") as c:
            whole = await asyncio.gather(*(c.messages.create(**FIELDS) for _ in range(4)))
            async with c.messages.stream(**FIELDS) as stream:
                text = "".join([t async for t in stream.text_stream])
            expect(all(w.content[0].text == text for w in whole), "four at once and a stream")
    asyncio.run(go())


run([texts, stops, tools, thinking, formats, counts, models, failures, asynchronous])
