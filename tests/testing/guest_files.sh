#!/bin/sh
# Fetches what a test's virtual machine is made of, from Debian's packages, into a folder (default /var/cache/tapioca_guest):
# a cloud kernel with its modules, and a static busybox. Nothing is installed.
set -eu
folder=${1:-/var/cache/tapioca_guest}
[ -e "$folder/ready" ] && exit 0
mkdir -p "$folder/deb"
chmod 777 "$folder/deb"
cd "$folder/deb"
kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends/ { print $2; exit }')
apt-get download -qq "$kernel" busybox-static
for package in *.deb; do dpkg-deb -x "$package" "$folder"; done
rm -rf "$folder/deb"
touch "$folder/ready"
