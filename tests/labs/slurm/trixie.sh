#!/usr/bin/env bash
# trixie.sh up | down | exec COMMAND...: the same lab with Debian 13's Slurm (24.11), in a chroot beside whatever
# this machine has; root only. For recording what another version prints (record.sh), not for tests.
#
#   TRIXIE_ROOT     the chroot's folder (default: slurmlab-trixie below the temporary folder)
#
# The first time takes two minutes: debootstrap, then Slurm's packages.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
ROOT=${TRIXIE_ROOT:-${TMPDIR:-/tmp}/slurmlab-trixie}
LAB=/tmp/slurmlab  # inside

inside() {
  chroot "$ROOT" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
    SLURMLAB_DIR="$LAB" SLURM_CONF="$LAB/etc/slurm.conf" "$@"
}

make_root() {
  [ -x "$ROOT/bin/bash" ] && return
  command -v debootstrap > /dev/null || apt-get install -y -qq --no-install-recommends debootstrap > /dev/null
  local mirror
  mirror=$(apt-get indextargets --format "\$(REPO_URI)" | head -n 1)
  debootstrap --variant=minbase --include=python3-minimal trixie "$ROOT" "$mirror" > /dev/null
}

mount_all() {
  mountpoint -q "$ROOT/proc" && return
  mount --bind "$ROOT" "$ROOT"
  mount --make-private "$ROOT"
  mount -t proc proc "$ROOT/proc"
  mount --bind /dev "$ROOT/dev"
  mount -t sysfs sysfs "$ROOT/sys"
  mount --rbind /sys/fs/cgroup "$ROOT/sys/fs/cgroup"
  mount --make-rprivate "$ROOT/sys/fs/cgroup"
}

case ${1:-} in
  up)
    make_root
    mount_all
    printf '#!/bin/sh\nexit 101\n' > "$ROOT/usr/sbin/policy-rc.d"  # no package starts a service
    chmod +x "$ROOT/usr/sbin/policy-rc.d"
    cp /etc/resolv.conf /etc/hosts "$ROOT/etc/"
    cp /etc/apt/apt.conf.d/* "$ROOT/etc/apt/apt.conf.d/"
    mkdir -p "$ROOT/root/slurmlab"
    cp "$HERE"/*.sh "$ROOT/root/slurmlab/"
    inside /root/slurmlab/up.sh
    ;;
  down)
    inside /root/slurmlab/down.sh --wipe
    # Unmount before anybody removes the folder: /dev is bound inside.
    umount -R -l "$ROOT/sys/fs/cgroup"
    umount "$ROOT/sys" "$ROOT/dev" "$ROOT/proc"
    umount "$ROOT"
    ;;
  exec)
    shift
    inside "$@"
    ;;
  *)
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
