#!/usr/bin/env python3
"""What a loss of power would leave. usage: power_loss.py LOG FOLDER STORE

LOG is strace's, of a command that worked on STORE, with -f -y. Follows what is not on the disk yet: bytes that were written and not
synced, names that were made in a folder and not synced. When a manifest gets its name, nothing of blobs/ may be such, nor any folder
above it within FOLDER, nor its own bytes; at the end, no name in manifests/ either.
"""
import os
import re
import sys

LOG, FOLDER, STORE = sys.argv[1:4]
dirty = set()  # files whose bytes are not synced
names = {}  # folder: names in it that are not
seen = 0


def calls():
    begun = {}
    for line in open(LOG, errors="replace"):
        pid, text = line.rstrip("\n").split(None, 1)
        if text.endswith("<unfinished ...>"):
            begun[pid] = text.removesuffix("<unfinished ...>").rstrip()
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>(.*)", text)
        if resumed:
            text = begun.pop(pid, "") + resumed.group(1)
        found = re.match(r"(\w+)\((.*)\)\s+= (-?\d+)", text)
        if found and int(found.group(3)) >= 0:
            yield found.group(1), found.group(2)


def made(path):
    names.setdefault(os.path.dirname(path), set()).add(os.path.basename(path))


def on_disk(path):
    """Whether a file is, with its name and the folders above it."""
    if path in dirty:
        sys.exit(f"the bytes of {path} are not synced")
    while len(path) > len(FOLDER):
        if os.path.basename(path) in names.get(os.path.dirname(path), ()):
            sys.exit(f"the name {path} is not synced")
        path = os.path.dirname(path)


for call, arguments in calls():
    quoted = re.findall(r'"((?:[^"\\]|\\.)*)"', arguments)
    opened = re.match(r"\d+<([^>]*)>", arguments)
    if call in ("write", "pwrite64", "writev", "ftruncate", "ioctl") and opened:
        if call != "ioctl" or "FICLONE" in arguments:
            dirty.add(opened.group(1))
    elif call in ("fsync", "fdatasync"):
        dirty.discard(opened.group(1))
        names.pop(opened.group(1), None)
    elif call in ("mkdir", "mkdirat", "symlink", "symlinkat"):
        made(os.path.join(FOLDER, quoted[-1]))
    elif call in ("rename", "renameat", "renameat2", "link", "linkat"):
        old, new = (os.path.join(FOLDER, q) for q in quoted[:2])
        if old in dirty:
            dirty.add(new)
        if new.startswith(STORE + "/manifests/"):
            seen += 1
            on_disk(os.path.dirname(new))
            if old in dirty:
                sys.exit(f"the bytes of {new} are not synced")
            for file in list(dirty) + [os.path.join(d, n) for d, all in names.items() for n in all]:
                if file.startswith(STORE + "/blobs/"):
                    on_disk(file)
        made(new)
for folder, some in names.items():
    if folder.startswith(STORE + "/manifests/"):
        sys.exit(f"at the end {folder} is not synced: {some}")
