#!/bin/bash
# Makes a root filesystem with the demo service in it, for container tests:
#
#     rootfs.sh DIR MODEL
#
# Debian's python3 comes from Debian's archive (debootstrap), the service's packages from PyPI;
# no image registry is asked. Needs root. Inside, the service starts with
#
#     python3 /opt/inference/service.py --model /opt/inference/model.onnx --port PORT
#
# and PYTHONPATH=/opt/inference/packages. DIR must not exist; it appears when it is complete.
set -euo pipefail

suite=bookworm
here=$(cd "$(dirname "$0")" && pwd)

if [ $# -ne 2 ]; then
    echo "usage: rootfs.sh DIR MODEL" >&2
    exit 2
fi
target=$1
model=$2
if [ -e "$target" ]; then
    echo "rootfs.sh: \`$target\` exists already; remove it or name another folder" >&2
    exit 2
fi
if [ ! -f "$model" ]; then
    echo "rootfs.sh: no model at \`$model\`; make one with make_model.py" >&2
    exit 2
fi

work=$target.partial.$$
trap 'rm -rf --one-file-system "$work"' EXIT

# A Debian system's own mirror serves the other releases too; without one debootstrap knows where to ask.
mirror=$(
    . /etc/os-release
    if [ "$ID" = debian ]; then
        apt-get indextargets --format '$(RELEASE) $(REPO_URI)' | awk -v own="$VERSION_CODENAME" '$1 == own { print $2; exit }'
    fi
)
debootstrap --variant=minbase --include=python3,libstdc++6 "$suite" "$work" ${mirror:+"$mirror"} >"$target.log" 2>&1 || {
    tail -n 20 "$target.log" >&2
    echo "rootfs.sh: debootstrap failed; its log is \`$target.log\`" >&2
    exit 2
}
version=$(chroot "$work" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
opt=$work/opt/inference
mkdir -p "$opt"
"${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --no-compile --root-user-action ignore \
    --only-binary=:all: --python-version "$version" --target "$opt/packages" \
    --requirement "$here/requirements.txt"
install -m 0644 "$here/service.py" "$here/client.py" "$here/corpus.txt" "$opt/"
install -m 0644 "$model" "$opt/model.onnx"
# Compiled beforehand: the service then writes nothing when its root is read-only or not its own.
chroot "$work" python3 -m compileall -q /opt/inference/packages

rm -rf "$work"/var/cache/apt/* "$work"/var/lib/apt/lists/* "$work"/usr/share/doc/* "$work"/usr/share/locale/*
chmod 0755 "$work"
rm -f "$target.log"
mv "$work" "$target"
