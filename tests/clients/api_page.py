#!/usr/bin/env python3
"""Runs every command of docs/api.md against a server and compares the answers with the page's: api_page.py URL PAGE [--write]

A command is a block of ```sh, its answer the block behind it: JSON, or lines of a stream (each JSON, or "data: " and JSON), of which
the page shows the first and, behind "...", the last. Answers are alike when they have the same keys and types of values; texts
and numbers differ from run to run. --write puts the answers of this run into the page."""
import json
import re
import subprocess
import sys

BLOCKS = re.compile(r"```sh\n(curl .*?)```\n\n```(json|text)\n(.*?)```\n", re.S)
PORT = "http://localhost:11434"


def values(answer):
    """The JSON values of an answer's lines, or of all of it."""
    try:
        return [json.loads(answer)]
    except ValueError:
        lines = [re.sub(r"^data: ", "", line) for line in answer.splitlines() if line and not line.startswith("event: ")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines if line != "..."]


def shape(v):
    if isinstance(v, dict):
        return {k: shape(x) for k, x in v.items()}
    if isinstance(v, list):
        return [shape(v[0])] if v else []
    return "number" if type(v) in (int, float) else v if v == "[DONE]" else type(v).__name__


def alike(a, b):
    """Equal shapes; null stands for whatever else a field may hold."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(alike, a, b))
    return a == b or "NoneType" in (a, b)


def run(command, url):
    done = subprocess.run(["bash", "-c", command.replace(PORT, url)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if done.returncode != 0:
        raise SystemExit(f"failed: status {done.returncode} of: {command}")
    return done.stdout


def shown(answer, kind):
    answer = re.sub(r"(\[(?:-?\d+,\s*){6})(?:-?\d+,\s*)+(-?\d+\])", r"\1\2", answer)  # as short as can be read
    if kind == "text":
        lines = answer.strip("\n").split("\n")
        size = 3 if lines[0].startswith("event: ") else 2 if lines[0].startswith("data: ") else 1
        last = [x for x in lines if x][-1:] if lines[0].startswith("data: ") or size == 1 else lines[-2:]
        return "\n".join([*lines[:size], "...", *last]) + "\n" if len(lines) > 3 else answer.strip("\n") + "\n"
    pretty = json.dumps(json.loads(answer), indent=2, ensure_ascii=False)
    return re.sub(r"\[\s+([-\d.e]+(?:,\s+[-\d.e]+)*)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m.group(1)) + "]", pretty) + "\n"


def main():
    url, path, *more = sys.argv[1:]
    with open(path, encoding="utf-8") as f:
        page = f.read()
    found = list(BLOCKS.finditer(page))
    if len(found) < 10 or len(found) != page.count("```sh\ncurl"):
        raise SystemExit(f"failed: {len(found)} commands with answers of {page.count('```sh')}")
    for m in found:
        command, kind, expected = m.groups()
        answer = run(command, url)
        if "--write" in more:
            page = page.replace(m.group(0), f"```sh\n{command}```\n\n```{kind}\n{shown(answer, kind)}```\n")
            continue
        got, want = values(answer), values(expected)
        for i in (0, -1):
            if not alike(shape(got[i]), shape(want[i])):
                raise SystemExit(f"failed: {command}\nanswers {json.dumps(shape(got[i]))}\nnot as the page says "
                                 f"{json.dumps(shape(want[i]))}")
    if "--write" in more:
        with open(path, "w", encoding="utf-8") as f:
            f.write(page)
    print(len(found), "commands ok")


main()
