# A host's own file tree, made of the machine's: what runtimes write lands in memory, and what they find of their own is
# empty. This shell is process 1 of its namespace: it reaps, and when it ends the kernel ends all others and lets go of
# the mounts. It ends with its standard input, that is, with the tests.
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 machine /run
for tree in etc opt var/lib; do
  mkdir -p "/run/.machine/$tree/upper" "/run/.machine/$tree/work"
  mount -t overlay -o "lowerdir=/$tree,upperdir=/run/.machine/$tree/upper,workdir=/run/.machine/$tree/work" machine "/$tree"
done
for own in etc/cni opt/cni var/lib/cni var/lib/containerd var/lib/containers; do
  mkdir -p "/$own"
  mount -t tmpfs -o mode=755 machine "/$own"
done
mkdir -p /etc/cni/net.d /etc/containerd /etc/containers /opt/cni/bin /run/lock /run/vswitch
# Beside cgroup v1 it is nobody's, and Podman and crun take it for the whole.
umount /sys/fs/cgroup/unified 2>/dev/null || true
exec 3<&0
echo ready
cat <&3 >/dev/null &
wait
