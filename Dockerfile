# BASE may be any image whose python3 is at least 3.11 and has venv. A tag can be moved to another
# image at any time: for a build that can be repeated, `make pin-base` adds the digest.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml setup.cfg setup.py requirements.lock README.md LICENSE ./
COPY energyws energyws
COPY workers workers
# energyws/control/config and energyws/testing/conformance have links to them.
COPY config/config.example.yaml config/
COPY docs/contract/conformance.json docs/contract/
# Nothing is installed whose hash is not in the lock file, not even what builds the package. pip is of
# no use later, and would be one more thing to keep patched.
RUN python3 -m venv /opt/energyws \
 && /opt/energyws/bin/pip install --no-cache-dir --require-hashes --requirement requirements.lock \
 && /opt/energyws/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
 && /opt/energyws/bin/pip uninstall --yes pip setuptools

FROM ${BASE}
COPY --from=build /opt/energyws /opt/energyws
ENV PATH=/opt/energyws/bin:$PATH \
    CONFIG_PATH=/app/config/config.yaml
WORKDIR /app
# A number, so that Kubernetes can tell that it is not root (runAsNonRoot).
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# For a port set in the file, or TLS, give another with --health-cmd.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python3", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('ENERGYWS_SERVER__PORT') or 8080), timeout=3); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["energyws"]
CMD ["serve"]
