# The first process of a real node: it gives the node's mount namespace what is the node's own and runs the given command.
# It stays, because the first process of a pid namespace has to take care of the processes that lost their parent.
set -eu

mount --make-rprivate /
mount --make-rshared / # in here: a kubelet and its containers share mounts
mount -t proc proc /proc
for folder in /run /var/log /var/lib/cni /var/lib/kubelet; do
  mkdir -p "$folder"
  mount -t tmpfs tmpfs "$folder"
done
test -e "$0" || { echo "a lab with a real node cannot be in ${0%/*}" >&2; exit 1; } # a folder above has just been hidden

# What a kubelet and CNI plugins would set for the whole machine: they find it set, and write to these files. In a network
# namespace of the node, net/ is its own.
while read -r key value; do
  test -e "/proc/sys/$key" || continue
  case "$key ${OWN_NETWORK-no}" in "net/"*" yes") continue ;; esac
  file=/run/lab-$(echo "$key" | tr / -)
  echo "$value" >"$file"
  mount --bind "$file" "/proc/sys/$key"
done <<END
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
net/ipv4/ip_forward 1
END

"$@" &
wait $!
