#!/usr/bin/env python3
"""A registry that serves the models of a store. usage: registry_of_store.py STORE PORTFILE

Listens on a free port of 127.0.0.1 and writes it to PORTFILE. Manifests and blobs as the OCI protocol has them, ranges included.
"""
import os
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STORE, PORTFILE = sys.argv[1:3]


def path_of(url):
    found = re.fullmatch(r"/v2/([\w.-]+)/([\w.-]+)/manifests/([\w.-]+)", url)
    if found:
        return os.path.join(STORE, "manifests", "registry.ollama.ai", *found.groups())
    found = re.fullmatch(r"/v2/[\w./-]+/blobs/sha256:([0-9a-f]{64})", url)
    return found and os.path.join(STORE, "blobs", "sha256-" + found.group(1))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, body):
        path = path_of(self.path)
        if not path or not os.path.exists(path):
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        with open(path, "rb") as file:
            data = file.read()
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span:
            first, last = int(span.group(1)), min(int(span.group(2) or len(data)), len(data) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            data = data[first:last + 1]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open(PORTFILE + ".new", "w") as file:
    file.write(f"{server.server_port}\n")
os.rename(PORTFILE + ".new", PORTFILE)
server.serve_forever()
