#!/usr/bin/env bash
# Install loadlock from the bundle that this file lies in; nothing is fetched.
#   ./install.sh [TARGET]         default: /opt/loadlock, an environment of its own
# PYTHON names the Python to use (default: python of the version that the bundle was made for).
set -euo pipefail

bundle=$(cd "$(dirname "$0")" && pwd)
target=${1:-/opt/loadlock}
version=$(cat "$bundle/python-version")
python=${PYTHON:-python$version}

(cd "$bundle" && sha256sum --check --strict --quiet SHA256SUMS) || {
    echo "install: the bundle is not what was made; copy it again" >&2
    exit 6
}
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || found=none
if [ "$found" != "$version" ]; then
    echo "install: this bundle is for Python $version, and $python is $found; name one: PYTHON=/path/to/python$version $0 $target" >&2
    exit 2
fi
if [ -e "$target" ]; then
    echo "install: $target is there already; name a new folder, or move the old installation away" >&2
    exit 2
fi

# The bundle alone: no index, and no configuration of pip that names one.
unset PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_REQUIRE_VIRTUALENV PYTHONPATH PYTHONHOME
export PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"$python" -m venv "$target"
"$target/bin/python" -m pip --quiet install --no-cache-dir --no-index --require-hashes --find-links "$bundle/wheels" -r "$bundle/requirements.txt"
"$target/bin/loadlock" doctor --warm  # compiles the kernels now, for the user who runs it (LOADLOCK_CACHE: for all)
printf 'next: %s/bin/loadlock --help\n' "$target"
