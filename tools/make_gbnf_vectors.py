#!/usr/bin/env python3
"""Writes tests/data/grammar/gbnf.txt: grammars, and which texts llama.cpp's grammar sampler lets pass as a whole.

    make_gbnf_vectors.py PROGRAM OUT

PROGRAM reads lines "g HEX" (a grammar) and "t HEX" (a text for it) and answers each text with a line "+" or "-": every token
of the text was allowed when it came, single bytes where the vocabulary has them, and the end was allowed after the last one."""
import subprocess
import sys

CASES = [
    ('root ::= "a"', ["", "a", "b", "aa", "A"]),
    ('root ::= "a" | "bc" | ""', ["", "a", "bc", "b", "abc"]),
    ('root ::= "a"*', ["", "a", "aaaa", "ab"]),
    ('root ::= "ab"+ "c"?', ["", "ab", "abab", "ababc", "abb", "aba"]),
    ('root ::= [a-c]{2}', ["a", "ab", "abc", "ad", "cc"]),
    ('root ::= [a-c]{2,}', ["a", "ab", "abcabc", "abd"]),
    ('root ::= [a-c]{2,4} "x"', ["abx", "ax", "abcax", "abcabx", "abcx"]),
    ('root ::= [a-c]{0,2}', ["", "a", "ab", "abc"]),
    ('root ::= ("ab" | "c"){3}', ["ccc", "abcab", "abab", "cccc", "cabc"]),
    ('root ::= [^a-c\\n]+', ["xyz", "xay", "\n", "é", "日本", ""]),
    ('root ::= [a-]+', ["a-a", "-", "b"]),
    ('root ::= [-a]+', ["a-a", "-", "b"]),
    ('root ::= [\\]\\[]+', ["[]", "[", "a"]),
    ('root ::= [é-ü]+ "日" [^日]', ["é日x", "êëü日y", "é日日", "e日x", "ÿ日x"]),
    ('root ::= "\\x41\\u00e9\\U0001F999"', ["Aé🦙", "Aé", "aé🦙"]),
    ('root ::= "\\t\\r\\n\\"\\\\\\[\\]"', ["\t\r\n\"\\[]", "tr"]),
    ('root ::= .', ["a", "é", "\n", "", "ab", "🦙"]),
    ('root ::= "a" . "b"', ["axb", "a🦙b", "ab", "axxb"]),
    ('root ::= "(" root ")" | "x"', ["x", "(x)", "((x))", "((x)", "()"]),
    ('root ::= list\nlist ::= item ("," item)*\nitem ::= [0-9]+ | "[" list "]"', ["1", "1,2", "[1,[2,3]],4", "[1", "1,", "[]"]),
    ('root ::= a b c\na ::= "a"?\nb ::= "b"*\nc ::= "c"+', ["c", "abc", "bbbcc", "ab", "ac", ""]),
    ('root ::= (\n  "a" # one\n  "b"\n  | "c"\n) "d"', ["abd", "cd", "ad", "bd"]),
    ('# first\nroot ::= x-1 |\n  "z"\nx-1 ::= "y" # last\n# end', ["y", "z", "x-1"]),
    ('root ::= "a" # tail\r\nb ::= "c"\r\n', ["a", "c"]),
    ('root ::= ("a"? "b"?)* "c"', ["c", "abc", "bbaac", "abab"]),
    ('root ::= (("a"*)* "b")*', ["", "b", "aab", "aabb", "aa"]),
    ('root ::= ("a" | "a" "b")* "c"', ["aabc", "abac", "ac", "bc"]),
    ('root ::= "a"{2}{3}', ["aaaaaa", "aaaaa", "aaaaaaa"]),
    ('root ::= "ab"?? "c"', ["c", "abc", "ac"]),
    ('root ::= [ \\t]* "x" [ \\t]*', ["x", "  x\t", "\nx"]),
    ('root ::= w (" " w){0,3} "."\nw ::= [A-Za-z]{1,5}', ["Hi.", "a b c d.", "a b c d e.", "toolong.", "a  b."]),
    ('root ::= "\\"" ([^"\\\\] | "\\\\" ["\\\\/bfnrt])* "\\""', ['""', '"a\\n\\"b"', '"a', '"\\x"', '"é日🦙"']),
    ('root ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [-+]? [0-9]+)?', ["0", "-1", "01", "1.5e-3", "1.", ".5", "10E+2", "-"]),
    ('root ::= v\nv ::= o | a | s | "true" | "null"\no ::= "{" (s ":" v ("," s ":" v)*)? "}"\na ::= "[" (v ("," v)*)? "]"\ns ::= "\\"" [a-z]* "\\""',
     ["{}", '{"a":[true,null,{"b":"c"}]}', '{"a"}', "[]", "[[],[]]", "[,]", '{"a":true,}', "truenull"]),
    ('root ::= [0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" [0-3] [0-9]', ["2024-02-29", "2024-13-01", "24-01-01", "2024-10-41"]),
    ('root ::= e\ne ::= t (("+" | "-") t)*\nt ::= f (("*" | "/") f)*\nf ::= [0-9]+ | "(" e ")"', ["1", "1+2*3", "(1+2)*3", "1+", "(1", "1**2"]),
    ('root ::= "yes" | "no" | "nobody" | "yesterday"', ["yes", "no", "nobody", "nob", "yesterday", "yest"]),
    ('root ::= a\na ::= b\nb ::= c\nc ::= "deep"', ["deep", "dee"]),
    ('root ::= [\\u3041-\\u3096]+', ["ひらがな", "カ", "a"]),
    ('root ::= [^\\x00-\\x7f]+', ["é日🦙", "a", "éa"]),
    ('root ::= ("a" [x] | "a" [y]) "z"', ["axz", "ayz", "az", "axyz"]),
    ('root ::= "a" ("b" | ) "c"', ["abc", "ac", "bc"]),
    ('root ::= | "a"', ["", "a", "b"]),
    ('root ::= "x"{1,3} "x"{1,3}', ["x", "xx", "xxxxxx", "xxxxxxx"]),
    ('root ::= [a-zA-Z0-9._%+-]+ "@" [a-z]+ ("." [a-z]{2,4})+', ["a.b@c.de", "a@b", "a@b.c", "@b.de", "x%y@z.co.uk"]),
]


def main():
    lines = []
    for grammar, texts in CASES:
        lines.append("g " + grammar.encode().hex())
        lines += ["t " + (t.encode().hex() or "-") for t in texts]
    answers = iter(subprocess.run([sys.argv[1]], input="\n".join(lines) + "\n", text=True, stdout=subprocess.PIPE, check=True).stdout.split())
    with open(sys.argv[2], "w") as out:
        for line in lines:
            out.write((line if line[0] == "g" else next(answers) + line[1:]) + "\n")
    assert next(answers, None) is None


if __name__ == "__main__":
    main()
