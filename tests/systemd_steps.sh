#!/usr/bin/env bash
# Runs config/systemd/energyws.service under a real systemd, on a machine that may have booted
# without one: as PID 1 of new namespaces, over a copy-on-write view of this machine's files.
#
#     tests/systemd_steps.sh
#
# Needs root, a mount of control groups of version 2, and as Debian packages systemd, iproute2,
# openssl and python3-venv (3.11 or later). It takes about a minute, and leaves nothing behind.
# It ends with status 0 when the unit, installed as its first lines say,
#   - is started once the service is ready, as a user of its own and under all restrictions,
#   - serves readings, with the secret as a systemd credential,
#   - sends live frames by io_uring, if this machine allows that at all,
#   - answers `energyws status` and `energyws reload` from a shell without the secret,
#   - reloads, and keeps running when the new configuration is refused,
#   - listens on a port below 1024 with the lines that the unit has for that,
#   - is restarted when the supervisor hangs, drains when it is stopped, and
#   - is not restarted when its configuration cannot be used.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
groups=$(findmnt --noheadings --output TARGET --types cgroup2 | head -1)
[[ -n $groups ]] || { echo "no control groups of version 2 are mounted" >&2; exit 1; }
group=$groups/energyws-systemd-steps
work=$(mktemp -d)
boot=

finish() {
    status=$?
    # Killing the first process ends everything in the namespaces.
    if [[ -n $boot ]]; then
        kill -9 "$boot" 2>/dev/null || true
        wait "$boot" 2>/dev/null || true
    fi
    while [[ -e $group ]] && ! find "$group" -depth -type d -exec rmdir {} + 2>/dev/null; do
        sleep 0.1
    done
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT

mkdir "$work"/{source,out,view}
cp -r "$root"/{energyws,workers,config,docs,pyproject.toml,setup.cfg,setup.py,README.md,LICENSE} "$work/source"

cat >"$work/source/view.sh" <<VIEW
set -euo pipefail
mount --make-rprivate /
mount -t tmpfs tmpfs $work/view
cd $work/view
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
mkdir -p root/opt/source root/opt/out root/machine
mount --bind $work/source root/opt/source
mount --bind $work/out root/opt/out
mount -t proc proc root/proc
mount --rbind /dev root/dev
mount -t sysfs sysfs root/sys
mount -t cgroup2 cgroup2 root/sys/fs/cgroup
for each in run tmp; do mount -t tmpfs -o mode=1777 tmpfs root/\$each; done
# Start no other unit of this machine.
rm -rf root/{usr/lib,etc}/systemd/system/*.wants root/usr/lib/systemd/system-generators
cd root
pivot_root . machine
exec chroot . /bin/bash /opt/source/install.sh
VIEW

cat >"$work/source/install.sh" <<'INSTALL'
set -euo pipefail
umount -l /machine
# Shared, as on a booted machine, so that systemd's mounts for a service reach it.
mount --make-rshared /
cd /opt/source
# The system's Python: the unit hides home directories from the service.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
python3 -m venv --clear /opt/energyws
/opt/energyws/bin/pip install --quiet --disable-pip-version-check .
mkdir -p /etc/energyws /etc/systemd/system/energyws.service.d
(umask 077; openssl rand -hex 32 | tr -d '\n' >/etc/energyws/jwt_secret)
install --mode=644 config/systemd/energyws.service /etc/systemd/system/
cat >/etc/systemd/system/energyws.service.d/steps.conf <<UNIT
[Service]
# The namespaces have no journal.
StandardOutput=null
StandardError=append:/opt/out/service.log
WatchdogSec=3
UNIT
cat >/etc/systemd/system/steps.service <<UNIT
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/bash /opt/source/steps.sh
StandardOutput=file:/opt/out/steps.log
StandardError=inherit
UNIT
exec unshare --net /bin/bash /opt/source/start.sh
INSTALL

cat >"$work/source/start.sh" <<'START'
set -euo pipefail
ip link set lo up
python=/opt/energyws/bin/python
# A broker and meters run beside systemd.
(sleep infinity | $python -m energyws.testing.embedded_broker --topic readings:3 >/run/broker 2>/dev/null) &
until grep -q bootstrap /run/broker 2>/dev/null; do sleep 0.1; done
brokers=$(grep -o '127\.0\.0\.1:[0-9]*' /run/broker)
$python -m energyws.demo.simulator --brokers "$brokers" --topic readings --meters 3 2>/dev/null &
cat >/etc/energyws/config.yaml <<YAML
kafka: {brokers: "$brokers", topic: readings, options: {fetch.wait.max.ms: 5}}
server: {drain_seconds: 2}
YAML
export container=other
exec /lib/systemd/systemd --unit=steps.service --log-target=console --log-level=warning \
    --show-status=no
START

cat >"$work/source/steps.sh" <<'STEPS'
set -euo pipefail
trap 'echo "status $?" >/opt/out/done' EXIT
say() { printf '\n== %s\n' "$*"; }
is() {
    local found
    found=$(systemctl show energyws --property "$1" --value)
    [[ $found == "$2" ]] || { echo "$1 is $found, not $2"; return 1; }
}
until_is() {
    for _ in {1..150}; do
        is "$@" >/dev/null && return
        sleep 0.1
    done
    is "$@"
}
until_logged() {
    for _ in {1..150}; do
        grep -q "$1" /opt/out/service.log && return
        sleep 0.1
    done
    echo "not in the log: $1"
    return 1
}
energyws() {
    ENERGYWS_AUTH__JWT_SECRET_FILE=/etc/energyws/jwt_secret /opt/energyws/bin/energyws "$@"
}
config=/etc/energyws/config.yaml

say "start"
systemctl start energyws
is SubState running
is StatusText ready
pid=$(systemctl show energyws --property MainPID --value)
grep -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' "/proc/$pid/status"
grep -E '^CapEff:[[:space:]]*0+$' "/proc/$pid/status" >/dev/null
for each in $(cat "/sys/fs/cgroup/system.slice/energyws.service/cgroup.procs"); do
    grep -E '^Max core file size +1 +1 ' "/proc/$each/limits" >/dev/null
    if tr '\0' '\n' <"/proc/$each/environ" | grep -q '^ENERGYWS_'; then
        # systemd gives them to the supervisor.
        [[ $each == "$pid" ]]
    fi
done

say "readings"
WS_TOKEN=$(energyws token --config $config --sub steps) \
    energyws tail ws://127.0.0.1:8080/ws/energy --count 3 | cut -c1-80

say "a shell of another user, without the secret"
first=$(setpriv --reuid=65534 --regid=65534 --clear-groups \
    /opt/energyws/bin/energyws status --config $config | head -1)
echo "$first"
[[ $first == *': ready' ]]
/opt/energyws/bin/energyws reload | grep '^reloaded; changed: nothing$'
until_logged ' reloaded .*POST /reload'

say "io_uring"
if /opt/energyws/bin/python -c \
    'from workers.websocket.io_uring.kernel import open_send_queue; open_send_queue()'; then
    energyws status --config $config | grep '^io_uring in use$'
fi

say "reload"
systemctl reload energyws
until_logged ' reloaded .*SIGHUP'
sed -i 's/drain_seconds: 2/drain_seconds: soon/' $config
systemctl reload energyws
until_logged 'reload refused'
sed -i 's/drain_seconds: soon/drain_seconds: 2/' $config
until_is SubState running
is MainPID "$pid"

say "a supervisor that hangs"
kill -STOP "$pid"
until_is NRestarts 1
until_is StatusText ready

say "a port below 1024"
sed -n 's/^#  *\(AmbientCap\|CapabilityB\|PrivateU\)/\1/p' /opt/source/config/systemd/energyws.service \
    >/opt/out/low-port
grep -c = /opt/out/low-port | grep -qx 3
(echo "[Service]"; cat /opt/out/low-port; echo "Environment=ENERGYWS_SERVER__PORT=443") \
    >/etc/systemd/system/energyws.service.d/low-port.conf
systemctl daemon-reload
systemctl restart energyws
until_is StatusText ready
until_logged ' listening .*port=443'
rm /etc/systemd/system/energyws.service.d/low-port.conf
systemctl daemon-reload
systemctl restart energyws
until_is StatusText ready

say "stop"
systemctl stop energyws
is Result success
is ExecMainStatus 0

say "a configuration that cannot be used"
echo 'kafka: {}' >$config
systemctl start energyws && exit 1
is ExecMainStatus 2
sleep 3
is ActiveState failed
is NRestarts 0
say "all is well"
STEPS

mkdir -p "$group"
(
    echo $BASHPID >"$group/cgroup.procs"
    exec unshare --pid --mount --cgroup --uts --ipc --fork --kill-child \
        /bin/bash "$work/source/view.sh"
) >"$work/out/boot.log" 2>&1 &
boot=$!

while kill -0 "$boot" 2>/dev/null && [[ ! -e $work/out/done ]] && ((SECONDS < 150)); do
    sleep 0.2
done
cat "$work/out/steps.log" 2>/dev/null || true
if ! grep -qx 'status 0' "$work/out/done" 2>/dev/null; then
    tail --lines=30 "$work"/out/{boot,service}.log >&2 || true
    exit 1
fi
