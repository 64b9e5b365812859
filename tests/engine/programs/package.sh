# Make two packages whose scripts use what scripts of packages use, install them, and purge them unless $1 is `keep`.
set -e
mkdir -p /p/thing/DEBIAN /p/thing/etc/thing /p/thing/usr/share/thing /p/other/DEBIAN /p/other/usr/share/other
printf '%s\n' 'Package: thing' 'Version: 1' 'Architecture: arm64' 'Maintainer: a <a@b>' 'Description: x' \
  >/p/thing/DEBIAN/control
sed -e s/thing/other/ -e 's/^Version.*/&\nDepends: thing:arm64/' /p/thing/DEBIAN/control >/p/other/DEBIAN/control
echo /etc/thing/conf >/p/thing/DEBIAN/conffiles
echo a=1 >/p/thing/etc/thing/conf
for name in c b a; do echo "$name" >"/p/thing/usr/share/thing/$name"; done
cp /p/thing/usr/share/thing/a /p/other/usr/share/other/a
echo 'interest-noawait /usr/share/other' >/p/thing/DEBIAN/triggers
cat >/p/thing/DEBIAN/postinst <<'END'
#!/bin/sh -e
echo "$1 $DPKG_MAINTSCRIPT_ARCH $(dpkg --print-architecture) $(uname -m)" >>/var/lib/thing
find /usr/share/thing /usr/share/other -type f 2>/dev/null | sort | xargs cat | tr a-z A-Z | sed 's/^/ /' >>/var/lib/thing
perl -MConfig -MPOSIX -MFcntl -e 'print "$^X $Config{archname} ", POSIX::floor(2.5), " $0 @ARGV\n"' x y >>/var/lib/thing
readlink /proc/self/exe >>/var/lib/thing
[ "$1" != configure ] || update-alternatives --quiet --install /usr/bin/thing thing /usr/share/thing/a 10
END
cat >/p/other/DEBIAN/preinst <<'END'
#!/usr/bin/perl -w
use strict;
my @divert = qw(dpkg-divert --quiet --package other --add --rename --divert /etc/thing/conf.own /etc/thing/conf);
system(@divert) == 0 or die;
open my $file, '>', '/var/lib/other' or die;
print $file join(' ', $0 =~ /preinst$/ ? 'script' : $0, @ARGV), ' ', join(' ', sort glob '/etc/thing/*'), "\n";
END
chmod 755 /p/*/DEBIAN/p*inst
for name in thing other; do dpkg-deb --root-owner-group -Znone --build "/p/$name" "/p/$name.deb"; done
dpkg -i /p/thing.deb
apt-get -q install --yes /p/other.deb
dpkg -V thing other || true
test "$1" = keep || apt-get -q purge --yes thing
rm -rf /p /var/log/* /var/cache/apt/* /var/cache/ldconfig
