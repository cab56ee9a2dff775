# The janitor: sh -c THIS janitor DIR NAMESPACE...
# Waits until nobody holds the other end of its standard input any more, then
# removes the lab: programs, namespaces, files.
trap '' HUP INT TERM
cat >/dev/null
dir=$1
shift
for ns; do
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		pids=$(ip netns pids "$ns" 2>/dev/null) && [ -n "$pids" ] || break
		kill -9 $pids 2>/dev/null
		sleep 0.05
	done
	ip netns del "$ns" 2>/dev/null
	rm -rf "/etc/netns/$ns"
done
rm -rf "$dir"
