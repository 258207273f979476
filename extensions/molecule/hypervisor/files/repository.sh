#!/bin/sh
# Makes an archive ARCHIVE with a repository for apt, so that a host of the lab can install packages without a network:
# those of the tree TREE that match the patterns, packed again as they are installed, and python3-apt with what it needs.
#
#   unshare --mount repository.sh TREE ARCHIVE PATTERN...
set -eu
tree=$1 archive=$2
shift 2

# Others use the tree; what is written goes to memory.
mount -t proc proc "$tree/proc"
for folder in mnt srv var/cache var/lib/apt; do
  mount -t tmpfs -o mode=755 repository "$tree/$folder"
done
mount --bind /etc/resolv.conf "$tree/etc/resolv.conf"

chroot "$tree" sh -eu -s "$@" <<'END'
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
for package in $(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' "$@" | sed -n 's/^installed //p'); do
  root=/mnt/$package
  mkdir -p "$root/DEBIAN"
  dpkg-query --listfiles "$package" | while read -r path; do
    if [ -d "$path" ] && [ ! -L "$path" ]; then
      mkdir -p "$root$path"
      chown --reference="$path" "$root$path"
      chmod --reference="$path" "$root$path"
    elif [ -e "$path" ] || [ -L "$path" ]; then
      cp -a "$path" "$root$path"
    fi
  done
  for part in $(dpkg-query --control-list "$package"); do
    dpkg-query --control-show "$package" "$part" >"$root/DEBIAN/$part"
    case $part in *inst | *rm | config) chmod 755 "$root/DEBIAN/$part" ;; esac
  done
  dpkg-query --status "$package" | sed -e '/^Status: /d' -e '/^Conffiles:/,/^[^ ]/{/^Conffiles:/d;/^ /d}' >"$root/DEBIAN/control"
  dpkg-deb -Zgzip -z1 --build "$root" /srv
  rm -r "$root"
done

mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial
apt-get -q update
apt-get -q -y -o Debug::NoLocking=1 --no-install-recommends --download-only install python3-apt
cp /var/cache/apt/archives/*.deb /srv

cd /srv
for package in *.deb; do
  dpkg-deb --field "$package"
  echo "Filename: ./$package"
  echo "Size: $(stat -c %s "$package")"
  echo "SHA256: $(sha256sum "$package" | cut -d' ' -f1)"
  echo
done >Packages
END

tar -cf "$archive.partial-$$" -C "$tree/srv" .
mv "$archive.partial-$$" "$archive"
