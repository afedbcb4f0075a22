#!/usr/bin/env python3
"""Prints src/quant/iq_grids.h: the code books of the IQ1, IQ2 and IQ3 types as gguf-py lists them.

usage: make_iq_grids.py > src/quant/iq_grids.h      (needs the gguf package)
"""
from gguf import quants

HEAD = """\
/* iq_grids.h - the code books of the IQ types, packed; they are part of the format. Entry i of a table holds the
 * values that index i stands for, the first in the lowest bits, each as an index into the levels.
 * Written by tools/make_iq_grids.py from the gguf package; included by iq.c and quantize_iq_types.c only. */
#ifndef NB_QUANT_IQ_GRIDS_H
#define NB_QUANT_IQ_GRIDS_H

#include <stdint.h>
"""


def levels(name, cls):
    values = ", ".join(str(int(v)) for v in cls.grid_map)
    print(f"\nstatic const int8_t {name}_levels[{len(cls.grid_map)}] = {{{values}}};")


def table(name, cls, bits, what):
    raw = bytes.fromhex(cls.grid_hex.decode())
    words = [raw[i] | raw[i + 1] << 8 for i in range(0, len(raw), 2)]
    print(f"\n/* {what}: {16 // bits} values of {bits} bits */")
    print(f"static const uint16_t {name}_grid[{len(words)}] = {{")
    for i in range(0, len(words), 14):
        print("    " + ", ".join(f"0x{w:04x}" for w in words[i:i + 14]) + ",")
    print("};")


print(HEAD, end="")
levels("iq2", quants.IQ2_S)
table("iq2_xxs", quants.IQ2_XXS, 2, "IQ2_XXS")
table("iq2_xs", quants.IQ2_XS, 2, "IQ2_XS")
table("iq2_s", quants.IQ2_S, 2, "IQ2_S")
levels("iq3_xxs", quants.IQ3_XXS)
levels("iq3_s", quants.IQ3_S)
table("iq3_xxs", quants.IQ3_XXS, 4, "IQ3_XXS")
table("iq3_s", quants.IQ3_S, 4, "IQ3_S")
levels("iq1", quants.IQ1_S)
table("iq1", quants.IQ1_S, 2, "IQ1_S and IQ1_M")
print("\n#endif")
