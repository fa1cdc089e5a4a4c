#!/bin/sh
# Starts and stops Ray on one host of a cluster that `ray up` manages (ray-up-local.yaml calls it there).
#
#   ray-node.sh head REGION   ray-node.sh worker REGION   ray-node.sh stop
#
# Never `ray stop`: that kills every Ray on the machine, whoever it belongs to. What is started here is ended by its own
# process id: `ray start --block` takes its children with it.
set -eu

home="${FEDBUS_HOME:-$HOME/fedbus}"
run="$home/run"
pid_file="$run/ray.pid"
PATH="$home/venv/bin:$PATH"
port="${RAY_PORT:-6379}"
READY_TRIES=60
STOP_TRIES=60

# Joining processes never turn authentication on by themselves: it has to be said everywhere.
export RAY_AUTH_MODE="${RAY_AUTH_MODE:-token}"
export RAY_USAGE_STATS_ENABLED=0

running() { # whether the process of the pid file is there and is a Ray
    [ -f "$pid_file" ] && tr '\0' ' ' 2>/dev/null <"/proc/$(cat "$pid_file")/cmdline" | grep -q "ray start"
}

stop() {
    if running; then
        pid=$(cat "$pid_file")
        kill "$pid"
        tries=0
        while kill -0 "$pid" 2>/dev/null; do
            tries=$((tries + 1))
            [ $tries -lt $STOP_TRIES ] || kill -9 "$pid" # its reaper ends the children then
            sleep 0.5
        done
    fi
    rm -f "$pid_file"
}

launch() { # in a session of its own, so that it outlives the connection that started it
    mkdir -p "$run"
    setsid nohup ray start --block "$@" >"$run/ray.log" 2>&1 </dev/null &
    echo $! >"$pid_file"
}

ready() {
    tries=0
    until ray health-check --address "$1" >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ $tries -ge $READY_TRIES ] || ! running; then
            echo "Ray did not start; the end of $run/ray.log:" >&2
            tail -n 20 "$run/ray.log" >&2
            exit 1
        fi
        sleep 1
    done
}

case "${1:-}" in
head)
    # The proxy in front of the gateway is chosen when the head starts; set later, it silently is the slow one.
    export RAY_SERVE_ENABLE_HA_PROXY=1 RAY_SERVE_THROUGHPUT_OPTIMIZED=1
    # A dead node is noticed after 9 s instead of a minute; shorter periods kill healthy heads.
    export RAY_health_check_initial_delay_ms=1000 RAY_health_check_period_ms=1000
    export RAY_health_check_timeout_ms=2000 RAY_health_check_failure_threshold=3
    # With a local provider the second autoscaler stops short of the last node.
    export RAY_enable_autoscaler_v2=0
    region="$2"
    shift 2
    launch --head --port="$port" --labels="region=$region" --include-dashboard=false --disable-usage-stats "$@"
    ready "127.0.0.1:$port"
    ;;
worker)
    launch --address="$RAY_HEAD_IP:$port" --labels="region=$2"
    ;;
stop)
    stop
    ;;
*)
    echo "usage: $0 head REGION [option of ray start…] | worker REGION | stop" >&2
    exit 2
    ;;
esac
