#!/bin/sh
# Lay out the native compilers for an emulated root in /out, from the packages of this root's distribution, and the libraries of
# all native programs, including those of make-programs.sh, which runs before.
#
# In: /target and /target-packages, as fetch-target.sh makes them; this root, with the cross tools that are installed;
# /compilers, if there are any that make-compilers.sh made; front.c beside this script.
# Out: /out/content/tools, mounted at $mounted; /out/content/specs, mounted into the image's compiler; /out/versions, what is native
# ("native NAME VERSION") and what is not ("emulated NAME VERSION REASON").
set -eu
here=$(dirname "$0")
. "$here/facts.sh"
version=$(ls "/target/usr/lib/gcc/$triplet" | sort -n | tail -n 1)
packages=$(echo "$triplet" | tr _ -)
mkdir -p /out/content/tools/ids /out/content/tools/linker /out/content/tools/assembler /out/content/tools/real /out/content/tools/lib

# The version of a cross compiler's package says from which version of the compiler it was made: 14.2.0-19cross1.
cross_version() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null | sed 's/cross[0-9.]*$//'; }
in_target() { chroot /target "$@"; }
# Follow links as they are inside the target's root.
real_path() {
  path=$1
  while [ -L "/target$path" ]; do
    link=$(readlink "/target$path")
    case $link in /*) path=$link ;; *) path=$(dirname "$path")/$link ;; esac
  done
  echo "/target$path"
}

# The own compiler prints only folders that exist: make those that it calls nonexistent, until it calls none so.
search_order() {
  while :; do
    said=$(in_target "$@" -v -E -quiet -imultiarch "$triplet" /dev/null -o /dev/null 2>&1) || true
    missing=$(echo "$said" | sed -n 's/^ignoring nonexistent directory "\(.*\)"$/\1/p')
    [ -n "$missing" ] || break
    echo "$missing" | while read -r folder; do mkdir -p "/target$folder"; done
  done
  echo "$said" | sed -n '/^#include <\.\.\.>/,/^End of search/s/^ //p'
}

# tool NAME OWN NATIVE: install NAME, if the image's own one has a build ID by which it can be recognized.
tool() {
  name=$1 replaced=$2 native=$3
  [ -e "$native" ] && [ -e "$(real_path "$replaced")" ] || return 0
  id=$(build_id "$(real_path "$replaced")")
  [ -n "$id" ] || return 0
  cp -L "$native" "/out/content/tools/real/$name"
  case $name in
    cc1 | cc1plus)
      folders=$(search_order "$replaced" | while read -r folder; do
        case $folder in */c++/*) echo "c++ $folder" ;; *) echo "dir $folder" ;; esac
      done)
      ;;
    ld)
      folders=$(in_target "$replaced" --verbose \
        | grep -o 'SEARCH_DIR("[^"]*")' | sed 's/SEARCH_DIR("=\{0,1\}\(.*\)")/dir \1/')
      ;;
    *) folders=none ;;
  esac
  # Without them, the native program would find no header and no library.
  [ -n "$folders" ] || { echo "$replaced does not run here: is QEMU registered for its platform?" >&2; exit 1; }
  {
    echo "tool $mounted/real/$name"
    [ "$folders" = none ] || echo "$folders"
  } >"/out/content/tools/ids/$id"
}

[ -c /target/dev/null ] || { mkdir -p /target/dev && mknod -m 666 /target/dev/null c 1 3 2>/dev/null || : >/target/dev/null; }
gcc -O2 -static -s -Wall -o /out/content/tools/front "$here/front.c"
ln /out/content/tools/front /out/content/tools/linker/real-ld
ln /out/content/tools/front /out/content/tools/assembler/as

own=$(own_version "binutils-$packages")
cross=$(cross_version "binutils-$packages")
if [ "$own" = "$cross" ]; then
  tool as "/usr/bin/$triplet-as" "/usr/bin/$triplet-as"
  tool ld "/usr/bin/$triplet-ld" "/usr/bin/$triplet-ld.bfd"
  echo "native binutils $own" >>/out/versions
else
  echo "emulated binutils $own the cross package has ${cross:-no version}" >>/out/versions
fi

own=$(own_version "gcc-$version")
cross=$(cross_version "gcc-$version-$packages")
programs=/usr/lib/gcc-cross/$triplet/$version
if [ "$(cat /compilers/version 2>/dev/null)" = "$own" ]; then
  programs=/compilers cross=$own
else
  [ -e "$programs/cc1" ] || programs=/usr/libexec/gcc-cross/$triplet/$version
fi
folder=/usr/libexec/gcc/$triplet/$version
[ -e "/target$folder/cc1" ] || folder=/usr/lib/gcc/$triplet/$version
if [ "$own" = "$cross" ]; then
  for program in cc1 cc1plus f951 lto1; do tool $program "$folder/$program" "$programs/$program"; done
  echo "native gcc $own" >>/out/versions
else
  echo "emulated gcc $own the cross package is made from ${cross:-no version}" >>/out/versions
fi
plugin=$(ls /usr/lib/gcc-cross/*/*/liblto_plugin.so /usr/libexec/gcc-cross/*/*/liblto_plugin.so \
  /usr/lib/gcc/*/*/liblto_plugin.so /usr/libexec/gcc/*/*/liblto_plugin.so 2>/dev/null | head -n 1)
cp -L "$plugin" /out/content/tools/lib/

# The native programs bring their loader and libraries, so that they need nothing of the image's root.
find -L /out/content/tools/real /out/content/tools/perl "$plugin" -type f 2>/dev/null \
  | while read -r program; do ldd "$program" 2>/dev/null || true; done \
  | sed -n 's|.* => \(/[^ ]*\) (.*|\1|p' | sort -u \
  | while read -r library; do cp -L "$library" /out/content/tools/lib/; done
cp -L "$loader" /out/content/tools/lib/loader
# The compiler driver reads this file besides its built-in specs. A driver that is asked to show its commands does so.
printf '*self_spec:\n+ %%{!v:%%{!wrapper:-wrapper %s/front %%{pipe:-B%s/assembler/}}}\n\n' "$mounted" "$mounted" \
  >/out/content/specs
cat /out/versions
