# Waits until its standard input ends, as it does when the lab ends, however it ends. Then it takes away the cgroups of a real
# node: the first argument is their name, the others are the hierarchies. One is busy until its last process is reaped.
id=$1
shift
cat >/dev/null
for round in $(seq 200); do
  left=
  for tree; do
    test -d "$tree/$id" || continue
    find "$tree/$id" -depth -type d -exec rmdir {} \; 2>/dev/null
    test -d "$tree/$id" && left=yes
  done
  test "$left" || exit 0
  sleep 0.05
done
