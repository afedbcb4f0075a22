#!/usr/bin/env python3
"""A registry and hub that misbehave, for tests. usage: hostile_server.py FOLDER

Listens on six free ports of 127.0.0.1: A (the registry and hub) and B (a host that redirects lead to); by https T (the registry
and hub), U (another), W (whose certificate is another host's) and X (whose certificate has expired). Writes "A B T U W X" to
FOLDER/ports. What it serves lies in FOLDER/content/NAME; each request is a line of JSON in FOLDER/log once it is over. The name
of the model, /v2/t/NAME/..., or of the repository, /api/models/u/NAME, says how it behaves: see `class Handler`.
"""
import gzip
import hashlib
import json
import os
import random
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

FOLDER = sys.argv[1]
TOKEN = "secret-token"
HUB_TOKEN = "hf_secret"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLLAMA = "application/vnd.ollama.image."


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def make(name, size):
    data = random.Random(name).randbytes(size)
    with open(os.path.join(FOLDER, "content", name), "wb") as f:
        f.write(data)
    return data


os.makedirs(os.path.join(FOLDER, "content"), exist_ok=True)
MODEL = make("model", 3 << 20)
LARGE = make("large", 24 << 20)
CONFIG = b'{"model_format":"gguf","model_family":"llama","os":"linux"}'
BOMB = gzip.compress(bytes(64 << 20), 1)
with open(os.path.join(os.path.dirname(__file__), "../data/archs/llama-2-mha.gguf"), "rb") as source:
    REAL = source.read()
BLOBS = {digest(b): b for b in (MODEL, LARGE, CONFIG, REAL)}


def manifest(model, **changes):
    layer = {"mediaType": OLLAMA + "model", "digest": digest(model), "size": len(model)}
    layer.update(changes)
    return json.dumps({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": digest(CONFIG),
                   "size": len(CONFIG)},
        "layers": [layer]}).encode()


HUB = {
    "ck": {"config.json": b'{"model_type":"llama"}', "model-00001-of-00002.safetensors": make("ck1", 700000),
           "model-00002-of-00002.safetensors": make("ck2", 300000), "tokenizer.json": b"{}", "README.md": b"no",
           "consolidated.00.safetensors": make("ck3", 1000), "onnx/model.onnx": b"no"},
    "shards": {f"q/m-Q8_0-{i:05}-of-00003.gguf": make(f"shard{i}", 200000 + i) for i in (1, 2, 3)},
    "two": {"m-Q4_K_M.gguf": make("two1", 100000), "m-Q8_0.gguf": make("two2", 100000), "mmproj-x.gguf": b"no"},
    "many": {"a-Q8_0.gguf": b"1", "b-Q6_K.gguf": b"2"},
    "real": {"tiny-BF16.gguf": REAL, "sub/odd.gguf": REAL},
}
HUB["missing"] = {k: v for k, v in HUB["shards"].items() if "00002-of" not in k}
for copy in ("gated", "nolist", "corrupt", "changed", "slowhub"):
    HUB[copy] = dict(HUB["two"])
HUB["evil"] = {"../../../evil.gguf": b"evil"}

log_lock = threading.Lock()
counts = {}
IDLE = "/-/idle"  # answered when all other requests are over and in the log, or after a second; not in the log itself
active = set()


def count(key):
    with log_lock:
        counts[key] = counts.get(key, 0) + 1
        return counts[key]


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    # ---- plumbing ----

    def parse_request(self):
        active.add(self)
        return super().parse_request()

    def handle_one_request(self):
        self.sent = 0
        self.status = 0
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError, ssl.SSLError):
            self.close_connection = True
        self.log_it()
        active.discard(self)

    def wait_for_others(self):
        end = time.monotonic() + 1
        while len(active) > 1 and time.monotonic() < end:
            time.sleep(0.005)
        return self.answer(204)

    def log_it(self):
        if getattr(self, "path", None) and self.raw_requestline and self.path != IDLE:
            line = json.dumps({"at": self.server.letter, "method": self.command, "path": self.path,
                               "auth": self.headers.get("Authorization"), "range": self.headers.get("Range"),
                               "status": self.status, "sent": self.sent})
            with log_lock, open(os.path.join(FOLDER, "log"), "a") as f:
                f.write(line + "\n")

    def head(self, status, **fields):
        self.status = status
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def put(self, data, rate=0):
        """rate: bytes a second"""
        step = 16384
        for at in range(0, len(data), step):
            piece = data[at:at + step]
            self.wfile.write(piece)
            self.sent += len(piece)
            if rate:
                self.wfile.flush()
                time.sleep(len(piece) / rate)

    def answer(self, status, data=b"", **fields):
        self.head(status, Content_Length=len(data), **fields)
        if self.command != "HEAD":
            self.put(data)

    def base(self, letter):
        return f"{'http' if letter in 'AB' else 'https'}://127.0.0.1:{PORTS[letter]}"

    def wanted(self, data):
        said = self.headers.get("Range")
        if not said:
            return 0, len(data) - 1
        first, last = said.removeprefix("bytes=").split("-")
        return int(first), min(int(last), len(data) - 1)

    def serve(self, data, rate=0, **fields):
        """As a good server does."""
        first, last = self.wanted(data)
        if not self.headers.get("Range"):
            self.head(200, Content_Length=len(data), **fields)
        else:
            self.head(206, Content_Length=last - first + 1, Content_Range=f"bytes {first}-{last}/{len(data)}", **fields)
        if self.command != "HEAD":
            self.put(data[first:last + 1], rate)

    # ---- routes ----

    def do_GET(self):
        if self.path == IDLE:
            return self.wait_for_others()
        url = urlparse(self.path)
        parts = url.path.strip("/").split("/")
        if len(parts) == 6 and parts[4] == "uploads":
            held = self.uploads.get(parts[2])
            if held is None:
                return self.answer(404)
            return self.answer(204, Location=self.path, Range=f"0-{max(len(held) - 1, 0)}")
        if self.command == "HEAD" and len(parts) == 5 and parts[2].startswith("push"):
            there = os.path.exists(os.path.join(FOLDER, "pushed-" + parts[4].replace(":", "-")))
            return self.answer(200 if there else 404)
        if url.path == "/token":
            return self.token(parse_qs(url.query))
        if parts[0] == "cdn":
            return self.cdn(parts)
        if self.server.letter in "BU":
            return self.answer(404)
        if parts[0] == "api":
            return self.api(parts)
        if parts[0] == "u" and parts[2] == "resolve":
            return self.resolve(parts[1], "/".join(parts[4:]))
        if parts[0] == "v2" and len(parts) == 5:
            kind = parts[3]
            if parts[2].startswith(("auth", "foreign")) and not self.allowed(parts[2]):
                return None
            return self.manifest(parts[2]) if kind == "manifests" else self.blob(parts[2], parts[4])
        return self.answer(404)

    do_HEAD = do_GET

    def allowed(self, name):
        realm = self.base("B" if name == "foreign" else self.server.letter) + "/token"
        if self.headers.get("Authorization") == "Bearer " + TOKEN + str(counts.get("renewed", "")):
            return True
        self.answer(401, WWW_Authenticate=f'Bearer realm="{realm}",service="tests",scope="repository:t/{name}:pull"')
        return False

    def token(self, query):
        with log_lock:
            counts["scope"] = query.get("scope")
        self.answer(200, json.dumps({"token": TOKEN + str(counts.get("renewed", ""))}).encode())

    def manifest(self, name):
        body, fields = manifest(MODEL), {}
        if name == "none":
            return self.answer(404)
        if name in ("large", "slow"):
            body = manifest(LARGE)
        if name == "real":
            body = manifest(REAL)
        if name == "bomb":
            return self.answer(200, BOMB, Content_Encoding="gzip")
        if name == "endless":
            self.head(200, Content_Length=1 << 40)
            return self.put(b"{" + b" " * (64 << 20))
        if name == "traversal":
            body = manifest(MODEL, digest="sha256:../../../../etc/passwd")
        if name == "huge":
            body = manifest(MODEL, size=1 << 60)
        if name == "full":
            body = manifest(MODEL, size=1 << 45)
        if name == "image":
            body = manifest(MODEL, mediaType="application/vnd.docker.image.rootfs.diff.tar.gzip")
        if name == "nojson":
            body = b"<html>not a registry</html>"
        if name == "wrongdigest":
            fields["Docker_Content_Digest"] = "sha256:" + "0" * 64
        if name == "busy" and count("busy") < 4:
            return self.answer(503 if counts["busy"] % 2 else 429, b"busy", Retry_After=0)
        if name == "loop":
            return self.answer(302, Location=self.path)
        if name == "nowhere":
            return self.answer(302)
        if name == "dead":
            self.close_connection = True
            return None
        if name.startswith("redirect"):
            return self.answer(int(name[8:]), Location=self.base("B") + f"/cdn/manifest/{name}")
        return self.answer(200, body, **fields)

    def blob(self, name, wanted):
        data = BLOBS.get(wanted)
        if data is None:
            return self.answer(404)
        if data is CONFIG and name != "noranges":
            return self.serve(data)
        first, last = self.wanted(data)
        total = len(data)
        if name == "noranges":
            return self.answer(200, data)
        if name == "norangesdrop":
            self.head(200, Content_Length=total)
            self.put(data if count(name) > 3 else data[:100000])
            self.close_connection = True
            return None
        if name == "drop":
            self.head(206, Content_Length=last - first + 1, Content_Range=f"bytes {first}-{last}/{total}")
            self.put(data[first:min(last + 1, first + 300000)])
            self.close_connection = True
            return None
        if name == "stall":
            self.head(206, Content_Length=last - first + 1, Content_Range=f"bytes {first}-{last}/{total}")
            if count(f"stall{first >> 19}") > 1:
                return self.put(data[first:last + 1])
            self.put(data[first:first + 1000])
            self.wfile.flush()
            time.sleep(6)
            self.close_connection = True
            return None
        if name == "deadblob":
            self.close_connection = True
            return None
        if name == "broken":
            return self.answer(500, b"never")
        if name == "flaky" and random.random() < 0.4:
            return self.answer(random.choice((500, 502, 503, 429)), b"later", Retry_After=0)
        if name == "liefirst":
            return self.answer(206, data[:last - first + 1], Content_Range=f"bytes {first + 1}-{last + 1}/{total}")
        if name == "lietotal":
            return self.answer(206, data[first:last + 1], Content_Range=f"bytes {first}-{last}/{total + 5}")
        if name == "lielast":
            return self.answer(206, data[first:] + b"x" * 100, Content_Range=f"bytes {first}-{last + 100}/{total + 100}")
        if name == "norange206":
            return self.answer(206, data[first:last + 1])
        if name == "liemore":
            self.head(206, Content_Range=f"bytes {first}-{last}/{total}", Connection="close")
            self.put(data[first:last + 1] + b"x" * 100000)
            self.close_connection = True
            return None
        if name == "lielength":
            return self.answer(200, data[:-7])
        if name == "liecontent":
            return self.serve(bytes(255 - b for b in data[:1000]) + data[1000:])
        if name == "liecontentonce" and count(name) == 1:
            return self.serve(bytes(total))
        if name == "zip":
            packed = gzip.compress(data[first:last + 1])
            return self.answer(206, packed, Content_Encoding="gzip", Content_Range=f"bytes {first}-{last}/{total}")
        if name == "slow":
            return self.serve(data, rate=2 << 20)
        if name == "sluggish":
            return self.serve(data, rate=150 << 10)
        if name == "authrenew" and count(name) == 3:
            with log_lock:
                counts["renewed"] = 2
            return self.allowed(name)
        if name.startswith("redirect"):
            return self.answer(int(name[8:]), Location=self.base("B") + f"/cdn/blob/{wanted}")
        if name in ("authport", "authhost", "authdown", "authup"):
            to = {"authport": self.base("U"), "authdown": self.base("A"), "authup": self.base("T"),
                  "authhost": self.base("T").replace("127.0.0.1", "localhost")}[name]
            return self.answer(307, Location=to + f"/cdn/{name}/{wanted}")
        if name in ("authcdn", "expire"):
            return self.answer(307, Location=self.base("B") + f"/cdn/{name}/{wanted}/{count(name)}")
        return self.serve(data)

    def cdn(self, parts):
        """Where redirects lead: /cdn/KIND/WHAT"""
        if parts[1] == "manifest":
            return self.answer(200, manifest(MODEL))
        if parts[1] == "hub":
            return self.serve(HUB[parts[2]]["/".join(parts[3:])])
        data = BLOBS[parts[2]]
        if parts[1] == "expire" and count("/".join(parts)) > 3:
            return self.answer(403, b"the signature has expired")
        return self.serve(data)

    # ---- the hub ----

    def api(self, parts):
        name = parts[3]
        if name not in HUB:
            return self.answer(404)
        if name == "gated" and self.headers.get("Authorization") != "Bearer " + HUB_TOKEN:
            return self.answer(401, b"{}")
        files = []
        for file, data in HUB[name].items():
            entry = {"rfilename": file}
            if name != "nolist":
                entry.update(size=len(data), blobId=git_sha1(data))
                if len(data) > 500:
                    entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            files.append(entry)
        return self.answer(200, json.dumps({"id": "u/" + name, "sha": COMMIT, "siblings": files}).encode())

    def resolve(self, name, file):
        data = HUB.get(name, {}).get(file)
        if data is None:
            return self.answer(404)
        if name == "gated" and self.headers.get("Authorization") != "Bearer " + HUB_TOKEN:
            return self.answer(401, b"{}")
        if name == "corrupt":
            return self.serve(bytes(len(data)))
        if name == "slowhub":
            return self.serve(data, rate=20000)
        etag = "f" * 64 if name == "changed" else hashlib.sha256(data).hexdigest()
        if len(data) > 500:
            return self.answer(302, Location=self.base("B") + f"/cdn/hub/{name}/{file}", X_Repo_Commit=COMMIT,
                               X_Linked_Etag=f'"{etag}"', X_Linked_Size=len(data))
        return self.serve(data, ETag=f'"{git_sha1(data)}"', X_Repo_Commit=COMMIT)

    # ---- a registry that takes uploads, and drops some ----

    uploads = {}

    def read_body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_POST(self):
        self.read_body()
        name = urlparse(self.path).path.split("/")[3]
        self.uploads[name] = b""
        self.answer(202, Location=f"/v2/t/{name}/blobs/uploads/1")

    def do_PATCH(self):
        name = self.path.split("/")[3]
        if name == "pushdrop" and count("pushdrop") % 2:
            half = int(self.headers["Content-Length"]) // 2
            self.uploads[name] += self.rfile.read(half)
            self.close_connection = True
            return None
        if name == "pushaway":
            at = len(self.uploads[name])
            self.rfile.read(int(self.headers["Content-Length"]))
            return self.answer(307, Location=self.base("B") + f"/v2/t/pushaway/part/{at}",
                               Docker_Upload_Location=self.base("A") + "/v2/t/pushaway/blobs/uploads/1")
        if name == "pushslow":
            for left in range(int(self.headers["Content-Length"]), 0, -262144):
                self.uploads[name] += self.rfile.read(min(left, 262144))
                time.sleep(0.03)
        else:
            self.uploads[name] += self.read_body()
        if name == "pushlost" and count("pushlost") == 1:
            self.uploads.pop(name)
            return self.answer(503, b"lost")
        return self.answer(202, Location=self.path, Range=f"0-{len(self.uploads[name]) - 1}")

    def do_PUT(self):
        body = self.read_body()
        if len(body) < int(self.headers.get("Content-Length") or 0):  # who sent it is gone
            self.close_connection = True
            return None
        url = urlparse(self.path)
        parts = url.path.split("/")
        if "part" in parts:
            self.uploads[parts[3]] += body
            return self.answer(200)
        if "manifests" in parts:
            with open(os.path.join(FOLDER, "pushed-" + parts[3]), "wb") as f:
                f.write(body)
            return self.answer(201)
        wanted = parse_qs(url.query)["digest"][0]
        data = self.uploads.pop(parts[3], b"")
        if digest(data) != wanted:
            return self.answer(400, b"digest")
        with open(os.path.join(FOLDER, "pushed-" + wanted.replace(":", "-")), "wb") as f:
            f.write(data)
        return self.answer(201)


servers = {}
for letter in "ABTUWX":
    servers[letter] = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    servers[letter].letter = letter
    servers[letter].daemon_threads = True
    if letter not in "AB":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(os.path.dirname(__file__), "../data/registry/tls",
                                             {"W": "other.pem", "X": "expired.pem"}.get(letter, "good.pem")))
        servers[letter].socket = context.wrap_socket(servers[letter].socket, server_side=True,
                                                     do_handshake_on_connect=False)
PORTS = {letter: s.server_address[1] for letter, s in servers.items()}
with open(os.path.join(FOLDER, "ports.new"), "w") as f:
    f.write(" ".join(str(port) for port in PORTS.values()) + "\n")
os.rename(os.path.join(FOLDER, "ports.new"), os.path.join(FOLDER, "ports"))
for letter in "BTUWX":
    threading.Thread(target=servers[letter].serve_forever, daemon=True).start()
servers["A"].serve_forever()
