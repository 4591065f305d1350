# Ends a lab: kills what runs in its namespaces, deletes them, unmounts its bpffs, removes its
# folder. Waits until standard input ends, that is, until the lab's owner ends in whatever way.
# The line "keep" leaves the lab up.
#
# Arguments: the lab's folder, the pid of the owner.
trap '' HUP INT TERM
lab=$1
owner=$2
if read -r word && [ "$word" = keep ]; then
    exit 0
fi

pids() {
    while read -r name; do
        ip netns pids "$name"
    done <"$lab/netns" 2>/dev/null | sort -un | grep -vx -e "$owner" -e "$$"
}

tries=0
while found=$(pids) && [ "$tries" -lt 100 ]; do
    # shellcheck disable=SC2086 # a list
    kill -KILL $found 2>/dev/null
    tries=$((tries + 1))
    sleep 0.05
done
sed 's/^/netns del /' "$lab/netns" | ip -force -batch - 2>/dev/null
umount --lazy "$lab/bpf" 2>/dev/null
rm -rf --one-file-system "$lab"
