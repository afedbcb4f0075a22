#!/usr/bin/env python3
"""Writes tests/data/grammar/schemas.json: schemas, and documents that fit them or do not.

    make_schema_vectors.py JSON-SCHEMA-TEST-SUITE OUT

The groups are those of https://github.com/json-schema-org/JSON-Schema-Test-Suite (MIT) for drafts 7 and 2020-12, and of
MORE below, whose answers are those of the `jsonschema` package. A document is written as the grammar writes it: properties in
the order of the schema, no white space."""
import json
import pathlib
import sys

import jsonschema

FILES = """additionalItems additionalProperties allOf anchor anyOf boolean_schema const contains content default definitions
defs dependencies dependentRequired dependentSchemas enum exclusiveMaximum exclusiveMinimum format if-then-else
infinite-loop-detection items maxContains maxItems maxLength maxProperties maximum minContains minItems minLength minProperties
minimum multipleOf not oneOf pattern patternProperties prefixItems properties propertyNames ref required type unevaluatedItems
unevaluatedProperties uniqueItems""".split()
FORMATS = "date date-time duration email hostname ipv4 ipv6 json-pointer relative-json-pointer time uri uri-reference uuid".split()


def model(schema, *documents):
    """A group of our own, as clients send them; its answers are the package's."""
    validator = jsonschema.Draft202012Validator(schema)
    tests = [{"data": d, "valid": validator.is_valid(d)} for d in documents]
    return {"description": schema.get("title", "model"), "schema": schema, "tests": tests}


def tagged(name, *fields):
    properties = {"kind": {"const": name, "type": "string"}}
    properties.update({f: {"type": "integer"} for f in fields})
    return {"type": "object", "properties": properties, "required": ["kind", *fields], "additionalProperties": False}


# what pydantic, zod and OpenAPI generators write
MORE = [
    model({"title": "User", "type": "object",
           "properties": {"name": {"title": "Name", "type": "string"}, "age": {"minimum": 0, "type": "integer"},
                          "mail": {"anyOf": [{"type": "string", "format": "email"}, {"type": "null"}], "default": None},
                          "role": {"$ref": "#/$defs/Role"}},
           "required": ["name", "age", "role"],
           "$defs": {"Role": {"enum": ["admin", "user"], "title": "Role", "type": "string"}}},
          {"name": "A", "age": 1, "mail": None, "role": "user"}, {"name": "A", "age": 1, "role": "admin"},
          {"name": "A", "age": -1, "role": "admin"}, {"name": "A", "age": 1}, {"name": "A", "age": 1, "role": "root"},
          {"name": 1, "age": 1, "role": "user"}, {"name": "A", "age": 1.5, "role": "user"}, []),
    model({"title": "Tree", "$defs": {"Node": {"type": "object", "properties": {
        "value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
        "required": ["value", "children"], "additionalProperties": False}}, "$ref": "#/$defs/Node"},
          {"value": 1, "children": []}, {"value": 1, "children": [{"value": 2, "children": []}]},
          {"value": 1, "children": [{"value": 2}]}, {"value": 1, "children": [1]}),
    model({"title": "Shapes", "type": "array", "items": {"oneOf": [tagged("circle", "radius"), tagged("box", "width", "height")],
                                                        "discriminator": {"propertyName": "kind"}}, "minItems": 1},
          [{"kind": "circle", "radius": 2}], [{"kind": "box", "width": 2, "height": 3}, {"kind": "circle", "radius": 1}],
          [{"kind": "circle", "width": 2}], [{"kind": "box", "width": 2}], [], [{"kind": "ring", "radius": 2}]),
    model({"title": "Tuple", "type": "array", "prefixItems": [{"type": "number"}, {"type": "string"}], "minItems": 2, "maxItems": 2},
          [1, "a"], [1.5, "a"], ["a", 1], [1], [1, "a", 2]),
    model({"title": "Map", "type": "object", "additionalProperties": {"type": "integer"}},
          {}, {"a": 1, "b": 2}, {"a": "1"}, {"a": 1, "b": None}),
    model({"title": "Merged", "allOf": [{"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]},
                                        {"type": "object", "properties": {"a": {"maximum": 9}, "b": {"type": "boolean"}},
                                         "required": ["b"]}]},
          {"a": 1, "b": True}, {"a": 10, "b": True}, {"a": 0, "b": False}, {"a": 3}, {"b": True}),
    model({"title": "Nullable", "type": ["string", "null"], "minLength": 2, "maxLength": 3},
          None, "ab", "abc", "a", "abcd", "\u00e9\u00e9", "\U0001f999\U0001f999\U0001f999", 1),
    model({"title": "Decimal", "type": "number", "minimum": -1.5, "exclusiveMaximum": 20.25},
          -1.5, -1.51, -1.6, -0.5, 0, 0.0001, 20, 20.2, 20.249, 20.25, 20.3, 100, -20, 3),
    model({"title": "Steps", "type": "integer", "multipleOf": 7, "minimum": -20, "maximum": 100},
          -14, -21, 0, 7, 98, 99, 105, 1),
    model({"title": "Cents", "type": "number", "multipleOf": 0.25, "minimum": 0}, 0, 0.25, 0.5, 1, 1.75, 0.3, 0.125),
    model({"title": "Code", "type": "string", "pattern": "^[A-Z]{3}-\\d{2,4}$", "maxLength": 7},
          "ABC-12", "ABC-123", "ABC-1234", "abc-12", "ABC-1", "xABC-12", ""),
    model({"title": "Set", "type": "array", "uniqueItems": True, "items": {"enum": ["r", "g", "b"]}},
          [], ["r"], ["b", "r"], ["r", "g", "b"], ["r", "r"], ["x"]),
    model({"title": "Either", "type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
           "oneOf": [{"required": ["a"]}, {"required": ["b"]}], "additionalProperties": False},
          {"a": ""}, {"b": ""}, {}, {"a": "", "b": ""}),
    model({"title": "Counted", "type": "object", "properties": {k: {"type": "null"} for k in "abc"},
           "minProperties": 1, "maxProperties": 2, "additionalProperties": False},
          {}, {"a": None}, {"c": None}, {"a": None, "c": None}, {"a": None, "b": None, "c": None}),
    model({"title": "Names", "type": "object", "patternProperties": {"^n_": {"type": "integer"}, "^s_": {"type": "string"}},
           "additionalProperties": False},
          {}, {"n_a": 1}, {"s_a": "x", "n_b": 2}, {"n_a": "x"}, {"q": 1}),
]


def target(root, schema):
    while isinstance(schema, dict) and str(schema.get("$ref", "")).startswith("#/"):
        at = root
        for step in schema["$ref"][2:].split("/"):
            step = step.replace("~1", "/").replace("~0", "~").replace("%25", "%").replace("%22", '"')
            at = at.get(step) if isinstance(at, dict) else at[int(step)] if isinstance(at, list) else None
        if at is schema:
            break
        schema = at
    return schema if isinstance(schema, dict) else {}


def names(root, schema, depth=0):
    """Properties in the order in which a grammar writes them."""
    schema = target(root, schema)
    if depth > 8:
        return []
    found = list(schema.get("properties", {}))
    for key in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(key, []) if isinstance(schema.get(key), list) else []:
            found += names(root, part, depth + 1)
    return found + (schema["required"] if isinstance(schema.get("required"), list) else [])


def ordered(root, schema, value, depth=0):
    schema = target(root, schema) if depth < 8 else {}
    if isinstance(value, dict):
        order = [n for n in dict.fromkeys(names(root, schema)) if n in value]
        return {n: ordered(root, schema.get("properties", {}).get(n, {}), value[n], depth + 1)
                for n in order + [n for n in value if n not in order]}
    if isinstance(value, list):
        items = schema.get("items", {})
        return [ordered(root, items, v, depth + 1) for v in value]
    return value


def text(schema, value):
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return repr(value)
    return json.dumps(ordered(schema, schema, value), separators=(",", ":"), ensure_ascii=False)


def main():
    suite, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    groups = []
    for draft in ("draft7", "draft2020-12"):
        paths = [suite / "tests" / draft / f"{name}.json" for name in FILES]
        if draft == "draft2020-12":
            paths += [suite / "tests" / draft / "optional/format" / f"{name}.json" for name in FORMATS]
        for path in paths:
            for group in json.loads(path.read_text()) if path.exists() else []:
                groups.append((f"{draft}/{path.stem}", group))
    groups += [("models", g) for g in MORE]
    result, seen = [], set()
    for place, group in groups:
        schema = group["schema"]
        if isinstance(schema, dict):
            schema = {k: v for k, v in schema.items() if k != "$schema"}
        tests = [[text(schema, t["data"]), t["valid"]] for t in group["tests"]]
        key = json.dumps([schema, tests])
        if key not in seen:
            seen.add(key)
            result.append({"place": place, "name": group["description"], "schema": schema, "tests": tests})
    lines = ",\n".join(json.dumps(g, separators=(",", ":"), ensure_ascii=True) for g in result)
    out.write_text(f"[\n{lines}\n]\n")
    print(len(result), "groups,", sum(len(g["tests"]) for g in result), "documents")


if __name__ == "__main__":
    main()
