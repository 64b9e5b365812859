# Runs a test in an image that may have no shell, under strace or without it, and always ends with exit code 0.
#
#   run trace SECONDS NONCE COMMAND…     under strace
#   run plain SECONDS NONCE COMMAND…     without it
#   run test COMMAND…                    what strace starts
#
# It runs in this folder's own shell, with its own loader and libraries: nothing of the image is needed. The results are
# in /.chainbuild-trace: `calls` is what strace wrote, `messages` what it complained of, `status` the exit code of the
# test, or `late`, or `skipped`.
here=/.chainbuild-tracer
results=/.chainbuild-trace
mode=$1
shift

if [ "$mode" = test ]; then
    exec 2>&9 9>&-
    echo "$PPID" >"$results/tracer"
    "$@"
    code=$?
    [ -e "$results/status" ] || echo "$code" >"$results/status"
    # strace would wait for programs that the test left running; the container ends them, as it does without strace.
    kill -TERM "$PPID"
    exit 0
fi

seconds=$1
shift 2

# A test that does not pass in the production image says nothing of it.
if [ -e /.chainbuild-produced/status ]; then
    read -r code </.chainbuild-produced/status
    if [ "$code" != 0 ]; then
        echo skipped >"$results/status"
        exit 0
    fi
fi

(
    "$here/loader" --library-path "$here/lib" "$here/sleep" "$seconds"
    [ -e "$results/status" ] || echo late >"$results/status"
    if [ "$mode" = trace ]; then
        read -r tracer <"$results/tracer"
        kill -TERM "$tracer"
    else
        kill -KILL -1
    fi
) &

if [ "$mode" = trace ]; then
    # So that a test can leave out what holds in the production image alone.
    CHAINBUILD_TRACED=1
    export CHAINBUILD_TRACED
    read -r calls <"$here/calls"
    exec 9>&2 2>"$results/messages"
    "$here/loader" --library-path "$here/lib" "$here/strace" -I2 -f -y -qq --seccomp-bpf -e "trace=$calls" -e signal=none \
        -o "$results/calls" "$here/loader" --library-path "$here/lib" "$here/sh" "$here/run" test "$@"
else
    "$@"
    code=$?
fi
[ -e "$results/status" ] || echo "${code:-none}" >"$results/status"
exit 0
