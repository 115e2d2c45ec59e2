#!/bin/sh
# With two configurations in one folder, import-linter lets an import pass that a contract forbids.
#
# Versions:  import-linter 2.16, grimp 3.20 (26 MB installed)
# Expected:  The cache is documented to make later runs faster, and to be unsafe only for two processes at once: a file
#            that has changed is read again.
# Observed:  The cache has the imports once for each setting of `include_external_packages` and
#            `exclude_type_checking_imports`, but the times of the files only once. A run with other settings notes the
#            new time of a changed file; the next run sees no change and takes the imports that it had before. A broken
#            contract is kept, with exit status 0, or a mended one is broken, until that file changes again. One
#            configuration in which such a setting is turned on and off does the same.
# Instead:   `lint-imports --no-cache`, or a `--cache-dir` for each configuration.
#
# Seen:
#   low.py imports high.py, which the layers forbid
#   another configuration:  status 0
#   layers, by the cache:   status 0
#   layers, --no-cache:     status 1
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet import-linter==2.16 grimp==3.20
mkdir "$work/shop"
cd "$work"
touch shop/__init__.py shop/high.py shop/low.py
cat > layers.ini <<'INI'
[importlinter]
root_package = shop

[importlinter:contract:layers]
name = high above low
type = layers
layers =
    shop.high
    shop.low
INI
cat > external.ini <<'INI'
[importlinter]
root_package = shop
include_external_packages = True

[importlinter:contract:external]
name = no torch
type = forbidden
source_modules = shop
forbidden_modules = torch
INI

status() {
    "$work/venv/bin/lint-imports" --config "$@" > out.txt && echo 0 || echo $?
}

[ "$(status layers.ini)$(status external.ini)" = 00 ] || { cat out.txt; exit 1; }
echo "import shop.high" > shop/low.py
other=$(status external.ini)
cached=$(status layers.ini)
anew=$(status layers.ini --no-cache)
echo "low.py imports high.py, which the layers forbid"
echo "another configuration:  status $other"
echo "layers, by the cache:   status $cached"
echo "layers, --no-cache:     status $anew"
[ "$anew" = 1 ] || { echo "changed: the contract no longer refuses the import"; exit 1; }
[ "$cached" = 0 ] || { echo "changed: the import is seen through the cache"; exit 1; }
