#!/bin/sh
# Make sure that a Docker engine answers, for the tests marked "docker".
#
#   .ci/docker-engine.sh start    install and start one unless one answers
#   .ci/docker-engine.sh stop     stop the one that `start` started, if any
#
# Idempotent. Needs root on Debian or Ubuntu only when there is no engine yet.
set -eu

state=${LAKEGAUGE_CI_STATE:-/var/tmp/lakegauge-ci-docker}
pid_file=$state/dockerd.pid
log=$state/dockerd.log
socket=/var/run/docker.sock
start_timeout_s=30

answers() {
    docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

running() {
    [ -f "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null
}

install_engine() {
    command -v dockerd >/dev/null && command -v containerd >/dev/null && return
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends docker.io iptables >"$state/apt.log" 2>&1 ||
        { tail -20 "$state/apt.log" >&2; return 1; }
}

# Try one storage driver; overlay2 is fast, vfs works even inside a container.
try_start() {
    rm -f "$state/docker.pid"
    setsid dockerd --storage-driver="$1" --data-root="$state/data-$1" \
        --exec-root="$state/exec" --pidfile="$state/docker.pid" \
        --host="unix://$socket" >"$log" 2>&1 </dev/null &
    echo $! >"$pid_file"
    waited=0
    while [ "$waited" -lt "$start_timeout_s" ] && running; do
        answers && return 0
        sleep 1
        waited=$((waited + 1))
    done
    stop
    return 1
}

start() {
    if answers; then
        echo "docker: an engine answers"
        return
    fi
    mkdir -p "$state"
    install_engine
    # The package may have started a service of its own.
    answers && { echo "docker: the installed service answers"; return; }
    for driver in overlay2 vfs; do
        if try_start "$driver"; then
            echo "docker: started dockerd with $driver (pid $(cat "$pid_file"))"
            return
        fi
        echo "docker: $driver did not work: $(tail -1 "$log")" >&2
    done
    echo "docker: no engine could be started; see $log" >&2
    return 1
}

stop() {
    if running; then
        pid=$(cat "$pid_file")
        kill "$pid"
        waited=0
        while kill -0 "$pid" 2>/dev/null && [ "$waited" -lt 20 ]; do
            sleep 0.5
            waited=$((waited + 1))
        done
        kill -9 "$pid" 2>/dev/null || true
    fi
    rm -f "$pid_file"
}

case ${1:-} in
    start) start ;;
    stop) stop ;;
    *) echo "usage: $0 start|stop" >&2; exit 2 ;;
esac
