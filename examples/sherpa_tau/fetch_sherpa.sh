#!/bin/sh
# Gets the event generator Sherpa 3 (GPL-3; https://sherpa-team.gitlab.io) in binary form and unpacks it.
#
#   fetch_sherpa.sh FOLDER [PYTHON]
#
# FOLDER: where it goes, about 120 MB. PYTHON: an interpreter with pip (python3); pip downloads the wheel of the package
# sherpa-mc. Wheels exist for Python 3.12 and 3.13, but nothing of Python is used: what is in them is native, for x86-64
# and glibc 2.34 or newer, and any pip can fetch one. Does nothing if FOLDER holds this version already.

set -eu

version=3.0.3b2
folder=${1:?"usage: fetch_sherpa.sh FOLDER [PYTHON]"}
python=${2:-python3}

say() { echo "sherpa: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

if [ -f "$folder/.version-$version" ]; then exit 0; fi

machine=$(uname -s)-$(uname -m)
[ "$machine" = Linux-x86_64 ] || fail "there is no binary Sherpa for $machine, only for Linux-x86_64"
"$python" -m pip --version >/dev/null 2>&1 || fail "$python has no pip: name one that has, fetch_sherpa.sh FOLDER PYTHON"

mkdir -p "$folder"
scratch=$(mktemp -d "$folder/.download-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' INT TERM

say "downloading sherpa-mc $version (48 MB) with pip"
"$python" -m pip download --quiet --no-deps --pre --only-binary=:all: --python-version 3.12 \
    --platform manylinux_2_34_x86_64 --dest "$scratch" "sherpa-mc==$version" </dev/null ||
    fail "pip cannot download sherpa-mc $version: see above; the network or the package index may be out of reach"

say "unpacking it in $folder"
"$python" -m zipfile --extract "$scratch"/sherpa_mc-*.whl "$scratch/unpacked"
rm -f "$folder"/.version-* # of another version, which goes now
for part in bin lib64 include share; do
    rm -rf "${folder:?}/$part"
    mv "$scratch/unpacked/$part" "$folder/$part"
done
mv "$scratch"/unpacked/sherpa_mc-*.dist-info/licenses "$scratch/licenses" 2>/dev/null && rm -rf "$folder/licenses" &&
    mv "$scratch/licenses" "$folder/licenses"
chmod +x "$folder/bin/Sherpa"

found=$("$folder/bin/Sherpa" --version 2>&1) || fail "$folder/bin/Sherpa does not run on this machine: $found"
touch "$folder/.version-$version"
say "$(echo "$found" | head -n 1): ready"
