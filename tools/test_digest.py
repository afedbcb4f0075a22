"""The numpy side of tests/support/digest.h: seeded bytes, and a digest of 32-bit words in their order."""
import numpy as np

GOLDEN = 0x9E3779B97F4A7C15


def mix64(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def seeded_bytes(seed, n):
    counter = np.arange(1, (n + 7) // 8 + 1, dtype=np.uint64)
    return mix64(np.uint64(seed) + counter * np.uint64(GOLDEN)).astype("<u8").view(np.uint8)[:n].copy()


def digest_u32(words):
    counter = np.arange(1, words.size + 1, dtype=np.uint64)
    mixed = mix64(words.astype(np.uint64).reshape(-1) + counter * np.uint64(GOLDEN))
    return int(np.sum(mixed, dtype=np.uint64))


def digest_floats(x):
    bits = np.ascontiguousarray(x, np.float32).reshape(-1).view(np.uint32).copy()
    bits[(bits & 0x7FFFFFFF) > 0x7F800000] = 0x7FC00000
    return digest_u32(bits)
