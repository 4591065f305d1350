# Steps of an operator with a running agent, in namespaces of their own. Each step starts with "-- NAME",
# every answer of the program ends with "= EXIT CODE".
# Arguments: program, configuration, folder to mount a bpffs on.
set -e
program=$1 config=$2 bpffs=$3
mkdir "$bpffs"
mount -t bpf none "$bpffs"
ip link add up0 type veth peer name up1
ip link set up0 up
ip link set up1 up
ip address add 10.9.0.1/24 dev up0
ip route add 10.233.70.0/26 via 10.9.0.2
sysctl -qw net.ipv4.ip_forward=1
"$program" -c "$config" run 2>"$config.log" & agent=$!
underpass() {
    code=0
    "$program" -c "$config" "$@" 2>&1 || code=$?
    echo "= $code"
}
tries=0
until "$program" -c "$config" status -o json 2>/dev/null | grep -q '"synced": true'; do
    tries=$((tries + 1))
    if [ $tries -gt 300 ]; then cat "$config.log"; exit 1; fi
    sleep 0.1
done
echo "-- status"; underpass status
echo "-- lookup"; underpass lookup 10.233.70.5
echo "-- off"; underpass off
echo "-- status of one that is off"; underpass status
echo "-- lookup of one that is off"; underpass lookup 10.233.70.5
echo "-- on"; underpass on
echo "-- status of one that is on"; underpass status
echo "-- unknown port"; underpass lookup 10.233.70.5 --in nope
echo "-- second agent"; underpass run
echo "-- flush of a running one"; underpass flush
kill $agent
code=0; wait $agent || code=$?
echo "-- stopped"; echo "= $code"
echo "-- off without an agent"; underpass off
echo "-- flush"; underpass flush
# The kernel takes the program off after a grace period.
tries=0
while ip -details link show up0 | grep -q 'prog/xdp'; do
    tries=$((tries + 1))
    if [ $tries -gt 100 ]; then echo "still attached"; break; fi
    sleep 0.1
done
umount "$bpffs"
