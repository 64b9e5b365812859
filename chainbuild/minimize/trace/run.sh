# Run a test in an image that may have no shell, with or without strace. Always exits with code 0.
#
#   run trace SECONDS NONCE COMMAND…     with strace
#   run plain SECONDS NONCE COMMAND…     without strace
#   run test COMMAND…                    called by strace
#
# It runs in this folder's own shell, with its own loader and libraries, so it needs nothing of the image. The results are
# in /.chainbuild-trace: `calls` is the output of strace, `messages` are its errors, `status` is the exit code of the test,
# or `late`, or `skipped`.
tools=/.chainbuild-tracer
results=/.chainbuild-trace
mode=$1
shift

if [ "$mode" = test ]; then
    exec 2>&9 9>&-
    echo "$PPID" >"$results/tracer"
    "$@"
    code=$?
    [ -e "$results/status" ] || echo "$code" >"$results/status"
    # strace would wait for programs that the test left running; the container ends them, as it would without strace.
    kill -TERM "$PPID"
    exit 0
fi

seconds=$1
shift 2

# A test that does not pass in the production image proves nothing about it.
if [ -e /.chainbuild-produced/status ]; then
    read -r code </.chainbuild-produced/status
    if [ "$code" != 0 ]; then
        echo skipped >"$results/status"
        exit 0
    fi
fi

(
    "$tools/loader" --library-path "$tools/lib" "$tools/sleep" "$seconds"
    [ -e "$results/status" ] || echo late >"$results/status"
    if [ "$mode" = trace ]; then
        read -r tracer <"$results/tracer"
        kill -TERM "$tracer"
    else
        kill -KILL -1
    fi
) &

if [ "$mode" = trace ]; then
    # Lets a test skip checks that only apply to the production image.
    CHAINBUILD_TRACED=1
    export CHAINBUILD_TRACED
    read -r calls <"$tools/calls"
    exec 9>&2 2>"$results/messages"
    "$tools/loader" --library-path "$tools/lib" "$tools/strace" -I2 -f -y -qq --seccomp-bpf -e "trace=$calls" -e signal=none \
        -o "$results/calls" "$tools/loader" --library-path "$tools/lib" "$tools/sh" "$tools/run" test "$@"
else
    "$@"
    code=$?
fi
[ -e "$results/status" ] || echo "${code:-none}" >"$results/status"
exit 0
