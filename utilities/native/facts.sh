# Facts about the roots in which native tools are laid out, for make-programs.sh and make-tools.sh.
mounted=/.chainbuild-native
triplet=$(ls /target/usr/lib/gcc)
# Of this root, whose programs are the native ones.
loader=$(ldd /bin/sh | sed -n 's|^[[:space:]]*\(/[^ ]*\) (.*|\1|p')

# The version of a package of the target; empty if it is not there.
own_version() { sed -n "s/^$1 //p" /target-packages | head -n 1; }
build_id() { readelf --notes "$1" 2>/dev/null | sed -n 's/^ *Build ID: //p' | head -n 1; }
