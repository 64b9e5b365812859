#!/bin/sh
# Lay out the native package tools for an emulated root in /out: apt, dpkg, and the programs that the scripts of packages start
# (`programs`, beside this script). make-tools.sh runs afterwards.
#
# In: /target, /target-packages and /architecture, as fetch-target.sh makes them; this root, with the same packages.
# Out, in /out/content/tools: programs/BUILD-ID (see programs.h), real/PATH-IN-THE-IMAGE, perl/, lib/started.so, entry and
# apt.conf; and lines of /out/versions. If dpkg has no room for the name of the platform, only a line that says so.
set -eu
here=$(dirname "$0")
. "$here/facts.sh"
out=/out/content/tools
own_architecture=$(dpkg --print-architecture) architecture=$(cat /architecture)
own_triplet=$(gcc -dumpmachine)
mkdir -p "$out/programs" "$out/real/usr/bin" "$out/lib"

# The version of a package in this root.
native_version() { dpkg-query -W -f '${Version}\n' "$1" 2>/dev/null || :; }
# Both roots have a package in the same version. Rebuilds of a platform (+b1) have the same source.
same_version() { [ "$(own_version "$1" | sed 's/+b[0-9]*$//')" = "$(native_version "$1" | sed 's/+b[0-9]*$//')" ]; }

# The programs of dpkg have their architecture compiled in, as a text that ends with a zero byte.
for_architecture() {
  [ ${#own_architecture} = ${#architecture} ] || return 1
  own=$own_architecture architecture=$architecture perl -0777 -pe \
    '$count += s/\0\Q$ENV{own}\E\0/\0$ENV{architecture}\0/g; END { $? = $count == 1 ? 0 : 1 }' "$1" >"$1.changed" || return 1
  cat "$1.changed" >"$1"
  rm "$1.changed"
}

add() {
  case $1 in /*) path=$1 ;; *) path=/usr/bin/$1 ;; esac
  # Packages of older distributions have some of them in /bin, which their images have as a link to /usr/bin.
  target=/target$path
  [ -f "$target" ] || target=/target${path#/usr}
  [ -f "$path" ] && [ -f "$target" ] && ! [ -L "$path" ] || return 0
  id=$(build_id "$target")
  # A program without libraries has no loader, and starts others by itself.
  [ -n "$id" ] && readelf --program-headers "$path" | grep -q INTERP || return 0
  mkdir -p "$out/real${path%/*}"
  cp "$path" "$out/real$path"
  case ${path##*/} in
    dpkg | dpkg-query | dpkg-trigger | dpkg-divert) for_architecture "$out/real$path" || return 1 ;;
  esac
  echo "tool $mounted/real$path" >"$out/programs/$id"
  # These name the architecture in their texts.
  case $package in apt | dpkg) echo "without --version -v --help -h" >>"$out/programs/$id" ;; esac
}

# Let perl find modules in another folder. The name stays as long as it was.
perl_modules() {
  from=$2 to=$mounted//perl/$3
  while [ ${#to} -lt ${#from} ]; do to=$mounted/${to#"$mounted"}; done
  from=$from to=$to perl -0777 -pe '$count += s/\Q$ENV{from}\E\0/$ENV{to}\0/g; END { $? = $count ? 0 : 1 }' "$1" >"$1.changed"
  cat "$1.changed" >"$1"
  rm "$1.changed"
}

# The target's modules, with native machine code.
lay_out_modules() {
  mkdir -p "$out/perl/$3"
  cp -R "/target$1/." "$out/perl/$3"
  find "$out/perl/$3" -name '*.so' | while read -r module; do cp "$2${module#"$out/perl/$3"}" "$module"; done
}

# perl has modules in machine code: its own are native, too. With those of other packages, perl stays emulated.
add_perl() {
  version=$(perl -e 'print $^V =~ /^v(\d+\.\d+)/') id=$(build_id /target/usr/bin/perl)
  own=/usr/lib/$triplet native=/usr/lib/$own_triplet
  same_version perl-base && [ -n "$id" ] || return 0
  lay_out_modules "$own/perl-base" "$native/perl-base" base
  program=$out/real/usr/bin/perl with_modules=$out/real/with-modules/usr/bin/perl
  cp /usr/bin/perl "$program"
  perl_modules "$program" "$native/perl-base" base
  {
    echo "tool $mounted/real/usr/bin/perl"
    for name in PERL5LIB PERL5OPT PERLLIB; do echo "unset $name"; done
    for folder in /usr/lib /usr/local/lib; do echo "unless $folder/$triplet/perl5"; done
    echo "unless /usr/local/lib/$triplet/perl"
  } >"$out/programs/$id"
  if same_version "libperl$version"; then
    lay_out_modules "$own/perl/$version" "$native/perl/$version" arch
    mkdir -p "${with_modules%/*}"
    cp "$program" "$with_modules"
    perl_modules "$with_modules" "$native/perl/$version" arch
    echo "with $own/perl/$version $mounted/real/with-modules/usr/bin/perl" >>"$out/programs/$id"
  else
    echo "unless $own/perl" >>"$out/programs/$id"
  fi
}

# Python only compiles its own library, as the scripts of its packages do. The result is the same for all platforms.
add_python() {
  for path in /usr/bin/python3.*; do
    name=${path##*/}
    same_version "$name-minimal" || continue
    package=$name
    add "$name" && echo "words -E -S /usr/lib/$name/py_compile.py" >>"$out/programs/$(build_id "/target$path")"
  done
}

reason=
"$loader" --help 2>&1 | grep -q -e --argv0 || reason="dpkg $(own_version dpkg) the C library's loader is too old"
while read -r package names; do
  own=$(own_version "$package")
  [ -n "$own" ] || continue
  if ! same_version "$package"; then
    native=$(native_version "$package")
    case $package in apt | dpkg) reason="$package $own the builder's platform has ${native:-no version}" ;; esac
    continue
  fi
  for name in $names; do
    add "$name" || reason="dpkg $own it has no room for the name $architecture"
  done
done <"$here/programs"
add_perl
add_python
if [ -n "$reason" ]; then
  rm -rf "$out/programs" "$out/perl"
  echo "emulated $reason" >>/out/versions
  exit 0
fi
printf 'native %s %s\n' apt "$(own_version apt)" dpkg "$(own_version dpkg)" >>/out/versions
printf 'APT::Architecture "%s";\n' "$architecture" >"$out/apt.conf"
gcc -O2 -static -s -Wall -o "$out/entry" "$here/entry.c"
gcc -O2 -shared -fPIC -s -Wall -o "$out/lib/started.so" "$here/started.c"
