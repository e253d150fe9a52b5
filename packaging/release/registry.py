"""A registry of npm's on this machine with the packages of a release, so that a check installs them by name as a user does."""

import base64
import contextlib
import hashlib
import http.server
import json
import tarfile
import threading
import urllib.parse


@contextlib.contextmanager
def serving(archives):
    """Serves packed packages, and yields the registry's address. It knows no others: an unknown name is a 404."""
    packages = {}
    for path in archives:
        with tarfile.open(path) as archive:
            about = json.load(archive.extractfile("package/package.json"))
        packages[about["name"]] = (about, path)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            # Clients differ in which part of `@scope/name` they escape.
            name = urllib.parse.unquote(self.path.split("?")[0]).lstrip("/")
            for about, path in packages.values():
                if name == f"files/{path.name}":
                    return self.answer(200, path.read_bytes())
            if name not in packages:
                return self.answer(404, b'{"error":"not found"}')
            about, path = packages[name]
            content = path.read_bytes()
            version = dict(about, _id=f"{name}@{about['version']}", dist={
                "tarball": f"http://{self.headers['Host']}/files/{path.name}",
                "shasum": hashlib.sha1(content, usedforsecurity=False).hexdigest(),
                "integrity": "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode(),
            })
            date = "2026-01-01T00:00:00.000Z"
            packument = {"_id": name, "name": name, "dist-tags": {"latest": about["version"]}, "versions": {about["version"]: version},
                         "time": {"created": date, "modified": date, about["version"]: date}}
            return self.answer(200, json.dumps(packument).encode())

        def answer(self, status, content):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
