# Sourced by the scripts: where the checkout is, step headers with timings, and one way to fail.
# shellcheck shell=bash
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LOGS=${PENSTOCK_LOGS:-$ROOT/build/logs}
export ROOT LOGS
STEPS_PASSED=0

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

elapsed() { printf '%d:%02d' $((SECONDS / 60)) $((SECONDS % 60)); }

# step NAME COMMAND...: runs it with its output in a log; on failure shows the end of the log and stops.
# With VERBOSE=1 the output is shown while it runs as well.
step() {
  local name=$1 log started=$SECONDS rc=0
  shift
  mkdir -p "$LOGS"
  log="$LOGS/${name//[^A-Za-z0-9_.-]/-}.log"
  printf '[%s] %-34s ' "$(elapsed)" "$name"
  if [ "${VERBOSE:-0}" = 1 ]; then
    printf '\n'
    "$@" </dev/null 2>&1 | tee "$log" || rc=${PIPESTATUS[0]}
  else
    "$@" >"$log" 2>&1 </dev/null || rc=$?
  fi
  if [ "$rc" -ne 0 ]; then
    printf 'FAILED (exit %d, %d s)\n' "$rc" $((SECONDS - started))
    printf -- '---- last lines of %s ----\n' "$log"
    tail -n "${LOG_TAIL:-60}" "$log"
    die "step '$name' failed; the whole log is $log"
  fi
  STEPS_PASSED=$((STEPS_PASSED + 1))
  printf 'ok (%d s)\n' $((SECONDS - started))
}

# How many compilers at once: one a core, but never more than memory for 1.5 GB each allows, since an
# out-of-memory kill looks like a broken compiler.
jobs() {
  local cores memory
  cores=$(nproc)
  memory=$(awk '/MemAvailable/ {print int($2 / 1500000)}' /proc/meminfo 2>/dev/null || echo 1)
  [ "${memory:-0}" -ge 1 ] || memory=1
  [ "$memory" -lt "$cores" ] && cores=$memory
  printf '%s' "${JOBS:-$cores}"
}

# Compilations of another checkout of the same files count as the same.
# The sloppiness is what ccache asks for before it keeps anything that was compiled with a precompiled header: of it,
# only a __TIME__ in such a header could be missed.
export CCACHE_BASEDIR=$ROOT CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros
