#!/bin/sh
# Compile GCC's cc1, cc1plus, f951 and lto1 for an emulated platform from the distribution's source package, so that they are
# native versions of the distribution's own compilers: same source, same patches, same configuration.
#
# usage: make-compilers.sh PACKAGE VERSION   (for example gcc-12 12.2.0-14+deb12u1)
#
# In: /target, what a fresh compiler of the distribution has on the platform, unpacked; /architecture, Debian's name of it.
# Out: /out/PROGRAM, and /out/version.
set -eu
package=$1 version=$2
triplet=$(ls /target/usr/lib/gcc)
export DEBIAN_FRONTEND=noninteractive DEB_TARGET_ARCH="$(cat /architecture)" DEB_TARGET_GNU_TYPE="$triplet" GFDL_INVARIANT_FREE=yes

apt-get -q update
apt-get -q install --yes --no-install-recommends "$package-source=$version" "binutils-$(echo "$triplet" | tr _ -)" \
  autoconf2.69 autogen bison debhelper dpkg-dev flex g++ gawk libgmp-dev libisl-dev libmpc-dev libmpfr-dev libtool \
  libzstd-dev lsb-release m4 make patchutils quilt sharutils xz-utils zlib1g-dev

# The driver prints how it was configured; it needs nothing but itself for that.
flags=$(chroot /target "/usr/bin/$triplet-$package" -v 2>&1 | sed -n 's/^Configured with: [^ ]*configure -v //p')
[ -n "$flags" ] || { echo "$package of the platform does not say how it was configured" >&2; exit 1; }

cd "/usr/src/$package"
make -f debian/rules patch
mkdir /build
cd /build
# The same flags, for another machine to run on; only the languages that are needed, and nothing that needs a target's root.
eval "set -- $flags"
for flag; do
  shift
  case $flag in
    --build=* | --host=* | --target=* | --enable-languages=* | --with-build-config=* | --enable-bootstrap) ;;
    --enable-offload-* | --without-cuda-driver | --enable-objc-gc=* | --with-target-system-zlib=*) ;;
    *) set -- "$@" "$flag" ;;
  esac
done
"/usr/src/$package/src/configure" --target="$triplet" --enable-languages=c,c++,fortran,lto --disable-bootstrap \
  --with-sysroot=/target --with-build-sysroot=/target "$@" CFLAGS=-O2 CXXFLAGS=-O2
nice make -j"$(nproc)" all-gcc MAKEINFO=true
mkdir /out
for program in cc1 cc1plus f951 lto1; do
  strip -o "/out/$program" "gcc/$program"
done
"/out/cc1" -quiet -version </dev/null 2>&1 | grep -F "$version"
echo "$version" >/out/version
