#!/usr/bin/env python3
"""Writes tests/data/format/gguf-py.gguf, which tests/format compare with byte for byte. Needs gguf 0.19.0 and numpy."""
import os

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter
from gguf.quants import quantize

here = os.path.dirname(os.path.abspath(__file__))
w = GGUFWriter(os.path.join(here, "..", "tests", "data", "format", "gguf-py.gguf"), "llama")
w.add_string("general.name", "T\u00e4st \u6a21\u578b")
w.add_uint8("t.u8", 200)
w.add_int8("t.i8", -100)
w.add_uint16("t.u16", 60000)
w.add_int16("t.i16", -30000)
w.add_uint32("t.u32", 4000000000)
w.add_int32("t.i32", -2000000000)
w.add_float32("t.f32", 0.1)
w.add_bool("t.yes", True)
w.add_bool("t.no", False)
w.add_uint64("t.u64", 2**64 - 1)
w.add_int64("t.i64", -(2**63))
w.add_float64("t.f64", 0.1)
w.add_key_value("t.empty", "", GGUFValueType.STRING)  # add_string would leave it out
w.add_array("t.strings", ["a", "", "caf\u00e9", "<|end|>"])
w.add_array("t.i32s", [1, -2, 3])
w.add_array("t.f32s", [0.5, -0.25])
w.add_array("t.bools", [True, False, True])
w.add_key_value("t.u8s", [1, 2, 255], GGUFValueType.ARRAY, sub_type=GGUFValueType.UINT8)
w.add_key_value("t.i64s", [-(2**63), 2**63 - 1], GGUFValueType.ARRAY, sub_type=GGUFValueType.INT64)
x = (np.arange(3 * 64, dtype=np.float32) - 96) / 32
w.add_tensor("plain", x[:5])
w.add_tensor("half", x.reshape(2, 3, 32).astype(np.float16))
w.add_tensor("deep", x[:24].reshape(1, 2, 3, 4).astype(np.float32))
q = quantize(x.reshape(3, 64), GGMLQuantizationType.Q8_0)
w.add_tensor("blk.0.attn_q.weight", q, raw_dtype=GGMLQuantizationType.Q8_0)
w.add_tensor("ids", np.array([7, -7, 70000], dtype=np.int32))
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
