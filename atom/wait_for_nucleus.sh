#!/bin/sh
# wait_for_nucleus.sh [COMMAND [ARGUMENT…]]: waits until Atom's redis, the nucleus, answers, then becomes COMMAND.
#
# By TCP where ATOM_NUCLEUS_HOST is set (ATOM_NUCLEUS_PORT), else by the socket ATOM_NUCLEUS_SOCKET. Where elements write
# metrics (ATOM_USE_METRICS=TRUE) the same for their redis, by ATOM_METRICS_*. It waits for ever, as containers may start
# in any order, or ATOM_NUCLEUS_TIMEOUT seconds (not 0), and then ends with exit code 1. A password: REDISCLI_AUTH.
set -eu

# As the first process of a container it would else ignore what `docker stop` sends.
trap 'exit 143' TERM
trap 'exit 130' INT

timeout="${ATOM_NUCLEUS_TIMEOUT:-0}"
case "$timeout" in
    '' | *[!0-9]*)
        echo "wait_for_nucleus: ATOM_NUCLEUS_TIMEOUT is '$timeout'; it is a number of seconds, 0 to wait for ever" >&2
        exit 2
        ;;
esac

# wait_for NAME HOST PORT SOCKET VARIABLES
wait_for() {
    name="$1" variables="$5"
    if [ -n "$2" ]; then
        place="$2 port $3"
        set -- -h "$2" -p "$3"
    else
        place="socket $4"
        set -- -s "$4"
    fi
    begin="$(date +%s)" said=''
    while :; do
        # A host that swallows what is sent to it would hold redis-cli for minutes.
        answer="$(timeout 5 "${REDIS_CLI_BIN:-redis-cli}" "$@" ping 2>&1 < /dev/null)" || answer="${answer:-no answer}"
        [ "$answer" = PONG ] && break
        waited=$(($(date +%s) - begin))
        if [ "$timeout" -gt 0 ] && [ "$waited" -ge "$timeout" ]; then
            echo "wait_for_nucleus: no redis at $place after $waited s: $answer" >&2
            echo "wait_for_nucleus: start the $name there, or say where it is: $variables" >&2
            exit 1
        fi
        # At first and every ten seconds, so that the log says why nothing happens.
        if [ -z "$said" ] || [ "$waited" -ge $((said + 10)) ]; then
            echo "wait_for_nucleus: waiting for the $name at $place: $answer" >&2
            said="$waited"
        fi
        sleep 1
    done
}

wait_for nucleus "${ATOM_NUCLEUS_HOST:-}" "${ATOM_NUCLEUS_PORT:-6379}" "${ATOM_NUCLEUS_SOCKET:-/shared/redis.sock}" \
    'ATOM_NUCLEUS_HOST and ATOM_NUCLEUS_PORT, or ATOM_NUCLEUS_SOCKET'
if [ "${ATOM_USE_METRICS:-FALSE}" = TRUE ]; then
    wait_for 'redis of the metrics' "${ATOM_METRICS_HOST:-}" "${ATOM_METRICS_PORT:-6380}" \
        "${ATOM_METRICS_SOCKET:-/shared/metrics.sock}" 'ATOM_METRICS_HOST and ATOM_METRICS_PORT, or ATOM_METRICS_SOCKET'
fi

# An element cannot start where its log has no folder: a volume may be mounted above it, or the folder left behind.
[ -z "${ATOM_LOG_DIR:-}" ] || mkdir -p "$ATOM_LOG_DIR" 2> /dev/null || true

[ $# -gt 0 ] || exit 0
exec "$@"
