#!/bin/sh
# Unpack into /target what a fresh `g++ gfortran` of the distribution has on another platform, as apt would install it today,
# and further packages, if the distribution has them.
#
# usage: fetch-target.sh ARCHITECTURE [PACKAGE...]   (BuildKit's TARGETARCH, one of a platform with native tools)
#
# Out: /target; /target-packages, "NAME VERSION" lines; /architecture, Debian's name of the platform.
set -eu
case $1 in
  ppc64le) target=ppc64el ;;
  *) target=$1 ;;
esac
shift
echo "$target" >/architecture
mkdir -p /apt/lists/partial /apt/archives/partial
: >/apt/status
cat >/apt/apt.conf <<END
APT { Architecture "$target"; Architectures { "$target"; }; Install-Recommends "false"; Keep-Downloaded-Packages "true"; };
Acquire::Languages "none";
Dir::Cache::Archives "/apt/archives";
Dir::State { Lists "/apt/lists"; Status "/apt/status"; };
END
export APT_CONFIG=/apt/apt.conf
apt-get -q update
for package in "$@"; do
  shift
  if apt-cache show "$package" >/dev/null 2>&1; then set -- "$@" "$package"; fi
done
apt-get -q install --yes --download-only g++ gfortran "$@"
for name in bin lib lib64 sbin; do
  mkdir -p "/target/usr/$name"
  ln -s "usr/$name" "/target/$name"
done
for package in /apt/archives/*.deb; do
  dpkg-deb --extract "$package" /target
  dpkg-deb --show --showformat '${Package} ${Version}\n' "$package" >>/target-packages
done
rm -rf /apt /target/usr/share
