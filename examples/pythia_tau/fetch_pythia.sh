#!/bin/sh
# Gets the source of the event generator Pythia 8 (GPL-2 or later; https://pythia.org) and unpacks it.
#
#   fetch_pythia.sh FOLDER [PYTHON]
#
# FOLDER: where it goes: src/, include/ and share/, about 25 MB. PYTHON: an interpreter with pip (python3); pip downloads
# the source archive of the package pythia8mc. Its wheels would not do: Pythia is hidden in them in a module of Python's,
# without headers. Nothing of Python is used here. Does nothing if FOLDER holds this version already.

set -eu

version=8.317.2
folder=${1:?"usage: fetch_pythia.sh FOLDER [PYTHON]"}
python=${2:-python3}

say() { echo "pythia: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

if [ -f "$folder/.version-$version" ]; then exit 0; fi

"$python" -m pip --version >/dev/null 2>&1 || fail "$python has no pip: name one that has, fetch_pythia.sh FOLDER PYTHON"

mkdir -p "$folder"
scratch=$(mktemp -d "$folder/.download-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' INT TERM

say "downloading the source of pythia8mc $version (22 MB) with pip"
"$python" -m pip download --quiet --no-deps --no-binary=pythia8mc --dest "$scratch" "pythia8mc==$version" </dev/null ||
    fail "pip cannot download pythia8mc $version: see above; the network or the package index may be out of reach"

say "unpacking it in $folder"
"$python" -m tarfile --extract "$scratch"/pythia8mc-*.tar.gz "$scratch" >/dev/null
source=$(echo "$scratch/pythia8mc-$version"/pythia8*/src)
source=${source%/src}
[ -f "$source/src/TauDecays.cc" ] && [ -f "$source/plugins/python/include/Pythia8/Pythia.h" ] ||
    fail "the archive of pythia8mc $version has another layout than was expected: no src/ or no headers in it"
rm -f "$folder"/.version-* # of another version, which goes now
for part in src include share; do rm -rf "${folder:?}/$part"; done
mkdir -p "$folder/include" "$folder/share/Pythia8"
mv "$source/plugins/python/include/Pythia8" "$folder/include/Pythia8"
mv "$source/share/Pythia8/xmldoc" "$source/share/Pythia8/tunes" "$folder/share/Pythia8"
mv "$source/share/Pythia8/htmldoc/COPYING" "$folder/COPYING"
mv "$source/src" "$folder/src"
touch "$folder/.version-$version"
say "$version: ready"
