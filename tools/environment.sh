#!/bin/sh
# Makes .venv with this checkout and one of its extras installed: tools/environment.sh demo|dev|bench
#
# Looks for a Python >= 3.11 that can make virtual environments; Debian's needs the package python3-venv, which
# is installed here where we may (root and apt), and named where we may not. $PYTHON goes first where it is set.
set -eu

extra=$1
cd "$(dirname "$0")/.."

can_make_environments() {
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-} python3 /usr/bin/python3 python3.13 python3.12 python3.11; do
        if can_make_environments "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

if ! [ -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    if ! python=$(find_python) && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "Installing python3-venv, which Debian's Python needs to make environments"
        apt-get update -qq </dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3-venv </dev/null >/dev/null
    fi
    if ! python=$(find_python); then
        echo "No Python 3.11 or newer that can make a virtual environment. On Debian: apt install python3-venv" >&2
        exit 1
    fi
    echo "Making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv
fi

echo "Installing gglib-nb[$extra] into .venv"
.venv/bin/python -m pip install -qq --disable-pip-version-check --editable ".[$extra]" </dev/null
touch ".venv/ready-$extra"
# What development needs includes what the demonstration needs.
[ "$extra" != dev ] || touch .venv/ready-demo
