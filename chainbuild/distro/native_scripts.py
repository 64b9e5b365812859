"""Shell scripts that put native programs into a foreign root while mmdebstrap runs, and take them out again.

Their only variable parts are the constants that `native_programs` hands over.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import Template
from typing import Final

# Runs natively in the root. Replaces dash and perl, unless they are replaced already, and keeps what was there. dpkg may
# have unpacked the file since: then that one is kept instead. Scripts copy the time of a program (dash to /bin/sh), so it
# stays the same.
_REPLACE: Final = Template(
    """\
#!$folder/x/dash
for native in $folder/replace/*; do
    name=$${native##*/}
    file=/usr/bin/$$name
    [ -e "$$file" ] || file=/bin/$$name
    if [ -L "$$file" ] || ! [ -f "$$file" ]; then continue; fi
    modules=
    if [ "$$name" = perl ]; then
        for place in /usr/lib/*/perl /usr/lib/*/perl5; do
            [ -e "$$place" ] && modules=yes
        done
    fi
    if [ "$${1-}" = leave ] || [ "$$modules" ]; then
        if [ "$$file" -ef "$$native" ]; then $folder/x/mv -f "$folder/kept/$$name" "$$file" || exit 1; fi
    elif ! [ "$$file" -ef "$$native" ]; then
        $folder/x/ln -f "$$file" "$folder/kept/$$name" &&
            $folder/x/touch --reference="$$file" "$$native" &&
            $folder/x/ln -f "$$native" "$$file.chainbuild" &&
            $folder/x/mv -f "$$file.chainbuild" "$$file" || exit 1
    fi
done
exit 0
"""
)
# dpkg-deb runs twice for each package that dpkg unpacks, so what dpkg just unpacked is soon replaced again.
_WRAPPER: Final = Template(
    """\
#!$folder/x/dash
$folder/replaced || exit 2
if [ -x $folder/x/$name ]; then exec $folder/x/$name "$$@"; fi
exec /usr/bin/$name "$$@"
"""
)
# Runs on the machine as a hook; $1 is the root and $2 its architecture. Does nothing if the programs cannot be used.
_ENTER: Final = Template(
    """\
set -eu
umask 022
tools=$${0%/*} root=$$1 inside=$$1$folder
[ -e "$$tools/ready" ] || exit 0
libraries=usr/lib/$$(cat "$$tools/triplet")
if [ -e "$$root/$$libraries" ] || [ -L "$$root/$$libraries" ] || [ -e "$$root/$${libraries#usr/}" ]; then exit 0; fi
cp -R --preserve=mode,links "$$tools/root" "$$inside"
mkdir -p "$$inside/replace" "$$inside/kept"
ln -s ../..$folder/lib "$$root/$$libraries"
while read -r package version; do
    for archive in "$$root/var/cache/apt/archives/$${package}_"*.deb; do
        name=$${archive##*/}
        name=$${name#*_}
        name=$${name%_*}
        rebuild=$${name##*+b}
        case $$rebuild in "$$name" | "" | *[!0-9]*) ;; *) name=$${name%"+b$$rebuild"} ;; esac
        [ "$$name" = "$$version" ] || continue
        for programs in "$$tools/programs/$$package" "$$tools/programs-$$2/$$package"; do
            if [ -d "$$programs" ]; then cp -R --preserve=mode "$$programs/." "$$inside"; fi
        done
        echo "$$package" >> "$$tools/out/used-$$2"
    done
done < "$$tools/packages"
# apt sets PATH for dpkg. These settings are mmdebstrap's own, and do not get into the root.
path=$$(APT_CONFIG=$$MMDEBSTRAP_APT_CONFIG apt-config dump --no-empty --format '%v' DPkg::Path)
echo "DPkg::Path \"$folder/bin:$${path:-/usr/sbin:/usr/bin:/sbin:/bin}\";" >> "$$MMDEBSTRAP_APT_CONFIG"
if [ -x "$$inside/x/dpkg" ]; then [ "$$(chroot "$$root" $folder/x/dpkg --print-architecture)" = "$$2" ]; fi
exec chroot "$$root" $folder/replaced
"""
)
# Runs on the machine as a hook; $1 is the root. Fails if a package has files where the native libraries were.
_LEAVE: Final = Template(
    """\
set -eu
tools=$${0%/*} root=$$1 inside=$$1$folder
[ -d "$$inside" ] || exit 0
libraries=usr/lib/$$(cat "$$tools/triplet")
chroot "$$root" $folder/replaced leave
if grep --quiet --extended-regexp "^(/usr)?/$${libraries#usr/}/" "$$root"/var/lib/dpkg/info/*.list; then
    echo "E: a package has files in /$$libraries" >&2
    exit 1
fi
[ -L "$$root/$$libraries" ]
rm "$$root/$$libraries"
rm -r "$$inside"
"""
)


def inside(folder: str, wrapped: Sequence[str]) -> dict[str, str]:
    """Return the scripts of the folder in the root, by their paths in it."""
    wrappers = {f"bin/{name}": _WRAPPER.substitute(folder=folder, name=name) for name in wrapped}
    return {"replaced": _REPLACE.substitute(folder=folder), **wrappers}


def outside(folder: str) -> dict[str, str]:
    """Return the hooks `enter` and `leave`, which run on the machine."""
    return {"enter": _ENTER.substitute(folder=folder), "leave": _LEAVE.substitute(folder=folder)}
