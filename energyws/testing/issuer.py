"""A token issuer, with its JWKS on a local port."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm


class Issuer:
    """Signs tokens with RS256 or ES256, and serves its keys at `url`.

    fetches: the number of requests for its keys. down: while true, it answers them with 503.
    """

    def __init__(self, name: str, algorithm: str) -> None:
        self.name = f"https://{name}.example"
        self.kid = name
        self.fetches = 0
        self.down = False
        self._algorithm = algorithm
        self._rotations = 0
        self.rotate()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches += 1
                if issuer.down:
                    self.send_error(503)
                    return
                body = json.dumps({"keys": [issuer.jwk]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/jwks.json"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def rotate(self, algorithm: str | None = None, *, same_kid: bool = False) -> None:
        """Sign with a new key from now on; the old one is no longer published."""
        self._algorithm = algorithm or self._algorithm
        if not same_kid:
            self._rotations += 1
        if self._algorithm == "RS256":
            self._key: Any = rsa.generate_private_key(65537, 2048)
            public = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        else:
            self._key = ec.generate_private_key(ec.SECP256R1())
            public = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        self.jwk = {**public, "kid": f"{self.kid}-{self._rotations}", "use": "sig"}

    def token(self, *, kid: str | None = "", **claims: Any) -> str:
        """A good token, except for what `claims` replace. kid: another key's; None: no kid."""
        payload = {"iss": self.name, "sub": "me", "exp": int(time.time()) + 600, **claims}
        named = self.jwk["kid"] if kid == "" else kid
        headers = None if named is None else {"kid": named}
        return jwt.encode(payload, self._key, algorithm=self._algorithm, headers=headers)
