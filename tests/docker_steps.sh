#!/usr/bin/env bash
# Builds the Dockerfile and runs the image, without a Docker engine and without an image registry:
# Debian's own Python, from debootstrap, stands in for the base image.
#
#     tests/docker_steps.sh
#
# Needs root and, as Debian packages, debootstrap, podman, runc and ca-certificates. It takes about
# three minutes, and removes all that it made except podman's own empty control groups. It ends with
# status 0 when, as a user that is not root, without capabilities and on a read-only file system,
#   - the image's demo passes readings from its broker to its client, and
#   - the image's own command becomes healthy by the image's own HEALTHCHECK, on a port that is not
#     the default, and ends with status 0 within 20 seconds of the SIGTERM that `stop` sends.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
image=localhost/energyws:check
base=localhost/python:check

# cgroupfs and a file for events: there may be no systemd. Without these limits podman requests the
# highest ones, which need CAP_SYS_RESOURCE.
engine() {
    podman --root "$work/images" --runroot "$work/run" --tmpdir "$work/tmp" --storage-driver vfs \
        --cgroup-manager cgroupfs --events-backend file --runtime runc "$@"
}
run() {
    engine run --ulimit nofile=4096:4096 --ulimit nproc=1024:1024 --network host \
        --read-only --cap-drop all "$@"
}
finish() {
    status=$?
    if ((status)); then
        for name in demo broker service; do
            engine logs "$name" 2>/dev/null | sed "s/^/$name: /" >&2 || true
        done
    fi
    engine rm --all --force --time 0 >/dev/null || true
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
say() { printf '\n== %s\n' "$*"; }

# until_true SECONDS WHAT COMMAND ...
until_true() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS >= deadline)); then
            echo "gave up waiting: $what" >&2
            return 1
        fi
        sleep 0.2
    done
}

say "the base"
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm \
    "$work/base" >"$work/debootstrap.log" || { tail -20 "$work/debootstrap.log" >&2; exit 1; }
# pip in the image trusts the same authorities as this machine, which may be behind a proxy.
cp /etc/ssl/certs/ca-certificates.crt "$work/base/etc/ssl/certs/ca-certificates.crt"
tar --directory "$work/base" --create . | engine import --quiet - "$base"
rm -rf "$work/base"

say "the build"
engine build --isolation chroot --format docker --build-arg "BASE=$base" --tag "$image" .
size() { engine image inspect --format '{{.Size}}' "$1"; }
echo "the image adds $((($(size "$image") - $(size "$base")) / 1000000)) MB to its base"

say "the demo"
run --name demo --no-healthcheck "$image" demo --port 0 --count 3

say "the service"
# The broker ends at the end of its input: --interactive keeps that open.
run --detach --interactive --name broker --no-healthcheck --entrypoint python3 "$image" \
    -m energyws.testing.embedded_broker --topic readings:3
address() { engine logs broker 2>&1 | grep -o '127\.0\.0\.1:[0-9]*'; }
until_true 20 "the broker prints its address" address
mkdir "$work/config"
cat >"$work/config/config.yaml" <<YAML
kafka: {brokers: "$(address)", topic: readings}
server: {host: 127.0.0.1, drain_seconds: 1}
auth: {jwt_secret: "\$(JWT_SECRET)"}
admin: {port: 0}
YAML
chmod -R a+rX "$work/config"
port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
# podman needs systemd for regular health checks, and warns without it: this script runs them.
run --detach --name service --env ENERGYWS_SERVER__PORT="$port" \
    --env JWT_SECRET=0123456789abcdef0123456789abcdef \
    --volume "$work/config:/app/config:ro" "$image"
until_true 30 "the service is healthy" engine healthcheck run service
echo "healthy on port $port"
engine stop --time 20 service
status=$(engine wait service)
echo "stopped with status $status"
((status == 0))
